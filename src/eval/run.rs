//! Models x data sets x protocols -> report.
//!
//! Every level is measured alone: opened, warmed up, run, dropped. Its embeddings go to an unnamed
//! temporary file, from which the likeness to the reference level is computed afterwards, so that
//! the memory of one level does not show in the peak of another.

use std::path::PathBuf;

use super::kept::{self, Scores};
use super::levels::{LevelFile, Levels};
use super::pass::Pass;
use super::report::{Host, Report, Tool, SCHEMA_VERSION};
use super::{host, rss, warnings, Dataset, Protocol};
use crate::embed::Pooling;
use crate::error::{Error, Result};
use crate::ggml::{self, Device};
use crate::model::{LayerSelection, OpenOptions, SessionOptions};
use crate::progress::Progress;

/// Most timed passes; more would tell nothing more.
pub const MAX_REPEATS: usize = 1000;

/// What to evaluate and how.
#[derive(Debug, Clone)]
pub struct EvalOptions {
    /// How to measure; each protocol is a run of its own.
    pub protocols: Vec<Protocol>,
    /// Which layers; those of the protocol if absent.
    pub layers: Option<LayerSelection>,
    /// How tokens become one vector.
    pub pooling: Pooling,
    /// How the models get into memory, and the device that runs them. How many layers it takes is
    /// found out for each model anew, if it is not said here.
    pub open: OpenOptions,
    /// How the models run.
    pub session: SessionOptions,
    /// Timed passes over each data set, 1 to [`MAX_REPEATS`].
    pub repeats: usize,
    /// Seed of the bootstrap and of the random vectors.
    pub seed: u64,
    /// Level that the others are compared with; the one with the most bits per weight if absent.
    pub reference: Option<String>,
    /// File of GloVe vectors for the baseline.
    pub glove: Option<PathBuf>,
    /// Pairs that choose the threshold from which on binary labels are called positive. Without
    /// them accuracy and F1 are not reported.
    pub threshold_from: Option<Dataset>,
    /// The command, for the report.
    pub command: Vec<String>,
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self {
            protocols: vec![Protocol::Native(None)],
            layers: None,
            pooling: Pooling::Mean,
            open: OpenOptions::default(),
            session: SessionOptions::default(),
            repeats: 1,
            seed: 42,
            reference: None,
            glove: None,
            threshold_from: None,
            command: Vec::new(),
        }
    }
}

/// A report, and the similarity of every pair in it.
#[derive(Debug)]
pub struct Evaluation {
    /// The report.
    pub report: Report,
    /// The similarities behind it.
    pub scores: Scores,
}

/// Evaluates every level on every data set under every protocol. Fails at once if a file is not a
/// model that can run, two levels have one name, or a token id is beyond a vocabulary or not what a
/// level's own tokenizer gives where no other takes its place; a level that fails while it runs is a row of the report, unless
/// nothing else was measured either.
pub fn run(
    levels: &[LevelFile],
    datasets: &[Dataset],
    options: &EvalOptions,
    progress: &dyn Progress,
) -> Result<Evaluation> {
    if !(1..=MAX_REPEATS).contains(&options.repeats) {
        let n = options.repeats;
        return Err(Error::argument(format!("{n} repeats: give 1 to {MAX_REPEATS}")));
    }
    let (levels, tokenizers) = Levels::describe(levels, options, progress)?;
    let mut passes = Vec::new();
    for dataset in datasets {
        for protocol in &options.protocols {
            let pass = Pass::prepare(&levels, &tokenizers, options, protocol, dataset, progress)?;
            passes.push(pass);
        }
    }
    // They would show in the memory of every level.
    drop(tokenizers);
    let mut report = Report {
        schema_version: SCHEMA_VERSION,
        created: host::utc_now(),
        tool: Tool {
            name: "rwkvq".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ggml: ggml::version(),
        },
        host: Host { gpu: options.open.device.as_ref().map(Device::description), ..host::facts() },
        command: options.command.clone(),
        pooling: options.pooling.to_string(),
        seed: options.seed,
        warnings: Vec::new(),
        runs: Vec::new(),
    };
    let mut scores = Scores { schema_version: kept::SCHEMA_VERSION, runs: Vec::new() };
    let mut failure = None;
    for pass in passes {
        progress.begin("evaluating", pass.n_texts() * levels.files.len() as u64);
        let (run, of_pairs) = pass.run(&mut failure, progress)?;
        report.runs.push(run);
        scores.runs.push(of_pairs);
    }
    let mut all = report.runs.iter().flat_map(|run| &run.levels);
    match failure {
        Some(error) if all.all(|level| level.error.is_some()) => return Err(error),
        _ => {}
    }
    report.warnings = warnings::of(&report.runs, options.threshold_from.is_some());
    if !rss::reset_peak() {
        report.warnings.push(warnings::no_peak());
    }
    report.check()?;
    Ok(Evaluation { report, scores })
}
