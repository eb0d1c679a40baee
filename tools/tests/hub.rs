//! The binary with names in place of paths, against a stand-in for the hub on this machine.
#![cfg(feature = "hub")]

#[path = "../../tests/common/hub.rs"]
mod stand_in;

use std::path::Path;
use std::process::{Command, Output};

use rwkvq::checkpoint::random::{self, Spec};
use rwkvq::Silent;
use serde_json::Value;
use stand_in::{public, Commit, Repo, StandIn};

const ID: &str = "RWKV/v6-Finch-1B6-HF";

/// A random model behind the name of the real one, and twelve pairs of ours behind MRPC's.
fn hub(folder: &Path) -> StandIn {
    let spec = Spec { n_layer: 2, n_embd: 256, head_size: 64, ..Spec::default() };
    random::write(&folder.join("checkpoint"), &spec, &Silent).unwrap();
    let model = public(ID, Commit::of_folder("model", &folder.join("checkpoint")));
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/parquet/mrpc.parquet");
    let data = std::fs::read(data).unwrap();
    let files = [("mrpc/validation-00000-of-00001.parquet", &data[..])];
    let glue = Repo { kind: "dataset", ..public("nyu-mll/glue", Commit::of_files("glue", &files)) };
    StandIn::start(vec![model, glue])
}

fn rwkvq(server: &StandIn, home: &Path, offline: bool, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rwkvq"));
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", home.join("hf")).env("HF_ENDPOINT", &server.endpoint);
    command.env("HF_HUB_OFFLINE", if offline { "1" } else { "0" });
    command.current_dir(home).args(args).output().unwrap()
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn eval_takes_a_hub_id_and_a_data_set_by_name() {
    let home = tempfile::tempdir().unwrap();
    let server = hub(home.path());
    let args = [
        "eval",
        ID,
        "--preset",
        "f16",
        "--preset",
        "q4_k",
        "--dataset",
        "mrpc",
        "--layers",
        "0,final",
        "--keep",
        "models",
        "--json",
    ];
    let first = rwkvq(&server, home.path(), false, &args);
    assert_success(&first);
    let report: Value = serde_json::from_slice(&first.stdout).unwrap();
    let run = &report["runs"][0];
    assert_eq!(run["dataset"]["name"], "mrpc");
    assert_eq!(run["dataset"]["split"], "validation");
    assert_eq!(run["dataset"]["n_pairs"].as_u64(), Some(12));
    assert_eq!(run["levels"][0]["preset"], "f16");
    assert_eq!(run["levels"][1]["preset"], "q4_k");
    assert!(run["levels"][1]["layers"][0]["spearman"].as_f64().is_some());
    // The files are called after the model, not after the commit that the cache keeps it under.
    for preset in ["f16", "q4_k"] {
        assert!(home.path().join(format!("models/v6-Finch-1B6-HF-{preset}.gguf")).is_file());
    }
    server.log();
    // Offline, and with the same numbers.
    std::fs::remove_dir_all(home.path().join("models")).unwrap();
    let second = rwkvq(&server, home.path(), true, &args);
    assert_success(&second);
    assert!(server.log().is_empty());
    let again: Value = serde_json::from_slice(&second.stdout).unwrap();
    for level in 0..2 {
        let (a, b) = (&run["levels"][level], &again["runs"][0]["levels"][level]);
        assert_eq!((&a["layers"], &a["file_sha256"]), (&b["layers"], &b["file_sha256"]));
    }
}

/// The command as the README has it: from nothing, then offline, then from nothing while the
/// connection is cut in the middle of the weights.
#[test]
fn eval_runs_from_an_empty_cache_offline_and_through_a_cut() {
    let home = tempfile::tempdir().unwrap();
    let server = hub(home.path());
    let args = ["eval", ID, "--preset", "f16", "--preset", "q4_k", "--dataset", "mrpc"];
    // What the table says of quality: the columns up to the fidelity. The others tell of speed.
    let eval = |home: &Path, offline: bool| {
        let output = rwkvq(&server, home, offline, &args);
        assert_success(&output);
        let text = String::from_utf8(output.stderr).unwrap();
        let rows = text.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        // The best one has a mark behind its name.
        let is_level = |name: &str| ["f16", "q4_k"].contains(&name.trim_end_matches(" *"));
        let levels = rows.filter(|row| row.len() > 8 && is_level(row[1]));
        levels.map(|row| row[1..8].join(" ")).collect::<Vec<_>>()
    };
    let first = eval(home.path(), false);
    assert_eq!(first.len(), 2, "{first:?}");
    // The parts asked for of the large files, data and weights.
    let large = |log: &[stand_in::Request]| {
        let large = log.iter().filter(|request| request.at_files);
        large.map(|request| request.range.clone().unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!(large(&server.log()), ["", ""]);
    assert_eq!(eval(home.path(), true), first);
    assert!(server.log().is_empty());
    let empty = tempfile::tempdir().unwrap();
    // The data set and two small files come first.
    let whole = usize::MAX;
    let cuts = [whole, whole, whole, 100_000].into();
    server.faults(stand_in::Faults { cuts, ..Default::default() });
    assert_eq!(eval(empty.path(), false), first);
    assert_eq!(large(&server.log()), ["", "", "bytes=100000-"]);
}

#[test]
fn convert_takes_a_hub_id_and_a_path_that_exists_wins() {
    let home = tempfile::tempdir().unwrap();
    let server = hub(home.path());
    let convert = |source: &str| {
        rwkvq(&server, home.path(), false, &["convert", source, "--preset", "q8_0", "-o", "out"])
    };
    assert_success(&convert(ID));
    assert!(home.path().join("out/v6-Finch-1B6-HF-q8_0.gguf").is_file());
    server.log();
    // The same name, here: the hub is not asked.
    let here = home.path().join(ID);
    std::fs::create_dir_all(here.parent().unwrap()).unwrap();
    std::fs::rename(home.path().join("checkpoint"), &here).unwrap();
    std::fs::remove_dir_all(home.path().join("out")).unwrap();
    assert_success(&convert(ID));
    assert!(home.path().join("out/v6-Finch-1B6-HF-q8_0.gguf").is_file());
    assert!(server.log().is_empty());
}

#[test]
fn failures_end_with_the_code_of_their_kind() {
    let home = tempfile::tempdir().unwrap();
    let server = hub(home.path());
    let fails = |offline: bool, args: &[&str], code: i32, expected: &str| {
        let output = rwkvq(&server, home.path(), offline, args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.starts_with("error: ") && text.contains(expected), "{args:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    };
    let convert = |source| ["convert", source, "--preset", "f16", "-o", "out"];
    fails(false, &convert("nobody/nothing"), 2, "no such file or folder here, and no such model");
    fails(true, &convert(ID), 4, "HF_HUB_OFFLINE is set");
    // Written like the path of a file: no question to the hub.
    server.log();
    fails(false, &convert("out/model.gguf"), 4, "out/model.gguf: ");
    assert!(server.log().is_empty());
    let eval = |data| ["eval", "missing.gguf", "--dataset", data];
    fails(false, &eval("mrcp"), 2, "there are mrpc, stsb, sick");
    fails(false, &eval("data.tsv"), 4, "data.tsv: ");
    fails(
        false,
        &["eval", "m.gguf", "--dataset", "stsb", "--split", "test"],
        2,
        "no labelled split",
    );
    server.faults(stand_in::Faults { wrong_content: true, ..Default::default() });
    fails(false, &convert(ID), 3, "it is not kept");
    assert!(!home.path().join("out").exists());
}
