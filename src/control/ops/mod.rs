//! The operations, one file for each family.

mod core;
mod mounts;
mod sources;

use super::Operation;

/// All operations.
pub(super) fn all() -> Vec<Operation> {
    let mut all = core::operations();
    all.extend(mounts::operations());
    all.extend(sources::operations());
    all
}
