//! What the fuzz targets do with their bytes: files are read, and what comes out is used as a
//! program would. An error is as good as a success; a panic, a signal, a hang or too much memory is
//! not. `tests/fuzz_corpus.rs` runs the same functions on files that are kept.
//!
//! Where a target reads several kinds of files, the first byte says which (modulo their number).

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rwkvq::checkpoint::random::{self, Spec};
use rwkvq::checkpoint::Checkpoint;
use rwkvq::convert::{self, Job};
use rwkvq::embed::{EmbedOptions, Embedder};
use rwkvq::eval::kept::Scores;
use rwkvq::eval::{compare, table, Dataset, Glove, Report};
use rwkvq::ggml::{self, TensorType};
use rwkvq::gguf::{GgufFile, Layout};
use rwkvq::imatrix::Imatrix;
use rwkvq::matmul::{self, Columns, Machine, Matrix, Scratch, TILE_TOKENS};
use rwkvq::model::{LayerSelection, Model, SessionOptions};
use rwkvq::quant::{self, InstructionSet};
use rwkvq::recipe::Recipe;
use rwkvq::tokenizer::{Tokenizer, WorldVocab};
use rwkvq::{Result, Silent};

use super::torch;

/// A target: its name, what it does.
pub type Target = (&'static str, fn(&[u8]) -> Result<()>);

pub const TARGETS: [Target; 9] = [
    ("gguf", gguf),
    ("model", model),
    ("torch", torch_file),
    ("safetensors", checkpoint_folder),
    ("vocabulary", vocabulary),
    ("blocks", blocks),
    ("dataset", dataset),
    ("preset", preset),
    ("vectors", vectors),
];

/// The checkpoint that the files of a folder are taken from.
pub fn spec() -> Spec {
    Spec {
        n_layer: 1,
        n_embd: 32,
        n_ff: Some(32),
        n_vocab: 257,
        low_rank_mix: 8,
        low_rank_decay: 8,
        ty: TensorType::BF16,
        ..Spec::default()
    }
}

/// The header of a GGUF: what it says, gguf-rs says too, and our own writer can write again.
fn gguf(bytes: &[u8]) -> Result<()> {
    with_file("m.gguf", bytes, |path| {
        let file = GgufFile::open(path)?;
        let n: usize = file.tensors().iter().map(|tensor| file.data(tensor).len()).sum();
        assert!(n <= bytes.len(), "tensors overlap");
        file.cross_check().expect("gguf-rs reads the same");
        file.metadata_json();
        let tensors = file.tensors().iter().map(|t| (t.name.clone(), t.ty, t.shape));
        Layout::new(file.metadata(), tensors.collect()).expect("what was read can be written");
        Ok(())
    })
}

/// Keys, tensors and vocabulary of a model. The bytes are a header; all weights are zero.
fn model(header: &[u8]) -> Result<()> {
    const DATA_BYTES: u64 = 4 << 20;
    with_file("m.gguf", header, |path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(header.len() as u64 + DATA_BYTES).unwrap();
        if let Ok(source) = convert::open(path, None) {
            let _ = Job::new(source.as_ref(), &Recipe::open("q8_0")?, path.with_extension("out"));
        }
        let model = Arc::new(Model::open(path)?);
        let ids = round_trip(model.tokenizer()?)?;
        let session =
            SessionOptions { n_threads: 1, batch_tokens: 32, n_lanes: 1, ..Default::default() };
        let options = EmbedOptions { layers: LayerSelection::all(), session, ..Default::default() };
        Embedder::new(&model, options)?.embed_ids(&[ids]).map(drop)
    })
}

/// A PyTorch file, or the pickle in one.
fn torch_file(bytes: &[u8]) -> Result<()> {
    let storages = [("0", &[0; 32][..]), ("1", &[0; 16])];
    let read = |path: &Path| read_checkpoint(&Checkpoint::open(path)?);
    match choice(bytes, 2) {
        (0, file) => with_file("m.pth", file, read),
        (_, pickle) => with_file("m.pth", &torch::zip(&torch::entries(pickle, &storages)), read),
    }
}

/// One file of a folder whose other files are as they should be.
fn checkpoint_folder(bytes: &[u8]) -> Result<()> {
    const NAMES: [&str; 5] = [
        "model.safetensors",
        "model.safetensors.index.json",
        "config.json",
        "tokenizer_config.json",
        "generation_config.json",
    ];
    let (which, bytes) = choice(bytes, NAMES.len());
    let valid = valid_folder().iter().map(|(name, bytes)| (name.as_str(), &bytes[..]));
    let mut files: Vec<_> = valid.filter(|(name, _)| *name != NAMES[which]).collect();
    files.push((NAMES[which], bytes));
    with_files(&files, |folder| {
        read_checkpoint(&Checkpoint::open(folder)?)?;
        let source = convert::open(folder, None)?;
        Job::new(source.as_ref(), &Recipe::open("q4_k_m")?, folder.join("out.gguf")).map(drop)
    })
}

