//! What the tensors of a GGUF must hold, worked out from the checkpoint by the facts alone: read
//! with the `safetensors` crate, by name and with indices written out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// A tensor as the GGUF must have it, before any quantization.
pub struct Expected {
    pub n_cols: usize,
    pub values: Vec<f32>,
}

/// By GGUF name, from the `model.safetensors` of `folder`.
pub fn read(folder: &Path, rescale_every: usize) -> BTreeMap<String, Expected> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut all = BTreeMap::new();
    for (name, view) in file.tensors() {
        let parts: Vec<&str> = name.split('.').collect();
        match parts.as_slice() {
            ["head", "weight"] => put(&mut all, "output.weight", &view, 0),
            ["rwkv", "embeddings", "weight"] => put(&mut all, "token_embd.weight", &view, 0),
            ["rwkv", "ln_out", end] => put(&mut all, &format!("output_norm.{end}"), &view, 0),
            ["rwkv", "blocks", "0", "pre_ln", end] => {
                put(&mut all, &format!("token_embd_norm.{end}"), &view, 0);
            }
            ["rwkv", "blocks", il, rest @ ..] => {
                layer(&mut all, &file, il.parse().unwrap(), &rest.join("."), &view, rescale_every);
            }
            _ => panic!("{name}: not a name of the published models"),
        }
    }
    all
}

fn layer(
    all: &mut BTreeMap<String, Expected>,
    file: &SafeTensors<'_>,
    il: usize,
    name: &str,
    view: &TensorView<'_>,
    rescale_every: usize,
) {
    let halvings = il.checked_div(rescale_every).unwrap_or(0) as i32;
    let shape = view.shape();
    let (target, halvings) = match name {
        "ln1.weight" => ("attn_norm.weight", 0),
        "ln1.bias" => ("attn_norm.bias", 0),
        "ln2.weight" => ("attn_norm_2.weight", 0),
        "ln2.bias" => ("attn_norm_2.bias", 0),
        "attention.ln_x.weight" => ("time_mix_ln.weight", 0),
        "attention.ln_x.bias" => ("time_mix_ln.bias", 0),
        "attention.time_maa_x" => ("time_mix_lerp_x.weight", 0),
        "attention.time_decay" => ("time_mix_decay.weight", 0),
        "attention.time_faaaa" => ("time_mix_first.weight", 0),
        "attention.receptance.weight" => ("time_mix_receptance.weight", 0),
        "attention.key.weight" => ("time_mix_key.weight", 0),
        "attention.value.weight" => ("time_mix_value.weight", 0),
        "attention.gate.weight" => ("time_mix_gate.weight", 0),
        "attention.output.weight" => ("time_mix_output.weight", halvings),
        "feed_forward.time_maa_k" => ("channel_mix_lerp_k.weight", 0),
        "feed_forward.time_maa_r" => ("channel_mix_lerp_r.weight", 0),
        "feed_forward.key.weight" => ("channel_mix_key.weight", 0),
        "feed_forward.receptance.weight" => ("channel_mix_receptance.weight", 0),
        "feed_forward.value.weight" => ("channel_mix_value.weight", halvings),
        "attention.time_maa_w1" | "attention.time_decay_w1" | "attention.time_decay_w2" => {
            // [in, out] becomes [out, in].
            let (n_in, n_out) = (shape[0], shape[1]);
            let source = floats(view);
            let mut values = vec![0f32; n_in * n_out];
            for i in 0..n_in {
                for o in 0..n_out {
                    values[o * n_in + i] = source[i * n_out + o];
                }
            }
            let short = name.trim_start_matches("attention.time_").trim_start_matches("maa_");
            all.insert(
                format!("blk.{il}.time_mix_{short}.weight"),
                Expected { n_cols: n_in, values },
            );
            return;
        }
        "attention.time_maa_w2" => {
            // [5, rank, width] becomes [5, width, rank].
            let (rank, width) = (shape[1], shape[2]);
            let source = floats(view);
            let mut values = vec![0f32; 5 * rank * width];
            for part in 0..5 {
                for r in 0..rank {
                    for c in 0..width {
                        values[(part * width + c) * rank + r] =
                            source[(part * rank + r) * width + c];
                    }
                }
            }
            all.insert(format!("blk.{il}.time_mix_w2.weight"), Expected { n_cols: rank, values });
            return;
        }
        "attention.time_maa_w" => {
            let mut values = Vec::new();
            for part in ["w", "k", "v", "r", "g"] {
                let name = format!("rwkv.blocks.{il}.attention.time_maa_{part}");
                values.extend(floats(&file.tensor(&name).unwrap()));
            }
            let n_cols = values.len() / 5;
            all.insert(format!("blk.{il}.time_mix_lerp_fused.weight"), Expected { n_cols, values });
            return;
        }
        "attention.time_maa_k"
        | "attention.time_maa_v"
        | "attention.time_maa_r"
        | "attention.time_maa_g" => return,
        other => panic!("{other}: not a name of the published models"),
    };
    put(all, &format!("blk.{il}.{target}"), view, halvings);
}

/// The elements as they are, divided by two to the power of `halvings`: in half precision, if that
/// is what the checkpoint has.
fn put(all: &mut BTreeMap<String, Expected>, name: &str, view: &TensorView<'_>, halvings: i32) {
    let mut values = floats(view);
    for value in &mut values {
        *value /= 2f32.powi(halvings);
        if view.dtype() == Dtype::F16 {
            *value = f16::from_f32(*value).to_f32();
        }
    }
    let n_cols = *view.shape().last().unwrap();
    assert!(all.insert(name.to_owned(), Expected { n_cols, values }).is_none(), "{name} twice");
}

fn floats(view: &TensorView<'_>) -> Vec<f32> {
    let bytes = view.data();
    let halves = bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match view.dtype() {
        Dtype::F16 => halves.map(|pair| f16::from_le_bytes(pair).to_f32()).collect(),
        Dtype::BF16 => halves.map(|pair| bf16::from_le_bytes(pair).to_f32()).collect(),
        Dtype::F32 => {
            let words = bytes.chunks_exact(4);
            words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
        }
        other => panic!("{other:?} in a checkpoint"),
    }
}

/// Writes the tensors of `from` to `to` under other names.
pub fn rename(from: &Path, to: &Path, name: fn(&str) -> String) {
    let bytes = fs::read(from).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let renamed = file.tensors().into_iter().map(|(old, view)| (name(&old), view));
    fs::write(to, safetensors::serialize(renamed, None).unwrap()).unwrap();
}

/// The name of the original files for one of Hugging Face's.
pub fn original_name(name: &str) -> String {
    match name.strip_prefix("rwkv.").unwrap_or(name) {
        "embeddings.weight" => "emb.weight".into(),
        name => {
            name.replace("pre_ln", "ln0").replace("attention", "att").replace("feed_forward", "ffn")
        }
    }
}
