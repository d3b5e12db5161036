//! Gives room back where the disk has none for a copy of all that is live in a pack.
//!
//! From the end of the pack on: what is live in its last part is copied to a new
//! pack, which is synced and named, the index is moved, and then that part is cut
//! off. So it needs no more room than the live rest of one part, and at each moment
//! every pack is a whole CAR file. It ends where nothing before is dead.

use std::io;
use std::sync::atomic::Ordering;

use super::{GcReport, Sweep, opening};
use crate::cache::packs::{Cursor, is_full};
use crate::config::GC_PART_BYTES;
use crate::disk::DiskFile;

/// Sections and bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    kept: u64,
    dead: u64,
    /// Bytes of the sections that are kept.
    bytes: u64,
}

/// Where a part of a pack begins, and what is before it.
#[derive(Debug, Clone, Copy)]
struct Part {
    at: Cursor,
    before: Tally,
}

/// What became of the end of a pack.
enum Cut {
    /// It is gone, from this part on.
    Off(Part, Moved),
    /// There is no room for a copy of what is live in it: so much is needed.
    Full(u64),
    /// A block in it is damaged.
    Damaged,
}

/// What was moved out of an end before it was cut off.
#[derive(Debug, Clone, Copy)]
struct Moved {
    /// Length of the pack with the copies.
    bytes: u64,
    /// Blocks that were put again meanwhile.
    rescued: u64,
}

impl Sweep<'_> {
    /// Does what [`run`](Self::run) could not do at once.
    pub(super) fn run_in_parts(&self, report: &mut GcReport) -> io::Result<()> {
        let file = self.store.packs.file(self.pack.id)?;
        let (mut parts, mut rest, damaged) = self.parts(&*file)?;
        let before = self.pack.len.load(Ordering::Acquire);
        let (mut len, mut copied) = (before, 0);
        let mut ends = damaged.then_some(Cut::Damaged);
        while rest.dead > 0 && ends.is_none() {
            match self.cut_end(&*file, &mut parts, rest)? {
                Cut::Off(part, moved) => {
                    len = if parts.is_empty() { 0 } else { part.at.offset };
                    copied += moved.bytes;
                    let gone = rest.dead - part.before.dead;
                    report.freed_blocks += gone.saturating_sub(moved.rescued);
                    report.kept_blocks += rest.kept - part.before.kept + moved.rescued;
                    rest = part.before;
                }
                other @ (Cut::Full(_) | Cut::Damaged) => ends = Some(other),
            }
        }
        report.freed_bytes += (before - len).saturating_sub(copied);
        // What is dead in it is still there.
        report.kept_blocks += rest.kept + rest.dead;
        match ends {
            Some(Cut::Full(needs)) => {
                report.full_packs += 1;
                report.full_needs_bytes = report.full_needs_bytes.max(needs);
            }
            Some(Cut::Damaged) => report.damaged_packs += 1,
            Some(Cut::Off(..)) | None => {}
        }
        Ok(())
    }

    /// The parts of the pack, what is in all of them, and whether there is damage
    /// between sections.
    fn parts(&self, file: &dyn DiskFile) -> io::Result<(Vec<Part>, Tally, bool)> {
        let mut parts: Vec<Part> = Vec::new();
        let mut all = Tally::default();
        let damaged = self.each(file, &mut |head, ordinal| {
            let begun = parts.last().map(|part| part.at.offset);
            if begun.is_none_or(|begun| head.offset - begun >= GC_PART_BYTES) {
                let offset = head.offset;
                parts.push(Part {
                    at: Cursor { offset, ordinal },
                    before: all,
                });
            }
            if self.is_kept(head)? {
                all.kept += 1;
                all.bytes += head.head_len + head.data_len;
            } else {
                all.dead += 1;
            }
            Ok(())
        })?;
        Ok((parts, all, damaged))
    }

    /// Cuts off as many parts as there is room for the copies of, at least one.
    fn cut_end(&self, file: &dyn DiskFile, parts: &mut Vec<Part>, all: Tally) -> io::Result<Cut> {
        let live_from = |part: &Part| all.bytes - part.before.bytes;
        let mut most = all.bytes;
        loop {
            let fits = parts.partition_point(|part| live_from(part) > most);
            let place = fits.min(parts.len().saturating_sub(1));
            let Some(part) = parts.get(place).copied() else {
                return Ok(Cut::Full(all.bytes));
            };
            let needs = live_from(&part);
            match self.cut_at(file, part, (all, place == 0)) {
                Err(error) if is_full(&error) && needs > 0 && place + 1 < parts.len() => {
                    most = needs / 2;
                }
                Err(error) if is_full(&error) => return Ok(Cut::Full(needs)),
                Err(error) => return Err(error),
                Ok(None) => return Ok(Cut::Damaged),
                Ok(Some(moved)) => {
                    parts.truncate(place);
                    return Ok(Cut::Off(part, moved));
                }
            }
        }
    }

    /// Cuts the pack off where a part begins, after what is live behind was copied.
    fn cut_at(
        &self,
        file: &dyn DiskFile,
        part: Part,
        (all, whole): (Tally, bool),
    ) -> io::Result<Option<Moved>> {
        let end = Sweep {
            from: Some(part.at),
            ..*self
        };
        let kept = all.kept - part.before.kept;
        let Some(bytes) = end.copy(file, kept, all.bytes - part.before.bytes)? else {
            return Ok(None);
        };
        let rescued = end.forget(file)?;
        if !self.store.index.is_ready() {
            return Err(opening());
        }
        self.give_back(file, (!whole).then_some(part.at))?;
        Ok(Some(Moved { bytes, rescued }))
    }
}
