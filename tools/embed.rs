//! `rwkvq embed`: texts, one a line, to pooled hidden vectors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use rwkvq::embed::{EmbedOptions, Embedder, Pooling};
use rwkvq::matmul::Machine;
use rwkvq::model::{Layer, LayerSelection, Model};
use rwkvq::tokenizer::Tokenizer;
use rwkvq::{Error, Progress, Result};
use serde_json::json;

use crate::device::{self, Device};
use crate::embed_format::{Format, Layout};
use crate::embed_input::{Input, TokenIds};
use crate::embed_resume::{self, Job, Terms};
use crate::embed_sink::Sink;
use crate::output::check_target;
use crate::terminal::Bar;

/// Batches whose texts are read at a time: enough that the last one, which is seldom full, hardly
/// counts, and no more than is soon computed again after a stop.
const GROUP_BATCHES: usize = 16;

/// Extract embeddings of every layer asked for, one text a line
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An RWKV-6 GGUF
    model: PathBuf,
    /// File of texts, one a line; - for stdin
    #[arg(long, short)]
    input: PathBuf,
    /// Indices 0..n_layer-1 (after that block), last, final (after the output norm), all; they come
    /// in ascending order, each once
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
    /// jsonl, npy or safetensors [default: that of the output's extension, else jsonl]
    #[arg(long)]
    format: Option<String>,
    /// World vocabulary, tokenizer.json or folder to use instead of the model's own
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Add the token ids to each line of JSON
    #[arg(long)]
    token_ids: bool,
    /// Go on after a run of the same command that was stopped; begin if there is none
    #[arg(long)]
    resume: bool,
    /// Leave out empty lines instead of failing on them
    #[arg(long)]
    skip_empty: bool,
    /// Threads [default: one for each core]
    #[arg(long)]
    threads: Option<usize>,
    /// Tokens computed at once [default: 1024; 512 if a GPU takes part]
    #[arg(long)]
    batch_tokens: Option<usize>,
    #[command(flatten)]
    device: Device,
}

pub fn run(args: &Args, interrupted: &'static AtomicBool) -> Result<()> {
    if args.output != Path::new("-") {
        let inputs = [&args.model, &args.input].into_iter().chain(&args.tokenizer);
        // What is written beside the output until it is whole, too.
        for path in embed_resume::written_for(&args.output) {
            check_target(&path, inputs.clone().map(PathBuf::as_path))?;
        }
    }
    let open = args.device.open()?;
    let session = device::session(&open, args.batch_tokens, args.threads);
    let (open, plan) = open.fitted(&args.model, &session)?;
    plan.iter().for_each(device::say);
    let model = Arc::new(Model::open_with(&args.model, open)?);
    let n_vocab = model.hparams().n_vocab;
    let mut tokens = match &args.tokenizer {
        Some(path) => {
            TokenIds::instead(Tokenizer::open(path)?, model.tokenizer().ok().cloned(), n_vocab)
        }
        None => TokenIds::of(model.tokenizer()?.clone(), n_vocab),
    };
    let layers = LayerSelection::parse(&args.layers)?;
    let in_order = layers.is_ascending(model.hparams().n_layer)?;
    let options = EmbedOptions {
        layers,
        pooling: args.pooling.parse::<Pooling>()?,
        normalize: args.normalize,
        session,
    };
    let mut embedder = Embedder::new(&model, options)?;
    let format = Format::choose(args.format.as_deref(), &args.output)?;
    // Lines of JSON name the layer of each vector.
    if !in_order && format != Format::Jsonl {
        let names: Vec<String> = embedder.layers().iter().map(Layer::to_string).collect();
        eprintln!("note: layers come in ascending order: {}", names.join(","));
    }
    let layout = Layout {
        format,
        layers: embedder.layers().to_vec(),
        n_embd: model.hparams().n_embd,
        with_ids: args.token_ids,
    };
    let mut input = Input::open(&args.input, args.skip_empty)?;
    if args.resume && input.len().is_none() {
        return Err(Error::argument("--resume: this input cannot be read again; give a file"));
    }
    let terms = terms(args, &embedder, &layout, tokens.tokenizer());
    let job = input.len().map(|_| Job::new(terms, model));
    let (mut sink, from) = Sink::open(&args.output, layout, job, args.resume)?;
    let skipped = from.map_or(Ok(0), |place| input.skip_to(&place))?;
    let bar = Bar::new(interrupted, false);
    bar.begin("embedding", input.len().unwrap_or(0));
    bar.skip(skipped);
    let result = embed_all(&mut input, &mut tokens, &mut embedder, &mut sink, &bar);
    bar.clear();
    if result.is_ok() {
        return sink.finish();
    }
    if let Some(kept) = sink.stop() {
        eprintln!("note: {kept}");
    }
    result
}

fn embed_all(
    input: &mut Input,
    tokens: &mut TokenIds,
    embedder: &mut Embedder,
    sink: &mut Sink,
    bar: &Bar,
) -> Result<()> {
    let n_tokens = GROUP_BATCHES * embedder.session().options().batch_tokens;
    loop {
        let group = input.next_group(n_tokens, tokens)?;
        if group.texts.is_empty() {
            return Ok(());
        }
        // Several sequences in flight end out of order: a text waits here for those before it.
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        embedder.embed_each(&group.ids, |i, vectors| {
            if bar.cancelled() {
                return Err(Error::Interrupted);
            }
            bar.advance(group.bytes[i]);
            if i != next {
                waiting.insert(i, vectors.to_vec());
                return Ok(());
            }
            sink.push(&group.texts[i], &group.ids[i], vectors)?;
            next += 1;
            while let Some(vectors) = waiting.remove(&next) {
                sink.push(&group.texts[next], &group.ids[next], &vectors)?;
                next += 1;
            }
            Ok(())
        })?;
        sink.reached(input.place())?;
    }
}

/// What decides the bytes of the output, but model and input. Threads and batches are among them:
/// the last bits of a sum hang on how it was shared out.
fn terms(args: &Args, embedder: &Embedder, layout: &Layout, tokenizer: &Tokenizer) -> Terms {
    let (session, model) = (embedder.session().options(), embedder.session().model());
    let layers: Vec<String> = layout.layers.iter().map(Layer::to_string).collect();
    let terms = json!({
        "program": format!("{} {}", env!("CARGO_PKG_VERSION"), rwkvq::ggml::version()),
        "cpu": rwkvq::ggml::isa(),
        "products": Machine::detect().map(|machine| machine.to_string()),
        "layers": layers.join(","),
        "pooling": args.pooling,
        "normalize": args.normalize,
        "format": layout.format.name(),
        "tokenizer": tokenizer.sha256().unwrap_or("the model's"),
        "token_ids": args.token_ids,
        "skip_empty": args.skip_empty,
        "threads": session.n_threads,
        "batch_tokens": session.batch_tokens,
        "lanes": session.n_lanes,
        "device": model.device().map_or_else(|| "cpu".into(), ToString::to_string),
        "gpu_layers": model.gpu_layers(),
    });
    terms.as_object().expect("an object, as written above").clone()
}
