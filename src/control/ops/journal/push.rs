//! The tree's root, pushed to other nodes.

use std::sync::Arc;

use futures::future::join_all;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::core::Nothing;
use super::millis;
use crate::control::registry::Io;
use crate::control::{Context, Operation, OperationError, Output, Progress};
use crate::tree::mfs::log::time;
use crate::tree::push::{Doing, NodeFigures, OnProgress, PushProgress, Wanted};

/// What to push where.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Push {
    /// Name of a node, or `kubo:ADDRESS` of another; all that are configured without it.
    #[serde(default)]
    to: Option<String>,
    /// Tries again until it is there.
    #[serde(default)]
    wait: bool,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::write(
            "fs-journal/push",
            "Makes a checkpoint and pushes its root to nodes, which pin it.",
            push,
        )
        .long(),
        Operation::read(
            "fs-journal/pushes",
            "Tells which root each node has, and how pushing goes.",
            pushes,
        ),
    ]
}

async fn push(context: Arc<Context>, what: Push, io: Io) -> Result<Output, OperationError> {
    let nodes = match what.to {
        Some(node) => vec![node],
        None => context.push.configured(),
    };
    if nodes.is_empty() {
        let message = "no node is configured to push to";
        return Err(OperationError::invalid(message)
            .hint("name one (--to kubo:ADDRESS), or write a [[push]] table in config.toml"));
    }
    // On a task of its own: one whose caller leaves is finished all the same.
    let mfs = Arc::clone(&context.mfs);
    let made = tokio::spawn(async move { mfs.checkpoint().await }).await;
    let made = made.map_err(|error| OperationError::internal(error.to_string()))??;
    let wanted = Wanted::from(&made);
    let progress = listener(io.progress);
    let all = nodes.iter().map(|node| {
        let progress = Arc::clone(&progress);
        context.push.push(node, wanted, what.wait, progress)
    });
    let mut told = Vec::new();
    for (node, outcome) in nodes.iter().zip(join_all(all).await) {
        told.push(match outcome {
            Ok(done) => json!({
                "name": node,
                "ok": true,
                "already": done.already,
                "blocks": done.blocks,
                "bytes": done.bytes,
                "far": done.far,
            }),
            // One node alone fails as the operation does.
            Err(error) if nodes.len() == 1 => return Err(error.into()),
            Err(error) => {
                let error = OperationError::from(error);
                json!({"name": node, "ok": false, "error": error})
            }
        });
    }
    Ok(Output::Json(json!({
        "root": made.root.to_string(),
        "sequence": made.sequence,
        "nodes": told,
    })))
}

fn listener(progress: Progress) -> OnProgress {
    Arc::new(move |at: &PushProgress| {
        progress.tick(|| {
            json!({
                "node": at.node,
                "phase": at.phase,
                "blocks": at.blocks,
                "blocks_total": at.blocks_total,
                "bytes": at.bytes,
                "bytes_total": at.bytes_total,
            })
        });
    })
}

async fn pushes(context: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    Ok(Output::Json(json!({"nodes": push_fields(&context)})))
}

/// Each node, as it is shown.
pub(in super::super) fn push_fields(context: &Context) -> Vec<Value> {
    context.push.figures().iter().map(node_fields).collect()
}

fn node_fields(one: &NodeFigures) -> Value {
    let (state, pushing, again_ms) = match &one.doing {
        Doing::Idle => ("idle", None, None),
        Doing::Pushing(root) => ("pushing", Some(root.to_string()), None),
        Doing::Waiting(left) => ("waiting", None, Some(millis(*left))),
    };
    let pushed_at = i64::try_from(one.pushed_at).unwrap_or(i64::MAX);
    json!({
        "name": one.name,
        "configured": one.configured,
        "state": state,
        "pushing": pushing,
        "again_in_ms": again_ms,
        "root": one.root.map(|root| root.to_string()),
        "sequence": one.root.map(|_| one.sequence),
        "pushed_at": one.root.map(|_| time::format_seconds(pushed_at)),
        "current": one.current,
        "pushes": one.pushes,
        "blocks": one.blocks,
        "bytes": one.bytes,
        "far": one.far,
        "failures": one.failures,
        "failures_in_a_row": one.failures_in_a_row,
        "last_error": one.last_error,
    })
}
