//! The loaded tree: its nodes, their names and their bytes. Pure memory behind one lock.

pub(super) mod extent_map;
pub(super) mod extents;
pub(super) mod fault;
pub(super) mod name;
pub(super) mod node;
pub(super) mod small_cid;
pub(super) mod state;
pub(super) mod table;
