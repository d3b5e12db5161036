//! A node of the writable tree in memory.
//!
//! Trees hold millions, and a mount refers to all that was walked: what few
//! nodes have is apart, and a test holds the size of the rest.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::extents::Extents;
pub(in crate::tree::mfs) use super::name::Name;
use super::small_cid::{Digest, SmallCid};
use crate::tree::mfs::types::{NodeAttr, NodeId, NodeKind, Time};
use crate::unixfs::dir_build::DirTally;

/// A node: what `stat` shows, and its content.
#[derive(Debug, Clone)]
pub(in crate::tree::mfs) struct Inode {
    pub(in crate::tree::mfs) kind: NodeKind,
    /// At most as many as a record has room for.
    pub(in crate::tree::mfs) nlink: u16,
    /// The 12 permission bits.
    pub(in crate::tree::mfs) mode: u32,
    pub(in crate::tree::mfs) uid: u32,
    pub(in crate::tree::mfs) gid: u32,
    /// References of mounts, see [`Self::hold`].
    pub(in crate::tree::mfs) held: u32,
    pub(in crate::tree::mfs) atime: PackedTime,
    pub(in crate::tree::mfs) mtime: PackedTime,
    pub(in crate::tree::mfs) ctime: PackedTime,
    /// One of the names that lead here; `None` once it is unlinked.
    pub(in crate::tree::mfs) home: Option<(NodeId, Name)>,
    /// Seen and changed by the calls below.
    pub(in crate::tree::mfs) rare: Option<Box<Rare>>,
    pub(in crate::tree::mfs) body: Body,
}

/// What few nodes have: clean ones of one name, without attributes, do not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Rare {
    rdev: u32,
    xattrs: Xattrs,
    links: Option<Links>,
    /// Sequences of the last changes; 0: as in the checkpoint.
    meta_changed: u64,
    content_changed: u64,
}

/// Extended attributes.
pub(in crate::tree::mfs) type Xattrs = BTreeMap<Name, Bytes>;
/// Names that lead to one node.
pub(in crate::tree::mfs) type Links = BTreeSet<(NodeId, Name)>;

/// A time in 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::tree::mfs) struct PackedTime {
    /// The seconds, as they are in memory.
    sec: [u32; 2],
    nsec: u32,
}

impl From<Time> for PackedTime {
    fn from(time: Time) -> Self {
        let sec = time.sec as u64;
        Self {
            sec: [(sec >> 32) as u32, sec as u32],
            nsec: time.nsec,
        }
    }
}

impl From<PackedTime> for Time {
    fn from(packed: PackedTime) -> Self {
        let [high, low] = packed.sec;
        Self {
            sec: ((u64::from(high) << 32) | u64::from(low)) as i64,
            nsec: packed.nsec,
        }
    }
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(in crate::tree::mfs) enum Body {
    File(Content),
    Directory(Box<Directory>),
    Symlink(Box<Symlink>),
    /// A fifo, a socket or a device.
    Special,
}

/// A symbolic link.
#[derive(Debug, Clone)]
pub(in crate::tree::mfs) struct Symlink {
    pub(in crate::tree::mfs) target: Bytes,
    /// Its block, once it has one.
    pub(in crate::tree::mfs) sealed: Option<Sealed>,
}

/// Immutable content with the size of its DAG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Sealed {
    pub(in crate::tree::mfs) cid: SmallCid,
    pub(in crate::tree::mfs) tsize: u64,
}

/// A file's bytes.
#[derive(Debug, Clone)]
pub(in crate::tree::mfs) enum Content {
    /// As they were sealed, all of it.
    Whole(Whole),
    /// In ranges.
    Ranges(Box<Ranges>),
}

/// Sealed content of a length; a file that is one block is in place.
#[derive(Debug, Clone)]
pub(in crate::tree::mfs) struct Whole(Form);

#[derive(Debug, Clone)]
enum Form {
    /// One raw block, which is all that there is.
    Leaf {
        digest: Digest,
        size: u32,
    },
    Other(Box<(Sealed, u64)>),
}

impl Whole {
    pub(in crate::tree::mfs) fn new(sealed: Sealed, size: u64) -> Self {
        Self(match (sealed.cid.as_raw(), u32::try_from(size)) {
            (Some(digest), Ok(leaf)) if sealed.tsize == size => Form::Leaf {
                digest: *digest,
                size: leaf,
            },
            _ => Form::Other(Box::new((sealed, size))),
        })
    }

    pub(in crate::tree::mfs) fn sealed(&self) -> Sealed {
        match &self.0 {
            Form::Leaf { digest, size } => Sealed {
                cid: SmallCid::raw(*digest),
                tsize: u64::from(*size),
            },
            Form::Other(other) => other.0.clone(),
        }
    }

