//! Bad GGUF files: each is refused with a line that says what is wrong, none panics.

mod common;

use std::path::Path;

use common::bytes::{file, GgufBytes};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rwkvq::ggml::TensorType;
use rwkvq::gguf::{GgufFile, Layout, Value, Writer};
use rwkvq::{Error, Shape};

const F32: u32 = 0;
const Q4_0: u32 = 2;
const Q4_K: u32 = 12;

/// The reason for which the file is refused, without its path.
fn reason(bytes: &[u8]) -> String {
    let (_dir, path) = file("bad.gguf", bytes);
    let error = GgufFile::open(&path).expect_err("the file is bad");
    assert!(
        matches!(error, Error::Malformed { .. } | Error::Unsupported { .. }),
        "blames the wrong one: {error:?}"
    );
    let line = error.to_string();
    assert!(!line.contains('\n'), "more than one line: {line:?}");
    line.strip_prefix(&format!("{}: ", path.display())).expect("names the file first").into()
}

#[track_caller]
fn refused(bytes: GgufBytes, expected: &str) {
    assert_eq!(reason(&bytes.0), expected);
}

/// A header with one key, whose type and value follow.
fn one_key(key: &str, value_type: u32) -> GgufBytes {
    GgufBytes::new(0, 1).key(key, value_type)
}

/// A file with one tensor and `n` bytes of data.
fn one_tensor(dims: &[u64], ty: u32, offset: u64, n: usize) -> GgufBytes {
    GgufBytes::new(1, 0).tensor("w", dims, ty, offset).data(n)
}

#[test]
fn the_builder_makes_valid_files() {
    // Without this, every test below could pass for a reason of its own.
    let bytes = GgufBytes::new(2, 2)
        .key_u32("a", 7)
        .key("b", 9)
        .u32(8)
        .u64(2)
        .string("x")
        .string("y")
        .tensor("v", &[8], F32, 0)
        .tensor("w", &[64, 2], Q4_0, 32)
        .data(32 + 96);
    let (_dir, path) = file("good.gguf", &bytes.0);
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.required_u32("a").unwrap(), 7);
    assert_eq!(file.strings("b").unwrap().unwrap(), ["x", "y"]);
    assert_eq!(file.data(file.tensor("v").unwrap()).len(), 32);
    assert_eq!(file.data(file.tensor("w").unwrap())[..3], [32, 33, 34]);
    file.cross_check().unwrap();
}

#[test]
fn wrong_magic() {
    refused(GgufBytes(b"GGML\x01\0\0\0".to_vec()), "not a GGUF file (magic [47, 47, 4d, 4c])");
    refused(GgufBytes(b"GG".to_vec()), "truncated at byte 0: magic needs 4 bytes, 2 left");
    refused(GgufBytes(Vec::new()), "empty file");
}

#[test]
fn wrong_version() {
    let version = |v: u32| GgufBytes(b"GGUF".to_vec()).u32(v).u64(0).u64(0);
    for v in [0, 1, 4] {
        let expected = format!("GGUF version {v} is not supported (2 and 3 are)");
        refused(version(v), &expected);
    }
    refused(version(3u32.swap_bytes()), "version 0x3000000: big-endian GGUF is not supported");
}

#[test]
fn counts_beyond_the_limit() {
    refused(GgufBytes::new(0, 1 << 32), "metadata count 4294967296 exceeds limit 65536");
    refused(GgufBytes::new(u64::MAX, 0), "tensor count 18446744073709551615 exceeds limit 65536");
    refused(
        GgufBytes::new(1, 1).u64(0).u64(0),
        "header declares 1 keys and 1 tensors but only 16 bytes follow",
    );
}

#[test]
fn strings_beyond_the_limit() {
    for len in [100 << 20, 1 << 63, u64::MAX] {
        let expected = format!("k: length {len} exceeds limit 16777216 at byte 37");
        refused(one_key("k", 8).u64(len), &expected);
    }
    refused(
        GgufBytes::new(0, 1).u64(65_536).raw(&[b'k'; 65_540]),
        "metadata key 0: length 65536 exceeds limit 65535 at byte 24",
    );
    refused(one_key("k", 8).u64(9).raw(b"short"), "truncated at byte 45: k needs 9 bytes, 5 left");
}

