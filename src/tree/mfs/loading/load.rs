//! Loads what a step needs from the last checkpoint, without the lock.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::block::{Cid, DAG_PB, RAW};
use crate::config::{FETCHES_PER_REQUEST_MAX, LISTING_FETCHES_MAX, RECORDS_PAGE};
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::apply::MOUNTED;
use crate::tree::mfs::nodes::extents::Extents;
use crate::tree::mfs::nodes::fault::Need;
use crate::tree::mfs::nodes::node::{
    Base, Body, Content, Dentry, Directory, Hashes, Inode, Key, Name, Ranges, Sealed, Symlink, To,
    Whole, place_of,
};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::types::{NodeAttr, NodeId, NodeKind, Time};
use crate::tree::posix::{key, record};
use crate::unixfs::dir_build::DirTally;
use crate::unixfs::node::DirEntry;
use crate::unixfs::{Meta, MetaKind};

/// A directory as the checkpoint has it, and which checkpoint that was.
pub(in crate::tree::mfs) struct Sealing {
    pub(in crate::tree::mfs) base: Option<Cid>,
    pub(in crate::tree::mfs) posix: Option<Cid>,
    epoch: u64,
}

impl Sealing {
    /// Whether what was read of it still holds: no checkpoint came between, and
    /// no mount.
    pub(in crate::tree::mfs) fn holds(&self, state: &State, node: NodeId) -> bool {
        let Ok(directory) = state.directory(node) else {
            return false;
        };
        let base = directory.base.as_ref().map(|base| base.sealed.cid.get());
        state.epoch == self.epoch && base == self.base
    }
}

/// What is recorded of a node.
pub(in crate::tree::mfs) struct Recorded {
    pub(in crate::tree::mfs) number: NodeId,
    pub(in crate::tree::mfs) known: record::Posix,
    tally: Option<DirTally>,
    directories: Option<u64>,
    links: Option<Vec<(u64, Vec<u8>)>>,
}

impl Recorded {
    /// What a dentry says, if it says it all.
    pub(in crate::tree::mfs) fn of(dentry: record::Dentry) -> Result<Self, TreeError> {
        let known = match dentry.body {
            record::DentryBody::Inline(known) => known,
            record::DentryBody::Linked => {
                return Err(TreeError::Unavailable(
                    "record of one of several names".into(),
                ));
            }
        };
        let tally = dentry.tally.map(|tally| DirTally {
            entries: tally.entries,
            links_bytes: tally.links_bytes,
            names_bytes: tally.names_bytes,
        });
        Ok(Self {
            number: NodeId::from_number(dentry.node)
                .ok_or_else(|| TreeError::Unavailable("record with a bad number".into()))?,
            known,
            tally,
            directories: dentry.directories,
            links: None,
        })
    }

    /// What is recorded of a node with several names.
    fn linked(dentry: &record::Dentry, inode: record::Inode) -> Result<Self, TreeError> {
        let whole = record::Dentry {
            body: record::DentryBody::Inline(inode.posix),
            ..*dentry
        };
        Ok(Self {
            links: Some(inode.links),
            ..Self::of(whole)?
        })
    }

    /// What the content is, where its CID and its directory say it all: a raw
    /// block that was made here has the size that we have said.
    pub(in crate::tree::mfs) fn meta(&self, cid: &Cid, tsize: Option<u64>) -> Option<Meta> {
        let is_made = self.number.count().is_some() && !self.known.xattrs.contains_key(MOUNTED);
        let tsize = tsize.filter(|_| is_made && cid.codec() == RAW)?;
        Some(plain_meta(MetaKind::File, tsize))
    }

    fn is_special(&self) -> bool {
        self.known.special.is_some()
    }
}

/// A node that was read.
#[derive(Debug)]
pub(in crate::tree::mfs) struct Loaded {
    pub(in crate::tree::mfs) number: NodeId,
    pub(in crate::tree::mfs) inode: Inode,
}

impl Mfs {
    /// Loads what a step said that it needs.
    pub(in crate::tree::mfs) async fn load(&self, need: &Need) -> Result<(), TreeError> {
        match need {
            Need::Entry(parent, name) => self.load_entry(*parent, name).await,
            Need::Listing(node) => self.load_listing(*node).await,
            // Transactions alone ask for it, and load it themselves.
            Need::Linked(..) | Need::Unchanged(_) => Ok(()),
            Need::Keep(all) => self.keep(all).await,
            Need::Hashes(node) => self.load_hashes(*node).await,
        }
    }

