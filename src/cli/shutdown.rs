//! `cidfs shutdown`.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::args::Common;
use super::backend::{find_daemon, need_daemon, repo_dir};
use super::failure::Failure;
use super::output::{print, print_json, text};
use crate::config::STOP_TIMEOUT;
use crate::control::{ErrorKind, OperationError};
use crate::repo;

/// Flags of `cidfs shutdown`.
#[derive(Debug, Args)]
pub(super) struct Shutdown {
    /// Detach mounts that are in use instead of refusing
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(common: &Common, args: Shutdown) -> Result<(), Failure> {
    let daemon = need_daemon(common).await?;
    let ended = daemon
        .json("shutdown", json!({"force": args.force}))
        .await?;
    let end = Instant::now() + STOP_TIMEOUT * 2;
    let dir = repo_dir(common)?;
    // Its socket goes first, its hold of the repository last.
    while find_daemon(common).await?.is_some() || repo::is_open(&dir)? {
        if Instant::now() > end {
            let message = format!("daemon {} has not ended yet", text(&ended, "pid"));
            return Err(OperationError::new(ErrorKind::Timeout, message).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if common.json {
        return print_json(&ended);
    }
    print(&format!("daemon {} has ended\n", text(&ended, "pid")))
}
