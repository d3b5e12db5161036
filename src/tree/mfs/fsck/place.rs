//! Where a block of the tree is, and whether it must be here.

use crate::block::Cid;
use crate::tree::error::TreeError;
use crate::tree::mfs::calls::elsewhere::is_recorded_elsewhere;
use crate::tree::mfs::types::NodeId;
use crate::tree::posix::record::{Dentry, DentryBody, Inode};
use crate::tree::posix::{PosixMap, key};

/// The file or directory that needs a block.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: String,
    /// Whether the block may never have been here.
    pub(super) elsewhere: bool,
    /// Number of a directory that records may name; others have none.
    number: Option<u64>,
}

impl Place {
    /// The root of the tree.
    pub(super) fn root() -> Self {
        Self {
            number: Some(NodeId::ROOT.number()),
            ..Self::own("")
        }
    }

    /// Something that is always made here.
    pub(super) fn own(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            elsewhere: false,
            number: None,
        }
    }

    pub(super) fn shown(&self) -> &str {
        match self.path.as_str() {
            "" => "/",
            path => path,
        }
    }

    /// An entry of it. What is not recorded was never changed here: it is where
    /// the directory's content is.
    pub(super) async fn child(&self, name: &[u8], records: Option<&(PosixMap, Cid)>) -> Self {
        let plain = Self {
            path: format!("{}/{}", self.path, String::from_utf8_lossy(name)),
            elsewhere: self.elsewhere,
            number: None,
        };
        let (Some(number), Some(records)) = (self.number, records) else {
            return plain;
        };
        match recorded(records, number, name).await {
            Ok(Some((number, elsewhere))) => Self {
                elsewhere,
                number: Some(number),
                ..plain
            },
            // A record that cannot be read is reported where all of them are read.
            Ok(None) | Err(_) => plain,
        }
    }
}

/// The number of what an entry leads to, and whether its content may be elsewhere.
async fn recorded(
    (map, root): &(PosixMap, Cid),
    directory: u64,
    name: &[u8],
) -> Result<Option<(u64, bool)>, TreeError> {
    let Some(value) = map.get(root, &key::dentry(directory, name)).await? else {
        return Ok(None);
    };
    let dentry = Dentry::decode(&value)?;
    let posix = match dentry.body {
        DentryBody::Inline(posix) => posix,
        DentryBody::Linked => match map.get(root, &key::inode(dentry.node)).await? {
            Some(value) => Inode::decode(&value)?.posix,
            None => return Ok(None),
        },
    };
    let elsewhere = is_recorded_elsewhere(dentry.node, &posix);
    Ok(Some((dentry.node, elsewhere)))
}
