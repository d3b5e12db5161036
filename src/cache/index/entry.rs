//! The bytes of an index entry: 32, fixed.
//!
//! Fingerprint (16, big-endian: the last bytes of the multihash, last byte
//! first), then little-endian: pack number with the tier in the top bit, 1 for
//! cache (4), offset of the data (5), length of the data (3, all ones: the
//! block is gone), ordinal of the section (4).

use crate::cache::options::Tier;
use crate::cache::packs::{Location, PackId};

/// Length of an entry.
pub(super) const ENTRY_BYTES: usize = 32;

const CACHE_BIT: u32 = 1 << 31;
const GONE: u32 = 0x00ff_ffff;

/// A fingerprint and where its block is; `None` where the block is gone.
pub(super) type Entry = (u128, Option<Location>);

/// Encodes an entry. What does not fit has no place: the packs that are made
/// here are far smaller.
pub(super) fn encode((fingerprint, location): &Entry) -> Option<[u8; ENTRY_BYTES]> {
    let (number, offset, len, ordinal) = match location {
        Some(at) => {
            let bit = match at.pack.tier {
                Tier::Own => 0,
                Tier::Cache => CACHE_BIT,
            };
            let fits = at.pack.number < CACHE_BIT && at.offset < 1 << 40 && at.len < GONE;
            fits.then_some((at.pack.number | bit, at.offset, at.len, at.ordinal))?
        }
        None => (0, 0, GONE, 0),
    };
    let fields = fingerprint
        .to_be_bytes()
        .into_iter()
        .chain(number.to_le_bytes())
        .chain(offset.to_le_bytes().into_iter().take(5))
        .chain(len.to_le_bytes().into_iter().take(3))
        .chain(ordinal.to_le_bytes());
    let mut out = [0; ENTRY_BYTES];
    for (slot, byte) in out.iter_mut().zip(fields) {
        *slot = byte;
    }
    Some(out)
}

/// Decodes an entry; `None` for what is none.
pub(super) fn decode(bytes: &[u8]) -> Option<Entry> {
    let (fingerprint, rest) = bytes.split_first_chunk::<16>()?;
    let (number, rest) = rest.split_first_chunk::<4>()?;
    let ([a, b, c, d, e], rest) = rest.split_first_chunk::<5>()?;
    let ([x, y, z], rest) = rest.split_first_chunk::<3>()?;
    let ordinal: &[u8; 4] = rest.try_into().ok()?;
    let number = u32::from_le_bytes(*number);
    let len = u32::from_le_bytes([*x, *y, *z, 0]);
    let tier = if number & CACHE_BIT == 0 {
        Tier::Own
    } else {
        Tier::Cache
    };
    let location = Location {
        pack: PackId {
            tier,
            number: number & !CACHE_BIT,
        },
        offset: u64::from_le_bytes([*a, *b, *c, *d, *e, 0, 0, 0]),
        len,
        ordinal: u32::from_le_bytes(*ordinal),
    };
    Some((
        u128::from_be_bytes(*fingerprint),
        (len != GONE).then_some(location),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_documented_bytes_and_survives_a_round_trip() {
        let pack = PackId {
            tier: Tier::Cache,
            number: 0x0102,
        };
        let location = Location {
            pack,
            offset: 0x04_0506_0708,
            len: 9,
            ordinal: 10,
        };
        let entry = (0x0f << 120 | 1, Some(location));
        let bytes = encode(&entry).unwrap();
        let mut documented = vec![0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        documented.extend([2, 1, 0, 0x80, 8, 7, 6, 5, 4, 9, 0, 0, 10, 0, 0, 0]);
        assert_eq!(bytes, *documented);
        assert_eq!(decode(&bytes), Some(entry));
        assert_eq!(decode(&bytes).unwrap().1.unwrap().ordinal, 10);
        assert_eq!(decode(&bytes[..31]), None);
        assert_eq!(decode(&encode(&(7, None)).unwrap()), Some((7, None)));
        let far = Location {
            offset: 1 << 40,
            ..location
        };
        assert_eq!(encode(&(7, Some(far))), None);
    }
}
