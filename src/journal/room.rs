//! Disk space for frames, set aside before they are written.
//!
//! The current segment always has room for the reserve behind its last frame.
//! When it has not, more is set aside for it, up to the length of a segment;
//! behind that the next segment is begun. A thread does both ahead of need.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{Condvar, Mutex};

use super::error::JournalError;
use super::frame::Seq;
use super::options::JournalOptions;
use super::retire::Retired;
use super::segment::{Folder, NEXT_NAME, SEGMENT_HEAD_BYTES};
use super::writer::{Current, Shared};
use crate::disk::{DiskFile, is_full};

/// The file that becomes the next segment. It has no bytes yet.
pub(super) struct Next {
    pub(super) file: Arc<dyn DiskFile>,
    /// How long it can grow without more space.
    pub(super) capacity: u64,
    /// Whether an earlier run made it, and has set nobody knows how much aside for it.
    pub(super) earlier: bool,
}

/// What space is set aside for: how much is wanted, and how much is enough.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) most: u64,
    pub(super) least: u64,
    /// Whether an earlier run may have done so already.
    pub(super) earlier: bool,
}

/// What the thread is asked for.
#[derive(Default)]
pub(super) struct Wish {
    state: Mutex<WishState>,
    changed: Condvar,
}

#[derive(Default)]
struct WishState {
    room: bool,
    end: bool,
}

impl Wish {
    pub(super) fn for_room(&self) {
        self.state.lock().room = true;
        self.changed.notify_one();
    }

    pub(super) fn for_end(&self) {
        self.state.lock().end = true;
        self.changed.notify_one();
    }

    /// Waits for a wish; false is the end.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.room && !state.end {
            self.changed.wait(&mut state);
        }
        state.room = false;
        !state.end
    }
}

/// The thread's life.
pub(super) fn keep_room(shared: &Shared) {
    while shared.wish.wait() {
        if shared.check().is_err() {
            continue;
        }
        // A full disk is found again by the append that needs the room.
        let done = make_room_ahead(shared);
        if let Err(error) = done
            && !is_full(&error)
        {
            tracing::warn!(%error, "the journal cannot set space aside ahead of need");
        }
    }
}

fn make_room_ahead(shared: &Shared) -> io::Result<()> {
    let options = &shared.options;
    let goal = {
        let writer = shared.writer.lock();
        let Some(current) = &writer.current else {
            return Ok(());
        };
        let near = current.is_near(current.len + options.reserve_bytes, options);
        let goal = current.capacity + options.room_bytes;
        let goal = goal.min(options.segment_bytes);
        // One that an earlier run has begun gets its room from the next append.
        let grows = near && current.capacity > 0 && current.capacity < goal;
        grows.then(|| (Arc::clone(&current.file), goal))
    };
    let grown = goal.map_or(Ok(()), |(file, goal)| grow_ahead(shared, &file, goal));
    // In any case: on a full disk deletions go on in it.
    prepare_spare(shared, &mut shared.next.lock())?;
    grown?;
    if let Some(current) = &mut shared.writer.lock().current {
        current.wished = false;
    }
    Ok(())
}

fn grow_ahead(shared: &Shared, file: &Arc<dyn DiskFile>, goal: u64) -> io::Result<()> {
    {
        let room = shared.room.taking();
        room.check()?;
        file.reserve(goal)?;
    }
    let mut writer = shared.writer.lock();
    if let Some(current) = &mut writer.current
        && Arc::ptr_eq(&current.file, file)
    {
        current.capacity = current.capacity.max(goal);
    }
    Ok(())
}

impl Current {
    /// Whether what is set aside will soon be too little for appends up to `least`.
    pub(super) fn is_near(&self, least: u64, options: &JournalOptions) -> bool {
        least + options.room_bytes / 2 > self.capacity
    }
}

/// What the next segment has at least once it is set aside.
fn spare_bytes(shared: &Shared) -> u64 {
    SEGMENT_HEAD_BYTES as u64 + shared.options.reserve_bytes
}

