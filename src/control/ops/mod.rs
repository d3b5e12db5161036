//! The operations, one file for each family.

mod add;
mod cache;
mod content;
mod core;
mod export;
mod import;
mod journal;
mod mounts;
mod path;
mod pins;
mod sources;

pub(super) use content::kind_name;
pub use journal::{fsck_tick, log_query};

use super::Operation;

/// All operations.
pub(super) fn all() -> Vec<Operation> {
    let mut all = core::operations();
    all.extend(mounts::operations());
    all.extend(content::operations());
    all.extend(export::operations());
    all.extend(import::operations());
    all.extend(add::operations());
    all.extend(pins::operations());
    all.extend(cache::operations());
    all.extend(sources::operations());
    all.extend(journal::operations());
    all
}
