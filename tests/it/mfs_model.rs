//! A tree as simple as it can be: what the writable tree must do, without how.

use std::collections::BTreeMap;

use cidfs::config::{
    NAME_BYTES_MAX, POSIX_LINKS_BYTES_MAX, POSIX_XATTRS_BYTES_MAX, SYMLINK_BYTES_MAX,
};
use cidfs::tree::acl::{self, Acl};
use cidfs::tree::mfs::{
    Allocate, New, NodeAttr, NodeId, NodeKind, RenameMode, SetAttr, SetTime, Time, XattrMode,
};

pub(crate) type Id = u64;
/// The name of the variant of the error.
pub(crate) type Refused = &'static str;
pub(crate) const ROOT: Id = 1;
pub(crate) const FILE_MAX: u64 = 4096;

#[derive(Debug, Clone)]
pub(crate) enum Body {
    File(Vec<u8>),
    Dir(BTreeMap<Vec<u8>, Id>),
    Link(Vec<u8>),
    Special,
}

#[derive(Debug, Clone)]
pub(crate) struct Inode {
    pub(crate) kind: NodeKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) rdev: u32,
    pub(crate) atime: Time,
    pub(crate) mtime: Time,
    pub(crate) ctime: Time,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) body: Body,
    pub(crate) held: u64,
    /// The number that it was shown with, which must stay.
    pub(crate) number: Option<NodeId>,
    /// Whether it was made here.
    pub(crate) made: bool,
}

/// Content that is mounted.
#[derive(Debug, Clone)]
pub(crate) enum Far {
    File(Vec<u8>),
    Dir(Vec<(Vec<u8>, Far)>),
    Link(Vec<u8>),
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) nodes: BTreeMap<Id, Inode>,
    next: Id,
    pub(crate) now: Time,
}

pub(crate) const MOUNTED: &[u8] = b"cidfs.mount";

fn plain(kind: NodeKind, mode: u32, time: Time, body: Body) -> Inode {
    Inode {
        kind,
        mode,
        uid: 0,
        gid: 0,
        nlink: 1,
        rdev: 0,
        atime: time,
        mtime: time,
        ctime: time,
        xattrs: BTreeMap::new(),
        body,
        held: 0,
        number: None,
        made: false,
    }
}

fn unprivileged(mode: u32) -> u32 {
    let setgid = if mode & 0o010 != 0 { 0o2000 } else { 0 };
    mode & !(0o4000 | setgid)
}

fn check_name(name: &[u8]) -> Result<(), Refused> {
    if name.len() > NAME_BYTES_MAX {
        return Err("NameTooLong");
    }
    let bad = matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.contains(&0);
    if bad { Err("Invalid") } else { Ok(()) }
}

impl Inode {
    pub(crate) fn size(&self) -> u64 {
        match &self.body {
            Body::File(bytes) | Body::Link(bytes) => bytes.len() as u64,
            Body::Dir(_) | Body::Special => 0,
        }
    }

    /// What `stat` shows, without the count of blocks.
    pub(crate) fn attr(&self, node: NodeId) -> NodeAttr {
        NodeAttr {
            node,
            kind: self.kind,
            size: self.size(),
            blocks: 0,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink,
            rdev: self.rdev,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
        }
    }

    pub(crate) fn bytes(&self) -> Result<&Vec<u8>, Refused> {
        match &self.body {
            Body::File(bytes) => Ok(bytes),
            Body::Dir(_) => Err("IsADirectory"),
            Body::Link(_) | Body::Special => Err("Invalid"),
        }
    }

    fn kill(&mut self, kill: bool) {
        if kill {
            self.mode = unprivileged(self.mode);
        }
    }

    fn room(&self, name: &[u8], value: &[u8]) -> Result<(), Refused> {
        let others = self.xattrs.iter().filter(|(other, _)| ***other != *name);
        let bytes: usize = others.map(|(n, v)| n.len() + v.len() + 16).sum();
        let fits = bytes + name.len() + value.len() + 16 <= POSIX_XATTRS_BYTES_MAX;
        if fits { Ok(()) } else { Err("NoSpace") }
    }
}

