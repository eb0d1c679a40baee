//! The f64 reference with the weights of a GGUF file, dequantized and turned back into those of
//! the checkpoint: what a graph over quantized weights must equal, but for rounding on the way.

use std::collections::BTreeMap;
use std::path::Path;

use rwkvq::ggml::TensorType;
use rwkvq::gguf::Value;

use super::gguf::{self, Parts};
use super::reference::{Reference, Tensor};

/// How elements lie in the file.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// As in the checkpoint.
    Kept,
    /// The two fastest dimensions have changed places.
    Transposed,
    /// As in the checkpoint, but divided by two to the power of the layer's halvings.
    Divided,
}
use How::{Divided, Kept, Transposed};

/// Tensors of a layer: name in the file, name in the checkpoint.
const LAYER: [(&str, &str, How); 23] = [
    ("attn_norm.weight", "ln1.weight", Kept),
    ("attn_norm.bias", "ln1.bias", Kept),
    ("attn_norm_2.weight", "ln2.weight", Kept),
    ("attn_norm_2.bias", "ln2.bias", Kept),
    ("time_mix_lerp_x.weight", "attention.time_maa_x", Kept),
    ("time_mix_w1.weight", "attention.time_maa_w1", Transposed),
    ("time_mix_w2.weight", "attention.time_maa_w2", Transposed),
    ("time_mix_decay.weight", "attention.time_decay", Kept),
    ("time_mix_decay_w1.weight", "attention.time_decay_w1", Transposed),
    ("time_mix_decay_w2.weight", "attention.time_decay_w2", Transposed),
    ("time_mix_first.weight", "attention.time_faaaa", Kept),
    ("time_mix_receptance.weight", "attention.receptance.weight", Kept),
    ("time_mix_key.weight", "attention.key.weight", Kept),
    ("time_mix_value.weight", "attention.value.weight", Kept),
    ("time_mix_gate.weight", "attention.gate.weight", Kept),
    ("time_mix_output.weight", "attention.output.weight", Divided),
    ("time_mix_ln.weight", "attention.ln_x.weight", Kept),
    ("time_mix_ln.bias", "attention.ln_x.bias", Kept),
    ("channel_mix_lerp_k.weight", "feed_forward.time_maa_k", Kept),
    ("channel_mix_lerp_r.weight", "feed_forward.time_maa_r", Kept),
    ("channel_mix_key.weight", "feed_forward.key.weight", Kept),
    ("channel_mix_receptance.weight", "feed_forward.receptance.weight", Kept),
    ("channel_mix_value.weight", "feed_forward.value.weight", Divided),
];

/// Tensors outside the layers.
const GLOBAL: [(&str, &str); 6] = [
    ("token_embd.weight", "rwkv.embeddings.weight"),
    ("token_embd_norm.weight", "rwkv.blocks.0.pre_ln.weight"),
    ("token_embd_norm.bias", "rwkv.blocks.0.pre_ln.bias"),
    ("output_norm.weight", "rwkv.ln_out.weight"),
    ("output_norm.bias", "rwkv.ln_out.bias"),
    ("output.weight", "head.weight"),
];

/// The model of a file, and the type of each of its matrices by the reference's name.
pub fn open(path: &Path) -> (Reference, BTreeMap<String, TensorType>) {
    let mut parts = Parts::open(path);
    let number = |key: &str| match parts.metadata.iter().find(|(k, _)| k == key) {
        Some((_, Value::U32(value))) => *value as usize,
        _ => panic!("no number {key}"),
    };
    let (n_layer, n_embd) = (number("rwkv6.block_count"), number("rwkv6.embedding_length"));
    let (head_size, every) =
        (number("rwkv6.wkv.head_size"), number("rwkv6.rescale_every_n_layers"));
    let eps = parts.metadata.iter().find(|(k, _)| k == "rwkv6.attention.layer_norm_epsilon");
    let Some((_, Value::F32(eps))) = eps.cloned() else { panic!("no eps") };

    let mut all = List::default();
    for (from, to) in GLOBAL {
        all.add(to, parts.tensor(from), Kept, 0);
    }
    for il in 0..n_layer {
        let halvings = il.checked_div(every).unwrap_or(0);
        for (from, to, how) in LAYER {
            let tensor = parts.tensor(&format!("blk.{il}.{from}"));
            all.add(&format!("rwkv.blocks.{il}.{to}"), tensor, how, halvings);
        }
        let fused = parts.tensor(&format!("blk.{il}.time_mix_lerp_fused.weight")).to_f32();
        for (row, letter) in fused.chunks_exact(n_embd).zip(["w", "k", "v", "r", "g"]) {
            let name = format!("rwkv.blocks.{il}.attention.time_maa_{letter}");
            let data = row.iter().map(|&x| f64::from(x)).collect();
            all.tensors.insert(name, Tensor { shape: vec![1, 1, n_embd], data });
        }
    }
    let reference = Reference {
        n_layer,
        n_embd,
        n_head: n_embd / head_size,
        head_size,
        n_vocab: all.tensors["head.weight"].shape[0],
        eps: f64::from(eps),
        head_eps: 64e-5,
        tensors: all.tensors,
        disturb: None,
    };
    (reference, all.types)
}

#[derive(Default)]
struct List {
    tensors: BTreeMap<String, Tensor>,
    types: BTreeMap<String, TensorType>,
}

impl List {
    fn add(&mut self, name: &str, from: &gguf::Tensor, how: How, halvings: usize) {
        let mut shape = from.shape.dims().to_vec();
        let mut data: Vec<f64> = from.to_f32().into_iter().map(f64::from).collect();
        if how == Divided {
            let factor = (1u64 << halvings) as f64;
            data.iter_mut().for_each(|x| *x *= factor);
        }
        if how == Transposed {
            let (n_cols, n_rows) = (shape[0], shape[1]);
            let planes = data.chunks_exact(n_cols * n_rows);
            let element = |plane: &[f64], i: usize| plane[i % n_rows * n_cols + i / n_rows];
            data = planes.flat_map(|p| (0..p.len()).map(move |i| element(p, i))).collect();
            shape.swap(0, 1);
        }
        shape.reverse();
        self.types.insert(name.into(), from.ty);
        self.tensors.insert(name.into(), Tensor { shape, data });
    }
}
