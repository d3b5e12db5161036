//! Checkpoints: the tree as one root CID.
//!
//! First, beside everybody else, changed files are sealed. Then, under the
//! lock, what changed is written down as of one moment; what that refers to is
//! made into blocks without the lock, from the leaves up. When the blocks are
//! safe a frame names the commit object, and what has not changed since is
//! clean. A crash before the frame leaves the checkpoint before it in force.

pub(super) mod chain;
pub(super) mod head;
pub(super) mod held;
pub(super) mod plan;
pub(super) mod records;

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::nodes::extents;
use crate::block::Cid;
use crate::cache::Referring;
use crate::config::GIVE_BACK_NODES_MIN;
use crate::journal::{Class, JournalError, Seq, TxId};
use crate::tree::error::TreeError;
use crate::tree::posix::commit::Commit;
use crate::unixfs::dir_build::NewEntry;
use crate::unixfs::dir_update::{DirChange, UpdatedDir, update_dir};
use crate::unixfs::layout::Metadata;

use super::Mfs;
use super::calls::content::store_failed;
use super::changes::op::{Logged, Op};
use super::chunks::ahead::Gate;
use super::chunks::seal::{OwnBlocks, put_sealed, sync_blocks};
use super::nodes::node::{Base, Body, Directory, Sealed, To};
use super::nodes::small_cid::SmallCid;
use super::nodes::state::State;
use super::types::{NodeId, NodeKind, Time};
use plan::{Child, Leaf, Snapshot};

/// A checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpointed {
    /// The last change that is in it.
    pub sequence: u64,
    /// When it was made.
    pub time: Time,
    /// Its commit object.
    pub commit: Cid,
    /// The tree as UnixFS.
    pub root: Cid,
    /// What UnixFS cannot say; `None` where there is nothing.
    pub posix: Option<Cid>,
}

impl Mfs {
    /// Makes a checkpoint of everything acknowledged so far; gives the last one
    /// where nothing has changed since.
    pub async fn checkpoint(&self) -> Result<Checkpointed, TreeError> {
        let only = self.checkpointing.lock().await;
        self.checkpoint_alone(only, true).await
    }

    /// Makes one to look at the tree as it is now. Where that comes soon after
    /// another, the next takes its place among those that are kept: who looks
    /// often must not push history out.
    pub async fn checkpoint_in_passing(&self) -> Result<Checkpointed, TreeError> {
        let only = self.checkpointing.lock().await;
        self.checkpoint_alone(only, false).await
    }

    /// As `checkpoint`, for who has seen to it that no other is made.
    pub(super) async fn checkpoint_alone(
        &self,
        _only: tokio::sync::MutexGuard<'_, ()>,
        stays: bool,
    ) -> Result<Checkpointed, TreeError> {
        let mut made = self.make_checkpoint(stays, false).await;
        // How much it needs is not known, and nothing frees more than it does.
        while matches!(made, Err(TreeError::NoSpace(_))) && self.give_up_history() > 0 {
            made = self.make_checkpoint(stays, false).await;
        }
        if stays && made.is_ok() {
            // It stays, even if it was made in passing: the caller wants it kept.
            self.passing.store(false, Ordering::Relaxed);
        }
        if made.is_ok() && self.journal.is_short() {
            self.make_room_for_removals().await;
        }
        *self.checkpoint_failed.lock() = made.as_ref().err().map(ToString::to_string);
        made
    }

    /// Gives the journal room again on a full disk. A recovery may begin with the
    /// checkpoint before the newest: while that is in an earlier segment, another is
    /// made, which costs a block or two and whose place the next one takes.
    async fn make_room_for_removals(&self) {
        self.replenish();
        for _ in 0..2 {
            let newer = self.history.before() >= self.journal.current_segment();
            if newer || !self.journal.is_short() {
                break;
            }
            self.passing.store(false, Ordering::Relaxed);
            if let Err(error) = self.make_checkpoint(false, true).await {
                tracing::warn!(%error, "no second checkpoint, so that no entries can be given up");
                break;
            }
        }
        self.replenish();
        self.background
            .in_reserve(self.journal.in_reserve(), false, false);
    }

