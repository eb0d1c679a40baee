//! Two reports side by side: what is matched, and the intervals of the differences.

#[path = "common/report.rs"]
mod sample;

use std::collections::BTreeMap;

use rwkvq::eval::bootstrap::{self, RESAMPLES};
use rwkvq::eval::compare::compare;
use rwkvq::eval::kept::{LevelScores, RunScores, Scores};
use rwkvq::eval::metrics;
use rwkvq::eval::report::Report;
use sample::report;

/// The sample, in which `level` and layer `layer` fell by `by`.
fn fallen(level: usize, layer: usize, by: f64) -> Report {
    let mut report = report();
    let layer = &mut report.runs[0].levels[level].layers[layer];
    layer.spearman = layer.spearman.map(|rho| rho - by);
    report
}

#[test]
fn differences_are_of_the_same_level_and_layer() {
    let found = compare(&report(), &fallen(1, 0, 0.02), None);
    let rows: Vec<_> = found.rows.iter().map(|r| (r.level.as_str(), r.layer.as_str())).collect();
    assert_eq!(rows, [("f16", "1"), ("f16", "final"), ("q4_k", "1"), ("q4_k", "final")]);
    assert!(found.missing.is_empty());
    let worst = found.worst().unwrap();
    assert_eq!((worst.level.as_str(), worst.layer.as_str()), ("q4_k", "1"));
    assert!((worst.difference + 0.02).abs() < 1e-12);
    // Both intervals are 0.2 wide: half widths add as squares.
    let half = 0.02f64.sqrt();
    let [low, high] = worst.ci95.unwrap();
    assert!((low + 0.02 + half).abs() < 1e-12 && (high + 0.02 - half).abs() < 1e-12);
    let text = found.render();
    assert!(
        text.contains("| mrpc dev, paper protocol |  q4_k |     1 | 0.3700 | 0.3500 |"),
        "{text}"
    );
    assert!(text.contains("-0.0200"), "{text}");
}

#[test]
fn what_the_second_lacks_is_named() {
    let missing = |change: fn(&mut Report)| {
        let mut second = report();
        change(&mut second);
        compare(&report(), &second, None).missing
    };
    let run = "mrpc dev, paper protocol";
    assert_eq!(missing(|r| r.runs[0].protocol = "native".into()), [run]);
    assert_eq!(missing(|r| r.runs[0].dataset.file_sha256 = "0".into()), [run]);
    assert_eq!(missing(|r| r.runs[0].dataset.n_pairs = 500), [run]);
    let level = format!("{run}, q4_k");
    assert_eq!(missing(|r| drop(r.runs[0].levels.pop())), std::slice::from_ref(&level));
    let fail = |r: &mut Report| {
        r.runs[0].levels[1].error = Some("out of memory".into());
        r.runs[0].levels[1].layers.clear();
    };
    assert_eq!(missing(fail), std::slice::from_ref(&level));
    assert_eq!(
        missing(|r| r.runs[0].levels[1].layers[0].spearman = None),
        [format!("{level}, layer 1")]
    );
    assert!(missing(|r| r.runs[0].levels.reverse()).is_empty());
}

#[test]
fn what_was_not_measured_alike_is_named() {
    assert!(compare(&report(), &report(), None).unlike.is_empty());
    let mut second = report();
    second.pooling = "last".into();
    second.runs[0].tokenizer.ids_sha256 = Some("4567".into());
    let found = compare(&report(), &second, None);
    let expected = [
        "pooling: mean and last",
        "mrpc dev, paper protocol, token ids of gpt2 of 50257 tokens and others of gpt2 of 50257 \
         tokens",
    ];
    assert_eq!(found.unlike, expected);
    assert_eq!(found.rows.len(), 4, "the numbers are shown all the same");
    assert!(found.render().contains("not measured alike: pooling: mean and last\n"));
    // Older reports tell the kind and the size alone.
    second.runs[0].tokenizer.ids_sha256 = None;
    assert_eq!(compare(&report(), &second, None).unlike, expected[..1]);
    second.runs[0].tokenizer.vocab_size = 9;
    assert_eq!(compare(&report(), &second, None).unlike.len(), 2);
}

