//! `rwkvq completions`: what a shell needs to complete our command lines.

use clap::Command;
use clap_complete::Shell;
use rwkvq::Result;

use crate::output::print;

/// Print the completions for a shell, to be put where it looks for them
#[derive(Debug, clap::Args)]
pub struct Args {
    shell: Shell,
}

pub fn run(args: &Args, mut command: Command) -> Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script))
}
