//! Entries: listed, shown, exported, followed.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::super::pins::run_blocking;
use super::tree::parse;
use crate::clock::system_ns;
use crate::config::{FOLLOW_INTERVAL, LOG_ENTRIES_MAX, LOG_ENTRIES_PLAIN, LOG_FRAMES_PAGE};
use crate::control::channel::stream_of;
use crate::control::http::NDJSON;
use crate::control::raw::Raw;
use crate::control::registry::{Io, decode};
use crate::control::{ByteStream, Context, Operation, OperationError, Output};
use crate::tree::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::log::{Entry, OPERATIONS, Order, Query, Status, time};
use crate::tree::mfs::path::TreePath;

/// Which entries are wanted. What is not said is not looked at.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Which {
    /// `newest` first (as a list is by default) or `oldest` first.
    order: Option<String>,
    /// Most entries of one answer.
    limit: Option<usize>,
    /// Where the answer before ended: its `cursor`.
    cursor: Option<u64>,
    /// `pending`, `completed`, `failed` or `rolled_back`.
    status: Option<String>,
    /// Types of operations, such as `write`.
    operation: Vec<String>,
    /// A path of the tree: what concerns it or something below it.
    path: Option<Raw>,
    /// From this time on: RFC 3339, or seconds since the epoch.
    from: Option<String>,
    /// Before this time.
    until: Option<String>,
    /// After the entry with this number.
    since: Option<u64>,
    /// Before the entry with this number.
    before: Option<u64>,
    /// Of this transaction.
    transaction: Option<u64>,
}

/// Which entry.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// Its number.
    id: u64,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::read(
            "fs-journal/transactions",
            "Lists entries of the journal, filtered, page by page.",
            list,
        ),
        Operation::read("fs-journal/entry", "Shows one entry of the journal.", entry),
        Operation::read(
            "fs-journal/export",
            "Gives entries as lines of JSON, the oldest first.",
            export,
        )
        .giving(NDJSON)
        .long(),
        Operation::read(
            "fs-journal/follow",
            "Gives entries as lines of JSON as they come, until the caller leaves or none can match.",
            follow,
        )
        .giving(NDJSON)
        .endless(),
    ]
}

impl Which {
    /// What is asked of the tree of a context.
    async fn query(self, context: &Context, plain: Order) -> Result<Query, OperationError> {
        if let Some(path) = &self.path {
            refuse_mount_path(context, path).await?;
        }
        self.plain_query(plain)
    }

    fn plain_query(self, plain: Order) -> Result<Query, OperationError> {
        let order = match self.order.as_deref() {
            None => plain,
            Some("newest") => Order::Newest,
            Some("oldest") => Order::Oldest,
            Some(other) => {
                let message = format!("order {other:?} is neither newest nor oldest");
                return Err(OperationError::invalid(message));
            }
        };
        let limit = self.limit.unwrap_or(LOG_ENTRIES_PLAIN);
        if limit == 0 || limit > LOG_ENTRIES_MAX {
            let message = format!("limit must be from 1 to {LOG_ENTRIES_MAX}");
            return Err(OperationError::invalid(message));
        }
        for name in &self.operation {
            if !OPERATIONS.contains(&name.as_str()) {
                let message = format!("there is no operation {name:?}");
                return Err(OperationError::invalid(message).hint(OPERATIONS.join(", ")));
            }
        }
        let path = self.path.as_ref().map(parse).transpose()?;
        let from_ns = self.from.as_deref().map(instant).transpose()?;
        let until_ns = self.until.as_deref().map(instant).transpose()?;
        if from_ns
            .zip(until_ns)
            .is_some_and(|(from, until)| from >= until)
        {
            return Err(never("from", "until"));
        }
        let sides = self.since.zip(self.before);
        if sides.is_some_and(|(since, before)| since.saturating_add(1) >= before) {
            return Err(never("since", "before"));
        }
        Ok(Query {
            order,
            cursor: self.cursor,
            limit,
            status: self.status.as_deref().map(status).transpose()?,
            operations: self.operation,
            path: path.map(|path| path.bytes()),
            from_ns,
            until_ns,
            since: self.since,
            before: self.before,
            transaction: self.transaction,
        })
    }
}

fn never(after: &str, before: &str) -> OperationError {
    OperationError::invalid(format!("nothing is between {after} and {before}"))
}

/// Reads what is asked of a journal that no daemon has open, to follow it.
pub fn log_query(params: serde_json::Value) -> Result<Query, OperationError> {
    let query = decode::<Which>(params)?.plain_query(Order::Oldest)?;
    Ok(Query {
        limit: LOG_FRAMES_PAGE,
        ..query
    })
}

/// Refuses a path as a mount shows it: entries have those of the tree.
async fn refuse_mount_path(context: &Context, path: &Raw) -> Result<(), OperationError> {
    let in_mount = path.bytes() == b"/mfs" || path.bytes().starts_with(b"/mfs/");
    // One that stands below the mount would never match, unless it has such a name.
    if in_mount && let Err(TreeError::NotFound) = context.mfs.find(&TreePath::top(b"mfs")).await {
        let message = format!("{path} is a path of a mount: entries have paths of the tree");
        return Err(OperationError::invalid(message).hint("leave /mfs out"));
    }
    Ok(())
}

