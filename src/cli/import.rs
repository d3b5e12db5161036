//! `cidfs import`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{ArgAction, Args};
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::sync::mpsc;

use super::args::{Common, in_json};
use super::backend::Backend;
use super::failure::Failure;
use super::output::{human_bytes, list, number, print, print_json};
use super::progress::Bar;
use crate::control::{Body, Call, OperationError, Output};

/// Flags of `cidfs import`.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// CAR files; - is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Pin the roots that a file names
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pin_roots: bool,
}

pub(super) async fn run(common: &Common, args: Import) -> Result<(), Failure> {
    let backend = Backend::open(common).await?;
    for file in &args.files {
        let mut call = Call::with(json!({"pin": args.pin_roots}));
        if file == Path::new("-") {
            call.body = Some(standard_input());
        } else {
            let path = std::path::absolute(file)?;
            call.params = json!({"pin": args.pin_roots, "path": in_json(&path)?});
        }
        let bar = Bar::start("importing", common.json);
        call.progress = bar.hear(None);
        let output = backend.call("ipfs/import", call).await;
        bar.end();
        let Output::Json(result) = output? else {
            return Err(OperationError::internal("ipfs/import gave bytes").into());
        };
        if common.json {
            print_json(&result)?;
            continue;
        }
        for (field, mark) in [("roots", "root"), ("absent_roots", "absent root")] {
            for cid in list(&result, field).iter().filter_map(|one| one.as_str()) {
                print(&format!("{mark} {cid}\n"))?;
            }
        }
        let (blocks, bytes) = (number(&result, "blocks"), number(&result, "bytes"));
        print(&format!(
            "imported {blocks} blocks, {}\n",
            human_bytes(bytes)
        ))?;
    }
    backend.close().await
}

/// Standard input as the body of a call.
///
/// Read by a thread of its own, which ends with the process: a read of a
/// terminal or pipe cannot be given up.
pub(super) fn standard_input() -> Body {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = match input.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) => return,
                other => other,
            };
            let piece = read.map(|count| {
                piece.truncate(count);
                Bytes::from(piece)
            });
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
    .boxed()
}

/// Bytes of standard input that are read at once.
const PIECE_BYTES: usize = 256 << 10;
/// How many such pieces wait for who takes them.
const PIECES_AHEAD: usize = 4;
