//! What an operation says beside its paths, as JSON; never the bytes of a file.

use serde_json::{Map, Value, json};

use super::time;
use crate::block::Cid;
use crate::config::LOG_PARTS_LISTED_MAX;
use crate::tree::mfs::changes::op::{Attr, Make, Op};
use crate::tree::mfs::nodes::extents::{Data, Extent};
use crate::tree::mfs::types::{Allocate, New, NodeKind, RenameMode, Time};

/// The data of an entry.
pub(super) fn of(op: &Op) -> Value {
    match op {
        Op::Make(make) => of_make(make),
        Op::Rename { mode, .. } => json!({"mode": match mode {
            RenameMode::Replace => "replace",
            RenameMode::NoReplace => "no_replace",
            RenameMode::Exchange => "exchange",
        }}),
        Op::Write { offset, bytes, .. } => json!({"offset": offset, "length": bytes.len()}),
        Op::WriteBlocks { offset, blocks, .. } => {
            let length: u64 = blocks.iter().map(|(_, len)| u64::from(*len)).sum();
            json!({"offset": offset, "length": length, "cids": cids(blocks)})
        }
        Op::Resize { size, .. } => json!({"size": size}),
        Op::Allocate {
            what, offset, len, ..
        } => {
            let (kind, keep_size) = match what {
                Allocate::Reserve { keep_size } => ("allocate", *keep_size),
                Allocate::Punch => ("punch_hole", true),
                Allocate::Zero { keep_size } => ("zero_range", *keep_size),
            };
            json!({"offset": offset, "length": len, "kind": kind, "keep_size": keep_size})
        }
        Op::Share { offset, ranges, .. } => {
            let length: u64 = ranges.iter().map(|range| range.len).sum();
            let shown: Vec<Value> = ranges
                .iter()
                .take(LOG_PARTS_LISTED_MAX)
                .map(range)
                .collect();
            json!({"offset": offset, "length": length, "kind": "share", "ranges": shown})
        }
        Op::Attr(attr) => of_attr(attr),
        Op::SetXattr { name, value, .. } => {
            json!({"xattr": String::from_utf8_lossy(name), "length": value.len()})
        }
        Op::RemoveXattr { name, .. } => {
            json!({"xattr": String::from_utf8_lossy(name), "removed": true})
        }
        Op::Mount(mount) => json!({
            "cid": mount.cid.to_string(),
            "kind": kind_name(mount.kind),
            "size": mount.size,
        }),
        Op::Checkpoint { commit, through } => {
            json!({"commit": commit.to_string(), "through": through})
        }
        Op::Failed { why } => json!({"error": why}),
        Op::Link { .. }
        | Op::Unlink { .. }
        | Op::Rmdir { .. }
        | Op::Unmount { .. }
        | Op::Begin
        | Op::Commit
        | Op::Rollback
        | Op::Synced => json!({}),
    }
}

fn of_make(make: &Make) -> Value {
    let mut data = Map::new();
    data.insert("mode".to_owned(), octal(make.mode));
    data.insert("uid".to_owned(), make.uid.into());
    data.insert("gid".to_owned(), make.gid.into());
    let mut add = |name: &str, value: Value| data.insert(name.to_owned(), value);
    match &make.new {
        New::File | New::Directory => {}
        New::Symlink(target) => {
            add("target", String::from_utf8_lossy(target).into());
        }
        New::Fifo => {
            add("kind", kind_name(NodeKind::Fifo).into());
        }
        New::Socket => {
            add("kind", kind_name(NodeKind::Socket).into());
        }
        New::CharDevice(rdev) => {
            add("kind", kind_name(NodeKind::CharDevice).into());
            add("rdev", (*rdev).into());
        }
        New::BlockDevice(rdev) => {
            add("kind", kind_name(NodeKind::BlockDevice).into());
            add("rdev", (*rdev).into());
        }
    }
    Value::Object(data)
}

fn of_attr(attr: &Attr) -> Value {
    let mut data = Map::new();
    let fields = [
        ("mode", attr.mode.map(octal)),
        ("uid", attr.uid.map(Value::from)),
        ("gid", attr.gid.map(Value::from)),
        ("atime", attr.atime.map(at)),
        ("mtime", attr.mtime.map(at)),
    ];
    for (name, value) in fields {
        data.extend(value.map(|value| (name.to_owned(), value)));
    }
    Value::Object(data)
}

fn octal(mode: u32) -> Value {
    format!("{mode:04o}").into()
}

fn at(time: Time) -> Value {
    time::format_at(time.sec, time.nsec).into()
}

fn cids(blocks: &[(Cid, u32)]) -> Vec<String> {
    blocks
        .iter()
        .take(LOG_PARTS_LISTED_MAX)
        .map(|(cid, _)| cid.to_string())
        .collect()
}

fn range(range: &Extent) -> Value {
    match &range.data {
        Data::Hole => json!({"length": range.len, "hole": true}),
        Data::Shared { cid, offset } => {
            json!({"length": range.len, "cid": cid.get().to_string(), "offset": offset})
        }
        Data::Bytes(_) => json!({"length": range.len}),
    }
}

/// The name of a kind of node.
pub(in super::super) fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "file",
        NodeKind::Directory => "directory",
        NodeKind::Symlink => "symlink",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
        NodeKind::CharDevice => "character device",
        NodeKind::BlockDevice => "block device",
    }
}
