//! Finds the sections of a pack, past damage where that is possible.

use std::io;
use std::ops::ControlFlow;

use serde::Serialize;

use super::pack_header;
use crate::block::{Cid, verify_bytes};
use crate::cache::key::Key;
use crate::car::{SectionHead, decode_header, decode_section_head};
use crate::config::{BLOCK_BYTES_MAX, CAR_HEADER_BYTES_MAX, CID_BYTES_MAX};
use crate::disk::{DiskFile, read_exact_at};

/// Longest head of a section.
const HEAD_BYTES_MAX: usize = CID_BYTES_MAX + 10;
/// What one read takes: little where data is passed over, more where sections are small.
const WINDOW_BYTES: std::ops::RangeInclusive<usize> = (4 << 10)..=(256 << 10);
/// What a disk fails to give at once.
const SECTOR_BYTES: u64 = 4 << 10;
/// Sectors that are passed over before the rest of a pack is given up.
const UNREADABLE_MAX: u32 = 4096;

/// Bytes of a pack that are no section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Where they begin.
    pub offset: u64,
    /// How many they are.
    pub bytes: u64,
    /// Whether they go to the end of the file, as after a torn append.
    pub torn: bool,
    /// Cause in words.
    pub why: String,
}

/// Where a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) struct Cursor {
    pub(in crate::cache) offset: u64,
    pub(in crate::cache) ordinal: u32,
}

/// What a scan found.
#[derive(Debug)]
pub(in crate::cache) struct Scanned {
    /// Where it ended: the end of the file, unless it was stopped.
    pub(in crate::cache) end: Cursor,
    /// What is no section.
    pub(in crate::cache) damage: Vec<Damage>,
}

/// Calls `each` with the head of every section of the first `len` bytes, in
/// order, with its number. Reads no data, except to find the next section
/// behind damage: there a section counts only if its data hashes to its CID.
pub(in crate::cache) fn scan(
    file: &dyn DiskFile,
    len: u64,
    from: Option<Cursor>,
    each: &mut dyn FnMut(&SectionHead, u32) -> ControlFlow<()>,
) -> io::Result<Scanned> {
    let mut window = Window::new(file, len);
    let mut damage = Vec::new();
    let mut at = match from {
        Some(cursor) => cursor,
        None => Cursor {
            offset: begin(&mut window, &mut damage)?,
            ordinal: 0,
        },
    };
    // Hashing past damage is bounded: data can be made to look like heads.
    let mut budget = len.saturating_mul(2);
    let mut previous: Option<SectionHead> = None;
    while at.offset < len {
        let head = match section(&mut window, at.offset) {
            Ok(head) => head,
            Err(why) => {
                // The section before may have lied about its length, and have
                // swallowed the beginning of this one.
                let liar = previous.filter(|head| !proves(file, head));
                let from = liar.map_or(at.offset, |head| head.offset);
                let found = resync(&mut window, from + 1, &mut budget)?;
                let end = found.as_ref().map_or(len, |head| head.offset);
                damage.push(Damage {
                    offset: from,
                    bytes: end - from,
                    torn: end == len,
                    why,
                });
                let Some(head) = found else { break };
                head
            }
        };
        if each(&head, at.ordinal).is_break() {
            return Ok(Scanned { end: at, damage });
        }
        previous = Some(head);
        at = Cursor {
            offset: head.end(),
            ordinal: at.ordinal.saturating_add(1),
        };
    }
    at.offset = len;
    Ok(Scanned { end: at, damage })
}

/// Where the first section begins. A damaged header costs no section.
fn begin(window: &mut Window<'_>, damage: &mut Vec<Damage>) -> io::Result<u64> {
    let ours = pack_header();
    if window.at(0, ours.len())?.starts_with(&ours) {
        return Ok(ours.len() as u64);
    }
    let mut bytes = window.at(0, CAR_HEADER_BYTES_MAX + 10)?;
    if bytes.len() > CAR_HEADER_BYTES_MAX + 10 {
        bytes = bytes.get(..CAR_HEADER_BYTES_MAX + 10).unwrap_or_default();
    }
    if let Ok(Some((header, len))) = decode_header(bytes)
        && header.version == 1
    {
        return Ok(len as u64);
    }
    // Our own header is the only one that is written here, so the sections
    // begin behind it, if the file is that long.
    let end = (ours.len() as u64).min(window.len);
    damage.push(Damage {
        offset: 0,
        bytes: end,
        torn: end == window.len,
        why: "the header is damaged".to_owned(),
    });
    Ok(end)
}

