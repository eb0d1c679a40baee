//! RWKV-6 (Finch): one row per tensor, from a checkpoint's name to the GGUF's.
//!
//! The GGUF names, shapes and transforms are those llama.cpp loads. Dimensions are given in
//! PyTorch order, slowest first; dimensions of one are not compared.

use super::mapping::Transform::{self, Divide, Keep, Squeeze, Stack, SwapPlanes, Transpose};
use Dim::{Five, FiveE, C, D, E, F, H, S, V};

/// `eps` of the group norm after the recurrence: 1e-5 times the square of the head size divisor,
/// which is 8 in every published model. Not stored in the GGUF; llama.cpp has the same constant.
pub const GROUP_NORM_EPS: f32 = 64e-5;

/// `head_size_divisor` of config.json that [`GROUP_NORM_EPS`] stands for.
pub const HEAD_SIZE_DIVISOR: u64 = 8;

/// `layer_norm_epsilon` where no config.json says otherwise.
pub const LAYER_NORM_EPS: f32 = 1e-5;

/// `rescale_every` where no config.json says otherwise.
pub const RESCALE_EVERY: usize = 6;

/// `context_length` that llama.cpp's converter writes for a model without a limit.
pub const CONTEXT_LENGTH: u32 = 1_048_576;

/// Names of the token-shift interpolations, in the order in which w1, w2 and the fused tensor
/// hold them.
pub const LERP_ORDER: [&str; 5] = ["w", "k", "v", "r", "g"];

/// A size that shapes are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// Vocabulary.
    V,
    /// Width of the model.
    C,
    /// Width of the channel mix.
    F,
    /// Heads.
    H,
    /// Head size.
    S,
    /// Rank of the token-shift factors.
    E,
    /// Five times that.
    FiveE,
    /// Rank of the decay factors.
    D,
    /// Five.
    Five,
}

/// One tensor of the checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Canonical name; in [`LAYER`], without `blocks.N.`.
    pub source: &'static str,
    /// Its shape in PyTorch order.
    pub dims: &'static [Dim],
    /// Name in the GGUF; in [`LAYER`], without `blk.N.`.
    pub target: &'static str,
    /// What happens on the way.
    pub transform: Transform,
}

const fn row(
    source: &'static str,
    dims: &'static [Dim],
    target: &'static str,
    transform: Transform,
) -> Row {
    Row { source, dims, target, transform }
}

/// Tensors outside the layers.
pub const GLOBAL: [Row; 6] = [
    row("head.weight", &[V, C], "output.weight", Keep),
    row("embeddings.weight", &[V, C], "token_embd.weight", Keep),
    row("blocks.0.pre_ln.weight", &[C], "token_embd_norm.weight", Keep),
    row("blocks.0.pre_ln.bias", &[C], "token_embd_norm.bias", Keep),
    row("ln_out.weight", &[C], "output_norm.weight", Keep),
    row("ln_out.bias", &[C], "output_norm.bias", Keep),
];

/// Tensors of each layer.
pub const LAYER: [Row; 28] = [
    row("ln1.weight", &[C], "attn_norm.weight", Keep),
    row("ln1.bias", &[C], "attn_norm.bias", Keep),
    row("ln2.weight", &[C], "attn_norm_2.weight", Keep),
    row("ln2.bias", &[C], "attn_norm_2.bias", Keep),
    row("attention.time_maa_x", &[C], "time_mix_lerp_x.weight", Squeeze),
    row("attention.time_maa_w", &[C], "time_mix_lerp_fused.weight", Stack(0)),
    row("attention.time_maa_k", &[C], "time_mix_lerp_fused.weight", Stack(1)),
    row("attention.time_maa_v", &[C], "time_mix_lerp_fused.weight", Stack(2)),
    row("attention.time_maa_r", &[C], "time_mix_lerp_fused.weight", Stack(3)),
    row("attention.time_maa_g", &[C], "time_mix_lerp_fused.weight", Stack(4)),
    row("attention.time_maa_w1", &[C, FiveE], "time_mix_w1.weight", Transpose),
    row("attention.time_maa_w2", &[Five, E, C], "time_mix_w2.weight", SwapPlanes),
    row("attention.time_decay", &[C], "time_mix_decay.weight", Squeeze),
    row("attention.time_decay_w1", &[C, D], "time_mix_decay_w1.weight", Transpose),
    row("attention.time_decay_w2", &[D, C], "time_mix_decay_w2.weight", Transpose),
    row("attention.time_faaaa", &[H, S], "time_mix_first.weight", Keep),
    row("attention.receptance.weight", &[C, C], "time_mix_receptance.weight", Keep),
    row("attention.key.weight", &[C, C], "time_mix_key.weight", Keep),
    row("attention.value.weight", &[C, C], "time_mix_value.weight", Keep),
    row("attention.gate.weight", &[C, C], "time_mix_gate.weight", Keep),
    row("attention.output.weight", &[C, C], "time_mix_output.weight", Divide),
    row("attention.ln_x.weight", &[C], "time_mix_ln.weight", Keep),
    row("attention.ln_x.bias", &[C], "time_mix_ln.bias", Keep),
    row("feed_forward.time_maa_k", &[C], "channel_mix_lerp_k.weight", Squeeze),
    row("feed_forward.time_maa_r", &[C], "channel_mix_lerp_r.weight", Squeeze),
    row("feed_forward.key.weight", &[F, C], "channel_mix_key.weight", Keep),
    row("feed_forward.receptance.weight", &[C, C], "channel_mix_receptance.weight", Keep),
    row("feed_forward.value.weight", &[C, F], "channel_mix_value.weight", Divide),
];
