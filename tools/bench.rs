//! `rwkvq bench`: how fast a model runs on this machine.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use comfy_table::Table;
use rwkvq::bench::{self, BenchOptions, BenchReport};
use rwkvq::model::{LayerSelection, Products};
use rwkvq::Result;

use crate::device::Device;
use crate::output::{human_bytes, print, print_json, table};
use crate::terminal::Bar;

/// Measure speed alone: start, tokens per second by batch size, memory, share of the machine
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An RWKV-6 GGUF
    model: PathBuf,
    /// Layers to extract: indices 0..n_layer-1, last, final, all
    #[arg(long, default_value = "final")]
    layers: String,
    /// Tokens computed at once; several sizes, separated by commas, are measured in turn
    #[arg(long, value_delimiter = ',', default_value = "32,128,512,1024")]
    batch_tokens: Vec<usize>,
    /// Tokens of a text
    #[arg(long, default_value_t = 32)]
    text_tokens: usize,
    /// Tokens of a pass, at least
    #[arg(long, default_value_t = 1024)]
    pass_tokens: usize,
    /// Passes for each batch size; the median counts
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Threads [default: one for each core]
    #[arg(long)]
    threads: Option<usize>,
    /// Whose matrix products run
    #[arg(long, value_enum, default_value = "own")]
    products: Choice,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: Device,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Choice {
    /// Those of this program where it has them for the tensor type and the processor
    Own,
    /// ggml's
    Ggml,
}

pub fn run(args: &Args, interrupted: &'static AtomicBool) -> Result<()> {
    let default = BenchOptions::default();
    let options = BenchOptions {
        layers: LayerSelection::parse(&args.layers)?,
        batch_tokens: args.batch_tokens.clone(),
        text_tokens: args.text_tokens,
        pass_tokens: args.pass_tokens,
        repeats: args.repeats,
        open: args.device.open()?,
        n_threads: args.threads.unwrap_or(default.n_threads),
        products: match args.products {
            Choice::Own => Products::Own,
            Choice::Ggml => Products::Ggml,
        },
    };
    let bar = Bar::new(interrupted, false);
    let report = bench::run(&args.model, &options, &bar);
    bar.clear();
    let report = report?;
    if args.json {
        return print_json(serde_json::to_string_pretty(&report));
    }
    print(&text(&report))
}

fn text(report: &BenchReport) -> String {
    let mut text = format!(
        "{}  {}  {} of its layers on {} threads, products: {}{}\n",
        report.model,
        human_bytes(report.file_bytes),
        report.layers_computed,
        report.threads,
        report.products,
        report.instructions.iter().map(|set| format!(" on {set}")).collect::<String>()
    );
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
    let start = &report.start;
    text += &format!(
        "start {} (open {}, tokenizer {}); five tokens then take {}\n",
        ms(start.start_seconds),
        ms(start.open_seconds),
        ms(start.tokenizer_seconds),
        ms(start.steady_seconds)
    );
    if let Some(bytes) = report.peak_rss_bytes {
        text += &format!("peak memory {}\n", human_bytes(bytes));
    }
    let mut table = table(&["batch", "tokens/s", "slowest", "fastest", "padding"], 1);
    for batch in &report.batches {
        let rate = |seconds: f64| format!("{:.1}", batch.tokens as f64 / seconds);
        let slowest = batch.seconds.iter().copied().fold(0.0, f64::max);
        let fastest = batch.seconds.iter().copied().fold(f64::INFINITY, f64::min);
        table.add_row([
            batch.batch_tokens.to_string(),
            format!("{:.1}", batch.tokens_per_s),
            rate(slowest),
            rate(fastest),
            format!("{:.1} %", 100.0 * batch.padding_share),
        ]);
    }
    text += &format!("\n{table}\n");
    if let (Some(ceilings), false) = (&report.ceilings, report.matrix_products.is_empty()) {
        text += &format!("\n{}\n", products(report, ceilings));
        text += &format!("memory reads {:.1} GB/s\n", ceilings.read_bytes_per_s / 1e9);
    }
    text
}

fn products(report: &BenchReport, ceilings: &bench::Ceilings) -> Table {
    let mut table = table(&["type", "tokens", "G multiply-adds/s", "ceiling", "share"], 1);
    for product in &report.matrix_products {
        let ceiling = ceilings.of(product.arithmetic);
        table.add_row([
            product.tensor_type.clone(),
            product.n_tokens.to_string(),
            format!("{:.1}", product.multiply_adds_per_s / 1e9),
            format!("{:.1}", ceiling / 1e9),
            format!("{:.0} %", 100.0 * product.multiply_adds_per_s / ceiling),
        ]);
    }
    table
}
