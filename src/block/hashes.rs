//! The closed list of hash functions: those that IPFS nodes accept.
//!
//! Codes: <https://github.com/multiformats/multicodec/blob/master/table.csv>.

use multihash_codetable::{Code, MultihashDigest};
use sha1::Digest;
use sha3::digest::{ExtendableOutput, Update, XofReader};

use super::Multihash;

const SHA1: u64 = 0x11;
const SHAKE_256: u64 = 0x19;
const DBL_SHA2_256: u64 = 0x56;
/// blake2b-8, whose code is one more than this; each further eight bits are one more.
const BLAKE2B: u64 = 0xb200;
const BLAKE2S: u64 = 0xb240;

/// Hashes `data`; `None` if `code` is not on the list.
pub(super) fn digest(code: u64, data: &[u8]) -> Option<Multihash> {
    if let Ok(code) = Code::try_from(code) {
        return code.digest(data).resize().ok();
    }
    match code {
        SHA1 => wrap(code, &sha1::Sha1::digest(data)),
        DBL_SHA2_256 => wrap(code, &sha2::Sha256::digest(sha2::Sha256::digest(data))),
        SHAKE_256 => {
            let mut shake = sha3::Shake256::default();
            shake.update(data);
            let mut out = [0; 64];
            shake.finalize_xof().read(&mut out);
            wrap(code, &out)
        }
        // Under 160 bits they are too weak to be accepted anywhere.
        _ => match (code.checked_sub(BLAKE2B), code.checked_sub(BLAKE2S)) {
            (_, Some(bytes @ 20..=32)) => {
                let hash = blake2s_simd::Params::new()
                    .hash_length(bytes as usize)
                    .hash(data);
                wrap(code, hash.as_bytes())
            }
            (Some(bytes @ 20..=64), _) => {
                let hash = blake2b_simd::Params::new()
                    .hash_length(bytes as usize)
                    .hash(data);
                wrap(code, hash.as_bytes())
            }
            _ => None,
        },
    }
}

fn wrap(code: u64, digest: &[u8]) -> Option<Multihash> {
    Multihash::wrap(code, digest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(code: u64) -> String {
        let hash = digest(code, b"abc").unwrap();
        hash.digest().iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_published_digests_of_abc_come_out() {
        assert_eq!(hex(SHA1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert!(hex(0x12).starts_with("ba7816bf8f01cfea414140de5dae2223"));
        assert!(hex(DBL_SHA2_256).starts_with("4f8b42c22dd3729b519ba6f68d2da7cc"));
        assert!(hex(SHAKE_256).starts_with("483366601360a8771c6863080cc4114d"));
        assert!(hex(BLAKE2B + 64).starts_with("ba80a53f981c4d0d6a2797b69f12f6e9"));
        assert!(hex(BLAKE2S + 32).starts_with("508c5e8c327c14e2e1a72ba34eeb452f"));
        assert_eq!(hex(BLAKE2B + 20).len(), 40);
    }

    #[test]
    fn what_is_not_on_the_list_is_not_computed() {
        for code in [0xd5, 0x22, BLAKE2B + 1, BLAKE2B + 19, BLAKE2S + 1, u64::MAX] {
            assert!(digest(code, b"abc").is_none(), "{code:#x}");
        }
    }
}
