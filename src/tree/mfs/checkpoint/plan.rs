//! What a checkpoint is made of, written down under the lock.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use crate::config::RECORDS_PAGE;
use crate::tree::error::TreeError;
use crate::tree::posix::key;
use crate::tree::posix::record::{Dentry, DentryBody, Holes, Place};
use crate::unixfs::dir_build::DirTally;
use crate::unixfs::layout::Metadata;

use super::held::{Before, Stuck};
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::apply::lose_link;
use crate::tree::mfs::nodes::fault::Fault;
use crate::tree::mfs::nodes::node::{Base, Body, Content, Directory, Inode, Name, Sealed, To};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::types::NodeId;

/// The changes since the last checkpoint, as of one moment.
pub(super) struct Snapshot {
    /// The last change that is in it.
    pub(super) sequence: u64,
    /// Every node that is written down here.
    pub(super) nodes: Vec<NodeId>,
    /// Files and links whose content changed.
    pub(super) leaves: Vec<(NodeId, Leaf)>,
    /// Directories with changes in or below them, the deepest first.
    pub(super) directories: Vec<Dir>,
    /// The root as it was.
    pub(super) root: Option<Base>,
    /// Records to set, by node; records of directories get their tally later.
    pub(super) records: Vec<Recorded>,
    /// Names that lead nowhere now.
    pub(super) dropped: Vec<(NodeId, Name)>,
    /// Nodes that are gone with their records.
    pub(super) gone: Vec<NodeId>,
    /// The map of records as it was.
    pub(super) posix: Option<crate::block::Cid>,
    /// Number of the next node.
    pub(super) next: u64,
    /// Entries that had been set.
    pub(super) entries_changed: u64,
    /// Files that cannot be sealed and are as they were before, and why.
    pub(super) before: Before,
    pub(super) stuck: Stuck,
    /// Bytes and changes that were journaled up to then.
    pub(super) counted: (u64, u64),
}

/// A node whose record is set.
pub(super) struct Recorded {
    pub(super) node: NodeId,
    /// Without its content.
    pub(super) inode: Inode,
    /// Of a directory, as it was.
    pub(super) tally: Option<DirTally>,
    /// Of a file.
    pub(super) holes: Holes,
}

/// Content that becomes blocks.
pub(super) enum Leaf {
    Sealed(Sealed),
    File(Content, Metadata),
    Symlink(Bytes, Metadata),
}

/// A directory that becomes blocks.
pub(super) struct Dir {
    pub(super) node: NodeId,
    pub(super) base: Option<Base>,
    pub(super) meta: Metadata,
    pub(super) children: BTreeMap<Name, Child>,
}

/// What a changed name leads to.
pub(super) enum Child {
    Gone,
    Leaf(NodeId),
    Directory(NodeId),
    Clean(Sealed),
}

impl Snapshot {
    /// Takes it; files that cannot be sealed are as they were `before`.
    pub(super) fn take(mfs: &Mfs, state: &mut State, before: Before) -> Self {
        let stores = mfs.options.store_metadata;
        let touched = |inode: &Inode| inode.content_changed() > 0 || (stores && !inode.is_clean());
        let dirty: Vec<NodeId> = state.dirty.iter().copied().collect();
        let mut directories: HashMap<NodeId, BTreeMap<Name, Child>> = HashMap::new();
        let mut leaves = Vec::new();
        if root_base(state).is_none() {
            directories.entry(NodeId::ROOT).or_default();
        }
        for node in &dirty {
            let Some(inode) = state.nodes.get(node) else {
                continue;
            };
            if !touched(inode) {
                continue;
            }
            let leaf = match before.get(node) {
                Some(Some(sealed)) => Some(Leaf::Sealed(sealed.clone())),
                Some(None) => Some(Leaf::File(Content::empty(), Metadata::default())),
                None => leaf_of(mfs, inode),
            };
            if let Some(leaf) = leaf {
                leaves.push((*node, leaf));
            }
            if inode.directory().is_some() {
                directories.entry(*node).or_default();
            }
            note_above(state, *node, inode, &mut directories);
        }
        let mut dropped = Vec::new();
        for (node, children) in &mut directories {
            changed_names(state, *node, children, &mut dropped);
        }
        let mut recorded: HashSet<NodeId> =
            dirty.iter().chain(directories.keys()).copied().collect();
        record_ways(state, &dirty, &mut recorded);
        let records = recorded
            .iter()
            .filter_map(|node| record_of(state, *node, before.contains_key(node)))
            .collect();
        Self {
            sequence: mfs.journal.last().0,
            nodes: recorded.into_iter().collect(),
            leaves,
            directories: deepest_first(mfs, state, directories),
            root: root_base(state),
            records,
            dropped,
            gone: state.gone.iter().copied().collect(),
            posix: state.posix,
            next: state.next,
            entries_changed: state.entries_changed,
            before,
            stuck: Stuck::new(),
            counted: mfs.counted(),
        }
    }
}

