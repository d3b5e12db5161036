//! The command line: one file for each command.
//!
//! A command turns its flags into parameters of an operation, runs it through
//! `backend::Backend` (the daemon's socket if one runs, else the repository
//! in this process), and shows the result. What a result means is decided in
//! the operation, not here.

mod add;
mod args;
mod backend;
mod cat;
mod completions;
mod daemon;
mod doctor;
mod export;
mod extract;
mod failure;
mod follow;
mod fsck;
mod get;
mod import;
mod journal;
mod ls;
mod mount;
mod mount_helper;
mod mounts;
mod output;
mod pin;
mod progress;
mod push;
mod shutdown;
mod snapshot;
mod sources;
mod stat;
mod status;
mod store;
mod tree;
mod umount;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::control::OperationError;
use args::{Cli, Command};
use failure::Failure;

/// Runs the program with its arguments, the name first.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let json = wants_json(&arguments);
    let cli = if mount_helper::is_called(&arguments) {
        match mount_helper::parse(arguments) {
            Ok(cli) => cli,
            Err(failure) => return failure.report(false),
        }
    } else {
        match Cli::try_parse_from(arguments) {
            Ok(cli) => cli,
            Err(error) if json && error.use_stderr() => return misused(&error).report(true),
            Err(error) => {
                // A closed pipe while help is printed is nobody's fault.
                drop(error.print());
                return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
            }
        }
    };
    let json = cli.common.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// Whether errors are wanted as JSON, also those of arguments that make no sense.
fn wants_json(arguments: &[OsString]) -> bool {
    let mut flags = arguments.iter().take_while(|argument| *argument != "--");
    flags.any(|argument| argument == "--json")
}

/// What is wrong with the arguments, without the usage that goes with it.
fn misused(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let what = text.split("\n\nUsage:").next().unwrap_or_default();
    let what = what.trim().trim_start_matches("error: ");
    OperationError::invalid(what)
        .hint("`--help` tells the arguments")
        .into()
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { common, command } = cli;
    if !matches!(command, Command::Daemon(_)) {
        crate::daemon::log::to_stderr(common.verbose, "warn");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(dispatch(common, command));
    // What still blocks (a read of standard input) is not waited for.
    runtime.shutdown_background();
    outcome
}

/// Refuses to read a repository that is not there.
fn need_repo(common: &args::Common) -> Result<(), Failure> {
    let dir = crate::repo::locate(common.repo.as_deref())?;
    if crate::repo::is_there(&dir) {
        return Ok(());
    }
    let message = format!("no repository is in {}", dir.display());
    let hint = "`cidfs mount`, `add`, `import` and other commands that write make one; \
                else name another by --repo or $CIDFS_REPO";
    Err(OperationError::not_found(message).hint(hint).into())
}

async fn dispatch(common: args::Common, command: Command) -> Result<(), Failure> {
    if command.only_reads() {
        need_repo(&common)?;
    }
    match command {
        Command::Mount(args) => mount::run(&common, args).await,
        Command::Umount(args) => umount::run(&common, args).await,
        Command::Mounts(args) => mounts::run(&common, args).await,
        Command::Status(args) => status::run(&common, args).await,
        Command::Shutdown(args) => shutdown::run(&common, args).await,
        Command::Daemon(args) => daemon::run(&common, args).await,
        Command::Add(args) => add::run(&common, *args).await,
        Command::Import(args) => import::run(&common, args).await,
        Command::Pin(args) => pin::run(&common, args).await,
        Command::Gc(args) => store::gc(&common, args).await,
        Command::Verify(args) => store::verify(&common, args).await,
        Command::Ls(args) => ls::run(&common, args).await,
        Command::Cat(args) => cat::run(&common, args).await,
        Command::Get(args) => get::run(&common, args).await,
        Command::Stat(args) => stat::stat(&common, args).await,
        Command::Resolve(args) => stat::resolve(&common, args).await,
        Command::Export(args) => export::run(&common, args).await,
        Command::Journal(args) => journal::run(&common, args).await,
        Command::Snapshot(args) => snapshot::run(&common, args).await,
        Command::Tree(args) => tree::run(&common, args).await,
        Command::Fsck(args) => fsck::run(&common, args).await,
        Command::Doctor(args) => doctor::run(&common, args).await,
        Command::Sources(args) => sources::run(&common, args).await,
        Command::Completions(args) => completions::run(&args),
    }
}
