//! A report of two levels at two layers, with every field filled somewhere.
#![allow(dead_code)]

use std::collections::BTreeMap;

use rwkvq::eval::host;
use rwkvq::eval::report::*;

pub fn layer(name: &str, spearman: f64) -> Layer {
    Layer {
        layer: name.into(),
        spearman: Some(spearman),
        spearman_ci95: Some([spearman - 0.1, spearman + 0.1]),
        pearson: Some(spearman / 3.0),
        binary: Some(Binary { threshold: 0.98, accuracy: 0.7, f1: 0.8 }),
        delta_spearman: None,
        fidelity: None,
    }
}

pub fn level(preset: &str, bits_per_weight: f64, layers: Vec<Layer>) -> Level {
    Level {
        preset: preset.into(),
        file: format!("tiny-{preset}.gguf"),
        file_bytes: 4_567_890,
        file_sha256: Some("00ff".into()),
        bits_per_weight,
        tensor_types: BTreeMap::from([("f32".into(), 3), (preset.into(), 2)]),
        error: None,
        layers,
        speed: Some(Speed {
            tokens: 1234,
            shared_tokens: 34,
            sentences: 816,
            seconds: 0.1,
            tokens_per_second: 12340.0,
            seconds_per_pair: 0.1 / 408.0,
            load_seconds: 0.0,
            repeats: 3,
            threads: 2,
            device: "cpu".into(),
            batch_tokens: 512,
            texts_at_once: Some(1),
            layers_computed: 12,
        }),
        memory: Some(Memory {
            device: "cpu".into(),
            weights_bytes: Some(4_000_000),
            compute_bytes: Some(2_500_000),
            state_bytes: None,
            on_device: None,
            device_peak_bytes: None,
            device_peak_source: None,
            peak_rss_bytes: Some(21_000_000),
        }),
    }
}

pub fn report() -> Report {
    let mut first = layer("1", 0.37);
    first.delta_spearman = Some(Delta { value: -0.0096, ci95: Some([-0.02, 0.01]), p_holm: None });
    first.fidelity = Some(Fidelity {
        mean_cosine: Some(0.9991),
        min_cosine: None,
        similarity_spearman: Some(0.995),
    });
    let mut quantized = layer("final", 0.3571);
    quantized.delta_spearman =
        Some(Delta { value: -0.0064, ci95: Some([-0.01, 0.001]), p_holm: Some(0.25) });
    quantized.fidelity = Some(Fidelity {
        mean_cosine: Some(0.998765),
        min_cosine: Some(0.9),
        similarity_spearman: Some(0.99),
    });
    Report {
        schema_version: SCHEMA_VERSION,
        created: "2025-01-31T23:59:59Z".into(),
        tool: Tool { name: "rwkvq".into(), version: "0.1.0".into(), ggml: "0123abc".into() },
        host: host::facts(),
        command: vec!["rwkvq".into(), "eval".into(), "tiny-f16.gguf".into()],
        pooling: "mean".into(),
        seed: u64::MAX,
        warnings: vec!["the tokenizer is not the model's".into()],
        runs: vec![Run {
            dataset: DatasetInfo {
                name: "mrpc".into(),
                split: Some("dev".into()),
                file_sha256: "abcd".into(),
                n_pairs: 408,
                n_positive: Some(279),
                max_spearman: Some(0.805),
                text_variant: "hf".into(),
            },
            protocol: "paper".into(),
            tokenizer: TokenizerInfo {
                kind: "gpt2".into(),
                vocab_size: 50257,
                matches_model: false,
                ids_sha256: Some("0123".into()),
            },
            threshold_from: Some(ThresholdSource {
                name: "mrpc".into(),
                split: Some("train".into()),
                file_sha256: "ef01".into(),
                n_pairs: 1000,
            }),
            reference: Some("f16".into()),
            levels: vec![
                level("f16", 16.0, vec![layer("1", 0.3796), layer("final", 0.3635)]),
                level("q4_k", 4.55, vec![first, quantized]),
            ],
            baselines: vec![Baseline {
                name: "glove".into(),
                spearman: Some(0.4326),
                spearman_ci95: Some([0.34, 0.52]),
                seconds_per_pair: Some(1e-5),
                oov_rate: Some(0.031),
            }],
            controls: vec![
                Control {
                    name: "random-token-vectors".into(),
                    spearman: Some(0.3846),
                    spearman_range: Some([0.3754, 0.3915]),
                    seeds: vec![0, 1, 2],
                },
                Control {
                    name: "word-jaccard".into(),
                    spearman: None,
                    spearman_range: None,
                    seeds: vec![],
                },
            ],
        }],
    }
}
