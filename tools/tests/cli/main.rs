//! Runs the binary: what it prints, what it ends with, which files it leaves.

mod bad_checkpoints;
mod bad_ggufs;
mod bench;
#[path = "../../../tests/common/bytes.rs"]
mod bytes;
mod contract;
mod convert;
mod devices;
mod embed;
mod eval;
mod interrupts;
mod mapped_files;
mod model_file;
mod output;
mod report;
mod resume;
mod schema;
mod shell;
mod study;
#[path = "../../../tests/common/torch.rs"]
#[allow(dead_code)] // the tests of the reader use all of it
mod torch;
mod usage;
mod workplace;
