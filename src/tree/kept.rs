//! What `.snapshots/<sequence>/` shows: a kept checkpoint with all its metadata.

use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use super::error::TreeError;
use super::mfs::{KeptNode, Name};
use super::node::{Attr, Entry, Listing, Node};
use super::{Kind, Tree};
use crate::config::LISTINGS_BYTES_MAX;

type Names = Arc<Vec<Name>>;

/// Names of directories that were listed, within a byte limit; one more than
/// that is kept if it alone is over it.
pub(super) struct KeptNames(Mutex<(LruCache<Arc<KeptNode>, Names>, usize)>);

impl Default for KeptNames {
    fn default() -> Self {
        Self(Mutex::new((LruCache::unbounded(), 0)))
    }
}

impl KeptNames {
    fn get(&self, dir: &Arc<KeptNode>) -> Option<Names> {
        self.0.lock().0.get(dir).cloned()
    }

    fn insert(&self, dir: &Arc<KeptNode>, names: &Names) {
        let mut kept = self.0.lock();
        let (all, bytes) = &mut *kept;
        *bytes += weight(names);
        if let Some((_, old)) = all.push(Arc::clone(dir), Arc::clone(names)) {
            *bytes -= weight(&old);
        }
        while *bytes > LISTINGS_BYTES_MAX
            && all.len() > 1
            && let Some((_, old)) = all.pop_lru()
        {
            *bytes -= weight(&old);
        }
    }
}

fn weight(names: &Names) -> usize {
    256 + names.iter().map(|name| name.len() + 32).sum::<usize>()
}

impl Tree {
    async fn kept_names(&self, dir: &Arc<KeptNode>) -> Result<Names, TreeError> {
        if let Some(names) = self.kept_names.get(dir) {
            return Ok(names);
        }
        let names = Arc::new(self.writable()?.kept_names(dir).await?);
        self.kept_names.insert(dir, &names);
        Ok(names)
    }

    /// Up to `count` entries of a directory from position `at` on, and how many
    /// it has in all. What they are is not read yet.
    pub async fn kept_page(
        &self,
        dir: &Arc<KeptNode>,
        at: usize,
        count: usize,
    ) -> Result<(Listing, usize), TreeError> {
        let names = self.kept_names(dir).await?;
        let from = at.min(names.len());
        let until = from.saturating_add(count).min(names.len());
        // The one that is asked was read, if only now; a twin in the cache may not be.
        self.writable()?.kept_attr(dir).await?;
        let page = dir.child(names.get(from..until).unwrap_or_default());
        let entries = page.into_iter().map(|child| Entry {
            name: Bytes::copy_from_slice(child.name()),
            node: Node::Kept(Arc::new(child)),
            kind: None,
            tsize: None,
        });
        let entries = entries.collect();
        Ok((Listing::new(entries), names.len()))
    }

    /// All entries of a directory.
    pub(super) async fn list_kept(&self, dir: &Arc<KeptNode>) -> Result<Listing, TreeError> {
        Ok(self.kept_page(dir, 0, usize::MAX).await?.0)
    }

    pub(super) async fn kept_attr(&self, node: &KeptNode) -> Result<Attr, TreeError> {
        let mfs = self.writable()?;
        let attr = mfs.kept_attr(node).await?;
        Ok(Attr::of_kept(&attr, mfs.kept_cid(node).await?))
    }

    pub(super) fn find_snapshot(&self, name: &[u8]) -> Result<Node, TreeError> {
        let wanted = snapshot_number(name).ok_or(TreeError::NotFound)?;
        let mut kept = self.writable()?.checkpoints().into_iter();
        let found = kept.find(|one| one.sequence == wanted);
        let found = found.ok_or(TreeError::NotFound)?;
        Ok(Node::Kept(Arc::new(KeptNode::root(found))))
    }

    pub(super) fn list_snapshots(&self) -> Result<Listing, TreeError> {
        let kept = self.writable()?.checkpoints();
        let entries = kept.into_iter().map(|one| Entry {
            name: Bytes::from(one.sequence.to_string()),
            node: Node::Kept(Arc::new(KeptNode::root(one))),
            kind: Some(Kind::Directory),
            tsize: None,
        });
        Ok(Listing::new(entries.collect()))
    }
}

/// Reads a sequence number in the one form that it is listed in.
fn snapshot_number(name: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(name).ok()?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_one_name() {
        assert_eq!(snapshot_number(b"17"), Some(17));
        for bad in [&b"017"[..], b"+17", b"", b" 17", b"x", b"\xff", b"-1"] {
            assert_eq!(snapshot_number(bad), None, "{bad:?}");
        }
    }
}
