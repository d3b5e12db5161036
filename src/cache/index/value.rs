//! The bytes of an index value: 21, fixed, little-endian.
//!
//! tier (1: 0 own, 1 cache), pack number (4), offset of the data (8), length
//! of the data (4), ordinal of the section (4).

use crate::cache::options::Tier;
use crate::cache::packs::{Location, PackId};

/// Length of a value.
pub(super) const VALUE_BYTES: usize = 21;

/// Encodes a location.
pub(super) fn encode(location: &Location) -> [u8; VALUE_BYTES] {
    let tier = match location.pack.tier {
        Tier::Own => 0_u8,
        Tier::Cache => 1,
    };
    let fields = [tier]
        .into_iter()
        .chain(location.pack.number.to_le_bytes())
        .chain(location.offset.to_le_bytes())
        .chain(location.len.to_le_bytes())
        .chain(location.ordinal.to_le_bytes());
    let mut out = [0; VALUE_BYTES];
    for (slot, byte) in out.iter_mut().zip(fields) {
        *slot = byte;
    }
    out
}

/// Decodes a location; `None` for what is none.
pub(super) fn decode(bytes: &[u8]) -> Option<Location> {
    let bytes: &[u8; VALUE_BYTES] = bytes.try_into().ok()?;
    let (tier, rest) = bytes.split_first()?;
    let (number, rest) = rest.split_first_chunk::<4>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (ordinal, _) = rest.split_first_chunk::<4>()?;
    let tier = match tier {
        0 => Tier::Own,
        1 => Tier::Cache,
        _ => return None,
    };
    Some(Location {
        pack: PackId {
            tier,
            number: u32::from_le_bytes(*number),
        },
        offset: u64::from_le_bytes(*offset),
        len: u32::from_le_bytes(*len),
        ordinal: u32::from_le_bytes(*ordinal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_the_documented_bytes_and_survives_a_round_trip() {
        let pack = PackId {
            tier: Tier::Cache,
            number: 0x0102,
        };
        let location = Location {
            pack,
            offset: 0x0304_0506_0708,
            len: 9,
            ordinal: 10,
        };
        let bytes = encode(&location);
        let documented = [
            1, 2, 1, 0, 0, 8, 7, 6, 5, 4, 3, 0, 0, 9, 0, 0, 0, 10, 0, 0, 0,
        ];
        assert_eq!(bytes, documented);
        assert_eq!(decode(&bytes), Some(location));
        assert_eq!(decode(&bytes[..20]), None);
        assert_eq!(decode(&[7; VALUE_BYTES]), None);
    }
}
