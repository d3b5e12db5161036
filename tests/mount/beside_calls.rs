//! System calls as the kernel takes them.
//!
//! Who calls, the root directory and the umask are a thread's own here, and the C library would
//! make them those of the whole process.

use std::ffi::CString;
use std::fmt;
use std::io;

/// An error number, or what the call gave.
pub(crate) type Done<T> = Result<T, i32>;

/// Calls the kernel. What stands for an address must be one of memory that outlives the call and
/// is as long as the call takes it to be.
#[allow(unsafe_code)]
pub(crate) fn sys(number: libc::c_long, args: &[usize]) -> Done<i64> {
    let at = |place| args.get(place).copied().unwrap_or(0);
    // SAFETY: all addresses here come from buffers of the callers that outlive the call, with
    // their own lengths, or from a mapping of theirs.
    let done = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    if done == -1 {
        return Err(io::Error::last_os_error().raw_os_error().unwrap());
    }
    Ok(done)
}

/// A descriptor as an argument.
pub(crate) fn arg(fd: i32) -> usize {
    fd as isize as usize
}

pub(crate) fn c(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap()
}

pub(crate) fn addr(text: &CString) -> usize {
    text.as_ptr() as usize
}

/// What `stat` tells, as far as it can be compared: inode numbers, blocks and the sizes of
/// directories are each file system's own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) size: u64,
    pub(crate) rdev: (u32, u32),
    pub(crate) atime: (i64, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
    pub(crate) ino: u64,
}

impl fmt::Debug for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:o} {}:{} nlink {} size {} rdev {:?} a{:?} m{:?} c{:?}",
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.size,
            self.rdev,
            self.atime,
            self.mtime,
            self.ctime
        )
    }
}

/// From when on a time is one that the clock gave in this run.
const CLOCK: std::ops::Range<i64> = 1_700_000_000..4_000_000_000;

fn clock(time: (i64, u32)) -> bool {
    CLOCK.contains(&time.0)
}

impl Stat {
    pub(crate) fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    pub(crate) fn is_fifo(&self) -> bool {
        self.kind() == libc::S_IFIFO
    }

    /// What is different on the mount. Times that the clock gave are only that on both; an access
    /// time that it gave beside is none on the mount, where reading changes none. What goes through
    /// a fifo no FUSE daemon hears of.
    pub(crate) fn against(&self, mount: &Self) -> Option<String> {
        let time = |one: (i64, u32), other: (i64, u32)| one == other || clock(one) && clock(other);
        let same = (self.mode, self.uid, self.gid, self.nlink)
            == (mount.mode, mount.uid, mount.gid, mount.nlink)
            && (self.size, self.rdev) == (mount.size, mount.rdev)
            && (time(self.mtime, mount.mtime) || self.is_fifo() && clock(self.mtime))
            && time(self.ctime, mount.ctime)
            && (clock(self.atime) || self.atime == mount.atime);
        (!same).then(|| format!("beside {self:?}\n    mount  {mount:?}"))
    }
}

/// Of a path below a directory, or of the descriptor itself where it is empty.
pub(crate) fn stat(dir: i32, path: &CString, flags: i32) -> Done<Stat> {
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_BASIC_STATS as usize;
    let args = [
        arg(dir),
        addr(path),
        flags as usize,
        mask,
        found.as_mut_ptr() as usize,
    ];
    sys(libc::SYS_statx, &args)?;
    // SAFETY: it is all zeros where the kernel has not filled it, which is a value.
    #[allow(unsafe_code)]
    let found = unsafe { found.assume_init() };
    let time = |at: libc::statx_timestamp| (at.tv_sec, at.tv_nsec);
    let mode = u32::from(found.stx_mode);
    let dir = mode & libc::S_IFMT == libc::S_IFDIR;
    Ok(Stat {
        mode,
        uid: found.stx_uid,
        gid: found.stx_gid,
        nlink: found.stx_nlink,
        size: if dir { 0 } else { found.stx_size },
        rdev: (found.stx_rdev_major, found.stx_rdev_minor),
        atime: time(found.stx_atime),
        mtime: time(found.stx_mtime),
        ctime: time(found.stx_ctime),
        ino: found.stx_ino,
    })
}

