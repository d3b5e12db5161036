//! Every limit, with its unit and what happens when it is reached.

use std::time::Duration;

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
/// How long a block's failure is remembered, so that the kernel's retry of a
/// failed readahead does not wait for the deadline again.
pub const FAILURE_KEPT_FOR: Duration = Duration::from_secs(2);
/// Most failures remembered; the oldest is forgotten.
pub const FAILURES_KEPT_MAX: usize = 1024;
/// Default deadline of a block's fetch as a reader sees it. Later is ETIMEDOUT.
pub const FETCH_DEADLINE: Duration = Duration::from_secs(30);
/// Memory for decoded directory and file nodes, 16 MiB. The oldest are dropped.
pub const NODES_BYTES_MAX: usize = 16 << 20;
/// Most blocks that one request fetches at once.
pub const FETCHES_PER_REQUEST_MAX: usize = 16;
/// Most entries of one directory that are listed, 16 Mi. A larger directory
/// can be looked up in, not listed (EIO).
pub const LISTING_ENTRIES_MAX: usize = 16 << 20;
/// Memory for whole directory listings, 16 MiB. The oldest are dropped.
pub const LISTINGS_BYTES_MAX: usize = 16 << 20;
/// Most IPNS names kept with what they stand for; more are asked for each time.
pub const NAMES_KEPT_MAX: usize = 4096;
/// Most names that a name may lead through; more is an error (EIO).
pub const NAME_HOPS_MAX: usize = 32;
/// Shortest time that a name's answer is kept, whatever its record says.
pub const NAME_TTL_MIN: Duration = Duration::from_secs(1);
/// Longest time that a name's answer is kept, whatever its record says.
pub const NAME_TTL_MAX: Duration = Duration::from_secs(3600);
/// Longest path that the tree resolves in one call.
pub const PATH_BYTES_MAX: usize = 16 << 10;
/// Idle reply buffers kept, of 1 MiB at most each; more are freed.
pub const REPLY_BUFFERS_KEPT_MAX: usize = 16;
/// How often a waiting request looks for its caller's signals.
pub const SIGNAL_POLL_INTERVAL: Duration = Duration::from_millis(150);
/// Entries of a directory whose root blocks are fetched as one batch.
pub const LISTING_BATCH: usize = 256;
/// Readahead of a mount where this process may set it, 4 MiB.
pub const READAHEAD_BYTES: u64 = 4 << 20;
/// What a request may take beyond the deadline of the fetch that it waits for.
pub const REQUEST_GRACE: Duration = Duration::from_millis(500);
/// Largest request to the kernel's taste, 1 MiB (`fs.fuse.max_pages_limit`).
pub const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Background requests (readahead) that the kernel may have under way.
pub const REQUESTS_AHEAD_MAX: u16 = 64;

/// Longest header of a CAR file, 1 MiB (about 25,000 roots). A longer one is refused.
pub const CAR_HEADER_BYTES_MAX: usize = 1 << 20;
/// Longest CID in a CAR section: four varints and the longest digest. A longer one is refused.
pub const CID_BYTES_MAX: usize = 40 + IDENTITY_BYTES_MAX;
/// Longest section of a CAR file that is held in memory. A longer one is refused.
pub const CAR_SECTION_BYTES_MAX: usize = BLOCK_BYTES_MAX + CID_BYTES_MAX;

/// Chunk size where neither a profile nor an option says one, 256 KiB.
pub const CHUNK_BYTES_PLAIN: usize = 256 << 10;
/// Longest chunk that may be asked for: a block of 2 MiB less 256 bytes for the
/// node around it. More is refused.
pub const CHUNK_BYTES_LIMIT: usize = BLOCK_BYTES_MAX - 256;
/// Most links of a file's node where neither a profile nor an option says it.
pub const FILE_LINKS_PLAIN: i64 = 174;
/// Children of a HAMT's node where no option says it.
pub const HAMT_FANOUT_PLAIN: i64 = 256;
/// A directory of more bytes, as its profile counts them, is made a HAMT.
pub const HAMT_THRESHOLD_BYTES: u64 = 256 << 10;
/// A file up to this size is read and hashed by one thread; a larger one is
/// spread over all.
pub const SMALL_FILE_BYTES_MAX: usize = 1 << 20;
/// Files and directories that an import has under way; the walk waits for them.
pub const IMPORTS_AHEAD_MAX: usize = 1024;
/// Chunks of one file that an import has under way for each thread.
pub const CHUNKS_AHEAD_PER_THREAD: usize = 2;
