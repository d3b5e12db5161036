//! Times as the tree, the library and the kernel write them. Pure.

use std::time::{Duration, SystemTime};

use crate::tree::mfs::Time;

/// Nanoseconds of a second.
const SECOND: u32 = 1_000_000_000;

/// Writes a time for the library. Clamped to what it can hold: the seconds may
/// come from content of others.
pub(super) fn shown(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.sec.unsigned_abs());
    let base = if time.sec >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    };
    base.and_then(|t| t.checked_add(Duration::from_nanos(u64::from(time.nsec))))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Reads a time that the library read from the kernel.
///
/// The kernel counts nanoseconds forward from the second, also before the
/// epoch; the library (0.18) takes both away from it, and that is undone here.
pub(super) fn asked(time: SystemTime) -> Time {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Time {
            sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nsec: after.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            Time {
                sec: 0i64.saturating_sub_unsigned(before.as_secs()),
                nsec: before.subsec_nanos().min(SECOND - 1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the library makes of the kernel's seconds and nanoseconds.
    fn library(sec: i64, nsec: u32) -> SystemTime {
        let whole = Duration::new(sec.unsigned_abs(), nsec);
        if sec >= 0 {
            SystemTime::UNIX_EPOCH + whole
        } else {
            SystemTime::UNIX_EPOCH - whole
        }
    }

    #[test]
    fn what_the_kernel_asks_for_is_what_is_stored() {
        for (sec, nsec) in [
            (0, 0),
            (5, 1),
            (-1, 0),
            (-1, 999_999_999),
            (-7, 250_000_000),
        ] {
            assert_eq!(asked(library(sec, nsec)), Time { sec, nsec });
        }
    }

    #[test]
    fn nanoseconds_count_forward_before_the_epoch_too() {
        let time = Time {
            sec: -2,
            nsec: 800_000_000,
        };
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(1200);
        assert_eq!(shown(time), before);
        let far = Time {
            sec: i64::MIN,
            nsec: 0,
        };
        // Whatever it becomes, it is no panic.
        assert!(shown(far) <= SystemTime::UNIX_EPOCH);
    }
}
