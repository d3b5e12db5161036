//! The namespaces: `ipfs/`, `ipns/` and `mfs/`, as one tree of names.
//!
//! A [`Node`] says what a path leads to and is free to copy about; the tree
//! itself keeps no state for it. Everything under a CID is immutable, so an
//! answer about it holds for ever; an answer about an IPNS name holds for the
//! time that its record says; the writable tree ([`mfs`]) tells its watchers of
//! each change. Absence is only ever reported when it is proven.
//! Does not know the kernel, the tiers of the cache, or any source.

pub mod acl;
mod error;
mod kept;
pub mod mfs;
mod names;
mod node;
pub mod posix;
pub mod push;
mod resolve;
mod writable;

pub use error::TreeError;
pub use mfs::NodeKind as Kind;
pub use names::{NameError, NameResolver, Resolved, RootLister};
pub use node::{Attr, Entry, Found, Listing, Node};
pub use writable::{Located, SNAPSHOTS};

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::block::Cid;
use crate::config::{LISTINGS_BYTES_MAX, NAME_BYTES_MAX};
use crate::unixfs::{Meta, Reader};
use mfs::Mfs;
use names::Names;
use node::Listings;

/// How long a kept checkpoint is taken to be there still.
const SNAPSHOT_TTL: std::time::Duration = std::time::Duration::from_secs(1);

/// The tree of the namespaces.
pub struct Tree {
    reader: Arc<Reader>,
    names: Names,
    roots: Arc<dyn RootLister>,
    /// Since when names are followed.
    begun: SystemTime,
    listings: Mutex<Listings>,
    mfs: OnceLock<Arc<Mfs>>,
    kept_names: kept::KeptNames,
}

impl Tree {
    /// Makes the tree over what `reader` reads; names and roots come from outside.
    pub fn new(
        reader: Arc<Reader>,
        names: Arc<dyn NameResolver>,
        roots: Arc<dyn RootLister>,
    ) -> Arc<Self> {
        let listings = Mutex::new(Listings::new(LISTINGS_BYTES_MAX));
        Arc::new(Self {
            reader,
            names: Names::new(names),
            roots,
            begun: SystemTime::now(),
            listings,
            mfs: OnceLock::new(),
            kept_names: kept::KeptNames::default(),
        })
    }

    /// When the listing of a namespace last changed, as far as that is known.
    pub fn listing_changed(&self, node: &Node) -> SystemTime {
        let newest = || self.mfs()?.newest_checkpoint().borrow().map(|one| one.time);
        match node {
            Node::Ipfs => self.roots.changed(),
            Node::Ipns => self.begun,
            Node::Snapshots => newest().map_or(self.begun, |time| {
                let since = Duration::new(u64::try_from(time.sec).unwrap_or(0), time.nsec);
                SystemTime::UNIX_EPOCH + since
            }),
            Node::Top | Node::Object(_) | Node::Name(_) | Node::Mfs(_) | Node::Kept(_) => {
                SystemTime::UNIX_EPOCH
            }
        }
    }

