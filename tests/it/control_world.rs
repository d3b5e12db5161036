//! A control socket over content in memory, with doubles for mounts and sources.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use cidfs::block::Cid;
use cidfs::cache::{Blocks, StoreOptions};
use cidfs::clock::SystemClock;
use cidfs::control::server::{SOCKET_NAME, Socket};
use cidfs::control::{
    Context, ErrorKind, Info, Lifecycle, MountInfo, MountRequest, Mounts, OperationError, Registry,
    SourceAdmin, http,
};
use cidfs::disk::RealDisk;
use cidfs::testing::dag::Dag;
use cidfs::tree::mfs::{Mfs, MfsOptions, Parts};
use cidfs::tree::push::{PushError, PushParts, Pusher};
use cidfs::tree::{NameError, NameResolver, Resolved, RootLister, Tree};
use cidfs::unixfs::Reader;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::support::Shelf;

/// Mounts that are only remembered.
#[derive(Default)]
pub(crate) struct Remembered(std::sync::Mutex<Vec<MountInfo>>);

#[async_trait]
impl Mounts for Remembered {
    fn list(&self) -> Vec<MountInfo> {
        self.0.lock().unwrap().clone()
    }

    async fn add(&self, request: MountRequest) -> Result<MountInfo, OperationError> {
        let MountRequest {
            source,
            dir,
            options,
        } = request;
        let info = MountInfo {
            source,
            dir,
            options,
            age_seconds: 0,
        };
        self.0.lock().unwrap().push(info.clone());
        Ok(info)
    }

    async fn remove(&self, dir: &Path, lazy: bool) -> Result<(), OperationError> {
        if !lazy {
            let error = OperationError::new(ErrorKind::Busy, "in use by less (pid 7)");
            return Err(error.hint("--lazy"));
        }
        self.0.lock().unwrap().retain(|one| one.dir != dir);
        Ok(())
    }
}

struct NoSources;

#[async_trait]
impl SourceAdmin for NoSources {
    fn list(&self) -> Vec<Value> {
        Vec::new()
    }

    async fn test(&self, _name: Option<&str>) -> Result<Value, OperationError> {
        Ok(json!([]))
    }

    async fn add(&self, spec: &str, save: bool) -> Result<Value, OperationError> {
        Ok(json!({"name": spec, "save": save}))
    }

    async fn remove(&self, name: &str, _save: bool) -> Result<Value, OperationError> {
        Err(OperationError::not_found(name))
    }
}

struct Nothing;

#[async_trait]
impl NameResolver for Nothing {
    async fn resolve(&self, name: &str) -> Result<Resolved, NameError> {
        Err(NameError::Unknown(name.into()))
    }
}

impl RootLister for Nothing {
    fn roots(&self) -> Vec<Cid> {
        Vec::new()
    }
}

#[derive(Default)]
pub(crate) struct Ended(pub(crate) AtomicBool);

#[async_trait]
impl Lifecycle for Ended {
    async fn shutdown(&self, _force: bool) -> Result<(), OperationError> {
        self.0.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// A served control socket that goes away with its test.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) context: Arc<Context>,
    pub(crate) ended: Arc<Ended>,
    _stop: watch::Sender<bool>,
}

/// What operations work on, over the blocks of a DAG.
pub(crate) fn context(repo: PathBuf, dag: Dag, ended: Arc<Ended>) -> Arc<Context> {
    let blocks = Blocks::without_disk(StoreOptions::default(), Shelf::of(dag));
    let reader = Reader::new(Arc::clone(&blocks));
    let parts = Parts {
        journal_dir: repo.join("journal"),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        blocks: Arc::clone(&blocks),
        reader: Arc::clone(&reader),
    };
    // Nothing in it waits for the runtime that this test runs on.
    let mfs = futures::executor::block_on(Mfs::open(parts, MfsOptions::default())).unwrap();
    context_over(repo, blocks, mfs, reader, ended)
}

/// What operations work on, over what is open already.
pub(crate) fn context_over(
    repo: PathBuf,
    blocks: Arc<Blocks>,
    mfs: Arc<Mfs>,
    reader: Arc<Reader>,
    ended: Arc<Ended>,
) -> Arc<Context> {
    let push = pusher(&repo, &blocks, &mfs);
    Arc::new(Context {
        info: Info {
            repo,
            config: json!({}),
            daemon: true,
            started: Instant::now(),
        },
        tree: Tree::new(reader, Arc::new(Nothing), Arc::new(Nothing)),
        mfs,
        blocks,
        mounts: Arc::new(Remembered::default()),
        sources: Arc::new(NoSources),
        push,
        lifecycle: ended,
    })
}

/// Pushes to nobody.
fn pusher(repo: &Path, blocks: &Arc<Blocks>, mfs: &Arc<Mfs>) -> Arc<Pusher> {
    let parts = PushParts {
        blocks: Arc::clone(blocks),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        file: repo.join("push.json"),
        newest: mfs.newest_checkpoint(),
        open_node: Box::new(|text| Err(PushError::Unknown(text.to_owned()))),
    };
    Pusher::open(parts, Vec::new()).unwrap()
}

impl World {
    /// Serves the content of a DAG.
    pub(crate) fn new(dag: Dag) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ended = Arc::new(Ended::default());
        let context = context(dir.path().to_owned(), dag, Arc::clone(&ended));
        let socket = Socket::bind(dir.path()).unwrap();
        let router = http::router(Arc::new(Registry::standard()), Arc::clone(&context));
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(socket.serve(router, stopping));
        Self {
            dir,
            context,
            ended,
            _stop: stop,
        }
    }

    /// Sends bytes as they are and reads until the end.
    pub(crate) async fn whole(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.dir.path().join(SOCKET_NAME))
            .await
            .unwrap();
        // The answer may come, and the connection end, before all is sent.
        drop(stream.write_all(request).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        answer
    }

    /// Sends bytes as they are and reads until the end: status and body.
    pub(crate) async fn raw(&self, request: &[u8]) -> (u16, Vec<u8>) {
        let answer = self.whole(request).await;
        let text = String::from_utf8_lossy(&answer);
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let head = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .map_or(0, |at| at + 4);
        (status, answer[head..].to_vec())
    }

    /// Sends a request without a body: status and JSON.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let (status, body) = self.raw(request.as_bytes()).await;
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Sends JSON: status and JSON.
    pub(crate) async fn post(&self, path: &str, params: &str) -> (u16, Value) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{params}",
            params.len()
        );
        let (status, body) = self.raw(request.as_bytes()).await;
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}
