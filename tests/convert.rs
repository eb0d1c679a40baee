//! From a checkpoint to GGUFs: every weight arrives where it belongs, and the bytes depend on
//! nothing but source and preset.

mod common;
#[path = "common/transformed.rs"]
mod transformed;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use common::fixture::{fixture_dir, random_checkpoint};
use rwkvq::checkpoint::random::Spec;
use rwkvq::convert::{self, ConvertOptions, Job};
use rwkvq::ggml::{self, TensorType};
use rwkvq::gguf::GgufFile;
use rwkvq::mmap::Access;
use rwkvq::recipe::Recipe;
use rwkvq::{Error, Progress, Result, Silent};
use tempfile::TempDir;

/// Superblocks fill all rows; the last two layers are divided by 2 and by 4.
fn wide() -> Spec {
    Spec {
        n_layer: 3,
        n_embd: 256,
        head_size: 64,
        n_ff: Some(512),
        n_vocab: 300,
        rescale_every: 1,
        ..Spec::default()
    }
}

/// Rows of 96 fill blocks of 32 alone, rows of 100 not even these.
fn narrow() -> Spec {
    Spec {
        n_layer: 2,
        n_embd: 96,
        n_ff: Some(100),
        n_vocab: 300,
        low_rank_mix: 8,
        low_rank_decay: 24,
        rescale_every: 1,
        ty: TensorType::F16,
        ..Spec::default()
    }
}

/// More than a superblock, but no whole number of them.
fn uneven() -> Spec {
    Spec { n_layer: 1, n_embd: 320, n_vocab: 300, ty: TensorType::BF16, ..Spec::default() }
}

fn options(n_threads: usize) -> ConvertOptions {
    ConvertOptions { n_threads, ..Default::default() }
}

/// Converts `source` to all `presets` at once, into a folder that goes away with the value.
fn convert_with(
    source: &Path,
    presets: &[&str],
    options: ConvertOptions,
) -> (TempDir, Vec<PathBuf>) {
    let out = tempfile::tempdir().unwrap();
    let paths = try_convert(source, presets, out.path(), options, &Silent).unwrap();
    (out, paths)
}

