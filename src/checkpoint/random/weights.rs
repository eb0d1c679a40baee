//! Which tensors a Finch checkpoint has, and the values of each.
//!
//! Magnitudes: every vector a matrix multiplies has about unit variance per element (layer norms
//! come before, the decay keeps the recurrence bounded and a group norm follows it), so matrices
//! are scaled by 1/sqrt(inputs) and the stream grows with the square root of the depth.

use half::f16;
use rayon::prelude::*;

use super::Spec;
use crate::ggml::TensorType;

/// Values one worker makes at a time.
const RUN: usize = 1 << 14;

/// One tensor of the checkpoint.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Slowest dimension first, as PyTorch counts.
    pub(super) shape: Vec<usize>,
    values: Values,
}

/// How the values of a tensor are distributed.
#[derive(Debug, Clone, Copy)]
enum Values {
    Normal {
        mean: f32,
        spread: f32,
    },
    /// Between the two, all equally likely.
    Uniform {
        low: f32,
        high: f32,
    },
    /// From -6 (channels that remember) to 1 (channels that forget); `bend` in 0..=1 moves more
    /// channels towards remembering.
    Decay {
        n: usize,
        bend: f32,
    },
}

/// Number of tensors of a checkpoint: 28 a layer, six outside.
pub(super) fn n_tensors(n_layer: usize) -> usize {
    28 * n_layer + 6
}

/// Every tensor of the checkpoint, sorted by name as safetensors writers do.
pub(super) fn tensors(spec: &Spec) -> Vec<Tensor> {
    let c = spec.n_embd;
    let mut list = List::default();
    // The first layer norm divides the table's scale out again.
    list.add("rwkv.embeddings.weight".into(), &[spec.n_vocab, c], normal(0.0, 0.05));
    list.norm("rwkv.blocks.0.pre_ln", c);
    for il in 0..spec.n_layer {
        list.layer(spec, il);
    }
    list.norm("rwkv.ln_out", c);
    list.add("head.weight".into(), &[spec.n_vocab, c], matrix(c, 2.0));
    list.0.sort_by(|a, b| a.name.cmp(&b.name));
    list.0
}

#[derive(Default)]
struct List(Vec<Tensor>);

impl List {
    fn layer(&mut self, spec: &Spec, il: usize) {
        let block = format!("rwkv.blocks.{il}");
        self.norm(&format!("{block}.ln1"), spec.n_embd);
        self.norm(&format!("{block}.ln2"), spec.n_embd);
        self.time_mix(spec, il, &format!("{block}.attention"));
        self.channel_mix(spec, &format!("{block}.feed_forward"));
    }

    fn time_mix(&mut self, spec: &Spec, il: usize, room: &str) {
        let (c, e, d) = (spec.n_embd, spec.low_rank_mix, spec.low_rank_decay);
        for letter in ["x", "w", "k", "v", "r", "g"] {
            self.add(format!("{room}.time_maa_{letter}"), &[1, 1, c], MIX);
        }
        self.add(format!("{room}.time_maa_w1"), &[c, 5 * e], matrix(c, 0.3));
        self.add(format!("{room}.time_maa_w2"), &[5, e, c], matrix(e, 0.5));
        let bend = il as f32 / spec.n_layer as f32;
        self.add(format!("{room}.time_decay"), &[1, 1, c], Values::Decay { n: c, bend });
        self.add(format!("{room}.time_decay_w1"), &[c, d], matrix(c, 0.5));
        self.add(format!("{room}.time_decay_w2"), &[d, c], matrix(d, 1.0));
        self.add(format!("{room}.time_faaaa"), &[spec.n_head(), spec.head_size], normal(0.2, 0.3));
        for name in ["receptance", "key", "value", "gate"] {
            self.add(format!("{room}.{name}.weight"), &[c, c], matrix(c, 1.0));
        }
        self.add(format!("{room}.output.weight"), &[c, c], matrix(c, spec.output_gain));
        self.norm(&format!("{room}.ln_x"), c);
    }

