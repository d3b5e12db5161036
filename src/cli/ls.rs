//! `cidfs ls`.

use clap::Args;
use serde_json::{Value, json};

use super::args::Common;
use super::backend::Backend;
use super::failure::Failure;
use super::output::{list, number, print, print_json, safe, text};
use crate::config::LS_ENTRIES_MAX;
use crate::control::{ErrorKind, OperationError};

/// Flags of `cidfs ls`.
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Modes, sizes and CIDs too; may fetch the root block of each entry
    #[arg(short, long)]
    long: bool,
    /// /ipfs/<cid>[/path], /ipns/<name>[/path] or <cid>[/path]
    #[arg(required = true)]
    paths: Vec<String>,
}

pub(super) async fn run(common: &Common, args: Ls) -> Result<(), Failure> {
    let backend = Backend::open(common).await?;
    let mut incomplete = false;
    for path in &args.paths {
        if args.paths.len() > 1 && !common.json {
            print(&format!("{}:\n", safe(path)))?;
        }
        let mut offset = 0;
        loop {
            let params = json!({
                "path": path, "long": args.long, "offset": offset, "limit": LS_ENTRIES_MAX,
            });
            let page = backend.json("ipfs/ls", params).await?;
            let entries = list(&page, "entries");
            incomplete |= entries.iter().any(|entry| entry.get("error").is_some());
            if common.json {
                print_json(&page)?;
            } else {
                print(
                    &entries
                        .iter()
                        .map(|one| line(one, path, args.long))
                        .collect::<String>(),
                )?;
            }
            offset += entries.len() as u64;
            if entries.is_empty() || offset >= number(&page, "total") {
                break;
            }
        }
    }
    backend.close().await?;
    if incomplete {
        let message = "some entries could not be looked at (shown with ?)";
        return Err(OperationError::new(ErrorKind::Unavailable, message).into());
    }
    Ok(())
}

/// One entry on a line.
fn line(entry: &Value, path: &str, long: bool) -> String {
    let kind = entry.get("kind").and_then(Value::as_str);
    let name = text(entry, "name");
    let name = if name.is_empty() {
        safe(path)
    } else {
        safe(&name)
    };
    let mark = match kind {
        Some("directory") => "/",
        Some("symlink") => "@",
        Some(_) => "",
        None => "?",
    };
    if !long {
        return format!("{name}{mark}\n");
    }
    let mode = entry.get("mode").and_then(Value::as_str).unwrap_or("-");
    let size = entry
        .get("size")
        .map_or_else(|| "?".to_owned(), Value::to_string);
    format!("{} {mode:>5} {size:>12} {name}{mark}\n", text(entry, "cid"))
}
