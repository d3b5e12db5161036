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

// Control.

/// Longest that an operation without steps of its own may take. Over it: timeout.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(120);
/// Operations that run at once for all callers. More are told to come back.
pub const OPERATIONS_MAX: usize = 64;
/// Callers that follow the journal at once. More are told so (503): each keeps its
/// connection for as long as it likes, and operations need some too.
pub const FOLLOWERS_MAX: usize = 32;
/// Connections to the control socket at once. More wait in the backlog.
pub const CONTROL_CONNECTIONS_MAX: usize = 128;
/// Largest body of JSON parameters, 1 MiB. More is refused (413).
pub const PARAMS_BYTES_MAX: usize = 1 << 20;
/// Longest wait for the head of a request. Then the connection is closed.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence inside a body that is sent to us. Then the operation fails.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Entries of a directory in one answer of `ipfs/ls`; more are paged.
pub const LS_ENTRIES_MAX: usize = 10_000;
/// Progress events that wait for a slow reader; beyond that the work waits.
pub const PROGRESS_EVENTS_MAX: usize = 1024;
/// Longest wait for a repository that another process holds. Then: busy.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long `cidfs doctor` waits for each answer. Then it says that none came.
pub const DOCTOR_WAIT: Duration = Duration::from_secs(10);
/// Open files below which `cidfs doctor` warns: packs, CAR files, connections.
pub const FILES_OPEN_MIN: u64 = 1024;
/// Longest wait for a daemon that starts in the background.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for mounts to end when the daemon stops. Then it leaves them detached.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Size at which `daemon.log` is set aside, 8 MiB; one older file is kept.
pub const LOG_BYTES_MAX: u64 = 8 << 20;
/// Largest `config.toml`, 1 MiB. More is refused.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
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
/// Longest path that the tree resolves in one call, or that a journal entry has
/// in full.
pub const PATH_BYTES_MAX: usize = 16 << 10;
/// A reply buffer: a huge page, 2 MiB, which the largest request half fills.
pub const REPLY_BUFFER_BYTES: usize = 2 << 20;
/// Idle reply buffers kept, a huge page each at most; more are freed.
pub const REPLY_BUFFERS_KEPT_MAX: usize = 8;
/// Threads that take a mount's requests: as many as cores, within these. With
/// two, both may wait for the disk while a core has nothing to do.
pub const MOUNT_THREADS: std::ops::RangeInclusive<usize> = 4..=8;
/// How long a thread that has answered looks for the next request before it sleeps:
/// about as long as a program takes from an answer to its next call.
pub const LINGER: Duration = Duration::from_micros(50);
/// After so many times in a row in which nothing came it is not done each time,
pub const LINGERS_IN_VAIN_MAX: u32 = 8;
/// but once in so many.
pub const LINGER_TRIED_EVERY: u32 = 32;
/// How often in so many it is looked at whether all cores have work.
pub const LINGER_LOOKS_EVERY: u32 = 64;
/// How often a waiting request looks for its caller's signals.
pub const SIGNAL_POLL_INTERVAL: Duration = Duration::from_millis(150);
/// Entries of a directory whose root blocks are fetched as one batch.
pub const LISTING_BATCH: usize = 256;
/// Children that a listing looks at at once, a batch: those that cannot be had
/// cost one deadline together, and the request ends before its own.
pub const LISTING_FETCHES_MAX: usize = LISTING_BATCH;
/// Nodes that are let go under one lock, so that nothing else waits long for it.
pub const FORGETS_AT_ONCE: usize = 256;
/// How long what the kernel forgot may wait for more of it.
pub const FORGET_AFTER: Duration = Duration::from_millis(20);
/// How long a thread that was told that something is a file, though that cannot
/// be known, finds it as one: as long as it may take to remove what it listed.
pub const GUESS_KEPT_FOR: Duration = Duration::from_secs(60);
/// Such entries that are remembered; the least recently used is forgotten.
pub const GUESSES_KEPT_MAX: usize = 4096;
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
/// Longest file that names the tree's newest checkpoint.
pub const HEAD_BYTES_MAX: usize = 256;
/// Longest section of a CAR file that is held in memory. A longer one is refused.
pub const CAR_SECTION_BYTES_MAX: usize = BLOCK_BYTES_MAX + CID_BYTES_MAX;