    fn channel_mix(&mut self, spec: &Spec, room: &str) {
        let (c, f) = (spec.n_embd, spec.ff_width());
        self.add(format!("{room}.time_maa_k"), &[1, 1, c], MIX);
        self.add(format!("{room}.time_maa_r"), &[1, 1, c], MIX);
        self.add(format!("{room}.key.weight"), &[f, c], matrix(c, 1.0));
        self.add(format!("{room}.receptance.weight"), &[c, c], matrix(c, 1.0));
        self.add(format!("{room}.value.weight"), &[c, f], matrix(f, spec.output_gain));
    }

    fn norm(&mut self, name: &str, n: usize) {
        self.add(format!("{name}.weight"), &[n], normal(1.0, 0.15));
        self.add(format!("{name}.bias"), &[n], normal(0.0, 0.1));
    }

    fn add(&mut self, name: String, shape: &[usize], values: Values) {
        self.0.push(Tensor { name, shape: shape.to_vec(), values });
    }
}

const MIX: Values = Values::Uniform { low: 0.02, high: 0.98 };

fn normal(mean: f32, spread: f32) -> Values {
    Values::Normal { mean, spread }
}

/// A matrix that turns `n_in` inputs of unit variance into outputs of spread `gain`.
fn matrix(n_in: usize, gain: f32) -> Values {
    normal(0.0, gain / (n_in as f32).sqrt())
}

impl Tensor {
    pub(super) fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Fills `bytes` with the values from element `start` on, in the little-endian form of `ty`.
    pub(super) fn fill(&self, seed: u64, start: usize, ty: TensorType, bytes: &mut [u8]) {
        let key = mix(seed ^ mix(hash(&self.name)));
        let size = ty.block_bytes();
        bytes.par_chunks_mut(RUN * size).enumerate().for_each(|(run, bytes)| {
            self.fill_run(key, (start + run * RUN) as u64, ty, bytes);
        });
    }

    fn fill_run(&self, key: u64, start: u64, ty: TensorType, bytes: &mut [u8]) {
        match self.values {
            Values::Normal { mean, spread } => {
                encode(ty, bytes, start, |index| mean + spread * standard_normal(draw(key, index)))
            }
            Values::Uniform { low, high } => {
                encode(ty, bytes, start, |index| low + (high - low) * unit(draw(key, index)))
            }
            Values::Decay { n, bend } => encode(ty, bytes, start, |index| {
                let place = index as f32 / (n as f32 - 1.0).max(1.0);
                let bent = place + bend * (place * place - place);
                -6.0 + 7.0 * bent + 0.1 * standard_normal(draw(key, index))
            }),
        }
    }
}

fn encode(ty: TensorType, bytes: &mut [u8], start: u64, value: impl Fn(u64) -> f32) {
    // A closed range: an open one would check every step for overflow.
    let indices = start..start + bytes.len() as u64;
    match ty {
        TensorType::F16 => {
            for (out, index) in bytes.chunks_exact_mut(2).zip(indices) {
                out.copy_from_slice(&f16::from_f32(value(index)).to_le_bytes());
            }
        }
        TensorType::BF16 => {
            for (out, index) in bytes.chunks_exact_mut(2).zip(indices) {
                out.copy_from_slice(&bf16_bits(value(index)).to_le_bytes());
            }
        }
        _ => {
            for (out, index) in bytes.chunks_exact_mut(4).zip(indices) {
                out.copy_from_slice(&value(index).to_le_bytes());
            }
        }
    }
}

/// Rounds a finite value to the nearest bf16, ties to even. Half the values round up, at random:
/// the branch in `half::bf16::from_f32` is mispredicted so often that it takes two thirds of the
/// time of making a value.
fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// 64 random bits for element `index`: a SplitMix64 generator that can start anywhere.
fn draw(key: u64, index: u64) -> u64 {
    mix(key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Close to a standard normal: the ones among 32 fair bits (mean 16, variance 8) and the sum of
/// two uniforms that fills the gaps between the integers (mean 1, variance 1/6).
fn standard_normal(bits: u64) -> f32 {
    const ONE_OVER_SPREAD: f32 = 0.349_927_1; // 1 / sqrt(8 + 1/6)
    let ones = (bits as u32).count_ones() as f32;
    let gap = (((bits >> 32) & 0xffff) + (bits >> 48)) as f32 / 65_536.0;
    (ones - 16.0 + (gap - 1.0)) * ONE_OVER_SPREAD
}

/// In 0..1, 24 bits.
fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 / 16_777_216.0
}