    /// Finds out whether names of a directory have equal hashes.
    async fn load_hashes(&self, node: NodeId) -> Result<(), TreeError> {
        let sealing = self.sealing(node)?;
        let bytes = match &sealing.base {
            Some(base) => self.reader.stays_basic(base).await?,
            None => None,
        };
        let mut state = self.state.lock();
        if sealing.holds(&state, node)
            && let Some(inode) = state.nodes.get_mut(&node)
            && let Some(directory) = inode.directory_mut()
        {
            directory.hashes = bytes.map_or(Hashes::Differ, Hashes::Equal);
        }
        Ok(())
    }

    /// Loads several names of a directory side by side.
    pub(in crate::tree::mfs) async fn load_entries(
        &self,
        parent: NodeId,
        names: Vec<Name>,
    ) -> Result<(), TreeError> {
        stream::iter(names)
            .map(|name| async move { self.load_entry(parent, &name).await })
            .buffer_unordered(FETCHES_PER_REQUEST_MAX)
            .try_collect()
            .await
    }

    /// Loads several names of a directory side by side. Of what is far and
    /// known to be a file, or cannot be had, it gives what the directory says.
    pub(in crate::tree::mfs) async fn load_or_guess(
        &self,
        parent: NodeId,
        names: Vec<Name>,
    ) -> Result<Vec<(Name, NodeAttr)>, TreeError> {
        let one = |name: Name| async move {
            let sealing = self.sealing(parent)?;
            let entry = match &sealing.base {
                Some(base) => self.reader.find(base, &name).await?,
                None => None,
            };
            let is_far = match &entry {
                Some(entry) => entry.tsize.is_some() && self.is_far_file(&entry.cid).await,
                None => false,
            };
            if !is_far {
                match self.load_entry(parent, &name).await {
                    Ok(()) => return Ok(None),
                    Err(error) if entry.is_some() && cannot_be_had(&error) => {
                        let name = name.escape_ascii();
                        tracing::warn!(%error, %name, "listed without knowing what it is");
                    }
                    Err(error) => return Err(error),
                }
            }
            let meta = Meta {
                kind: MetaKind::File,
                size: entry.as_ref().and_then(|entry| entry.tsize).unwrap_or(0),
                mode: None,
                mtime: None,
            };
            let posix = sealing.posix.as_ref();
            let guess = self
                .read_as(parent, &name, entry, posix, Some(meta))
                .await?;
            Ok(guess.map(|loaded| (name, loaded.inode.attr(loaded.number))))
        };
        let all: Vec<_> = stream::iter(names)
            .map(one)
            .buffer_unordered(LISTING_FETCHES_MAX)
            .try_collect()
            .await?;
        Ok(all.into_iter().flatten().collect())
    }

    /// Whether a block is far, nothing is noted of it, and its codec says that
    /// it is a file.
    async fn is_far_file(&self, cid: &Cid) -> bool {
        cid.codec() != DAG_PB
            && matches!(self.reader.meta_local(cid), Ok(None))
            && self.reader.meta_noted(cid).await.is_none()
    }

    pub(in crate::tree::mfs) async fn load_entry(
        &self,
        parent: NodeId,
        name: &Name,
    ) -> Result<(), TreeError> {
        let sealing = self.sealing(parent)?;
        let entry = match &sealing.base {
            Some(base) => self.reader.find(base, name).await?,
            None => None,
        };
        let twin = match (&sealing.base, &entry) {
            (Some(base), None) => self.reader.twin(base, name).await?,
            (Some(_) | None, _) => None,
        };
        let loaded = self
            .read_node(parent, name, entry, sealing.posix.as_ref())
            .await?;
        let mut state = self.state.lock();
        if sealing.holds(&state, parent) {
            install(&mut state, parent, name, loaded);
            if let Some(twin) = twin {
                note_name(&mut state, parent, &twin);
            }
            self.trim(&mut state, Some(parent));
        }
        Ok(())
    }

    /// Loads the names of a directory, not what they lead to.
    async fn load_listing(&self, node: NodeId) -> Result<(), TreeError> {
        let sealing = self.sealing(node)?;
        let mut listed: Vec<Key> = Vec::new();
        if let Some(base) = &sealing.base {
            let add = |entry: &DirEntry| listed.push(Key::new(&entry.name));
            self.reader.each_entry(base, add).await?;
        }
        listed.sort_unstable();
        if let Some(posix) = &sealing.posix {
            let is_known = |name: &[u8]| place_of(&listed, name).is_some();
            let special = self.special_names(posix, node, is_known);
            let special = special.await?;
            listed.extend(special.iter().map(|name| Key::new(name)));
        }
        let mut state = self.state.lock();
        if !sealing.holds(&state, node) {
            return Ok(());
        }
        let Some(inode) = state.nodes.get_mut(&node) else {
            return Ok(());
        };
        if let Some(directory) = inode.directory_mut() {
            // Made of what is in order it is dense; entry by entry a third would be room.
            let known = std::mem::take(&mut directory.entries);
            let listed = listed.into_iter();
            let listed = listed.map(|key| (key, Dentry::new(To::Unloaded)));
            // Of two of one name the later one stays.
            directory.entries = listed.chain(known).collect();
            directory.complete = true;
        }
        Ok(())
    }

