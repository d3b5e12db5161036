//! One file per family of operations.

mod attr;
mod dir;
mod lookup;
mod read;
mod xattr;

pub(super) use dir::Listed;
pub(super) use xattr::{XattrError, statfs};
