//! `cidfs doctor`: what is wrong with this machine, the repository and the mounts.
//!
//! Looks, and changes nothing: a repository that is not there is not made, and
//! one that is in use is asked through its daemon. Every check says what was
//! found, and, where that is not good, what to do next. Nothing here waits
//! longer than [`DOCTOR_WAIT`](crate::config::DOCTOR_WAIT) for an answer.

mod daemon;
mod kernel;
mod mounts;
mod repository;

use std::fmt::Display;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::args::Common;
use super::backend::repo_dir;
use super::failure::Failure;
use super::output::{print, print_json, safe};
use crate::config::DOCTOR_WAIT;

/// Flags of `cidfs doctor`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Exit codes: 0 nothing stands in the way (warnings may be there), 1 something does.")]
pub(super) struct Doctor {}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could, or not for long.
    Warn,
    /// Something cannot work.
    Fail,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    group: &'static str,
    name: &'static str,
    status: Status,
    found: String,
    /// What to do next.
    #[serde(rename = "try", skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Check {
    fn ok(group: &'static str, name: &'static str, found: impl Display) -> Self {
        Self {
            group,
            name,
            status: Status::Ok,
            found: found.to_string(),
            next: None,
        }
    }

    fn warn(
        group: &'static str,
        name: &'static str,
        found: impl Display,
        next: impl Display,
    ) -> Self {
        Self {
            status: Status::Warn,
            next: Some(next.to_string()),
            ..Self::ok(group, name, found)
        }
    }

    fn fail(
        group: &'static str,
        name: &'static str,
        found: impl Display,
        next: impl Display,
    ) -> Self {
        Self {
            status: Status::Fail,
            ..Self::warn(group, name, found, next)
        }
    }
}

pub(super) async fn run(common: &Common, _: Doctor) -> Result<(), Failure> {
    let dir = repo_dir(common)?;
    let mut checks = kernel::checks();
    let at = dir.clone();
    let found = in_time(move || repository::checks(&at)).await;
    checks.extend(found.unwrap_or_else(|| vec![repository::silent(&dir)]));
    checks.extend(daemon::checks(&dir).await);
    checks.extend(mounts::checks().await);
    let worst = checks.iter().map(|check| check.status).max();
    let healthy = worst != Some(Status::Fail);
    match common.json {
        true => print_json(&json!({"healthy": healthy, "checks": checks}))?,
        false => print(&lines(&checks))?,
    }
    match healthy {
        true => Ok(()),
        false => Err(Failure::Quiet(1)),
    }
}

/// Runs what may wait for a disk or a mount that does not answer; `None` where
/// it takes too long. The thread is left behind then.
async fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    within(DOCTOR_WAIT, tokio::task::spawn_blocking(work))
        .await
        .and_then(Result::ok)
}

async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

fn lines(checks: &[Check]) -> String {
    let mut out = String::new();
    let mut group = "";
    for check in checks {
        if check.group != group {
            group = check.group;
            out.push_str(&format!("{group}\n"));
        }
        let mark = match check.status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        out.push_str(&format!(
            "  {mark}  {}: {}\n",
            check.name,
            safe(&check.found)
        ));
        if let Some(next) = &check.next {
            out.push_str(&format!("        try: {}\n", safe(next)));
        }
    }
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    out + &format!(
        "{} checks, {} warnings, {} failures\n",
        checks.len(),
        count(Status::Warn),
        count(Status::Fail)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_shown_with_what_to_do_next() {
        let checks = [
            Check::ok("system", "kernel", "Linux 6.18"),
            Check::fail("mounts", "mount", "/a\u{1b}b is stale", "cidfs umount /a"),
        ];
        let text = lines(&checks);
        assert!(text.contains("FAIL  mount: /a\\u{1b}b is stale\n        try: cidfs umount /a\n"));
        assert!(text.ends_with("2 checks, 0 warnings, 1 failures\n"));
    }

    #[tokio::test]
    async fn what_does_not_answer_is_not_waited_for() {
        let never = std::future::pending::<()>();
        assert_eq!(within(Duration::from_millis(5), never).await, None);
    }
}
