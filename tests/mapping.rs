//! The table of RWKV-6: no tensor of a checkpoint is lost, none of the GGUF is made twice.

#[path = "common/finch.rs"]
mod finch;

use std::collections::BTreeSet;
use std::path::Path;

use finch::{ggml_shape, Size, FINCH_14B, FINCH_1B6};
use rwkvq::arch::{self, rwkv6, Dialect, Named, Target, Transform};
use rwkvq::Result;

/// Small and uneven: every dimension has its own size.
const SMALL: Size = Size {
    n_layer: 12,
    n_embd: 96,
    head_size: 16,
    n_ff: 320,
    n_vocab: 300,
    low_rank_mix: 8,
    low_rank_decay: 24,
};

type Tensors = Vec<(String, Vec<usize>)>;

fn map(tensors: &[(String, Vec<usize>)], size: &Size) -> Result<Vec<Target>> {
    let named: Vec<Named<'_>> =
        tensors.iter().map(|(name, shape)| Named { name, shape: ggml_shape(shape) }).collect();
    arch::map(Path::new("m"), Dialect::HuggingFace, &named, &size.hparams())
}

#[test]
fn the_table_covers_a_checkpoint_and_nothing_else() {
    for size in [Size { n_layer: 1, ..SMALL }, SMALL, FINCH_1B6, FINCH_14B] {
        let n_layer = size.n_layer;
        let tensors = size.tensors();
        assert_eq!(tensors.len(), 28 * n_layer + 6);
        let expected: BTreeSet<String> =
            tensors.iter().map(|(name, _)| Dialect::HuggingFace.canonical(name)).collect();
        let global = rwkv6::GLOBAL.iter().map(|row| row.source.to_owned());
        let layers = (0..n_layer).flat_map(|il| {
            rwkv6::LAYER.iter().map(move |row| format!("blocks.{il}.{}", row.source))
        });
        let table: Vec<String> = global.chain(layers).collect();
        assert_eq!(table.len(), expected.len(), "a name is in the table twice");
        assert_eq!(table.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

#[test]
fn every_tensor_goes_to_exactly_one_place() {
    for size in [Size { n_layer: 1, ..SMALL }, SMALL, FINCH_1B6, FINCH_14B] {
        let targets = map(&size.tensors(), &size).unwrap();
        assert_eq!(targets.len(), 24 * size.n_layer + 6);
        let names: BTreeSet<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(names.len(), targets.len(), "two targets of one name");
        // ggml keeps 63 bytes of a name.
        assert!(names.iter().all(|name| name.len() < 64));
        let mut sources: Vec<usize> =
            targets.iter().flat_map(|target| target.sources.iter().copied()).collect();
        sources.sort_unstable();
        assert_eq!(sources, (0..28 * size.n_layer + 6).collect::<Vec<_>>());
    }
}

/// Names, source names and shapes (ggml order) that llama.cpp loads.
#[test]
fn targets_have_the_shapes_that_llama_cpp_loads() {
    let tensors = SMALL.tensors();
    let targets = map(&tensors, &SMALL).unwrap();
    let expected: [(&str, &str, &[usize]); 30] = [
        ("output.weight", "head.weight", &[96, 300]),
        ("token_embd.weight", "rwkv.embeddings.weight", &[96, 300]),
        ("token_embd_norm.weight", "rwkv.blocks.0.pre_ln.weight", &[96]),
        ("token_embd_norm.bias", "rwkv.blocks.0.pre_ln.bias", &[96]),
        ("output_norm.weight", "rwkv.ln_out.weight", &[96]),
        ("output_norm.bias", "rwkv.ln_out.bias", &[96]),
        ("blk.N.attn_norm.weight", "ln1.weight", &[96]),
        ("blk.N.attn_norm.bias", "ln1.bias", &[96]),
        ("blk.N.attn_norm_2.weight", "ln2.weight", &[96]),
        ("blk.N.attn_norm_2.bias", "ln2.bias", &[96]),
        ("blk.N.time_mix_lerp_x.weight", "attention.time_maa_x", &[96]),
        ("blk.N.time_mix_lerp_fused.weight", "attention.time_maa_w", &[96, 1, 1, 5]),
        ("blk.N.time_mix_w1.weight", "attention.time_maa_w1", &[96, 40]),
        ("blk.N.time_mix_w2.weight", "attention.time_maa_w2", &[8, 96, 5]),
        ("blk.N.time_mix_decay.weight", "attention.time_decay", &[96]),
        ("blk.N.time_mix_decay_w1.weight", "attention.time_decay_w1", &[96, 24]),
        ("blk.N.time_mix_decay_w2.weight", "attention.time_decay_w2", &[24, 96]),
        ("blk.N.time_mix_first.weight", "attention.time_faaaa", &[16, 6]),
        ("blk.N.time_mix_receptance.weight", "attention.receptance.weight", &[96, 96]),
        ("blk.N.time_mix_key.weight", "attention.key.weight", &[96, 96]),
        ("blk.N.time_mix_value.weight", "attention.value.weight", &[96, 96]),
        ("blk.N.time_mix_gate.weight", "attention.gate.weight", &[96, 96]),
        ("blk.N.time_mix_output.weight", "attention.output.weight", &[96, 96]),
        ("blk.N.time_mix_ln.weight", "attention.ln_x.weight", &[96]),
        ("blk.N.time_mix_ln.bias", "attention.ln_x.bias", &[96]),
        ("blk.N.channel_mix_lerp_k.weight", "feed_forward.time_maa_k", &[96]),
        ("blk.N.channel_mix_lerp_r.weight", "feed_forward.time_maa_r", &[96]),
        ("blk.N.channel_mix_key.weight", "feed_forward.key.weight", &[96, 320]),
        ("blk.N.channel_mix_receptance.weight", "feed_forward.receptance.weight", &[96, 96]),
        ("blk.N.channel_mix_value.weight", "feed_forward.value.weight", &[320, 96]),
    ];
    for (name, source, dims) in expected {
        let layers = if name.contains(".N.") { SMALL.n_layer } else { 1 };
        for il in 0..layers {
            let name = name.replace("N", &il.to_string());
            let found = targets.iter().find(|target| target.name == name);
            let found = found.unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(found.shape.dims(), dims, "{name}");
            let source = match layers {
                1 => source.to_owned(),
                _ => format!("rwkv.blocks.{il}.{source}"),
            };
            assert_eq!(tensors[found.sources[0]].0, source, "{name}");
        }
    }
}

#[test]
fn the_fused_tensor_stacks_w_k_v_r_g() {
    let tensors = SMALL.tensors();
    for target in map(&tensors, &SMALL).unwrap() {
        if !target.name.ends_with("lerp_fused.weight") {
            assert_eq!(target.sources.len(), 1, "{}", target.name);
            continue;
        }
        let parts: Vec<&str> = target
            .sources
            .iter()
            .map(|&source| tensors[source].0.rsplit('_').next().unwrap())
            .collect();
        assert_eq!(parts, ["w", "k", "v", "r", "g"], "{}", target.name);
    }
}

#[test]
fn two_matrices_of_a_layer_are_halved_every_six_layers() {
    for target in map(&SMALL.tensors(), &SMALL).unwrap() {
        let divided = ["time_mix_output.weight", "channel_mix_value.weight"];
        let expected = match target.name.split('.').nth(1).and_then(|il| il.parse::<u32>().ok()) {
            Some(il) if divided.iter().any(|end| target.name.ends_with(end)) => il / 6,
            _ => 0,
        };
        assert_eq!(target.halvings, expected, "{}", target.name);
        let is_divided = target.transform == Transform::Divide;
        assert_eq!(is_divided, divided.iter().any(|end| target.name.ends_with(end)));
    }
}

#[test]
fn the_order_of_the_checkpoint_does_not_matter() {
    let tensors = SMALL.tensors();
    let names = |tensors: &[(String, Vec<usize>)]| -> Vec<(String, Vec<String>)> {
        let targets = map(tensors, &SMALL).unwrap();
        let source = |&index: &usize| tensors[index].0.clone();
        let pair = |t: &Target| (t.name.clone(), t.sources.iter().map(source).collect());
        targets.iter().map(pair).collect()
    };
    let mut reversed = tensors.clone();
    reversed.reverse();
    assert_eq!(names(&tensors), names(&reversed));
}

#[test]
fn a_tensor_too_few_too_many_or_of_another_shape_is_named() {
    let refused = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = SMALL.tensors();
        change(&mut tensors);
        map(&tensors, &SMALL).unwrap_err().to_string()
    };
    // One after the other, each of them: a row that is not required would be a tensor of noise.
    for index in 0..28 + 6 {
        let name = SMALL.tensors()[index].0.clone();
        let message = refused(&|tensors| drop(tensors.remove(index)));
        let canonical = Dialect::HuggingFace.canonical(&name);
        assert_eq!(message, format!("m: missing tensor {canonical:?}"));
        let message = refused(&|tensors| *tensors[index].1.last_mut().unwrap() += 1);
        assert!(message.starts_with(&format!("m: tensor {name:?}: expected shape")), "{message}");
    }
    let message = refused(&|tensors| {
        tensors.push(("rwkv.blocks.3.attention.time_maa_q".into(), vec![1, 1, 96]));
    });
    assert!(message.contains("unknown tensor \"rwkv.blocks.3.attention.time_maa_q\""), "{message}");
    let message = refused(&|tensors| tensors.push(("rwkv.blocks.012.ln1.bias".into(), vec![96])));
    assert!(message.contains("unknown tensor"), "{message}");
}
