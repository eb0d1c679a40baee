//! The report of an evaluation: what `report.json` holds.
//!
//! In: measurements. Out: JSON, and back. The structs below are the file, field by field and in this
//! order (docs/report.schema.json is made from them); an undefined quantity is null. Bytes are bytes, times are seconds, rates are per second.
//! Uses `error` only.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod check;
#[cfg(test)]
mod schema;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use crate::error::{Error, Result};

/// The version of the file format that this crate writes and reads.
pub const SCHEMA_VERSION: u64 = 1;

/// A whole report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// [`SCHEMA_VERSION`]; another version is not read.
    pub schema_version: u64,
    /// When the evaluation began: UTC, `2025-01-31T23:59:59Z`.
    pub created: String,
    /// What measured.
    pub tool: Tool,
    /// Where it measured.
    pub host: Host,
    /// The command, one argument an entry, paths reduced to base names.
    pub command: Vec<String>,
    /// How token embeddings became a text embedding: `mean`, `last` or `max`.
    pub pooling: String,
    /// Seed of everything random: bootstrap and random vectors.
    pub seed: u64,
    /// What a reader must know before trusting the numbers, most important first.
    pub warnings: Vec<String>,
    /// One for each data set and protocol.
    pub runs: Vec<Run>,
}

/// The program that measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Commit or version of ggml.
    pub ggml: String,
}

/// The machine. Of its owner it says nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Host {
    /// Model name of the processor; null if unknown.
    pub cpu: Option<String>,
    /// Logical cores that the process may use.
    pub cores: u64,
    /// Instruction sets that matter here and that the processor has, such as `avx2`.
    pub isa: Vec<String>,
    /// Main memory; null if unknown.
    pub ram_bytes: Option<u64>,
    /// Operating system, its version where known, and architecture.
    pub os: String,
    /// Name of the GPU that ran the model; null if none did.
    pub gpu: Option<String>,
}

/// All levels on one data set under one protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Run {
    /// The data set.
    pub dataset: DatasetInfo,
    /// `native` (the model's tokenizer) or `paper` (GPT-2's, as in arXiv 2502.14620).
    pub protocol: String,
    /// The tokenizer that ran.
    pub tokenizer: TokenizerInfo,
    /// Where the thresholds of `binary` come from; null if there are none.
    pub threshold_from: Option<ThresholdSource>,
    /// The level that the others are compared with; absent in reports of older versions.
    #[serde(default)]
    pub reference: Option<String>,
    /// One for each model file, in the order asked. All have the same layers.
    pub levels: Vec<Level>,
    /// Similarities from other text models.
    pub baselines: Vec<Baseline>,
    /// Similarities that know nothing of meaning.
    pub controls: Vec<Control>,
}

/// The data set of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DatasetInfo {
    /// Its name.
    pub name: String,
    /// Its split; null if unknown.
    pub split: Option<String>,
    /// SHA-256 of the whole file, lower-case hex.
    pub file_sha256: String,
    /// Pairs that were used.
    pub n_pairs: u64,
    /// Pairs labelled 1 if all labels are 0 or 1, else null.
    pub n_positive: Option<u64>,
    /// Largest Spearman that similarities without ties can reach against these labels, whose ties
    /// keep it below 1; null if the labels are all equal.
    pub max_spearman: Option<f64>,
    /// `hf` (punctuation cut off), `raw` or `unknown`.
    pub text_variant: String,
}

/// The tokenizer of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TokenizerInfo {
    /// Its kind, such as `rwkv-world` or `gpt2`.
    pub kind: String,
    /// Number of its tokens.
    pub vocab_size: u64,
    /// False if the model was trained with other token ids: then the numbers say little about it.
    pub matches_model: bool,
    /// SHA-256 of the token ids of all texts, in order, lower-case hex: of each text the number of
    /// its ids and the ids, each a little-endian u32. Absent in reports of older versions.
    #[serde(default)]
    pub ids_sha256: Option<String>,
}

/// Pairs that chose the thresholds of a run: those that are right most often on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ThresholdSource {
    /// Name of the data set.
    pub name: String,
    /// Its split; null if unknown.
    pub split: Option<String>,
    /// SHA-256 of the whole file, lower-case hex.
    pub file_sha256: String,
    /// Pairs that were used.
    pub n_pairs: u64,
}

/// One model file measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Level {
    /// Preset, such as `q4_k`.
    pub preset: String,
    /// Base name of the file.
    pub file: String,
    /// Its size.
    pub file_bytes: u64,
    /// SHA-256 of the file, lower-case hex; null if it was not taken.
    pub file_sha256: Option<String>,
    /// Bits of all tensor data by number of weights.
    pub bits_per_weight: f64,
    /// Number of tensors of each type.
    pub tensor_types: BTreeMap<String, u64>,
    /// Why this level could not be measured; null if it was. Then `layers` is empty.
    pub error: Option<String>,
    /// One for each layer asked, in that order.
    pub layers: Vec<Layer>,
    /// Speed; null if it was not measured.
    pub speed: Option<Speed>,
    /// Memory; null if it was not measured.
    pub memory: Option<Memory>,
}

