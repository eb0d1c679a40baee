//! Converts a checkpoint folder to several presets from one read, with a line of progress.
//!
//!     cargo run --release --example convert_folder -- MODEL_FOLDER OUTPUT_FOLDER [PRESET ...]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rwkvq::convert::{self, ConvertOptions, Job};
use rwkvq::recipe::Recipe;
use rwkvq::{Error, Progress, Result};

/// Prints every tenth of the way.
#[derive(Default)]
struct Tenths {
    total: AtomicU64,
    done: AtomicU64,
}

impl Progress for Tenths {
    fn begin(&self, phase: &str, total: u64) {
        self.total.store(total.max(1), Ordering::Relaxed);
        eprintln!("{phase}: {total} weights");
    }

    fn advance(&self, n: u64) {
        let before = self.done.fetch_add(n, Ordering::Relaxed);
        let tenth = |done: u64| done.saturating_mul(10) / self.total.load(Ordering::Relaxed);
        if tenth(before) != tenth(before + n) {
            eprintln!("{} %", tenth(before + n) * 10);
        }
    }

    fn note(&self, message: &str) {
        eprintln!("note: {message}");
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, out, presets @ ..] = arguments.as_slice() else {
        return Err(Error::argument("give a model folder and an output folder"));
    };
    let presets = if presets.is_empty() { &["q8_0".into(), "q4_k".into()] } else { presets };
    let recipes = presets.iter().map(|name| Recipe::open(name)).collect::<Result<Vec<_>>>()?;
    let source = convert::open(source, None)?;
    let paths = convert::output_paths(source.name(), &recipes, Path::new(out))?;
    let jobs = recipes
        .iter()
        .zip(paths)
        .map(|(recipe, path)| Job::new(source.as_ref(), recipe, path))
        .collect::<Result<Vec<_>>>()?;
    convert::run(source.as_ref(), &jobs, ConvertOptions::default(), &Tenths::default())?;
    for job in jobs {
        println!("{}: {:.2} bits per weight", job.path.display(), job.plan.bits_per_weight());
    }
    Ok(())
}