#[test]
fn arrays_beyond_the_limit() {
    for len in [1 << 30, u64::MAX] {
        let expected = format!("k: array length {len} exceeds limit 16777216");
        refused(one_key("k", 9).u32(4).u64(len), &expected);
    }
    refused(
        one_key("k", 9).u32(0).u64(1 << 24),
        "k: metadata would decode to more than 536870912 bytes",
    );
    refused(one_key("k", 9).u32(4).u64(3).u64(0), "truncated at byte 49: k needs 12 bytes, 8 left");
    refused(one_key("k", 9).u32(8).u64(2).u64(0), "k: 2 strings do not fit in the 8 bytes left");
    refused(one_key("k", 9).u32(9).u64(1).u32(9).u64(1), "k: nested arrays are not supported");
}

#[test]
fn unknown_types_and_bad_values() {
    refused(one_key("k", 13).u32(0), "k: unknown value type 13");
    refused(one_key("k", 9).u32(13).u64(0), "k: unknown array type 13");
    refused(one_key("x", 7).raw(&[2]), "x: bool is neither 0 nor 1");
    refused(one_key("x", 9).u32(7).u64(3).raw(&[0, 1, 2]), "x: bool is neither 0 nor 1");
}

#[test]
fn text_that_is_not_utf8() {
    refused(one_key("k", 8).u64(3).raw(b"ab\xff"), "k: not UTF-8 at byte 47");
    refused(
        GgufBytes::new(0, 1).u64(1).raw(b"\xff").u32(0).raw(b"\0"),
        "metadata key 0: not UTF-8 at byte 32",
    );
    refused(
        GgufBytes::new(1, 0).u64(1).raw(b"\xff").u32(1).u64(1).u32(0).u64(0),
        "name of tensor 0: not UTF-8 at byte 32",
    );
}

#[test]
fn keys_and_names_are_unique_and_present() {
    let twice = GgufBytes::new(0, 2).key_u32("x", 1).key_u32("x", 1);
    refused(twice, "duplicate metadata key \"x\"");
    refused(GgufBytes::new(0, 1).key_u32("", 1), "metadata key 0 is empty");
    let twice = GgufBytes::new(2, 0).tensor("w", &[8], F32, 0).tensor("w", &[8], F32, 32).data(64);
    refused(twice, "duplicate tensor name \"w\"");
    let named = |name: &str| GgufBytes::new(1, 0).tensor(name, &[8], F32, 0).data(32);
    refused(named(""), "tensor 0: empty name or NUL in name");
    refused(named("a\0b"), "tensor 0: empty name or NUL in name");
    refused(named(&"n".repeat(64)), "name of tensor 0: length 64 exceeds limit 63 at byte 24");
}

#[test]
fn a_key_cannot_break_the_line() {
    refused(one_key("a\nb\u{1b}", 13).raw(&[0]), "a\\nb\\u{1b}: unknown value type 13");
    let line = reason(&one_key(&"k".repeat(60_000), 13).raw(&[0]).0);
    assert!(line.len() < 200, "{} bytes", line.len());
}

#[test]
fn alignment() {
    for n in [0, 1, 3, 4, 24, 48, 1 << 31] {
        let expected = format!("general.alignment {n} is not a power of two in 8..=65536");
        refused(GgufBytes::new(0, 1).key_u32("general.alignment", n), &expected);
    }
    refused(
        one_key("general.alignment", 6).raw(&32f32.to_le_bytes()),
        "general.alignment must be u32, is type 6",
    );
    refused(
        one_key("general.alignment", 8).string("32"),
        "general.alignment must be u32, is type 8",
    );
}

#[test]
fn dimensions() {
    for rank in [0, 5, u32::MAX] {
        let bytes = GgufBytes::new(1, 0).string("w").u32(rank).data(256);
        refused(bytes, &format!("tensor \"w\": {rank} dimensions (1 to 4 allowed)"));
    }
    refused(one_tensor(&[0, 256], F32, 0, 0), "tensor \"w\": zero dimension in [0, 256]");
    refused(one_tensor(&[256, 0], F32, 0, 0), "tensor \"w\": zero dimension in [256, 0]");
}