    pub(in crate::tree::mfs) fn cid(&self) -> SmallCid {
        match &self.0 {
            Form::Leaf { digest, .. } => SmallCid::raw(*digest),
            Form::Other(other) => other.0.cid.clone(),
        }
    }

    pub(in crate::tree::mfs) fn size(&self) -> u64 {
        match &self.0 {
            Form::Leaf { size, .. } => u64::from(*size),
            Form::Other(other) => other.1,
        }
    }
}

/// A file's bytes in ranges.
#[derive(Debug, Clone, Default)]
pub(in crate::tree::mfs) struct Ranges {
    pub(in crate::tree::mfs) extents: Extents,
    /// The same as a whole, while it is still what they say.
    pub(in crate::tree::mfs) sealed: Option<Sealed>,
    /// What it was when it was last sealed.
    pub(in crate::tree::mfs) before: Option<Sealed>,
}

impl Content {
    /// An empty file that is in no block yet.
    pub(in crate::tree::mfs) fn empty() -> Self {
        Self::Ranges(Box::default())
    }

    pub(in crate::tree::mfs) fn size(&self) -> u64 {
        match self {
            Self::Whole(whole) => whole.size(),
            Self::Ranges(ranges) => ranges.extents.size(),
        }
    }

    /// Bytes that are not holes.
    pub(in crate::tree::mfs) fn data_bytes(&self) -> u64 {
        match self {
            Self::Whole(whole) => whole.size(),
            Self::Ranges(ranges) => ranges.extents.data_bytes(),
        }
    }

    pub(in crate::tree::mfs) fn unsealed_bytes(&self) -> u64 {
        match self {
            Self::Whole(_) => 0,
            Self::Ranges(ranges) => ranges.extents.unsealed_bytes(),
        }
    }

    pub(in crate::tree::mfs) fn sealed(&self) -> Option<Sealed> {
        match self {
            Self::Whole(whole) => Some(whole.sealed()),
            Self::Ranges(ranges) => ranges.sealed.clone(),
        }
    }

    /// What it was when it was last sealed, where it has changed since.
    pub(in crate::tree::mfs) fn before(&self) -> Option<Sealed> {
        match self {
            Self::Whole(_) => None,
            Self::Ranges(ranges) => ranges.before.clone(),
        }
    }

    /// The ranges, to look at.
    pub(in crate::tree::mfs) fn ranges(&self) -> std::borrow::Cow<'_, Extents> {
        match self {
            Self::Whole(whole) => {
                std::borrow::Cow::Owned(Extents::whole(whole.cid(), whole.size()))
            }
            Self::Ranges(ranges) => std::borrow::Cow::Borrowed(&ranges.extents),
        }
    }

    /// The ranges, to change: it is no longer sealed.
    pub(in crate::tree::mfs) fn ranges_mut(&mut self) -> &mut Extents {
        if let Self::Whole(whole) = self {
            let extents = Extents::whole(whole.cid(), whole.size());
            *self = Self::Ranges(Box::new(Ranges {
                extents,
                sealed: None,
                before: Some(whole.sealed()),
            }));
        }
        match self {
            Self::Ranges(ranges) => {
                if let Some(sealed) = ranges.sealed.take() {
                    ranges.before = Some(sealed);
                }
                &mut ranges.extents
            }
            Self::Whole(_) => unreachable!("was made ranges above"),
        }
    }
}

/// A directory: what the last checkpoint has, and what is known beyond it.
#[derive(Debug, Clone, Default)]
pub(in crate::tree::mfs) struct Directory {
    /// As it was sealed last, if it was.
    pub(in crate::tree::mfs) base: Option<Base>,
    /// Names that are known to lead somewhere or nowhere.
    pub(in crate::tree::mfs) entries: BTreeMap<Key, Dentry>,
    /// Names that were set since the checkpoint, and the sequences of their last
    /// changes. Apart, since most entries of large trees are as in the checkpoint.
    pub(in crate::tree::mfs) changed: BTreeMap<Key, u64>,
    /// Whether `entries` has every name that there is.
    pub(in crate::tree::mfs) complete: bool,
    /// How many of the names lead to directories, where it is known: not for
    /// content that was only mounted.
    pub(in crate::tree::mfs) directories: Option<u64>,
    /// Whether it could become a HAMT.
    pub(in crate::tree::mfs) hashes: Hashes,
    /// Sequence of the mount that gave it its base since the checkpoint, whose
    /// records of what is in it count no longer; 0: none.
    pub(in crate::tree::mfs) mounted: u64,
}