fn valid_folder() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        random::write(folder.path(), &spec(), &Silent).unwrap();
        let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
        let file = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        entries.map(file).collect()
    })
}

fn read_checkpoint(checkpoint: &Checkpoint) -> Result<()> {
    for (i, tensor) in checkpoint.tensors().iter().enumerate() {
        let mut values = vec![0.0; tensor.shape.n_elements()];
        checkpoint.read_f32(i, 0, &mut values)?;
    }
    Ok(())
}

/// A vocabulary of GPT-2's kind with every byte of [`TEXT`], and one pair.
pub const WORDS: &str = r#"{"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ċ": 4, "Ã": 5, "©": 6, "ä": 7,
    "½": 8, "ł": 9}"#;

/// What is encoded, and decoded again.
const TEXT: &str = "ab ba\n\u{e9}\u{4f60}";

/// A vocabulary of any kind: what it encodes it decodes.
fn vocabulary(bytes: &[u8]) -> Result<()> {
    let open = |path: &Path| round_trip(&Tokenizer::open(path)?).map(drop);
    match choice(bytes, 5) {
        (0, bytes) => with_file("vocab.txt", bytes, open),
        (1, bytes) => with_file("tokenizer.json", bytes, open),
        (2, bytes) => {
            with_files(&[("vocab.json", bytes), ("merges.txt", b"a b\n")], |folder| open(folder))
        }
        (3, bytes) => {
            with_files(&[("vocab.json", WORDS.as_bytes()), ("merges.txt", bytes)], |folder| {
                open(folder)
            })
        }
        (_, bytes) => {
            // A line for each token: its type, its text.
            let text = String::from_utf8_lossy(bytes);
            let line = |line: &str| match line.chars().next() {
                Some(c) => (line[c.len_utf8()..].to_owned(), c as i32 - '0' as i32),
                None => (String::new(), 0),
            };
            let (tokens, types): (Vec<_>, Vec<_>) = text.split('\n').map(line).unzip();
            let vocab = WorldVocab::from_gguf_tokens(Path::new("m.gguf"), &tokens, &types)?;
            let (tokens, types) = vocab.gguf_tokens(vocab.n_tokens())?;
            let again = WorldVocab::from_gguf_tokens(Path::new("m.gguf"), &tokens, &types);
            let again = Tokenizer::from(again.expect("its own list can be read"));
            let tokenizer = Tokenizer::from(vocab);
            assert_eq!(round_trip(&tokenizer).ok(), round_trip(&again).ok());
            round_trip(&tokenizer).map(drop)
        }
    }
}

/// Ids of a text. They decode to it where the vocabulary is one of bytes.
fn round_trip(tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(TEXT)?;
    let bytes = tokenizer.decode(&ids)?;
    assert!(tokenizer.world().is_none() || bytes == TEXT.as_bytes(), "{bytes:?}");
    assert!(ids.iter().all(|id| (*id as usize) < tokenizer.n_tokens()), "{ids:?}");
    Ok(ids)
}

/// Blocks of any type, or floats to be quantized. The first byte says the type.
fn blocks(bytes: &[u8]) -> Result<()> {
    let (which, bytes) = choice(bytes, 2 * TensorType::ALL.len());
    let ty = TensorType::ALL[which / 2];
    if which % 2 == 0 {
        let bytes = &bytes[..bytes.len() / ty.block_bytes() * ty.block_bytes()];
        let mut weights = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_len()];
        ggml::to_f32(ty, bytes, &mut weights);
        assert_eq!(ggml::all_finite(ty, bytes), weights.iter().all(|w| w.is_finite()), "{ty}");
        multiply(ty, bytes);
    } else if quant::supports(ty) {
        let (words, _) = bytes.as_chunks();
        let floats: Vec<f32> = words.iter().copied().map(f32::from_le_bytes).collect();
        let whole = &floats[..floats.len() / ty.block_len() * ty.block_len()];
        if whole.iter().all(|x| x.is_finite()) {
            quantize(ty, whole);
        }
    }
    Ok(())
}

/// Every instruction set writes what ggml writes.
fn quantize(ty: TensorType, floats: &[f32]) {
    let n_cols = ty.block_len();
    let n_bytes = floats.len() / n_cols * ty.block_bytes();
    let mut expected = vec![0; n_bytes];
    ggml::quantize(ty, floats, n_cols, None, &mut expected);
    for set in InstructionSet::available() {
        let mut out = vec![0; n_bytes];
        quant::quantize_on(set, ty, floats, n_cols, None, &mut out);
        assert_eq!(out, expected, "{ty} on {set:?}");
    }
}