    /// Makes one, or gives the last where nothing has changed since; `anyway`
    /// another one all the same.
    async fn make_checkpoint(&self, stays: bool, anyway: bool) -> Result<Checkpointed, TreeError> {
        self.journal.check()?;
        let last = self.kept.lock().last().copied();
        if let Some(last) = last {
            let state = self.state.lock();
            if state.is_as_checkpointed() && !anyway {
                // What was journaled since has changed nothing.
                self.counted_off(self.counted());
                self.none_due();
                return Ok(last);
            }
        }
        let _under_way = self.background.making();
        // No collection begins before what is made here is named.
        let _adding = self.blocks.own_sink();
        let stuck = self.seal_dirty_files().await?;
        let mut snapshot = self.snapshot(&stuck).await?;
        snapshot.stuck = stuck;
        let _making = Making(&self.state);
        let is_large = snapshot.nodes.len() >= GIVE_BACK_NODES_MIN;
        let made = self.put_in_force(snapshot, stays).await?;
        if is_large {
            crate::memory::give_back();
        }
        Ok(made)
    }

    /// Makes the blocks of a snapshot and puts it in force.
    async fn put_in_force(
        &self,
        mut snapshot: Snapshot,
        stays: bool,
    ) -> Result<Checkpointed, TreeError> {
        let built = self.build(&mut snapshot).await?;
        // The kept ones are those that lead to each other, also after a restart.
        let parent = {
            let kept = self.kept.lock();
            let passed = usize::from(self.passing.load(Ordering::Relaxed));
            kept.iter().rev().nth(passed).map(|one| one.commit)
        };
        let commit = Commit {
            sequence: snapshot.sequence,
            time: self.now(),
            parent,
            root: built.root,
            posix: built.posix,
        };
        let block = commit
            .seal()
            .map_err(|error| TreeError::Failed(error.to_string()))?;
        let cid = *block.cid();
        self.blocks.put_reserved(block).map_err(store_failed)?;
        sync_blocks(&self.blocks)?;
        let made = Checkpointed {
            sequence: commit.sequence,
            time: commit.time,
            commit: cid,
            root: built.root,
            posix: built.posix,
        };
        self.install(&snapshot, &built, made, stays)?;
        Ok(made)
    }

    /// Writes the frame and makes clean what has not changed since.
    fn install(
        &self,
        snapshot: &Snapshot,
        built: &Built,
        made: Checkpointed,
        stays: bool,
    ) -> Result<(), TreeError> {
        // A power loss must not leave this entry, and tear those that it stands for.
        self.journal.sync(Seq(made.sequence))?;
        {
            let mut state = self.state.lock();
            let before = self.counted();
            // After the last entry that is in it, and only if it comes into force.
            self.journal_again(&mut state, &snapshot.before, &snapshot.stuck)?;
            let after = self.counted();
            self.counted_off((after.0 - before.0, after.1 - before.1));
            self.log_checkpoint(&made)?;
            settle(&mut state, snapshot, built);
            self.trim(&mut state, None);
            self.counted_off(snapshot.counted);
            self.none_due();
            self.background.changed(state.changed_bytes());
        }
        let mut kept = self.kept.lock();
        if self.passing.load(Ordering::Relaxed) {
            kept.pop();
        }
        let since = kept.last().map(|one| made.time.sec - one.time.sec);
        let interval = i64::try_from(self.options.checkpoint_interval.as_secs());
        let is_close = since.is_some_and(|since| since < interval.unwrap_or(i64::MAX));
        kept.push(made);
        // Should the newest be damaged, the one before and the journal after it serve.
        let before = kept.iter().rev().nth(1).map_or(0, |one| one.sequence);
        let excess = kept
            .len()
            .saturating_sub(self.options.snapshots_kept.max(1));
        kept.drain(..excess);
        let passing = !stays && is_close && kept.len() > 1;
        self.passing.store(passing, Ordering::Relaxed);
        drop(kept);
        self.sync()?;
        if let Err(error) = head::write(&*self.disk, &self.journal_dir, &made.commit) {
            tracing::warn!(%error, "the checkpoint is in the journal, but not named beside it");
        }
        self.newest.send_replace(Some(made));
        self.history.needed_after(before);
        self.journal.retire(Seq(before))?;
        Ok(())
    }

    /// Journals a checkpoint, which is no change that waits for the next one. Only
    /// under the tree's lock.
    pub(super) fn log_checkpoint(&self, made: &Checkpointed) -> Result<(), TreeError> {
        let before = self.counted();
        self.log(Class::Last, TxId(0), &[&entry_of(made)])?;
        let after = self.counted();
        self.counted_off((after.0 - before.0, after.1 - before.1));
        Ok(())
    }

