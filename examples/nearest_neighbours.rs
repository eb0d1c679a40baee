//! The sentences of a small corpus that are nearest to a query.
//!
//!     cargo run --release --example nearest_neighbours -- MODEL.gguf CORPUS.txt "a query" [LAYER]

use std::sync::Arc;

use rwkvq::embed::{EmbedOptions, Embedder};
use rwkvq::eval::metrics::cosine;
use rwkvq::model::{LayerSelection, Model};
use rwkvq::{Error, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, corpus, query, layer @ ..] = arguments.as_slice() else {
        return Err(Error::argument("give a GGUF, a text file with one sentence a line, a query"));
    };
    let text = std::fs::read_to_string(corpus).map_err(|e| Error::io(corpus, e))?;
    let sentences: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let model = Arc::new(Model::open(model)?);
    let layers = LayerSelection::parse(layer.first().map_or("final", String::as_str))?;
    let mut embedder = Embedder::new(&model, EmbedOptions { layers, ..Default::default() })?;
    let corpus = embedder.embed(&sentences)?;
    let query = embedder.embed(&[query.as_str()])?;
    let likeness = |i: usize| cosine(corpus.get(i, 0), query.get(0, 0));
    let mut order: Vec<(f64, &str)> =
        sentences.iter().enumerate().map(|(i, &sentence)| (likeness(i), sentence)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (value, sentence) in order.iter().take(5) {
        println!("{value:.4}  {sentence}");
    }
    Ok(())
}
