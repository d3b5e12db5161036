//! Bulk data on its way to blocks: whole chunks acknowledged ahead of their hashes, and sealed.

pub(super) mod ahead;
pub(super) mod ring;
pub(super) mod seal;
