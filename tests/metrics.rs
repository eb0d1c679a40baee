//! Metrics against SciPy's answers (tests/data/metrics_golden.json, made by
//! tools/make-metrics-golden.py), and the bootstrap's promise of repeatable numbers.

use rwkvq::eval::bootstrap::{self, RESAMPLES};
use rwkvq::eval::{fidelity, metrics};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("data/metrics_golden.json")).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn cases<'a>(golden: &'a Value, key: &str) -> &'a Vec<Value> {
    let cases = golden[key].as_array().unwrap();
    assert!(!cases.is_empty(), "{key}");
    cases
}

#[test]
fn correlations_equal_scipys() {
    for case in cases(&golden(), "correlations") {
        let (x, y) = (numbers(&case["x"]), numbers(&case["y"]));
        let spearman = metrics::spearman(&x, &y).unwrap();
        let pearson = metrics::pearson(&x, &y).unwrap();
        let close = |found: f64, key: &str| {
            let expected = number(&case[key]);
            assert!((found - expected).abs() < 1e-12, "{} {key}: {found} {expected}", case["name"]);
        };
        close(spearman, "spearman");
        close(pearson, "pearson");
        assert_eq!(metrics::ranks(&x).unwrap(), numbers(&case["ranks_x"]), "{}", case["name"]);
    }
}

#[test]
fn cosines_and_quantiles_equal_numpys() {
    let golden = golden();
    for case in cases(&golden, "cosines") {
        let single = |key: &str| numbers(&case[key]).iter().map(|&x| x as f32).collect::<Vec<_>>();
        let (a, b) = (single("a"), single("b"));
        let found = metrics::cosine(&a, &b);
        assert!((found - number(&case["cosine"])).abs() < 1e-12, "n = {}", a.len());
        assert_eq!(metrics::pair_similarities(&a, &b, a.len()), [found]);
    }
    for case in cases(&golden, "quantiles") {
        let found = bootstrap::quantile(&numbers(&case["x"]), number(&case["q"])).unwrap();
        assert!((found - number(&case["quantile"])).abs() < 1e-14, "q = {}", case["q"]);
    }
    assert_eq!(bootstrap::quantile(&[], 0.5), None);
}

/// The ends of an interval of 10,000 resamples scatter by about 0.001 from seed to seed here.
#[test]
fn intervals_agree_with_scipys_bootstrap() {
    for case in cases(&golden(), "intervals") {
        let (x, other, y) = (numbers(&case["x"]), numbers(&case["other"]), numbers(&case["y"]));
        let found = bootstrap::spearman_interval(&x, &y, RESAMPLES, 1).unwrap();
        let gap = bootstrap::spearman_difference(&x, &other, &y, RESAMPLES, 1).unwrap();
        assert!((gap.value - number(&case["difference"])).abs() < 1e-12);
        for (found, key) in [(found, "spearman_ci95"), (gap.ci95, "difference_ci95")] {
            for (found, expected) in found.iter().zip(numbers(&case[key])) {
                assert!(
                    (found - expected).abs() < 0.006,
                    "{} {key}: {found} {expected}",
                    case["name"]
                );
            }
        }
    }
}

/// SciPy's correlations of the very resamples that the seed draws: no scatter is allowed for.
#[test]
fn a_seeds_intervals_equal_scipys_on_the_same_resamples() {
    for case in cases(&golden(), "seeded_intervals") {
        let (x, other, y) = (numbers(&case["x"]), numbers(&case["other"]), numbers(&case["y"]));
        let resamples = case["resamples"].as_u64().unwrap() as usize;
        let seed = case["seed"].as_u64().unwrap();
        let own = bootstrap::spearman_interval(&x, &y, resamples, seed).unwrap();
        let gap = bootstrap::spearman_difference(&x, &other, &y, resamples, seed).unwrap();
        for (found, key) in [(own, "spearman_ci95"), (gap.ci95, "difference_ci95")] {
            for (found, expected) in found.iter().zip(numbers(&case[key])) {
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{} {key}: {found} {expected}",
                    case["name"]
                );
            }
        }
    }
}

#[test]
fn holm_equals_the_closed_test_it_shortcuts() {
    for case in cases(&golden(), "holm") {
        let found = bootstrap::holm(&numbers(&case["p"]));
        let expected = numbers(&case["adjusted"]);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-15, "{}: {found} {expected}", case["p"]);
        }
    }
}

