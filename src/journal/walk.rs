//! Reads segment after segment, and tells frames from damage.
//!
//! Recovery, readers and the check of all checksums go through here, so that
//! they agree on what is damaged.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::error::{Damage, Fault, JournalError};
use super::frame::{FRAME_HEAD_BYTES, Frame, FrameFault, FrameHead, Place, Seq};
use super::scan::{Found, Scan};
use super::segment::{Folder, HeadFault, SegmentFile, name_of};
use crate::disk::DiskFile;

/// What a [`Walk`] meets.
pub(super) enum Event {
    /// The next frame. The walk has its payload and its place.
    Frame(FrameHead),
    /// Damage. The walk goes on behind it.
    Damage(Damage),
}

/// Goes from frame to frame.
pub(super) struct Walk {
    folder: Folder,
    /// Segments after the current one.
    coming: VecDeque<SegmentFile>,
    current: Option<Current>,
    expected: Seq,
    /// The highest mark of durability in any head or frame so far.
    pub(super) durable: Seq,
    /// Where the frame is that was met last.
    pub(super) place: Place,
    /// Whether the disk failed to give something.
    pub(super) unreadable: bool,
}

/// What was found when the place of damage was left behind.
enum Behind {
    /// The frame is there after all.
    Finished(FrameHead),
    /// A later frame of the same segment.
    Whole(Seq),
    /// No whole frame in this segment.
    Nothing,
}

struct Current {
    file: SegmentFile,
    scan: Scan,
}

impl Walk {
    /// Begins with the first of the segments, or at a frame whose place in it
    /// is known. Segments without bytes hold nothing and are passed over.
    pub(super) fn new(
        folder: Folder,
        segments: impl IntoIterator<Item = SegmentFile>,
        known: Option<(Seq, Place)>,
    ) -> Result<Self, JournalError> {
        let coming: VecDeque<_> = segments.into_iter().filter(|s| s.bytes > 0).collect();
        let first = coming.front().map_or(Seq(1), |segment| segment.first);
        let place = Place {
            segment: first,
            offset: 0,
        };
        let mut walk = Self {
            folder,
            coming,
            current: None,
            expected: first,
            durable: Seq(0),
            place,
            unreadable: false,
        };
        if let Some((seq, place)) = known
            && let Some(file) = walk.coming.pop_front()
        {
            match walk.open(file)? {
                Some(opened) => {
                    let scan = Scan::new(opened, place.segment, place.offset);
                    walk.current = Some(Current { file, scan });
                    walk.expected = seq;
                }
                None => walk.expect_the_coming(),
            }
        }
        Ok(walk)
    }

    /// The frame that should come next.
    pub(super) fn expected(&self) -> Seq {
        self.expected
    }

    /// Where the current segment has been read to.
    pub(super) fn at(&self) -> Place {
        self.current
            .as_ref()
            .map_or(self.place, |current| current.scan.place())
    }

    /// The payload of the frame that was met last.
    pub(super) fn payload(&self) -> &[u8] {
        let scan = self.current.as_ref().map(|current| &current.scan);
        scan.map_or(&[], Scan::payload)
    }

    /// The frame that was met last, for keeps.
    pub(super) fn frame(&self, head: FrameHead) -> Frame {
        Frame {
            head,
            payload: Bytes::copy_from_slice(self.payload()),
        }
    }

    /// Meets the next frame or damage; `None` is the end.
    pub(super) fn step(&mut self) -> Result<Option<Event>, JournalError> {
        loop {
            let Some(current) = &mut self.current else {
                match self.enter()? {
                    Some(event) => return Ok(Some(event)),
                    None if self.current.is_some() => continue,
                    None => return Ok(None),
                }
            };
            self.place = current.scan.place();
            match current.scan.advance() {
                Ok(Found::Frame(head)) if head.seq == self.expected => {
                    self.expected = head.seq.next();
                    self.durable = self.durable.max(head.durable);
                    return Ok(Some(Event::Frame(head)));
                }
                Ok(Found::Frame(head)) => {
                    let fault = Fault::Frame(FrameFault::Order(head.seq));
                    return Ok(Some(self.damaged(fault)));
                }
                // Segments are appended to in order: where another follows,
                // this one has all that it will ever have.
                Ok(Found::End(0)) if !self.coming.is_empty() => self.current = None,
                Ok(Found::End(bytes)) => {
                    if self.coming.is_empty() && self.look_for_more()? {
                        continue;
                    }
                    if bytes == 0 {
                        return Ok(None);
                    }
                    return Ok(Some(self.damaged(Fault::Short(bytes))));
                }
                Ok(Found::Bad(fault)) => return Ok(Some(self.damaged(Fault::Frame(fault)))),
                Err(error) => return Ok(Some(self.unreadable(&error))),
            }
        }
    }

