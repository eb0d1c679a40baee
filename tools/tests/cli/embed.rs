//! `rwkvq embed`: texts to vectors, in the formats promised.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::args;
use crate::workplace::{command, run, succeeds, Workplace};

const N_EMBD: usize = 32;

/// A model, a file of texts, arguments to embed them.
struct Job {
    place: Workplace,
    model: PathBuf,
}

impl Job {
    fn new() -> Self {
        let (place, model) = Workplace::with_gguf("f32");
        Self { place, model }
    }

    fn args(&self, texts: impl AsRef<[u8]>, more: &[&str]) -> Vec<OsString> {
        let texts = self.place.write("texts.txt", texts);
        let mut args = args!["embed", self.model, "--input", texts];
        args.extend(more.iter().map(OsString::from));
        args
    }

    /// The lines of JSON for `texts`.
    fn lines(&self, texts: impl AsRef<[u8]>, more: &[&str]) -> Vec<Value> {
        let outcome = succeeds(self.args(texts, more));
        assert_eq!(outcome.stderr, "");
        outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

fn vector(line: &Value, layer: &str) -> Vec<f32> {
    let values = line["embeddings"][layer].as_array().expect("a layer");
    values.iter().map(|value| value.as_f64().expect("a number") as f32).collect()
}

#[test]
fn a_line_of_json_for_each_line_of_text() {
    let job = Job::new();
    // Only the line ending goes: spaces, tabs and a lone CR inside stay. The last line has none.
    let texts = "one text\r\n  spaces \t \nw\r ord\nüñí – 漢字\nlast";
    let expected = ["one text", "  spaces \t ", "w\r ord", "üñí – 漢字", "last"];
    let lines = job.lines(texts, &["--layers", "final,1,0"]);
    assert_eq!(lines.len(), expected.len());
    for (line, expected) in lines.iter().zip(expected) {
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["text", "n_tokens", "embeddings"]);
        assert_eq!(line["text"], expected);
        let layers: Vec<&String> = line["embeddings"].as_object().unwrap().keys().collect();
        assert_eq!(layers, ["0", "1", "final"]);
        for layer in layers {
            let vector = vector(line, layer);
            assert_eq!(vector.len(), N_EMBD);
            assert!(vector.iter().all(|value| value.is_finite()));
            assert!(vector.iter().any(|&value| value != 0.0));
        }
    }
    assert_ne!(lines[0]["embeddings"], lines[1]["embeddings"]);
}

#[test]
fn layers_by_every_name() {
    let job = Job::new();
    let keys = |layers: &str| -> Vec<String> {
        let lines = job.lines("text\n", &["--layers", layers]);
        lines[0]["embeddings"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys("all"), ["0", "1", "final"]);
    assert_eq!(keys("last"), ["1"]);
    assert_eq!(keys("2"), ["final"]);
    assert_eq!(keys("0,0,last"), ["0", "1"]);
    let args = job.args("text\n", &["--layers", "3"]);
    job.place.refused(args, 2, &["layer 3: the model has 0 to 1 and final"]);
    let args = job.args("text\n", &["--layers", "first"]);
    job.place.refused(args, 2, &["layer \"first\": give indices, last, final or all"]);
    let args = job.args("text\n", &["--pooling", "min"]);
    job.place.refused(args, 2, &["min", "mean", "last", "max"]);
}

/// An array has no names of layers, so a changed order is told.
#[test]
fn layers_of_an_array_are_ascending() {
    let job = Job::new();
    for (layers, expected) in
        [("1,0", "note: layers come in ascending order: 0,1\n"), ("0,1,final", "")]
    {
        let mut args = job.args("text\n", &["--layers", layers, "--output"]);
        args.push(job.place.path("out.npy").into());
        assert_eq!(succeeds(args).stderr, expected);
    }
    let mut args = job.args("text\n", &["--output"]);
    args.push(job.place.path("out.npz").into());
    job.place.refused(args, 2, &["format \"npz\": give jsonl, npy or safetensors"]);
}

#[test]
fn token_ids_on_request() {
    let job = Job::new();
    let lines = job.lines("ab\nthe\n", &["--token-ids"]);
    for line in &lines {
        let ids = line["token_ids"].as_array().unwrap();
        assert_eq!(line["n_tokens"].as_u64().unwrap(), ids.len() as u64);
    }
    // No token of this vocabulary is "ab"; bytes have the id after theirs.
    assert_eq!(lines[0]["token_ids"], serde_json::json!([98, 99]));
}

#[test]
fn a_single_token_is_its_own_mean_maximum_and_last() {
    let job = Job::new();
    let pooled = |text: &str| {
        ["mean", "last", "max"].map(|pooling| {
            let lines = job.lines(text, &["--pooling", pooling, "--layers", "all"]);
            ["0", "1", "final"].map(|layer| vector(&lines[0], layer)).concat()
        })
    };
    let [mean, last, max] = pooled("x\n");
    assert_eq!(mean, last);
    assert_eq!(mean, max);
    let [mean, last, max] = pooled("some more words\n");
    assert_ne!(mean, last);
    for ((mean, last), max) in mean.iter().zip(&last).zip(&max) {
        assert!(max >= mean && max >= last, "{mean} {last} {max}");
    }
}

#[test]
fn normalized_vectors_have_length_one_and_the_same_direction() {
    let job = Job::new();
    let texts = "one\nanother text\n";
    let plain = job.lines(texts, &["--layers", "all"]);
    let normalized = job.lines(texts, &["--layers", "all", "--normalize"]);
    for (plain, normalized) in plain.iter().zip(&normalized) {
        for layer in ["0", "1", "final"] {
            let (plain, unit) = (vector(plain, layer), vector(normalized, layer));
            let length = plain.iter().map(|value| value * value).sum::<f32>().sqrt();
            for (plain, unit) in plain.iter().zip(&unit) {
                assert!((plain / length - unit).abs() < 1e-6, "{plain} / {length}, {unit}");
            }
        }
    }
}

#[test]
fn the_array_has_the_numbers_of_the_lines() {
    let job = Job::new();
    let texts = "first\nsecond text\nthird one here\n";
    let lines = job.lines(texts, &["--layers", "0,final"]);
    let out = job.place.path("out.npy");
    let mut args = job.args(texts, &["--layers", "0,final"]);
    args.extend(args!["--output", out]);
    let outcome = succeeds(args);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    let bytes = fs::read(&out).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let (header, data) = bytes[10..].split_at(len);
    let header = std::str::from_utf8(header).unwrap();
    assert_eq!((10 + len) % 64, 0);
    assert_eq!(
        header.trim_end(),
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 32), }"
    );
    let found: Vec<f32> = data
        .chunks_exact(4)
        .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    let expected: Vec<f32> = lines
        .iter()
        .flat_map(|line| ["0", "final"].map(|key| vector(line, key)).concat())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_format_follows_the_flag_then_the_extension() {
    let job = Job::new();
    let write = |name: &str, more: &[&str]| {
        let path = job.place.path(name);
        let mut args = job.args("text\n", more);
        args.extend(args!["--output", path]);
        succeeds(args);
        fs::read(path).unwrap()
    };
    assert!(write("a.npy", &[]).starts_with(b"\x93NUMPY"));
    assert!(write("b.bin", &["--format", "npy"]).starts_with(b"\x93NUMPY"));
    assert!(write("c.jsonl", &[]).starts_with(b"{"));
    assert!(write("d", &[]).starts_with(b"{"));
    assert!(write("e.npy", &["--format", "jsonl"]).starts_with(b"{"));
    let args = job.args("text\n", &["--format", "parquet"]);
    job.place.refused(args, 2, &["format \"parquet\": give jsonl, npy or safetensors"]);
    let args = job.args("text\n", &["--format", "npy"]);
    job.place.refused(args, 2, &["npy and safetensors need a file: give --output"]);
}

#[test]
fn texts_from_stdin() {
    let job = Job::new();
    let args = args!["embed", job.model, "--input", "-"];
    let mut child = command(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, job.lines("one\ntwo\n", &[]));
}

#[test]
fn texts_that_cannot_be_embedded_are_named_by_line() {
    let job = Job::new();
    let refused = |texts: &[u8], parts: &[&str]| {
        for out in ["-", "out.jsonl", "out.npy"] {
            let mut args = job.args(texts, &[]);
            let out = if out == "-" { PathBuf::from(out) } else { job.place.path(out) };
            args.extend(args!["--output", out]);
            job.place.refused(args, 3, parts);
        }
    };
    refused(b"one\n\nthree\n", &["texts.txt: line 2: empty", "--skip-empty"]);
    refused(b"one\n\r\n", &["texts.txt: line 2: empty"]);
    refused(b"one\ntwo\nth\xffree\n", &["texts.txt: line 3: not UTF-8 at byte 2"]);
    refused(b"", &["texts.txt: no texts: the input is empty"]);
    let lines = job.lines("one\n\n\r\nfour\n", &["--skip-empty"]);
    let texts: Vec<&str> = lines.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["one", "four"]);
}

