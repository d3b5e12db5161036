//! What blocks are stored and compared by: the bytes of their multihash.

use std::hash::{Hash, Hasher};

use crate::block::{BlockError, Cid};
use crate::config::MULTIHASH_BYTES_MAX;

/// The bytes of a multihash, in place. A CIDv0 and a CIDv1 of one node share it.
#[derive(Clone, Copy)]
pub(super) struct Key {
    len: u8,
    bytes: [u8; MULTIHASH_BYTES_MAX],
}

impl Key {
    /// Takes the multihash of a CID; longer ones than any supported hash are refused.
    pub(super) fn of(cid: &Cid) -> Result<Self, BlockError> {
        let code = cid.hash().code();
        let refuse = |_| BlockError::UnsupportedHash { cid: *cid, code };
        let mut bytes = [0; MULTIHASH_BYTES_MAX];
        let len = cid.hash().write(bytes.as_mut_slice()).map_err(refuse)?;
        let len = u8::try_from(len).unwrap_or(MULTIHASH_BYTES_MAX as u8);
        Ok(Self { len, bytes })
    }

    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The end of the digest, which tells blocks apart within one process:
    /// finding two blocks that agree in it is as hard as breaking their hash.
    pub(super) fn tail(&self) -> u128 {
        let bytes = self.as_bytes().iter().rev().take(16);
        bytes.fold(0, |tail, byte| (tail << 8) | u128::from(*byte))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