    /// Writes down what changed, as of one moment.
    async fn snapshot(&self, stuck: &held::Stuck) -> Result<Snapshot, TreeError> {
        let _stay = self.stay();
        for _ in 0..crate::config::PLAN_ROUNDS_MAX {
            {
                let mut state = self.state.lock();
                if plan::unloaded_links(&state).is_empty() {
                    let before = self.before(&state, stuck)?;
                    let snapshot = Snapshot::take(self, &mut state, before);
                    state.checkpointing = true;
                    return Ok(snapshot);
                }
            }
            self.load_linked_parents().await?;
        }
        Err(TreeError::Busy("links change faster than they can be read"))
    }

    /// Seals changed files while others go on; gives those that cannot be sealed.
    async fn seal_dirty_files(&self) -> Result<held::Stuck, TreeError> {
        let dirty: Vec<NodeId> = self.state.lock().dirty.iter().copied().collect();
        let mut stuck = held::Stuck::new();
        for node in dirty {
            match self.seal_node(node).await {
                Ok(()) => {}
                Err(error @ TreeError::NoSpace(_)) => return Err(error),
                Err(error) => {
                    stuck.insert(node, error);
                }
            }
        }
        Ok(stuck)
    }

    /// Makes the blocks of a snapshot, from the leaves up. What they are made of
    /// is taken out of it: it is large.
    async fn build(&self, snapshot: &mut Snapshot) -> Result<Built, TreeError> {
        let mut built = Built::default();
        for (node, leaf) in std::mem::take(&mut snapshot.leaves) {
            let sealed = match leaf {
                Leaf::Sealed(sealed) => sealed,
                Leaf::File(content, meta) => self.seal_content(&content, &meta).await?,
                Leaf::Symlink(target, meta) => self.seal_symlink(&target, &meta)?,
            };
            built.leaves.insert(node, sealed);
        }
        for directory in std::mem::take(&mut snapshot.directories) {
            let updated = self.build_directory(&directory, &built).await?;
            built.directories.insert(directory.node, updated);
        }
        let root = built.directories.get(&NodeId::ROOT);
        built.root = match (root, &snapshot.root) {
            (Some(updated), _) => updated.cid,
            (None, Some(base)) => base.sealed.cid.get(),
            (None, None) => self.empty_root().await?,
        };
        built.posix = self.write_records(snapshot, &built).await?;
        Ok(built)
    }

    async fn build_directory(
        &self,
        directory: &plan::Dir,
        built: &Built,
    ) -> Result<UpdatedDir, TreeError> {
        let base = directory
            .base
            .as_ref()
            .map(|base| (base.sealed.cid.get(), base.tally));
        let mut changes = Vec::with_capacity(directory.children.len());
        for (name, child) in &directory.children {
            let entry = match child {
                Child::Gone => None,
                Child::Leaf(node) => built.leaves.get(node).map(|s| (s.cid.get(), s.tsize)),
                Child::Directory(node) => {
                    let updated = built.directories.get(node);
                    updated.map(|updated| (updated.cid, updated.tsize))
                }
                Child::Clean(sealed) => Some((sealed.cid.get(), sealed.tsize)),
            };
            let entry = entry.map(|(cid, tsize)| NewEntry::new(name, &cid, tsize));
            let name = bytes::Bytes::copy_from_slice(name);
            changes.push(DirChange { name, entry });
        }
        let rules = self.options.dir_rules();
        let form = self.options.file_form();
        let sink = OwnBlocks(&self.blocks);
        let mut seal = form.sealer(&sink);
        let base = base.as_ref().map(|(cid, tally)| (cid, *tally));
        Ok(update_dir(
            &self.reader,
            base,
            changes,
            &rules,
            &directory.meta,
            &mut seal,
        )
        .await?)
    }

    async fn empty_root(&self) -> Result<Cid, TreeError> {
        let rules = self.options.dir_rules();
        let form = self.options.file_form();
        let sink = OwnBlocks(&self.blocks);
        let mut seal = form.sealer(&sink);
        let meta = Metadata::default();
        let updated = update_dir(&self.reader, None, Vec::new(), &rules, &meta, &mut seal).await?;
        Ok(updated.cid)
    }

