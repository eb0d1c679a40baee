//! Bad inputs and the exact line that each gets, with 2 GiB of address space and 5 s. All but
//! those of outputs end with 3.
//!
//! What must be refused | test
//! --- | ---
//! wrong magic, GGML v1 | `not_a_gguf`
//! version 0, 1, 4, byte-swapped | `not_a_gguf`
//! counts of keys and tensors from 2^20 to 2^64 - 1 | `counts_and_lengths`
//! header cut at any byte | `counts_and_lengths`; each byte in `tests/gguf_reject.rs`
//! metadata of more than 256 MiB | `more_metadata_than_memory_is_planned_for`
//! string of 100 MiB to 2^64 - 1 bytes | `counts_and_lengths`
//! array of 2^30 to 2^64 - 1 elements; nested, once or two million deep | `counts_and_lengths`
//! unknown type of a value or of an array, bool 2 | `keys`
//! duplicate key, duplicate tensor | `keys`, `tensors`
//! alignment 0, 1, 3, 24, 48, 2^31, of another type | `keys`
//! 0, 5, 2^32 - 1 dimensions, a dimension of 0 | `tensors`
//! size that overflows, Q4_0 of 2^62 weights | `tensors`
//! unknown, removed, newer tensor type | `tensors`
//! row that is no multiple of its block | `tensors`
//! offset past the end, misaligned, overlapping, with a gap | `tensors`
//! data one byte short, half of it missing | `tensors`
//! checkpoint: global that is not allowed | `pickles`
//! checkpoint: compressed entry, bomb, deep tuples | `pickles`
//! checkpoint: storage missing, short, not contiguous | `pickles`
//! NaN, infinity in a source | `weights_and_configs`
//! wrong type, missing or extra tensor, config that disagrees | `weights_and_configs`
//! shard missing, truncated, listed twice | `shards`
//! text of more bytes than are read | `text_that_is_too_long`
//! output is an input | `an_output_that_is_an_input`
//! output is a folder or a device | `an_output_that_is_no_file`
//! any file that a verb reads, as something else | `every_verb_refuses_every_file_that_it_reads`

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rwkvq::checkpoint::random::Spec;

use crate::args;
use crate::bytes::GgufBytes;
use crate::model_file::{ModelFile, Tensor};
use crate::torch::{self, state_dict, view, zip, Entry, Pickle, View};
use crate::workplace::{error_line, tiny, Outcome, Workplace};

/// No input may take longer.
const LIMIT: Duration = Duration::from_secs(5);

/// Address space in KiB, where the system can bound it.
const MEMORY_KIB: u64 = 2 << 20;

const F32: u32 = 0;
const Q4_0: u32 = 2;
const Q4_K: u32 = 12;

