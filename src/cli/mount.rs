//! `cidfs mount`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::args::{Common, in_json};
use super::backend::{find_daemon, repo_dir};
use super::failure::Failure;
use super::output::{print, print_json, text};
use super::sources::absolute;
use crate::config::LOCK_TIMEOUT;
use crate::control::client::Client;
use crate::control::{Call, ErrorKind, MountInfo, MountRequest, OperationError, Output};
use crate::daemon::start::{StartOptions, in_background};
use crate::daemon::{ServeOptions, log, serve};
use crate::fs;

/// Flags of `cidfs mount`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cidfs mount ~/ipfs                              all namespaces
  cidfs mount /ipfs/bafy…/docs /mnt/docs          one directory
  cidfs mount --source site.car /mnt              with the blocks of a CAR file
  cidfs mount --source https://ipfs.io /mnt       with the blocks of a gateway

In /etc/fstab (through mount.cidfs):
  /ipfs/bafy…  /mnt/docs  cidfs  repo=/var/lib/cidfs,allow_other,noauto,user  0 0")]
pub(super) struct Mount {
    /// What to mount, if two are given; then where
    ///
    /// What: /ipfs/<cid>[/path], /ipns/<name>[/path], /mfs[/path], or / for all namespaces (the default).
    #[arg(value_names = ["SOURCE", "DIR"], num_args = 1..=2, required = true)]
    pub(super) places: Vec<String>,
    /// Stay in the foreground
    #[arg(short, long)]
    pub(super) foreground: bool,
    /// Mount options, separated by commas
    ///
    /// allow_other, allow_root, ro, rw, suid, dev, uid=, gid=, umask=, fmask=, dmask=, exec_files, noexec, …
    #[arg(short, long, value_name = "OPTS")]
    pub(super) options: Vec<String>,
    /// A source of blocks beside those of config.toml; may be repeated
    #[arg(long = "source", value_name = "SPEC")]
    pub(super) sources: Vec<String>,
    /// Change the kernel's flags of the mount that is there: `-o remount` of mount(8).
    #[arg(skip)]
    pub(super) remount: bool,
}

