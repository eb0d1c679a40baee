//! One level measured alone: embeddings, pair similarities, time, memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::levels::Identity;
use super::report::{Memory, OnDevice, Speed};
use super::spill::Spill;
use super::{metrics, rss, stop_if_cancelled, EvalOptions};
use crate::driver::{InUse, Watch};
use crate::embed::{EmbedOptions, Embedder, Embeddings};
use crate::error::Result;
use crate::model::{Device, Layer, LayerSelection, Model, Session};
use crate::progress::Progress;

/// Texts embedded at a time: enough to fill chunks, few enough to stay small in memory.
const GROUP: usize = 256;

/// Texts that run before the clock starts, so that the weights are in memory.
const WARM_UP: usize = 4;

/// What a level has to do.
pub(super) struct Work<'a> {
    /// Token ids of the first and second text of each pair in turn.
    pub(super) ids: &'a [Vec<u32>],
    /// The same of the pairs that choose a threshold; they are not timed.
    pub(super) threshold_ids: &'a [Vec<u32>],
    /// Which layers, ascending.
    pub(super) layers: &'a [Layer],
    /// Texts that may run together; `None` for as many as fit.
    pub(super) texts_at_once: Option<usize>,
}

/// What a level gave.
pub(super) struct Measured {
    /// For each layer the cosine of each pair.
    pub(super) similarities: Vec<Vec<f64>>,
    /// The same of the pairs that choose a threshold.
    pub(super) threshold_similarities: Vec<Vec<f64>>,
    /// All embeddings.
    pub(super) embeddings: Spill,
    pub(super) speed: Speed,
    pub(super) memory: Memory,
}

/// Runs the model in `path` over the work. Fails if it is another file than `identity` is of.
pub(super) fn measure(
    path: &Path,
    identity: &Identity,
    work: &Work,
    options: &EvalOptions,
    progress: &dyn Progress,
) -> Result<Measured> {
    let peak_is_ours = rss::reset_peak();
    let start = Instant::now();
    let watch = options.open.device.as_ref().map(Watch::start);
    let (open, _) = options.open.clone().fitted(path, &options.session)?;
    let model = Arc::new(Model::open_with(path, open)?);
    identity.check(path)?;
    let embed = EmbedOptions {
        layers: LayerSelection::from(work.layers),
        pooling: options.pooling,
        normalize: false,
        session: options.session.clone(),
    };
    let mut embedder = Embedder::new(&model, embed)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let first = &work.ids[..work.ids.len().min(WARM_UP)];
    embed_all(&mut embedder, first, work, progress, |_| Ok(()))?;

    let n_layers = work.layers.len();
    let mut seconds = Vec::new();
    let mut similarities = vec![Vec::with_capacity(work.ids.len() / 2); n_layers];
    let mut spill = Spill::new(n_layers, model.hparams().n_embd)?;
    let mut shared = 0;
    for repeat in 0..options.repeats {
        let before = embedder.workload().shared;
        seconds.push(embed_all(&mut embedder, work.ids, work, progress, |embeddings| {
            if repeat == 0 {
                compare_pairs(embeddings, &mut similarities);
                spill.push(&embeddings.values)?;
                progress.advance(embeddings.n_texts() as u64);
            }
            Ok(())
        })?);
        // Of the last pass: a layer that turned out to overflow in the first ends the sharing.
        shared = embedder.workload().shared - before;
    }
    let peak_rss_bytes = if peak_is_ours { rss::peak_bytes() } else { None };
    let memory = memory(embedder.session(), watch.and_then(Watch::peak), peak_rss_bytes);
    let mut threshold_similarities = vec![Vec::new(); n_layers];
    embed_all(&mut embedder, work.threshold_ids, work, progress, |embeddings| {
        compare_pairs(embeddings, &mut threshold_similarities);
        progress.advance(embeddings.n_texts() as u64);
        Ok(())
    })?;
    Ok(Measured {
        similarities,
        threshold_similarities,
        embeddings: spill,
        speed: speed(&seconds, shared, work, load_seconds, &embedder),
        memory,
    })
}

