//! Token ids of a data set: the same for all levels of a run.

use sha2::{Digest, Sha256};

use super::dataset::{hex, Dataset, Pair};
use super::levels::Levels;
use super::report::TokenizerInfo;
use super::Protocol;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// Ids of the first and second text of each pair in turn.
pub(super) struct Ids {
    pub(super) tokenizer: TokenizerInfo,
    /// Those of the data set.
    pub(super) texts: Vec<Vec<u32>>,
    /// Those of the pairs that choose a threshold.
    pub(super) threshold_texts: Vec<Vec<u32>>,
}

/// Encodes with the protocol's tokenizer, or with the levels' own, which must then agree.
pub(super) fn encode(
    levels: &Levels,
    own: &[Option<Tokenizer>],
    protocol: &Protocol,
    dataset: &Dataset,
    threshold_from: Option<&Dataset>,
) -> Result<Ids> {
    let tokenizer = protocol.tokenizer().or(own[levels.reference].as_ref());
    let Some(tokenizer) = tokenizer else {
        return Err(Error::self_check("no tokenizer, though a reference without one was refused"));
    };
    let mut matches_model = own[levels.reference].is_some();
    let mut encode = |dataset: &Dataset| {
        let ids = encode_with(tokenizer, dataset, levels.n_vocab)?;
        if let Some((level, pair)) = differing_level(own, tokenizer, dataset, &ids) {
            if protocol.tokenizer().is_none() {
                return Err(other_tokenizer(levels, level, dataset, pair));
            }
            matches_model = false;
        }
        Ok(ids)
    };
    let texts = encode(dataset)?;
    let threshold_texts = threshold_from.map(encode).transpose()?.unwrap_or_default();
    let tokenizer = TokenizerInfo {
        kind: tokenizer.kind().to_string(),
        vocab_size: tokenizer.n_tokens() as u64,
        matches_model,
        ids_sha256: Some(hash(&texts)),
    };
    Ok(Ids { tokenizer, texts, threshold_texts })
}

/// Token ids of all texts: each has some, none of them beyond the models' tables.
fn encode_with(tokenizer: &Tokenizer, dataset: &Dataset, n_vocab: usize) -> Result<Vec<Vec<u32>>> {
    let mut ids = Vec::with_capacity(2 * dataset.pairs.len());
    for (i, pair) in dataset.pairs.iter().enumerate() {
        let place = |what: String| format!("pair {}: {what}", i + 1);
        let fault = |what: String| Error::malformed(&dataset.path, place(what));
        for text in texts(pair) {
            let of_text = tokenizer.encode(text).map_err(|e| fault(e.to_string()))?;
            if of_text.is_empty() {
                return Err(fault(format!(
                    "the {} tokenizer makes no token of a text; take the pair out",
                    tokenizer.kind()
                )));
            }
            if let Some(id) = of_text.iter().find(|&&id| id as usize >= n_vocab) {
                let what = place(format!(
                    "token id {id} of the {} tokenizer, but the model has 0 to {}; take the \
                     tokenizer that the model was made for (--protocol native)",
                    tokenizer.kind(),
                    n_vocab - 1
                ));
                return Err(Error::argument(format!("{}: {what}", dataset.path.display())));
            }
            ids.push(of_text);
        }
    }
    Ok(ids)
}

/// The first level whose own tokenizer does not give the `ids` that `used` gave, and the first pair
/// where. A model without a tokenizer cannot disagree.
fn differing_level(
    own: &[Option<Tokenizer>],
    used: &Tokenizer,
    dataset: &Dataset,
    ids: &[Vec<u32>],
) -> Option<(usize, usize)> {
    own.iter().enumerate().find_map(|(level, own)| {
        let own = own.as_ref().filter(|own| !own.is_same(used))?;
        let mut texts = dataset.pairs.iter().flat_map(texts).zip(ids);
        let differs =
            |(text, ids): (&String, &Vec<u32>)| own.encode(text).ok().as_ref() != Some(ids);
        texts.position(differs).map(|text| (level, text / 2))
    })
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

fn hash(texts: &[Vec<u32>]) -> String {
    let mut hasher = Sha256::new();
    for ids in texts {
        hasher.update((ids.len() as u32).to_le_bytes());
        ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
    }
    hex(&hasher.finalize())
}

fn texts(pair: &Pair) -> [&String; 2] {
    [&pair.a, &pair.b]
}