/// The products of the blocks with ones, whose values do not matter.
fn multiply(ty: TensorType, bytes: &[u8]) {
    let Some((machine, format)) = Machine::detect().zip(ggml::format_of(ty)) else { return };
    let n_in = format.block_len().max(32);
    let row_bytes = n_in / format.block_len() * format.block_bytes();
    let matrix = Matrix::new(format, &bytes[..bytes.len() / row_bytes * row_bytes], n_in);
    let mut row = vec![0; matrix.activations(machine).row_bytes(n_in)];
    matrix.activations(machine).prepare(machine, &vec![1.0; n_in], &mut row);
    let (tokens, rows) = (row.repeat(TILE_TOKENS), 0..matrix.n_out());
    if rows.is_empty() {
        return;
    }
    let mut sums = vec![0.0; rows.len() * TILE_TOKENS];
    let out = Columns::all(&mut sums, rows.len());
    matmul::multiply(machine, matrix, rows, &tokens, &mut Scratch::default(), out);
}

/// A data set in any of its four formats.
fn dataset(bytes: &[u8]) -> Result<()> {
    let (which, bytes) = choice(bytes, 4);
    let name = ["d.tsv", "d.csv", "d.jsonl", "d.parquet"][which];
    with_file(name, bytes, |path| {
        let data = Dataset::open(path, None, None)?;
        assert!(data.pairs.iter().all(|pair| pair.score.is_finite()));
        assert!(data.pairs.iter().all(|pair| !pair.a.is_empty() && !pair.b.is_empty()));
        Ok(())
    })
}

/// The JSON that this program writes itself: presets, reports, kept scores.
fn preset(bytes: &[u8]) -> Result<()> {
    match choice(bytes, 3) {
        (0, bytes) => with_files(&[("p.json", bytes)], |folder| {
            let recipe = Recipe::open(folder.join("p.json").to_str().expect("UTF-8"))?;
            for (name, bytes) in valid_folder() {
                fs::write(folder.join(name), bytes).unwrap();
            }
            let source = convert::open(folder, None)?;
            Job::new(source.as_ref(), &recipe, folder.join("out.gguf")).map(drop)
        }),
        (1, bytes) => {
            let report = Report::from_json("r.json", &String::from_utf8_lossy(bytes))?;
            table::render(&report);
            compare::compare(&report, &report, None).render();
            let again = Report::from_json("r.json", &report.to_json());
            again.expect("its own JSON can be read").check()
        }
        (_, bytes) => Scores::from_json("s.json", &String::from_utf8_lossy(bytes)).map(drop),
    }
}

/// Numbers beside a model: importance matrices and word vectors.
fn vectors(bytes: &[u8]) -> Result<()> {
    const PAIRS: &[u8] = b"1\tthe cat sat\ta cat\n0\tone two\tthree\n";
    const WORDS: &[u8] = b"the\ncat\n";
    let glove = |folder: &Path, file: &str| {
        let pairs = Dataset::open(folder.join("pairs.tsv"), None, None)?;
        Glove::open(folder.join(file), &pairs)?.evaluate(&pairs);
        Ok(())
    };
    match choice(bytes, 4) {
        (0, bytes) => with_file("i.gguf", bytes, |path| {
            let imatrix = Imatrix::open(path)?;
            for entry in imatrix.entries.values() {
                assert!(entry.weights().iter().all(|w| *w >= 0.0), "negative or no number");
            }
            let copy = path.with_extension("copy");
            imatrix.write(&copy, false)?;
            let again = Imatrix::open(&copy).expect("its own file can be read");
            assert_eq!(again.entries, imatrix.entries);
            Ok(())
        }),
        (1, bytes) => with_files(&[("v.txt", bytes), ("pairs.tsv", PAIRS)], |f| glove(f, "v.txt")),
        (2, bytes) => {
            let files = [("v.npy", bytes), ("v.vocab", WORDS), ("pairs.tsv", PAIRS)];
            with_files(&files, |folder| glove(folder, "v.npy"))
        }
        (_, bytes) => {
            // A name for the older form, which has no magic.
            with_file("i.dat", bytes, |path| Imatrix::open(path).map(drop))
        }
    }
}

/// What the first byte says, below `n`, and the bytes behind it.
fn choice(bytes: &[u8], n: usize) -> (usize, &[u8]) {
    match bytes.split_first() {
        Some((first, rest)) => (usize::from(*first) % n, rest),
        None => (0, bytes),
    }
}

/// Gives `read` the file `name` with these bytes, in a folder of its own.
fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    with_files(&[(name, bytes)], |folder| read(&folder.join(name)))
}

/// Gives `read` a folder with these files.
fn with_files(files: &[(&str, &[u8])], read: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    read(folder.path())
}
