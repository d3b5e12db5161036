//! Kept checkpoints: listed, compared, taken back from.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::core::Nothing;
use super::checkpoint_fields;
use super::transactions::caller;
use super::tree::parse;
use crate::config::{DIFFERENCES_MAX, DIFFERENCES_PLAIN};
use crate::control::raw::{self, Raw};
use crate::control::registry::Io;
use crate::control::{Context, ErrorKind, Operation, OperationError, Output};
use crate::tree::TreeError;
use crate::tree::mfs::{Checkpointed, Restore};

/// What to compare.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Diff {
    /// The earlier state: the sequence of a kept checkpoint, its commit or root CID.
    from: String,
    /// The later state; without it the tree as it is now (a checkpoint is made).
    #[serde(default)]
    to: Option<String>,
    /// Only below this path.
    #[serde(default)]
    path: Raw,
    /// Most differences to give.
    #[serde(default)]
    limit: Option<usize>,
}

/// What to take back.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// The sequence of a kept checkpoint, its commit or root CID.
    snapshot: String,
    /// Path in the snapshot; `/` is all of it.
    path: Raw,
    /// Where it goes in the tree; without it, to the same path.
    #[serde(default)]
    to: Option<Raw>,
    /// Replaces what is there.
    #[serde(default)]
    replace: bool,
    /// Only the content, as a whole and at once, without owners, modes, times,
    /// attributes and special files below it.
    #[serde(default)]
    content_only: bool,
}

/// What to let go.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LetGo {
    /// Sequences of kept checkpoints, their commit or root CIDs.
    #[serde(default)]
    snapshots: Vec<String>,
    /// All but the newest so many, and those that are named. If the tree has
    /// changed, a checkpoint is made first and is the newest.
    #[serde(default)]
    keep: Option<usize>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::read(
            "fs-journal/snapshots/list",
            "Lists the kept checkpoints.",
            list,
        ),
        Operation::write(
            "fs-journal/snapshots/diff",
            "Tells which paths differ between two checkpoints.",
            diff,
        )
        .long(),
        Operation::write(
            "fs-journal/snapshots/restore",
            "Brings a path back as a kept checkpoint has it.",
            restore,
        )
        .long(),
        Operation::write(
            "fs-journal/snapshots/remove",
            "Lets kept checkpoints go; `cache/gc` frees what only they had.",
            remove,
        ),
    ]
}

async fn list(context: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    let kept = context.mfs.checkpoints();
    let kept: Vec<Value> = kept.iter().rev().map(checkpoint_fields).collect();
    Ok(Output::Json(json!({"snapshots": kept})))
}

async fn remove(context: Arc<Context>, which: LetGo, _: Io) -> Result<Output, OperationError> {
    if which.snapshots.is_empty() && which.keep.is_none() {
        return Err(OperationError::invalid(
            "name `snapshots`, or say how many to `keep`",
        ));
    }
    // What was changed since the newest would stay in it, whatever else goes.
    if which.keep.is_some()
        && let Err(error) = context.mfs.checkpoint().await
    {
        tracing::warn!(%error, "checkpoints are let go without a new one");
    }
    let mut gone = BTreeSet::new();
    let kept = context.mfs.checkpoints();
    for name in &which.snapshots {
        gone.insert(named(&context, name)?.sequence);
    }
    if let Some(newest) = kept.last()
        && gone.contains(&newest.sequence)
    {
        let message = "the newest checkpoint is what the tree rests on, and stays";
        return Err(OperationError::new(ErrorKind::Invalid, message));
    }
    if let Some(keep) = which.keep {
        let excess = kept.len().saturating_sub(keep.max(1));
        gone.extend(kept.iter().take(excess).map(|one| one.sequence));
    }
    let gone = context.mfs.let_go(&gone).await?;
    let gone: Vec<Value> = gone.iter().map(checkpoint_fields).collect();
    let left = context.mfs.checkpoints().len();
    Ok(Output::Json(json!({"removed": gone, "snapshots": left})))
}

/// Finds a kept checkpoint.
fn named(context: &Context, name: &str) -> Result<Checkpointed, OperationError> {
    let kept = context.mfs.checkpoints();
    let is_it = |one: &&Checkpointed| {
        one.sequence.to_string() == name
            || one.commit.to_string() == name
            || one.root.to_string() == name
    };
    kept.iter().rev().find(is_it).copied().ok_or_else(|| {
        OperationError::not_found(format!("no kept checkpoint is {name:?}"))
            .hint("`cidfs snapshot ls` lists them")
    })
}

async fn diff(context: Arc<Context>, what: Diff, _: Io) -> Result<Output, OperationError> {
    let limit = what.limit.unwrap_or(DIFFERENCES_PLAIN);
    if limit == 0 || limit > DIFFERENCES_MAX {
        let message = format!("limit must be from 1 to {DIFFERENCES_MAX}");
        return Err(OperationError::invalid(message));
    }
    let from = named(&context, &what.from)?;
    // A checkpoint that is made now may let it go.
    let _held = context.mfs.hold_checkpoint(&from).await?;
    let to = match what.to.as_deref() {
        Some(name) => named(&context, name)?,
        None => context.mfs.checkpoint_in_passing().await?,
    };
    let below = parse(&what.path)?;
    let found = context.mfs.differences(&from, &to, &below, limit).await;
    let found = found.map_err(|error| OperationError::from(error).context(&what.path))?;
    let differences: Vec<Value> = found
        .list
        .iter()
        .map(|one| {
            let mut told = json!({
                "path": String::from_utf8_lossy(&one.path),
                "change": one.change,
                "old": one.old.map(|cid| cid.to_string()),
                "new": one.new.map(|cid| cid.to_string()),
            });
            if let (Err(_), Some(fields)) = (std::str::from_utf8(&one.path), told.as_object_mut()) {
                fields.insert("path_bytes".to_owned(), raw::encoded(&one.path).into());
            }
            told
        })
        .collect();
    Ok(Output::Json(json!({
        "from": from.sequence,
        "to": to.sequence,
        "differences": differences,
        "truncated": found.truncated,
    })))
}

/// Why nothing came back: with the path, and what to do.
fn refused(error: TreeError, what: &Restore) -> OperationError {
    let exists = matches!(error, TreeError::Exists | TreeError::NotEmpty);
    let at = if exists { &what.to } else { &what.from };
    let error = OperationError::from(error).context(String::from_utf8_lossy(&at.bytes()));
    match exists && !what.replace {
        true => error.hint("`--replace` (`replace`) puts it in the place of what is there"),
        false => error,
    }
}

async fn restore(context: Arc<Context>, what: Wanted, io: Io) -> Result<Output, OperationError> {
    let snapshot = named(&context, &what.snapshot)?;
    let from = parse(&what.path)?;
    let to = what.to.as_ref().map_or_else(|| Ok(from.clone()), parse)?;
    let what = Restore {
        snapshot,
        from,
        to,
        replace: what.replace,
        content_only: what.content_only,
    };
    let each = |made| io.progress.tick(|| json!({"made": made}));
    let done = context.mfs.restore(caller(), &what, &each).await;
    let done = done.map_err(|error| refused(error, &what))?;
    let damaged = context
        .mfs
        .damage_in_snapshot(&snapshot, &what.from)
        .await?;
    Ok(Output::Json(json!({
        "entry_id": done.last,
        "changes": done.made,
        "snapshot": snapshot.sequence,
        "damaged": damaged,
    })))
}
