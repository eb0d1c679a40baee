//! Files that are valid GGUF and no model that can run: each is refused with a message that names
//! what is wrong. And files that are unusual and run: they must give what the usual one gives.

mod common;

use std::collections::BTreeSet;

use common::gguf::{self, Parts, TempGguf, Tensor};
use common::run;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rwkvq::checkpoint::random::Spec;
use rwkvq::embed::{Embeddings, Pooling};
use rwkvq::ggml::TensorType;
use rwkvq::gguf::{Array, GgufFile, Value};
use rwkvq::model::{Model, Session};
use rwkvq::{Error, Shape};

/// Two layers of width 32; all sizes differ, so that none can stand in for another.
fn spec() -> Spec {
    let sizes = Spec { n_embd: 32, head_size: 8, n_ff: Some(48), n_vocab: 300, ..Spec::default() };
    Spec { n_layer: 2, low_rank_mix: 6, low_rank_decay: 10, rescale_every: 1, ..sizes }
}

fn parts() -> Parts {
    Parts::open(&gguf::random(&spec(), "f32").path)
}

/// What is said about `file`, without its path.
fn message(file: &TempGguf) -> String {
    let error = Model::open(&file.path).map(|_| "a model").unwrap_err();
    without_path(file, &error)
}

fn without_path(file: &TempGguf, error: &Error) -> String {
    let (message, path) = (error.to_string(), format!("{}: ", file.path.display()));
    message.strip_prefix(&path).unwrap_or_else(|| panic!("{message:?} names no file")).to_owned()
}

#[track_caller]
fn assert_refused(edit: impl FnOnce(&mut Parts), expected: &str) {
    let mut parts = parts();
    edit(&mut parts);
    assert_eq!(message(&parts.write()), expected);
}

fn embed(file: &TempGguf) -> Embeddings {
    let texts: Vec<_> = [5, 1, 20].iter().map(|&n| run::ids(n, n, 300)).collect();
    let mut embedder = run::embedder(&run::open(&file.path), Pooling::Mean, run::session(16, 1));
    embedder.embed_ids(&texts).unwrap()
}

const SIZES: [(&str, &str); 6] = [
    ("rwkv6.block_count", "1 to 4096"),
    ("rwkv6.embedding_length", "1 to 1048576"),
    ("rwkv6.wkv.head_size", "1 to 1024"),
    ("rwkv6.feed_forward_length", "1 to 1048576"),
    ("rwkv6.time_mix_extra_dim", "1 to 1048576"),
    ("rwkv6.time_decay_extra_dim", "1 to 1048576"),
];

const EPS: &str = "rwkv6.attention.layer_norm_epsilon";
const RESCALE: &str = "rwkv6.rescale_every_n_layers";

#[test]
fn keys_that_are_missing() {
    let others = [EPS, "general.architecture"];
    for key in SIZES.iter().map(|(key, _)| *key).chain(others) {
        assert_refused(|p| p.remove_key(key), &format!("missing metadata key {key:?}"));
    }
}

#[test]
fn keys_of_another_type() {
    for key in SIZES.iter().map(|(key, _)| *key).chain([RESCALE]) {
        let found = [
            (Value::String("2".into()), "string"),
            (Value::U64(2), "u64"),
            (Value::I32(2), "i32"),
            (Value::Array(Array::U32(vec![2])), "array of u32"),
        ];
        for (value, ty) in found {
            assert_refused(|p| p.set_key(key, value), &format!("{key}: expected u32, found {ty}"));
        }
    }
    let expected = format!("{EPS}: expected f32, found f64");
    assert_refused(|p| p.set_key(EPS, Value::F64(1e-5)), &expected);
    let key = "general.architecture";
    let expected = format!("{key}: expected string, found u32");
    assert_refused(|p| p.set_key(key, Value::U32(6)), &expected);
}

