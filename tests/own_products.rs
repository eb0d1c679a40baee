//! Our own matrix products against ggml's in whole models: the same embeddings, the same scores.

mod common;

use common::{cosine, fixture, gguf, run};
use rwkvq::checkpoint::random::Spec;
use rwkvq::embed::Pooling;
use rwkvq::eval::{metrics, Dataset};
use rwkvq::model::{Products, SessionOptions};

/// Every layer of every text.
fn embed(file: &gguf::TempGguf, ids: &[Vec<u32>], products: Products) -> run::Vectors {
    let session = SessionOptions { products, ..run::one_thread() };
    run::vectors(&mut run::embedder(&run::open(&file.path), Pooling::Mean, session), ids)
}

fn encode(file: &gguf::TempGguf, texts: &[&str]) -> Vec<Vec<u32>> {
    let model = run::open(&file.path);
    let tokenizer = model.tokenizer().unwrap();
    texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect()
}

/// Least cosine of a text and a layer, and which layer that was.
fn least_cosine(a: &run::Vectors, b: &run::Vectors) -> (f64, usize) {
    let mut least = (1.0, 0);
    for (a, b) in a.iter().zip(b) {
        for (layer, (a, b)) in a.iter().zip(b).enumerate() {
            let cosine = cosine(a, b);
            if cosine < least.0 {
                least = (cosine, layer);
            }
        }
    }
    least
}

#[track_caller]
fn assert_alike(what: &str, own: &run::Vectors, ggml: &run::Vectors, limit: f64) {
    let (cosine, layer) = least_cosine(own, ggml);
    assert!(cosine > limit, "{what}: cosine {cosine} at layer {layer}");
}

fn spearman(vectors: &run::Vectors, labels: &[f64], layer: usize) -> f64 {
    let cosines: Vec<f64> =
        vectors.chunks_exact(2).map(|pair| cosine(&pair[0][layer], &pair[1][layer])).collect();
    metrics::spearman(&cosines, labels).unwrap()
}

#[test]
fn a_trained_model_gives_the_same_embeddings_and_scores() {
    let Some(data) = fixture::shared_data() else { return };
    let dev = Dataset::open(data.join("data/mrpc/hf/dev.tsv"), None, Some(60)).unwrap();
    let texts: Vec<&str> = dev.pairs.iter().flat_map(|pair| [&*pair.a, &*pair.b]).collect();
    let labels = dev.scores();
    // Too narrow for K-quants.
    for preset in ["f32", "f16", "bf16", "q8_0"] {
        let file = gguf::converted(&data.join("checkpoints/tiny-trained-6v0"), preset);
        let ids = encode(&file, &texts);
        let [own, ggml] = [Products::Own, Products::Ggml].map(|p| embed(&file, &ids, p));
        assert_alike(preset, &own, &ggml, 0.9999);
        for layer in 0..own[0].len() {
            let [own, ggml] = [&own, &ggml].map(|vectors| spearman(vectors, &labels, layer));
            // The cosines of pairs are .999 and more here: a rank hangs on their last bits.
            approx::assert_abs_diff_eq!(own, ggml, epsilon = 5e-3);
        }
    }
}

/// Rounded activations differ by a step where a sum lies on a boundary, and random weights make
/// more of it than trained ones.
#[test]
fn random_models_give_nearly_the_same_embeddings() {
    let spec = Spec { n_layer: 3, n_embd: 256, n_vocab: 400, ..Spec::default() };
    let folder = fixture::random_checkpoint(&spec);
    let ids: Vec<_> = (0..12).map(|t| run::ids(3 + 5 * t, t, 400)).collect();
    for preset in ["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k"] {
        let file = gguf::converted(folder.path(), preset);
        let [own, ggml] = [Products::Own, Products::Ggml].map(|p| embed(&file, &ids, p));
        // Q8_0, and matrices of q6_k that are too narrow: with AVX2 16 bits here, eight in ggml.
        let limit = if matches!(preset, "q8_0" | "q6_k") { 0.9995 } else { 0.9999 };
        assert_alike(preset, &own, &ggml, limit);
    }
}
