//! Measures an importance matrix: runs text and sums up what goes into every matrix.
//!
//! In: a model and tokens. Out: an [`Imatrix`], which the left half quantizes with.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::imatrix::{Entry, Imatrix};
use crate::model::{Model, Session, SessionOptions};
use crate::progress::Progress;

/// Rows computed at once; a longer chunk goes through in parts with its state kept.
const MAX_BATCH: usize = 512;

/// How to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectOptions {
    /// Tokens that are run from one empty state.
    pub chunk_tokens: usize,
    /// Also measure the input of the matrix that makes logits.
    pub head: bool,
    /// Threads of the CPU backend.
    pub n_threads: usize,
    /// Name of the text, for the file.
    pub dataset: String,
}

impl Default for CollectOptions {
    fn default() -> Self {
        let n_threads = SessionOptions::default().n_threads;
        Self { chunk_tokens: 512, head: false, n_threads, dataset: String::new() }
    }
}

/// Sums of one entry while they grow.
struct Sums {
    squares: Vec<f64>,
    n_planes: usize,
    n_tokens: u64,
}

/// Runs `tokens` through `model`, chunk by chunk, each from an empty state. Tokens that do not
/// fill a last chunk are left out, as `llama-imatrix` does. Sums are kept in f64.
pub fn collect(
    model: &Arc<Model>,
    tokens: &[u32],
    options: &CollectOptions,
    progress: &dyn Progress,
) -> Result<Imatrix> {
    let n = options.chunk_tokens;
    if n == 0 || u32::try_from(n).is_err() {
        return Err(Error::argument(format!("chunks of {n} tokens: give 1 to {}", u32::MAX)));
    }
    let chunks = tokens.chunks_exact(n);
    if chunks.len() == 0 {
        let what = format!("{} tokens do not fill a chunk of {n}; give more text", tokens.len());
        return Err(Error::argument(what));
    }
    if !chunks.remainder().is_empty() {
        let left = chunks.remainder().len();
        progress.note(&format!("the last {left} tokens do not fill a chunk and are left out"));
    }
    let chunk_count = u32::try_from(chunks.len())
        .map_err(|_| Error::argument(format!("{} chunks are too many", chunks.len())))?;
    let session = SessionOptions {
        n_threads: options.n_threads,
        batch_tokens: n.clamp(2, MAX_BATCH),
        n_lanes: 1,
        ..Default::default()
    };
    let mut session = Session::new(Arc::clone(model), session)?;
    let mut sums = BTreeMap::new();
    progress.begin("measuring", (chunks.len() * n) as u64);
    for chunk in chunks {
        if progress.cancelled() {
            return Err(Error::Interrupted);
        }
        session.input_squares(chunk, options.head, |part| {
            add(&mut sums, part.tensor, part.n_planes, part.n_tokens, part.sums);
            Ok(())
        })?;
        progress.advance(n as u64);
    }
    Ok(Imatrix {
        path: model.path().to_owned(),
        datasets: vec![options.dataset.clone()],
        chunk_count,
        chunk_size: n as u32,
        entries: sums
            .into_iter()
            .map(|(name, sums)| Ok((name.clone(), entry(model, &name, sums)?)))
            .collect::<Result<_>>()?,
    })
}

fn add(
    all: &mut BTreeMap<String, Sums>,
    tensor: &str,
    n_planes: usize,
    n_tokens: usize,
    part: &[f32],
) {
    if !all.contains_key(tensor) {
        let squares = vec![0.0; part.len()];
        all.insert(tensor.to_owned(), Sums { squares, n_planes, n_tokens: 0 });
    }
    let Some(sums) = all.get_mut(tensor) else { return };
    for (sum, &part) in sums.squares.iter_mut().zip(part) {
        *sum += f64::from(part);
    }
    sums.n_tokens += n_tokens as u64;
}

fn entry(model: &Model, name: &str, sums: Sums) -> Result<Entry> {
    let values = sums.squares.iter().map(|&sum| sum as f32).collect();
    let counts = vec![sums.n_tokens as f32; sums.n_planes];
    Entry::new(values, counts).ok_or_else(|| {
        let what = format!("input of tensor {name:?}: its sum of squares is too large");
        Error::non_finite(model.path(), what)
    })
}
