//! Unmounting, and who is in the way of it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::mountinfo::{find_mount, mounts_below, short};

/// Why a directory was not unmounted.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Nothing is mounted there.
    #[error("nothing is mounted at {}", dir.display())]
    NotMounted {
        /// The directory.
        dir: PathBuf,
    },
    /// Programs have files open or stand in it.
    #[error("{} is in use by {}", dir.display(), list(holders, below))]
    Busy {
        /// The directory.
        dir: PathBuf,
        /// Who.
        holders: Vec<Holder>,
        /// What else is mounted below it.
        below: Vec<PathBuf>,
    },
    /// The system refused.
    #[error("cannot unmount {}: {error}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        error: io::Error,
    },
}

/// A process that uses a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its program's name.
    pub command: String,
    /// `cwd`, `root`, `exe`, `fd` or `map`.
    pub how: &'static str,
}

impl UnmountError {
    /// Finds who uses a mount.
    fn in_use(dir: &Path) -> Self {
        Self::Busy {
            dir: dir.into(),
            holders: holders(dir),
            // Who cannot be told is not left out of the error for it.
            below: mounts_below(dir).unwrap_or_default(),
        }
    }
}

fn list(holders: &[Holder], below: &[PathBuf]) -> String {
    if holders.is_empty() && below.is_empty() {
        return "a program that cannot be seen from here".into();
    }
    let mounts = below
        .iter()
        .map(|dir| format!("the mount on {}", dir.display()));
    let programs = holders
        .iter()
        .map(|h| format!("{} (pid {}, {})", h.command, h.pid, h.how));
    mounts.chain(programs).collect::<Vec<_>>().join(", ")
}

/// Unmounts `dir`; `lazy` detaches it at once and lets its users finish.
pub fn unmount(dir: &Path, lazy: bool) -> Result<(), UnmountError> {
    let io = |error| UnmountError::Io {
        dir: dir.into(),
        error,
    };
    if find_mount(dir).map_err(io)?.is_none() {
        return Err(UnmountError::NotMounted { dir: dir.into() });
    }
    match umount2(dir, lazy) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => fusermount(dir, lazy),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(UnmountError::in_use(dir)),
        Err(error) => Err(io(error)),
    }
}

fn umount2(dir: &Path, lazy: bool) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
    let flags = libc::UMOUNT_NOFOLLOW | if lazy { libc::MNT_DETACH } else { 0 };
    // SAFETY: the path is a C string that outlives the call.
    #[allow(unsafe_code)]
    let code = unsafe { libc::umount2(path.as_ptr(), flags) };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Unprivileged: the setuid helper does it for the mount's owner.
fn fusermount(dir: &Path, lazy: bool) -> Result<(), UnmountError> {
    let mut command = Command::new("fusermount3");
    command
        .arg("-u")
        .args(lazy.then_some("-z"))
        .arg("--")
        .arg(dir);
    let output = command.output().map_err(|error| UnmountError::Io {
        dir: dir.into(),
        error,
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if text.contains("busy") {
        return Err(UnmountError::in_use(dir));
    }
    Err(UnmountError::Io {
        dir: dir.into(),
        error: io::Error::other(text),
    })
}

/// The processes that use a mount, as far as this user may see them.
pub fn holders(dir: &Path) -> Vec<Holder> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let own = std::process::id();
    let pids = processes
        .flatten()
        .filter_map(|p| p.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own)
        .filter_map(|pid| holder(pid, dir))
        .collect()
}

fn holder(pid: u32, dir: &Path) -> Option<Holder> {
    let base = PathBuf::from(format!("/proc/{pid}"));
    let inside = |link: &Path| std::fs::read_link(link).is_ok_and(|to| to.starts_with(dir));
    let simple = ["cwd", "root", "exe"]
        .into_iter()
        .find(|how| inside(&base.join(how)));
    let how = simple
        .or_else(|| any(&base.join("fd"), &inside).then_some("fd"))
        .or_else(|| any(&base.join("map_files"), &inside).then_some("map"))?;
    let exe = std::fs::read_link(base.join("exe")).unwrap_or_default();
    let comm = std::fs::read_to_string(base.join("comm")).unwrap_or_default();
    let command = if comm.is_empty() {
        short(exe.as_os_str())
    } else {
        comm.trim().to_owned()
    };
    Some(Holder { pid, command, how })
}

fn any(dir: &Path, inside: &dyn Fn(&Path) -> bool) -> bool {
    std::fs::read_dir(dir).is_ok_and(|links| links.flatten().any(|l| inside(&l.path())))
}
