//! The binary with a model on a GPU: the demo's checkpoint measured there and on the CPU.
//!
//! Skipped with a message without a GPU backend or a GPU; a failure where RWKVQ_REQUIRE_GPU is set.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rwkvq::embed::{EmbedOptions, Embedder, Embeddings};
use rwkvq::gguf::GgufFile;
use rwkvq::model::{Device, DeviceChoice, LayerSelection, Model, OpenOptions, SessionOptions};
use serde_json::Value;

const PRESETS: [&str; 5] = ["f32", "f16", "q8_0", "q5_k", "q4_k"];

const TEXTS: [&str; 3] = ["A quiet river runs past the mill.", "Nobody said no.", "x"];

fn rwkvq(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rwkvq")).args(args).output().expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The first GPU; the software device of Vulkan counts too.
fn gpu() -> Option<Device> {
    if std::env::var_os("GGML_VK_VISIBLE_DEVICES").is_none() {
        std::env::set_var("GGML_VK_VISIBLE_DEVICES", "0");
    }
    let device = DeviceChoice::Auto.find().expect("a list of devices");
    if device.is_none() {
        assert!(std::env::var_os("RWKVQ_REQUIRE_GPU").is_none(), "no GPU");
        println!("skipped: no GPU backend in this build, or no GPU here");
    }
    device
}

/// Vectors of every layer of every text.
fn embed(model: &str, device: Option<&Device>) -> Embeddings {
    let open = OpenOptions { device: device.cloned(), ..Default::default() };
    let model = Arc::new(Model::open_with(model, open).expect("a model"));
    let session = SessionOptions { n_threads: 1, ..Default::default() };
    let options = EmbedOptions { layers: LayerSelection::all(), session, ..Default::default() };
    let mut embedder = Embedder::new(&model, options).expect("an embedder");
    embedder.embed(&TEXTS).expect("embeddings")
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn the_demo_on_a_gpu() {
    let Some(gpu) = gpu() else { return };
    let device = gpu.to_string();
    let place = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| place.path().join(name).to_str().expect("UTF-8").to_owned();
    let pairs = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/sentence-pairs.tsv");
    let pairs = pairs.to_str().expect("UTF-8");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/finch-tiny");
    let model = model.to_str().expect("UTF-8");
    let mut args: Vec<String> =
        ["eval", model, "--dataset", pairs, "--limit", "6"].map(String::from).to_vec();
    args.extend(["--keep", &path("kept"), "--report", &path("report.json")].map(String::from));
    args.extend(["--device", &device].map(String::from));
    args.extend(PRESETS.iter().flat_map(|preset| ["--preset".to_owned(), preset.to_string()]));
    rwkvq(&args.iter().map(String::as_str).collect::<Vec<_>>());

    let report = std::fs::read_to_string(path("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert!(report["host"]["gpu"].is_string());
    let levels = report["runs"][0]["levels"].as_array().expect("levels");
    assert_eq!(levels.len(), PRESETS.len());
    for level in levels {
        let preset = level["preset"].as_str().expect("a name");
        assert_eq!(level["error"], Value::Null, "{preset}");
        let memory = &level["memory"];
        assert_eq!(memory["device"], Value::from(&*device), "{preset}");
        assert_eq!(level["speed"]["device"], Value::from(&*device), "{preset}");
        let model = path(&format!("kept/finch-tiny-{preset}.gguf"));
        let file = GgufFile::open(Path::new(&model)).expect("the file was kept");
        let bytes: u64 = file.tensors().iter().map(|tensor| tensor.bytes).sum();
        let there = &memory["on_device"];
        assert_eq!(there["weights_bytes"], bytes, "{preset}");
        assert_eq!(memory["weights_bytes"], bytes, "{preset}");
        assert_eq!(there["layers"], 12, "{preset}");
        assert_eq!(there["ops_on_cpu"], Value::Array(Vec::new()), "{preset}");
        let number = |name: &str| there[name].as_u64().expect("a number");
        assert!(number("compute_bytes") > 0 && number("state_bytes") > 0, "{preset}");
        let sum = number("weights_buffer_bytes") + number("compute_bytes") + number("state_bytes");
        let peak = memory["device_peak_bytes"].as_u64().expect("a number");
        assert!(memory["device_peak_source"].is_string(), "{preset}");
        assert!(peak >= sum / 2, "{preset}: a peak of {peak}, and {sum} in buffers");

        let [on_cpu, on_gpu] = [None, Some(&gpu)].map(|device| embed(&model, device));
        for text in 0..TEXTS.len() {
            for layer in 0..13 {
                let cosine = cosine(on_cpu.get(text, layer), on_gpu.get(text, layer));
                assert!(cosine > 0.999, "{preset}, text {text}, layer {layer}: {cosine}");
            }
        }
    }
}

/// Several sequences are in flight on a GPU, and short ones end first.
#[test]
fn lines_keep_their_order() {
    let Some(gpu) = gpu() else { return };
    let place = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| place.path().join(name).to_str().expect("UTF-8").to_owned();
    rwkvq(&["make-checkpoint", &path("m"), "--layers", "1", "--width", "128", "--head-size", "64"]);
    rwkvq(&["convert", &path("m"), "--preset", "f32", "-o", &path("m.gguf")]);
    let texts: Vec<String> = (0..40).map(|i| "ab ".repeat(1 + 37 * i % 29)).collect();
    std::fs::write(path("texts"), texts.join("\n")).expect("a file");
    let embed = |device: &str| {
        let args = ["embed", &path("m.gguf"), "--input", &path("texts"), "--batch-tokens", "64"];
        let lines = rwkvq(&[&args[..], &["--device", device]].concat());
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    let [on_cpu, on_gpu] = ["cpu", &gpu.to_string()].map(embed);
    assert_eq!((on_cpu.len(), on_gpu.len()), (texts.len(), texts.len()));
    for ((text, a), b) in texts.iter().zip(&on_cpu).zip(&on_gpu) {
        assert_eq!(a["text"], Value::from(&**text));
        assert_eq!(b["text"], Value::from(&**text));
        let vector = |line: &Value| -> Vec<f32> {
            serde_json::from_value(line["embeddings"]["final"].clone()).expect("numbers")
        };
        assert!(cosine(&vector(a), &vector(b)) > 0.99999);
    }
}
