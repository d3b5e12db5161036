//! A disk in memory that loses power and is killed.
//!
//! What was synced survives a [`crash`](SimDisk::crash). Of what was not, any
//! part may: of a file's bytes each sector by itself, behind a length that may
//! be any length that the file has had since; of names each creation, renaming
//! and removal by itself. Directories are there once they were made. After a
//! [`kill`](SimDisk::kill) all of it is there. A sync that is made to
//! [fail](SimDisk::fail_syncs) leaves as Linux does what it should have saved: it reads as before,
//! no later sync saves it, and a power loss takes it, unless it is written again. Rings, which are had on demand, are
//! there after both, and after a power loss say that it is another boot.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::disk::{Disk, DiskEntry, DiskFile, Ring};

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    let_go: Arc<Condvar>,
}

/// How often something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimCounts {
    /// All that changes something or makes a change last.
    pub changes: u64,
    /// Appends to files.
    pub appends: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of directories.
    pub dir_syncs: u64,
}

#[derive(Default)]
struct State {
    /// Names as they are now.
    names: BTreeMap<PathBuf, FileId>,
    dirs: BTreeSet<PathBuf>,
    files: Vec<SimFileState>,
    /// Changes to names that a power loss may take back, in order.
    unsynced_names: Vec<NameChange>,
    /// Names as they were synced.
    synced_names: BTreeMap<PathBuf, FileId>,
    counts: SimCounts,
    stop_at: Option<u64>,
    bytes_max: Option<u64>,
    /// None where there are no rings.
    rings: Option<BTreeMap<PathBuf, Vec<u8>>>,
    boot: u64,
    /// Whether appends wait.
    held: bool,
    /// Syncs of files whose path contains this fail.
    failing: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(usize);

#[derive(Clone, Default)]
struct SimFileState {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// The shortest and the longest that it was since it was synced.
    len_min: usize,
    len_max: usize,
    /// Space that was set aside beyond the bytes.
    reserved: u64,
    /// Bytes that a failed sync has lost: they read as if they were there.
    lost: Vec<Range<usize>>,
}

impl SimFileState {
    fn space(&self) -> u64 {
        self.reserved.max(self.bytes.len() as u64)
    }

    fn settle(&mut self) {
        let before = std::mem::replace(&mut self.synced, self.bytes.clone());
        for range in &self.lost {
            for at in range.clone() {
                if let Some(byte) = self.synced.get_mut(at) {
                    *byte = before.get(at).copied().unwrap_or_default();
                }
            }
            if range.end >= self.bytes.len() {
                self.synced.truncate(range.start.max(before.len()));
            }
        }
        self.len_min = self.synced.len();
        self.len_max = self.synced.len();
    }

    /// A sync that fails: what it should have saved counts as saved.
    fn lose(&mut self) {
        let kept = self.synced.len().min(self.len_min);
        self.lost.push(kept..self.bytes.len());
    }

    /// Saved again by the next sync.
    fn find(&mut self, found: &Range<usize>) {
        let rest = self.lost.iter().flat_map(|lost| {
            [
                lost.start..lost.end.min(found.start),
                lost.start.max(found.end)..lost.end,
            ]
        });
        self.lost = rest.filter(|range| range.start < range.end).collect();
    }

    fn is_lost(&self, at: usize) -> bool {
        self.lost.iter().any(|range| range.contains(&at))
    }
}

#[derive(Debug, Clone)]
enum NameChange {
    Put(PathBuf, FileId),
    Gone(PathBuf),
    /// From, to: both at once, as a journaling filesystem does it.
    Move(PathBuf, PathBuf, FileId),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, FileId>) {
        match self {
            Self::Put(path, id) => drop(names.insert(path.clone(), *id)),
            Self::Gone(path) => drop(names.remove(path)),
            Self::Move(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Put(path, _) | Self::Gone(path) | Self::Move(_, path, _)) = self;
        path.parent() == Some(dir)
    }
}

impl State {
    /// Counts a change, or fails if the disk is to stop there.
    fn change(&mut self) -> io::Result<()> {
        if self.stop_at.is_some_and(|stop| self.counts.changes >= stop) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.counts.changes += 1;
        Ok(())
    }

