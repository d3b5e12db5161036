//! One pack.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::car::{CarError, CarReader, SectionHead};
use crate::disk::DiskFile;

/// Which packs a block belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Written or added here; never evicted.
    Own,
    /// Fetched; may be evicted.
    Cache,
}

impl Tier {
    /// Name of its directory below `packs/`.
    pub(in crate::cache) fn dir(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Cache => "cache",
        }
    }
}

/// A pack's number; cache packs have the highest bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub u32);

/// The bit of a cache pack.
const CACHE_BIT: u32 = 1 << 31;

impl PackId {
    pub(super) fn new(tier: Tier, number: u32) -> Self {
        match tier {
            Tier::Own => Self(number & !CACHE_BIT),
            Tier::Cache => Self(number | CACHE_BIT),
        }
    }

    /// Which packs it is one of.
    pub fn tier(self) -> Tier {
        if self.0 & CACHE_BIT == 0 {
            Tier::Own
        } else {
            Tier::Cache
        }
    }

    pub(super) fn number(self) -> u32 {
        self.0 & !CACHE_BIT
    }

    /// Its file, relative to `packs/`.
    pub fn file(self) -> PathBuf {
        Path::new(self.tier().dir()).join(format!("{:08}.car", self.number()))
    }

    /// The pack that a file of `tier` is.
    pub(super) fn of_file(tier: Tier, path: &Path) -> Option<Self> {
        let number = path.file_name()?.to_str()?.strip_suffix(".car")?;
        let number = number.parse::<u32>().ok().filter(|n| n & CACHE_BIT == 0)?;
        Some(Self::new(tier, number))
    }
}

/// A pack that is open.
pub(in crate::cache) struct Pack {
    pub(in crate::cache) id: PackId,
    pub(in crate::cache) path: PathBuf,
    pub(in crate::cache) file: Arc<dyn DiskFile>,
    len: AtomicU64,
    /// Offsets of the blocks that were proved in this run.
    proved: RwLock<HashSet<u32>>,
    /// The tick of its last use, for eviction.
    pub(in crate::cache) used: AtomicU64,
}

impl Pack {
    pub(super) fn new(id: PackId, path: PathBuf, file: Arc<dyn DiskFile>, len: u64) -> Self {
        let (proved, used) = (RwLock::default(), AtomicU64::new(0));
        Self {
            id,
            path,
            file,
            len: AtomicU64::new(len),
            proved,
            used,
        }
    }

    pub(in crate::cache) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Release);
    }

    pub(in crate::cache) fn is_proved(&self, offset: u32) -> bool {
        self.proved.read().contains(&offset)
    }

    pub(in crate::cache) fn prove(&self, offset: u32) {
        self.proved.write().insert(offset);
    }

    pub(in crate::cache) fn unprove(&self, offset: u32) {
        self.proved.write().remove(&offset);
    }
}

/// Calls `each` with the head of every whole section, and gives where the
/// whole sections end and, if that is not the end of the pack, why.
pub(in crate::cache) fn sections(
    pack: &Pack,
    each: &mut dyn FnMut(&SectionHead) -> io::Result<()>,
) -> io::Result<(u64, Option<CarError>)> {
    let len = pack.len();
    let input = Input {
        file: pack.file.clone(),
        position: 0,
        len,
    };
    let mut reader = match CarReader::with_len(input, len) {
        Ok(reader) => reader,
        Err(error) => return Ok((0, Some(error))),
    };
    loop {
        let next = reader.next_head().and_then(|head| {
            if let Some(head) = &head {
                reader.skip(head)?;
            }
            Ok(head)
        });
        match next {
            Ok(Some(head)) => each(&head)?,
            Ok(None) => return Ok((reader.position(), None)),
            Err(error) => return Ok((reader.position(), Some(error))),
        }
    }
}

/// Reads a pack's file from the beginning, up to the length that is known.
struct Input {
    file: Arc<dyn DiskFile>,
    position: u64,
    len: u64,
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let rest = self.len.saturating_sub(self.position);
        let len = usize::try_from(rest).unwrap_or(usize::MAX).min(out.len());
        let out = out.get_mut(..len).unwrap_or_default();
        self.file.read_at(out, self.position)?;
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
