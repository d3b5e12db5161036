//! `cidfs completions`.

use clap::{Args, CommandFactory};

use super::failure::Failure;
use super::output::print;

/// Flags of `cidfs completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut super::args::Cli::command(),
        "cidfs",
        &mut script,
    );
    print(&String::from_utf8_lossy(&script))
}
