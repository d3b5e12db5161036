//! One entry.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{data, time};
use crate::journal::Frame;
use crate::tree::mfs::changes::op::{Logged, Op};
use crate::tree::mfs::changes::way::shown;
use crate::tree::mfs::types::New;

/// Every type of operation that an entry can have.
pub const OPERATIONS: &[&str] = &[
    "create",
    "mkdir",
    "symlink",
    "link",
    "mknod",
    "unlink",
    "rmdir",
    "rename",
    "write",
    "truncate",
    "metadata",
    "mount",
    "unmount",
    "checkpoint",
    "begin",
    "commit",
    "rollback",
    "synced",
    UNKNOWN,
];

/// What this program cannot read.
const UNKNOWN: &str = "unknown";

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its transaction is under way.
    Pending,
    /// It holds.
    Completed,
    /// It was refused.
    Failed,
    /// Its transaction was given up.
    RolledBack,
}

impl Status {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its number.
    pub entry_id: u64,
    /// When it was journaled, as RFC 3339 with nanoseconds.
    pub timestamp: String,
    /// The same, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// What it does; one of [`OPERATIONS`].
    pub operation_type: &'static str,
    /// What it concerns; `null` where that has no name any more.
    pub path: Option<String>,
    /// The path's bytes in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<String>,
    /// The new path of a rename or a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Its bytes in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_bytes: Option<String>,
    /// What else it says; never the bytes of a file.
    pub data: Value,
    /// What became of it.
    pub status: Status,
    /// The transaction that it belongs to: the number of that one's first entry.
    pub transaction_id: u64,
    /// The paths as they are.
    #[serde(skip)]
    raw: (Vec<u8>, Vec<u8>),
}

impl Entry {
    /// Makes it of a frame.
    pub(super) fn of(frame: &Frame, status: Status) -> Self {
        let (entry_id, tx) = (frame.head.seq.0, frame.head.tx.0);
        let (logged, operation_type, data) = match Logged::decode(frame.head.kind, &frame.payload) {
            Ok(logged) => {
                let (name, data) = (name_of(&logged.op), data::of(&logged.op));
                (Some(logged), name, data)
            }
            Err(error) => (None, UNKNOWN, json!({"error": error.to_string()})),
        };
        let (path, to) = logged
            .map(|logged| (shown(logged.path), shown(logged.to)))
            .unwrap_or_default();
        Self {
            entry_id,
            timestamp: time::format(frame.head.time_ns),
            time_ns: frame.head.time_ns,
            operation_type,
            path: text(&path),
            path_bytes: bytes(&path),
            to: text(&to),
            to_bytes: bytes(&to),
            data,
            status,
            transaction_id: if tx == 0 { entry_id } else { tx },
            raw: (path, to),
        }
    }

    /// Whether it concerns a path or something below it.
    pub(super) fn concerns(&self, path: &[u8]) -> bool {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let below = |at: &[u8]| {
            at.strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        (!self.raw.0.is_empty() && below(&self.raw.0))
            || (!self.raw.1.is_empty() && below(&self.raw.1))
    }
}

fn text(path: &[u8]) -> Option<String> {
    (!path.is_empty()).then(|| String::from_utf8_lossy(path).into_owned())
}

fn bytes(path: &[u8]) -> Option<String> {
    let odd = std::str::from_utf8(path).is_err();
    odd.then(|| multibase::encode(multibase::Base::Base16Lower, path))
}

/// The name of what an operation does.
pub(in super::super) fn name_of(op: &Op) -> &'static str {
    match op {
        Op::Make(make) => match make.new {
            New::File => "create",
            New::Directory => "mkdir",
            New::Symlink(_) => "symlink",
            New::Fifo | New::Socket | New::CharDevice(_) | New::BlockDevice(_) => "mknod",
        },
        Op::Link { .. } => "link",
        Op::Unlink { .. } => "unlink",
        Op::Rmdir { .. } => "rmdir",
        Op::Rename { .. } => "rename",
        Op::Write { .. } | Op::WriteBlocks { .. } | Op::Share { .. } | Op::Allocate { .. } => {
            "write"
        }
        Op::Resize { .. } => "truncate",
        Op::Attr(_) | Op::SetXattr { .. } | Op::RemoveXattr { .. } => "metadata",
        Op::Mount(_) => "mount",
        Op::Unmount { .. } => "unmount",
        Op::Checkpoint { .. } => "checkpoint",
        Op::Begin => "begin",
        Op::Commit => "commit",
        Op::Rollback => "rollback",
        Op::Synced => "synced",
        // Which operation was refused is the first word of why.
        Op::Failed { why } => {
            let word = why.split(':').next().unwrap_or_default();
            OPERATIONS
                .iter()
                .find(|name| **name == word)
                .copied()
                .unwrap_or(UNKNOWN)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::journal::{FrameHead, Seq, TxId};

    fn entry(path: &[u8], to: &[u8], op: Op) -> Entry {
        let logged = Logged {
            path: path.to_vec(),
            to: to.to_vec(),
            op,
        };
        let (kind, payload) = (logged.kind(), Bytes::from(logged.encode()));
        let head = FrameHead {
            seq: Seq(7),
            tx: TxId(0),
            kind,
            time_ns: 1,
            durable: Seq(0),
        };
        Entry::of(&Frame { head, payload }, Status::Completed)
    }

    #[test]
    fn a_prefix_ends_at_a_slash_and_both_paths_count() {
        let renamed = entry(b"/a/b", b"/c", Op::Begin);
        for path in [&b"/"[..], b"", b"/a", b"/a/", b"/a/b", b"/c"] {
            assert!(renamed.concerns(path), "{path:?}");
        }
        for path in [&b"/a/bc"[..], b"/b", b"/a/b/c", b"/c/d"] {
            assert!(!renamed.concerns(path), "{path:?}");
        }
        assert!(!entry(b"", b"", Op::Begin).concerns(b"/"));
    }

    #[test]
    fn a_path_that_is_no_text_is_there_as_bytes_too() {
        let odd = entry(b"/\xff", b"", Op::Begin);
        assert_eq!(odd.path.as_deref(), Some("/\u{fffd}"));
        assert_eq!(odd.path_bytes.as_deref(), Some("f2fff"));
        assert_eq!(odd.transaction_id, 7);
    }

    #[test]
    fn a_refused_operation_goes_by_its_name() {
        let why = "mkdir: file exists".to_owned();
        let failed = entry(b"/a", b"", Op::Failed { why });
        assert_eq!(failed.operation_type, "mkdir");
        let failed = entry(b"/a", b"", Op::Failed { why: "boom".into() });
        assert_eq!(failed.operation_type, "unknown");
    }

    #[test]
    fn what_cannot_be_read_is_an_entry_all_the_same() {
        let head = FrameHead {
            seq: Seq(7),
            tx: TxId(0),
            kind: 99,
            time_ns: 1,
            durable: Seq(0),
        };
        let payload = Bytes::from_static(b"?");
        let odd = Entry::of(&Frame { head, payload }, Status::Completed);
        assert_eq!(odd.operation_type, "unknown");
        assert!(odd.data.get("error").is_some());
    }
}
