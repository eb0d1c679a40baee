//! `rwkvq imatrix`: text through a model to an importance matrix.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::Instant;

use rwkvq::calibrate::{self, CollectOptions};
use rwkvq::model::Model;
use rwkvq::tokenizer::Tokenizer;
use rwkvq::{Error, Result};

use crate::embed_input::drop_byte_order_mark;
use crate::memory::Memory;
use crate::output::{check_target, tell_partials};
use crate::terminal::Bar;

/// More text than this adds nothing but time.
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// Measure on a text which columns of each matrix matter, for convert --imatrix
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An RWKV-6 GGUF, best in full precision
    model: PathBuf,
    /// Text file, run as a whole in chunks
    #[arg(long, short)]
    input: PathBuf,
    /// GGUF to write, in llama.cpp's imatrix format
    #[arg(long, short)]
    output: PathBuf,
    /// Tokens in a chunk; each chunk starts from an empty state
    #[arg(long, default_value_t = 512)]
    chunk: usize,
    /// Also measure the input of output.weight
    #[arg(long)]
    process_output: bool,
    /// World vocabulary, tokenizer.json or folder to use instead of the model's own
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Threads [default: one for each core]
    #[arg(long)]
    threads: Option<usize>,
    /// Replace the output if it exists
    #[arg(long)]
    overwrite: bool,
    /// Say what was left out
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    memory: Memory,
}

pub fn run(args: &Args, interrupted: &'static AtomicBool) -> Result<()> {
    refuse_output(args)?;
    let model = Arc::new(Model::open_with(&args.model, args.memory.access())?);
    let tokenizer = match &args.tokenizer {
        Some(path) => Tokenizer::open(path)?,
        None => model.tokenizer()?.clone(),
    };
    let tokens = tokenizer.encode(&read_text(&args.input)?);
    let tokens = tokens.map_err(|e| Error::malformed(&args.input, e.to_string()))?;
    let mut options = CollectOptions {
        chunk_tokens: args.chunk,
        head: args.process_output,
        dataset: args.input.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        ..Default::default()
    };
    options.n_threads = args.threads.unwrap_or(options.n_threads);
    let bar = Bar::new(interrupted, args.verbose);
    let start = Instant::now();
    if tokens.len() < args.chunk {
        return Err(Error::argument(format!(
            "{}: {} tokens do not fill a chunk of {}; give more text, or a smaller --chunk",
            args.input.display(),
            tokens.len(),
            args.chunk
        )));
    }
    let measured = calibrate::collect(&model, &tokens, &options, &bar);
    bar.clear();
    let measured = measured?;
    tell_partials(&args.output);
    measured.write(&args.output, args.overwrite)?;
    eprintln!(
        "{}  {} matrices, {} chunks of {} tokens in {:.1} s",
        args.output.display(),
        measured.entries.len(),
        measured.chunk_count,
        measured.chunk_size,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What the end would refuse is refused before the work.
fn refuse_output(args: &Args) -> Result<()> {
    let out = &args.output;
    if out.exists() && !args.overwrite {
        let what = format!("{} exists; pass --overwrite to replace it", out.display());
        return Err(Error::argument(what));
    }
    let inputs = [&args.model, &args.input].into_iter().chain(&args.tokenizer);
    check_target(out, inputs.map(PathBuf::as_path))
}

fn read_text(path: &Path) -> Result<String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut bytes = Vec::new();
    file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(Error::malformed(path, format!("longer than {MAX_TEXT_BYTES} bytes")));
    }
    drop_byte_order_mark(&mut bytes);
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::malformed(path, format!("not UTF-8 at byte {at}"))
    })
}
