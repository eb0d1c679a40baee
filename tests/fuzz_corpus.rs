//! The bodies of the fuzz targets on files that are kept: valid ones, from which `tools/fuzz.sh`
//! starts, and those in `tests/data/fuzz/TARGET/`, which broke a reader once: this or another.
//!
//! `RWKVQ_WRITE_SEEDS=FOLDER` writes the valid ones into `FOLDER/TARGET/`.

mod common;

#[path = "fuzz/bodies.rs"]
mod bodies;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::bytes::GgufBytes;
use common::{fixture, torch, valid};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use rwkvq::ggml::TensorType;
use rwkvq::gguf::GgufFile;
use rwkvq::quant;

/// No file may take longer.
const LIMIT: Duration = Duration::from_secs(5);
/// Address space of the process.
const MEMORY: u64 = 2 << 30;

/// Inputs that the target `name` reads to their end.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let spec = bodies::spec();
    let checkpoint = || fixture::random_checkpoint(&spec);
    let part = |name: &str| fs::read(checkpoint().path().join(name)).unwrap();
    let weights = || part("model.safetensors");
    match name {
        "gguf" => vec![small_gguf(), valid::data("fixture.imatrix.gguf")],
        "model" => ["q8_0", "f16"].map(|preset| model_header(&valid::gguf(&spec, preset))).into(),
        "torch" => {
            let shape = [4, 2];
            let views = [
                torch::view("a", "FloatStorage", "0", &shape),
                torch::view("b", "HalfStorage", "1", &shape),
            ];
            let mut seeds = vec![chosen(1, &torch::state_dict(&views))];
            let files = ["module.bin", "views.bin", "wrapped.pth"];
            seeds.extend(files.map(|file| chosen(0, &valid::data(&format!("torch/{file}")))));
            seeds
        }
        "safetensors" => vec![
            chosen(0, &weights()),
            chosen(1, &index_of_one(&weights())),
            chosen(2, &part("config.json")),
            chosen(3, br#"{"add_bos_token": false, "bos_token": "<s>"}"#),
            chosen(4, br#"{"bos_token_id": 0, "eos_token_id": 0}"#),
        ],
        "vocabulary" => vec![
            chosen(0, &part("rwkv_vocab_v20230424.txt")),
            chosen(1, valid::TOKENIZER.as_bytes()),
            chosen(2, bodies::WORDS.as_bytes()),
            chosen(3, valid::MERGES.as_bytes()),
            chosen(4, &token_list(&valid::gguf(&spec, "q8_0"))),
        ],
        "blocks" => {
            let floats: Vec<f32> = (0..512).map(|i| (i as f32 * 0.7).sin()).collect();
            let bytes: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
            let types = (0u8..).zip(TensorType::ALL);
            let both =
                |(i, &ty)| [chosen(2 * i, &quantized(ty, &floats)), chosen(2 * i + 1, &bytes)];
            types.flat_map(both).collect()
        }
        "dataset" => vec![
            chosen(0, valid::PAIRS.as_bytes()),
            chosen(1, valid::CSV.as_bytes()),
            chosen(2, valid::JSONL.as_bytes()),
            chosen(3, &valid::data("parquet/mrpc.parquet")),
            chosen(3, &valid::data("parquet/stsb.parquet")),
            chosen(3, &valid::data("parquet/sick.parquet")),
        ],
        "preset" => vec![
            chosen(0, valid::PRESET),
            chosen(1, valid::report(&spec).as_bytes()),
            chosen(2, SCORES.as_bytes()),
        ],
        "vectors" => vec![
            chosen(0, &valid::data("fixture.imatrix.gguf")),
            chosen(1, valid::VECTORS.as_bytes()),
            chosen(2, &NPY.concat()),
            chosen(3, &valid::data("fixture.imatrix.dat")),
        ],
        other => panic!("no seeds for the target {other}"),
    }
}

const SCORES: &str = r#"{"schema_version": 1, "runs": [{"dataset": "d", "file_sha256": "00",
    "protocol": "paper", "labels": [1, 0.5], "levels": [{"preset": "q8_0",
    "layers": {"0": [0.9, 1e-3], "final": [1, -1]}}]}]}"#;

