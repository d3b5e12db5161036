//! Loads much of a directory at once.
//!
//! A listing goes by the hashes of names, and records stand in the order of the
//! names themselves: looked for one by one, nearly each would be in another
//! block, and a large directory has more of these than are kept. So a run of
//! names is loaded together. The records are gone through once, in their own
//! order, for all of them; memory is bounded by the longest run.
//!
//! Only what is near is loaded. The rest, and what cannot be read, is left to
//! who loads names one by one, and meets the error there.

use bytes::Bytes;
use futures::FutureExt;

use super::load::{Loaded, Recorded, Sealing, install, sealed_of};
use crate::block::Cid;
use crate::config::{BULK_NAMES_MAX, BULK_NAMES_MIN, BULK_RATIO, RECORDS_PAGE};
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::nodes::node::{Key, Name, Sealed, To, place_of};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::types::NodeId;
use crate::tree::posix::{key, record};
use crate::unixfs::{Meta, MetaKind};

/// What UnixFS says of a name that is to be loaded.
#[derive(Default)]
struct Wanted {
    /// Content, and whether its size is said.
    entry: Option<(Sealed, bool)>,
    /// Whether its record was met.
    is_met: bool,
}

/// Names to load, in order, and what each leads to.
#[derive(Default)]
struct Run {
    keys: Vec<Key>,
    wanted: Vec<Wanted>,
}

impl Run {
    /// A name that is to be loaded, whose record was met.
    fn meet(&mut self, at: &[u8]) -> Option<(&Name, &Wanted)> {
        let place = place_of(&self.keys, named(at)?)?;
        let wanted = self.wanted.get_mut(place)?;
        wanted.is_met = true;
        Some((&self.keys.get(place)?.name, wanted))
    }
}

impl Mfs {
    /// Loads the entries of a directory from the name `from` on: as many as a
    /// listing that has come so far will soon want.
    pub(in crate::tree::mfs) async fn load_ahead(&self, dir: NodeId, from: &Name) {
        if let Err(error) = self.try_load_ahead(dir, from).await {
            tracing::debug!(%error, "entries are loaded one by one");
        }
    }

