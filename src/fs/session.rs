//! A mount from its beginning to its end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{Config, INodeNo, MountOption, Notifier, Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::files::Files;
use super::fuse::Adapter;
use super::linger::Linger;
use super::mountinfo::{self, is_stale};
use super::notices::{Kernel, Notices};
use super::options::{Access, KernelFlag, MountOptions};
use super::unmount::{self, UnmountError};
use crate::tree::{Node, Tree, TreeError};

/// Why a mount did not come up.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The directory is not there or not a directory.
    #[error("cannot mount on {}: {error}", dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something of ours is mounted there already.
    #[error("{} is a cidfs mount already; `cidfs umount` ends it", .0.display())]
    Mounted(PathBuf),
    /// The kernel or fusermount3 refused.
    #[error("cannot mount on {}: {error}{}", dir.display(), hint(error))]
    Refused {
        /// The directory.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What was to be its root is gone.
    #[error("cannot mount it: {0}")]
    Root(TreeError),
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound {
        "; is FUSE there? See /dev/fuse, and install fuse3"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "; may this user open /dev/fuse, and is fusermount3 installed (package fuse3)? \
         allow_other needs `user_allow_other` in /etc/fuse.conf"
    } else {
        ""
    }
}

/// A mount that serves requests until it is unmounted, by whomever.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    ended: watch::Receiver<bool>,
    notices: Arc<Notices>,
    closing: Arc<watch::Sender<bool>>,
}

/// Mounts `root` of `tree` at `dir` and serves it on threads of its own.
///
/// Ready when this returns. A mount that a killed daemon left there is
/// cleared first.
pub fn mount(
    tree: Arc<Tree>,
    root: Node,
    dir: &Path,
    options: &MountOptions,
    runtime: Handle,
) -> Result<Mount, MountError> {
    let at = |error| MountError::Dir {
        dir: dir.into(),
        error,
    };
    clear_stale(dir).map_err(at)?;
    let dir = dir.canonicalize().map_err(at)?;
    if !dir.is_dir() {
        return Err(at(io::ErrorKind::NotADirectory.into()));
    }
    if mountinfo::find_mount(&dir)
        .map_err(at)?
        .is_some_and(|m| m.fs_type == mountinfo::FS_TYPE)
    {
        return Err(MountError::Mounted(dir));
    }
    let refused = |error| MountError::Refused {
        dir: dir.clone(),
        error,
    };
    let files = Files::new(tree, root, options.clone()).map_err(MountError::Root)?;
    let notices = Arc::clone(&files.shared.notices);
    let closing = Arc::clone(&files.shared.closing);
    let writable = files.shows_writable() && options.access != Some(Access::ReadOnly);
    let (tells, known) = (files.shows_writable(), files.known());
    let next = Arc::new(Linger::default());
    let adapter = Adapter::new(files, runtime, Arc::clone(&next));
    let session = Session::new(adapter, &dir, &config(options, writable)).map_err(refused)?;
    let device = session.as_fd().try_clone_to_owned().map_err(refused)?;
    next.begin(device.try_clone().map_err(refused)?);
    let background = session.spawn().map_err(refused)?;
    if tells {
        let kernel = Connection {
            notifier: background.notifier(),
            device: device.into(),
        };
        notices.start(kernel, known).map_err(refused)?;
    }
    set_readahead(&dir, options.readahead_bytes);
    let (end, ended) = watch::channel(false);
    let thread = std::thread::Builder::new().name("mount-end".into());
    let watched = dir.clone();
    let ending = Arc::clone(&notices);
    thread
        .spawn(move || {
            if let Err(error) = background.join() {
                tracing::warn!(dir = %watched.display(), %error, "mount ended with an error");
            }
            ending.end();
            end.send_replace(true);
        })
        .map_err(refused)?;
    Ok(Mount {
        dir,
        ended,
        notices,
        closing,
    })
}

impl Mount {
    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it is unmounted.
    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until it is unmounted.
    pub async fn ended(&self) {
        // An error means that the watcher is gone, and the mount with it.
        drop(self.ended.clone().wait_for(|ended| *ended).await);
    }

    /// Refuses with who uses it, as far as can be seen from here.
    pub fn check_unused(&self) -> Result<(), UnmountError> {
        match unmount::holders(&self.dir) {
            holders if holders.is_empty() || self.has_ended() => Ok(()),
            holders => Err(UnmountError::Busy {
                dir: self.dir.clone(),
                holders,
                below: Vec::new(),
            }),
        }
    }

