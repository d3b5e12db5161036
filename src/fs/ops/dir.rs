//! READDIR and READDIRPLUS.
//!
//! A cookie is the entry's position plus one: what is listed under a CID
//! never changes, so a position belongs to its entry. What each child is
//! comes from its root block; the blocks of a batch that are not near are
//! fetched side by side, and the next batch's are asked for ahead.
//! In `ipfs/`, `ipns/` and `.snapshots/`, which change, it follows from the name.
//!
//! Entries of the writable tree have cookies of their own, which stay with
//! them. For READDIRPLUS each is held until it is known whether it had room.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};

use super::super::attr::Stat;
use super::super::errno::report;
use super::super::files::{FOR_EVER, Files, GUESSED, Shared, Told};
use super::super::nodes::Held;
use crate::config::{FETCHES_PER_REQUEST_MAX, LISTING_BATCH, LISTING_FETCHES_MAX};
use crate::tree::mfs::{NodeEntry, NodeId};
use crate::tree::{Attr, Entry, Kind, Listing, Node, TreeError};

/// One entry of a directory as a reply gives it.
pub(in crate::fs) struct Listed {
    /// Where the listing goes on after this entry.
    pub(in crate::fs) cookie: u64,
    /// Its name.
    pub(in crate::fs) name: Bytes,
    /// What it is.
    pub(in crate::fs) told: Told,
    refer: Refer,
}

/// What the kernel refers to once it is told of an entry.
enum Refer {
    /// Nothing: it is told a name and a number.
    Nothing,
    /// Something immutable.
    Content(Node),
    /// Something writable.
    Writable(Held),
}

/// What is known of an entry without waiting for it.
type Near = Result<Option<Attr>, TreeError>;

