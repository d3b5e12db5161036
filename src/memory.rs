//! The allocator, told what it cannot know.
#![allow(unsafe_code)]

/// Has the allocator use two arenas, not eight for each core: what one thread
/// gave back is of use to the others, and a walk over a large tree, which any
/// of them may answer for, leaves a tenth less behind. To be called first.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's; no other thread runs yet. Where
    // it is refused nothing changes.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Has the allocator give the system back the pages in which nothing is left:
/// by itself it does so only at the end of what it has. Takes milliseconds.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
