//! Rabin fingerprints over GF(2), as Kubo's chunker takes them.
//!
//! The fingerprint is that of the last [`WINDOW`] bytes, as a polynomial
//! modulo [`POLYNOMIAL`]. A chunk ends where its low bits are all zero. The
//! first fingerprint is looked at when a chunk has its smallest length, so it
//! never reaches back over a cut.

use std::sync::LazyLock;

/// Bytes that a fingerprint covers.
pub(super) const WINDOW: usize = 16;

/// Irreducible, of degree 53.
const POLYNOMIAL: u64 = 17_437_180_132_763_653;
const DEGREE: u32 = 63 - POLYNOMIAL.leading_zeros();

struct Tables {
    /// What a byte adds to the fingerprint when it leaves the window.
    out: [u64; 256],
    /// What reduces a fingerprint after a byte was shifted in, by its top byte.
    reduce: [u64; 256],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    out: std::array::from_fn(|byte| {
        let once = modulo(byte as u64);
        (1..WINDOW).fold(once, |hash, _| modulo(hash << 8))
    }),
    reduce: std::array::from_fn(|byte| {
        let top = (byte as u64) << DEGREE;
        modulo(top) | top
    }),
});

fn modulo(mut x: u64) -> u64 {
    while x >> DEGREE != 0 {
        x ^= POLYNOMIAL << (63 - x.leading_zeros() - DEGREE);
    }
    x
}

#[expect(clippy::indexing_slicing, reason = "a byte has 256 values")]
impl Tables {
    fn reduced(&self, hash: u64) -> u64 {
        self.reduce[usize::from((hash >> (DEGREE - 8)) as u8)]
    }

    fn append(&self, hash: u64, byte: u8) -> u64 {
        (hash << 8 | u64::from(byte)) ^ self.reduced(hash)
    }

    fn slide(&self, hash: u64, out: u8, byte: u8) -> u64 {
        self.append(hash ^ self.out[usize::from(out)], byte)
    }
}

/// Length of the first chunk of `data`; `min` is at least [`WINDOW`].
pub(super) fn cut(data: &[u8], min: usize, avg: usize, max: usize) -> usize {
    let data = data.get(..max).unwrap_or(data);
    let mask = (1u64 << avg.max(1).ilog2()) - 1;
    let Some((first, _)) = data.split_at_checked(min) else {
        return data.len();
    };
    let tables = &*TABLES;
    let start = min.saturating_sub(WINDOW);
    let window = first.get(start..).unwrap_or_default();
    let mut hash = window.iter().fold(0, |hash, b| tables.append(hash, *b));
    if hash & mask == 0 {
        return min;
    }
    let leaving = data.get(start..).unwrap_or_default();
    let entering = data.get(min..).unwrap_or_default();
    for (at, (out, byte)) in leaving.iter().zip(entering).enumerate() {
        hash = tables.slide(hash, *out, *byte);
        if hash & mask == 0 {
            return min + at + 1;
        }
    }
    data.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_depends_on_the_last_window_alone() {
        let bytes: Vec<u8> = (0..100u8).map(|b| b.wrapping_mul(37)).collect();
        let tables = &*TABLES;
        let whole = |part: &[u8]| part.iter().fold(0, |h, b| tables.append(h, *b));
        let mut hash = whole(&bytes[..WINDOW]);
        for end in WINDOW..bytes.len() {
            hash = tables.slide(hash, bytes[end - WINDOW], bytes[end]);
            assert_eq!(hash, whole(&bytes[end + 1 - WINDOW..=end]), "at {end}");
        }
    }

    #[test]
    fn zeros_are_cut_at_the_smallest_length() {
        assert_eq!(
            cut(&[0; 100], 20, 40, 60),
            20,
            "the fingerprint of zeros is zero"
        );
        assert_eq!(cut(&[0; 19], 20, 40, 60), 19);
        assert_eq!(cut(&[], 20, 40, 60), 0);
    }
}
