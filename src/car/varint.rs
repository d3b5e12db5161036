//! Unsigned LEB128 numbers as multiformats use them.

/// Longest varint of 64 bits.
const VARINT_BYTES_MAX: usize = 10;

/// A varint that is over 64 bits or not in its shortest form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotVarint;

/// Decodes a varint: the value and its length, or `None` where bytes are missing.
///
/// A form that is longer than it needs to be is refused, so every number has
/// one encoding.
pub fn decode_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, NotVarint> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        let low = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if index == VARINT_BYTES_MAX - 1 && *byte > 1 {
            return Err(NotVarint);
        }
        value |= low << (7 * index);
        if byte & 0x80 == 0 {
            let padded = *byte == 0 && index > 0;
            return if padded {
                Err(NotVarint)
            } else {
                Ok(Some((value, index + 1)))
            };
        }
    }
    if bytes.len() < VARINT_BYTES_MAX {
        Ok(None)
    } else {
        Err(NotVarint)
    }
}

/// Appends a varint.
pub fn encode_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_survives_a_round_trip() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                encode_varint(value, &mut out);
                assert_eq!(decode_varint(&out), Ok(Some((value, out.len()))));
                for cut in 0..out.len() {
                    assert_eq!(decode_varint(&out[..cut]), Ok(None));
                }
            }
        }
    }

    #[test]
    fn overlong_and_over_64_bits_are_refused() {
        assert_eq!(decode_varint(&[0x80, 0x00]), Err(NotVarint));
        assert_eq!(decode_varint(&[0xff; 10]), Err(NotVarint));
        let mut over = [0x80_u8; 10];
        over[9] = 2;
        assert_eq!(decode_varint(&over), Err(NotVarint));
    }
}