/// Places of bad blocks that are remembered, so that the log tells of each once.
pub const BAD_PLACES_TOLD_MAX: usize = 10_000;
/// Memory for blocks just fetched or read, 64 MiB by default. The least recently used are dropped.
pub const MEMORY_BYTES_MAX: u64 = 64 << 20;
/// What a block in memory costs beside its bytes.
pub const MEMORY_ENTRY_BYTES: usize = 192;
/// Disk for fetched blocks, 10 GiB by default. Whole cache packs are dropped, the longest unused first.
pub const CACHE_BYTES_MAX: u64 = 10 << 30;
/// Free disk that caching leaves alone, 1 GiB by default. Below it fetched blocks stay in memory only.
pub const DISK_FREE_MIN: u64 = 1 << 30;
/// Length at which an own pack is full and the next one begins.
pub const OWN_PACK_BYTES_MAX: u64 = 1 << 30;
/// Space set aside for checkpoints and collections on a full disk, 64 MiB by
/// default: what waits to be appended, and what a checkpoint seals. At first at
/// most a quarter of the free space, halved until it fits.
pub const OWN_RESERVE_BYTES: u64 = 64 << 20;
/// Least that is set aside. Where that does not fit, the disk counts as full.
pub const OWN_RESERVE_BYTES_MIN: u64 = 1 << 20;
/// How much less is tried where what is free cannot be set aside, doubled each time.
pub const OWN_RESERVE_STEP_BYTES: u64 = 64 << 10;
/// After an error that is not a full disk, the reserve is set aside this much later.
pub const OWN_RESERVE_RETRY: Duration = Duration::from_secs(1);
/// Length at which a cache pack is full and the next one begins.
pub const CACHE_PACK_BYTES_MAX: u64 = 256 << 20;
/// Shortest length at which a cache pack may be full, where the cache is small.
pub const CACHE_PACK_BYTES_MIN: u64 = 1 << 20;
/// Pack files held open; the least recently used is closed.
pub const PACKS_OPEN_MAX: usize = 256;
/// Bytes that are gathered before they are appended in one go.
pub const APPEND_BATCH_BYTES: usize = 1 << 20;
/// Bytes that may wait to be appended. Over it a put waits (own) or is not cached (cache).
pub const APPEND_WAITING_BYTES_MAX: usize = 16 << 20;
/// Blocks up to this length are copied together before they are appended.
pub const APPEND_COPY_BYTES_MAX: usize = 16 << 10;
/// Bytes appended to own packs after which the disk is told to begin with them,
/// 8 MiB: else all of a long stream would be left to the sync at its end.
pub const APPEND_STARTED_BYTES: u64 = 8 << 20;
/// How long a fetch or a put waits for the index to open before it goes on without.
pub const INDEX_WAIT: Duration = Duration::from_secs(10);
/// Page cache of the index, 4 MiB.
pub const INDEX_CACHE_BYTES: u64 = 4 << 20;
/// Index entries that gather in memory before they become a sorted run.
pub const INDEX_RECENT_ENTRIES: usize = 16 << 10;
/// Index entries in one value of the database: 1 KiB.
pub const INDEX_CHUNK_ENTRIES: usize = 32;
/// Buckets of what is noted about CIDs, each a value of the database.
pub const NOTES_BUCKETS: usize = 4096;
/// Notes of a bucket, 262,144 in all: 12 MiB. The oldest go.
pub const NOTES_PER_BUCKET: usize = 64;
/// Notes that gather in memory before they are written; beyond twice as many they are dropped.
pub const NOTES_GATHERED_MAX: usize = 32 << 10;
/// How long a look at the notes waits for their database to open.
pub const NOTES_WAIT: Duration = Duration::from_secs(2);
/// Longest multihash that is stored. Longer ones are refused.
pub const MULTIHASH_BYTES_MAX: usize = 71;
/// How long caching on disk rests after a failed write.
pub const CACHE_REST: Duration = Duration::from_secs(30);
/// Most pins. More are refused.
pub const PINS_MAX: usize = 100_000;
/// Longest name of a pin, in bytes. A longer one is refused.
pub const PIN_NAME_BYTES_MAX: usize = 255;
/// Longest file of pins that is read, 128 MiB. A longer one is damaged.
pub const PINS_FILE_BYTES_MAX: usize = 128 << 20;
/// Damaged blocks that a report names; more are only counted.
pub const DAMAGE_LISTED_MAX: usize = 10_000;
/// Block buffers kept for reuse, 16 MiB. More are freed.
pub const BUFFERS_KEPT_BYTES_MAX: usize = 16 << 20;
/// Longest wait for the lock of the index, which programs that were just begun may
/// hold for a moment. Then it is rebuilt.
pub const INDEX_LOCK_WAIT: Duration = Duration::from_secs(1);
/// Keys that a sweep takes out of the index while puts wait.
pub const SWEEP_SLICE: usize = 512;
/// Least bytes of a pack that a collection on a full disk copies and cuts off at a
/// time, 1 MiB.
pub const GC_PART_BYTES: u64 = 1 << 20;
/// Longest wait of a garbage collection for those who add.
pub const GC_WAIT: Duration = Duration::from_secs(10);
/// Bytes of a file that `ipfs/cat` and `ipfs/get` read in one call.
pub const CAT_CHUNK_BYTES: usize = 1 << 20;
/// Chunks that `ipfs/cat` reads ahead of its caller.
pub const CAT_CHUNKS_AHEAD: usize = 4;
/// Roots of one exported CAR file. More are refused.
pub const EXPORT_ROOTS_MAX: usize = 256;

