//! The blocks of a DAG that someone with another DAG lacks.
//!
//! Both are walked side by side. A child that the old node has too is skipped
//! with all below it; the others are paired by name, or else by place, and
//! looked into together. Pairing is only a guess where to look: whatever it
//! finds, all that is left out is below the old root.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::PushError;
use crate::block::{Block, Cid, DAG_PB, RAW};
use crate::cache::Blocks;
use crate::config::PUSH_MET_MAX;
use crate::unixfs::dag_pb::PbNode;
use crate::unixfs::links::links;

/// Old nodes that are remembered as lost; the oldest are forgotten.
const LOST_MAX: usize = 4096;

/// What a walk meets next.
pub(super) enum Step {
    /// A block that is lacked there. Of raw leaves the bytes are only there if
    /// they are wanted.
    Block {
        /// The block.
        cid: Cid,
        /// Its length.
        len: u64,
        /// Its bytes.
        data: Option<Bytes>,
    },
    /// A block that is not here. [`Walk::give`] goes on with it.
    Absent(Absent),
    /// That was all.
    End,
}

/// A block that is not here, and the old node at its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absent {
    pub(super) cid: Cid,
    old: Option<Cid>,
}

/// CIDs, up to a number of them; those beyond are not remembered.
#[derive(Debug, Clone, Default)]
struct Met(HashSet<u128>);

impl Met {
    /// Notes a CID; false where it was met before.
    fn note(&mut self, cid: &Cid) -> bool {
        match self.0.len() < PUSH_MET_MAX {
            true => self.0.insert(key(cid)),
            false => !self.has(cid),
        }
    }

    fn has(&self, cid: &Cid) -> bool {
        self.0.contains(&key(cid))
    }
}

/// The end of the hash, which no chance repeats, and the codec: it decides the links.
fn key(cid: &Cid) -> u128 {
    let digest = cid.hash().digest();
    let tail = digest.iter().rev().take(16);
    let tail = tail.fold(0_u128, |all, byte| (all << 8) | u128::from(*byte));
    tail ^ u128::from(cid.codec())
}

/// A walk over what a new DAG has and an old one has not.
pub(super) struct Walk {
    blocks: Arc<Blocks>,
    /// New nodes, each with an old one: they come first, since they show what is known.
    paired: Vec<(Cid, Cid)>,
    fresh: Vec<Cid>,
    /// Old nodes that are gone from their places: what is fresh may be one of them, changed.
    lost: Vec<Cid>,
    /// What is below the old root.
    known: Met,
    met: Met,
    with_bytes: bool,
}

impl Walk {
    /// Starts at both roots; `with_bytes` gives the bytes of leaves too.
    pub(super) fn new(blocks: Arc<Blocks>, new: Cid, old: Option<Cid>) -> Self {
        let mut walk = Self {
            blocks,
            paired: Vec::new(),
            fresh: Vec::new(),
            lost: Vec::new(),
            known: Met::default(),
            met: Met::default(),
            with_bytes: false,
        };
        walk.open(new, old);
        if let Some(old) = old {
            walk.known.note(&old);
        }
        walk
    }

    /// The same walk again, with bytes, and with what is known now: it leaves out
    /// what was moved, too.
    pub(super) fn again(self, new: Cid, old: Option<Cid>) -> Self {
        let mut walk = Self {
            met: Met::default(),
            lost: Vec::new(),
            with_bytes: true,
            ..self
        };
        walk.open(new, old);
        walk
    }

    fn open(&mut self, new: Cid, old: Option<Cid>) {
        match old {
            Some(old) if new.codec() != RAW && old.codec() != RAW => self.paired.push((new, old)),
            Some(_) | None => self.fresh.push(new),
        }
    }

