//! What is known of the levels before they run.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::report::Level;
use super::{stop_if_cancelled, EvalOptions};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::progress::Progress;
use crate::tokenizer::Tokenizer;

/// A model file and what to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelFile {
    /// Name of the level in the report, usually its preset. No two levels have the same.
    pub preset: String,
    /// The GGUF.
    pub path: PathBuf,
}

/// All levels, opened once: a file that cannot run must fail before hours of work, not after.
pub(super) struct Levels<'a> {
    pub(super) files: &'a [LevelFile],
    /// The rows of the report, without results.
    pub(super) rows: Vec<Level>,
    /// Layers of each model.
    pub(super) n_layer: usize,
    /// Rows of the smallest token table.
    pub(super) n_vocab: usize,
    /// Index of the level that the others are compared with.
    pub(super) reference: usize,
    /// Which files they were.
    pub(super) identities: Vec<Identity>,
}

/// What changes when a file is replaced or written to.
#[derive(Debug, PartialEq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(path: &Path) -> Result<Self> {
        let file = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }

    /// Fails unless `path` is still the file that this is of.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        if Self::of(path)? == *self {
            return Ok(());
        }
        let what = "not the file any more that it was when the evaluation began; leave it alone \
                    until the end";
        Err(Error::io(path, std::io::Error::other(what)))
    }
}

impl<'a> Levels<'a> {
    /// The levels, and the tokenizers that they have; the reference must have one if some protocol
    /// wants it.
    pub(super) fn describe(
        files: &'a [LevelFile],
        options: &EvalOptions,
        progress: &dyn Progress,
    ) -> Result<(Self, Vec<Option<Tokenizer>>)> {
        check_names(files)?;
        let needs_own = options.protocols.iter().any(|protocol| protocol.tokenizer().is_none());
        let mut rows: Vec<Level> = Vec::new();
        let (mut identities, mut tokenizers, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let (mut shape, mut n_vocab) = (None, usize::MAX);
        for file in files {
            stop_if_cancelled(progress)?;
            identities.push(Identity::of(&file.path)?);
            let model = Model::open_with(&file.path, options.open.access)?;
            let hparams = model.hparams();
            let (n_layer, n_embd) = (hparams.n_layer, hparams.n_embd);
            let (layers, width) = *shape.get_or_insert((n_layer, n_embd));
            if (layers, width) != (n_layer, n_embd) {
                let what = format!(
                    "{}: {n_layer} layers of width {n_embd}, {} has {layers} of {width}; evaluate \
                     levels of one model together",
                    file.path.display(),
                    rows[0].file
                );
                return Err(Error::argument(what));
            }
            n_vocab = n_vocab.min(hparams.n_vocab);
            let own = model.tokenizer();
            tokenizers.push(own.as_ref().ok().map(|&own| own.clone()));
            missing.push(own.err());
            rows.push(row(file, &model)?);
        }
        let Some((n_layer, _)) = shape else {
            return Err(Error::argument("no model to evaluate"));
        };
        let reference = find_reference(&rows, options.reference.as_deref())?;
        if let Some(error) = missing.swap_remove(reference).filter(|_| needs_own) {
            return Err(error);
        }
        let levels = Self { files, rows, n_layer, n_vocab, reference, identities };
        Ok((levels, tokenizers))
    }
}

/// A level is found by its name in reports and kept scores: two of one name would be mixed up.
fn check_names(files: &[LevelFile]) -> Result<()> {
    for (i, file) in files.iter().enumerate() {
        if let Some(twin) = files[..i].iter().find(|other| other.preset == file.preset) {
            let (twin, path) = (twin.path.display(), file.path.display());
            return Err(Error::argument(format!(
                "{twin} and {path} would both be called {} in the report; give each file once, \
                 under a name of its own",
                file.preset
            )));
        }
    }
    Ok(())
}

fn row(file: &LevelFile, model: &Model) -> Result<Level> {
    let mut tensor_types = BTreeMap::new();
    let (mut bytes, mut weights) = (0f64, 0f64);
    for tensor in model.file().tensors() {
        *tensor_types.entry(tensor.ty.name()).or_insert(0) += 1;
        bytes += tensor.bytes as f64;
        weights += tensor.shape.n_elements() as f64;
    }
    let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Level {
        preset: file.preset.clone(),
        file: name.unwrap_or_default(),
        file_bytes: model.file().file_bytes(),
        file_sha256: Some(model.file().sha256()?),
        bits_per_weight: bytes * 8.0 / weights,
        tensor_types,
        error: None,
        layers: Vec::new(),
        speed: None,
        memory: None,
    })
}

/// The level called `asked`, or the first of those with the most bits per weight.
fn find_reference(rows: &[Level], asked: Option<&str>) -> Result<usize> {
    let Some(name) = asked else {
        let numbered = rows.iter().enumerate().rev();
        let widest =
            numbered.max_by(|(_, a), (_, b)| a.bits_per_weight.total_cmp(&b.bits_per_weight));
        return Ok(widest.map_or(0, |(index, _)| index));
    };
    let exact = rows.iter().position(|row| row.preset == name);
    let found = exact.or_else(|| rows.iter().position(|row| row.preset.eq_ignore_ascii_case(name)));
    found.ok_or_else(|| {
        let known: Vec<_> = rows.iter().map(|row| row.preset.as_str()).collect();
        Error::argument(format!("no level {name:?} to refer to; there are {}", known.join(", ")))
    })
}