/// How long a source has for one block, retries and waiting included; then the next is asked.
pub const SOURCE_DEADLINE: Duration = Duration::from_secs(25);
/// How long a request that streams many blocks may take in all.
pub const SELECT_DEADLINE: Duration = Duration::from_secs(600);
/// How long a connection to a source may take to come about.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a source may send nothing in the middle of an answer.
pub const READ_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests that one source gets at once; more wait.
pub const SOURCE_CONCURRENCY: usize = 64;
/// How often a failed request is sent again.
pub const SOURCE_RETRIES: u32 = 2;
/// Wait before the first retry; it doubles each time, with jitter.
pub const RETRY_WAIT_MIN: Duration = Duration::from_millis(200);
/// Longest wait before a retry.
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(3);
/// Longest Retry-After that is waited for; for a longer one the next source is asked.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// How long a source may stay silent before the next one is asked beside it.
pub const HEDGE_WAIT: Duration = Duration::from_secs(2);
/// Failures in a row after which a source counts as failing and is asked later.
pub const FAILURES_IN_A_ROW_MAX: u32 = 3;
/// How long a failing source is left alone before it is asked in its turn again.
pub const FAILING_PAUSE: Duration = Duration::from_secs(30);
/// Largest file of certificates that a source trusts, 1 MiB. A larger one is refused.
pub const CA_BYTES_MAX: u64 = 1 << 20;
/// Most redirects that are followed for one request.
pub const REDIRECTS_MAX: usize = 5;
/// Most bytes that one CAR answer may stream; it breaks off there.
pub const SELECT_BYTES_MAX: u64 = 4 << 30;
/// Most bytes of blocks held back because their parent has not arrived; the oldest are dropped.
pub const SELECT_HELD_BYTES_MAX: usize = 8 << 20;
/// Most links that are remembered while a CAR answer streams; blocks beyond are dropped.
pub const SELECT_LINKS_MAX: usize = 1 << 20;
/// Most bytes of an answer that is an error or a small JSON value; the rest is not read.
pub const RPC_ANSWER_BYTES_MAX: usize = 64 << 10;
/// Largest IPNS record. A larger one is refused.
pub const IPNS_RECORD_BYTES_MAX: usize = 10 << 10;
/// How long a name is kept where its record or answer names no time.
pub const NAME_TTL_DEFAULT: Duration = Duration::from_secs(60);
/// Longest time that a name is kept, whatever its record says.
pub const RECORD_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long slower sources have to show a newer record, once one has answered.
pub const NAME_GRACE: Duration = Duration::from_secs(2);
/// Most CAR files of a directory that are mounted; more are an error.
pub const CAR_FILES_MAX: usize = 10_000;
/// Most roots that CAR files name together; the rest are left out of listings.
pub const CAR_ROOTS_MAX: usize = 100_000;
/// Up to how many CAR files are kept open; of more each is opened when it is read.
pub const CAR_FILES_OPEN_MAX: usize = 64;
/// Largest index of a CARv2 file that is loaded; with a larger one the file is scanned.
pub const CAR_INDEX_BYTES_MAX: u64 = 256 << 20;
/// Most sources that are configured at once.
pub const SOURCES_MAX: usize = 64;
/// How long a Kubo node may search the network for a name of which it holds a record.
pub const NAME_SEARCH_WAIT: Duration = Duration::from_secs(8);
/// Longest `api`, `SHARDING` or `datastore_spec` file of a Kubo repository that is read.
pub const KUBO_FILE_BYTES_MAX: u64 = 64 << 10;
/// Shortest time between two reports of progress; those between are dropped.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Paths of one `ipfs/add`. More are refused.
pub const ADD_PATHS_MAX: usize = 10_000;

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
/// Small files of one directory that one thread of an import takes at once.
pub const IMPORTS_PER_JOB: usize = 32;
/// Chunks of one file that an import has under way for each thread.
pub const CHUNKS_AHEAD_PER_THREAD: usize = 2;