#[test]
fn sizes_that_wrap() {
    let square = [1 << 32, 1 << 32];
    refused(
        one_tensor(&square, F32, 0, 4096),
        "tensor \"w\": size of [4294967296, 4294967296] overflows",
    );
    refused(
        one_tensor(&[1 << 62], F32, 0, 64),
        "tensor \"w\": size of [4611686018427387904] overflows",
    );
    // 2^62 weights are 2^57 blocks of 18 bytes: multiplied before divided, this wraps to little.
    let wraps = one_tensor(&[1 << 62], Q4_0, 0, 4096);
    let len = wraps.0.len();
    refused(
        wraps,
        &format!("tensor \"w\": data ends at byte {}, file has {len}", (1u64 << 57) * 18 + 64),
    );
}

#[test]
fn types_that_are_not_read() {
    // Removed, reserved for activations, newer than this crate, nonsense.
    for ty in [4, 9, 15, 24, 31, 40, u32::MAX] {
        let expected = format!("tensor \"w\": unsupported ggml type {ty}");
        refused(one_tensor(&[256], ty, 0, 1024), &expected);
    }
}

#[test]
fn rows_fill_blocks() {
    refused(
        one_tensor(&[255, 2], Q4_K, 0, 4096),
        "tensor \"w\": row of 255 values is not a multiple of block 256",
    );
}

#[test]
fn offsets() {
    refused(
        one_tensor(&[8], F32, 16, 4096),
        "tensor \"w\": offset 16 is not a multiple of alignment 32",
    );
    for offset in [32, 4096, u64::MAX - 31] {
        let expected =
            format!("tensor \"w\": offset {offset}, expected 0 (tensors must be contiguous)");
        refused(one_tensor(&[8], F32, offset, 4096), &expected);
    }
    let overlap =
        GgufBytes::new(2, 0).tensor("v", &[16], F32, 0).tensor("w", &[8], F32, 32).data(4096);
    refused(overlap, "tensor \"w\": offset 32, expected 64 (tensors must be contiguous)");
}

#[test]
fn data_that_is_cut() {
    let whole = one_tensor(&[1024], F32, 0, 4096).0;
    let len = whole.len();
    for cut in [1, 2048, 4096] {
        let expected = format!("tensor \"w\": data ends at byte {len}, file has {}", len - cut);
        refused(GgufBytes(whole[..len - cut].to_vec()), &expected);
    }
}

#[test]
fn things_that_are_not_files() {
    let dir = tempfile::tempdir().unwrap();
    let error = GgufFile::open(dir.path()).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: not a regular file", dir.path().display()));
    assert!(matches!(GgufFile::open(&dir.path().join("none")), Err(Error::Io { .. })));
    // Opening a pipe that nobody writes to would wait for ever.
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = GgufFile::open(&pipe).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: not a regular file", pipe.display()));
}

#[test]
fn getters_name_key_and_types() {
    let bytes = GgufBytes::new(0, 1).key("k", 6).raw(&1f32.to_le_bytes());
    let (_dir, path) = file("m.gguf", &bytes.0);
    let file = GgufFile::open(&path).unwrap();
    let name = path.display();
    assert_eq!(file.f32("k").unwrap(), Some(1.0));
    assert_eq!(file.u32("absent").unwrap(), None);
    assert_eq!(
        file.u32("k").unwrap_err().to_string(),
        format!("{name}: k: expected u32, found f32")
    );
    assert_eq!(
        file.strings("k").unwrap_err().to_string(),
        format!("{name}: k: expected array of string, found f32")
    );
    assert_eq!(
        file.required_str("absent").unwrap_err().to_string(),
        format!("{name}: missing metadata key \"absent\"")
    );
}

