//! `rwkvq man`: manual pages.

use std::path::PathBuf;

use clap::builder::Resettable;
use clap::Command;
use clap_mangen::Man;
use rwkvq::{Error, Result};

use crate::output::print;

/// Print the manual page, or write one for rwkvq and for each verb into a folder
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for rwkvq.1, rwkvq-convert.1 and so on; made where it is missing
    folder: Option<PathBuf>,
}

pub fn run(args: &Args, command: Command) -> Result<()> {
    // The long version tells of this machine, where the page was made and not where it is read.
    let command = command.long_version(Resettable::Reset).disable_help_subcommand(true);
    if let Some(folder) = &args.folder {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        return clap_mangen::generate_to(command, folder).map_err(|e| Error::io(folder, e));
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page).expect("memory takes what is written");
    print(&String::from_utf8_lossy(&page))
}
