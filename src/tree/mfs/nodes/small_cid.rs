//! A CID in as little memory as it takes: trees hold millions.

use std::sync::Arc;

use crate::block::{Cid, DAG_PB, RAW, SHA2_256};

/// A CID, packed: what this program makes is in place, others are elsewhere.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::tree::mfs) struct SmallCid(Form);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    /// Version 1, raw, by SHA-256.
    Raw(Digest),
    /// Version 1, dag-pb, by SHA-256.
    DagPb(Digest),
    /// Any, as its bytes.
    Other(Arc<[u8]>),
}

/// What SHA-256 gives.
pub(in crate::tree::mfs) type Digest = [u8; 32];

impl SmallCid {
    /// A version 1 CID of a raw block by SHA-256.
    pub(in crate::tree::mfs) fn raw(digest: Digest) -> Self {
        Self(Form::Raw(digest))
    }

    /// The digest of such a one.
    pub(in crate::tree::mfs) fn as_raw(&self) -> Option<&Digest> {
        match &self.0 {
            Form::Raw(digest) => Some(digest),
            Form::DagPb(_) | Form::Other(_) => None,
        }
    }

    /// The CID.
    pub(in crate::tree::mfs) fn get(&self) -> Cid {
        match &self.0 {
            Form::Raw(digest) => sha256(RAW, digest),
            Form::DagPb(digest) => sha256(DAG_PB, digest),
            Form::Other(bytes) =>
            {
                #[expect(clippy::expect_used, reason = "only ever made of a CID's bytes")]
                Cid::try_from(&**bytes).expect("packed from a CID")
            }
        }
    }

    #[cfg(test)]
    pub(in crate::tree::mfs) fn for_tests() -> Self {
        use crate::block::Block;
        let block = Block::seal(RAW, SHA2_256, "test".into()).unwrap();
        block.cid().into()
    }
}

fn sha256(codec: u64, digest: &Digest) -> Cid {
    #[expect(clippy::expect_used, reason = "a multihash has room for 64 bytes")]
    let hash = multihash::Multihash::wrap(SHA2_256, digest).expect("32 bytes have room");
    Cid::new_v1(codec, hash)
}

impl From<&Cid> for SmallCid {
    fn from(cid: &Cid) -> Self {
        let digest = <Digest>::try_from(cid.hash().digest());
        let is_plain = cid.version() == cid::Version::V1 && cid.hash().code() == SHA2_256;
        Self(match (digest, cid.codec()) {
            (Ok(digest), RAW) if is_plain => Form::Raw(digest),
            (Ok(digest), DAG_PB) if is_plain => Form::DagPb(digest),
            _ => Form::Other(cid.to_bytes().into()),
        })
    }
}

impl std::fmt::Debug for SmallCid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, DAG_CBOR};

    #[test]
    fn every_kind_of_cid_comes_out_as_it_went_in() {
        let block = |codec| *Block::seal(codec, SHA2_256, "abc".into()).unwrap().cid();
        let plain = block(DAG_PB);
        let short = multihash::Multihash::wrap(SHA2_256, &[7; 20]).unwrap();
        let long = multihash::Multihash::wrap(0x13, &[7; 64]).unwrap();
        let identity = multihash::Multihash::wrap(0, b"as it is").unwrap();
        let all = [
            block(RAW),
            plain,
            block(DAG_CBOR),
            Cid::new_v0(*plain.hash()).unwrap(),
            Cid::new_v1(RAW, short),
            Cid::new_v1(RAW, long),
            Cid::new_v1(RAW, identity),
        ];
        for cid in all {
            assert_eq!(SmallCid::from(&cid).get(), cid);
            assert_eq!(SmallCid::from(&cid), SmallCid::from(&cid));
        }
        assert_ne!(SmallCid::from(&plain), SmallCid::from(&all[3]));
        assert!(size_of::<SmallCid>() <= 40);
    }
}
