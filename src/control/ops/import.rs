//! CAR files into the repository.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::pins::{pins_of, run_blocking};
use crate::block::{Block, BlockError, BlockSink, Cid};
use crate::cache::{Blocks, PinMode};
use crate::car::{CarError, CarReader};
use crate::control::registry::Io;
use crate::control::{Context, ErrorKind, Operation, OperationError, Output, Progress};

/// What to import.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Import {
    /// Absolute path of the CAR file, where it is not sent as the body.
    #[serde(default)]
    path: Option<PathBuf>,
    /// Pins the roots that the file names.
    #[serde(default = "yes")]
    pin: bool,
}

fn yes() -> bool {
    true
}

/// What came of it.
struct Imported {
    roots: Vec<Cid>,
    absent: Vec<Cid>,
    blocks: u64,
    bytes: u64,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::write("ipfs/import", "Takes in the blocks of a CAR file.", import)
            .taking_body()
            .long(),
    ]
}

async fn import(context: Arc<Context>, what: Import, io: Io) -> Result<Output, OperationError> {
    let Io { body, progress } = io;
    let blocks = Arc::clone(&context.blocks);
    let done = match (what.path, body) {
        (Some(_), Some(_)) | (None, None) => {
            return Err(OperationError::invalid(
                "give either a path or the bytes of a CAR file",
            ));
        }
        (Some(path), None) => {
            if !path.is_absolute() {
                let message = format!("{} is not an absolute path", path.display());
                return Err(OperationError::invalid(message));
            }
            run_blocking(move || {
                let at =
                    |error: std::io::Error| OperationError::from(error).context(path.display());
                let file = File::open(&path).map_err(at)?;
                let total = file.metadata().map_err(at)?.len();
                let car = CarReader::with_len(BufReader::with_capacity(1 << 20, file), total);
                let car = car.map_err(OperationError::from);
                let done = car.and_then(|car| take(&blocks, car, what.pin, Some(total), &progress));
                done.map_err(|error| error.context(path.display()))
            })
            .await?
        }
        (None, Some(body)) => {
            let reader = SyncIoBridge::new(StreamReader::new(body));
            run_blocking(move || {
                let car = CarReader::new(BufReader::with_capacity(1 << 20, reader))?;
                take(&blocks, car, what.pin, None, &progress)
            })
            .await?
        }
    };
    Ok(Output::Json(json!({
        "roots": done.roots.iter().map(Cid::to_string).collect::<Vec<_>>(),
        "absent_roots": done.absent.iter().map(Cid::to_string).collect::<Vec<_>>(),
        "pinned": what.pin,
        "blocks": done.blocks,
        "bytes": done.bytes,
    })))
}

/// Proves and keeps every block of a CAR file; pins the roots that are there.
fn take<R: Read + std::io::BufRead>(
    blocks: &Arc<Blocks>,
    mut car: CarReader<R>,
    pin: bool,
    total: Option<u64>,
    progress: &Progress,
) -> Result<Imported, OperationError> {
    // While it lives nothing is collected: the pins are there before it goes.
    let sink = blocks.own_sink();
    let roots = car.header().roots.clone();
    let mut wanted: HashSet<Cid> = roots.iter().copied().collect();
    let (mut count, mut bytes) = (0, 0);
    while let Some(section) = car.next_section()? {
        let cid = *section.cid();
        let block = Block::verify(cid, section.data)?;
        count += 1;
        bytes += block.data().len() as u64;
        wanted.remove(&cid);
        sink.put(block)?;
        let read = car.position();
        progress.tick(|| json!({"blocks": count, "bytes": read, "bytes_total": total}));
    }
    sink.flush()?;
    blocks.sync()?;
    // A root that only the repository has is fine; one that nobody has is not pinned.
    let mut absent = Vec::new();
    for cid in wanted {
        if blocks.get_local(&cid)?.is_none() {
            absent.push(cid);
        }
    }
    if pin {
        let there: Vec<Cid> = roots
            .iter()
            .filter(|cid| !absent.contains(cid))
            .copied()
            .collect();
        blocks
            .pins()
            .add(&pins_of(&there, PinMode::Recursive, None))?;
    }
    Ok(Imported {
        roots,
        absent,
        blocks: count,
        bytes,
    })
}

impl From<CarError> for OperationError {
    fn from(error: CarError) -> Self {
        let message = error.to_string();
        match error {
            CarError::Io(error) => Self {
                message,
                ..Self::from(error)
            },
            CarError::Header(_)
            | CarError::TooLong { .. }
            | CarError::Varint { .. }
            | CarError::Truncated { .. }
            | CarError::Cid { .. }
            | CarError::Index(_) => Self::new(ErrorKind::Corrupt, message)
                .hint("the whole blocks before that place were kept; get the file anew"),
        }
    }
}

impl From<BlockError> for OperationError {
    fn from(error: BlockError) -> Self {
        let kind = match error {
            BlockError::Mismatch { .. } => ErrorKind::Corrupt,
            BlockError::UnsupportedHash { .. } | BlockError::UnknownHash(_) => {
                ErrorKind::Unsupported
            }
            BlockError::TooLarge { .. } | BlockError::IdentityTooLarge { .. } => {
                ErrorKind::TooLarge
            }
        };
        Self::new(kind, error.to_string())
    }
}
