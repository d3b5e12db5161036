//! The loaded part of the tree, behind one lock.
//!
//! Pure memory: a step that meets something that is not loaded ends with a
//! [`Need`], and is tried again once that is there. Every change goes through
//! the few methods here, so that a transaction can be taken back.

use std::collections::HashMap;

use super::fault::{Fault, Need, Step};
use super::node::{Body, Dentry, Directory, Inode, Key, Name, To};
use super::table::Nodes;
use crate::block::Cid;
use crate::config::{CHANGED_ENTRY_BYTES, CHANGED_NODE_BYTES};
use crate::tree::error::TreeError;
use crate::tree::mfs::types::{NodeId, NodeKind};

/// The loaded nodes and what the last checkpoint was.
#[derive(Debug, Default)]
pub(in crate::tree::mfs) struct State {
    pub(in crate::tree::mfs) nodes: Nodes,
    /// The records of the last checkpoint.
    pub(in crate::tree::mfs) posix: Option<Cid>,
    /// Counts checkpoints, so that a load notices that one came between.
    pub(in crate::tree::mfs) epoch: u64,
    /// Number of the next node that is made.
    pub(in crate::tree::mfs) next: u64,
    /// Bytes of files that are in no block yet.
    pub(in crate::tree::mfs) unsealed_bytes: u64,
    /// Nodes that differ from the checkpoint.
    pub(in crate::tree::mfs) dirty: std::collections::HashSet<NodeId>,
    /// Entries that were set since the last checkpoint, each time they were.
    pub(in crate::tree::mfs) entries_changed: u64,
    /// Numbers of directory records to drop at the next checkpoint.
    pub(in crate::tree::mfs) gone: std::collections::HashSet<NodeId>,
    /// How many loaded nodes make clean ones be dropped.
    pub(in crate::tree::mfs) trim_at: usize,
    /// How often a node was let go by the last that held it, since clean ones
    /// were dropped.
    pub(in crate::tree::mfs) let_go: usize,
    /// Names that were noted as absent since such were forgotten.
    pub(in crate::tree::mfs) absent: usize,
    /// Whether a checkpoint is being made: what is in it may be taken away
    /// before it is in force, and that must be known then.
    pub(in crate::tree::mfs) checkpointing: bool,
    /// Nodes as they were when the transaction under way began.
    saved: Option<HashMap<NodeId, Option<Box<Inode>>>>,
    /// `gone` and `unsealed_bytes` as they were then.
    gone_saved: std::collections::HashSet<NodeId>,
    unsealed_saved: u64,
}

impl State {
    /// A node, to look at.
    pub(in crate::tree::mfs) fn node(&self, node: NodeId) -> Result<&Inode, TreeError> {
        self.nodes.get(&node).ok_or(TreeError::NotFound)
    }

    /// A node, to change.
    pub(in crate::tree::mfs) fn node_mut(&mut self, node: NodeId) -> Option<&mut Inode> {
        self.save(node);
        self.nodes.get_mut(&node)
    }

    /// Adds a node.
    pub(in crate::tree::mfs) fn insert(&mut self, node: NodeId, inode: Inode) {
        self.save(node);
        self.nodes.insert(node, inode);
    }

    /// Takes a node out.
    pub(in crate::tree::mfs) fn remove(&mut self, node: NodeId) {
        self.save(node);
        if let Some(inode) = self.nodes.remove(&node)
            && let Body::File(content) = &inode.body
        {
            self.unsealed_bytes -= content.unsealed_bytes();
        }
        self.dirty.remove(&node);
    }

    /// Takes over nodes that were made beside the tree.
    pub(in crate::tree::mfs) fn adopt(&mut self, other: Self) {
        self.nodes.extend(other.nodes);
        self.dirty.extend(other.dirty);
        self.entries_changed += other.entries_changed;
        self.unsealed_bytes += other.unsealed_bytes;
    }

