//! Disk space that only what makes room again may use.
//!
//! `packs/reserve` is an empty file that space was set aside for. Where the
//! disk is full, who may ([`Spend::Reserve`](crate::cache::Spend)) turns it into
//! the next pack: it is renamed and appended to, so that nobody else gets the
//! space in between. Until it could be set aside anew, all others find the disk
//! full. A filesystem that cannot set space aside makes it a figure only.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::cache::figures::ReserveFigures;
use crate::config::{OWN_RESERVE_BYTES_MIN, OWN_RESERVE_RETRY, OWN_RESERVE_STEP_BYTES};
use crate::disk::{Disk, DiskFile, is_full};
use crate::room::{Room, Taking};

/// Its name beside the tiers.
const NAME: &str = "reserve";

/// The reserve of the own packs.
pub(in crate::cache) struct Reserve {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    bytes_max: u64,
    /// Shared with the journal, which takes room of the same disk.
    room: Arc<Room>,
    held: Mutex<Held>,
    /// Whether it is set aside: all that most appends look at.
    whole: AtomicBool,
    spent: AtomicU64,
}

#[derive(Default)]
struct Held {
    file: Option<Arc<dyn DiskFile>>,
    /// How much it has.
    bytes: u64,
    /// How much it is to have in this run; 0 before that was known.
    wanted: u64,
    /// Until when nothing is tried, because the disk failed at it for another
    /// reason than being full.
    rests: Option<Instant>,
    /// Whether this disk can set nothing aside.
    never: bool,
}

