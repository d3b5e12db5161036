//! The disk as the repository sees it: the seam where tests inject faults.
//!
//! Files are appended to and read at offsets; nothing is ever overwritten,
//! except in a [`Ring`], which is never synced, and by [`Disk::write_again`],
//! which changes nothing.
//! What was appended survives a power loss once [`DiskFile::sync`] returned,
//! a new or renamed name once [`Disk::sync_dir`] did.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskEntry {
    /// The name.
    pub name: OsString,
    /// Length of the file.
    pub len: u64,
}

/// Where the repository's files are.
pub trait Disk: Send + Sync + 'static {
    /// Makes a file to append to; an existing one is an error. Mode 0600.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file to read, and to append to.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Reads a whole file of at most `bytes_max`; a longer one is an error.
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>>;

    /// Lists the files (not the directories) of a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>>;

    /// Makes a directory and those above it; existing ones are fine.
    fn make_dirs(&self, dir: &Path) -> io::Result<()>;

    /// Renames over whatever has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name; one that is taken is an error.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that is in it; an absent one is fine.
    fn remove_tree(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory survive a power loss.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Writes bytes again that a file has at a place, so that the next sync takes
    /// them to the disk: after a sync that failed the system takes them for written
    /// (Linux marks the pages clean), and no later sync would. The file stays as it is.
    fn write_again(&self, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Bytes that this user may still write to the disk of `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Opens a ring of at least `len` bytes, or makes one of zeros, with its
    /// space set aside. `None` where that cannot be had.
    fn ring(&self, _path: &Path, _len: u64) -> io::Result<Option<Arc<dyn Ring>>> {
        Ok(None)
    }
}

/// A file of one length that is written over in place. What is in it outlives
/// the process, and is not to be believed once the machine was off.
pub trait Ring: Send + Sync {
    /// Names the time since the machine was started.
    fn boot(&self) -> [u8; 16];

    /// Writes all of `bytes` at an offset.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills `out` from an offset.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;
}

/// An open file. Shared by threads.
pub trait DiskFile: Send + Sync {
    /// Appends the parts in order and tells how many bytes were taken, which
    /// may be fewer than there are.
    fn append(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Reads at an offset and tells how many bytes came; 0 is the end.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Length of the file.
    fn len(&self) -> io::Result<u64>;

    /// Tells whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file off, as for taking back an append that went wrong.
    fn cut(&self, len: u64) -> io::Result<()>;

    /// Sets disk space aside so that the file can grow to `len`; its length
    /// stays. A full disk is found here and not by an append.
    ///
    /// Where the filesystem cannot set space aside, this only tells whether
    /// there is room now.
    fn reserve(&self, len: u64) -> io::Result<()>;

    /// Makes what was appended survive a power loss.
    fn sync(&self) -> io::Result<()>;

    /// Has the disk begin with `len` bytes from `from`, so that a sync finds
    /// less to do. Advice: nothing is promised and nothing is waited for.
    fn start_writing(&self, _from: u64, _len: u64) {}
}

/// Tells whether an error says that there is no room: of the disk, or of a quota.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Fills `out` from `offset`; an earlier end of the file is an error.
pub fn read_exact_at(file: &dyn DiskFile, out: &mut [u8], mut offset: u64) -> io::Result<()> {
    let mut rest = out;
    while !rest.is_empty() {
        match file.read_at(rest, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                rest = rest.get_mut(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends all of the parts, or fails with some of them appended.
pub fn append_all(file: &dyn DiskFile, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    let mut rest = parts;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.append(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Replaces a file as a whole, durably: after a crash it is the old one or the new one.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    match disk.remove(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(beside)?;
    append_all(&*file, &mut [IoSlice::new(bytes)])?;
    file.sync()?;
    disk.rename(beside, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// The disk of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).append(true).open(path);
        let read_only = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            )
        };
        let file = match file {
            Err(error) if read_only(&error) => File::open(path)?,
            other => other?,
        };
        Ok(Arc::new(RealFile(file)))
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        File::open(path)?
            .take(bytes_max as u64 + 1)
            .read_to_end(&mut out)?;
        if out.len() > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(out)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Removed or renamed since its name was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if metadata.is_file() {
                entries.push(DiskEntry {
                    name: entry.file_name(),
                    len: metadata.len(),
                });
            }
        }
        Ok(entries)
    }

    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn write_again(&self, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        // Not to append: Linux would append whatever the offset is.
        OpenOptions::new()
            .write(true)
            .open(path)?
            .write_all_at(bytes, offset)
    }

    #[expect(unsafe_code, reason = "statvfs has no safe face in std")]
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
        let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `path` ends with NUL and `stat` has room for what is written.
        if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: statvfs said that it filled it.
        let stat = unsafe { stat.assume_init() };
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn ring(&self, path: &Path, len: u64) -> io::Result<Option<Arc<dyn Ring>>> {
        let ring = RealRing::open(path, len)?;
        Ok(ring.map(|ring| Arc::new(ring) as Arc<dyn Ring>))
    }
}

/// Where Linux names the time since it was started: a UUID in text.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

struct RealRing {
    file: File,
    boot: [u8; 16],
}

impl RealRing {
    fn open(path: &Path, len: u64) -> io::Result<Option<Self>> {
        use rustix::fs::{FallocateFlags, fallocate};
        let text = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let Ok(boot) = u128::from_str_radix(&digits, 16) else {
            return Ok(None);
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(path)?;
        // Not a hole: a full disk is found now, and not by a write.
        rustix::io::retry_on_intr(|| fallocate(&file, FallocateFlags::empty(), 0, len))?;
        let boot = boot.to_be_bytes();
        Ok(Some(Self { file, boot }))
    }
}

impl Ring for RealRing {
    fn boot(&self) -> [u8; 16] {
        self.boot
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn append(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.0).write_vectored(parts)
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, out, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
        use rustix::io::Errno;
        match rustix::io::retry_on_intr(|| fallocate(&self.0, FallocateFlags::KEEP_SIZE, 0, len)) {
            // Of filesystems: they never heard of it, or not of this flag.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            other => return Ok(other?),
        }
        let stat = fstatvfs(&self.0)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < len.saturating_sub(self.len()?) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    #[expect(unsafe_code, reason = "sync_file_range has no safe face")]
    fn start_writing(&self, from: u64, len: u64) {
        let (Ok(from), Ok(len)) = (i64::try_from(from), i64::try_from(len)) else {
            return;
        };
        let file = std::os::fd::AsRawFd::as_raw_fd(&self.0);
        // SAFETY: takes a descriptor that is open and numbers; touches no memory.
        let said = unsafe { libc::sync_file_range(file, from, len, libc::SYNC_FILE_RANGE_WRITE) };
        if said != 0 {
            // What the disk could not take is the sync's to tell.
            tracing::debug!("not begun: {}", io::Error::last_os_error());
        }
    }
}
