//! `cidfs cat`.

use std::io::{self, Write};

use clap::Args;
use futures::StreamExt;
use serde_json::json;

use super::args::Common;
use super::backend::Backend;
use super::failure::Failure;
use crate::control::{ByteStream, Call, OperationError, Output};

/// Flags of `cidfs cat`.
#[derive(Debug, Args)]
pub(super) struct Cat {
    /// First byte
    #[arg(short, long, default_value_t = 0)]
    offset: u64,
    /// Most bytes
    #[arg(short, long)]
    length: Option<u64>,
    /// /ipfs/<cid>[/path], /ipns/<name>[/path] or <cid>[/path]
    #[arg(required = true)]
    paths: Vec<String>,
}

pub(super) async fn run(common: &Common, args: Cat) -> Result<(), Failure> {
    let backend = Backend::open(common).await?;
    for path in &args.paths {
        let params = json!({"path": path, "offset": args.offset, "length": args.length});
        let (_, stream) = bytes(backend.call("ipfs/cat", Call::with(params)).await?)?;
        pump(stream, &mut io::stdout().lock(), |_| ()).await?;
    }
    backend.close().await
}

/// Takes the bytes of an output, and how many come if that is known.
pub(super) fn bytes(output: Output) -> Result<(Option<u64>, ByteStream), Failure> {
    match output {
        Output::Bytes { length, stream, .. } => Ok((length, stream)),
        Output::Json(_) => Err(OperationError::internal("JSON where bytes were expected").into()),
    }
}

/// Writes a stream out; `written` hears how many bytes so far.
pub(super) async fn pump(
    mut stream: ByteStream,
    out: &mut impl Write,
    written: impl Fn(u64),
) -> Result<u64, Failure> {
    let mut count = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        out.write_all(&chunk).map_err(Failure::output)?;
        count += chunk.len() as u64;
        written(count);
    }
    out.flush().map_err(Failure::output)?;
    Ok(count)
}
