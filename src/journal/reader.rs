//! Reads the journal, beside a writer or without one. Never changes anything.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lru::LruCache;
use parking_lot::Mutex;

use super::error::{Damage, Fault, JournalError};
use super::frame::{Frame, FrameHead, Place, Seq};
use super::index::SparseIndex;
use super::segment::{Folder, SegmentFile};
use super::walk::{Event, Walk};
use crate::config::{JOURNAL_INDEXES_KEPT, JOURNAL_PAGE_BYTES_MAX};
use crate::disk::Disk;

/// Reads the journal. Clones share what they have learned of the segments.
///
/// Beside the journal that made it, it shows the frames that were appended
/// when it is asked. Without one it shows the frames up to the first place at
/// the end that is no whole frame; damage before the end is an error in its place.
#[derive(Clone)]
pub struct Reader {
    pub(super) folder: Folder,
    /// The last frame, where a writer says so.
    live: Option<Arc<AtomicU64>>,
    indexes: Arc<Mutex<LruCache<Seq, SparseIndex>>>,
}

/// Some frames, the newest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The frames.
    pub frames: Vec<Frame>,
    /// Where the next page begins; `None` if the oldest frame is in this one.
    pub before: Option<Seq>,
    /// Damage between them: frames that should be here are not.
    pub damage: Vec<Damage>,
}