/// Runs the binary within the bounds. It must end with `code` and the line `file: expected`.
#[track_caller]
fn refused(args: Vec<OsString>, code: i32, file: &Path, expected: &str) {
    let bounded = format!("ulimit -v {MEMORY_KIB} 2>/dev/null; exec \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &bounded, "sh", env!("CARGO_BIN_EXE_rwkvq")])
        .args(&args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("{expected}: no end after {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    let outcome = Outcome {
        code: output.status.code().unwrap_or_else(|| panic!("{expected}: {}", output.status)),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    assert_eq!(error_line(&outcome), format!("{}: {expected}", file.display()));
    assert_eq!(outcome.code, code, "{expected}");
}

/// The GGUF is refused by the verb that only reads its header.
#[track_caller]
fn gguf(bytes: GgufBytes, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.gguf");
    fs::write(&file, bytes.0).unwrap();
    refused(args!["inspect", file], 3, &file, expected);
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
fn not_a_gguf() {
    gguf(GgufBytes(b"GGUX\x03\0\0\0".to_vec()), "not a GGUF file (magic [47, 47, 55, 58])");
    gguf(GgufBytes(b"GGML\x01\0\0\0".to_vec()), "not a GGUF file (magic [47, 47, 4d, 4c])");
    let version = |v: u32| GgufBytes(b"GGUF".to_vec()).u32(v).u64(0).u64(0);
    for v in [0, 1, 4] {
        gguf(version(v), &format!("GGUF version {v} is not supported (2 and 3 are)"));
    }
    let swapped = version(3u32.swap_bytes());
    gguf(swapped, "version 0x3000000: big-endian GGUF is not supported");
}

#[test]
fn counts_and_lengths() {
    for n in [1 << 20, 1 << 32, u64::MAX] {
        gguf(GgufBytes::new(0, n), &format!("metadata count {n} exceeds limit 65536"));
        gguf(GgufBytes::new(n, 0), &format!("tensor count {n} exceeds limit 65536"));
    }
    let declared = "header declares 1 keys and 1 tensors but only 16 bytes follow";
    gguf(GgufBytes::new(1, 1).u64(0).u64(0), declared);
    let mut cut = GgufBytes::new(1, 1).key_u32("k", 1).tensor("a name of 21 bytes ..", &[8], 0, 0);
    cut.0.truncate(80);
    gguf(cut, "truncated at byte 74: dim needs 8 bytes, 6 left");
    for n in [100 << 20, 1 << 63, u64::MAX] {
        let expected = format!("k: length {n} exceeds limit 16777216 at byte 37");
        gguf(one_key("k", 8).u64(n), &expected);
    }
    for n in [1 << 30, u64::MAX] {
        let expected = format!("k: array length {n} exceeds limit 16777216");
        gguf(one_key("k", 9).u32(4).u64(n), &expected);
    }
    // An array in an array, two million deep: the first level is enough.
    for depth in [1, 2_000_000] {
        let nested = (0..depth).fold(one_key("k", 9), |bytes, _| bytes.u32(9).u64(1));
        gguf(nested.u32(4).u64(0), "k: nested arrays are not supported");
    }
}

/// Strings that each may be as long as they are, as values of many keys and in one array. The file is
/// a hole but for what stands before each of them.
#[test]
fn more_metadata_than_memory_is_planned_for() {
    // With the map of the file, too much; the map alone is not.
    const N: u64 = 80;
    const BYTES: u64 = 16 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.gguf");
    let array = GgufBytes::new(0, 1).key("k", 9).u32(8).u64(N);
    let key = |i: u64| GgufBytes::default().key(&format!("k{i}"), 8);
    let strings: [(GgufBytes, &dyn Fn(u64) -> GgufBytes); 2] =
        [(GgufBytes::new(0, N), &key), (array, &|_| GgufBytes::default())];
    for (start, before) in strings {
        let file = fs::File::create(&path).unwrap();
        file.write_all_at(&start.0, 0).unwrap();
        let mut at = start.0.len() as u64;
        for i in 0..N {
            let length = before(i).u64(BYTES).0;
            file.write_all_at(&length, at).unwrap();
            at += length.len() as u64 + BYTES;
        }
        file.set_len(at).unwrap();
        refused(args!["inspect", path], 3, &path, "metadata exceeds 268435456 bytes");
    }
}

#[test]
fn keys() {
    gguf(one_key("k", 13).u32(0), "k: unknown value type 13");
    gguf(one_key("k", 9).u32(13).u64(0), "k: unknown array type 13");
    gguf(one_key("x", 7).raw(&[2]), "x: bool is neither 0 nor 1");
    let twice = GgufBytes::new(0, 2).key_u32("x", 1).key_u32("x", 1);
    gguf(twice, "duplicate metadata key \"x\"");
    for n in [0, 1, 3, 24, 48, 1 << 31] {
        let expected = format!("general.alignment {n} is not a power of two in 8..=65536");
        gguf(GgufBytes::new(0, 1).key_u32("general.alignment", n), &expected);
    }
    let float = one_key("general.alignment", 6).raw(&32f32.to_le_bytes());
    gguf(float, "general.alignment must be u32, is type 6");
}

#[test]
fn tensors() {
    let twice = GgufBytes::new(2, 0).tensor("w", &[8], F32, 0).tensor("w", &[8], F32, 32).data(64);
    gguf(twice, "duplicate tensor name \"w\"");
    for rank in [0, 5, u32::MAX] {
        let bytes = GgufBytes::new(1, 0).string("w").u32(rank).data(256);
        gguf(bytes, &format!("tensor \"w\": {rank} dimensions (1 to 4 allowed)"));
    }
    gguf(one_tensor(&[0, 256], F32, 0, 0), "tensor \"w\": zero dimension in [0, 256]");
    gguf(
        one_tensor(&[1 << 32, 1 << 32], F32, 0, 4096),
        "tensor \"w\": size of [4294967296, 4294967296] overflows",
    );
    // 2^62 weights are 2^57 blocks of 18 bytes: multiplied before divided, this wraps to little.
    let wraps = one_tensor(&[1 << 62], Q4_0, 0, 4096);
    let len = wraps.0.len();
    let end = (1u64 << 57) * 18 + 64;
    gguf(wraps, &format!("tensor \"w\": data ends at byte {end}, file has {len}"));
    // Removed, newer than this program, nonsense.
    for ty in [4, 40, u32::MAX] {
        let expected = format!("tensor \"w\": unsupported ggml type {ty}");
        gguf(one_tensor(&[256], ty, 0, 1024), &expected);
    }
    gguf(
        one_tensor(&[255, 2], Q4_K, 0, 4096),
        "tensor \"w\": row of 255 values is not a multiple of block 256",
    );
    let misplaced = |first: &[u64], offset: u64| {
        GgufBytes::new(2, 0).tensor("v", first, F32, 0).tensor("w", &[8], F32, offset).data(4096)
    };
    let expected = |offset: u64, end: u64| {
        format!("tensor \"w\": offset {offset}, expected {end} (tensors must be contiguous)")
    };
    gguf(misplaced(&[8], 16), "tensor \"w\": offset 16 is not a multiple of alignment 32");
    gguf(misplaced(&[8], 1 << 40), &expected(1 << 40, 32));
    gguf(misplaced(&[16], 32), &expected(32, 64));
    gguf(misplaced(&[8], 4096), &expected(4096, 32));
    let whole = one_tensor(&[1024], F32, 0, 4096).0;
    let len = whole.len();
    for cut in [1, 2048] {
        let expected = format!("tensor \"w\": data ends at byte {len}, file has {}", len - cut);
        gguf(GgufBytes(whole[..len - cut].to_vec()), &expected);
    }
}

/// Converting the PyTorch file is refused.
#[track_caller]
fn torch_file(entries: &[Entry], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("bad.pth"), folder.path().join("out.gguf"));
    fs::write(&file, zip(entries)).unwrap();
    refused(args!["convert", file, "--preset", "q8_0", "-o", out], 3, &file, expected);
    assert!(!out.exists());
}

#[test]
fn pickles() {
    let pickle = |pickle: Pickle| torch::entries(&pickle.0, &[("0", &[7; 8])]);
    let one = |view: View| torch::entries(&state_dict(&[view]), &[("0", &[7; 8])]);
    let two = || view("x", "FloatStorage", "0", &[2]);
    let call = Pickle::new().global("os", "system").raw(b"(").text("true").raw(b"tR.");
    torch_file(&pickle(call), "checkpoint asks for os.system, which is not allowed");
    let mut compressed = one(two());
    let data = compressed.iter_mut().find(|entry| entry.name == "archive/data/0").unwrap();
    data.method = 8;
    torch_file(
        &compressed,
        "zip entry \"archive/data/0\" is compressed; only stored entries are supported",
    );
    // Forty tuples, each of the one before twice; and two million, each in the next.
    let doubled = Pickle::new().raw(b")q\0").raw(&b"h\0h\0\x86q\0".repeat(40));
    torch_file(&pickle(doubled), "tuples nested too deeply");
    let nested = Pickle::new().raw(b")").raw(&vec![0x85; 2_000_000]).raw(b".");
    torch_file(&pickle(nested), "tuples nested too deeply");
    let absent = one(View { key: "77".into(), ..two() });
    torch_file(&absent, "tensor \"x\": storage 77 missing");
    let eight = view("x", "FloatStorage", "0", &[8]);
    let short = torch::entries(&state_dict(&[eight]), &[("0", &[7; 6])]);
    torch_file(&short, "tensor \"x\": storage says 8 elements, entry has 6 bytes");
    // Elements that lie apart are read: a transpose is a view like any other. What is refused is a
    // view that leaves its storage, and one that makes much of little.
    let strided = |shape: &[i64], strides: &[i64]| {
        one(View { shape: shape.into(), strides: strides.into(), ..two() })
    };
    torch_file(
        &strided(&[2], &[2]),
        "tensor \"x\": [2] with strides [2] from element 0 on is not inside the 2 of its storage",
    );
    torch_file(
        &strided(&[1 << 40], &[0]),
        "tensor \"x\": [1099511627776] repeats the 2 elements of its storage; save a copy of it",
    );
}

const KEY: &str = "rwkv.blocks.1.attention.key.weight";

/// A checkpoint changed by `change` is refused for what is wrong in `file` (the folder for "").
#[track_caller]
fn checkpoint(spec: &Spec, change: impl FnOnce(&Workplace), file: &str, expected: &str) {
    let place = Workplace::with(spec);
    change(&place);
    let (model, out) = (place.path("m"), place.path("out.gguf"));
    let file = if file.is_empty() { model.clone() } else { model.join(file) };
    refused(args!["convert", model, "--preset", "q8_0", "-o", out], 3, &file, expected);
    assert!(!out.exists());
}

#[track_caller]
fn weights(change: impl FnOnce(&mut ModelFile), file: &str, expected: &str) {
    let change = |place: &Workplace| ModelFile::change(&place.path("m/model.safetensors"), change);
    checkpoint(&tiny(), change, file, expected);
}

#[test]
fn weights_and_configs() {
    // Elements are counted in the tensor that would be written, which several files can go into: so
    // the checkpoint is named as a whole.
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "infinite")] {
        let tensor = "tensor \"blk.1.time_mix_key.weight\"";
        let expected = format!("{tensor}: element 77 is {word}; nothing was written");
        weights(|model| model.tensor(KEY).set(77, value), "", &expected);
    }
    weights(
        |model| model.tensor(KEY).dtype = "I32".into(),
        "model.safetensors",
        &format!("tensor \"{KEY}\": I32, expected F32/F16/BF16"),
    );
    weights(
        |model| model.0.retain(|tensor| tensor.name != KEY),
        "",
        "missing tensor \"blocks.1.attention.key.weight\"",
    );
    weights(
        |model| {
            let (name, dtype) = ("lora.weight".into(), "F32".into());
            model.0.push(Tensor { name, dtype, shape: vec![1], bytes: vec![0; 4] });
        },
        "",
        "unknown tensor \"lora.weight\"; RWKV-6 has none of this name",
    );
    weights(
        |model| model.0.retain(|tensor| !tensor.name.contains("blocks.1.")),
        "",
        "num_hidden_layers in config.json: expected 1 (as the tensors are shaped), found 2",
    );
}

#[test]
fn shards() {
    const FIRST: &str = "model-00001-of-00002.safetensors";
    const SECOND: &str = "model-00002-of-00002.safetensors";
    const INDEX: &str = "model.safetensors.index.json";
    let spec = Spec { shards: 2, ..tiny() };
    checkpoint(
        &spec,
        |place| fs::remove_file(place.path("m").join(SECOND)).unwrap(),
        INDEX,
        &format!("index names {SECOND} which is absent"),
    );
    let whole = Workplace::with(&spec);
    let second = fs::read(whole.path("m").join(SECOND)).unwrap();
    let (end, n) = (second.len(), second.len() - 1);
    checkpoint(
        &spec,
        |place| fs::write(place.path("m").join(SECOND), &second[..n]).unwrap(),
        SECOND,
        &format!("truncated: data ends at byte {end}, file has {n}"),
    );
    let name = ModelFile::read(&whole.path("m").join(FIRST)).0[0].name.clone();
    let twice = |place: &Workplace| {
        let tensor = ModelFile::read(&place.path("m").join(FIRST)).0.remove(0);
        ModelFile::change(&place.path("m").join(SECOND), |model| model.0.push(tensor));
    };
    let expected = format!("tensor {name:?} is in two shards, {FIRST} and {SECOND}");
    checkpoint(&spec, twice, "", &expected);
}

/// Files of text are bounded before they are read: these would not fit in the memory.
#[test]
fn text_that_is_too_long() {
    let (place, model) = Workplace::with_gguf("f32");
    let long = |name: &str| {
        let path = place.path(name);
        fs::File::create(&path).unwrap().set_len(3 << 30).unwrap();
        path
    };
    let text = long("long.txt");
    let args = args!["imatrix", model, "--input", text, "-o", place.path("out.imatrix")];
    refused(args, 3, &text, "longer than 268435456 bytes");
    let pairs = long("long.tsv");
    let args = args!["eval", model, "--dataset", pairs];
    refused(args, 3, &pairs, "larger than 256 MiB; cut it into parts");
    let report = long("long.json");
    refused(args!["report", report], 3, &report, "larger than 16 MiB");
    refused(args!["compare", report, report], 3, &report, "larger than 16 MiB");
    let words = long("vocab.json");
    let args = args!["embed", model, "--input", model, "--tokenizer", words];
    refused(args, 3, &words, "more than 67108864 bytes");
    let preset = long("preset.json");
    let args = args!["convert", model, "--preset", preset, "-o", place.path("out.gguf")];
    refused(args, 3, &preset, "3221225472 bytes; a preset has at most 1 MiB");
}

/// What is asked for is wrong, not the file: 2, and not 3.
#[test]
fn an_output_that_is_an_input() {
    let (place, model) = Workplace::with_gguf("f32");
    let link = place.path("second-name.gguf");
    fs::hard_link(&model, &link).unwrap();
    for out in [model.clone(), link] {
        let args = args!["convert", model, "--preset", "q8_0", "-o", out, "--overwrite"];
        refused(args, 2, &out, "output is also an input");
    }
    // Every other verb that writes a file, and each file that it reads.
    let texts = place.write("texts.txt", "some text\n");
    let pairs = place.write("pairs.tsv", "1\ta\tb\n2\tc\td\n");
    let words = place.write("words.txt", "a 1\nb 2\n");
    let vocab = place.path("m/rwkv_vocab_v20230424.txt");
    let glove = OsString::from(format!("glove={}", words.display()));
    let second = |file: &Path| {
        let name = file.with_extension("second");
        fs::hard_link(file, &name).unwrap();
        name
    };
    for input in [&model, &texts, &pairs, &words, &vocab] {
        for out in [input.clone(), second(input)] {
            let embed = args!["embed", model, "--input", texts, "--tokenizer", vocab, "-o", out];
            let measure = args!["imatrix", model, "--input", texts, "--tokenizer", vocab];
            let measure = [measure, args!["--overwrite", "-o", out]].concat();
            let eval = args!["eval", model, "--dataset", pairs, "--threshold-from", pairs];
            let eval = [eval, args!["--tokenizer", vocab, "--baseline", glove]].concat();
            let verbs = [
                (vec![&model, &texts, &vocab], embed),
                (vec![&model, &texts, &vocab], measure),
                (vec![&model, &pairs, &words, &vocab], [eval, args!["--report", out]].concat()),
                (vec![&pairs], args!["report", pairs, "--html", out]),
            ];
            for (_, args) in verbs.into_iter().filter(|(inputs, _)| inputs.contains(&input)) {
                refused(args, 2, &out, "output is also an input");
            }
        }
    }
}

/// What is beside an output until it is whole is written and removed as well.
#[test]
fn an_input_with_the_name_of_a_part_of_the_output() {
    let (place, model) = Workplace::with_gguf("f32");
    for suffix in ["partial", "resume", "resume.new"] {
        let texts = place.write(&format!("out.{suffix}"), "some text\n");
        let other = place.path(&format!("other.{suffix}"));
        fs::copy(&model, &other).unwrap();
        for (model, out, input) in [(&model, "out", &texts), (&other, "other", &other)] {
            let args = args!["embed", model, "--input", texts, "-o", place.path(out)];
            refused(args, 2, input, "output is also an input");
        }
        assert_eq!(fs::read(&texts).unwrap(), b"some text\n");
        assert_eq!(fs::read(&other).unwrap(), fs::read(&model).unwrap());
    }
}

/// `eval` reads all files of a checkpoint, and presets.
#[test]
fn a_report_that_is_an_input_of_the_conversion() {
    let (place, model) = Workplace::with_gguf("f32");
    let pairs = place.write("pairs.tsv", "1\ta\tb\n2\tc\td\n");
    let preset = place.write("mine.json", "{}");
    let source = place.path("m");
    for (preset, out) in [
        ("q8_0".into(), source.join("config.json")),
        ("q8_0".into(), source.join("model.safetensors")),
        (preset.clone().into_os_string(), preset.clone()),
    ] {
        let before = fs::read(&out).unwrap();
        let args = args!["eval", source, "--preset", preset, "--dataset", pairs, "--report", out];
        refused(args, 2, &out, "output is also an input");
        assert_eq!(fs::read(&out).unwrap(), before);
    }
    let out = place.path("report.json");
    let args = args!["eval", model, "--dataset", pairs, "--report", out, "--keep-scores", out];
    let outcome = crate::workplace::run(args);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("name the same file"), "{}", outcome.stderr);
}