/// The section that begins at `offset`, or why there is none.
fn section(window: &mut Window<'_>, offset: u64) -> Result<SectionHead, String> {
    let len = window.len;
    let bytes = window
        .at(offset, HEAD_BYTES_MAX)
        .map_err(|error| error.to_string())?;
    match decode_section_head(bytes, offset) {
        Err(error) => Err(error.to_string()),
        Ok(None) => Err("the file ends in the head of a section".to_owned()),
        Ok(Some(head)) if head.data_len > BLOCK_BYTES_MAX as u64 => Err(format!(
            "a section of {} bytes is over the limit",
            head.data_len
        )),
        Ok(Some(head)) if head.end() > len => Err("the file ends in a section".to_owned()),
        Ok(Some(head)) => match Key::of(&head.cid) {
            Ok(_) => Ok(head),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// Looks for the next section whose data is good.
fn resync(window: &mut Window<'_>, from: u64, budget: &mut u64) -> io::Result<Option<SectionHead>> {
    let mut offset = from;
    let mut unreadable = 0;
    while offset < window.len {
        let at = offset;
        offset += 1;
        match window.at(at, HEAD_BYTES_MAX) {
            Ok(bytes) if !may_be_head(bytes) => continue,
            Ok(_) => {}
            Err(_) if unreadable < UNREADABLE_MAX => {
                unreadable += 1;
                offset = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
                continue;
            }
            Err(_) => return Ok(None),
        }
        let Ok(head) = section(window, at) else {
            continue;
        };
        if crate::block::hash(head.cid.hash().code(), &[]).is_err() {
            continue;
        }
        let Some(left) = budget.checked_sub(head.data_len) else {
            return Ok(None);
        };
        *budget = left;
        if proves(window.file, &head) {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// Tells whether the data of a section hashes to its CID.
fn proves(file: &dyn DiskFile, head: &SectionHead) -> bool {
    read_section(file, head, &mut Vec::new()).is_ok()
}

/// A cheap look before the exact one: a length, then a CID of version 0 or 1.
fn may_be_head(bytes: &[u8]) -> bool {
    let varint = bytes.iter().take(4).position(|byte| byte & 0x80 == 0);
    let cid = varint
        .and_then(|last| bytes.get(last + 1..))
        .unwrap_or_default();
    matches!(cid, [0x01, ..] | [0x12, 0x20, ..])
}

/// A part of the file in memory.
struct Window<'a> {
    file: &'a dyn DiskFile,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
    step: usize,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn DiskFile, len: u64) -> Self {
        Self {
            file,
            len,
            start: 0,
            bytes: Vec::new(),
            step: *WINDOW_BYTES.start(),
        }
    }

    /// The bytes from `offset`: at least `want`, or all up to the end.
    fn at(&mut self, offset: u64, want: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = want.min(left);
        let end = self.start + self.bytes.len() as u64;
        let inside = offset >= self.start && offset + want as u64 <= end;
        if !inside {
            // Goes on where the last window ended: sections are small here.
            let near = offset <= end && offset >= self.start;
            self.step = if near { self.step * 2 } else { self.step / 2 };
            self.step = self.step.clamp(*WINDOW_BYTES.start(), *WINDOW_BYTES.end());
            self.start = offset;
            // Where the disk fails further on, what is wanted may be there.
            let ahead = self.step.max(want).min(left);
            if self.fill(ahead).is_err() {
                self.fill(want)?;
            }
        }
        let skip = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }

    fn fill(&mut self, len: usize) -> io::Result<()> {
        self.bytes.resize(len, 0);
        let read = read_exact_at(self.file, &mut self.bytes, self.start);
        read.inspect_err(|_| self.bytes.clear())
    }
}

/// Reads and proves the data of a section.
pub(in crate::cache) fn read_section(
    file: &dyn DiskFile,
    head: &SectionHead,
    out: &mut Vec<u8>,
) -> Result<Cid, String> {
    out.clear();
    out.resize(usize::try_from(head.data_len).unwrap_or(BLOCK_BYTES_MAX), 0);
    read_exact_at(file, out, head.data_offset()).map_err(|error| error.to_string())?;
    verify_bytes(&head.cid, out).map_err(|error| error.to_string())?;
    Ok(head.cid)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::ops::Range;

    use super::*;
    use crate::block::{Block, RAW, SHA2_256};
    use crate::car::encode_section_head;

    /// A file of which the disk does not give some bytes.
    struct Rotten(Vec<u8>, Range<u64>);

    impl DiskFile for Rotten {
        fn append(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
            let end = offset + out.len() as u64;
            if offset < self.1.end && end > self.1.start {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let rest = self.0.get(offset as usize..).unwrap_or_default();
            let len = rest.len().min(out.len());
            out[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
        fn cut(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn reserve(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }
    #[test]
    fn a_sector_that_the_disk_does_not_give_costs_the_sections_in_it() {
        let mut bytes = pack_header();
        let mut places = Vec::new();
        for number in 0..2000_u32 {
            let data = number.to_le_bytes().repeat(16);
            let block = Block::seal(RAW, SHA2_256, data.into()).unwrap();
            let from = bytes.len() as u64;
            bytes.extend(encode_section_head(block.cid(), block.data().len()));
            bytes.extend(block.data());
            places.push(from..bytes.len() as u64);
        }
        let len = bytes.len() as u64;
        for sector in [1, 7, 23] {
            let bad = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            let file = Rotten(bytes.clone(), bad.clone());
            let mut found = Vec::new();
            let scanned = scan(&file, len, None, &mut |head, _| {
                found.push(head.offset);
                ControlFlow::Continue(())
            });
            let scanned = scanned.unwrap();
            let touched = |place: &&Range<u64>| place.end <= bad.start || place.start >= bad.end;
            let sound = places.iter().filter(touched).map(|place| place.start);
            // Heads may be missed that begin right before it.
            let lost = sound.filter(|at| !found.contains(at)).count();
            assert!(lost <= 3, "{lost} sound sections are not found");
            assert_eq!(scanned.damage.len(), 1);
            assert!(!scanned.damage[0].torn);
        }
    }
}