impl Model {
    /// What the tree shows without the count of blocks, and with one link for a
    /// directory whose links are right: its subdirectories and two, or one
    /// where they are not counted.
    pub(crate) fn plain(&self, id: Id, got: NodeAttr) -> NodeAttr {
        let mut plain = NodeAttr { blocks: 0, ..got };
        if let Body::Dir(entries) = &self.nodes[&id].body {
            let is_dir = |below: &&Id| matches!(self.nodes[*below].body, Body::Dir(_));
            if got.nlink == 2 + entries.values().filter(is_dir).count() as u32 {
                plain.nlink = 1;
            }
        }
        plain
    }

    pub(crate) fn new(now: Time) -> Self {
        let mut root = plain(NodeKind::Directory, 0o755, now, Body::Dir(BTreeMap::new()));
        root.number = Some(NodeId::ROOT);
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: 2,
            now,
        }
    }

    pub(crate) fn node(&self, id: Id) -> Result<&Inode, Refused> {
        self.nodes.get(&id).ok_or("NotFound")
    }

    fn at(&mut self, id: Id) -> &mut Inode {
        self.nodes.get_mut(&id).unwrap()
    }

    pub(crate) fn dir(&self, id: Id) -> Result<&BTreeMap<Vec<u8>, Id>, Refused> {
        match self.node(id)? {
            Inode {
                kind: NodeKind::Directory,
                nlink: 0,
                ..
            } => Err("NotFound"),
            Inode {
                body: Body::Dir(entries),
                ..
            } => Ok(entries),
            _ => Err("NotADirectory"),
        }
    }

    pub(crate) fn find(&self, id: Id, name: &[u8]) -> Result<Option<Id>, Refused> {
        Ok(self.dir(id)?.get(name).copied())
    }

    /// All names of a node.
    pub(crate) fn names(&self, id: Id) -> Vec<(Id, Vec<u8>)> {
        let mut found = Vec::new();
        for (dir, inode) in &self.nodes {
            if let Body::Dir(entries) = &inode.body {
                let here = entries.iter().filter(|(_, to)| **to == id);
                found.extend(here.map(|(name, _)| (*dir, name.clone())));
            }
        }
        found
    }

    fn is_under(&self, below: Id, above: Id) -> bool {
        let mut at = below;
        loop {
            if at == above {
                return true;
            }
            match self.names(at).first() {
                Some((parent, _)) => at = *parent,
                None => return false,
            }
        }
    }

    fn set(&mut self, dir: Id, name: &[u8], to: Option<Id>) {
        let now = self.now;
        let inode = self.at(dir);
        let Body::Dir(entries) = &mut inode.body else {
            panic!("no directory")
        };
        match to {
            Some(id) => drop(entries.insert(name.to_vec(), id)),
            None => drop(entries.remove(name)),
        }
        (inode.mtime, inode.ctime) = (now, now);
    }

    fn add(&mut self, dir: Id, name: &[u8], inode: Inode) -> Id {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, inode);
        self.set(dir, name, Some(id));
        id
    }

    pub(crate) fn make(
        &mut self,
        (uid, gid): (u32, u32),
        (dir, name): (Id, &[u8]),
        new: &New,
        (mode, umask): (u32, u32),
    ) -> Result<Id, Refused> {
        check_name(name)?;
        match new {
            New::Symlink(target) if target.is_empty() => return Err("NotFound"),
            New::Symlink(target) if target.len() > SYMLINK_BYTES_MAX => return Err("NameTooLong"),
            _ => {}
        }
        if self.find(dir, name)?.is_some() {
            return Err("Exists");
        }
        let above = self.node(dir)?;
        let default = above
            .xattrs
            .get(acl::DEFAULT)
            .map(|v| Acl::decode(v).unwrap().unwrap());
        let is_dir = *new == New::Directory;
        let (kind, body, rdev) = match new {
            New::File => (NodeKind::File, Body::File(Vec::new()), 0),
            New::Directory => (NodeKind::Directory, Body::Dir(BTreeMap::new()), 0),
            New::Symlink(to) => (NodeKind::Symlink, Body::Link(to.to_vec()), 0),
            New::Fifo => (NodeKind::Fifo, Body::Special, 0),
            New::Socket => (NodeKind::Socket, Body::Special, 0),
            New::CharDevice(rdev) => (NodeKind::CharDevice, Body::Special, *rdev),
            New::BlockDevice(rdev) => (NodeKind::BlockDevice, Body::Special, *rdev),
        };
        let mut inode = plain(kind, 0o777, self.now, body);
        if kind != NodeKind::Symlink {
            let made = acl::create(default.as_ref(), mode & 0o7777, umask, is_dir);
            inode.mode = made.mode;
            let lists = [(acl::ACCESS, made.access), (acl::DEFAULT, made.default)];
            for (name, list) in lists {
                list.map(|list| inode.xattrs.insert(name.to_vec(), list.encode()));
            }
        }
        (inode.uid, inode.gid, inode.rdev, inode.made) = (uid, gid, rdev, true);
        if above.mode & 0o2000 != 0 {
            inode.gid = above.gid;
            inode.mode |= if is_dir { 0o2000 } else { 0 };
        }
        Ok(self.add(dir, name, inode))
    }

    /// Changes a file's bytes.
    fn change(
        &mut self,
        id: Id,
        kill: bool,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Refused> {
        self.node(id)?.bytes()?;
        let now = self.now;
        let inode = self.at(id);
        let Body::File(bytes) = &mut inode.body else {
            panic!("no file")
        };
        change(bytes);
        inode.kill(kill);
        (inode.mtime, inode.ctime) = (now, now);
        Ok(())
    }

    pub(crate) fn write(
        &mut self,
        id: Id,
        at: u64,
        data: &[u8],
        kill: bool,
    ) -> Result<(), Refused> {
        if data.is_empty() {
            return Ok(());
        }
        let end = at as usize + data.len();
        if end as u64 > FILE_MAX {
            return Err("TooLarge");
        }
        self.change(id, kill, |bytes| {
            bytes.resize(bytes.len().max(end), 0);
            bytes[at as usize..end].copy_from_slice(data);
        })
    }

    pub(crate) fn allocate(
        &mut self,
        id: Id,
        what: Allocate,
        at: u64,
        len: u64,
    ) -> Result<(), Refused> {
        if len == 0 {
            return Err("Invalid");
        }
        let end = (at + len) as usize;
        if end as u64 > FILE_MAX {
            return Err("TooLarge");
        }
        self.change(id, true, |bytes| {
            let grows = matches!(
                what,
                Allocate::Reserve { keep_size: false } | Allocate::Zero { keep_size: false }
            );
            if grows {
                bytes.resize(bytes.len().max(end), 0);
            }
            if !matches!(what, Allocate::Reserve { .. }) {
                let end = end.min(bytes.len());
                bytes[(at as usize).min(end)..end].fill(0);
            }
        })
    }

    /// Copies bytes that were read before.
    pub(crate) fn put_copy(&mut self, id: Id, at: u64, data: &[u8]) -> Result<u64, Refused> {
        self.write(id, at, data, true).map(|()| data.len() as u64)
    }

    pub(crate) fn set_attr(&mut self, id: Id, set: &SetAttr) -> Result<(), Refused> {
        if set.size.is_some_and(|size| size > FILE_MAX) {
            return Err("TooLarge");
        }
        self.node(id)?;
        if let Some(size) = set.size {
            self.change(id, set.kill_privileges, |bytes| {
                bytes.resize(size as usize, 0)
            })?;
        }
        let rest = SetAttr {
            size: None,
            kill_privileges: false,
            ..*set
        };
        if rest == SetAttr::default() {
            return Ok(());
        }
        let now = self.now;
        let inode = self.at(id);
        let mut mode = set.mode.map(|mode| mode & 0o7777);
        if (set.uid.is_some() || set.gid.is_some()) && inode.kind != NodeKind::Directory {
            mode = Some(unprivileged(mode.unwrap_or(inode.mode)));
        }
        if let Some(mode) = mode {
            inode.mode = mode;
            if let Some(value) = inode.xattrs.get_mut(acl::ACCESS) {
                *value = Acl::decode(value).unwrap().unwrap().chmod(mode).encode();
            }
        }
        inode.uid = set.uid.unwrap_or(inode.uid);
        inode.gid = set.gid.unwrap_or(inode.gid);
        let time = |set: Option<SetTime>, old| match set {
            Some(SetTime::Now) => now,
            Some(SetTime::At(time)) => time,
            None => old,
        };
        inode.atime = time(set.atime, inode.atime);
        inode.mtime = time(set.mtime, inode.mtime);
        inode.ctime = now;
        Ok(())
    }

    /// Whether the record of a node has room for one more name.
    fn links_room(&self, id: Id, without: Option<(Id, &[u8])>, name: &[u8]) -> Result<(), Refused> {
        let names = self.names(id);
        let stay = names
            .iter()
            .filter(|(d, n)| without.is_none_or(|w| (*d, &**n) != w));
        let bytes: usize = stay.map(|(_, name)| name.len() + 16).sum();
        let fits = bytes + name.len() + 16 <= POSIX_LINKS_BYTES_MAX;
        if fits { Ok(()) } else { Err("TooManyLinks") }
    }

    pub(crate) fn link(&mut self, id: Id, dir: Id, name: &[u8]) -> Result<(), Refused> {
        check_name(name)?;
        let inode = self.node(id)?;
        if self.find(dir, name)?.is_some() {
            return Err("Exists");
        }
        if inode.kind == NodeKind::Directory {
            return Err("NotPermitted");
        }
        if inode.nlink == 0 {
            return Err("NotFound");
        }
        self.links_room(id, None, name)?;
        let now = self.now;
        let inode = self.at(id);
        inode.nlink += 1;
        inode.ctime = now;
        self.set(dir, name, Some(id));
        Ok(())
    }

    /// Takes a name away, and all that is only below it.
    fn drop_name(&mut self, dir: Id, name: &[u8]) {
        let id = self.find(dir, name).unwrap().unwrap();
        self.set(dir, name, None);
        self.lose(id);
    }

    fn lose(&mut self, id: Id) {
        let now = self.now;
        let inode = self.at(id);
        inode.nlink -= 1;
        inode.ctime = now;
        if inode.nlink > 0 {
            return;
        }
        if let Body::Dir(entries) = &mut inode.body {
            for (_, child) in std::mem::take(entries) {
                self.lose(child);
            }
        }
        if self.at(id).held == 0 {
            self.nodes.remove(&id);
        }
    }

    pub(crate) fn unlink(&mut self, dir: Id, name: &[u8]) -> Result<(), Refused> {
        let id = self.find(dir, name)?.ok_or("NotFound")?;
        if self.node(id)?.kind == NodeKind::Directory {
            return Err("IsADirectory");
        }
        self.drop_name(dir, name);
        Ok(())
    }

    pub(crate) fn rmdir(&mut self, dir: Id, name: &[u8]) -> Result<(), Refused> {
        let id = self.find(dir, name)?.ok_or("NotFound")?;
        if self.node(id)?.kind != NodeKind::Directory {
            return Err("NotADirectory");
        }
        if !self.dir(id)?.is_empty() {
            return Err("NotEmpty");
        }
        self.drop_name(dir, name);
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        from: (Id, &[u8]),
        to: (Id, &[u8]),
        mode: RenameMode,
    ) -> Result<(), Refused> {
        check_name(from.1)?;
        let id = self.find(from.0, from.1)?.ok_or("NotFound")?;
        check_name(to.1)?;
        let there = self.find(to.0, to.1)?;
        match (there, mode) {
            (Some(_), RenameMode::NoReplace) => return Err("Exists"),
            (None, RenameMode::Exchange) => return Err("NotFound"),
            _ => {}
        }
        let is_dir = |id: Id| self.nodes[&id].kind == NodeKind::Directory;
        let exchanges = mode == RenameMode::Exchange;
        if is_dir(id) && self.is_under(to.0, id) {
            return Err("Invalid");
        }
        if there.is_some_and(|other| is_dir(other) && self.is_under(from.0, other)) {
            return Err(if exchanges { "Invalid" } else { "NotEmpty" });
        }
        let linked = |id: Id| self.nodes[&id].nlink > 1;
        if linked(id) {
            self.links_room(id, Some(from), to.1)?;
        }
        match there {
            Some(other) if exchanges && linked(other) => {
                self.links_room(other, Some(to), from.1)?
            }
            _ => {}
        }
        let now = self.now;
        if there == Some(id) {
            return Ok(());
        }
        if let Some(other) = there
            && exchanges
        {
            self.set(from.0, from.1, Some(other));
            self.at(other).ctime = now;
        } else {
            if let Some(other) = there {
                match (is_dir(id), is_dir(other)) {
                    (true, false) => return Err("NotADirectory"),
                    (false, true) => return Err("IsADirectory"),
                    (true, true) if !self.dir(other)?.is_empty() => return Err("NotEmpty"),
                    _ => self.drop_name(to.0, to.1),
                }
            }
            self.set(from.0, from.1, None);
        }
        self.set(to.0, to.1, Some(id));
        self.at(id).ctime = now;
        Ok(())
    }

    pub(crate) fn set_xattr(
        &mut self,
        id: Id,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), Refused> {
        if name.starts_with(b"ipfs.") || name.starts_with(b"cidfs.") {
            return Err("NotPermitted");
        }
        if !name.starts_with(b"user.") {
            return Err("Unsupported");
        }
        let inode = self.node(id)?;
        match (mode, inode.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err("Exists"),
            (XattrMode::Replace, false) => return Err("NoAttribute"),
            _ => inode.room(name, value)?,
        }
        let now = self.now;
        let inode = self.at(id);
        inode.xattrs.insert(name.to_vec(), value.to_vec());
        inode.ctime = now;
        Ok(())
    }

    pub(crate) fn remove_xattr(&mut self, id: Id, name: &[u8]) -> Result<(), Refused> {
        if name.starts_with(b"ipfs.") || name.starts_with(b"cidfs.") {
            return Err("NotPermitted");
        }
        self.node(id)?.xattrs.get(name).ok_or("NoAttribute")?;
        let now = self.now;
        let inode = self.at(id);
        inode.xattrs.remove(name);
        inode.ctime = now;
        Ok(())
    }

    pub(crate) fn set_acl(
        &mut self,
        id: Id,
        access: bool,
        list: Option<&Acl>,
    ) -> Result<(), Refused> {
        let inode = self.node(id)?;
        let now = self.now;
        if inode.kind == NodeKind::Symlink {
            return Err("Unsupported");
        }
        if !access && inode.kind != NodeKind::Directory {
            return if list.is_some() {
                Err("NotPermitted")
            } else {
                Ok(())
            };
        }
        let name = if access { acl::ACCESS } else { acl::DEFAULT };
        let inode = self.at(id);
        let kept = list.filter(|list| !access || list.equivalent_mode().is_none());
        if let (true, Some(list)) = (access, list) {
            inode.mode = inode.mode & !0o777 | list.mode_of();
            if inode.gid != crate::mfs_model_run::WHO.1 {
                inode.mode &= !0o2000;
            }
            inode.ctime = now;
        }
        match kept {
            Some(list) => {
                inode.xattrs.insert(name.to_vec(), list.encode());
                inode.ctime = now;
            }
            None => {
                if inode.xattrs.remove(name).is_some() {
                    inode.ctime = now;
                }
            }
        }
        Ok(())
    }

    /// Everything of far content gets the attributes that it has without any.
    fn graft(&mut self, far: &Far) -> Id {
        let epoch = Time { sec: 0, nsec: 0 };
        let inode = match far {
            Far::File(bytes) => plain(NodeKind::File, 0o644, epoch, Body::File(bytes.clone())),
            Far::Link(to) => plain(NodeKind::Symlink, 0o777, epoch, Body::Link(to.clone())),
            Far::Dir(entries) => {
                let entries = entries
                    .iter()
                    .map(|(name, far)| (name.clone(), self.graft(far)));
                let entries = entries.collect();
                plain(NodeKind::Directory, 0o755, epoch, Body::Dir(entries))
            }
        };
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, inode);
        id
    }

    pub(crate) fn mount(
        &mut self,
        (uid, gid): (u32, u32),
        (dir, name): (Id, &[u8]),
        (far, cid): (&Far, &str),
    ) -> Result<Id, Refused> {
        check_name(name)?;
        if self.find(dir, name)?.is_some() {
            return Err("Exists");
        }
        let id = self.graft(far);
        let now = self.now;
        let inode = self.at(id);
        (inode.uid, inode.gid, inode.ctime, inode.made) = (uid, gid, now, true);
        inode
            .xattrs
            .insert(MOUNTED.to_vec(), cid.as_bytes().to_vec());
        self.set(dir, name, Some(id));
        Ok(id)
    }

    pub(crate) fn mount_at(&mut self, id: Id, far: &Far, cid: &str) -> Result<(), Refused> {
        let inode = self.node(id)?;
        inode.room(MOUNTED, cid.as_bytes())?;
        let (kind, is_file) = match far {
            Far::File(_) => (NodeKind::File, true),
            Far::Dir(_) => (NodeKind::Directory, false),
            Far::Link(_) => (NodeKind::Symlink, false),
        };
        if inode.kind == NodeKind::Directory && (inode.xattrs.contains_key(MOUNTED) || !inode.made)
        {
            return Err("Busy");
        }
        if inode.kind != kind {
            return Err("Invalid");
        }
        let empty = match &inode.body {
            Body::File(bytes) => bytes.is_empty(),
            Body::Dir(_) => self.dir(id)?.is_empty(),
            _ => false,
        };
        if !empty {
            return Err(if is_file { "Busy" } else { "NotEmpty" });
        }
        if id == ROOT || inode.nlink == 0 {
            return Err("Busy");
        }
        let grafted = self.graft(far);
        let body = self.nodes.remove(&grafted).unwrap().body;
        let now = self.now;
        let inode = self.at(id);
        (inode.body, inode.ctime) = (body, now);
        inode
            .xattrs
            .insert(MOUNTED.to_vec(), cid.as_bytes().to_vec());
        debug_assert!(is_file || kind == NodeKind::Directory);
        Ok(())
    }

    pub(crate) fn unmount(&mut self, dir: Id, name: &[u8]) -> Result<(), Refused> {
        check_name(name)?;
        // It is done by path, and what is unlinked has none.
        if self.node(dir)?.nlink == 0 {
            return Err("NotFound");
        }
        let id = self.find(dir, name)?.ok_or("NotFound")?;
        if !self.node(id)?.xattrs.contains_key(MOUNTED) {
            return Err("Invalid");
        }
        self.drop_name(dir, name);
        Ok(())
    }

    pub(crate) fn release(&mut self, id: Id) {
        let inode = self.at(id);
        inode.held -= 1;
        if inode.held == 0 && inode.nlink == 0 {
            self.nodes.remove(&id);
        }
    }

    /// Nobody holds anything any more.
    pub(crate) fn restart(&mut self) {
        self.nodes.values_mut().for_each(|inode| inode.held = 0);
        self.nodes.retain(|_, inode| inode.nlink > 0);
    }
}