    /// Unmounts it; `lazy` detaches it at once and lets its users finish.
    pub fn unmount(&self, lazy: bool) -> Result<(), UnmountError> {
        if self.has_ended() {
            return Ok(());
        }
        // A notice that waits in the kernel while its mount goes away could wait
        // for ever. Who still uses a mount that is detached goes on being told.
        self.notices.pause();
        let outcome = unmount::unmount(&self.dir, lazy);
        self.notices.resume();
        outcome
    }

    /// Answers all that waits and tells the kernel nothing more: for the end of this
    /// process, which a notice that waits for one of these answers would put off
    /// for ever. May block.
    pub fn quiet(&self) {
        self.closing.send_replace(true);
        self.notices.end();
    }
}

/// The kernel at the other end of a mount's connection.
struct Connection {
    notifier: Notifier,
    device: File,
}

/// FUSE_NOTIFY_INC_EPOCH, of kernels from 6.16 on: every name is looked up again.
const NOTIFY_INC_EPOCH: i32 = 8;
/// Length of `fuse_out_header`, which is all of that message.
const HEADER_BYTES: u32 = 16;

impl Kernel for Connection {
    fn drop_name(&self, parent: u64, name: &[u8]) -> io::Result<()> {
        let name = OsStr::from_bytes(name);
        self.notifier.inval_entry(INodeNo(parent), name)
    }

    fn drop_inode(&self, ino: u64, content: bool) -> io::Result<()> {
        // Below zero the kernel takes an offset to mean the attributes only.
        let from = if content { 0 } else { -1 };
        self.notifier.inval_inode(INodeNo(ino), from, 0)
    }

    fn drop_all_names(&self) -> io::Result<()> {
        // The library lacks this message: length, code, no request.
        let mut message = Vec::with_capacity(HEADER_BYTES as usize);
        message.extend(HEADER_BYTES.to_ne_bytes());
        message.extend(NOTIFY_INC_EPOCH.to_ne_bytes());
        message.extend(0u64.to_ne_bytes());
        (&self.device).write_all(&message)
    }
}

/// Clears what a killed daemon left; its `stat` fails, so this comes first.
fn clear_stale(dir: &Path) -> io::Result<()> {
    if !is_stale(dir) {
        return Ok(());
    }
    tracing::info!(dir = %dir.display(), "clearing the mount of a daemon that is gone");
    let dir = std::path::absolute(dir)?;
    unmount::unmount(&dir, true).map_err(io::Error::other)
}

fn config(options: &MountOptions, writable: bool) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(options.fsname.clone()),
        // As `Subtype` it would reach the kernel only through fusermount3.
        MountOption::CUSTOM("subtype=cidfs".into()),
        if writable {
            MountOption::RW
        } else {
            MountOption::RO
        },
        MountOption::DefaultPermissions,
    ];
    config
        .mount_options
        .extend(options.kernel.iter().map(|flag| match flag {
            KernelFlag::Exec => MountOption::Exec,
            KernelFlag::NoExec => MountOption::NoExec,
            KernelFlag::Suid => MountOption::Suid,
            KernelFlag::NoSuid => MountOption::NoSuid,
            KernelFlag::Dev => MountOption::Dev,
            KernelFlag::NoDev => MountOption::NoDev,
            KernelFlag::Atime => MountOption::Atime,
            KernelFlag::NoAtime => MountOption::NoAtime,
            KernelFlag::Sync => MountOption::Sync,
            KernelFlag::Async => MountOption::Async,
            KernelFlag::DirSync => MountOption::DirSync,
        }));
    config.acl = if options.allow_other {
        SessionACL::All
    } else if options.allow_root {
        SessionACL::RootAndOwner
    } else {
        SessionACL::Owner
    };
    config.n_threads = Some(options.threads);
    config.clone_fd = true;
    config
}

/// The library can ask for 128 KiB at most; more is set from outside, which
/// takes root. Without it reading is slower and no less right.
fn set_readahead(dir: &Path, bytes: u64) {
    let device = mountinfo::find_mount(dir).ok().flatten().map(|m| m.device);
    let Some(device) = device else { return };
    let file = format!("/sys/class/bdi/{device}/read_ahead_kb");
    if let Err(error) = std::fs::write(&file, (bytes >> 10).to_string()) {
        tracing::debug!(file, %error, "readahead stays at the kernel's 128 KiB");
    }
}
