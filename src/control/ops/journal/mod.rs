//! The journal of the writable tree: figures, entries, checkpoints, checks.

mod entries;
mod health;
mod look;
mod push;
mod snapshots;
mod transactions;
mod tree;

pub use entries::log_query;
pub(super) use push::push_fields;
pub(super) use tree::link_added;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::core::Nothing;
use super::pins::run_blocking;
use crate::control::registry::Io;
use crate::control::{Context, Operation, OperationError, Output, Progress};
use crate::tree::mfs::log::time;
use crate::tree::mfs::{Checkpointed, Figures, FsckProgress};

/// How to show what a recovery does.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Recover {
    /// Only tell what a recovery would find; this is all that it does beside
    /// telling what the last one found.
    #[serde(default)]
    dry_run: bool,
}

pub(super) fn operations() -> Vec<Operation> {
    let mut all = vec![
        Operation::read(
            "fs-journal/status",
            "Tells what the journal and the writable tree do.",
            status,
        ),
        Operation::write(
            "fs-journal/checkpoint",
            "Makes the whole tree a root CID and names it in the journal.",
            checkpoint,
        )
        .long(),
        Operation::read(
            "fs-journal/recover",
            "Tells what the recovery at the start found, or what one would find now.",
            recover,
        )
        .long(),
        Operation::read(
            "fs-journal/verify",
            "Checks every checksum of the journal.",
            verify,
        )
        .long(),
    ];
    all.push(
        Operation::read(
            "fs-journal/fsck",
            "Checks the journal, the checkpoints, and all blocks and records of the tree.",
            fsck,
        )
        .long(),
    );
    all.extend(entries::operations());
    all.extend(health::operations());
    all.extend(transactions::operations());
    all.extend(tree::operations());
    all.extend(look::operations());
    all.extend(push::operations());
    all.extend(snapshots::operations());
    all
}

async fn figures(context: &Arc<Context>) -> Result<Figures, OperationError> {
    let mfs = Arc::clone(&context.mfs);
    run_blocking(move || Ok(mfs.figures()?)).await
}

async fn status(context: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    let figures = figures(&context).await?;
    let journal = figures.journal;
    Ok(Output::Json(json!({
        "journal": {
            "segments": journal.segments,
            "first": journal.first.0,
            "last": journal.last.0,
            "durable": journal.durable.0,
            "bytes": journal.bytes,
            "syncs": journal.syncs,
            "unsynced_ms": millis(figures.unsynced_for),
            "given_up_segments": figures.given_up.0,
            "given_up_bytes": figures.given_up.1,
        },
        "stopped": figures.stopped,
        "checkpoint": figures.checkpoint.as_ref().map(checkpoint_fields),
        "checkpoint_failed": figures.checkpoint_failed,
        "held_back": figures.held_back.iter()
            .map(|(path, why)| json!({"path": path, "why": why}))
            .collect::<Vec<_>>(),
        "changes": figures.changes,
        "changed_bytes": figures.changed_bytes,
        "tree": {
            "nodes": figures.nodes,
            "dirty": figures.dirty,
            "unsealed_bytes": figures.unsealed_bytes,
        },
        "open_transactions": open_transactions(&context),
        "snapshots": context.mfs.checkpoints().len(),
        "set_aside": figures.set_aside,
        "recovery": context.mfs.recovery(),
        "push": push_fields(&context),
        "disk_free_bytes": figures.disk_free_bytes,
    })))
}

/// The tree in short.
pub(super) fn tree_fields(context: &Context) -> Value {
    let checkpoints = context.mfs.checkpoints();
    json!({
        "stopped": context.mfs.stopped(),
        "checkpoint": checkpoints.last().map(checkpoint_fields),
        "changes": context.mfs.changes(),
    })
}

