//! A check of the writable tree of a repository that nobody has open.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::engine::{Base, tree_options};
use crate::control::ops::fsck_tick;
use crate::control::{OperationError, Progress};
use crate::tree::mfs::Mfs;

/// What a report comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Nothing is damaged.
    None,
    /// Something was, and was mended.
    Repaired,
    /// Something is.
    Left,
}

impl Damage {
    /// Reads it out of a report.
    pub fn of(report: &Value) -> Self {
        let is_empty = |report: &Value| {
            report
                .get("problems")
                .and_then(Value::as_array)
                .is_none_or(Vec::is_empty)
        };
        match (is_empty(report), report.get("after")) {
            (true, _) => Self::None,
            (false, Some(after)) if is_empty(after) => Self::Repaired,
            (false, _) => Self::Left,
        }
    }
}

/// Checks the repository in `dir`, and mends it if `repair`; the report then
/// has what a check finds afterwards, as `after`.
pub async fn check(
    dir: PathBuf,
    repair: bool,
    progress: Progress,
) -> Result<Value, OperationError> {
    let base = Base::open_async(dir, Vec::new()).await?;
    let options = tree_options(&base.repo);
    let parts = base.parts();
    let kept = options.snapshots_kept;
    let tick = |at| fsck_tick(&progress, at);
    let mut found = Mfs::inspect_closed(&parts, kept, &tick).await?;
    let mut after = None;
    if repair && !found.problems.is_empty() {
        Mfs::mend(&parts, &mut found).await?;
        // The proof that it helped: it opens, and takes a checkpoint.
        let mfs = Mfs::open(base.parts(), options).await?;
        mfs.close().await;
        drop(mfs);
        after = Some(Mfs::inspect_closed(&parts, kept, &tick).await?);
    }
    drop(parts);
    base.close().await?;
    let as_json = |report| {
        serde_json::to_value(report).map_err(|error| OperationError::internal(error.to_string()))
    };
    let mut report = as_json(&found)?;
    if let (Some(fields), Some(after)) = (report.as_object_mut(), &after) {
        fields.insert("after".to_owned(), as_json(after)?);
    }
    if let Some(fields) = report.as_object_mut() {
        fields.insert("clean".to_owned(), json!(found.problems.is_empty()));
    }
    Ok(report)
}
