//! What is not loaded is read from the last checkpoint, beside the lock.

pub(super) mod bulk;
pub(super) mod load;
pub(super) mod trim;
