//! What differs between two maps, without reading what they share.

use std::ops::ControlFlow;

use super::error::MapError;
use super::node::Item;
use super::nodes::Nodes;
use super::path::{Head, Path};
use crate::block::Cid;

/// A key whose value differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value in the first map, if it is there.
    pub old: Option<&'a [u8]>,
    /// Its value in the second map, if it is there.
    pub new: Option<&'a [u8]>,
}

/// Takes the differences in the order of their keys, until it says to stop.
pub type Each<'e> = dyn FnMut(Difference<'_>) -> ControlFlow<()> + Send + 'e;

/// Walks both maps side by side. A subtree that both come to at the same time
/// is passed over: what lies before it was dealt with on both sides.
pub(super) async fn diff(
    nodes: &Nodes,
    a: Option<&Cid>,
    b: Option<&Cid>,
    each: &mut Each<'_>,
) -> Result<(), MapError> {
    if a == b {
        return Ok(());
    }
    let mut left = Side::open(nodes, a).await?;
    let mut right = Side::open(nodes, b).await?;
    loop {
        let (l, r) = (left.head(), right.head());
        match next(l.as_ref(), r.as_ref()) {
            Next::End => return Ok(()),
            Next::Skip => {
                left.skip();
                right.skip();
            }
            Next::Descend { l, r } => {
                if l {
                    left.descend().await?;
                }
                if r {
                    right.descend().await?;
                }
            }
            Next::Differs { key, old, new } => {
                if each(Difference { key, old, new }).is_break() {
                    return Ok(());
                }
                if old.is_some() {
                    left.skip();
                }
                if new.is_some() {
                    right.skip();
                }
            }
        }
    }
}

/// One of the two maps; `None` is the empty one.
struct Side<'n>(Option<Path<'n>>);

impl<'n> Side<'n> {
    async fn open(nodes: &'n Nodes, root: Option<&Cid>) -> Result<Self, MapError> {
        match root {
            Some(root) => Ok(Self(Some(Path::open(nodes, root).await?))),
            None => Ok(Self(None)),
        }
    }

    fn head(&self) -> Option<Head> {
        self.0.as_ref()?.head()
    }

    fn skip(&mut self) {
        if let Some(path) = &mut self.0 {
            path.skip();
        }
    }

    async fn descend(&mut self) -> Result<(), MapError> {
        match &mut self.0 {
            Some(path) => path.descend().await,
            None => Ok(()),
        }
    }
}

/// What to do about two entries.
#[derive(Debug, PartialEq, Eq)]
enum Next<'h> {
    End,
    /// Both are the same.
    Skip,
    /// Look into the one or the other.
    Descend {
        l: bool,
        r: bool,
    },
    /// A value differs; those that are there are done with.
    Differs {
        key: &'h [u8],
        old: Option<&'h [u8]>,
        new: Option<&'h [u8]>,
    },
}

fn next<'h>(l: Option<&'h Head>, r: Option<&'h Head>) -> Next<'h> {
    match (l, r) {
        (None, None) => Next::End,
        (Some(l), None) => alone(l, true),
        (None, Some(r)) => alone(r, false),
        (Some(l), Some(r)) => match (&l.item, &r.item) {
            (Item::Link(a), Item::Link(b)) if a == b => Next::Skip,
            (Item::Link(_), Item::Link(_)) => Next::Descend {
                l: l.level >= r.level,
                r: r.level >= l.level,
            },
            (Item::Link(_), Item::Value(_)) => Next::Descend { l: true, r: false },
            (Item::Value(_), Item::Link(_)) => Next::Descend { l: false, r: true },
            (Item::Value(old), Item::Value(new)) => match l.key.cmp(&r.key) {
                std::cmp::Ordering::Less => alone(l, true),
                std::cmp::Ordering::Greater => alone(r, false),
                std::cmp::Ordering::Equal if old == new => Next::Skip,
                std::cmp::Ordering::Equal => Next::Differs {
                    key: &l.key,
                    old: Some(old),
                    new: Some(new),
                },
            },
        },
    }
}

/// An entry that the other map does not have.
fn alone(head: &Head, left: bool) -> Next<'_> {
    match &head.item {
        Item::Link(_) => Next::Descend { l: left, r: !left },
        Item::Value(value) => Next::Differs {
            key: &head.key,
            old: left.then_some(value),
            new: (!left).then_some(value),
        },
    }
}
