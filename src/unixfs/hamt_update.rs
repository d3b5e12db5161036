//! Changes HAMT directories: reads the shards on the changed paths and makes
//! these anew.
//!
//! A slot that comes to hold several entries gets a shard, and a shard that is
//! left with one entry gives way to it, so that the form follows from the set
//! of entries alone. No other shard has to be read for that: one that we made
//! holds two entries or more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::dir_build::NewEntry;
use super::error::{ReadError, UpdateError};
use super::hamt::{self, Shard, Slot};
use super::hamt_build::{self, Child, Shape};
use super::hamt_walk::{Check, Place, form, not_a_shard, walk};
use super::layout::Metadata;
use super::node::{Body, DirEntry, Node};
use super::nodes::Nodes;
use crate::block::Cid;
use crate::config::DAG_DEPTH_MAX;

/// A change of a name, which no other change is of.
pub(super) struct Change<'a> {
    hash: u64,
    name: &'a [u8],
    pub(super) entry: Option<&'a NewEntry>,
}

impl<'a> Change<'a> {
    /// Orders changes by the hashes of their names.
    pub(super) fn ordered(changes: &'a BTreeMap<Bytes, Option<NewEntry>>) -> Vec<Self> {
        let mut ordered: Vec<_> = changes
            .iter()
            .map(|(name, entry)| Self {
                hash: hamt::hash(name),
                name,
                entry: entry.as_ref(),
            })
            .collect();
        ordered.sort_unstable_by_key(|change| change.hash);
        ordered
    }
}

/// The shards of a base that changes touch.
pub(super) struct Paths {
    root: Cid,
    fanout: u32,
    shards: HashMap<Cid, Arc<Node>>,
}

impl Paths {
    /// Reads the shards; `None` where one of them is not as we would make it.
    pub(super) async fn load(
        nodes: &Nodes,
        root: &Cid,
        fanout: u32,
        changes: &[Change<'_>],
    ) -> Result<Option<Self>, ReadError> {
        let mut shards = HashMap::new();
        let touched = |place: Place| {
            let from = changes.partition_point(|c| c.hash < place.prefix);
            changes.get(from).is_some_and(|c| place.holds(c.hash))
        };
        let check = Check::new(root, fanout);
        let keep = |cid: &Cid, node: &Arc<Node>| {
            shards.insert(*cid, Arc::clone(node));
        };
        let sound = walk(nodes, root, Some(&check), touched, keep).await?;
        Ok(sound.then_some(Self {
            root: *root,
            fanout,
            shards,
        }))
    }

    /// What the base has under a change's name.
    pub(super) fn find(&self, change: &Change<'_>) -> Option<&DirEntry> {
        let mut at = &self.root;
        for depth in 0..DAG_DEPTH_MAX {
            match self.shard(at).ok()?.find(change.hash, depth)? {
                Slot::Shard { cid, .. } => at = cid,
                Slot::Entry(entry) | Slot::Hidden(entry) => {
                    return (entry.name == change.name).then_some(entry);
                }
            }
        }
        None
    }

    /// Makes the changed shards; `None` where their CIDs are of another form
    /// than those of the base, so that shards of both kinds would mix.
    pub(super) fn apply(
        &self,
        changes: &[Change<'_>],
        meta: &Metadata,
        seal: &mut impl FnMut(Bytes) -> Result<Cid, UpdateError>,
    ) -> Result<Option<(Cid, u64)>, UpdateError> {
        let mut work = Apply {
            paths: self,
            shape: Shape::new(self.fanout),
            seal,
        };
        let (held, _) = work.shard(&self.root, 0, changes)?;
        let (cid, tsize) = work.seal(&held, meta)?;
        Ok((form(&cid) == form(&self.root)).then_some((cid, tsize)))
    }

    fn shard(&self, cid: &Cid) -> Result<&Shard, ReadError> {
        match self.shards.get(cid).map(|node| &node.body) {
            Some(Body::Shard(shard)) => Ok(shard),
            Some(Body::File(_) | Body::Directory(_) | Body::Symlink(_)) | None => {
                Err(not_a_shard(cid))
            }
        }
    }
}

/// A slot after the changes.
enum Held {
    Entry(NewEntry),
    Shard { cid: Cid, tsize: u64 },
}

impl Held {
    fn of(slot: &Slot) -> Self {
        match slot {
            Slot::Entry(entry) | Slot::Hidden(entry) => Self::Entry(entry.into()),
            Slot::Shard { cid, tsize } => Self::Shard {
                cid: *cid,
                tsize: tsize.unwrap_or(0),
            },
        }
    }

    fn child(&self) -> Child<'_> {
        match self {
            Self::Entry(entry) => Child::Entry(entry),
            Self::Shard { cid, tsize } => Child::Shard {
                cid: cid.to_bytes(),
                tsize: *tsize,
            },
        }
    }
}

struct Apply<'a, S> {
    paths: &'a Paths,
    shape: Shape,
    seal: &'a mut S,
}

