//! Whether our own matrix products give the embeddings that ggml's give, at every layer.
//!
//!     cargo run --release --example compare_products -- MODEL.gguf PAIRS.tsv [N]
//!
//! Embeds the texts of the first N scored pairs (default: all) with both, and prints for each layer
//! the least and the middle cosine between the two embeddings of a text, the Spearman correlation
//! with the scores that each gives, and tokens per second.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use rwkvq::embed::{EmbedOptions, Embedder, Embeddings};
use rwkvq::eval::metrics::{cosine, spearman};
use rwkvq::eval::Dataset;
use rwkvq::model::{LayerSelection, Model, Products, SessionOptions};
use rwkvq::{Error, Result};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, pairs, n) = match arguments.as_slice() {
        [model, pairs] => (model, pairs, None),
        [model, pairs, n] => {
            let n = n.parse().ok().filter(|&n| n > 0);
            (model, pairs, Some(n.ok_or_else(|| Error::argument("give a number of pairs"))?))
        }
        _ => return Err(Error::argument("give a GGUF, scored pairs and how many of them")),
    };
    let dataset = Dataset::open(pairs, None, n)?;
    let model = Arc::new(Model::open(model)?);
    let texts: Vec<&str> = dataset.pairs.iter().flat_map(|pair| [&*pair.a, &*pair.b]).collect();
    let own = embed(&model, &texts, Products::Own)?;
    let ggml = embed(&model, &texts, Products::Ggml)?;

    let scores = dataset.scores();
    let correlation = |embeddings: &Embeddings, layer| {
        let pair =
            |pair| cosine(embeddings.get(2 * pair, layer), embeddings.get(2 * pair + 1, layer));
        let similarities: Vec<f64> = (0..dataset.pairs.len()).map(pair).collect();
        spearman(&similarities, &scores).unwrap_or(f64::NAN)
    };
    println!("layer  least cosine  median    Spearman, own  ggml     difference");
    for (layer, name) in own.layers.iter().enumerate() {
        let mut cosines: Vec<f64> = (0..texts.len())
            .map(|text| cosine(own.get(text, layer), ggml.get(text, layer)))
            .collect();
        cosines.sort_by(f64::total_cmp);
        let (least, median) = (cosines[0], cosines[cosines.len() / 2]);
        let (own, ggml) = (correlation(&own, layer), correlation(&ggml, layer));
        let name = name.to_string();
        println!(
            "{name:5}  {least:.7}     {median:.7}  {own:.5}       {ggml:.5}  {:+.5}",
            own - ggml
        );
    }
    Ok(())
}

/// Every layer of `texts`.
fn embed(model: &Arc<Model>, texts: &[&str], products: Products) -> Result<Embeddings> {
    let session = SessionOptions { products, ..Default::default() };
    let options = EmbedOptions { layers: LayerSelection::all(), session, ..Default::default() };
    let mut embedder = Embedder::new(model, options)?;
    // The first pass brings the model's pages in.
    embedder.embed(&texts[..1])?;
    let start = Instant::now();
    let embeddings = embedder.embed(texts)?;
    let n_tokens: usize = embeddings.n_tokens.iter().sum();
    let rate = n_tokens as f64 / start.elapsed().as_secs_f64();
    println!("{products:?}: {} texts, {rate:.0} tokens per second", texts.len());
    Ok(embeddings)
}
