//! Bad checkpoints: each is refused with a line that says what is wrong, none panics.

mod common;

use std::path::Path;

use common::bytes::{file, safetensors};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rwkvq::checkpoint::Checkpoint;
use rwkvq::Error;
use safetensors::SafeTensors;

/// The whole line for the checkpoint at `path`, the path of its folder left out.
fn line(path: &Path, folder: &Path) -> String {
    let error = Checkpoint::open(path).expect_err("the checkpoint is bad");
    assert!(
        matches!(error, Error::Malformed { .. } | Error::Unsupported { .. }),
        "blames the wrong one: {error:?}"
    );
    let line = error.to_string();
    assert!(!line.contains('\n'), "more than one line: {line:?}");
    line.strip_prefix(&folder.display().to_string()).expect("names the file first").into()
}

/// The reason for which the file is refused.
fn reason(bytes: &[u8]) -> String {
    let (dir, path) = file("m.safetensors", bytes);
    line(&path, dir.path()).strip_prefix("/m.safetensors: ").unwrap().into()
}

#[track_caller]
fn refused(header: &str, n: usize, expected: &str) {
    assert_eq!(reason(&safetensors(header, n)), expected);
}

/// A header entry.
fn entry(name: &str, dtype: &str, shape: &str, start: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

/// The file with one tensor of 4 f32, its header changed.
fn one(dtype: &str, shape: &str, start: u64, end: u64) -> String {
    format!("{{{}}}", entry("x", dtype, shape, start, end))
}

fn valid() -> Vec<u8> {
    let entries = [
        r#""__metadata__":{"format":"pt"}"#.to_string(),
        entry("b", "BF16", "[2,3]", 16, 28),
        entry("a", "F32", "[4]", 0, 16),
        entry("c", "F16", "[]", 28, 30),
    ];
    safetensors(&format!("{{{}}}  ", entries.join(",")), 30)
}

#[test]
fn the_builder_makes_valid_files() {
    // Without this, every test below could pass for a reason of its own.
    let (_dir, path) = file("m.safetensors", &valid());
    let checkpoint = Checkpoint::open(&path).unwrap();
    let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let mut bytes = [0; 4];
    checkpoint.read_bytes(1, 8, &mut bytes).unwrap();
    assert_eq!(bytes, [24, 25, 26, 27]);
}

#[test]
fn other_formats_are_told_apart_by_content() {
    let other = |bytes: &[u8], expected: &str| assert_eq!(reason(bytes), expected);
    other(b"GGUF\x03\0\0\0\0\0\0\0", "a GGUF file, not a checkpoint");
    other(
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
        "a pickle without a zip around it, as PyTorch wrote before 1.6; load it there and save it \
         again",
    );
    other(
        b"version https://git-lfs.github.com/spec/v1\n",
        "a Git LFS pointer, not the file itself; run git lfs pull",
    );
    other(b"hello", "neither a safetensors nor a PyTorch file (starts [68, 65, 6c, 6c, 6f])");
    other(
        b"plain text, longer",
        "neither a safetensors nor a PyTorch file (starts [70, 6c, 61, 69, 6e, 20, 74, 65, 78])",
    );
    other(b"", "empty file");
}

#[test]
fn a_header_may_be_as_long_as_another_format_begins() {
    // 640 is 80 02 in the file, as the first bytes of a pickle are.
    let header = format!("{:640}", one("F32", "[4]", 0, 16));
    let (_dir, path) = file("m.safetensors", &safetensors(&header, 16));
    assert_eq!(Checkpoint::open(&path).unwrap().tensors().len(), 1);
}

#[test]
fn header_lengths() {
    let bytes = |n: u64, rest: &[u8]| [&n.to_le_bytes()[..], rest].concat();
    assert_eq!(
        reason(&bytes(100_000_001, b"{}")),
        "header of 100000001 bytes exceeds limit 100000000"
    );
    assert_eq!(
        reason(&bytes(u64::MAX, b"{}")),
        "header of 18446744073709551615 bytes exceeds limit 100000000"
    );
    assert_eq!(reason(&bytes(50, b"{}")), "truncated: header ends at byte 58, file has 10");
}

#[test]
fn data_of_another_length() {
    let header = one("F32", "[4]", 0, 16);
    let end = 8 + header.len() + 16;
    for n in [0, 15] {
        let file = 8 + header.len() + n;
        refused(&header, n, &format!("truncated: data ends at byte {end}, file has {file}"));
    }
    refused(&header, 20, "4 bytes follow the last tensor");
}

#[test]
fn types() {
    for ty in ["I32", "F64", "BOOL", "F8_E4M3", "f32", ""] {
        let expected = format!("tensor \"x\": {ty}, expected F32/F16/BF16");
        refused(&one(ty, "[4]", 0, 16), 16, &expected);
    }
}

#[test]
fn shapes() {
    refused(&one("F32", "[0,256]", 0, 0), 0, "tensor \"x\": zero dimension in [0, 256]");
    refused(&one("F32", "[1,1,1,1,4]", 0, 16), 16, "tensor \"x\": 5 dimensions (0 to 4 allowed)");
    refused(
        &one("F32", "[4294967296,4294967296]", 0, 16),
        16,
        "tensor \"x\": size of [4294967296, 4294967296] overflows",
    );
    refused(
        &one("F32", "[4611686018427387904]", 0, 16),
        16,
        "tensor \"x\": size of [4611686018427387904] overflows",
    );
    refused(
        &one("F32", "[5]", 0, 16),
        16,
        "tensor \"x\": F32 [5] takes 20 bytes, data_offsets are [0, 16]",
    );
    let line = reason(&safetensors(&one("F32", "[-1]", 0, 16), 16));
    assert!(line.starts_with("header: invalid value: integer `-1`, expected u64"), "{line}");
}

#[test]
fn offsets() {
    let two = |start: u64, end: u64| {
        let a = entry("a", "F32", "[4]", 0, 16);
        format!("{{{a},{}}}", entry("b", "F32", "[4]", start, end))
    };
    // A hole, an overlap, the same bytes twice, the wrong way round.
    for start in [20, 8, 0] {
        let expected = format!("data starts at {start}, expected 16 (tensors must be contiguous)");
        let line = reason(&safetensors(&two(start, start + 16), 64));
        assert!(line.ends_with(&expected), "{line}");
    }
    refused(&two(16, 8), 32, "tensor \"b\": F32 [4] takes 16 bytes, data_offsets are [16, 8]");
    let huge = (1u64 << 63) - 4;
    let header = format!(
        "{{{},{}}}",
        entry("a", "F32", "[2305843009213693951]", 0, huge),
        entry("b", "F32", "[2305843009213693951]", huge, huge * 2)
    );
    refused(&header, 32, "tensor \"b\": end of the data overflows");
}

#[test]
fn names() {
    let a = entry("a", "F32", "[4]", 0, 16);
    refused(
        &format!("{{{a},{}}}", entry("a", "F32", "[4]", 16, 32)),
        32,
        "duplicate tensor name \"a\"",
    );
    refused(&format!("{{{a},{a}}}"), 16, "duplicate tensor name \"a\"");
    for name in ["".to_string(), "n".repeat(257), "a\\u0000b".into()] {
        let line = reason(&safetensors(&format!("{{{}}}", entry(&name, "F32", "[4]", 0, 16)), 16));
        assert!(line.contains("(1 to 256 allowed, no NUL)"), "{line}");
    }
    let many: Vec<String> =
        (0..65_537).map(|i| entry(&format!("t{i}"), "F16", "[1]", 2 * i, 2 * i + 2)).collect();
    let line = reason(&safetensors(&format!("{{{}}}", many.join(",")), 2 * 65_537));
    assert!(line.starts_with("header: tensor count exceeds limit 65536"), "{line}");
}

#[test]
fn header_is_json_of_the_right_form() {
    for header in [
        "{",
        "{\"x\":1}",
        "{\"x\":{\"dtype\":\"F32\"}}",
        "{\"\u{0}",
        "{}x",
        "{\"__metadata__\":{\"a\":1}}",
    ] {
        let line = reason(&safetensors(header, 4));
        assert!(line.starts_with("header: "), "{line}");
    }
    // Nesting is bounded, and a long value does not make a long message.
    for value in ["[".repeat(1_000_000), format!("\"{}\"", "v".repeat(1_000_000))] {
        let header = format!(r#"{{"x":{{"dtype":"F32","shape":{value}"#);
        let line = reason(&safetensors(&header, 0));
        assert!(line.len() < 200, "{} bytes", line.len());
    }
}

#[test]
fn every_prefix_is_refused() {
    let whole = valid();
    for n in 0..whole.len() {
        reason(&whole[..n]);
    }
}

#[test]
fn mutated_files_never_panic_and_accepted_ones_are_valid() {
    let whole = valid();
    let header = whole.len() - 30;
    let dir = tempfile::tempdir().unwrap();
    let mut accepted = 0;
    for seed in 0..4000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = whole.clone();
        for _ in 0..rng.random_range(1..=3) {
            let at = rng.random_range(0..header.min(bytes.len()));
            match rng.random_range(0..4) {
                0 => bytes[at] ^= 1 << rng.random_range(0..8),
                1 => bytes[at] = b"0123456789{}[],\":x "[rng.random_range(0..19)],
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        let path = dir.path().join(format!("{seed}"));
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::open(&path) {
            accepted += 1;
            let theirs = SafeTensors::deserialize(&bytes)
                .unwrap_or_else(|e| panic!("seed {seed}: accepted, but {e}"));
            assert_eq!(checkpoint.tensors().len(), theirs.len(), "seed {seed}");
            for (i, tensor) in checkpoint.tensors().iter().enumerate() {
                let mut data = vec![0; tensor.bytes as usize];
                checkpoint.read_bytes(i, 0, &mut data).unwrap();
                assert_eq!(data, theirs.tensor(&tensor.name).unwrap().data(), "seed {seed}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
    assert!((20..3900).contains(&accepted), "{accepted} of 4000 accepted");
}

/// A folder with these files; `{SHARD}` is a file with tensor `x`, `{OTHER}` one with `y`.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let bytes = match *content {
            "{SHARD}" => safetensors(&one("F32", "[4]", 0, 16), 16),
            "{OTHER}" => safetensors(&format!("{{{}}}", entry("y", "F32", "[4]", 0, 16)), 16),
            text => text.as_bytes().to_vec(),
        };
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

#[track_caller]
fn folder_refused(files: &[(&str, &str)], expected: &str) {
    let dir = folder(files);
    assert_eq!(line(dir.path(), dir.path()), expected);
}

const INDEX: &str = "model.safetensors.index.json";
const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

#[test]
fn folders_without_safetensors() {
    let nothing = ": no model*.safetensors and no pytorch_model*.bin in it";
    folder_refused(&[("config.json", "{}")], nothing);
    for name in ["rwkv.pth", "rwkv.safetensors", "consolidated.bin"] {
        let expected = format!("{nothing}; to read {name}, give its path");
        folder_refused(&[("config.json", "{}"), (name, "{SHARD}")], &expected);
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Checkpoint::open(&dir.path().join("none")), Err(Error::Io { .. })));
}

#[test]
fn shards_that_are_absent_or_disagree() {
    folder_refused(&[(FIRST, "{SHARD}")], &format!(": shard {SECOND} is absent"));
    let index = format!(r#"{{"weight_map":{{"x":"{FIRST}","y":"{SECOND}"}}}}"#);
    let at_index = |what: &str| format!("/{INDEX}: {what}");
    folder_refused(
        &[(INDEX, &index), (FIRST, "{SHARD}")],
        &at_index(&format!("index names {SECOND} which is absent")),
    );
    folder_refused(
        &[(INDEX, &index), (FIRST, "{SHARD}"), (SECOND, "{SHARD}")],
        &format!(": tensor \"x\" is in two shards, {FIRST} and {SECOND}"),
    );
    folder_refused(
        &[(INDEX, &index), (FIRST, "{OTHER}"), (SECOND, "{SHARD}")],
        &at_index(&format!("tensor \"x\" is not in {FIRST}, as the index says")),
    );
    folder_refused(
        &[
            (INDEX, &index),
            (FIRST, "{SHARD}"),
            (SECOND, "{OTHER}"),
            ("model.safetensors", "{SHARD}"),
        ],
        &at_index("index does not name model.safetensors, which is there; remove either"),
    );
    let one_file = r#"{"weight_map":{"x":"model.safetensors","z":"model.safetensors"}}"#;
    folder_refused(
        &[(INDEX, one_file), ("model.safetensors", "{SHARD}")],
        &at_index("tensor \"z\" is not in model.safetensors, as the index says"),
    );
    let unlisted = format!(r#"{{"weight_map":{{"x":"{FIRST}"}}}}"#);
    folder_refused(
        &[(INDEX, &unlisted), (FIRST, "{SHARD}"), (SECOND, "{OTHER}")],
        &at_index(&format!("index does not name {SECOND}, which is there; remove either")),
    );
    let both = safetensors(
        &format!("{{{},{}}}", entry("x", "F32", "[4]", 0, 16), entry("y", "F32", "[4]", 16, 32)),
        32,
    );
    let dir = folder(&[(INDEX, &unlisted)]);
    std::fs::write(dir.path().join(FIRST), both).unwrap();
    assert_eq!(
        line(dir.path(), dir.path()),
        at_index("tensor \"y\" is in a shard but not in the index")
    );
}

#[test]
fn an_index_cannot_lead_out_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside.safetensors");
    std::fs::write(&outside, safetensors(&one("F32", "[4]", 0, 16), 16)).unwrap();
    let inside = dir.path().join("model");
    std::fs::create_dir(&inside).unwrap();
    for name in ["../outside.safetensors", &outside.display().to_string(), "..", "sub/x", ""] {
        let index = format!(r#"{{"weight_map":{{"x":"{name}"}}}}"#);
        std::fs::write(inside.join(INDEX), index).unwrap();
        let expected = format!("/{INDEX}: index names \"{name}\", which is not a plain file name");
        assert_eq!(line(&inside, &inside), expected);
    }
}

#[test]
fn an_index_that_is_none() {
    for (index, expected) in [
        ("{}", "not a shard index: missing field `weight_map` at line 1 column 2"),
        (r#"{"weight_map":{}}"#, "index names no tensors"),
        (
            r#"{"weight_map":{"x":"a","x":"b"}}"#,
            "not a shard index: tensor \"x\" is listed twice at line 1 column 31",
        ),
    ] {
        folder_refused(
            &[(INDEX, index), ("model.safetensors", "{SHARD}")],
            &format!("/{INDEX}: {expected}"),
        );
    }
    let many: Vec<String> = (0..=65_536).map(|i| format!(r#""t{i}":"""#)).collect();
    let dir = folder(&[("model.safetensors", "{SHARD}")]);
    std::fs::write(dir.path().join(INDEX), format!(r#"{{"weight_map":{{{}}}}}"#, many.join(",")))
        .unwrap();
    let expected = format!("/{INDEX}: not a shard index: tensor count exceeds limit 65536");
    assert!(line(dir.path(), dir.path()).starts_with(&expected));
}

#[test]
fn configs() {
    let config = |text: &str, expected: &str| {
        folder_refused(
            &[("model.safetensors", "{SHARD}"), ("config.json", text)],
            &format!("/config.json: {expected}"),
        );
    };
    config("[1]", "expected a JSON object, found an array");
    config("1e999999", "expected a JSON object, found a number");
    config("", "empty file");
    config("{\"a\":", "not valid JSON: EOF while parsing a value at line 1 column 5");
    config(&"[".repeat(1_000_000), "not valid JSON: recursion limit exceeded at line 1 column 128");
    config(&" ".repeat((1 << 20) + 1), "1048577 bytes exceed the limit 1048576");
    let dir = folder(&[("model.safetensors", "{SHARD}")]);
    std::fs::create_dir(dir.path().join("config.json")).unwrap();
    assert_eq!(line(dir.path(), dir.path()), "/config.json: not a regular file");
}
