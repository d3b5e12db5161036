//! Looks up in directories and lists them, basic and HAMT.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::dir_build::{DirTally, NewEntry};
use super::error::{Malformed, ReadError};
use super::hamt::{self, Slot};
use super::node::{Body, DirEntry, Node};
use super::nodes::Nodes;
use crate::block::{Cid, DAG_PB};
use crate::config::{DAG_DEPTH_MAX, FETCHES_PER_REQUEST_MAX, LISTING_ENTRIES_MAX};

/// Finds an entry; in a HAMT only the shards on its path are read.
pub(super) async fn find(
    nodes: &Nodes,
    cid: &Cid,
    name: &[u8],
) -> Result<Option<DirEntry>, ReadError> {
    match place(nodes, cid, name).await? {
        Placed::Basic(node) => match &node.body {
            Body::Directory(dir) => Ok(dir.find(name).cloned()),
            Body::Shard(_) | Body::File(_) | Body::Symlink(_) => Err(ReadError::NotADirectory),
        },
        Placed::Slot(Some(entry)) => Ok((entry.name == name).then_some(entry)),
        Placed::Slot(None) => Ok(None),
    }
}

/// Finds another name with the hash of `name`, as far as names are placed by it.
pub(super) async fn twin(
    nodes: &Nodes,
    cid: &Cid,
    name: &[u8],
) -> Result<Option<Bytes>, ReadError> {
    let wanted = place_in_hamt(name);
    let is_twin = |other: &DirEntry| other.name != name && place_in_hamt(&other.name) == wanted;
    Ok(match place(nodes, cid, name).await? {
        Placed::Basic(node) => match &node.body {
            Body::Directory(dir) => {
                let found = dir.entries.iter().find(|entry| is_twin(entry));
                found.map(|entry| entry.name.clone())
            }
            Body::Shard(_) | Body::File(_) | Body::Symlink(_) => None,
        },
        Placed::Slot(entry) => entry.filter(is_twin).map(|entry| entry.name),
    })
}

/// What a HAMT finds a name by.
fn place_in_hamt(name: &[u8]) -> u64 {
    hamt::hash(name) >> 4
}

/// Whether no HAMT can hold all of these names.
pub(super) fn have_one_place<'a>(names: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut met = HashSet::new();
    let mut places = names.map(place_in_hamt);
    places.any(|place| !met.insert(place))
}

/// Bytes of a basic directory that cannot become a HAMT, because names in it
/// have one place there; `None` of any other directory.
pub(super) async fn stays_basic(nodes: &Nodes, cid: &Cid) -> Result<Option<u64>, ReadError> {
    if cid.codec() != DAG_PB {
        return Err(ReadError::NotADirectory);
    }
    let node = nodes.get(cid).await?;
    let Body::Directory(dir) = &node.body else {
        return Ok(None);
    };
    let entries: Vec<_> = dir
        .entries
        .iter()
        .chain(&dir.hidden)
        .map(NewEntry::from)
        .collect();
    let stays = have_one_place(entries.iter().map(NewEntry::name));
    Ok(stays.then(|| DirTally::of(&entries).links_bytes))
}

/// Where a name has its place in a directory.
enum Placed {
    /// Anywhere among the entries of this node.
    Basic(Arc<Node>),
    /// In a slot of a HAMT, which has this entry.
    Slot(Option<DirEntry>),
}

async fn place(nodes: &Nodes, cid: &Cid, name: &[u8]) -> Result<Placed, ReadError> {
    if cid.codec() != DAG_PB {
        return Err(ReadError::NotADirectory);
    }
    let hash = hamt::hash(name);
    let mut at = *cid;
    for depth in 0..DAG_DEPTH_MAX {
        let node = nodes.get(&at).await?;
        let shard = match &node.body {
            Body::Directory(_) if depth == 0 => return Ok(Placed::Basic(Arc::clone(&node))),
            Body::Shard(shard) => shard,
            Body::Directory(_) | Body::File(_) | Body::Symlink(_) if depth > 0 => {
                return Err(ReadError::malformed(
                    &at,
                    Malformed::Hamt("child is not a shard"),
                ));
            }
            Body::Directory(_) | Body::File(_) | Body::Symlink(_) => {
                return Err(ReadError::NotADirectory);
            }
        };
        match shard.find(hash, depth) {
            Some(Slot::Shard { cid, .. }) => at = *cid,
            Some(Slot::Entry(entry)) => return Ok(Placed::Slot(Some(entry.clone()))),
            Some(Slot::Hidden(_)) | None => return Ok(Placed::Slot(None)),
        }
    }
    Err(ReadError::malformed(&at, Malformed::TooDeep))
}

/// Lists all entries.
pub(super) async fn entries(nodes: &Nodes, cid: &Cid) -> Result<Vec<DirEntry>, ReadError> {
    let mut found = Vec::new();
    each(nodes, cid, |entry| found.push(entry.clone())).await?;
    Ok(found)
}

/// Tells `each` all entries; the shards of a level are read side by side.
pub(super) async fn each(
    nodes: &Nodes,
    cid: &Cid,
    mut each: impl FnMut(&DirEntry),
) -> Result<(), ReadError> {
    if cid.codec() != DAG_PB {
        return Err(ReadError::NotADirectory);
    }
    let root = nodes.get(cid).await?;
    match &root.body {
        Body::Directory(dir) => {
            dir.entries.iter().for_each(each);
            return Ok(());
        }
        Body::Shard(_) => {}
        Body::File(_) | Body::Symlink(_) => return Err(ReadError::NotADirectory),
    }
    let mut found = 0;
    let mut level = vec![*cid];
    for _ in 0..DAG_DEPTH_MAX {
        let mut next = Vec::new();
        let mut shards = stream::iter(level)
            .map(|cid| async move { nodes.get(&cid).await.map(|node| (cid, node)) })
            .buffered(FETCHES_PER_REQUEST_MAX);
        while let Some((cid, node)) = shards.try_next().await? {
            let Body::Shard(shard) = &node.body else {
                return Err(ReadError::malformed(
                    &cid,
                    Malformed::Hamt("child is not a shard"),
                ));
            };
            for slot in shard.slots() {
                match slot {
                    Slot::Entry(entry) => {
                        found += 1;
                        each(entry);
                    }
                    Slot::Shard { cid, .. } => next.push(*cid),
                    Slot::Hidden(_) => {}
                }
            }
            // A shard that links to itself many times over must not fill the memory.
            if found + next.len() > LISTING_ENTRIES_MAX {
                return Err(ReadError::malformed(
                    &cid,
                    Malformed::Hamt("too many entries"),
                ));
            }
        }
        if next.is_empty() {
            return Ok(());
        }
        level = next;
    }
    Err(ReadError::malformed(cid, Malformed::TooDeep))
}
