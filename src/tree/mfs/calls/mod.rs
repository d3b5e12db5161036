//! What callers ask of the tree, one file per family: each plans a change or reads.

pub(super) mod allocating;
pub(super) mod content;
pub(super) mod elsewhere;
pub(super) mod entries;
pub(super) mod keep;
pub(super) mod meta;
pub(super) mod mounts;
pub(super) mod rename;
pub(super) mod unmounting;
pub(super) mod xattr;
