//! One data set under one protocol: token ids, all levels, what they are compared with.

use super::dataset::{Dataset, Pair};
use super::kept::{LevelScores, RunScores};
use super::level::{measure, Measured, Work};
use super::levels::Levels;
use super::report::{Baseline, Control, DatasetInfo, Level, Run, ThresholdSource, TokenizerInfo};
use super::{bootstrap, controls, metrics, scores, EvalOptions, Glove, Protocol};
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
    tokenizer: TokenizerInfo,
    /// First and second text of each pair in turn.
    ids: Vec<Vec<u32>>,
    threshold_ids: Vec<Vec<u32>>,
}

impl<'a> Pass<'a> {
    /// Everything that can be wrong is found here: layers, pooling, token ids, labels.
    pub(super) fn prepare(
        levels: &'a Levels<'a>,
        options: &'a EvalOptions,
        protocol: &'a Protocol,
        dataset: &Dataset,
    ) -> Result<Self> {
        protocol.check_pooling(options.pooling)?;
        let selection = options.layers.clone().unwrap_or_else(|| protocol.layers());
        let layers = selection.resolve(levels.n_layer)?;
        let dataset = cut(dataset, protocol);
        let threshold_from = threshold_set(options, protocol, &dataset)?;

        let reference = levels.open(levels.reference, options)?;
        let tokenizer = protocol.tokenizer().map_or_else(|| reference.tokenizer(), Ok)?;
        let ids = encode(tokenizer, &dataset, levels)?;
        let differing = differing_level(levels, options, &dataset, &ids)?;
        if let (None, Some((level, pair))) = (protocol.tokenizer(), differing) {
            return Err(other_tokenizer(levels, level, &dataset, pair));
        }
        let info = TokenizerInfo {
            kind: tokenizer.kind().to_string(),
            vocab_size: tokenizer.n_tokens() as u64,
            matches_model: reference.tokenizer().is_ok() && differing.is_none(),
        };
        let threshold_ids = threshold_from.as_ref().map(|set| encode(tokenizer, set, levels));
        let threshold_ids = threshold_ids.transpose()?.unwrap_or_default();
        Ok(Self {
            levels,
            options,
            protocol,
            dataset,
            threshold_from,
            layers,
            tokenizer: info,
            ids,
            threshold_ids,
        })
    }

    /// Texts that each level embeds.
    pub(super) fn n_texts(&self) -> u64 {
        (self.ids.len() + self.threshold_ids.len()) as u64
    }

    /// Measures all levels. One that fails is a row without layers; the first error of any goes to
    /// `failure`, unless there is one already.
    pub(super) fn run(
        self,
        failure: &mut Option<Error>,
        progress: &dyn Progress,
    ) -> Result<(Run, RunScores)> {
        let work = Work {
            ids: &self.ids,
            threshold_ids: &self.threshold_ids,
            layers: &self.layers,
            texts_at_once: self.protocol.texts_at_once(),
        };
        let mut measured = Vec::with_capacity(self.levels.files.len());
        for file in self.levels.files {
            measured.push(match measure(&file.path, &work, self.options, progress) {
                Err(error @ (Error::Interrupted | Error::SelfCheck { .. })) => return Err(error),
                Err(error) => {
                    let what = error.to_string();
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
            tokenizer: self.tokenizer.clone(),
            threshold_from: self.threshold_from.as_ref().map(|set| ThresholdSource {
                name: set.name.clone(),
                split: set.split.clone(),
                file_sha256: set.file_sha256.clone(),
                n_pairs: set.pairs.len() as u64,
            }),
            levels: self.rows(&measured, progress)?,
            baselines: self.baselines(progress)?,
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

    fn baselines(&self, progress: &dyn Progress) -> Result<Vec<Baseline>> {
        let Some(path) = &self.options.glove else { return Ok(Vec::new()) };
        stop_if_cancelled(progress)?;
        let result = Glove::open(path, &self.dataset)?.evaluate(&self.dataset);
        let interval = bootstrap::spearman_interval(
            &result.similarities,
            &self.dataset.scores(),
            bootstrap::RESAMPLES,
            self.options.seed,
        );
        Ok(vec![Baseline {
            name: "glove".into(),
            spearman: result.spearman,
            spearman_ci95: interval,
            seconds_per_pair: Some(result.seconds_per_pair),
            oov_rate: Some(result.oov_rate),
        }])
    }

    fn controls(&self, progress: &dyn Progress) -> Result<Vec<Control>> {
        stop_if_cancelled(progress)?;
        let (a, b): (Vec<_>, Vec<_>) =
            self.ids.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).unzip();
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

/// Token ids of all texts, none of them beyond the models' tables.
fn encode(tokenizer: &Tokenizer, dataset: &Dataset, levels: &Levels) -> Result<Vec<Vec<u32>>> {
    let mut ids = Vec::with_capacity(2 * dataset.pairs.len());
    for (i, pair) in dataset.pairs.iter().enumerate() {
        for text in texts(pair) {
            let of_text = tokenizer.encode(text)?;
            if let Some(id) = of_text.iter().find(|&&id| id as usize >= levels.n_vocab) {
                let what = format!(
                    "{}: pair {}: token id {id} of the {} tokenizer, but the model has 0 to {}; \
                     take the tokenizer that the model was made for (--protocol native)",
                    dataset.path.display(),
                    i + 1,
                    tokenizer.kind(),
                    levels.n_vocab - 1
                );
                return Err(Error::argument(what));
            }
            ids.push(of_text);
        }
    }
    Ok(ids)
}

/// The first level whose own tokenizer does not give these `ids`, and the first pair where. A model
/// without a tokenizer cannot disagree.
fn differing_level(
    levels: &Levels,
    options: &EvalOptions,
    dataset: &Dataset,
    ids: &[Vec<u32>],
) -> Result<Option<(usize, usize)>> {
    for level in 0..levels.files.len() {
        let model = levels.open(level, options)?;
        let Ok(own) = model.tokenizer() else { continue };
        let mut texts = dataset.pairs.iter().flat_map(texts).zip(ids);
        let differs =
            |(text, ids): (&String, &Vec<u32>)| own.encode(text).ok().as_ref() != Some(ids);
        if let Some(text) = texts.position(differs) {
            return Ok(Some((level, text / 2)));
        }
    }
    Ok(None)
}

/// All levels get the same ids, which would be wrong for this one.
fn other_tokenizer(levels: &Levels, level: usize, dataset: &Dataset, pair: usize) -> Error {
    let path = |level: usize| levels.files[level].path.display();
    Error::argument(format!(
        "{}: its tokenizer does not give pair {} of {} the token ids that {}'s gives; evaluate \
         levels of one model together",
        path(level),
        pair + 1,
        dataset.path.display(),
        path(levels.reference)
    ))
}

fn stop_if_cancelled(progress: &dyn Progress) -> Result<()> {
    if progress.cancelled() {
        return Err(Error::Interrupted);
    }
    Ok(())
}

fn texts(pair: &Pair) -> [&String; 2] {
    [&pair.a, &pair.b]
}
