//! What a CID is, as the bytes of a note, so that listings know it after its
//! block is gone: kind (1), 0 (1), then little-endian mode (2, all ones: not
//! stored), nanoseconds (4, all ones: no time is stored), size (8), seconds (8).

use super::data::Mtime;
use super::reader::{Meta, MetaKind};
use crate::cache::{NOTE_BYTES, Note};

const NO_MODE: u16 = u16::MAX;
const NO_TIME: u32 = u32::MAX;

pub(super) fn encode(meta: &Meta) -> Note {
    let kind = match meta.kind {
        MetaKind::File => 1,
        MetaKind::Directory => 2,
        MetaKind::Symlink => 3,
    };
    let mode = meta.mode.and_then(|mode| u16::try_from(mode).ok());
    let (seconds, nanoseconds) = match meta.mtime {
        Some(time) => (time.seconds, time.nanoseconds),
        None => (0, NO_TIME),
    };
    let fields = [kind, 0]
        .into_iter()
        .chain(mode.unwrap_or(NO_MODE).to_le_bytes())
        .chain(nanoseconds.to_le_bytes())
        .chain(meta.size.to_le_bytes())
        .chain(seconds.to_le_bytes());
    let mut note = [0; NOTE_BYTES];
    for (slot, byte) in note.iter_mut().zip(fields) {
        *slot = byte;
    }
    note
}

/// `None` for bytes that no [`encode`] gave.
pub(super) fn decode(note: &Note) -> Option<Meta> {
    let [kind, 0, rest @ ..] = note else {
        return None;
    };
    let (mode, rest) = rest.split_first_chunk::<2>()?;
    let (nanoseconds, rest) = rest.split_first_chunk::<4>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let seconds: &[u8; 8] = rest.try_into().ok()?;
    let kind = match kind {
        1 => MetaKind::File,
        2 => MetaKind::Directory,
        3 => MetaKind::Symlink,
        _ => return None,
    };
    let mode = match u16::from_le_bytes(*mode) {
        NO_MODE => None,
        mode if mode <= 0o7777 => Some(u32::from(mode)),
        _ => return None,
    };
    let mtime = match u32::from_le_bytes(*nanoseconds) {
        NO_TIME => None,
        nanoseconds if nanoseconds < 1_000_000_000 => Some(Mtime {
            seconds: i64::from_le_bytes(*seconds),
            nanoseconds,
        }),
        _ => return None,
    };
    Some(Meta {
        kind,
        size: u64::from_le_bytes(*size),
        mode,
        mtime,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_reads_as_it_was() {
        for kind in [MetaKind::File, MetaKind::Directory, MetaKind::Symlink] {
            for mode in [None, Some(0), Some(0o7777)] {
                for seconds in [i64::MIN, -1, 0, i64::MAX] {
                    let mtime = Some(Mtime {
                        seconds,
                        nanoseconds: 999_999_999,
                    });
                    for mtime in [None, mtime] {
                        let size = seconds as u64;
                        let meta = Meta {
                            kind,
                            size,
                            mode,
                            mtime,
                        };
                        assert_eq!(decode(&encode(&meta)), Some(meta));
                    }
                }
            }
        }
    }

    #[test]
    fn other_bytes_are_no_note() {
        let good = encode(&Meta {
            kind: MetaKind::File,
            size: 1,
            mode: Some(0o644),
            mtime: None,
        });
        for (place, value) in [(0, 0), (0, 4), (1, 1), (3, 0x20), (7, 0x7f)] {
            let mut bad = good;
            bad[place] = value;
            assert_eq!(decode(&bad), None, "{place}");
        }
    }
}
