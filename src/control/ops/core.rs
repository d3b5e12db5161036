//! About the daemon itself.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::control::registry::Io;
use crate::control::{Context, Operation, OperationError, Output};

/// No parameters.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// How to end.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Shutdown {
    /// Detaches mounts that are in use instead of refusing.
    #[serde(default)]
    force: bool,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::read("health", "Tells whether the daemon works.", health),
        Operation::read("version", "Tells the version and the process.", version),
        Operation::read("status", "Tells what the daemon does and has.", status),
        Operation::read("config", "Shows the configuration in force.", config),
        Operation::write(
            "shutdown",
            "Unmounts everything and ends the daemon.",
            shutdown,
        ),
    ]
}

async fn health(_: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    Ok(Output::Json(json!({"status": "ok"})))
}

async fn version(context: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    Ok(Output::Json(json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "daemon": context.info.daemon,
    })))
}

async fn status(context: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    Ok(Output::Json(json!({
        "daemon": context.info.daemon,
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "repo": context.info.repo.to_string_lossy(),
        "uptime_seconds": context.info.started.elapsed().as_secs(),
        "mounts": context.mounts.list(),
        "sources": context.sources.list(),
        "tree": super::journal::tree_fields(&context),
        "push": super::journal::push_fields(&context),
        "store": context.blocks.figures(),
        "pins": context.blocks.pins().list().len(),
    })))
}

async fn config(context: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    Ok(Output::Json(
        json!({"repo": context.info.repo.to_string_lossy(), "config": context.info.config}),
    ))
}

async fn shutdown(context: Arc<Context>, how: Shutdown, _: Io) -> Result<Output, OperationError> {
    context.lifecycle.shutdown(how.force).await?;
    Ok(Output::Json(json!({"pid": std::process::id()})))
}
