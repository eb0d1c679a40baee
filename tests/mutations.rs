//! Valid files of every kind that the program reads, changed at random: each is read, or refused
//! with an error. None panics, ends the process, takes 5 s or more memory than 2 GiB.
//!
//! `RWKVQ_MUTATIONS` says how many files of each kind; `tools/mutate.sh` asks for many.

mod common;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{channel, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{fixture, run, valid};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use rwkvq::checkpoint::random::Spec;
use rwkvq::checkpoint::Checkpoint;
use rwkvq::convert::{self, ConvertOptions, Job};
use rwkvq::embed::Pooling;
use rwkvq::eval::{table, Dataset, Glove, Report};
use rwkvq::gguf::GgufFile;
use rwkvq::imatrix::Imatrix;
use rwkvq::model::Model;
use rwkvq::recipe::Recipe;
use rwkvq::tokenizer::Tokenizer;
use rwkvq::{Result, Silent};

/// Files of each kind in an ordinary run.
const DEFAULT_COUNT: u64 = 100;
/// No file may take longer.
const LIMIT: Duration = Duration::from_secs(5);
/// Address space of the process.
const MEMORY: u64 = 2 << 30;

/// Valid files, one of which is changed, and what reads them: the folder, the changed file.
struct Kind {
    name: &'static str,
    files: Vec<(&'static str, Vec<u8>)>,
    /// Index of the one that is changed.
    changed: usize,
    read: fn(&Path, &Path) -> Result<()>,
}

fn model(_: &Path, file: &Path) -> Result<()> {
    GgufFile::open(file)?.cross_check()?;
    let model = Arc::new(Model::open(file)?);
    let ids = model.tokenizer()?.encode("a few words\n")?;
    let mut embedder = run::embedder(&model, Pooling::Mean, run::one_thread());
    embedder.embed_ids(&[ids]).map(drop)
}

fn folder(folder: &Path, _: &Path) -> Result<()> {
    converted(folder)
}

fn single_file(_: &Path, file: &Path) -> Result<()> {
    converted(file)
}

fn converted(source: &Path) -> Result<()> {
    let out = tempfile::tempdir().unwrap();
    let source = convert::open(source, None)?;
    let job = Job::new(source.as_ref(), &Recipe::open("q8_0")?, out.path().join("out.gguf"))?;
    let options = ConvertOptions { n_threads: 1, ..Default::default() };
    convert::run(source.as_ref(), &[job], options, &Silent).map(drop)
}

fn torch(_: &Path, file: &Path) -> Result<()> {
    let checkpoint = Checkpoint::open(file)?;
    for (i, tensor) in checkpoint.tensors().iter().enumerate() {
        let mut values = vec![0.0; tensor.shape.n_elements()];
        checkpoint.read_f32(i, 0, &mut values)?;
    }
    Ok(())
}

fn tokenizer(_: &Path, file: &Path) -> Result<()> {
    let tokenizer = Tokenizer::open(file)?;
    let ids = tokenizer.encode("ab ba")?;
    tokenizer.decode(&ids).map(drop)
}

fn merges(folder: &Path, _: &Path) -> Result<()> {
    tokenizer(folder, &folder.join("vocab.json"))
}

fn dataset(_: &Path, file: &Path) -> Result<()> {
    Dataset::open(file, None, None).map(drop)
}

fn glove(folder: &Path, file: &Path) -> Result<()> {
    let pairs = Dataset::open(folder.join("pairs.tsv"), None, None)?;
    Glove::open(file, &pairs)?.evaluate(&pairs);
    Ok(())
}

fn preset(_: &Path, file: &Path) -> Result<()> {
    Recipe::open(file.to_str().expect("UTF-8")).map(drop)
}

fn imatrix(_: &Path, file: &Path) -> Result<()> {
    Imatrix::open(file).map(drop)
}

fn report(_: &Path, file: &Path) -> Result<()> {
    let json = fs::read(file).unwrap();
    let report = Report::from_json(file, &String::from_utf8_lossy(&json))?;
    report.check()?;
    table::render(&report);
    Ok(())
}

fn kinds() -> Vec<Kind> {
    let kind = |name, read, changed, files: &[(&'static str, &[u8])]| {
        let files = files.iter().map(|&(file, bytes)| (file, bytes.to_vec())).collect();
        Kind { name, files, changed, read }
    };
    let data = valid::data;
    let spec = Spec { n_layer: 1, n_embd: 32, n_vocab: 300, ..Spec::default() };
    let small = |preset| valid::gguf(&spec, preset);
    let checkpoint = fixture::random_checkpoint(&spec);
    let part = |name: &str| fs::read(checkpoint.path().join(name)).unwrap();
    let (config, weights) = (part("config.json"), part("model.safetensors"));
    let vocabulary = part("rwkv_vocab_v20230424.txt");
    let index = valid::index_of(&weights);
    let (a, b) = ("config.json", "rwkv_vocab_v20230424.txt");
    let whole: [(&str, &[u8]); 3] =
        [(a, &config), (b, &vocabulary), ("model.safetensors", &weights)];
    let sharded: [(&str, &[u8]); 4] = [
        (a, &config),
        (b, &vocabulary),
        ("model-00001-of-00001.safetensors", &weights),
        ("model.safetensors.index.json", &index),
    ];
    let gpt2: [(&str, &[u8]); 2] =
        [("vocab.json", valid::WORDS.as_bytes()), ("merges.txt", valid::MERGES.as_bytes())];
    let vectors: [(&str, &[u8]); 2] =
        [("glove.txt", valid::VECTORS.as_bytes()), ("pairs.tsv", valid::PAIRS.as_bytes())];
    vec![
        kind("GGUF, run", model, 0, &[("m.gguf", &small("q8_0"))]),
        kind("GGUF, converted", single_file, 0, &[("m.gguf", &small("f16"))]),
        kind("safetensors", folder, 2, &whole),
        kind("config.json", folder, 0, &whole),
        kind("World vocabulary", folder, 1, &whole),
        kind("index json", folder, 3, &sharded),
        kind("PyTorch, zip", torch, 0, &[("m.bin", &data("torch/module.bin"))]),
        kind("PyTorch, views", torch, 0, &[("m.bin", &data("torch/views.bin"))]),
        kind("PyTorch, wrapped", torch, 0, &[("m.pth", &data("torch/wrapped.pth"))]),
        kind("tokenizer.json", tokenizer, 0, &[("tokenizer.json", valid::TOKENIZER.as_bytes())]),
        kind("vocab.json", tokenizer, 0, &gpt2),
        kind("merges.txt", merges, 1, &gpt2),
        kind("TSV", dataset, 0, &[("pairs.tsv", valid::PAIRS.as_bytes())]),
        kind("CSV", dataset, 0, &[("pairs.csv", valid::CSV.as_bytes())]),
        kind("JSONL", dataset, 0, &[("pairs.jsonl", valid::JSONL.as_bytes())]),
        kind("Parquet", dataset, 0, &[("pairs.parquet", &data("parquet/stsb.parquet"))]),
        kind("GloVe", glove, 0, &vectors),
        kind("preset", preset, 0, &[("p.json", valid::PRESET)]),
        kind("imatrix, GGUF", imatrix, 0, &[("i.gguf", &data("fixture.imatrix.gguf"))]),
        kind("imatrix, dat", imatrix, 0, &[("i.dat", &data("fixture.imatrix.dat"))]),
        kind("report.json", report, 0, &[("r.json", valid::report(&spec).as_bytes())]),
    ]
}

/// One to three changes of the kinds that have broken readers: flipped bits, extreme numbers, bytes
/// cut out or repeated, fragments of text formats, an early end. Half of them hit the first bytes,
/// where the headers are.
fn mutate(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    const NUMBERS: [u64; 10] =
        [0, 1, 2, 31, 1 << 20, 1 << 31, u32::MAX as u64, 1 << 62, 1 << 63, u64::MAX];
    const FRAGMENTS: [&[u8]; 18] = [
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\t",
        b"\n",
        b"\0",
        b"-",
        b"1e999",
        b"nan",
        b"\\u0000",
        b"\\ud800",
        b"\xff\xfe",
        b"99999999999999999999",
        b"null",
    ];
    for _ in 0..rng.random_range(1..=3) {
        let reach = if rng.random() { bytes.len().min(512) } else { bytes.len() };
        let at = rng.random_range(0..reach.max(1));
        let end = (at + rng.random_range(1..24)).min(bytes.len());
        match rng.random_range(0..8) {
            _ if bytes.is_empty() => bytes.push(rng.random()),
            0 | 1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => bytes[at] = rng.random(),
            3 => {
                let number = NUMBERS.choose(rng).expect("some").to_le_bytes();
                let n = number.len().min(bytes.len() - at);
                bytes[at..at + n].copy_from_slice(&number[..n]);
            }
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec().repeat(rng.random_range(1..200));
                drop(bytes.splice(at..at, piece));
            }
            6 => {
                let fragment = FRAGMENTS.choose(rng).expect("some").repeat(rng.random_range(1..4));
                let end = if rng.random() { at } else { end };
                drop(bytes.splice(at..end, fragment));
            }
            _ => bytes.truncate(at),
        }
    }
}

/// Is told of each file that is begun, and ends the process if nothing more is heard for too long:
/// a reader that does not come back could not be told otherwise.
fn watch() -> Sender<String> {
    let (begun, files) = channel::<String>();
    std::thread::spawn(move || {
        let mut current = String::new();
        loop {
            match files.recv_timeout(2 * LIMIT) {
                Ok(file) => current = file,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    // Past the harness, which keeps what a test prints until it ends.
                    let _ = writeln!(io::stderr(), "{current}: no end after {:?}", 2 * LIMIT);
                    std::process::abort();
                }
            }
        }
    });
    begun
}

static PANICS: AtomicU64 = AtomicU64::new(0);

fn count_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        tell(info);
    }));
}

