//! What differs between two kept checkpoints.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::block::Cid;
use crate::config::{DIFFERENCES_MAX, PATH_BYTES_MAX};
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::apply::{HELD, MOUNTED};
use crate::tree::mfs::checkpoint::Checkpointed;
use crate::tree::mfs::nodes::node::Name;
use crate::tree::mfs::path::TreePath;
use crate::tree::mfs::types::NodeId;
use crate::tree::posix::{PosixMap, key, record};
use crate::unixfs::MetaKind;

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path.
    pub path: Vec<u8>,
    /// `added`, `removed`, `changed`, or `metadata` where the content is the same.
    pub change: &'static str,
    /// Its content before; of an added or removed directory all below goes with it.
    pub old: Option<Cid>,
    /// Its content after.
    pub new: Option<Cid>,
}

/// Paths that differ, in the order of their bytes.
#[derive(Debug, Clone, Default)]
pub struct Differences {
    /// The paths.
    pub list: Vec<Difference>,
    /// Whether there are more.
    pub truncated: bool,
}

/// Gathers differences up to a limit.
struct Found {
    all: BTreeMap<Vec<u8>, Difference>,
    below: Vec<u8>,
    limit: usize,
    truncated: bool,
}

impl Found {
    fn add(&mut self, path: Vec<u8>, change: &'static str, old: Option<Cid>, new: Option<Cid>) {
        let rest = path.strip_prefix(&self.below[..]);
        if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")) {
            return;
        }
        if self.all.len() >= self.limit && !self.all.contains_key(&path) {
            self.truncated = true;
            return;
        }
        let one = Difference {
            path: path.clone(),
            change,
            old,
            new,
        };
        self.all.entry(path).or_insert(one);
    }

    /// Compares what is recorded of a path. What came or went with its content, or
    /// with a directory above it, is told by that.
    fn compare(
        &mut self,
        path: Vec<u8>,
        old: Option<&(record::Posix, bool)>,
        new: Option<&(record::Posix, bool)>,
    ) {
        let is_special = |one: &(record::Posix, bool)| one.0.special.is_some();
        match (old, new) {
            _ if self.is_told(&path) => {}
            (None, Some(new)) if is_special(new) => self.add(path, "added", None, None),
            (Some(old), None) if is_special(old) => self.add(path, "removed", None, None),
            (_, None) => {}
            (Some((old, _)), Some((new, is_directory)))
                if says_the_same(old, new, *is_directory) => {}
            (_, Some(_)) => self.add(path, "metadata", None, None),
        }
    }

    /// Whether a path is told of, or a directory above it as one that came or went.
    fn is_told(&self, path: &[u8]) -> bool {
        let is_whole = |path: &[u8]| {
            let found = self.all.get(path);
            found.is_some_and(|one| matches!(one.change, "added" | "removed"))
        };
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        self.all.contains_key(path) || slashes.filter_map(|(at, _)| path.get(..at)).any(is_whole)
    }
}

/// A name whose record differs, as one of the checkpoints has it.
struct Named {
    /// Whether it is of the later one.
    later: bool,
    parent: u64,
    name: Vec<u8>,
}

/// What a checkpoint has recorded, by path.
struct Recorded<'m> {
    map: &'m PosixMap,
    root: Option<Cid>,
    /// Numbers of directories, of which nothing may be recorded.
    numbers: HashMap<Vec<u8>, Option<u64>>,
}

