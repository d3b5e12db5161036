//! `cidfs mounts`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::args::Common;
use super::backend::{find_daemon, need_daemon};
use super::failure::Failure;
use super::output::{list, print, print_json, safe, text};
use crate::fs;

/// Flags of `cidfs mounts`.
#[derive(Debug, Args)]
pub(super) struct Mounts {}

pub(super) async fn run(common: &Common, _: Mounts) -> Result<(), Failure> {
    let ours = match find_daemon(common).await? {
        Some(_) => {
            need_daemon(common)
                .await?
                .json("mounts/list", json!({}))
                .await?
        }
        None => json!({"mounts": []}),
    };
    let mut mounts = list(&ours, "mounts").to_vec();
    let known: Vec<PathBuf> = mounts.iter().map(|one| text(one, "dir").into()).collect();
    let others = fs::our_mounts()?
        .into_iter()
        .filter(|mount| !known.contains(&mount.dir));
    mounts.extend(others.map(|mount| {
        let state = if fs::is_stale(&mount.dir) {
            "stale"
        } else {
            "other repository"
        };
        json!({"dir": mount.dir, "source": Value::Null, "state": state})
    }));
    if common.json {
        return print_json(&json!({"mounts": mounts}));
    }
    let lines = mounts.iter().map(|one| {
        let source = one.get("source").and_then(Value::as_str);
        let what = source.map_or_else(|| format!("({})", text(one, "state")), safe);
        format!("{what} on {}\n", safe(&text(one, "dir")))
    });
    print(&lines.collect::<String>())
}
