//! `rwkvq convert`: a checkpoint or a full-precision GGUF to quantized GGUFs.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use comfy_table::{presets, CellAlignment, Table};
use rwkvq::convert::{self, ConvertOptions, FileReport, Job, TensorSource};
use rwkvq::imatrix::Imatrix;
use rwkvq::recipe::Recipe;
use rwkvq::{Progress, Result};
use serde_json::{json, Value};

use crate::memory::Memory;
use crate::output::{check_target, human_bytes, print, printable, tell_partials};
use crate::source;
use crate::terminal::Bar;

/// Convert a Hugging Face RWKV-6 folder, a .safetensors or .pth file, an F32/F16/BF16 GGUF or a hub
/// id
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder (config.json, *.safetensors or pytorch_model*.bin, vocabulary), .safetensors
    /// file, original .pth file, GGUF, or a hub id such as RWKV/v6-Finch-1B6-HF, with @REVISION to
    /// pin it; a path that exists wins
    src: PathBuf,
    /// Preset, repeatable: f32 f16 bf16 q8_0 q6_k q5_k q5_k_m q5_k_s q4_k q4_k_m q4_k_s q3_k q2_k,
    /// or the path of a preset file
    #[arg(long, required = true)]
    preset: Vec<String>,
    /// File ending in .gguf (one preset), or a folder for <model>-<preset>.gguf
    #[arg(short, long)]
    output: PathBuf,
    /// World vocabulary to use instead of the folder's own
    #[arg(long)]
    vocab: Option<PathBuf>,
    /// Importance matrix: a GGUF of rwkvq imatrix or llama-imatrix, or an older .dat
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Check everything, print the plan, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,
    /// Print what was done with the error of each tensor, or the plan, as JSON
    #[arg(long)]
    json: bool,
    /// Say what was not believed in the source, which types were replaced, and the error of each
    /// tensor
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    memory: Memory,
}

pub fn run(args: &Args, interrupted: &'static AtomicBool) -> Result<()> {
    let recipes = args.preset.iter().map(|name| Recipe::open(name)).collect::<Result<Vec<_>>>()?;
    let bar = Bar::new(interrupted, args.verbose);
    let access = args.memory.access();
    let path = source::model(&args.src, &bar)?;
    let source = convert::open_with(path, args.vocab.clone(), access)?;
    let imatrix = args.imatrix.as_ref().map(|path| Imatrix::open_with(path, access)).transpose()?;
    let paths = convert::output_paths(source.name(), &recipes, &args.output)?;
    let jobs = recipes
        .iter()
        .zip(paths)
        .map(|(recipe, path)| Job::weighted(source.as_ref(), recipe, imatrix.as_ref(), path))
        .collect::<Result<Vec<_>>>()?;
    tell(source.as_ref(), &jobs, imatrix.as_ref(), &bar);
    for job in &jobs {
        check_target(&job.path, args.preset.iter().map(Path::new))?;
    }
    if args.dry_run {
        return print_plans(&jobs, args.json);
    }
    let measure_errors = args.json || args.verbose;
    let mut options =
        ConvertOptions { overwrite: args.overwrite, measure_errors, ..Default::default() };
    options.n_threads = args.threads.unwrap_or(options.n_threads);
    let start = Instant::now();
    let report = convert::run(source.as_ref(), &jobs, options, &bar);
    bar.clear();
    let report = report?;
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        let files: Vec<_> =
            jobs.iter().zip(&report.files).map(|(job, errors)| done_json(job, errors)).collect();
        return print(&format!("{:#}\n", json!({ "seconds": seconds, "files": files })));
    }
    for (job, errors) in jobs.iter().zip(&report.files) {
        if args.verbose {
            eprintln!("{}", errors_table(job, errors));
        }
        let size = human_bytes(job.file_bytes());
        let bpw = job.plan.bits_per_weight();
        eprintln!("{}  {size}  {bpw:.3} bits per weight", job.path.display());
    }
    eprintln!("{} in {seconds:.1} s", if jobs.len() == 1 { "1 file" } else { "all files" });
    Ok(())
}