    fn id(&self, path: &Path) -> io::Result<FileId> {
        let id = self.names.get(path).copied();
        id.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, id: FileId) -> io::Result<&mut SimFileState> {
        let file = self.files.get_mut(id.0);
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_failing(&self, id: FileId) -> bool {
        self.failing.as_ref().is_some_and(|part| {
            let mut names = self.names.iter();
            names.any(|(path, named)| *named == id && path.to_string_lossy().contains(part))
        })
    }

    fn free(&self) -> u64 {
        let Some(bytes_max) = self.bytes_max else {
            return u64::MAX;
        };
        let named = self.names.values().filter_map(|id| self.files.get(id.0));
        bytes_max.saturating_sub(named.map(SimFileState::space).sum())
    }

    fn rename_one(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }
}

impl SimDisk {
    /// Makes an empty disk without an end.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives it rings. What is done with them counts as a change.
    pub fn with_rings(self) -> Self {
        self.state.lock().rings.get_or_insert_default();
        self
    }

    /// Makes appends wait, or lets them go.
    pub fn hold(&self, held: bool) {
        self.state.lock().held = held;
        self.let_go.notify_all();
    }

    /// How often something was done so far.
    pub fn counts(&self) -> SimCounts {
        self.state.lock().counts
    }

    /// After so many changes, counted from the beginning, every further one
    /// fails. None takes it back.
    pub fn stop_at(&self, changes: Option<u64>) {
        self.state.lock().stop_at = changes;
    }

    /// Makes syncs of files fail whose path contains `path`; of no file with none.
    pub fn fail_syncs(&self, path: Option<&str>) {
        self.state.lock().failing = path.map(str::to_owned);
    }

    /// Sets how many bytes the disk holds, with space that is set aside.
    pub fn set_bytes_max(&self, bytes_max: Option<u64>) {
        self.state.lock().bytes_max = bytes_max;
    }

    /// Changes a byte of a file: damage.
    pub fn flip(&self, path: &Path, offset: usize) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.id(path)?;
        let file = state.file(id)?;
        for bytes in [&mut file.bytes, &mut file.synced] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 0x10;
            }
        }
        Ok(())
    }

    /// The disk as the next process finds it when this one is killed: all that
    /// was done is there. This disk stops.
    pub fn kill(&self) -> Self {
        let mut state = self.state.lock();
        state.stop_at = Some(0);
        self.let_go.notify_all();
        let next = State {
            names: state.names.clone(),
            dirs: state.dirs.clone(),
            files: state.files.clone(),
            unsynced_names: state.unsynced_names.clone(),
            synced_names: state.synced_names.clone(),
            bytes_max: state.bytes_max,
            rings: state.rings.clone(),
            boot: state.boot,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(next)),
            let_go: Arc::default(),
        }
    }

    /// A copy of the disk as it is. This one goes on.
    pub fn fork(&self) -> Self {
        let stop_at = self.state.lock().stop_at;
        let copy = self.kill();
        self.stop_at(stop_at);
        copy
    }

    /// The disk as it may be after a power loss, one of many. This disk stops.
    pub fn crash(&self, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut state = self.state.lock();
        state.stop_at = Some(0);
        self.let_go.notify_all();
        let mut names = state.synced_names.clone();
        // Some crashes keep all names and some none, so that neither is rare.
        let odds = one_of([0.0, 0.5, 0.5, 1.0], &mut rng);
        for change in &state.unsynced_names {
            if rng.random_bool(odds) {
                change.apply(&mut names);
            }
        }
        let mut files = state.files.clone();
        for file in &mut files {
            file.bytes = after_power_loss(file, &mut rng);
            file.reserved = 0;
            file.lost.clear();
            file.settle();
        }
        let next = State {
            synced_names: names.clone(),
            names,
            dirs: state.dirs.clone(),
            files,
            bytes_max: state.bytes_max,
            rings: state.rings.clone(),
            boot: state.boot + 1,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(next)),
            let_go: Arc::default(),
        }
    }

    fn handle(&self, id: FileId) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            disk: self.clone(),
            id,
        })
    }
}

fn one_of(choices: [f64; 4], rng: &mut StdRng) -> f64 {
    choices.choose(rng).copied().unwrap_or_default()
}

