//! Kernel requests become calls on the tree.
//!
//! A thin adapter: `fuse` decodes a request, calls [`Files`], and replies;
//! `Files` knows inodes and the tree and nothing of the kernel's format, so
//! that it is tested without a mount. What is near is answered on the thread
//! that took the request; what must be fetched waits in a task of its own, so
//! a slow block blocks only its reader, and nobody longer than the deadline.
//! No state hangs on an open file: OPEN and OPENDIR are answered ENOSYS once,
//! and then cost the daemon nothing. What the kernel keeps of the writable
//! tree it keeps until it is given notice. Keeps nothing that a crash could lose.

mod attr;
mod decode;
mod errno;
mod files;
mod forgets;
mod fuse;
mod guesses;
mod inodes;
mod linger;
mod mountinfo;
mod nodes;
mod notices;
mod ops;
mod options;
mod remount;
mod reply;
mod session;
mod time;
mod unmount;
mod wait;
mod watch;

pub use errno::Errno;
pub use files::Files;
pub use mountinfo::{MountEntry, find_mount, is_stale, our_mounts};
pub use options::{Access, MountOptions, OptionError};
pub use remount::remount;
pub use session::{Mount, MountError, mount};
pub use unmount::{Holder, UnmountError, holders, unmount};
