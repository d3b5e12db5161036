//! Why bytes are not a CAR file.

/// Why bytes are not a CAR file, and where.
#[derive(Debug, thiserror::Error)]
pub enum CarError {
    /// The header is not one.
    #[error("CAR header is malformed: {0}")]
    Header(String),
    /// The header or a section says that it is longer than the limit.
    #[error("CAR length of {len} bytes at offset {offset} is over the limit of {limit}")]
    TooLong {
        /// Where the length stands.
        offset: u64,
        /// The length.
        len: u64,
        /// What is accepted.
        limit: u64,
    },
    /// A varint is over 64 bits, or not in its shortest form.
    #[error("CAR length at offset {offset} is not a varint")]
    Varint {
        /// Where it stands.
        offset: u64,
    },
    /// The file ends in the middle of a section that begins here.
    #[error("CAR file ends in the middle of the section at offset {offset}")]
    Truncated {
        /// Where the section begins.
        offset: u64,
    },
    /// A section does not begin with a CID.
    #[error("CAR section at offset {offset} has no CID: {why}")]
    Cid {
        /// Where the section begins.
        offset: u64,
        /// Cause in words.
        why: String,
    },
    /// The index of a version 2 file cannot be used.
    #[error("CAR index is malformed: {0}")]
    Index(&'static str),
    /// Reading failed.
    #[error("CAR: {0}")]
    Io(#[from] std::io::Error),
}
