//! `cidfs tree`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use futures::StreamExt;
use serde_json::{Value, json};

use super::args::{Common, in_tree};
use super::backend::Backend;
use super::cat::{bytes, pump};
use super::failure::Failure;
use super::import::standard_input;
use super::journal::{ask, call, fields, show};
use super::output::{list, print_json, safe, text};
use crate::control::{Body, Call, ErrorKind, OperationError, Output};

/// Flags of `cidfs tree`.
#[derive(Debug, Args)]
pub(super) struct Tree {
    /// As behind the subcommand, where it is a change
    #[arg(long, value_name = "N", hide = true)]
    transaction: Option<u64>,
    #[command(subcommand)]
    command: TreeCommand,
}

/// Where a change is done.
#[derive(Debug, Clone, Copy, Args)]
struct Stage {
    /// Stage the change in this transaction of the daemon
    #[arg(long, value_name = "N")]
    transaction: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum TreeCommand {
    /// Write a file, all at once
    Write {
        /// Path in the tree
        path: OsString,
        /// File to take the bytes from; - and none are standard input
        file: Option<PathBuf>,
        /// Put the bytes at this place of the file and keep the rest
        #[arg(short, long)]
        offset: Option<u64>,
        /// Put them at its end
        #[arg(short, long, conflicts_with = "offset")]
        append: bool,
        /// Permission bits of a new file, octal
        #[arg(short, long)]
        mode: Option<String>,
        /// Make the directories above it
        #[arg(short, long)]
        parents: bool,
        #[command(flatten)]
        stage: Stage,
    },
    /// Print a file
    Read {
        /// Path in the tree
        path: OsString,
        /// First byte
        #[arg(short, long, default_value_t = 0)]
        offset: u64,
        /// Most bytes
        #[arg(short, long)]
        length: Option<u64>,
    },
    /// Make a directory
    Mkdir {
        /// Path in the tree
        path: OsString,
        /// Those above it too; one that is there is fine
        #[arg(short, long)]
        parents: bool,
        /// Permission bits, octal
        #[arg(short, long)]
        mode: Option<String>,
        #[command(flatten)]
        stage: Stage,
    },
    /// Remove files, links and directories
    Rm {
        /// Paths in the tree
        #[arg(required = true)]
        paths: Vec<OsString>,
        /// Directories with all that is in them
        #[arg(short, long)]
        recursive: bool,
        /// One that is not there is fine
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        stage: Stage,
    },
    /// Move something
    Mv {
        /// Path in the tree
        from: OsString,
        /// Its new path, or a directory to move it into
        to: OsString,
        /// Take the new path as it is, also where a directory is
        #[arg(short = 'T', long)]
        no_target_directory: bool,
        /// Refuse to replace what is there
        #[arg(long)]
        no_replace: bool,
        /// Let both change places
        #[arg(long, conflicts_with = "no_replace")]
        exchange: bool,
        #[command(flatten)]
        stage: Stage,
    },
    /// List a directory
    Ls {
        /// Path in the tree
        #[arg(default_value = "/")]
        path: OsString,
        /// Mode, owner, size and time too
        #[arg(short, long)]
        long: bool,
    },
    /// Tell about a path, with its CID
    Stat {
        /// Path in the tree
        path: OsString,
    },
    /// Make a symbolic link
    Ln {
        /// What it says
        target: OsString,
        /// Path in the tree
        path: OsString,
        #[command(flatten)]
        stage: Stage,
    },
    /// Set permission bits
    Chmod {
        /// Octal
        mode: String,
        /// Path in the tree
        path: OsString,
        #[command(flatten)]
        stage: Stage,
    },
    /// Mount content at a path, at once whatever its size
    Mount {
        /// /ipfs/<cid>[/path] or <cid>[/path]
        cid: String,
        /// Path in the tree; nothing may be there
        path: OsString,
        #[command(flatten)]
        stage: Stage,
    },
    /// Take mounted content away
    Unmount {
        /// Path in the tree
        path: OsString,
        /// Also where something in it was changed since it was mounted, which is lost
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        stage: Stage,
    },
    /// Print the root CID of the last checkpoint
    Root {
        /// Make a checkpoint first
        #[arg(long)]
        now: bool,
    },
    /// Push the tree to nodes, which pin its root
    Push(super::push::Push),
    /// Begin a transaction in the daemon and print its number
    Begin {
        /// Seconds after which it is rolled back if it has not ended
        #[arg(long, value_name = "SECONDS")]
        deadline: Option<u64>,
    },
    /// Do all that is staged in a transaction, or nothing
    Commit {
        /// Its number
        transaction: u64,
    },
    /// Give a transaction up
    Rollback {
        /// Its number
        transaction: u64,
    },
}

impl TreeCommand {
    /// Where the change is done; `None` of what is no change.
    fn stage(&self) -> Option<Stage> {
        match self {
            Self::Write { stage, .. }
            | Self::Mkdir { stage, .. }
            | Self::Rm { stage, .. }
            | Self::Mv { stage, .. }
            | Self::Ln { stage, .. }
            | Self::Chmod { stage, .. }
            | Self::Mount { stage, .. }
            | Self::Unmount { stage, .. } => Some(*stage),
            Self::Read { .. }
            | Self::Ls { .. }
            | Self::Stat { .. }
            | Self::Root { .. }
            | Self::Push(_)
            | Self::Begin { .. }
            | Self::Commit { .. }
            | Self::Rollback { .. } => None,
        }
    }
}

impl Tree {
    /// Whether it changes nothing of what a repository has.
    pub(super) fn only_reads(&self) -> bool {
        self.command.stage().is_none()
    }
}

/// The transaction that a change is staged in.
fn transaction(args: &Tree) -> Result<Option<u64>, OperationError> {
    match (args.command.stage(), args.transaction) {
        (Some(stage), before) => Ok(stage.transaction.or(before)),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(OperationError::invalid(
            "--transaction goes with changes only: this is none",
        )),
    }
}

pub(super) async fn run(common: &Common, args: Tree) -> Result<(), Failure> {
    let transaction = transaction(&args)?;
    match args.command {
        TreeCommand::Read {
            path,
            offset,
            length,
        } => {
            read(
                common,
                json!({"path": in_tree(&path), "offset": offset, "length": length}),
            )
            .await
        }
        TreeCommand::Write {
            path,
            file,
            offset,
            append,
            mode,
            parents,
            ..
        } => {
            let params = json!({
                "path": in_tree(&path),
                "offset": offset,
                "append": append,
                "mode": mode,
                "parents": parents,
                "transaction": transaction,
            });
            write(common, params, file.as_deref()).await
        }
        TreeCommand::Rm {
            paths,
            recursive,
            force,
            ..
        } => {
            let more = json!({"recursive": recursive, "transaction": transaction});
            remove(common, &paths, &more, force).await
        }
        TreeCommand::Ls { path, long } => ls(common, &path, long).await,
        TreeCommand::Stat { path } => {
            let found = ask(common, "fs-journal/stat", json!({"path": in_tree(&path)})).await?;
            show(common, &found, |found| fields(found, ""))
        }
        TreeCommand::Root { now } => root(common, now).await,
        TreeCommand::Push(args) => super::push::run(common, args).await,
        TreeCommand::Begin { deadline } => {
            let params =
                json!({"deadline_ms": deadline.map(|seconds| seconds.saturating_mul(1000))});
            let begun = ask(common, "fs-journal/begin", params).await?;
            show(common, &begun, |begun| {
                format!("{}\n", text(begun, "transaction"))
            })
        }
        command @ (TreeCommand::Mkdir { .. }
        | TreeCommand::Mv { .. }
        | TreeCommand::Ln { .. }
        | TreeCommand::Chmod { .. }
        | TreeCommand::Mount { .. }
        | TreeCommand::Unmount { .. }
        | TreeCommand::Commit { .. }
        | TreeCommand::Rollback { .. }) => change(common, command, transaction).await,
    }
}

/// A change that needs nothing but its parameters.
async fn change(
    common: &Common,
    command: TreeCommand,
    transaction: Option<u64>,
) -> Result<(), Failure> {
    let (name, mut params) = match command {
        TreeCommand::Mkdir {
            path,
            parents,
            mode,
            ..
        } => (
            "fs-journal/mkdir",
            json!({"path": in_tree(&path), "parents": parents, "mode": mode}),
        ),
        TreeCommand::Mv {
            from,
            to,
            no_target_directory,
            no_replace,
            exchange,
            ..
        } => (
            "fs-journal/move",
            json!({
                "from": in_tree(&from),
                "to": in_tree(&to),
                "into": !no_target_directory && !exchange,
                "no_replace": no_replace,
                "exchange": exchange,
            }),
        ),
        TreeCommand::Ln { target, path, .. } => (
            "fs-journal/symlink",
            json!({"path": in_tree(&path), "target": in_tree(&target)}),
        ),
        TreeCommand::Chmod { mode, path, .. } => (
            "fs-journal/metadata",
            json!({"path": in_tree(&path), "mode": mode}),
        ),
        TreeCommand::Mount { cid, path, .. } => (
            "fs-journal/mount",
            json!({"path": in_tree(&path), "cid": cid}),
        ),
        TreeCommand::Unmount { path, force, .. } => (
            "fs-journal/unmount",
            json!({"path": in_tree(&path), "force": force}),
        ),
        TreeCommand::Commit { transaction } => {
            return ended(common, "fs-journal/commit", transaction).await;
        }
        TreeCommand::Rollback { transaction } => {
            return ended(common, "fs-journal/rollback", transaction).await;
        }
        TreeCommand::Write { .. }
        | TreeCommand::Read { .. }
        | TreeCommand::Rm { .. }
        | TreeCommand::Ls { .. }
        | TreeCommand::Stat { .. }
        | TreeCommand::Root { .. }
        | TreeCommand::Push(_)
        | TreeCommand::Begin { .. } => {
            return Err(OperationError::internal("a command that is no change").into());
        }
    };
    if let (Some(fields), Some(id)) = (params.as_object_mut(), transaction) {
        fields.insert("transaction".to_owned(), id.into());
    }
    let done = ask(common, name, params).await?;
    show(common, &done, |_| String::new())
}

async fn ended(common: &Common, name: &str, transaction: u64) -> Result<(), Failure> {
    let done = ask(common, name, json!({"transaction": transaction})).await?;
    show(common, &done, |_| String::new())
}

/// Removes one after the other, also behind one that cannot be removed. With
/// `force` one that is not there is fine.
async fn remove(
    common: &Common,
    paths: &[OsString],
    more: &Value,
    force: bool,
) -> Result<(), Failure> {
    if force && more.get("transaction").is_some_and(Value::is_u64) {
        let message = "--force goes with no transaction: its commit tells what is not there";
        return Err(OperationError::invalid(message).into());
    }
    let mut first_failure = None;
    for path in paths {
        let mut params = more.clone();
        if let Some(fields) = params.as_object_mut() {
            fields.insert("path".to_owned(), in_tree(path));
        }
        match call(common, "fs-journal/remove", "removing", params).await {
            Ok(done) => show(common, &done, |_| String::new())?,
            Err(Failure::Error(error)) if force && error.kind == ErrorKind::NotFound => {}
            Err(Failure::Error(error)) => {
                first_failure.get_or_insert(error.kind.exit_code());
                Failure::Error(error).report(common.json);
            }
            Err(quiet) => return Err(quiet),
        }
    }
    first_failure.map_or(Ok(()), |code| Err(Failure::Quiet(code)))
}

async fn read(common: &Common, params: Value) -> Result<(), Failure> {
    let backend = Backend::open(common).await?;
    let (_, stream) = bytes(backend.call("fs-journal/read", Call::with(params)).await?)?;
    pump(stream, &mut io::stdout().lock(), |_| ()).await?;
    backend.close().await
}

async fn write(common: &Common, params: Value, file: Option<&Path>) -> Result<(), Failure> {
    let body = match file {
        None => standard_input(),
        Some(path) if path == Path::new("-") => standard_input(),
        Some(path) => bytes_of(path)?,
    };
    let backend = Backend::open(common).await?;
    let call = Call {
        body: Some(body),
        ..Call::with(params)
    };
    let output = backend.call("fs-journal/write", call).await;
    backend.close().await?;
    let Output::Json(done) = output? else {
        return Err(OperationError::internal("fs-journal/write gave bytes").into());
    };
    show(common, &done, |done| format!("{}\n", text(done, "cid")))
}

/// A file as the body of a call.
fn bytes_of(path: &Path) -> Result<Body, Failure> {
    let at = |error: io::Error| OperationError::from(error).context(path.display());
    let file = std::fs::File::open(path).map_err(at)?;
    if file.metadata().map_err(at)?.is_dir() {
        let message = format!("{} is a directory", path.display());
        return Err(OperationError::invalid(message)
            .hint("`cidfs add -r --to-files=PATH DIR` puts a directory into the tree")
            .into());
    }
    let file = tokio::fs::File::from_std(file);
    let pieces = tokio_util::io::ReaderStream::with_capacity(file, 256 << 10);
    Ok(pieces.map(|piece: io::Result<Bytes>| piece).boxed())
}

async fn ls(common: &Common, path: &OsStr, long: bool) -> Result<(), Failure> {
    let backend = Backend::open(common).await?;
    let mut cursor = Value::Null;
    loop {
        let params = json!({"path": in_tree(path), "cursor": cursor});
        let found = backend.json("fs-journal/ls", params).await?;
        if common.json {
            print_json(&found)?;
        } else {
            let lines = list(&found, "entries")
                .iter()
                .map(|entry| entry_line(entry, long));
            super::output::print(&lines.collect::<String>())?;
        }
        match found.get("cursor").filter(|next| !next.is_null()) {
            Some(next) => cursor = next.clone(),
            None => break,
        }
    }
    backend.close().await
}

fn entry_line(entry: &Value, long: bool) -> String {
    let name = safe(&text(entry, "name"));
    let mark = if text(entry, "kind") == "directory" {
        "/"
    } else {
        ""
    };
    if !long {
        return format!("{name}{mark}\n");
    }
    let target = match entry.get("target") {
        Some(_) => format!(" -> {}", safe(&text(entry, "target"))),
        None => String::new(),
    };
    format!(
        "{} {:>5} {:>5} {:>12} {} {name}{mark}{target}\n",
        mode_of(&text(entry, "kind"), &text(entry, "mode")),
        text(entry, "uid"),
        text(entry, "gid"),
        text(entry, "size"),
        text(entry, "mtime"),
    )
}

/// Type and permission bits as `ls -l` shows them.
fn mode_of(kind: &str, octal: &str) -> String {
    let bits = u32::from_str_radix(octal, 8).unwrap_or(0);
    let mut out = String::from(match kind {
        "directory" => "d",
        "symlink" => "l",
        "fifo" => "p",
        "socket" => "s",
        "character device" => "c",
        "block device" => "b",
        _ => "-",
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let has = |bit: u32| bits >> shift & bit != 0;
        out.push(if has(4) { 'r' } else { '-' });
        out.push(if has(2) { 'w' } else { '-' });
        out.push(match (has(1), bits & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    out
}

async fn root(common: &Common, now: bool) -> Result<(), Failure> {
    let known = match now {
        true => Value::Null,
        false => {
            let status = ask(common, "fs-journal/status", json!({})).await?;
            status.get("checkpoint").cloned().unwrap_or(Value::Null)
        }
    };
    let made = if known.is_null() {
        call(common, "fs-journal/checkpoint", "checkpointing", json!({})).await?
    } else {
        known
    };
    show(common, &made, |made| format!("{}\n", text(made, "root")))
}
