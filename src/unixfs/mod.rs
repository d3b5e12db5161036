//! Files and directories as blocks: UnixFS on dag-pb.
//!
//! Reads every layout that exists (balanced, trickle, raw and dag-pb leaves,
//! inline data, basic and HAMT directories, symlinks, mode and mtime) and
//! builds what `ipfs add` builds. What is there already can be changed at a cost
//! that follows the change (`dir_update`, `file_update`). Decoding and layout are pure functions of
//! bytes; blocks come from `cache` and go to a [`crate::block::BlockSink`].
//! Does not know sources, the journal or inodes.

pub mod builder;
pub mod chunker;
pub mod dag_pb;
pub mod data;
mod dir;
pub mod dir_build;
pub mod dir_update;
mod error;
mod file;
pub mod file_update;
pub mod hamt;
pub mod hamt_build;
mod hamt_update;
mod hamt_walk;
pub mod layout;
pub mod links;
pub mod node;
mod nodes;
mod noted;
pub mod profile;
mod reader;
mod same;
pub mod walk;

pub use error::{Malformed, ReadError, UpdateError};
pub use reader::{Meta, MetaKind, Reader};