/// Vectors of different lengths cannot be compared, which is seen before they are computed.
#[test]
fn levels_of_models_of_different_widths() {
    let (place, model) = Workplace::with_gguf("f32");
    let (_other, wider) = Workplace::with_gguf_of(&Spec { n_embd: 64, ..tiny() }, "q8_0");
    fs::rename(&wider, wider.with_file_name("wider-q8_0.gguf")).unwrap();
    let wider = wider.with_file_name("wider-q8_0.gguf");
    let pairs = place.write("pairs.tsv", "1\ta\tb\n2\tc\td\n");
    let args = args!["eval", model, wider, "--dataset", pairs];
    refused(
        args,
        2,
        &wider,
        "2 layers of width 64, m.gguf has 2 of 32; evaluate levels of one model together",
    );
}

/// Renaming over one would replace it, or fail after all the work.
#[test]
fn an_output_that_is_no_file() {
    let (place, model) = Workplace::with_gguf("f32");
    let texts = place.write("texts.txt", "some text\n");
    let pairs = place.write("pairs.tsv", "1\ta\tb\n2\tc\td\n");
    let out = place.path("folder");
    fs::create_dir(&out).unwrap();
    for args in [
        args!["embed", model, "--input", texts, "-o", out],
        args!["imatrix", model, "--input", texts, "--overwrite", "-o", out],
        args!["eval", model, "--dataset", pairs, "--report", out],
        args!["eval", model, "--dataset", pairs, "--keep-scores", out],
    ] {
        let line = place.refused(args, 2, &[]);
        assert_eq!(line, format!("{} is not a regular file", out.display()));
    }
}