pub(super) async fn run(common: &Common, args: Mount) -> Result<(), Failure> {
    if args.remount {
        return remount(&args);
    }
    let request = request(&args)?;
    let sources: Vec<String> = args.sources.iter().map(|spec| absolute(spec)).collect();
    // Refused here, where the message reaches the user whatever runs where.
    fs::MountOptions::parse_for(&request.source, &request.options)
        .map_err(|error| OperationError::invalid(error.to_string()))?;
    if args.foreground {
        return in_foreground(common, sources, request).await;
    }
    let end = Instant::now() + LOCK_TIMEOUT;
    let mount = loop {
        // Another command started a daemon at the same time, or the one that was
        // asked is ending: ask the next.
        let (made, passing) = match find_daemon(common).await? {
            Some(client) => (ask(&client, &sources, &request).await, ErrorKind::Ending),
            None => (start(common, &sources, &request).await, ErrorKind::Busy),
        };
        match made {
            Ok(mount) => break mount,
            Err(error) if error.kind == passing && Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let warning = warning(common, &request).await;
    if common.json {
        let mut mount = mount;
        if let (Some(fields), Some(why)) = (mount.as_object_mut(), warning) {
            fields.insert("warning".to_owned(), why.into());
        }
        return print_json(&mount);
    }
    if let Some(why) = warning {
        // It is mounted all the same.
        drop(writeln!(std::io::stderr(), "cidfs: warning: {why}"));
    }
    let info = mount.get("mount").unwrap_or(&Value::Null);
    let pid = text(&mount, "pid");
    print(&format!(
        "{} on {} (daemon {pid})\n",
        text(info, "source"),
        text(info, "dir")
    ))
}

/// Changes what the kernel allows on a mount.
fn remount(args: &Mount) -> Result<(), Failure> {
    let dir = args.places.last().map(String::as_str).unwrap_or_default();
    let dir = super::umount::place(Path::new(dir))?;
    let words: Vec<&str> = args.options.iter().map(String::as_str).collect();
    let left = fs::remount(&dir, &words).map_err(|error| {
        OperationError::from(error).context(format!("remount of {}", dir.display()))
    })?;
    for word in left {
        // The rest was done.
        drop(writeln!(
            std::io::stderr(),
            "cidfs: {word} stays as it was mounted: unmount, and mount again with it"
        ));
    }
    Ok(())
}

/// What is wrong with a mount that is there: nothing can be written in it, though
/// that was not said.
async fn warning(common: &Common, request: &MountRequest) -> Option<String> {
    let options = fs::MountOptions::parse_for(&request.source, &request.options).ok()?;
    let first = request.source.split('/').find(|part| !part.is_empty());
    if !matches!(first, None | Some("mfs")) || options.access == Some(fs::Access::ReadOnly) {
        return None;
    }
    let client = find_daemon(common).await.ok()??;
    let status = client.call("status", false, Call::with(json!({}))).await;
    let Ok(Output::Json(status)) = status else {
        return None;
    };
    let why = status.pointer("/tree/stopped")?.as_str()?;
    Some(super::status::read_only(why))
}

/// Makes the request of the flags; the directory is checked on the way.
fn request(args: &Mount) -> Result<MountRequest, Failure> {
    let (source, dir) = match args.places.as_slice() {
        [dir] => ("/", dir),
        [source, dir] => (source.as_str(), dir),
        _ => return Err(OperationError::invalid("give one or two places").into()),
    };
    if !source.starts_with('/') {
        let message =
            format!("{source:?} is neither /ipfs/<cid>, nor /ipns/<name>, nor /mfs, nor /");
        return Err(OperationError::invalid(message).into());
    }
    let dir = mount_point(Path::new(dir))?;
    in_json(&dir)?;
    Ok(MountRequest {
        source: source.to_owned(),
        dir,
        options: args.options.join(","),
    })
}

/// Gives the directory with its links resolved; clears a stale mount on it.
fn mount_point(dir: &Path) -> Result<PathBuf, Failure> {
    let at = |error: std::io::Error| {
        let error = OperationError::from(error).context(dir.display());
        let missing = error.kind == ErrorKind::NotFound;
        let make = || format!("mkdir -p {}", dir.display());
        Failure::Error(if missing { error.hint(make()) } else { error })
    };
    let place = super::umount::place(dir)?;
    if fs::is_stale(&place) {
        fs::unmount(&place, true).map_err(OperationError::from)?;
    }
    let found = place.canonicalize().map_err(at)?;
    if !found.is_dir() {
        let message = format!("{} is not a directory", dir.display());
        return Err(OperationError::invalid(message).into());
    }
    Ok(found)
}

/// Mounts through the daemon that runs.
async fn ask(
    client: &Client,
    sources: &[String],
    request: &MountRequest,
) -> Result<Value, OperationError> {
    for spec in sources {
        let params = json!({"spec": spec});
        let added = client.call("sources/add", false, Call::with(params)).await;
        // Busy: the daemon has that source already, which is what was wanted.
        if let Err(error) = added
            && error.kind != ErrorKind::Busy
        {
            return Err(error);
        }
    }
    match client
        .call("mounts/add", false, Call::with(json!(request)))
        .await?
    {
        Output::Json(value) => Ok(value),
        Output::Bytes { .. } => Err(OperationError::internal("mounts/add gave bytes")),
    }
}

/// Starts a daemon in the background with this mount.
async fn start(
    common: &Common,
    sources: &[String],
    request: &MountRequest,
) -> Result<Value, OperationError> {
    let repo = crate::repo::locate(common.repo.as_deref())?;
    let (sources, request, verbose) = (sources.to_vec(), request.clone(), common.verbose);
    let (pid, mount): (u32, Option<MountInfo>) = tokio::task::spawn_blocking(move || {
        in_background(&StartOptions {
            repo: &repo,
            sources: &sources,
            mount: Some(&request),
            verbose,
            stay: false,
        })
    })
    .await
    .map_err(|error| OperationError::internal(error.to_string()))??;
    Ok(json!({"pid": pid, "mount": mount}))
}

/// Runs the daemon here.
async fn in_foreground(
    common: &Common,
    sources: Vec<String>,
    request: MountRequest,
) -> Result<(), Failure> {
    if find_daemon(common).await?.is_some() {
        let message = "a daemon runs for this repository already";
        return Err(OperationError::new(ErrorKind::Busy, message)
            .hint("leave -f out to mount through it, or give another --repo")
            .into());
    }
    log::to_stderr(common.verbose, "info");
    let options = ServeOptions {
        repo: repo_dir(common)?,
        sources,
        mount: Some(request),
        stay: false,
    };
    Ok(serve(options, |_| tracing::info!("ready")).await?)
}