/// Changed directories with their changed names, the deepest first.
fn deepest_first(
    mfs: &Mfs,
    state: &State,
    changed: HashMap<NodeId, BTreeMap<Name, Child>>,
) -> Vec<Dir> {
    let directory = |(node, children)| {
        let inode = state.nodes.get(&node)?;
        let dir = Dir {
            node,
            base: inode.directory()?.base.clone(),
            meta: mfs.metadata(inode),
            children,
        };
        Some((state.depth(node), dir))
    };
    let mut directories: Vec<_> = changed.into_iter().filter_map(directory).collect();
    directories.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
    directories.into_iter().map(|(_, dir)| dir).collect()
}

/// The root as the last checkpoint has it.
fn root_base(state: &State) -> Option<Base> {
    let root = state.nodes.get(&NodeId::ROOT)?;
    root.directory()?.base.clone()
}

/// Adds the directories above changed nodes: whoever has the record of a node
/// must find the way to it, also where nothing else of that way ever changed.
fn record_ways(state: &State, dirty: &[NodeId], recorded: &mut HashSet<NodeId>) {
    // What is recorded for another reason may still have no way.
    let mut walked = HashSet::new();
    for inode in dirty.iter().filter_map(|node| state.nodes.get(node)) {
        for (parent, _) in inode.names() {
            let mut at = *parent;
            while walked.insert(at) {
                recorded.insert(at);
                let home = state.nodes.get(&at).and_then(|inode| inode.home.as_ref());
                let Some((above, _)) = home else { break };
                at = *above;
            }
        }
    }
}

/// What is recorded of a node.
fn record_of(state: &State, node: NodeId, is_held_back: bool) -> Option<Recorded> {
    let inode = state.nodes.get(&node)?;
    let base = inode
        .directory()
        .and_then(|directory| directory.base.as_ref());
    let tally = base.and_then(|base| base.tally);
    let holes = match &inode.body {
        Body::File(Content::Ranges(ranges)) if !is_held_back => ranges.extents.holes(),
        Body::File(_) | Body::Directory(_) | Body::Symlink(_) | Body::Special => Holes::new(),
    };
    Some(Recorded {
        node,
        inode: without_content(inode),
        tally,
        holes,
    })
}

/// Notes a changed node in the directories above it, up to the root.
fn note_above(
    state: &State,
    node: NodeId,
    inode: &Inode,
    directories: &mut HashMap<NodeId, BTreeMap<Name, Child>>,
) {
    let mut names: Vec<(NodeId, Name)> = inode.names().cloned().collect();
    let child = |node| match inode.body {
        Body::Directory(_) => Some(Child::Directory(node)),
        Body::File(_) | Body::Symlink(_) => Some(Child::Leaf(node)),
        Body::Special => None,
    };
    for (parent, name) in &names {
        let children = directories.entry(*parent).or_default();
        if let Some(child) = child(node) {
            children.insert(name.clone(), child);
        }
    }
    while let Some((parent, _)) = names.pop() {
        let home = state.nodes.get(&parent).and_then(|n| n.home.clone());
        let Some((above, name)) = home else { continue };
        let known = directories.entry(above).or_default();
        if known
            .insert(name.clone(), Child::Directory(parent))
            .is_none()
        {
            names.push((above, name));
        }
    }
}