    /// The CID of a node's content now; what is not sealed is sealed.
    pub async fn cid(&self, node: NodeId) -> Result<Option<Cid>, TreeError> {
        for _ in 0..crate::config::PLAN_ROUNDS_MAX {
            let carries = self.options.store_metadata;
            let known = self.state.lock().sealed_now(node, carries)?;
            match known {
                Known::Nothing => return Ok(None),
                Known::Sealed(cid) => return Ok(Some(cid)),
                Known::Unsealed(NodeKind::File) if carries => {
                    if let Some(cid) = self.seal_as_it_is(node).await? {
                        return Ok(Some(cid));
                    }
                }
                Known::Unsealed(NodeKind::File) => self.seal_node(node).await?,
                Known::Unsealed(_) => {
                    self.checkpoint_in_passing().await?;
                    let held_back = self.held_back.lock().first().cloned();
                    let known = self.state.lock().sealed_now(node, carries)?;
                    if let (Some(one), Known::Unsealed(_)) = (held_back, known) {
                        let why = format!("{} cannot be sealed: {}", one.path, one.why);
                        return Err(TreeError::Unavailable(why));
                    }
                }
            }
        }
        Err(TreeError::Busy(
            "the content changes faster than it can be sealed",
        ))
    }

    /// Whether an attribute of a node can only be told once something is sealed.
    pub fn must_seal_for(&self, node: NodeId, attribute: &[u8]) -> Result<bool, TreeError> {
        if !matches!(attribute, b"ipfs.cid" | b"ipfs.path") {
            return Ok(false);
        }
        let carries = self.options.store_metadata;
        let known = self.state.lock().sealed_now(node, carries)?;
        Ok(matches!(known, Known::Unsealed(_)))
    }

    /// CIDs that a collection must keep: the kept checkpoints, what the loaded
    /// tree refers to beyond them, what clients have staged, and what a recovery
    /// will look for because the journal names it, even if it is overwritten by now.
    /// Fails while a part of the tree or of the journal is not known.
    pub fn live_roots(&self) -> Result<Vec<Cid>, TreeError> {
        self.check_frozen()?;
        self.journal.check()?;
        // What was kept may go, where nothing leads to it any more.
        self.keeping.forget();
        let mut roots: Vec<Cid> = Vec::new();
        let mut from = Seq(1);
        for one in self.kept.lock().iter() {
            roots.push(one.root);
            roots.extend(one.posix);
            from = Seq(one.sequence).next();
        }
        self.state.lock().referred(&mut roots);
        self.open.referred(&mut roots);
        for frame in self.journal.reader().frames(from)? {
            let frame = match frame {
                Ok(frame) => frame,
                Err(JournalError::Damaged(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            if let Ok(logged) = Logged::decode(frame.head.kind, &frame.payload) {
                logged.op.referred(&mut roots);
            }
        }
        Ok(roots)
    }

    /// Holds what a checkpoint has while somebody looks at it, kept or not.
    pub async fn hold_checkpoint(&self, one: &Checkpointed) -> Result<Referring, TreeError> {
        let roots = [Some(one.root), one.posix].into_iter().flatten();
        self.hold_content(roots.collect()).await
    }

    /// Commit objects of the kept checkpoints: kept themselves, not what is before them.
    pub fn live_commits(&self) -> Vec<Cid> {
        self.kept.lock().iter().map(|one| one.commit).collect()
    }
}

/// What is known of a node's CID.
enum Known {
    /// It has no content that could have one.
    Nothing,
    Sealed(Cid),
    Unsealed(NodeKind),
}

/// The journal's entry of a checkpoint.
pub(super) fn entry_of(made: &Checkpointed) -> Logged {
    Logged {
        path: b"/".to_vec(),
        to: Vec::new(),
        op: Op::Checkpoint {
            commit: made.commit,
            through: made.sequence,
        },
    }
}

/// A checkpoint is being made; ends with it, also where whoever waits for it goes.
struct Making<'a>(&'a Gate);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.lock().checkpointing = false;
    }
}

/// What a checkpoint made.
#[derive(Default)]
struct Built {
    leaves: HashMap<NodeId, Sealed>,
    directories: HashMap<NodeId, UpdatedDir>,
    root: Cid,
    posix: Option<Cid>,
}

