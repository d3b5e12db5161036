//! Checks every checksum.

use super::error::{Damage, JournalError};
use super::frame::Seq;
use super::reader::Reader;
use super::walk::{Event, Walk};
use crate::config::DAMAGE_LISTED_MAX;

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Frames that were whole.
    pub frames: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes of all segments when the check began.
    pub bytes_total: u64,
}

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments.
    pub segments: usize,
    /// Frames that are whole.
    pub frames: u64,
    /// The first of them.
    pub first: Option<Seq>,
    /// The last of them.
    pub last: Option<Seq>,
    /// Bytes of all segments.
    pub bytes: u64,
    /// What is damaged, [`DAMAGE_LISTED_MAX`] of it at most.
    pub damage: Vec<Damage>,
    /// Places that are damaged.
    pub damaged: u64,
    /// What the next start will cut off: it begins behind everything that is
    /// known to survive a power loss, as what a crash leaves does.
    pub torn: Option<Damage>,
    /// Whole frames behind where that begins.
    pub torn_frames: u64,
}

impl Reader {
    /// Reads all segments. `progress` hears of each frame, and stops the check
    /// by saying false.
    pub fn verify(
        &self,
        mut progress: impl FnMut(VerifyProgress) -> bool,
    ) -> Result<VerifyReport, JournalError> {
        let segments = self.segments()?;
        let mut report = VerifyReport {
            segments: segments.len(),
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
            ..VerifyReport::default()
        };
        let mut before = 0;
        let mut starts = std::collections::HashMap::new();
        for segment in &segments {
            starts.insert(segment.first, before);
            before += segment.bytes;
        }
        let last = if self.is_live() {
            Some(self.last()?)
        } else {
            None
        };
        let mut walk = Walk::new(self.folder.clone(), segments, None)?;
        while last.is_none_or(|last| walk.expected() <= last)
            && let Some(event) = walk.step()?
        {
            match event {
                Event::Frame(head) => {
                    report.frames += 1;
                    report.first.get_or_insert(head.seq);
                    report.last = Some(head.seq);
                }
                Event::Damage(damage) if damage.tail && last.is_none() => {
                    report.torn = Some(damage);
                }
                Event::Damage(damage) => {
                    report.damaged += 1;
                    if report.damage.len() < DAMAGE_LISTED_MAX {
                        report.damage.push(damage);
                    }
                }
            }
            let at = walk.at();
            let start = starts.get(&at.segment).copied().unwrap_or(before);
            let goes_on = progress(VerifyProgress {
                frames: report.frames,
                bytes: start + at.offset,
                bytes_total: report.bytes,
            });
            if !goes_on {
                break;
            }
        }
        if last.is_none() && !walk.unreadable {
            report.tell_torn(walk.durable);
        }
        Ok(report)
    }
}

impl VerifyReport {
    /// Takes for torn what a start would: damage behind all that is known to
    /// survive a power loss, and everything after it.
    fn tell_torn(&mut self, durable: Seq) {
        let is_torn = |one: &Damage| one.expected > durable && !one.fault.is_of_the_disk();
        let Some(at) = self.damage.iter().position(is_torn) else {
            return;
        };
        if self.damage.iter().any(|one| one.fault.is_of_the_disk()) {
            return;
        }
        let torn = self.damage.split_off(at).into_iter().next();
        self.damaged = at as u64;
        let last = self.last.unwrap_or_default();
        if let Some(torn) = torn {
            let whole = (last.0 + 1).saturating_sub(torn.expected.0);
            let missing = torn.resumes.map_or(0, |next| next.0 - torn.expected.0);
            self.torn_frames = whole.saturating_sub(missing);
            self.torn = Some(torn);
        }
    }
}
