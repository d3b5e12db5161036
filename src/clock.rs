//! The time of day, behind a trait so that tests can set it.

use std::time::{Duration, SystemTime};

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> SystemTime;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Time since the epoch; zero for times before it.
pub fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

/// Nanoseconds since the epoch now, as the system has it.
pub fn system_ns() -> u64 {
    u64::try_from(since_epoch(SystemTime::now()).as_nanos()).unwrap_or(u64::MAX)
}
