//! Where test data is, and models made on the spot.

use std::path::{Path, PathBuf};

use rwkvq::checkpoint::random::{self, Spec};
use rwkvq::ggml::TensorType;
use rwkvq::Silent;
use serde_json::Value;
use tempfile::TempDir;

/// Data too large or not free to be part of the project, if the environment names it.
pub fn shared_data() -> Option<PathBuf> {
    let path = std::env::var_os("RWKVQ_TEST_DATA").map(PathBuf::from);
    if path.is_none() {
        println!("skipped: RWKVQ_TEST_DATA is not set");
    }
    path
}

/// `tests/data`.
pub fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A committed checkpoint of 8 layers in Hugging Face layout, with `golden.json` beside it.
pub fn fixture_dir() -> PathBuf {
    data_dir().join("finch-fixture")
}

/// What the committed checkpoint was written from. Eight layers, so that the stream is rescaled
/// once; the ranks are those llama.cpp insists on at this width, so that it loads the model too.
pub fn fixture_spec() -> Spec {
    Spec {
        n_layer: 8,
        n_embd: 64,
        head_size: 16,
        n_ff: None, // 224
        n_vocab: 600,
        low_rank_mix: 32,
        low_rank_decay: 64,
        rescale_every: 6,
        output_gain: 0.7,
        ty: TensorType::BF16,
        seed: 6,
        shards: 1,
    }
}

/// A random checkpoint in a folder that goes away with the value.
pub fn random_checkpoint(spec: &Spec) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    random::write(dir.path(), spec, &Silent).expect("a valid spec");
    dir
}

/// Parses a JSON file of the test data.
pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A JSON list of numbers.
pub fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// A JSON list of lists of numbers.
pub fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().expect("a list").iter().map(numbers).collect()
}

/// A JSON list of token ids.
pub fn token_ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list");
    list.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}
