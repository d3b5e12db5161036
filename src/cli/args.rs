//! The commands, and the flags that all have in common.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::control::{OperationError, raw};
use serde_json::Value;

/// Exit codes, as `--help` shows them.
const EXIT_CODES: &str = "\
Exit codes:
  0  it went well
  1  it failed
  2  the command or its parameters are wrong
  3  what was asked for does not exist
  4  it cannot be had now, or not before the deadline
  5  bytes are damaged or not what they claim to be
  6  someone uses it: a busy mount, a locked repository, an existing file
  7  permission denied
  8  a transaction was refused: the tree has moved on

Environment:
  CIDFS_REPO  directory of the repository
  CIDFS_LOG   filter of log lines, such as debug or cidfs::cache=trace";

/// Mounts IPFS content as ordinary files.
#[derive(Debug, Parser)]
#[command(name = "cidfs", version, after_long_help = EXIT_CODES)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Common {
    /// Directory of the repository
    ///
    /// Else $CIDFS_REPO, else $XDG_DATA_HOME/cidfs, else ~/.local/share/cidfs.
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) repo: Option<PathBuf>,
    /// Print results and errors as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Log more; twice and three times still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mount IPFS content on a directory
    Mount(super::mount::Mount),
    /// Unmount a directory
    #[command(alias = "unmount")]
    Umount(super::umount::Umount),
    /// List the mounts
    Mounts(super::mounts::Mounts),
    /// Show what the daemon does and has
    Status(super::status::Status),
    /// Unmount everything and end the daemon
    Shutdown(super::shutdown::Shutdown),
    /// Run the daemon without a mount, in the foreground
    Daemon(super::daemon::Daemon),
    /// Add files and directories
    Add(Box<super::add::Add>),
    /// Take in the blocks of CAR files
    Import(super::import::Import),
    /// Keep content for good
    Pin(super::pin::Pin),
    /// Drop own blocks that no pin leads to
    Gc(super::store::Gc),
    /// Read every block on disk and prove it
    Verify(super::store::Verify),
    /// List a directory
    Ls(super::ls::Ls),
    /// Print files
    Cat(super::cat::Cat),
    /// Copy a file or directory out of IPFS
    Get(super::get::Get),
    /// Tell what a path leads to
    Stat(super::stat::Stat),
    /// Find the CID that a path leads to
    Resolve(super::stat::Resolve),
    /// Write whole DAGs into a CAR file
    Export(super::export::Export),
    /// Read, check and checkpoint the journal of the writable tree
    Journal(super::journal::Journal),
    /// List, compare and restore kept checkpoints of the writable tree
    Snapshot(super::snapshot::Snapshot),
    /// Read and change the writable tree without a mount
    Tree(super::tree::Tree),
    /// Check the writable tree and its journal
    Fsck(super::fsck::Fsck),
    /// Find what is wrong with FUSE, limits, disk, sources and mounts
    Doctor(super::doctor::Doctor),
    /// List, test, add and remove sources of blocks
    Sources(super::sources::Sources),
    /// Print a completion script for a shell
    Completions(super::completions::Completions),
}

impl Command {
    /// Whether it only reads what a repository has: it makes none, so that one
    /// whose name is mistyped is not taken for an empty one.
    pub(super) fn only_reads(&self) -> bool {
        match self {
            Self::Gc(_)
            | Self::Verify(_)
            | Self::Ls(_)
            | Self::Cat(_)
            | Self::Get(_)
            | Self::Stat(_)
            | Self::Resolve(_)
            | Self::Export(_)
            | Self::Journal(_)
            | Self::Snapshot(_)
            | Self::Fsck(_) => true,
            Self::Pin(pin) => pin.only_reads(),
            Self::Tree(tree) => tree.only_reads(),
            Self::Sources(sources) => sources.only_reads(),
            // These write, or have no need of a repository.
            Self::Mount(_)
            | Self::Umount(_)
            | Self::Mounts(_)
            | Self::Status(_)
            | Self::Shutdown(_)
            | Self::Daemon(_)
            | Self::Add(_)
            | Self::Import(_)
            | Self::Doctor(_)
            | Self::Completions(_) => false,
        }
    }
}

/// Gives a name of the tree, which need not be UTF-8, as operations take it.
pub(super) fn in_tree(name: &OsStr) -> Value {
    raw::to_json(name.as_bytes())
}

/// Gives a path as operations take it: they speak JSON, which is UTF-8.
pub(super) fn in_json(path: &Path) -> Result<&str, OperationError> {
    path.to_str().ok_or_else(|| {
        let message = format!("{} is not UTF-8", path.display());
        OperationError::invalid(message).hint("name a link to it, or the directory above it")
    })
}