/// A NumPy array of two rows of two.
const NPY: [&[u8]; 3] = [
    b"\x93NUMPY\x01\x00\x46\x00",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }          \n",
    &[0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 128, 63, 0, 0, 128, 191],
];

/// `bytes` behind the byte by which a target tells kinds of files apart.
fn chosen(which: u8, bytes: &[u8]) -> Vec<u8> {
    [&[which], bytes].concat()
}

/// A file with a key of every type and three tensors.
fn small_gguf() -> Vec<u8> {
    let mut bytes = GgufBytes::new(3, 5 + 12).key_u32("general.alignment", 32);
    for ty in [0u32, 1, 7] {
        bytes = bytes.key(&format!("byte.{ty}"), ty).raw(&[1]);
        bytes = bytes.key(&format!("bytes.{ty}"), 9).u32(ty).u64(2).raw(&[0, 1]);
    }
    for (ty, n) in [(2u32, 2), (4, 4), (6, 4), (10, 8), (12, 8)] {
        bytes = bytes.key(&format!("number.{ty}"), ty).raw(&vec![7; n]);
        bytes = bytes.key(&format!("numbers.{ty}"), 9).u32(ty).u64(1).raw(&vec![7; n]);
    }
    let bytes = bytes.tensor("f32", &[8], 0, 0).tensor("q8_0", &[32, 2], 8, 32);
    bytes.tensor("q4_k", &[256, 1, 1, 1], 12, 128).data(32 + 96 + 144).0
}

/// The header of `file`, padded.
fn model_header(file: &[u8]) -> Vec<u8> {
    let path = tempfile::NamedTempFile::new().unwrap();
    fs::write(&path, file).unwrap();
    let n = GgufFile::open(path.path()).unwrap().data_offset() as usize;
    file[..n].to_vec()
}

/// The index of a file of weights that has no number in its name.
fn index_of_one(weights: &[u8]) -> Vec<u8> {
    let index = String::from_utf8(valid::index_of(weights)).unwrap();
    index.replace("model-00001-of-00001.safetensors", "model.safetensors").into_bytes()
}

/// The tokens of a model, a line each: the type, the text.
fn token_list(model: &[u8]) -> Vec<u8> {
    let path = tempfile::NamedTempFile::new().unwrap();
    fs::write(&path, model).unwrap();
    let file = GgufFile::open(path.path()).unwrap();
    let tokens = file.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    let types = file.i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    let lines: Vec<String> = types.iter().zip(tokens).map(|(ty, t)| format!("{ty}{t}")).collect();
    lines.join("\n").into_bytes()
}

/// `floats` in blocks of `ty`. Those by codebook are whatever the bytes say: ggml takes long to make
/// the books that it searches.
fn quantized(ty: TensorType, floats: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0x35; ty.row_bytes(floats.len()).unwrap()];
    if quant::supports(ty) {
        quant::quantize(ty, floats, floats.len(), None, &mut bytes);
    }
    bytes
}

/// The files of `folder`, if there is such a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_target_reads_its_seeds() {
    let folder = std::env::var_os("RWKVQ_WRITE_SEEDS").map(PathBuf::from);
    for (name, run) in bodies::TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty());
        for (i, seed) in seeds.iter().enumerate() {
            run(seed).unwrap_or_else(|e| panic!("{name}, seed {i}: {e}"));
            if let Some(folder) = folder.as_ref().map(|folder| folder.join(name)) {
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(format!("seed-{i}")), seed).unwrap();
            }
        }
    }
}

#[test]
fn what_once_broke_a_reader_breaks_none() {
    let maximum = getrlimit(Resource::As).maximum;
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY), maximum }).unwrap();
    for (name, run) in bodies::TARGETS {
        let files = files(&fixture::data_dir().join("fuzz").join(name));
        assert!(!files.is_empty(), "no files for {name}");
        for path in files {
            let bytes = fs::read(&path).unwrap();
            let begin = Instant::now();
            // Read or refused: the target itself panics at what must not be.
            if let Err(e) = run(&bytes) {
                assert!(!e.to_string().contains('\n'), "{}: {e}", path.display());
            }
            assert!(begin.elapsed() < LIMIT, "{}: {:?}", path.display(), begin.elapsed());
        }
    }
}