/// Quality of one layer's embeddings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Layer {
    /// `0` for the stream after block 0, .., or `final` for the output norm.
    pub layer: String,
    /// Spearman of pair cosines against labels; null if undefined (a constant side).
    pub spearman: Option<f64>,
    /// Its 95 % percentile bootstrap interval, low and high.
    pub spearman_ci95: Option<[f64; 2]>,
    /// Pearson of the same.
    pub pearson: Option<f64>,
    /// The labels as a decision; null if they are not binary or no threshold was chosen.
    pub binary: Option<Binary>,
    /// Spearman less that of the reference level; null for the reference itself.
    pub delta_spearman: Option<Delta>,
    /// Likeness to the reference level's embeddings; null for the reference itself.
    pub fidelity: Option<Fidelity>,
}

/// Binary labels told from cosines by a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Binary {
    /// Pairs with this cosine or more are called positive; chosen on `threshold_from`.
    pub threshold: f64,
    /// Share of the pairs that are called rightly.
    pub accuracy: f64,
    /// F1 of the positive label.
    pub f1: f64,
}

/// A difference to the reference level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Delta {
    /// The difference.
    pub value: f64,
    /// Its 95 % interval by paired bootstrap, low and high.
    pub ci95: Option<[f64; 2]>,
    /// Bootstrap p-value of no difference, adjusted by Holm over all levels and layers of the run.
    pub p_holm: Option<f64>,
}

/// Likeness of a level's embeddings to the reference level's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fidelity {
    /// Mean over texts of the cosine of the two embeddings.
    pub mean_cosine: Option<f64>,
    /// The smallest of these.
    pub min_cosine: Option<f64>,
    /// Spearman between the two models' pair cosines.
    pub similarity_spearman: Option<f64>,
}

/// How fast a level ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Speed {
    /// Tokens of one pass over the data set.
    pub tokens: u64,
    /// Those of them that were not computed for a text, because another one in the same chunk begins
    /// with the same tokens.
    #[serde(default)]
    pub shared_tokens: u64,
    /// Texts of one pass.
    pub sentences: u64,
    /// Wall time of one pass, the median over `repeats`; loading not counted.
    pub seconds: f64,
    /// `tokens / seconds`.
    pub tokens_per_second: f64,
    /// `seconds` by number of pairs.
    pub seconds_per_pair: f64,
    /// Wall time to open the model.
    pub load_seconds: f64,
    /// Passes that were timed.
    pub repeats: u64,
    /// Threads that ran the model.
    pub threads: u64,
    /// Device that ran it, such as `cpu` or `cuda:0`.
    pub device: String,
    /// Most tokens in one batch.
    pub batch_tokens: u64,
    /// Most texts in one batch; null for as many as fit.
    pub texts_at_once: Option<u64>,
    /// Layers that were computed: the highest asked, plus one.
    pub layers_computed: u64,
}

/// What a level needed in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Memory {
    /// Device that held it.
    pub device: String,
    /// Weights.
    pub weights_bytes: Option<u64>,
    /// Graph and activations.
    pub compute_bytes: Option<u64>,
    /// Recurrent state of all sequences in flight.
    pub state_bytes: Option<u64>,
    /// The part that is on the device; null on the CPU, and in reports of older versions.
    pub on_device: Option<OnDevice>,
    /// High-water mark of the device's memory; null on the CPU.
    pub device_peak_bytes: Option<u64>,
    /// Who counted `device_peak_bytes`; null with it.
    pub device_peak_source: Option<String>,
    /// High-water mark of resident memory while this level alone ran; mapped weights count.
    pub peak_rss_bytes: Option<u64>,
}

/// What a level held on a device, as ggml counts it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OnDevice {
    /// Layers that ran there, counted from the first.
    pub layers: u64,
    /// Bytes of the tensors there.
    pub weights_bytes: u64,
    /// Memory that holds them, padding included.
    pub weights_buffer_bytes: u64,
    /// Graph and activations.
    pub compute_bytes: u64,
    /// Recurrent state.
    pub state_bytes: u64,
    /// Operations that the device left to the CPU, by ggml's names.
    pub ops_on_cpu: Vec<String>,
    /// Layers whose second channel-mix product overflowed half precision and then ran on a smaller
    /// scale.
    pub rescaled_layers: Vec<u64>,
}

