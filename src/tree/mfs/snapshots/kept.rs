//! Nodes as a kept checkpoint has them, with all that is recorded of them.
//!
//! They never change, so what is known of one stays with it; it is read when it
//! is first asked for.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::block::Cid;
use crate::config::NAME_BYTES_MAX;
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::calls::content;
use crate::tree::mfs::changes::apply::{HELD, MOUNTED};
use crate::tree::mfs::checkpoint::Checkpointed;
use crate::tree::mfs::checkpoint::records::ROOT_NAME;
use crate::tree::mfs::loading::load::{Loaded, take_record};
use crate::tree::mfs::nodes::node::{Base, Body, Content, Directory, Inode, Name, Sealed};
use crate::tree::mfs::types::{NodeAttr, NodeId, NodeKind, Seek};
use crate::tree::posix::{key, record};

/// A node of a kept checkpoint, by its place in it.
#[derive(Debug)]
pub struct KeptNode {
    within: Arc<Within>,
    /// Empty for the root.
    name: Name,
    loaded: OnceCell<Box<Loaded>>,
}

/// The directory that a node is in.
#[derive(Debug)]
struct Within {
    snapshot: Checkpointed,
    number: NodeId,
    base: Option<Cid>,
}

impl PartialEq for KeptNode {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for KeptNode {}

impl Hash for KeptNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place().hash(state);
    }
}

impl KeptNode {
    /// The root of a checkpoint.
    pub fn root(snapshot: Checkpointed) -> Self {
        let within = Within {
            snapshot,
            number: NodeId::ROOT,
            base: None,
        };
        Self {
            within: Arc::new(within),
            name: Name::from(b""),
            loaded: OnceCell::new(),
        }
    }

    /// The sequence of the checkpoint, which tells it from others.
    pub fn sequence(&self) -> u64 {
        self.within.snapshot.sequence
    }

    fn place(&self) -> (u64, NodeId, &Name) {
        (self.sequence(), self.within.number, &self.name)
    }

    /// Its number in the checkpoint, once it was read: that of all its names.
    pub fn number(&self) -> Option<u64> {
        self.loaded.get().map(|loaded| loaded.number.number())
    }

    /// What `stat` shows, once it was read.
    pub fn attr(&self) -> Option<NodeAttr> {
        let loaded = self.loaded.get()?;
        Some(loaded.inode.attr(loaded.number))
    }

    /// The names of its attributes, as far as it was read.
    pub fn xattr_names(&self) -> Vec<Bytes> {
        let loaded = self.loaded.get().into_iter();
        let names = loaded.flat_map(|one| one.inode.xattrs().map(|(name, _)| name));
        let listed = names.filter(|name| ![MOUNTED, HELD].contains(&&***name));
        listed.map(|name| Bytes::copy_from_slice(name)).collect()
    }

    /// A name in it, once it was read; it may not be there.
    pub fn child(&self, names: &[Name]) -> Vec<Self> {
        let Some(loaded) = self.loaded.get() else {
            return Vec::new();
        };
        let directory = loaded.inode.directory();
        let base = directory.and_then(|directory| directory.base.as_ref());
        let within = Arc::new(Within {
            snapshot: self.within.snapshot,
            number: loaded.number,
            base: base.map(|base| base.sealed.cid.get()),
        });
        let child = |name: &Name| Self {
            within: Arc::clone(&within),
            name: name.clone(),
            loaded: OnceCell::new(),
        };
        names.iter().map(child).collect()
    }

