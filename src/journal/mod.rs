//! Durable, ordered, opaque frames.
//!
//! The journal takes records (bytes with a kind and a transaction), gives each
//! the next number, and keeps them as checksummed frames in segments, files
//! that are only ever appended to. It does not know what the records mean.
//!
//! What it promises:
//!
//! - When [`append`](Journal::append) has returned, the frames are with the
//!   kernel: they survive the end of the process, not a power loss.
//! - When [`sync`](Journal::sync) has returned, the frames up to that one
//!   survive a power loss. Of later ones a beginning survives, never a later
//!   one without those before it.
//! - A full disk is found before a frame is written, and stops nothing. Part
//!   of the space is kept back for [`Class::Reserve`], and of that for [`Class::Last`].
//! - After any other failed write or sync nothing is written any more until the
//!   journal is opened again: nobody can tell what the disk has.
//! - [`Journal::open`] cuts off what a crash has left at the end, keeps it
//!   aside and says so. Damage to what was known to survive changes nothing:
//!   the journal is then read-only. No frame is ever changed.
//! - It writes again, over themselves, all frames that are not known to be on
//!   the disk: a sync of an earlier run that failed is made good, or fails again.
//! - A [`Reader`] never changes anything.
//!
//! `docs/JOURNAL.md` has the bytes.

mod again;
mod aside;
mod error;
mod frame;
mod group;
mod index;
mod mend;
mod options;
mod reader;
mod recovery;
mod retire;
mod room;
mod scan;
mod segment;
mod verify;
mod walk;
mod writer;

pub use error::{Damage, Fault, JournalError, Step};
pub use frame::{
    Decoded, FRAME_HEAD_BYTES, Frame, FrameFault, FrameHead, PAYLOAD_BYTES_MAX, Place, Record, Seq,
    TxId, decode, encode,
};
pub use mend::{set_aside_all, set_aside_before, set_aside_from};
pub use options::{BeforeSync, JournalOptions, JournalPlace, Retention};
pub use reader::{Frames, Page, Reader};
pub use recovery::{Recovered, Torn};
pub use retire::Retired;
pub use segment::{
    FORMAT_VERSION, HeadFault, SEGMENT_HEAD_BYTES, SegmentFile, SegmentHead, decode_head,
    encode_head,
};
pub use verify::{VerifyProgress, VerifyReport};
pub use writer::Class;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use group::Group;
use recovery::State;
use segment::Folder;
use writer::{Current, Shared, Stop, Writer};

/// The journal of one repository. One process at a time may have it open.
pub struct Journal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Figures of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalFigures {
    /// Segments.
    pub segments: usize,
    /// The oldest frame that is kept; the next one if there are none.
    pub first: Seq,
    /// The last frame.
    pub last: Seq,
    /// The last frame that survives a power loss.
    pub durable: Seq,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Syncs in this run.
    pub syncs: u64,
}

impl Journal {
    /// Opens the journal of a directory, and recovers it.
    ///
    /// Recovery reads the segment of `from` and those after it; `Seq(1)` reads
    /// all. A journal without frames begins with `from`. Each whole frame from `from` on is shown to `visit`, in order. Damage
    /// before `from` is reported and stops nothing.
    ///
    /// What an earlier run has appended and not synced is no more durable than
    /// it was; it is written again, so that the next [`sync`](Self::sync) covers it
    /// too, also where a sync of that run failed. Where that cannot be done the
    /// journal has stopped.
    ///
    /// Opened only to be read it changes nothing: what would be cut off is told.
    pub fn open(
        place: &JournalPlace,
        options: JournalOptions,
        from: Seq,
        visit: &mut dyn FnMut(&FrameHead, &[u8]),
    ) -> Result<(Self, Recovered), JournalError> {
        let folder = Folder::new(Arc::clone(&place.disk), &place.dir);
        if !options.only_read {
            let made = folder.disk.make_dirs(&folder.dir);
            made.map_err(JournalError::io(&folder.dir))?;
        }
        let (recovered, state) = recovery::recover(&folder, from, options.only_read, visit)?;
        if !options.only_read
            && state.segments.is_empty()
            && let Some(above) = folder.dir.parent()
        {
            let synced = folder.disk.sync_dir(above);
            synced.map_err(JournalError::io(above))?;
        }
        let stop = OnceLock::new();
        if let Some(damage) = &recovered.damage {
            let damage = Arc::new(damage.clone());
            tracing::error!(%damage, "the journal is read-only");
            stop.get_or_init(|| Stop::Damaged(damage));
        } else if options.only_read {
            stop.get_or_init(|| Stop::OnlyRead);
        }
        if stop.get().is_none()
            && recovered.durable < recovered.last
            && let Err(cause) = again::make_sure(&folder, recovered.durable)?
        {
            tracing::error!(error = %cause, "what was appended last cannot be written again: the journal is read-only");
            stop.get_or_init(|| Stop::Failed(Step::Sync, cause));
        }
        let next = match stop.get() {
            None => room::adopt(&folder)?,
            Some(_) => None,
        };
        let shared = Arc::new(Shared {
            folder,
            options: options.checked(),
            clock: Arc::clone(&place.clock),
            before_sync: Arc::clone(&place.before_sync),
            room: Arc::clone(&place.room),
            spare: AtomicBool::new(false),
            last: Arc::new(AtomicU64::new(state.next_seq.previous().0)),
            writer: Mutex::new(Writer::new(state)),
            next: Mutex::new(next),
            retiring: Mutex::new(()),
            wish: room::Wish::default(),
            group: Group::new(recovered.durable),
            in_reserve: AtomicBool::new(false),
            stop,
        });
        let ahead = options.prepare_ahead && !options.only_read;
        if ahead && let next @ Some(_) = &mut *shared.next.lock() {
            // It has its room from an earlier run, also on a full disk.
            drop(room::prepare_spare(&shared, next));
        }
        let thread = ahead.then(|| spawn(&shared)).transpose();
        let thread = thread.map_err(JournalError::io("thread"))?;
        Ok((Self { shared, thread }, recovered))
    }

