//! How sure a Spearman correlation is: percentile bootstrap over pairs.
//!
//! In: scores and labels of the same pairs. Out: 95 % intervals, paired differences, adjusted
//! p-values. Resample `i` draws from stream `i` of a ChaCha8 generator with the given seed, so the
//! result depends on the seed and the number of resamples, never on the number of threads.
//!
//! A resample is ranked anew, ties included, by counting: the values' order is known beforehand,
//! so a resample only needs to know how often each distinct value was drawn.

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::metrics::{spearman, tie_groups};

/// Resamples behind a report's intervals.
pub const RESAMPLES: usize = 10_000;

/// How far two correlations with the same labels are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// `spearman(x, y) - spearman(reference, y)`.
    pub value: f64,
    /// 95 % percentile interval of the difference.
    pub ci95: [f64; 2],
    /// Two-sided bootstrap p-value of "no difference":
    /// `min(1, 2 (1 + min(#{d <= 0}, #{d >= 0})) / (1 + resamples))`.
    pub p_value: f64,
}

/// 95 % percentile bootstrap interval of `spearman(x, y)`: the 2.5 % and 97.5 % [`quantile`]s over
/// resamples of the pairs `(x_i, y_i)`.
///
/// Resamples without spread in `x` or `y` have no correlation and are left out. `None` if the
/// correlation itself is undefined or no resample has one. Panics if the lengths differ.
pub fn spearman_interval(x: &[f64], y: &[f64], resamples: usize, seed: u64) -> Option<[f64; 2]> {
    spearman(x, y)?;
    let columns = [Ordered::new(x)?, Ordered::new(y)?];
    let rhos = resample(&columns, resamples, seed, |ranked| rho(&ranked[0], &ranked[1]));
    interval(rhos)
}

/// Paired bootstrap of `spearman(x, y) - spearman(reference, y)`: both correlations of a resample
/// are of the same drawn pairs, so what the draw does to both cancels.
///
/// `None` as in [`spearman_interval`]. Panics if the lengths differ.
pub fn spearman_difference(
    x: &[f64],
    reference: &[f64],
    y: &[f64],
    resamples: usize,
    seed: u64,
) -> Option<Difference> {
    let value = spearman(x, y)? - spearman(reference, y)?;
    let columns = [Ordered::new(x)?, Ordered::new(reference)?, Ordered::new(y)?];
    let differences = resample(&columns, resamples, seed, |ranked| {
        Some(rho(&ranked[0], &ranked[2])? - rho(&ranked[1], &ranked[2])?)
    });
    let not_above = differences.iter().filter(|&&d| d <= 0.0).count();
    let not_below = differences.iter().filter(|&&d| d >= 0.0).count();
    let p_value = 2.0 * (1 + not_above.min(not_below)) as f64 / (1 + differences.len()) as f64;
    Some(Difference { value, ci95: interval(differences)?, p_value: p_value.min(1.0) })
}

/// Quantile `q` of ascending values by linear interpolation between order statistics:
/// with `h = (n - 1) q` it is `x[floor h] + (h - floor h)(x[floor h + 1] - x[floor h])`
/// (type 7 of Hyndman and Fan 1996, the default of NumPy and R). `None` without values.
///
/// `q` is cut to `[0, 1]`.
pub fn quantile(ascending: &[f64], q: f64) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    let h = last as f64 * q.clamp(0.0, 1.0);
    let low = h.floor() as usize;
    let (a, b) = (ascending[low], ascending[(low + 1).min(last)]);
    Some(a + (h - h.floor()) * (b - a))
}

/// Holm's step-down adjustment of `m` p-values, in the order given: with `p_(1) <= p_(2) <= ..`,
/// `adjusted_(k) = max over j <= k of min(1, (m - j + 1) p_(j))` (Holm 1979).
///
/// Rejecting where the adjusted value is at most alpha keeps the chance of any false rejection at
/// alpha or less.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0f64;
    for (k, &i) in order.iter().enumerate() {
        largest = largest.max(((p_values.len() - k) as f64 * p_values[i]).min(1.0));
        adjusted[i] = largest;
    }
    adjusted
}

fn interval(mut values: Vec<f64>) -> Option<[f64; 2]> {
    values.sort_unstable_by(f64::total_cmp);
    Some([quantile(&values, 0.025)?, quantile(&values, 0.975)?])
}

/// A column of values, each known by its place among the distinct ones.
struct Ordered {
    group: Vec<usize>,
    n_groups: usize,
}

impl Ordered {
    fn new(x: &[f64]) -> Option<Self> {
        let (group, sizes) = tie_groups(x)?;
        Some(Self { group, n_groups: sizes.len() })
    }
}

