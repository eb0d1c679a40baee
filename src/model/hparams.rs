//! Sizes of the model, from the metadata of its GGUF, each within bounds that keep every later
//! product of them small enough.

use crate::arch::{keys, Hparams};
use crate::error::{Error, Result};
use crate::gguf::GgufFile;

/// No published RWKV is anywhere near these; a file that is does not describe a model.
const MAX_LAYERS: usize = 4096;
const MAX_WIDTH: usize = 1 << 20;
const MAX_VOCAB: usize = 1 << 24;

pub(super) fn from_gguf(file: &GgufFile) -> Result<Hparams> {
    let size = |key: &str, min: usize, max: usize| -> Result<usize> {
        let value = file.required_u32(key)? as usize;
        if (min..=max).contains(&value) {
            return Ok(value);
        }
        Err(Error::mismatch(file.path(), key, format!("{min} to {max}"), value))
    };
    let embd = file.tensor("token_embd.weight");
    let embd =
        embd.ok_or_else(|| Error::malformed(file.path(), "missing tensor \"token_embd.weight\""))?;
    if embd.shape.n_rows() > MAX_VOCAB {
        let (name, expected) =
            ("tensor \"token_embd.weight\"", format!("at most {MAX_VOCAB} rows"));
        return Err(Error::mismatch(file.path(), name, expected, embd.shape.n_rows()));
    }
    let eps = file.required_f32(keys::LAYER_NORM_EPSILON)?;
    if !(0.0..1.0).contains(&eps) {
        return Err(Error::mismatch(
            file.path(),
            keys::LAYER_NORM_EPSILON,
            "a number from 0 to 1",
            eps,
        ));
    }
    let hparams = Hparams {
        n_layer: size(keys::BLOCK_COUNT, 1, MAX_LAYERS)?,
        n_embd: size(keys::EMBEDDING_LENGTH, 1, MAX_WIDTH)?,
        head_size: size(keys::HEAD_SIZE, 1, 1024)?,
        n_ff: size(keys::FEED_FORWARD_LENGTH, 1, MAX_WIDTH)?,
        n_vocab: embd.shape.n_rows(),
        low_rank_mix: size(keys::TIME_MIX_EXTRA_DIM, 1, MAX_WIDTH)?,
        low_rank_decay: size(keys::TIME_DECAY_EXTRA_DIM, 1, MAX_WIDTH)?,
        layer_norm_eps: eps,
        rescale_every: file.u32(keys::RESCALE_EVERY)?.unwrap_or(0) as usize,
    };
    if !hparams.n_embd.is_multiple_of(hparams.head_size) {
        let expected = format!("a divisor of the width {}", hparams.n_embd);
        return Err(Error::mismatch(file.path(), keys::HEAD_SIZE, expected, hparams.head_size));
    }
    // The stream is halved this often in all; beyond it nothing would be left of an f32.
    if hparams.halvings_before(hparams.n_layer) > 60 {
        let expected = "0, or at least a sixtieth of the layers";
        return Err(Error::mismatch(
            file.path(),
            keys::RESCALE_EVERY,
            expected,
            hparams.rescale_every,
        ));
    }
    Ok(hparams)
}
