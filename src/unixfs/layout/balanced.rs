//! Balanced trees: every chunk is at the same depth.

use bytes::Bytes;

use super::{Metadata, Piece, seal_node};
use crate::block::Cid;

/// A balanced tree under construction, with one open node a level.
#[derive(Debug)]
pub struct Balanced {
    links_max: usize,
    /// Children of the open node of each level, the chunks first.
    levels: Vec<Vec<Piece>>,
}

impl Balanced {
    /// Starts a tree of nodes with at most `links_max` links; fewer than 2 are taken as 2.
    pub fn new(links_max: usize) -> Self {
        Self {
            links_max: links_max.max(2),
            levels: Vec::new(),
        }
    }

    /// Adds the next piece; a node is sealed when one more child would not fit.
    pub fn push<E>(
        &mut self,
        piece: Piece,
        seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
    ) -> Result<(), E> {
        self.push_at(0, piece, seal)
    }

    /// Adds a finished tree as a child of `level + 1`, where a chunk has level 0.
    ///
    /// Lower levels that are open are closed first. Where they hold whole nodes,
    /// and `piece` is a full tree of its level, the result is the one that
    /// pushing its chunks gives. Otherwise nodes with fewer links than could
    /// be arise; one that would have a single link is left out.
    pub fn push_tree<E>(
        &mut self,
        level: usize,
        piece: Piece,
        seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
    ) -> Result<(), E> {
        // To close a level may open the next one, which must be closed as well.
        let mut below = 0;
        while let Some(open) = self.levels.get_mut(below).filter(|_| below < level) {
            below += 1;
            match std::mem::take(open).as_slice() {
                [] => {}
                [only] => self.push_at(below, *only, seal)?,
                children => {
                    let node = seal_node(children, &Metadata::default(), seal)?;
                    self.push_at(below, node, seal)?;
                }
            }
        }
        if self.levels.len() < level {
            self.levels.resize_with(level, Vec::new);
        }
        self.push_at(level, piece, seal)
    }

    fn push_at<E>(
        &mut self,
        from: usize,
        mut piece: Piece,
        seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
    ) -> Result<(), E> {
        let links_max = self.links_max;
        for level in self.levels.iter_mut().skip(from) {
            if level.len() < links_max {
                level.push(piece);
                return Ok(());
            }
            let full = seal_node(level, &Metadata::default(), seal)?;
            level.clear();
            level.push(piece);
            piece = full;
        }
        self.levels.push(vec![piece]);
        Ok(())
    }