#[test]
fn single_levels_are_compared_whatever_they_are_called() {
    let (mut first, mut second) = (report(), report());
    first.runs[0].levels.truncate(1);
    second.runs[0].levels.remove(0);
    let found = compare(&first, &second, None);
    assert_eq!((found.rows.len(), found.rows[0].level.as_str()), (2, "f16 / q4_k"));
}

/// Scores of 408 pairs that follow their labels, the less the more `noise`.
fn scores(noise: f64) -> Scores {
    let labels: Vec<f64> = (0..408).map(|i| f64::from(i % 3 % 2)).collect();
    let wave = |i: usize| (i as f64 * 12.9898).sin() * 43758.5453 % 1.0;
    let list: Vec<f64> =
        labels.iter().enumerate().map(|(i, y)| 0.3 * y + wave(i) + noise * wave(i + 999)).collect();
    let layers = ["1", "final"].map(|layer| (layer.to_string(), list.clone()));
    let level = |preset: &str| LevelScores {
        preset: preset.into(),
        layers: BTreeMap::from(layers.clone()),
    };
    let run = RunScores {
        dataset: "mrpc".into(),
        file_sha256: "abcd".into(),
        protocol: "paper".into(),
        labels,
        levels: vec![level("f16"), level("q4_k")],
    };
    Scores { schema_version: 1, runs: vec![run] }
}

/// The sample with the Spearman of these scores.
fn report_of(scores: &Scores) -> Report {
    let mut report = report();
    let run = &scores.runs[0];
    for (level, kept) in report.runs[0].levels.iter_mut().zip(&run.levels) {
        for layer in &mut level.layers {
            layer.spearman = metrics::spearman(&kept.layers[&layer.layer], &run.labels);
        }
    }
    report
}

#[test]
fn kept_scores_give_paired_intervals() {
    let (a, b) = (scores(0.0), scores(0.2));
    let (first, second) = (report_of(&a), report_of(&b));
    let paired = |scores: [&Scores; 2]| {
        let rows = compare(&first, &second, Some(scores)).rows;
        rows.iter().filter(|row| row.paired).count()
    };
    let found = compare(&first, &second, Some([&a, &b]));
    let (x, y) = (&a.runs[0].levels[0].layers["1"], &b.runs[0].levels[0].layers["1"]);
    let labels = &a.runs[0].labels;
    let expected = bootstrap::spearman_difference(y, x, labels, RESAMPLES, report().seed).unwrap();
    for row in &found.rows {
        assert!(row.paired);
        assert_eq!(row.ci95, Some(expected.ci95));
    }
    let [low, high] = expected.ci95;
    let value = metrics::spearman(y, labels).unwrap() - metrics::spearman(x, labels).unwrap();
    assert!(low < value && value < high, "{low} {value} {high}");
    assert!(!found.render().contains("not paired"));
    assert_eq!(paired([&a, &b]), 4);
    // Scores in the wrong order, of one report twice, of other labels or another file pair nothing.
    for wrong in [[&b, &a], [&a, &a], [&b, &b]] {
        assert_eq!(paired(wrong), 0);
    }
    let mut other = b.clone();
    other.runs[0].labels[0] = 1.0;
    assert_eq!(paired([&a, &other]), 0);
    other = b.clone();
    other.runs[0].file_sha256 = "ef".into();
    assert_eq!(paired([&a, &other]), 0);
}

#[test]
fn kept_scores_survive_json_and_lies_are_named() {
    let kept = scores(0.1);
    let json = kept.to_json();
    assert_eq!(Scores::from_json("s.json", &json).unwrap(), kept);
    let message = |json: &str| Scores::from_json("s.json", json).unwrap_err().to_string();
    assert!(message("{}").starts_with("s.json: not kept scores: missing field"));
    let newer = json.replace("\"schema_version\": 1", "\"schema_version\": 2");
    assert_eq!(message(&newer), "s.json: schema version 2 is not supported (1 is)");
    let mut short = kept;
    short.runs[0].levels[1].layers.get_mut("final").unwrap().pop();
    assert_eq!(
        message(&short.to_json()),
        "s.json: q4_k, layer final: 407 similarities for 408 labels"
    );
}
