//! The daemon or whoever else has the repository, its journal, the sources.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Check, in_time, within};
use crate::cli::output::{list, number, text};
use crate::clock::{Clock, SystemClock};
use crate::config::DOCTOR_WAIT;
use crate::control::client::Client;
use crate::control::server::SOCKET_NAME;
use crate::control::{Call, Output};
use crate::repo;
use crate::source::Sources;

const GROUP: &str = "daemon";
const SOURCES: &str = "sources";

pub(super) async fn checks(dir: &Path) -> Vec<Check> {
    if !dir.is_dir() {
        return Vec::new();
    }
    let client = match within(DOCTOR_WAIT, Client::find(dir)).await {
        Some(Ok(client)) => client,
        Some(Err(error)) => {
            let next = "is it the daemon of another user?";
            return vec![Check::fail(GROUP, "socket", error, next)];
        }
        None => return vec![silent(dir)],
    };
    let Some(client) = client else {
        let mut checks = vec![nobody_answers(dir)];
        checks.extend(configured_sources(dir).await);
        return checks;
    };
    let Some(version) = ask(&client, "version").await else {
        return vec![silent(dir)];
    };
    let mut checks = vec![answering(&version)];
    if let Some(monitor) = ask(&client, "fs-journal/monitor").await {
        checks.push(journal(&monitor));
    }
    match ask(&client, "sources/test").await {
        Some(probes) => checks.extend(list(&probes, "results").iter().map(source)),
        None => checks.push(slow_sources()),
    }
    checks
}

async fn ask(client: &Client, operation: &str) -> Option<Value> {
    let asked = client.call(operation, false, Call::with(json!({})));
    match within(DOCTOR_WAIT, asked).await? {
        Ok(Output::Json(value)) => Some(value),
        Ok(Output::Bytes { .. }) | Err(_) => None,
    }
}

fn silent(dir: &Path) -> Check {
    let found = format!(
        "a daemon has its socket open and gave no answer in {} s",
        DOCTOR_WAIT.as_secs()
    );
    let next = format!("{}/daemon.log tells what it does", dir.display());
    Check::fail(GROUP, "socket", found, next)
}

fn answering(version: &Value) -> Check {
    let (theirs, ours) = (text(version, "version"), env!("CARGO_PKG_VERSION"));
    let found = format!(
        "process {} answers, version {theirs}",
        number(version, "pid")
    );
    if theirs != ours {
        let next = format!("cidfs shutdown, and mount again with this version, {ours}");
        return Check::warn(GROUP, "socket", found, next);
    }
    Check::ok(GROUP, "socket", found)
}

/// No daemon runs: the repository should be free then.
fn nobody_answers(dir: &Path) -> Check {
    match repo::holder(dir) {
        Ok(Some(pid)) => Check::warn(
            GROUP,
            "lock",
            format!("process {pid} has the repository open and answers no socket"),
            format!("a command that runs, or a daemon that starts; else: kill {pid}"),
        ),
        Ok(None) if dir.join(SOCKET_NAME).exists() => Check::ok(
            GROUP,
            "socket",
            "none runs; the one before was killed, which is no harm",
        ),
        Ok(None) => Check::ok(GROUP, "socket", "none runs; the first mount starts one"),
        Err(error) => Check::fail(GROUP, "lock", error, "is the repository yours?"),
    }
}

fn journal(monitor: &Value) -> Check {
    let wrong: Vec<String> = list(monitor, "checks")
        .iter()
        .filter(|check| check.get("ok") == Some(&Value::Bool(false)))
        .map(|check| format!("{} is {}", text(check, "name"), text(check, "value")))
        .collect();
    if wrong.is_empty() {
        return Check::ok(GROUP, "journal", "within its thresholds");
    }
    let stopped = wrong.iter().any(|one| one.starts_with("writable "));
    let (found, next) = (wrong.join(", "), "cidfs fsck; cidfs journal status");
    match stopped {
        true => Check::fail(GROUP, "journal", found, next),
        false => Check::warn(GROUP, "journal", found, next),
    }
}