fn status(name: &str) -> Result<Status, OperationError> {
    let all = [
        Status::Pending,
        Status::Completed,
        Status::Failed,
        Status::RolledBack,
    ];
    all.into_iter()
        .find(|one| one.name() == name)
        .ok_or_else(|| {
            let message = format!("status {name:?} is none");
            OperationError::invalid(message).hint("pending, completed, failed, rolled_back")
        })
}

fn instant(text: &str) -> Result<u64, OperationError> {
    time::parse(text).ok_or_else(|| {
        OperationError::invalid(format!("{text:?} is no time"))
            .hint("2026-01-31T12:00:00Z, 2026-01-31, or seconds since the epoch")
    })
}

async fn list(context: Arc<Context>, which: Which, _: Io) -> Result<Output, OperationError> {
    let query = which.query(&context, Order::Newest).await?;
    let mfs = Arc::clone(&context.mfs);
    let found = run_blocking(move || Ok(mfs.history().page(&query)?)).await?;
    Ok(Output::Json(json!({
        "transactions": found.entries,
        "cursor": found.cursor,
        "looked_at": found.looked_at,
        "damage": found.damage,
    })))
}

async fn entry(context: Arc<Context>, one: One, _: Io) -> Result<Output, OperationError> {
    let mfs = Arc::clone(&context.mfs);
    let found = run_blocking(move || Ok(mfs.history().get(one.id)?)).await?;
    let found = found.ok_or_else(|| {
        OperationError::not_found(format!("entry {} is not in the journal", one.id))
            .hint("older entries go after the retention; `cidfs journal status` tells the first")
    })?;
    let entry = serde_json::to_value(found);
    Ok(Output::Json(entry.map_err(|error| {
        OperationError::internal(error.to_string())
    })?))
}

fn line(entry: &Entry) -> Result<String, OperationError> {
    let text = serde_json::to_string(entry);
    Ok(text.map_err(|error| OperationError::internal(error.to_string()))? + "\n")
}

async fn export(context: Arc<Context>, which: Which, _: Io) -> Result<Output, OperationError> {
    let limit = which.limit;
    let paged = Which {
        limit: None,
        ..which
    };
    let mut query = paged.query(&context, Order::Oldest).await?;
    query.limit = LOG_FRAMES_PAGE;
    let mfs = Arc::clone(&context.mfs);
    let stream = stream_of(move |out| {
        let mut left = limit.unwrap_or(usize::MAX);
        while left > 0 {
            query.limit = LOG_FRAMES_PAGE.min(left);
            let found = mfs.history().page(&query)?;
            for entry in &found.entries {
                out.write_all(line(entry)?.as_bytes())?;
            }
            if let Some(damage) = found.damage.first() {
                // What is missing must not look as if it had never been there.
                let line = json!({"damage": damage});
                out.write_all(format!("{line}\n").as_bytes())?;
            }
            left -= found.entries.len().min(left);
            match found.cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => break,
            }
        }
        Ok(())
    });
    Ok(Output::Bytes {
        content_type: NDJSON,
        length: None,
        stream,
    })
}

async fn follow(context: Arc<Context>, which: Which, _: Io) -> Result<Output, OperationError> {
    let mut query = Which {
        limit: None,
        ..which
    }
    .query(&context, Order::Oldest)
    .await?;
    query.order = Order::Oldest;
    query.limit = LOG_FRAMES_PAGE;
    let mfs = Arc::clone(&context.mfs);
    if query.cursor.or(query.since).is_none() {
        query.cursor = Some(mfs.history().last()?);
    }
    let stream = following(mfs, query);
    Ok(Output::Bytes {
        content_type: NDJSON,
        length: None,
        stream,
    })
}

/// Entries as they come. Ends with the tree, when nobody reads on, or when none
/// that comes can be wanted.
fn following(mfs: Arc<Mfs>, query: Query) -> ByteStream {
    stream::unfold(Some((mfs, query)), |state| async move {
        let (mfs, mut query) = state?;
        loop {
            if mfs.is_closing() {
                return None;
            }
            let asked_ns = system_ns();
            let (log, asked) = (Arc::clone(&mfs), query.clone());
            let found = run_blocking(move || {
                // Asked first: what comes later is found the next time.
                let last = log.history().last()?;
                Ok((last, log.history().page(&asked)?))
            });
            let (last, found) = match found.await {
                Ok(found) => found,
                Err(error) => return Some((Err(error), None)),
            };
            let seen = found.entries.last().map_or(0, |entry| entry.entry_id);
            let next = found
                .cursor
                .unwrap_or(seen.max(last))
                .max(query.cursor.unwrap_or(0));
            query.cursor = Some(next);
            let mut lines = String::new();
            for entry in &found.entries {
                match line(entry) {
                    Ok(line) => lines.push_str(&line),
                    Err(error) => return Some((Err(error), None)),
                }
            }
            let is_over = found.cursor.is_none() && query.is_over(asked_ns);
            if !lines.is_empty() {
                let rest = (!is_over).then_some((mfs, query));
                return Some((Ok(Bytes::from(lines)), rest));
            }
            if is_over {
                return None;
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    })
    .boxed()
}
