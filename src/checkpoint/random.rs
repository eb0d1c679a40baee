//! Writes a Finch (RWKV-6) checkpoint with random weights, in Hugging Face layout.
//!
//! In: a [`Spec`]. Out: a folder with `config.json`, one or several safetensors files and a
//! vocabulary in the World format. Tests, benches and the demonstration use it where the real
//! weights are too large or may not be copied. The magnitudes are those of a trained model and no
//! tensor is zero, so a wrong transform, a swapped axis or a lost tensor changes the result.
//!
//! The bytes depend on the spec alone: each value is a hash of seed, tensor name and element
//! index, and only additions, multiplications, divisions and square roots follow. Memory stays at
//! a few megabytes whatever the size of the model.

mod files;
mod vocabulary;
mod weights;

use std::path::Path;

use crate::error::{Error, Result};
use crate::ggml::TensorType;
use crate::progress::Progress;

/// Shape and seed of a random checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Number of layers, 1 to 1024.
    pub n_layer: usize,
    /// Width of the residual stream, a multiple of `head_size`.
    pub n_embd: usize,
    /// Width of one head.
    pub head_size: usize,
    /// Width of the channel mix; `None` is what the model code derives, 3.5 x `n_embd` rounded
    /// down to a multiple of 32.
    pub n_ff: Option<usize>,
    /// Rows of the embedding table: id 0, 256 single bytes and whatever else fits.
    pub n_vocab: usize,
    /// Rank of the token-shift mix: 32, or 64 at width 4096. Not in any config; llama.cpp loads no
    /// other, this crate takes it from the weights.
    pub low_rank_mix: usize,
    /// Rank of the decay: 64, or 128 at width 4096; the same holds for it.
    pub low_rank_decay: usize,
    /// `rescale_every` of the config; the weights are stored undivided whatever its value.
    pub rescale_every: usize,
    /// Spread of what time mix and channel mix would make of unit variance, on its way into the
    /// stream. At 0.7 every weight shows in the result, and so does every rounding: each layer
    /// magnifies it. At 0.1 a layer adds as little as most of a trained model do.
    pub output_gain: f32,
    /// Type of every tensor: F32, F16 or BF16.
    pub ty: TensorType,
    /// Everything random follows from it.
    pub seed: u64,
    /// Number of safetensors files; more than one adds an index.
    pub shards: usize,
}

impl Default for Spec {
    /// Four layers of width 64 with four heads, 600 tokens, f32: about 1.7 MB.
    fn default() -> Self {
        Self {
            n_layer: 4,
            n_embd: 64,
            head_size: 16,
            n_ff: None,
            n_vocab: 600,
            low_rank_mix: 32,
            low_rank_decay: 64,
            rescale_every: 6,
            output_gain: 0.7,
            ty: TensorType::F32,
            seed: 1,
            shards: 1,
        }
    }
}

impl Spec {
    /// The shape of Finch 1B6: 24 layers of width 2048, 65,536 tokens, bf16, 3.2 GB.
    pub fn finch_1b6() -> Self {
        Self {
            n_layer: 24,
            n_embd: 2048,
            head_size: 64,
            n_vocab: 65_536,
            ty: TensorType::BF16,
            ..Self::default()
        }
    }

    /// Small, yet wide enough for superblocks of 256: 12 layers of width 256, 1024 tokens, bf16.
    pub fn demo() -> Self {
        Self {
            n_layer: 12,
            n_embd: 256,
            head_size: 64,
            n_vocab: 1024,
            ty: TensorType::BF16,
            ..Self::default()
        }
    }

    /// Number of heads.
    pub fn n_head(&self) -> usize {
        self.n_embd.checked_div(self.head_size).unwrap_or(0)
    }

    /// Width of the channel mix, derived where the spec leaves it open.
    pub fn ff_width(&self) -> usize {
        self.n_ff.unwrap_or_else(|| self.derived_ff_width())
    }

    /// floor(3.5 C / 32) * 32, what the published model code uses whatever the config says.
    fn derived_ff_width(&self) -> usize {
        self.n_embd.saturating_mul(7) / 64 * 32
    }

    /// Number of weights; fails as [`write()`] would on a spec that makes no model.
    pub fn n_weights(&self) -> Result<u64> {
        self.check()?;
        Ok(weights::tensors(self).iter().map(|tensor| tensor.n_elements() as u64).sum())
    }

    /// The limits keep every product of two extents far below 2^63.
    fn check(&self) -> Result<()> {
        within("n_layer", self.n_layer, 1, 1024)?;
        within("n_embd", self.n_embd, 1, 65_536)?;
        within("head_size", self.head_size, 1, 65_536)?;
        within("n_ff", self.ff_width(), 1, 1 << 20)?;
        within("n_vocab", self.n_vocab, vocabulary::MIN_LEN, 1 << 24)?;
        within("low_rank_mix", self.low_rank_mix, 1, 65_536)?;
        within("low_rank_decay", self.low_rank_decay, 1, 65_536)?;
        within("rescale_every", self.rescale_every, 0, 1024)?;
        within("shards", self.shards, 1, weights::n_tensors(self.n_layer))?;
        if !(self.output_gain > 0.0 && self.output_gain <= 16.0) {
            let gain = self.output_gain;
            return Err(Error::argument(format!(
                "output_gain is {gain}, it must be above 0 and at most 16"
            )));
        }
        if !self.n_embd.is_multiple_of(self.head_size) {
            return Err(Error::argument(format!(
                "n_embd {} is no multiple of head_size {}",
                self.n_embd, self.head_size
            )));
        }
        if !matches!(self.ty, TensorType::F32 | TensorType::F16 | TensorType::BF16) {
            return Err(Error::argument(format!(
                "a checkpoint cannot hold {} weights; choose f32, f16 or bf16",
                self.ty
            )));
        }
        Ok(())
    }
}

fn within(what: &str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::argument(format!("{what} is {value}, it must be {min} to {max}")))
}

/// Writes the checkpoint `spec` describes into `dir`, which is created when missing.
///
/// # Errors
/// [`Error::Argument`] if the spec makes no model or `dir` already holds one of the files;
/// [`Error::Io`] if a file cannot be written; [`Error::Interrupted`] if `progress` says so. After
/// an error none of the files is left.
pub fn write(dir: &Path, spec: &Spec, progress: &dyn Progress) -> Result<()> {
    spec.check()?;
    files::write(dir, spec, progress)
}

#[cfg(test)]
mod tests;