    fn save(&mut self, node: NodeId) {
        if let Some(saved) = &mut self.saved {
            let now = self.nodes.get(&node);
            saved
                .entry(node)
                .or_insert_with(|| now.cloned().map(Box::new));
        }
    }

    /// Begins a transaction that can be taken back.
    pub(in crate::tree::mfs) fn begin(&mut self) {
        self.saved = Some(HashMap::new());
        self.gone_saved.clone_from(&self.gone);
        self.unsealed_saved = self.unsealed_bytes;
    }

    /// Keeps what the transaction did.
    pub(in crate::tree::mfs) fn keep(&mut self) {
        self.saved = None;
        self.gone_saved.clear();
    }

    /// Takes back what the transaction did. Holds that were taken meanwhile stay.
    pub(in crate::tree::mfs) fn take_back(&mut self) {
        for (node, before) in self.saved.take().unwrap_or_default() {
            let held = self.nodes.get(&node).map_or(0, Inode::held);
            match before {
                Some(mut inode) => {
                    inode.set_held(held);
                    if inode.is_clean() || inode.nlink == 0 {
                        self.dirty.remove(&node);
                    } else {
                        self.dirty.insert(node);
                    }
                    self.nodes.insert(node, *inode);
                }
                None => {
                    self.nodes.remove(&node);
                    self.dirty.remove(&node);
                }
            }
        }
        self.gone = std::mem::take(&mut self.gone_saved);
        self.unsealed_bytes = self.unsealed_saved;
    }

    #[cfg(feature = "testing")]
    fn count_unsealed(&self) -> u64 {
        let bytes = |inode: &Inode| match &inode.body {
            Body::File(content) => content.unsealed_bytes(),
            Body::Directory(_) | Body::Symlink(_) | Body::Special => 0,
        };
        self.nodes.values().map(bytes).sum()
    }

    /// Bytes that changes hold until they are in a checkpoint, about.
    pub(in crate::tree::mfs) fn changed_bytes(&self) -> u64 {
        let nodes = (self.dirty.len() + self.gone.len()) as u64;
        nodes * CHANGED_NODE_BYTES
            + self.entries_changed * CHANGED_ENTRY_BYTES
            + self.unsealed_bytes
    }

    /// A directory that is still in the tree, to look at.
    pub(in crate::tree::mfs) fn directory(&self, node: NodeId) -> Result<&Directory, TreeError> {
        let inode = self.node(node)?;
        if inode.kind == NodeKind::Directory && inode.nlink == 0 {
            return Err(TreeError::NotFound);
        }
        inode.directory().ok_or(TreeError::NotADirectory)
    }

    /// A directory, to change.
    pub(in crate::tree::mfs) fn directory_mut(&mut self, node: NodeId) -> Option<&mut Directory> {
        self.node_mut(node)?.directory_mut()
    }

    /// What a name leads to; `None` is proven.
    pub(in crate::tree::mfs) fn find(&self, parent: NodeId, name: &[u8]) -> Step<Option<NodeId>> {
        let directory = self.directory(parent)?;
        let key = Key::new(name);
        match directory.entries.get(&key).map(Dentry::to) {
            Some(To::Node(node)) => Ok(Some(node)),
            Some(To::Absent) => Ok(None),
            None if directory.complete || directory.base.is_none() => Ok(None),
            Some(To::Unloaded) | None => Err(Fault::Need(Need::Entry(parent, key.name))),
        }
    }

    /// Sets where a name leads.
    pub(in crate::tree::mfs) fn set_entry(
        &mut self,
        parent: NodeId,
        name: &Name,
        to: To,
        changed: u64,
    ) {
        let checkpointing = self.checkpointing;
        self.entries_changed += 1;
        let Some(directory) = self.directory_mut(parent) else {
            return;
        };
        let key = Key::of(name.clone());
        if to == To::Absent && directory.base.is_none() && !checkpointing {
            directory.entries.remove(&key);
            directory.changed.remove(&key);
        } else {
            directory.changed.insert(key.clone(), changed);
            directory.entries.insert(key, Dentry::new(to));
        }
    }