// Journal.

/// Longest frame of the journal, 1 MiB with its head. A longer payload is refused.
pub const JOURNAL_FRAME_BYTES_MAX: usize = 1 << 20;
/// Most bytes of frames in one append, 16 MiB. More is refused.
pub const JOURNAL_APPEND_BYTES_MAX: usize = 16 << 20;
/// Length at which a segment is full and the next one begins, by default.
pub const JOURNAL_SEGMENT_BYTES: u64 = 64 << 20;
/// Space kept back for what makes room on a full disk, by default. Other
/// appends find the disk full before they touch it.
pub const JOURNAL_RESERVE_BYTES: u64 = 4 << 20;
/// The end of it, 64 KiB by default: for checkpoints and rollbacks alone, so that
/// deletions cannot keep a checkpoint from freeing what they deleted.
pub const JOURNAL_LAST_BYTES: u64 = 64 << 10;
/// Disk space that is set aside at a time, 16 MiB.
pub const JOURNAL_ROOM_BYTES: u64 = 16 << 20;
/// What is made free beyond what is needed where history is given up for it: a
/// disk needs a little for keeping book.
pub const HISTORY_SLACK_BYTES: u64 = 64 << 10;
/// Age at which a segment before the checkpoint is dropped, by default.
pub const JOURNAL_RETAIN_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bytes of journal beyond which segments before the checkpoint are dropped, by default.
pub const JOURNAL_RETAIN_BYTES: u64 = 1 << 30;
/// Bytes of torn tails that are kept aside. Over it the oldest are removed.
pub const JOURNAL_TORN_BYTES_MAX: u64 = 64 << 20;
/// Appends up to this length are copied together; of longer ones only the heads are.
pub const JOURNAL_COPY_BYTES_MAX: usize = 16 << 10;
/// Bytes of a segment that are read at a time.
pub const JOURNAL_READ_BYTES: usize = 256 << 10;
/// Bytes that a search for whole frames behind damage may checksum in vain in
/// one segment, 4 GiB. Then the rest of the segment counts as damaged.
pub const JOURNAL_SEARCH_BYTES_MAX: u64 = 4 << 30;
/// Distance between the places of a segment that a reader remembers.
pub const JOURNAL_INDEX_STRIDE_BYTES: u64 = 64 << 10;
/// Segments of which a reader remembers places. The least recently used is forgotten.
pub const JOURNAL_INDEXES_KEPT: usize = 32;
/// Most bytes of payload in one page of frames; a page of more ends early.
pub const JOURNAL_PAGE_BYTES_MAX: usize = 16 << 20;
// Changes of files and directories.

