//! One data set under one protocol: token ids, all levels, what they are compared with.

use std::path::Path;

use super::dataset::Dataset;
use super::ids::{self, Ids};
use super::kept::{LevelScores, RunScores};
use super::level::{measure, Measured, Work};
use super::levels::Levels;
use super::report::{Baseline, Control, DatasetInfo, Level, Run, ThresholdSource};
use super::{
    bootstrap, controls, metrics, scores, stop_if_cancelled, EvalOptions, Glove, Protocol,
};
use crate::error::{Error, Result};
use crate::model::Layer;
use crate::progress::Progress;
use crate::tokenizer::Tokenizer;

/// A run that can start.
pub(super) struct Pass<'a> {
    levels: &'a Levels<'a>,
    options: &'a EvalOptions,
    protocol: &'a Protocol,
    /// The pairs that count.
    dataset: Dataset,
    /// Pairs that choose a threshold; absent where that makes no sense.
    threshold_from: Option<Dataset>,
    layers: Vec<Layer>,
    ids: Ids,
    baselines: Vec<Baseline>,
}

impl<'a> Pass<'a> {
    /// Everything that can be wrong is found here: layers, pooling, token ids, labels, baselines.
    /// `tokenizers` are the levels' own.
    pub(super) fn prepare(
        levels: &'a Levels<'a>,
        tokenizers: &[Option<Tokenizer>],
        options: &'a EvalOptions,
        protocol: &'a Protocol,
        dataset: &Dataset,
        progress: &dyn Progress,
    ) -> Result<Self> {
        protocol.check_pooling(options.pooling)?;
        let selection = options.layers.clone().unwrap_or_else(|| protocol.layers());
        let layers = selection.resolve(levels.n_layer)?;
        let dataset = cut(dataset, protocol);
        let threshold_from = threshold_set(options, protocol, &dataset)?;

        let ids = ids::encode(levels, tokenizers, protocol, &dataset, threshold_from.as_ref())?;
        stop_if_cancelled(progress)?;
        let baselines = baselines(options, &dataset)?;
        Ok(Self { levels, options, protocol, dataset, threshold_from, layers, ids, baselines })
    }

    /// Texts that each level embeds.
    pub(super) fn n_texts(&self) -> u64 {
        (self.ids.texts.len() + self.ids.threshold_texts.len()) as u64
    }

    /// Measures all levels. One that fails is a row without layers; the first error of any goes to
    /// `failure`, unless there is one already.
    pub(super) fn run(
        self,
        failure: &mut Option<Error>,
        progress: &dyn Progress,
    ) -> Result<(Run, RunScores)> {
        let work = Work {
            ids: &self.ids.texts,
            threshold_ids: &self.ids.threshold_texts,
            layers: &self.layers,
            texts_at_once: self.protocol.texts_at_once(),
        };
        let mut measured = Vec::with_capacity(self.levels.files.len());
        for (file, identity) in self.levels.files.iter().zip(&self.levels.identities) {
            measured.push(match measure(&file.path, identity, &work, self.options, progress) {
                Err(error @ (Error::Interrupted | Error::SelfCheck { .. })) => return Err(error),
                Err(error) => {
                    let what = failed(&error, &file.path);
                    failure.get_or_insert(error);
                    Err(what)
                }
                Ok(measured) => Ok(measured),
            });
        }
        progress.begin("statistics", (self.levels.files.len() * self.layers.len()) as u64);
        let run = Run {
            dataset: self.dataset_info(),
            protocol: self.protocol.name().into(),
            tokenizer: self.ids.tokenizer.clone(),
            threshold_from: self.threshold_from.as_ref().map(|set| ThresholdSource {
                name: set.name.clone(),
                split: set.split.clone(),
                file_sha256: set.file_sha256.clone(),
                n_pairs: set.pairs.len() as u64,
            }),
            reference: Some(self.levels.files[self.levels.reference].preset.clone()),
            levels: self.rows(&measured, progress)?,
            baselines: self.baselines.clone(),
            controls: self.controls(progress)?,
        };
        Ok((run, self.scores(measured)))
    }

    /// The similarities of the levels that were measured.
    fn scores(self, measured: Vec<std::result::Result<Measured, String>>) -> RunScores {
        let names = || self.layers.iter().map(ToString::to_string);
        let levels = self.levels.files.iter().zip(measured).filter_map(|(file, measured)| {
            let layers = names().zip(measured.ok()?.similarities).collect();
            Some(LevelScores { preset: file.preset.clone(), layers })
        });
        RunScores {
            levels: levels.collect(),
            dataset: self.dataset.name.clone(),
            file_sha256: self.dataset.file_sha256.clone(),
            protocol: self.protocol.name().into(),
            labels: self.dataset.scores(),
        }
    }

