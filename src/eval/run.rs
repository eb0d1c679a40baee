//! Models x data sets -> report.
//!
//! Every level is measured alone: opened, warmed up, run, dropped. Its embeddings go to an unnamed
//! temporary file, from which the likeness to the reference level is computed afterwards, so that
//! the memory of one level does not show in the peak of another.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::level::{measure, Measured};
use super::report::{
    Baseline, Control, DatasetInfo, Delta, Fidelity, Layer, Level, Report, Run, TokenizerInfo,
    Tool, SCHEMA_VERSION,
};
use super::{bootstrap, controls, fidelity, host, metrics, rss, Dataset, Glove};
use crate::embed::Pooling;
use crate::error::{Error, Result};
use crate::ggml;
use crate::mmap::Access;
use crate::model::{LayerSelection, Model, SessionOptions};
use crate::progress::Progress;
use crate::tokenizer::Tokenizer;

/// A model file and what to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelFile {
    /// Name of the level in the report, usually its preset.
    pub preset: String,
    /// The GGUF.
    pub path: PathBuf,
}

/// What to evaluate and how.
#[derive(Debug, Clone)]
pub struct EvalOptions {
    /// Which layers.
    pub layers: LayerSelection,
    /// How tokens become one vector.
    pub pooling: Pooling,
    /// How the models get into memory.
    pub access: Access,
    /// How the models run.
    pub session: SessionOptions,
    /// Timed passes over each data set.
    pub repeats: usize,
    /// Seed of the bootstrap and of the random vectors.
    pub seed: u64,
    /// Level that the others are compared with; the one with the most bits per weight if absent.
    pub reference: Option<String>,
    /// Tokenizer in place of the models' own.
    pub tokenizer: Option<Tokenizer>,
    /// File of GloVe vectors for the baseline.
    pub glove: Option<PathBuf>,
    /// The command, for the report.
    pub command: Vec<String>,
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self {
            layers: LayerSelection::all(),
            pooling: Pooling::Mean,
            access: Access::Map,
            session: SessionOptions::default(),
            repeats: 1,
            seed: 42,
            reference: None,
            tokenizer: None,
            glove: None,
            command: Vec::new(),
        }
    }
}

/// A report, and the similarity of every pair in it.
#[derive(Debug)]
pub struct Evaluation {
    /// The report.
    pub report: Report,
    /// For each run, for each level, for each layer: the cosine of each pair.
    pub similarities: Vec<Vec<Vec<Vec<f64>>>>,
}

/// Evaluates every level on every data set. Fails at once if a file is not a model that can run;
/// a level that fails while it runs is a row of the report.
pub fn run(
    levels: &[LevelFile],
    datasets: &[Dataset],
    options: &EvalOptions,
    progress: &dyn Progress,
) -> Result<Evaluation> {
    let infos = describe(levels, options)?;
    let reference = reference(&infos, options.reference.as_deref())?;
    let mut report = Report {
        schema_version: SCHEMA_VERSION,
        created: host::utc_now(),
        tool: Tool {
            name: "rwkvq".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ggml: ggml::version(),
        },
        host: host::facts(),
        command: options.command.clone(),
        pooling: options.pooling.to_string(),
        seed: options.seed,
        warnings: Vec::new(),
        runs: Vec::new(),
    };
    if !rss::reset_peak() {
        let what =
            "peak resident memory is not given: this system cannot measure it level by level";
        report.warnings.push(what.into());
    }
    let mut similarities = Vec::new();
    let n_texts: u64 = datasets.iter().map(|dataset| 2 * dataset.pairs.len() as u64).sum();
    progress.begin("evaluating", n_texts * levels.len() as u64);
    for dataset in datasets {
        let mut evaluator =
            Evaluator { levels, infos: &infos, reference, options, progress, dataset };
        let (run, scores) = evaluator.run(&mut report.warnings)?;
        report.runs.push(run);
        similarities.push(scores);
    }
    report.check()?;
    Ok(Evaluation { report, similarities })
}

/// What is known of a level before it runs.
struct LevelInfo {
    level: Level,
    layers: Vec<crate::model::Layer>,
}

