//! Similarity and correlation, in f64 over slices.
//!
//! In: numbers. Out: one number, or `None` where the quantity is undefined, so that a report says
//! null and never NaN. Uses nothing of this crate.

/// The median; of an even number of values the greater of the two in the middle. `None` of none.
pub fn upper_median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Cosine of the angle between two vectors.
///
/// `cos(a, b) = sum a_i b_i / sqrt(sum a_i^2 * sum b_i^2)`, cut to `[-1, 1]`
///
/// A zero vector has no direction: its cosine to anything is 0, so that a text of unknown words
/// only counts as unlike everything. Equal vectors give exactly 1. The sums of squares must lie
/// within 1e-150 and 1e150, which all f32 vectors do; a NaN or an infinite entry gives NaN.
/// Panics if the lengths differ.
pub fn cosine<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    assert_eq!(a.len(), b.len(), "cosine of vectors of different length");
    let (mut ab, mut aa, mut bb) = (0.0f64, 0.0f64, 0.0f64);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y): (f64, f64) = (x.into(), y.into());
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    cosine_of_sums(ab, aa, bb)
}

/// [`cosine`] from `sum a_i b_i`, `sum a_i^2` and `sum b_i^2`.
pub(super) fn cosine_of_sums(ab: f64, aa: f64, bb: f64) -> f64 {
    if aa == 0.0 || bb == 0.0 {
        return 0.0;
    }
    (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0)
}

/// Cosines of row `i` of `a` and row `i` of `b`, two matrices `[n][n_embd]`: the similarity of
/// each pair of texts.
///
/// Panics if the sizes differ or are no multiple of `n_embd`.
pub fn pair_similarities(a: &[f32], b: &[f32], n_embd: usize) -> Vec<f64> {
    assert_eq!(a.len(), b.len(), "similarities of matrices of different size");
    assert!(
        n_embd > 0 && a.len().is_multiple_of(n_embd),
        "{} values are no rows of {n_embd}",
        a.len()
    );
    a.chunks_exact(n_embd).zip(b.chunks_exact(n_embd)).map(|(a, b)| cosine(a, b)).collect()
}

/// Pearson's correlation.
///
/// `r = sum (x_i - mx)(y_i - my) / sqrt(sum (x_i - mx)^2 * sum (y_i - my)^2)`, cut to `[-1, 1]`
///
/// `None` for fewer than two points, for a constant input and where a value is not finite. Panics
/// if the lengths differ.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "correlation of slices of different length");
    let dx = deviations(x)?;
    let dy = deviations(y)?;
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let r = sum(&dx, &dy) / (sum(&dx, &dx) * sum(&dy, &dy)).sqrt();
    r.is_finite().then(|| r.clamp(-1.0, 1.0))
}

/// Spearman's rank correlation: [`pearson`] of the [`ranks`].
///
/// `None` where Pearson's would be.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    pearson(&ranks(x)?, &ranks(y)?)
}

/// The largest [`spearman`] that any `x` without ties can have with `y`: below 1 where `y` has ties,
/// as each tie group of size `t` costs variance of its ranks.
///
/// `rho_max = sqrt(1 - sum over groups (t^3 - t) / (n^3 - n))`, which an `x` reaches that orders the
/// pairs as `y` does. With a share `p` of ones in a binary `y` it is about `sqrt(3 p (1 - p))`.
///
/// `None` if `y` is constant, shorter than two or has a NaN.
pub fn max_spearman(y: &[f64]) -> Option<f64> {
    let (_, sizes) = tie_groups(y)?;
    let cubed = |t: usize| (t as f64).powi(3) - t as f64;
    let lost: f64 = sizes.iter().map(|&size| cubed(size)).sum();
    (sizes.len() > 1).then(|| (1.0 - lost / cubed(y.len())).sqrt())
}