/// What a file may have: bytes that were synced, and of the others any sectors.
fn after_power_loss(file: &SimFileState, rng: &mut StdRng) -> Vec<u8> {
    let kept = file.synced.len().min(file.len_min);
    let longest = file.len_max.max(file.synced.len());
    let len = match rng.random_range(0..5) {
        0 => kept,
        1 => file.bytes.len().max(kept),
        2 => file.synced.len(),
        _ => rng.random_range(kept..=longest),
    };
    let odds = one_of([0.0, 0.5, 0.9, 1.0], rng);
    let mut out = vec![0; len];
    for start in (0..len).step_by(SECTOR_BYTES) {
        let end = (start + SECTOR_BYTES).min(len);
        let written = rng.random_bool(odds);
        // A sector that was being written may be so in part.
        let torn = rng.random_bool(0.1).then(|| rng.random_range(start..=end));
        for at in start..end {
            let new = written && torn.is_none_or(|torn| at < torn) && !file.is_lost(at);
            let byte = if at < kept || !new {
                file.synced.get(at).filter(|_| at < kept || !new)
            } else {
                file.bytes.get(at)
            };
            if let (Some(byte), Some(place)) = (byte, out.get_mut(at)) {
                *place = *byte;
            }
        }
    }
    out
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.change()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        if !state.dirs.contains(parent) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let id = FileId(state.files.len());
        state.files.push(SimFileState::default());
        state.rename_one(NameChange::Put(path.to_owned(), id));
        drop(state);
        Ok(self.handle(id))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.state.lock().id(path)?;
        Ok(self.handle(id))
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut state = self.state.lock();
        let id = state.id(path)?;
        let bytes = state.file(id)?.bytes.clone();
        if bytes.len() > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        let state = self.state.lock();
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.iter().filter(|(p, _)| p.parent() == Some(dir));
        let entry = |(path, id): (&PathBuf, &FileId)| {
            Some(DiskEntry {
                name: path.file_name()?.to_owned(),
                len: state.files.get(id.0)?.bytes.len() as u64,
            })
        };
        Ok(inside.filter_map(entry).collect())
    }

    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.dirs.contains(dir) {
            return Ok(());
        }
        state.change()?;
        for above in dir.ancestors() {
            state.dirs.insert(above.to_owned());
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let id = state.id(from)?;
        state.rename_one(NameChange::Move(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let id = state.id(from)?;
        if state.id(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.rename_one(NameChange::Put(to.to_owned(), id));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.id(path)?;
        state.rename_one(NameChange::Gone(path.to_owned()));
        Ok(())
    }

    fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let inside: Vec<_> = state
            .names
            .keys()
            .filter(|p| p.starts_with(dir))
            .cloned()
            .collect();
        for path in inside {
            state.rename_one(NameChange::Gone(path));
        }
        state.dirs.retain(|known| !known.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.counts.dir_syncs += 1;
        let changes = std::mem::take(&mut state.unsynced_names);
        let (synced, rest): (Vec<_>, Vec<_>) = changes.into_iter().partition(|c| c.is_in(dir));
        for change in synced {
            change.apply(&mut state.synced_names);
        }
        state.unsynced_names = rest;
        Ok(())
    }

    fn write_again(&self, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let id = state.id(path)?;
        let place = offset as usize..offset as usize + bytes.len();
        let file = state.file(id)?;
        let same = file.bytes.get(place.clone()) == Some(bytes);
        assert!(same, "what is written again is what is there");
        file.find(&place);
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.state.lock().free())
    }

    fn ring(&self, path: &Path, len: u64) -> io::Result<Option<Arc<dyn Ring>>> {
        let mut state = self.state.lock();
        let boot = u128::from(state.boot).to_be_bytes();
        let Some(rings) = &mut state.rings else {
            return Ok(None);
        };
        let ring = rings.entry(path.to_owned()).or_default();
        ring.resize(ring.len().max(len as usize), 0);
        Ok(Some(Arc::new(SimRing {
            disk: self.clone(),
            path: path.to_owned(),
            boot,
        })))
    }
}

struct SimRing {
    disk: SimDisk,
    path: PathBuf,
    boot: [u8; 16],
}

impl SimRing {
    fn part<'a>(&self, state: &'a mut State, offset: u64, len: usize) -> Option<&'a mut [u8]> {
        let ring = state.rings.as_mut()?.get_mut(&self.path)?;
        ring.get_mut(offset as usize..offset as usize + len)
    }
}

