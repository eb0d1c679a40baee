//! Sizes of an RWKV-6 model: shapes say what is so, config.json is compared with them.

use std::collections::HashMap;
use std::path::Path;

use super::rwkv6::{self, Dim};
use crate::error::{Error, Result};
use crate::shape::Shape;

/// Sizes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Hparams {
    /// Number of layers.
    pub n_layer: usize,
    /// Width.
    pub n_embd: usize,
    /// Width of a head.
    pub head_size: usize,
    /// Width of the channel mix.
    pub n_ff: usize,
    /// Rows of the embedding table.
    pub n_vocab: usize,
    /// Rank of the token-shift factors.
    pub low_rank_mix: usize,
    /// Rank of the decay factors.
    pub low_rank_decay: usize,
    /// eps of the layer norms.
    pub layer_norm_eps: f32,
    /// The residual stream is halved after each of this many layers; 0: never.
    pub rescale_every: usize,
}

impl Hparams {
    /// Number of heads.
    pub fn n_head(&self) -> usize {
        self.n_embd.checked_div(self.head_size).unwrap_or_default()
    }

    /// How often the residual stream has been halved when layer `il` begins.
    pub fn halvings_before(&self, il: usize) -> u32 {
        let halvings = il.checked_div(self.rescale_every).unwrap_or(0);
        u32::try_from(halvings).unwrap_or(u32::MAX)
    }

    /// The number that `dim` stands for.
    pub fn dim(&self, dim: Dim) -> usize {
        match dim {
            Dim::V => self.n_vocab,
            Dim::C => self.n_embd,
            Dim::F => self.n_ff,
            Dim::H => self.n_head(),
            Dim::S => self.head_size,
            Dim::E => self.low_rank_mix,
            Dim::FiveE => self.low_rank_mix.saturating_mul(5),
            Dim::D => self.low_rank_decay,
            Dim::Five => 5,
        }
    }

    /// Reads the sizes off the shapes of a checkpoint's tensors (canonical names, ggml order),
    /// compares them with `config`, and adds a line to `notes` for each value of `config` that is
    /// known to lie.
    pub fn from_checkpoint(
        path: &Path,
        tensors: &HashMap<String, Shape>,
        config: Option<&serde_json::Map<String, serde_json::Value>>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let shape = |name: &str, rank: usize| {
            let shape = tensors.get(name).ok_or_else(|| missing(path, name))?;
            let shape = if rank > 1 { *shape } else { shape.squeezed() };
            if shape.rank() != rank {
                let expected = format!("{rank} dimensions");
                return Err(Error::mismatch(path, format!("tensor {name:?}"), expected, shape));
            }
            Ok(shape)
        };
        let embeddings = shape("embeddings.weight", 2)?;
        let heads = shape("blocks.0.attention.time_faaaa", 2)?;
        let mut hparams = Self {
            n_layer: count_layers(path, tensors)?,
            n_embd: embeddings.n_cols(),
            n_vocab: embeddings.n_rows(),
            head_size: heads.n_cols(),
            n_ff: shape("blocks.0.feed_forward.key.weight", 2)?.n_rows(),
            low_rank_mix: shape("blocks.0.attention.time_maa_w2", 3)?.ne()[1],
            low_rank_decay: shape("blocks.0.attention.time_decay_w1", 2)?.n_cols(),
            layer_norm_eps: rwkv6::LAYER_NORM_EPS,
            rescale_every: rwkv6::RESCALE_EVERY,
        };
        if heads.n_elements() != hparams.n_embd {
            let expected = format!("{} elements (heads x head size)", hparams.n_embd);
            let name = "tensor \"blocks.0.attention.time_faaaa\"";
            return Err(Error::mismatch(path, name, expected, heads));
        }
        if let Some(config) = config {
            hparams.take_config(path, config, notes)?;
        }
        Ok(hparams)
    }

    fn take_config(
        &mut self,
        path: &Path,
        config: &serde_json::Map<String, serde_json::Value>,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let must_agree = [
            ("hidden_size", self.n_embd, true),
            ("num_hidden_layers", self.n_layer, false),
            ("vocab_size", self.n_vocab, false),
            ("head_size", self.head_size, true),
        ];
        for (key, found, required) in must_agree {
            match integer(path, config, key)? {
                Some(value) if value != found as u64 => {
                    let expected = format!("{found} (as the tensors are shaped)");
                    return Err(Error::mismatch(
                        path,
                        format!("{key} in config.json"),
                        expected,
                        value,
                    ));
                }
                None if required => return Err(missing_key(path, key)),
                _ => {}
            }
        }
        let unreliable = [("num_attention_heads", self.n_head()), ("intermediate_size", self.n_ff)];
        for (key, found) in unreliable {
            if let Some(value) = integer(path, config, key)?.filter(|&value| value != found as u64)
            {
                notes.push(format!("config.json says {key} {value}, the tensors say {found}"));
            }
        }
        let divisor = integer(path, config, "head_size_divisor")?;
        if divisor.is_some_and(|value| value != rwkv6::HEAD_SIZE_DIVISOR) {
            let what = "head_size_divisor in config.json";
            let expected =
                format!("{} (a GGUF has no place for another)", rwkv6::HEAD_SIZE_DIVISOR);
            return Err(Error::mismatch(path, what, expected, divisor.unwrap_or_default()));
        }
        let eps = config
            .get("layer_norm_epsilon")
            .ok_or_else(|| missing_key(path, "layer_norm_epsilon"))?;
        let eps = eps.as_f64().filter(|eps| (0.0..1.0).contains(eps)).ok_or_else(|| {
            Error::mismatch(path, "layer_norm_epsilon in config.json", "a number from 0 to 1", eps)
        })?;
        self.layer_norm_eps = eps as f32;
        let every =
            config.get("rescale_every").ok_or_else(|| missing_key(path, "rescale_every"))?;
        let every =
            every.as_i64().filter(|&every| every <= i64::from(u32::MAX)).ok_or_else(|| {
                Error::mismatch(path, "rescale_every in config.json", "an integer", every)
            })?;
        self.rescale_every = usize::try_from(every).unwrap_or(0);
        Ok(())
    }
}

fn count_layers(path: &Path, tensors: &HashMap<String, Shape>) -> Result<usize> {
    let layer = |name: &String| -> Option<usize> {
        name.strip_prefix("blocks.")?.split('.').next()?.parse().ok()
    };
    let last = tensors.keys().filter_map(layer).max();
    let n_layer = last.and_then(|last| last.checked_add(1)).filter(|&n| n <= 4096);
    n_layer.ok_or_else(|| Error::malformed(path, "no layers (tensors blocks.0. ... ) were found"))
}

fn integer(
    path: &Path,
    config: &serde_json::Map<String, serde_json::Value>,
    key: &str,
) -> Result<Option<u64>> {
    match config.get(key) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| {
            Error::mismatch(path, format!("{key} in config.json"), "a positive integer", value)
        }),
    }
}

fn missing(path: &Path, name: &str) -> Error {
    Error::malformed(path, format!("missing tensor {name:?}"))
}

fn missing_key(path: &Path, key: &str) -> Error {
    Error::malformed(path, format!("config.json has no {key}"))
}
