//! `cidfs umount`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::args::Common;
use super::backend::{find_daemon, repo_dir};
use super::failure::Failure;
use super::output::{list, print, print_json};
use crate::config::STOP_TIMEOUT;
use crate::control::{Call, ErrorKind, OperationError, Output};
use crate::{fs, repo};

/// Flags of `cidfs umount`.
#[derive(Debug, Args)]
pub(super) struct Umount {
    /// Detach it even if it is in use; it ends when its last user leaves
    #[arg(short, long)]
    lazy: bool,
    /// The mount
    dir: PathBuf,
}

pub(super) async fn run(common: &Common, args: Umount) -> Result<(), Failure> {
    let dir = place(&args.dir)?;
    if !fs::our_mounts()?.iter().any(|mount| mount.dir == dir) {
        let message = format!("{} is not a mount of cidfs", dir.display());
        return Err(OperationError::not_found(message)
            .hint("`cidfs mounts` lists the mounts")
            .into());
    }
    let stale = fs::is_stale(&dir);
    if !stale && let Some(client) = find_daemon(common).await? {
        let params = json!({"dir": dir, "lazy": args.lazy});
        match client
            .call("mounts/remove", false, Call::with(params))
            .await
        {
            Ok(_) => {
                wait_for_end(common).await?;
                return done(common, &dir, stale);
            }
            // Another repository's daemon has it: the kernel knows both.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (blocking, lazy) = (dir.clone(), args.lazy || stale);
    tokio::task::spawn_blocking(move || fs::unmount(&blocking, lazy))
        .await
        .map_err(|error| OperationError::internal(error.to_string()))?
        .map_err(OperationError::from)?;
    done(common, &dir, stale)
}

/// Waits until the daemon has let the repository go, where the mount was its last
/// one and it does not stay: who unmounts copies or removes the repository next.
async fn wait_for_end(common: &Common) -> Result<(), Failure> {
    let (repo, end) = (repo_dir(common)?, Instant::now() + STOP_TIMEOUT * 2);
    let Some(daemon) = repo::holder(&repo)? else {
        return Ok(());
    };
    // Its socket goes first, its hold of the repository last.
    while repo::holder(&repo)?.as_ref() == Some(&daemon) {
        if let Some(client) = find_daemon(common).await? {
            let listed = client.call("mounts/list", false, Call::with(json!({})));
            if let Ok(Output::Json(listed)) = listed.await
                && (!list(&listed, "mounts").is_empty()
                    || listed.get("stays") != Some(&json!(false)))
            {
                return Ok(());
            }
        }
        if Instant::now() > end {
            tracing::warn!("process {daemon} has not closed the repository yet");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn done(common: &Common, dir: &Path, stale: bool) -> Result<(), Failure> {
    if common.json {
        return print_json(&json!({"dir": dir, "stale": stale}));
    }
    if stale {
        return print(&format!("cleared the stale mount on {}\n", dir.display()));
    }
    Ok(())
}

/// Gives a path with its links resolved, without touching what is mounted
/// there: a mount whose daemon is gone answers nothing.
pub(super) fn place(dir: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(dir)?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Ok(absolute);
    };
    if absolute.is_symlink() || name == ".." {
        return absolute
            .canonicalize()
            .map_err(|error| Failure::Error(OperationError::from(error).context(dir.display())));
    }
    let parent = parent
        .canonicalize()
        .map_err(|error| Failure::Error(OperationError::from(error).context(parent.display())))?;
    Ok(parent.join(name))
}
