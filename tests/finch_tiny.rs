//! The demo model that was trained: it reads its own vocabulary, predicts text, and its embeddings
//! beat those of random weights.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{fixture, gguf, run};
use rwkvq::checkpoint::random::Spec;
use rwkvq::embed::Pooling;
use rwkvq::eval::bootstrap::spearman_difference;
use rwkvq::eval::metrics::spearman;
use rwkvq::eval::{Dataset, Pair};
use rwkvq::model::{Model, Session};

const N_VOCAB: usize = 4096;
/// Where the model card's numbers are taken: chosen on MRPC's train split.
const LAYER: usize = 0;

fn model_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/finch-tiny")
}

fn demo_pairs() -> Dataset {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/demo/sentence-pairs.tsv");
    Dataset::open(path, None, None).expect("the demo pairs")
}

fn encode(model: &Model, text: &str) -> Vec<u32> {
    model.tokenizer().expect("a tokenizer").encode(text).expect("token ids")
}

#[test]
fn its_tokens_are_the_text() {
    let file = gguf::converted(&model_dir(), "f16");
    let model = run::open(&file.path);
    assert_eq!((model.hparams().n_layer, model.hparams().n_embd), (12, 256));
    let tokenizer = model.tokenizer().expect("a tokenizer");
    assert_eq!(tokenizer.n_tokens(), N_VOCAB);
    for text in
        ["The committee met on Monday, at 10:45.", "Überall blüht's: 日本\n\t x", " two  spaces "]
    {
        let ids = encode(&model, text);
        assert_eq!(tokenizer.decode(&ids).expect("bytes"), text.as_bytes(), "{text:?}");
    }
    // Common words are one token each: the vocabulary was cut from English.
    assert_eq!(encode(&model, " the people of the world").len(), 5);
}

/// Mean loss in nats of every token but the first of each text.
fn loss(model: &Arc<Model>, texts: &[Vec<u32>]) -> f64 {
    let mut session = Session::new(model.clone(), run::one_thread()).expect("a session");
    let mut losses = Vec::new();
    for ids in texts {
        for at in 1..ids.len() {
            let logits = session.logits(&ids[..at]).expect("logits");
            let top = logits.iter().fold(f32::MIN, |a, &b| a.max(b));
            let sum: f64 = logits.iter().map(|&x| f64::from(x - top).exp()).sum();
            losses.push(sum.ln() - f64::from(logits[ids[at] as usize] - top));
        }
    }
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// The same of a model that knows how often each token occurs in `known`, and no more.
fn unigram_loss(known: &[Vec<u32>], texts: &[Vec<u32>]) -> f64 {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    known.iter().flatten().for_each(|&id| *counts.entry(id).or_default() += 1);
    let total = known.iter().map(Vec::len).sum::<usize>() + N_VOCAB;
    let of_id = |id: &u32| (total as f64 / (1 + counts.get(id).unwrap_or(&0)) as f64).ln();
    let losses: Vec<f64> = texts.iter().flat_map(|ids| ids[1..].iter().map(of_id)).collect();
    losses.iter().sum::<f64>() / losses.len() as f64
}

#[test]
fn it_predicts_text_better_than_frequencies_do() {
    let pairs = demo_pairs().pairs;
    let file = gguf::converted(&model_dir(), "f32");
    let model = run::open(&file.path);
    let (mut read, mut known) = (Vec::new(), Vec::new());
    for (i, pair) in pairs.iter().enumerate() {
        let part = if i % 40 == 0 { &mut read } else { &mut known };
        part.push(encode(&model, &pair.a));
    }
    let (found, unigram) = (loss(&model, &read), unigram_loss(&known, &read));
    assert!(found < unigram - 0.5, "{found:.3} nats a token, by frequency alone {unigram:.3}");
}

/// Cosine of every pair, by layer.
fn similarities(path: &Path, pairs: &Dataset) -> Vec<Vec<f64>> {
    let model = run::open(path);
    let mut embedder = run::embedder(&model, Pooling::Mean, run::one_thread());
    let texts = |side: fn(&Pair) -> &str| -> Vec<Vec<u32>> {
        pairs.pairs.iter().map(|pair| encode(&model, side(pair))).collect()
    };
    let a = run::vectors(&mut embedder, &texts(|pair| &pair.a));
    let b = run::vectors(&mut embedder, &texts(|pair| &pair.b));
    let of_layer = |layer: usize| {
        a.iter().zip(&b).map(|(a, b)| common::cosine(&a[layer], &b[layer])).collect()
    };
    (0..=model.hparams().n_layer).map(of_layer).collect()
}

/// A model of the same shape and vocabulary whose weights are random.
fn twin() -> gguf::TempGguf {
    let twin = fixture::random_checkpoint(&Spec { n_vocab: N_VOCAB, ..Spec::demo() });
    let vocabulary = "rwkv_vocab_v20230424.txt";
    fs::copy(model_dir().join(vocabulary), twin.path().join(vocabulary)).expect("the vocabulary");
    gguf::converted(twin.path(), "f32")
}

/// The model, at the layer that was chosen on other data, is ahead of its twin, which may take its
/// best layer here.
fn beats_its_twin(pairs: &Dataset, presets: &[&str]) {
    let scores = pairs.scores();
    let rho = |layer: &Vec<f64>| spearman(layer, &scores).expect("scores that differ");
    let twin = similarities(&twin().path, pairs)
        .into_iter()
        .max_by(|a, b| rho(a).total_cmp(&rho(b)))
        .expect("layers");
    for preset in presets {
        let layers = similarities(&gguf::converted(&model_dir(), preset).path, pairs);
        let lead = spearman_difference(&layers[LAYER], &twin, &scores, 10_000, 42).expect("a lead");
        assert!(lead.ci95[0] > 0.0, "{preset}: ahead of random weights by {lead:?}");
    }
}

#[test]
fn its_embeddings_beat_random_weights() {
    beats_its_twin(&demo_pairs(), &["f32", "q8_0", "q4_k"]);
}

#[test]
fn its_embeddings_beat_random_weights_on_mrpc() {
    let Some(data) = fixture::shared_data() else { return };
    let path = data.join("data/mrpc/hf/dev.tsv");
    beats_its_twin(&Dataset::open(path, None, None).expect("MRPC"), &["f32"]);
}