/// Another text model on the same pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Baseline {
    /// Its name: `glove`.
    pub name: String,
    /// Spearman of its similarities against the labels.
    pub spearman: Option<f64>,
    /// Its 95 % percentile bootstrap interval, low and high.
    pub spearman_ci95: Option<[f64; 2]>,
    /// Wall time for a pair, loading not counted.
    pub seconds_per_pair: Option<f64>,
    /// Share of words it does not know.
    pub oov_rate: Option<f64>,
}

/// A similarity that knows nothing of meaning, on the same pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Control {
    /// `random-token-vectors`, `word-jaccard` or `length-difference`.
    pub name: String,
    /// Spearman of its similarities against the labels; with seeds the mean over them.
    pub spearman: Option<f64>,
    /// Smallest and largest over the seeds; null without seeds.
    pub spearman_range: Option<[f64; 2]>,
    /// The seeds; empty for a control without chance.
    pub seeds: Vec<u64>,
}

impl Run {
    /// The level that the others are compared with; `None` if it failed.
    pub fn reference(&self) -> Option<&Level> {
        let mut measured = self.levels.iter().filter(|level| level.error.is_none());
        if let Some(name) = &self.reference {
            return measured.find(|level| level.preset == *name);
        }
        // Older reports: it is compared with none itself, and so are all others if it failed.
        let mut alone = measured.filter(|level| !level.is_compared());
        alone.next().filter(|_| alone.next().is_none())
    }

    /// True for the level that the others are compared with.
    pub fn is_reference(&self, level: &Level) -> bool {
        self.reference().is_some_and(|reference| reference.preset == level.preset)
    }

    /// The layer at which levels are best compared: where the reference is best. The levels' own
    /// best layers would flatter each of them. `None` if the reference failed.
    pub fn compared_layer(&self) -> Option<&str> {
        let reference = self.reference()?;
        let best = reference.best().map(|(layer, _)| layer).or(reference.layers.last())?;
        Some(&best.layer)
    }
}

impl Memory {
    /// Bytes of weights, compute and state; 0 where unknown.
    pub fn parts(&self) -> [f64; 3] {
        [self.weights_bytes, self.compute_bytes, self.state_bytes]
            .map(|bytes| bytes.unwrap_or(0) as f64)
    }
}

impl Level {
    /// The layer of this name.
    pub fn layer(&self, name: &str) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.layer == name)
    }

    /// True if it was compared with another.
    fn is_compared(&self) -> bool {
        let compared = |layer: &Layer| layer.delta_spearman.is_some() || layer.fidelity.is_some();
        self.layers.iter().any(compared)
    }

    /// The layer with the highest Spearman and that value, the first of equals; `None` if none is
    /// defined.
    pub fn best(&self) -> Option<(&Layer, f64)> {
        let defined = self.layers.iter().filter_map(|layer| Some((layer, layer.spearman?)));
        defined.reduce(|best, other| if other.1 > best.1 { other } else { best })
    }
}

impl Report {
    /// The report as indented JSON with a final line ending. A NaN or an infinity becomes null, so
    /// [`Report::check`] first: it finds those where null cannot be read back.
    #[expect(
        clippy::expect_used,
        reason = "fails on keys that are no texts only, and all keys are names of fields or types"
    )]
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("string keys and plain values");
        json.push('\n');
        json
    }

    /// Reads a report; `path` only names it in errors. Unknown fields are passed over.
    ///
    /// [`Error::Unsupported`] for another schema version, [`Error::Malformed`] for anything that
    /// is not a report or that [`Report::check`] refuses.
    pub fn from_json(path: impl AsRef<Path>, json: &str) -> Result<Self> {
        let path = path.as_ref();
        #[derive(Deserialize)]
        struct Head {
            schema_version: Option<u64>,
        }
        let head: Head = serde_json::from_str(json).map_err(|e| match e.classify() {
            Category::Data => Error::malformed(path, format!("not a report: {e}")),
            _ => Error::malformed(path, format!("not JSON: {e}")),
        })?;
        match head.schema_version {
            Some(SCHEMA_VERSION) => {}
            Some(version) => {
                let what = format!("schema version {version} is not supported (1 is)");
                return Err(Error::unsupported(path, what));
            }
            None => return Err(Error::malformed(path, "not a report: no schema_version")),
        }
        let report: Self = serde_json::from_str(json)
            .map_err(|e| Error::malformed(path, format!("not a report: {e}")))?;
        report.fault().map_or(Ok(report), |fault| Err(Error::malformed(path, fault)))
    }

    /// Checks that every number is finite and in its range, and that all levels of a run have the
    /// same layers. [`Error::SelfCheck`] names the first place that is wrong.
    pub fn check(&self) -> Result<()> {
        self.fault().map_or(Ok(()), |fault| Err(Error::self_check(fault)))
    }
}