    /// Tells whether a directory has no entries.
    pub(in crate::tree::mfs) fn is_empty(&self, node: NodeId) -> Step<bool> {
        let directory = self.directory(node)?;
        if directory.entries.values().any(|d| d.to() != To::Absent) {
            return Ok(false);
        }
        if directory.base.is_some() && !directory.complete {
            return Err(Fault::Need(Need::Listing(node)));
        }
        Ok(true)
    }

    /// Tells whether `below` is `above` or under it.
    pub(in crate::tree::mfs) fn is_under(&self, below: NodeId, above: NodeId) -> bool {
        let mut at = below;
        loop {
            if at == above {
                return true;
            }
            match self.nodes.get(&at).and_then(|n| n.home.as_ref()) {
                Some((parent, _)) => at = *parent,
                None => return false,
            }
        }
    }

    /// How deep a node lies; the root is 0.
    pub(in crate::tree::mfs) fn depth(&self, node: NodeId) -> usize {
        let (mut at, mut depth) = (node, 0);
        while let Some((parent, _)) = self.nodes.get(&at).and_then(|n| n.home.as_ref()) {
            at = *parent;
            depth += 1;
        }
        depth
    }

    /// The path of a node, or of a name in it, from the root of the tree.
    pub(in crate::tree::mfs) fn path(&self, node: NodeId, name: Option<&[u8]>) -> Vec<u8> {
        let mut parts: Vec<&[u8]> = name.into_iter().collect();
        let mut at = node;
        while at != NodeId::ROOT {
            match self.nodes.get(&at).and_then(|n| n.home.as_ref()) {
                Some((parent, name)) => {
                    parts.push(name);
                    at = *parent;
                }
                // It was unlinked while it was open.
                None => return Vec::new(),
            }
        }
        let mut path = Vec::with_capacity(parts.iter().map(|p| p.len() + 1).sum());
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }

    /// A number for a new node.
    pub(in crate::tree::mfs) fn fresh(&self) -> NodeId {
        NodeId::counted(self.next)
    }
}

#[cfg(feature = "testing")]
impl State {
    /// What of the loaded tree contradicts itself.
    pub(in crate::tree::mfs) fn unsound(&self) -> Option<String> {
        for (node, inode) in self.nodes.iter() {
            let names: Vec<_> = inode.names().cloned().collect();
            let number = node.number();
            if node != NodeId::ROOT && names.len() != usize::from(inode.nlink) {
                return Some(format!(
                    "{number}: {} names, nlink {}",
                    names.len(),
                    inode.nlink
                ));
            }
            if inode.nlink == 0 && inode.held() == 0 {
                return Some(format!("{number}: without a name, and nobody holds it"));
            }
            if inode
                .home
                .as_ref()
                .is_some_and(|home| !names.contains(home))
            {
                return Some(format!("{number}: its home is none of its names"));
            }
            if !inode.is_clean() && inode.nlink > 0 && !self.dirty.contains(&node) {
                return Some(format!("{number}: changed, and not known as such"));
            }
            if let Some(directory) = inode.directory().filter(|_| inode.nlink > 0) {
                for (key, dentry) in &directory.entries {
                    let To::Node(child) = dentry.to() else {
                        continue;
                    };
                    let leads = self.nodes.get(&child).is_some_and(|child| {
                        let at = (node, key.name.clone());
                        child.home.as_ref() == Some(&at)
                            || child.links().is_some_and(|links| links.contains(&at))
                    });
                    if !leads {
                        return Some(format!(
                            "{number}: an entry leads to a node that does not know it"
                        ));
                    }
                }
            }
        }
        if let Some(lost) = self
            .dirty
            .iter()
            .find(|node| !self.nodes.contains_key(node))
        {
            return Some(format!("{}: changed, and not there", lost.number()));
        }
        let unsealed = self.count_unsealed();
        (unsealed != self.unsealed_bytes)
            .then(|| format!("{unsealed} bytes are unsealed, not {}", self.unsealed_bytes))
    }
}
