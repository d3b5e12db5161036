//! The posix DAG: what UnixFS cannot say, as an ordered map in dag-cbor blocks.
//!
//! [`PosixMap`] is a persistent map of bytes to bytes: a root CID is one state
//! of it, for ever. It is a B-tree whose nodes end where a hash of their keys
//! says so, which makes the root a function of the entries alone: the same
//! entries give the same root whatever was changed in which order, and two
//! states share the nodes that are equal. A change makes about one block for
//! each level. The map does not know what it holds; [`key`] and [`record`] do,
//! and [`commit`] names a whole state of the tree.
//!
//! Blocks come from the store and go to a sink; nothing is synced or named
//! here. After a crash a root whose blocks were synced is whole. Every node is
//! checked on its way in, against its parent too: hostile blocks give
//! [`MapError::Malformed`], never a wrong order, an endless walk or a panic.
//! docs/TREE.md has the bytes.
//!
//! From the bottom: `cbor` (the codec), `cut` (where nodes end), `node`,
//! `nodes` (fetched and kept), `path` (the walk), `update` and `diff`.

mod cbor;
pub mod commit;
mod cut;
mod diff;
mod error;
pub mod key;
mod node;
mod nodes;
mod path;
pub mod record;
mod update;

pub use cbor::CborError;
pub use diff::{Difference, Each};
pub use error::{Malformed, MapError};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::block::{BlockSink, Cid};
use crate::cache::Blocks;
use crate::config::{
    FETCH_DEADLINE, POSIX_KEY_BYTES_MAX, POSIX_NODES_BYTES_MAX, POSIX_VALUE_BYTES_MAX,
};
use node::Item;
use nodes::Nodes;
use path::Path;

/// Reads and changes maps. Cheap to share; every call may run beside others.
pub struct PosixMap {
    nodes: Nodes,
}

impl PosixMap {
    /// Makes it over `blocks` with the default limits.
    pub fn new(blocks: Arc<Blocks>) -> Self {
        Self::with_limits(blocks, POSIX_NODES_BYTES_MAX, FETCH_DEADLINE)
    }

    /// Makes it with `nodes_bytes_max` of memory for decoded nodes; it gives a
    /// block up after `deadline`.
    pub fn with_limits(blocks: Arc<Blocks>, nodes_bytes_max: usize, deadline: Duration) -> Self {
        Self {
            nodes: Nodes::new(blocks, nodes_bytes_max, deadline),
        }
    }

    /// Gives the value of a key.
    pub async fn get(&self, root: &Cid, key: &[u8]) -> Result<Option<Bytes>, MapError> {
        let mut path = Path::open(&self.nodes, root).await?;
        path.seek(0, key).await?;
        let found = path.head().filter(|head| head.key == key);
        Ok(found.and_then(|head| owned(&head.item)))
    }

    /// Lists the entries from `from` to before `until`, `limit` of them at most,
    /// in the order of their keys. Fewer than `limit`: there are no more.
    pub async fn range(
        &self,
        root: &Cid,
        from: &[u8],
        until: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, MapError> {
        let page = self.select(root, (from, until), limit, |_| true).await?;
        Ok(page.entries)
    }

    /// Lists the entries whose keys are `wanted`, `limit` of them at most, in the
    /// order of their keys; of the others nothing is copied.
    pub async fn select(
        &self,
        root: &Cid,
        (from, until): (&[u8], Option<&[u8]>),
        limit: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Page, MapError> {
        let mut page = Page::default();
        let mut path = Path::open(&self.nodes, root).await?;
        path.seek(0, from).await?;
        while let Some((_, node)) = path.node() {
            let begin = node.find(from);
            for (key, value) in (begin..node.len()).filter_map(|at| node.pair(at)) {
                if until.is_some_and(|until| key >= until) {
                    return Ok(page);
                }
                if page.entries.len() >= limit {
                    page.next = Some(key.to_vec());
                    return Ok(page);
                }
                if wanted(key) {
                    let copy = Bytes::copy_from_slice;
                    page.entries.push((copy(key), copy(value)));
                }
            }
            path.advance(0).await?;
        }
        Ok(page)
    }

    /// Makes the map that `changes` turn the one of `root` into: a value sets,
    /// `None` removes. Gives the new root; `None` is the empty map.
    ///
    /// Makes blocks in proportion to changes times levels, children before their
    /// parents. An error leaves blocks without a root behind. Hashes on the
    /// calling thread.
    pub async fn apply(
        &self,
        root: Option<&Cid>,
        changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
        sink: &dyn BlockSink,
    ) -> Result<Option<Cid>, MapError> {
        for (key, value) in &changes {
            let bytes = key.len();
            if bytes > POSIX_KEY_BYTES_MAX {
                return Err(MapError::KeyTooLong { bytes });
            }
            let bytes = value.as_ref().map_or(0, Vec::len);
            if bytes > POSIX_VALUE_BYTES_MAX {
                return Err(MapError::ValueTooLong { bytes });
            }
        }
        let item = |value: Vec<u8>| Item::Value(value.into());
        let changes = changes.into_iter();
        let changes = changes.map(|(key, value)| (key.into(), value.map(item)));
        update::apply(&self.nodes, root, changes.collect(), sink).await
    }

    /// Tells `each` the keys whose values differ between two maps, in order.
    ///
    /// Equal subtrees are not read; the cost follows the difference.
    pub async fn diff(
        &self,
        a: Option<&Cid>,
        b: Option<&Cid>,
        each: &mut Each<'_>,
    ) -> Result<(), MapError> {
        diff::diff(&self.nodes, a, b, each).await
    }
}

/// A part of a map.
#[derive(Debug, Default)]
pub struct Page {
    /// Keys and their values, in order.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Where the rest begins; `None`: there is none.
    pub next: Option<Vec<u8>>,
}

/// A value with memory of its own: a slice would hold on to its whole block.
fn owned(item: &Item) -> Option<Bytes> {
    match item {
        Item::Value(value) => Some(Bytes::copy_from_slice(value)),
        Item::Link(_) => None,
    }
}
