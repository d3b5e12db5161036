//! The one appender.
//!
//! An append is one write to the file. If it fails, what it has written is cut
//! off again: on a full disk the journal goes on, after any other error it
//! stops, because nobody can tell what the disk has.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::error::{Damage, JournalError, Step};
use super::frame::{FRAME_HEAD_BYTES, FrameHead, PAYLOAD_BYTES_MAX, Place, Record, Seq, encode};
use super::group::Group;
use super::options::{BeforeSync, JournalOptions};
use super::room::{Next, Wanted, Wish, grow, prepare, take};
use super::segment::{Folder, SEGMENT_HEAD_BYTES, SegmentHead, encode_head, name_of};
use crate::clock::{Clock, since_epoch};
use crate::config::JOURNAL_COPY_BYTES_MAX;
use crate::disk::{DiskFile, append_all, is_full};
use crate::room::Room;

/// What an append may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Everything but the reserve.
    Normal,
    /// The reserve too, but for its end. For what makes room: deletions, truncations.
    Reserve,
    /// All there is. For checkpoints, without which nothing that was deleted is
    /// freed, and for rollbacks.
    Last,
}

impl Class {
    /// What it leaves of the reserve.
    fn leaves(self, options: &JournalOptions) -> u64 {
        match self {
            Self::Normal => options.reserve_bytes,
            Self::Reserve => options.last_bytes,
            Self::Last => 0,
        }
    }
}

/// Why nothing is written any more.
#[derive(Debug, Clone)]
pub(super) enum Stop {
    OnlyRead,
    Damaged(Arc<Damage>),
    Failed(Step, Arc<io::Error>),
}

/// What appends, syncs and the thread share.
pub(super) struct Shared {
    pub(super) folder: Folder,
    pub(super) options: JournalOptions,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) before_sync: BeforeSync,
    /// Taken under `writer` or `next`, never the other way round.
    pub(super) room: Arc<Room>,
    /// Whether the next segment has room for the reserve.
    pub(super) spare: AtomicBool,
    /// Locked before `next`.
    pub(super) writer: Mutex<Writer>,
    pub(super) next: Mutex<Option<Next>>,
    /// Held while segments are dropped. Locked before `writer`.
    pub(super) retiring: Mutex<()>,
    pub(super) wish: Wish,
    pub(super) group: Group,
    pub(super) stop: OnceLock<Stop>,
    /// Whether an append went into the reserve, and none has found room since.
    pub(super) in_reserve: AtomicBool,
    /// The last frame that is whole in its file.
    pub(super) last: Arc<AtomicU64>,
}

/// What only one thread at a time may touch.
pub(super) struct Writer {
    pub(super) current: Option<Current>,
    pub(super) next_seq: Seq,
    /// All segments, oldest first.
    pub(super) segments: Vec<Known>,
    /// Earlier segments with frames that may not survive a power loss yet.
    pub(super) unsynced: Vec<Arc<dyn DiskFile>>,
    /// Whether a name may not survive a power loss yet.
    pub(super) names_unsynced: bool,
    pub(super) buffer: Vec<u8>,
}

/// The segment that is appended to.
pub(super) struct Current {
    pub(super) first: Seq,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) len: u64,
    /// How long it can grow without more space.
    pub(super) capacity: u64,
    /// Whether the thread was asked for more.
    pub(super) wished: bool,
}

/// What is known of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) first: Seq,
    pub(super) begun_ns: u64,
    /// Of the current segment this is not kept up to date.
    pub(super) bytes: u64,
}

