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

/// Longest header of a CAR file, 1 MiB (about 25,000 roots). A longer one is refused.
pub const CAR_HEADER_BYTES_MAX: usize = 1 << 20;
/// Longest CID in a CAR section: four varints and the longest digest. A longer one is refused.
pub const CID_BYTES_MAX: usize = 40 + IDENTITY_BYTES_MAX;
/// Longest section of a CAR file that is held in memory. A longer one is refused.
pub const CAR_SECTION_BYTES_MAX: usize = BLOCK_BYTES_MAX + CID_BYTES_MAX;

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
pub const NAME_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
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
