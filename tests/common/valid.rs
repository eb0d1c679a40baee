//! Valid files of the kinds that the program reads, to be changed by tests and fuzzers.

use std::fs;

use rwkvq::checkpoint::random::Spec;
use rwkvq::eval::{self, Dataset, EvalOptions, LevelFile};
use rwkvq::Silent;

use super::{fixture, run};

pub const PAIRS: &str = "score\tsentence1\tsentence2\n1\tthe cat sat\ta cat was sitting\n\
                     0.5\train fell\tit rained\n0\tone two\tthree\n";
pub const CSV: &str = "score,sentence1,sentence2\n1,\"the cat, sat\",a cat\n0,x,\"y \"\"z\"\"\"\n";
pub const JSONL: &str = "{\"score\": 1, \"sentence1\": \"a\", \"sentence2\": \"b\"}\n\
                     {\"score\": 0, \"sentence1\": \"c\", \"sentence2\": \"\\u00e9\"}\n";
pub const VECTORS: &str = "the 0.1 -0.2 0.3\ncat 1 2 3\nsat 1e-3 0 0.5\n";
pub const WORDS: &str = r#"{"a": 0, "b": 1, "ab": 2, "Ġ": 3}"#;
pub const MERGES: &str = "#version: 0.2\na b\n";
pub const TOKENIZER: &str = r#"{"version": "1.0", "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
    "use_regex": true}, "post_processor": null, "decoder": {"type": "ByteLevel",
    "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "unk_token": "a", "vocab": {"a": 0, "b": 1, "ab": 2,
    "Ġ": 3}, "merges": ["a b"]}}"#;
pub const PRESET: &[u8] = include_bytes!("../../quant-presets/q4_k_m.json");

/// A file of the test data.
pub fn data(name: &str) -> Vec<u8> {
    fs::read(fixture::data_dir().join(name)).unwrap()
}

/// The bytes of a random model in `preset`.
pub fn gguf(spec: &Spec, preset: &str) -> Vec<u8> {
    fs::read(&super::gguf::random(spec, preset).path).unwrap()
}

/// The index of a safetensors file that is the only shard.
pub fn index_of(weights: &[u8]) -> Vec<u8> {
    let tensors = safetensors::SafeTensors::deserialize(weights).unwrap();
    let map: serde_json::Map<_, _> = tensors
        .names()
        .into_iter()
        .map(|name| (name.to_string(), "model-00001-of-00001.safetensors".into()))
        .collect();
    serde_json::to_vec(&serde_json::json!({ "metadata": {}, "weight_map": map })).unwrap()
}

/// A report of one level of a model with these sizes.
pub fn report(spec: &Spec) -> String {
    let folder = tempfile::tempdir().unwrap();
    let pairs = folder.path().join("pairs.tsv");
    fs::write(&pairs, PAIRS).unwrap();
    let dataset = Dataset::open(&pairs, None, None).unwrap();
    let file = super::gguf::random(spec, "q8_0");
    let levels = [LevelFile { preset: "q8_0".into(), path: file.path.clone() }];
    let options = EvalOptions { session: run::one_thread(), ..Default::default() };
    eval::run(&levels, &[dataset], &options, &Silent).unwrap().report.to_json()
}
