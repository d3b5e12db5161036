//! What goes on by itself: the newest root to a node, again and again until it is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::watch;

use super::attempt::Pushed;
use super::figures::PushProgress;
use super::target::{Target, Wanted};
use super::{OnProgress, PushError};
use crate::config::{PUSH_WAIT_MAX, PUSH_WAIT_MIN};
use crate::tree::mfs::Checkpointed;

/// Pushes the newest root to a node whenever there is one, for ever.
pub(super) async fn run(target: Arc<Target>, mut newest: watch::Receiver<Option<Checkpointed>>) {
    let silent: OnProgress = Arc::new(|_| ());
    // Whether the node was asked in this run if it still has what it had.
    let mut asked = false;
    loop {
        let wanted = newest.borrow_and_update().as_ref().map(Wanted::from);
        let due = wanted.filter(|wanted| !asked || !target.has(&wanted.root));
        let Some(wanted) = due else {
            if newest.changed().await.is_err() {
                return;
            }
            continue;
        };
        match target.attempt(wanted, &silent).await {
            Ok(_) => asked = true,
            // What is newest by then is tried next.
            Err(error) => wait(&target, &error).await,
        }
    }
}

/// Pushes one root until it is there.
pub(super) async fn until_there(
    target: &Arc<Target>,
    wanted: Wanted,
    progress: &OnProgress,
) -> Result<Pushed, PushError> {
    loop {
        let error = match target.attempt(wanted, progress).await {
            Ok(pushed) => return Ok(pushed),
            Err(error) => error,
        };
        progress(&PushProgress {
            node: target.name().to_owned(),
            phase: "waiting",
            blocks: 0,
            blocks_total: 0,
            bytes: 0,
            bytes_total: 0,
        });
        wait(target, &error).await;
    }
}

/// Waits before the next try, and shows that.
async fn wait(target: &Target, error: &PushError) {
    let tries = target.counts.lock().in_a_row;
    let pause = match error {
        PushError::Later { after, .. } => (*after).clamp(PUSH_WAIT_MIN, PUSH_WAIT_MAX),
        PushError::Away(_)
        | PushError::Lacking { .. }
        | PushError::Refused(_)
        | PushError::Unknown(_)
        | PushError::TooMany
        | PushError::Content(_)
        | PushError::Kept { .. } => backoff(tries),
    };
    let node = target.name();
    tracing::warn!(node, tries, ?pause, "the tree is not pushed yet: {error}");
    target.counts.lock().again_at = Some(Instant::now() + pause);
    let _shown = Waiting(target);
    tokio::select! {
        () = tokio::time::sleep(pause) => (),
        () = target.through.notified() => (),
    }
}

/// Shows that a push waits, as long as it does: who waits may be given up.
struct Waiting<'a>(&'a Target);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.counts.lock().again_at = None;
    }
}

/// The wait after so many failures: half of it fixed, half random, so that many do
/// not come back in step.
fn backoff(tries: u32) -> Duration {
    let full = PUSH_WAIT_MIN
        .saturating_mul(1 << tries.saturating_sub(1).min(16))
        .min(PUSH_WAIT_MAX);
    full / 2 + full.mul_f64(rand::rng().random_range(0.0..0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_never_none() {
        for (tries, full) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (5, 16),
            (9, 256),
            (10, 300),
            (u32::MAX, 300),
        ] {
            let full = Duration::from_secs(full);
            let wait = backoff(tries);
            assert!(wait >= full / 2 && wait <= full, "{tries}: {wait:?}");
        }
    }
}
