//! Trickle trees: a node holds chunks first, then ever deeper subtrees.
//!
//! After its chunks a node takes four subtrees of depth 1, four of depth 2
//! and so on, below the depth that it was given itself; the root has no bound.

use bytes::Bytes;

use super::{Metadata, Piece, seal_node};
use crate::block::Cid;

/// Subtrees of the same depth in a row.
const REPEAT: usize = 4;

/// A trickle tree under construction: the path from the root to the open node.
#[derive(Debug)]
pub struct Trickle {
    chunks_max: usize,
    root: Open,
    path: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    /// Subtrees are shallower than this; `None` at the root.
    depth_max: Option<usize>,
    chunks: usize,
    children: Vec<Piece>,
}

impl Open {
    fn new(depth_max: Option<usize>) -> Self {
        Self {
            depth_max,
            chunks: 0,
            children: Vec::new(),
        }
    }

    /// Depth of the next subtree, if one more fits.
    fn next_depth(&self) -> Option<usize> {
        let depth = self.children.len().saturating_sub(self.chunks) / REPEAT + 1;
        self.depth_max
            .is_none_or(|max| depth < max)
            .then_some(depth)
    }
}

impl Trickle {
    /// Starts a tree of nodes with at most `links_max` chunks of their own.
    pub fn new(links_max: usize) -> Self {
        Self {
            chunks_max: links_max.max(1),
            root: Open::new(None),
            path: Vec::new(),
        }
    }

    /// Adds the next chunk.
    pub fn push<E>(
        &mut self,
        piece: Piece,
        seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
    ) -> Result<(), E> {
        loop {
            let open = self.path.last_mut().unwrap_or(&mut self.root);
            if open.chunks < self.chunks_max {
                open.chunks += 1;
                open.children.push(piece);
                return Ok(());
            }
            match open.next_depth() {
                Some(depth) => self.path.push(Open::new(Some(depth))),
                None => self.close(seal)?,
            }
        }
    }

    fn close<E>(&mut self, seal: &mut impl FnMut(Bytes) -> Result<Cid, E>) -> Result<(), E> {
        if let Some(done) = self.path.pop() {
            let piece = seal_node(&done.children, &Metadata::default(), seal)?;
            let parent = self.path.last_mut().unwrap_or(&mut self.root);
            parent.children.push(piece);
        }
        Ok(())
    }

    /// Seals what is open and gives the root, which carries `meta`.
    pub fn finish<E>(
        mut self,
        meta: &Metadata,
        seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
    ) -> Result<Piece, E> {
        while !self.path.is_empty() {
            self.close(seal)?;
        }
        seal_node(&self.root.children, meta, seal)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Store, leaf};
    use super::*;

    fn shape(leaves: u64, links_max: usize) -> String {
        let mut store = Store::default();
        let mut tree = Trickle::new(links_max);
        for number in 0..leaves {
            tree.push(leaf(number), &mut |n| store.seal(n)).unwrap();
        }
        let root = tree
            .finish(&Metadata::default(), &mut |n| store.seal(n))
            .unwrap();
        assert_eq!(root.size, leaves * 8);
        store.shape(&root.cid)
    }

    #[test]
    fn trees_grow_as_kubo_grows_them() {
        assert_eq!(shape(0, 2), "[]");
        assert_eq!(shape(1, 2), "[.]", "a lone chunk has a node above it");
        assert_eq!(shape(2, 2), "[..]");
        assert_eq!(shape(3, 2), "[..[.]]");
        assert_eq!(shape(10, 2), "[..[..][..][..][..]]");
        assert_eq!(shape(11, 2), "[..[..][..][..][..][.]]");
        assert_eq!(
            shape(13, 2),
            "[..[..][..][..][..][..[.]]]",
            "depth 2 after four of depth 1"
        );
    }
}
