//! Reads one segment from a place on, frame by frame.

use std::io;
use std::sync::Arc;

use super::frame::{
    Decoded, FRAME_HEAD_BYTES, FrameFault, FrameHead, MARKER, Place, Seq, decode, needed,
};
use super::segment::{HeadFault, SEGMENT_HEAD_BYTES, SegmentHead, decode_head};
use crate::config::{JOURNAL_FRAME_BYTES_MAX, JOURNAL_READ_BYTES, JOURNAL_SEARCH_BYTES_MAX};
use crate::disk::DiskFile;

/// What is at the place of a [`Scan`].
pub(super) enum Found {
    /// A frame; the scan is behind it now, and has its payload.
    Frame(FrameHead),
    /// The end of the file, after so many bytes of a frame. Asked again, the
    /// scan looks for what was appended since.
    End(u64),
    /// Something else.
    Bad(FrameFault),
}

/// Reads a segment. Memory: at most a few frames.
pub(super) struct Scan {
    file: Arc<dyn DiskFile>,
    segment: Seq,
    /// Bytes of the file before the buffer.
    base: u64,
    buffer: Vec<u8>,
    /// What of the buffer was read.
    filled: usize,
    /// What of the buffer the scan is behind of.
    at: usize,
    /// Where the payload of the last frame is in the buffer.
    payload: (usize, usize),
}

impl Scan {
    /// Begins at an offset.
    pub(super) fn new(file: Arc<dyn DiskFile>, segment: Seq, offset: u64) -> Self {
        Self {
            file,
            segment,
            base: offset,
            buffer: Vec::new(),
            filled: 0,
            at: 0,
            payload: (0, 0),
        }
    }

    /// Where the scan is.
    pub(super) fn place(&self) -> Place {
        Place {
            segment: self.segment,
            offset: self.base + self.at as u64,
        }
    }

    /// Reads the segment's head and goes behind it, whatever it is.
    pub(super) fn head(&mut self) -> io::Result<Result<SegmentHead, HeadFault>> {
        self.fill(SEGMENT_HEAD_BYTES)?;
        let decoded = decode_head(self.rest(), self.segment);
        self.skip(SEGMENT_HEAD_BYTES);
        Ok(decoded)
    }

    /// Looks for a frame at the scan's place, and goes behind it.
    pub(super) fn advance(&mut self) -> io::Result<Found> {
        match self.try_advance()? {
            found @ (Found::Frame(_) | Found::End(0)) => Ok(found),
            // What was read ahead may be of an append that was taken back.
            Found::End(_) | Found::Bad(_) => {
                self.forget();
                self.try_advance()
            }
        }
    }

    fn try_advance(&mut self) -> io::Result<Found> {
        self.fill(FRAME_HEAD_BYTES)?;
        if self.rest().is_empty() {
            return Ok(Found::End(0));
        }
        match needed(self.rest()) {
            Ok(bytes) => self.fill(bytes)?,
            Err(fault) => return Ok(Found::Bad(fault)),
        }
        Ok(match decode(self.rest(), self.place()) {
            Err(fault) => Found::Bad(fault),
            Ok(Decoded::Short(_)) => Found::End(self.rest().len() as u64),
            Ok(Decoded::Whole { head, payload }) => {
                let start = self.at + FRAME_HEAD_BYTES;
                self.payload = (start, start + payload.len());
                self.at = self.payload.1;
                Found::Frame(head)
            }
        })
    }

    /// The payload of the frame that was found last.
    pub(super) fn payload(&self) -> &[u8] {
        let (start, end) = self.payload;
        self.buffer.get(start..end).unwrap_or_default()
    }

    /// Goes back, or on, to an offset.
    pub(super) fn back_to(&mut self, offset: u64) {
        self.forget();
        self.base = offset;
    }

    /// Goes on to the next whole frame behind the scan's place, if there is one
    /// that `fits`. Frames are found by their marker and proved by checksum.
    pub(super) fn resume(
        &mut self,
        fits: impl Fn(&FrameHead, Place) -> bool,
    ) -> io::Result<Option<Seq>> {
        self.skip(1);
        // A payload made to look like frames costs a checksum for each of them.
        let mut in_vain = 0;
        while in_vain < JOURNAL_SEARCH_BYTES_MAX {
            self.fill(JOURNAL_FRAME_BYTES_MAX)?;
            let rest = self.rest();
            if rest.len() < FRAME_HEAD_BYTES {
                break;
            }
            let Some(distance) = rest.windows(MARKER.len()).position(|four| four == MARKER) else {
                self.skip(rest.len() - (MARKER.len() - 1));
                continue;
            };
            self.skip(distance);
            self.fill(JOURNAL_FRAME_BYTES_MAX)?;
            if let Ok(Decoded::Whole { head, .. }) = decode(self.rest(), self.place())
                && fits(&head, self.place())
            {
                return Ok(Some(head.seq));
            }
            in_vain += needed(self.rest()).unwrap_or_default() as u64;
            self.skip(1);
        }
        Ok(None)
    }

    /// What was read and is not behind the scan.
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..self.filled).unwrap_or_default()
    }

    fn skip(&mut self, bytes: usize) {
        let known = (self.filled - self.at).min(bytes);
        self.at += known;
        if known < bytes {
            self.forget();
            self.base += (bytes - known) as u64;
        }
    }

    /// Lets go of what was read.
    fn forget(&mut self) {
        self.base += self.at as u64;
        self.at = 0;
        self.filled = 0;
    }

    /// Reads until so many bytes are there, or the file ends.
    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        if self.rest().len() >= bytes {
            return Ok(());
        }
        self.buffer.copy_within(self.at..self.filled, 0);
        self.base += self.at as u64;
        self.filled -= self.at;
        self.at = 0;
        let len = (2 * bytes).max(JOURNAL_READ_BYTES);
        if self.buffer.len() < len {
            let left = self.file.len()?.saturating_sub(self.base);
            let len = len.min(usize::try_from(left).unwrap_or(len));
            self.buffer.resize(len.max(self.buffer.len()), 0);
        }
        while self.filled < bytes {
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            match self.file.read_at(room, self.base + self.filled as u64) {
                Ok(0) => break,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
