//! Small tools for sharing memory between threads.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::config::{BUFFERS_KEPT_BYTES_MAX, REPLY_BUFFER_BYTES, REPLY_BUFFERS_KEPT_MAX};

/// Shortest buffer that is worth keeping: the allocator serves shorter ones
/// without touching fresh pages.
const KEPT_BYTES_MIN: usize = 64 << 10;

/// Buffers that are used again instead of being returned to the system, since
/// fresh memory costs a page fault for every 4 KiB.
///
/// Keeps at most [`BUFFERS_KEPT_BYTES_MAX`] of idle buffers, and besides
/// [`REPLY_BUFFERS_KEPT_MAX`] huge ones.
#[derive(Debug, Default)]
pub struct BufferPool {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    huge: Vec<Vec<u8>>,
}

impl BufferPool {
    /// Makes an empty pool.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Gives a buffer of `len` bytes whose contents are left over from before.
    /// It is at most a quarter longer than that.
    pub fn take(self: &Arc<Self>, len: usize) -> PooledBuffer {
        if len < KEPT_BYTES_MIN {
            return PooledBuffer {
                bytes: vec![0; len],
                start: 0,
                len,
                huge: false,
                pool: Weak::new(),
            };
        }
        let class = size_class(len);
        let found = {
            let mut idle = self.idle.lock();
            let place = idle.buffers.iter().rposition(|b| b.len() == class);
            place.map(|place| {
                idle.bytes -= class;
                idle.buffers.swap_remove(place)
            })
        };
        PooledBuffer {
            bytes: found.unwrap_or_else(|| vec![0; class]),
            start: 0,
            len,
            huge: false,
            pool: Arc::downgrade(self),
        }
    }

    /// Gives a buffer of `len` bytes of any content that lies in one huge page
    /// where the system gives one: the kernel translates and pins its pages one
    /// by one otherwise, for both of its copies of a reply.
    pub fn take_huge(self: &Arc<Self>, len: usize) -> PooledBuffer {
        let idle = self.idle.lock().huge.pop();
        let fits = idle.filter(|bytes| bytes.len() >= len + REPLY_BUFFER_BYTES);
        let bytes = fits.unwrap_or_else(|| fresh(len.max(REPLY_BUFFER_BYTES)));
        let start = aligned(&bytes);
        PooledBuffer {
            bytes,
            start,
            len,
            huge: true,
            pool: Arc::downgrade(self),
        }
    }

    /// Bytes of idle buffers, without the huge ones.
    pub fn idle_bytes(&self) -> usize {
        self.idle.lock().bytes
    }

    fn give_back(&self, bytes: Vec<u8>, huge: bool) {
        let mut idle = self.idle.lock();
        if huge {
            if idle.huge.len() < REPLY_BUFFERS_KEPT_MAX {
                idle.huge.push(bytes);
            }
        } else if idle.bytes + bytes.len() <= BUFFERS_KEPT_BYTES_MAX {
            idle.bytes += bytes.len();
            idle.buffers.push(bytes);
        }
    }
}

/// Rounds up to a quarter of the power of two below.
fn size_class(len: usize) -> usize {
    let step = (len.next_power_of_two() / 8).max(1);
    len.next_multiple_of(step)
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

/// A buffer that goes back to its pool when it is dropped.
#[derive(Debug)]
pub struct PooledBuffer {
    bytes: Vec<u8>,
    /// Where the aligned part begins.
    start: usize,
    len: usize,
    huge: bool,
    pool: Weak<BufferPool>,
}

impl PooledBuffer {
    /// Turns it into shared bytes; the buffer goes back with the last of them.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
            .get_mut(self.start..self.start + self.len)
            .unwrap_or_default()
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(std::mem::take(&mut self.bytes), self.huge);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_after_its_last_user_and_is_used_again() {
        let pool = BufferPool::new();
        let mut buffer = pool.take(1 << 20);
        buffer[0] = 7;
        let address = buffer.as_ptr();
        let bytes = buffer.freeze();
        let half = bytes.slice(..10);
        drop(bytes);
        assert_eq!(pool.idle_bytes(), 0);
        drop(half);
        assert_eq!(pool.idle_bytes(), 1 << 20);
        assert_eq!(pool.take((1 << 20) - 5).as_ptr(), address);
    }

    #[test]
    fn idle_buffers_are_bounded_and_at_most_a_quarter_too_long() {
        let pool = BufferPool::new();
        let many: Vec<_> = (0..64).map(|_| pool.take(1 << 20)).collect();
        drop(many);
        assert!(pool.idle_bytes() <= BUFFERS_KEPT_BYTES_MAX);
        for len in [KEPT_BYTES_MIN, 70_000, 262_144, 262_158, 1_000_001] {
            let class = size_class(len);
            assert!(class >= len && class <= len + len / 4, "{len} {class}");
        }
        assert_eq!(pool.take(10).len(), 10);
    }

    #[test]
    fn huge_buffers_of_any_length_are_aligned_and_used_again() {
        let pool = BufferPool::new();
        for len in [0, 1, 1 << 20, REPLY_BUFFER_BYTES, REPLY_BUFFER_BYTES + 1, 7] {
            let mut buffer = pool.take_huge(len);
            buffer.fill(7);
            assert_eq!(buffer.len(), len);
            let misplaced = buffer.as_ptr() as usize % REPLY_BUFFER_BYTES;
            assert!(len == 0 || misplaced == 0, "{len}: {misplaced}");
            buffer.truncate(len / 2);
            assert_eq!(buffer.len(), len / 2);
        }
        let first = pool.take_huge(1).as_ptr() as usize;
        assert_eq!(pool.take_huge(1 << 20).as_ptr() as usize, first);
        let many: Vec<_> = (0..2 * REPLY_BUFFERS_KEPT_MAX)
            .map(|_| pool.take_huge(1))
            .collect();
        drop(many);
        assert_eq!(pool.idle.lock().huge.len(), REPLY_BUFFERS_KEPT_MAX);
        assert_eq!(pool.idle_bytes(), 0);
    }
}