#[test]
fn sizes_that_no_model_has() {
    for (key, range) in SIZES {
        for size in [0, u32::MAX] {
            let expected = format!("{key}: expected {range}, found {size}");
            assert_refused(|p| p.set_key(key, Value::U32(size)), &expected);
        }
    }
    for eps in [-1e-5, 1.0, f32::NAN, f32::INFINITY] {
        let expected = format!("{EPS}: expected a number from 0 to 1, found {eps}");
        assert_refused(|p| p.set_key(EPS, Value::F32(eps)), &expected);
    }
}

#[test]
fn sizes_that_the_tensors_have_not() {
    let set = |key: &'static str, size| move |p: &mut Parts| p.set_key(key, Value::U32(size));
    let key = "rwkv6.wkv.head_size";
    let expected = format!("{key}: expected a divisor of the width 32, found 5");
    assert_refused(set(key, 5), &expected);
    assert_refused(
        set(key, 16),
        "tensor \"blk.0.time_mix_first.weight\": expected shape [16, 2], found [8, 4]",
    );
    assert_refused(
        set("rwkv6.embedding_length", 64),
        "tensor \"token_embd.weight\": expected shape [64, 300], found [32, 300]",
    );
    assert_refused(
        set("rwkv6.feed_forward_length", 64),
        "tensor \"blk.0.channel_mix_key.weight\": expected shape [32, 64], found [32, 48]",
    );
    assert_refused(
        set("rwkv6.time_mix_extra_dim", 7),
        "tensor \"blk.0.time_mix_w1.weight\": expected shape [32, 35], found [32, 30]",
    );
    assert_refused(
        set("rwkv6.time_decay_extra_dim", 11),
        "tensor \"blk.0.time_mix_decay_w1.weight\": expected shape [32, 11], found [32, 10]",
    );
    assert_refused(set("rwkv6.block_count", 3), "missing tensor \"blk.2.attn_norm.weight\"");
    // As many layers as are allowed, and not too many halvings of the stream.
    let deepest = |p: &mut Parts| {
        p.set_key("rwkv6.block_count", Value::U32(4096));
        p.set_key(RESCALE, Value::U32(0));
    };
    assert_refused(deepest, "missing tensor \"blk.2.attn_norm.weight\"");
    let extra = parts().tensors.into_iter().find(|t| t.name.starts_with("blk.1.")).unwrap().name;
    assert_refused(
        set("rwkv6.block_count", 1),
        &format!("tensor {extra:?} has no place in a model of 1 layers"),
    );
}

/// Halved after each of 61 layers, nothing would be left of an f32.
#[test]
fn more_halvings_than_a_number_survives() {
    let spec = Spec { n_layer: 61, n_embd: 8, n_ff: Some(8), ..spec() };
    let file = gguf::random(&spec, "f32");
    let expected = format!("{RESCALE}: expected 0, or at least a sixtieth of the layers, found 1");
    assert_eq!(message(&file), expected);
}

#[test]
fn other_architectures() {
    for name in ["llama", "rwkv7", "RWKV6", ""] {
        assert_refused(
            |p| p.set_key("general.architecture", Value::String(name.into())),
            &format!("architecture {name:?}; only rwkv6 (Finch) can be run"),
        );
    }
}

#[test]
fn every_tensor_that_is_missing() {
    for name in parts().tensors.into_iter().map(|tensor| tensor.name) {
        assert_refused(|p| p.remove_tensor(&name), &format!("missing tensor {name:?}"));
    }
}

#[test]
fn every_tensor_of_another_shape() {
    for Tensor { name, shape, .. } in parts().tensors {
        let mut dims = shape.dims().to_vec();
        dims[0] += 1;
        let wider = Shape::new(&dims).unwrap();
        let expected = format!("tensor {name:?}: expected shape {shape}, found {wider}");
        let widen = |p: &mut Parts| {
            let tensor = p.tensor(&name);
            tensor.shape = wider;
            tensor.bytes = vec![0; wider.n_elements() * 4];
        };
        assert_refused(widen, &expected);
    }
}

