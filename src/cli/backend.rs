//! Where a command's operation runs: in the daemon, or in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::args::Common;
use super::failure::Failure;
use crate::config::LOCK_TIMEOUT;
use crate::control::client::Client;
use crate::control::{Call, ErrorKind, OperationError, Output, Registry};
use crate::daemon::Engine;
use crate::repo;

/// How often a repository that is in use is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Operations that show what is there: a recovery may cut off what one wants to see.
const LOOKS: [&str; 8] = [
    "cache/verify",
    "fs-journal/entry",
    "fs-journal/export",
    "fs-journal/snapshots/list",
    "fs-journal/status",
    "fs-journal/transactions",
    "fs-journal/verify",
    "ipfs/pin/ls",
];

/// Where operations run.
pub(super) enum Backend {
    /// In the daemon, over its socket.
    Remote {
        /// Its socket.
        client: Client,
        /// What there is to call.
        registry: Arc<Registry>,
        /// The repository, for when that daemon ends.
        dir: PathBuf,
    },
    /// In this process, which has the repository open.
    Local(Box<Engine>),
}

/// Says where the repository is.
pub(super) fn repo_dir(common: &Common) -> Result<PathBuf, Failure> {
    Ok(repo::locate(common.repo.as_deref())?)
}

/// Finds the daemon of the repository, if one runs.
pub(super) async fn find_daemon(common: &Common) -> Result<Option<Client>, Failure> {
    let dir = repo_dir(common)?;
    Client::find(&dir).await.map_err(|error| {
        let error =
            OperationError::from(error).context(format!("the control socket in {}", dir.display()));
        Failure::Error(error.hint("is it the daemon of another user?"))
    })
}

/// Finds the daemon of the repository, or says that none runs.
pub(super) async fn need_daemon(common: &Common) -> Result<Backend, Failure> {
    let client = find_daemon(common).await?.ok_or_else(|| {
        let message = "no daemon runs for this repository";
        OperationError::new(ErrorKind::Unavailable, message)
            .hint("`cidfs mount DIR` or `cidfs daemon` starts one")
    })?;
    Ok(Backend::Remote {
        client,
        registry: Arc::new(Registry::standard()),
        dir: repo_dir(common)?,
    })
}

/// Does what needs the repository for itself as soon as no other process that
/// is about to let it go has it.
pub(super) async fn when_free<T, F: Future<Output = Result<T, OperationError>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, OperationError> {
    let end = Instant::now() + LOCK_TIMEOUT;
    loop {
        match attempt().await {
            Err(error) if error.kind == ErrorKind::Busy && Instant::now() < end => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            outcome => return outcome,
        }
    }
}

/// Runs an operation that gives JSON after the daemon that was asked has ended.
async fn alone(dir: &Path, name: &str, call: Call) -> Result<Output, Failure> {
    let engine = when_free(|| Engine::open(dir.to_owned(), Vec::new())).await?;
    let output = engine.registry().call(engine.alone(), name, call).await;
    engine.close().await?;
    Ok(output?)
}

impl Backend {
    /// Takes the daemon if one runs, else opens the repository.
    pub(super) async fn open(common: &Common) -> Result<Self, Failure> {
        Self::open_as(common, false).await
    }

    /// Takes the daemon if one runs, else opens the repository as an operation
    /// needs it.
    pub(super) async fn open_for(common: &Common, name: &str) -> Result<Self, Failure> {
        Self::open_as(common, LOOKS.contains(&name)).await
    }

    /// Takes the daemon if one runs, else opens the repository; `to_look` without
    /// the recovery that would change it.
    pub(super) async fn open_as(common: &Common, to_look: bool) -> Result<Self, Failure> {
        let dir = repo_dir(common)?;
        let end = Instant::now() + LOCK_TIMEOUT;
        loop {
            if let Some(client) = find_daemon(common).await? {
                return Ok(Self::Remote {
                    client,
                    registry: Arc::new(Registry::standard()),
                    dir,
                });
            }
            // Held with no socket: a daemon that starts, or another command.
            let opened = match to_look {
                true => Engine::open_to_look(dir.clone()).await,
                false => Engine::open(dir.clone(), Vec::new()).await,
            };
            match opened {
                Ok(engine) => return Ok(Self::Local(Box::new(engine))),
                Err(error) if error.kind == ErrorKind::Busy && Instant::now() < end => {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Runs an operation.
    pub(super) async fn call(&self, name: &str, call: Call) -> Result<Output, Failure> {
        match self {
            Self::Remote {
                client,
                registry,
                dir,
            } => {
                let gives_bytes = registry.get(name)?.gives.is_some();
                let again = (call.body.is_none() && !gives_bytes).then(|| Call {
                    params: call.params.clone(),
                    progress: call.progress.clone(),
                    body: None,
                });
                match (client.call(name, gives_bytes, call).await, again) {
                    (Err(error), Some(call)) if error.kind == ErrorKind::Ending => {
                        alone(dir, name, call).await
                    }
                    (outcome, _) => Ok(outcome?),
                }
            }
            Self::Local(engine) => Ok(engine.registry().call(engine.alone(), name, call).await?),
        }
    }

    /// Runs an operation that gives JSON.
    pub(super) async fn json(&self, name: &str, params: Value) -> Result<Value, Failure> {
        match self.call(name, Call::with(params)).await? {
            Output::Json(value) => Ok(value),
            Output::Bytes { .. } => {
                Err(OperationError::internal(format!("{name} gave bytes")).into())
            }
        }
    }

    /// Lets the repository go; what was written is safe then.
    pub(super) async fn close(self) -> Result<(), Failure> {
        match self {
            Self::Remote { .. } => Ok(()),
            Self::Local(engine) => Ok(engine.close().await?),
        }
    }
}