impl Reserve {
    /// A reserve of at most `bytes_max`; 0 is none. Touches nothing yet.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, bytes_max: u64) -> Self {
        Self {
            disk,
            dir,
            bytes_max,
            room: Arc::default(),
            held: Mutex::default(),
            whole: AtomicBool::new(false),
            spent: AtomicU64::new(0),
        }
    }

    /// The room that it and others take.
    pub(in crate::cache) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// Sees that it is whole; a full disk (ENOSPC) where it cannot be made so.
    pub(in crate::cache) fn check(&self) -> io::Result<()> {
        if self.bytes_max == 0 || self.whole.load(Ordering::Acquire) {
            return Ok(());
        }
        self.set_aside(&mut self.held.lock())
    }

    /// How much more has to be free until it is whole and others may write.
    pub(in crate::cache) fn lacks(&self) -> io::Result<u64> {
        let held = self.held.lock();
        if self.bytes_max == 0 || held.never || self.whole.load(Ordering::Acquire) {
            return Ok(0);
        }
        let free = self.disk.free_bytes(&self.dir)?;
        Ok(held.wanted.saturating_sub(held.bytes).saturating_sub(free))
    }

    /// How many bytes it has now; no limit where none is wanted.
    pub(in crate::cache) fn bytes(&self) -> u64 {
        let held = self.held.lock();
        if self.bytes_max == 0 {
            u64::MAX
        } else {
            held.bytes
        }
    }

    fn set_aside(&self, held: &mut Held) -> io::Result<()> {
        let rests = held.rests.is_some_and(|until| Instant::now() < until);
        if self.whole.load(Ordering::Acquire) || held.never || rests {
            return Ok(());
        }
        let done = match held.wanted {
            0 => self.begin(held),
            _ => self.restore(held),
        };
        match done {
            Err(error) if !is_full(&error) => {
                self.room.taking().lack(0);
                if held.rests.is_none() {
                    tracing::warn!("no space can be set aside for a full disk: {error}");
                }
                held.never = error.kind() == io::ErrorKind::Unsupported;
                held.rests = Some(Instant::now() + OWN_RESERVE_RETRY);
                Ok(())
            }
            other => other,
        }
    }

    /// Sets aside what fits, and decides by that how much it is in this run.
    fn begin(&self, held: &mut Held) -> io::Result<()> {
        let mut room = self.room.taking();
        let path = self.path();
        let earlier = self.earlier(&path)?;
        let most = match &earlier {
            Some(_) => self.bytes_max,
            None => self.disk.free_bytes(&self.dir)? / 4,
        };
        let least = OWN_RESERVE_BYTES_MIN.min(self.bytes_max);
        if most < least {
            room.lack(4 * least);
            return Err(full());
        }
        let file = match earlier {
            Some(file) => file,
            None => self.disk.create(&path)?,
        };
        let mut bytes = self.bytes_max;
        while bytes >= least {
            match (bytes <= most).then(|| file.reserve(bytes)) {
                Some(Ok(())) => {
                    (held.bytes, held.wanted) = (bytes, bytes);
                    held.file = Some(file);
                    self.whole.store(true, Ordering::Release);
                    room.lack(0);
                    return Ok(());
                }
                Some(Err(error)) if !is_full(&error) => return Err(error),
                Some(Err(_)) | None => bytes /= 2,
            }
        }
        drop(self.disk.remove(&path));
        room.lack(4 * least);
        Err(full())
    }

    /// Makes it as large again as it was.
    fn restore(&self, held: &mut Held) -> io::Result<()> {
        let mut room = self.room.taking();
        let free = self.disk.free_bytes(&self.dir)?;
        if free < held.wanted - held.bytes {
            return Err(full());
        }
        let file = self.opened(held)?;
        file.reserve(held.wanted)?;
        held.bytes = held.wanted;
        self.whole.store(true, Ordering::Release);
        room.lack(0);
        tracing::info!("the reserve of {} bytes is set aside again", held.bytes);
        Ok(())
    }

    fn opened(&self, held: &mut Held) -> io::Result<Arc<dyn DiskFile>> {
        let file = match &held.file {
            Some(file) => Arc::clone(file),
            None => match self.earlier(&self.path())? {
                Some(file) => file,
                None => self.disk.create(&self.path())?,
            },
        };
        held.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Sets aside what a pack that was begun in the reserve has not used of it.
    pub(super) fn give_back(&self, pack: &dyn DiskFile) -> io::Result<()> {
        let mut held = self.held.lock();
        // From here on until it is set aside again nobody else takes it.
        let mut room = self.room.taking();
        pack.cut(pack.len()?)?;
        self.gather(&mut held, &mut room)
    }

    /// Sets aside what is free, where it has nothing.
    fn gather(&self, held: &mut Held, room: &mut Taking<'_>) -> io::Result<()> {
        let mut most = held.wanted.min(self.disk.free_bytes(&self.dir)?);
        let mut step = OWN_RESERVE_STEP_BYTES;
        while held.bytes == 0 && most >= OWN_RESERVE_BYTES_MIN.min(self.bytes_max) {
            match self.opened(held)?.reserve(most) {
                Ok(()) => held.bytes = most,
                // A disk needs a little for keeping book, other programs take room
                // in between, and a quota is not seen beforehand.
                Err(error) if is_full(&error) => {
                    most = most.saturating_sub(step);
                    step *= 2;
                }
                Err(error) => return Err(error),
            }
        }
        self.whole
            .store(held.bytes == held.wanted, Ordering::Release);
        room.lack(held.wanted - held.bytes);
        Ok(())
    }

    /// What an earlier run has set aside.
    fn earlier(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        match self.disk.open(path) {
            Ok(file) if file.is_empty()? => Ok(Some(file)),
            // It was about to become a pack, and nothing refers to that.
            Ok(_) => self.disk.remove(path).map(|()| None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What of it only a collection may use, and what lets checkpoints go.
    fn last_bytes(held: &Held) -> u64 {
        held.wanted / 4
    }

    /// Gives the file away as `to`, after `begin` was written to it, and says how
    /// much of it may be used; `None` where less than `least` may. Where not `all`
    /// may be used its last part is left.
    pub(super) fn take(
        &self,
        to: &Path,
        (least, all): (u64, bool),
        begin: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<Option<(Arc<dyn DiskFile>, u64)>> {
        if self.bytes_max == 0 {
            return Ok(None);
        }
        let mut held = self.held.lock();
        if held.wanted == 0 {
            // What an earlier run has set aside may be there.
            match self.set_aside(&mut held) {
                Err(error) if is_full(&error) => return Ok(None),
                other => other?,
            }
        }
        let mut room = self.room.taking();
        if held.bytes == 0 && held.wanted > 0 {
            self.gather(&mut held, &mut room)?;
        }
        let leaves = if all { 0 } else { Self::last_bytes(&held) };
        let usable = held.bytes.saturating_sub(leaves);
        if usable < least.max(1) {
            return Ok(None);
        }
        let Some(file) = held.file.take() else {
            return Ok(None);
        };
        let bytes = std::mem::take(&mut held.bytes);
        self.whole.store(false, Ordering::Release);
        room.lack(held.wanted);
        begin(&*file)?;
        self.disk.rename(&self.path(), to)?;
        self.spent.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("the disk is full; the reserve of {bytes} bytes is used");
        Ok(Some((file, usable)))
    }

    /// Figures since start.
    pub(in crate::cache) fn figures(&self) -> ReserveFigures {
        let held = self.held.lock();
        ReserveFigures {
            bytes: held.bytes,
            whole: self.bytes_max == 0 || self.whole.load(Ordering::Acquire),
            bytes_max: self.bytes_max,
            spent: self.spent.load(Ordering::Relaxed),
        }
    }
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}
