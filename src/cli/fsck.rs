//! `cidfs fsck`.

use clap::Args;
use serde_json::{Value, json};

use super::args::Common;
use super::backend::{find_daemon, repo_dir, when_free};
use super::failure::Failure;
use super::output::{counted, list, number, print, print_json, safe};
use super::progress::Bar;
use crate::control::{Call, ErrorKind, OperationError, Output};
use crate::daemon::fsck::{Damage, check};

/// Flags of `cidfs fsck`.
#[derive(Debug, Args)]
pub(super) struct Fsck {
    /// Set what is damaged aside and make the tree writable from what is sound; nothing is deleted
    #[arg(long)]
    repair: bool,
}

pub(super) async fn run(common: &Common, args: Fsck) -> Result<(), Failure> {
    let bar = Bar::start("checking", common.json);
    let progress = bar.hear(None);
    let report = match find_daemon(common).await? {
        Some(_) if args.repair => {
            let message = "a daemon has the repository open";
            let error = OperationError::new(ErrorKind::Busy, message);
            return Err(error.hint("`cidfs shutdown` first").into());
        }
        Some(client) => {
            let call = Call {
                progress,
                ..Call::with(json!({}))
            };
            match client.call("fs-journal/fsck", false, call).await? {
                Output::Json(report) => report,
                Output::Bytes { .. } => {
                    return Err(OperationError::internal("fs-journal/fsck gave bytes").into());
                }
            }
        }
        None => {
            let dir = repo_dir(common)?;
            when_free(|| check(dir.clone(), args.repair, progress.clone())).await?
        }
    };
    bar.end();
    match common.json {
        true => print_json(&report)?,
        false => print(&lines(&report))?,
    }
    match Damage::of(&report) {
        Damage::None => Ok(()),
        Damage::Repaired => Err(Failure::Quiet(1)),
        Damage::Left => Err(Failure::Quiet(5)),
    }
}

fn lines(report: &Value) -> String {
    let mut out = String::new();
    for (field, mark) in [
        ("notices", "notice"),
        ("problems", "damage"),
        ("repaired", "repaired"),
        ("lost", "lost"),
    ] {
        for line in list(report, field).iter().filter_map(Value::as_str) {
            out.push_str(&format!("{mark}: {}\n", safe(line)));
        }
    }
    let count = |name| number(report, name);
    if let Some(torn) = report.get("torn").and_then(Value::as_str) {
        let entries = count("torn_entries");
        out.push_str(&format!(
            "torn: {}; the next start cuts it off with {entries} whole entries behind it, and keeps them aside\n",
            safe(torn)
        ));
    }
    for name in list(report, "set_aside").iter().filter_map(Value::as_str) {
        let name = safe(name);
        out.push_str(&format!(
            "set aside: journal/{name}: look at what was lost, then remove it\n"
        ));
    }
    let after = report.get("after").map(|after| {
        let left = list(after, "problems").iter().filter_map(Value::as_str);
        let left: String = left
            .map(|line| format!("still: {}\n", safe(line)))
            .collect();
        let count = list(after, "problems").len();
        format!(
            "{left}after the repair: {}\n",
            counted(count as u64, "problem", "problems")
        )
    });
    if count("absent_blocks") > 0 {
        out.push_str(&format!(
            "not here: {} blocks of content that was mounted or shared from elsewhere, and not fetched\n",
            count("absent_blocks")
        ));
    }
    if count("lost_blocks") > 0 {
        out.push_str(&format!(
            "lost: {} blocks that were written here\n",
            count("lost_blocks")
        ));
    }
    out + &format!(
        "{}, {}, {}, {} checked; {}\n{}",
        counted(count("entries"), "entry", "entries"),
        counted(count("checkpoints"), "checkpoint", "checkpoints"),
        counted(count("blocks"), "block", "blocks"),
        counted(count("records"), "record", "records"),
        counted(list(report, "problems").len() as u64, "problem", "problems"),
        after.unwrap_or_default(),
    )
}