    /// The names of a directory's special files, which UnixFS does not have.
    /// Of what `is_known` the records are not looked at.
    pub(in crate::tree::mfs) async fn special_names(
        &self,
        posix: &Cid,
        node: NodeId,
        is_known: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Bytes>, TreeError> {
        let (from, until) = key::dentries(node.number());
        let mut from = Some(from);
        let mut names = Vec::new();
        let wanted = |at: &[u8]| match key::Key::decode(at) {
            Some(key::Key::Dentry { name, .. }) => !is_known(name),
            Some(_) | None => false,
        };
        while let Some(at) = from.take() {
            let range = (&at[..], Some(&until[..]));
            let page = self.map.select(posix, range, RECORDS_PAGE, wanted).await?;
            for (at, value) in &page.entries {
                let dentry = record::Dentry::decode(value)?;
                let special = match &dentry.body {
                    record::DentryBody::Inline(posix) => posix.special.is_some(),
                    record::DentryBody::Linked => true,
                };
                if let Some(key::Key::Dentry { name, .. }) = key::Key::decode(at)
                    && special
                {
                    names.push(Bytes::copy_from_slice(name));
                }
            }
            from = page.next;
        }
        Ok(names)
    }

    pub(in crate::tree::mfs) fn sealing(&self, node: NodeId) -> Result<Sealing, TreeError> {
        let state = self.state.lock();
        let directory = state.directory(node)?;
        Ok(Sealing {
            base: directory.base.as_ref().map(|base| base.sealed.cid.get()),
            // What a directory held before a CID was mounted there is no record of that.
            posix: state.posix.filter(|_| directory.mounted == 0),
            epoch: state.epoch,
        })
    }

    /// Reads what a name leads to; `None` is proof that it leads nowhere.
    pub(in crate::tree::mfs) async fn read_node(
        &self,
        parent: NodeId,
        name: &Name,
        entry: Option<DirEntry>,
        posix: Option<&Cid>,
    ) -> Result<Option<Loaded>, TreeError> {
        self.read_as(parent, name, entry, posix, None).await
    }

    /// Reads it with what its content is, where that is not to be looked at.
    async fn read_as(
        &self,
        parent: NodeId,
        name: &Name,
        entry: Option<DirEntry>,
        posix: Option<&Cid>,
        meta: Option<Meta>,
    ) -> Result<Option<Loaded>, TreeError> {
        let value = match posix {
            Some(root) => {
                self.map
                    .get(root, &key::dentry(parent.number(), name))
                    .await?
            }
            None => None,
        };
        let dentry = value.map(|value| record::Dentry::decode(&value));
        let recorded = match dentry.transpose()? {
            Some(dentry) if dentry.body == record::DentryBody::Linked => {
                let inode = self.linked(posix, dentry.node).await?;
                Some(Recorded::linked(&dentry, inode)?)
            }
            Some(dentry) => Some(Recorded::of(dentry)?),
            None => None,
        };
        let is_special = recorded.as_ref().is_some_and(Recorded::is_special);
        let content = match entry {
            Some(entry) if !is_special => {
                let said = || recorded.as_ref()?.meta(&entry.cid, entry.tsize);
                let meta = match meta.or_else(said) {
                    Some(meta) => meta,
                    None => self.meta_of(&entry).await?,
                };
                let target = match meta.kind {
                    MetaKind::Symlink => self.reader.readlink(&entry.cid).await?,
                    MetaKind::File | MetaKind::Directory => Bytes::new(),
                };
                Some((sealed_of(&entry), meta, target))
            }
            Some(_) | None => None,
        };
        self.assemble((parent, name), content, recorded)
    }

    /// Makes a node of what was read of it; `None` if that is nothing.
    pub(in crate::tree::mfs) fn assemble(
        &self,
        (parent, name): (NodeId, &Name),
        content: Option<(Sealed, Meta, Bytes)>,
        recorded: Option<Recorded>,
    ) -> Result<Option<Loaded>, TreeError> {
        let special = recorded.as_ref().and_then(|one| one.known.special);
        let tally = recorded.as_ref().and_then(|one| one.tally);
        let mut inode = match (content, special) {
            (_, Some(special)) => special_inode(special),
            (Some((sealed, meta, target)), None) => self.content_inode(sealed, meta, target, tally),
            (None, None) => return Ok(None),
        };
        inode.home = Some((parent, name.clone()));
        let number = match &recorded {
            Some(recorded) => recorded.number,
            None => default_number(parent, name),
        };
        if let Some(recorded) = recorded {
            if let Some(directory) = inode.directory_mut() {
                directory.directories = recorded.directories;
            }
            take_holes(&mut inode, &recorded.known.holes)?;
            take_record(&mut inode, recorded.known);
            if let Some(links) = recorded.links {
                let links = links.into_iter().filter_map(|(parent, name)| {
                    Some((NodeId::from_number(parent)?, Name::from(name)))
                });
                let links: BTreeSet<_> = links.collect();
                inode.nlink = links.len().clamp(1, usize::from(u16::MAX)) as u16;
                inode.set_links(links);
            }
        }
        Ok(Some(Loaded { number, inode }))
    }

    /// What an entry leads to. Of a raw block that is far its parent says it all.
    async fn meta_of(&self, entry: &DirEntry) -> Result<Meta, TreeError> {
        let error = match self.reader.meta(&entry.cid).await {
            Ok(meta) => return Ok(meta),
            Err(error) => TreeError::from(error),
        };
        match entry.tsize {
            Some(size) if size > 0 && entry.cid.codec() == RAW && is_far(&error) => {
                Ok(plain_meta(MetaKind::File, size))
            }
            Some(_) | None => Err(error),
        }
    }

    /// Whether an error says that what a name leads to cannot be had, and the
    /// directory has that name.
    pub(in crate::tree::mfs) async fn is_unseen(
        &self,
        error: &TreeError,
        parent: NodeId,
        name: &[u8],
    ) -> bool {
        let base = self.sealing(parent).ok().and_then(|sealing| sealing.base);
        match base.filter(|_| cannot_be_had(error)) {
            Some(base) => matches!(self.reader.find(&base, name).await, Ok(Some(_))),
            None => false,
        }
    }

    /// Puts in the place of far content a node that only serves to be removed;
    /// false where the directory does not have it.
    pub(in crate::tree::mfs) async fn stand_in(
        &self,
        parent: NodeId,
        name: &Name,
        kind: MetaKind,
    ) -> Result<bool, TreeError> {
        let sealing = self.sealing(parent)?;
        let Some(base) = &sealing.base else {
            return Ok(false);
        };
        let Some(entry) = self.reader.find(base, name).await? else {
            return Ok(false);
        };
        let size = entry.tsize.unwrap_or(0);
        let meta = plain_meta(kind, size);
        let mut inode = self.content_inode(sealed_of(&entry), meta, Bytes::new(), None);
        inode.home = Some((parent, name.clone()));
        let number = default_number(parent, name);
        let mut state = self.state.lock();
        install(&mut state, parent, name, Some(Loaded { number, inode }));
        Ok(true)
    }

    async fn linked(&self, posix: Option<&Cid>, node: u64) -> Result<record::Inode, TreeError> {
        let lost =
            || TreeError::Unavailable(format!("the record of linked node {node} is missing"));
        let root = posix.ok_or_else(lost)?;
        let value = self
            .map
            .get(root, &key::inode(node))
            .await?
            .ok_or_else(lost)?;
        Ok(record::Inode::decode(&value)?)
    }

    /// A node of sealed content, with what is shown where nothing is recorded.
    fn content_inode(
        &self,
        sealed: Sealed,
        meta: Meta,
        target: Bytes,
        tally: Option<DirTally>,
    ) -> Inode {
        let (kind, plain, body) = match meta.kind {
            MetaKind::File => {
                let content = Content::Whole(Whole::new(sealed, meta.size));
                (NodeKind::File, 0o644, Body::File(content))
            }
            MetaKind::Directory => {
                let base = Some(Base { sealed, tally });
                let directory = Directory {
                    base,
                    ..Directory::default()
                };
                (
                    NodeKind::Directory,
                    0o755,
                    Body::Directory(directory.into()),
                )
            }
            MetaKind::Symlink => {
                let sealed = Some(sealed);
                let link = Box::new(Symlink { target, sealed });
                (NodeKind::Symlink, 0o777, Body::Symlink(link))
            }
        };
        let mtime = meta.mtime.map_or(Time::default(), |t| Time {
            sec: t.seconds,
            nsec: t.nanoseconds,
        });
        Inode {
            mode: meta.mode.unwrap_or(plain),
            uid: self.options.uid,
            gid: self.options.gid,
            atime: mtime.into(),
            mtime: mtime.into(),
            ctime: mtime.into(),
            ..Inode::plain(kind, body)
        }
    }
}

/// Whether it says that content cannot be had now, or is none.
pub(in crate::tree::mfs) fn cannot_be_had(error: &TreeError) -> bool {
    is_far(error) || matches!(error, TreeError::Malformed { .. })
}

/// Whether it says that content cannot be had now, and not that it is not there.
pub(in crate::tree::mfs) fn is_far(error: &TreeError) -> bool {
    matches!(error, TreeError::Timeout(_) | TreeError::Unavailable(_))
}

/// What an entry leads to, as its directory says it.
pub(in crate::tree::mfs) fn sealed_of(entry: &DirEntry) -> Sealed {
    Sealed {
        cid: (&entry.cid).into(),
        tsize: entry.tsize.unwrap_or(0),
    }
}

fn plain_meta(kind: MetaKind, size: u64) -> Meta {
    Meta {
        kind,
        size,
        mode: None,
        mtime: None,
    }
}

/// Puts what was read into the tree, if it still lacks it.
pub(in crate::tree::mfs) fn install(
    state: &mut State,
    parent: NodeId,
    name: &Name,
    loaded: Option<Loaded>,
) {
    let key = Key::of(name.clone());
    let Ok(directory) = state.directory(parent) else {
        return;
    };
    if directory
        .entries
        .get(&key)
        .is_some_and(|d| d.to() != To::Unloaded)
    {
        return;
    }
    let to = match loaded {
        None => {
            state.absent += 1;
            To::Absent
        }
        Some(Loaded { number, inode }) => {
            let number = if inode.links().is_some() {
                number
            } else {
                free_number(state, number)
            };
            if !state.nodes.contains_key(&number) {
                state.nodes.insert(number, inode);
            }
            To::Node(number)
        }
    };
    let parent = state.nodes.get_mut(&parent);
    if let Some(directory) = parent.and_then(Inode::directory_mut) {
        directory.entries.insert(key, Dentry::new(to));
    }
}

/// Notes that a directory has a name, without what it leads to.
fn note_name(state: &mut State, parent: NodeId, name: &[u8]) {
    if let Some(parent) = state.nodes.get_mut(&parent)
        && let Body::Directory(directory) = &mut parent.body
    {
        let unloaded = || Dentry::new(To::Unloaded);
        let entry = directory.entries.entry(Key::new(name));
        entry.or_insert_with(unloaded);
    }
}

/// A number near `number` that no loaded node has.
fn free_number(state: &State, mut number: NodeId) -> NodeId {
    while state.nodes.contains_key(&number) {
        number = NodeId::from_hash(number.number() + 1);
    }
    number
}

/// The number of content that was never made here: it follows from its place.
fn default_number(parent: NodeId, name: &[u8]) -> NodeId {
    let mut bytes = Vec::with_capacity(8 + name.len());
    bytes.extend(parent.number().to_le_bytes());
    bytes.extend(name);
    // Not for security: a collision costs a probe.
    NodeId::from_hash(fastmurmur3::hash(&bytes) as u64)
}

fn special_inode(special: record::Special) -> Inode {
    let kind = match special {
        record::Special::Fifo => NodeKind::Fifo,
        record::Special::Socket => NodeKind::Socket,
        record::Special::Char => NodeKind::CharDevice,
        record::Special::Block => NodeKind::BlockDevice,
    };
    Inode::plain(kind, Body::Special)
}

/// Makes known where a sealed file has holes.
fn take_holes(inode: &mut Inode, holes: &[(u64, u64)]) -> Result<(), TreeError> {
    let Body::File(content) = &mut inode.body else {
        return Ok(());
    };
    if let Content::Whole(whole) = content
        && !holes.is_empty()
    {
        let extents = Extents::with_holes(&whole.cid(), whole.size(), holes)
            .ok_or_else(|| TreeError::Unavailable("record with holes beyond the file".into()))?;
        *content = Content::Ranges(Box::new(Ranges {
            extents,
            sealed: Some(whole.sealed()),
            before: None,
        }));
    }
    Ok(())
}

pub(in crate::tree::mfs) fn take_record(inode: &mut Inode, known: record::Posix) {
    inode.mode = known.mode;
    inode.uid = known.uid;
    inode.gid = known.gid;
    inode.atime = known.atime.into();
    inode.mtime = known.mtime.into();
    inode.ctime = known.ctime.into();
    inode.set_rdev(known.rdev as u32);
    let xattrs = known
        .xattrs
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()));
    inode.set_xattrs(xattrs.collect());
}
