//! The report: to JSON and back, what is refused, the terminal table, and the peak memory it quotes.

#[path = "common/report.rs"]
mod sample;

use rwkvq::eval::report::*;
use rwkvq::eval::{rss, table};
use rwkvq::Error;
use sample::{layer, report};
use serde_json::Value;

#[test]
fn a_report_survives_json_bit_for_bit() {
    let mut report = report();
    report.runs[0].levels[0].layers[0].spearman = Some(0.1 + 0.2);
    report.runs[0].levels[1].layers[0].pearson = Some(-5e-324);
    report.check().unwrap();
    let json = report.to_json();
    assert_eq!(Report::from_json("r.json", &json).unwrap(), report);
    assert!(json.ends_with("}\n"));
}

/// The names are a promise to other programs: a renamed field must fail here.
#[test]
fn the_json_has_the_published_names_in_order() {
    let json: Value = serde_json::from_str(&report().to_json()).unwrap();
    let keys = |pointer: &str| -> String {
        let object = json.pointer(pointer).unwrap().as_object().unwrap();
        object.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    for (pointer, expected) in [
        ("", "schema_version created tool host command pooling seed warnings runs"),
        ("/tool", "name version ggml"),
        ("/host", "cpu cores isa ram_bytes os gpu"),
        ("/runs/0", "dataset protocol tokenizer threshold_from reference levels baselines controls"),
        ("/runs/0/dataset", "name split file_sha256 n_pairs n_positive max_spearman text_variant"),
        ("/runs/0/threshold_from", "name split file_sha256 n_pairs"),
        ("/runs/0/levels/0/layers/0/binary", "threshold accuracy f1"),
        ("/runs/0/tokenizer", "kind vocab_size matches_model ids_sha256"),
        (
            "/runs/0/levels/0",
            "preset file file_bytes file_sha256 bits_per_weight tensor_types error layers speed memory",
        ),
        (
            "/runs/0/levels/1/layers/1",
            "layer spearman spearman_ci95 pearson binary delta_spearman fidelity",
        ),
        ("/runs/0/levels/1/layers/1/delta_spearman", "value ci95 p_holm"),
        ("/runs/0/levels/1/layers/1/fidelity", "mean_cosine min_cosine similarity_spearman"),
        (
            "/runs/0/levels/0/speed",
            "tokens shared_tokens sentences seconds tokens_per_second seconds_per_pair load_seconds repeats \
             threads device batch_tokens texts_at_once layers_computed",
        ),
        (
            "/runs/0/levels/0/memory",
            "device weights_bytes compute_bytes state_bytes on_device device_peak_bytes \
             device_peak_source peak_rss_bytes",
        ),
        ("/runs/0/baselines/0", "name spearman spearman_ci95 seconds_per_pair oov_rate"),
        ("/runs/0/controls/0", "name spearman spearman_range seeds"),
    ] {
        assert_eq!(keys(pointer), expected, "{pointer}");
    }
    assert_eq!(json.pointer("/runs/0/controls/1/spearman"), Some(&Value::Null));
}

#[test]
fn inconsistent_reports_are_refused_with_the_place() {
    type Spoil = fn(&mut Report);
    let cases: [(Spoil, &str); 23] = [
        (|r| r.runs.clear(), "runs is empty"),
        (|r| r.schema_version = 2, "schema_version is 2, expected 1"),
        (|r| r.runs = vec![r.runs[0].clone(); 1001], "1001 runs, at most 1000 allowed"),
        (
            |r| r.runs[0].levels = vec![r.runs[0].levels[0].clone(); 50_001],
            "100002 layers, at most 100000 allowed",
        ),
        (
            |r| r.runs[0].dataset.name = "n".repeat(513),
            "runs[0].dataset.name: 513 bytes, at most 512 allowed",
        ),
        (|r| r.runs[0].levels.clear(), "runs[0].levels is empty"),
        (|r| r.runs[0].reference = Some("f32".into()), "runs[0].reference: no level \"f32\""),
        (
            |r| r.runs[0].levels[1].preset = "f16".into(),
            "runs[0].levels[1]: level \"f16\" occurs twice",
        ),
        (|r| r.runs[0].dataset.n_pairs = 0, "runs[0].dataset.n_pairs is 0"),
        (
            |r| r.runs[0].dataset.n_positive = Some(409),
            "runs[0].dataset.n_positive is larger than n_pairs (408)",
        ),
        (
            |r| drop(r.runs[0].levels[1].layers.pop()),
            "runs[0].levels[1].layers: expected [\"1\", \"final\"] as in the first, found [\"1\"]",
        ),
        (|r| r.runs[0].levels[0].layers.clear(), "runs[0].levels[0].layers is empty"),
        (
            |r| r.runs[0].levels[0].error = Some("out of memory".into()),
            "runs[0].levels[0].layers is not empty despite an error",
        ),
        (
            |r| r.runs[0].levels[0].layers[1].layer = "1".into(),
            "runs[0].levels[0].layers[1]: layer \"1\" occurs twice",
        ),
        (
            |r| r.runs[0].levels[0].layers[0].layer = "01".into(),
            "runs[0].levels[0].layers[0].layer: expected a number or \"final\", found \"01\"",
        ),
        (
            |r| r.runs[0].levels[0].layers[0].spearman = Some(f64::NAN),
            "runs[0].levels[0].layers[0].spearman: NaN is not within -1..=1",
        ),
        (
            |r| r.runs[0].levels[0].layers[0].spearman_ci95 = Some([0.3, 0.2]),
            "runs[0].levels[0].layers[0].spearman_ci95: 0.3 is larger than 0.2",
        ),
        (
            |r| r.runs[0].levels[0].layers[0].binary.as_mut().unwrap().f1 = 1.5,
            "runs[0].levels[0].layers[0].binary.f1: 1.5 is not within 0..=1",
        ),
        (
            |r| r.runs[0].levels[1].bits_per_weight = f64::INFINITY,
            "runs[0].levels[1].bits_per_weight: inf is not a size or a time",
        ),
        (
            |r| r.runs[0].levels[1].speed.as_mut().unwrap().tokens_per_second = f64::NAN,
            "runs[0].levels[1].speed.tokens_per_second: NaN is not a size or a time",
        ),
        (
            |r| r.runs[0].levels[1].memory.as_mut().unwrap().device_peak_bytes = Some(1),
            "runs[0].levels[1].memory: device_peak_bytes and device_peak_source go together",
        ),
        (
            |r| r.runs[0].baselines[0].oov_rate = Some(1.5),
            "runs[0].baselines[0].oov_rate: 1.5 is not within 0..=1",
        ),
        (
            |r| r.runs[0].controls[0].seeds.clear(),
            "runs[0].controls[0].spearman_range without seeds",
        ),
    ];
    for (spoil, expected) in cases {
        let mut spoilt = report();
        spoil(&mut spoilt);
        let message = spoilt.check().unwrap_err().to_string();
        assert_eq!(message, format!("self-check failed: {expected}"));
        // An undefined correlation is null in JSON: the one fault that writing mends.
        let is_read = Report::from_json("r.json", &spoilt.to_json()).is_ok();
        assert_eq!(is_read, expected.contains("spearman: NaN"), "{expected}");
    }
}

#[test]
fn files_that_are_no_report_are_refused() {
    let json = report().to_json();
    let read = |text: &str| Report::from_json("dir/r.json", text);
    for (text, expected) in [
        (String::new(), "not JSON: EOF while parsing a value at line 1 column 0"),
        (json[..json.len() / 2].to_string(), "not JSON: "),
        ("{}".to_string(), "not a report: no schema_version"),
        ("[]".to_string(), "not a report: invalid length 0"),
        ("{\"schema_version\": 1.5}".to_string(), "not a report: invalid type: floating point"),
        ("{\"schema_version\": 1}".to_string(), "not a report: missing field `created`"),
        (json.replace("\"seed\": ", "\"seed\": -"), "not a report: invalid "),
        (json.replace("\"n_pairs\": 408", "\"n_pairs\": 0"), "runs[0].dataset.n_pairs is 0"),
    ] {
        let error = read(&text).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("dir/r.json: {expected}")), "{message}");
    }
    let newer = read(&json.replace("\"schema_version\": 1", "\"schema_version\": 2"));
    assert_eq!(
        newer.unwrap_err().to_string(),
        "dir/r.json: schema version 2 is not supported (1 is)"
    );
    // A later writer may add fields.
    assert!(read(&json.replacen('{', "{\"added\": {\"x\": 1.5},", 1)).is_ok());
}

