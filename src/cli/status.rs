//! `cidfs status`.

use clap::Args;
use serde_json::{Value, json};

use super::args::Common;
use super::backend::{find_daemon, need_daemon, repo_dir};
use super::failure::Failure;
use super::output::{counted, human_bytes, list, number, print, print_json, safe, text};

/// Flags of `cidfs status`.
#[derive(Debug, Args)]
pub(super) struct Status {}

pub(super) async fn run(common: &Common, _: Status) -> Result<(), Failure> {
    if find_daemon(common).await?.is_none() {
        let repo = repo_dir(common)?;
        if common.json {
            return print_json(&json!({"daemon": false, "repo": repo.to_string_lossy()}));
        }
        return print(&format!("no daemon runs for {}\n", repo.display()));
    }
    let status = need_daemon(common).await?.json("status", json!({})).await?;
    if common.json {
        return print_json(&status);
    }
    print(&show(&status))
}

fn show(status: &Value) -> String {
    let mut out = String::new();
    let uptime = number(status, "uptime_seconds");
    let (pid, version) = (text(status, "pid"), text(status, "version"));
    out.push_str(&format!(
        "daemon   {pid}, cidfs {version}, up {}\n",
        duration(uptime)
    ));
    out.push_str(&format!("repo     {}\n", text(status, "repo")));
    for mount in list(status, "mounts") {
        let (source, dir) = (safe(&text(mount, "source")), safe(&text(mount, "dir")));
        out.push_str(&format!("mount    {source} on {dir}\n"));
    }
    for source in list(status, "sources") {
        out.push_str(&format!("source   {}\n", super::sources::line(source)));
    }
    out.push_str(&tree(status.get("tree").unwrap_or(&Value::Null)));
    for node in list(status, "push") {
        out.push_str(&format!("push     {}\n", super::push::line(node)));
    }
    if let Some(store) = status.get("store").and_then(Value::as_object) {
        for (name, value) in store {
            out.push_str(&format!("store    {name} {}\n", figures(value)));
        }
    }
    out
}

/// What the writable tree is at, and whether it can be written.
fn tree(tree: &Value) -> String {
    let changes = counted(number(tree, "changes"), "change", "changes");
    let mut out = match tree.get("checkpoint").filter(|one| !one.is_null()) {
        Some(last) => format!(
            "tree     {} after entry {}, {}; {changes} since\n",
            text(last, "root"),
            text(last, "sequence"),
            text(last, "time"),
        ),
        None => format!("tree     no checkpoint yet; {changes}\n"),
    };
    if let Some(why) = tree.get("stopped").and_then(Value::as_str) {
        out.push_str(&format!("warning  {}\n", read_only(why)));
    }
    out
}

/// Says that nothing can be written, why, and what to do.
pub(super) fn read_only(why: &str) -> String {
    format!(
        "the writable tree takes no changes: {}; `cidfs fsck` tells more",
        safe(why)
    )
}

/// Figures on a line: those of an object one after the other.
fn figures(value: &Value) -> String {
    let Some(fields) = value.as_object() else {
        return safe(
            &value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        );
    };
    let each = fields.iter().map(|(name, value)| match value.as_u64() {
        Some(bytes) if name.ends_with("bytes") => format!("{name} {}", human_bytes(bytes)),
        _ => format!("{name} {}", figures(value)),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Gives a duration as people read it.
fn duration(seconds: u64) -> String {
    match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