    /// Its last name; empty for the root.
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl Mfs {
    /// Reads what is recorded of a node; `NotFound` is proven.
    pub(in crate::tree::mfs) async fn load_kept<'k>(
        &self,
        node: &'k KeptNode,
    ) -> Result<&'k Loaded, TreeError> {
        let read = || async {
            let within = &node.within;
            if node.name.is_empty() {
                return self.kept_root(&within.snapshot).await.map(Box::new);
            }
            let entry = match &within.base {
                Some(base) => self.reader.find(base, &node.name).await?,
                None => None,
            };
            let posix = within.snapshot.posix.as_ref();
            let found = self.read_node(within.number, &node.name, entry, posix);
            found.await?.map(Box::new).ok_or(TreeError::NotFound)
        };
        Ok(node.loaded.get_or_try_init(read).await?)
    }

    /// The root of a checkpoint.
    async fn kept_root(&self, snapshot: &Checkpointed) -> Result<Loaded, TreeError> {
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
            uid: self.options.uid,
            gid: self.options.gid,
            ..Inode::plain(NodeKind::Directory, body)
        };
        if let Some(posix) = &snapshot.posix
            && let Some(value) = self.map.get(posix, &key::dentry(0, ROOT_NAME)).await?
        {
            let dentry = record::Dentry::decode(&value)?;
            if let Body::Directory(directory) = &mut inode.body {
                directory.directories = dentry.directories;
            }
            if let record::DentryBody::Inline(known) = dentry.body {
                take_record(&mut inode, known);
            }
        }
        let number = NodeId::ROOT;
        Ok(Loaded { number, inode })
    }

    /// Tells what a node of a kept checkpoint is.
    pub async fn kept_attr(&self, node: &KeptNode) -> Result<NodeAttr, TreeError> {
        let loaded = self.load_kept(node).await?;
        Ok(loaded.inode.attr(loaded.number))
    }

    /// Finds a name in a directory of a kept checkpoint; `NotFound` is proven.
    pub async fn kept_find(&self, dir: &KeptNode, name: &[u8]) -> Result<KeptNode, TreeError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(TreeError::NameTooLong);
        }
        let loaded = self.load_kept(dir).await?;
        loaded.inode.directory().ok_or(TreeError::NotADirectory)?;
        let found = dir.child(&[Name::from(name)]).pop();
        let found = found.ok_or(TreeError::NotFound)?;
        self.load_kept(&found).await?;
        Ok(found)
    }

    /// The names in a directory of a kept checkpoint, in the order of their bytes.
    pub async fn kept_names(&self, dir: &KeptNode) -> Result<Vec<Name>, TreeError> {
        let loaded = self.load_kept(dir).await?;
        let directory = loaded.inode.directory().ok_or(TreeError::NotADirectory)?;
        let mut names = BTreeSet::new();
        if let Some(base) = &directory.base {
            let entries = self.reader.entries(&base.sealed.cid.get()).await?;
            names.extend(entries.into_iter().map(|entry| entry.name));
        }
        if let Some(posix) = &dir.within.snapshot.posix {
            let special = self.special_names(posix, loaded.number, |name| names.contains(name));
            names.extend(special.await?);
        }
        Ok(names.iter().map(|name| Name::from(&name[..])).collect())
    }

    /// The content of a node of a kept checkpoint; `None` for what has none.
    pub async fn kept_cid(&self, node: &KeptNode) -> Result<Option<Cid>, TreeError> {
        let sealed = match &self.load_kept(node).await?.inode.body {
            Body::File(content) => content.sealed(),
            Body::Symlink(link) => link.sealed.clone(),
            Body::Directory(directory) => directory.base.as_ref().map(|base| base.sealed.clone()),
            Body::Special => None,
        };
        Ok(sealed.map(|sealed| sealed.cid.get()))
    }

    /// The target of a symbolic link of a kept checkpoint.
    pub async fn kept_link(&self, node: &KeptNode) -> Result<Bytes, TreeError> {
        match &self.load_kept(node).await?.inode.body {
            Body::Symlink(link) => Ok(link.target.clone()),
            Body::File(_) | Body::Directory(_) | Body::Special => Err(TreeError::NotALink),
        }
    }

    /// Reads bytes of a file of a kept checkpoint.
    pub async fn kept_read(
        &self,
        node: &KeptNode,
        offset: u64,
        out: &mut [u8],
    ) -> Result<usize, TreeError> {
        let loaded = self.load_kept(node).await?;
        let sealed = content::content(&loaded.inode)?.sealed();
        let cid = sealed.ok_or(TreeError::Invalid("it has no content"))?;
        Ok(self.reader.read(&cid.cid.get(), offset, out).await?)
    }

    /// Finds data or a hole of a file of a kept checkpoint.
    pub async fn kept_seek(
        &self,
        node: &KeptNode,
        offset: u64,
        what: Seek,
    ) -> Result<u64, TreeError> {
        let loaded = self.load_kept(node).await?;
        content::content(&loaded.inode)?.seek(offset, what)
    }

    /// An attribute of a node of a kept checkpoint.
    pub async fn kept_xattr(&self, node: &KeptNode, name: &[u8]) -> Result<Bytes, TreeError> {
        let found = self.load_kept(node).await?.inode.xattr(name).cloned();
        found.ok_or(TreeError::NoAttribute)
    }
}

impl Content {
    /// Finds data or a hole; `NoSuchPosition` behind the last data or the end.
    pub(in crate::tree::mfs) fn seek(&self, offset: u64, what: Seek) -> Result<u64, TreeError> {
        let found = match self {
            Self::Whole(whole) => match what {
                _ if offset >= whole.size() => None,
                Seek::Data => Some(offset),
                Seek::Hole => Some(whole.size()),
            },
            Self::Ranges(ranges) => ranges.extents.seek(offset, what == Seek::Hole),
        };
        found.ok_or(TreeError::NoSuchPosition)
    }
}