/// What is known of the hashes of a directory's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::tree::mfs) enum Hashes {
    /// Nothing yet.
    #[default]
    Unknown,
    /// All differ, and no name with an equal one is let in.
    Differ,
    /// Some of mounted content are equal, so it stays one block, which had so many bytes.
    Equal(u64),
}

/// A sealed directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Base {
    pub(in crate::tree::mfs) sealed: Sealed,
    /// Entries and bytes of links, where known.
    pub(in crate::tree::mfs) tally: Option<DirTally>,
}

/// Place of a name in a directory: by hash, as listings go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tree::mfs) struct Key {
    /// Below 2^62, at least 16: the cookie of the entry.
    pub(in crate::tree::mfs) hash: u64,
    pub(in crate::tree::mfs) name: Name,
}

impl Key {
    pub(in crate::tree::mfs) fn new(name: &[u8]) -> Self {
        Self {
            hash: hash(name),
            name: name.into(),
        }
    }

    pub(in crate::tree::mfs) fn of(name: Name) -> Self {
        Self {
            hash: hash(&name),
            name,
        }
    }
}

/// The place of a name among keys in order; `None` where it is not there.
///
/// Hashes are spread evenly, so it is near where its own says: looking there
/// first takes a few steps where halving takes twenty, each a miss of the caches.
pub(in crate::tree::mfs) fn place_of(keys: &[Key], name: &[u8]) -> Option<usize> {
    let wanted = hash(name);
    let (first, last) = (keys.first()?.hash, keys.last()?.hash);
    if !(first..=last).contains(&wanted) {
        return None;
    }
    let share = (wanted - first) as f64 / (last - first).max(1) as f64;
    let guess = (share * keys.len() as f64) as usize;
    let is_below = |at: usize| keys.get(at).is_some_and(|key| key.hash < wanted);
    let mut width = 32;
    let (mut from, mut to) = (guess, guess);
    while from > 0 && !is_below(from) {
        from = from.saturating_sub(width);
        width *= 4;
    }
    width = 32;
    while to < keys.len() && is_below(to) {
        to = to.saturating_add(width);
        width *= 4;
    }
    let near = keys.get(from..to.min(keys.len())).unwrap_or_default();
    let at = from + near.partition_point(|key| key.hash < wanted);
    let mut equal = keys.iter().skip(at).take_while(|key| key.hash == wanted);
    equal
        .position(|key| *key.name == *name)
        .map(|more| at + more)
}

fn hash(name: &[u8]) -> u64 {
    // The two lowest bits are left to tell equal hashes apart.
    ((fastmurmur3::hash(name) as u64) >> 2).max(16) & !3
}

/// What a name leads to, packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Dentry {
    /// A node's number, or one that no node has.
    to: u64,
}

const UNLOADED: u64 = 0;
const ABSENT: u64 = 1;

impl Dentry {
    pub(in crate::tree::mfs) fn new(to: To) -> Self {
        let to = match to {
            To::Node(node) => node.number(),
            To::Unloaded => UNLOADED,
            To::Absent => ABSENT,
        };
        Self { to }
    }

    pub(in crate::tree::mfs) fn to(&self) -> To {
        match self.to {
            UNLOADED => To::Unloaded,
            number => NodeId::from_number(number).map_or(To::Absent, To::Node),
        }
    }
}

/// Where a name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tree::mfs) enum To {
    /// A node that is loaded.
    Node(NodeId),
    /// Sealed content whose node is not loaded.
    Unloaded,
    /// Nowhere; proven.
    Absent,
}

impl Inode {
    /// A node of one name with nothing known of it but its kind and content.
    pub(in crate::tree::mfs) fn plain(kind: NodeKind, body: Body) -> Self {
        Self {
            kind,
            nlink: 1,
            mode: 0,
            uid: 0,
            gid: 0,
            held: 0,
            atime: PackedTime::default(),
            mtime: PackedTime::default(),
            ctime: PackedTime::default(),
            home: None,
            rare: None,
            body,
        }
    }

    /// A copy that has another content.
    pub(in crate::tree::mfs) fn with_body(&self, body: Body) -> Self {
        Self {
            home: self.home.clone(),
            rare: self.rare.clone(),
            body,
            ..*self
        }
    }

    /// What `stat` shows.
    pub(in crate::tree::mfs) fn attr(&self, node: NodeId) -> NodeAttr {
        let (size, data) = match &self.body {
            Body::File(content) => (content.size(), content.data_bytes()),
            Body::Symlink(link) => (link.target.len() as u64, link.target.len() as u64),
            Body::Directory(_) | Body::Special => (0, 0),
        };
        NodeAttr {
            node,
            kind: self.kind,
            size,
            blocks: data.div_ceil(512),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink_shown(),
            rdev: self.rdev(),
            atime: self.atime.into(),
            mtime: self.mtime.into(),
            ctime: self.ctime.into(),
        }
    }