/// Lengths of leaves of zeros whose hashes are kept; the least recently used are forgotten.
pub const ZERO_LEAVES_KEPT_MAX: usize = 64;

// The posix DAG.

/// Longest key of the posix map, 4 KiB. A longer one is refused.
pub const POSIX_KEY_BYTES_MAX: usize = 4 << 10;
/// Longest value of the posix map, 128 KiB. A longer one is refused.
pub const POSIX_VALUE_BYTES_MAX: usize = 128 << 10;
/// Largest block of the posix map, 256 KiB. A larger one is malformed; none is made.
pub const POSIX_NODE_BYTES_MAX: usize = 256 << 10;
/// Highest level of a block of the posix map. A higher one is malformed; 8
/// entries a block, the fewest, would be 2^72 of them.
pub const POSIX_LEVEL_MAX: u8 = 24;
/// Memory for decoded blocks of the posix map, 5 MiB. The oldest are dropped.
pub const POSIX_NODES_BYTES_MAX: usize = 5 << 20;
/// Extended attributes of one node, names, values and 16 bytes for each, 80
/// KiB: one of the longest that Linux passes on and a few more. More is ENOSPC.
pub const POSIX_XATTRS_BYTES_MAX: usize = 80 << 10;
/// Names of one hard-linked node and 16 bytes for each, 40 KiB: 1,000 names of
/// 24 bytes. More is EMLINK.
pub const POSIX_LINKS_BYTES_MAX: usize = 40 << 10;
/// Longest commit object, 4 KiB. A longer one is malformed.
pub const COMMIT_BYTES_MAX: usize = 4 << 10;

// The writable tree.

