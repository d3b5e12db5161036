//! The nodes of the writable tree that the kernel refers to: how often, and no more.
//!
//! The tree itself keeps a node loaded while it is held; each reference of the
//! kernel is one hold. What the kernel never gave back goes when this is dropped.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::inodes::ROOT;
use crate::config::FORGETS_AT_ONCE;
use crate::tree::mfs::{Mfs, NodeId};
use crate::tree::{Node, TreeError};

/// The references of one mount.
pub(super) struct Nodes {
    known: Known,
    mfs: Arc<Mfs>,
}

/// Which nodes the kernel may know, and by which numbers.
#[derive(Debug, Clone)]
pub(super) struct Known {
    counts: Arc<Counts>,
    /// The node that is the mount's root, if it is of this tree.
    root: Option<NodeId>,
}

/// A hold that the kernel has not been told of yet.
pub(super) struct Held {
    mfs: Arc<Mfs>,
    node: Option<NodeId>,
}

impl Nodes {
    /// The references of a mount of `root`, which is held while this lives.
    pub(super) fn new(mfs: Arc<Mfs>, root: &Node) -> Result<Self, TreeError> {
        let root = root.writable();
        if root.is_some_and(|node| !mfs.hold(node)) {
            return Err(TreeError::NotFound);
        }
        Ok(Self {
            known: Known {
                counts: Arc::default(),
                root,
            },
            mfs,
        })
    }

    /// The tree that they are of.
    pub(super) fn mfs(&self) -> &Arc<Mfs> {
        &self.mfs
    }

    /// What the kernel may know.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// Notes that the kernel is told once of a node which is held for that.
    pub(super) fn told(&self, node: NodeId) {
        self.known.counts.add(node.number(), 1);
    }

    /// Takes a hold that is to become a reference of the kernel.
    pub(super) fn hold(&self, node: NodeId) -> Option<Held> {
        self.mfs.hold(node).then(|| self.held(node))
    }

    /// A hold that was taken already.
    pub(super) fn held(&self, node: NodeId) -> Held {
        Held {
            mfs: Arc::clone(&self.mfs),
            node: Some(node),
        }
    }

    /// Notes that the kernel was told of what is held.
    pub(super) fn keep(&self, mut held: Held) {
        if let Some(node) = held.node.take() {
            self.told(node);
        }
    }

    /// Takes back references of the kernel.
    pub(super) fn forget(&self, mut forgotten: Vec<(NodeId, u64)>) {
        for (node, lookups) in &mut forgotten {
            *lookups = self.known.counts.take(node.number(), *lookups);
        }
        self.mfs.release_all(&forgotten);
    }

    /// How many nodes the kernel refers to, the root aside.
    pub(super) fn len(&self) -> usize {
        self.known.counts.len()
    }
}

impl Known {
    /// The inode number of a node in this mount.
    pub(super) fn number(&self, node: NodeId) -> u64 {
        number(self.root, node)
    }

    /// Whether the kernel may know a node.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.root == Some(node) || self.counts.has(node.number())
    }

    /// The inode numbers that the kernel may know.
    pub(super) fn all(&self) -> Vec<u64> {
        let mut all = self.counts.all();
        all.extend(self.root.map(|_| ROOT));
        all
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let all = self.known.counts.drain();
        for some in all.chunks(FORGETS_AT_ONCE) {
            let some = some.iter().filter_map(|(number, lookups)| {
                let node = NodeId::from_number(*number)?;
                Some((node, *lookups))
            });
            self.mfs.release_all(&some.collect::<Vec<_>>());
        }
        if let Some(root) = self.known.root {
            self.mfs.release(root, 1);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(node) = self.node {
            self.mfs.release(node, 1);
        }
    }
}

fn number(root: Option<NodeId>, node: NodeId) -> u64 {
    if root == Some(node) {
        ROOT
    } else {
        node.number()
    }
}

/// Number to count of lookups, in parts that are locked and grow by themselves.
///
/// Most nodes are told of once, and most have counted numbers: so what is known
/// is a bit each, and few have a count.
#[derive(Debug)]
struct Counts {
    parts: [Mutex<Part>; PARTS],
}

/// Parts of the counts.
const PARTS: usize = 64;

#[derive(Debug, Default)]
struct Part {
    /// Bits of numbers, by what the numbers are without their lowest six bits.
    known: HashMap<u64, u64>,
    /// Lookups beyond the first.
    more: HashMap<u64, u64>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            parts: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

/// Where the bit of a number is, and the bit.
fn bit(number: u64) -> (u64, u64) {
    (number / 64, 1 << (number % 64))
}

impl Counts {
    fn part(&self, number: u64) -> MutexGuard<'_, Part> {
        let index = (number / 64) as usize % PARTS;
        #[expect(clippy::expect_used, reason = "a remainder is below the divisor")]
        self.parts.get(index).expect("there are as many").lock()
    }