#[test]
fn the_bootstrap_does_not_depend_on_threads_but_on_the_seed() {
    let golden = golden();
    let case = &cases(&golden, "intervals")[0];
    let (x, other, y) = (numbers(&case["x"]), numbers(&case["other"]), numbers(&case["y"]));
    let run = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let interval = bootstrap::spearman_interval(&x, &y, 997, seed).unwrap();
            (interval, bootstrap::spearman_difference(&x, &other, &y, 997, seed).unwrap())
        })
    };
    let one = run(1, 7);
    assert_eq!(one, run(3, 7));
    assert_eq!(one, run(8, 7));
    assert_ne!(one, run(1, 8));
}

#[test]
fn undefined_intervals_are_none() {
    assert_eq!(bootstrap::spearman_interval(&[0.5; 9], &[1.0; 9], 100, 0), None);
    assert_eq!(bootstrap::spearman_interval(&[], &[], 100, 0), None);
    assert_eq!(bootstrap::spearman_interval(&[1.0, f64::NAN], &[0.0, 1.0], 100, 0), None);
    assert_eq!(bootstrap::spearman_interval(&[1.0, 2.0], &[0.0, 1.0], 0, 0), None);
    // Half of the resamples of two pairs have no spread; the rest all say 1.
    assert_eq!(bootstrap::spearman_interval(&[1.0, 2.0], &[0.0, 1.0], 100, 0), Some([1.0, 1.0]));
}

#[test]
fn a_difference_is_found_where_there_is_one_and_not_where_there_is_none() {
    let y: Vec<f64> = (0..300).map(|i| f64::from(i % 2)).collect();
    let noise = |i: i32, k: i32| f64::from((i * k) % 101) / 101.0;
    let good: Vec<f64> = (0..300).map(|i| f64::from(i % 2) + noise(i, 37)).collect();
    let poor: Vec<f64> = (0..300).map(|i| 0.2 * f64::from(i % 2) + noise(i, 53)).collect();
    let gap = bootstrap::spearman_difference(&good, &poor, &y, RESAMPLES, 5).unwrap();
    assert!(gap.ci95[0] > 0.0 && gap.p_value < 0.001, "{gap:?}");
    let none = bootstrap::spearman_difference(&good, &good, &y, RESAMPLES, 5).unwrap();
    assert_eq!((none.value, none.ci95, none.p_value), (0.0, [0.0, 0.0], 1.0));
}

#[test]
fn fidelity_sees_a_small_move_that_keeps_the_order() {
    let reference: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin()).collect();
    let moved: Vec<f32> = reference.iter().map(|x| (x * 50.0).round() / 50.0).collect();
    let found = fidelity::embedding_fidelity(&reference, &moved, 16).unwrap();
    assert!(found.min_cosine < found.mean_cosine && found.mean_cosine < 1.0, "{found:?}");
    assert!(found.min_cosine > 0.999, "{found:?}");
    assert_eq!(fidelity::similarity_spearman(&[0.1, 0.5, 0.9], &[0.2, 0.3, 0.8]), Some(1.0));
}

/// The formula of docs/evaluation.md, and the value that similarities in the order of the labels
/// reach.
#[test]
fn ties_in_the_labels_keep_spearman_below_one() {
    for (n, k, known) in [(408, 279, 0.805), (3668, 2474, 0.812), (1000, 500, 0.866)] {
        let labels: Vec<f64> = (0..n).map(|i| f64::from(i >= n - k)).collect();
        let found = metrics::max_spearman(&labels).unwrap();
        let (n, k) = (f64::from(n), f64::from(k));
        approx::assert_abs_diff_eq!(
            found,
            (3.0 * k * (n - k) / (n * n - 1.0)).sqrt(),
            epsilon = 1e-14
        );
        approx::assert_abs_diff_eq!(found, known, epsilon = 5e-4);
        let ordered: Vec<f64> = (0..labels.len()).map(|i| i as f64).collect();
        let reached = metrics::spearman(&ordered, &labels).unwrap();
        approx::assert_abs_diff_eq!(found, reached, epsilon = 1e-12);
    }
    assert_eq!(metrics::max_spearman(&[3.0, 1.0, 2.0]), Some(1.0));
    assert_eq!(metrics::max_spearman(&[1.0, 1.0]), None);
    assert_eq!(metrics::max_spearman(&[]), None);
}
