//! The mounts of the daemon.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::core::Nothing;
use crate::control::registry::Io;
use crate::control::{Context, MountRequest, Operation, OperationError, Output};

/// What to unmount.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Remove {
    /// Absolute path of the mount.
    dir: PathBuf,
    /// Detaches a mount that is in use; it ends when its last user leaves.
    #[serde(default)]
    lazy: bool,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::read("mounts/list", "Lists the mounts of this daemon.", list),
        Operation::write(
            "mounts/add",
            "Mounts, and answers when the mount is usable.",
            add,
        ),
        Operation::write("mounts/remove", "Unmounts.", remove),
    ]
}

async fn list(context: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    Ok(Output::Json(json!({
        "mounts": context.mounts.list(),
        "stays": context.mounts.stays(),
    })))
}

async fn add(
    context: Arc<Context>,
    request: MountRequest,
    _: Io,
) -> Result<Output, OperationError> {
    absolute(&request.dir)?;
    let mount = context.mounts.add(request).await?;
    Ok(Output::Json(
        json!({"mount": mount, "pid": std::process::id()}),
    ))
}

async fn remove(context: Arc<Context>, what: Remove, _: Io) -> Result<Output, OperationError> {
    absolute(&what.dir)?;
    context.mounts.remove(&what.dir, what.lazy).await?;
    Ok(Output::Json(json!({"dir": what.dir})))
}

/// Refuses a relative path: the daemon's directory is not the caller's.
fn absolute(dir: &std::path::Path) -> Result<(), OperationError> {
    if dir.is_absolute() {
        return Ok(());
    }
    Err(OperationError::invalid(format!(
        "{} is not an absolute path",
        dir.display()
    )))
}
