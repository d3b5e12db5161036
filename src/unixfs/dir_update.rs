//! Changes directories that exist.
//!
//! The result is the root that [`dir_build::build`] gives for the entries that
//! come out, byte for byte, whatever the history: basic directories become
//! HAMTs and HAMTs basic where the threshold says so; one with names that no HAMT
//! can tell apart stays basic. Of a HAMT that stays one
//! only the shards on the paths of the changed names are read and made; the
//! sizes of the others are taken from the links that lead to them.
//!
//! The base may come from anyone. What a mount hides is kept like any other
//! entry (only an entry without a name is dropped: no HAMT can hold it). A HAMT
//! that is not as we would make it, of another fanout for instance, is listed
//! and made anew. Whether it is as we would make it is found out about the
//! shards that are read: all of them where the caller has no [`DirTally`] of
//! the base. So a tally may only be given for what an update or
//! [`dir_build::build`] has made under the same rules.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::dir;
use super::dir_build::{self, DirRules, DirTally, NewEntry};
use super::error::{ReadError, UpdateError};
use super::hamt_update::{Change, Paths};
use super::hamt_walk;
use super::layout::Metadata;
use super::node::{Body, DirEntry};
use super::reader::Reader;
use crate::block::{Cid, DAG_PB};

/// One change of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirChange {
    /// The entry's name.
    pub name: Bytes,
    /// The entry that is there afterwards, of the same name; `None` removes
    /// what is there, if anything is.
    pub entry: Option<NewEntry>,
}

/// A directory after an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdatedDir {
    /// Its root.
    pub cid: Cid,
    /// Bytes of all blocks below and in it.
    pub tsize: u64,
    /// Whether it is a HAMT.
    pub sharded: bool,
    /// Its entries added up, for the next update.
    pub tally: DirTally,
}

/// Applies `changes` in their order to the directory `base`, or to an empty one.
///
/// `seal` takes nodes, children before their parents, and stores them.
pub async fn update_dir(
    reader: &Reader,
    base: Option<(&Cid, Option<DirTally>)>,
    changes: Vec<DirChange>,
    rules: &DirRules,
    meta: &Metadata,
    seal: &mut (impl FnMut(Bytes) -> Result<Cid, UpdateError> + Send),
) -> Result<UpdatedDir, UpdateError> {
    let changes: BTreeMap<Bytes, Option<NewEntry>> =
        changes.into_iter().map(|c| (c.name, c.entry)).collect();
    let Some((cid, tally)) = base else {
        return rebuild(Vec::new(), changes, rules, meta, seal);
    };
    if cid.codec() != DAG_PB {
        return Err(ReadError::NotADirectory.into());
    }
    let root = reader.nodes().get(cid).await?;
    match &root.body {
        Body::Directory(dir) => {
            let all = dir.entries.iter().chain(&dir.hidden);
            let entries = all.map(NewEntry::from).collect();
            return rebuild(entries, changes, rules, meta, seal);
        }
        Body::Shard(_) => {}
        Body::File(_) | Body::Symlink(_) => return Err(ReadError::NotADirectory.into()),
    }
    if let Some(updated) = splice(reader, cid, tally, &changes, rules, meta, seal).await? {
        return Ok(updated);
    }
    let entries = hamt_walk::entries(reader.nodes(), cid).await?;
    rebuild(entries, changes, rules, meta, seal)
}

/// Changes a HAMT in place; `None` where it does not stay one, or is not ours.
async fn splice(
    reader: &Reader,
    cid: &Cid,
    tally: Option<DirTally>,
    changes: &BTreeMap<Bytes, Option<NewEntry>>,
    rules: &DirRules,
    meta: &Metadata,
    seal: &mut (impl FnMut(Bytes) -> Result<Cid, UpdateError> + Send),
) -> Result<Option<UpdatedDir>, UpdateError> {
    let tally = match tally {
        Some(tally) => Some(tally),
        None => hamt_walk::tally(reader.nodes(), cid, rules.fanout).await?,
    };
    let Some(mut tally) = tally else {
        return Ok(None);
    };
    let changes = Change::ordered(changes);
    let paths = Paths::load(reader.nodes(), cid, rules.fanout, &changes).await?;
    let Some(paths) = paths else {
        return Ok(None);
    };
    for change in &changes {
        if let Some(old) = paths.find(change) {
            tally.remove(&NewEntry::from(old));
        }
        if let Some(new) = change.entry {
            tally.add(new);
        }
    }
    if !tally.is_sharded(rules, meta) {
        return Ok(None);
    }
    let made = paths.apply(&changes, meta, seal)?;
    Ok(made.map(|(cid, tsize)| UpdatedDir {
        cid,
        tsize,
        sharded: true,
        tally,
    }))
}

/// Makes a directory of a base's entries and changes from the ground up.
fn rebuild(
    mut entries: Vec<NewEntry>,
    changes: BTreeMap<Bytes, Option<NewEntry>>,
    rules: &DirRules,
    meta: &Metadata,
    seal: &mut impl FnMut(Bytes) -> Result<Cid, UpdateError>,
) -> Result<UpdatedDir, UpdateError> {
    entries.retain(|e| !changes.contains_key(e.name()));
    entries.extend(changes.into_values().flatten());
    entries.retain(|e| !e.name().is_empty());
    entries.sort_by(|a, b| a.name().cmp(b.name()));
    entries.dedup_by(|later, first| later.name() == first.name());
    let tally = DirTally::of(&entries);
    let names = entries.iter().map(NewEntry::name);
    let always_basic = DirRules {
        threshold_bytes: u64::MAX,
        links_max: None,
        ..*rules
    };
    let rules = match tally.is_sharded(rules, meta) && dir::have_one_place(names) {
        true => &always_basic,
        false => rules,
    };
    let built = dir_build::build(entries, rules, meta, seal)?;
    Ok(UpdatedDir {
        cid: built.cid,
        tsize: built.tsize,
        sharded: built.sharded,
        tally,
    })
}

impl From<&DirEntry> for NewEntry {
    fn from(entry: &DirEntry) -> Self {
        Self::new(&entry.name, &entry.cid, entry.tsize.unwrap_or(0))
    }
}