impl Reader {
    /// Opens the journal of a directory, which nobody else needs to have open.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Self {
        Self::new(Folder::new(disk, dir), None)
    }

    pub(super) fn new(folder: Folder, live: Option<Arc<AtomicU64>>) -> Self {
        let kept = NonZeroUsize::new(JOURNAL_INDEXES_KEPT).unwrap_or(NonZeroUsize::MIN);
        Self {
            folder,
            live,
            indexes: Arc::new(Mutex::new(LruCache::new(kept))),
        }
    }

    /// Lists the segments, oldest first.
    pub fn segments(&self) -> Result<Vec<SegmentFile>, JournalError> {
        let segments = self.folder.segments();
        let mut segments = segments.map_err(JournalError::io(&self.folder.dir))?;
        segments.retain(|segment| segment.bytes > 0);
        Ok(segments)
    }

    /// The frames from one on, or from the oldest one that is kept, in order.
    pub fn frames(&self, from: Seq) -> Result<Frames, JournalError> {
        let segments = self.segments()?;
        let start = segment_of(&segments, from);
        let known = segments.get(start).and_then(|segment| {
            let mut indexes = self.indexes.lock();
            indexes.get(&segment.first)?.before(segment.first, from)
        });
        let some = |known| {
            let segments = segments.iter().skip(start).copied();
            Walk::new(self.folder.clone(), segments, known)
        };
        let mut frames = Frames {
            reader: self.clone(),
            walk: some(known)?,
            first: None,
            from,
            ended: false,
        };
        if known.is_some() && !frames.starts_well()? {
            // The journal was cut off and has grown again since.
            if let Some(segment) = segments.get(start) {
                self.indexes.lock().pop(&segment.first);
            }
            frames.walk = some(None)?;
        }
        Ok(frames)
    }

    /// One frame; `None` if it is not there, or no longer.
    pub fn get(&self, seq: Seq) -> Result<Option<Frame>, JournalError> {
        match self.frames(seq)?.next() {
            None => Ok(None),
            Some(Ok(frame)) => Ok((frame.head.seq == seq).then_some(frame)),
            Some(Err(error)) => Err(error),
        }
    }

    /// Describes a whole frame that is not believed as damage; `None` if it is not there.
    pub fn disbelieved(&self, seq: Seq, why: &str) -> Result<Option<Damage>, JournalError> {
        let segments = self.segments()?;
        let some = segments.iter().skip(segment_of(&segments, seq)).copied();
        let mut walk = Walk::new(self.folder.clone(), some, None)?;
        while let Some(event) = walk.step()? {
            match event {
                Event::Frame(head) if head.seq == seq => {
                    return Ok(Some(Damage {
                        segment: walk.place.segment,
                        offset: walk.place.offset,
                        expected: seq,
                        fault: Fault::Contradiction(why.to_owned()),
                        resumes: None,
                        tail: false,
                    }));
                }
                Event::Frame(_) | Event::Damage(_) => {}
            }
        }
        Ok(None)
    }

    /// The last frame's number. Without a writer the end is looked for.
    pub fn last(&self) -> Result<Seq, JournalError> {
        if let Some(live) = &self.live {
            return Ok(Seq(live.load(Ordering::Acquire)));
        }
        for segment in self.segments()?.iter().rev() {
            let mut last = None;
            for frame in self.frames_of(segment.first)? {
                match frame {
                    Ok(frame) => last = Some(frame.head.seq),
                    Err(JournalError::Damaged(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            if let Some(last) = last {
                return Ok(last);
            }
        }
        Ok(self.oldest()?.previous())
    }

    /// The oldest frame that may be there.
    fn oldest(&self) -> Result<Seq, JournalError> {
        let segments = self.segments()?;
        Ok(segments.first().map_or(Seq(1), |segment| segment.first))
    }

    /// The frames of a segment and those that follow, from the last place on
    /// that is known in it.
    fn frames_of(&self, first: Seq) -> Result<Frames, JournalError> {
        let mark = self.indexes.lock().get(&first).and_then(|index| {
            let (mark, _) = index.before(first, Seq(u64::MAX))?;
            Some(mark)
        });
        self.frames(mark.unwrap_or(first))
    }

    /// At most `limit` frames before one, or the newest, and no more than
    /// [`JOURNAL_PAGE_BYTES_MAX`] of them but at least one. Newest first.
    pub fn page(&self, before: Option<Seq>, limit: usize) -> Result<Page, JournalError> {
        let end = match before {
            Some(before) => before.min(self.last()?.next()),
            None => self.last()?.next(),
        };
        let oldest = self.oldest()?;
        let start = Seq(end.0.saturating_sub(limit as u64)).max(oldest);
        let mut page = Page::default();
        let mut kept = std::collections::VecDeque::new();
        let mut bytes = 0;
        let mut reached = start;
        for frame in self.frames(start)? {
            match frame {
                Ok(frame) if frame.head.seq >= end => break,
                Ok(frame) => {
                    bytes += frame.payload.len();
                    kept.push_front(frame);
                }
                Err(JournalError::Damaged(damage)) if damage.expected < end => {
                    page.damage.push(Arc::unwrap_or_clone(damage));
                }
                Err(JournalError::Damaged(_)) => break,
                Err(error) => return Err(error),
            }
            while bytes > JOURNAL_PAGE_BYTES_MAX && kept.len() > 1 {
                let dropped = kept.pop_back();
                bytes -= dropped.as_ref().map_or(0, |frame| frame.payload.len());
                reached = dropped.map_or(reached, |frame| frame.head.seq.next());
            }
        }
        page.frames = kept.into();
        page.before = (reached > oldest && limit > 0).then_some(reached);
        Ok(page)
    }

    /// The newest frame that is wanted. Segments are read from the newest back;
    /// damage is passed over.
    pub fn newest(
        &self,
        mut wanted: impl FnMut(&FrameHead, &[u8]) -> bool,
    ) -> Result<Option<Frame>, JournalError> {
        let last = self.live.as_ref().map(|live| live.load(Ordering::Acquire));
        for segment in self.segments()?.iter().rev() {
            let mut found = None;
            let mut walk = Walk::new(self.folder.clone(), [*segment], None)?;
            while let Some(event) = walk.step()? {
                if walk.place.segment != segment.first {
                    break;
                }
                match event {
                    Event::Frame(head) if last.is_some_and(|last| head.seq.0 > last) => break,
                    Event::Frame(head) if wanted(&head, walk.payload()) => {
                        found = Some(walk.frame(head));
                    }
                    Event::Frame(_) | Event::Damage(_) => {}
                }
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Tells whether a writer says how far the journal goes.
    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    fn note(&self, place: Place, seq: Seq) {
        let mut indexes = self.indexes.lock();
        let index = indexes.get_or_insert_mut(place.segment, SparseIndex::default);
        index.note(seq, place.offset);
    }
}

/// Which of the segments a frame is in: the last that begins at or before it.
pub(super) fn segment_of(segments: &[SegmentFile], seq: Seq) -> usize {
    let count = segments.partition_point(|segment| segment.first <= seq);
    count.saturating_sub(1)
}

/// Frames in order. Damage is an error in its place, and what is behind it follows.
pub struct Frames {
    reader: Reader,
    walk: Walk,
    /// A frame that was met to see whether the start is right.
    first: Option<Frame>,
    from: Seq,
    ended: bool,
}

impl Frames {
    /// Tells whether the frame is there that should be.
    fn starts_well(&mut self) -> Result<bool, JournalError> {
        match self.walk.step()? {
            Some(Event::Frame(head)) => {
                self.first = Some(self.walk.frame(head));
                Ok(true)
            }
            Some(Event::Damage(_)) | None => Ok(false),
        }
    }

    fn step(&mut self) -> Result<Option<Frame>, JournalError> {
        if let Some(first) = self.first.take()
            && first.head.seq >= self.from
        {
            return Ok(Some(first));
        }
        loop {
            let live = &self.reader.live;
            let last = live.as_ref().map(|live| live.load(Ordering::Acquire));
            if last.is_some_and(|last| self.walk.expected().0 > last) {
                return Ok(None);
            }
            match self.walk.step()? {
                None => return Ok(None),
                Some(Event::Frame(head)) => {
                    self.reader.note(self.walk.place, head.seq);
                    if head.seq >= self.from {
                        return Ok(Some(self.walk.frame(head)));
                    }
                }
                // What a crash or another process at work leaves.
                Some(Event::Damage(damage)) if damage.tail && last.is_none() => {
                    self.ended = true;
                    return Ok(None);
                }
                Some(Event::Damage(damage))
                    if damage.costs_nothing()
                        || damage.resumes.is_some_and(|seq| seq <= self.from) => {}
                Some(Event::Damage(damage)) => {
                    return Err(JournalError::Damaged(Arc::new(damage)));
                }
            }
        }
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, JournalError>;

    /// Gives `None` where no frame follows yet; frames that are appended later are given then.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        let goes_on = matches!(step, Ok(_) | Err(JournalError::Damaged(_)));
        self.ended |= !goes_on;
        step.transpose()
    }
}