/// Whatever element-wise operations read must be f32; every other tensor may have any type.
#[test]
fn every_tensor_in_16_bits() {
    for Tensor { name, .. } in parts().tensors {
        let mut parts = parts();
        let tensor = parts.tensor(&name);
        let values = tensor.to_f32();
        tensor.set(TensorType::F16, &values);
        let file = parts.write();
        let is_vector = name.contains("norm")
            || ["lerp", "_first.", "_decay.", "_ln."].iter().any(|part| name.contains(part));
        if is_vector {
            assert_eq!(message(&file), format!("tensor {name:?}: expected f32, found f16"));
        } else {
            assert_eq!(embed(&file).n_texts(), 3, "{name}");
        }
    }
}

#[test]
fn heads_and_tables_of_different_length() {
    let more = |name: &'static str| {
        move |p: &mut Parts| {
            let tensor = p.tensor(name);
            tensor.shape = Shape::new(&[32, 301]).unwrap();
            tensor.bytes.resize(32 * 301 * 4, 0);
        }
    };
    assert_refused(
        more("output.weight"),
        "tensor \"output.weight\": expected shape [32, 300], found [32, 301]",
    );
    assert_refused(
        more("token_embd.weight"),
        "tensor \"output.weight\": expected shape [32, 301], found [32, 300]",
    );
}

#[test]
fn tensors_of_another_model() {
    let mut extra = parts().tensor("output.weight").clone();
    extra.name = "rope_freqs.weight".into();
    assert_refused(
        |p| p.tensors.push(extra),
        "tensor \"rope_freqs.weight\" has no place in a model of 2 layers",
    );
}

/// A model without a usable vocabulary runs on token ids; only text needs the vocabulary.
#[test]
fn vocabularies() {
    let (tokens, types) = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type");
    let check = |edit: &dyn Fn(&mut Parts), expected: &str| {
        let mut parts = parts();
        edit(&mut parts);
        let file = parts.write();
        let model = run::open(&file.path);
        assert_eq!(without_path(&file, &model.tokenizer().map(|_| ()).unwrap_err()), expected);
        let mut embedder = run::embedder(&model, Pooling::Mean, run::one_thread());
        let error = embedder.embed(&["a"]).unwrap_err();
        assert_eq!(without_path(&file, &error), expected);
        embedder.embed_ids(&[vec![98]]).unwrap();
    };
    let cut = |p: &mut Parts, n: usize| {
        for (_, value) in &mut p.metadata {
            match value {
                Value::Array(Array::String(tokens)) => tokens.truncate(n),
                Value::Array(Array::I32(types)) => types.truncate(n),
                _ => {}
            }
        }
    };
    check(
        &|p| cut(p, 299),
        &format!("{tokens}: expected 300 tokens, as token_embd.weight has rows, found 299"),
    );
    check(&|p| p.remove_key(tokens), &format!("missing metadata key {tokens:?}"));
    check(&|p| p.remove_key(types), &format!("missing metadata key {types:?}"));
    check(
        &|p| p.set_key(types, Value::Array(Array::I32(vec![1; 299]))),
        &format!("{types}: expected 300 values, one for each token, found 299"),
    );
    check(
        &|p| p.set_key(types, Value::Array(Array::U32(vec![1; 300]))),
        &format!("{types}: expected array of i32, found array of u32"),
    );
    let model = "tokenizer.ggml.model";
    check(
        &|p| p.set_key(model, Value::String("gpt2".into())),
        "tokenizer \"gpt2\" in the file; give one with --tokenizer",
    );
    check(&|p| p.remove_key(model), "tokenizer \"none\" in the file; give one with --tokenizer");
    check(&|p| p.set_key(model, Value::U32(1)), &format!("{model}: expected string, found u32"));
}