/// Longest file, 1 EiB. Beyond it: EFBIG.
pub const FILE_BYTES_MAX: u64 = 1 << 60;
/// Longest target of a symbolic link (PATH_MAX without its end). Beyond it: ENAMETOOLONG.
pub const SYMLINK_BYTES_MAX: usize = 4095;
/// Bytes of a directory that cannot become a HAMT, because mounted names in it
/// have equal hashes, beyond which nothing more is made in it: ENOSPC.
pub const DIRECTORY_BASIC_BYTES_MAX: u64 = 1 << 20;
/// Most bytes that an entry takes in such a block.
pub const DIRECTORY_ENTRY_BYTES_MAX: u64 = 512;
/// Deepest directory; nothing can be made below it.
pub const TREE_DEPTH_MAX: usize = 4096;
/// Longest path from a directory that was made here, 128 KiB: only mounted
/// content can be deeper. What lies beyond cannot be changed: ENAMETOOLONG.
pub const TREE_WAY_BYTES_MAX: usize = 128 << 10;
/// Directories and blocks of mounted content that a run remembers to have kept.
/// Beyond it they are looked up again.
pub const KEPT_REMEMBERED_MAX: usize = 100_000;
/// Longest value of an extended attribute, 64 KiB. Beyond it: E2BIG.
pub const XATTR_BYTES_MAX: usize = 64 << 10;
/// Bytes of a write that one journal entry holds; more are several entries.
pub const INLINE_BYTES_MAX: usize = 512 << 10;
/// Chunks that are acknowledged and not hashed yet, 4: so many chunks of the
/// ring's file and of memory. Over it a write waits.
pub const AHEAD_CHUNKS_MAX: usize = 4;
/// Threads that hash them.
pub const AHEAD_THREADS: usize = 2;
/// Chunks of a file, one after the other, before the next are acknowledged so.
pub const AHEAD_RUN_MIN: u64 = 2;
/// Chunks after which a stream pauses: a collection waits for who adds.
pub const AHEAD_RUN_MAX: u64 = 256;
/// Longest time between two chunks of a stream. What comes slower waits for
/// nothing, and the system would write the ring to the disk as often as the chunks.
pub const AHEAD_GAP_MAX: Duration = Duration::from_millis(500);
/// Free space below which no chunk is acknowledged before it is in its pack,
/// 256 MiB, so that a full disk is told to who writes.
pub const AHEAD_FREE_BYTES_MIN: u64 = 256 << 20;
/// Ranges that one copy gathers under the tree's lock; who copies goes on behind them.
pub const COPY_RANGES_MAX: usize = 16 << 10;
/// Ranges that one entry of a copy names; more are several entries.
pub const SHARED_RANGES_MAX: usize = 4096;
/// Bytes of them in the entry, CIDs and written bytes; more are several entries.
pub const SHARED_BYTES_MAX: usize = INLINE_BYTES_MAX + 64;
/// Bytes of files that wait in memory for their chunks to fill, 256 MiB by
/// default. Over it, who writes seals the fullest files.
pub const UNSEALED_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a file that cannot be sealed which each checkpoint journals again, 8
/// MiB. With more, no checkpoint is made until what is damaged is written anew.
pub const HELD_BACK_BYTES_MAX: u64 = 8 << 20;
/// Oldest change that a power loss may take, without fsync, by default.
pub const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time between checkpoints while there are changes, by default.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(60);
/// Journal bytes between checkpoints, 256 MiB by default.
pub const CHECKPOINT_BYTES: u64 = 256 << 20;
/// Changes between checkpoints, by default.
pub const CHECKPOINT_CHANGES: u64 = 500_000;
/// Memory that changes hold beyond which a checkpoint is made, 128 MiB by default,
/// as [`CHANGED_NODE_BYTES`], [`CHANGED_ENTRY_BYTES`] and the bytes of files that are
/// in no block yet say. Beyond twice as much changes wait for the checkpoint under way.
pub const CHANGED_BYTES_MAX: u64 = 128 << 20;
/// What a changed node of a small file takes, about: half in the tree, half in
/// the checkpoint that it becomes part of.
pub const CHANGED_NODE_BYTES: u64 = 1024;
/// What a changed entry of a directory takes beside its node, about.
pub const CHANGED_ENTRY_BYTES: u64 = 96;
/// Nodes in a checkpoint, or loaded or dropped, from which on memory is given back
/// to the system afterwards.
pub const GIVE_BACK_NODES_MIN: usize = 10_000;
/// Longest wait of one change for a checkpoint, while changes hold too much. Then
/// it is made all the same: who makes many is slowed down, nobody is refused.
pub const CHANGED_WAIT_MAX: Duration = Duration::from_secs(1);
/// How often a removal that finds no room on a full disk waits so long for the
/// checkpoint that makes some, before it is ENOSPC.
pub const ROOM_WAITS_MAX: u32 = 2;
/// Pause after a checkpoint that failed.
pub const CHECKPOINT_RETRY: Duration = Duration::from_secs(10);
/// Checkpoints that are kept as snapshots, by default.
pub const SNAPSHOTS_KEPT: usize = 16;
/// How often a step is tried while what it needs is loaded. Then: EBUSY.
pub const PLAN_ROUNDS_MAX: usize = 10_000;
/// Clean nodes in memory beyond which those that nobody holds are dropped.
pub const NODES_LOADED_MAX: usize = 200_000;
/// Names that were looked for and are not there, beyond which they are forgotten.
pub const ABSENT_NAMES_MAX: usize = 100_000;
/// Files that are chosen at once to be sealed when too much waits for that.
pub const RELIEF_FILES: usize = 256;
/// Names of a directory that are loaded together as a listing comes to them: so
/// many at first, and more the further it has come.
pub const BULK_NAMES_MIN: usize = 1024;
/// Most of them, which take 30 MiB while they are loaded.
pub const BULK_NAMES_MAX: usize = 128 << 10;
/// Entries that a directory has at most for each name of a run; of a larger one
/// the names are loaded one by one, which takes less than going through all records.
pub const BULK_RATIO: usize = 128;
/// Records that are read at a time.
pub const RECORDS_PAGE: usize = 1024;
/// Errors that a recovery names; more are only logged.
pub const RECOVERY_ERRORS_MAX: usize = 1000;

