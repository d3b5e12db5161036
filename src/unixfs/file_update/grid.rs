//! The grid that chunks lie on, and the full trees over it.

/// Chunks of one size under nodes of as many links as may be.
///
/// A chunk is of level 0; a full tree of a level has the most links, each to a
/// full tree of the level below.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    chunk: u64,
    links: u64,
}

impl Grid {
    pub(super) fn new(chunk_bytes: usize, links_max: usize) -> Self {
        Self {
            chunk: (chunk_bytes as u64).max(1),
            links: (links_max as u64).max(2),
        }
    }

    /// Bytes of a chunk.
    pub(super) fn chunk(self) -> u64 {
        self.chunk
    }

    /// Links of a full node.
    pub(super) fn links(self) -> u64 {
        self.links
    }

    /// Bytes of the full trees, level by level, as far as numbers go.
    fn sizes(self) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(self.chunk), move |size| size.checked_mul(self.links))
    }

    /// How many levels there are, as far as offsets go.
    pub(super) fn levels(self) -> usize {
        self.sizes()
            .take_while(|s| i64::try_from(*s).is_ok())
            .count()
    }

    /// Bytes from `offset` to the next line of the grid; a chunk's on a line.
    pub(super) fn room(self, offset: u64) -> u64 {
        self.chunk - offset % self.chunk
    }

    /// Level and bytes of the largest full tree that may begin at `offset`,
    /// has at most `len` bytes and not `never`.
    pub(super) fn largest(self, offset: u64, len: u64, never: Option<u64>) -> Option<(usize, u64)> {
        let fits = |(_, size): &(usize, u64)| *size <= len && offset.is_multiple_of(*size);
        let levels = self.sizes().enumerate().take_while(fits);
        levels.filter(|(_, size)| Some(*size) != never).last()
    }

    /// The level whose full trees have `len` bytes.
    pub(super) fn level_of(self, len: u64) -> Option<usize> {
        self.sizes().position(|size| size == len)
    }

    /// The level of a tree of `len` bytes that is not full.
    pub(super) fn level_for(self, len: u64) -> usize {
        self.sizes().take_while(|size| *size < len).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_from_sizes() {
        let grid = Grid::new(1 << 20, 1024);
        assert_eq!(grid.level_of(1 << 20), Some(0));
        assert_eq!(grid.level_of(1 << 40), Some(2));
        assert_eq!(grid.level_of((1 << 40) + 1), None);
        assert_eq!(grid.level_for(1), 0);
        assert_eq!(grid.level_for((1 << 20) + 1), 1);
        assert_eq!(grid.level_for(i64::MAX as u64), 5);
    }

    #[test]
    fn the_largest_tree_begins_on_a_line_of_its_own_level() {
        let grid = Grid::new(4, 2);
        assert_eq!(grid.largest(0, 100, None), Some((4, 64)));
        assert_eq!(grid.largest(0, 64, Some(64)), Some((3, 32)));
        assert_eq!(grid.largest(8, 100, None), Some((1, 8)));
        assert_eq!(grid.largest(6, 100, None), None);
        assert_eq!(grid.largest(0, 3, None), None);
        let top = Grid::new(1 << 20, 1024).largest(0, i64::MAX as u64, None);
        assert_eq!(top, Some((4, 1 << 60)));
    }
}
