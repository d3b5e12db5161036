//! Pins: what is kept here for good.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::core::Nothing;
use super::export::roots;
use crate::block::{BlockSink, Cid};
use crate::cache::{Pin, PinMode};
use crate::control::registry::Io;
use crate::control::walk::Walk;
use crate::control::{Context, Operation, OperationError, Output, Progress};

/// What to pin.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Add {
    /// Paths whose content is kept.
    paths: Vec<String>,
    /// All below it too, not only the root block.
    #[serde(default = "yes")]
    recursive: bool,
    /// A name for people.
    #[serde(default)]
    name: Option<String>,
}

fn yes() -> bool {
    true
}

/// What to unpin.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Remove {
    /// Paths whose pins go.
    paths: Vec<String>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::write(
            "ipfs/pin/add",
            "Fetches content and keeps it for good.",
            add,
        )
        .long(),
        Operation::write(
            "ipfs/pin/rm",
            "Lets garbage collection have content again.",
            remove,
        ),
        Operation::read("ipfs/pin/ls", "Lists what is kept for good.", list),
    ]
}

async fn add(context: Arc<Context>, what: Add, io: Io) -> Result<Output, OperationError> {
    let cids = roots(&context, &what.paths).await?;
    let mode = if what.recursive {
        PinMode::Recursive
    } else {
        PinMode::Direct
    };
    keep(&context, &cids, mode, what.name, &io.progress).await?;
    let pins: Vec<String> = cids.iter().map(Cid::to_string).collect();
    Ok(Output::Json(json!({"pins": pins})))
}

/// Fetches DAGs into own packs, makes that durable, and pins their roots.
pub(super) async fn keep(
    context: &Context,
    cids: &[Cid],
    mode: PinMode,
    name: Option<String>,
    progress: &Progress,
) -> Result<(), OperationError> {
    // While it lives nothing is collected: the pins are there before it goes.
    let sink = context.blocks.own_sink();
    let mut walk = Walk::new(Arc::clone(&context.blocks), cids);
    let (mut blocks, mut bytes) = (0_u64, 0_u64);
    match mode {
        PinMode::Direct => {
            for cid in cids {
                sink.put(context.blocks.get(cid).await?)?;
            }
        }
        PinMode::Recursive => {
            while let Some(block) = walk.next().await? {
                blocks += 1;
                bytes += block.data().len() as u64;
                progress.tick(|| json!({"blocks": blocks, "bytes": bytes}));
                let sink = Arc::clone(&sink);
                run_blocking(move || Ok(sink.put(block)?)).await?;
            }
        }
    }
    let (store, pins) = (Arc::clone(&context.blocks), pins_of(cids, mode, name));
    run_blocking(move || {
        sink.flush()?;
        store.sync()?;
        Ok(store.pins().add(&pins)?)
    })
    .await
}

/// Makes pins of CIDs.
pub(super) fn pins_of(cids: &[Cid], mode: PinMode, name: Option<String>) -> Vec<Pin> {
    cids.iter()
        .map(|cid| Pin {
            cid: *cid,
            mode,
            name: name.clone(),
        })
        .collect()
}

/// Runs what may block on the disk.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OperationError> + Send + 'static,
) -> Result<T, OperationError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| OperationError::internal(error.to_string()))?
}

async fn remove(context: Arc<Context>, what: Remove, _: Io) -> Result<Output, OperationError> {
    let cids = roots(&context, &what.paths).await?;
    for cid in &cids {
        if context.blocks.pins().get(cid).is_none() {
            return Err(OperationError::not_found(format!("{cid} is not pinned"))
                .hint("`cidfs pin ls` lists what is"));
        }
    }
    let removed: Vec<String> = cids.iter().map(Cid::to_string).collect();
    run_blocking(move || {
        for cid in &cids {
            context.blocks.pins().remove(cid)?;
        }
        Ok(())
    })
    .await?;
    Ok(Output::Json(json!({"pins": removed})))
}

async fn list(context: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    let pins = context.blocks.pins().list();
    let pins: Vec<Value> = pins
        .into_iter()
        .map(|pin| json!({"cid": pin.cid.to_string(), "mode": pin.mode, "name": pin.name}))
        .collect();
    Ok(Output::Json(json!({"pins": pins})))
}
