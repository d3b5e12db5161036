//! Applies a batch of changes: one pass over each level, from the leaves up.
//!
//! The nodes of a level are, seen from the level above, a map from last keys to
//! links. So changes of one level become changes of the next, and one function
//! does all of them: from each changed node on, entries and changes are merged
//! and cut anew until a cut falls on the end of an old node again. What lies
//! between such stretches is neither read nor made.

use std::collections::{BTreeMap, HashMap};
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;

use super::cut::Cutter;
use super::error::{Malformed, MapError};
use super::node::{self, Entry, Item, Link, Node};
use super::nodes::Nodes;
use super::path::Path;
use crate::block::{Block, BlockSink, Cid, DAG_CBOR, SHA2_256};
use crate::config::POSIX_LEVEL_MAX;

/// Changes of one level: `None` removes.
pub(super) type Changes = BTreeMap<Bytes, Option<Item>>;
type Pending = Peekable<std::collections::btree_map::IntoIter<Bytes, Option<Item>>>;

/// Applies `changes` to the map of `root`; gives the new root.
pub(super) async fn apply(
    nodes: &Nodes,
    root: Option<&Cid>,
    mut changes: Changes,
    sink: &dyn BlockSink,
) -> Result<Option<Cid>, MapError> {
    let mut maker = Maker {
        nodes,
        sink,
        made: HashMap::new(),
    };
    let mut level = 0;
    let mut row: BTreeMap<Bytes, Item> = BTreeMap::new();
    if let Some(root) = root {
        let top = nodes.get(root).await?;
        while level <= top.level {
            changes = maker.change_level(root, level, changes).await?;
            if changes.is_empty() {
                return Ok(Some(*root));
            }
            level += 1;
        }
        let link = Link::of(root).ok_or_else(|| MapError::malformed(root, Malformed::Cid))?;
        let key = Bytes::copy_from_slice(top.last_key());
        row.insert(key, Item::Link(link));
    }
    // From here up nothing is old: the row is all there is.
    for (key, change) in changes {
        match change {
            Some(item) => row.insert(key, item),
            None => row.remove(&key),
        };
    }
    maker.finish(level, row).await
}

/// Makes nodes and remembers them for the length of one call.
struct Maker<'a> {
    nodes: &'a Nodes,
    sink: &'a dyn BlockSink,
    /// The nodes made, each with its child if it has one child only. The sink
    /// need not be a place to read from.
    made: HashMap<Link, Option<Link>>,
}

