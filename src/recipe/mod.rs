//! Presets: rules that give each tensor a type, and the plan they make for one model.
//!
//! In: a preset file (JSON, one of `quant-presets/` or the user's), names and shapes of tensors.
//! Out: a [`Plan`]. Pure but for reading the preset.

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

mod layers;
mod parse;
mod plan;

use std::path::Path;

use globset::GlobMatcher;

use crate::error::{Error, Result};
use crate::ggml::TensorType;
pub use layers::LayerRange;
pub use plan::{fallback, Plan, PlanRow, PlanTensor};

/// The presets that come with the crate: name and text.
const BUILT_IN: [(&str, &str); 13] = [
    ("f32", include_str!("../../quant-presets/f32.json")),
    ("f16", include_str!("../../quant-presets/f16.json")),
    ("bf16", include_str!("../../quant-presets/bf16.json")),
    ("q8_0", include_str!("../../quant-presets/q8_0.json")),
    ("q6_k", include_str!("../../quant-presets/q6_k.json")),
    ("q5_k", include_str!("../../quant-presets/q5_k.json")),
    ("q5_k_m", include_str!("../../quant-presets/q5_k_m.json")),
    ("q5_k_s", include_str!("../../quant-presets/q5_k_s.json")),
    ("q4_k", include_str!("../../quant-presets/q4_k.json")),
    ("q4_k_m", include_str!("../../quant-presets/q4_k_m.json")),
    ("q4_k_s", include_str!("../../quant-presets/q4_k_s.json")),
    ("q3_k", include_str!("../../quant-presets/q3_k.json")),
    ("q2_k", include_str!("../../quant-presets/q2_k.json")),
];

/// A preset file may not be larger than this.
const MAX_PRESET_BYTES: u64 = 1 << 20;

/// In which order and with which ranks tensors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorLayout {
    /// As the source has them: a converter's direct output.
    Converter,
    /// As llama-quantize writes them: tensors outside the layers first, then by layer, each by
    /// name; without trailing dimensions of one.
    Quantized,
}

/// What a rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The type the source has (f32 for a tensor that was changed on the way).
    Keep,
    /// This type, where the rows allow it.
    Type(TensorType),
}

/// One rule of a recipe.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which tensors, by name in the GGUF.
    pub tensors: GlobMatcher,
    /// Which layers; all, and tensors outside of them, when absent.
    pub layers: Option<LayerRange>,
    /// Rows must be a multiple of this many weights.
    pub row_multiple_of: Option<usize>,
    /// What they become.
    pub choice: Choice,
    /// Reason, for the plan.
    pub why: String,
}

/// Rules of a preset.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Name of the preset: part of the output's file name.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Value of `general.file_type`.
    pub file_type: u32,
    /// Order and ranks of the tensors.
    pub layout: TensorLayout,
    /// Type of a matrix that no rule names.
    pub default: TensorType,
    /// First match decides.
    pub rules: Vec<Rule>,
}

impl Recipe {
    /// Names of the presets that come with the crate, widest first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The preset called `name`, in capitals or not, or the one in the file of that path.
    pub fn open(name: &str) -> Result<Self> {
        let called_so = |known: &&(&str, &str)| known.0.eq_ignore_ascii_case(name);
        if let Some((name, text)) = BUILT_IN.iter().find(called_so) {
            return parse::parse(Path::new(name), name, text);
        }
        let path = Path::new(name);
        if !path.is_file() {
            let known: Vec<_> = Self::names().collect();
            let known = known.join(", ");
            return Err(Error::argument(format!(
                "no preset {name:?}; there are {known}, or give the path of a preset file"
            )));
        }
        let size = path.metadata().map_err(|e| Error::io(path, e))?.len();
        if size > MAX_PRESET_BYTES {
            return Err(Error::malformed(
                path,
                format!("{size} bytes; a preset has at most 1 MiB"),
            ));
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            Error::malformed(path, format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to()))
        })?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        parse::parse(path, &stem.unwrap_or_default(), &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_preset_opens() {
        for name in Recipe::names() {
            let recipe = Recipe::open(name).unwrap();
            assert_eq!(recipe.name, name);
            assert!(!recipe.about.is_empty());
        }
    }

    #[test]
    fn an_unknown_preset_lists_the_known_ones() {
        let message = Recipe::open("q9_z").unwrap_err().to_string();
        assert!(message.contains("q4_k_m") && message.contains("q9_z"), "{message}");
    }
}
