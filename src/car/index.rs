//! The index of a version 2 file: a hint where sections begin, never trusted.
//!
//! Both forms that are in use: `IndexSorted` (0x0400, keyed by digest) and
//! `MultihashIndexSorted` (0x0401, keyed by hash function and digest). Offsets
//! count from the start of the inner version 1 file and lead to the varint of
//! a section.

use super::error::CarError;
use super::varint::decode_varint;

/// Multicodec of `IndexSorted`.
pub const INDEX_SORTED: u64 = 0x0400;
/// Multicodec of `MultihashIndexSorted`.
pub const MULTIHASH_INDEX_SORTED: u64 = 0x0401;

/// Calls `entry` with each digest and the offset that the index gives for it.
///
/// `bytes` is the index from its codec on. Counts and widths that the bytes do
/// not bear out are errors; nothing is allocated by what they say.
pub fn for_each(bytes: &[u8], entry: &mut dyn FnMut(&[u8], u64)) -> Result<(), CarError> {
    let (codec, len) = decode_varint(bytes)
        .ok()
        .flatten()
        .ok_or(CarError::Index("it has no codec"))?;
    let mut rest = bytes.get(len..).unwrap_or_default();
    match codec {
        INDEX_SORTED => buckets(&mut rest, entry),
        MULTIHASH_INDEX_SORTED => {
            let codes = take_u32(&mut rest)?;
            for _ in 0..codes {
                take(&mut rest, 8)?;
                buckets(&mut rest, entry)?;
            }
            Ok(())
        }
        _ => Err(CarError::Index("its codec is not known")),
    }
}

/// Buckets by width: a count, and for each a width, a byte length and the entries.
fn buckets(rest: &mut &[u8], entry: &mut dyn FnMut(&[u8], u64)) -> Result<(), CarError> {
    let count = take_u32(rest)?;
    for _ in 0..count {
        let width = usize::try_from(take_u32(rest)?).unwrap_or(usize::MAX);
        let len = usize::try_from(take_u64(rest)?).unwrap_or(usize::MAX);
        let entries = take(rest, len)?;
        let digest_len = width
            .checked_sub(8)
            .ok_or(CarError::Index("its entries have no room"))?;
        if len % width != 0 {
            return Err(CarError::Index("its entries do not fill it"));
        }
        for one in entries.chunks_exact(width) {
            let (digest, mut offset) = one.split_at(digest_len);
            entry(digest, take_u64(&mut offset)?);
        }
    }
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], CarError> {
    let (taken, left) = rest
        .split_at_checked(len)
        .ok_or(CarError::Index("it ends too early"))?;
    *rest = left;
    Ok(taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, CarError> {
    Ok(take(rest, 4)?
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 8) | u32::from(*byte)))
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, CarError> {
    Ok(take(rest, 8)?
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::car::encode_varint;

    fn index(codec: u64, width: u32, entries: &[(&[u8], u64)]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_varint(codec, &mut out);
        if codec == MULTIHASH_INDEX_SORTED {
            out.extend(1_u32.to_le_bytes());
            out.extend(0x12_u64.to_le_bytes());
        }
        out.extend(1_u32.to_le_bytes());
        out.extend(width.to_le_bytes());
        out.extend((u64::from(width) * entries.len() as u64).to_le_bytes());
        for (digest, offset) in entries {
            out.extend(*digest);
            out.extend(offset.to_le_bytes());
        }
        out
    }

    #[test]
    fn both_forms_give_digests_and_offsets() {
        for codec in [INDEX_SORTED, MULTIHASH_INDEX_SORTED] {
            let bytes = index(codec, 12, &[(b"abcd", 7), (b"efgh", 9)]);
            let mut seen = Vec::new();
            for_each(&bytes, &mut |digest, offset| {
                seen.push((digest.to_vec(), offset))
            })
            .unwrap();
            assert_eq!(seen, [(b"abcd".to_vec(), 7), (b"efgh".to_vec(), 9)]);
            for cut in 0..bytes.len() {
                assert!(
                    for_each(&bytes[..cut], &mut |_, _| ()).is_err(),
                    "cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn widths_and_lengths_that_lie_are_refused() {
        for width in [0, 7, 13, u32::MAX] {
            let bytes = index(INDEX_SORTED, 12, &[(b"abcd", 7)]);
            let mut lying = bytes.clone();
            lying[6..10].copy_from_slice(&width.to_le_bytes());
            assert!(for_each(&lying, &mut |_, _| ()).is_err(), "width {width}");
        }
    }
}
