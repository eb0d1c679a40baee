//! `rwkvq embed`: texts, one a line, to pooled hidden vectors.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use rwkvq::embed::{EmbedOptions, Embedder, Pooling};
use rwkvq::model::{LayerSelection, Model, SessionOptions};
use rwkvq::tokenizer::Tokenizer;
use rwkvq::{Error, Progress, Result};

use crate::embed_format::{Format, Record, Sink};
use crate::memory::Memory;
use crate::terminal::Bar;

/// A line longer than this is not a text.
const MAX_LINE: u64 = 16 << 20;

/// Tokens collected before a batch runs: enough for many chunks, little memory.
const GROUP_TOKENS: usize = 1 << 14;

/// Extract embeddings of every layer asked for, one text a line
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An RWKV-6 GGUF
    model: PathBuf,
    /// File of texts, one a line; - for stdin
    #[arg(long, short)]
    input: PathBuf,
    /// Indices 0..n_layer-1 (after that block), last, final (after the output norm), all
    #[arg(long, default_value = "final")]
    layers: String,
    /// mean, last or max over the tokens
    #[arg(long, default_value = "mean")]
    pooling: String,
    /// Scale every vector to length one
    #[arg(long)]
    normalize: bool,
    /// File to write; - for stdout
    #[arg(long, short, default_value = "-")]
    output: PathBuf,
    /// jsonl, npy or safetensors [default: from the extension of the output, else jsonl]
    #[arg(long)]
    format: Option<String>,
    /// World vocabulary, tokenizer.json or folder to use instead of the model's own
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Add the token ids to each line of JSON
    #[arg(long)]
    token_ids: bool,
    /// Leave out empty lines instead of failing on them
    #[arg(long)]
    skip_empty: bool,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Tokens computed at once
    #[arg(long, default_value_t = 512)]
    batch_tokens: usize,
    #[command(flatten)]
    memory: Memory,
}

pub fn run(args: &Args, interrupted: &'static AtomicBool) -> Result<()> {
    let model = Arc::new(Model::open_with(&args.model, args.memory.access())?);
    let mut tokenizer = match &args.tokenizer {
        Some(path) => Replacement::new(Tokenizer::open(path)?, model.tokenizer().ok().cloned()),
        None => Replacement::none(model.tokenizer()?.clone()),
    };
    let mut session = SessionOptions { batch_tokens: args.batch_tokens, ..Default::default() };
    session.n_threads = args.threads.unwrap_or(session.n_threads);
    let options = EmbedOptions {
        layers: LayerSelection::parse(&args.layers)?,
        pooling: args.pooling.parse::<Pooling>()?,
        normalize: args.normalize,
        session,
    };
    let mut embedder = Embedder::new(&model, options)?;
    let format = Format::choose(args.format.as_deref(), &args.output)?;
    let mut lines = Lines::open(&args.input)?;
    let n_embd = model.hparams().n_embd;
    let mut sink = Sink::create(&args.output, format, embedder.layers(), n_embd)?;
    let bar = Bar::new(interrupted, false);
    bar.begin("embedding", lines.bytes);
    let result = all(args, &mut lines, &mut tokenizer, &mut embedder, &mut sink, &bar);
    bar.clear();
    result?;
    sink.finish()
}

fn all(
    args: &Args,
    lines: &mut Lines,
    tokenizer: &mut Replacement,
    embedder: &mut Embedder,
    sink: &mut Sink,
    bar: &Bar,
) -> Result<()> {
    let (mut texts, mut ids, mut n_tokens) = (Vec::new(), Vec::new(), 0);
    let mut n_lines = 0u64;
    loop {
        let line = lines.next()?;
        let end = line.is_none();
        if let Some((number, text, bytes)) = line {
            bar.advance(bytes);
            n_lines += 1;
            if text.is_empty() && args.skip_empty {
                continue;
            }
            if text.is_empty() {
                let what = format!("line {number}: empty; --skip-empty leaves such lines out");
                return Err(Error::malformed(&args.input, what));
            }
            let encoded = tokenizer.encode(&text).map_err(|e| at_line(&args.input, number, &e))?;
            n_tokens += encoded.len();
            texts.push(text);
            ids.push(encoded);
        }
        if n_tokens >= GROUP_TOKENS || (end && !texts.is_empty()) {
            let embeddings = embedder.embed_ids(&ids)?;
            for (i, text) in texts.iter().enumerate() {
                let record = Record { text, ids: &ids[i], with_ids: args.token_ids };
                sink.push(&record, &embeddings, i)?;
            }
            texts.clear();
            ids.clear();
            n_tokens = 0;
        }
        if bar.cancelled() {
            return Err(Error::Interrupted);
        }
        if end && n_lines == 0 {
            return Err(Error::malformed(&args.input, "no texts: the input is empty"));
        }
        if end {
            return Ok(());
        }
    }
}

/// The tokenizer in use, which may not be the model's own. A model knows only the ids it was
/// trained with, so the first text that gets others is worth a warning.
struct Replacement {
    used: Tokenizer,
    /// The model's own, as long as both agree.
    own: Option<Tokenizer>,
}

impl Replacement {
    fn none(used: Tokenizer) -> Self {
        Self { used, own: None }
    }

    fn new(used: Tokenizer, own: Option<Tokenizer>) -> Self {
        if own.is_none() {
            eprintln!(
                "warning: the model has no tokenizer that the {} one could be compared with",
                used.kind()
            );
        }
        Self { used, own }
    }

    fn encode(&mut self, text: &str) -> Result<Vec<u32>> {
        let ids = self.used.encode(text)?;
        if let Some(own) = self.own.take() {
            if own.encode(text).is_ok_and(|own| own == ids) {
                self.own = Some(own);
            } else {
                let kind = self.used.kind();
                eprintln!("warning: the {kind} tokenizer does not give the token ids that the model was made for; these embeddings say little about it");
            }
        }
        Ok(ids)
    }
}

fn at_line(path: &Path, number: u64, error: &Error) -> Error {
    Error::malformed(path, format!("line {number}: {error}"))
}

/// Texts of a file, numbered from 1; only the line ending is removed.
struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    number: u64,
    bytes: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self> {
        let (reader, bytes): (Box<dyn BufRead>, u64) = if path == Path::new("-") {
            (Box::new(io::stdin().lock()), 0)
        } else {
            let file = File::open(path).map_err(|e| Error::io(path, e))?;
            let bytes = file.metadata().map_err(|e| Error::io(path, e))?.len();
            (Box::new(BufReader::with_capacity(1 << 20, file)), bytes)
        };
        Ok(Self { path: path.into(), reader, number: 0, bytes })
    }

    /// The next text, with its number and the bytes it took.
    fn next(&mut self) -> Result<Option<(u64, String, u64)>> {
        use io::Read;
        let mut line = Vec::new();
        let mut limited = (&mut self.reader).take(MAX_LINE + 1);
        limited.read_until(b'\n', &mut line).map_err(|e| Error::io(&self.path, e))?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let bytes = line.len() as u64;
        if bytes > MAX_LINE {
            let what = format!("line {}: longer than {MAX_LINE} bytes", self.number);
            return Err(Error::malformed(&self.path, what));
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        let text = String::from_utf8(line).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            Error::malformed(&self.path, format!("line {}: not UTF-8 at byte {at}", self.number))
        })?;
        Ok(Some((self.number, text, bytes)))
    }
}
