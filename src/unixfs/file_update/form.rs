//! How files are made: sizes, leaves, names of blocks.

use bytes::Bytes;

use crate::block::{Block, BlockSink, Cid, DAG_PB, IDENTITY, SHA2_256};
use crate::config::FILE_LINKS_PLAIN;
use crate::config::{CHUNK_BYTES_MAX, CHUNK_BYTES_PLAIN};
use crate::unixfs::UpdateError;
use crate::unixfs::profile::Profile;

/// How the blocks of files are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileForm {
    /// Bytes of a chunk.
    pub chunk_bytes: usize,
    /// Most links of a node.
    pub links_max: usize,
    /// Whether leaves are plain bytes.
    pub raw_leaves: bool,
    /// CID version of dag-pb nodes; raw leaves always have version 1.
    pub cid_version: cid::Version,
    /// Multihash code of the hash function.
    pub hash: u64,
}

impl From<Profile> for FileForm {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::UnixfsV1_2025 => Self {
                chunk_bytes: CHUNK_BYTES_MAX,
                links_max: 1024,
                raw_leaves: true,
                cid_version: cid::Version::V1,
                hash: SHA2_256,
            },
            Profile::UnixfsV0_2015 => Self {
                chunk_bytes: CHUNK_BYTES_PLAIN,
                links_max: FILE_LINKS_PLAIN as usize,
                raw_leaves: false,
                cid_version: cid::Version::V0,
                hash: SHA2_256,
            },
        }
    }
}

impl FileForm {
    /// Hashes a block and names it.
    pub fn block(&self, codec: u64, data: Bytes) -> Result<Block, UpdateError> {
        if self.cid_version == cid::Version::V0 && codec == DAG_PB {
            return Ok(Block::seal_v0(data)?);
        }
        Ok(Block::seal(codec, self.hash, data)?)
    }

    /// Hashes and stores a block. One that is inside its CID is not stored.
    pub fn store(&self, codec: u64, data: Bytes, sink: &dyn BlockSink) -> Result<Cid, UpdateError> {
        let block = self.block(codec, data)?;
        let cid = *block.cid();
        if cid.hash().code() != IDENTITY {
            sink.put(block).map_err(UpdateError::Store)?;
        }
        Ok(cid)
    }

    /// What seals dag-pb nodes, of directories too, and stores them.
    pub fn sealer(
        &self,
        sink: &dyn BlockSink,
    ) -> impl FnMut(Bytes) -> Result<Cid, UpdateError> + Send {
        let form = *self;
        move |node| form.store(DAG_PB, node, sink)
    }
}
