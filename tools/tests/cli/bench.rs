//! `rwkvq bench`: the numbers hang together, bad sizes are refused.

use rwkvq::ggml;
use serde_json::Value;

use crate::args;
use crate::workplace::{run, succeeds, Workplace};

#[test]
fn a_report_of_speed() {
    let (_place, model) = Workplace::with_gguf("q8_0");
    let args = args![
        "bench",
        model,
        "--json",
        "--layers",
        "0",
        "--batch-tokens",
        "16,64",
        "--text-tokens",
        "7",
        "--pass-tokens",
        "100",
        "--repeats",
        "3",
        "--threads",
        "1"
    ];
    let report: Value = serde_json::from_str(&succeeds(args).stdout).expect("JSON");
    assert_eq!(report["model"], "m.gguf");
    assert_eq!(report["file_bytes"], std::fs::metadata(&model).unwrap().len());
    // One of the two layers is enough for the one asked for.
    assert_eq!(report["layers_computed"], 1);
    let batches = report["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 2);
    for (batch, size) in batches.iter().zip([16, 64]) {
        assert_eq!(batch["batch_tokens"], size);
        // 15 texts of 7 tokens are the first to reach 100.
        assert_eq!(batch["tokens"], 105);
        let mut seconds: Vec<f64> =
            batch["seconds"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        assert_eq!(seconds.len(), 3);
        seconds.sort_by(f64::total_cmp);
        let rate = batch["tokens_per_s"].as_f64().unwrap();
        approx::assert_relative_eq!(rate, 105.0 / seconds[1], max_relative = 1e-9);
        // Chunks are full but for the last.
        let padding = batch["padding_share"].as_f64().unwrap();
        assert!((0.0..0.2).contains(&padding), "{padding}");
    }
    let start = &report["start"];
    let part = |name: &str| start[name].as_f64().unwrap();
    let sum = part("open_seconds") + part("tokenizer_seconds") + part("first_seconds")
        - part("steady_seconds");
    approx::assert_relative_eq!(part("start_seconds"), sum, max_relative = 1e-9);
    let has_own = ggml::format_of(ggml::TensorType::Q8_0).is_some();
    let products = report["matrix_products"].as_array().unwrap();
    assert_eq!(has_own, products.iter().any(|product| product["tensor_type"] == "q8_0"));
    assert_eq!(has_own, report["products"] == "own");
    assert_eq!(has_own, report["instructions"].is_string());
    assert_eq!(has_own, report["ceilings"]["int8_per_s"].as_f64().is_some_and(|rate| rate > 1e6));
}

#[test]
fn a_table_for_people() {
    let (_place, model) = Workplace::with_gguf("q8_0");
    let args = args![
        "bench",
        model,
        "--products",
        "ggml",
        "--batch-tokens",
        "16",
        "--pass-tokens",
        "32",
        "--repeats",
        "1"
    ];
    let text = succeeds(args).stdout;
    assert!(text.contains("m.gguf") && text.contains("products: ggml"), "{text}");
    assert!(text.contains("| batch | tokens/s |"), "{text}");
}

#[test]
fn sizes_that_measure_nothing() {
    let (_place, model) = Workplace::with_gguf("q8_0");
    for (option, value) in [
        ("--repeats", "0"),
        ("--text-tokens", "0"),
        ("--batch-tokens", "1"),
        ("--layers", "9"),
        ("--text-tokens", "100000000000"),
        ("--pass-tokens", "18446744073709551615"),
    ] {
        let outcome = run(args!["bench", model, option, value]);
        assert_eq!(outcome.code, 2, "{option} {value}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
}