    /// Appends all of the records or none, with one write, and gives the number
    /// of the last one. A crash may leave a beginning of them.
    pub fn append(&self, class: Class, records: &[Record<'_>]) -> Result<Seq, JournalError> {
        self.shared.append(class, records)
    }

    /// Returns when all frames up to `through` survive a power loss. Blocks;
    /// who wait at the same time share one sync. A sync that fails makes all
    /// later ones fail, and appends too.
    pub fn sync(&self, through: Seq) -> Result<(), JournalError> {
        self.shared.sync(through)
    }

    /// The last frame that was appended.
    pub fn last(&self) -> Seq {
        Seq(self.shared.last.load(Ordering::Acquire))
    }

    /// The last frame that survives a power loss.
    pub fn durable(&self) -> Seq {
        self.shared.group.durable()
    }

    /// Fails if nothing is written any more, and says why.
    pub fn check(&self) -> Result<(), JournalError> {
        self.shared.check()
    }

    /// Whether the disk is so full that appends use the reserve.
    pub fn in_reserve(&self) -> bool {
        self.shared.in_reserve.load(Ordering::Relaxed)
    }

    /// How many bytes an append of so many lacks of what is set aside; 0 if none.
    pub fn lacks(&self, bytes: u64) -> u64 {
        self.shared.lacks(bytes)
    }

    /// Whether appends use the reserve and there is no room for a segment after
    /// this one: only a checkpoint, and [`replenish`](Self::replenish) after it, make any.
    pub fn is_short(&self) -> bool {
        self.in_reserve() && !self.shared.spare.load(Ordering::Acquire)
    }

    /// The first frame of the segment that is appended to.
    pub fn current_segment(&self) -> Seq {
        let writer = self.shared.writer.lock();
        let current = writer.current.as_ref();
        current.map_or(writer.next_seq, |current| current.first)
    }

    /// Sets the next segment aside on a full disk, with the reserve that belongs to
    /// it: in the place of old ones that end before the checkpoint, if need be.
    pub fn replenish(&self, checkpoint: Seq) -> Result<Retired, JournalError> {
        self.shared.replenish(checkpoint)
    }

    /// Takes back all frames after one and keeps them aside: for recovery of
    /// the caller, who finds that the data which they refer to is gone. Frames
    /// that were known to survive a power loss are not taken back.
    pub fn cut_after(&self, after: Seq) -> Result<Torn, JournalError> {
        let mut writer = self.shared.writer.lock();
        self.shared.check()?;
        let durable = self.durable();
        if after < durable {
            return Err(JournalError::Durable { after, durable });
        }
        let (torn, state) = recovery::cut_after(&self.shared.folder, after, durable)?;
        *writer = Writer::new(state);
        self.shared.last.store(after.0, Ordering::Release);
        Ok(torn)
    }

    /// Drops whole segments that end before the checkpoint and are beyond the
    /// retention. Only a checkpoint that is durable counts.
    pub fn retire(&self, checkpoint: Seq) -> Result<Retired, JournalError> {
        self.retire_beyond(checkpoint, self.shared.options.retain)
    }

    /// Drops like [`retire`](Self::retire), with another retention: for a disk
    /// that is full.
    pub fn retire_beyond(&self, checkpoint: Seq, keep: Retention) -> Result<Retired, JournalError> {
        self.shared.retire(checkpoint, keep)
    }

    /// Bytes of the segments that a [`retire_beyond`](Self::retire_beyond) which keeps
    /// nothing would drop.
    pub fn bytes_before(&self, checkpoint: Seq) -> u64 {
        self.shared.bytes_before(checkpoint)
    }

    /// A reader that sees each frame as soon as it was appended.
    pub fn reader(&self) -> Reader {
        // Where it is damaged inside nothing is appended: all that is there is shown.
        let damaged = matches!(self.shared.stop.get(), Some(Stop::Damaged(_)));
        let live = (!damaged).then(|| Arc::clone(&self.shared.last));
        Reader::new(self.shared.folder.clone(), live)
    }

    /// Figures of this run.
    pub fn figures(&self) -> JournalFigures {
        let writer = self.shared.writer.lock();
        let (_, earlier) = writer.segments.split_last().unzip();
        let earlier: u64 = earlier.unwrap_or_default().iter().map(|s| s.bytes).sum();
        JournalFigures {
            segments: writer.segments.len(),
            first: writer.segments.first().map_or(writer.next_seq, |s| s.first),
            last: writer.next_seq.previous(),
            durable: self.durable(),
            bytes: earlier + writer.current.as_ref().map_or(0, |current| current.len),
            syncs: self.shared.group.syncs(),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.wish.for_end();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Writer {
    fn new(state: State) -> Self {
        let current = state.tail.map(|(first, file, len)| Current {
            first,
            file,
            len,
            // What an earlier run has set aside is asked for again.
            capacity: 0,
            wished: false,
        });
        Self {
            current,
            next_seq: state.next_seq,
            segments: state.segments,
            unsynced: state.unsynced,
            names_unsynced: true,
            buffer: Vec::new(),
        }
    }
}

fn spawn(shared: &Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("journal-room".to_owned());
    thread.spawn(move || room::keep_room(&shared))
}
