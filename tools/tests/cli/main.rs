//! Runs the binary: what it prints, what it ends with, which files it leaves.

mod bad_checkpoints;
mod bad_ggufs;
mod bench;
mod convert;
mod embed;
mod eval;
mod interrupts;
mod mapped_files;
mod model_file;
mod output;
mod report;
mod schema;
mod shell;
mod study;
mod usage;
mod workplace;
