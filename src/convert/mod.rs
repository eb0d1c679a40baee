//! The left half on one page: source + recipes -> plans -> files.
//!
//! In: a [`TensorSource`] and one recipe per file. Out: the files, each whole or not there at all.

mod checkpoint_source;
mod gguf_source;
mod importance;
mod metadata;
mod pipeline;
mod report;
mod source;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use checkpoint_source::CheckpointSource;
pub use gguf_source::GgufSource;
pub use report::{ConvertReport, FileReport, TensorError};
pub use source::{open, open_with, TensorSource};

use crate::error::{Error, Result};
use crate::gguf::{Layout, Writer};
use crate::imatrix::Imatrix;
use crate::progress::Progress;
use crate::recipe::{Plan, PlanTensor, Recipe, TensorLayout};

/// Each thread holds a few pieces of tensors in memory.
const MAX_THREADS: usize = 512;

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvertOptions {
    /// Threads that quantize, 1 to 512.
    pub n_threads: usize,
    /// Replace files that exist.
    pub overwrite: bool,
    /// Measure what quantization costs, for the [`ConvertReport`]: every tensor is read back.
    pub measure_errors: bool,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        let n_threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { n_threads, overwrite: false, measure_errors: false }
    }
}

/// One file to write: where, and by which recipe.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its plan.
    pub plan: Plan,
    /// Its path.
    pub path: PathBuf,
    layout: Layout,
    weights: importance::Weights,
    imatrix: Option<PathBuf>,
}

impl Job {
    /// Plans the file `path` from `source` by `recipe`, its header included. Writes nothing.
    pub fn new(source: &dyn TensorSource, recipe: &Recipe, path: PathBuf) -> Result<Self> {
        Self::weighted(source, recipe, None, path)
    }

    /// As [`new`](Self::new), with the weights of an importance matrix for the tensors that it
    /// covers. An entry of the wrong length is an error. A preset that is a converter's direct
    /// output has no use for one.
    pub fn weighted(
        source: &dyn TensorSource,
        recipe: &Recipe,
        imatrix: Option<&Imatrix>,
        path: PathBuf,
    ) -> Result<Self> {
        let order = source.layout(recipe.layout);
        let imatrix = imatrix.filter(|_| order == TensorLayout::Quantized);
        let covers = |tensor: &PlanTensor| {
            imatrix.is_some_and(|imatrix| importance::covers(imatrix, tensor))
        };
        let plan = Plan::new(recipe, order, source.n_layer(), source.tensors(), &covers)?;
        let mut metadata = source.metadata(recipe.file_type, order)?;
        let mut weights = vec![None; plan.rows.len()];
        if let Some(imatrix) = imatrix {
            weights = importance::weights(imatrix, source, &plan)?;
            importance::describe(imatrix, &mut metadata);
        }
        let tensors = plan.rows.iter().map(|row| (row.name.clone(), row.to, row.shape));
        let layout = Layout::new(&metadata, tensors.collect())?;
        let imatrix = imatrix.map(|imatrix| imatrix.path.clone());
        Ok(Self { plan, path, layout, weights, imatrix })
    }

    /// Size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.layout.file_bytes()
    }

    /// First byte of each tensor, counted from the start of the data; in the order of the plan.
    pub fn offsets(&self) -> impl Iterator<Item = u64> + '_ {
        self.layout.tensors().iter().map(|tensor| tensor.offset)
    }
}

/// Where each preset's file goes: `out` itself if it ends in `.gguf` (one recipe only), otherwise
/// `<name>-<preset>.gguf` in the folder `out`.
pub fn output_paths(name: &str, recipes: &[Recipe], out: &Path) -> Result<Vec<PathBuf>> {
    if out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
        && !out.is_dir()
    {
        if recipes.len() > 1 {
            let what = format!("{} presets need a folder, not {}", recipes.len(), out.display());
            return Err(Error::argument(what));
        }
        return Ok(vec![out.to_owned(); recipes.len()]);
    }
    if out.is_file() {
        let what = format!("{} is a file; give a folder, or a name ending in .gguf", out.display());
        return Err(Error::argument(what));
    }
    let paths: Vec<_> =
        recipes.iter().map(|recipe| out.join(format!("{name}-{}.gguf", recipe.name))).collect();
    let mut sorted = paths.clone();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::argument(format!("{} would be written twice", pair[0].display()))),
        None => Ok(paths),
    }
}

/// Writes all `jobs` from one read of `source`. On any error, and when `progress` cancels,
/// nothing that is not whole is left behind: all files get their names at the end, and if one of
/// them cannot, those before it have theirs. The report is empty unless the options ask for it.
pub fn run(
    source: &dyn TensorSource,
    jobs: &[Job],
    options: ConvertOptions,
    progress: &dyn Progress,
) -> Result<ConvertReport> {
    if !(1..=MAX_THREADS).contains(&options.n_threads) {
        let n = options.n_threads;
        return Err(Error::argument(format!("{n} threads: give 1 to {MAX_THREADS}")));
    }
    check_outputs(source, jobs)?;
    let mut folders = NewFolders::default();
    let writers = jobs
        .iter()
        .map(|job| {
            folders.create_parent(&job.path)?;
            Writer::create(&job.path, &job.layout, options.overwrite)
        })
        .collect::<Result<Vec<_>>>()?;
    let n_weights: usize = source.tensors().iter().map(|tensor| tensor.shape.n_elements()).sum();
    progress.begin("converting", n_weights as u64);
    let outputs: Vec<_> = jobs
        .iter()
        .zip(&writers)
        .map(|(job, writer)| pipeline::Output { plan: &job.plan, weights: &job.weights, writer })
        .collect();
    let report = pipeline::run(source, &outputs, options, progress)?;
    drop(outputs);
    writers.into_iter().try_for_each(Writer::finish)?;
    Ok(report)
}

/// No output may be a file that is read.
fn check_outputs(source: &dyn TensorSource, jobs: &[Job]) -> Result<()> {
    jobs.iter().try_for_each(|job| {
        refuse_inputs(&job.path, source.inputs().into_iter().chain(job.imatrix.as_deref()))
    })
}

/// Checks that what is to be written to `output` takes the place of none of `inputs`.
///
/// # Errors
/// [`Error::Argument`] if it does, under whatever name.
pub fn refuse_inputs<'a>(output: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let Ok(out) = identity(output) else { return Ok(()) };
    if inputs.into_iter().any(|input| identity(input).is_ok_and(|input| input == out)) {
        return Err(Error::argument(format!("{}: output is also an input", output.display())));
    }
    Ok(())
}

/// What two names of one file have in common, whatever links lead there.
fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    let meta = path.metadata()?;
    Ok((meta.dev(), meta.ino()))
}

/// Folders made for the outputs. Dropped, it removes those that stayed empty.
#[derive(Default)]
struct NewFolders(Vec<PathBuf>);

impl NewFolders {
    fn create_parent(&mut self, path: &Path) -> Result<()> {
        let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
            return Ok(());
        };
        let missing = folder.ancestors().take_while(|folder| !folder.exists());
        let missing: Vec<_> = missing.map(Path::to_owned).collect();
        self.0.extend(missing.into_iter().rev());
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            // Fails, as it should, where a file was written.
            let _ = std::fs::remove_dir(folder);
        }
    }
}
