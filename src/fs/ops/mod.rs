//! One file per family of operations.

mod attr;
mod dir;
mod lookup;
mod make;
mod read;
mod remove;
mod write;
mod xattr;

pub(super) use write::How;
pub(super) use xattr::statfs;
