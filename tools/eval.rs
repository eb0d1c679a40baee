//! `rwkvq eval`: quality, speed and memory of each quantization level, in one report.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::builder::RangedU64ValueParser;
use rwkvq::convert::{self, ConvertOptions, Job};
use rwkvq::embed::Pooling;
use rwkvq::eval::{self, table, Dataset, EvalOptions, Evaluation, LevelFile, Protocol};
use rwkvq::gguf::GgufFile;
use rwkvq::mmap::Access;
use rwkvq::model::LayerSelection;
use rwkvq::recipe::Recipe;
use rwkvq::tokenizer::Tokenizer;
use rwkvq::{Error, Result};

use crate::device::{self, Device};
use crate::output::{check_target, folder_of, print, tell_partials, write_file};
use crate::source;
use crate::terminal::{temporary_folder, Bar};

/// What the value of --baseline begins with.
const GLOVE: &str = "glove=";

/// Measure Spearman, speed and memory of one or several quantization levels
#[derive(Debug, clap::Args)]
pub struct Args {
    /// GGUF files; or, with --preset, one source that is converted first: what convert takes, hub
    /// ids included
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Preset to convert the source to, repeatable
    #[arg(long)]
    preset: Vec<String>,
    /// Keep the converted files in this folder
    #[arg(long, requires = "preset")]
    keep: Option<PathBuf>,
    /// Replace files that exist in the folder of --keep
    #[arg(long, requires = "keep")]
    overwrite: bool,
    /// World vocabulary to convert with, instead of the folder's own
    #[arg(long, requires = "preset")]
    vocab: Option<PathBuf>,
    /// Pairs with scores: GLUE/MRPC TSV, generic TSV, CSV, JSONL or Parquet; or mrpc, stsb or sick,
    /// which are fetched from the hub and cached; repeatable
    #[arg(long, required = true)]
    dataset: Vec<PathBuf>,
    /// Split of a data set given by name [default: validation; of sick: test]; of a file, what to
    /// call it in the report [default: from the file name]
    #[arg(long)]
    split: Option<String>,
    /// Use the first N pairs only, of each data set and of --threshold-from
    #[arg(long)]
    limit: Option<usize>,
    /// native: the model's own tokenizer, all pairs and layers. paper: that of arXiv 2502.14620,
    /// with GPT-2's ids (--tokenizer), the first 1000 pairs of a train split, layers
    /// 1,3,5,7,9,11, one text at a time. Repeatable: a run for each
    #[arg(long, value_enum, default_value = "native")]
    protocol: Vec<ProtocolName>,
    /// Indices 0..n_layer-1 (after that block), last, final (after the output norm), all
    /// [default: those of the protocol]
    #[arg(long)]
    layers: Option<String>,
    /// mean, last or max over the tokens
    #[arg(long, default_value = "mean")]
    pooling: String,
    /// Tokenizer of the paper protocol: GPT-2's encoder.json with vocab.bpe beside it, its
    /// tokenizer.json, or a folder. Without that protocol: what to use instead of the model's own
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Binary labels: choose the threshold of accuracy and F1 on these pairs, another split than
    /// the one measured; a file, or mrpc for its train split
    #[arg(long)]
    threshold_from: Option<PathBuf>,
    /// Baseline to compare with: glove=FILE, a GloVe text file, or an .npy with its words beside it
    /// (vectors.npy and vectors.vocab or vectors.txt)
    #[arg(long)]
    baseline: Option<String>,
    /// Level that the others are compared with [default: the one with the most bits per weight]
    #[arg(long)]
    reference: Option<String>,
    /// Write the report here
    #[arg(long)]
    report: Option<PathBuf>,
    /// Print the report on stdout
    #[arg(long)]
    json: bool,
    /// Write the similarity of every pair here, keyed by row number
    #[arg(long)]
    keep_scores: Option<PathBuf>,
    /// Threads [default: one for each core]
    #[arg(long)]
    threads: Option<usize>,
    /// Tokens computed at once [default: 1024; 512 if a GPU takes part]
    #[arg(long)]
    batch_tokens: Option<usize>,
    /// Timed passes over each data set
    #[arg(long, default_value_t = 1, value_parser = repeats())]
    repeats: usize,
    /// Seed of the bootstrap and of the random vectors
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Say what was not believed in the source
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    device: Device,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ProtocolName {
    Native,
    Paper,
}

pub fn run(args: &Args, interrupted: &'static AtomicBool) -> Result<()> {
    let mut options = options(args)?;
    let bar = Bar::new(interrupted, args.verbose);
    let datasets = args
        .dataset
        .iter()
        .map(|path| source::dataset(path, args.split.as_deref(), args.limit, &bar))
        .collect::<Result<Vec<_>>>()?;
    options.threshold_from = threshold_from(args, &bar)?;
    check_outputs(args)?;
    // Dropped, and with it the converted files, after the evaluation.
    let (levels, _folder) = levels(args, &options, &bar)?;
    let result = eval::run(&levels, &datasets, &options, &bar);
    bar.clear();
    let evaluation = result?;
    write_results(args, &evaluation)
}

/// The files that are written at the end.
fn outputs(args: &Args) -> impl Iterator<Item = &PathBuf> {
    args.report.iter().chain(&args.keep_scores)
}

/// The files that are read, as far as they are known beforehand.
fn inputs(args: &Args) -> impl Iterator<Item = &Path> {
    let models = args.models.iter().chain(&args.dataset).chain(&args.threshold_from);
    let others = models.chain(&args.tokenizer).chain(&args.vocab).map(PathBuf::as_path);
    let glove = args.baseline.as_deref().and_then(|text| text.strip_prefix(GLOVE));
    others.chain(glove.map(Path::new)).chain(args.preset.iter().map(Path::new))
}

/// What the end would refuse, or destroy, is refused before the work.
fn check_outputs(args: &Args) -> Result<()> {
    if let Some(folder) = args.keep.as_ref().filter(|folder| is_gguf(folder) && !folder.is_dir()) {
        return Err(Error::argument(format!("--keep {}: give a folder", folder.display())));
    }
    for path in outputs(args) {
        check_target(path, inputs(args))?;
        check_writable(path)?;
    }
    if let (Some(report), Some(scores)) = (&args.report, &args.keep_scores) {
        if is_same_file(report, scores) {
            return Err(Error::argument("--report and --keep-scores name the same file"));
        }
    }
    Ok(())
}

fn options(args: &Args) -> Result<EvalOptions> {
    let glove = match args.baseline.as_deref() {
        None => None,
        Some(text) => match text.strip_prefix(GLOVE) {
            Some(path) => Some(PathBuf::from(path)),
            None => return Err(Error::argument(format!("baseline {text:?}: give glove=FILE"))),
        },
    };
    let open = args.device.open()?;
    let session = device::session(&open, args.batch_tokens, args.threads);
    Ok(EvalOptions {
        protocols: protocols(args)?,
        layers: args.layers.as_deref().map(LayerSelection::parse).transpose()?,
        pooling: args.pooling.parse::<Pooling>()?,
        open,
        session,
        repeats: args.repeats,
        seed: args.seed,
        reference: args.reference.clone(),
        glove,
        threshold_from: None,
        command: eval::host::base_names(std::env::args()),
    })
}

/// The protocols asked for, each once. A tokenizer is the paper protocol's where that is asked for.
fn protocols(args: &Args) -> Result<Vec<Protocol>> {
    let tokenizer = args.tokenizer.as_deref().map(Tokenizer::open).transpose()?;
    let with_paper = args.protocol.contains(&ProtocolName::Paper);
    let mut names = args.protocol.clone();
    names.sort_by_key(|name| args.protocol.iter().position(|first| first == name));
    names.dedup();
    let protocol = |name| match (name, &tokenizer) {
        (ProtocolName::Native, _) if with_paper => Ok(Protocol::Native(None)),
        (ProtocolName::Native, tokenizer) => Ok(Protocol::Native(tokenizer.clone())),
        (ProtocolName::Paper, Some(tokenizer)) => Protocol::paper(tokenizer.clone()),
        (ProtocolName::Paper, None) => Err(Error::argument(
            "--protocol paper takes GPT-2's ids; give --tokenizer encoder.json (vocab.bpe beside \
             it) or tokenizer.json",
        )),
    };
    names.into_iter().map(protocol).collect()
}

/// Pairs to choose a threshold on; of a data set by name its train split.
fn threshold_from(args: &Args, bar: &Bar) -> Result<Option<Dataset>> {
    let Some(path) = &args.threshold_from else { return Ok(None) };
    let split = (!path.exists()).then_some("train");
    source::dataset(path, split, args.limit, bar).map(Some)
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// True if both will be one file, whatever its folder is called.
fn is_same_file(a: &Path, b: &Path) -> bool {
    let folder = |path| folder_of(path).canonicalize().ok();
    a.file_name() == b.file_name() && folder(a) == folder(b)
}

fn repeats() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=eval::MAX_REPEATS as u64)
}

