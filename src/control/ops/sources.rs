//! The sources of blocks.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::core::Nothing;
use crate::control::registry::Io;
use crate::control::{Context, Operation, OperationError, Output};

/// Which source to try out.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Test {
    /// Its name; all without one.
    #[serde(default)]
    name: Option<String>,
}

/// A source to add.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Add {
    /// Its specification, as after `--source`.
    spec: String,
    /// Also writes it into `config.toml`.
    #[serde(default)]
    save: bool,
}

/// A source to take away.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Remove {
    /// Its name, as `sources/list` gives it.
    name: String,
    /// Also takes it out of `config.toml`.
    #[serde(default)]
    save: bool,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::read("sources/list", "Lists the sources and their figures.", list),
        Operation::read(
            "sources/test",
            "Asks sources for a block that all have.",
            test,
        ),
        Operation::write("sources/add", "Adds a source.", add),
        Operation::write("sources/remove", "Takes a source away.", remove),
    ]
}

async fn list(context: Arc<Context>, _: Nothing, _: Io) -> Result<Output, OperationError> {
    Ok(Output::Json(json!({"sources": context.sources.list()})))
}

async fn test(context: Arc<Context>, which: Test, _: Io) -> Result<Output, OperationError> {
    let results = context.sources.test(which.name.as_deref()).await?;
    Ok(Output::Json(json!({"results": results})))
}

async fn add(context: Arc<Context>, what: Add, _: Io) -> Result<Output, OperationError> {
    let source = context.sources.add(&what.spec, what.save).await?;
    Ok(Output::Json(json!({"source": source, "saved": what.save})))
}

async fn remove(context: Arc<Context>, what: Remove, _: Io) -> Result<Output, OperationError> {
    let source = context.sources.remove(&what.name, what.save).await?;
    Ok(Output::Json(json!({"source": source, "saved": what.save})))
}