/// Opens every model once: a file that cannot run must fail before hours of work, not after.
fn describe(levels: &[LevelFile], options: &EvalOptions) -> Result<Vec<LevelInfo>> {
    if levels.is_empty() {
        return Err(Error::argument("no model to evaluate"));
    }
    let mut infos: Vec<LevelInfo> = Vec::new();
    for file in levels {
        let model = Model::open(&file.path)?;
        let layers = options.layers.resolve(model.hparams().n_layer)?;
        if let Some(first) = infos.first().filter(|first| first.layers != layers) {
            let what = format!(
                "{} has other layers than {}; evaluate models of one depth together",
                file.path.display(),
                first.level.file
            );
            return Err(Error::argument(what));
        }
        let mut tensor_types = BTreeMap::new();
        let (mut bytes, mut weights) = (0f64, 0f64);
        for tensor in model.file().tensors() {
            *tensor_types.entry(tensor.ty.name()).or_insert(0) += 1;
            bytes += tensor.bytes as f64;
            weights += tensor.shape.n_elements() as f64;
        }
        let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let level = Level {
            preset: file.preset.clone(),
            file: name.unwrap_or_default(),
            file_bytes: model.file().file_bytes(),
            file_sha256: Some(model.file().sha256()?),
            bits_per_weight: bytes * 8.0 / weights,
            tensor_types,
            error: None,
            layers: Vec::new(),
            speed: None,
            memory: None,
        };
        infos.push(LevelInfo { level, layers });
    }
    Ok(infos)
}

fn reference(infos: &[LevelInfo], asked: Option<&str>) -> Result<usize> {
    let Some(name) = asked else {
        let widest =
            infos.iter().enumerate().rev().max_by(|(_, a), (_, b)| {
                a.level.bits_per_weight.total_cmp(&b.level.bits_per_weight)
            });
        return Ok(widest.map_or(0, |(index, _)| index));
    };
    infos.iter().position(|info| info.level.preset == name).ok_or_else(|| {
        let known: Vec<_> = infos.iter().map(|info| info.level.preset.as_str()).collect();
        Error::argument(format!("no level {name:?} to refer to; there are {}", known.join(", ")))
    })
}

/// One data set.
struct Evaluator<'a> {
    levels: &'a [LevelFile],
    infos: &'a [LevelInfo],
    reference: usize,
    options: &'a EvalOptions,
    progress: &'a dyn Progress,
    dataset: &'a Dataset,
}