/// A report must not fail to be written after an hour of measuring.
fn check_writable(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    tempfile::tempfile_in(folder).map_err(|e| Error::io(folder, e))?;
    Ok(())
}

type Converted = (Vec<LevelFile>, Option<tempfile::TempDir>);

/// The models to measure: as given, or converted first.
fn levels(args: &Args, options: &EvalOptions, bar: &Bar) -> Result<Converted> {
    let access = options.open.access;
    if args.preset.is_empty() {
        let given = args.models.iter().map(|path| given(path, access));
        return Ok((told_apart(given.collect::<Result<_>>()?), None));
    }
    let [source] = args.models.as_slice() else {
        return Err(Error::argument(
            "--preset converts one source; give GGUF files without --preset",
        ));
    };
    let recipes = args.preset.iter().map(|name| Recipe::open(name)).collect::<Result<Vec<_>>>()?;
    let source = convert::open_with(source::model(source, bar)?, args.vocab.clone(), access)?;
    // Files of a folder are known only now.
    for path in outputs(args) {
        check_target(path, source.inputs())?;
    }
    for warning in source.warnings() {
        eprintln!("warning: {warning}");
    }
    for note in source.notes() {
        rwkvq::Progress::note(bar, note);
    }
    let (folder, temporary) = match &args.keep {
        Some(folder) => (folder.clone(), None),
        None => {
            let folder = temporary_folder()?;
            (folder.path().to_owned(), Some(folder))
        }
    };
    let paths = convert::output_paths(source.name(), &recipes, &folder)?;
    let jobs = recipes
        .iter()
        .zip(paths)
        .map(|(recipe, path)| Job::new(source.as_ref(), recipe, path))
        .collect::<Result<Vec<_>>>()?;
    for job in &jobs {
        check_target(&job.path, inputs(args))?;
        if let Some(output) = outputs(args).find(|output| is_same_file(output, &job.path)) {
            let what = format!("{} is one of the models that --keep keeps", output.display());
            return Err(Error::argument(what));
        }
        tell_partials(&job.path);
    }
    let n_threads = options.session.n_threads;
    let converted = convert::run(
        source.as_ref(),
        &jobs,
        ConvertOptions { n_threads, overwrite: args.overwrite, ..Default::default() },
        bar,
    );
    bar.clear();
    converted?;
    let levels =
        jobs.into_iter().map(|job| LevelFile { preset: job.plan.preset, path: job.path }).collect();
    Ok((levels, temporary))
}

