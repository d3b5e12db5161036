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
                [only] if top && at == 0 => return Ok(Some(*only)),
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