fn open_transactions(context: &Context) -> Vec<Value> {
    let open = context.mfs.transactions().into_iter();
    let told = open.map(|one| {
        let (age_ms, left_ms) = (millis(one.age), millis(one.left));
        json!({"transaction": one.id, "staged": one.staged, "age_ms": age_ms, "left_ms": left_ms})
    });
    told.collect()
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A checkpoint as it is shown.
pub(super) fn checkpoint_fields(one: &Checkpointed) -> Value {
    json!({
        "sequence": one.sequence,
        "time": time::format_at(one.time.sec, one.time.nsec),
        "root": one.root.to_string(),
        "posix": one.posix.map(|cid| cid.to_string()),
        "commit": one.commit.to_string(),
    })
}

async fn checkpoint(context: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    // On a task of its own: one whose caller leaves is finished all the same.
    let mfs = Arc::clone(&context.mfs);
    let made = tokio::spawn(async move { mfs.checkpoint().await }).await;
    let made = made.map_err(|error| OperationError::internal(error.to_string()))??;
    Ok(Output::Json(checkpoint_fields(&made)))
}

async fn recover(context: Arc<Context>, how: Recover, _: Io) -> Result<Output, OperationError> {
    let found = serde_json::to_value(context.mfs.recovery());
    let mut report = found.map_err(|error| OperationError::internal(error.to_string()))?;
    if let (true, Some(fields)) = (how.dry_run, report.as_object_mut()) {
        fields.insert("dry_run".to_owned(), true.into());
        // What it found is what one would find: it has changed nothing.
        if context.mfs.is_only_read() {
            return Ok(Output::Json(report));
        }
        let since = context
            .mfs
            .checkpoints()
            .last()
            .map_or(0, |last| last.sequence);
        let mfs = Arc::clone(&context.mfs);
        let counts = run_blocking(move || Ok(mfs.history().count_since(since)?)).await?;
        fields.insert("checkpoint".to_owned(), (since > 0).then_some(since).into());
        fields.insert("entries_seen".to_owned(), counts.seen.into());
        fields.insert("entries_applied".to_owned(), counts.applied.into());
        fields.insert("rolled_back".to_owned(), counts.rolled_back.into());
        fields.insert("torn_bytes".to_owned(), 0.into());
    }
    Ok(Output::Json(report))
}

async fn verify(context: Arc<Context>, _: Nothing, io: Io) -> Result<Output, OperationError> {
    let mfs = Arc::clone(&context.mfs);
    run_blocking(move || {
        let report = mfs.verify_journal(|at| {
            io.progress.tick(
                || json!({"entries": at.frames, "bytes": at.bytes, "bytes_total": at.bytes_total}),
            );
            true
        })?;
        let damage: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
        Ok(Output::Json(json!({
            "segments": report.segments,
            "entries": report.frames,
            "first": report.first.map(|seq| seq.0),
            "last": report.last.map(|seq| seq.0),
            "bytes": report.bytes,
            "damaged": report.damaged,
            "damage": damage,
            "torn": report.torn.map(|torn| torn.to_string()),
            "clean": report.damaged == 0,
        })))
    })
    .await
}

async fn fsck(context: Arc<Context>, _: Nothing, io: Io) -> Result<Output, OperationError> {
    let found = context
        .mfs
        .inspect(&|at| fsck_tick(&io.progress, at))
        .await?;
    let report = serde_json::to_value(&found);
    let mut report = report.map_err(|error| OperationError::internal(error.to_string()))?;
    if let Some(fields) = report.as_object_mut() {
        fields.insert("clean".to_owned(), found.problems.is_empty().into());
    }
    Ok(Output::Json(report))
}

/// Reports how far a check is.
pub fn fsck_tick(progress: &Progress, at: FsckProgress) {
    progress.tick(|| match at {
        FsckProgress::Journal(bytes, total) => json!({"bytes": bytes, "bytes_total": total}),
        FsckProgress::Blocks(blocks) => json!({"blocks": blocks}),
        FsckProgress::Records(records) => json!({"records": records}),
    });
}
