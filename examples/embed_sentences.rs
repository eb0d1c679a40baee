//! Embeds a list of sentences and prints how alike they are.
//!
//!     cargo run --release --example embed_sentences -- MODEL.gguf [SENTENCE ...]

use std::sync::Arc;

use rwkvq::embed::{EmbedOptions, Embedder};
use rwkvq::eval::metrics::cosine;
use rwkvq::model::Model;
use rwkvq::{Error, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or_else(|| Error::argument("give the path of a GGUF"))?;
    let mut sentences: Vec<String> = arguments.collect();
    if sentences.is_empty() {
        let ours = ["The cat sleeps on the sofa.", "A cat is asleep on the couch.", "Rain is due."];
        sentences = ours.map(String::from).to_vec();
    }
    let model = Arc::new(Model::open(path)?);
    let mut embedder = Embedder::new(&model, EmbedOptions::default())?;
    let texts: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let embeddings = embedder.embed(&texts)?;
    for (i, text) in texts.iter().enumerate() {
        let others = (0..texts.len()).map(|j| cosine(embeddings.get(i, 0), embeddings.get(j, 0)));
        let row: Vec<String> = others.map(|value| format!("{value:6.3}")).collect();
        println!("{}  {text}", row.join(" "));
    }
    Ok(())
}