impl Files {
    /// Lists a batch of a directory from `cookie`; empty at its end. With
    /// `refer` the kernel is told of inodes, not only of their numbers.
    pub(in crate::fs) async fn readdir(
        self,
        ino: u64,
        cookie: u64,
        refer: bool,
    ) -> Result<Vec<Listed>, TreeError> {
        let shared = &self.shared;
        let node = shared.node(ino)?;
        if let Node::Mfs(dir) = node {
            let mut listed = self.dots(ino, cookie);
            listed.extend(
                shared
                    .list_writable(dir, (cookie, refer), self.thread)
                    .await?,
            );
            return Ok(listed);
        }
        if matches!(node, Node::Ipfs | Node::Ipns | Node::Snapshots) {
            // It changes without notice, and the kernel would keep the listing.
            shared.notices.later(ino);
            let listing = shared.tree.list(&node).await?;
            let (batch, cookies) = changing_batch(&listing.entries, cookie);
            let near = batch.iter().map(|e| shared.tree.attr_local(&e.node));
            let batch = (batch.as_slice(), near.collect());
            return self.listed((ino, &node), batch, cookies, refer).await;
        }
        let at = usize::try_from(cookie.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        if let Node::Kept(dir) = &node {
            let (page, total) = shared.tree.kept_page(dir, at, LISTING_BATCH).await?;
            let cookies = (cookie, positions(at.min(total)));
            let near = page.entries.iter().map(|e| shared.tree.attr_local(&e.node));
            let batch = (page.entries.as_slice(), near.collect());
            return self.listed((ino, &node), batch, cookies, refer).await;
        }
        let listing = shared.tree.list(&node).await?;
        let total = listing.entries.len();
        let at = at.min(total);
        let end = (at + LISTING_BATCH).min(total);
        let batch = listing.entries.get(at..end).unwrap_or_default();
        let near = (at..end)
            .map(|index| shared.tree.attr_listed(&listing, index))
            .collect();
        shared.ahead(&listing, end);
        let cookies = (cookie, positions(at));
        self.listed((ino, &node), (batch, near), cookies, refer)
            .await
    }

    /// A batch of entries, from a cookie on and with their own, as a reply gives them.
    async fn listed(
        &self,
        (ino, node): (u64, &Node),
        (batch, near): (&[Entry], Vec<Near>),
        (cookie, cookies): (u64, impl IntoIterator<Item = u64>),
        refer: bool,
    ) -> Result<Vec<Listed>, TreeError> {
        let shared = &self.shared;
        let attrs = shared.attrs(batch, near).await;
        let mut listed = self.dots(ino, cookie);
        for ((entry, attr), cookie) in batch.iter().zip(attrs).zip(cookies) {
            listed.push(match entry.node.writable() {
                Some(id) => shared.writable_entry(entry, id, cookie, refer)?,
                None => Listed {
                    cookie,
                    name: entry.name.clone(),
                    told: shared.tell((ino, node), entry, attr.as_ref()),
                    refer: Refer::Content(entry.node.clone()),
                },
            });
        }
        Ok(listed)
    }

    /// Notes that a reply tells the kernel of an inode, which it will FORGET.
    pub(in crate::fs) fn told(&self, parent: u64, listed: Listed) {
        let shared = &self.shared;
        match (listed.refer, shared.nodes()) {
            (Refer::Content(node), _) => {
                let kind = listed.told.stat.kind;
                shared.inodes.remember(parent, &listed.name, &node, kind);
            }
            (Refer::Writable(held), Ok(nodes)) => nodes.keep(held),
            (Refer::Nothing | Refer::Writable(_), _) => {}
        }
    }

    /// `.` and `..`, for which the kernel takes no references.
    fn dots(&self, ino: u64, cookie: u64) -> Vec<Listed> {
        let parent = self.shared.parent(ino);
        let attr = Attr {
            kind: Kind::Directory,
            size: 0,
            mode: None,
            mtime: None,
            cid: None,
            kept: None,
        };
        [(1, ".", ino), (2, "..", parent)]
            .into_iter()
            .filter(|(index, ..)| cookie < *index)
            .map(|(cookie, name, ino)| {
                let stat = self.shared.stat(ino, &attr);
                let told = Told {
                    stat,
                    ttl: FOR_EVER,
                    attr_ttl: FOR_EVER,
                };
                Listed {
                    cookie,
                    name: Bytes::from_static(name.as_bytes()),
                    told,
                    refer: Refer::Nothing,
                }
            })
            .collect()
    }
}

/// The cookies of entries from a position on.
fn positions(at: usize) -> impl Iterator<Item = u64> {
    (at as u64 + 1 + DOTS)..
}

/// A batch behind a cookie of a listing that changes while it is read, and the
/// cookies of that: what is there all the time is in exactly one batch.
fn changing_batch(entries: &[Entry], after: u64) -> (Vec<Entry>, (u64, Vec<u64>)) {
    let mut all: Vec<_> = entries.iter().map(|e| (cookie_of(&e.name), e)).collect();
    all.sort_unstable_by(|(a, one), (b, other)| (a, &one.name).cmp(&(b, &other.name)));
    // Two hashes of 62 bits that are the same are next to each other.
    let mut last = DOTS;
    for (cookie, _) in &mut all {
        *cookie = (*cookie).max(last + 1);
        last = *cookie;
    }
    let from = all.partition_point(|(cookie, _)| *cookie <= after);
    let batch = all.into_iter().skip(from).take(LISTING_BATCH);
    let (cookies, batch) = batch.map(|(cookie, entry)| (cookie, entry.clone())).unzip();
    (batch, (after, cookies))
}

/// A number from the name alone.
fn cookie_of(name: &[u8]) -> u64 {
    // Not for security: who can choose names here can also leave them out.
    (fastmurmur3::murmur3_x64_128(name, 0) as u64) >> 2
}

/// Cookies that `.` and `..` take.
const DOTS: u64 = 2;

impl Shared {
    async fn list_writable(
        &self,
        dir: NodeId,
        (cookie, refer): (u64, bool),
        thread: u32,
    ) -> Result<Vec<Listed>, TreeError> {
        let from = if cookie <= DOTS { 0 } else { cookie };
        let mfs = self.nodes()?.mfs();
        let batch = mfs.list(dir, from, LISTING_BATCH).await?;
        let mut listed = Vec::with_capacity(batch.len() + 2);
        for entry in batch {
            if entry.guessed {
                let guessed = self.guessed_entry(entry)?;
                self.guesses.note(thread, dir, &guessed.name, guessed.told);
                listed.push(guessed);
            } else if refer {
                listed.extend(self.held_entry(dir, entry).await?);
            } else {
                listed.push(Listed {
                    cookie: entry.cookie,
                    told: self.tell_node(&entry.attr)?,
                    name: entry.name,
                    refer: Refer::Nothing,
                });
            }
        }
        Ok(listed)
    }

