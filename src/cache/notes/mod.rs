//! Small facts about CIDs, kept over restarts: what their blocks decode to.
//!
//! A CID never changes, so a note about it holds for ever, also when its block
//! is here no longer. The cache does not know what a note means. Notes are
//! advice: they may be lost at any time, the oldest go when there are too many,
//! and nothing that is served as content may rest on one.
//!
//! On disk they are a sled database of their own, `index/notes`, in buckets by
//! the end of the multihash. It is used only if the last run ended cleanly, by
//! the same marker as the index; else, and when sled fails, it is deleted. It
//! opens behind the first look at it, since commands that find everything near
//! never need it.

mod bucket;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::index::database::Database;
use super::index::{IndexError, marker};
use crate::block::Cid;
use crate::config::{NOTES_GATHERED_MAX, NOTES_WAIT};
use crate::disk::Disk;
use bucket::Subject;

/// Length of a note.
pub const NOTE_BYTES: usize = 24;
/// A note: bytes whose meaning is with who put it.
pub type Note = [u8; NOTE_BYTES];

type Gathered = HashMap<Subject, Note>;

/// The notes of a repository, or of nothing but this process.
pub struct Notes {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    /// Where the database is; `None` where there is no disk.
    place: Option<(Arc<dyn Disk>, PathBuf)>,
    state: RwLock<State>,
    /// What was put and is not on disk yet.
    gathered: Mutex<Gathered>,
    /// What is just being written.
    leaving: Mutex<Arc<Gathered>>,
    /// One at a time writes.
    writing: Mutex<()>,
    /// A thread is on its way to write.
    asked: AtomicBool,
    settled: watch::Sender<bool>,
}

enum State {
    /// Nobody asked yet.
    Idle,
    Opening,
    Ready(Database),
    /// Ended, or it failed.
    Closed,
}

impl Notes {
    /// The notes of the repository whose index is in `index_dir`. Touches nothing yet.
    pub(super) fn new(disk: Arc<dyn Disk>, index_dir: PathBuf) -> Self {
        Self::of(Some((disk, index_dir)), State::Idle)
    }

    /// Notes of this process only.
    pub(super) fn in_memory() -> Self {
        Self::of(None, State::Closed)
    }

    fn of(place: Option<(Arc<dyn Disk>, PathBuf)>, state: State) -> Self {
        let settled = watch::Sender::new(matches!(state, State::Closed));
        let shared = Arc::new(Shared {
            place,
            state: RwLock::new(state),
            gathered: Mutex::default(),
            leaving: Mutex::default(),
            writing: Mutex::new(()),
            asked: AtomicBool::new(false),
            settled,
        });
        Self {
            shared,
            threads: Mutex::default(),
        }
    }

    /// Gives the note about a CID. The first call opens the database, and calls
    /// meanwhile wait for it a moment.
    pub async fn get(&self, cid: &Cid) -> Option<Note> {
        let subject = Subject::of(cid)?;
        if !*self.shared.settled.borrow() {
            self.start();
            let mut settled = self.shared.settled.subscribe();
            let waiting = settled.wait_for(|settled| *settled);
            // Without the database a note counts as absent.
            drop(tokio::time::timeout(NOTES_WAIT, waiting).await);
        }
        self.shared.find(&subject)
    }

    /// Notes something about a CID. Beyond the limit it is dropped.
    pub fn put(&self, cid: &Cid, note: Note) {
        let Some(subject) = Subject::of(cid) else {
            return;
        };
        let full = {
            let mut gathered = self.shared.gathered.lock();
            if gathered.len() < 2 * NOTES_GATHERED_MAX {
                gathered.insert(subject, note);
            }
            gathered.len() >= NOTES_GATHERED_MAX
        };
        if full && matches!(*self.shared.state.read(), State::Ready(_)) {
            self.write_behind();
        }
    }

    /// Opens the database in a thread of its own, once.
    fn start(&self) {
        let mut state = self.shared.state.write();
        if !matches!(*state, State::Idle) {
            return;
        }
        *state = State::Opening;
        drop(state);
        let shared = Arc::clone(&self.shared);
        self.spawn(move || {
            let opened = shared.open();
            *shared.state.write() = opened.map_or(State::Closed, State::Ready);
            shared.settled.send_replace(true);
        });
    }

    fn write_behind(&self) {
        let shared = Arc::clone(&self.shared);
        if shared.asked.swap(true, Ordering::AcqRel) {
            return;
        }
        self.spawn(move || {
            shared.write();
            shared.asked.store(false, Ordering::Release);
        });
    }

    fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        let thread = thread::Builder::new().name("notes".to_owned()).spawn(work);
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        match thread {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                tracing::warn!("notes are not kept: {error}");
                *self.shared.state.write() = State::Closed;
                self.shared.settled.send_replace(true);
            }
        }
    }

    /// Writes what was gathered and leaves the database clean. Idempotent.
    pub(super) fn close(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("the thread of the notes panicked");
            }
        }
        // What was fetched without a look at the notes is worth keeping too.
        self.shared.write();
        let old = std::mem::replace(&mut *self.shared.state.write(), State::Closed);
        self.shared.settled.send_replace(true);
        if let (State::Ready(database), Some((disk, dir))) = (old, &self.shared.place) {
            let left = database
                .close()
                .map_err(std::io::Error::other)
                .and_then(|()| marker::leave_alone(&**disk, &mark(dir), &files(dir)));
            if let Err(error) = left {
                tracing::warn!("what was noted is forgotten at the next start: {error}");
            }
        }
    }
}

