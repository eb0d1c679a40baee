//! Protocols: which token ids a model sees, which pairs and layers count, how the clock runs.
//!
//! In: what the user chose. Out: the choices that follow from it. Uses `model`, `tokenizer` and the
//! shared words.

use super::dataset::{Dataset, Pair};
use crate::embed::Pooling;
use crate::error::{Error, Result};
use crate::model::LayerSelection;
use crate::tokenizer::{Tokenizer, TokenizerKind};

/// Pairs of a train split under the paper's protocol.
const PAPER_TRAIN_PAIRS: usize = 1000;
/// Layers under the paper's protocol: indices of the model's `hidden_states`.
const PAPER_LAYERS: &str = "1,3,5,7,9,11";

/// A way to measure.
#[derive(Debug, Clone)]
pub enum Protocol {
    /// All pairs, all layers, texts share matrix products; the models' own tokenizer, or another.
    Native(Option<Tokenizer>),
    /// That of arXiv 2502.14620: GPT-2's ids, the first 1000 pairs of a train split and all of any
    /// other, layers 1, 3, 5, 7, 9 and 11, the plain mean over tokens, no BOS, one text at a time.
    Paper(Tokenizer),
}

impl Protocol {
    /// The paper's protocol with GPT-2's `tokenizer`. [`Error::Argument`] for a World vocabulary,
    /// whose ids the paper did not use.
    pub fn paper(tokenizer: Tokenizer) -> Result<Self> {
        if tokenizer.kind() == TokenizerKind::World {
            let what =
                "the paper protocol takes GPT-2's ids and this is an RWKV World vocabulary; \
                        give GPT-2's encoder.json (vocab.bpe beside it) or tokenizer.json";
            return Err(Error::argument(what));
        }
        Ok(Self::Paper(tokenizer))
    }

    /// Its name in a report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Native(_) => "native",
            Self::Paper(_) => "paper",
        }
    }

    /// The tokenizer that stands in for the models' own.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        match self {
            Self::Native(tokenizer) => tokenizer.as_ref(),
            Self::Paper(tokenizer) => Some(tokenizer),
        }
    }

    /// Layers that are measured where none are asked for.
    pub fn layers(&self) -> LayerSelection {
        match self {
            Self::Native(_) => LayerSelection::all(),
            Self::Paper(_) => LayerSelection::parse(PAPER_LAYERS).expect("a list of numbers"),
        }
    }

    /// Texts that may run together; `None` for as many as fit.
    pub fn texts_at_once(&self) -> Option<usize> {
        match self {
            Self::Native(_) => None,
            Self::Paper(_) => Some(1),
        }
    }

    /// The pairs of `dataset` that count.
    pub(super) fn pairs<'a>(&self, dataset: &'a Dataset) -> &'a [Pair] {
        let n = match (self, dataset.split.as_deref()) {
            (Self::Paper(_), Some("train")) => dataset.pairs.len().min(PAPER_TRAIN_PAIRS),
            _ => dataset.pairs.len(),
        };
        &dataset.pairs[..n]
    }

    /// [`Error::Argument`] if the paper did not pool so.
    pub(super) fn check_pooling(&self, pooling: Pooling) -> Result<()> {
        match self {
            Self::Paper(_) if pooling != Pooling::Mean => Err(Error::argument(format!(
                "the paper protocol pools by mean, not {pooling}; leave --pooling out or take \
                 --protocol native"
            ))),
            _ => Ok(()),
        }
    }
}
