//! One level measured alone: embeddings, pair similarities, time, memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::report::{Memory, Speed};
use super::run::EvalOptions;
use super::spill::Spill;
use super::{metrics, rss};
use crate::embed::{EmbedOptions, Embedder, Embeddings};
use crate::error::{Error, Result};
use crate::model::{Layer, Model};
use crate::progress::Progress;

/// Texts embedded at a time: enough to fill chunks, few enough to stay small in memory.
const GROUP: usize = 256;

/// Texts that run before the clock starts, so that the weights are in memory.
const WARM_UP: usize = 4;

/// What a level gave.
pub(super) struct Measured {
    /// For each layer the cosine of each pair.
    pub(super) similarities: Vec<Vec<f64>>,
    /// All embeddings.
    pub(super) embeddings: Spill,
    pub(super) speed: Speed,
    pub(super) memory: Memory,
}

/// Runs the model in `path` over `ids`: first and second text of each pair in turn.
pub(super) fn measure(
    path: &Path,
    ids: &[Vec<u32>],
    layers: &[Layer],
    options: &EvalOptions,
    progress: &dyn Progress,
) -> Result<Measured> {
    let peak_is_ours = rss::reset_peak();
    let start = Instant::now();
    let model = Arc::new(Model::open_with(path, options.access)?);
    let embed = EmbedOptions {
        layers: options.layers.clone(),
        pooling: options.pooling,
        normalize: false,
        session: options.session.clone(),
    };
    let mut embedder = Embedder::new(&model, embed)?;
    let load_seconds = start.elapsed().as_secs_f64();
    embedder.embed_ids(&ids[..ids.len().min(WARM_UP)])?;

    let mut seconds = Vec::new();
    let mut similarities = vec![Vec::with_capacity(ids.len() / 2); layers.len()];
    let mut spill = Spill::new(layers.len(), model.hparams().n_embd)?;
    for repeat in 0..options.repeats.max(1) {
        let mut elapsed = 0.0;
        for group in ids.chunks(GROUP) {
            if progress.cancelled() {
                return Err(Error::Interrupted);
            }
            let start = Instant::now();
            let embeddings = embedder.embed_ids(group)?;
            elapsed += start.elapsed().as_secs_f64();
            if repeat == 0 {
                compare_pairs(&embeddings, &mut similarities);
                spill.push(&embeddings.values)?;
                progress.advance(group.len() as u64);
            }
        }
        seconds.push(elapsed);
    }
    let tokens = ids.iter().map(|ids| ids.len() as u64).sum();
    let peak_rss_bytes = if peak_is_ours { rss::peak_bytes() } else { None };
    Ok(Measured {
        similarities,
        embeddings: spill,
        speed: speed(&mut seconds, tokens, ids.len(), load_seconds, &embedder, layers),
        memory: Memory {
            device: "cpu".into(),
            weights_bytes: Some(model.weights_bytes() as u64),
            compute_bytes: Some(embedder.session().compute_bytes() as u64),
            state_bytes: Some(embedder.session().state_bytes() as u64),
            device_peak_bytes: None,
            device_peak_source: None,
            peak_rss_bytes,
        },
    })
}

/// Appends the cosine of each pair of texts, layer by layer.
fn compare_pairs(embeddings: &Embeddings, similarities: &mut [Vec<f64>]) {
    for pair in 0..embeddings.n_texts() / 2 {
        for (layer, similarities) in similarities.iter_mut().enumerate() {
            let (a, b) = (embeddings.get(2 * pair, layer), embeddings.get(2 * pair + 1, layer));
            similarities.push(metrics::cosine(a, b));
        }
    }
}

fn speed(
    seconds: &mut [f64],
    tokens: u64,
    n_texts: usize,
    load_seconds: f64,
    embedder: &Embedder,
    layers: &[Layer],
) -> Speed {
    seconds.sort_by(f64::total_cmp);
    // The median; of an even number of passes the slower of the two in the middle.
    let median = seconds[seconds.len() / 2].max(f64::MIN_POSITIVE);
    let options = embedder.session().options();
    let layers_computed = match layers.last() {
        Some(Layer::Block(il)) => il + 1,
        _ => embedder.session().model().hparams().n_layer,
    };
    Speed {
        tokens,
        sentences: n_texts as u64,
        seconds: median,
        tokens_per_second: tokens as f64 / median,
        seconds_per_pair: median / (n_texts as f64 / 2.0),
        load_seconds,
        repeats: seconds.len() as u64,
        threads: options.n_threads as u64,
        device: "cpu".into(),
        batch_tokens: options.batch_tokens as u64,
        layers_computed: layers_computed as u64,
    }
}
