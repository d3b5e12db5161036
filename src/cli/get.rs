//! `cidfs get`.

use std::io::{self, BufWriter, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;
use futures::TryStreamExt;
use serde_json::json;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::args::Common;
use super::backend::Backend;
use super::cat::{bytes, pump};
use super::extract::Extract;
use super::failure::Failure;
use super::output::{print, print_json, safe};
use super::progress::Bar;
use crate::control::{ByteStream, Call, OperationError};

/// Flags of `cidfs get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// Where to write; the last part of the path without it
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Write a tar archive (to standard output without -o)
    #[arg(short, long)]
    archive: bool,
    /// /ipfs/<cid>[/path], /ipns/<name>[/path] or <cid>[/path]
    path: String,
}

pub(super) async fn run(common: &Common, args: Get) -> Result<(), Failure> {
    let backend = Backend::open(common).await?;
    let output = backend
        .call("ipfs/get", Call::with(json!({"path": args.path})))
        .await?;
    let (_, stream) = bytes(output)?;
    let bar = Bar::start("getting", common.json);
    let outcome = if args.archive {
        archive(stream, args.output.as_deref(), &bar)
            .await
            .map(|()| None)
    } else {
        extract(stream, &args, &bar).await.map(Some)
    };
    bar.end();
    backend.close().await?;
    match outcome? {
        Some(target) if common.json => print_json(&json!({"path": target.to_string_lossy()})),
        Some(target) => print(&format!("{}\n", safe(&target.to_string_lossy()))),
        None => Ok(()),
    }
}

async fn archive(stream: ByteStream, output: Option<&Path>, bar: &Bar) -> Result<(), Failure> {
    if let Some(file) = output {
        let mut out = BufWriter::new(std::fs::File::create(file)?);
        pump(stream, &mut out, |count| bar.bytes(count, None)).await?;
        return Ok(());
    }
    if io::stdout().is_terminal() {
        return Err(
            OperationError::invalid("a tar archive is not for a terminal")
                .hint("-o FILE, or redirect the output")
                .into(),
        );
    }
    pump(stream, &mut io::stdout().lock(), |count| {
        bar.bytes(count, None)
    })
    .await?;
    Ok(())
}

/// Unpacks the archive as it comes; gives where.
async fn extract(stream: ByteStream, args: &Get, bar: &Bar) -> Result<PathBuf, Failure> {
    let name = args
        .path
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or("content");
    let target = args.output.clone().unwrap_or_else(|| PathBuf::from(name));
    let target = if target.is_dir() && args.output.is_some() {
        target.join(name)
    } else {
        target
    };
    let reader = StreamReader::new(stream.map_err(io::Error::other));
    let reader = SyncIoBridge::new(reader);
    let (unpacking, to) = (bar.hear(None), target.clone());
    tokio::task::spawn_blocking(move || Extract::new(to).run(reader, &unpacking))
        .await
        .map_err(|error| OperationError::internal(error.to_string()))??;
    Ok(target)
}