/// Warnings always; notes when asked for.
fn tell(source: &dyn TensorSource, jobs: &[Job], imatrix: Option<&Imatrix>, bar: &Bar) {
    for warning in source.warnings() {
        eprintln!("warning: {warning}");
    }
    for note in source.notes() {
        bar.note(note);
    }
    for job in jobs {
        tell_partials(&job.path);
        if imatrix.is_some() {
            tell_coverage(job, bar);
        }
        let replaced = job.plan.rows.iter().filter_map(|row| Some((row, row.instead_of?)));
        for (row, wanted) in replaced.clone() {
            let (name, n) = (&row.name, row.shape.n_cols());
            bar.note(&format!(
                "{}: {name}: rows of {n} do not fill {wanted}; {} instead",
                job.plan.preset, row.to
            ));
        }
        let n = replaced.count();
        if n > 0 {
            eprintln!("warning: {}: {n} tensors get another type, as their rows do not fill the blocks (--verbose names them)", job.plan.preset);
        }
    }
}

/// Which quantized tensors the importance matrix says nothing about.
fn tell_coverage(job: &Job, bar: &Bar) {
    let preset = &job.plan.preset;
    let quantized = job.plan.rows.iter().filter(|row| row.to.is_quantized() && row.to != row.from);
    let (with, without): (Vec<_>, Vec<_>) = quantized.partition(|row| row.weighted);
    for row in &without {
        bar.note(&format!("{preset}: {}: not in the importance matrix", row.name));
    }
    if with.is_empty() {
        eprintln!("warning: {preset}: the importance matrix covers no tensor that is quantized");
    }
}

/// The error of each tensor that was quantized.
fn errors_table(job: &Job, errors: &FileReport) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["tensor", "type", "rmse", "relative", "max abs", "worst block", "its rmse"]);
    for error in &errors.tensors {
        let row = &job.plan.rows[error.row];
        table.add_row([
            printable(&row.name),
            row.to.to_string(),
            format!("{:.3e}", error.rmse),
            format!("{:.4}", error.relative),
            format!("{:.3e}", error.max_abs),
            error.worst_block.to_string(),
            format!("{:.3e}", error.worst_block_rmse),
        ]);
    }
    for column in 2..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn done_json(job: &Job, errors: &FileReport) -> Value {
    let mut done = summary(job);
    let tensors: Vec<_> = errors
        .tensors
        .iter()
        .map(|error| {
            let row = &job.plan.rows[error.row];
            json!({
                "name": row.name,
                "type": row.to.name(),
                "rmse": error.rmse,
                "relative_rmse": error.relative,
                "max_abs_error": error.max_abs,
                "worst_block": error.worst_block,
                "worst_block_rmse": error.worst_block_rmse,
            })
        })
        .collect();
    done["tensor_errors"] = Value::Array(tensors);
    done
}

fn summary(job: &Job) -> Value {
    json!({
        "preset": job.plan.preset,
        "file": job.path.display().to_string(),
        "file_bytes": job.file_bytes(),
        "bits_per_weight": job.plan.bits_per_weight(),
        "file_type": job.plan.file_type,
    })
}

fn print_plans(jobs: &[Job], as_json: bool) -> Result<()> {
    if as_json {
        let plans: Vec<_> = jobs.iter().map(plan_json).collect();
        return print(&format!("{:#}\n", json!({ "plans": plans })));
    }
    for job in jobs {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["tensor", "shape", "from", "to", "bytes", "offset", "why"]);
        for (row, offset) in job.plan.rows.iter().zip(job.offsets()) {
            let why = match row.instead_of {
                Some(wanted) => {
                    format!("{}; instead of {wanted}: rows do not fill its blocks", row.why)
                }
                None => row.why.clone(),
            };
            table.add_row([
                printable(&row.name),
                row.shape.to_string(),
                row.from.to_string(),
                row.to.to_string(),
                row.bytes.to_string(),
                offset.to_string(),
                why,
            ]);
        }
        for column in [4, 5] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let (size, bpw) = (human_bytes(job.file_bytes()), job.plan.bits_per_weight());
        print(&format!("{}\n{table}\n{size}, {bpw:.3} bits per weight\n", job.path.display()))?;
    }
    Ok(())
}

fn plan_json(job: &Job) -> Value {
    let mut plan = summary(job);
    let rows: Vec<_> = job
        .plan
        .rows
        .iter()
        .zip(job.offsets())
        .map(|(row, offset)| {
            json!({
                "name": row.name,
                "shape": row.shape.dims(),
                "from": row.from.name(),
                "to": row.to.name(),
                "bytes": row.bytes,
                "offset": offset,
                "why": row.why,
                "instead_of": row.instead_of.map(|ty| ty.name()),
                "imatrix": row.weighted,
            })
        })
        .collect();
    plan["tensors"] = Value::Array(rows);
    plan
}
