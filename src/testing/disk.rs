//! A disk that fails as it is told.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, DiskEntry, DiskFile, RealDisk, Ring};

/// What is done to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A file is made.
    Create,
    /// A file is opened or read whole.
    Open,
    /// Bytes are appended.
    Append,
    /// Bytes are read.
    Read,
    /// A file is synced.
    Sync,
    /// A file is cut off.
    Cut,
    /// Space is set aside for a file.
    Reserve,
    /// A file is renamed, removed, or a directory is synced.
    Name,
}

/// What happens instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The error with this number: `libc::EIO`, `libc::ENOSPC`.
    Errno(i32),
    /// An append takes this many bytes and then fails with the error.
    Short(usize, i32),
    /// A read gives bytes of which the first is changed.
    Flip,
    /// It takes so long, and then goes well.
    Slow(std::time::Duration),
}

struct Rule {
    op: Op,
    path: String,
    /// Matching calls that pass first.
    after: u64,
    /// Matching calls that are hit then.
    times: u64,
    effect: Effect,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    /// Calls that change something, until every further one fails.
    changes_left: Option<u64>,
    changes: u64,
    free_bytes: Option<u64>,
}

/// The real disk behind rules. Clones share them.
#[derive(Clone, Default)]
pub struct FaultDisk {
    state: Arc<Mutex<State>>,
}

impl FaultDisk {
    /// Makes a disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls of `op` on paths that contain `path` meet `effect`: `times` of
    /// them, after `after` that pass.
    pub fn fail(&self, op: Op, path: &str, after: u64, times: u64, effect: Effect) {
        self.state.lock().rules.push(Rule {
            op,
            path: path.to_owned(),
            after,
            times,
            effect,
        });
    }

    /// Takes all rules back.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.rules.clear();
        state.changes_left = None;
    }

    /// After so many calls that change something, every further one fails, as
    /// if the process had ended there.
    pub fn stop_after(&self, changes: u64) {
        self.state.lock().changes_left = Some(changes);
    }

    /// How many calls changed something so far.
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// What the disk says that is free.
    pub fn set_free(&self, bytes: Option<u64>) {
        self.state.lock().free_bytes = bytes;
    }

    fn meet(&self, op: Op, path: &Path) -> io::Result<Option<Effect>> {
        let effect = self.effect(op, path)?;
        if let Some(Effect::Slow(time)) = effect {
            std::thread::sleep(time);
            return Ok(None);
        }
        Ok(effect)
    }

    fn effect(&self, op: Op, path: &Path) -> io::Result<Option<Effect>> {
        let mut state = self.state.lock();
        if !matches!(op, Op::Open | Op::Read) {
            state.changes += 1;
            if let Some(left) = &mut state.changes_left {
                if *left == 0 {
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                *left -= 1;
            }
        }
        let path = path.to_string_lossy();
        for rule in &mut state.rules {
            let hit = rule.op == op && path.contains(&rule.path);
            if !hit || rule.times == 0 {
                continue;
            }
            if rule.after > 0 {
                rule.after -= 1;
                continue;
            }
            rule.times -= 1;
            return match rule.effect {
                Effect::Errno(code) => Err(io::Error::from_raw_os_error(code)),
                effect @ (Effect::Short(..) | Effect::Flip | Effect::Slow(_)) => Ok(Some(effect)),
            };
        }
        Ok(None)
    }

    fn wrap(&self, path: &Path, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultFile {
            disk: self.clone(),
            path: path.to_owned(),
            inner,
        })
    }
}

impl Disk for FaultDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.meet(Op::Create, path)?;
        Ok(self.wrap(path, RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.meet(Op::Open, path)?;
        Ok(self.wrap(path, RealDisk.open(path)?))
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        self.meet(Op::Open, path)?;
        RealDisk.read(path, bytes_max)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        RealDisk.list(dir)
    }

    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        RealDisk.make_dirs(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.meet(Op::Name, to)?;
        RealDisk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.meet(Op::Name, to)?;
        RealDisk.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.meet(Op::Name, path)?;
        RealDisk.remove(path)
    }

    fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        self.meet(Op::Name, dir)?;
        RealDisk.remove_tree(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.meet(Op::Name, dir)?;
        RealDisk.sync_dir(dir)
    }

    fn write_again(&self, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.meet(Op::Append, path)?;
        RealDisk.write_again(path, bytes, offset)
    }

    fn ring(&self, path: &Path, len: u64) -> io::Result<Option<Arc<dyn Ring>>> {
        self.meet(Op::Open, path)?;
        RealDisk.ring(path, len)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let said = self.state.lock().free_bytes;
        said.map_or_else(|| RealDisk.free_bytes(dir), Ok)
    }
}

struct FaultFile {
    disk: FaultDisk,
    path: PathBuf,
    inner: Arc<dyn DiskFile>,
}

impl DiskFile for FaultFile {
    fn append(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(Effect::Short(mut left, code)) = self.disk.meet(Op::Append, &self.path)? else {
            return self.inner.append(parts);
        };
        for part in parts {
            let taken = part.get(..left.min(part.len())).unwrap_or_default();
            crate::disk::append_all(&*self.inner, &mut [IoSlice::new(taken)])?;
            left -= taken.len();
        }
        Err(io::Error::from_raw_os_error(code))
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let effect = self.disk.meet(Op::Read, &self.path)?;
        let count = self.inner.read_at(out, offset)?;
        if effect == Some(Effect::Flip)
            && let Some(byte) = out.first_mut()
        {
            *byte ^= 1;
        }
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.disk.meet(Op::Cut, &self.path)?;
        self.inner.cut(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.disk.meet(Op::Reserve, &self.path)?;
        self.inner.reserve(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.meet(Op::Sync, &self.path)?;
        self.inner.sync()
    }

    fn start_writing(&self, from: u64, len: u64) {
        self.inner.start_writing(from, len);
    }
}
