//! What several test programs share.
//!
//! Each of them uses a part, hence the allowance for what it leaves unused.
#![allow(dead_code)]

pub mod bytes;
pub mod fixture;
pub mod from_gguf;
pub mod gguf;
pub mod gpu;
pub mod reference;
pub mod rounding;
pub mod run;
pub mod torch;
pub mod valid;

/// How far two vectors may be apart: `max_abs` for every element, `cosine` for the whole. Both,
/// because a few wrong channels hide in a cosine, and small values all wrong hide in `max_abs`.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Largest absolute difference of two elements.
    pub max_abs: f64,
    /// Smallest cosine.
    pub cosine: f64,
}

impl Tolerance {
    /// `max_abs`, and a cosine within `max_abs` squared of one (the direction error is of second
    /// order) or within f64 rounding.
    pub fn of(max_abs: f64) -> Self {
        Self { max_abs, cosine: 1.0 - (max_abs * max_abs).max(1e-12) }
    }
}

/// Largest absolute difference of two elements; NaN if one is NaN.
pub fn max_abs_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(x, y)| (x - y).abs());
    differences.fold(0.0, |max: f64, d| if d.is_nan() || d > max { d } else { max })
}

/// Cosine of the angle between two vectors; NaN if one is zero.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Says how `found` differs from `expected`, if it does by more than `tolerance`.
pub fn difference(expected: &[f64], found: &[f64], tolerance: Tolerance) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!("{} values, expected {}", found.len(), expected.len()));
    }
    let (max_abs, cosine) = (max_abs_difference(expected, found), cosine(expected, found));
    // False for NaN elements; a NaN cosine of close vectors only means that one of them is zero.
    let close = approx::abs_diff_eq!(max_abs, 0.0, epsilon = tolerance.max_abs);
    if close && (cosine >= tolerance.cosine || cosine.is_nan()) {
        return None;
    }
    let worst = |i: &usize| {
        let d = (expected[*i] - found[*i]).abs();
        d.is_nan() || d == max_abs
    };
    let at = (0..found.len()).find(worst).expect("the largest difference is one of them");
    Some(format!(
        "max abs difference {max_abs:.3e} (allowed {:.1e}) at {at}: {} instead of {}, cosine {cosine:.12}",
        tolerance.max_abs, found[at], expected[at]
    ))
}

/// Asserts that two vectors agree.
#[track_caller]
pub fn assert_close(what: &str, expected: &[f64], found: &[f64], tolerance: Tolerance) {
    if let Some(how) = difference(expected, found, tolerance) {
        panic!("{what}: {how}");
    }
}

/// Asserts that every layer agrees, and names the first that does not. `expected` and `found`:
/// one vector a layer, the last one after the output norm.
#[track_caller]
pub fn assert_layers_close(
    what: &str,
    expected: &[Vec<f64>],
    found: &[Vec<f64>],
    tolerance: Tolerance,
) {
    assert_eq!(expected.len(), found.len(), "{what}: number of layers");
    for (il, (expected, found)) in expected.iter().zip(found).enumerate() {
        if let Some(how) = difference(expected, found, tolerance) {
            panic!("{what}: layer {il} is the first that differs: {how}");
        }
    }
}
