//! `cidfs snapshot`.

use std::ffi::OsString;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{Common, in_tree};
use super::failure::Failure;
use super::journal::{ask, call, show};
use super::output::{counted, list, number, safe, text};

/// Flags of `cidfs snapshot`.
#[derive(Debug, Args)]
pub(super) struct Snapshot {
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    /// List the kept checkpoints, the newest first
    Ls,
    /// Tell which paths differ
    Diff {
        /// The earlier one: its entry, commit or root CID
        from: String,
        /// The later one; without it the tree as it is now
        to: Option<String>,
        /// Only at or below this path
        #[arg(long, default_value = "/")]
        path: OsString,
        /// Most differences
        #[arg(short = 'n', long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Let kept checkpoints go; `cidfs gc` then frees what only they had
    Rm {
        /// Which: entry, commit or root CID
        #[arg(required_unless_present = "keep")]
        snapshots: Vec<String>,
        /// All but the newest N; what was changed gets a checkpoint first
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        keep: Option<u32>,
    },
    /// Bring a path back
    Restore {
        /// From which one: its entry, commit or root CID
        snapshot: String,
        /// What to bring back; / is everything
        path: OsString,
        /// Where to; without it to the same path
        to: Option<OsString>,
        /// Replace what is there
        #[arg(long)]
        replace: bool,
        /// Only content, as a whole and at once, without owners, modes, times and attributes
        #[arg(long)]
        content_only: bool,
    },
}

pub(super) async fn run(common: &Common, args: Snapshot) -> Result<(), Failure> {
    match args.command {
        SnapshotCommand::Ls => {
            let kept = ask(common, "fs-journal/snapshots/list", json!({})).await?;
            show(common, &kept, |kept| {
                let line = |one: &Value| {
                    let (time, root) = (text(one, "time"), text(one, "root"));
                    format!("{:>8}  {time}  {root}\n", text(one, "sequence"))
                };
                list(kept, "snapshots").iter().map(line).collect()
            })
        }
        SnapshotCommand::Diff {
            from,
            to,
            path,
            limit,
        } => {
            let params = json!({"from": from, "to": to, "path": in_tree(&path), "limit": limit});
            let found = call(common, "fs-journal/snapshots/diff", "comparing", params).await?;
            show(common, &found, difference_lines)
        }
        SnapshotCommand::Rm { snapshots, keep } => {
            let params = json!({"snapshots": snapshots, "keep": keep});
            let done = ask(common, "fs-journal/snapshots/remove", params).await?;
            show(common, &done, |done| {
                let gone = list(done, "removed").iter();
                let mut out: String = gone
                    .map(|one| format!("let go {}\n", text(one, "sequence")))
                    .collect();
                out.push_str(&format!("{} are kept\n", text(done, "snapshots")));
                out
            })
        }
        SnapshotCommand::Restore {
            snapshot,
            path,
            to,
            replace,
            content_only,
        } => {
            let params = json!({
                "snapshot": snapshot,
                "path": in_tree(&path),
                "to": to.as_deref().map(in_tree),
                "replace": replace,
                "content_only": content_only,
            });
            let at = to.unwrap_or(path);
            restore(common, params, &at.to_string_lossy()).await
        }
    }
}

fn difference_lines(found: &Value) -> String {
    let line = |one: &Value| {
        let mark = match text(one, "change").as_str() {
            "added" => '+',
            "removed" => '-',
            "changed" => 'M',
            _ => 'm',
        };
        format!("{mark} {}\n", safe(&text(one, "path")))
    };
    let mut out: String = list(found, "differences").iter().map(line).collect();
    if found.get("truncated") == Some(&Value::Bool(true)) {
        out.push_str("there are more: --limit N\n");
    }
    out
}

async fn restore(common: &Common, params: Value, at: &str) -> Result<(), Failure> {
    let done = call(common, "fs-journal/snapshots/restore", "restoring", params).await?;
    show(common, &done, |done| {
        let damaged = list(done, "damaged").iter().filter_map(Value::as_str);
        let damaged = damaged.map(|line| format!("damaged: {}\n", safe(line)));
        format!(
            "restored {} from {}: {}\n{}",
            safe(at),
            text(done, "snapshot"),
            counted(number(done, "changes"), "change", "changes"),
            damaged.collect::<String>()
        )
    })?;
    match list(&done, "damaged").is_empty() {
        true => Ok(()),
        false => Err(Failure::Quiet(5)),
    }
}
