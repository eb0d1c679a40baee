//! The similarity of every pair, kept so that statistics can be redone without the models.
//!
//! In: an evaluation. Out: JSON, and back. A list has one entry for each row of the data set, in
//! its order; texts are not in it. Uses `error` only.

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

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{shown, Error, Result};

/// The version of the file format that this crate writes and reads.
pub(super) const SCHEMA_VERSION: u64 = 1;

/// Similarities of all runs of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// 1; another version is not read.
    pub schema_version: u64,
    /// One for each run of the report, in its order.
    pub runs: Vec<RunScores>,
}

/// Similarities of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunScores {
    /// Name of the data set.
    pub dataset: String,
    /// SHA-256 of the whole file, lower-case hex.
    pub file_sha256: String,
    /// The protocol.
    pub protocol: String,
    /// The label of each pair.
    pub labels: Vec<f64>,
    /// One for each level that was measured.
    pub levels: Vec<LevelScores>,
}

/// Similarities of a level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelScores {
    /// The preset.
    pub preset: String,
    /// For each layer the cosine of each pair.
    pub layers: BTreeMap<String, Vec<f64>>,
}

impl Scores {
    /// The scores as JSON with a final line ending.
    #[expect(
        clippy::expect_used,
        reason = "fails on keys that are no texts only, and all keys are names of fields or layers"
    )]
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("string keys and plain values");
        json.push('\n');
        json
    }

    /// Reads scores; `path` only names them in errors. [`Error::Unsupported`] for another schema
    /// version, [`Error::Malformed`] for anything that is no such file, whose lists differ in length,
    /// or that has two levels of one name in a run.
    pub fn from_json(path: impl AsRef<Path>, json: &str) -> Result<Self> {
        let path = path.as_ref();
        let scores: Self = serde_json::from_str(json)
            .map_err(|e| Error::malformed(path, format!("not kept scores: {e}")))?;
        if scores.schema_version != SCHEMA_VERSION {
            let found = scores.schema_version;
            let what = format!("schema version {found} is not supported ({SCHEMA_VERSION} is)");
            return Err(Error::unsupported(path, what));
        }
        for run in &scores.runs {
            let mut names = HashSet::new();
            for level in &run.levels {
                if !names.insert(&level.preset) {
                    let what = format!("level \"{}\" occurs twice", shown(&level.preset));
                    return Err(Error::malformed(path, what));
                }
                let n = run.labels.len();
                if let Some((layer, list)) = level.layers.iter().find(|(_, l)| l.len() != n) {
                    let what = format!(
                        "{}, layer {}: {} similarities for {n} labels",
                        shown(&level.preset),
                        shown(layer),
                        list.len()
                    );
                    return Err(Error::malformed(path, what));
                }
            }
        }
        Ok(scores)
    }
}