/// A file of the user's: its level is the preset that its name ends with, else its file type.
fn given(path: &Path, access: Access) -> Result<LevelFile> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
    let stem = stem.unwrap_or_default();
    let named = Recipe::names().find(|name| {
        stem.strip_suffix(name)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with(['-', '.', '_']))
    });
    let preset = match named {
        Some(name) => name.to_owned(),
        None => match GgufFile::open_with(path, access)?.u32("general.file_type")? {
            Some(file_type) => Recipe::names()
                .filter_map(|name| Recipe::open(name).ok())
                .find(|recipe| recipe.file_type == file_type)
                .map_or(stem, |recipe| recipe.name),
            None => stem,
        },
    };
    Ok(LevelFile { preset, path: path.to_owned() })
}

/// Levels that would have one name are called by the names of their files.
fn told_apart(mut levels: Vec<LevelFile>) -> Vec<LevelFile> {
    let names: Vec<String> = levels.iter().map(|level| level.preset.clone()).collect();
    for level in &mut levels {
        if names.iter().filter(|name| **name == level.preset).count() > 1 {
            let stem = level.path.file_stem().unwrap_or_default();
            level.preset = stem.to_string_lossy().into_owned();
        }
    }
    levels
}

fn write_results(args: &Args, evaluation: &Evaluation) -> Result<()> {
    let json = evaluation.report.to_json();
    if let Some(path) = &args.report {
        write_file(path, json.as_bytes())?;
    }
    if let Some(path) = &args.keep_scores {
        write_file(path, evaluation.scores.to_json().as_bytes())?;
    }
    eprintln!("{}", table::render(&evaluation.report));
    if args.json {
        print(&json)?;
    }
    if let Some(path) = &args.report {
        eprintln!("report: {}", path.display());
    }
    Ok(())
}
