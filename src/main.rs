//! The `cidfs` program.
#![allow(unsafe_code)]

fn main() -> std::process::ExitCode {
    share_memory();
    cidfs::cli::main(std::env::args_os().collect())
}

/// Has the allocator use two arenas, not eight for each core: what one thread
/// gave back is of use to the others, and a walk over a large tree, which any
/// of them may answer for, leaves a tenth less behind.
fn share_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's; no other thread runs yet. Where
    // it is refused nothing changes.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