impl Shared {
    /// Fails if nothing may be written any more.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        match self.stop.get() {
            None => Ok(()),
            Some(Stop::OnlyRead) => Err(JournalError::OnlyRead),
            Some(Stop::Damaged(damage)) => Err(JournalError::ReadOnly(Arc::clone(damage))),
            Some(Stop::Failed(step, cause)) => Err(JournalError::Stopped {
                step: *step,
                cause: Arc::clone(cause),
            }),
        }
    }

    /// Writes nothing from here on.
    pub(super) fn stop(&self, step: Step, error: io::Error) -> JournalError {
        let cause = Arc::new(error);
        if self
            .stop
            .set(Stop::Failed(step, Arc::clone(&cause)))
            .is_ok()
        {
            tracing::error!(error = %cause, %step, "the journal has stopped: nothing is written before the repository is opened again");
        }
        JournalError::Stopped { step, cause }
    }

    pub(super) fn now_ns(&self) -> u64 {
        let nanos = since_epoch(self.clock.now()).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Appends all of the records or none.
    pub(super) fn append(&self, class: Class, records: &[Record<'_>]) -> Result<Seq, JournalError> {
        let bytes = self.measure(records)?;
        let mut writer = self.writer.lock();
        self.check()?;
        if records.is_empty() {
            return Ok(writer.next_seq.previous());
        }
        writer.make_room(self, class, bytes as u64)?;
        writer.write(self, records, bytes)
    }

    fn measure(&self, records: &[Record<'_>]) -> Result<usize, JournalError> {
        let mut sum = 0;
        for record in records {
            if record.payload.len() > PAYLOAD_BYTES_MAX {
                return Err(JournalError::TooLong {
                    bytes: record.payload.len(),
                    bytes_max: PAYLOAD_BYTES_MAX,
                });
            }
            sum += FRAME_HEAD_BYTES + record.payload.len();
        }
        if sum > self.options.append_bytes_max {
            return Err(JournalError::TooLong {
                bytes: sum,
                bytes_max: self.options.append_bytes_max,
            });
        }
        Ok(sum)
    }
}

impl Shared {
    /// How many bytes an append of so many lacks of what is set aside.
    pub(super) fn lacks(&self, bytes: u64) -> u64 {
        let writer = self.writer.lock();
        let options = &self.options;
        let next = || {
            let has = self.next.lock().as_ref().map_or(0, |next| next.capacity);
            (SEGMENT_HEAD_BYTES as u64 + bytes + options.reserve_bytes).saturating_sub(has)
        };
        let Some(current) = &writer.current else {
            return next();
        };
        match current.len + bytes + options.reserve_bytes {
            least if least <= options.segment_bytes => {
                least.saturating_sub(current.capacity.max(current.len))
            }
            _ => next(),
        }
    }
}

impl Writer {
    /// Sees to it that `bytes` and behind them the reserve fit, or else begins
    /// the next segment.
    fn make_room(&mut self, shared: &Shared, class: Class, bytes: u64) -> Result<(), JournalError> {
        let options = &shared.options;
        let Some(current) = &mut self.current else {
            self.rotate(shared, bytes, options.reserve_bytes)?;
            if options.prepare_ahead {
                shared.wish.for_room();
            }
            return Ok(());
        };
        let head = if current.len == 0 {
            SEGMENT_HEAD_BYTES
        } else {
            0
        };
        let end = current.len + head as u64 + bytes;
        let least = end + options.reserve_bytes;
        let lacks_spare =
            !shared.spare.load(Ordering::Relaxed) && !shared.in_reserve.load(Ordering::Relaxed);
        let wishes = lacks_spare || current.is_near(least, options);
        if wishes && !current.wished && options.prepare_ahead {
            current.wished = true;
            shared.wish.for_room();
        }
        if least <= current.capacity {
            shared.in_reserve.store(false, Ordering::Relaxed);
            return Ok(());
        }
        let made = if least <= options.segment_bytes {
            let wanted = (current.capacity.max(current.len) + options.room_bytes).max(least);
            let wanted = wanted.min(options.segment_bytes);
            let wanted = Wanted {
                most: wanted,
                least,
                earlier: current.capacity == 0,
            };
            let grown = grow(shared, &*current.file, &mut current.capacity, wanted);
            current.wished = false;
            let name = name_of(current.first);
            grown.map_err(|error| no_room(&shared.folder, &name, error))
        } else {
            self.rotate(shared, bytes, options.reserve_bytes)
        };
        if made.is_ok() || class == Class::Normal {
            if made.is_ok() {
                shared.in_reserve.store(false, Ordering::Relaxed);
            }
            return made;
        }
        shared.in_reserve.store(true, Ordering::Relaxed);
        self.make_room_in_reserve(shared, class, (bytes, end))
    }

    /// Sees to it that `bytes`, which end at `end`, fit into what is kept back: here,
    /// or else in the next segment, which has room of its own for that.
    fn make_room_in_reserve(
        &mut self,
        shared: &Shared,
        class: Class,
        (bytes, end): (u64, u64),
    ) -> Result<(), JournalError> {
        let leaves = class.leaves(&shared.options);
        let least = end + leaves;
        if let Some(current) = &mut self.current
            && least <= shared.options.segment_bytes
        {
            let wanted = Wanted {
                most: least,
                least,
                earlier: current.capacity == 0,
            };
            let grown = grow(shared, &*current.file, &mut current.capacity, wanted);
            match grown {
                Err(error) if is_full(&error) => {}
                other => {
                    return other.map_err(|e| no_room(&shared.folder, &name_of(current.first), e));
                }
            }
        }
        self.rotate(shared, bytes, leaves)
    }

    /// Begins the next segment, with room for `bytes` and `behind` them. Its name
    /// survives a power loss from the next sync on.
    fn rotate(&mut self, shared: &Shared, bytes: u64, behind: u64) -> Result<(), JournalError> {
        let first = self.next_seq;
        let least = SEGMENT_HEAD_BYTES as u64 + bytes + behind;
        let mut next = shared.next.lock();
        let made =
            prepare(shared, &mut next, least).and_then(|()| take(&shared.folder, &mut next, first));
        let made = made.map_err(|error| no_room(&shared.folder, &name_of(first), error))?;
        shared.spare.store(false, Ordering::Release);
        let Some(next) = made else {
            return Err(JournalError::Full);
        };
        if let Some(old) = self.current.take() {
            if let Some(known) = self.segments.last_mut() {
                known.bytes = old.len;
            }
            if old.len == 0 {
                // The new file has taken its name.
                self.segments.pop();
            } else {
                self.unsynced.push(old.file);
            }
        }
        self.segments.push(Known {
            first,
            begun_ns: shared.now_ns(),
            bytes: 0,
        });
        self.names_unsynced = true;
        self.current = Some(Current {
            first,
            file: next.file,
            len: 0,
            capacity: next.capacity,
            wished: false,
        });
        Ok(())
    }

    /// Writes the frames, and the segment's head before the first of them.
    fn write(
        &mut self,
        shared: &Shared,
        records: &[Record<'_>],
        bytes: usize,
    ) -> Result<Seq, JournalError> {
        let Some(current) = &mut self.current else {
            return Err(JournalError::Full);
        };
        let (time_ns, durable) = (shared.now_ns(), shared.group.durable());
        let copied = bytes <= JOURNAL_COPY_BYTES_MAX;
        let buffer = &mut self.buffer;
        buffer.clear();
        if current.len == 0 {
            buffer.extend_from_slice(&encode_head(&SegmentHead {
                first: current.first,
                begun_ns: time_ns,
                durable,
            }));
        }
        let head_bytes = buffer.len();
        let mut place = Place {
            segment: current.first,
            offset: current.len + head_bytes as u64,
        };
        let mut seq = self.next_seq;
        for record in records {
            let head = FrameHead {
                seq,
                tx: record.tx,
                kind: record.kind,
                time_ns,
                durable,
            };
            buffer.extend_from_slice(&encode(&head, record.payload, place));
            if copied {
                buffer.extend_from_slice(record.payload);
            }
            place.offset += (FRAME_HEAD_BYTES + record.payload.len()) as u64;
            seq = seq.next();
        }
        let written = if copied {
            append_all(&*current.file, &mut [IoSlice::new(buffer)])
        } else {
            append_all(&*current.file, &mut parts(buffer, head_bytes, records))
        };
        if let Err(error) = written {
            return Err(take_back(shared, current, error));
        }
        current.len = place.offset;
        self.next_seq = seq;
        let last = seq.previous();
        shared.last.store(last.0, Ordering::Release);
        Ok(last)
    }
}

/// Heads from the buffer and payloads from the records, in turn.
fn parts<'a>(buffer: &'a [u8], head_bytes: usize, records: &[Record<'a>]) -> Vec<IoSlice<'a>> {
    let mut parts = Vec::with_capacity(2 * records.len() + 1);
    let (head, heads) = buffer.split_at(head_bytes);
    parts.push(IoSlice::new(head));
    for (head, record) in heads.chunks(FRAME_HEAD_BYTES).zip(records) {
        parts.push(IoSlice::new(head));
        parts.push(IoSlice::new(record.payload));
    }
    parts
}

/// Cuts off what a failed append has written.
fn take_back(shared: &Shared, current: &mut Current, error: io::Error) -> JournalError {
    // Cutting gives back what was set aside behind the end, too.
    current.capacity = current.len;
    match current.file.cut(current.len) {
        Ok(()) if is_full(&error) => JournalError::Full,
        Ok(()) | Err(_) => shared.stop(Step::Append, error),
    }
}

fn no_room(folder: &Folder, name: &str, error: io::Error) -> JournalError {
    if is_full(&error) {
        return JournalError::Full;
    }
    JournalError::io(folder.path(name))(error)
}
