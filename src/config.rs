//! Every limit, with its unit and what happens when it is reached.

/// Largest block that is read, 2 MiB. A larger one is refused as malformed.
pub const BLOCK_BYTES_MAX: usize = 2 << 20;
/// Largest block that is made, 1 MiB of payload.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Most bytes that an identity CID may carry. More is refused as malformed.
pub const IDENTITY_BYTES_MAX: usize = 128;
/// Deepest DAG that is followed. Deeper is malformed (EIO).
pub const DAG_DEPTH_MAX: usize = 64;
/// Largest HAMT fanout (CVE-2023-23625). More is malformed.
pub const HAMT_FANOUT_MAX: u64 = 1024;
/// Most bytes in a name of a directory entry; longer names are hidden and logged.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest header of a CAR file, 1 MiB (about 25,000 roots). A longer one is refused.
pub const CAR_HEADER_BYTES_MAX: usize = 1 << 20;
/// Longest CID in a CAR section: four varints and the longest digest. A longer one is refused.
pub const CID_BYTES_MAX: usize = 40 + IDENTITY_BYTES_MAX;
/// Longest section of a CAR file that is held in memory. A longer one is refused.
pub const CAR_SECTION_BYTES_MAX: usize = BLOCK_BYTES_MAX + CID_BYTES_MAX;
