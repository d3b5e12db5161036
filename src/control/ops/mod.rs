//! The operations, one file for each family.

mod content;
mod core;
mod export;
mod mounts;
mod path;
mod sources;

use super::Operation;

/// All operations.
pub(super) fn all() -> Vec<Operation> {
    let mut all = core::operations();
    all.extend(mounts::operations());
    all.extend(content::operations());
    all.extend(export::operations());
    all.extend(sources::operations());
    all
}