/// Asks the sources of the configuration from here.
async fn configured_sources(dir: &Path) -> Vec<Check> {
    // What is wrong with the file itself is said elsewhere.
    let Ok(config) = repo::read_config(dir) else {
        return Vec::new();
    };
    let opened = in_time(move || {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Sources::open(&config.source, config.fetch.strategy, &clock)
    });
    let sources = match opened.await {
        Some(Ok(sources)) => sources,
        Some(Err(error)) => {
            let next = "mend or remove it in config.toml: no daemon starts with it";
            return vec![Check::fail(SOURCES, "source", error, next)];
        }
        None => return vec![slow_sources()],
    };
    let Some(probes) = within(DOCTOR_WAIT, sources.test(None)).await else {
        return vec![slow_sources()];
    };
    let answers = probes.into_iter().map(|probe| {
        let error = probe.answer.err().map(|error| error.to_string());
        let ms = u64::try_from(probe.took.as_millis()).unwrap_or(u64::MAX);
        source(&json!({"name": probe.name, "ok": error.is_none(), "ms": ms, "error": error}))
    });
    answers.collect()
}

fn slow_sources() -> Check {
    let found = format!("some gave no answer in {} s", DOCTOR_WAIT.as_secs());
    Check::warn(SOURCES, "source", found, "cidfs sources test tells which")
}

fn source(probe: &Value) -> Check {
    let name = text(probe, "name");
    if probe.get("ok") == Some(&Value::Bool(true)) {
        let found = format!("{name} answers in {} ms", number(probe, "ms"));
        return Check::ok(SOURCES, "source", found);
    }
    let found = format!("{name}: {}", text(probe, "error"));
    let next = "is it there, and the network? What is local is read all the same";
    Check::warn(SOURCES, "source", found, next)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_repository_that_somebody_holds_without_a_socket_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(nobody_answers(dir.path()).status, Status::Ok);
        let held = repo::Repo::open(dir.path()).unwrap();
        let check = nobody_answers(dir.path());
        let pid = std::process::id().to_string();
        assert!(
            check.status == Status::Warn && check.found.contains(&pid),
            "{check:?}"
        );
        drop(held);
        assert_eq!(nobody_answers(dir.path()).status, Status::Ok);
    }

    #[test]
    fn a_daemon_of_another_version_is_warned_of() {
        let answer = |version: &str| answering(&json!({"version": version, "pid": 7})).status;
        assert_eq!(answer(env!("CARGO_PKG_VERSION")), Status::Ok);
        assert_eq!(answer("0.0.1"), Status::Warn);
    }

    #[test]
    fn a_journal_that_takes_nothing_more_fails_and_one_over_a_threshold_warns() {
        let check = |name: &str, ok: bool| {
            let checks = json!([{"name": name, "ok": ok, "value": 7, "threshold": 5}]);
            journal(&json!({"checks": checks})).status
        };
        assert_eq!(check("changes", true), Status::Ok);
        assert_eq!(check("changes", false), Status::Warn);
        assert_eq!(check("writable", false), Status::Fail);
    }

    #[tokio::test]
    async fn a_source_that_cannot_be_opened_fails_and_one_that_is_away_warns() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.toml");
        let checks = async || configured_sources(dir.path()).await;
        assert_eq!(checks().await, []);
        let gone = "[[source]]\nkind = \"car\"\npath = \"/nonexistent.car\"\n";
        std::fs::write(&config, gone).unwrap();
        assert_eq!(
            checks().await.first().map(|one| one.status),
            Some(Status::Fail)
        );
        // A port that nobody listens at.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let away = format!("[[source]]\nkind = \"gateway\"\nurl = \"http://127.0.0.1:{port}\"\n");
        std::fs::write(&config, away).unwrap();
        assert_eq!(
            checks().await.first().map(|one| one.status),
            Some(Status::Warn)
        );
    }
}
