//! Several changes as one.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::super::pins::run_blocking;
use crate::config::{TRANSACTION_DEADLINE, TRANSACTION_DEADLINE_MAX};
use crate::control::registry::Io;
use crate::control::{Context, ErrorKind, Operation, OperationError, Output};
use crate::tree::TreeError;
use crate::tree::mfs::path::TreePath;
use crate::tree::mfs::{CONTROL, Caller, Refused, Staged};

/// How long.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Begin {
    /// Milliseconds after which it is rolled back if it has not ended.
    #[serde(default)]
    deadline_ms: Option<u64>,
}

/// Which transaction.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// Its number.
    transaction: u64,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::write(
            "fs-journal/begin",
            "Begins a transaction: changes that name it are staged, and done by its commit.",
            begin,
        ),
        Operation::write(
            "fs-journal/commit",
            "Does all that is staged in a transaction, or nothing.",
            commit,
        )
        .long(),
        Operation::write("fs-journal/rollback", "Gives a transaction up.", rollback),
    ]
}

/// Who changes the tree through control: the user that the daemon runs as.
pub(super) fn caller() -> Caller {
    Caller {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        origin: CONTROL,
    }
}

async fn begin(context: Arc<Context>, how: Begin, _: Io) -> Result<Output, OperationError> {
    context.need_daemon()?;
    let within = how
        .deadline_ms
        .map_or(TRANSACTION_DEADLINE, Duration::from_millis);
    if within.is_zero() || within > TRANSACTION_DEADLINE_MAX {
        let seconds = TRANSACTION_DEADLINE_MAX.as_secs();
        return Err(OperationError::invalid(format!(
            "the deadline of a transaction is from 1 ms to {seconds} s"
        )));
    }
    let mfs = Arc::clone(&context.mfs);
    let id = run_blocking(move || Ok(mfs.begin_transaction(caller(), within)?)).await?;
    let deadline_ms = super::millis(within);
    Ok(Output::Json(
        json!({"transaction": id, "deadline_ms": deadline_ms}),
    ))
}

async fn commit(context: Arc<Context>, one: One, _: Io) -> Result<Output, OperationError> {
    // On a task of its own: it ends one way or the other, whoever waits.
    let mfs = Arc::clone(&context.mfs);
    let task = tokio::spawn(async move { mfs.commit_transaction(one.transaction).await });
    let outcome = task
        .await
        .map_err(|error| OperationError::internal(error.to_string()))?;
    let last = outcome.map_err(|refused| match refused {
        Refused::Change { index, .. } => {
            let message = format!("operation {index}: {refused}; nothing of it was done");
            OperationError::new(ErrorKind::Conflict, message)
                .hint("the transaction is rolled back; begin another one")
        }
        Refused::Whole(error) => under_way(one.transaction, error),
    })?;
    Ok(Output::Json(
        json!({"transaction": one.transaction, "entry_id": last}),
    ))
}

/// An error of a transaction that may have ended already.
fn under_way(id: u64, error: TreeError) -> OperationError {
    if !matches!(error, TreeError::Unavailable(_)) {
        return error.into();
    }
    OperationError::not_found(format!("transaction {id} is not under way"))
        .hint("it may have outlived its deadline: `cidfs journal log` tells")
}

async fn rollback(context: Arc<Context>, one: One, _: Io) -> Result<Output, OperationError> {
    let mfs = Arc::clone(&context.mfs);
    run_blocking(move || {
        let outcome = mfs.roll_back(one.transaction);
        outcome.map_err(|error| under_way(one.transaction, error))
    })
    .await?;
    Ok(Output::Json(json!({"transaction": one.transaction})))
}

/// Does a change, or stages it where a transaction is named.
pub(super) async fn change(
    context: &Arc<Context>,
    transaction: Option<u64>,
    staged: Staged,
) -> Result<Output, OperationError> {
    change_all(context, transaction, vec![staged]).await
}

/// Does changes, all or none, or stages them where a transaction is named.
pub(super) async fn change_all(
    context: &Arc<Context>,
    transaction: Option<u64>,
    staged: Vec<Staged>,
) -> Result<Output, OperationError> {
    if let Some(id) = transaction {
        let mut count = 0;
        for one in staged {
            let staged = context.mfs.stage(id, one);
            count = staged.map_err(|error| under_way(id, error))?;
        }
        return Ok(Output::Json(json!({"transaction": id, "staged": count})));
    }
    let last = perform(context, staged).await?;
    Ok(Output::Json(json!({"entry_id": last})))
}

/// Does changes, all or none; gives the number of the last entry.
pub(super) async fn perform(
    context: &Arc<Context>,
    staged: Vec<Staged>,
) -> Result<u64, OperationError> {
    let mfs = Arc::clone(&context.mfs);
    let named: Vec<_> = staged
        .iter()
        .map(Staged::to)
        .map(|to| to.map(TreePath::bytes))
        .collect();
    let task = tokio::spawn(async move { mfs.perform_staged(caller(), &staged).await });
    let outcome = task
        .await
        .map_err(|error| OperationError::internal(error.to_string()))?;
    outcome.map_err(|refused| match refused {
        Refused::Change {
            index, path, error, ..
        } => {
            let mut what = String::from_utf8_lossy(&path).into_owned();
            if let Some(Some(to)) = named.get(index) {
                what = format!("{what} to {}", String::from_utf8_lossy(to));
            }
            OperationError::from(error).context(what)
        }
        Refused::Whole(error) => error.into(),
    })
}
