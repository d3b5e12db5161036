//! A way from the root down, that moves through the map from left to right.
//!
//! Every step down is checked against what the parent says, so whoever walks
//! sees keys in strictly ascending order and comes to an end, whatever the
//! blocks hold.

use std::sync::Arc;

use bytes::Bytes;

use super::error::{Malformed, MapError};
use super::node::{Item, Node};
use super::nodes::Nodes;
use crate::block::Cid;

/// A way from the root to an entry.
pub(super) struct Path<'n> {
    nodes: &'n Nodes,
    steps: Vec<Step>,
}

/// One node on the way.
struct Step {
    cid: Cid,
    node: Arc<Node>,
    /// Which entry the way goes through.
    at: usize,
    /// All keys are above this one.
    low: Option<Bytes>,
    /// It is the last node of its row.
    edge: bool,
}

/// The entry that a way leads to.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) key: Bytes,
    pub(super) item: Item,
    /// The level of the node that it stands in.
    pub(super) level: u8,
}

impl<'n> Path<'n> {
    /// Begins at the first entry of the root.
    pub(super) async fn open(nodes: &'n Nodes, root: &Cid) -> Result<Self, MapError> {
        let node = nodes.get(root).await?;
        if node.level > 0 && node.len() < 2 {
            return Err(MapError::malformed(root, Malformed::TooFew));
        }
        let step = Step {
            cid: *root,
            node,
            at: 0,
            low: None,
            edge: true,
        };
        Ok(Self {
            nodes,
            steps: vec![step],
        })
    }

    /// The entry that the way leads to; `None` beyond the last.
    pub(super) fn head(&self) -> Option<Head> {
        let step = self.steps.last()?;
        let (key, item) = step.node.entry(step.at)?;
        Some(Head {
            key,
            item,
            level: step.node.level,
        })
    }

    /// The node at the end of the way and its CID.
    pub(super) fn node(&self) -> Option<(&Cid, &Arc<Node>)> {
        self.steps.last().map(|step| (&step.cid, &step.node))
    }

    /// Whether the node at the end of the way is the last of its row.
    pub(super) fn at_edge(&self) -> bool {
        self.steps.last().is_none_or(|step| step.edge)
    }

    /// Goes on to the next entry that is not below the present one.
    pub(super) fn skip(&mut self) {
        while let Some(step) = self.steps.last_mut() {
            step.at += 1;
            if step.at < step.node.len() {
                return;
            }
            self.steps.pop();
        }
    }

    /// Steps into the node that the present entry links to.
    pub(super) async fn descend(&mut self) -> Result<(), MapError> {
        let Some(parent) = self.steps.last() else {
            return Ok(());
        };
        let Some((key, Item::Link(link))) = parent.node.entry(parent.at) else {
            return Ok(());
        };
        let low = match parent.at.checked_sub(1) {
            Some(before) => parent.node.entry(before).map(|(key, _)| key),
            None => parent.low.clone(),
        };
        let edge = parent.edge && parent.at + 1 == parent.node.len();
        let wanted = parent.node.level - 1;
        let cid = link.cid();
        let node = self.nodes.get(&cid).await?;
        check(&node, wanted, &key, low.as_deref(), edge)
            .map_err(|why| MapError::malformed(&cid, why))?;
        self.steps.push(Step {
            cid,
            node,
            at: 0,
            low,
            edge,
        });
        Ok(())
    }

    /// Goes right to the node of `level` where `key` is or would be: the first
    /// whose last key is not below it, or else the last node.
    ///
    /// `level` is that of an earlier call, or the first one's.
    pub(super) async fn seek(&mut self, level: u8, key: &[u8]) -> Result<(), MapError> {
        while self.steps.len() > 1 && self.node().is_some_and(|(_, n)| n.last_key() < key) {
            self.steps.pop();
        }
        while let Some(step) = self.steps.last_mut() {
            let last = step.node.len().saturating_sub(1);
            step.at = step.node.find(key).min(last);
            if step.node.level <= level {
                break;
            }
            self.descend().await?;
        }
        Ok(())
    }

    /// Goes on to the next node of the level that [`seek`](Self::seek) went to;
    /// `false` beyond the last.
    pub(super) async fn advance(&mut self, level: u8) -> Result<bool, MapError> {
        self.steps.pop();
        self.skip();
        while let Some(step) = self.steps.last() {
            if step.node.level <= level {
                return Ok(true);
            }
            self.descend().await?;
        }
        Ok(false)
    }
}

/// Checks a node against what its parent says of it.
fn check(
    node: &Node,
    wanted: u8,
    key: &[u8],
    low: Option<&[u8]>,
    edge: bool,
) -> Result<(), Malformed> {
    if node.level != wanted {
        let found = node.level;
        return Err(Malformed::Level { found, wanted });
    }
    let first = node.key(0);
    if node.last_key() != key || low.is_some_and(|low| first <= Some(low)) {
        return Err(Malformed::Bounds);
    }
    if !node.closed && !edge {
        return Err(Malformed::Cut);
    }
    Ok(())
}