/// A column of a resample: centred ranks, doubled so that they are whole numbers.
struct Ranked {
    /// `2 (rank - mean rank)` of each drawn pair.
    drawn: Vec<i64>,
    /// Sum of squares of `drawn`.
    squares: i128,
    /// Draws of each distinct value, then its centred rank.
    of_group: Vec<i64>,
}

/// `f` of each resample's ranked columns, where it is defined.
fn resample<const N: usize>(
    columns: &[Ordered; N],
    resamples: usize,
    seed: u64,
    f: impl Fn(&[Ranked; N]) -> Option<f64> + Sync,
) -> Vec<f64> {
    let n = columns[0].group.len();
    assert!(columns.iter().all(|c| c.group.len() == n), "columns of different length");
    let scratch = || (vec![0usize; n], columns.each_ref().map(Ranked::with_room_for));
    let of_each: Vec<Option<f64>> = (0..resamples as u64)
        .into_par_iter()
        .map_init(scratch, |(picks, ranked), i| {
            draw(picks, seed, i);
            for (ranked, column) in ranked.iter_mut().zip(columns) {
                ranked.fill(column, picks);
            }
            f(ranked)
        })
        .collect();
    of_each.into_iter().flatten().collect()
}

/// Draws `picks.len()` indices below `picks.len()` with replacement.
fn draw(picks: &mut [usize], seed: u64, stream: u64) {
    let n = picks.len() as u128;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    for pick in picks {
        // floor(n u / 2^64) for a uniform u below 2^64; off from uniform by less than n / 2^64.
        *pick = ((n * u128::from(rng.next_u64())) >> 64) as usize;
    }
}

impl Ranked {
    fn with_room_for(column: &Ordered) -> Self {
        Self { drawn: vec![0; column.group.len()], squares: 0, of_group: vec![0; column.n_groups] }
    }

    /// `2 (rank - (n + 1) / 2) = 2 #below + #equal - n`
    fn fill(&mut self, column: &Ordered, picks: &[usize]) {
        self.of_group.fill(0);
        for &pick in picks {
            self.of_group[column.group[pick]] += 1;
        }
        let n = picks.len() as i64;
        let mut below = 0;
        self.squares = 0;
        for count in &mut self.of_group {
            let drawn = *count;
            let rank = 2 * below + drawn - n;
            self.squares += i128::from(drawn) * i128::from(rank) * i128::from(rank);
            below += drawn;
            *count = rank;
        }
        for (rank, &pick) in self.drawn.iter_mut().zip(picks) {
            *rank = self.of_group[column.group[pick]];
        }
    }
}

/// Spearman of two ranked columns, from exact sums.
fn rho(x: &Ranked, y: &Ranked) -> Option<f64> {
    if x.squares == 0 || y.squares == 0 {
        return None;
    }
    let products: i128 =
        x.drawn.iter().zip(&y.drawn).map(|(&x, &y)| i128::from(x) * i128::from(y)).sum();
    Some(products as f64 / ((x.squares as f64) * (y.squares as f64)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_ranks_as_sorting_does() {
        let x: Vec<f64> = (0..40).map(|i| f64::from(i * 17 % 23) / 3.0).collect();
        let y: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 3)).collect();
        let columns = [Ordered::new(&x).unwrap(), Ordered::new(&y).unwrap()];
        let mut ranked = columns.each_ref().map(Ranked::with_room_for);
        let mut picks = vec![0; x.len()];
        for stream in 0..50 {
            draw(&mut picks, 3, stream);
            ranked.iter_mut().zip(&columns).for_each(|(r, c)| r.fill(c, &picks));
            let take = |v: &[f64]| picks.iter().map(|&i| v[i]).collect::<Vec<_>>();
            let expected = spearman(&take(&x), &take(&y)).unwrap();
            let found = rho(&ranked[0], &ranked[1]).unwrap();
            assert!((found - expected).abs() < 1e-12, "stream {stream}: {found} {expected}");
        }
    }

    #[test]
    fn draws_are_uniform_and_differ_by_stream() {
        let mut picks = vec![0; 10_000];
        draw(&mut picks, 1, 0);
        let low = picks.iter().filter(|&&i| i < 5_000).count();
        assert!((4_800..5_200).contains(&low), "{low}");
        let mut other = vec![0; 10_000];
        draw(&mut other, 1, 1);
        assert_ne!(picks, other);
    }

    #[test]
    fn holm_steps_down_and_keeps_the_order_given() {
        // By hand: 0.01 * 4, 0.02 * 3, max(0.06, 0.03 * 2), max(0.06, 0.5).
        let adjusted = holm(&[0.03, 0.01, 0.5, 0.02]);
        for (found, expected) in adjusted.iter().zip([0.06, 0.04, 0.5, 0.06]) {
            assert!((found - expected).abs() < 1e-15, "{adjusted:?}");
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }
}
