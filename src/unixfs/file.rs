//! Reads ranges of files of any layout.
//!
//! Goes down level by level through the nodes that cover the range and no
//! others. What is near is read straight into the caller's memory; what is
//! not is fetched side by side.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::error::{Malformed, ReadError};
use super::node::{Body, File};
use super::nodes::Nodes;
use crate::block::{CBOR, Cid, DAG_CBOR, DAG_JSON, DAG_PB, JSON, RAW};
use crate::config::{DAG_DEPTH_MAX, FETCHES_PER_REQUEST_MAX};

/// A part of the range that is still to be read.
#[derive(Clone, Copy)]
struct Want {
    cid: Cid,
    /// What the parent says that the part holds; `None` for the root.
    declared: Option<u64>,
    /// First byte wanted, counted in the part.
    from: u64,
    /// Where these bytes go in the caller's memory.
    at: usize,
    len: usize,
}

/// Fills `out` from `offset`; gives how many bytes there were.
pub(super) async fn read(
    nodes: &Nodes,
    root: &Cid,
    offset: u64,
    out: &mut [u8],
) -> Result<usize, ReadError> {
    if root.codec() != DAG_PB {
        return read_opaque(nodes, root, offset, out).await;
    }
    let node = nodes.get(root).await?;
    let Body::File(file) = &node.body else {
        return Err(ReadError::NotAFile);
    };
    let len = clip(file.size, offset, out.len());
    let want = Want {
        cid: *root,
        declared: None,
        from: offset,
        at: 0,
        len,
    };
    let mut level = Vec::new();
    expand(file, &want, out, &mut level)?;
    fill(nodes, root, level, out).await?;
    Ok(len)
}

/// Fills `out` from a part of a file, which holds `declared` bytes as its parent says.
///
/// `out` must not go beyond the part.
pub(super) async fn read_part(
    nodes: &Nodes,
    part: &Cid,
    declared: u64,
    offset: u64,
    out: &mut [u8],
) -> Result<(), ReadError> {
    let want = Want {
        cid: *part,
        declared: Some(declared),
        from: offset,
        at: 0,
        len: out.len(),
    };
    fill(nodes, part, vec![want], out).await
}

/// Reads level after level until nothing is wanted any more.
async fn fill(
    nodes: &Nodes,
    root: &Cid,
    mut level: Vec<Want>,
    out: &mut [u8],
) -> Result<(), ReadError> {
    for _ in 0..DAG_DEPTH_MAX {
        if level.is_empty() {
            return Ok(());
        }
        level = descend(nodes, level, out).await?;
    }
    Err(ReadError::malformed(root, Malformed::TooDeep))
}

/// A root that is no dag-pb node is a file of its block's bytes.
async fn read_opaque(
    nodes: &Nodes,
    root: &Cid,
    offset: u64,
    out: &mut [u8],
) -> Result<usize, ReadError> {
    match root.codec() {
        RAW | DAG_CBOR | DAG_JSON | CBOR | JSON => {}
        _ => {
            return Err(ReadError::malformed(
                root,
                Malformed::Kind("codec is not readable"),
            ));
        }
    }
    if let Some(size) = nodes.blocks().len_local(root)? {
        let len = clip(size, offset, out.len());
        let out = out.get_mut(..len).unwrap_or_default();
        if nodes.blocks().read_local(root, offset, out)? {
            return Ok(len);
        }
    }
    let block = block(nodes, root).await?;
    let len = clip(block.len() as u64, offset, out.len());
    copy(&block, offset, out, 0, len).ok_or(ReadError::NotAFile)?;
    Ok(len)
}

/// Reads the leaves of one level and gives what the next level wants.
async fn descend(nodes: &Nodes, level: Vec<Want>, out: &mut [u8]) -> Result<Vec<Want>, ReadError> {
    let mut next = Vec::new();
    let mut far = Vec::new();
    for want in level {
        if !near(nodes, &want, out, &mut next)? {
            far.push(want);
        }
    }
    let mut fetched = stream::iter(far)
        .map(|want| async move { nodes.fetch(&want.cid).await.map(|block| (want, block)) })
        .buffer_unordered(FETCHES_PER_REQUEST_MAX);
    while let Some((want, block)) = fetched.try_next().await? {
        if want.cid.codec() == DAG_PB {
            let node = nodes.keep(&block)?;
            inner(&node.body, &want, out, &mut next)?;
        } else {
            leaf(&want, block.data().len() as u64)?;
            copy(block.data(), want.from, out, want.at, want.len).ok_or(ReadError::NotAFile)?;
        }
    }
    Ok(next)
}

