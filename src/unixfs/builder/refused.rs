//! Why an import is refused before it begins, and why one fails.

use std::io;
use std::path::PathBuf;

use crate::block::BlockError;
use crate::config::IDENTITY_BYTES_MAX;
use crate::unixfs::chunker::ChunkerRefused;
use crate::unixfs::hamt_build::HamtTooDeep;
use crate::unixfs::walk::{BadRule, WalkError};

/// Why options do not go together, or not with what is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddRefused {
    /// The chunker is not valid.
    #[error(transparent)]
    Chunker(#[from] ChunkerRefused),
    /// No hash function of that name.
    #[error("unrecognized hash function {0:?}")]
    UnknownHash(String),
    /// A hash function that IPFS does not allow.
    #[error("hash function {0:?} is not secure enough to be used")]
    InsecureHash(String),
    /// A hash function that IPFS allows and this program cannot compute.
    #[error("hash function {0:?} is not supported here")]
    UnsupportedHash(String),
    /// Neither 0 nor 1.
    #[error("unknown CID version {0}: 0 and 1 are known")]
    CidVersion(i64),
    /// CIDv0 has no room for the code of another hash.
    #[error("a CIDv0 takes sha2-256 only; use --cid-version=1 with another hash")]
    V0Hash,
    /// Plain bytes have no place for mode and time.
    #[error(
        "mode and modification time cannot be stored with raw leaves; \
         use --raw-leaves=false with them"
    )]
    RawLeavesWithMetadata,
    /// Nanoseconds of no time.
    #[error("--mtime-nsecs needs --mtime")]
    NanosecondsAlone,
    /// Nanoseconds out of range.
    #[error("--mtime-nsecs must be from 1 to 999999999")]
    Nanoseconds,
    /// Too much for a CID.
    #[error("--inline-limit {0} is over the {IDENTITY_BYTES_MAX} bytes that a CID may carry")]
    InlineLimit(i64),
    /// Not a power of two from 8 to 1024.
    #[error("the HAMT fanout must be a power of two from 8 to 1024, not {0}")]
    Fanout(i64),
    /// A tree of nodes with one child each never ends.
    #[error("a balanced tree needs at least 2 links a node: --max-file-links=1 is too few")]
    FileLinks,
    /// What is not kept cannot be linked.
    #[error("--only-hash keeps nothing, so --to-files has nothing to link")]
    OnlyHashToFiles,
    /// A name for a pin that is not made.
    #[error("--pin-name needs --pin, and --only-hash pins nothing")]
    PinName,
    /// Which of the two to link is not clear.
    #[error("--wrap-with-directory and --to-files do not go together")]
    WrapToFiles,
    /// An ignore rule is not valid.
    #[error(transparent)]
    IgnoreRule(#[from] BadRule),
    /// The file of ignore rules cannot be read.
    #[error("ignore rules in {}: {reason}", path.display())]
    IgnoreRulesFile {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it cannot be read.
        reason: String,
    },
    /// Metadata of a directory that is only hashed.
    #[error(
        "--only-hash does not go with the mode or mtime of a directory, as in `ipfs add`; \
         leave --only-hash out"
    )]
    OnlyHashMetadata,
    /// A directory was named, but not `--recursive`.
    #[error("{} is a directory; use -r to add directories", .0.display())]
    Directory(PathBuf),
    /// Two different things would have the same name.
    #[error("file name {name:?} is named in {} and in {}", first.display(), second.display())]
    SameName {
        /// The name.
        name: String,
        /// A directory that it is in.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// Nothing was named.
    #[error("nothing to add was named")]
    Nothing,
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// It was refused before anything was read.
    #[error(transparent)]
    Refused(#[from] AddRefused),
    /// A local file or directory cannot be taken in.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// Reading failed.
    #[error("reading {name}: {source}")]
    Read {
        /// What was read.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A file became shorter, or another kind of file, while it was read.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// The blocks could not be kept.
    #[error("storing a block: {0}")]
    Sink(#[source] io::Error),
    /// A block would be over a limit.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A directory cannot be built.
    #[error(transparent)]
    Hamt(#[from] HamtTooDeep),
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A defect: a worker thread ended without an answer.
    #[error("a worker ended without an answer")]
    Worker,
}