    /// The reader below.
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Finds a name in a directory.
    pub async fn lookup(&self, parent: &Node, name: &[u8]) -> Result<Found, TreeError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(TreeError::NameTooLong);
        }
        match parent {
            Node::Top => match name {
                b"ipfs" => Ok(Found::for_ever(Node::Ipfs)),
                b"ipns" => Ok(Found::for_ever(Node::Ipns)),
                b"mfs" => self.mfs_root().map(Found::for_ever),
                _ => Err(TreeError::NotFound),
            },
            Node::Ipfs => resolve::parse_cid(name)
                .map(|cid| Found::for_ever(Node::Object(cid)))
                .ok_or(TreeError::NotFound),
            Node::Ipns => {
                let name = std::str::from_utf8(name).map_err(|_| TreeError::NotFound)?;
                if !resolve::is_name(name) {
                    return Err(TreeError::NotFound);
                }
                self.follow(name).await
            }
            Node::Name(outer) => {
                let now = self.follow(outer).await?;
                let found = self.find(&now.node, name).await?;
                Ok(Found {
                    node: found,
                    ttl: now.ttl,
                })
            }
            Node::Object(_) => Ok(Found::for_ever(self.find(parent, name).await?)),
            Node::Mfs(dir) => self.find_writable(*dir, name).await.map(Found::for_ever),
            Node::Snapshots => Ok(Found {
                node: self.find_snapshot(name)?,
                // It is let go when there are more.
                ttl: Some(SNAPSHOT_TTL),
            }),
            Node::Kept(dir) => {
                let found = self.writable()?.kept_find(dir, name).await?;
                Ok(Found::for_ever(Node::Kept(Arc::new(found))))
            }
        }
    }

    async fn find(&self, parent: &Node, name: &[u8]) -> Result<Node, TreeError> {
        let Node::Object(cid) = parent else {
            return Err(TreeError::NotADirectory);
        };
        let entry = self
            .reader
            .find(cid, name)
            .await?
            .ok_or(TreeError::NotFound)?;
        Ok(Node::Object(entry.cid))
    }

    /// Tells what a node is. What it costs is the node's root block at most.
    pub async fn attr(&self, node: &Node) -> Result<Attr, TreeError> {
        match node {
            Node::Top | Node::Ipfs | Node::Ipns | Node::Snapshots => Ok(Attr::namespace()),
            Node::Mfs(node) => Ok(Attr::of_writable(&self.writable()?.attr(*node)?)),
            Node::Name(name) => {
                let found = self.follow(name).await?;
                Box::pin(self.attr(&found.node)).await
            }
            Node::Object(cid) => Ok(Attr::of(cid, self.reader.meta(cid).await?)),
            Node::Kept(node) => self.kept_attr(node).await,
        }
    }

    /// Tells what a node is if that takes no source.
    pub fn attr_local(&self, node: &Node) -> Result<Option<Attr>, TreeError> {
        match node {
            Node::Top | Node::Ipfs | Node::Ipns | Node::Snapshots => Ok(Some(Attr::namespace())),
            Node::Mfs(node) => Ok(Some(Attr::of_writable(&self.writable()?.attr(*node)?))),
            Node::Name(_) => Ok(None),
            Node::Object(cid) => {
                let meta: Option<Meta> = self.reader.meta_local(cid)?;
                Ok(meta.map(|meta| Attr::of(cid, meta)))
            }
            Node::Kept(node) => Ok(node.attr().map(|attr| Attr::of_kept(&attr, None))),
        }
    }

    /// As [`attr_local`](Self::attr_local), of an entry of a listing, which
    /// remembers what never changes: most files cost nothing the second time.
    pub fn attr_listed(&self, listing: &Listing, index: usize) -> Result<Option<Attr>, TreeError> {
        if let Some(attr) = listing.noted(index) {
            return Ok(Some(attr));
        }
        let Some(entry) = listing.entries.get(index) else {
            return Ok(None);
        };
        let attr = self.attr_local(&entry.node)?;
        if let Some(attr) = &attr {
            listing.note(index, attr);
        }
        Ok(attr)
    }

    /// Tells what a node is if that was found out before, in any run.
    pub async fn attr_noted(&self, node: &Node) -> Option<Attr> {
        match node {
            Node::Object(cid) => {
                let meta = self.reader.meta_noted(cid).await?;
                Some(Attr::of(cid, meta))
            }
            Node::Top
            | Node::Ipfs
            | Node::Ipns
            | Node::Name(_)
            | Node::Mfs(_)
            | Node::Kept(_)
            | Node::Snapshots => None,
        }
    }

    /// Lists a directory, all of it, in a stable order.
    pub async fn list(&self, node: &Node) -> Result<Arc<Listing>, TreeError> {
        match node {
            Node::Top => Ok(Arc::new(Listing::namespaces(self.mfs().is_some()))),
            Node::Ipfs => Ok(Arc::new(Listing::of_roots(self.roots.roots()))),
            Node::Ipns => Ok(Arc::new(Listing::of_names(self.names.known()))),
            Node::Name(name) => {
                let found = self.follow(name).await?;
                Box::pin(self.list(&found.node)).await
            }
            Node::Object(cid) => self.list_object(cid).await,
            Node::Mfs(dir) => Ok(Arc::new(self.list_writable(*dir).await?)),
            Node::Snapshots => Ok(Arc::new(self.list_snapshots()?)),
            Node::Kept(dir) => Ok(Arc::new(self.list_kept(dir).await?)),
        }
    }

    async fn list_object(&self, cid: &Cid) -> Result<Arc<Listing>, TreeError> {
        if let Some(listing) = self.listings.lock().get(cid) {
            return Ok(listing);
        }
        let listing = Arc::new(Listing::of_entries(self.reader.entries(cid).await?));
        self.listings.lock().insert(*cid, listing.clone());
        Ok(listing)
    }

    /// Fills `out` with a file's bytes from `offset`; gives how many there
    /// were, fewer only at the end of the file.
    pub async fn read(&self, node: &Node, offset: u64, out: &mut [u8]) -> Result<usize, TreeError> {
        match node {
            Node::Object(cid) => Ok(self.reader.read(cid, offset, out).await?),
            Node::Name(name) => {
                let found = self.follow(name).await?;
                Box::pin(self.read(&found.node, offset, out)).await
            }
            Node::Mfs(node) => self.writable()?.read(*node, offset, out).await,
            Node::Kept(node) => self.writable()?.kept_read(node, offset, out).await,
            Node::Top | Node::Ipfs | Node::Ipns | Node::Snapshots => Err(TreeError::IsADirectory),
        }
    }

    /// Gives the target of a symbolic link.
    pub async fn readlink(&self, node: &Node) -> Result<Bytes, TreeError> {
        match node {
            Node::Object(cid) => Ok(self.reader.readlink(cid).await?),
            Node::Mfs(node) => self.writable()?.readlink(*node),
            Node::Kept(node) => self.writable()?.kept_link(node).await,
            Node::Top | Node::Ipfs | Node::Ipns | Node::Name(_) | Node::Snapshots => {
                Err(TreeError::NotALink)
            }
        }
    }

    /// The CID that a node is now, if it is content.
    pub async fn cid(&self, node: &Node) -> Result<Option<Cid>, TreeError> {
        match node {
            Node::Object(cid) => Ok(Some(*cid)),
            Node::Name(name) => match self.follow(name).await?.node {
                Node::Object(cid) => Ok(Some(cid)),
                Node::Top
                | Node::Ipfs
                | Node::Ipns
                | Node::Name(_)
                | Node::Mfs(_)
                | Node::Kept(_)
                | Node::Snapshots => Ok(None),
            },
            Node::Kept(node) => self.writable()?.kept_cid(node).await,
            Node::Mfs(node) => self.writable()?.cid(*node).await,
            Node::Top | Node::Ipfs | Node::Ipns | Node::Snapshots => Ok(None),
        }
    }
}
