//! What a crash has left is made a journal again. Only this file cuts segments
//! off that it did not write itself.
//!
//! The frames are read in order up to the first place that is no frame. What
//! follows is searched for whole frames too: each says how far the journal was
//! known to survive a power loss when it was written. If the break is behind
//! all of that, it is what a crash leaves, and is cut off. If not, something
//! has damaged what was safe, and nothing is touched.

use std::sync::Arc;

use super::aside;
use super::error::{Damage, JournalError};
use super::frame::{FrameHead, Place, Seq};
use super::reader;
use super::segment::{Folder, SEGMENT_HEAD_BYTES, SegmentFile, decode_head, name_of};
use super::walk::{Event, Walk};
use super::writer::Known;
use crate::disk::{DiskFile, read_exact_at};

/// What was found when a journal was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Segments.
    pub segments: usize,
    /// The oldest frame that may be there; the next one if there are none.
    pub first: Seq,
    /// The last frame.
    pub last: Seq,
    /// The last frame that was known to survive a power loss.
    pub durable: Seq,
    /// Frames that were read and are whole, from where recovery began.
    pub frames: u64,
    /// Damage before the frame that was asked for. It stops nothing.
    pub history: Vec<Damage>,
    /// What a crash had left at the end, and was cut off.
    pub torn: Option<Torn>,
    /// Damage to what was safe. The journal is read-only.
    pub damage: Option<Damage>,
}

/// What was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The last frame that stayed.
    pub after: Seq,
    /// Why it ends there; `None` if the caller wanted it.
    pub why: Option<Damage>,
    /// Bytes that were cut off.
    pub bytes: u64,
    /// Whole frames among them.
    pub frames: u64,
    /// The files in which they are kept, in the journal's directory.
    pub kept: Vec<String>,
}

/// A journal as it is after recovery.
pub(super) struct State {
    pub(super) segments: Vec<Known>,
    /// The segment to append to, and its length.
    pub(super) tail: Option<(Seq, Arc<dyn DiskFile>, u64)>,
    /// Earlier segments with frames that may not survive a power loss yet.
    pub(super) unsynced: Vec<Arc<dyn DiskFile>>,
    pub(super) next_seq: Seq,
}

/// Where the whole frames end.
struct End {
    /// Where the frame after the last would be.
    place: Place,
    next_seq: Seq,
    durable: Seq,
    why: Option<Damage>,
    /// Whole frames behind the break.
    frames_behind: u64,
    unreadable: bool,
}

/// Recovers. Frames from `from` on are shown to `visit`, in order, as far as
/// they are whole. With `only_read` nothing is changed, and what would be cut off
/// is told.
pub(super) fn recover(
    folder: &Folder,
    from: Seq,
    only_read: bool,
    visit: &mut dyn FnMut(&FrameHead, &[u8]),
) -> Result<(Recovered, State), JournalError> {
    let mut segments = list(folder)?;
    let mut report = Recovered::default();
    let mut end = read(folder, &segments, from, &mut report, visit)?;
    if segments.iter().all(|segment| segment.bytes == 0) {
        end.next_seq = from;
    }
    report.durable = end.durable;
    report.last = end.next_seq.previous();
    match end.why {
        None => {}
        Some(why) if why.fault.is_of_the_disk() || end.unreadable || report.last < end.durable => {
            report.damage = Some(why);
        }
        Some(why) => {
            let torn = match only_read {
                true => Beyond::take(&mut segments, end.place).torn(end.place, end.next_seq),
                false => cut(folder, &mut segments, end.place, end.next_seq)?,
            };
            report.torn = Some(Torn {
                why: Some(why),
                frames: end.frames_behind,
                ..torn
            });
        }
    }
    if !only_read && report.damage.is_none() {
        segments = without_empty(folder, segments)?;
    }
    report.segments = segments.len();
    report.first = segments.first().map_or(end.next_seq, |s| s.first);
    let state = state(folder, &segments, &report)?;
    Ok((report, state))
}

fn list(folder: &Folder) -> Result<Vec<SegmentFile>, JournalError> {
    folder.segments().map_err(JournalError::io(&folder.dir))
}

/// Reads up to the break, and then the rest for its marks of durability.
fn read(
    folder: &Folder,
    segments: &[SegmentFile],
    from: Seq,
    report: &mut Recovered,
    visit: &mut dyn FnMut(&FrameHead, &[u8]),
) -> Result<End, JournalError> {
    let start = reader::segment_of(segments, from);
    let some = segments.iter().skip(start).copied();
    let mut walk = Walk::new(folder.clone(), some, None)?;
    let mut end = End {
        place: walk.place,
        next_seq: walk.expected(),
        durable: Seq(0),
        why: None,
        frames_behind: 0,
        unreadable: false,
    };
    while let Some(event) = walk.step()? {
        match event {
            Event::Frame(_) if end.why.is_some() => end.frames_behind += 1,
            Event::Frame(head) => {
                report.frames += 1;
                if head.seq >= from {
                    visit(&head, walk.payload());
                }
                end.next_seq = walk.expected();
                end.place = walk.at();
            }
            Event::Damage(_) if end.why.is_some() => {}
            Event::Damage(damage) => {
                let before_from = damage.resumes.is_some_and(|resumes| resumes <= from);
                if before_from || damage.costs_nothing() {
                    report.history.push(damage);
                } else {
                    end.place = Place {
                        segment: damage.segment,
                        offset: damage.offset,
                    };
                    end.why = Some(damage);
                }
            }
        }
    }
    end.durable = walk.durable;
    end.unreadable = walk.unreadable;
    Ok(end)
}

