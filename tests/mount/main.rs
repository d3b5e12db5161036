//! Real mounts and real tools.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod beside_calls;
mod beside_choose;
mod beside_native;
mod beside_ops;
mod beside_side;
mod beside_tree;
mod fixtures;
mod full_disk;
mod harness;
mod kept;
mod system;
mod terminal;
mod tools;
mod waiting;
mod world;
mod writable;
mod writing;
mod writing_attributes;
mod writing_doors;
mod writing_kept;
