//! Disk space for frames, set aside before they are written.
//!
//! The current segment always has room for the reserve behind its last frame.
//! When it has not, more is set aside for it, up to the length of a segment;
//! behind that the next segment is begun. A thread does both ahead of need.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::error::JournalError;
use super::frame::Seq;
use super::segment::{Folder, NEXT_NAME, SEGMENT_HEAD_BYTES};
use super::writer::Shared;
use crate::disk::{DiskFile, is_full};

/// The file that becomes the next segment. It has no bytes yet.
pub(super) struct Next {
    pub(super) file: Arc<dyn DiskFile>,
    /// How long it can grow without more space.
    pub(super) capacity: u64,
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
        let goal = current.capacity + options.room_bytes;
        let goal = goal.min(options.segment_bytes);
        (current.capacity < goal).then(|| (Arc::clone(&current.file), goal))
    };
    let Some((file, goal)) = goal else {
        let mut next = shared.next.lock();
        let least = SEGMENT_HEAD_BYTES as u64 + options.reserve_bytes;
        return prepare(shared, &mut next, least);
    };
    file.reserve(goal)?;
    let mut writer = shared.writer.lock();
    if let Some(current) = &mut writer.current
        && Arc::ptr_eq(&current.file, &file)
    {
        current.capacity = current.capacity.max(goal);
        current.wished = false;
    }
    Ok(())
}

/// Makes sure that the next segment is there, with room for `least` bytes.
pub(super) fn prepare(shared: &Shared, next: &mut Option<Next>, least: u64) -> io::Result<()> {
    let next = match next {
        Some(next) => next,
        none => none.insert(Next {
            file: begin(&shared.folder)?,
            capacity: 0,
        }),
    };
    let roomy = shared.options.room_bytes.min(shared.options.segment_bytes);
    grow(&*next.file, &mut next.capacity, roomy.max(least), least)
}

/// Sets aside `wanted` bytes, or at least `least`.
pub(super) fn grow(
    file: &dyn DiskFile,
    capacity: &mut u64,
    wanted: u64,
    least: u64,
) -> io::Result<()> {
    if *capacity >= least {
        return Ok(());
    }
    let goal = match file.reserve(wanted) {
        Err(error) if is_full(&error) && least < wanted => {
            file.reserve(least)?;
            least
        }
        other => {
            other?;
            wanted
        }
    };
    *capacity = goal;
    Ok(())
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
        return Ok(Some(Next { file, capacity: 0 }));
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
