//! `cidfs pin`.

use clap::{ArgAction, Args, Subcommand};
use serde_json::{Value, json};

use super::args::Common;
use super::backend::Backend;
use super::failure::Failure;
use super::output::{list, print, print_json, safe, text};
use super::progress::Bar;
use crate::control::{Call, OperationError, Output};

/// Flags of `cidfs pin`.
#[derive(Debug, Args)]
pub(super) struct Pin {
    #[command(subcommand)]
    command: PinCommand,
}

#[derive(Debug, Subcommand)]
enum PinCommand {
    /// Fetch content and keep it for good
    Add {
        /// /ipfs/<cid>[/path] or <cid>[/path]
        #[arg(required = true)]
        paths: Vec<String>,
        /// All below it too, not only the root block
        #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1,
              require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
        recursive: bool,
        /// A name
        #[arg(short, long)]
        name: Option<String>,
    },
    /// Let garbage collection have content again
    Rm {
        /// /ipfs/<cid>[/path] or <cid>[/path]
        #[arg(required = true)]
        paths: Vec<String>,
    },
    /// List what is kept for good
    Ls,
}

impl Pin {
    /// Whether it changes nothing of what a repository has.
    pub(super) fn only_reads(&self) -> bool {
        !matches!(self.command, PinCommand::Add { .. })
    }
}

pub(super) async fn run(common: &Common, args: Pin) -> Result<(), Failure> {
    let backend = match args.command {
        PinCommand::Ls => Backend::open_for(common, "ipfs/pin/ls").await?,
        PinCommand::Add { .. } | PinCommand::Rm { .. } => Backend::open(common).await?,
    };
    let (result, verb) = match args.command {
        PinCommand::Add {
            paths,
            recursive,
            name,
        } => {
            let params = json!({"paths": paths, "recursive": recursive, "name": name});
            let bar = Bar::start("pinning", common.json);
            let call = Call {
                progress: bar.hear(None),
                ..Call::with(params)
            };
            let Output::Json(result) = backend.call("ipfs/pin/add", call).await? else {
                return Err(OperationError::internal("ipfs/pin/add gave bytes").into());
            };
            (result, "pinned")
        }
        PinCommand::Rm { paths } => (
            backend.json("ipfs/pin/rm", json!({"paths": paths})).await?,
            "unpinned",
        ),
        PinCommand::Ls => (backend.json("ipfs/pin/ls", json!({})).await?, ""),
    };
    backend.close().await?;
    if common.json {
        return print_json(&result);
    }
    let lines = list(&result, "pins").iter().map(|pin| {
        if let Some(cid) = pin.as_str() {
            return format!("{verb} {cid}\n");
        }
        let name = pin.get("name").and_then(Value::as_str).map(safe);
        let name = name.unwrap_or_default();
        let line = format!("{} {} {name}", text(pin, "cid"), text(pin, "mode"));
        format!("{}\n", line.trim_end())
    });
    print(&lines.collect::<String>())
}
