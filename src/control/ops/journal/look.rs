//! The writable tree as it is, by path.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::tree::parse;
use crate::config::{CAT_CHUNK_BYTES, CAT_CHUNKS_AHEAD, LS_ENTRIES_MAX};
use crate::control::raw::{self, Raw};
use crate::control::registry::Io;
use crate::control::{ByteStream, Context, ErrorKind, Operation, OperationError, Output};
use crate::tree::mfs::log::time;
use crate::tree::mfs::path::{Held, TreePath};
use crate::tree::mfs::{NodeAttr, NodeEntry, NodeKind};

/// A place of the tree.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct At {
    /// Path in the tree.
    path: Raw,
}

/// Bytes to read.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadRange {
    /// Path in the tree.
    path: Raw,
    /// First byte.
    #[serde(default)]
    offset: u64,
    /// Most bytes.
    #[serde(default)]
    length: Option<u64>,
}

/// What to list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ls {
    /// Path in the tree.
    #[serde(default)]
    path: Raw,
    /// Where the answer before ended: its `cursor`.
    #[serde(default)]
    cursor: Cursor,
    /// Most entries to give.
    #[serde(default)]
    limit: Option<usize>,
}

/// Where a listing goes on: text, since the numbers of JSON are exact up to 2^53
/// only in many programs. A number is taken too.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Cursor {
    /// As it was given.
    Text(String),
    /// From a program that keeps 64 bits.
    Number(u64),
    /// The beginning.
    #[default]
    None,
}

impl Cursor {
    fn cookie(&self) -> Result<u64, OperationError> {
        match self {
            Self::Text(text) => text.parse().map_err(|_| {
                OperationError::invalid(format!("{text:?} is no cursor of a listing"))
            }),
            Self::Number(number) => Ok(*number),
            Self::None => Ok(0),
        }
    }
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::read(
            "fs-journal/read",
            "Gives the bytes of a file of the tree.",
            read,
        )
        .giving("application/octet-stream")
        .long(),
        Operation::read(
            "fs-journal/stat",
            "Tells about a path of the tree, with its CID.",
            stat,
        )
        .long(),
        Operation::read("fs-journal/ls", "Lists a directory of the tree.", ls),
    ]
}

async fn held(context: &Context, path: &Raw) -> Result<Held, OperationError> {
    let found = context.mfs.find(&parse(path)?).await;
    found.map_err(|error| OperationError::from(error).context(path))
}

async fn read(context: Arc<Context>, what: ReadRange, _: Io) -> Result<Output, OperationError> {
    let file = held(&context, &what.path).await?;
    if file.attr().kind != NodeKind::File {
        return Err(OperationError::invalid(format!("{} is no file", what.path)));
    }
    let left = file.attr().size.saturating_sub(what.offset);
    let length = what.length.map_or(left, |length| length.min(left));
    Ok(Output::Bytes {
        content_type: "application/octet-stream",
        length: Some(length),
        stream: file_bytes(Arc::new(file), what.offset, length),
    })
}

fn file_bytes(file: Arc<Held>, offset: u64, length: u64) -> ByteStream {
    let step = CAT_CHUNK_BYTES as u64;
    let end = offset + length;
    let starts = stream::iter((0..length.div_ceil(step)).map(move |index| offset + index * step));
    let chunks = starts.map(move |start| {
        let file = Arc::clone(&file);
        async move {
            let wanted = usize::try_from((end - start).min(step)).unwrap_or(CAT_CHUNK_BYTES);
            let mut chunk = vec![0; wanted];
            let read = file.mfs().read(file.node(), start, &mut chunk).await?;
            if read != wanted {
                let message = "the file became shorter while it was read";
                return Err(OperationError::new(ErrorKind::Conflict, message));
            }
            Ok(Bytes::from(chunk))
        }
    });
    chunks.buffered(CAT_CHUNKS_AHEAD).boxed()
}