    /// Begins with the next segment.
    fn enter(&mut self) -> Result<Option<Event>, JournalError> {
        let Some(file) = self.coming.front().copied() else {
            return Ok(None);
        };
        self.place = Place {
            segment: file.first,
            offset: 0,
        };
        if file.first != self.expected {
            let damage = Damage {
                segment: file.first,
                offset: 0,
                expected: self.expected,
                fault: Fault::Missing(file.first),
                resumes: Some(file.first),
                tail: false,
            };
            self.expected = file.first;
            return Ok(Some(Event::Damage(damage)));
        }
        self.coming.pop_front();
        let Some(opened) = self.open(file)? else {
            self.expect_the_coming();
            return self.enter();
        };
        let mut scan = Scan::new(opened, file.first, 0);
        let head = scan.head();
        self.current = Some(Current { file, scan });
        match head {
            Ok(Ok(head)) => {
                self.durable = self.durable.max(head.durable);
                Ok(None)
            }
            Ok(Err(HeadFault::Version(found))) => Err(JournalError::Version { found }),
            Ok(Err(fault)) => Ok(Some(self.damaged(Fault::Head(fault)))),
            Err(error) => Ok(Some(self.unreadable(&error))),
        }
    }

    /// Opens a segment; `None` if it was retired meanwhile.
    fn open(&self, file: SegmentFile) -> Result<Option<Arc<dyn DiskFile>>, JournalError> {
        match self.folder.open(file.first) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let path = self.folder.path(&name_of(file.first));
                Err(JournalError::io(path)(error))
            }
        }
    }

    /// Lists segments that were begun after the current one.
    fn look_for_more(&mut self) -> Result<bool, JournalError> {
        let current = self.current.as_ref().map(|current| current.file.first);
        let segments = self.folder.segments();
        let segments = segments.map_err(JournalError::io(&self.folder.dir))?;
        let later = segments.into_iter().filter(|s| Some(s.first) > current);
        self.coming = later.filter(|segment| segment.bytes > 0).collect();
        Ok(!self.coming.is_empty())
    }

    fn expect_the_coming(&mut self) {
        if let Some(next) = self.coming.front() {
            self.expected = next.first;
        }
    }

    /// Describes what is at the walk's place, and goes on behind it. If it is a
    /// frame that a writer has finished meanwhile, that is met instead.
    fn damaged(&mut self, fault: Fault) -> Event {
        let (place, expected) = (self.place, self.expected);
        let behind = self.go_behind().unwrap_or_else(|_| {
            self.unreadable = true;
            Behind::Nothing
        });
        let resumes = match behind {
            Behind::Finished(head) => {
                self.expected = head.seq.next();
                self.durable = self.durable.max(head.durable);
                return Event::Frame(head);
            }
            Behind::Whole(seq) => {
                self.expected = seq;
                Some(seq)
            }
            Behind::Nothing => {
                self.current = None;
                self.expect_the_coming();
                None
            }
        };
        Event::Damage(Damage {
            segment: place.segment,
            offset: place.offset,
            expected,
            fault,
            resumes,
            tail: resumes.is_none() && self.coming.is_empty() && !self.unreadable,
        })
    }

    fn go_behind(&mut self) -> io::Result<Behind> {
        let (place, expected) = (self.place, self.expected);
        let Some(current) = &mut self.current else {
            return Ok(Behind::Nothing);
        };
        let fits = |head: &FrameHead, at: Place| {
            let frames_between = (at.offset - place.offset) / FRAME_HEAD_BYTES as u64;
            let distance = head.seq.0.checked_sub(expected.0);
            distance.is_some_and(|distance| distance <= frames_between)
        };
        current.scan.back_to(place.offset);
        let Some(seq) = current.scan.resume(fits)? else {
            return Ok(Behind::Nothing);
        };
        // A writer appends in order: now that a later frame is whole, an
        // earlier one that was being written must be whole too.
        let behind = current.scan.place();
        current.scan.back_to(place.offset);
        if let Found::Frame(head) = current.scan.advance()?
            && head.seq == expected
        {
            return Ok(Behind::Finished(head));
        }
        current.scan.back_to(behind.offset);
        Ok(Behind::Whole(seq))
    }

    /// What follows in the segment is given up.
    fn unreadable(&mut self, error: &io::Error) -> Event {
        self.unreadable = true;
        let damage = Damage {
            segment: self.place.segment,
            offset: self.place.offset,
            expected: self.expected,
            fault: Fault::Unreadable(error.kind()),
            resumes: None,
            tail: false,
        };
        self.current = None;
        self.expect_the_coming();
        Event::Damage(damage)
    }
}
