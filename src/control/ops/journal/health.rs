//! Health of the journal against thresholds.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{figures, millis};
use crate::config::{
    DISK_FREE_MIN, MONITOR_CHANGES_MAX, MONITOR_PUSH_FAILURES_MAX, MONITOR_TRANSACTIONS_MAX,
    MONITOR_UNSYNCED_MAX,
};
use crate::control::registry::Io;
use crate::control::{Context, Operation, OperationError, Output};

/// Beyond which figures something is not well.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Thresholds {
    /// Changes that are in no checkpoint yet.
    changes_max: u64,
    /// Age of the oldest change that a power loss would take, in milliseconds.
    unsynced_ms_max: u64,
    /// Free bytes of the journal's disk.
    disk_free_min: u64,
    /// Transactions of clients that are under way.
    transactions_max: usize,
    /// Failures in a row of pushing the tree to a node.
    push_failures_max: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            changes_max: MONITOR_CHANGES_MAX,
            unsynced_ms_max: millis(MONITOR_UNSYNCED_MAX),
            disk_free_min: DISK_FREE_MIN,
            transactions_max: MONITOR_TRANSACTIONS_MAX,
            push_failures_max: MONITOR_PUSH_FAILURES_MAX,
        }
    }
}

pub(super) fn operations() -> Vec<Operation> {
    vec![Operation::read(
        "fs-journal/monitor",
        "Tells whether the journal is well, against thresholds.",
        monitor,
    )]
}

/// Failures in a row at one of the configured nodes: nobody goes on trying others.
fn push_failures(context: &Context) -> u32 {
    let nodes = context.push.figures();
    let configured = nodes.iter().filter(|node| node.configured);
    let rows = configured.map(|node| node.failures_in_a_row);
    rows.max().unwrap_or(0)
}

async fn monitor(
    context: Arc<Context>,
    limits: Thresholds,
    _: Io,
) -> Result<Output, OperationError> {
    let figures = figures(&context).await?;
    let unsynced_ms = millis(figures.unsynced_for);
    let free = figures.disk_free_bytes;
    let damage = context.mfs.recovery().errors.len();
    let push_failures = push_failures(&context);
    let checks = [
        check(
            "writable",
            figures.stopped.is_none(),
            json!(figures.stopped),
            Value::Null,
        ),
        check("recovery_errors", damage == 0, damage.into(), 0.into()),
        check(
            "checkpoints",
            figures.checkpoint_failed.is_none(),
            json!(figures.checkpoint_failed),
            Value::Null,
        ),
        check(
            "held_back",
            figures.held_back.is_empty(),
            told_held_back(&figures.held_back),
            Value::Null,
        ),
        check(
            "set_aside",
            figures.set_aside.is_empty(),
            told_set_aside(&figures.set_aside),
            Value::Null,
        ),
        check(
            "changes",
            figures.changes <= limits.changes_max,
            figures.changes.into(),
            limits.changes_max.into(),
        ),
        check(
            "unsynced_ms",
            unsynced_ms <= limits.unsynced_ms_max,
            unsynced_ms.into(),
            limits.unsynced_ms_max.into(),
        ),
        check(
            "disk_free_bytes",
            free.is_none_or(|free| free >= limits.disk_free_min),
            free.into(),
            limits.disk_free_min.into(),
        ),
        check(
            "open_transactions",
            figures.transactions <= limits.transactions_max,
            figures.transactions.into(),
            limits.transactions_max.into(),
        ),
        check(
            "push_failures",
            push_failures <= limits.push_failures_max,
            push_failures.into(),
            limits.push_failures_max.into(),
        ),
    ];
    let healthy = checks
        .iter()
        .all(|one| one.get("ok") == Some(&Value::Bool(true)));
    Ok(Output::Json(json!({"healthy": healthy, "checks": checks})))
}

/// Files that the checkpoint has as they were before, and what to do about it.
fn told_held_back(files: &[(String, String)]) -> Value {
    let Some((path, why)) = files.first() else {
        return Value::Null;
    };
    let count = files.len();
    Value::String(format!(
        "{count} files cannot be sealed, first {path}: {why}; the checkpoint has them as they were \
         before, the journal keeps their changes; write what is damaged anew as a whole, or cut it off"
    ))
}

/// What was set aside, and what to do about it.
fn told_set_aside(names: &[String]) -> Value {
    if names.is_empty() {
        return Value::Null;
    }
    let (count, names) = (names.len(), names.join(", "));
    let text = format!(
        "{count} files of entries that were cut off are in journal/: {names}; \
         look at what was lost, then remove them"
    );
    Value::String(text)
}

fn check(name: &str, ok: bool, value: Value, threshold: Value) -> Value {
    json!({"name": name, "ok": ok, "value": value, "threshold": threshold})
}
