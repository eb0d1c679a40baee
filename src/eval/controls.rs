//! Controls: similarities that know nothing of meaning.
//!
//! In: texts, or token ids. Out: the correlation that word overlap, random vectors or lengths alone
//! reach. A model that does not beat these has shown nothing about its embeddings.

use std::collections::{HashMap, HashSet};

use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use regex::Regex;

use super::dataset::Dataset;
use super::metrics::{cosine_of_sums, spearman};

/// Values of a random token vector: the width of the model of the study.
pub const RANDOM_DIMS: usize = 2048;
/// Seeds behind a report's random-vector control.
pub const RANDOM_SEEDS: usize = 10;
/// Dimensions that are made at a time, so that memory does not grow with the width.
const DIMS_AT_ONCE: usize = 128;

/// A control that is a fixed function of the texts.
#[derive(Debug, Clone)]
pub struct ControlResult {
    /// Similarity of each pair, in order.
    pub similarities: Vec<f64>,
    /// Spearman of the similarities against the scores.
    pub spearman: Option<f64>,
}

/// The random-vector control over several seeds.
#[derive(Debug, Clone)]
pub struct RandomResult {
    /// Spearman for each seed, in the order of the seeds.
    pub spearmans: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// The smallest and the largest.
    pub range: [f64; 2],
}

/// Overlap of the words of the two texts.
///
/// `J = |A and B| / |A or B|` over sets of words, which are runs of letters, digits (both in the
/// Unicode sense) and underscores in the lower-cased text: what `\w+` finds in Python. Two texts
/// without any word have similarity 0.
pub fn word_jaccard(dataset: &Dataset) -> ControlResult {
    let word = Regex::new(r"[\p{L}\p{N}_]+").expect("a constant pattern");
    let of_pair = |a: &str, b: &str| {
        let (a, b) = (a.to_lowercase(), b.to_lowercase());
        let a: HashSet<&str> = word.find_iter(&a).map(|m| m.as_str()).collect();
        let b: HashSet<&str> = word.find_iter(&b).map(|m| m.as_str()).collect();
        let both = a.intersection(&b).count();
        both as f64 / (a.len() + b.len() - both).max(1) as f64
    };
    control(dataset, of_pair)
}

/// How alike the lengths are, in characters.
///
/// `L = -| |a| - |b| | / (|a| + |b|)`
pub fn length_difference(dataset: &Dataset) -> ControlResult {
    control(dataset, |a, b| {
        let (a, b) = (a.chars().count() as f64, b.chars().count() as f64);
        -(a - b).abs() / (a + b)
    })
}

/// One standard-normal vector of `n_dims` values for each token id, mean-pooled over the tokens of
/// a text, cosine, Spearman against `scores`; once for each seed.
///
/// `a[i]` and `b[i]` are the token ids of pair `i`. The vector of an id depends on the seed and the
/// id alone, and only ids that occur are made. A text without tokens has similarity 0 to all.
/// `None` without seeds or where Spearman is undefined. Panics if the lengths differ.
pub fn random_token_vectors(
    a: &[Vec<u32>],
    b: &[Vec<u32>],
    scores: &[f64],
    n_dims: usize,
    seeds: &[u64],
) -> Option<RandomResult> {
    assert!(a.len() == b.len() && a.len() == scores.len(), "texts and scores of different length");
    let tokens = Tokens::new(a, b);
    let spearmans = seeds
        .iter()
        .map(|&seed| spearman(&tokens.similarities(seed, n_dims), scores))
        .collect::<Option<Vec<f64>>>()?;
    if spearmans.is_empty() {
        return None;
    }
    Some(RandomResult {
        mean: spearmans.iter().sum::<f64>() / spearmans.len() as f64,
        range: [
            spearmans.iter().copied().fold(f64::INFINITY, f64::min),
            spearmans.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ],
        spearmans,
    })
}

fn control(dataset: &Dataset, similarity: impl Fn(&str, &str) -> f64) -> ControlResult {
    let similarities: Vec<f64> =
        dataset.pairs.iter().map(|pair| similarity(&pair.a, &pair.b)).collect();
    ControlResult { spearman: spearman(&similarities, &dataset.scores()), similarities }
}