    /// The levels of the report.
    fn rows(
        &self,
        measured: &[std::result::Result<Measured, String>],
        progress: &dyn Progress,
    ) -> Result<Vec<Level>> {
        let threshold_labels = self.threshold_from.as_ref().map(Dataset::scores);
        let mut rows = self.levels.rows.clone();
        let against = scores::Against {
            labels: &self.dataset.scores(),
            threshold_labels: threshold_labels.as_deref(),
            reference: measured[self.levels.reference].as_ref().ok(),
            seed: self.options.seed,
        };
        let mut p_values = Vec::new();
        for (index, (row, result)) in rows.iter_mut().zip(measured).enumerate() {
            let measured = match result {
                Ok(measured) => measured,
                Err(error) => {
                    row.error = Some(error.clone());
                    continue;
                }
            };
            for (i, layer) in self.layers.iter().enumerate() {
                stop_if_cancelled(progress)?;
                let is_reference = index == self.levels.reference;
                let (scored, p_value) = against.layer(*layer, i, measured, is_reference)?;
                p_values.extend(p_value.map(|p| (index, i, p)));
                row.layers.push(scored);
                progress.advance(1);
            }
            row.speed = Some(measured.speed.clone());
            row.memory = Some(measured.memory.clone());
        }
        let adjusted = bootstrap::holm(&p_values.iter().map(|(.., p)| *p).collect::<Vec<_>>());
        for ((level, layer, _), p) in p_values.into_iter().zip(adjusted) {
            if let Some(delta) = &mut rows[level].layers[layer].delta_spearman {
                delta.p_holm = Some(p);
            }
        }
        Ok(rows)
    }

    fn dataset_info(&self) -> DatasetInfo {
        let dataset = &self.dataset;
        DatasetInfo {
            name: dataset.name.clone(),
            split: dataset.split.clone(),
            file_sha256: dataset.file_sha256.clone(),
            n_pairs: dataset.pairs.len() as u64,
            n_positive: dataset.n_positive().map(|n| n as u64),
            max_spearman: metrics::max_spearman(&dataset.scores()),
            text_variant: dataset.text_variant.to_string(),
        }
    }

    fn controls(&self, progress: &dyn Progress) -> Result<Vec<Control>> {
        stop_if_cancelled(progress)?;
        let (a, b): (Vec<_>, Vec<_>) =
            self.ids.texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).unzip();
        let n_seeds = controls::RANDOM_SEEDS as u64;
        let seeds: Vec<u64> = (0..n_seeds).map(|i| self.options.seed.wrapping_add(i)).collect();
        let labels = self.dataset.scores();
        let random = controls::random_token_vectors(&a, &b, &labels, controls::RANDOM_DIMS, &seeds);
        let exact = |name: &str, spearman| Control {
            name: name.into(),
            spearman,
            spearman_range: None,
            seeds: Vec::new(),
        };
        stop_if_cancelled(progress)?;
        Ok(vec![
            Control {
                name: "random-token-vectors".into(),
                spearman: random.as_ref().map(|random| random.mean),
                spearman_range: random.map(|random| random.range),
                seeds,
            },
            exact("word-jaccard", controls::word_jaccard(&self.dataset).spearman),
            exact("length-difference", controls::length_difference(&self.dataset).spearman),
        ])
    }
}

/// `dataset` with the pairs alone that count under `protocol`.
fn cut(dataset: &Dataset, protocol: &Protocol) -> Dataset {
    Dataset { pairs: protocol.pairs(dataset).to_vec(), ..dataset.clone() }
}

/// The set that chooses a threshold for `dataset`, if it needs one and is another file.
fn threshold_set(
    options: &EvalOptions,
    protocol: &Protocol,
    dataset: &Dataset,
) -> Result<Option<Dataset>> {
    let Some(set) = &options.threshold_from else { return Ok(None) };
    if !set.is_binary() {
        let what = format!(
            "{}: a threshold needs labels that are 0 or 1, and some are not; leave \
             --threshold-from out",
            set.path.display()
        );
        return Err(Error::argument(what));
    }
    let fits = dataset.is_binary() && set.file_sha256 != dataset.file_sha256;
    Ok(fits.then(|| cut(set, protocol)))
}

fn baselines(options: &EvalOptions, dataset: &Dataset) -> Result<Vec<Baseline>> {
    let Some(path) = &options.glove else { return Ok(Vec::new()) };
    let result = Glove::open(path, dataset)?.evaluate(dataset);
    let interval = bootstrap::spearman_interval(
        &result.similarities,
        &dataset.scores(),
        bootstrap::RESAMPLES,
        options.seed,
    );
    Ok(vec![Baseline {
        name: "glove".into(),
        spearman: result.spearman,
        spearman_ci95: interval,
        seconds_per_pair: Some(result.seconds_per_pair),
        oov_rate: Some(result.oov_rate),
    }])
}

/// What a report says of a level that failed. It does not tell where its owner keeps the file.
fn failed(error: &Error, path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let what = error.to_string().replace(&path.display().to_string(), &name);
    match error {
        Error::NonFinite { .. } => {
            format!("{what}; leave it out, or convert it again from its source")
        }
        _ => what,
    }
}
