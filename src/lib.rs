//! cidfs mounts IPFS content as ordinary files.
//!
//! The modules stand in reading order: the base first, then the layers from
//! the sources of blocks up to the kernel. ARCHITECTURE.md is the map.

pub mod block;
pub mod car;
pub mod clock;
pub mod config;
pub mod disk;
pub mod memory;
pub mod patience;
pub mod repo;
pub mod room;
pub mod sync;

pub mod source;

pub mod cache;

pub mod unixfs;

pub mod journal;

pub mod tree;

pub mod fs;

pub mod control;

pub mod cli;
pub mod daemon;

#[cfg(feature = "testing")]
pub mod testing;