/// Every verb, and every kind of file that it reads, as something else: five bytes that are no text
/// and no header.
#[test]
fn every_verb_refuses_every_file_that_it_reads() {
    let (place, model) = Workplace::with_gguf("f32");
    let junk = place.write("junk", b"\xff\x00\x01{[");
    let pairs = place.write("pairs.tsv", "1\ta\tb\n2\tc\td\n");
    let texts = place.write("texts.txt", "some text\n");
    let source = place.path("m");
    let named = |name: &str| place.write(name, b"\xff\x00\x01{[");
    let glove = OsString::from(format!("glove={}", junk.display()));
    let convert = |source: &Path, more: Vec<OsString>| {
        [args!["convert", source, "-o", place.path("out.gguf")], more].concat()
    };
    let embed = |model: &Path, texts: &Path, more: Vec<OsString>| {
        let out = place.path("out.jsonl");
        [args!["embed", model, "--input", texts, "--output", out], more].concat()
    };
    let eval = |model: &Path, pairs: &Path, more: Vec<OsString>| {
        let report = place.path("out.json");
        [args!["eval", model, "--dataset", pairs, "--report", report], more].concat()
    };
    let imatrix = |model: &Path, texts: &Path, more: Vec<OsString>| {
        let out = place.path("out.imatrix");
        [args!["imatrix", model, "--input", texts, "--output", out], more].concat()
    };
    let q8_0 = || args!["--preset", "q8_0"];
    let tokenizer = || args!["--tokenizer", junk];
    for args in [
        convert(&junk, q8_0()),
        convert(&source, args!["--preset", named("junk.json")]),
        convert(&source, args!["--preset", "q8_0", "--vocab", junk]),
        convert(&source, args!["--preset", "q8_0", "--imatrix", junk]),
        args!["inspect", junk],
        embed(&junk, &texts, args![]),
        embed(&model, &junk, args![]),
        embed(&model, &texts, tokenizer()),
        eval(&junk, &pairs, q8_0()),
        eval(&model, &junk, args![]),
        eval(&model, &named("junk.tsv"), args![]),
        eval(&model, &named("junk.csv"), args![]),
        eval(&model, &named("junk.jsonl"), args![]),
        eval(&model, &named("junk.parquet"), args![]),
        eval(&model, &pairs, tokenizer()),
        eval(&model, &pairs, args!["--baseline", glove]),
        eval(&model, &pairs, args!["--threshold-from", junk]),
        imatrix(&junk, &texts, args![]),
        imatrix(&model, &junk, args![]),
        imatrix(&model, &texts, tokenizer()),
        args!["bench", junk],
        args!["report", junk],
        args!["compare", junk, junk],
    ] {
        let line = place.refused(args.clone(), 3, &[]);
        assert!(line.starts_with(junk.to_str().expect("UTF-8")), "{args:?}: {line}");
    }
}