/// Makes sure that the next segment is there, with room for a reserve of its own.
pub(super) fn prepare_spare(shared: &Shared, next: &mut Option<Next>) -> io::Result<()> {
    let least = spare_bytes(shared);
    let next = begun(shared, next)?;
    let wanted = Wanted {
        most: least,
        least,
        earlier: next.earlier,
    };
    grow(shared, &*next.file, &mut next.capacity, wanted)?;
    shared.spare.store(true, Ordering::Release);
    Ok(())
}

/// Makes sure that the next segment is there, with room for `least` bytes.
pub(super) fn prepare(shared: &Shared, next: &mut Option<Next>, least: u64) -> io::Result<()> {
    let next = begun(shared, next)?;
    let roomy = shared.options.room_bytes.min(shared.options.segment_bytes);
    let wanted = Wanted {
        most: roomy.max(least),
        least,
        earlier: next.earlier,
    };
    grow(shared, &*next.file, &mut next.capacity, wanted)
}

fn begun<'a>(shared: &Shared, next: &'a mut Option<Next>) -> io::Result<&'a mut Next> {
    Ok(match next {
        Some(next) => next,
        none => none.insert(Next {
            file: begin(&shared.folder)?,
            capacity: 0,
            earlier: false,
        }),
    })
}

/// Sets aside what is wanted, or else what is enough. Where others lack what is
/// theirs, nothing but what an earlier run has set aside already.
pub(super) fn grow(
    shared: &Shared,
    file: &dyn DiskFile,
    capacity: &mut u64,
    wanted: Wanted,
) -> io::Result<()> {
    let Wanted {
        most,
        least,
        earlier,
    } = wanted;
    if *capacity >= least {
        return Ok(());
    }
    let room = shared.room.taking();
    let goal = match room.check().and_then(|()| file.reserve(most)) {
        Err(error) if is_full(&error) && (least < most || earlier) => {
            if !earlier {
                room.check()?;
            }
            file.reserve(least)?;
            least
        }
        other => {
            other?;
            most
        }
    };
    *capacity = goal;
    Ok(())
}

impl Shared {
    /// Sets the next segment aside, in the place of old ones if need be.
    pub(super) fn replenish(&self, checkpoint: Seq) -> Result<Retired, JournalError> {
        let mut retired = Retired::default();
        let _only = self.retiring.lock();
        self.check()?;
        loop {
            let path = || self.folder.path(NEXT_NAME);
            match prepare_spare(self, &mut self.next.lock()) {
                Err(error) if is_full(&error) => {}
                other => return other.map(|()| retired).map_err(JournalError::io(path())),
            }
            let Some(oldest) = self.oldest_before(checkpoint) else {
                return Ok(retired);
            };
            {
                // What it gives is taken before anybody else sees it.
                let mut next = self.next.lock();
                let next = begun(self, &mut next).map_err(JournalError::io(path()))?;
                let _room = self.room.taking();
                self.remove_segment(&oldest)?;
                let least = spare_bytes(self);
                match next.file.reserve(least) {
                    Err(error) if is_full(&error) => {}
                    other => {
                        other.map_err(JournalError::io(path()))?;
                        next.capacity = next.capacity.max(least);
                    }
                }
            }
            self.forget_segment(&oldest);
            retired.segments += 1;
            retired.bytes += oldest.bytes;
        }
    }
}

fn begin(folder: &Folder) -> io::Result<Arc<dyn DiskFile>> {
    folder.disk.create(&folder.path(NEXT_NAME))
}

/// The next segment that an earlier run had begun.
pub(super) fn adopt(folder: &Folder) -> Result<Option<Next>, JournalError> {
    let path = folder.path(NEXT_NAME);
    let file = match folder.disk.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(JournalError::io(&path))?,
    };
    if file.is_empty().map_err(JournalError::io(&path))? {
        // How much it was given is asked again when it is needed.
        return Ok(Some(Next {
            file,
            capacity: 0,
            earlier: true,
        }));
    }
    folder.remove(NEXT_NAME).map_err(JournalError::io(&path))?;
    Ok(None)
}

/// Names the next segment after its first frame.
pub(super) fn take(
    folder: &Folder,
    next: &mut Option<Next>,
    first: Seq,
) -> io::Result<Option<Next>> {
    if next.is_some() {
        let name = super::segment::name_of(first);
        folder
            .disk
            .rename(&folder.path(NEXT_NAME), &folder.path(&name))?;
    }
    Ok(next.take())
}