#[test]
fn a_level_that_failed_is_a_row() {
    let mut report = report();
    let failed = &mut report.runs[0].levels[1];
    failed.error = Some("out of memory".into());
    failed.layers.clear();
    failed.speed = None;
    failed.memory = None;
    report.check().unwrap();
    let text = table::render(&report);
    assert!(text.contains("| q4_k  |  4.55 |     4.6 |      - |      - |"), "{text}");
    assert!(text.ends_with("q4_k: out of memory\n"), "{text}");
}

#[test]
fn the_table_is_what_it_was() {
    let text = table::render(&report());
    assert_eq!(text, include_str!("data/report_table.txt"), "found:\n{text}");
}

#[test]
fn many_layers_become_the_best_and_the_last() {
    let mut report = report();
    for (i, level) in report.runs[0].levels.iter_mut().enumerate() {
        let names = (0..12).map(|n| n.to_string()).chain(["final".to_string()]);
        let scores = names.enumerate().map(|(n, name)| {
            let distance = (n as f64 - 4.0 - i as f64).abs();
            layer(&name, 0.4 - 0.01 * distance)
        });
        level.layers = scores.collect();
    }
    report.runs[0].levels[1].layers[0].spearman = None;
    report.check().unwrap();
    let text = table::render(&report);
    assert!(text.contains("|      best |  final |"), "{text}");
    assert!(text.contains("| L4 0.4000 | 0.3200 |"), "{text}");
    assert!(text.contains("| L5 0.4000 | 0.3300 |"), "{text}");
}

#[test]
fn the_peak_rises_with_memory_and_falls_with_a_reset() {
    let Some(before) = rss::peak_bytes() else {
        println!("skipped: this system does not tell the peak");
        return;
    };
    let big = vec![1u8; 256 << 20];
    let used = rss::peak_bytes().unwrap();
    assert!(big.iter().step_by(4096).all(|&byte| byte == 1));
    assert!(used >= before && used >= 256 << 20, "{before} {used}");
    drop(big);
    if rss::reset_peak() {
        let after = rss::peak_bytes().unwrap();
        assert!(after < used, "{after} {used}");
    }
}
