//! Every limit, with its unit and what happens when it is reached.

use std::time::Duration;

/// Largest block that is read, 2 MiB. A larger one is refused as malformed.
pub const BLOCK_BYTES_MAX: usize = 2 << 20;
/// Largest block that is made, 1 MiB of payload.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Most bytes that an identity CID may carry. More is refused as malformed.
pub const IDENTITY_BYTES_MAX: usize = 128;
/// Deepest DAG that is followed. Deeper is malformed (EIO).
pub const DAG_DEPTH_MAX: usize = 64;
/// Largest HAMT fanout (CVE-2023-23625). More is malformed.
pub const HAMT_FANOUT_MAX: u64 = 1024;
/// Most bytes in a name of a directory entry; longer names are hidden and logged.
pub const NAME_BYTES_MAX: usize = 255;

// Control.

/// Longest that an operation without steps of its own may take. Over it: timeout.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(120);
/// Operations that run at once for all callers. More are told to come back.
pub const OPERATIONS_MAX: usize = 64;
/// Connections to the control socket at once. More wait in the backlog.
pub const CONTROL_CONNECTIONS_MAX: usize = 128;
/// Largest body of JSON parameters, 1 MiB. More is refused (413).
pub const PARAMS_BYTES_MAX: usize = 1 << 20;
/// Longest wait for the head of a request. Then the connection is closed.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence inside a body that is sent to us. Then the operation fails.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Entries of a directory in one answer of `ipfs/ls`; more are paged.
pub const LS_ENTRIES_MAX: usize = 10_000;
/// Progress events that wait for a slow reader; beyond that the work waits.
pub const PROGRESS_EVENTS_MAX: usize = 1024;
/// Longest wait for a repository that another process holds. Then: busy.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a daemon that starts in the background.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for mounts to end when the daemon stops. Then it leaves them detached.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Size at which `daemon.log` is set aside, 8 MiB; one older file is kept.
pub const LOG_BYTES_MAX: u64 = 8 << 20;
/// Largest `config.toml`, 1 MiB. More is refused.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