pub(crate) fn fstat(fd: i32) -> Done<Stat> {
    stat(fd, &c(b""), libc::AT_EMPTY_PATH)
}

pub(crate) fn open(dir: i32, path: &CString, flags: i32, mode: u32) -> Done<i32> {
    let flags = flags | libc::O_CLOEXEC;
    let args = [arg(dir), addr(path), flags as usize, mode as usize];
    sys(libc::SYS_openat, &args).map(|fd| fd as i32)
}

pub(crate) fn close(fd: i32) {
    sys(libc::SYS_close, &[arg(fd)]).unwrap();
}

/// As much as there is of `len` bytes.
pub(crate) fn pread(fd: i32, off: i64, len: usize) -> Done<Vec<u8>> {
    let mut bytes = vec![0xaa; len];
    let mut read = 0;
    while read < len {
        let to = bytes.as_mut_ptr() as usize + read;
        let args = [arg(fd), to, len - read, (off + read as i64) as usize];
        match sys(libc::SYS_pread64, &args)? {
            0 => break,
            more => read += more as usize,
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

pub(crate) fn pwrite(fd: i32, off: i64, bytes: &[u8]) -> Done<i64> {
    let args = [arg(fd), bytes.as_ptr() as usize, bytes.len(), off as usize];
    sys(libc::SYS_pwrite64, &args)
}

pub(crate) fn lseek(fd: i32, off: i64, whence: i32) -> Done<i64> {
    sys(
        libc::SYS_lseek,
        &[arg(fd), off as usize, whence as isize as usize],
    )
}

/// One name of a directory: what it is called, its number and its type.
pub(crate) type Entry = (Vec<u8>, u64, u8);

/// All entries but `.` and `..`, by name.
pub(crate) fn entries(dir: i32) -> Done<Vec<Entry>> {
    let mut found = Vec::new();
    let mut room = vec![0u8; 32 << 10];
    loop {
        let args = [arg(dir), room.as_mut_ptr() as usize, room.len()];
        let len = sys(libc::SYS_getdents64, &args)? as usize;
        if len == 0 {
            break;
        }
        let mut rest = &room[..len];
        // Of each: number, cookie, length, type, name and a NUL.
        while !rest.is_empty() {
            let ino = u64::from_ne_bytes(rest[..8].try_into().unwrap());
            let len = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let name = rest[19..len].split(|byte| *byte == 0).next().unwrap();
            if name != b"." && name != b".." {
                found.push((name.to_vec(), ino, rest[18]));
            }
            rest = &rest[len..];
        }
    }
    found.sort();
    Ok(found)
}

/// What is said to be a hole is zeros, and positions go upwards to the end; else what is wrong.
pub(crate) fn holes(fd: i32, from: i64, bytes: &[u8]) -> Done<Option<String>> {
    let (here, end) = (lseek(fd, 0, libc::SEEK_CUR)?, bytes.len() as i64);
    let sound = find_holes(fd, from, end, bytes);
    lseek(fd, here, libc::SEEK_SET)?;
    sound
}

fn find_holes(fd: i32, from: i64, end: i64, bytes: &[u8]) -> Done<Option<String>> {
    let mut at = from;
    loop {
        let data = match lseek(fd, at, libc::SEEK_DATA) {
            Err(libc::ENXIO) if (0..end).contains(&at) => end,
            other => other?,
        };
        if data < at || data > end {
            return Ok(Some(format!("data at {data} from {at} of {end}")));
        }
        let hole = &bytes[at as usize..data as usize];
        if let Some(place) = hole.iter().position(|byte| *byte != 0) {
            let place = at as usize + place;
            return Ok(Some(format!("data at {place} is said to be a hole")));
        }
        if data == end {
            return Ok(None);
        }
        at = lseek(fd, data, libc::SEEK_HOLE)?;
        if at <= data || at > end {
            return Ok(Some(format!("a hole at {at} from {data} of {end}")));
        }
        if at == end {
            return Ok(None);
        }
    }
}