    /// An entry whose content was not looked at. There is no node that the
    /// kernel could refer to: it gets a number that none has, and looks the name
    /// up before any program sees more of it.
    fn guessed_entry(&self, entry: NodeEntry) -> Result<Listed, TreeError> {
        let mut told = self.tell_node(&entry.attr)?;
        told.stat.ino |= GUESSED;
        told.ttl = Duration::ZERO;
        told.attr_ttl = Duration::ZERO;
        Ok(Listed {
            cookie: entry.cookie,
            told,
            name: entry.name,
            refer: Refer::Nothing,
        })
    }

    /// An entry with its node held; `None` where it went in the meantime.
    async fn held_entry(&self, dir: NodeId, entry: NodeEntry) -> Result<Option<Listed>, TreeError> {
        let nodes = self.nodes()?;
        let mut attr = entry.attr;
        let held = match nodes.hold(attr.node) {
            Some(held) => held,
            None => match nodes.mfs().lookup(dir, &entry.name, true).await {
                Ok(found) => {
                    attr = found;
                    nodes.held(found.node)
                }
                Err(TreeError::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        Ok(Some(Listed {
            cookie: entry.cookie,
            told: self.tell_node(&attr)?,
            name: entry.name,
            refer: Refer::Writable(held),
        }))
    }

    /// The writable tree as an entry of the namespaces.
    fn writable_entry(
        &self,
        entry: &Entry,
        node: NodeId,
        cookie: u64,
        refer: bool,
    ) -> Result<Listed, TreeError> {
        let nodes = self.nodes()?;
        let refer = if refer {
            Refer::Writable(nodes.hold(node).ok_or(TreeError::NotFound)?)
        } else {
            Refer::Nothing
        };
        Ok(Listed {
            cookie,
            name: entry.name.clone(),
            told: self.tell_node(&nodes.mfs().attr(node)?)?,
            refer,
        })
    }

    /// What the entries of a batch are; `None` where that could not be had.
    /// `near` is what is known of them without a source.
    async fn attrs(&self, batch: &[Entry], near: Vec<Near>) -> Vec<Option<Attr>> {
        if near.iter().all(|a| matches!(a, Ok(Some(_)))) {
            return near.into_iter().map(|a| a.ok().flatten()).collect();
        }
        let one =
            |(entry, near)| -> BoxFuture<'_, Option<Attr>> { Box::pin(self.one(entry, near)) };
        let all: Vec<_> = batch.iter().zip(near).map(one).collect();
        stream::iter(all)
            .buffered(LISTING_FETCHES_MAX)
            .collect()
            .await
    }

    async fn one(&self, entry: &Entry, near: Result<Option<Attr>, TreeError>) -> Option<Attr> {
        let asked = match near {
            Ok(Some(attr)) => Ok(attr),
            // Its codec says that it is a file: no reason to fetch it.
            Ok(None) if entry.kind.is_some() => return self.tree.attr_noted(&entry.node).await,
            Ok(None) => self.tree.attr(&entry.node).await,
            Err(error) => Err(error),
        };
        asked.map_err(|error| self.failed(entry, &error)).ok()
    }

    /// A child that cannot be looked into is listed all the same.
    fn failed(&self, entry: &Entry, error: &TreeError) {
        report("listing", error);
        tracing::warn!(name = %entry.name.escape_ascii(), "listed without knowing what it is");
    }

    fn tell(&self, (parent, directory): (u64, &Node), entry: &Entry, attr: Option<&Attr>) -> Told {
        let known = attr.is_some();
        let guess = Attr {
            kind: entry.kind.unwrap_or(Kind::File),
            size: entry.tsize.unwrap_or(0).min(i64::MAX as u64),
            mode: None,
            mtime: None,
            cid: None,
            kept: None,
        };
        let attr = attr.unwrap_or(&guess);
        let ino = self
            .inodes
            .peek(parent, &entry.name, &entry.node, attr.kind);
        let stat: Stat = self.stat(ino, attr);
        // A guess is looked up again before any program sees it.
        let ttl = if known {
            self.listed_ttl(directory)
        } else {
            Duration::ZERO
        };
        let attr_ttl = if known {
            self.attr_ttl(&entry.node)
        } else {
            Duration::ZERO
        };
        Told {
            stat,
            ttl,
            attr_ttl,
        }
    }

    /// Asks for what the next batch of a listing will need.
    fn ahead(&self, listing: &Arc<Listing>, from: usize) {
        let end = (from + LISTING_BATCH).min(listing.entries.len());
        let far: Vec<Node> = listing
            .entries
            .get(from..end)
            .unwrap_or_default()
            .iter()
            .filter(|e| e.kind.is_none())
            .filter(|e| matches!(self.tree.attr_local(&e.node), Ok(None)))
            .map(|e| e.node.clone())
            .collect();
        if far.is_empty() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let tree = self.tree.clone();
        runtime.spawn(async move {
            stream::iter(far)
                .for_each_concurrent(FETCHES_PER_REQUEST_MAX, |node| {
                    let tree = tree.clone();
                    // Its own listing will report a failure.
                    async move { drop(tree.attr(&node).await) }
                })
                .await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn entries(names: impl IntoIterator<Item = u32>) -> Vec<Entry> {
        let entry = |name: u32| Entry {
            name: name.to_string().into(),
            node: Node::Top,
            kind: Some(Kind::Directory),
            tsize: None,
        };
        names.into_iter().map(entry).collect()
    }

    #[test]
    fn what_stays_is_listed_once_whatever_comes_and_goes_meanwhile() {
        let mut seen: HashMap<Bytes, u32> = HashMap::new();
        let (mut cookie, mut round) = (0, 0);
        loop {
            // Half goes away bit by bit, and as much comes.
            let gone = (0..2000_u32).filter(|name| name % 2 == 0 || name / 2 >= round * 100);
            let here = entries(gone.chain(5000..5000 + round * 100));
            let (batch, (after, cookies)) = changing_batch(&here, cookie);
            assert_eq!((after, batch.len()), (cookie, cookies.len()));
            assert!(cookies.windows(2).all(|two| two[0] < two[1]));
            let Some(last) = cookies.last() else { break };
            assert!(*last > cookie.max(DOTS) && *last < 1 << 63);
            (cookie, round) = (*last, round + 1);
            for entry in batch {
                *seen.entry(entry.name).or_default() += 1;
            }
        }
        assert!(round > 5);
        for name in (0..2000).step_by(2) {
            assert_eq!(seen.get(name.to_string().as_bytes()), Some(&1), "{name}");
        }
        assert!(seen.values().all(|times| *times == 1), "one is there twice");
    }

    #[test]
    fn positions_come_after_those_of_the_dots() {
        assert_eq!(positions(0).take(2).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(positions(7).next(), Some(10));
    }
}
