//! Reading content: resolve, stat, ls, cat, get.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::path::{last_part, normal};
use crate::config::{CAT_CHUNK_BYTES, CAT_CHUNKS_AHEAD, FETCHES_PER_REQUEST_MAX, LS_ENTRIES_MAX};
use crate::control::registry::Io;
use crate::control::{ByteStream, Context, ErrorKind, Operation, OperationError, Output, tarball};
use crate::tree::{Attr, Entry, Kind, Located, Node, Tree};

/// A path.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct At {
    /// `/ipfs/<cid>[/path]`, `/ipns/<name>[/path]`, `/mfs[/path]` or `<cid>[/path]`.
    path: String,
}

/// What of a directory to list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ls {
    /// `/ipfs/<cid>[/path]`, `/ipns/<name>[/path]`, `/mfs[/path]` or `<cid>[/path]`.
    path: String,
    /// Entries to pass over.
    #[serde(default)]
    offset: usize,
    /// Most entries in the answer; 10,000 at most.
    #[serde(default)]
    limit: Option<usize>,
    /// Size, mode and time of each entry; may fetch its root block.
    #[serde(default)]
    long: bool,
}

/// What of a file to give.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Cat {
    /// `/ipfs/<cid>[/path]`, `/ipns/<name>[/path]`, `/mfs[/path]` or `<cid>[/path]`.
    path: String,
    /// First byte.
    #[serde(default)]
    offset: u64,
    /// Most bytes.
    #[serde(default)]
    length: Option<u64>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::read(
            "ipfs/resolve",
            "Finds the CID that a path leads to.",
            resolve,
        ),
        Operation::read("ipfs/stat", "Tells what a path leads to.", stat),
        Operation::read("ipfs/ls", "Lists a directory.", ls),
        Operation::read("ipfs/cat", "Gives the bytes of a file.", cat)
            .giving("application/octet-stream"),
        Operation::read(
            "ipfs/get",
            "Gives a file or directory as a tar archive.",
            get,
        )
        .giving("application/x-tar"),
    ]
}

/// Finds a node and keeps it loaded; errors carry the path.
pub(super) async fn find(context: &Context, path: &str) -> Result<Located, OperationError> {
    let path = normal(path)?;
    let found = context.tree.locate(&path).await;
    found.map_err(|error| OperationError::from(error).context(path))
}

async fn resolve(context: Arc<Context>, at: At, _: Io) -> Result<Output, OperationError> {
    let node = find(&context, &at.path).await?;
    let cid = context.tree.cid(&node).await?;
    let cid = cid.ok_or_else(|| OperationError::not_found(format!("{} has no CID", at.path)))?;
    Ok(Output::Json(json!({
        "path": format!("/ipfs/{cid}"),
        "cid": cid.to_string(),
    })))
}

async fn stat(context: Arc<Context>, at: At, _: Io) -> Result<Output, OperationError> {
    let node = find(&context, &at.path).await?;
    let attr = attr(&context.tree, &node, &at.path).await?;
    let mut fields = attr_fields(&attr);
    fields.insert("path".to_owned(), at.path.into());
    let cid = match attr.cid {
        Some(cid) => Some(cid),
        None => context.tree.cid(&node).await?,
    };
    if let Some(cid) = cid {
        fields.insert("cid".to_owned(), cid.to_string().into());
        fields.insert("codec".to_owned(), format!("{:#x}", cid.codec()).into());
    }
    if attr.kind == Kind::Symlink {
        let target = context.tree.readlink(&node).await?;
        fields.insert("target".to_owned(), String::from_utf8_lossy(&target).into());
    }
    Ok(Output::Json(Value::Object(fields)))
}

async fn attr(tree: &Tree, node: &Node, path: &str) -> Result<Attr, OperationError> {
    tree.attr(node)
        .await
        .map_err(|error| OperationError::from(error).context(path))
}

fn attr_fields(attr: &Attr) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("kind".to_owned(), kind_name(attr.kind).into());
    fields.insert("size".to_owned(), attr.size.into());
    if let Some(mode) = attr.mode {
        fields.insert("mode".to_owned(), format!("{:04o}", mode & 0o7777).into());
    }
    if let Some(mtime) = attr.mtime {
        let time = json!({"seconds": mtime.seconds, "nanoseconds": mtime.nanoseconds});
        fields.insert("mtime".to_owned(), time);
    }
    fields
}

/// What a node is, as answers say it.
pub(in crate::control) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice => "character device",
        Kind::BlockDevice => "block device",
    }
}

