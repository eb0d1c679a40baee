//! The `rwkvq` command: flags in, one library call, results on stdout, messages on stderr.

mod bench;
mod compare;
mod completions;
mod convert;
mod device;
mod devices;
mod embed;
mod embed_format;
mod embed_input;
mod embed_resume;
mod embed_sink;
mod eval;
mod exit;
mod imatrix;
mod inspect;
mod make_checkpoint;
mod man;
mod memory;
mod output;
mod report;
mod source;
mod terminal;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Quantize RWKV models to GGUF, run them with ggml, and measure what quantization costs.
#[derive(Debug, Parser)]
#[command(name = "rwkvq", version, long_version = long_version(), propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Convert(convert::Args),
    Inspect(inspect::Args),
    Imatrix(imatrix::Args),
    Embed(embed::Args),
    Eval(Box<eval::Args>),
    Bench(bench::Args),
    Devices(devices::Args),
    Report(report::Args),
    Compare(compare::Args),
    MakeCheckpoint(make_checkpoint::Args),
    Completions(completions::Args),
    Man(man::Args),
}

fn main() -> ExitCode {
    // CUDA would multiply f32 with ten bits; it reads this when it starts.
    if std::env::var_os("NVIDIA_TF32_OVERRIDE").is_none() {
        std::env::set_var("NVIDIA_TF32_OVERRIDE", "0");
    }
    // clap prints its own errors, one line and a hint, and exits with 2.
    let cli = Cli::parse();
    exit::watch_mapped_files();
    exit::outlive_limits_of_size();
    exit::run(|| {
        // Verbs that never look whether they should stop leave signals as they are.
        let interrupts = terminal::watch_interrupts;
        match cli.verb {
            Verb::Compare(args) => return compare::run(&args),
            Verb::Convert(args) => convert::run(&args, interrupts()),
            Verb::Inspect(args) => inspect::run(&args),
            Verb::Imatrix(args) => imatrix::run(&args, interrupts()),
            Verb::Embed(args) => embed::run(&args, interrupts()),
            Verb::Eval(args) => eval::run(&args, interrupts()),
            Verb::Bench(args) => bench::run(&args, interrupts()),
            Verb::Devices(args) => devices::run(&args),
            Verb::MakeCheckpoint(args) => make_checkpoint::run(&args, interrupts()),
            Verb::Report(args) => report::run(&args),
            Verb::Completions(args) => completions::run(&args, Cli::command()),
            Verb::Man(args) => man::run(&args, Cli::command()),
        }
        .map(|()| ExitCode::SUCCESS)
    })
}

fn long_version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (ggml, isa) = (rwkvq::ggml::version(), rwkvq::ggml::isa());
    format!("{version}\nggml {ggml}\ncpu  {isa}")
}