/// Entries of a directory of the writable tree that one call lists.
pub const MFS_LIST_BATCH: usize = 256;
/// Changes by others that wait to be told to the kernel. Over it they are
/// forgotten one by one, and the kernel drops all that it keeps of the tree.
pub const NOTICES_MAX: usize = 256 << 10;
/// When the kernel is told a second time to drop what changed: an answer from
/// before the change may have reached it after the first time.
pub const NOTICE_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long the answer to a change through the control socket waits until all
/// mounts have taken notice, one that hangs included. Beyond it it is given all
/// the same, and later answers do not wait for what is stuck.
pub const NOTICE_WAIT: Duration = Duration::from_secs(1);
/// How long a notice to the kernel may take before the next ones overtake it: it
/// is stuck behind a request that hangs.
pub const NOTICE_STUCK_AFTER: Duration = Duration::from_millis(50);
/// Threads that tell the kernel of one mount, all but one of them stuck. With
/// more stuck the rest waits for the first that goes on.
pub const NOTICE_THREADS_MAX: usize = 16;
/// How long a mount that begins looks whether its source is a directory; content
/// that has not come by then is mounted all the same.
pub const MOUNT_LOOK_WAIT: Duration = Duration::from_secs(2);
/// How long unmounting waits for a notice that is under way.
pub const NOTICE_GRACE: Duration = Duration::from_secs(2);
/// Most bytes of one copy_file_range: what a reply can count, in whole pages.
pub const COPY_BYTES_MAX: u64 = 0x7fff_f000;

/// Nodes that one file's sealing takes apart because their leaves lie on other
/// lines of the grid than before, by whole chunks: 4 TiB of our layout. Trees
/// beyond stay whole, and the layout of the file differs from an import's.
pub const REGRID_NODES_MAX: usize = 4096;
/// Depth of a file's tree from which on its sealing takes foreign nodes apart.
pub const REGRID_DEPTH: usize = 24;
/// A whole leaf shorter than this part of a chunk, beside new bytes, is joined with them.
pub const CRUMB_DIVISOR: u64 = 8;
/// Nodes that one search for a hole or for data reads: 64 TiB of our layout.
/// What lies beyond counts as data.
pub const SEEK_NODES_MAX: usize = 64 << 10;

// Changes by control.

/// Transactions of clients that are under way at once. One more is refused.
pub const TRANSACTIONS_OPEN_MAX: usize = 64;
/// Changes that are staged in one transaction. One more is refused.
pub const TRANSACTION_STAGED_MAX: usize = 10_000;
/// Journal entries of one transaction. One of more is refused as a whole.
pub const TRANSACTION_CHANGES_MAX: usize = 50_000;
/// Journal bytes of one transaction, 12 MiB. One of more is refused as a whole.
pub const TRANSACTION_BYTES_MAX: usize = 12 << 20;
/// Entries that a restore journals at a time; the tree answers others between.
pub const RESTORE_BATCH: usize = 4096;
/// Bytes of them, 4 MiB.
pub const RESTORE_BATCH_BYTES: usize = 4 << 20;
/// How long a transaction may be under way where nothing is said. Then it is rolled back.
pub const TRANSACTION_DEADLINE: Duration = Duration::from_secs(60);
/// Longest time that may be asked for.
pub const TRANSACTION_DEADLINE_MAX: Duration = Duration::from_secs(3600);
/// Entries of a directory of the tree that are read at a time.
pub const LIST_BATCH: usize = 1024;