fn try_convert(
    source: &Path,
    presets: &[&str],
    out: &Path,
    options: ConvertOptions,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>> {
    let recipes: Vec<Recipe> = presets.iter().map(|name| Recipe::open(name).unwrap()).collect();
    let source = convert::open(source, None)?;
    let paths = convert::output_paths(source.name(), &recipes, out)?;
    let jobs = recipes.iter().zip(&paths);
    let jobs: Vec<Job> = jobs
        .map(|(recipe, path)| Job::new(source.as_ref(), recipe, path.clone()))
        .collect::<Result<_>>()?;
    convert::run(source.as_ref(), &jobs, options, progress)?;
    Ok(paths)
}

fn all_presets() -> Vec<&'static str> {
    Recipe::names().collect()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn to_f32(ty: TensorType, bytes: &[u8], n: usize) -> Vec<f32> {
    let mut values = vec![0f32; n];
    ggml::to_f32(ty, bytes, &mut values);
    values
}

/// Every tensor of every file against the checkpoint, read and transformed by code that shares
/// nothing with the library, then quantized by ggml.
fn check_weights(checkpoint: &Path, rescale_every: usize) {
    let expected = transformed::read(checkpoint, rescale_every);
    let (_out, paths) = convert_with(checkpoint, &all_presets(), options(2));
    let mut quantized: HashMap<(String, TensorType), Vec<f32>> = HashMap::new();
    for path in paths {
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(file.tensors().len(), expected.len(), "{}", path.display());
        for tensor in file.tensors() {
            let name = format!("{}: {}", path.display(), tensor.name);
            let source = expected.get(&tensor.name).unwrap_or_else(|| panic!("{name}: not ours"));
            let (n, n_cols) = (tensor.shape.n_elements(), tensor.shape.n_cols());
            assert_eq!((n_cols, n), (source.n_cols, source.values.len()), "{name}");
            let through_ggml =
                quantized.entry((tensor.name.clone(), tensor.ty)).or_insert_with(|| {
                    let n_bytes = tensor.ty.row_bytes(n_cols).unwrap() * (n / n_cols);
                    let mut bytes = vec![0; n_bytes];
                    ggml::quantize(tensor.ty, &source.values, n_cols, None, &mut bytes);
                    to_f32(tensor.ty, &bytes, n)
                });
            let found = to_f32(tensor.ty, file.data(tensor), n);
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
            let differs = through_ggml.iter().zip(&found).position(|pair| !same(pair));
            if let Some(at) = differs {
                let (row, column) = (at / n_cols, at % n_cols);
                let (expected, found) = (through_ggml[at], found[at]);
                panic!("{name}: row {row}, column {column}: {found}, expected {expected}");
            }
        }
    }
}

#[test]
fn every_weight_of_an_f32_checkpoint_arrives() {
    check_weights(random_checkpoint(&wide()).path(), 1);
}

#[test]
fn every_weight_of_an_f16_checkpoint_with_narrow_rows_arrives() {
    check_weights(random_checkpoint(&narrow()).path(), 1);
}

#[test]
fn every_weight_of_a_bf16_checkpoint_with_uneven_rows_arrives() {
    check_weights(random_checkpoint(&uneven()).path(), 6);
}

/// Eight layers, so that `rescale_every` 6 divides the last two.
#[test]
fn every_weight_of_the_committed_checkpoint_arrives() {
    check_weights(&fixture_dir(), 6);
}

#[test]
fn bytes_do_not_depend_on_threads_or_company() {
    let checkpoint = random_checkpoint(&wide());
    let presets = ["f16", "q8_0", "q5_k_m", "q4_k"];
    let (_one, expected) = convert_with(checkpoint.path(), &presets, options(1));
    let expected: Vec<Vec<u8>> = expected.iter().map(|path| fs::read(path).unwrap()).collect();
    for n_threads in [2, 7] {
        let (_out, paths) = convert_with(checkpoint.path(), &presets, options(n_threads));
        for (path, expected) in paths.iter().zip(&expected) {
            assert!(fs::read(path).unwrap() == *expected, "{} threads: {path:?}", n_threads);
        }
    }
    for (preset, expected) in presets.iter().zip(&expected) {
        let (_out, paths) = convert_with(checkpoint.path(), &[preset], options(2));
        assert!(fs::read(&paths[0]).unwrap() == *expected, "{preset} alone");
    }
}

#[test]
fn shards_give_the_bytes_of_one_file() {
    // The name of the folder is in the metadata.
    let folders = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (i, shards) in [1, 2, 5].into_iter().enumerate() {
        let folder = folders.path().join(i.to_string()).join("model");
        rwkvq::checkpoint::random::write(&folder, &Spec { shards, ..narrow() }, &Silent).unwrap();
        let (_out, paths) = convert_with(&folder, &["f32", "q4_k_m"], options(2));
        files.push(paths.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>());
    }
    assert!(files[0] == files[1], "two shards");
    assert!(files[0] == files[2], "five shards");
}

#[test]
fn names_of_the_original_files_give_the_same_bytes() {
    let checkpoint = random_checkpoint(&narrow());
    let folder = tempfile::tempdir().unwrap();
    let hugging_face = folder.path().join("model");
    fs::create_dir(&hugging_face).unwrap();
    for name in names_in(checkpoint.path()) {
        fs::copy(checkpoint.path().join(&name), hugging_face.join(&name)).unwrap();
    }
    // The file's stem is the folder's name, so that not even general.name differs. The vocabulary
    // is elsewhere, to be given by hand.
    let original = folder.path().join("original");
    fs::create_dir(&original).unwrap();
    fs::copy(hugging_face.join("config.json"), original.join("config.json")).unwrap();
    let file = original.join("model.safetensors");
    transformed::rename(&hugging_face.join("model.safetensors"), &file, transformed::original_name);
    let vocab = hugging_face.join("rwkv_vocab_v20230424.txt");

    let (_out, expected) = convert_with(&hugging_face, &["f32", "q4_k"], options(2));
    let missing = convert::open(&file, None).unwrap_err().to_string();
    assert!(
        missing.contains("rwkv_vocab_v20230424.txt") && missing.contains("--vocab"),
        "{missing}"
    );
    let source = convert::open(&file, Some(vocab)).unwrap();
    for (preset, expected) in ["f32", "q4_k"].iter().zip(expected) {
        let recipe = Recipe::open(preset).unwrap();
        let job = Job::new(source.as_ref(), &recipe, folder.path().join("x.gguf")).unwrap();
        let options = ConvertOptions { n_threads: 2, overwrite: true, ..Default::default() };
        convert::run(source.as_ref(), std::slice::from_ref(&job), options, &Silent).unwrap();
        assert!(fs::read(&job.path).unwrap() == fs::read(expected).unwrap(), "{preset}");
    }
}

#[test]
fn quantizing_the_f32_file_gives_the_bytes_of_converting_at_once() {
    for spec in [wide(), narrow()] {
        let checkpoint = random_checkpoint(&spec);
        let presets = ["q8_0", "q5_k_s", "q4_k", "q2_k"];
        let (_out, f32_file) = convert_with(checkpoint.path(), &["f32"], options(2));
        let (_direct, direct) = convert_with(checkpoint.path(), &presets, options(2));
        let (_in_two_steps, in_two_steps) = convert_with(&f32_file[0], &presets, options(2));
        for (a, b) in direct.iter().zip(&in_two_steps) {
            assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{}", a.display());
        }
    }
}

#[test]
fn the_next_file_is_refused_if_it_is_quantized_already() {
    let checkpoint = random_checkpoint(&narrow());
    let (_out, paths) = convert_with(checkpoint.path(), &["q8_0"], options(2));
    let error = convert::open(&paths[0], None).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }));
    let message = error.to_string();
    assert!(message.contains("is q8_0 already; quantize from an f32"), "{message}");
}

