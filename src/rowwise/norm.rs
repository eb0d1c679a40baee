//! Mean and variance of a row.

/// Sums that run side by side, so that the order of additions is the same on every processor.
const LANES: usize = 8;

/// `out = (out - mean) / sqrt(variance + eps) * weight + bias`; sums in f64.
#[inline(always)]
pub(super) fn norm(out: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let n = out.len() as f64;
    let mean = sum(out, |x| x) / n;
    let variance = sum(out, |x| (x - mean) * (x - mean)) / n;
    let (mean, scale) = (mean as f32, (1.0 / (variance + f64::from(eps)).sqrt()) as f32);
    for (out, (weight, bias)) in out.iter_mut().zip(weight.iter().zip(bias)) {
        *out = (*out - mean) * scale * weight + bias;
    }
}

#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0f64; LANES];
    let mut parts = values.chunks_exact(LANES);
    for part in parts.by_ref() {
        for (sum, &value) in sums.iter_mut().zip(part) {
            *sum += term(f64::from(value));
        }
    }
    let mut total = 0.0;
    for &value in parts.remainder() {
        total += term(f64::from(value));
    }
    for sum in sums {
        total += sum;
    }
    total
}