#[test]
fn every_changed_file_is_read_or_refused() {
    let count = std::env::var("RWKVQ_MUTATIONS").map_or(DEFAULT_COUNT, |n| n.parse().unwrap());
    let kinds = kinds();
    let maximum = getrlimit(Resource::As).maximum;
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY), maximum }).unwrap();
    let begun = watch();
    count_panics();
    let (mut n_read, mut n_refused) = (0, 0);
    for kind in &kinds {
        let (mut read, mut refused) = (0u64, 0u64);
        // The first is left as it is.
        for seed in 0..=count {
            // A new folder each time: some file systems wait for the disk when a file is truncated.
            let folder = tempfile::tempdir().unwrap();
            for (i, (name, bytes)) in kind.files.iter().enumerate() {
                let mut bytes = bytes.clone();
                if i == kind.changed && seed > 0 {
                    mutate(&mut bytes, &mut ChaCha8Rng::seed_from_u64(seed));
                }
                fs::write(folder.path().join(name), bytes).unwrap();
            }
            let what = format!("{}, seed {seed}", kind.name);
            begun.send(what.clone()).unwrap();
            let begin = Instant::now();
            let file = folder.path().join(kind.files[kind.changed].0);
            let result = (kind.read)(folder.path(), &file);
            assert!(begin.elapsed() < LIMIT, "{what}: {:?}", begin.elapsed());
            match result {
                Ok(()) => read += 1,
                Err(e) if seed == 0 => panic!("{what}, nothing changed: {e}"),
                Err(e) => {
                    let message = e.to_string();
                    assert!(!message.contains('\n'), "{what}: {message}");
                    refused += 1;
                }
            }
        }
        println!("{:18} {read:8} read {refused:8} refused", kind.name);
        assert!(refused > 0, "{}: nothing was refused", kind.name);
        (n_read, n_refused) = (n_read + read, n_refused + refused);
    }
    // One that a reader catches is none for a user, and still a file that someone did not expect.
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "panics that were caught");
    println!("{} files: {n_read} read, {n_refused} refused, 0 crashes", n_read + n_refused);
}