/// Adds the names of a directory that lead elsewhere than in the checkpoint.
fn changed_names(
    state: &State,
    node: NodeId,
    children: &mut BTreeMap<Name, Child>,
    dropped: &mut Vec<(NodeId, Name)>,
) {
    let Some(inode) = state.nodes.get(&node) else {
        return;
    };
    let Some(directory) = inode.directory() else {
        return;
    };
    if inode.content_changed() == 0 {
        return;
    }
    for key in directory.changed.keys() {
        match directory.entries.get(key).map(|dentry| dentry.to()) {
            Some(To::Absent) => {
                children.insert(key.name.clone(), Child::Gone);
                dropped.push((node, key.name.clone()));
            }
            Some(To::Unloaded) | None => {}
            Some(To::Node(child)) => {
                let child = child_of(state, child);
                children.entry(key.name.clone()).or_insert(child);
            }
        }
    }
}

/// A child whose content did not change: it was moved here, or is special.
fn child_of(state: &State, node: NodeId) -> Child {
    let sealed = state.nodes.get(&node).and_then(|inode| match &inode.body {
        Body::File(content) => content.sealed(),
        Body::Directory(directory) => directory.base.as_ref().map(|base| base.sealed.clone()),
        Body::Symlink(link) => link.sealed.clone(),
        Body::Special => None,
    });
    sealed.map_or(Child::Gone, Child::Clean)
}

fn leaf_of(mfs: &Mfs, inode: &Inode) -> Option<Leaf> {
    match &inode.body {
        Body::File(content) => Some(match content.sealed() {
            Some(sealed) if !mfs.options.store_metadata => Leaf::Sealed(sealed),
            Some(_) | None => Leaf::File(content.clone(), mfs.metadata(inode)),
        }),
        Body::Symlink(link) => Some(match &link.sealed {
            Some(sealed) if !mfs.options.store_metadata => Leaf::Sealed(sealed.clone()),
            Some(_) | None => Leaf::Symlink(link.target.clone(), mfs.metadata(inode)),
        }),
        Body::Directory(_) | Body::Special => None,
    }
}

/// A copy of what is recorded of a node: cheap, whatever it holds.
fn without_content(inode: &Inode) -> Inode {
    let body = match &inode.body {
        Body::Directory(directory) => Body::Directory(Box::new(Directory {
            directories: directory.directories,
            ..Directory::default()
        })),
        Body::File(_) | Body::Symlink(_) | Body::Special => Body::Special,
    };
    inode.with_body(body)
}

impl Mfs {
    /// Loads the directories that hold other names of changed linked files:
    /// their CIDs change too.
    pub(super) async fn load_linked_parents(&self) -> Result<(), TreeError> {
        let missing = unloaded_links(&self.state.lock());
        for (node, (parent, name)) in missing {
            // What is found has the same number, since its record says so.
            let leads = self.find_place(parent).await?
                && match self.lookup(parent, &name, false).await {
                    Ok(_) => true,
                    Err(TreeError::NotFound | TreeError::NotADirectory) => false,
                    Err(error) => return Err(error),
                };
            if !leads {
                let mut state = self.state.lock();
                forget_link(&mut state, node, (parent, &name), self.journal.last().0);
            }
        }
        Ok(())
    }

    /// Loads what is below a directory and has names elsewhere too: when the
    /// directory goes, such nodes lose names, whether they were loaded or not.
    pub(in crate::tree::mfs) async fn load_linked_below(
        &self,
        node: NodeId,
    ) -> Result<(), TreeError> {
        let open = loaded_directories(&self.state.lock(), node);
        self.load_linked_in(open).await
    }

