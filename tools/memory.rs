//! How model files get into memory.

use rwkvq::mmap::Access;

/// The option of every verb that opens a model.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Memory {
    /// Read the model into memory instead of mapping it: it may then change while it is in use
    #[arg(long)]
    no_mmap: bool,
}

impl Memory {
    pub fn access(self) -> Access {
        if self.no_mmap {
            Access::Read
        } else {
            Access::Map
        }
    }
}
