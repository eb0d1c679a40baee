//! `rwkvq make-checkpoint`: a Finch checkpoint with random weights, for demonstrations and tests.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use rwkvq::checkpoint::random::{self, Spec};
use rwkvq::ggml::TensorType;
use rwkvq::{Error, Result};

use crate::terminal::Bar;

/// Write a Finch checkpoint with random weights in Hugging Face layout (for demonstrations and tests)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder to write
    output: PathBuf,
    /// Start from a known shape: demo (12 layers, width 256) or finch-1b6
    #[arg(long, default_value = "demo")]
    shape: String,
    /// Layers
    #[arg(long)]
    layers: Option<usize>,
    /// Width
    #[arg(long)]
    width: Option<usize>,
    /// Head size
    #[arg(long)]
    head_size: Option<usize>,
    /// Channel-mix width
    #[arg(long)]
    ff: Option<usize>,
    /// Rows of the embedding table
    #[arg(long)]
    vocab_size: Option<usize>,
    /// Spread of what a block adds to the stream, 0.7 unless told otherwise: a block magnifies
    /// rounding the less, the smaller it is
    #[arg(long)]
    output_gain: Option<f32>,
    /// Element type: f32, f16 or bf16
    #[arg(long)]
    dtype: Option<String>,
    /// Number of files
    #[arg(long)]
    shards: Option<usize>,
    /// Seed of the weights
    #[arg(long)]
    seed: Option<u64>,
}

pub fn run(args: &Args, interrupted: &'static AtomicBool) -> Result<()> {
    let mut spec = match args.shape.as_str() {
        "demo" => Spec::demo(),
        "finch-1b6" => Spec::finch_1b6(),
        other => return Err(Error::argument(format!("shape {other:?}: give demo or finch-1b6"))),
    };
    spec.n_layer = args.layers.unwrap_or(spec.n_layer);
    spec.n_embd = args.width.unwrap_or(spec.n_embd);
    spec.head_size = args.head_size.unwrap_or(spec.head_size);
    spec.n_ff = args.ff.or(spec.n_ff);
    spec.n_vocab = args.vocab_size.unwrap_or(spec.n_vocab);
    spec.shards = args.shards.unwrap_or(spec.shards);
    spec.output_gain = args.output_gain.unwrap_or(spec.output_gain);
    spec.seed = args.seed.unwrap_or(spec.seed);
    if let Some(name) = &args.dtype {
        spec.ty = TensorType::from_name(name)
            .ok_or_else(|| Error::argument(format!("dtype {name:?}: give f32, f16 or bf16")))?;
    }
    let bar = Bar::new(interrupted, false);
    let result = random::write(&args.output, &spec, &bar);
    bar.clear();
    result?;
    eprintln!(
        "{}: {} layers, width {}, {} weights",
        args.output.display(),
        spec.n_layer,
        spec.n_embd,
        spec.n_weights()?
    );
    Ok(())
}
