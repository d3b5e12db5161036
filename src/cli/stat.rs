//! `cidfs stat` and `cidfs resolve`.

use clap::Args;
use serde_json::{Value, json};

use super::args::Common;
use super::backend::Backend;
use super::failure::Failure;
use super::output::{print, print_json, safe, text};

/// Flags of `cidfs stat`.
#[derive(Debug, Args)]
pub(super) struct Stat {
    /// /ipfs/<cid>[/path], /ipns/<name>[/path] or <cid>[/path]
    path: String,
}

/// Flags of `cidfs resolve`.
#[derive(Debug, Args)]
pub(super) struct Resolve {
    /// /ipfs/<cid>[/path], /ipns/<name>[/path] or <cid>[/path]
    path: String,
}

pub(super) async fn stat(common: &Common, args: Stat) -> Result<(), Failure> {
    let backend = Backend::open(common).await?;
    let result = backend
        .json("ipfs/stat", json!({"path": args.path}))
        .await?;
    backend.close().await?;
    if common.json {
        return print_json(&result);
    }
    let mut out = String::new();
    for field in ["path", "cid", "codec", "kind", "size", "mode", "target"] {
        let value = text(&result, field);
        if !value.is_empty() {
            out.push_str(&format!("{field:<7} {}\n", safe(&value)));
        }
    }
    if let Some(mtime) = result.get("mtime") {
        let nanoseconds = mtime
            .get("nanoseconds")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        out.push_str(&format!(
            "mtime   {}.{nanoseconds:09}\n",
            text(mtime, "seconds")
        ));
    }
    print(&out)
}

pub(super) async fn resolve(common: &Common, args: Resolve) -> Result<(), Failure> {
    let backend = Backend::open(common).await?;
    let result = backend
        .json("ipfs/resolve", json!({"path": args.path}))
        .await?;
    backend.close().await?;
    if common.json {
        return print_json(&result);
    }
    print(&format!("{}\n", text(&result, "path")))
}
