//! Memory for replies, used again: a fresh megabyte costs more than its copy.
//!
//! A buffer lies in one huge page where the system gives one: the kernel
//! translates and pins its pages one by one otherwise, for both of its copies.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::{REPLY_BUFFER_BYTES, REPLY_BUFFERS_KEPT_MAX};

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
        let idle = self.idle.lock().pop();
        let fits = idle.filter(|bytes| bytes.len() >= len + REPLY_BUFFER_BYTES);
        let bytes = fits.unwrap_or_else(|| fresh(len.max(REPLY_BUFFER_BYTES)));
        let start = aligned(&bytes);
        Buffer {
            bytes,
            start,
            len,
            home: self.clone(),
        }
    }
}

/// Where the first huge page in a buffer begins.
fn aligned(bytes: &[u8]) -> usize {
    let start = bytes.as_ptr().align_offset(REPLY_BUFFER_BYTES);
    start.min(REPLY_BUFFER_BYTES)
}

/// Makes a buffer with room for `len` bytes behind its alignment. Zeroed memory
/// of this size comes from the system and takes no room until it is touched.
fn fresh(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len + REPLY_BUFFER_BYTES];
    let start = aligned(&bytes);
    if let Some(part) = bytes.get_mut(start..start + len) {
        let (address, len) = (part.as_mut_ptr().cast(), part.len());
        // SAFETY: the range belongs to `bytes`, and advice on what pages to
        // use changes nothing in it.
        #[allow(unsafe_code)]
        let advised = unsafe { libc::madvise(address, len, libc::MADV_HUGEPAGE) };
        if advised != 0 {
            // Small pages serve too.
            tracing::debug!("no huge pages: {}", std::io::Error::last_os_error());
        }
    }
    bytes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_any_length_are_lent_aligned_and_used_again() {
        let buffers = Buffers::default();
        for len in [0, 1, 1 << 20, REPLY_BUFFER_BYTES, REPLY_BUFFER_BYTES + 1, 7] {
            let mut buffer = buffers.lend(len);
            buffer.fill(7);
            assert_eq!(buffer.len(), len);
            let misplaced = buffer.as_ptr() as usize % REPLY_BUFFER_BYTES;
            assert!(len == 0 || misplaced == 0, "{len}: {misplaced}");
            buffer.truncate(len / 2);
            assert_eq!(buffer.len(), len / 2);
        }
        let first = buffers.lend(1).as_ptr() as usize;
        assert_eq!(buffers.lend(1 << 20).as_ptr() as usize, first);
        let many: Vec<_> = (0..2 * REPLY_BUFFERS_KEPT_MAX)
            .map(|_| buffers.lend(1))
            .collect();
        drop(many);
        assert_eq!(buffers.idle.lock().len(), REPLY_BUFFERS_KEPT_MAX);
    }
}