/// Problems, losses and absent blocks that `cidfs fsck` names; more are left out.
pub const FSCK_LISTED_MAX: usize = 1000;

// The journal as it is shown.

/// Frames that are read at once for a page of entries.
pub const LOG_FRAMES_PAGE: usize = 1024;
/// Entries that one page looks at; a filter that finds fewer gives a cursor.
pub const LOG_FRAMES_LOOKED_AT_MAX: u64 = 200_000;
/// Entries in one answer of `fs-journal/transactions`; more by the cursor.
pub const LOG_ENTRIES_MAX: usize = 10_000;
/// Entries in one answer where nothing is said.
pub const LOG_ENTRIES_PLAIN: usize = 100;
/// Damage that a page names; more is left out.
pub const LOG_DAMAGE_LISTED_MAX: usize = 100;
/// CIDs or ranges that an entry shows; more are left out.
pub const LOG_PARTS_LISTED_MAX: usize = 64;
/// Transactions whose outcome is remembered; the oldest are looked for again.
pub const LOG_OUTCOMES_KEPT: usize = 16 << 10;
/// Changes in no checkpoint beyond which `fs-journal/monitor` warns, by default.
pub const MONITOR_CHANGES_MAX: u64 = 2 * CHECKPOINT_CHANGES;
/// Age of an unsynced change beyond which it warns, by default.
pub const MONITOR_UNSYNCED_MAX: Duration = Duration::from_secs(5);
/// Transactions under way beyond which it warns, by default.
pub const MONITOR_TRANSACTIONS_MAX: usize = 32;
/// How often who follows the journal looks for new entries.
pub const FOLLOW_INTERVAL: Duration = Duration::from_millis(50);
/// Differences in one answer of `fs-journal/snapshots/diff` where nothing is said.
pub const DIFFERENCES_PLAIN: usize = 1000;
/// Differences that may be asked for. More are cut off, and it says so.
pub const DIFFERENCES_MAX: usize = 100_000;

// Pushing the tree to nodes.

/// Nodes that the tree is pushed to. More are refused.
pub const PUSH_NODES_MAX: usize = 16;
/// Wait before a push that failed is tried again; it doubles each time, with jitter.
pub const PUSH_WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait before a push is tried again.
pub const PUSH_WAIT_MAX: Duration = Duration::from_secs(300);
/// How long a node may take nothing of what is sent, or not answer at its end.
pub const PUSH_IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a node that pins may not get on. Then it lacks something.
pub const PUSH_PIN_STALL: Duration = Duration::from_secs(60);
/// How long a node may take to move a pin from one root to the next, of which it
/// tells no progress.
pub const PUSH_PIN_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a node has for a question about one CID.
pub const PUSH_QUESTION_TIMEOUT: Duration = Duration::from_secs(30);
/// After so many failures in a row what a node got without pinning it is sent anew.
pub const PUSH_ANEW_EVERY: u32 = 8;
/// Bytes of blocks that are read ahead of a node, 1 MiB.
pub const PUSH_PIECE_BYTES: usize = 1 << 20;
/// Blocks that are looked at in one go.
pub const PUSH_PIECE_BLOCKS: usize = 4096;
/// Blocks that a push remembers to have met, 2 Mi (about 70 MiB). Beyond it a
/// block that appears twice is sent twice.
pub const PUSH_MET_MAX: usize = 2 << 20;
/// Roots that may be pinned at a node by us before the others are unpinned first.
pub const PUSH_ROOTS_MAX: usize = 16;
/// Nodes of which it is remembered what they have. Of more the one that got a root
/// longest ago is forgotten, and sent everything when it is pushed to again.
pub const PUSH_NODES_KEPT_MAX: usize = 64;
/// Longest file of what was pushed, 1 MiB. A longer one is damaged.
pub const PUSH_FILE_BYTES_MAX: usize = 1 << 20;
/// Failures of a push in a row beyond which `fs-journal/monitor` warns, by default.
pub const MONITOR_PUSH_FAILURES_MAX: u32 = 5;
