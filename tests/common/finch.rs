//! What a Finch checkpoint holds, written down from the published model: names and shapes in
//! PyTorch order. It shares nothing with the table of `arch::rwkv6`.
#![allow(dead_code)] // each test file uses a part

use rwkvq::arch::{self, Dialect, Hparams, Named, Target};
use rwkvq::Shape;
use std::collections::HashMap;
use std::path::Path;

/// Sizes of a model.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub n_layer: usize,
    pub n_embd: usize,
    pub head_size: usize,
    pub n_ff: usize,
    pub n_vocab: usize,
    pub low_rank_mix: usize,
    pub low_rank_decay: usize,
}

pub const FINCH_1B6: Size = finch(24, 2048, 7168, 32, 64);
pub const FINCH_3B: Size = finch(32, 2560, 8960, 32, 64);
pub const FINCH_7B: Size = finch(32, 4096, 14336, 64, 128);
pub const FINCH_14B: Size = finch(61, 4096, 14336, 64, 128);

const fn finch(
    n_layer: usize,
    n_embd: usize,
    n_ff: usize,
    low_rank_mix: usize,
    low_rank_decay: usize,
) -> Size {
    Size { n_layer, n_embd, head_size: 64, n_ff, n_vocab: 65_536, low_rank_mix, low_rank_decay }
}

impl Size {
    /// Full Hugging Face names and shapes of all tensors.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self { n_embd: c, n_ff: f, n_vocab: v, .. } = *self;
        let mut all = vec![
            ("head.weight".to_owned(), vec![v, c]),
            ("rwkv.embeddings.weight".to_owned(), vec![v, c]),
            ("rwkv.blocks.0.pre_ln.weight".to_owned(), vec![c]),
            ("rwkv.blocks.0.pre_ln.bias".to_owned(), vec![c]),
            ("rwkv.ln_out.weight".to_owned(), vec![c]),
            ("rwkv.ln_out.bias".to_owned(), vec![c]),
        ];
        for layer in 0..self.n_layer {
            let mut put = |name: String, shape: Vec<usize>| {
                all.push((format!("rwkv.blocks.{layer}.{name}"), shape));
            };
            for norm in ["ln1", "ln2", "attention.ln_x"] {
                put(format!("{norm}.weight"), vec![c]);
                put(format!("{norm}.bias"), vec![c]);
            }
            for lerp in ["x", "w", "k", "v", "r", "g"] {
                put(format!("attention.time_maa_{lerp}"), vec![1, 1, c]);
            }
            let (e, d) = (self.low_rank_mix, self.low_rank_decay);
            put("attention.time_maa_w1".into(), vec![c, 5 * e]);
            put("attention.time_maa_w2".into(), vec![5, e, c]);
            put("attention.time_decay".into(), vec![1, 1, c]);
            put("attention.time_decay_w1".into(), vec![c, d]);
            put("attention.time_decay_w2".into(), vec![d, c]);
            put("attention.time_faaaa".into(), vec![c / self.head_size, self.head_size]);
            for matrix in ["receptance", "key", "value", "gate", "output"] {
                put(format!("attention.{matrix}.weight"), vec![c, c]);
            }
            put("feed_forward.time_maa_k".into(), vec![1, 1, c]);
            put("feed_forward.time_maa_r".into(), vec![1, 1, c]);
            put("feed_forward.key.weight".into(), vec![f, c]);
            put("feed_forward.receptance.weight".into(), vec![c, c]);
            put("feed_forward.value.weight".into(), vec![c, f]);
        }
        all
    }

    /// The tensors of the GGUF, as the library maps them from names and shapes alone.
    pub fn targets(&self) -> Vec<Target> {
        let tensors = self.tensors();
        let named: Vec<Named<'_>> =
            tensors.iter().map(|(name, shape)| Named { name, shape: ggml_shape(shape) }).collect();
        let hparams = self.hparams();
        arch::map(Path::new("finch"), Dialect::HuggingFace, &named, &hparams).expect("a Finch")
    }

    /// The sizes, as the library reads them off names and shapes alone.
    pub fn hparams(&self) -> Hparams {
        let dialect = Dialect::HuggingFace;
        let shapes: HashMap<_, _> = self
            .tensors()
            .iter()
            .map(|(name, shape)| (dialect.canonical(name), ggml_shape(shape)))
            .collect();
        let path = Path::new("finch");
        Hparams::from_checkpoint(path, &shapes, None, &mut Vec::new()).expect("a Finch")
    }
}

/// The shape of a PyTorch tensor.
pub fn ggml_shape(shape: &[usize]) -> Shape {
    Shape::from_torch(shape).expect("a valid shape")
}