/// A small file with every kind of value and several tensors.
fn valid(dir: &Path) -> Vec<u8> {
    let metadata: Vec<(String, Value)> = vec![
        ("general.architecture".into(), "rwkv6".into()),
        ("general.alignment".into(), 32u32.into()),
        ("a.f32".into(), 1e-5f32.into()),
        ("a.bool".into(), true.into()),
        ("a.i8".into(), (-3i8).into()),
        ("a.u64".into(), u64::MAX.into()),
        ("a.f64".into(), 0.1f64.into()),
        ("tokens".into(), vec!["<s>".to_string(), "\\n".into(), "é".into()].into()),
        ("types".into(), vec![3i32, 1, 5].into()),
        ("flags".into(), vec![true, false].into()),
    ];
    let shape = |ne: &[usize]| Shape::new(ne).unwrap();
    let tensors = vec![
        ("token_embd.weight".into(), TensorType::Q8_0, shape(&[64, 3])),
        ("blk.0.w".into(), TensorType::F32, shape(&[5, 1, 1, 2])),
        ("blk.0.v".into(), TensorType::BF16, shape(&[7])),
        ("output.weight".into(), TensorType::Q4_K, shape(&[256, 2])),
    ];
    let layout = Layout::new(&metadata, tensors).unwrap();
    let path = dir.join("valid.gguf");
    let writer = Writer::create(&path, &layout, true).unwrap();
    for (i, tensor) in layout.tensors().iter().enumerate() {
        writer.write_at(i, 0, &vec![0x11 * (i as u8 + 1); tensor.bytes as usize]).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn every_prefix_that_cuts_data_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = valid(dir.path());
    let file = GgufFile::open(&dir.path().join("valid.gguf")).unwrap();
    let last = file.tensors().last().unwrap();
    let data_end = (file.data_offset() + last.offset + last.bytes) as usize;
    assert!(data_end <= whole.len() && whole.len() < data_end + 32);
    for len in 0..data_end {
        reason(&whole[..len]);
    }
}

/// One to three changes of the kinds that have broken readers: flipped bits, extreme numbers,
/// bytes cut out or repeated, an early end.
fn mutate(bytes: &mut Vec<u8>, header: usize, rng: &mut ChaCha8Rng) {
    const EXTREMES: [u64; 10] =
        [0, 1, 2, 31, 1 << 20, 1 << 31, u32::MAX as u64, 1 << 62, 1 << 63, u64::MAX];
    for _ in 0..rng.random_range(1..=3) {
        let limit = header.min(bytes.len().saturating_sub(8)).max(1);
        let at = rng.random_range(0..limit);
        match rng.random_range(0..6) {
            0 | 1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => bytes[at] = rng.random(),
            3 => {
                let n = EXTREMES[rng.random_range(0..EXTREMES.len())].to_le_bytes();
                let width = [4, 8][rng.random_range(0..2)];
                bytes[at..at + width].copy_from_slice(&n[..width]);
            }
            4 => {
                let end = (at + rng.random_range(1..24)).min(bytes.len());
                let piece: Vec<u8> = bytes[at..end].to_vec();
                if rng.random() {
                    bytes.drain(at..end);
                } else {
                    bytes.splice(at..at, piece);
                }
            }
            _ => bytes.truncate(rng.random_range(9..=bytes.len().max(9))),
        }
        if bytes.len() < 16 {
            return;
        }
    }
}

#[test]
fn mutated_files_never_panic_and_accepted_ones_are_sane() {
    let dir = tempfile::tempdir().unwrap();
    let whole = valid(dir.path());
    let path = dir.path().join("mutated.gguf");
    let header = GgufFile::open(&dir.path().join("valid.gguf")).unwrap().data_offset() as usize;
    let mut accepted = 0;
    for seed in 0..4000 {
        let mut bytes = whole.clone();
        mutate(&mut bytes, header, &mut ChaCha8Rng::seed_from_u64(seed));
        std::fs::write(&path, &bytes).unwrap();
        let opened = GgufFile::open(&path);
        // A new file each time: some file systems wait for the disk when one is truncated.
        std::fs::remove_file(&path).unwrap();
        if let Ok(file) = opened {
            accepted += 1;
            let read: usize = file.tensors().iter().map(|tensor| file.data(tensor).len()).sum();
            assert!(read <= bytes.len(), "seed {seed}: tensors overlap");
            file.cross_check().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let again: Vec<_> =
                file.tensors().iter().map(|t| (t.name.clone(), t.ty, t.shape)).collect();
            Layout::new(file.metadata(), again).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
    }
    // Changes in keys and values are legal, so both outcomes must occur.
    assert!((100..3900).contains(&accepted), "{accepted} of 4000 accepted");
}
