//! Small tools for sharing memory between threads.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::config::BUFFERS_KEPT_BYTES_MAX;

/// Shortest buffer that is worth keeping: the allocator serves shorter ones
/// without touching fresh pages.
const KEPT_BYTES_MIN: usize = 64 << 10;

/// Buffers that are used again instead of being returned to the system, since
/// fresh memory costs a page fault for every 4 KiB.
///
/// Keeps at most [`BUFFERS_KEPT_BYTES_MAX`] of idle buffers. A buffer is at
/// most a quarter longer than what was asked for.
#[derive(Debug, Default)]
pub struct BufferPool {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl BufferPool {
    /// Makes an empty pool.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Gives a buffer of `len` bytes whose contents are left over from before.
    pub fn take(self: &Arc<Self>, len: usize) -> PooledBuffer {
        if len < KEPT_BYTES_MIN {
            return PooledBuffer {
                bytes: vec![0; len],
                len,
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
            len,
            pool: Arc::downgrade(self),
        }
    }

    /// Bytes of idle buffers.
    pub fn idle_bytes(&self) -> usize {
        self.idle.lock().bytes
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut idle = self.idle.lock();
        if idle.bytes + bytes.len() <= BUFFERS_KEPT_BYTES_MAX {
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

/// A buffer that goes back to its pool when it is dropped.
#[derive(Debug)]
pub struct PooledBuffer {
    bytes: Vec<u8>,
    len: usize,
    pool: Weak<BufferPool>,
}

impl PooledBuffer {
    /// Turns it into shared bytes; the buffer goes back with the last of them.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
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
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(std::mem::take(&mut self.bytes));
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
}
