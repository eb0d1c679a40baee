//! Runs models under test.

use std::path::Path;
use std::sync::Arc;

use rwkvq::embed::{EmbedOptions, Embedder, Pooling};
use rwkvq::model::{LayerSelection, Model, SessionOptions};

use super::reference::{self, Pool};

/// The poolings and what the reference makes of them.
pub const POOLINGS: [(Pooling, Pool); 3] = [
    (Pooling::Mean, reference::mean),
    (Pooling::Last, reference::last),
    (Pooling::Max, reference::max),
];

/// `[text][layer][n_embd]`
pub type Vectors = Vec<Vec<Vec<f64>>>;

pub fn open(path: &Path) -> Arc<Model> {
    Arc::new(Model::open(path).expect("a model"))
}

/// One thread, one lane, chunks that hold any test's texts.
pub fn one_thread() -> SessionOptions {
    session(512, 1)
}

/// One thread.
pub fn session(batch_tokens: usize, n_lanes: usize) -> SessionOptions {
    SessionOptions { n_threads: 1, batch_tokens, n_lanes, ..Default::default() }
}

/// An embedder of every layer.
pub fn embedder(model: &Arc<Model>, pooling: Pooling, session: SessionOptions) -> Embedder {
    let layers = LayerSelection::all();
    let options = EmbedOptions { layers, pooling, normalize: false, session };
    Embedder::new(model, options).expect("an embedder")
}

/// Every layer of every text.
pub fn vectors(embedder: &mut Embedder, texts: &[Vec<u32>]) -> Vectors {
    let embeddings = embedder.embed_ids(texts).expect("embeddings");
    let vector = |text: usize, layer: usize| {
        embeddings.get(text, layer).iter().map(|&x| f64::from(x)).collect()
    };
    let n_layers = embeddings.layers.len();
    let text = |text: usize| (0..n_layers).map(|layer| vector(text, layer)).collect();
    (0..embeddings.n_texts()).map(text).collect()
}

/// `n` token ids of a vocabulary of `n_vocab`, never 0, that repeat no earlier call's.
pub fn ids(n: usize, seed: usize, n_vocab: usize) -> Vec<u32> {
    (0..n).map(|i| (1 + (7919 * seed + 131 * i + i * i * 17) % (n_vocab - 1)) as u32).collect()
}