/// The directory of the database.
fn files(index_dir: &Path) -> PathBuf {
    index_dir.join("notes")
}

/// Its marker of a clean end.
fn mark(index_dir: &Path) -> PathBuf {
    index_dir.join("notes.clean")
}

impl Shared {
    fn open(&self) -> Option<Database> {
        let (disk, dir) = self.place.as_ref()?;
        let files = files(dir);
        let fresh = || {
            let emptied = disk.remove_tree(&files);
            emptied.and_then(|()| disk.make_dirs(dir))
        };
        let clean = marker::take_alone(&**disk, &mark(dir), &files);
        let opened = clean.then(|| Database::open(&files).ok()).flatten();
        if opened.is_some() {
            return opened;
        }
        let made = fresh()
            .map_err(|error| error.to_string())
            .and_then(|()| Database::open(&files).map_err(|error| error.to_string()));
        made.map_err(|why| tracing::warn!("notes are not kept: {why}"))
            .ok()
    }

    fn find(&self, subject: &Subject) -> Option<Note> {
        if let Some(note) = self.gathered.lock().get(subject) {
            return Some(*note);
        }
        if let Some(note) = self.leaving.lock().get(subject) {
            return Some(*note);
        }
        let found = match &*self.state.read() {
            State::Ready(database) => database.find_chunk(0, subject.bucket()),
            State::Idle | State::Opening | State::Closed => return None,
        };
        match found {
            Ok(bytes) => bucket::find(&bytes?, subject),
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    /// Writes what was gathered, if the database is open.
    fn write(&self) {
        let _one = self.writing.lock();
        if !matches!(*self.state.read(), State::Ready(_)) {
            return;
        }
        let leaving = {
            let mut gathered = self.gathered.lock();
            let mut leaving = self.leaving.lock();
            *leaving = Arc::new(std::mem::take(&mut *gathered));
            Arc::clone(&leaving)
        };
        let mut buckets: BTreeMap<usize, Vec<(Subject, Note)>> = BTreeMap::new();
        for (subject, note) in &*leaving {
            let bucket = buckets.entry(subject.bucket()).or_default();
            bucket.push((*subject, *note));
        }
        let written = match &*self.state.read() {
            State::Ready(database) => buckets
                .iter()
                .try_for_each(|(bucket, notes)| write_bucket(database, *bucket, notes)),
            State::Idle | State::Opening | State::Closed => Ok(()),
        };
        *self.leaving.lock() = Arc::default();
        if let Err(error) = written {
            self.fail(&error);
        }
    }

    /// Does without the database until the next start, which makes a new one.
    fn fail(&self, error: &IndexError) {
        tracing::warn!("notes are not kept any more: {error}");
        let old = std::mem::replace(&mut *self.state.write(), State::Closed);
        // A database that failed may hang when it is closed.
        std::mem::forget(old);
    }
}

fn write_bucket(
    database: &Database,
    number: usize,
    notes: &[(Subject, Note)],
) -> Result<(), IndexError> {
    let old = database.find_chunk(0, number)?;
    match bucket::merge(old.as_deref().unwrap_or_default(), notes) {
        Some(bytes) => database.put_chunk(0, number, bytes),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{DAG_PB, SHA2_256, hash};
    use crate::disk::RealDisk;

    fn cid(seed: u32) -> Cid {
        Cid::new_v1(DAG_PB, hash(SHA2_256, &seed.to_le_bytes()).unwrap())
    }

    fn note(seed: u32) -> Note {
        [seed as u8; NOTE_BYTES]
    }

    fn open(dir: &Path) -> Notes {
        Notes::new(Arc::new(RealDisk), dir.to_owned())
    }

    #[tokio::test]
    async fn notes_outlive_a_clean_end_and_are_bounded_while_they_gather() {
        let dir = tempfile::tempdir().unwrap();
        let notes = open(dir.path());
        assert_eq!(notes.get(&cid(0)).await, None);
        let count = 3 * NOTES_GATHERED_MAX as u32;
        for seed in 0..count {
            notes.put(&cid(seed), note(seed));
        }
        assert!(notes.shared.gathered.lock().len() <= 2 * NOTES_GATHERED_MAX);
        notes.put(&cid(count), note(9));
        notes.close();
        let notes = open(dir.path());
        let mut kept = 0;
        for seed in 0..count {
            let found = notes.get(&cid(seed)).await;
            assert!(found.is_none_or(|found| found == note(seed)));
            kept += u32::from(found.is_some());
        }
        assert!(kept > count / 4, "{kept} of {count}");
        notes.close();
    }

    #[tokio::test]
    async fn after_an_end_that_was_not_clean_they_are_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let notes = open(dir.path());
        notes.get(&cid(1)).await;
        notes.put(&cid(1), note(1));
        notes.close();
        for damage in ["marker", "file"] {
            if damage == "marker" {
                std::fs::remove_file(mark(dir.path())).unwrap();
            } else {
                let db = files(dir.path()).join("db");
                let mut bytes = std::fs::read(&db).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&db, bytes).unwrap();
            }
            let notes = open(dir.path());
            assert_eq!(notes.get(&cid(1)).await, None, "{damage}");
            notes.put(&cid(1), note(1));
            notes.close();
            let notes = open(dir.path());
            assert_eq!(notes.get(&cid(1)).await, Some(note(1)), "{damage}");
            assert!(!mark(dir.path()).exists(), "taken away while it is open");
            notes.close();
        }
    }
}
