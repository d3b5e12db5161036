//! A block: bytes together with the CID that they hash to.
//!
//! A [`Block`] can only be made by hashing, so holding one is the proof that
//! its bytes belong to its CID. Nothing here does I/O.

mod hashes;

use bytes::Bytes;

use crate::config::{BLOCK_BYTES_MAX, IDENTITY_BYTES_MAX};

/// A CID with room for the longest identity digest, [`IDENTITY_BYTES_MAX`].
pub type Cid = cid::CidGeneric<128>;
/// The multihash of a [`Cid`]: what blocks are stored and compared by.
pub type Multihash = cid::multihash::Multihash<128>;

/// Multicodec of plain bytes.
pub const RAW: u64 = 0x55;
/// Multicodec of dag-pb, the nodes of UnixFS.
pub const DAG_PB: u64 = 0x70;
/// Multicodec of dag-cbor.
pub const DAG_CBOR: u64 = 0x71;
/// Multicodec of libp2p-key, the codec of IPNS names.
pub const LIBP2P_KEY: u64 = 0x72;
/// Multicodec of dag-json.
pub const DAG_JSON: u64 = 0x0129;
/// Multicodec of cbor.
pub const CBOR: u64 = 0x51;
/// Multicodec of json.
pub const JSON: u64 = 0x0200;
/// Multihash code of identity: the digest is the bytes.
pub const IDENTITY: u64 = 0x00;
/// Multihash code of sha2-256.
pub const SHA2_256: u64 = 0x12;

/// Why bytes are not the block of a CID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The bytes hash to something else.
    #[error("bytes do not hash to {cid}")]
    Mismatch {
        /// The CID that was asked for.
        cid: Cid,
    },
    /// The hash function is not on the closed list.
    #[error("hash function {code:#x} of {cid} is not supported")]
    UnsupportedHash {
        /// The CID that was asked for.
        cid: Cid,
        /// Its multihash code.
        code: u64,
    },
    /// The hash function is not on the closed list, when sealing.
    #[error("hash function {0:#x} is not supported")]
    UnknownHash(u64),
    /// The block is over [`BLOCK_BYTES_MAX`].
    #[error("block of {bytes} bytes is over the limit of {BLOCK_BYTES_MAX}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// An identity CID carries more than [`IDENTITY_BYTES_MAX`].
    #[error("identity CID of {bytes} bytes is over the limit of {IDENTITY_BYTES_MAX}")]
    IdentityTooLarge {
        /// Its length.
        bytes: usize,
    },
}

/// Bytes that were proved to belong to their CID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    cid: Cid,
    data: Bytes,
}

impl Block {
    /// Hashes `data` and accepts it if it is the block of `cid`.
    pub fn verify(cid: Cid, data: Bytes) -> Result<Self, BlockError> {
        verify_bytes(&cid, &data)?;
        Ok(Self { cid, data })
    }

    /// Hashes `data` and names it: CIDv1 with `codec`, by the hash function `code`.
    pub fn seal(codec: u64, code: u64, data: Bytes) -> Result<Self, BlockError> {
        let hash = hash(code, &data)?;
        Ok(Self {
            cid: Cid::new_v1(codec, hash),
            data,
        })
    }

    /// Hashes `data` and names it with a CIDv0 (dag-pb, sha2-256).
    pub fn seal_v0(data: Bytes) -> Result<Self, BlockError> {
        let hash = hash(SHA2_256, &data)?;
        #[expect(clippy::expect_used, reason = "sha2-256 is what a CIDv0 takes")]
        let cid = Cid::new_v0(hash).expect("a sha2-256 multihash makes a CIDv0");
        Ok(Self { cid, data })
    }

    /// Gives the block that an identity CID carries in itself, if it is one.
    pub fn inline(cid: &Cid) -> Option<Result<Self, BlockError>> {
        (cid.hash().code() == IDENTITY).then(|| {
            let digest = cid.hash().digest();
            if digest.len() > IDENTITY_BYTES_MAX {
                return Err(BlockError::IdentityTooLarge {
                    bytes: digest.len(),
                });
            }
            Ok(Self {
                cid: *cid,
                data: Bytes::copy_from_slice(digest),
            })
        })
    }

    /// Bytes that the store has hashed before in this run, read again.
    pub(crate) fn proved(cid: Cid, data: Bytes) -> Self {
        Self { cid, data }
    }

    /// The CID.
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// The bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Gives up the proof and keeps the bytes.
    pub fn into_data(self) -> Bytes {
        self.data
    }
}

/// Takes finished blocks, as an importer makes them.
///
/// Called from several threads at once. A block that is there already is kept
/// once; that is no error.
pub trait BlockSink: Send + Sync {
    /// Takes one block.
    fn put(&self, block: Block) -> std::io::Result<()>;
}

/// Checks that `data` hashes to `cid`, within the size limits.
pub fn verify_bytes(cid: &Cid, data: &[u8]) -> Result<(), BlockError> {
    if data.len() > BLOCK_BYTES_MAX {
        return Err(BlockError::TooLarge { bytes: data.len() });
    }
    let wanted = cid.hash();
    if wanted.code() == IDENTITY && wanted.digest().len() > IDENTITY_BYTES_MAX {
        return Err(BlockError::IdentityTooLarge {
            bytes: wanted.digest().len(),
        });
    }
    let code = wanted.code();
    let found = hash(code, data).map_err(|_| BlockError::UnsupportedHash { cid: *cid, code })?;
    // A truncated digest (blake2b-160, say) is not on the list: lengths must agree.
    if found.digest() != wanted.digest() {
        return Err(BlockError::Mismatch { cid: *cid });
    }
    Ok(())
}

/// Hashes `data` with the multihash function `code`.
pub fn hash(code: u64, data: &[u8]) -> Result<Multihash, BlockError> {
    if data.len() > BLOCK_BYTES_MAX {
        return Err(BlockError::TooLarge { bytes: data.len() });
    }
    if code == IDENTITY {
        if data.len() > IDENTITY_BYTES_MAX {
            return Err(BlockError::IdentityTooLarge { bytes: data.len() });
        }
        return Multihash::wrap(IDENTITY, data)
            .map_err(|_| BlockError::IdentityTooLarge { bytes: data.len() });
    }
    hashes::digest(code, data).ok_or(BlockError::UnknownHash(code))
}
