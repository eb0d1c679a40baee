//! `rwkvq convert`: a checkpoint or a full-precision GGUF to quantized GGUFs.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use comfy_table::{presets, CellAlignment, Table};
use rwkvq::convert::{self, ConvertOptions, Job, TensorSource};
use rwkvq::recipe::Recipe;
use rwkvq::{Progress, Result};
use serde_json::{json, Value};

use crate::output::{human_bytes, print};
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
    /// Check everything, print the plan, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,
    /// Print what was done, or the plan, as JSON
    #[arg(long)]
    json: bool,
    /// Say what was not believed in the source and which types were replaced
    #[arg(long, short)]
    verbose: bool,
}

pub fn run(args: &Args, interrupted: &'static AtomicBool) -> Result<()> {
    let recipes = args.preset.iter().map(|name| Recipe::open(name)).collect::<Result<Vec<_>>>()?;
    let bar = Bar::new(interrupted, args.verbose);
    let source = convert::open(source::model(&args.src, &bar)?, args.vocab.clone())?;
    let paths = convert::output_paths(source.name(), &recipes, &args.output)?;
    let jobs = recipes
        .iter()
        .zip(paths)
        .map(|(recipe, path)| Job::new(source.as_ref(), recipe, path))
        .collect::<Result<Vec<_>>>()?;
    tell(source.as_ref(), &jobs, &bar);
    if args.dry_run {
        return print_plans(&jobs, args.json);
    }
    let mut options = ConvertOptions { overwrite: args.overwrite, ..Default::default() };
    options.n_threads = args.threads.unwrap_or(options.n_threads);
    let start = Instant::now();
    let result = convert::run(source.as_ref(), &jobs, options, &bar);
    bar.clear();
    result?;
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        let files: Vec<_> = jobs.iter().map(summary).collect();
        return print(&format!("{:#}\n", json!({ "seconds": seconds, "files": files })));
    }
    for job in &jobs {
        let size = human_bytes(job.file_bytes());
        let bpw = job.plan.bits_per_weight();
        eprintln!("{}  {size}  {bpw:.3} bits per weight", job.path.display());
    }
    eprintln!("{} in {seconds:.1} s", if jobs.len() == 1 { "1 file" } else { "all files" });
    Ok(())
}

/// Warnings always; notes when asked for.
fn tell(source: &dyn TensorSource, jobs: &[Job], bar: &Bar) {
    for warning in source.warnings() {
        eprintln!("warning: {warning}");
    }
    for note in source.notes() {
        bar.note(note);
    }
    for job in jobs {
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
                row.name.clone(),
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
            })
        })
        .collect();
    plan["tensors"] = Value::Array(rows);
    plan
}
