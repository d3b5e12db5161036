//! `cidfs journal follow` and `log --follow`: entries as they come.
//!
//! From the daemon where one runs, and until it ends. Else from the files of the
//! journal, which other commands write, and from a daemon as soon as one is there.

use std::ops::ControlFlow;
use std::path::Path;

use futures::StreamExt;
use serde_json::{Value, json};

use super::args::Common;
use super::backend::{Backend, find_daemon, need_daemon, repo_dir};
use super::cat::bytes;
use super::failure::Failure;
use super::journal::{ask, line, show};
use super::output::list;
use crate::clock::system_ns;
use crate::config::FOLLOW_INTERVAL;
use crate::control::ops::log_query;
use crate::control::{Call, ErrorKind, OperationError};
use crate::daemon::{journal_of, journal_stamp};
use crate::tree::mfs::log::Query;

/// Shows the last `before` entries, if that is given, and then those that come.
pub(super) async fn run(
    common: &Common,
    params: Value,
    before: Option<usize>,
) -> Result<(), Failure> {
    let ends_with_daemon = find_daemon(common).await?.is_some();
    let mut seen = match before {
        Some(limit) => newest(common, &params, limit).await?,
        None => None,
    };
    loop {
        if is_over(&params, seen, 0)? {
            return Ok(());
        }
        let asked = match seen {
            Some(seen) => with(&params, json!({"since": seen})),
            None => params.clone(),
        };
        if find_daemon(common).await?.is_some() {
            match from_daemon(common, asked).await {
                Ok(last) => {
                    seen = last.or(seen);
                    // What was asked for may have ended, not the daemon.
                    let last = journal_of(&repo_dir(common)?).last();
                    if is_over(&params, last.ok(), system_ns())? {
                        return Ok(());
                    }
                }
                Err(Failure::Error(error)) if !ends_with_daemon && is_ending(&error) => {
                    tokio::time::sleep(FOLLOW_INTERVAL).await;
                }
                Err(error) => return Err(error),
            }
            if ends_with_daemon {
                return Ok(());
            }
        } else {
            match from_files(common, asked).await? {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(looked_at) => seen = looked_at.or(seen),
            }
        }
    }
}

/// Whether nothing that comes after an entry and a time can be wanted any more.
fn is_over(params: &Value, seen: Option<u64>, at_ns: u64) -> Result<bool, Failure> {
    let query = Query {
        cursor: seen,
        ..log_query(params.clone())?
    };
    Ok(seen.is_some() && query.is_over(at_ns))
}

/// Whether a daemon that was found is about to let the repository go.
fn is_ending(error: &OperationError) -> bool {
    matches!(error.kind, ErrorKind::Ending | ErrorKind::Unavailable)
}

/// Parameters with others over them.
fn with(params: &Value, more: Value) -> Value {
    let mut all = params.clone();
    if let (Some(fields), Value::Object(more)) = (all.as_object_mut(), more) {
        fields.extend(more);
    }
    all
}

/// Shows the newest entries, the oldest of them first; gives the last one's number.
async fn newest(common: &Common, params: &Value, limit: usize) -> Result<Option<u64>, Failure> {
    let params = with(params, json!({"limit": limit, "order": "newest"}));
    let found = ask(common, "fs-journal/transactions", params).await?;
    let entries = list(&found, "transactions");
    for entry in entries.iter().rev() {
        show(common, entry, line)?;
    }
    Ok(entries.first().and_then(number))
}

/// The number of an entry.
fn number(entry: &Value) -> Option<u64> {
    entry.get("entry_id").and_then(Value::as_u64)
}

/// Shows entries until the daemon ends; gives the last one's number.
async fn from_daemon(common: &Common, params: Value) -> Result<Option<u64>, Failure> {
    let backend: Backend = need_daemon(common).await?;
    let followed = backend
        .call("fs-journal/follow", Call::with(params))
        .await?;
    let (_, mut stream) = bytes(followed)?;
    let (mut rest, mut seen) = (Vec::new(), None);
    while let Some(piece) = stream.next().await {
        for part in piece?.split_inclusive(|byte| *byte == b'\n') {
            rest.extend_from_slice(part);
            if !part.ends_with(b"\n") {
                continue;
            }
            let entry: Value = serde_json::from_slice(&rest)
                .map_err(|error| OperationError::internal(error.to_string()))?;
            rest.clear();
            show(common, &entry, line)?;
            seen = number(&entry).or(seen);
        }
    }
    backend.close().await?;
    Ok(seen)
}

/// Shows entries that commands write until a daemon is there; gives the number
/// up to which all were looked at, or ends where none that comes can be wanted.
async fn from_files(
    common: &Common,
    params: Value,
) -> Result<ControlFlow<(), Option<u64>>, Failure> {
    let repo = repo_dir(common)?;
    let mut query = log_query(params)?;
    if query.cursor.or(query.since).is_none() {
        query.cursor = Some(journal_of(&repo).last().map_err(OperationError::from)?);
    }
    let mut stamp = None;
    while find_daemon(common).await?.is_none() {
        // Taken first: what comes while it is read is read the next time.
        let (now, asked_ns) = (Some(journal_stamp(&repo)), system_ns());
        if now != stamp {
            read_on(common, &repo, &mut query)?;
            stamp = now;
        }
        if query.is_over(asked_ns) {
            return Ok(ControlFlow::Break(()));
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
    Ok(ControlFlow::Continue(query.cursor.or(query.since)))
}

/// Shows what is new in the files.
fn read_on(common: &Common, repo: &Path, query: &mut Query) -> Result<(), Failure> {
    // A new one: what it remembers of transactions may have changed.
    let log = journal_of(repo);
    loop {
        let last = log.last().map_err(OperationError::from)?;
        let found = log.page(query).map_err(OperationError::from)?;
        for entry in &found.entries {
            let entry = serde_json::to_value(entry)
                .map_err(|error| OperationError::internal(error.to_string()))?;
            show(common, &entry, line)?;
        }
        let seen = found
            .entries
            .last()
            .map_or(last, |entry| entry.entry_id.max(last));
        let next = found.cursor.unwrap_or(seen);
        query.cursor = Some(next.max(query.cursor.unwrap_or(0)));
        if found.cursor.is_none() {
            return Ok(());
        }
    }
}