    fn add(&self, number: u64, lookups: u64) {
        let mut part = self.part(number);
        let more = lookups - u64::from(part.insert(number));
        if more > 0 {
            *part.more.entry(number).or_default() += more;
        }
    }

    /// Takes `lookups` away; gives how many there were of them.
    fn take(&self, number: u64, lookups: u64) -> u64 {
        let mut part = self.part(number);
        if !part.has(number) {
            return 0;
        }
        let more = part.more.get(&number).copied().unwrap_or(0);
        if lookups > more {
            part.more.remove(&number);
            part.remove(number);
            return more + 1;
        }
        if lookups == more {
            part.more.remove(&number);
        } else if let Some(more) = part.more.get_mut(&number) {
            *more -= lookups;
        }
        lookups
    }

    fn has(&self, number: u64) -> bool {
        self.part(number).has(number)
    }

    fn all(&self) -> Vec<u64> {
        let mut all = Vec::new();
        for part in &self.parts {
            part.lock().each(|number| all.push(number));
        }
        all
    }

    fn len(&self) -> usize {
        let count = |part: &Mutex<Part>| -> usize {
            let part = part.lock();
            part.known.values().map(|b| b.count_ones() as usize).sum()
        };
        self.parts.iter().map(count).sum()
    }

    fn drain(&self) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        for part in &self.parts {
            let part = std::mem::take(&mut *part.lock());
            let more = |number| part.more.get(&number).copied().unwrap_or(0);
            part.each(|number| all.push((number, 1 + more(number))));
        }
        all
    }
}

impl Part {
    fn has(&self, number: u64) -> bool {
        let (at, bit) = bit(number);
        self.known.get(&at).is_some_and(|bits| bits & bit != 0)
    }

    /// Notes a number; false if it was known.
    fn insert(&mut self, number: u64) -> bool {
        let (at, bit) = bit(number);
        let bits = self.known.entry(at).or_default();
        let is_new = *bits & bit == 0;
        *bits |= bit;
        is_new
    }

    fn remove(&mut self, number: u64) {
        let (at, bit) = bit(number);
        let Some(bits) = self.known.get_mut(&at) else {
            return;
        };
        *bits &= !bit;
        if *bits > 0 {
            return;
        }
        self.known.remove(&at);
        // Memory goes once most of what was known is forgotten.
        if self.known.len() < self.known.capacity() / 8 {
            self.known.shrink_to(self.known.len() * 2);
        }
    }

    fn each(&self, mut tell: impl FnMut(u64)) {
        for (at, bits) in &self.known {
            let set = (0..64).filter(|n| bits & (1 << n) != 0);
            set.for_each(|n| tell(at * 64 + n));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_until_every_lookup_is_forgotten() {
        let counts = Counts::default();
        counts.add(7, 1);
        counts.add(7, 2);
        assert_eq!(counts.take(7, 2), 2);
        assert!(counts.has(7));
        assert_eq!(counts.take(7, 1), 1);
        assert!(!counts.has(7));
        assert_eq!(counts.len(), 0);
    }

    #[test]
    fn no_more_is_given_back_than_was_taken() {
        let counts = Counts::default();
        assert_eq!(counts.take(7, 1), 0);
        counts.add(7, 1);
        assert_eq!(counts.take(7, 5), 1);
        counts.add(8, 3);
        assert_eq!(counts.drain(), [(8, 3)]);
        assert_eq!(counts.len(), 0);
    }

    #[test]
    fn counts_are_as_one_map_would_have_them() {
        let (counts, mut model) = (Counts::default(), HashMap::<u64, u64>::new());
        for step in 0..200_000u64 {
            // Dense ones and sparse ones.
            let count = (step * 7919) % 1009;
            let number = if step % 2 == 0 { count } else { count << 40 };
            let lookups = step % 4;
            if step % 3 == 0 {
                let known = model.remove(&number).unwrap_or(0);
                let taken = lookups.min(known);
                assert_eq!(counts.take(number, lookups), taken);
                if known > taken {
                    model.insert(number, known - taken);
                }
            } else {
                counts.add(number, 1 + lookups);
                *model.entry(number).or_default() += 1 + lookups;
            }
            assert_eq!(counts.has(number), model.contains_key(&number));
        }
        assert_eq!(counts.len(), model.len());
        let mut all = counts.all();
        all.sort_unstable();
        let mut known: Vec<_> = model.keys().copied().collect();
        known.sort_unstable();
        assert_eq!(all, known);
        let all: HashMap<_, _> = counts.drain().into_iter().collect();
        assert_eq!(all, model);
    }

    #[test]
    fn the_node_that_is_the_root_of_a_mount_has_the_number_of_a_root() {
        assert_eq!(number(Some(NodeId::ROOT), NodeId::ROOT), ROOT);
        assert_eq!(number(None, NodeId::ROOT), NodeId::ROOT.number());
        assert!(NodeId::from_number(ROOT).is_none());
    }
}
