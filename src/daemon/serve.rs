//! Running the daemon in this process.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::engine::Engine;
use super::mounts::MountTable;
use crate::config::STOP_TIMEOUT;
use crate::control::server::Socket;
use crate::control::{Lifecycle, MountInfo, MountRequest, Mounts, OperationError, http};

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct ServeOptions {
    /// The repository.
    pub repo: PathBuf,
    /// Sources beside those of the config file.
    pub sources: Vec<String>,
    /// The first mount.
    pub mount: Option<MountRequest>,
    /// Whether it stays when its last mount is gone.
    pub stay: bool,
}

/// The end, as operations ask for it.
struct Ending {
    table: Arc<MountTable>,
    asked: watch::Sender<bool>,
}

#[async_trait]
impl Lifecycle for Ending {
    async fn shutdown(&self, force: bool) -> Result<(), OperationError> {
        self.table.end_all(force).await?;
        self.asked.send_replace(true);
        Ok(())
    }
}

/// Runs a daemon until a signal, `shutdown`, or (unless it stays) the end of
/// its last mount. `ready` is called once, when it serves.
pub async fn serve(
    options: ServeOptions,
    ready: impl FnOnce(Option<MountInfo>),
) -> Result<(), OperationError> {
    let engine = Engine::open(options.repo.clone(), options.sources.clone()).await?;
    let table = Arc::new(MountTable::new(engine.mounter()).staying(options.stay));
    let (asked, _) = watch::channel(false);
    let ending = Arc::new(Ending {
        table: Arc::clone(&table),
        asked,
    });
    let context = engine.context(Arc::clone(&table) as _, Arc::clone(&ending) as _, true);
    let socket = Socket::bind(engine.dir())
        .map_err(|error| OperationError::from(error).context("cannot make the control socket"))?;
    let (stop, stopping) = watch::channel(false);
    let router = http::router(engine.registry(), context);
    let server = tokio::spawn(socket.serve(router, stopping));
    engine.start_pushes();
    let first = match options.mount {
        Some(request) => Some(table.add(request).await),
        None => None,
    };
    let outcome = match first.transpose() {
        Ok(mount) => {
            ready(mount);
            wait_for_end(&table, &ending, options.stay).await
        }
        Err(error) => Err(error),
    };
    unmount_all(&table).await;
    table.quiet().await;
    engine.begin_close();
    stop.send_replace(true);
    if tokio::time::timeout(STOP_TIMEOUT, server).await.is_err() {
        tracing::warn!("connections to the control socket are given up");
    }
    engine.close().await?;
    tracing::info!("ended");
    outcome
}

/// Waits for a reason to end.
async fn wait_for_end(
    table: &MountTable,
    ending: &Ending,
    stay: bool,
) -> Result<(), OperationError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A terminal that closes must not kill the daemon of a mount.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut count = table.count();
    let mut asked = ending.asked.subscribe();
    loop {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("ending: SIGTERM"),
            _ = interrupt.recv() => tracing::info!("ending: SIGINT"),
            _ = hangup.recv() => continue,
            () = turned(&mut asked) => tracing::info!("ending: shutdown was asked for"),
            () = none_left(&mut count), if !stay => {
                if !table.close_if_empty() {
                    continue;
                }
                tracing::info!("ending: no mount is left");
            }
        }
        table.close();
        return Ok(());
    }
}

async fn turned(asked: &mut watch::Receiver<bool>) {
    drop(asked.wait_for(|asked| *asked).await);
}

async fn none_left(count: &mut watch::Receiver<usize>) {
    drop(count.wait_for(|count| *count == 0).await);
}

/// Unmounts what is mounted; detaches what is in use.
async fn unmount_all(table: &MountTable) {
    if let Err(error) = table.end_all(false).await {
        tracing::warn!("{error}; detaching it");
        if let Err(error) = table.end_all(true).await {
            tracing::error!("{error}");
        }
    }
}
