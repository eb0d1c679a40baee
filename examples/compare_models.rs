//! Whether the embeddings of one model are better than those of another.
//!
//!     cargo run --release --example compare_models -- MODEL.gguf OTHER.gguf CHOOSE.tsv TEST.tsv ..
//!
//! Each model takes the layer that does best on CHOOSE. On every TEST the Spearman correlations at
//! those layers are compared by paired bootstrap. CHOOSE and TEST hold scored text pairs. Ends with
//! exit code 1 unless the 95 % interval of MODEL's lead over OTHER is above 0 on every TEST.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use rwkvq::embed::{EmbedOptions, Embedder};
use rwkvq::eval::bootstrap::{spearman_difference, Difference, RESAMPLES};
use rwkvq::eval::controls;
use rwkvq::eval::metrics::{cosine, spearman};
use rwkvq::eval::Dataset;
use rwkvq::model::{LayerSelection, Model};
use rwkvq::{Error, Result};

const SEED: u64 = 42;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, other, choose, tests @ ..] = arguments.as_slice() else {
        return Err(Error::argument("give two GGUFs, pairs to choose layers on, pairs to test on"));
    };
    if tests.is_empty() {
        return Err(Error::argument("give at least one file of pairs to test on"));
    }
    let choose = Dataset::open(choose, None, None)?;
    let mut model = Contender::open(model, &choose)?;
    let mut other = Contender::open(other, &choose)?;
    let mut ahead = true;
    for test in tests {
        let lead = report(&mut model, &mut other, &Dataset::open(test, None, None)?)?;
        ahead &= lead.ci95[0] > 0.0;
    }
    Ok(ahead)
}

/// A model at the layer where it did best.
struct Contender {
    embedder: Embedder,
    model: Arc<Model>,
    layer: usize,
}

impl Contender {
    fn open(path: &str, choose: &Dataset) -> Result<Self> {
        let model = Arc::new(Model::open(path)?);
        let options = EmbedOptions { layers: LayerSelection::all(), ..Default::default() };
        let embedder = Embedder::new(&model, options)?;
        let mut contender = Self { embedder, model, layer: 0 };
        let scores = choose.scores();
        let rhos: Vec<f64> = contender
            .similarities(choose)?
            .iter()
            .map(|similarities| spearman(similarities, &scores).unwrap_or(f64::NEG_INFINITY))
            .collect();
        contender.layer = (0..rhos.len()).fold(0, |a, b| if rhos[b] > rhos[a] { b } else { a });
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        println!("{name}, {}: Spearman at each layer", describe(choose));
        for (layer, rho) in rhos.iter().enumerate() {
            let mark = if layer == contender.layer { "  <- chosen" } else { "" };
            println!("  {layer:>2}  {rho:.4}{mark}");
        }
        Ok(contender)
    }

    /// Cosine of every pair, by layer.
    fn similarities(&mut self, dataset: &Dataset) -> Result<Vec<Vec<f64>>> {
        let a: Vec<&str> = dataset.pairs.iter().map(|pair| pair.a.as_str()).collect();
        let b: Vec<&str> = dataset.pairs.iter().map(|pair| pair.b.as_str()).collect();
        let (a, b) = (self.embedder.embed(&a)?, self.embedder.embed(&b)?);
        let of_layer = |layer| {
            (0..dataset.pairs.len())
                .map(|pair| cosine(a.get(pair, layer), b.get(pair, layer)))
                .collect()
        };
        Ok((0..a.layers.len()).map(of_layer).collect())
    }

    fn chosen(&mut self, dataset: &Dataset) -> Result<Vec<f64>> {
        Ok(self.similarities(dataset)?.swap_remove(self.layer))
    }
}

/// Prints how the two and the controls do on `dataset`; gives the lead of the first.
fn report(model: &mut Contender, other: &mut Contender, dataset: &Dataset) -> Result<Difference> {
    let scores = dataset.scores();
    let mine = model.chosen(dataset)?;
    let rho = |similarities: &[f64]| spearman(similarities, &scores).unwrap_or(f64::NAN);
    println!("{}: Spearman, and the model's lead with its 95 % interval", describe(dataset));
    println!("  {:22} {:.4}", "model", rho(&mine));
    let lead = |name: &str, reference: &[f64]| {
        let lead = spearman_difference(&mine, reference, &scores, RESAMPLES, SEED)
            .ok_or_else(|| Error::malformed(&dataset.path, "the correlation is not defined"))?;
        let [low, high] = lead.ci95;
        let value = lead.value;
        println!("  {name:22} {:.4}  {value:+.4} [{low:+.4}, {high:+.4}]", rho(reference));
        Ok::<_, Error>(lead)
    };
    let over_other = lead("other", &other.chosen(dataset)?)?;
    lead("word Jaccard", &controls::word_jaccard(dataset).similarities)?;
    let ids = |text: fn(&rwkvq::eval::Pair) -> &str| {
        let tokenizer = model.model.tokenizer()?;
        dataset.pairs.iter().map(|pair| tokenizer.encode(text(pair))).collect::<Result<Vec<_>>>()
    };
    let (a, b) = (ids(|pair| &pair.a)?, ids(|pair| &pair.b)?);
    let n_dims = controls::RANDOM_DIMS;
    let seeds: Vec<u64> = (SEED..).take(controls::RANDOM_SEEDS).collect();
    if let Some(random) = controls::random_token_vectors(&a, &b, &scores, n_dims, &seeds) {
        let [low, high] = random.range;
        println!("  {:22} {:.4}  from {low:.4} to {high:.4}", "random token vectors", random.mean);
    }
    Ok(over_other)
}

fn describe(dataset: &Dataset) -> String {
    let split = dataset.split.as_deref().map(|split| format!(" {split}")).unwrap_or_default();
    format!("{}{split}, {} pairs", dataset.name, dataset.pairs.len())
}
