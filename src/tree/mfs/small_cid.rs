//! A CID in as little memory as it takes: trees hold millions.

use std::sync::Arc;

use crate::block::Cid;

/// A CID, packed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SmallCid(Arc<[u8]>);

impl SmallCid {
    /// The CID.
    pub(super) fn get(&self) -> Cid {
        #[expect(clippy::expect_used, reason = "only ever made of a CID's bytes")]
        Cid::try_from(&*self.0).expect("packed from a CID")
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        use crate::block::{Block, RAW, SHA2_256};
        let block = Block::seal(RAW, SHA2_256, "test".into()).unwrap();
        block.cid().into()
    }
}

impl From<&Cid> for SmallCid {
    fn from(cid: &Cid) -> Self {
        Self(cid.to_bytes().into())
    }
}

impl std::fmt::Debug for SmallCid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.get())
    }
}
