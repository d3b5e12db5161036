//! Where files are cut into chunks.
//!
//! A [`Chunker`] is a pure function of bytes: given what follows the last cut,
//! it says how long the next chunk is. It never reads and keeps no state, so
//! a chunk depends on its own bytes only. The names and limits are Kubo's.

mod buzhash;
mod rabin;

use crate::config::{CHUNK_BYTES_LIMIT, CHUNK_BYTES_PLAIN};

/// How a file is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunker {
    /// Chunks of one size; the last may be shorter.
    Size(usize),
    /// Content-defined by a Rabin fingerprint of the last 16 bytes.
    Rabin {
        /// No chunk but the last is shorter.
        min: usize,
        /// The size aimed at; its power of two counts.
        avg: usize,
        /// No chunk is longer.
        max: usize,
    },
    /// Content-defined by a cyclic polynomial of the last 32 bytes, 128 to 512 KiB.
    Buzhash,
}

/// Why a chunker's description is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkerRefused {
    /// No chunker of that name.
    #[error("unrecognized chunker {0:?}: size-N, rabin, rabin-MIN-AVG-MAX and buzhash are known")]
    Unknown(String),
    /// The parameters are not of the chunker's form.
    #[error("chunker {text:?}: expected {expected}")]
    Form {
        /// What was given.
        text: String,
        /// What it should look like.
        expected: &'static str,
    },
    /// A chunk of no bytes.
    #[error("the chunk size must be greater than 0")]
    Zero,
    /// A chunk that would make blocks over the limit.
    #[error("chunks may not exceed {CHUNK_BYTES_LIMIT} bytes, or blocks would be over 2 MiB")]
    TooLarge,
    /// Rabin chunks shorter than the fingerprint's window.
    #[error("the smallest rabin chunk must be at least {} bytes", rabin::WINDOW)]
    RabinMin,
    /// Rabin sizes out of order.
    #[error("rabin sizes must grow: min < avg < max")]
    RabinOrder,
}

impl Chunker {
    /// Reads a description: `size-N`, `rabin[-AVG|-MIN-AVG-MAX]`, `buzhash`, `default`.
    pub fn parse(text: &str) -> Result<Self, ChunkerRefused> {
        if text.is_empty() || text == "default" {
            return Ok(Self::Size(CHUNK_BYTES_PLAIN));
        }
        match text.split('-').next() {
            Some("size") => parse_size(text),
            Some("rabin") => parse_rabin(text),
            Some("buzhash") => Ok(Self::Buzhash),
            Some(_) | None => Err(ChunkerRefused::Unknown(text.to_owned())),
        }
    }

    /// Most bytes that [`cut`](Self::cut) looks at: the longest chunk.
    pub fn window_bytes(&self) -> usize {
        match self {
            Self::Size(size) => *size,
            Self::Rabin { max, .. } => *max,
            Self::Buzhash => buzhash::MAX,
        }
    }

    /// Length of the first chunk of `data`.
    ///
    /// `data` begins at a cut and holds at least [`window_bytes`](Self::window_bytes)
    /// bytes, or all that are left. Nothing gives 0, anything else 1 or more.
    pub fn cut(&self, data: &[u8]) -> usize {
        match *self {
            Self::Size(size) => data.len().min(size),
            Self::Rabin { min, avg, max } => rabin::cut(data, min, avg, max),
            Self::Buzhash => buzhash::cut(data),
        }
    }
}

fn number(text: &str, part: &str, expected: &'static str) -> Result<i64, ChunkerRefused> {
    part.parse().map_err(|_| ChunkerRefused::Form {
        text: text.to_owned(),
        expected,
    })
}

fn parse_size(text: &str) -> Result<Chunker, ChunkerRefused> {
    const FORM: &str = "size-N with N in bytes";
    let parts: Vec<&str> = text.split('-').collect();
    let [_, size] = parts[..] else {
        return Err(ChunkerRefused::Form {
            text: text.to_owned(),
            expected: FORM,
        });
    };
    let size = number(text, size, FORM)?;
    match usize::try_from(size) {
        Ok(0) | Err(_) => Err(ChunkerRefused::Zero),
        Ok(size) if size > CHUNK_BYTES_LIMIT => Err(ChunkerRefused::TooLarge),
        Ok(size) => Ok(Chunker::Size(size)),
    }
}

fn parse_rabin(text: &str) -> Result<Chunker, ChunkerRefused> {
    const FORM: &str = "rabin, rabin-AVG or rabin-MIN-AVG-MAX in bytes";
    let parts: Vec<&str> = text.split('-').collect();
    let sizes = match parts[..] {
        [_] => from_average(CHUNK_BYTES_PLAIN as i64),
        [_, avg] => from_average(number(text, avg, FORM)?),
        [_, min, avg, max] => {
            let labelled = |part: &str, label: &str| {
                let digits = part.strip_prefix(label).unwrap_or(part);
                number(text, digits, FORM)
            };
            (
                labelled(min, "min:")?,
                labelled(avg, "avg:")?,
                labelled(max, "max:")?,
            )
        }
        _ => {
            return Err(ChunkerRefused::Form {
                text: text.to_owned(),
                expected: FORM,
            });
        }
    };
    rabin_of(sizes)
}

/// A third of the average at least, half as much again at most.
fn from_average(avg: i64) -> (i64, i64, i64) {
    (avg / 3, avg, avg.saturating_add(avg / 2))
}