/// Files written before the five interpolations were fused into one tensor.
#[test]
fn separate_interpolations_are_the_fused_ones() {
    let fused = parts();
    let mut separate = fused.clone();
    separate.tensors.clear();
    for tensor in &fused.tensors {
        let Some(prefix) = tensor.name.strip_suffix("fused.weight") else {
            separate.tensors.push(tensor.clone());
            continue;
        };
        for (letter, bytes) in
            ["w", "k", "v", "r", "g"].iter().zip(tensor.bytes.chunks_exact(32 * 4))
        {
            separate.tensors.push(Tensor {
                name: format!("{prefix}{letter}.weight"),
                ty: TensorType::F32,
                shape: Shape::new(&[32]).unwrap(),
                bytes: bytes.to_vec(),
            });
        }
    }
    assert_eq!(separate.tensors.len(), fused.tensors.len() + 2 * 4);
    assert_eq!(embed(&separate.write()), embed(&fused.write()));

    let mut incomplete = separate.clone();
    incomplete.remove_tensor("blk.1.time_mix_lerp_v.weight");
    assert_eq!(message(&incomplete.write()), "missing tensor \"blk.1.time_mix_lerp_v.weight\"");
    let mut both = separate;
    both.tensors.push(parts().tensor("blk.0.time_mix_lerp_fused.weight").clone());
    assert_eq!(
        message(&both.write()),
        "tensor \"blk.0.time_mix_lerp_w.weight\" has no place in a model of 2 layers"
    );
}

/// ggml aligns its own data to 32 bytes and more; tensors in a file may be aligned less.
#[test]
fn data_of_any_alignment_gives_the_same_numbers() {
    let wide = Spec { n_embd: 256, head_size: 32, n_ff: Some(256), ..spec() };
    for preset in ["f32", "f16", "bf16", "q8_0", "q6_k", "q4_k", "q2_k"] {
        let original = gguf::random(&wide, preset);
        let expected = embed(&original);
        for (alignment, residues) in [(8, 4), (64, 1), (4096, 1)] {
            let mut seen = BTreeSet::new();
            let mut parts = Parts::open(&original.path);
            parts.set_key("general.alignment", Value::U32(alignment));
            // A key longer by eight bytes a step moves the data through all residues.
            for step in 0..4 {
                parts.set_key("general.name", Value::String("x".repeat(8 * step)));
                let file = parts.write();
                let header = GgufFile::open(&file.path).unwrap();
                assert_eq!(header.alignment(), alignment);
                seen.insert(header.data_offset() % 32);
                assert!(embed(&file) == expected, "{preset}, alignment {alignment}, step {step}");
            }
            assert_eq!(seen.len(), residues, "{preset}, alignment {alignment}: {seen:?}");
        }
    }
}

/// Bytes of a header changed at random: an error or a model that runs, never a panic or an abort.
#[test]
fn damaged_headers() {
    let file = gguf::random(&spec(), "f32");
    let bytes = std::fs::read(&file.path).unwrap();
    let header = GgufFile::open(&file.path).unwrap();
    // The vocabulary takes most of the header and has tests of its own: keys before it, tensors.
    let find = |text: &str| bytes.windows(text.len()).position(|w| w == text.as_bytes()).unwrap();
    let (vocabulary, tensors) = (find("tokenizer.ggml.tokens"), find("tokenizer.ggml.token_type"));
    let end = header.data_offset() as usize;
    let places = prop_oneof![0..vocabulary, tensors..end];
    let changes = prop::collection::vec((places, any::<u8>()), 1..4);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.gguf");
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let check = |changes: Vec<(usize, u8)>| {
        let mut damaged = bytes.clone();
        changes.iter().for_each(|&(place, byte)| damaged[place] = byte);
        std::fs::write(&path, damaged).unwrap();
        if let Ok(model) = Model::open(&path) {
            let mut session = Session::new(model.into(), run::one_thread()).unwrap();
            // The numbers of a changed eps or rescaling may be anything.
            let _ = session.logits(&[1, 2, 3]);
        }
        Ok(())
    };
    TestRunner::new(config).run(&changes, check).unwrap();
}
