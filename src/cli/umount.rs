//! `cidfs umount`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::args::Common;
use super::backend::find_daemon;
use super::failure::Failure;
use super::output::{print, print_json};
use crate::control::{Call, ErrorKind, OperationError};
use crate::fs;

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
            Ok(_) => return done(common, &dir, stale),
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
