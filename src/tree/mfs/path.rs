//! Nodes by their paths, for those who have no kernel to resolve them.
//!
//! Symbolic links are not followed: the path is that of the tree itself.

use std::sync::Arc;

use super::Mfs;
use super::calls::entries;
use super::nodes::fault::Step;
use super::nodes::node::Name;
use super::nodes::state::State;
use super::types::{NodeAttr, NodeId};
use crate::tree::error::TreeError;

/// A path of the tree, taken apart; empty for the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePath(Vec<Name>);

impl TreePath {
    /// Takes a path apart. `.` is left out; `..` is refused.
    pub fn parse(path: &[u8]) -> Result<Self, TreeError> {
        if path.len() > crate::config::PATH_BYTES_MAX {
            return Err(TreeError::NameTooLong);
        }
        let mut names = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                name => {
                    entries::check_name(name)?;
                    names.push(Name::from(name));
                }
            }
        }
        Ok(Self(names))
    }

    /// The path of a name in the root.
    pub fn top(name: &[u8]) -> Self {
        Self(Vec::new()).join(name)
    }

    /// Its names.
    pub(super) fn names(&self) -> &[Name] {
        &self.0
    }

    /// The path of a name in it.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut names = self.0.clone();
        names.push(Name::from(name));
        Self(names)
    }

    /// The path above, where that is not the root.
    pub fn above(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        (!above.is_empty()).then(|| Self(above.to_vec()))
    }

    /// The bytes of the path, from the root of the tree.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for name in &self.0 {
            out.push(b'/');
            out.extend_from_slice(name);
        }
        if out.is_empty() {
            out.push(b'/');
        }
        out
    }
}

impl State {
    /// Finds what a path leads to.
    pub(super) fn at(&self, path: &TreePath) -> Step<NodeId> {
        let mut at = NodeId::ROOT;
        for name in path.names() {
            at = self.find(at, name)?.ok_or(TreeError::NotFound)?;
        }
        Ok(at)
    }

    /// Finds the directory of a path's last name. The root has none.
    pub(super) fn above<'p>(&self, path: &'p TreePath) -> Step<(NodeId, &'p Name)> {
        let (last, above) = path
            .names()
            .split_last()
            .ok_or(TreeError::Busy("the root of the tree"))?;
        let mut at = NodeId::ROOT;
        for name in above {
            at = self.find(at, name)?.ok_or(TreeError::NotFound)?;
        }
        self.directory(at)?;
        Ok((at, last))
    }
}

/// A node that stays loaded while this lives.
pub struct Held {
    mfs: Arc<Mfs>,
    attr: NodeAttr,
}

impl Held {
    /// Its number.
    pub fn node(&self) -> NodeId {
        self.attr.node
    }

    /// Its attributes as they were when it was found.
    pub fn attr(&self) -> &NodeAttr {
        &self.attr
    }

    /// The tree.
    pub fn mfs(&self) -> &Arc<Mfs> {
        &self.mfs
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.mfs.release(self.attr.node, 1);
    }
}

impl Mfs {
    /// Finds what a path leads to, and keeps it loaded.
    pub async fn find(self: &Arc<Self>, path: &TreePath) -> Result<Held, TreeError> {
        let found = self.look(|state| {
            let node = state.at(path)?;
            let inode = state.nodes.get_mut(&node).ok_or(TreeError::NotFound)?;
            inode.hold();
            Ok(inode.attr(node))
        });
        Ok(Held {
            attr: found.await?,
            mfs: Arc::clone(self),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        for (path, wanted) in [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("/a//b/./c/", "/a/b/c"),
            ("\u{fc} x", "/\u{fc} x"),
        ] {
            let parsed = TreePath::parse(path.as_bytes()).unwrap();
            assert_eq!(parsed.bytes(), wanted.as_bytes(), "{path}");
        }
        let above = |path: &[u8]| Some(TreePath::parse(path).ok()?.above()?.bytes());
        assert_eq!(above(b"/a/b/"), Some(b"/a".to_vec()));
        assert_eq!((above(b"/a"), above(b"/")), (None, None));
        assert!(TreePath::parse(b"/a/../b").is_err());
        assert!(TreePath::parse(&[b'a'; 256]).is_err());
        assert!(TreePath::parse(b"a\0b").is_err());
    }
}
