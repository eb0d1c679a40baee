//! How fast a model runs on this machine, and how much of the machine it uses.
//!
//! In: a GGUF. Out: a [`BenchReport`]: start, tokens per second by batch size, the matrix products
//! alone beside what the processor's instructions allow, memory. No text is needed: tokens are
//! random. Times are medians over passes; every pass is in the report.
//!
//! May use `eval` for facts about the machine.

mod machine;
mod products;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::embed::{EmbedOptions, Embedder, Pooling};
use crate::error::{Error, Result};
use crate::eval::{host, metrics, report::Host, rss};
use crate::matmul::Machine;
use crate::model::{Device, LayerSelection, Model, OpenOptions, Products, SessionOptions};
use crate::progress::Progress;

pub use machine::Ceilings;
pub use products::ProductSpeed;

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Layers whose embeddings are asked for: the model runs up to the last of them.
    pub layers: LayerSelection,
    /// Rows of a batch; each is measured.
    pub batch_tokens: Vec<usize>,
    /// Tokens of a text.
    pub text_tokens: usize,
    /// Tokens of a pass, at least.
    pub pass_tokens: usize,
    /// Passes for each batch size.
    pub repeats: usize,
    /// How the model gets into memory, and the device that runs it.
    pub open: OpenOptions,
    /// Threads.
    pub n_threads: usize,
    /// Whose matrix products run.
    pub products: Products,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            layers: LayerSelection::only_final(),
            batch_tokens: vec![SessionOptions::default().batch_tokens],
            text_tokens: 32,
            pass_tokens: 1024,
            repeats: 5,
            open: OpenOptions::default(),
            n_threads: SessionOptions::default().n_threads,
            products: Products::Own,
        }
    }
}

/// What was measured. Rates are per second, sizes in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// Base name of the file.
    pub model: String,
    /// Its size.
    pub file_bytes: u64,
    /// The machine.
    pub host: Host,
    /// Threads used.
    pub threads: usize,
    /// Blocks that run.
    pub layers_computed: usize,
    /// Whose matrix products ran: `own` or `ggml`.
    pub products: &'static str,
    /// The instructions our own ran on, such as `avx2`, `avx512-vnni` or `neon-dotprod`; null where
    /// ggml's ran.
    pub instructions: Option<String>,
    /// Device that ran them, such as `cpu` or `cuda:0`.
    pub device: String,
    /// Layers that it ran, counted from the first; the CPU ran the others.
    pub gpu_layers: usize,
    /// From nothing to the first embedding.
    pub start: Start,
    /// One for each batch size.
    pub batches: Vec<BatchSpeed>,
    /// The matrix products alone, by tensor type; empty where ggml's run, or another device.
    pub matrix_products: Vec<ProductSpeed>,
    /// What the processor can do; null where it is not known how to ask.
    pub ceilings: Option<Ceilings>,
    /// Most memory of this process so far; null where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
}

/// Time to the first embedding, of a text of five tokens.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Start {
    /// Opening the file and checking it.
    pub open_seconds: f64,
    /// Making the tokenizer.
    pub tokenizer_seconds: f64,
    /// The first embedding, with everything that is done but once.
    pub first_seconds: f64,
    /// The same embedding again: the median of a few.
    pub steady_seconds: f64,
    /// All of the above but the steady time.
    pub start_seconds: f64,
}

/// Speed at one batch size.
#[derive(Debug, Clone, Serialize)]
pub struct BatchSpeed {
    /// Rows of a batch.
    pub batch_tokens: usize,
    /// Tokens of a pass.
    pub tokens: usize,
    /// Rows that held no token, for each that did.
    pub padding_share: f64,
    /// Seconds of each pass.
    pub seconds: Vec<f64>,
    /// By the median.
    pub tokens_per_s: f64,
}

/// Tokens of a text and of a pass, at most: ids of so many are kept in memory.
const MAX_TOKENS: usize = 1 << 22;

/// Measures the model in `path`.
///
/// # Errors
/// What [`Model::open`] and [`Embedder`] find; [`Error::Argument`] for sizes of zero and for texts or
/// passes too long to be kept; [`Error::Interrupted`] when `progress` cancels.
pub fn run(path: &Path, options: &BenchOptions, progress: &dyn Progress) -> Result<BenchReport> {
    if options.repeats == 0 || options.text_tokens == 0 || options.pass_tokens == 0 {
        return Err(Error::argument("repeats, text tokens and pass tokens are at least 1"));
    }
    for (what, n) in [("text", options.text_tokens), ("pass", options.pass_tokens)] {
        if n > MAX_TOKENS {
            let what = format!("{n} {what} tokens: give at most {MAX_TOKENS}");
            return Err(Error::argument(what));
        }
    }
    let peak_is_ours = rss::reset_peak();
    let (model, start) = start(path, options)?;
    let phases = options.batch_tokens.len() * options.repeats;
    progress.begin("measuring", phases as u64);
    let mut batches = Vec::new();
    for &batch_tokens in &options.batch_tokens {
        batches.push(batch(&model, options, batch_tokens, progress)?);
    }
    // Before the products alone, whose buffers no embedding needs.
    let peak_rss_bytes = if peak_is_ours { rss::peak_bytes() } else { None };
    let runs_own = options.products == Products::Own && model.device().is_none();
    let own = runs_own.then(Machine::detect).flatten();
    let n_tokens = options.batch_tokens.iter().copied().max().unwrap_or(0);
    let matrix_products = own.map_or_else(Vec::new, |machine| {
        products::measure(&model, machine, n_tokens, options.n_threads)
    });
    let n_layer = model.hparams().n_layer;
    let layers = options.layers.resolve(n_layer)?;
    Ok(BenchReport {
        model: base_name(path),
        file_bytes: model.file().file_bytes(),
        host: host::facts(),
        threads: options.n_threads,
        layers_computed: layers.last().map_or(0, |layer| layer.n_blocks(n_layer)),
        products: if own.is_some() { "own" } else { "ggml" },
        instructions: own.map(|machine| machine.to_string()),
        device: model.device().map_or_else(|| "cpu".into(), Device::to_string),
        gpu_layers: model.gpu_layers(),
        start,
        batches,
        matrix_products,
        ceilings: machine::ceilings(options.n_threads),
        peak_rss_bytes,
    })
}

fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Opens the model and embeds a text of five tokens, first and again.
fn start(path: &Path, options: &BenchOptions) -> Result<(Arc<Model>, Start)> {
    let begin = Instant::now();
    let largest = options.batch_tokens.iter().copied().max().unwrap_or(0);
    let open = options.open.clone().fitted(path, &session(options, largest))?.0;
    let model = Arc::new(Model::open_with(path, open)?);
    let open_seconds = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    // A model without a tokenizer of its own can be measured too.
    let _ = model.tokenizer();
    let tokenizer_seconds = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let batch_tokens = SessionOptions::batch_tokens_for(options.open.device.as_ref());
    let mut embedder = embedder(&model, options, batch_tokens)?;
    let text = texts(&model, 5, 1);
    embedder.embed_ids(&text)?;
    let first_seconds = begin.elapsed().as_secs_f64();
    let again = (0..3).map(|_| pass(&mut embedder, &text)).collect::<Result<Vec<f64>>>()?;
    let steady_seconds = median(&again);
    let start_seconds = open_seconds + tokenizer_seconds + first_seconds - steady_seconds;
    let start =
        Start { open_seconds, tokenizer_seconds, first_seconds, steady_seconds, start_seconds };
    Ok((model, start))
}

fn batch(
    model: &Arc<Model>,
    options: &BenchOptions,
    batch_tokens: usize,
    progress: &dyn Progress,
) -> Result<BatchSpeed> {
    let mut embedder = embedder(model, options, batch_tokens)?;
    let n_texts = options.pass_tokens.max(batch_tokens).div_ceil(options.text_tokens);
    let texts = texts(model, options.text_tokens, n_texts);
    // Once more than is counted: the first pass builds the graph.
    embedder.embed_ids(&texts[..1])?;
    let mut seconds = Vec::new();
    for _ in 0..options.repeats {
        if progress.cancelled() {
            return Err(Error::Interrupted);
        }
        seconds.push(pass(&mut embedder, &texts)?);
        progress.advance(1);
    }
    let tokens = options.text_tokens * n_texts;
    let work = embedder.workload();
    Ok(BatchSpeed {
        batch_tokens,
        tokens,
        padding_share: work.padding as f64 / work.tokens as f64,
        tokens_per_s: tokens as f64 / median(&seconds),
        seconds,
    })
}

/// Seconds to embed `texts`.
fn pass(embedder: &mut Embedder, texts: &[Vec<u32>]) -> Result<f64> {
    let begin = Instant::now();
    embedder.embed_ids(texts)?;
    Ok(begin.elapsed().as_secs_f64())
}

fn session(options: &BenchOptions, batch_tokens: usize) -> SessionOptions {
    SessionOptions {
        n_threads: options.n_threads,
        batch_tokens,
        n_lanes: SessionOptions::lanes_for(options.open.device.as_ref(), batch_tokens),
        products: options.products,
    }
}

fn embedder(model: &Arc<Model>, options: &BenchOptions, batch_tokens: usize) -> Result<Embedder> {
    let session = session(options, batch_tokens);
    let layers = options.layers.clone();
    Embedder::new(model, EmbedOptions { layers, pooling: Pooling::Mean, normalize: false, session })
}

/// `n_texts` texts of `n_tokens` tokens of the vocabulary; the same ones every time.
fn texts(model: &Model, n_tokens: usize, n_texts: usize) -> Vec<Vec<u32>> {
    let n_vocab = model.hparams().n_vocab as u64;
    // Steps of a large odd number visit the vocabulary far and wide.
    let token = |i: usize| ((i as u64).wrapping_mul(2_654_435_761) % n_vocab) as u32;
    let text = |t: usize| (0..n_tokens).map(|i| token(t * n_tokens + i + 1)).collect();
    (0..n_texts).map(text).collect()
}

/// The median, never 0.
fn median(seconds: &[f64]) -> f64 {
    metrics::upper_median(seconds).unwrap_or(0.0).max(f64::MIN_POSITIVE)
}