    /// Seals what is open and gives the root; `None` where there were no pieces.
    ///
    /// The root carries `meta`, unless the only piece is the root.
    pub fn finish<E>(
        mut self,
        meta: &Metadata,
        seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
    ) -> Result<Option<Piece>, E> {
        let mut at = 0;
        while let Some(level) = self.levels.get_mut(at) {
            let open = std::mem::take(level);
            let top = at + 1 == self.levels.len();
            match open.as_slice() {
                [] => {}
                [only] if top => return Ok(Some(*only)),
                children if top => return seal_node(children, meta, seal).map(Some),
                children => {
                    let piece = seal_node(children, &Metadata::default(), seal)?;
                    self.push_at(at + 1, piece, seal)?;
                }
            }
            at += 1;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::balanced;
    use super::super::tests::{Store, leaf};
    use super::*;

    fn shape(leaves: u64, links_max: usize) -> String {
        let mut store = Store::default();
        let meta = Metadata::default();
        let root = balanced((0..leaves).map(leaf), links_max, &meta, &mut |n| {
            store.seal(n)
        });
        let root = root.unwrap().unwrap();
        assert_eq!(root.size, leaves * 8);
        let nodes: u64 = store.0.values().map(|n| n.len() as u64).sum();
        assert_eq!(
            root.tsize,
            nodes + leaves * 8,
            "every block is counted once"
        );
        store.shape(&root.cid)
    }

    #[test]
    fn trees_grow_as_kubo_grows_them() {
        assert_eq!(shape(1, 2), ".");
        assert_eq!(shape(2, 2), "[..]");
        assert_eq!(shape(3, 2), "[[..][.]]");
        assert_eq!(shape(4, 2), "[[..][..]]");
        assert_eq!(shape(5, 2), "[[[..][..]][[.]]]", "all chunks at one depth");
        assert_eq!(shape(7, 2), "[[[..][..]][[..][.]]]");
        assert_eq!(shape(9, 3), "[[...][...][...]]");
        assert_eq!(shape(10, 3), "[[[...][...][...]][[.]]]");
    }

    /// A full tree of `level`, made by pushing its leaves.
    fn full(store: &mut Store, level: u32, from: u64, links_max: usize) -> Piece {
        let count = (links_max as u64).pow(level);
        let leaves = (from..from + count).map(leaf);
        let meta = Metadata::default();
        let root = balanced(leaves, links_max, &meta, &mut |n| store.seal(n));
        root.unwrap().unwrap()
    }

    #[test]
    fn full_trees_pushed_whole_give_what_their_leaves_give() {
        for links_max in [2usize, 3, 4] {
            for leaves in 1..100u64 {
                let mut store = Store::default();
                let mut tree = Balanced::new(links_max);
                let mut at = 0;
                while at < leaves {
                    let fits = |l: &u32| {
                        let size = (links_max as u64).pow(*l);
                        at % size == 0 && at + size <= leaves
                    };
                    let level = (0..7).rev().find(fits).unwrap();
                    let piece = full(&mut store, level, at, links_max);
                    tree.push_tree(level as usize, piece, &mut |n| store.seal(n))
                        .unwrap();
                    at += piece.size / 8;
                }
                let meta = Metadata::default();
                let whole = tree.finish(&meta, &mut |n| store.seal(n)).unwrap();
                let by_leaves = balanced((0..leaves).map(leaf), links_max, &meta, &mut |n| {
                    store.seal(n)
                });
                assert_eq!(whole, by_leaves.unwrap(), "{leaves} of {links_max}");
            }
        }
    }

    #[test]
    fn a_tree_that_comes_before_lower_levels_are_full_closes_them() {
        let mut store = Store::default();
        let mut tree = Balanced::new(4);
        for number in 0..3 {
            tree.push(leaf(number), &mut |n| store.seal(n)).unwrap();
        }
        let piece = full(&mut store, 1, 10, 4);
        tree.push_tree(1, piece, &mut |n| store.seal(n)).unwrap();
        tree.push(leaf(20), &mut |n| store.seal(n)).unwrap();
        tree.push_tree(1, piece, &mut |n| store.seal(n)).unwrap();
        let root = tree.finish(&Metadata::default(), &mut |n| store.seal(n));
        let root = root.unwrap().unwrap();
        assert_eq!(store.shape(&root.cid), "[[...][....].[....]]");
        assert_eq!(root.size, 12 * 8);
    }

    #[test]
    fn a_tall_tree_after_a_few_leaves_stays_behind_them() {
        let mut store = Store::default();
        let mut tree = Balanced::new(3);
        for number in 0..2 {
            tree.push(leaf(number), &mut |n| store.seal(n)).unwrap();
        }
        let piece = full(&mut store, 2, 10, 3);
        tree.push_tree(2, piece, &mut |n| store.seal(n)).unwrap();
        let root = tree.finish(&Metadata::default(), &mut |n| store.seal(n));
        let root = root.unwrap().unwrap();
        assert_eq!(store.shape(&root.cid), "[[..][[...][...][...]]]");
    }

    #[test]
    fn no_pieces_give_no_tree() {
        let mut store = Store::default();
        let none = balanced([], 2, &Metadata::default(), &mut |n| store.seal(n));
        assert_eq!(none.unwrap(), None);
    }

    #[test]
    fn memory_stays_at_one_open_node_a_level() {
        let mut store = Store::default();
        let mut tree = Balanced::new(4);
        for number in 0..5000 {
            tree.push(leaf(number), &mut |n| store.seal(n)).unwrap();
        }
        assert!(tree.levels.len() <= 7, "{}", tree.levels.len());
        assert!(tree.levels.iter().all(|l| l.len() <= 4));
    }
}