/// A source that is mapped must stay as it is until all of it is read; one that was read need not.
#[test]
fn a_gguf_that_is_written_to_is_no_source() {
    let checkpoint = random_checkpoint(&narrow());
    let (folder, paths) = convert_with(checkpoint.path(), &["f32"], options(2));
    let (_expected, expected) = convert_with(&paths[0], &["q8_0"], options(2));
    let out = folder.path().join("out.gguf");
    let recipe = Recipe::open("q8_0").unwrap();
    let requantize = |access| {
        let source = convert::open_with(&paths[0], None, access)?;
        let file = fs::File::options().write(true).open(&paths[0]).unwrap();
        file.write_all_at(&[0; 64], file.metadata().unwrap().len() - 64).unwrap();
        // A clock may be too coarse to tell that some time has passed.
        file.set_modified(UNIX_EPOCH).unwrap();
        let job = Job::new(source.as_ref(), &recipe, out.clone())?;
        convert::run(source.as_ref(), &[job], options(2), &Silent)
    };
    requantize(Access::Read).unwrap();
    assert!(fs::read(&out).unwrap() == fs::read(&expected[0]).unwrap());
    fs::remove_file(&out).unwrap();
    fs::File::options()
        .write(true)
        .open(&paths[0])
        .unwrap()
        .set_modified(SystemTime::now())
        .unwrap();
    let error = requantize(Access::Map).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.starts_with(paths[0].to_str().unwrap()), "{message}");
    assert!(message.contains("changed while in use"), "{message}");
    assert!(!out.exists());
}

/// Looks at the target whenever a piece is done; stops half way if asked to.
struct Watch<'a> {
    target: &'a Path,
    expected: &'a [u8],
    stop: bool,
    done: AtomicU64,
    total: AtomicU64,
    kept: AtomicBool,
}

impl Progress for Watch<'_> {
    fn begin(&self, _phase: &str, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
        if fs::read(self.target).unwrap() != self.expected {
            self.kept.store(false, Ordering::Relaxed);
        }
    }

    fn note(&self, _message: &str) {}

    fn cancelled(&self) -> bool {
        let half = self.total.load(Ordering::Relaxed) / 2;
        self.stop && self.done.load(Ordering::Relaxed) > half
    }
}

#[test]
fn the_old_file_stays_until_the_new_one_is_whole() {
    let checkpoint = random_checkpoint(&narrow());
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("m.gguf");
    fs::write(&target, b"old").unwrap();
    let refused = try_convert(checkpoint.path(), &["q8_0"], &target, options(2), &Silent);
    assert!(matches!(refused, Err(Error::Argument { .. })));
    let overwrite = ConvertOptions { n_threads: 2, overwrite: true, ..Default::default() };
    let watch = |stop| Watch {
        target: &target,
        expected: b"old",
        stop,
        done: AtomicU64::new(0),
        total: AtomicU64::new(0),
        kept: AtomicBool::new(true),
    };

    let stopped = watch(true);
    let error = try_convert(checkpoint.path(), &["q8_0"], &target, overwrite, &stopped);
    assert!(matches!(error, Err(Error::Interrupted)));
    assert_eq!(fs::read(&target).unwrap(), b"old");
    assert_eq!(names_in(out.path()), ["m.gguf"]);

    let whole = watch(false);
    try_convert(checkpoint.path(), &["q8_0"], &target, overwrite, &whole).unwrap();
    assert!(whole.kept.into_inner(), "the old file was touched while the new one was written");
    assert_eq!(whole.done.into_inner(), whole.total.into_inner(), "progress reaches its total");
    assert_eq!(names_in(out.path()), ["m.gguf"]);
    assert_eq!(GgufFile::open(&target).unwrap().u32("general.file_type").unwrap(), Some(7));
}