impl Recorded<'_> {
    /// The record of a path, and whether it is that of a directory.
    async fn at(&mut self, path: &TreePath) -> Result<Option<(record::Posix, bool)>, TreeError> {
        let (Some(root), Some((name, above))) = (self.root, path.names().split_last()) else {
            return Ok(None);
        };
        let Some(parent) = self.number(above).await? else {
            return Ok(None);
        };
        let Some(dentry) = self.dentry(parent, name).await? else {
            return Ok(None);
        };
        let is_directory = dentry.tally.is_some();
        match dentry.body {
            record::DentryBody::Inline(posix) => Ok(Some((posix, is_directory))),
            record::DentryBody::Linked => {
                let value = self.map.get(&root, &key::inode(dentry.node)).await?;
                let inode = value.map(|value| record::Inode::decode(&value));
                Ok(inode.transpose()?.map(|inode| (inode.posix, is_directory)))
            }
        }
    }

    /// The number of a directory.
    async fn number(&mut self, names: &[Name]) -> Result<Option<u64>, TreeError> {
        let (mut at, mut here) = (Some(NodeId::ROOT.number()), Vec::new());
        for name in names {
            let Some(parent) = at else { return Ok(None) };
            here.push(b'/');
            here.extend_from_slice(name);
            at = match self.numbers.get(&here) {
                Some(known) => *known,
                None => {
                    let number = self.dentry(parent, name).await?.map(|dentry| dentry.node);
                    self.numbers.insert(here.clone(), number);
                    number
                }
            };
        }
        Ok(at)
    }

    async fn dentry(&self, parent: u64, name: &[u8]) -> Result<Option<record::Dentry>, TreeError> {
        let Some(root) = self.root else {
            return Ok(None);
        };
        let value = self.map.get(&root, &key::dentry(parent, name)).await?;
        let dentry = value.map(|value| record::Dentry::decode(&value));
        Ok(dentry.transpose()?)
    }
}

impl Mfs {
    /// Tells what differs between two checkpoints at or below a path.
    pub async fn differences(
        &self,
        a: &Checkpointed,
        b: &Checkpointed,
        below: &TreePath,
        limit: usize,
    ) -> Result<Differences, TreeError> {
        let below = below.bytes();
        let below = below.strip_suffix(b"/").unwrap_or(&below).to_vec();
        let mut found = Found {
            all: BTreeMap::new(),
            below,
            limit,
            truncated: false,
        };
        self.differing_content(&a.root, &b.root, &mut found).await?;
        if !found.truncated {
            self.differing_records(a, b, &mut found).await?;
        }
        Ok(Differences {
            list: found.all.into_values().collect(),
            truncated: found.truncated,
        })
    }

    async fn differing_content(
        &self,
        a: &Cid,
        b: &Cid,
        found: &mut Found,
    ) -> Result<(), TreeError> {
        let mut open = vec![(TreePath::parse(b"")?, *a, *b)];
        while let Some((path, a, b)) = open.pop() {
            if a == b || found.truncated {
                continue;
            }
            let by_name = |entries: Vec<crate::unixfs::node::DirEntry>| -> BTreeMap<Bytes, Cid> {
                entries
                    .into_iter()
                    .map(|entry| (entry.name, entry.cid))
                    .collect()
            };
            let old = by_name(self.reader.entries(&a).await?);
            let mut new = by_name(self.reader.entries(&b).await?);
            for (name, was) in old {
                let here = path.join(&name);
                match new.remove(&name) {
                    None => found.add(here.bytes(), "removed", Some(was), None),
                    Some(is) if is == was => {}
                    Some(is)
                        if self.is_directory(&was).await? && self.is_directory(&is).await? =>
                    {
                        open.push((here, was, is));
                    }
                    Some(is) => found.add(here.bytes(), "changed", Some(was), Some(is)),
                }
            }
            for (name, is) in new {
                found.add(path.join(&name).bytes(), "added", None, Some(is));
            }
        }
        Ok(())
    }

    async fn is_directory(&self, cid: &Cid) -> Result<bool, TreeError> {
        Ok(self.reader.meta(cid).await?.kind == MetaKind::Directory)
    }

