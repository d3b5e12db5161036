//! One owner for what a nearly full disk still has.
//!
//! The reserve of the packs and the journal both set space aside on one disk.
//! Whoever looks at what is free and takes it does so as the only one, and what the
//! reserve lacks is known: until it has that, the journal does not grow into it.

use std::io;

use parking_lot::{Mutex, MutexGuard};

/// The room of a disk, shared by all parts of a repository that take of it.
#[derive(Debug, Default)]
pub struct Room {
    lacking: Mutex<u64>,
}

/// Room is being taken; nobody else takes any meanwhile. Held for moments, and
/// the innermost of locks.
#[derive(Debug)]
pub struct Taking<'a>(MutexGuard<'a, u64>);

impl Room {
    /// Begins to take room.
    pub fn taking(&self) -> Taking<'_> {
        Taking(self.lacking.lock())
    }

    /// What the reserve lacks.
    pub fn lacking(&self) -> u64 {
        *self.lacking.lock()
    }
}

impl Taking<'_> {
    /// Notes what the reserve lacks.
    pub fn lack(&mut self, bytes: u64) {
        *self.0 = bytes;
    }

    /// A full disk (ENOSPC) where the reserve lacks something: what is free is its.
    pub fn check(&self) -> io::Result<()> {
        match *self.0 {
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
        }
    }
}