/// Embeds the texts of `ids` and lends them to `receive` in groups of whole pairs. Returns the
/// seconds that embedding alone took.
fn embed_all(
    embedder: &mut Embedder,
    ids: &[Vec<u32>],
    work: &Work,
    progress: &dyn Progress,
    mut receive: impl FnMut(&Embeddings) -> Result<()>,
) -> Result<f64> {
    let at_once = work.texts_at_once.unwrap_or(GROUP).max(1);
    let mut elapsed = 0.0;
    let n_embd = embedder.session().model().hparams().n_embd;
    let width = work.layers.len() * n_embd;
    for group in ids.chunks(GROUP) {
        let mut values = vec![0f32; group.len() * width];
        for (texts, values) in group.chunks(at_once).zip(values.chunks_mut(at_once * width)) {
            let start = Instant::now();
            embedder.embed_each(texts, |text, vectors| {
                stop_if_cancelled(progress)?;
                values[text * width..(text + 1) * width].copy_from_slice(vectors);
                Ok(())
            })?;
            elapsed += start.elapsed().as_secs_f64();
        }
        let n_tokens = group.iter().map(Vec::len).collect();
        receive(&Embeddings { layers: work.layers.to_vec(), n_embd, n_tokens, values })?;
    }
    Ok(elapsed)
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

/// What ggml's buffers hold, and the peak that the device's driver saw; where it saw nothing, the
/// buffers on the device together.
fn memory(session: &Session, peak: Option<InUse>, peak_rss_bytes: Option<u64>) -> Memory {
    let model = session.model();
    let on_device = session.device_bytes().map(|bytes| OnDevice {
        layers: model.gpu_layers() as u64,
        weights_bytes: model.device_weights_bytes() as u64,
        weights_buffer_bytes: bytes.weights,
        compute_bytes: bytes.compute,
        state_bytes: bytes.state,
        ops_on_cpu: session.left_to_cpu().map(str::to_owned).collect(),
        rescaled_layers: session.rescaled_layers().iter().map(|&il| il as u64).collect(),
    });
    let buffers = session.device_bytes().map(|bytes| (bytes.total(), "ggml buffers".to_owned()));
    let peak = match peak {
        Some(peak) => Some((peak.bytes, format!("driver, asked through {}", peak.source))),
        None => buffers,
    };
    let (device_peak_bytes, device_peak_source) = peak.unzip();
    Memory {
        device: device_name(session),
        weights_bytes: Some(model.weights_bytes() as u64),
        compute_bytes: Some(session.compute_bytes() as u64),
        state_bytes: Some(session.state_bytes() as u64),
        on_device,
        device_peak_bytes,
        device_peak_source,
        peak_rss_bytes,
    }
}

fn device_name(session: &Session) -> String {
    session.model().device().map_or_else(|| "cpu".into(), Device::to_string)
}

fn speed(
    seconds: &[f64],
    shared_tokens: u64,
    work: &Work,
    load_seconds: f64,
    embedder: &Embedder,
) -> Speed {
    let median = metrics::upper_median(seconds).unwrap_or(0.0).max(f64::MIN_POSITIVE);
    let tokens: u64 = work.ids.iter().map(|ids| ids.len() as u64).sum();
    let options = embedder.session().options();
    let n_layer = embedder.session().model().hparams().n_layer;
    let layers_computed = work.layers.last().map_or(n_layer, |layer| layer.n_blocks(n_layer));
    Speed {
        tokens,
        shared_tokens,
        sentences: work.ids.len() as u64,
        seconds: median,
        tokens_per_second: tokens as f64 / median,
        seconds_per_pair: median / (work.ids.len() as f64 / 2.0),
        load_seconds,
        repeats: seconds.len() as u64,
        threads: options.n_threads as u64,
        device: device_name(embedder.session()),
        batch_tokens: options.batch_tokens as u64,
        texts_at_once: work.texts_at_once.map(|n| n as u64),
        layers_computed: layers_computed as u64,
    }
}
