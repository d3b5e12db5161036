//! `cidfs tree push`.

use clap::Args;
use serde_json::{Value, json};

use super::args::Common;
use super::failure::Failure;
use super::journal::{ask, call};
use super::output::{human_bytes, list, number, print, print_json, safe, text};
use super::sources::absolute;

/// Flags of `cidfs tree push`.
#[derive(Debug, Args)]
pub(super) struct Push {
    /// A node by its name, or kubo:ADDRESS of another; all of config.toml without it
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Try again until it is there
    #[arg(long)]
    wait: bool,
    /// Only show which root each node has, and how pushing goes
    #[arg(long, conflicts_with_all = ["to", "wait"])]
    status: bool,
}

pub(super) async fn run(common: &Common, args: Push) -> Result<(), Failure> {
    if args.status {
        let status = ask(common, "fs-journal/pushes", json!({})).await?;
        if common.json {
            return print_json(&status);
        }
        let nodes = list(&status, "nodes").iter();
        return print(
            &nodes
                .map(|node| format!("{}\n", line(node)))
                .collect::<String>(),
        );
    }
    let to = args.to.as_deref().map(absolute);
    let params = json!({"to": to, "wait": args.wait});
    let done = call(common, "fs-journal/push", "pushing", params).await?;
    let failed = list(&done, "nodes").iter().filter(|node| !is_ok(node));
    let failed = failed.count();
    if common.json {
        print_json(&done)?;
    } else {
        let mut out = format!("{}\n", text(&done, "root"));
        for node in list(&done, "nodes") {
            out.push_str(&outcome(node));
        }
        print(&out)?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Quiet(4)),
    }
}

fn is_ok(node: &Value) -> bool {
    node.get("ok") == Some(&Value::Bool(true))
}

/// What came of one node.
fn outcome(node: &Value) -> String {
    let name = safe(&text(node, "name"));
    if !is_ok(node) {
        let error = node.get("error").unwrap_or(&Value::Null);
        return format!("{name}: {}\n", safe(&text(error, "message")));
    }
    if node.get("already") == Some(&Value::Bool(true)) {
        return format!("{name}: has it already\n");
    }
    let (blocks, bytes) = (number(node, "blocks"), human_bytes(number(node, "bytes")));
    let far = match number(node, "far") {
        0 => String::new(),
        far => format!("; {far} that are not here it fetched itself"),
    };
    format!("{name}: {blocks} blocks, {bytes}{far}\n")
}

/// One node with its figures on a line.
pub(super) fn line(node: &Value) -> String {
    let name = safe(&text(node, "name"));
    let state = match text(node, "state").as_str() {
        "waiting" => {
            let seconds = number(node, "again_in_ms").div_ceil(1000);
            format!("waiting, again in {seconds} s")
        }
        "pushing" => format!("pushing {}", text(node, "pushing")),
        other => other.to_owned(),
    };
    let has = match text(node, "root").as_str() {
        "" => "has nothing yet".to_owned(),
        root => {
            let current = node.get("current") == Some(&Value::Bool(true));
            let age = if current {
                "the newest"
            } else {
                "not the newest"
            };
            let at = text(node, "pushed_at");
            format!(
                "has {root} ({age}, entry {}, {at})",
                number(node, "sequence")
            )
        }
    };
    let error = match text(node, "last_error").as_str() {
        "" => String::new(),
        error => format!(", last error: {}", safe(error)),
    };
    format!(
        "{name}: {state}, {has}; {} pushes, {} blocks, {}, {} failures{error}",
        number(node, "pushes"),
        number(node, "blocks"),
        human_bytes(number(node, "bytes")),
        number(node, "failures"),
    )
}
