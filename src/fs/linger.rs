//! Looking for the next request before going to sleep.
//!
//! Who makes or removes many files sends a request as soon as the one before is
//! answered. To be put to sleep and woken for each costs several times what most
//! answers do, on both sides. So a thread that has answered looks for a while
//! whether there is more; where that is mostly in vain, it hardly ever does. Where
//! others have work for all cores it never does: it would take theirs.

use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::{LINGER, LINGER_LOOKS_EVERY, LINGER_TRIED_EVERY, LINGERS_IN_VAIN_MAX};

/// The requests of a mount, to be looked for.
#[derive(Debug, Default)]
pub(super) struct Linger {
    /// Where they come from.
    device: OnceLock<OwnedFd>,
    luck: Luck,
}

/// How looking went lately.
#[derive(Debug, Default)]
struct Luck {
    /// How often in a row nothing came.
    in_vain: AtomicU32,
    /// How often it was not tried for that.
    passed: AtomicU32,
    /// How often it was thought of, and whether all cores had work the last time
    /// that was looked at.
    thoughts: AtomicU32,
    crowded: AtomicBool,
}

impl Linger {
    /// Says where requests come from. Before that, nobody lingers.
    pub(super) fn begin(&self, device: OwnedFd) {
        drop(self.device.set(device));
    }

    /// Returns when there is a request, or there was none for a while. For a thread
    /// that takes the next one.
    pub(super) fn linger(&self) {
        let Some(device) = self.device.get() else {
            return;
        };
        if self.luck.is_worth_it() {
            let came = has_come(device);
            self.luck.note(came);
        }
    }
}

/// Whether something comes from the device within a while: a request, or its end.
fn has_come(device: &OwnedFd) -> bool {
    let begun = Instant::now();
    let mut requests = [PollFd::new(device, PollFlags::IN)];
    let at_once = Timespec::default();
    loop {
        // Also after an error: reading tells what it is.
        if !matches!(poll(&mut requests, Some(&at_once)), Ok(0)) {
            return true;
        }
        if begun.elapsed() >= LINGER {
            return false;
        }
        // Who is to send the next one may want this core.
        std::thread::yield_now();
    }
}

impl Luck {
    fn is_worth_it(&self) -> bool {
        let thoughts = self.thoughts.fetch_add(1, Ordering::Relaxed);
        if thoughts.is_multiple_of(LINGER_LOOKS_EVERY) {
            let crowded = running().is_none_or(|running| running > cores());
            self.crowded.store(crowded, Ordering::Relaxed);
        }
        !self.crowded.load(Ordering::Relaxed) && self.is_likely()
    }

    fn is_likely(&self) -> bool {
        self.in_vain.load(Ordering::Relaxed) < LINGERS_IN_VAIN_MAX
            || self
                .passed
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(LINGER_TRIED_EVERY)
    }

    fn note(&self, came: bool) {
        if came {
            self.in_vain.store(0, Ordering::Relaxed);
        } else {
            // What others have counted meanwhile does not matter much.
            let in_vain = self.in_vain.load(Ordering::Relaxed);
            self.in_vain
                .store(in_vain.saturating_add(1), Ordering::Relaxed);
        }
    }
}

/// Threads of the machine that run or could, this one among them.
fn running() -> Option<usize> {
    let mut text = [0; 64];
    let file = std::fs::File::open("/proc/loadavg").ok()?;
    let len = file.read_at(&mut text, 0).ok()?;
    // "0.31 0.28 0.14 2/417 9731": of these the fourth, before the slash.
    let text = std::str::from_utf8(text.get(..len)?).ok()?;
    let (running, _) = text.split(' ').nth(3)?.split_once('/')?;
    running.parse().ok()
}

fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_there_already_is_not_waited_for() {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(b"x").unwrap();
        assert!(has_come(&read.into()));
    }

    #[test]
    fn where_nothing_comes_a_thread_lingers_only_for_a_while() {
        let (read, write) = std::io::pipe().unwrap();
        let read = read.into();
        assert!(!has_come(&read));
        drop(write);
        assert!(has_come(&read), "the end is something to be read too");
    }

    #[test]
    fn what_was_in_vain_for_long_is_tried_now_and_then_until_it_helps() {
        let luck = Luck::default();
        for _ in 0..LINGERS_IN_VAIN_MAX {
            assert!(luck.is_likely());
            luck.note(false);
        }
        let tries = (0..LINGER_TRIED_EVERY * 10).filter(|_| luck.is_likely());
        assert_eq!(tries.count(), 10);
        luck.note(true);
        assert!((0..100).all(|_| luck.is_likely()));
    }

    #[test]
    fn this_thread_is_one_of_those_that_run() {
        assert!(running().unwrap() >= 1);
    }

    #[test]
    fn who_would_take_the_core_of_others_does_not_linger() {
        let luck = Luck::default();
        luck.thoughts.store(1, Ordering::Relaxed);
        assert!(luck.is_worth_it());
        luck.crowded.store(true, Ordering::Relaxed);
        assert!(!luck.is_worth_it());
    }
}
