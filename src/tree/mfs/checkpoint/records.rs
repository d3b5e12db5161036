//! The records of a checkpoint: what UnixFS cannot say.

use std::collections::{BTreeMap, HashSet};

use crate::block::Cid;
use crate::config::RECORDS_PAGE;
use crate::tree::error::TreeError;
use crate::tree::posix::key;
use crate::tree::posix::record::{
    self, Dentry, DentryBody, Number, Place, Posix, RecordError, Special, Tally,
};
use crate::tree::posix::{self, MapError};

use super::Built;
use super::plan::{Recorded, Snapshot};
use crate::tree::mfs::Mfs;
use crate::tree::mfs::chunks::seal::OwnBlocks;
use crate::tree::mfs::nodes::node::{Inode, Name};
use crate::tree::mfs::types::{NodeId, NodeKind};

/// Name of the record of the root, which no directory has.
pub(in crate::tree::mfs) const ROOT_NAME: &[u8] = b"/";
/// Name of the record with the count of nodes that were made.
pub(in crate::tree::mfs) const NEXT: &str = "next";

/// What a record holds of each name of a node beside its bytes, at most.
const NAME_ITEM_BYTES: usize = 16;

type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl Mfs {
    /// Writes the records of a snapshot; gives the new map.
    pub(super) async fn write_records(
        &self,
        snapshot: &mut Snapshot,
        built: &Built,
    ) -> Result<Option<Cid>, TreeError> {
        let mut changes = Changes::new();
        for (parent, name) in &snapshot.dropped {
            changes.insert(key::dentry(parent.number(), name), None);
        }
        let there = snapshot.records.iter().map(|one| one.node.number());
        let there: HashSet<u64> = there.collect();
        for node in &snapshot.gone {
            changes.insert(key::inode(node.number()), None);
            let posix = snapshot.posix.as_ref();
            self.drop_records_below(posix, *node, &there, &mut changes)
                .await?;
        }
        for one in std::mem::take(&mut snapshot.records) {
            let tally = built
                .directories
                .get(&one.node)
                .map(|updated| updated.tally)
                .or(one.tally);
            let tally = tally.map(|tally| Tally {
                entries: tally.entries,
                links_bytes: tally.links_bytes,
                names_bytes: tally.names_bytes,
            });
            record_node(&one, tally, &mut changes)?;
        }
        changes.insert(key::state(NEXT), Some(Number(snapshot.next).encode()));
        let sink = OwnBlocks(&self.blocks);
        Ok(self
            .map
            .apply(snapshot.posix.as_ref(), changes, &sink)
            .await?)
    }

    /// Drops the records of a directory that is gone, and of what was below it
    /// and is not `there` any more: what was moved away keeps its own.
    async fn drop_records_below(
        &self,
        posix: Option<&Cid>,
        node: NodeId,
        there: &HashSet<u64>,
        changes: &mut Changes,
    ) -> Result<(), TreeError> {
        let Some(root) = posix else { return Ok(()) };
        let mut open = vec![node.number()];
        while let Some(directory) = open.pop() {
            let place = key::place(directory);
            if self.map.get(root, &place).await?.is_none() {
                // No directory, or one of which nothing was ever recorded.
                continue;
            }
            changes.entry(place).or_insert(None);
            let (mut from, until) = key::dentries(directory);
            loop {
                let page = self
                    .map
                    .range(root, &from, Some(&until), RECORDS_PAGE)
                    .await?;
                for (at, value) in &page {
                    let below = Dentry::decode(value)?.node;
                    if !there.contains(&below) {
                        open.push(below);
                    }
                    changes.entry(at.to_vec()).or_insert(None);
                }
                match page.last() {
                    Some((last, _)) if page.len() == RECORDS_PAGE => {
                        from = [&last[..], &[0]].concat();
                    }
                    _ => break,
                }
            }
        }
        Ok(())
    }
}

/// Sets the records of one node.
fn record_node(
    Recorded {
        node, inode, holes, ..
    }: &Recorded,
    tally: Option<Tally>,
    changes: &mut Changes,
) -> Result<(), RecordError> {
    let node = *node;
    let mut posix = posix_of(inode);
    posix.check()?;
    posix.holes.clone_from(holes);
    let names = inode.links().into_iter().flat_map(|links| links.iter());
    posix.fit_holes(names.map(|(_, name)| name.len() + NAME_ITEM_BYTES).sum());
    let number = node.number();
    let directories = inode
        .directory()
        .and_then(|directory| directory.directories);
    let mut at = |parent: u64, name: &[u8], body: DentryBody| {
        let dentry = Dentry {
            node: number,
            body,
            tally,
            directories,
        };
        changes.insert(key::dentry(parent, name), Some(dentry.encode()));
    };
    if node == NodeId::ROOT {
        at(0, ROOT_NAME, DentryBody::Inline(posix));
        return Ok(());
    }
    match inode.links() {
        Some(links) if links.len() > 1 => {
            for (parent, name) in links.iter() {
                at(parent.number(), name, DentryBody::Linked);
            }
            let plain = |(parent, name): &(NodeId, Name)| (parent.number(), name.to_vec());
            let links = links.iter().map(plain).collect();
            let inode = record::Inode { posix, links };
            changes.insert(key::inode(number), Some(inode.encode()));
        }
        links => {
            if let Some((parent, name)) = &inode.home {
                at(parent.number(), name, DentryBody::Inline(posix));
                if inode.kind == NodeKind::Directory {
                    let place = Place {
                        parent: parent.number(),
                        name: name.to_vec(),
                    };
                    changes.insert(key::place(number), Some(place.encode()));
                }
            }
            if links.is_some() {
                changes.insert(key::inode(number), None);
            }
        }
    }
    Ok(())
}

fn posix_of(inode: &Inode) -> Posix {
    Posix {
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        atime: inode.atime.into(),
        mtime: inode.mtime.into(),
        ctime: inode.ctime.into(),
        rdev: inode.rdev().into(),
        xattrs: inode
            .xattrs()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect(),
        special: match inode.kind {
            NodeKind::Fifo => Some(Special::Fifo),
            NodeKind::Socket => Some(Special::Socket),
            NodeKind::CharDevice => Some(Special::Char),
            NodeKind::BlockDevice => Some(Special::Block),
            NodeKind::File | NodeKind::Directory | NodeKind::Symlink => None,
        },
        holes: Vec::new(),
    }
}

impl From<MapError> for TreeError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Block(error) => crate::unixfs::ReadError::Block(error).into(),
            MapError::Malformed { cid, why } => Self::Malformed {
                cid,
                why: why.to_string(),
            },
            MapError::Sink(error) if crate::disk::is_full(&error) => {
                Self::NoSpace(error.to_string())
            }
            other @ (MapError::KeyTooLong { .. }
            | MapError::ValueTooLong { .. }
            | MapError::Sink(_)) => Self::Failed(other.to_string()),
        }
    }
}

impl From<posix::record::RecordError> for TreeError {
    fn from(error: posix::record::RecordError) -> Self {
        Self::Unavailable(format!("a record of the tree is malformed: {error}"))
    }
}