/// Token ids of the pairs, renumbered by their place in `ids`.
struct Tokens {
    ids: Vec<u32>,
    pairs: Vec<(Vec<usize>, Vec<usize>)>,
}

impl Tokens {
    fn new(a: &[Vec<u32>], b: &[Vec<u32>]) -> Self {
        let mut ids = Vec::new();
        let mut index = HashMap::new();
        let mut renumber = |text: &Vec<u32>| -> Vec<usize> {
            let place = |&id: &u32| {
                *index.entry(id).or_insert_with(|| {
                    ids.push(id);
                    ids.len() - 1
                })
            };
            text.iter().map(place).collect()
        };
        let pairs = a.iter().zip(b).map(|(a, b)| (renumber(a), renumber(b))).collect();
        Self { ids, pairs }
    }

    /// Cosine of each pair, summed over slices of the dimensions in a fixed order. A mean and a sum
    /// over tokens have the same cosine, so nothing is divided.
    fn similarities(&self, seed: u64, n_dims: usize) -> Vec<f64> {
        let mut sums = vec![[0.0f64; 3]; self.pairs.len()];
        let mut table = Vec::new();
        for (slice, start) in (0..n_dims).step_by(DIMS_AT_ONCE).enumerate() {
            let width = DIMS_AT_ONCE.min(n_dims - start);
            table.resize(self.ids.len() * width, 0.0f32);
            table
                .par_chunks_mut(width)
                .zip(&self.ids)
                .for_each(|(row, &id)| fill(row, seed, id, slice as u64));
            sums.par_iter_mut().zip(&self.pairs).for_each(|(sums, (a, b))| {
                let a = pooled(&table, a, width);
                let b = pooled(&table, b, width);
                for (x, y) in a.iter().zip(&b) {
                    sums[0] += x * y;
                    sums[1] += x * x;
                    sums[2] += y * y;
                }
            });
        }
        sums.into_iter().map(|[ab, aa, bb]| cosine_of_sums(ab, aa, bb)).collect()
    }
}

/// Slice `slice` of the vector of `id`: its own stream of the seed's generator.
fn fill(row: &mut [f32], seed: u64, id: u32, slice: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((slice << 32) | u64::from(id));
    row.fill_with(|| StandardNormal.sample(&mut rng));
}

fn pooled(table: &[f32], tokens: &[usize], width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    for &token in tokens {
        let row = &table[token * width..][..width];
        sum.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_its_vector_whatever_else_occurs() {
        let alone = Tokens::new(&[vec![5, 9]], &[vec![9, 7]]).similarities(1, 300);
        let among =
            Tokens::new(&[vec![100, 3], vec![5, 9]], &[vec![7], vec![9, 7]]).similarities(1, 300);
        assert_eq!(alone[0], among[1]);
        assert_ne!(alone, Tokens::new(&[vec![5, 9]], &[vec![9, 7]]).similarities(2, 300));
    }

    #[test]
    fn vectors_are_standard_normal_and_independent() {
        let mut x = vec![0.0; 20_000];
        let mut y = vec![0.0; 20_000];
        fill(&mut x, 4, 11, 0);
        fill(&mut y, 4, 12, 0);
        let mean = |f: &dyn Fn(f64, f64) -> f64| {
            let terms = x.iter().zip(&y).map(|(&x, &y)| f(f64::from(x), f64::from(y)));
            terms.sum::<f64>() / x.len() as f64
        };
        // Five standard errors of 20,000 draws.
        assert!(mean(&|x, _| x).abs() < 0.036);
        assert!((mean(&|x, _| x * x) - 1.0).abs() < 0.05);
        assert!(mean(&|x, y| x * y).abs() < 0.036);
    }

    #[test]
    fn equal_texts_are_1_and_empty_ones_0() {
        let a = [vec![1, 2], vec![], vec![3]];
        let b = [vec![2, 1], vec![1], vec![3]];
        let similarities = Tokens::new(&a, &b).similarities(0, 200);
        assert!((similarities[0] - 1.0).abs() < 1e-12);
        assert_eq!(similarities[1..], [0.0, 1.0]);
    }
}