async fn ls(context: Arc<Context>, what: Ls, _: Io) -> Result<Output, OperationError> {
    let node = find(&context, &what.path).await?;
    let limit = what.limit.unwrap_or(LS_ENTRIES_MAX);
    if limit == 0 || limit > LS_ENTRIES_MAX {
        let message = format!("limit must be from 1 to {LS_ENTRIES_MAX}");
        return Err(OperationError::invalid(message));
    }
    let attr = attr(&context.tree, &node, &what.path).await?;
    if attr.kind != Kind::Directory {
        let entry = Entry {
            name: Bytes::new(),
            node: Node::clone(&node),
            kind: Some(attr.kind),
            tsize: None,
        };
        let entry = describe(&context.tree, &entry, what.long).await;
        return Ok(Output::Json(
            json!({"entries": [entry], "total": 1, "directory": false}),
        ));
    }
    let listing = context
        .tree
        .list(&node)
        .await
        .map_err(|error| OperationError::from(error).context(&what.path))?;
    let part = listing.entries.iter().skip(what.offset).take(limit);
    let entries: Vec<Value> = stream::iter(part.cloned().collect::<Vec<_>>())
        .map(|entry| {
            let tree = Arc::clone(&context.tree);
            async move { describe(&tree, &entry, what.long).await }
        })
        .buffered(FETCHES_PER_REQUEST_MAX)
        .collect()
        .await;
    let total = listing.entries.len();
    Ok(Output::Json(
        json!({"entries": entries, "total": total, "directory": true}),
    ))
}

/// Describes an entry. That its block cannot be had is said in it: the
/// others are listed all the same.
async fn describe(tree: &Tree, entry: &Entry, long: bool) -> Value {
    let mut fields = Map::new();
    let asked = if long || entry.kind.is_none() {
        Some(tree.attr(&entry.node).await)
    } else {
        None
    };
    match asked {
        Some(Ok(attr)) if long => fields.extend(attr_fields(&attr)),
        Some(Ok(attr)) => {
            fields.insert("kind".to_owned(), kind_name(attr.kind).into());
        }
        Some(Err(error)) => {
            fields.insert("kind".to_owned(), entry.kind.map(kind_name).into());
            fields.insert("error".to_owned(), error.to_string().into());
        }
        None => {
            fields.insert("kind".to_owned(), entry.kind.map(kind_name).into());
        }
    }
    fields.insert(
        "name".to_owned(),
        String::from_utf8_lossy(&entry.name).into(),
    );
    if std::str::from_utf8(&entry.name).is_err() {
        // What JSON cannot carry as text.
        let bytes = multibase::encode(multibase::Base::Base16Lower, &entry.name);
        fields.insert("name_bytes".to_owned(), bytes.into());
    }
    let cid = match &entry.node {
        Node::Object(cid) => Some(*cid),
        // What an entry of a kept checkpoint is was read just now.
        Node::Kept(_) => tree.cid(&entry.node).await.ok().flatten(),
        Node::Top | Node::Ipfs | Node::Ipns | Node::Name(_) | Node::Mfs(_) | Node::Snapshots => {
            None
        }
    };
    if let Some(cid) = cid {
        fields.insert("cid".to_owned(), cid.to_string().into());
    }
    if let Some(tsize) = entry.tsize {
        fields.insert("tsize".to_owned(), tsize.into());
    }
    Value::Object(fields)
}

async fn cat(context: Arc<Context>, what: Cat, _: Io) -> Result<Output, OperationError> {
    let node = find(&context, &what.path).await?;
    let attr = attr(&context.tree, &node, &what.path).await?;
    if attr.kind != Kind::File {
        let message = format!("{} is a {}", what.path, kind_name(attr.kind));
        return Err(OperationError::invalid(message).hint("`cidfs get` takes it whole"));
    }
    let left = attr.size.saturating_sub(what.offset);
    let length = what.length.map_or(left, |length| length.min(left));
    let stream = file_bytes(Arc::clone(&context.tree), node, what.offset, length);
    Ok(Output::Bytes {
        content_type: "application/octet-stream",
        length: Some(length),
        stream,
    })
}

/// Gives `length` bytes of a file from `offset`, a few chunks ahead of the reader.
fn file_bytes(tree: Arc<Tree>, node: Located, offset: u64, length: u64) -> ByteStream {
    let step = CAT_CHUNK_BYTES as u64;
    let end = offset + length;
    let starts = stream::iter((0..length.div_ceil(step)).map(move |index| offset + index * step));
    let chunks = starts.map(move |start| {
        let (tree, node) = (Arc::clone(&tree), node.clone());
        async move {
            let wanted = usize::try_from((end - start).min(step)).unwrap_or(CAT_CHUNK_BYTES);
            let mut chunk = vec![0; wanted];
            let read = tree.read(&node, start, &mut chunk).await?;
            if read != wanted {
                let message = format!("the file ends at byte {}", start + read as u64);
                return Err(OperationError::new(ErrorKind::Corrupt, message));
            }
            Ok(Bytes::from(chunk))
        }
    });
    chunks.buffered(CAT_CHUNKS_AHEAD).boxed()
}

async fn get(context: Arc<Context>, at: At, _: Io) -> Result<Output, OperationError> {
    let node = find(&context, &at.path).await?;
    attr(&context.tree, &node, &at.path).await?;
    let stream = tarball::stream(Arc::clone(&context.tree), node, last_part(&at.path));
    Ok(Output::Bytes {
        content_type: "application/x-tar",
        length: None,
        stream,
    })
}
