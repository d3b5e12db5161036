//! Memory that small files are read into, used again when nobody holds it.
//!
//! Fresh memory costs a fault for each 4 KiB, as much as reading them from the
//! page cache, and what one thread allocates another frees: the sink appends
//! in a thread of its own choice. So a page is carved up for many files, and
//! waits in line until the last of them was let go of.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Length of a page.
const PAGE_BYTES: usize = 256 << 10;
/// Pages that one thread keeps, 8 MiB: more than waits to be appended as a
/// rule. Beyond it the oldest is freed by whoever holds its last bytes.
const PAGES_KEPT: usize = 32;

/// The pages of one thread.
#[derive(Default)]
pub(super) struct Pages {
    /// What is left of the page that is carved up now.
    current: BytesMut,
    /// Those before it, oldest first.
    used: VecDeque<BytesMut>,
}

impl Pages {
    /// An empty buffer with room for `bytes`; more than a page has is allocated.
    pub(super) fn take(&mut self, bytes: usize) -> BytesMut {
        if self.current.capacity() < bytes {
            let used = std::mem::replace(&mut self.current, BytesMut::new());
            if used.capacity() > 0 {
                self.used.push_back(used);
            }
            self.current = self.renewed();
        }
        std::mem::take(&mut self.current)
    }

    /// Takes a buffer back and gives what is in it.
    pub(super) fn filled(&mut self, mut buffer: BytesMut) -> Bytes {
        let data = buffer.split().freeze();
        self.current = buffer;
        data
    }

    fn renewed(&mut self) -> BytesMut {
        if let Some(mut oldest) = self.used.pop_front() {
            if oldest.try_reclaim(PAGE_BYTES) {
                return oldest;
            }
            if self.used.len() < PAGES_KEPT {
                self.used.push_front(oldest);
            }
        }
        BytesMut::with_capacity(PAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(pages: &mut Pages, byte: u8) -> Bytes {
        let mut buffer = pages.take(60 << 10);
        buffer.resize(60 << 10, byte);
        pages.filled(buffer)
    }

    #[test]
    fn a_page_is_used_again_only_when_nobody_holds_a_byte_of_it() {
        let mut pages = Pages::default();
        let held: Vec<Bytes> = (0..40).map(|byte| fill(&mut pages, byte)).collect();
        for (byte, data) in (0..).zip(&held) {
            assert!(data.iter().all(|found| *found == byte));
        }
        let places: Vec<*const u8> = held.iter().map(|data| data.as_ptr()).collect();
        drop(held);
        let again: Vec<Bytes> = (0..20).map(|byte| fill(&mut pages, byte)).collect();
        let known = again.iter().filter(|data| places.contains(&data.as_ptr()));
        assert!(known.count() > 10);
    }

    #[test]
    fn no_more_pages_are_kept_than_the_limit() {
        let mut pages = Pages::default();
        let held: Vec<Bytes> = (0..300).map(|_| fill(&mut pages, 1)).collect();
        assert!(pages.used.len() <= PAGES_KEPT);
        assert!(held.iter().all(|data| data.len() == 60 << 10));
    }
}