/// What is behind a place.
#[derive(Default)]
struct Beyond {
    /// Whole segments, the newest first.
    segments: Vec<SegmentFile>,
    /// A segment of which the end is behind it.
    tail: Option<SegmentFile>,
}

impl Beyond {
    /// Takes what is behind a place out of the segments; the last of them ends there.
    fn take(segments: &mut Vec<SegmentFile>, place: Place) -> Self {
        let mut beyond = Self::default();
        let stays = |segment: &SegmentFile| {
            let inside = segment.first == place.segment && place.offset > SEGMENT_HEAD_BYTES as u64;
            segment.first < place.segment || inside
        };
        while let Some(last) = segments.pop_if(|last| !stays(last)) {
            beyond.segments.push(last);
        }
        if let Some(last) = segments.last_mut()
            && last.first == place.segment
            && last.bytes > place.offset
        {
            beyond.tail = Some(*last);
            last.bytes = place.offset;
        }
        beyond
    }

    fn torn(&self, place: Place, next_seq: Seq) -> Torn {
        let whole: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        let tail = self.tail.map_or(0, |tail| tail.bytes - place.offset);
        Torn {
            after: next_seq.previous(),
            why: None,
            bytes: whole + tail,
            frames: 0,
            kept: Vec::new(),
        }
    }
}

/// Cuts off everything from a place on. Done again after a crash, it does the
/// same: the place is found again whichever of its steps have reached the disk.
fn cut(
    folder: &Folder,
    segments: &mut Vec<SegmentFile>,
    place: Place,
    next_seq: Seq,
) -> Result<Torn, JournalError> {
    let beyond = Beyond::take(segments, place);
    let mut torn = beyond.torn(place, next_seq);
    // The newest goes first, so that what is left is always a beginning.
    for segment in beyond.segments {
        torn.kept.extend(aside::keep_segment(folder, segment)?);
    }
    if let Some(tail) = beyond.tail {
        let path = folder.path(&name_of(tail.first));
        let file = folder.open(tail.first).map_err(JournalError::io(&path))?;
        let kept = aside::keep_tail(folder, &*file, place.offset, tail.bytes, next_seq)?;
        torn.kept.extend(kept);
        folder.sync().map_err(JournalError::io(&folder.dir))?;
        let cut = file.cut(place.offset).and_then(|()| file.sync());
        cut.map_err(JournalError::io(&path))?;
    }
    folder.sync().map_err(JournalError::io(&folder.dir))?;
    Ok(torn)
}

/// Removes segments that were begun and never written to.
fn without_empty(
    folder: &Folder,
    segments: Vec<SegmentFile>,
) -> Result<Vec<SegmentFile>, JournalError> {
    let (empty, rest): (Vec<_>, Vec<_>) = segments.into_iter().partition(|s| s.bytes == 0);
    for segment in empty {
        aside::keep_segment(folder, segment)?;
    }
    Ok(rest)
}

fn state(
    folder: &Folder,
    segments: &[SegmentFile],
    report: &Recovered,
) -> Result<State, JournalError> {
    let mut state = State {
        segments: Vec::new(),
        tail: None,
        unsynced: Vec::new(),
        next_seq: report.last.next(),
    };
    for (place, segment) in segments.iter().enumerate() {
        let path = folder.path(&name_of(segment.first));
        let file = folder.open(segment.first).map_err(JournalError::io(path))?;
        state.segments.push(Known {
            first: segment.first,
            begun_ns: begun_ns(&*file, segment.first),
            bytes: segment.bytes,
        });
        match segments.get(place + 1) {
            None => state.tail = Some((segment.first, file, segment.bytes)),
            Some(next) if next.first > report.durable.next() => state.unsynced.push(file),
            Some(_) => {}
        }
    }
    Ok(state)
}

/// When a segment was begun; the end of time if it cannot be told, so that the
/// segment does not count as old.
fn begun_ns(file: &dyn DiskFile, first: Seq) -> u64 {
    let mut head = [0; SEGMENT_HEAD_BYTES];
    let read = read_exact_at(file, &mut head, 0).ok();
    let head = read.and_then(|()| decode_head(&head, first).ok());
    head.map_or(u64::MAX, |head| head.begun_ns)
}

/// Cuts off all frames after one; for a caller whose data they refer to is gone.
pub(super) fn cut_after(
    folder: &Folder,
    after: Seq,
    durable: Seq,
) -> Result<(Torn, State), JournalError> {
    let mut segments = list(folder)?;
    let start = reader::segment_of(&segments, after.next());
    let some = segments.iter().skip(start).copied();
    let mut walk = Walk::new(folder.clone(), some, None)?;
    let mut place = walk.place;
    let mut frames = 0;
    while let Some(event) = walk.step()? {
        match event {
            Event::Frame(head) if head.seq <= after => place = walk.at(),
            Event::Frame(_) => frames += 1,
            Event::Damage(damage) if damage.costs_nothing() => {}
            Event::Damage(damage) => return Err(JournalError::Damaged(Arc::new(damage))),
        }
    }
    let torn = cut(folder, &mut segments, place, after.next())?;
    let report = Recovered {
        last: after,
        durable,
        ..Recovered::default()
    };
    let state = state(folder, &segments, &report)?;
    Ok((Torn { frames, ..torn }, state))
}