fn attr_fields(attr: &NodeAttr) -> Map<String, Value> {
    let kind = match attr.kind {
        NodeKind::File => "file",
        NodeKind::Directory => "directory",
        NodeKind::Symlink => "symlink",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
        NodeKind::CharDevice => "character device",
        NodeKind::BlockDevice => "block device",
    };
    let fields = json!({
        "kind": kind,
        "size": attr.size,
        "mode": format!("{:04o}", attr.mode),
        "uid": attr.uid,
        "gid": attr.gid,
        "nlink": attr.nlink,
        "mtime": time::format_at(attr.mtime.sec, attr.mtime.nsec),
    });
    match fields {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

fn entry_fields(name: &[u8], attr: &NodeAttr) -> Map<String, Value> {
    let mut fields = attr_fields(attr);
    insert_name(&mut fields, "name", name);
    fields
}

/// What a symbolic link of a listing says, where it can be had.
async fn target(context: &Context, dir: &TreePath, entry: &NodeEntry) -> Option<Bytes> {
    if entry.attr.kind != NodeKind::Symlink || entry.guessed {
        return None;
    }
    if let Ok(target) = context.mfs.readlink(entry.attr.node) {
        return Some(target);
    }
    // It was let go since the page was made.
    let found = context.mfs.find(&dir.join(&entry.name)).await.ok()?;
    context.mfs.readlink(found.node()).ok()
}

/// Puts a name in as text, and as multibase too where JSON cannot carry it.
fn insert_name(fields: &mut Map<String, Value>, field: &str, name: &[u8]) {
    fields.insert(field.to_owned(), String::from_utf8_lossy(name).into());
    if std::str::from_utf8(name).is_err() {
        fields.insert(format!("{field}_bytes"), raw::encoded(name).into());
    }
}

async fn ls(context: Arc<Context>, what: Ls, _: Io) -> Result<Output, OperationError> {
    let limit = what.limit.unwrap_or(LS_ENTRIES_MAX);
    if limit == 0 || limit > LS_ENTRIES_MAX {
        let message = format!("limit must be from 1 to {LS_ENTRIES_MAX}");
        return Err(OperationError::invalid(message));
    }
    let dir = held(&context, &what.path).await?;
    if dir.attr().kind != NodeKind::Directory {
        let path = parse(&what.path)?.bytes();
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let mut entry = entry_fields(name, dir.attr());
        if dir.attr().kind == NodeKind::Symlink {
            let target = context.mfs.readlink(dir.node())?;
            insert_name(&mut entry, "target", &target);
        }
        let told = json!({"entries": [entry], "cursor": null, "directory": false});
        return Ok(Output::Json(told));
    }
    let mut page = context
        .mfs
        .list(dir.node(), what.cursor.cookie()?, limit + 1)
        .await?;
    let goes_on = page.len() > limit;
    page.truncate(limit);
    let cursor = page
        .last()
        .filter(|_| goes_on)
        .map(|last| last.cookie.to_string());
    // What people look at fits on a page; the order of all is that of the directory.
    page.sort_by(|a, b| a.name.cmp(&b.name));
    let path = parse(&what.path)?;
    let mut entries = Vec::with_capacity(page.len());
    for entry in &page {
        let mut fields = entry_fields(&entry.name, &entry.attr);
        if let Some(target) = target(&context, &path, entry).await {
            insert_name(&mut fields, "target", &target);
        }
        entries.push(Value::Object(fields));
    }
    Ok(Output::Json(
        json!({"entries": entries, "cursor": cursor, "directory": true}),
    ))
}

async fn stat(context: Arc<Context>, at: At, _: Io) -> Result<Output, OperationError> {
    let found = held(&context, &at.path).await?;
    let mut fields = attr_fields(found.attr());
    insert_name(&mut fields, "path", &parse(&at.path)?.bytes());
    let cid = context.mfs.cid(found.node()).await?;
    fields.insert("cid".to_owned(), cid.map(|cid| cid.to_string()).into());
    if found.attr().kind == NodeKind::Symlink {
        let target = context.mfs.readlink(found.node())?;
        insert_name(&mut fields, "target", &target);
    }
    Ok(Output::Json(Value::Object(fields)))
}
