//! A program of somebody else, built by tools/check-dependent.sh: embeds every line of a file and
//! prints each vector as one JSON array, text by text, layer by layer.
//!
//!     dependent MODEL.gguf SENTENCES.txt

use std::sync::Arc;

use rwkvq::embed::{EmbedOptions, Embedder};
use rwkvq::model::{LayerSelection, Model, SessionOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().ok_or("usage: dependent MODEL.gguf SENTENCES.txt");
    let model = Arc::new(Model::open(argument()?)?);
    let sentences = std::fs::read_to_string(argument()?)?;
    let options = EmbedOptions {
        layers: LayerSelection::all(),
        session: SessionOptions { n_threads: 1, ..Default::default() },
        ..Default::default()
    };
    let mut embedder = Embedder::new(&model, options)?;
    let n_layers = embedder.layers().len();
    let texts: Vec<&str> = sentences.lines().collect();
    let embeddings = embedder.embed(&texts)?;
    for text in 0..texts.len() {
        for layer in 0..n_layers {
            println!("{}", serde_json::to_string(embeddings.get(text, layer))?);
        }
    }
    Ok(())
}
