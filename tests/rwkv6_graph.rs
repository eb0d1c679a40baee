//! The ggml graph against the f64 reference, layer by layer, on random models of many shapes and
//! in every tensor type. Bounds come from `common/rounding.rs`.

mod common;

use std::path::Path;

use common::gguf::{self, Parts};
use common::reference;
use common::rounding::Expected;
use common::{from_gguf, run};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use rwkvq::checkpoint::random::Spec;
use rwkvq::embed::Pooling;
use rwkvq::ggml::TensorType;
use rwkvq::model::Session;
use rwkvq::Shape;

/// Lengths of the texts of a ragged batch; 1 is the shortest text there is.
const LENGTHS: [usize; 6] = [1, 9, 2, 23, 1, 6];

fn texts(n_vocab: usize) -> Vec<Vec<u32>> {
    LENGTHS.iter().enumerate().map(|(i, &n)| run::ids(n, i, n_vocab)).collect()
}

/// Eight layers, so that a stream halved after every sixth is halved once.
fn spec(n_embd: usize, head_size: usize, n_ff: usize) -> Spec {
    let sizes = Spec { n_embd, head_size, n_ff: Some(n_ff), n_vocab: 300, ..Spec::default() };
    Spec { n_layer: 8, seed: 11, ..sizes }
}

/// Each line has something that the others have not and that a graph can get wrong.
fn specs() -> Vec<Spec> {
    vec![
        spec(64, 8, 96),
        Spec { low_rank_mix: 3, low_rank_decay: 5, rescale_every: 3, ..spec(16, 16, 48) },
        Spec { low_rank_mix: 7, low_rank_decay: 9, rescale_every: 1, ..spec(96, 32, 33) },
        Spec { rescale_every: 0, ..spec(128, 64, 448) },
        Spec { low_rank_mix: 16, low_rank_decay: 8, ..spec(128, 128, 64) },
        // Head sizes that fill no vector register, ranks of one, two halvings.
        Spec { n_layer: 13, low_rank_mix: 1, low_rank_decay: 1, ..spec(40, 20, 50) },
        Spec { n_layer: 7, low_rank_mix: 2, low_rank_decay: 3, ..spec(15, 5, 1) },
    ]
}

/// What the reference expects of each text.
fn expected(path: &Path, texts: &[Vec<u32>]) -> Vec<Expected> {
    let (reference, types) = from_gguf::open(path);
    texts.iter().map(|ids| Expected::new(&reference, &types, ids)).collect()
}

#[test]
fn every_shape_of_model() {
    for spec in specs() {
        let file = gguf::random(&spec, "f32");
        let texts = texts(spec.n_vocab);
        let expected = expected(&file.path, &texts);
        let model = run::open(&file.path);
        for (pooling, pool) in run::POOLINGS {
            let mut embedder = run::embedder(&model, pooling, run::one_thread());
            for (i, found) in run::vectors(&mut embedder, &texts).iter().enumerate() {
                let what = format!("{spec:?}, text {i}, {pooling}");
                expected[i].assert_layers(&what, pool, found);
            }
        }
        let mut session = Session::new(model, run::one_thread()).unwrap();
        for (i, ids) in texts.iter().enumerate() {
            let logits = session.logits(ids).unwrap();
            expected[i].assert_logits(&format!("{spec:?}, text {i}"), &logits);
        }
    }
}

/// Chunks cut texts anywhere, and lanes run them side by side.
#[test]
fn every_way_to_cut_a_batch() {
    let spec = Spec { n_layer: 7, rescale_every: 2, ..spec(32, 8, 48) };
    let file = gguf::random(&spec, "f32");
    let texts = texts(spec.n_vocab);
    let expected = expected(&file.path, &texts);
    let model = run::open(&file.path);
    for batch_tokens in [2, 3, 7, 16, 64] {
        for n_lanes in (1..=4).filter(|lanes| 2 * lanes <= batch_tokens) {
            let options = run::session(batch_tokens, n_lanes);
            for (pooling, pool) in run::POOLINGS {
                let mut embedder = run::embedder(&model, pooling, options.clone());
                for (i, found) in run::vectors(&mut embedder, &texts).iter().enumerate() {
                    let what = format!("{options:?}, text {i}, {pooling}");
                    expected[i].assert_layers(&what, pool, found);
                }
            }
            let mut session = Session::new(model.clone(), options.clone()).unwrap();
            for (i, ids) in texts.iter().enumerate() {
                let logits = session.logits(ids).unwrap();
                expected[i].assert_logits(&format!("{options:?}, text {i}"), &logits);
            }
        }
    }
}

/// Wide enough for superblocks of 256; deep enough for the stream to be halved, three times.
fn wide() -> Spec {
    Spec { n_layer: 7, rescale_every: 2, ..spec(256, 64, 512) }
}

#[test]
fn every_preset() {
    for preset in rwkvq::recipe::Recipe::names() {
        let file = gguf::random(&wide(), preset);
        check_quantized(preset, &file.path, &[1, 12]);
    }
}