    /// The link count: of a directory its name, its `.`, and the `..` of those
    /// in it; 1 where these are not counted.
    fn nlink_shown(&self) -> u32 {
        match self.directory().and_then(|directory| directory.directories) {
            Some(below) if self.nlink > 0 => u32::try_from(below + 2).unwrap_or(u32::MAX),
            Some(_) | None => self.nlink.into(),
        }
    }

    /// References of mounts.
    pub(in crate::tree::mfs) fn held(&self) -> u32 {
        self.held
    }

    /// Sets the references of mounts, to what they were.
    pub(in crate::tree::mfs) fn set_held(&mut self, held: u32) {
        self.held = held;
    }

    /// One reference more. What could not be counted is never let go.
    pub(in crate::tree::mfs) fn hold(&mut self) {
        self.held = self.held.saturating_add(1);
    }

    /// References less.
    pub(in crate::tree::mfs) fn release(&mut self, count: u64) {
        if self.held < u32::MAX {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.held = self.held.saturating_sub(count);
        }
    }

    /// Whether it is as the checkpoint has it.
    pub(in crate::tree::mfs) fn is_clean(&self) -> bool {
        self.meta_changed() == 0 && self.content_changed() == 0
    }

    /// Sequence of the last change of what `stat` and xattrs show; 0: as in the checkpoint.
    pub(in crate::tree::mfs) fn meta_changed(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.meta_changed)
    }

    pub(in crate::tree::mfs) fn set_meta_changed(&mut self, seq: u64) {
        self.change_rare(|rare| rare.meta_changed = seq);
    }

    /// Sequence of the last change of the content; 0: as in the checkpoint.
    pub(in crate::tree::mfs) fn content_changed(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.content_changed)
    }

    pub(in crate::tree::mfs) fn set_content_changed(&mut self, seq: u64) {
        self.change_rare(|rare| rare.content_changed = seq);
    }

    /// The number of a device.
    pub(in crate::tree::mfs) fn rdev(&self) -> u32 {
        self.rare.as_ref().map_or(0, |rare| rare.rdev)
    }

    pub(in crate::tree::mfs) fn set_rdev(&mut self, rdev: u32) {
        self.change_rare(|rare| rare.rdev = rdev);
    }

    /// All names that lead here, where there are or were several.
    pub(in crate::tree::mfs) fn links(&self) -> Option<&Links> {
        self.rare.as_ref()?.links.as_ref()
    }

    /// The same, to change.
    pub(in crate::tree::mfs) fn links_mut(&mut self) -> Option<&mut Links> {
        self.rare.as_mut()?.links.as_mut()
    }

    pub(in crate::tree::mfs) fn set_links(&mut self, links: Links) {
        self.change_rare(|rare| rare.links = Some(links));
    }

    /// All names that lead here.
    pub(in crate::tree::mfs) fn names(&self) -> impl Iterator<Item = &(NodeId, Name)> {
        let home = self.home.iter().filter(|_| self.links().is_none());
        self.links().into_iter().flatten().chain(home)
    }

    pub(in crate::tree::mfs) fn xattrs(&self) -> impl Iterator<Item = (&Name, &Bytes)> {
        self.rare.iter().flat_map(|rare| rare.xattrs.iter())
    }

    pub(in crate::tree::mfs) fn xattr(&self, name: &[u8]) -> Option<&Bytes> {
        self.rare.as_ref()?.xattrs.get(name)
    }

    pub(in crate::tree::mfs) fn set_xattr(&mut self, name: Name, value: Bytes) {
        self.change_rare(|rare| {
            rare.xattrs.insert(name, value);
        });
    }

    pub(in crate::tree::mfs) fn remove_xattr(&mut self, name: &[u8]) {
        self.change_rare(|rare| {
            rare.xattrs.remove(name);
        });
    }

    /// Sets all attributes.
    pub(in crate::tree::mfs) fn set_xattrs(&mut self, xattrs: Xattrs) {
        self.change_rare(|rare| rare.xattrs = xattrs);
    }

    /// Changes what is apart, which is there no longer than there is something.
    fn change_rare(&mut self, change: impl FnOnce(&mut Rare)) {
        let mut rare = self.rare.take().unwrap_or_default();
        change(&mut rare);
        self.rare = (*rare != Rare::default()).then_some(rare);
    }

    pub(in crate::tree::mfs) fn directory(&self) -> Option<&Directory> {
        match &self.body {
            Body::Directory(directory) => Some(directory),
            Body::File(_) | Body::Symlink(_) | Body::Special => None,
        }
    }

    pub(in crate::tree::mfs) fn directory_mut(&mut self) -> Option<&mut Directory> {
        match &mut self.body {
            Body::Directory(directory) => Some(directory),
            Body::File(_) | Body::Symlink(_) | Body::Special => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_its_entry_stay_as_small_as_trees_of_millions_need_them() {
        assert!(size_of::<Inode>() <= 120, "{}", size_of::<Inode>());
        assert!(size_of::<Key>() + size_of::<Dentry>() <= 24);
    }

    #[test]
    fn a_name_is_found_among_keys_in_order_and_no_other_is() {
        for count in [0, 1, 2, 3, 100, 5000] {
            let name = |at: usize| format!("name-{at}").into_bytes();
            let mut keys: Vec<_> = (0..count).map(|at| Key::new(&name(at))).collect();
            // Two of one hash, and one far from the rest.
            for (hash, name) in [(1 << 40, b"a"), (1 << 40, b"b"), (16, b"c")] {
                let name = Name::from(name);
                keys.push(Key { hash, name });
            }
            keys.sort_unstable();
            for at in 0..count {
                let found = place_of(&keys, &name(at)).unwrap();
                assert_eq!(*keys[found].name, name(at));
                assert_eq!(place_of(&keys, &name(at + count)), None);
            }
            assert_eq!(place_of(&keys, b"a"), None, "it is under a wrong hash");
        }
        let one = [Key::new(b"x")];
        assert_eq!(place_of(&one, b"x"), Some(0));
        assert_eq!(place_of(&[], b"x"), None);
    }

    #[test]
    fn sealed_content_is_what_it_was_whether_it_is_one_block_or_not() {
        use crate::block::{Block, DAG_PB, RAW, SHA2_256};
        let cid = |codec| *Block::seal(codec, SHA2_256, "abc".into()).unwrap().cid();
        for (codec, size, tsize, is_leaf) in [
            (RAW, 3, 3, true),
            (RAW, 3, 4, false),
            (RAW, 1 << 40, 1 << 40, false),
            (DAG_PB, 3, 3, false),
        ] {
            let sealed = Sealed {
                cid: (&cid(codec)).into(),
                tsize,
            };
            let whole = Whole::new(sealed.clone(), size);
            assert_eq!((whole.sealed(), whole.size()), (sealed.clone(), size));
            assert_eq!(whole.cid(), sealed.cid);
            assert_eq!(matches!(whole.0, Form::Leaf { .. }), is_leaf);
        }
    }

    #[test]
    fn what_few_nodes_have_is_gone_with_the_last_of_it() {
        let mut inode = Inode::plain(NodeKind::File, Body::Special);
        inode.set_meta_changed(7);
        inode.set_xattr(Name::from(b"user.a"), "1".into());
        inode.set_rdev(5);
        assert_eq!((inode.meta_changed(), inode.rdev()), (7, 5));
        assert_eq!(inode.xattr(b"user.a"), Some(&"1".into()));
        assert!(!inode.is_clean());
        inode.set_meta_changed(0);
        inode.set_rdev(0);
        assert!(inode.is_clean() && inode.rare.is_some());
        inode.remove_xattr(b"user.a");
        assert!(inode.rare.is_none());
    }

    #[test]
    fn a_time_is_what_it_was_after_it_was_packed() {
        for sec in [0, 1, -1, i64::MAX, i64::MIN, 1 << 33, -(1 << 40)] {
            let time = Time {
                sec,
                nsec: 999_999_999,
            };
            assert_eq!(Time::from(PackedTime::from(time)), time);
        }
    }

    #[test]
    fn where_a_name_leads_is_what_it_was_after_it_was_packed() {
        for to in [
            To::Node(NodeId::ROOT),
            To::Node(NodeId::from_hash(0)),
            To::Node(NodeId::counted(u64::MAX)),
            To::Unloaded,
            To::Absent,
        ] {
            assert_eq!(Dentry::new(to).to(), to);
        }
    }

    #[test]
    fn references_that_could_not_be_counted_are_never_let_go() {
        let mut inode = Inode::plain(NodeKind::File, Body::Special);
        inode.hold();
        inode.release(1);
        assert_eq!(inode.held(), 0);
        inode.set_held(u32::MAX - 1);
        inode.hold();
        inode.hold();
        inode.release(5);
        assert_eq!(inode.held(), u32::MAX);
    }
}
