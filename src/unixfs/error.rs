//! Why bytes are not a UnixFS node, and why a read failed.

use std::io;

use super::hamt_build::HamtTooDeep;
use crate::block::{BlockError, Cid};
use crate::cache::CacheError;

/// Why a read of a file or directory failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// A block could not be had.
    #[error(transparent)]
    Block(#[from] CacheError),
    /// A block is not what it must be here.
    #[error("{cid} is malformed: {why}")]
    Malformed {
        /// The block.
        cid: Box<Cid>,
        /// Why.
        why: Malformed,
    },
    /// It is no directory.
    #[error("not a directory")]
    NotADirectory,
    /// It is no file.
    #[error("not a file")]
    NotAFile,
    /// It is no symbolic link.
    #[error("not a symbolic link")]
    NotALink,
}

impl ReadError {
    pub(super) fn malformed(cid: &Cid, why: Malformed) -> Self {
        Self::Malformed {
            cid: Box::new(*cid),
            why,
        }
    }
}

/// Why a changed file or directory could not be made. Blocks without a root
/// may be left behind, which garbage collection takes.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// What is there already cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A block cannot be made.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The sink did not take a block.
    #[error("block not stored: {0}")]
    Store(#[source] io::Error),
    /// Names of a directory have the same hash.
    #[error(transparent)]
    TooDeep(#[from] HamtTooDeep),
    /// A range goes beyond the end of the file that it is of.
    #[error("{len} bytes at {offset} are not in {cid}, which has {size}")]
    Range {
        /// The file.
        cid: Box<Cid>,
        /// Where the range begins.
        offset: u64,
        /// Its length.
        len: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// The file would be longer than an offset can say.
    #[error("file is larger than an offset can say")]
    TooLarge,
}

/// Why bytes are not a UnixFS node. The caller knows the CID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The protobuf ends in the middle of a field, or a varint is too long.
    #[error("protobuf is cut off or overlong")]
    Protobuf,
    /// A field that dag-pb or UnixFS does not have, or of the wrong wire type.
    #[error("unexpected protobuf field {field} of wire type {wire}")]
    Field {
        /// Its number.
        field: u64,
        /// Its wire type.
        wire: u8,
    },
    /// A link without a CID, or with one that does not parse.
    #[error("link {index} has no valid CID")]
    LinkCid {
        /// Its position.
        index: usize,
    },
    /// A UnixFS type outside the list.
    #[error("unknown UnixFS type {0}")]
    Type(u64),
    /// The number of blocksizes differs from that of links.
    #[error("{links} links but {sizes} blocksizes")]
    Blocksizes {
        /// Number of links.
        links: usize,
        /// Number of blocksizes.
        sizes: usize,
    },
    /// The declared size is not that of the parts.
    #[error("file size {declared} but its parts add up to {parts}")]
    FileSize {
        /// `filesize`.
        declared: u64,
        /// Inline data plus blocksizes.
        parts: u64,
    },
    /// A chunk link has a name.
    #[error("chunk link {index} has a name")]
    ChunkName {
        /// Its position.
        index: usize,
    },
    /// A child holds another number of bytes than its parent says.
    #[error("a child holds {found} bytes where its parent says {declared}")]
    ChildSize {
        /// What the parent says.
        declared: u64,
        /// What there is.
        found: u64,
    },
    /// The HAMT's parameters or prefixes are not valid.
    #[error("HAMT: {0}")]
    Hamt(&'static str),
    /// mtime nanoseconds outside 1 to 999999999.
    #[error("mtime nanoseconds {0} out of range")]
    Nanoseconds(u32),
    /// The DAG is deeper than the limit.
    #[error("deeper than the limit")]
    TooDeep,
    /// The node is of a kind that cannot be used here.
    #[error("{0}")]
    Kind(&'static str),
}