/// Makes clean what has not changed since the snapshot.
fn settle(state: &mut State, snapshot: &Snapshot, built: &Built) {
    let through = snapshot.sequence;
    state.epoch += 1;
    state.posix = built.posix;
    state.entries_changed -= snapshot.entries_changed;
    for node in &snapshot.gone {
        state.gone.remove(node);
    }
    for (node, sealed) in &built.leaves {
        let Some(inode) = state.nodes.get_mut(node) else {
            continue;
        };
        if inode.content_changed() <= through {
            match &mut inode.body {
                Body::File(content) if content.sealed().as_ref() != Some(sealed) => {
                    state.unsealed_bytes -= put_sealed(inode, sealed);
                }
                Body::Symlink(link) => link.sealed = Some(sealed.clone()),
                Body::File(_) | Body::Directory(_) | Body::Special => {}
            }
        }
    }
    for (node, updated) in &built.directories {
        let Some(inode) = state.nodes.get_mut(node) else {
            continue;
        };
        if let Some(directory) = inode.directory_mut() {
            if directory.mounted > through {
                // It has other content by now.
                continue;
            }
            directory.mounted = 0;
            let sealed = Sealed {
                cid: SmallCid::from(&updated.cid),
                tsize: updated.tsize,
            };
            directory.base = Some(Base {
                sealed,
                tally: Some(updated.tally),
            });
            settle_names(directory, through);
        }
    }
    for node in &snapshot.nodes {
        let Some(inode) = state.nodes.get_mut(node) else {
            continue;
        };
        if inode.content_changed() <= through {
            inode.set_content_changed(0);
        }
        if inode.meta_changed() <= through {
            inode.set_meta_changed(0);
        }
        if inode.is_clean() {
            // It could not be dropped when it was let go.
            state.let_go += usize::from(state.dirty.remove(node) && inode.held() == 0);
        }
    }
}

/// Makes the names of a directory clean that have not changed since. Goes through
/// all of them only where some may be there that are known to lead nowhere.
fn settle_names(directory: &mut Directory, through: u64) {
    let Directory {
        entries,
        changed,
        complete,
        ..
    } = directory;
    changed.retain(|key, seq| {
        let stays = *seq > through;
        if !stays && entries.get(key).is_some_and(|d| d.to() == To::Absent) {
            entries.remove(key);
        }
        stays
    });
    if !*complete {
        entries.retain(|key, d| d.to() != To::Absent || changed.contains_key(key));
    }
}

impl State {
    /// Whether nothing changed since the last checkpoint.
    fn is_as_checkpointed(&self) -> bool {
        self.dirty.is_empty() && self.gone.is_empty() && self.epoch > 0
    }

    /// The CID of a node's content, if it is in blocks as it is now.
    /// Where blocks carry attributes, what is sealed has those of that time.
    fn sealed_now(&self, node: NodeId, carries: bool) -> Result<Known, TreeError> {
        let inode = self.node(node)?;
        let sealed = match &inode.body {
            Body::Special => return Ok(Known::Nothing),
            Body::File(_) | Body::Symlink(_) if carries && !inode.is_clean() => None,
            Body::File(content) => content.sealed(),
            Body::Symlink(link) => link.sealed.clone(),
            Body::Directory(directory) => {
                let base = directory.base.as_ref();
                let base = base.filter(|_| !self.is_changed_below(node));
                base.map(|base| base.sealed.clone())
            }
        };
        Ok(sealed.map_or(Known::Unsealed(inode.kind), |sealed| {
            Known::Sealed(sealed.cid.get())
        }))
    }

    /// Whether a node, or something below it, changed since the last checkpoint.
    fn is_changed_below(&self, node: NodeId) -> bool {
        self.dirty.iter().any(|dirty| self.is_under(*dirty, node))
    }

    /// Content that loaded nodes refer to.
    fn referred(&self, roots: &mut Vec<Cid>) {
        for inode in self
            .nodes
            .values()
            .filter(|inode| !inode.is_clean() || inode.nlink == 0)
        {
            match &inode.body {
                Body::File(content) => {
                    for (_, extent) in content.ranges().iter() {
                        if let extents::Data::Shared { cid, .. } = &extent.data {
                            roots.push(cid.get());
                        }
                    }
                    let sealed = content.sealed().into_iter().chain(content.before());
                    roots.extend(sealed.map(|sealed| sealed.cid.get()));
                }
                Body::Directory(directory) => {
                    roots.extend(directory.base.as_ref().map(|base| base.sealed.cid.get()));
                }
                Body::Symlink(link) => {
                    roots.extend(link.sealed.as_ref().map(|sealed| sealed.cid.get()));
                }
                Body::Special => {}
            }
        }
        roots.extend(self.posix);
    }
}
