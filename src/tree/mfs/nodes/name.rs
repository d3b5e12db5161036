//! File names, shared: one pointer wide and one small allocation each, since a
//! tree holds millions, each in its directory's entry and in its node.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// A file name, or that of an attribute.
pub struct Name {
    /// Leads to a `Head` and the bytes behind it; valid while this lives.
    at: NonNull<Head>,
    owns: PhantomData<Head>,
}

/// What is before the bytes.
struct Head {
    /// How many names lead here.
    shared: AtomicU32,
    len: u32,
}

/// Sharers at which cloning copies the bytes, far below what would overflow.
const SHARED_MAX: u32 = u32::MAX / 2;

// SAFETY: what is shared is never written after it was made, except for the
// count, which is atomic.
unsafe impl Send for Name {}
// SAFETY: as above.
unsafe impl Sync for Name {}

impl Name {
    #[expect(
        clippy::expect_used,
        reason = "no name has 4 GiB: frames and blocks have at most 2 MiB"
    )]
    fn layout(len: usize) -> Layout {
        let (layout, _) = Layout::new::<Head>()
            .extend(Layout::array::<u8>(len).expect("a slice has at most isize::MAX bytes"))
            .expect("a name is far shorter than memory");
        layout
    }

    #[expect(
        clippy::expect_used,
        reason = "no name has 4 GiB: frames and blocks have at most 2 MiB"
    )]
    fn copy(bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).expect("a name has less than 4 GiB");
        let layout = Self::layout(bytes.len());
        // SAFETY: the layout has at least the size of a `Head`, which is not zero.
        let memory = unsafe { alloc(layout) };
        let Some(at) = NonNull::new(memory.cast::<Head>()) else {
            handle_alloc_error(layout);
        };
        // SAFETY: the memory is fresh, aligned for a `Head`, and has room for it
        // and `bytes.len()` bytes behind it.
        unsafe {
            at.write(Head {
                shared: AtomicU32::new(1),
                len,
            });
            let room = at.add(1).cast::<u8>().as_ptr();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), room, bytes.len());
        }
        Self {
            at,
            owns: PhantomData,
        }
    }

    fn head(&self) -> &Head {
        // SAFETY: `at` is valid while `self` lives.
        unsafe { self.at.as_ref() }
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let len = self.head().len as usize;
        // SAFETY: `len` bytes follow the head, written when it was made, and
        // never again; the provenance of `at` is the whole allocation.
        unsafe { std::slice::from_raw_parts(self.at.add(1).cast::<u8>().as_ptr(), len) }
    }
}

impl Clone for Name {
    fn clone(&self) -> Self {
        // A count that is read needs no order: this name keeps it above zero.
        if self.head().shared.fetch_add(1, Ordering::Relaxed) >= SHARED_MAX {
            self.head().shared.fetch_sub(1, Ordering::Relaxed);
            return Self::copy(self);
        }
        Self {
            at: self.at,
            owns: PhantomData,
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if self.head().shared.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // Everybody else's last use comes before this.
        fence(Ordering::Acquire);
        let layout = Self::layout(self.len());
        // SAFETY: made by `alloc` with this layout, and nobody else leads here.
        unsafe { dealloc(self.at.as_ptr().cast(), layout) };
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Self::copy(bytes)
    }
}

impl<const N: usize> From<&[u8; N]> for Name {
    fn from(bytes: &[u8; N]) -> Self {
        Self::copy(bytes)
    }
}

impl From<Vec<u8>> for Name {
    fn from(bytes: Vec<u8>) -> Self {
        Self::copy(&bytes)
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at || **self == **other
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.escape_ascii().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_pointer_wide_and_absent_ones_cost_nothing_more() {
        assert_eq!(size_of::<Option<Name>>(), 8);
    }

    #[test]
    fn a_name_is_its_bytes_however_long_they_are_and_wherever_it_is_dropped() {
        for len in [0, 1, 7, 8, 9, 255, 4096] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let name = Name::from(&bytes[..]);
            assert_eq!(*name, bytes);
            let others: Vec<Name> = (0..8).map(|_| name.clone()).collect();
            let threads: Vec<_> = others
                .into_iter()
                .map(|name| std::thread::spawn(move || (0..1000).all(|_| *name.clone() == *name)))
                .collect();
            assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
            assert_eq!(name.head().shared.load(Ordering::Relaxed), 1);
            assert_eq!(*name, bytes);
        }
    }

    #[test]
    fn names_are_ordered_and_equal_as_their_bytes_are() {
        let (a, b) = (Name::from(b"a"), Name::from(b"ab"));
        assert!(a < b && a == Name::from(vec![b'a']) && a != b);
        let set = std::collections::BTreeSet::from([b, a]);
        assert!(set.contains(&b"ab"[..]) && !set.contains(&b"b"[..]));
    }

    #[test]
    fn a_name_that_too_many_share_is_copied() {
        let name = Name::from(b"much used");
        name.head().shared.store(SHARED_MAX, Ordering::Relaxed);
        let copy = name.clone();
        assert_ne!(copy.at, name.at);
        assert_eq!(copy, name);
        assert_eq!(name.head().shared.load(Ordering::Relaxed), SHARED_MAX);
        name.head().shared.store(1, Ordering::Relaxed);
    }
}
