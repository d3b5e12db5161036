//! Finds the leaves of files, for those who change them leaf by leaf.

use crate::block::{Cid, DAG_PB};
use crate::config::DAG_DEPTH_MAX;
use crate::unixfs::error::{Malformed, ReadError};
use crate::unixfs::node::Body;
use crate::unixfs::reader::Reader;

/// A leaf of a file, and the bytes of the file that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafSpan {
    /// Its first byte.
    pub start: u64,
    /// The byte after its last.
    pub end: u64,
    /// The leaf; where a node holds bytes and links, that node.
    pub cid: Cid,
    /// Whether the file ends with it.
    pub last: bool,
}

/// Finds the leaf that covers `offset`, by the sizes that nodes declare: a raw
/// leaf is not read. At or beyond the end it is the last leaf.
pub async fn leaf_at(reader: &Reader, cid: &Cid, offset: u64) -> Result<LeafSpan, ReadError> {
    way_to_leaf(reader, cid, offset).await.map(|(_, leaf)| leaf)
}

/// Finds that leaf, and the nodes on the way to it from the root.
pub async fn way_to_leaf(
    reader: &Reader,
    cid: &Cid,
    offset: u64,
) -> Result<(Vec<Cid>, LeafSpan), ReadError> {
    let mut way = Vec::new();
    let mut leaf = LeafSpan {
        start: 0,
        end: 0,
        cid: *cid,
        last: true,
    };
    let mut wanted = 0;
    if cid.codec() != DAG_PB {
        leaf.end = reader.meta(cid).await?.size;
        return Ok((way, leaf));
    }
    for depth in 0..DAG_DEPTH_MAX {
        let node = reader.nodes().get(&leaf.cid).await?;
        let Body::File(file) = &node.body else {
            return Err(match depth {
                0 => ReadError::NotAFile,
                _ => ReadError::malformed(&leaf.cid, Malformed::Kind("a file's part is no file")),
            });
        };
        if depth == 0 {
            leaf.end = file.size;
            wanted = offset.min(file.size.saturating_sub(1));
        }
        let declared = leaf.end - leaf.start;
        if declared != file.size {
            let found = file.size;
            let why = Malformed::ChildSize { declared, found };
            return Err(ReadError::malformed(&leaf.cid, why));
        }
        let inline = file.inline.len() as u64;
        let within = wanted - leaf.start;
        let at = file.parts.partition_point(|part| part.end <= within);
        let Some(part) = file.parts.get(at).filter(|_| within >= inline) else {
            leaf.last &= inline == file.size;
            leaf.end = leaf.start + inline;
            return Ok((way, leaf));
        };
        way.push(leaf.cid);
        let before = at.checked_sub(1).and_then(|i| file.parts.get(i));
        leaf = LeafSpan {
            start: leaf.start + before.map_or(inline, |part| part.end),
            end: leaf.start + part.end,
            cid: part.cid,
            last: leaf.last && part.end == file.size,
        };
        if part.cid.codec() != DAG_PB {
            return Ok((way, leaf));
        }
    }
    Err(ReadError::malformed(cid, Malformed::TooDeep))
}

/// Proves that the bytes of a leaf can be had, and are as many as the nodes
/// above it say. Fetches it where it is far or damaged.
pub async fn prove_leaf(reader: &Reader, leaf: &LeafSpan) -> Result<(), ReadError> {
    let cid = &leaf.cid;
    if cid.codec() == DAG_PB {
        // Its node was read and measured on the way to it.
        return Ok(());
    }
    let blocks = reader.blocks();
    // Reads nothing of a block that was proved before in this run.
    let near = match blocks.read_local(cid, 0, &mut [])? {
        true => blocks.len_local(cid)?,
        false => None,
    };
    let found = match near {
        Some(len) => len,
        None => reader.block(cid).await?.data().len() as u64,
    };
    let declared = leaf.end - leaf.start;
    if declared != found {
        let why = Malformed::ChildSize { declared, found };
        return Err(ReadError::malformed(cid, why));
    }
    Ok(())
}