    async fn try_load_ahead(&self, dir: NodeId, from: &Name) -> Result<(), TreeError> {
        let sealing = self.sealing(dir)?;
        let keys = {
            let mut state = self.state.lock();
            // Before, so that what is loaded now is still there when it is asked for.
            self.trim(&mut state, Some(dir));
            next_names(&state, dir, from)
        };
        if keys.is_empty() {
            return Ok(());
        }
        let mut run = self.run(&sealing, keys);
        let Some(root) = &sealing.posix else {
            self.load_unrecorded(dir, &sealing, run);
            return Ok(());
        };
        let (mut from, until) = key::dentries(dir.number());
        loop {
            let place = |at: &[u8]| place_of(&run.keys, named(at)?);
            let is_wanted = |at: &[u8]| place(at).is_some();
            let range = (&from[..], Some(&until[..]));
            let page = self.map.select(root, range, RECORDS_PAGE, is_wanted);
            let page = page.await?;
            let mut loaded = Vec::with_capacity(page.entries.len());
            for (at, value) in &page.entries {
                let one = run.meet(at);
                loaded.extend(one.and_then(|one| self.recorded(dir, one, value)));
            }
            if !self.install_all(dir, &sealing, loaded) {
                return Ok(());
            }
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        self.load_unrecorded(dir, &sealing, run);
        Ok(())
    }

    /// Looks names up in the blocks of the directory, up to the first that is far.
    fn run(&self, sealing: &Sealing, keys: Vec<Key>) -> Run {
        let mut wanted = Vec::with_capacity(keys.len());
        for key in &keys {
            let entry = match &sealing.base {
                Some(base) => match self.reader.find(base, &key.name).now_or_never() {
                    Some(Ok(entry)) => entry,
                    Some(Err(_)) | None => break,
                },
                None => None,
            };
            wanted.push(Wanted {
                entry: entry.map(|entry| (sealed_of(&entry), entry.tsize.is_some())),
                is_met: false,
            });
        }
        let mut keys = keys;
        keys.truncate(wanted.len());
        Run { keys, wanted }
    }

    /// A node of its record and of what UnixFS says, if both are near.
    fn recorded(
        &self,
        dir: NodeId,
        (name, one): (&Name, &Wanted),
        value: &Bytes,
    ) -> Option<(Name, Loaded)> {
        let dentry = record::Dentry::decode(value).ok()?;
        // What has several names needs another record.
        let recorded = Recorded::of(dentry).ok()?;
        let content = match &one.entry {
            _ if recorded.known.special.is_some() => None,
            Some((sealed, is_sized)) => {
                let cid = sealed.cid.get();
                let meta = match recorded.meta(&cid, is_sized.then_some(sealed.tsize)) {
                    Some(meta) => meta,
                    None => self.reader.meta_local(&cid).ok()??,
                };
                Some(self.content_near(sealed, &cid, meta)?)
            }
            None => None,
        };
        self.whole((dir, name), content, Some(recorded))
    }

    /// Loads of a run what has no record.
    fn load_unrecorded(&self, dir: NodeId, sealing: &Sealing, run: Run) {
        let mut loaded = Vec::new();
        let all = run.keys.iter().zip(&run.wanted);
        for (key, one) in all.filter(|(_, one)| !one.is_met) {
            let Some((sealed, _)) = &one.entry else {
                continue;
            };
            let cid = sealed.cid.get();
            let Ok(Some(meta)) = self.reader.meta_local(&cid) else {
                continue;
            };
            let content = self.content_near(sealed, &cid, meta);
            let at = (dir, &key.name);
            loaded.extend(content.and_then(|content| self.whole(at, Some(content), None)));
            if loaded.len() >= RECORDS_PAGE
                && !self.install_all(dir, sealing, std::mem::take(&mut loaded))
            {
                return;
            }
        }
        self.install_all(dir, sealing, loaded);
    }

    /// Content with the target that it has if it is a symbolic link.
    fn content_near(
        &self,
        sealed: &Sealed,
        cid: &Cid,
        meta: Meta,
    ) -> Option<(Sealed, Meta, Bytes)> {
        let target = match meta.kind {
            MetaKind::Symlink => self.reader.readlink(cid).now_or_never()?.ok()?,
            MetaKind::File | MetaKind::Directory => Bytes::new(),
        };
        Some((sealed.clone(), meta, target))
    }

    fn whole(
        &self,
        (dir, name): (NodeId, &Name),
        content: Option<(Sealed, Meta, Bytes)>,
        recorded: Option<Recorded>,
    ) -> Option<(Name, Loaded)> {
        let loaded = self.assemble((dir, name), content, recorded).ok()??;
        Some((name.clone(), loaded))
    }

    /// Puts nodes into the tree; false where what they were made of holds no longer.
    fn install_all(&self, dir: NodeId, sealing: &Sealing, all: Vec<(Name, Loaded)>) -> bool {
        let mut state = self.state.lock();
        if !sealing.holds(&state, dir) {
            return false;
        }
        self.background.moved(all.len());
        for (name, loaded) in all {
            install(&mut state, dir, &name, Some(loaded));
        }
        true
    }
}

/// The name that the key of a record is of.
fn named(at: &[u8]) -> Option<&[u8]> {
    match key::Key::decode(at) {
        Some(key::Key::Dentry { name, .. }) => Some(name),
        Some(_) | None => None,
    }
}

/// The names from `from` on that are to be loaded together; none where one by
/// one is less work, because there are few in much.
fn next_names(state: &State, dir: NodeId, from: &Name) -> Vec<Key> {
    let Ok(directory) = state.directory(dir) else {
        return Vec::new();
    };
    let from = Key::of(from.clone());
    // Who has listed much will list more.
    let before = directory.entries.range(..&from).rev();
    let behind = before
        .take(BULK_NAMES_MAX)
        .take_while(|(_, dentry)| matches!(dentry.to(), To::Node(_)))
        .count();
    let most = (8 * behind).clamp(BULK_NAMES_MIN, BULK_NAMES_MAX);
    if most.saturating_mul(BULK_RATIO) < directory.entries.len() {
        return Vec::new();
    }
    let ahead = directory.entries.range(from..).take(most);
    let unloaded = ahead.filter(|(_, dentry)| dentry.to() == To::Unloaded);
    unloaded.map(|(key, _)| key.clone()).collect()
}