impl Evaluator<'_> {
    fn run(&mut self, warnings: &mut Vec<String>) -> Result<(Run, Vec<Vec<Vec<f64>>>)> {
        let (ids, tokenizer) = self.tokenize(warnings)?;
        let mut measured = Vec::with_capacity(self.levels.len());
        for (file, info) in self.levels.iter().zip(self.infos) {
            let result = measure(&file.path, &ids, &info.layers, self.options, self.progress);
            measured.push(match result {
                Err(Error::NonFinite { path, what }) => {
                    let error = Error::NonFinite { path, what }.to_string();
                    warnings.push(format!("level {} failed: {error}", file.preset));
                    Err(error)
                }
                other => Ok(other?),
            });
        }
        let levels = self.levels_of_report(&measured)?;
        let run = Run {
            dataset: self.dataset_info(),
            protocol: "native".into(),
            tokenizer,
            levels,
            baselines: self.baselines()?,
            controls: self.controls(&ids),
        };
        let scores = measured.into_iter().map(|m| m.map(|m| m.similarities).unwrap_or_default());
        Ok((run, scores.collect()))
    }

    /// Token ids of all texts: first and second of each pair in turn.
    fn tokenize(&self, warnings: &mut Vec<String>) -> Result<(Vec<Vec<u32>>, TokenizerInfo)> {
        let model = Model::open(&self.levels[self.reference].path)?;
        let own = model.tokenizer();
        let (tokenizer, own) = match (&self.options.tokenizer, own) {
            (Some(given), own) => (given, own.ok()),
            (None, own) => (own?, None),
        };
        let ids = self.encode(tokenizer)?;
        let matches_model = match (&self.options.tokenizer, own) {
            (None, _) => true,
            (Some(_), Some(own)) => self.encode(own).is_ok_and(|own| own == ids),
            (Some(_), None) => false,
        };
        if !matches_model {
            let what = format!(
                "{}: the {} tokenizer does not give the token ids that the model was made for; \
                 these numbers say little about it",
                self.dataset.name,
                tokenizer.kind()
            );
            warnings.insert(0, what);
        }
        let info = TokenizerInfo {
            kind: tokenizer.kind().to_string(),
            vocab_size: tokenizer.n_tokens() as u64,
            matches_model,
        };
        Ok((ids, info))
    }

    fn encode(&self, tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>> {
        let texts = self.dataset.pairs.iter().flat_map(|pair| [&pair.a, &pair.b]);
        texts.map(|text| tokenizer.encode(text)).collect()
    }

    fn levels_of_report(
        &self,
        measured: &[std::result::Result<Measured, String>],
    ) -> Result<Vec<Level>> {
        let labels = self.dataset.scores();
        let seed = self.options.seed;
        let reference = measured[self.reference].as_ref().ok();
        let mut p_values = Vec::new();
        let mut levels = Vec::new();
        for (index, (info, result)) in self.infos.iter().zip(measured).enumerate() {
            let mut level = info.level.clone();
            let measured = match result {
                Ok(measured) => measured,
                Err(error) => {
                    level.error = Some(error.clone());
                    levels.push(level);
                    continue;
                }
            };
            for (i, (layer, similarities)) in
                info.layers.iter().zip(&measured.similarities).enumerate()
            {
                let compared = reference.filter(|_| index != self.reference);
                let difference = compared.and_then(|reference| {
                    let other = &reference.similarities[i];
                    bootstrap::spearman_difference(
                        similarities,
                        other,
                        &labels,
                        bootstrap::RESAMPLES,
                        seed,
                    )
                });
                let delta = difference.map(|difference| {
                    p_values.push((index, i, difference.p_value));
                    Delta { value: difference.value, ci95: Some(difference.ci95), p_holm: None }
                });
                level.layers.push(Layer {
                    layer: layer.to_string(),
                    spearman: metrics::spearman(similarities, &labels),
                    spearman_ci95: bootstrap::spearman_interval(
                        similarities,
                        &labels,
                        bootstrap::RESAMPLES,
                        seed,
                    ),
                    pearson: metrics::pearson(similarities, &labels),
                    delta_spearman: delta,
                    fidelity: compared
                        .map(|reference| fidelity_of(reference, measured, i))
                        .transpose()?,
                });
            }
            level.speed = Some(measured.speed.clone());
            level.memory = Some(measured.memory.clone());
            levels.push(level);
        }
        let adjusted = bootstrap::holm(&p_values.iter().map(|(.., p)| *p).collect::<Vec<_>>());
        for ((level, layer, _), p) in p_values.into_iter().zip(adjusted) {
            if let Some(delta) = &mut levels[level].layers[layer].delta_spearman {
                delta.p_holm = Some(p);
            }
        }
        Ok(levels)
    }

    fn dataset_info(&self) -> DatasetInfo {
        let dataset = self.dataset;
        DatasetInfo {
            name: dataset.name.clone(),
            split: dataset.split.clone(),
            file_sha256: dataset.file_sha256.clone(),
            n_pairs: dataset.pairs.len() as u64,
            n_positive: dataset.n_positive().map(|n| n as u64),
            text_variant: dataset.text_variant.to_string(),
        }
    }

    fn baselines(&self) -> Result<Vec<Baseline>> {
        let Some(path) = &self.options.glove else { return Ok(Vec::new()) };
        let result = Glove::open(path, self.dataset)?.evaluate(self.dataset);
        let labels = self.dataset.scores();
        let interval = bootstrap::spearman_interval(
            &result.similarities,
            &labels,
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

    fn controls(&self, ids: &[Vec<u32>]) -> Vec<Control> {
        let (a, b): (Vec<_>, Vec<_>) =
            ids.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).unzip();
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
        vec![
            Control {
                name: "random-token-vectors".into(),
                spearman: random.as_ref().map(|random| random.mean),
                spearman_range: random.map(|random| random.range),
                seeds,
            },
            exact("word-jaccard", controls::word_jaccard(self.dataset).spearman),
            exact("length-difference", controls::length_difference(self.dataset).spearman),
        ]
    }
}

fn fidelity_of(reference: &Measured, level: &Measured, layer: usize) -> Result<Fidelity> {
    let (a, b) = (reference.embeddings.layer(layer)?, level.embeddings.layer(layer)?);
    let cosines = fidelity::embedding_fidelity(&a, &b, level.embeddings.n_embd());
    Ok(Fidelity {
        mean_cosine: cosines.as_ref().map(|cosines| cosines.mean_cosine),
        min_cosine: cosines.as_ref().map(|cosines| cosines.min_cosine),
        similarity_spearman: fidelity::similarity_spearman(
            &reference.similarities[layer],
            &level.similarities[layer],
        ),
    })
}
