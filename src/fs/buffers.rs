//! Memory for replies, used again: a fresh megabyte costs more than its copy.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::REPLY_BUFFERS_KEPT_MAX;

/// The kernel copies into whole cache lines about three times as fast as into
/// memory that begins between them, where the allocator puts large buffers.
const ALIGNMENT: usize = 64;

/// Lends buffers.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers {
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A buffer on loan; goes back when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Where the aligned part begins.
    start: usize,
    len: usize,
    home: Buffers,
}

impl Buffers {
    /// Lends a buffer of `len` bytes of any content.
    pub(super) fn lend(&self, len: usize) -> Buffer {
        let mut bytes = self.idle.lock().pop().unwrap_or_default();
        if bytes.len() < len + ALIGNMENT {
            bytes.resize(len + ALIGNMENT, 0);
        }
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Buffer {
            bytes,
            start,
            len,
            home: self.clone(),
        }
    }
}

impl Buffer {
    /// Keeps the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
            .get_mut(self.start..self.start + self.len)
            .unwrap_or_default()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut idle = self.home.idle.lock();
        if idle.len() < REPLY_BUFFERS_KEPT_MAX {
            idle.push(bytes);
        }
    }
}