impl Maker<'_> {
    /// Makes levels above `row` until one node is left.
    async fn finish(
        &mut self,
        mut level: u8,
        mut row: BTreeMap<Bytes, Item>,
    ) -> Result<Option<Cid>, MapError> {
        loop {
            if let (1, Some((_, Item::Link(link)))) = (row.len(), row.first_key_value()) {
                return self.lowest(*link).await.map(Some);
            }
            if row.is_empty() {
                return Ok(None);
            }
            let mut stretch = Stretch::new(level);
            let mut above = Changes::new();
            for (key, item) in std::mem::take(&mut row) {
                if stretch.push(key, item) {
                    self.seal(&mut stretch, None, &mut above)?;
                }
            }
            self.seal(&mut stretch, None, &mut above)?;
            row = above
                .into_iter()
                .filter_map(|(k, i)| Some((k, i?)))
                .collect();
            level += 1;
        }
    }

    /// The root proper of a node that is alone in its row: nodes with one child
    /// only are left out.
    async fn lowest(&self, mut link: Link) -> Result<Cid, MapError> {
        loop {
            let child = match self.made.get(&link) {
                Some(only) => *only,
                None => only_child(&*self.nodes.get(&link.cid()).await?),
            };
            match child {
                Some(child) => link = child,
                None => return Ok(link.cid()),
            }
        }
    }

    /// Merges changes into one level below `root`; gives those of the level above.
    async fn change_level(
        &mut self,
        root: &Cid,
        level: u8,
        changes: Changes,
    ) -> Result<Changes, MapError> {
        let mut path = Path::open(self.nodes, root).await?;
        let mut above = Changes::new();
        let mut pending = changes.into_iter().peekable();
        while let Some((key, _)) = pending.peek() {
            path.seek(level, key).await?;
            self.change_stretch(&mut path, level, &mut pending, &mut above)
                .await?;
        }
        Ok(above)
    }

    /// Cuts anew from the present node until a cut falls on an old one.
    async fn change_stretch(
        &mut self,
        path: &mut Path<'_>,
        level: u8,
        pending: &mut Pending,
        above: &mut Changes,
    ) -> Result<(), MapError> {
        let mut stretch = Stretch::new(level);
        loop {
            let edge = path.at_edge();
            let Some((cid, node)) = path.node() else {
                break;
            };
            let (node, old) = (Arc::clone(node), Link::of(cid));
            above.insert(Bytes::copy_from_slice(node.last_key()), None);
            for (key, item) in node.entries() {
                while let Some((new, change)) = pending.next_if(|(new, _)| *new < key) {
                    self.push(&mut stretch, new, change, old, above)?;
                }
                let change = pending.next_if(|(new, _)| *new == key);
                let item = change.map_or(Some(item), |(_, change)| change);
                self.push(&mut stretch, key, item, old, above)?;
            }
            while edge && let Some((new, change)) = pending.next() {
                self.push(&mut stretch, new, change, old, above)?;
            }
            if edge || stretch.entries.is_empty() {
                self.seal(&mut stretch, old, above)?;
                break;
            }
            path.advance(level).await?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        stretch: &mut Stretch,
        key: Bytes,
        item: Option<Item>,
        old: Option<Link>,
        above: &mut Changes,
    ) -> Result<(), MapError> {
        let ends = item.is_some_and(|item| stretch.push(key, item));
        if ends {
            self.seal(stretch, old, above)?;
        }
        Ok(())
    }

    /// Ends a node, if there is anything in it, and names it to the level above.
    ///
    /// Nothing is made where it equals `old`, the node that was there.
    fn seal(
        &mut self,
        stretch: &mut Stretch,
        old: Option<Link>,
        above: &mut Changes,
    ) -> Result<(), MapError> {
        let entries = std::mem::take(&mut stretch.entries);
        let Some((key, _)) = entries.last() else {
            return Ok(());
        };
        // What is made is kept in memory by what is kept of it; the key must
        // not hold on to an old block.
        let key = Bytes::copy_from_slice(key);
        let data = node::encode(stretch.level, &entries);
        let block =
            Block::seal(DAG_CBOR, SHA2_256, data).map_err(|error| MapError::Block(error.into()))?;
        let link = Link::of(block.cid())
            .ok_or_else(|| MapError::malformed(block.cid(), Malformed::Cid))?;
        if old == Some(link) {
            above.remove(&key);
            return Ok(());
        }
        if stretch.level > POSIX_LEVEL_MAX {
            return Err(MapError::malformed(
                block.cid(),
                Malformed::TooHigh(stretch.level.into()),
            ));
        }
        self.sink
            .put(block.clone())
            .map_err(|error| MapError::Sink(Arc::new(error)))?;
        let node = self.nodes.keep(&block)?;
        self.made.insert(link, only_child(&node));
        above.insert(key, Some(Item::Link(link)));
        Ok(())
    }
}

fn only_child(node: &Node) -> Option<Link> {
    node.link(0).filter(|_| node.len() == 1)
}

/// The entries of the node that is being made.
struct Stretch {
    level: u8,
    cutter: Cutter,
    entries: Vec<Entry>,
}

impl Stretch {
    fn new(level: u8) -> Self {
        Self {
            level,
            cutter: Cutter::new(level),
            entries: Vec::new(),
        }
    }

    /// Takes an entry; tells whether the node ends after it.
    fn push(&mut self, key: Bytes, item: Item) -> bool {
        let ends = self.cutter.push(&key, item.entry_bytes(&key));
        self.entries.push((key, item));
        ends
    }
}