/// Ranks from 1; equal values share the mean of their ranks. `None` if a value is NaN.
///
/// `rank_i = #{x_j < x_i} + (#{x_j = x_i} + 1) / 2`
pub fn ranks(x: &[f64]) -> Option<Vec<f64>> {
    let (group, sizes) = tie_groups(x)?;
    let mut below = 0;
    let rank_of_group: Vec<f64> = sizes
        .iter()
        .map(|&size| {
            let rank = below as f64 + (size as f64 + 1.0) / 2.0;
            below += size;
            rank
        })
        .collect();
    Some(group.iter().map(|&g| rank_of_group[g]).collect())
}

/// For each value the index of its tie group, groups in ascending order of value, and the size of
/// each group. `None` if a value is NaN.
pub(super) fn tie_groups(x: &[f64]) -> Option<(Vec<usize>, Vec<usize>)> {
    if x.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_unstable_by(|&i, &j| x[i].total_cmp(&x[j]));
    let mut group = vec![0; x.len()];
    let mut sizes: Vec<usize> = Vec::new();
    let mut last = None;
    for i in order {
        // -0 and 0 sort next to each other and compare equal: one group.
        if last != Some(x[i]) {
            sizes.push(0);
            last = Some(x[i]);
        }
        let g = sizes.len() - 1;
        sizes[g] += 1;
        group[i] = g;
    }
    Some((group, sizes))
}

/// Deviations from the mean, divided by the largest so that their squares neither overflow nor
/// vanish. `None` if there is no spread.
fn deviations(x: &[f64]) -> Option<Vec<f64>> {
    let first = *x.first()?;
    // Compared directly: the mean of equal values may differ from them by rounding.
    if x.iter().all(|&value| value == first) || x.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mean = x.iter().map(|value| value / x.len() as f64).sum::<f64>();
    let largest = x.iter().map(|value| (value - mean).abs()).fold(0.0, f64::max);
    Some(x.iter().map(|value| (value - mean) / largest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_of_zero_and_of_equal_vectors() {
        assert_eq!(cosine(&[0.0f32, 0.0], &[1.0, 2.0]), 0.0);
        let v = [0.1f32, -3.7, 12.9];
        assert_eq!(cosine(&v, &v), 1.0);
        assert_eq!(cosine(&v, &v.map(|x| -x)), -1.0);
        assert_eq!(cosine(&[1.0f32, 0.0], &[0.0, 5.0]), 0.0);
        assert!(cosine(&[f32::NAN], &[1.0]).is_nan());
        assert_eq!(cosine(&[f32::MAX; 4], &[f32::MAX; 4]), 1.0);
    }

    #[test]
    fn ties_share_the_mean_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 0.0, -0.0]).unwrap(), [4.5, 3.0, 4.5, 1.5, 1.5]);
        assert_eq!(ranks(&[f64::INFINITY, 0.0, f64::NEG_INFINITY]).unwrap(), [3.0, 2.0, 1.0]);
        assert!(ranks(&[]).unwrap().is_empty());
        assert!(ranks(&[1.0, f64::NAN]).is_none());
    }

    #[test]
    fn undefined_correlations_are_none() {
        assert_eq!(pearson(&[0.1; 3], &[1.0, 2.0, 3.0]), None);
        assert_eq!(pearson(&[1.0], &[1.0]), None);
        assert_eq!(pearson(&[], &[]), None);
        assert_eq!(pearson(&[1.0, f64::INFINITY], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[1.0, f64::INFINITY], &[1.0, 2.0]), Some(1.0));
    }

    #[test]
    fn scale_does_not_matter() {
        let y = [1.0, 0.0, 2.0, 5.0];
        let r = pearson(&[1.0, 2.0, 3.0, 4.5], &y).unwrap();
        for scale in [1e-290, 1e290] {
            let x = [1.0, 2.0, 3.0, 4.5].map(|v| v * scale);
            assert!((pearson(&x, &y).unwrap() - r).abs() < 1e-12, "{scale}");
        }
    }
}
