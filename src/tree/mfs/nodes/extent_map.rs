//! The ranges of a file by where they begin.
//!
//! Most files that were just written are one range, and a tree of one entry
//! takes 700 bytes: so a single one is in place.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use super::extents::Extent;

/// An ordered map that costs little while it has one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) enum ExtentMap {
    /// None or one.
    Few(Option<(u64, Extent)>),
    /// Two or more.
    Many(BTreeMap<u64, Extent>),
}

impl Default for ExtentMap {
    fn default() -> Self {
        Self::Few(None)
    }
}

impl ExtentMap {
    /// All entries in order.
    pub(in crate::tree::mfs) fn iter(&self) -> impl DoubleEndedIterator<Item = (&u64, &Extent)> {
        self.range(..)
    }

    /// The entries that begin inside a range, in order.
    pub(in crate::tree::mfs) fn range(
        &self,
        range: impl RangeBounds<u64>,
    ) -> impl DoubleEndedIterator<Item = (&u64, &Extent)> {
        let (few, many) = match self {
            Self::Few(few) => (few.as_ref().filter(|(at, _)| range.contains(at)), None),
            Self::Many(many) => (None, Some(many.range(range))),
        };
        let few = few.map(|(at, extent)| (at, extent));
        few.into_iter().chain(many.into_iter().flatten())
    }

    /// The last entry that begins inside a range, to change.
    pub(in crate::tree::mfs) fn last_mut(
        &mut self,
        range: impl RangeBounds<u64>,
    ) -> Option<(u64, &mut Extent)> {
        match self {
            Self::Few(few) => {
                let few = few.as_mut().filter(|(at, _)| range.contains(at));
                few.map(|(at, extent)| (*at, extent))
            }
            Self::Many(many) => {
                let last = many.range_mut(range).next_back();
                last.map(|(at, extent)| (*at, extent))
            }
        }
    }

    /// The entry that begins at `at`.
    pub(in crate::tree::mfs) fn get(&self, at: u64) -> Option<&Extent> {
        match self {
            Self::Few(few) => few.as_ref().filter(|(it, _)| *it == at).map(|(_, e)| e),
            Self::Many(many) => many.get(&at),
        }
    }

    /// The same, to change.
    pub(in crate::tree::mfs) fn get_mut(&mut self, at: u64) -> Option<&mut Extent> {
        match self {
            Self::Few(few) => few.as_mut().filter(|(it, _)| *it == at).map(|(_, e)| e),
            Self::Many(many) => many.get_mut(&at),
        }
    }

    /// Puts an entry there, instead of one that begins where it does.
    pub(in crate::tree::mfs) fn insert(&mut self, at: u64, extent: Extent) {
        match self {
            Self::Few(few) => match few.take_if(|(it, _)| *it != at) {
                None => *few = Some((at, extent)),
                Some(other) => *self = Self::Many(BTreeMap::from([other, (at, extent)])),
            },
            Self::Many(many) => drop(many.insert(at, extent)),
        }
    }

    /// Takes the entry out that begins at `at`.
    pub(in crate::tree::mfs) fn remove(&mut self, at: u64) -> Option<Extent> {
        let many = match self {
            Self::Few(few) => return few.take_if(|(it, _)| *it == at).map(|(_, e)| e),
            Self::Many(many) => many,
        };
        let gone = many.remove(&at);
        if many.len() < 2 {
            let left = many.pop_first();
            *self = Self::Few(left);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::super::extents::Data;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_range_takes_no_tree() {
        let mut map = ExtentMap::default();
        let hole = |len| Extent {
            len,
            data: Data::Hole,
        };
        map.insert(0, hole(3));
        assert!(matches!(map, ExtentMap::Few(Some(_))));
        map.insert(3, hole(4));
        assert!(matches!(map, ExtentMap::Many(_)));
        assert_eq!(map.remove(0), Some(hole(3)));
        assert!(matches!(map, ExtentMap::Few(Some(_))));
        assert!(size_of::<ExtentMap>() <= 72);
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map(steps in prop::collection::vec((0..6u64, 1..9u64, 0..3u8), 1..60)) {
            let (mut map, mut model) = (ExtentMap::default(), BTreeMap::new());
            for (at, len, what) in steps {
                let extent = Extent { len, data: Data::Hole };
                match what {
                    0 => prop_assert_eq!(map.remove(at), model.remove(&at)),
                    1 => {
                        map.insert(at, extent.clone());
                        model.insert(at, extent);
                    }
                    _ => {
                        let last = map.last_mut(..at).map(|(at, extent)| {
                            extent.len = len;
                            at
                        });
                        let expected = model.range_mut(..at).next_back().map(|(at, extent)| {
                            extent.len = len;
                            *at
                        });
                        prop_assert_eq!(last, expected);
                    }
                }
                prop_assert!(map.iter().eq(model.iter()));
                prop_assert!(map.range(2..5).rev().eq(model.range(2..5).rev()));
                prop_assert_eq!(map.get(3), model.get(&3));
                prop_assert_eq!(map.get_mut(3), model.get_mut(&3));
                prop_assert_eq!(matches!(map, ExtentMap::Many(_)), model.len() > 1);
            }
        }
    }
}