/// Keys, types and order that llama.cpp's converter writes, then what llama-quantize makes of it.
#[test]
fn metadata_is_llama_cpps() {
    let (_out, paths) = convert_with(&fixture_dir(), &["f32", "q4_k_m"], options(2));
    let [f32_file, mixture] = [&paths[0], &paths[1]].map(|path| {
        let file = GgufFile::open(path).unwrap();
        let line = |key: &str| {
            let value = file.get(key).unwrap();
            let json = value.to_json().to_string();
            let cut: String = json.chars().take(40).collect();
            format!("{key} {} {cut}", value.type_name())
        };
        file.metadata().iter().map(|(key, _)| line(key)).collect::<Vec<_>>()
    });
    let head = [
        "general.architecture string \"rwkv6\"",
        "general.type string \"model\"",
        "general.name string \"finch-fixture\"",
        "general.size_label string \"741K\"",
        "rwkv6.context_length u32 1048576",
        "rwkv6.embedding_length u32 64",
        "rwkv6.block_count u32 8",
        "rwkv6.attention.layer_norm_epsilon f32 0.00001",
        "rwkv6.rescale_every_n_layers u32 6",
        "rwkv6.wkv.head_size u32 16",
        "rwkv6.time_mix_extra_dim u32 32",
        "rwkv6.time_decay_extra_dim u32 64",
        "rwkv6.feed_forward_length u32 224",
    ];
    let tail = [
        "tokenizer.ggml.model string \"rwkv\"",
        "tokenizer.ggml.tokens array of string [\"<s>\",\"\\\\x00\",\"\\\\x01\",\"\\\\x02\",\"\\\\x03\",\"",
        "tokenizer.ggml.token_type array of i32 [3,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
        "tokenizer.ggml.bos_token_id u32 0",
        "tokenizer.ggml.eos_token_id u32 0",
        "tokenizer.ggml.eot_token_id u32 261",
    ];
    let mut converter = head.to_vec();
    converter.extend(["general.file_type u32 0", "rwkv6.attention.head_count u32 0"]);
    converter.push("general.quantization_version u32 2");
    converter.extend(tail);
    assert_eq!(f32_file, converter);
    let mut quantized = head.to_vec();
    quantized.push("rwkv6.attention.head_count u32 0");
    quantized.extend(tail);
    quantized.extend(["general.quantization_version u32 2", "general.file_type u32 15"]);
    assert_eq!(mixture, quantized);
}

#[test]
fn special_tokens_and_sampling_hints_have_their_keys_and_order() {
    let checkpoint = random_checkpoint(&narrow());
    let path = checkpoint.path().join("config.json");
    let mut config = common::fixture::json(&path);
    let fields = config.as_object_mut().unwrap();
    fields.remove("bos_token_id");
    // Whatever config.json says, a World text ends with 0.
    fields.insert("eos_token_id".into(), 7.into());
    fields.insert("pad_token_id".into(), 5.into());
    fs::write(&path, config.to_string()).unwrap();
    let hints = r#"{"temperature": 1.5, "top_k": 50, "top_p": 0.25, "repetition_penalty": 2}"#;
    fs::write(checkpoint.path().join("generation_config.json"), hints).unwrap();
    let added = r#"{"add_eos_token": false, "add_bos_token": true, "use_fast": false}"#;
    fs::write(checkpoint.path().join("tokenizer_config.json"), added).unwrap();
    let (_out, paths) = convert_with(checkpoint.path(), &["f16"], options(2));
    let file = GgufFile::open(&paths[0]).unwrap();
    let with = |start: &str| -> Vec<String> {
        let keys = file.metadata().iter().filter(|(key, _)| key.starts_with(start));
        keys.map(|(key, value)| format!("{key} {} {}", value.type_name(), value.to_json()))
            .collect()
    };
    assert_eq!(
        with("general.sampling."),
        [
            "general.sampling.top_k i32 50",
            "general.sampling.top_p f32 0.25",
            "general.sampling.temp f32 1.5",
            "general.sampling.penalty_repeat f32 2.0",
        ]
    );
    let tokens = with("tokenizer.ggml.");
    assert_eq!(
        tokens[3..],
        [
            "tokenizer.ggml.eos_token_id u32 0",
            "tokenizer.ggml.padding_token_id u32 5",
            "tokenizer.ggml.eot_token_id u32 261",
            "tokenizer.ggml.bos_token_id u32 0",
            "tokenizer.ggml.add_bos_token bool true",
            "tokenizer.ggml.add_eos_token bool false",
        ]
    );
}
