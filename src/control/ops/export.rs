//! DAGs out of the repository, as CAR files.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;

use super::content::find;
use crate::block::Cid;
use crate::car::{encode_header, encode_section_head};
use crate::config::EXPORT_ROOTS_MAX;
use crate::control::registry::Io;
use crate::control::walk::Walk;
use crate::control::{ByteStream, Context, Operation, OperationError, Output};

/// Media type of CAR files.
const CAR: &str = "application/vnd.ipld.car";
/// Bytes gathered before they are handed on.
const PIECE_BYTES: usize = 256 << 10;

/// What to export.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Export {
    /// Paths, each of which becomes a root of the CAR file.
    paths: Vec<String>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::read(
            "ipfs/export",
            "Gives whole DAGs as a CAR file (version 1).",
            export,
        )
        .giving(CAR),
    ]
}

/// Finds the CIDs that paths lead to.
pub(super) async fn roots(context: &Context, paths: &[String]) -> Result<Vec<Cid>, OperationError> {
    if paths.is_empty() || paths.len() > EXPORT_ROOTS_MAX {
        let message = format!("give from 1 to {EXPORT_ROOTS_MAX} paths");
        return Err(OperationError::invalid(message));
    }
    let mut roots = Vec::new();
    for path in paths {
        let node = find(context, path).await?;
        let cid = context.tree.cid(&node).await?;
        let absent = || OperationError::not_found(format!("{path} has no CID"));
        roots.push(cid.ok_or_else(absent)?);
    }
    Ok(roots)
}

async fn export(context: Arc<Context>, what: Export, _: Io) -> Result<Output, OperationError> {
    let roots = roots(&context, &what.paths).await?;
    let walk = Walk::new(Arc::clone(&context.blocks), &roots);
    let mut start = BytesMut::new();
    start.extend_from_slice(&encode_header(&roots));
    let stream = car(walk, start);
    Ok(Output::Bytes {
        content_type: CAR,
        length: None,
        stream,
    })
}

/// Writes what a walk gives as sections, behind what is gathered already.
fn car(walk: Walk, start: BytesMut) -> ByteStream {
    stream::unfold(Some((walk, start)), |state| async move {
        let (mut walk, mut piece) = state?;
        loop {
            match walk.next().await {
                Err(error) => return Some((Err(error), None)),
                Ok(None) if piece.is_empty() => return None,
                Ok(None) => return Some((Ok(piece.freeze()), None)),
                Ok(Some(block)) => {
                    let head = encode_section_head(block.cid(), block.data().len());
                    piece.extend_from_slice(&head);
                    piece.extend_from_slice(block.data());
                    if piece.len() >= PIECE_BYTES {
                        let full: Bytes = piece.split().freeze();
                        return Some((Ok(full), Some((walk, piece))));
                    }
                }
            }
        }
    })
    .boxed()
}
