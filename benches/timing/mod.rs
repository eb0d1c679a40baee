//! What the benchmarks share: the time of a call, the middle of some numbers.

use std::time::{Duration, Instant};

/// Seconds of one call, from as many as fill `at_least`.
pub fn seconds(at_least: Duration, mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut n_calls = 0;
    while n_calls == 0 || start.elapsed() < at_least {
        call();
        n_calls += 1;
    }
    start.elapsed().as_secs_f64() / f64::from(n_calls)
}

/// The middle one, the upper of two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
