//! What a kept checkpoint has is brought back.
//!
//! With all that it has: everything is made anew, its content shared. Content
//! alone: one change for each root, whatever its size.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::Mfs;
use super::apply::MOUNTED;
use super::checkpoint::Checkpointed;
use super::checkpoint::records::ROOT_NAME;
use super::load::{Loaded, take_record};
use super::node::{Base, Body, Content, Directory, Inode, Name, Sealed};
use super::path::TreePath;
use super::transaction::{Made, Staged};
use super::types::{New, NodeId, NodeKind, SetAttr, SetTime};
use crate::block::Cid;
use crate::config::{LIST_BATCH, TRANSACTION_CHANGES_MAX};
use crate::tree::error::TreeError;
use crate::tree::posix::{key, record};

impl Mfs {
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
                let why =
                    format!("{TRANSACTION_CHANGES_MAX} changes at once; content_only needs one");
                return Err(TreeError::Limit(why));
            }
            if loaded.inode.links().is_some_and(|links| links.len() > 1) {
                if let Some(first) = links.get(&loaded.number) {
                    staged.push(Staged::Link {
                        from: TreePath::clone(first),
                        to: path,
                    });
                    continue;
                }
                links.insert(loaded.number, path.clone());
            }
            if let Some(base) = below(&loaded.inode) {
                finished.push(finish(&path, &loaded.inode));
                for (name, child) in self
                    .children(snapshot, loaded.number, base.as_ref())
                    .await?
                {
                    open.push((child, path.join(&name)));
                }
            }
            if path.names().is_empty() {
                continue;
            }
            match mounted(&loaded.inode) {
                Some(cid) => {
                    let content = self.content(&cid).await?;
                    staged.push(Staged::Mount {
                        path: path.clone(),
                        content,
                        plain: false,
                    });
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
        match (
            to.names(),
            root.inode.directory().and_then(|dir| dir.base.clone()),
        ) {
            ([], Some(base)) => {
                let entries = self.reader.entries(&base.sealed.cid.get()).await?;
                wanted.extend(entries.into_iter().map(|e| (to.join(&e.name), e.cid)));
            }
            ([], None) => {}
            ([_, ..], base) => {
                let sealed = match &root.inode.body {
                    Body::File(content) => content.sealed(),
                    Body::Symlink(link) => link.sealed.clone(),
                    Body::Directory(_) | Body::Special => base.map(|base| base.sealed),
                };
                let sealed = sealed.ok_or(TreeError::Invalid("it has no content"))?;
                wanted.push((to.clone(), sealed.cid.get()));
            }
        }
        for (path, cid) in wanted {
            let content = self.content(&cid).await?;
            staged.push(Staged::Mount {
                path,
                content,
                plain: true,
            });
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
                true => Ok(vec![Staged::Remove {
                    path: to.clone(),
                    recursive: true,
                }]),
                false => Err(TreeError::Exists),
            };
        }
        let (mut gone, mut cookie) = (Vec::new(), 0);
        loop {
            let page = self.readdir(there.node(), cookie, LIST_BATCH).await?;
            let Some(last) = page.last() else { break };
            cookie = last.cookie;
            let paths = page.iter().map(|entry| to.join(&entry.name));
            gone.extend(paths.map(|path| Staged::Remove {
                path,
                recursive: true,
            }));
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
        let sealed = Sealed {
            cid: (&snapshot.root).into(),
            tsize: 0,
        };
        let body = Body::Directory(Box::new(Directory {
            base: Some(Base {
                sealed,
                tally: None,
            }),
            ..Directory::default()
        }));
        let mut inode = Inode {
            mode: 0o755,
            ..Inode::plain(NodeKind::Directory, body)
        };
        inode.uid = self.options.uid;
        inode.gid = self.options.gid;
        if let Some(posix) = &snapshot.posix
            && let Some(value) = self.map.get(posix, &key::dentry(0, ROOT_NAME)).await?
            && let record::DentryBody::Inline(known) = record::Dentry::decode(&value)?.body
        {
            take_record(&mut inode, known);
        }
        let mut at = Loaded {
            number: NodeId::ROOT,
            inode,
        };
        for name in path.names() {
            let base = match at.inode.directory() {
                Some(directory) => directory.base.as_ref().map(|base| base.sealed.cid.get()),
                None => return Err(TreeError::NotADirectory),
            };
            let entry = match &base {
                Some(base) => self.reader.find(base, name).await?,
                None => None,
            };
            let found = self
                .read_node(at.number, name, entry, snapshot.posix.as_ref())
                .await?;
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
            entries.extend(
                all.into_iter()
                    .map(|entry| (entry.name.clone(), Some(entry))),
            );
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
            let found = self
                .read_node(number, &name, entry, snapshot.posix.as_ref())
                .await?;
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
    let xattrs = inode.xattrs().filter(|(name, _)| ***name != *MOUNTED);
    let xattrs = xattrs
        .map(|(name, value)| (Bytes::copy_from_slice(name), value.clone()))
        .collect();
    let mut content = None;
    let rdev = inode.rdev();
    let new = match (inode.kind, inode.body) {
        (NodeKind::Directory, _) => New::Directory,
        (NodeKind::Fifo, _) => New::Fifo,
        (NodeKind::Socket, _) => New::Socket,
        (NodeKind::CharDevice, _) => New::CharDevice(rdev),
        (NodeKind::BlockDevice, _) => New::BlockDevice(rdev),
        (_, Body::Symlink(link)) => New::Symlink(link.target),
        (_, Body::File(Content::Whole(whole))) => {
            content = Some((whole.cid().get(), whole.size()));
            New::File
        }
        (_, Body::File(Content::Ranges(_)) | Body::Directory(_) | Body::Special) => New::File,
    };
    let (mode, uid, gid) = (inode.mode, inode.uid, inode.gid);
    Made {
        path,
        new,
        mode,
        uid,
        gid,
        xattrs,
        content,
        times,
    }
}

fn times(inode: &Inode) -> SetAttr {
    SetAttr {
        atime: Some(SetTime::At(inode.atime.into())),
        mtime: Some(SetTime::At(inode.mtime.into())),
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
    Staged::Metadata {
        path: path.clone(),
        set,
    }
}
