//! Waiting for what is not near, without holding up anyone else.
//!
//! A request is tried at once on the thread that took it. If it must wait it
//! becomes a task, ends by its deadline at the latest, and ends with EINTR
//! when its caller has a signal to die from or to handle: the kernel's own
//! INTERRUPT does not reach a program that uses this FUSE library, so the
//! caller's pending signals are read from `/proc`.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::errno::{Errno, report};
use super::linger::Linger;
use crate::config::{REQUEST_GRACE, SIGNAL_POLL_INTERVAL};
use crate::patience;
use crate::tree::TreeError;

/// Whose request it is, what it does, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    /// For the log.
    pub(super) doing: &'static str,
    /// The caller's process; 0 where that is not known.
    pub(super) pid: u32,
    /// How long the caller waits for what is far.
    pub(super) deadline: Duration,
    /// Turns true when nothing is waited for any more.
    pub(super) closing: &'a watch::Sender<bool>,
    /// Looks for the next request, once this one is answered here.
    pub(super) next: &'a Linger,
}

/// Tries `work` on this thread; `None` if it must wait, and then nothing is
/// done. It may borrow what is gone when this returns.
pub(super) fn at_once<T>(
    runtime: &Handle,
    doing: &'static str,
    work: impl Future<Output = Result<T, TreeError>>,
) -> Option<Result<T, Errno>> {
    let _guard = runtime.enter();
    let mut context = Context::from_waker(Waker::noop());
    match pin!(work).poll(&mut context) {
        Poll::Ready(outcome) => Some(outcome.map_err(|error| report(doing, &error))),
        Poll::Pending => None,
    }
}

/// Runs `work` to its end and hands the outcome to `reply`.
pub(super) fn serve<T, W, R>(
    runtime: &Handle,
    Terms {
        doing,
        pid,
        deadline,
        closing,
        next,
    }: Terms<'_>,
    work: W,
    reply: R,
) where
    T: Send + 'static,
    W: Future<Output = Result<T, TreeError>> + Send + 'static,
    R: FnOnce(Result<T, Errno>) + Send + 'static,
{
    let guard = runtime.enter();
    let mut work = Box::pin(patience::within_for(pid, deadline, work));
    let mut context = Context::from_waker(Waker::noop());
    if let Poll::Ready(outcome) = work.as_mut().poll(&mut context) {
        drop(guard);
        reply(outcome.map_err(|error| report(doing, &error)));
        return next.linger();
    }
    drop(guard);
    let until = Instant::now() + deadline + REQUEST_GRACE;
    let mut closing = closing.subscribe();
    runtime.spawn(async move {
        let outcome = tokio::select! {
            outcome = work => outcome.map_err(|error| report(doing, &error)),
            errno = given_up(pid, until) => {
                if errno.0 == libc::ETIMEDOUT {
                    tracing::warn!(doing, "a program waited for the whole deadline");
                }
                Err(errno)
            }
            // As after the end of the process, which is near.
            () = closed(&mut closing) => Err(Errno(libc::ENOTCONN)),
        };
        reply(outcome);
    });
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    drop(closing.wait_for(|closing| *closing).await);
}

/// Ends when the caller should not wait any longer, with what it is told.
async fn given_up(pid: u32, until: Instant) -> Errno {
    let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        sleep.as_mut().await;
        if Instant::now() >= until {
            return Errno(libc::ETIMEDOUT);
        }
        if signal_is_pending(pid) {
            return Errno(libc::EINTR);
        }
        let next = (Instant::now() + SIGNAL_POLL_INTERVAL).min(until);
        sleep.as_mut().reset(next.into());
    }
}

/// Whether a thread has a signal waiting that ends it or that it handles.
/// False where that can't be told (another pid namespace).
fn signal_is_pending(pid: u32) -> bool {
    if pid == 0 {
        return false;
    }
    std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|s| pending(&s))
}

/// Reads the signal masks of a `/proc/<pid>/status`.
fn pending(status: &str) -> bool {
    let mask = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key));
        line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok())
            .unwrap_or(0)
    };
    let waiting = (mask("SigPnd:") | mask("ShdPnd:")) & !mask("SigBlk:") & !mask("SigIgn:");
    waiting & ENDING != 0
}

/// The signals that end a wait. Others (a child's end, a resized window, a
/// profiler's tick) must not make a read fail.
const ENDING: u64 = bit(libc::SIGHUP)
    | bit(libc::SIGINT)
    | bit(libc::SIGQUIT)
    | bit(libc::SIGKILL)
    | bit(libc::SIGALRM)
    | bit(libc::SIGTERM);

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: u64, shared: u64, blocked: u64, ignored: u64) -> String {
        format!(
            "Name:\tcat\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\n\
             SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t0\n"
        )
    }

    #[test]
    fn a_killed_caller_is_seen_and_a_blocked_or_ignored_signal_is_not() {
        let (kill, int) = (bit(libc::SIGKILL), bit(libc::SIGINT));
        assert!(pending(&status(kill, 0, 0, 0)));
        assert!(pending(&status(0, int, 0, 0)));
        assert!(!pending(&status(0, int, int, 0)), "blocked");
        assert!(!pending(&status(int, 0, 0, int)), "ignored");
        assert!(!pending(&status(bit(libc::SIGCHLD), 0, 0, 0)), "harmless");
        assert!(!pending("garbage"));
    }
}
