//! Kept checkpoints: what differs between two, and how one is brought back.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::apply::MOUNTED;
use super::checkpoint::Checkpointed;
use super::checkpoint::records::ROOT_NAME;
use super::load::{Loaded, plain_inode, take_record};
use super::node::{Base, Body, Content, Directory, Inode, Name, Sealed};
use super::path::TreePath;
use super::transaction::{Made, Staged};
use super::types::{New, NodeId, NodeKind, SetAttr, SetTime};
use super::Mfs;
use crate::block::Cid;
use crate::config::{LIST_BATCH, PATH_BYTES_MAX, TRANSACTION_CHANGES_MAX};
use crate::tree::error::TreeError;
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
        let one = Difference { path: path.clone(), change, old, new };
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
        let mut found = Found { all: BTreeMap::new(), below, limit, truncated: false };
        self.differing_content(&a.root, &b.root, &mut found).await?;
        if !found.truncated {
            self.differing_records(a, b, &mut found).await?;
        }
        Ok(Differences { list: found.all.into_values().collect(), truncated: found.truncated })
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
                entries.into_iter().map(|entry| (entry.name, entry.cid)).collect()
            };
            let old = by_name(self.reader.entries(&a).await?);
            let mut new = by_name(self.reader.entries(&b).await?);
            for (name, was) in old {
                let here = path.join(&name);
                match new.remove(&name) {
                    None => found.add(here.bytes(), "removed", Some(was), None),
                    Some(is) if is == was => {}
                    Some(is) if self.is_directory(&was).await? && self.is_directory(&is).await? => {
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
        self.map.diff(a.posix.as_ref(), b.posix.as_ref(), &mut each).await?;
        found.truncated |= records.len() > most;
        let mut places = HashMap::new();
        for one in records {
            let Some(above) = self.place_of(one.parent, (a, b), &mut places).await? else { continue };
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

    /// The changes that bring a path back with all that a checkpoint has of it.
    pub async fn makings_of(
        self: &std::sync::Arc<Self>,
        snapshot: &Checkpointed,
        from: &TreePath,
        to: &TreePath,
        replace: bool,
    ) -> Result<Vec<Staged>, TreeError> {
        let root = self.snapshot_node(snapshot, from).await?;
        let mut staged = self.removals(to, replace).await?;
        let (mut finished, mut links) = (Vec::new(), HashMap::new());
        let mut open = vec![(root, to.clone())];
        while let Some((loaded, path)) = open.pop() {
            if staged.len() + open.len() > TRANSACTION_CHANGES_MAX {
                let why = format!("{TRANSACTION_CHANGES_MAX} changes at once; content_only needs one");
                return Err(TreeError::Limit(why));
            }
            if loaded.inode.links.as_ref().is_some_and(|links| links.len() > 1) {
                if let Some(first) = links.get(&loaded.number) {
                    staged.push(Staged::Link { from: TreePath::clone(first), to: path });
                    continue;
                }
                links.insert(loaded.number, path.clone());
            }
            if let Some(base) = below(&loaded.inode) {
                finished.push(finish(&path, &loaded.inode));
                for (name, child) in self.children(snapshot, loaded.number, base.as_ref()).await? {
                    open.push((child, path.join(&name)));
                }
            }
            if path.names().is_empty() {
                continue;
            }
            match mounted(&loaded.inode) {
                Some(cid) => {
                    let content = self.content(&cid).await?;
                    staged.push(Staged::Mount { path: path.clone(), content, plain: false });
                    finished.push(finish(&path, &loaded.inode));
                }
                None => staged.push(Staged::Make(Box::new(made(path, loaded.inode)))),
            }
        }
        // What comes into a directory changes its times: the lowest first.
        finished.reverse();
        staged.extend(finished);
        Ok(staged)
    }

    /// The changes that bring the content of a path back as a whole.
    pub async fn grafts_of(
        self: &std::sync::Arc<Self>,
        snapshot: &Checkpointed,
        from: &TreePath,
        to: &TreePath,
        replace: bool,
    ) -> Result<Vec<Staged>, TreeError> {
        let root = self.snapshot_node(snapshot, from).await?;
        let mut staged = self.removals(to, replace).await?;
        let mut wanted = Vec::new();
        match (to.names(), root.inode.directory().and_then(|dir| dir.base.clone())) {
            ([], Some(base)) => {
                let entries = self.reader.entries(&base.sealed.cid.get()).await?;
                wanted.extend(entries.into_iter().map(|e| (to.join(&e.name), e.cid)));
            }
            ([], None) => {}
            ([_, ..], base) => {
                let sealed = match &root.inode.body {
                    Body::File(content) => content.sealed().cloned(),
                    Body::Symlink { sealed, .. } => sealed.clone(),
                    Body::Directory(_) | Body::Special => base.map(|base| base.sealed),
                };
                let sealed = sealed.ok_or(TreeError::Invalid("it has no content"))?;
                wanted.push((to.clone(), sealed.cid.get()));
            }
        }
        for (path, cid) in wanted {
            let content = self.content(&cid).await?;
            staged.push(Staged::Mount { path, content, plain: true });
        }
        Ok(staged)
    }

    /// What must go before something can be made at a path.
    async fn removals(
        self: &std::sync::Arc<Self>,
        to: &TreePath,
        replace: bool,
    ) -> Result<Vec<Staged>, TreeError> {
        let there = match self.find(to).await {
            Ok(there) => there,
            Err(TreeError::NotFound) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if !to.names().is_empty() {
            return match replace {
                true => Ok(vec![Staged::Remove { path: to.clone(), recursive: true }]),
                false => Err(TreeError::Exists),
            };
        }
        let (mut gone, mut cookie) = (Vec::new(), 0);
        loop {
            let page = self.readdir(there.node(), cookie, LIST_BATCH).await?;
            let Some(last) = page.last() else { break };
            cookie = last.cookie;
            let paths = page.iter().map(|entry| to.join(&entry.name));
            gone.extend(paths.map(|path| Staged::Remove { path, recursive: true }));
        }
        match gone.is_empty() || replace {
            true => Ok(gone),
            false => Err(TreeError::NotEmpty),
        }
    }

    /// Finds a node as a checkpoint has it.
    async fn snapshot_node(
        &self,
        snapshot: &Checkpointed,
        path: &TreePath,
    ) -> Result<Loaded, TreeError> {
        let sealed = Sealed { cid: (&snapshot.root).into(), tsize: 0 };
        let body = Body::Directory(Directory {
            base: Some(Base { sealed, tally: None }),
            ..Directory::default()
        });
        let mut inode = Inode { mode: 0o755, ..plain_inode(NodeKind::Directory, body) };
        inode.uid = self.options.uid;
        inode.gid = self.options.gid;
        if let Some(posix) = &snapshot.posix
            && let Some(value) = self.map.get(posix, &key::dentry(0, ROOT_NAME)).await?
            && let record::DentryBody::Inline(known) = record::Dentry::decode(&value)?.body
        {
            take_record(&mut inode, known);
        }
        let mut at = Loaded { number: NodeId::ROOT, inode };
        for name in path.names() {
            let base = match at.inode.directory() {
                Some(directory) => directory.base.as_ref().map(|base| base.sealed.cid.get()),
                None => return Err(TreeError::NotADirectory),
            };
            let entry = match &base {
                Some(base) => self.reader.find(base, name).await?,
                None => None,
            };
            let found = self.read_node(at.number, name, entry, snapshot.posix.as_ref()).await?;
            at = found.ok_or(TreeError::NotFound)?;
        }
        Ok(at)
    }

    /// What is in a directory of a checkpoint.
    async fn children(
        &self,
        snapshot: &Checkpointed,
        number: NodeId,
        base: Option<&Cid>,
    ) -> Result<Vec<(Name, Loaded)>, TreeError> {
        let mut entries: BTreeMap<Bytes, Option<crate::unixfs::node::DirEntry>> = BTreeMap::new();
        if let Some(base) = base {
            let all = self.reader.entries(base).await?;
            entries.extend(all.into_iter().map(|entry| (entry.name.clone(), Some(entry))));
        }
        if let Some(posix) = &snapshot.posix {
            let mut special = std::collections::BTreeSet::new();
            self.special_names(posix, number, &mut special).await?;
            for name in special {
                entries.entry(name).or_insert(None);
            }
        }
        let mut children = Vec::new();
        for (name, entry) in entries {
            let name = Name::from(&name[..]);
            let found = self.read_node(number, &name, entry, snapshot.posix.as_ref()).await?;
            children.extend(found.map(|found| (name, found)));
        }
        Ok(children)
    }
}

/// The content of a directory that is to be gone through; `None` for what is
/// none or is there as a whole.
fn below(inode: &Inode) -> Option<Option<Cid>> {
    let directory = inode.directory().filter(|_| mounted(inode).is_none())?;
    Some(directory.base.as_ref().map(|base| base.sealed.cid.get()))
}

/// The content that was mounted at a directory, while it was still that.
fn mounted(inode: &Inode) -> Option<Cid> {
    let text = inode.xattr(MOUNTED)?;
    let cid = Cid::try_from(std::str::from_utf8(text).ok()?).ok()?;
    let base = inode.directory()?.base.as_ref()?;
    (base.sealed.cid.get() == cid).then_some(cid)
}

fn made(path: TreePath, inode: Inode) -> Made {
    let times = times(&inode);
    let xattrs = inode.xattrs.iter().flat_map(|all| all.iter());
    let xattrs = xattrs.filter(|(name, _)| ***name != *MOUNTED);
    let xattrs = xattrs.map(|(name, value)| (Bytes::copy_from_slice(name), value.clone())).collect();
    let mut content = None;
    let new = match (inode.kind, inode.body) {
        (NodeKind::Directory, _) => New::Directory,
        (NodeKind::Fifo, _) => New::Fifo,
        (NodeKind::Socket, _) => New::Socket,
        (NodeKind::CharDevice, _) => New::CharDevice(inode.rdev),
        (NodeKind::BlockDevice, _) => New::BlockDevice(inode.rdev),
        (_, Body::Symlink { target, .. }) => New::Symlink(target),
        (_, Body::File(Content::Whole { sealed, size })) => {
            content = Some((sealed.cid.get(), size));
            New::File
        }
        (_, Body::File(Content::Ranges { .. }) | Body::Directory(_) | Body::Special) => New::File,
    };
    let (mode, uid, gid) = (inode.mode, inode.uid, inode.gid);
    Made { path, new, mode, uid, gid, xattrs, content, times }
}

fn times(inode: &Inode) -> SetAttr {
    SetAttr {
        atime: Some(SetTime::At(inode.atime)),
        mtime: Some(SetTime::At(inode.mtime)),
        ..SetAttr::default()
    }
}

/// Sets a directory's attributes once all that is in it is there.
fn finish(path: &TreePath, inode: &Inode) -> Staged {
    let set = SetAttr {
        mode: Some(inode.mode),
        uid: Some(inode.uid),
        gid: Some(inode.gid),
        ..times(inode)
    };
    Staged::Metadata { path: path.clone(), set }
}

/// Whether a path, or a directory above it, was added as a whole.
fn covered(found: &Found, path: &[u8]) -> bool {
    let is_added = |path: &[u8]| found.all.get(path).is_some_and(|one| one.change == "added");
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    found.all.contains_key(path)
        || slashes.filter_map(|(at, _)| path.get(..at)).any(is_added)
}

fn same_but_times(a: &record::Posix, b: &record::Posix) -> bool {
    let timeless = |one: &record::Posix| {
        let time = record::Time::default();
        record::Posix { atime: time, mtime: time, ctime: time, ..one.clone() }
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
            vec![Record { parent, name: name.to_vec(), old, new, is_directory }]
        }
        Some(key::Key::Inode { .. }) => {
            let decode = |value: Option<&[u8]>| value.and_then(|v| record::Inode::decode(v).ok());
            let (old, new) = (decode(one.old), decode(one.new));
            let links = new.iter().chain(&old).next().map(|inode| inode.links.clone());
            let (old, new) = (old.map(|inode| inode.posix), new.map(|inode| inode.posix));
            let each = links.unwrap_or_default().into_iter().map(|(parent, name)| Record {
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
