//! Starting a daemon in the background: the parent waits until it is usable.
//!
//! The new process is this program with the hidden command `daemon
//! --background`. Its standard output is a pipe to the parent, on which it
//! writes one line of JSON when it is ready or has failed; then it closes it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use serde::{Deserialize, Serialize};

use super::log;
use crate::config::{PARAMS_BYTES_MAX, START_TIMEOUT};
use crate::control::{ErrorKind, MountInfo, MountRequest, OperationError};
use crate::repo::RepoError;

/// What the new process says when it is ready or has failed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// It serves.
    Ready {
        /// Its process id.
        pid: u32,
        /// Its first mount, if one was asked for.
        mount: Option<MountInfo>,
    },
    /// It ends.
    Failed(OperationError),
}

/// What to start.
#[derive(Debug, Clone)]
pub struct StartOptions<'a> {
    /// The repository.
    pub repo: &'a Path,
    /// Sources beside those of the config file.
    pub sources: &'a [String],
    /// The first mount.
    pub mount: Option<&'a MountRequest>,
    /// How much it logs.
    pub verbose: u8,
    /// Whether it stays when its last mount is gone.
    pub stay: bool,
}

/// Starts a daemon and waits until it is ready: its process id and first mount.
///
/// Blocks for up to [`START_TIMEOUT`].
pub fn in_background(
    options: &StartOptions<'_>,
) -> Result<(u32, Option<MountInfo>), OperationError> {
    crate::repo::make_dir(options.repo)?;
    let file = options.repo.join(log::LOG_NAME);
    let errors = log::append(&file).map_err(|error| RepoError::Io {
        path: file.clone(),
        error,
    })?;
    let mut child = command(options)?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(|error| OperationError::from(error).context("cannot start the daemon"))?;
    let Some(output) = child.stdout.take() else {
        return Err(OperationError::internal("the daemon has no output"));
    };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let limit = u64::try_from(PARAMS_BYTES_MAX).unwrap_or(u64::MAX);
        let read = BufReader::new(output.take(limit)).read_line(&mut line);
        // The parent has given up if nobody receives.
        drop(sender.send(read.map(|_| line)));
    });
    let look = || format!("{} tells why", file.display());
    match receiver.recv_timeout(START_TIMEOUT) {
        Ok(Ok(line)) => match serde_json::from_str(&line) {
            Ok(Readiness::Ready { pid, mount }) => Ok((pid, mount)),
            Ok(Readiness::Failed(error)) => {
                // It is about to end; nothing is left to wait for but its exit.
                drop(child.wait());
                Err(error)
            }
            Err(_) => {
                Err(OperationError::internal("the daemon ended before it was ready").hint(look()))
            }
        },
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            drop(child.kill());
            drop(child.wait());
            let message = format!(
                "the daemon was not ready after {} s",
                START_TIMEOUT.as_secs()
            );
            Err(OperationError::new(ErrorKind::Timeout, message).hint(look()))
        }
    }
}

fn command(options: &StartOptions<'_>) -> Result<Command, OperationError> {
    let program = std::env::current_exe()
        .map_err(|error| OperationError::from(error).context("cannot find this program"))?;
    let mut command = Command::new(program);
    // Under the name of fstab's helper it would read its arguments as that.
    command
        .arg0("cidfs")
        .arg("--repo")
        .arg(options.repo)
        .args(["daemon", "--background"]);
    for source in options.sources {
        command.arg("--source").arg(source);
    }
    if let Some(mount) = options.mount {
        let text = serde_json::to_string(mount)
            .map_err(|error| OperationError::invalid(error.to_string()))?;
        command.arg("--mount-request").arg(text);
    }
    if options.stay {
        command.arg("--stay");
    }
    command.args((0..options.verbose).map(|_| "-v"));
    Ok(command)
}

/// The new process's side: leaves the terminal and the directory of its parent.
pub fn detach() -> io::Result<()> {
    // Fails if we lead a session already, which is what was wanted.
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!("no new session: {error}");
    }
    std::env::set_current_dir("/")
}

/// The new process's side: says that it is ready or has failed, once, and
/// closes the pipe.
pub fn tell(readiness: &Readiness) -> io::Result<()> {
    let mut line = serde_json::to_string(readiness)?;
    line.push('\n');
    let mut output = io::stdout().lock();
    output.write_all(line.as_bytes())?;
    output.flush()?;
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok(())
}