#[test]
fn options_that_make_no_sense() {
    let job = Job::new();
    let args = job.args("text\n", &["--threads", "0"]);
    job.place.refused(args, 2, &["0 threads: give 1 to 512"]);
    let args = job.args("text\n", &["--batch-tokens", "1"]);
    job.place.refused(args, 2, &["1 batch tokens", "two tokens"]);
    let mut args = job.args("text\n", &[]);
    args.extend(args!["--output", job.place.path("nowhere/out.jsonl")]);
    job.place.refused(args, 4, &["nowhere", "No such file or directory"]);
    let args = args!["embed", job.model, "--input", job.place.path("none.txt")];
    job.place.refused(args, 4, &["none.txt: No such file or directory"]);
    let args = job.args("text\n", &["--tokenizer", "/nowhere/vocab.txt"]);
    job.place.refused(args, 4, &["/nowhere/vocab.txt"]);
}

#[test]
fn batches_do_not_change_the_vectors() {
    let job = Job::new();
    let texts = "a longer text that fills more than one batch of tokens\nshort\nthe third\n";
    let whole = job.lines(texts, &["--layers", "all"]);
    let pieces = job.lines(texts, &["--layers", "all", "--batch-tokens", "7", "--threads", "1"]);
    for (whole, pieces) in whole.iter().zip(&pieces) {
        for layer in ["0", "1", "final"] {
            for (a, b) in vector(whole, layer).iter().zip(vector(pieces, layer)) {
                assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "layer {layer}: {a}, {b}");
            }
        }
    }
}

/// `rwkvq embed .. | head -1` is no failure.
#[test]
fn a_reader_may_stop_reading() {
    let job = Job::new();
    // More than a pipe holds.
    let args = job.args("some text\n".repeat(200), &["--layers", "all"]);
    assert!(run(args.clone()).stdout.len() > 1 << 16);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(&args).stdout(writer).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
}
