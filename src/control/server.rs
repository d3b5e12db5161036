//! The control socket: a Unix socket that only its owner (or root) may use.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::response::IntoResponse;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use super::{ErrorKind, OperationError};
use crate::config::{CONTROL_CONNECTIONS_MAX, REQUEST_HEAD_TIMEOUT};

/// Name of the socket inside the repository.
pub const SOCKET_NAME: &str = "control.sock";

/// How long an answer in work may go on when the daemon stops.
const ANSWER_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// A bound control socket. Dropping it removes the file.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds the socket in `repo`, mode 0600.
    ///
    /// The caller holds the repository's lock, so a socket that lies there is
    /// that of a dead daemon and is replaced.
    pub fn bind(repo: &Path) -> io::Result<Self> {
        let path = repo.join(SOCKET_NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // A socket is born with the umask's mode: the directory keeps others out meanwhile.
        let reach = Reach::open(&path)?;
        let listener = UnixListener::bind(reach.path())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Serves `router` until `stop` turns true. Requests that run are given up then.
    pub async fn serve(self, router: axum::Router, mut stop: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
        let own = rustix::process::geteuid().as_raw();
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => break,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, say: give others time to free some.
                    tracing::warn!("control socket: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                break;
            };
            let router = if may_call(&stream, own) {
                router.clone()
            } else {
                refusing()
            };
            let stop = stop.clone();
            tasks.spawn(async move {
                connection(stream, router, stop).await;
                drop(permit);
            });
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What stays is replaced by the next daemon.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Serves one connection; ends it after the answer in work when `stop` turns true.
async fn connection(stream: UnixStream, router: axum::Router, mut stop: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(router);
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = stopped(&mut stop) => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        serving.as_mut().graceful_shutdown();
        tokio::time::timeout(ANSWER_GRACE, serving)
            .await
            .unwrap_or(Ok(()))
    };
    if let Err(error) = ended {
        tracing::debug!("control connection: {error}");
    }
}

/// Waits until `stop` turns true, or nobody is left who could turn it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Tells whether the caller is the daemon's user or root.
fn may_call(stream: &UnixStream, own: u32) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| uid_may_call(peer.uid(), own))
}

fn uid_may_call(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

/// Answers everything with `denied`.
fn refusing() -> axum::Router {
    axum::Router::new().fallback(async || {
        let error = OperationError::new(ErrorKind::Denied, "this daemon belongs to another user");
        let body = serde_json::json!({"success": false, "error": error});
        (axum::http::StatusCode::FORBIDDEN, axum::Json(body)).into_response()
    })
}

/// A way to a socket whose path may be longer than the 107 bytes that fit
/// into a socket address: through the directory's descriptor.
pub(crate) struct Reach {
    path: PathBuf,
    _dir: Option<std::fs::File>,
}

impl Reach {
    pub(crate) fn open(socket: &Path) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        if socket.as_os_str().len() < 100 {
            return Ok(Self {
                path: socket.to_owned(),
                _dir: None,
            });
        }
        let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let dir = std::fs::File::open(parent)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
        Ok(Self {
            path,
            _dir: Some(dir),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_and_root_may_call() {
        assert!(uid_may_call(1000, 1000));
        assert!(uid_may_call(0, 1000));
        assert!(!uid_may_call(1001, 1000));
        assert!(!uid_may_call(1000, 0));
    }
}
