//! Tells whether a block may belong to a DAG, without knowing its codecs.
//!
//! Binary codecs hold the bytes of their links' multihashes, so every place in
//! a block that looks like a multihash counts as a link; dag-json holds them
//! as text. A false positive lets a proved block pass that nobody asked for,
//! which costs room and nothing else.

use std::collections::HashSet;

use multihash_codetable::Code;

use crate::block::{Block, Cid, DAG_JSON, Multihash, RAW};
use crate::car::decode_varint;
use crate::config::SELECT_LINKS_MAX;

/// The multihashes that the blocks so far may link to, bounded by
/// [`SELECT_LINKS_MAX`].
pub(super) struct Related {
    hashes: HashSet<Vec<u8>>,
}

impl Related {
    /// Starts with a root.
    pub(super) fn new(root: &Cid) -> Self {
        Self {
            hashes: HashSet::from([root.hash().to_bytes()]),
        }
    }

    /// Whether a block that was learned may link to `cid`, or it is the root.
    pub(super) fn contains(&self, cid: &Cid) -> bool {
        self.hashes.contains(&cid.hash().to_bytes())
    }

    /// Takes the links of a block.
    pub(super) fn learn(&mut self, block: &Block) {
        match block.cid().codec() {
            RAW => (),
            DAG_JSON => self.learn_text(block.data()),
            _ => self.learn_binary(block.data()),
        }
    }

    fn learn_binary(&mut self, data: &[u8]) {
        for start in 0..data.len() {
            let found = data.get(start..).and_then(leading_multihash);
            if let Some(hash) = found {
                self.insert(hash.to_vec());
            }
        }
    }

    fn learn_text(&mut self, data: &[u8]) {
        for word in data.split(|byte| !byte.is_ascii_alphanumeric()) {
            // The shortest CID of a hash that is in use has 46 characters.
            if word.len() < 46 {
                continue;
            }
            let cid = std::str::from_utf8(word)
                .ok()
                .and_then(|word| word.parse::<Cid>().ok());
            if let Some(cid) = cid {
                self.insert(cid.hash().to_bytes());
            }
        }
    }

    fn insert(&mut self, hash: Vec<u8>) {
        if self.hashes.len() < SELECT_LINKS_MAX {
            self.hashes.insert(hash);
        }
    }
}

/// The multihash that `bytes` begins with, if it looks like one.
fn leading_multihash(bytes: &[u8]) -> Option<&[u8]> {
    let (code, code_len) = decode_varint(bytes).ok()??;
    let digest_len = *bytes.get(code_len)?;
    if !matches!(digest_len, 16..=64) || Code::try_from(code).is_err() {
        return None;
    }
    let hash = bytes.get(..code_len + 1 + usize::from(digest_len))?;
    Multihash::from_bytes(hash).is_ok().then_some(hash)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::block::{DAG_CBOR, SHA2_256};

    #[test]
    fn links_of_binary_and_text_nodes_are_found_for_every_hash() {
        for code in [SHA2_256, 0x1e, 0xb220, 0x13] {
            let child = Block::seal(RAW, code, Bytes::from_static(b"child")).unwrap();
            let other = Block::seal(RAW, code, Bytes::from_static(b"other")).unwrap();
            let binary = [b"x".as_slice(), &child.cid().to_bytes(), b"y"].concat();
            let text = format!("{{\"/\":\"{}\"}}", child.cid()).into_bytes();
            for (codec, data) in [(DAG_CBOR, binary), (DAG_JSON, text)] {
                let parent = Block::seal(codec, SHA2_256, data.into()).unwrap();
                let mut related = Related::new(parent.cid());
                assert!(related.contains(parent.cid()));
                assert!(!related.contains(child.cid()));
                related.learn(&parent);
                assert!(
                    related.contains(child.cid()),
                    "hash {code:#x}, codec {codec:#x}"
                );
                assert!(!related.contains(other.cid()));
            }
        }
    }
}
