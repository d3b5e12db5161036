//! Where blocks come from.
//!
//! A [`BlockSource`] gives blocks by CID: CAR files, trustless gateways, a
//! Kubo node, a Kubo repository on disk. Nothing unverified leaves this
//! module: a [`Block`] is proved by its hash before anyone sees it. It does
//! not know of files; a path is an opaque selector that is handed to a
//! gateway. Retry, deadline, concurrency limit, figures and race are
//! decorators around a source that only fetches.
//!
//! [`Sources`] is what the rest of the program holds: several sources built
//! from [`SourceSpec`]s, asked in order or raced. Building one sends nothing
//! and waits for nobody. Nothing here is written to disk, so nothing has to
//! survive a crash.

#[cfg(feature = "testing")]
pub mod answers;
mod car;
mod car_files;
mod car_index;
mod deadline;
mod error;
mod gateway;
mod gateway_car;
mod http;
mod ipns;
mod kubo;
mod kubo_address;
mod kubo_push;
mod kubo_repo;
mod limit;
mod metered;
mod push_spec;
mod race;
mod record;
mod related;
mod retry;
mod sources;
mod spec;
mod time;

pub use car::CarSource;
pub use deadline::Deadline;
pub use error::SourceError;
pub use gateway::Gateway;
pub use ipns::IpnsName;
pub use kubo::Kubo;
pub use kubo_address::KuboAddress;
pub use kubo_push::{CarStream, KuboPush, Patience, Pinned};
pub use kubo_repo::KuboRepo;
pub use limit::Limit;
pub use metered::{Meter, Metered};
pub use push_spec::PushSpec;
pub use race::Strategy;
pub use record::{IpnsRecord, RecordError};
pub use retry::Retry;
pub use sources::{Probe, Sources};
pub use spec::{SourceKind, SourceSpec, SpecError, without_password};

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::block::{Block, BlockSink, Cid};

/// A place that blocks come from. Cheap to share; called from many tasks at once.
#[async_trait]
pub trait BlockSource: Send + Sync + 'static {
    /// Name in figures and logs, e.g. `gateway https://example.net`.
    fn name(&self) -> String;

    /// Fetches and proves one block.
    ///
    /// Dropping the future gives the fetch up.
    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError>;

    /// Fetches the blocks that `selector` names into `sink`, where the source
    /// can do so in one request. Extra or unproved blocks never reach `sink`.
    async fn select(&self, selector: &Selector, sink: &dyn BlockSink) -> Result<(), SourceError> {
        let (_, _) = (selector, sink);
        Err(SourceError::Unsupported {
            source_name: self.name(),
            what: "CAR selectors",
        })
    }

    /// Resolves an IPNS name or DNSLink domain one step, verified where the
    /// form allows it.
    async fn resolve(&self, name: &str) -> Result<NameRecord, SourceError> {
        Err(SourceError::NotFound {
            what: format!("/ipns/{name}"),
            source_name: self.name(),
        })
    }

    /// Tells whether the source works now, by one small request.
    async fn probe(&self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Whether it reads this machine's disk: asked first, never distrusted.
    fn is_local(&self) -> bool {
        false
    }

    /// CIDs that the source itself names as roots (a CAR file's header).
    fn roots(&self) -> Vec<Cid> {
        Vec::new()
    }

    /// Figures since start, one line for each real source below.
    fn figures(&self) -> Vec<SourceFigures>;
}

/// A proved block and what its source says about keeping it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The block.
    pub block: Block,
    /// Whether a copy nearby is worth its space: `false` where the source is
    /// itself on a local disk (a CAR file, a Kubo repository).
    pub keep: bool,
}

/// What part of a DAG to fetch in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Root of the request.
    pub root: Cid,
    /// Path below it, opaque here; empty for the root itself.
    pub path: String,
    /// How much of what the path leads to.
    pub scope: Scope,
    /// First and last byte (inclusive) of a file, if only a range is wanted.
    pub bytes: Option<(u64, u64)>,
}

/// `dag-scope` of the trustless gateway specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The one block.
    Block,
    /// The file, or the directory without its children's contents.
    Entity,
    /// Everything below.
    All,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NameRecord {
    /// `/ipfs/<cid>[/path]` or `/ipns/<name>[/path]`.
    pub value: String,
    /// How long it may be kept.
    pub ttl: Duration,
    /// Sequence number, where a signed record was read.
    pub sequence: Option<u64>,
    /// Whether a signature was checked here (a DNSLink answer has none).
    pub verified: bool,
}

/// Figures of one source since start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SourceFigures {
    /// Name of the source.
    pub name: String,
    /// `good`, `failing` (recent failures), `distrusted` (it sent wrong bytes),
    /// or `damaged` (a local file is).
    pub health: String,
    /// Requests sent.
    pub requests: u64,
    /// Blocks that arrived and were proved.
    pub blocks: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Answers of "not here".
    pub not_found: u64,
    /// Failed requests, timeouts included.
    pub failures: u64,
    /// Answers whose bytes did not hash to their CID.
    pub corrupt: u64,
    /// The last failure, in words.
    pub last_error: Option<String>,
}
