//! The composition root: wires the layers, starts them, ends them in order.
//!
//! One daemon for each repository, any number of mounts. [`serve`] runs it in
//! this process; [`start::in_background`] starts a process for it and waits
//! until that says that it is ready. Start: lock, sources, blocks, tree,
//! control socket, first mount, ready. End: no new operations, unmount (what
//! is in use is detached), sync, remove the socket, let the lock go.
//!
//! A daemon that was started by a mount ends with its last mount; one that
//! was started by `cidfs daemon` stays. When it is killed, its mounts are
//! stale and the next `cidfs mount` or `umount` of the directory clears them;
//! nothing else is left to repair here.

mod engine;
mod errors;
pub mod fsck;
mod kernel;
pub mod log;
mod mounts;
mod push;
mod serve;
mod sources;
pub mod start;

pub use engine::{Engine, journal_of, journal_stamp};
pub use mounts::{MountTable, Mounted, Mounter};
pub use serve::{ServeOptions, serve};
