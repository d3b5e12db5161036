//! What differs between two kept checkpoints.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::block::Cid;
use crate::config::PATH_BYTES_MAX;
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::checkpoint::Checkpointed;
use crate::tree::mfs::path::TreePath;
use crate::tree::mfs::types::NodeId;
use crate::tree::posix::{key, record};
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
}

/// A record that differs.
struct Record {
    parent: u64,
    name: Vec<u8>,
    old: Option<record::Posix>,
    new: Option<record::Posix>,
    is_directory: bool,
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

    /// What UnixFS cannot say: owners, modes, attributes, special files.
    async fn differing_records(
        &self,
        a: &Checkpointed,
        b: &Checkpointed,
        found: &mut Found,
    ) -> Result<(), TreeError> {
        let mut records: Vec<Record> = Vec::new();
        let most = found.limit.saturating_mul(4);
        let mut each = |one: crate::tree::posix::Difference<'_>| {
            records.extend(records_of(&one));
            match records.len() > most {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        self.map
            .diff(a.posix.as_ref(), b.posix.as_ref(), &mut each)
            .await?;
        found.truncated |= records.len() > most;
        let mut places = HashMap::new();
        for one in records {
            let Some(above) = self.place_of(one.parent, (a, b), &mut places).await? else {
                continue;
            };
            let path = above.join(&one.name).bytes();
            let is_special =
                |posix: &Option<record::Posix>| posix.as_ref().is_some_and(|p| p.special.is_some());
            match (&one.old, &one.new) {
                (None, new) if is_special(new) => found.add(path, "added", None, None),
                (old, None) if is_special(old) => found.add(path, "removed", None, None),
                (Some(old), Some(new)) if one.is_directory && same_but_times(old, new) => {}
                // Gone with the content, or with a directory above it.
                (_, None) => {}
                (_, Some(_)) if covered(found, &path) => {}
                (_, Some(_)) => found.add(path, "metadata", None, None),
            }
        }
        Ok(())
    }

    /// The path of a directory by its number.
    async fn place_of(
        &self,
        number: u64,
        (a, b): (&Checkpointed, &Checkpointed),
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
            for posix in [b.posix, a.posix].into_iter().flatten() {
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

/// Whether a path, or a directory above it, was added as a whole.
fn covered(found: &Found, path: &[u8]) -> bool {
    let is_added = |path: &[u8]| found.all.get(path).is_some_and(|one| one.change == "added");
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    found.all.contains_key(path) || slashes.filter_map(|(at, _)| path.get(..at)).any(is_added)
}

fn same_but_times(a: &record::Posix, b: &record::Posix) -> bool {
    let timeless = |one: &record::Posix| {
        let time = record::Time::default();
        record::Posix {
            atime: time,
            mtime: time,
            ctime: time,
            ..one.clone()
        }
    };
    timeless(a) == timeless(b)
}

/// What a difference between two maps of records says.
fn records_of(one: &crate::tree::posix::Difference<'_>) -> Vec<Record> {
    match key::Key::decode(one.key) {
        Some(key::Key::Dentry { parent, name }) => {
            let decode = |value: Option<&[u8]>| value.and_then(|v| record::Dentry::decode(v).ok());
            let (old, new) = (decode(one.old), decode(one.new));
            let known = old.iter().chain(&new);
            let is_directory = known.clone().any(|dentry| dentry.tally.is_some());
            // What several names lead to has its record under its number.
            let inline = |dentry: Option<record::Dentry>| match dentry.map(|dentry| dentry.body) {
                Some(record::DentryBody::Inline(posix)) => Some(posix),
                Some(record::DentryBody::Linked) | None => None,
            };
            let (old, new) = (inline(old), inline(new));
            if old == new || parent == 0 {
                return Vec::new();
            }
            vec![Record {
                parent,
                name: name.to_vec(),
                old,
                new,
                is_directory,
            }]
        }
        Some(key::Key::Inode { .. }) => {
            let decode = |value: Option<&[u8]>| value.and_then(|v| record::Inode::decode(v).ok());
            let (old, new) = (decode(one.old), decode(one.new));
            let links = new
                .iter()
                .chain(&old)
                .next()
                .map(|inode| inode.links.clone());
            let (old, new) = (old.map(|inode| inode.posix), new.map(|inode| inode.posix));
            let each = links
                .unwrap_or_default()
                .into_iter()
                .map(|(parent, name)| Record {
                    parent,
                    name,
                    old: old.clone(),
                    new: new.clone(),
                    is_directory: false,
                });
            each.collect()
        }
        Some(key::Key::Place { .. } | key::Key::State { .. }) | None => Vec::new(),
    }
}