/// Serves a part whose block is near; false if it is not.
fn near(
    nodes: &Nodes,
    want: &Want,
    out: &mut [u8],
    next: &mut Vec<Want>,
) -> Result<bool, ReadError> {
    if want.cid.codec() == DAG_PB {
        let Some(node) = nodes.get_local(&want.cid)? else {
            return Ok(false);
        };
        inner(&node.body, want, out, next)?;
        return Ok(true);
    }
    if let Some(size) = nodes.blocks().len_local(&want.cid)? {
        leaf(want, size)?;
        let place = out.get_mut(want.at..want.at + want.len).unwrap_or_default();
        return Ok(nodes.blocks().read_local(&want.cid, want.from, place)?);
    }
    let Some(block) = nodes.local_block(&want.cid)? else {
        return Ok(false);
    };
    leaf(want, block.data().len() as u64)?;
    copy(block.data(), want.from, out, want.at, want.len).ok_or(ReadError::NotAFile)?;
    Ok(true)
}

/// Checks a leaf against its parent's word.
fn leaf(want: &Want, found: u64) -> Result<(), ReadError> {
    match want.declared {
        Some(declared) if declared != found => Err(ReadError::malformed(
            &want.cid,
            Malformed::ChildSize { declared, found },
        )),
        Some(_) | None if want.cid.codec() != RAW => Err(ReadError::malformed(
            &want.cid,
            Malformed::Kind("a file's part is no file"),
        )),
        Some(_) | None => Ok(()),
    }
}

fn inner(body: &Body, want: &Want, out: &mut [u8], next: &mut Vec<Want>) -> Result<(), ReadError> {
    let Body::File(file) = body else {
        let why = Malformed::Kind("a file's part is no file");
        return Err(ReadError::malformed(&want.cid, why));
    };
    if let Some(declared) = want.declared.filter(|d| *d != file.size) {
        let why = Malformed::ChildSize {
            declared,
            found: file.size,
        };
        return Err(ReadError::malformed(&want.cid, why));
    }
    expand(file, want, out, next)
}

/// Copies a node's inline bytes and lists the parts that cover the rest.
fn expand(file: &File, want: &Want, out: &mut [u8], next: &mut Vec<Want>) -> Result<(), ReadError> {
    let end = want.from + want.len as u64;
    let inline = file.inline.len() as u64;
    if want.from < inline && want.len > 0 {
        let len = (inline.min(end) - want.from) as usize;
        copy(&file.inline, want.from, out, want.at, len).ok_or(ReadError::NotAFile)?;
    }
    let first = file.parts.partition_point(|p| p.end <= want.from);
    let mut start = match first.checked_sub(1).and_then(|i| file.parts.get(i)) {
        Some(before) => before.end,
        None => inline,
    };
    for part in file.parts.iter().skip(first) {
        if start >= end {
            break;
        }
        let from = want.from.max(start);
        let len = (part.end.min(end)).saturating_sub(from) as usize;
        if len > 0 {
            next.push(Want {
                cid: part.cid,
                declared: Some(part.end - start),
                from: from - start,
                at: want.at + (from - want.from) as usize,
                len,
            });
        }
        start = part.end;
    }
    Ok(())
}

async fn block(nodes: &Nodes, cid: &Cid) -> Result<Bytes, ReadError> {
    if let Some(block) = nodes.local_block(cid)? {
        return Ok(block.into_data());
    }
    Ok(nodes.fetch(cid).await?.into_data())
}

fn clip(size: u64, offset: u64, len: usize) -> usize {
    usize::try_from(size.saturating_sub(offset))
        .unwrap_or(usize::MAX)
        .min(len)
}

/// Copies `len` bytes of `from[offset..]` to `out[at..]`; `None` if either is too short.
fn copy(from: &[u8], offset: u64, out: &mut [u8], at: usize, len: usize) -> Option<()> {
    let offset = usize::try_from(offset).ok()?;
    let source = if len == 0 {
        &[]
    } else {
        from.get(offset..offset.checked_add(len)?)?
    };
    out.get_mut(at..at.checked_add(len)?)?
        .copy_from_slice(source);
    Some(())
}