    /// The same below directories by their numbers, of which the loaded ones are all told.
    pub(in crate::tree::mfs) async fn load_linked_in(
        &self,
        mut open: Vec<u64>,
    ) -> Result<(), TreeError> {
        let posix = self.state.lock().posix;
        let Some(root) = posix else { return Ok(()) };
        while let Some(directory) = open.pop() {
            let (mut from, until) = key::dentries(directory);
            loop {
                let page = self
                    .map
                    .range(&root, &from, Some(&until), RECORDS_PAGE)
                    .await?;
                for (at, value) in &page {
                    let dentry = Dentry::decode(value)?;
                    let Some(key::Key::Dentry { name, .. }) = key::Key::decode(at) else {
                        continue;
                    };
                    match dentry.body {
                        DentryBody::Inline(_) => open.push(dentry.node),
                        DentryBody::Linked => self.load_linked(directory, name).await?,
                    }
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

    /// Loads a name that the last checkpoint has; it may be gone since.
    async fn load_linked(&self, directory: u64, name: &[u8]) -> Result<(), TreeError> {
        let Some(parent) = NodeId::from_number(directory) else {
            return Ok(());
        };
        if !self.find_place(parent).await? {
            return Ok(());
        }
        match self.lookup(parent, name, false).await.map(drop) {
            Err(TreeError::NotFound | TreeError::NotADirectory) => Ok(()),
            other => other,
        }
    }

    /// Loads a directory by its number, and those above it; false where it is
    /// proven that none of that number is in the tree.
    pub(in crate::tree::mfs) async fn find_place(&self, node: NodeId) -> Result<bool, TreeError> {
        let mut way: Vec<(NodeId, Vec<u8>)> = Vec::new();
        let (mut at, mut met) = (node, HashSet::new());
        let posix = self.state.lock().posix;
        while !self.state.lock().nodes.contains_key(&at) {
            let lost =
                || TreeError::Unavailable(format!("no record says where node {} is", at.number()));
            let Some(root) = posix else {
                return Ok(false);
            };
            let Some(value) = self.map.get(&root, &key::place(at.number())).await? else {
                return Ok(false);
            };
            let place = Place::decode(&value)?;
            let parent = NodeId::from_number(place.parent).ok_or_else(lost)?;
            way.push((parent, place.name));
            // Moved trees may lie deeper than anything can be made.
            if !met.insert(at) {
                return Err(lost());
            }
            at = parent;
        }
        for (parent, name) in way.into_iter().rev() {
            match self.lookup(parent, &name, false).await {
                Ok(_) => {}
                Err(TreeError::NotFound | TreeError::NotADirectory) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(self.state.lock().nodes.contains_key(&node))
    }
}

/// Takes a name from a node that is proven not to lead to it: what was unmounted
/// by an earlier version went without the names that linked nodes had in it.
fn forget_link(state: &mut State, node: NodeId, at: (NodeId, &Name), seq: u64) {
    let links = state.nodes.get(&node).and_then(Inode::links);
    let has = links.is_some_and(|links| links.contains(&(at.0, at.1.clone())));
    let leads = match state.find(at.0, at.1) {
        Ok(found) => found.is_some(),
        Err(Fault::Need(_)) => true,
        Err(Fault::Error(_)) => false,
    };
    if has && !leads {
        let (number, parent) = (node.number(), at.0.number());
        tracing::warn!(number, parent, "a name leads nowhere and is forgotten");
        lose_link(state, node, at, seq);
    }
}

/// Names of changed linked files that are not loaded.
pub(super) fn unloaded_links(state: &State) -> Vec<(NodeId, (NodeId, Name))> {
    let mut missing = Vec::new();
    for node in &state.dirty {
        let links = state.nodes.get(node).and_then(Inode::links);
        for (parent, name) in links.into_iter().flatten() {
            if !is_loaded(state, *parent, name) {
                missing.push((*node, (*parent, name.clone())));
            }
        }
    }
    missing
}

/// A directory and the loaded ones below it, by number.
pub(in crate::tree::mfs) fn loaded_directories(state: &State, node: NodeId) -> Vec<u64> {
    let (mut found, mut open) = (Vec::new(), vec![node]);
    while let Some(at) = open.pop() {
        let Some(directory) = state.nodes.get(&at).and_then(|n| n.directory()) else {
            continue;
        };
        found.push(at.number());
        open.extend(
            directory
                .entries
                .values()
                .filter_map(|dentry| match dentry.to() {
                    To::Node(node) => Some(node),
                    To::Unloaded | To::Absent => None,
                }),
        );
    }
    found
}

fn is_loaded(state: &State, parent: NodeId, name: &Name) -> bool {
    matches!(state.find(parent, name), Ok(Some(_)))
}
