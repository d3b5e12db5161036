//! The block store: figures, garbage collection, scrubbing.

use std::sync::Arc;

use serde_json::{Value, json};

use super::core::Nothing;
use super::pins::run_blocking;
use crate::block::Cid;
use crate::cache::{GcProgress, PinMode, VerifyProgress};
use crate::control::registry::Io;
use crate::control::{Context, ErrorKind, Operation, OperationError, Output};
use crate::unixfs::links::links;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::read(
            "cache/status",
            "Tells what the block store has and does.",
            status,
        ),
        Operation::write("cache/gc", "Drops own blocks that no pin leads to.", gc).long(),
        Operation::read(
            "cache/verify",
            "Reads every block on disk and proves it.",
            verify,
        )
        .long(),
    ]
}

async fn status(context: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    as_output(&context.blocks.figures())
}

fn as_output(value: &impl serde::Serialize) -> Result<Output, OperationError> {
    serde_json::to_value(value)
        .map(Output::Json)
        .map_err(|error| OperationError::internal(error.to_string()))
}

async fn gc(context: Arc<Context>, _: Nothing, io: Io) -> Result<Output, OperationError> {
    // What the tree needs is not known then.
    if let Some(why) = context.mfs.stopped() {
        return Err(OperationError::new(ErrorKind::Denied, why));
    }
    // What it writes needs no older journal entries any more, nor what those name.
    if let Err(error) = context.mfs.checkpoint().await {
        tracing::warn!(%error, "garbage collection goes on without a checkpoint");
    }
    run_blocking(move || {
        let progress = |at: GcProgress| {
            io.progress.tick(|| match at {
                GcProgress::Marked(blocks) => json!({"marked": blocks}),
                GcProgress::Swept(packs, of) => json!({"swept_packs": packs, "packs": of}),
            });
        };
        let links = |block: &_| links(block).map_err(|error| error.to_string());
        let report = context.blocks.gc(&links, &|| roots(&context), &progress)?;
        as_output(&report)
    })
    .await
}

/// What stays beside the pins: the writable tree, what mounts show, and what is
/// being pushed.
fn roots(context: &Context) -> std::io::Result<Vec<(Cid, PinMode)>> {
    let live = context.mfs.live_roots().map_err(std::io::Error::other)?;
    let all = live.into_iter().chain(mounted_roots(context));
    let all = all.chain(context.push.held());
    let mut roots: Vec<_> = all.map(|cid| (cid, PinMode::Recursive)).collect();
    let commits = context.mfs.live_commits().into_iter();
    roots.extend(commits.map(|cid| (cid, PinMode::Direct)));
    Ok(roots)
}

/// What mounts show as their root stays while they are there.
fn mounted_roots(context: &Context) -> Vec<Cid> {
    let mounts = context.mounts.list();
    let roots = mounts.iter().filter_map(|mount| {
        // Slashes may be doubled, as everywhere in paths.
        let mut parts = mount.source.split('/').filter(|part| !part.is_empty());
        let cid = parts
            .next()
            .filter(|space| *space == "ipfs")
            .and(parts.next());
        Cid::try_from(cid?).ok()
    });
    roots.collect()
}

async fn verify(context: Arc<Context>, _: Nothing, io: Io) -> Result<Output, OperationError> {
    run_blocking(move || {
        let progress = |at: VerifyProgress| {
            io.progress
                .tick(|| json!({"bytes": at.bytes, "bytes_total": at.of}));
        };
        let report = context.blocks.verify_all(&progress)?;
        let clean = report.is_clean();
        let mut result = serde_json::to_value(&report)
            .map_err(|error| OperationError::internal(error.to_string()))?;
        if let Value::Object(fields) = &mut result {
            fields.insert("clean".to_owned(), clean.into());
        }
        Ok(Output::Json(result))
    })
    .await
}
