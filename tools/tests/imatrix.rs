//! `rwkvq imatrix` and `convert --imatrix`, run as a user runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}

fn rwkvq(dir: &TempDir, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rwkvq"));
    command.current_dir(dir.path()).args(args).output().expect("the binary runs")
}

fn succeeds(dir: &TempDir, args: &[&str]) -> Output {
    let output = rwkvq(dir, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Asserts the exit code and that stderr is one line that holds `expected`.
fn fails(dir: &TempDir, args: &[&str], code: i32, expected: &str) {
    let output = rwkvq(dir, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{args:?}: {stderr}");
}

/// A folder with the fixture as `model.gguf` in f32 and a text.
fn workplace() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let fixture = data("finch-fixture");
    succeeds(&dir, &["convert", fixture.to_str().unwrap(), "--preset", "f32", "-o", "model.gguf"]);
    std::fs::copy(data("imatrix.txt"), dir.path().join("text.txt")).expect("copied");
    dir
}

#[test]
fn measures_and_quantizes() {
    let dir = workplace();
    let measure = ["imatrix", "model.gguf", "--input", "text.txt", "-o", "m.gguf", "--chunk", "32"];
    let output = succeeds(&dir, &measure);
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("m.gguf  96 matrices, 6 chunks of 32 tokens"), "{stderr}");
    fails(&dir, &measure, 2, "m.gguf exists; pass --overwrite");

    let convert = |imatrix: &[&str], out: &str| {
        let args = [&["convert", "model.gguf", "--preset", "q4_k", "-o", out, "--json"], imatrix];
        let output = succeeds(&dir, &args.concat());
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let errors = json["files"][0]["tensor_errors"].as_array().expect("a list").clone();
        assert_eq!(errors.len(), 66);
        assert!(errors.iter().all(|error| error["rmse"].as_f64().expect("a number") > 0.0));
        std::fs::read(dir.path().join(out)).expect("written")
    };
    let plain = convert(&[], "plain.gguf");
    let weighted = convert(&["--imatrix", "m.gguf"], "weighted.gguf");
    assert!(plain != weighted);
    let has = |key: &[u8]| weighted.windows(key.len()).any(|window| window == key);
    assert!(has(b"quantize.imatrix.chunks_count") && has(b"text.txt"));
}

#[test]
fn verbose_shows_a_table_of_errors() {
    let dir = workplace();
    let args = ["convert", "model.gguf", "--preset", "q8_0", "-o", "q.gguf", "--verbose"];
    let stderr = String::from_utf8(succeeds(&dir, &args).stderr).expect("text");
    let row = stderr.lines().find(|line| line.contains("blk.7.channel_mix_value.weight"));
    assert_eq!(row.expect("a row").split_whitespace().count(), 7, "{stderr}");
}

#[test]
fn mistakes_have_their_exit_codes() {
    let dir = workplace();
    let measure = |input, output, chunk, code, expected| {
        let args = ["imatrix", "model.gguf", "-i", input, "-o", output, "--chunk", chunk];
        fails(&dir, &args, code, expected);
    };
    measure("absent.txt", "m.gguf", "32", 4, "absent.txt");
    measure("text.txt", "m.gguf", "4096", 2, "do not fill a chunk of 4096");
    measure("text.txt", "m.gguf", "0", 2, "chunks of 0 tokens");
    measure("model.gguf", "m.gguf", "32", 3, "model.gguf: not UTF-8");
    let over = ["imatrix", "model.gguf", "-i", "text.txt", "-o", "model.gguf", "--overwrite"];
    fails(&dir, &over, 2, "output is also an input");

    let convert = |imatrix, code, expected| {
        let args = ["convert", "model.gguf", "--preset", "q4_k", "-o", "q.gguf"];
        fails(&dir, &[&args[..], &["--imatrix", imatrix]].concat(), code, expected);
        assert!(!dir.path().join("q.gguf").exists());
    };
    convert("absent.gguf", 4, "absent.gguf");
    convert("model.gguf", 3, "model.gguf: not an importance matrix");
    convert("text.txt", 3, "not an importance matrix");
}