fn rabin_of((min, avg, max): (i64, i64, i64)) -> Result<Chunker, ChunkerRefused> {
    let size = |n: i64| usize::try_from(n).map_err(|_| ChunkerRefused::RabinMin);
    let (min, avg, max) = (size(min)?, size(avg)?, size(max)?);
    if min < rabin::WINDOW {
        return Err(ChunkerRefused::RabinMin);
    }
    if min >= avg || avg >= max {
        return Err(ChunkerRefused::RabinOrder);
    }
    if max > CHUNK_BYTES_LIMIT {
        return Err(ChunkerRefused::TooLarge);
    }
    Ok(Chunker::Rabin { min, avg, max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that look random and never change.
    pub(super) fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect()
    }

    fn cuts(chunker: Chunker, data: &[u8]) -> Vec<usize> {
        let mut rest = data;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let window = &rest[..rest.len().min(chunker.window_bytes())];
            let len = chunker.cut(window);
            found.push(len);
            rest = &rest[len..];
        }
        found
    }

    #[test]
    fn descriptions_are_read_as_kubo_reads_them() {
        let rabin = |min, avg, max| Ok(Chunker::Rabin { min, avg, max });
        assert_eq!(Chunker::parse("default"), Ok(Chunker::Size(262_144)));
        assert_eq!(Chunker::parse("size-1"), Ok(Chunker::Size(1)));
        assert_eq!(Chunker::parse("size-2096896"), Ok(Chunker::Size(2_096_896)));
        assert_eq!(Chunker::parse("rabin"), rabin(87_381, 262_144, 393_216));
        assert_eq!(Chunker::parse("rabin-90"), rabin(30, 90, 135));
        assert_eq!(Chunker::parse("rabin-16-17-18"), rabin(16, 17, 18));
        assert_eq!(
            Chunker::parse("rabin-min:16-avg:17-max:18"),
            rabin(16, 17, 18)
        );
        assert_eq!(Chunker::parse("buzhash-whatever"), Ok(Chunker::Buzhash));
    }

    #[test]
    fn descriptions_that_kubo_refuses_are_refused() {
        use ChunkerRefused as R;
        assert_eq!(Chunker::parse("size-0"), Err(R::Zero));
        assert_eq!(Chunker::parse("size-2096897"), Err(R::TooLarge));
        assert_eq!(Chunker::parse("rabin-15-20-30"), Err(R::RabinMin));
        assert_eq!(Chunker::parse("rabin-20-20-30"), Err(R::RabinOrder));
        assert_eq!(Chunker::parse("rabin-20-30-30"), Err(R::RabinOrder));
        assert_eq!(Chunker::parse("rabin-20-30-2096897"), Err(R::TooLarge));
        assert!(matches!(Chunker::parse("fastcdc"), Err(R::Unknown(_))));
        for text in [
            "size",
            "size-x",
            "size-1-2",
            "rabin-1-2",
            "rabin-a-b-c",
            "rabin--5",
        ] {
            assert!(
                matches!(Chunker::parse(text), Err(R::Form { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn content_defined_chunks_keep_their_bounds_and_are_the_same_each_time() {
        let data = noise(3 << 20, 7);
        for text in ["rabin", "rabin-1000-5000-9000", "buzhash"] {
            let chunker = Chunker::parse(text).unwrap();
            let found = cuts(chunker, &data);
            let min = match chunker {
                Chunker::Rabin { min, .. } => min,
                Chunker::Buzhash => buzhash::MIN,
                Chunker::Size(size) => size,
            };
            let (last, whole) = found.split_last().unwrap();
            assert_eq!(found.iter().sum::<usize>(), data.len(), "{text}");
            assert!(*last <= chunker.window_bytes(), "{text}");
            assert!(
                whole
                    .iter()
                    .all(|l| (min..=chunker.window_bytes()).contains(l)),
                "{text}"
            );
            let middle = whole
                .iter()
                .filter(|l| **l > min && **l < chunker.window_bytes());
            assert!(middle.count() > 0, "{text}: content decides somewhere");
            assert_eq!(found, cuts(chunker, &data), "{text}");
        }
    }

    #[test]
    fn a_change_at_the_front_moves_few_cuts_of_content_defined_chunks() {
        let data = noise(2 << 20, 3);
        let shifted: Vec<u8> = [b"inserted", &data[..]].concat();
        let chunker = Chunker::parse("rabin-1000-5000-9000").unwrap();
        let ends = |data: &[u8], shift: usize| -> std::collections::BTreeSet<usize> {
            let mut at = 0;
            let step = |len: &usize| {
                at += len;
                at - shift.min(at)
            };
            cuts(chunker, data).iter().map(step).collect()
        };
        let (before, after) = (ends(&data, 0), ends(&shifted, 8));
        let shared = before.intersection(&after).count();
        assert!(
            shared * 10 > before.len() * 9,
            "{shared} of {}",
            before.len()
        );
    }

    proptest! {
        #[test]
        fn chunks_of_any_input_add_up_to_it(len in 0usize..200_000, seed: u64, kind in 0usize..4) {
            let text = ["size-1000", "rabin-16-64-4096", "rabin-1000-5000-9000", "buzhash"][kind];
            let chunker = Chunker::parse(text).unwrap();
            let found = cuts(chunker, &noise(len, seed));
            prop_assert_eq!(found.iter().sum::<usize>(), len);
            prop_assert!(found.iter().all(|l| *l > 0 && *l <= chunker.window_bytes()));
        }
    }
}