/// Every matrix in one type: low-rank factors and embedding table too, which no preset quantizes.
#[test]
fn every_tensor_type() {
    let spec = Spec { low_rank_mix: 256, low_rank_decay: 256, n_vocab: 257, ..wide() };
    let spec = Spec { n_layer: 1, n_ff: Some(256), ..spec };
    let original = Parts::open(&gguf::random(&spec, "f32").path);
    for &ty in TensorType::ALL {
        let mut parts = original.clone();
        for tensor in &mut parts.tensors {
            let is_vector = tensor.shape.trimmed().rank() < 2;
            if is_vector || tensor.name.contains("lerp") || tensor.name.contains("first") {
                continue;
            }
            match ty.name().get(..3) {
                Some("iq1" | "iq2") => fill_at_random(tensor, ty),
                _ => repeat_first_rows(tensor, ty),
            }
        }
        check_quantized(&ty.name(), &parts.write().path, &[1, 12]);
    }
}

/// Makes a matrix of its first eighth: the search for codebook entries is slow.
fn repeat_first_rows(tensor: &mut gguf::Tensor, ty: TensorType) {
    let whole = tensor.shape;
    let mut values = tensor.to_f32();
    tensor.shape = Shape::new(&[whole.n_cols(), whole.n_rows() / 8]).unwrap();
    values.truncate(tensor.shape.n_elements());
    tensor.set(ty, &values);
    let n_bytes = ty.row_bytes(whole.n_cols()).unwrap() * whole.n_rows();
    tensor.bytes = tensor.bytes.iter().copied().cycle().take(n_bytes).collect();
    tensor.shape = whole;
}

/// Gives a matrix random bytes and one scale in all blocks, which keeps its mean square. To
/// quantize to these types ggml first sorts tables for twenty seconds; any bytes are valid.
fn fill_at_random(tensor: &mut gguf::Tensor, ty: TensorType) {
    let mean_square =
        |values: &[f32]| values.iter().map(|x| f64::from(x * x)).sum::<f64>() / values.len() as f64;
    let wanted = mean_square(&tensor.to_f32());
    let n_bytes = ty.row_bytes(tensor.shape.n_cols()).unwrap() * tensor.shape.n_rows();
    tensor.ty = ty;
    tensor.bytes = vec![0; n_bytes];
    StdRng::seed_from_u64(ty.id().into()).fill_bytes(&mut tensor.bytes);
    let scale = |bytes: &mut [u8], d: f64| {
        let d = half::f16::from_f64(d).to_le_bytes();
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            if ty == TensorType::IQ1_M {
                // The highest nibble of each of the four u16 at the end, the lowest first.
                let nibbles = [d[0] & 15, d[0] >> 4, d[1] & 15, d[1] >> 4];
                for (byte, nibble) in block[49..].iter_mut().step_by(2).zip(nibbles) {
                    *byte = *byte & 15 | nibble << 4;
                }
            } else {
                block[..2].copy_from_slice(&d);
            }
        }
    };
    scale(&mut tensor.bytes, 1.0);
    let unscaled = mean_square(&tensor.to_f32());
    scale(&mut tensor.bytes, (wanted / unscaled).sqrt());
    let found = mean_square(&tensor.to_f32());
    assert!(approx::relative_eq!(found, wanted, max_relative = 0.01), "{ty}: {found} {wanted}");
}

fn check_quantized(what: &str, path: &Path, lengths: &[usize]) {
    let model = run::open(path);
    let n_vocab = model.hparams().n_vocab;
    let texts: Vec<_> = lengths.iter().map(|&n| run::ids(n, n, n_vocab)).collect();
    let expected = expected(path, &texts);
    for batch_tokens in [64, 3] {
        let options = run::session(batch_tokens, 1);
        let mut embedder = run::embedder(&model, Pooling::Mean, options.clone());
        for (i, found) in run::vectors(&mut embedder, &texts).iter().enumerate() {
            expected[i].assert_layers(&format!("{what}, text {i}"), reference::mean, found);
        }
        let mut session = Session::new(model.clone(), options).unwrap();
        for (i, ids) in texts.iter().enumerate() {
            let logits = session.logits(ids).unwrap();
            expected[i].assert_logits(&format!("{what}, text {i}"), &logits);
        }
    }
}

/// A bound that anything satisfies would be worthless: the graph of a file must not pass for that
/// of another, whose weights are rounded less.
#[test]
fn bounds_see_a_level_of_rounding() {
    let presets = ["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k"];
    let files = presets.map(|preset| gguf::random(&wide(), preset));
    let texts = [run::ids(12, 3, wide().n_vocab)];
    let found = files.each_ref().map(|file| {
        let model = run::open(&file.path);
        let mut embedder = run::embedder(&model, Pooling::Mean, run::one_thread());
        run::vectors(&mut embedder, &texts).remove(0)
    });
    for (i, file) in files.iter().enumerate() {
        let expected = &expected(&file.path, &texts)[0];
        for (j, coarser) in found.iter().enumerate().skip(i + 1) {
            let difference = expected.first_difference(reference::mean, coarser);
            let (found, finer) = (presets[j], presets[i]);
            assert!(difference.is_some(), "the embeddings of {found} pass for those of {finer}");
        }
    }
}