    /// What UnixFS cannot say: owners, modes, attributes, special files. Numbers
    /// of nodes say nothing: what a restore has made has others.
    async fn differing_records(
        &self,
        a: &Checkpointed,
        b: &Checkpointed,
        found: &mut Found,
    ) -> Result<(), TreeError> {
        let mut names: Vec<Named> = Vec::new();
        // Many of them may come to nothing, and each is small.
        let most = found.limit.saturating_mul(4).max(DIFFERENCES_MAX);
        let mut each = |one: crate::tree::posix::Difference<'_>| {
            names.extend(names_of(&one));
            match names.len() > most {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        self.map
            .diff(a.posix.as_ref(), b.posix.as_ref(), &mut each)
            .await?;
        found.truncated |= names.len() > most;
        let (mut places, mut paths) = ([HashMap::new(), HashMap::new()], BTreeSet::new());
        for one in names {
            let [earlier, later] = &mut places;
            let above = match one.later {
                false => self.place_of(one.parent, [a, b], earlier).await?,
                true => self.place_of(one.parent, [b, a], later).await?,
            };
            paths.extend(above.map(|above| above.join(&one.name).bytes()));
        }
        let recorded = |one: &Checkpointed| Recorded {
            map: &self.map,
            root: one.posix,
            numbers: HashMap::new(),
        };
        let (mut old, mut new) = (recorded(a), recorded(b));
        for path in paths {
            let at = TreePath::parse(&path)?;
            let (was, is) = (old.at(&at).await?, new.at(&at).await?);
            found.compare(path, was.as_ref(), is.as_ref());
        }
        Ok(())
    }

    /// The path of a directory by its number, as the first of two checkpoints has it.
    async fn place_of(
        &self,
        number: u64,
        within: [&Checkpointed; 2],
        known: &mut HashMap<u64, Option<TreePath>>,
    ) -> Result<Option<TreePath>, TreeError> {
        let (mut at, mut names, mut length) = (number, Vec::new(), 0);
        let mut path = loop {
            if at == NodeId::ROOT.number() {
                break Some(TreePath::parse(b"")?);
            }
            if let Some(found) = known.get(&at) {
                break found.clone();
            }
            let mut place = None;
            for posix in within.iter().filter_map(|one| one.posix) {
                if place.is_none() {
                    place = self.map.get(&posix, &key::place(at)).await?;
                }
            }
            let Some(place) = place else { break None };
            let place = record::Place::decode(&place)?;
            length += place.name.len() + 1;
            if length > PATH_BYTES_MAX {
                break None;
            }
            at = place.parent;
            names.push(place.name);
        };
        for name in names.iter().rev() {
            path = path.map(|path| path.join(name));
        }
        known.insert(number, path.clone());
        Ok(path)
    }
}

/// Whether two records of a path say the same. When a node was read, when its
/// attributes changed and where a file has holes is nothing that differs; of
/// a directory neither is when its entries changed.
fn says_the_same(a: &record::Posix, b: &record::Posix, is_directory: bool) -> bool {
    let own = |one: &record::Posix| {
        let xattrs = one.xattrs.iter();
        let xattrs = xattrs.filter(|(name, _)| ![MOUNTED, HELD].contains(&&***name));
        let mtime = (!is_directory).then_some(one.mtime);
        let owner = (one.mode, one.uid, one.gid);
        let xattrs: Vec<_> = xattrs
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        (owner, one.special, one.rdev, mtime, xattrs)
    };
    own(a) == own(b)
}

/// What a difference between two maps of records may say something of.
fn names_of(one: &crate::tree::posix::Difference<'_>) -> Vec<Named> {
    let named = |later, parent, name: &[u8]| Named {
        later,
        parent,
        name: name.to_vec(),
    };
    match key::Key::decode(one.key) {
        Some(key::Key::Dentry { parent, name }) if parent != 0 => {
            let decode = |value: Option<&[u8]>| value.and_then(|v| record::Dentry::decode(v).ok());
            let (old, new) = (decode(one.old), decode(one.new));
            if let (Some(old), Some(new)) = (&old, &new)
                && let (record::DentryBody::Inline(was), record::DentryBody::Inline(is)) =
                    (&old.body, &new.body)
                && says_the_same(was, is, old.tally.is_some())
            {
                return Vec::new();
            }
            let old = old.map(|_| named(false, parent, name));
            old.into_iter()
                .chain(new.map(|_| named(true, parent, name)))
                .collect()
        }
        Some(key::Key::Inode { .. }) => {
            let links = |later: bool, value: Option<&[u8]>| {
                let inode = value.and_then(|v| record::Inode::decode(v).ok());
                let links = inode.map(|inode| inode.links).unwrap_or_default();
                links
                    .into_iter()
                    .map(move |(parent, name)| named(later, parent, &name))
            };
            links(false, one.old).chain(links(true, one.new)).collect()
        }
        Some(key::Key::Dentry { .. } | key::Key::Place { .. } | key::Key::State { .. }) | None => {
            Vec::new()
        }
    }
}