impl Ring for SimRing {
    fn boot(&self) -> [u8; 16] {
        self.boot
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.change()?;
        let part = self.part(&mut state, offset, bytes.len());
        part.ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let part = self.part(&mut state, offset, out.len());
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    id: FileId,
}

impl DiskFile for SimFile {
    fn append(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        while state.held && state.stop_at != Some(0) {
            self.disk.let_go.wait(&mut state);
        }
        state.change()?;
        state.counts.appends += 1;
        let free = state.free();
        let file = state.file(self.id)?;
        let room = (file.space() - file.bytes.len() as u64).saturating_add(free);
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        let taken = wanted.min(usize::try_from(room).unwrap_or(usize::MAX));
        if taken == 0 && wanted > 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let end = file.bytes.len() + taken;
        for part in parts {
            file.bytes.extend_from_slice(part);
        }
        file.bytes.truncate(end);
        file.len_max = file.len_max.max(end);
        Ok(taken)
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        let file = state.file(self.id)?;
        let rest = file.bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(out.len());
        let (read, _) = out.split_at_mut(count);
        read.copy_from_slice(rest.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state.lock().file(self.id)?.bytes.len() as u64)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.change()?;
        let file = state.file(self.id)?;
        file.bytes.resize(len as usize, 0);
        file.find(&(len as usize..usize::MAX));
        file.reserved = 0;
        file.len_min = file.len_min.min(len as usize);
        Ok(())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.change()?;
        let free = state.free();
        let file = state.file(self.id)?;
        if len.saturating_sub(file.space()) > free {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        file.reserved = file.reserved.max(len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.change()?;
        state.counts.syncs += 1;
        if state.is_failing(self.id) {
            state.file(self.id)?.lose();
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        state.file(self.id)?.settle();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> SimDisk {
        let disk = SimDisk::new();
        disk.make_dirs(Path::new("/d")).unwrap();
        disk
    }

    fn append(file: &dyn DiskFile, bytes: &[u8]) {
        assert_eq!(file.append(&[IoSlice::new(bytes)]).unwrap(), bytes.len());
    }

    /// What a file has after each of many power losses; none if it is gone.
    fn outcomes(disk: &SimDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
        let after = |seed| disk.crash(seed).read(Path::new(path), 1 << 20).ok();
        (0..400).map(after).collect()
    }

    #[test]
    fn what_was_synced_is_there_and_of_the_rest_any_part_may_be() {
        let disk = disk();
        let file = disk.create(Path::new("/d/a")).unwrap();
        append(&*file, &[1; 600]);
        file.sync().unwrap();
        append(&*file, &[2; 1500]);
        disk.sync_dir(Path::new("/d")).unwrap();
        let outcomes = outcomes(&disk, "/d/a");
        let outcomes: Vec<_> = outcomes.into_iter().map(Option::unwrap).collect();
        assert!(outcomes.iter().all(|bytes| bytes[..600] == [1; 600]));
        let whole = [vec![1; 600], vec![2; 1500]].concat();
        let any = |what: &str, is: &dyn Fn(&[u8]) -> bool| {
            assert!(outcomes.iter().any(|bytes| is(bytes)), "never {what}");
        };
        any("nothing", &|b| b.len() == 600);
        any("everything", &|b| b == whole);
        any("a hole", &|b| {
            b.len() == 2100 && b[1100] == 0 && b[2050] == 2
        });
        any("a torn sector", &|b| {
            b.get(1030) == Some(&2) && b.get(1400) == Some(&0)
        });
        any("some length", &|b| b.len() > 600 && b.len() < 2000);
        assert_eq!(outcomes.iter().filter(|b| b.len() > 2100).count(), 0);
    }

    #[test]
    fn what_was_cut_off_and_not_synced_may_come_back() {
        let disk = disk();
        let file = disk.create(Path::new("/d/a")).unwrap();
        append(&*file, &[1; 600]);
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.cut(10).unwrap();
        let lens: BTreeSet<_> = outcomes(&disk, "/d/a")
            .iter()
            .map(|b| b.as_ref().unwrap().len())
            .collect();
        assert!(lens.contains(&10) && lens.contains(&600), "{lens:?}");
    }

    #[test]
    fn names_are_certain_only_after_their_directory_was_synced() {
        let disk = disk();
        for name in ["/d/kept", "/d/gone", "/d/from"] {
            disk.create(Path::new(name)).unwrap();
        }
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.create(Path::new("/d/new")).unwrap();
        disk.remove(Path::new("/d/gone")).unwrap();
        disk.rename(Path::new("/d/from"), Path::new("/d/to"))
            .unwrap();
        let listed = |disk: &SimDisk| {
            let entries = disk.list(Path::new("/d")).unwrap();
            let names = entries
                .into_iter()
                .map(|entry| entry.name.into_string().unwrap());
            names.collect::<Vec<_>>().join(" ")
        };
        let seen: BTreeSet<_> = (0..200).map(|seed| listed(&disk.crash(seed))).collect();
        // Each of three changes, or not.
        assert_eq!(seen.len(), 8, "{seen:?}");
        assert!(seen.contains("from gone kept") && seen.contains("kept new to"));
        let killed = disk.kill();
        assert_eq!(listed(&killed), "kept new to");
        killed.sync_dir(Path::new("/d")).unwrap();
        assert!((0..20).all(|seed| listed(&killed.crash(seed)) == "kept new to"));
    }

    #[test]
    fn a_disk_that_stops_does_nothing_more_and_reads_on() {
        let disk = disk();
        let file = disk.create(Path::new("/d/a")).unwrap();
        let so_far = disk.counts().changes;
        disk.stop_at(Some(so_far + 1));
        append(&*file, b"one");
        assert!(file.append(&[IoSlice::new(b"two")]).is_err());
        assert!(file.sync().is_err() && file.cut(0).is_err() && file.reserve(9).is_err());
        assert!(disk.create(Path::new("/d/b")).is_err());
        assert!(disk.remove(Path::new("/d/a")).is_err());
        assert!(disk.sync_dir(Path::new("/d")).is_err());
        assert_eq!(disk.read(Path::new("/d/a"), 9).unwrap(), b"one");
    }

    #[test]
    fn what_a_failed_sync_has_lost_is_read_until_power_is_lost_unless_it_is_written_again() {
        let disk = disk();
        let file = disk.create(Path::new("/d/a")).unwrap();
        append(&*file, &[1; 600]);
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        append(&*file, &[2; 600]);
        disk.fail_syncs(Some("/d/a"));
        assert!(file.sync().is_err());
        disk.fail_syncs(None);
        append(&*file, &[3; 600]);
        file.sync().expect("the system takes it for written");
        let read = disk.read(Path::new("/d/a"), 1 << 20).unwrap();
        let whole = [[1; 600], [2; 600], [3; 600]].concat();
        assert_eq!(read, whole);
        let holed = [[1; 600], [0; 600], [3; 600]].concat();
        assert_eq!(outcomes(&disk, "/d/a"), BTreeSet::from([Some(holed)]));
        let next = disk.kill();
        next.write_again(Path::new("/d/a"), &[2; 600], 600).unwrap();
        next.open(Path::new("/d/a")).unwrap().sync().unwrap();
        assert_eq!(outcomes(&next, "/d/a"), BTreeSet::from([Some(whole)]));
    }

    #[test]
    fn space_is_set_aside_and_found_missing() {
        let disk = disk();
        disk.set_bytes_max(Some(1000));
        let file = disk.create(Path::new("/d/a")).unwrap();
        file.reserve(800).unwrap();
        assert_eq!(
            (
                file.len().unwrap(),
                disk.free_bytes(Path::new("/d")).unwrap()
            ),
            (0, 200)
        );
        let other = disk.create(Path::new("/d/b")).unwrap();
        let full = other.reserve(300).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(other.append(&[IoSlice::new(&[1; 300])]).unwrap(), 200);
        assert!(other.append(&[IoSlice::new(&[1; 1])]).is_err());
        append(&*file, &[2; 800]);
        disk.remove(Path::new("/d/b")).unwrap();
        append(&*file, &[2; 200]);
    }
}