impl<S: FnMut(Bytes) -> Result<Cid, UpdateError>> Apply<'_, S> {
    /// The slots of a shard after the changes, and whether one is another.
    fn shard(
        &mut self,
        cid: &Cid,
        depth: usize,
        changes: &[Change<'_>],
    ) -> Result<(Vec<(u32, Held)>, bool), UpdateError> {
        let paths = self.paths;
        let shard = paths.shard(cid)?;
        let mut slots: BTreeMap<u32, (Option<&Slot>, &[Change<'_>])> = BTreeMap::new();
        for (number, slot) in shard.numbered() {
            slots.insert(*number, (Some(slot), &[]));
        }
        let fanout = shard.fanout();
        let number = |change: &Change<'_>| hamt::slot_of(change.hash, fanout, depth);
        for group in changes.chunk_by(|a, b| number(a) == number(b)) {
            let number = group.first().and_then(number);
            let number = number.ok_or(hamt_build::HamtTooDeep)?;
            slots.entry(number).or_insert((None, &[])).1 = group;
        }
        let mut held = Vec::with_capacity(slots.len());
        let mut changed = false;
        for (number, (slot, group)) in slots {
            let after = match (slot, group) {
                (Some(slot), []) => Some(Held::of(slot)),
                (Some(Slot::Shard { cid, tsize }), group) => {
                    self.below((cid, *tsize), depth + 1, group, &mut changed)?
                }
                (Some(Slot::Entry(old) | Slot::Hidden(old)), group) => {
                    self.entries(Some(old), depth + 1, group, &mut changed)?
                }
                (None, group) => self.entries(None, depth + 1, group, &mut changed)?,
            };
            held.extend(after.map(|after| (number, after)));
        }
        Ok((held, changed))
    }

    /// What a slot with a shard holds after changes in that.
    fn below(
        &mut self,
        (cid, tsize): (&Cid, Option<u64>),
        depth: usize,
        changes: &[Change<'_>],
        changed: &mut bool,
    ) -> Result<Option<Held>, UpdateError> {
        let (mut held, other) = self.shard(cid, depth, changes)?;
        if !other {
            let (cid, tsize) = (*cid, tsize.unwrap_or(0));
            return Ok(Some(Held::Shard { cid, tsize }));
        }
        *changed = true;
        if let [] | [(_, Held::Entry(_))] = held.as_slice() {
            return Ok(held.pop().map(|(_, entry)| entry));
        }
        let (cid, tsize) = self.seal(&held, &Metadata::default())?;
        Ok(Some(Held::Shard { cid, tsize }))
    }

    /// What a slot without a shard holds after changes.
    fn entries(
        &mut self,
        old: Option<&DirEntry>,
        depth: usize,
        changes: &[Change<'_>],
        changed: &mut bool,
    ) -> Result<Option<Held>, UpdateError> {
        let stays = old.filter(|old| changes.iter().all(|c| c.name != old.name));
        let new = changes.iter().filter_map(|c| c.entry).cloned();
        let mut entries: Vec<_> = stays.map(NewEntry::from).into_iter().chain(new).collect();
        *changed |= match (old, entries.as_slice()) {
            (None, []) => false,
            (Some(old), [only]) => NewEntry::from(old) != *only,
            _ => true,
        };
        if entries.len() < 2 {
            return Ok(entries.pop().map(Held::Entry));
        }
        let hashed = hamt_build::hashed(&entries);
        let none = Metadata::default();
        let (cid, tsize) = self.shape.shard(&hashed, depth, &none, self.seal)?;
        Ok(Some(Held::Shard { cid, tsize }))
    }

    fn seal(&mut self, held: &[(u32, Held)], meta: &Metadata) -> Result<(Cid, u64), UpdateError> {
        let children: Vec<_> = held.iter().map(|(n, held)| (*n, held.child())).collect();
        self.shape.seal(&children, meta, self.seal)
    }
}