    /// What comes next. Waits for the disk, never for a source.
    pub(super) fn next(&mut self) -> Result<Step, PushError> {
        loop {
            let (cid, old) = match self.paired.pop() {
                Some((new, old)) => (new, Some(old)),
                None => match self.fresh.pop() {
                    Some(new) if new.codec() == RAW || self.known.has(&new) => (new, None),
                    Some(new) => (new, self.lost.pop()),
                    None => return Ok(Step::End),
                },
            };
            if self.known.has(&cid) || !self.met.note(&cid) {
                continue;
            }
            if let Some(inline) = Block::inline(&cid) {
                // It goes with whoever links to it.
                let block = inline.map_err(|error| PushError::Content(error.to_string()))?;
                self.enter(&block, old)?;
                continue;
            }
            if cid.codec() == RAW && !self.with_bytes {
                if let Some(len) = self.blocks.len_local(&cid).map_err(unreadable)? {
                    return Ok(Step::Block {
                        cid,
                        len,
                        data: None,
                    });
                }
                return Ok(Step::Absent(Absent { cid, old }));
            }
            return match self.blocks.get_local(&cid).map_err(unreadable)? {
                Some(block) => self.give(&block, Absent { cid, old }),
                None => Ok(Step::Absent(Absent { cid, old })),
            };
        }
    }

    /// Goes on with a block that was absent.
    pub(super) fn give(&mut self, block: &Block, at: Absent) -> Result<Step, PushError> {
        self.enter(block, at.old)?;
        Ok(Step::Block {
            cid: at.cid,
            len: block.data().len() as u64,
            data: self.with_bytes.then(|| block.data().clone()),
        })
    }

    /// Notes what a block links to.
    fn enter(&mut self, block: &Block, old: Option<Cid>) -> Result<(), PushError> {
        let new = named_links(block)?;
        let old = match old {
            Some(old) => self.blocks.get_local(&old).map_err(unreadable)?,
            None => None,
        };
        // What cannot be understood of the old one only makes more to send.
        let old = old.and_then(|old| named_links(&old).ok());
        match old {
            Some(old) => self.pair(new, old),
            None => self.fresh.extend(new.into_iter().rev().map(|(_, cid)| cid)),
        }
        Ok(())
    }

    fn pair(&mut self, new: Vec<(Bytes, Cid)>, old: Vec<(Bytes, Cid)>) {
        for (_, cid) in &old {
            self.known.note(cid);
        }
        let both: HashSet<Cid> = new.iter().map(|(_, cid)| *cid).collect();
        let gone = old.into_iter().filter(|(_, cid)| !both.contains(cid));
        let gone = gone.filter(|(_, cid)| cid.codec() != RAW);
        let mut by_name: HashMap<Bytes, Cid> = HashMap::new();
        let mut nameless = Vec::new();
        for (name, cid) in gone {
            match name.is_empty() {
                true => nameless.push(cid),
                false => drop(by_name.insert(name, cid)),
            }
        }
        let mut left = Vec::new();
        for (name, cid) in new {
            if self.known.has(&cid) {
                continue;
            }
            match by_name.remove(&name) {
                Some(old) => self.open(cid, Some(old)),
                None if cid.codec() == RAW => self.fresh.push(cid),
                None => left.push(cid),
            }
        }
        // What was renamed and changed at once: in the order of names, as likely as any.
        let mut renamed: Vec<(Bytes, Cid)> = by_name.into_iter().collect();
        renamed.sort_unstable();
        nameless.extend(renamed.into_iter().map(|(_, cid)| cid));
        let mut rest = nameless.into_iter();
        for cid in left {
            self.open(cid, rest.next());
        }
        self.lost.extend(rest);
        let most = self.lost.len().saturating_sub(LOST_MAX);
        self.lost.drain(..most);
    }
}

fn unreadable(error: crate::cache::CacheError) -> PushError {
    PushError::Content(error.to_string())
}

/// What a block links to; names where it has them.
fn named_links(block: &Block) -> Result<Vec<(Bytes, Cid)>, PushError> {
    let malformed = |error: crate::unixfs::Malformed| {
        PushError::Content(format!("{} is malformed: {error}", block.cid()))
    };
    if block.cid().codec() == DAG_PB {
        let node = PbNode::decode(block.data()).map_err(malformed)?;
        let named = node.links.into_iter();
        return Ok(named
            .map(|link| (link.name.unwrap_or_default(), link.cid))
            .collect());
    }
    let plain = links(block).map_err(malformed)?;
    Ok(plain.into_iter().map(|cid| (Bytes::new(), cid)).collect())
}
