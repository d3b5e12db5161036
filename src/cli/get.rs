//! `cidfs get`.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use futures::TryStreamExt;
use serde_json::json;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::args::Common;
use super::backend::Backend;
use super::cat::bytes;
use super::extract::{self, CopyError, Extract};
use super::failure::Failure;
use super::output::{print, print_json, safe};
use super::progress::Bar;
use crate::control::tarball::LeftOut;
use crate::control::{ByteStream, Call, OperationError};

/// Exit code where something was left out.
const LEFT_OUT: u8 = 1;

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
            .map(|left_out| (None, left_out))
    } else {
        extract(stream, &args, &bar)
            .await
            .map(|(target, left_out)| (Some(target), left_out))
    };
    bar.end();
    backend.close().await?;
    let (target, left_out) = outcome?;
    tell(common.json, target.as_deref(), &left_out)
}

/// Shows where it is, and what is not there.
fn tell(json: bool, target: Option<&Path>, left_out: &[LeftOut]) -> Result<(), Failure> {
    let mut warnings = String::new();
    match target {
        Some(target) if json => {
            print_json(&json!({"path": target.to_string_lossy(), "left_out": left_out}))?;
        }
        Some(target) => print(&format!("{}\n", safe(&target.to_string_lossy())))?,
        // The archive may be on standard output.
        None if json && !left_out.is_empty() => {
            warnings = format!("{}\n", json!({"left_out": left_out}));
        }
        None => {}
    }
    if !json {
        let line = |one: &LeftOut| format!("cidfs: left out: {} ({})\n", safe(&one.path), one.kind);
        warnings.extend(left_out.iter().map(line));
    }
    // Nowhere else to say it.
    drop(io::stderr().write_all(warnings.as_bytes()));
    match left_out.is_empty() {
        true => Ok(()),
        false => Err(Failure::Quiet(LEFT_OUT)),
    }
}

async fn archive(
    stream: ByteStream,
    output: Option<&Path>,
    bar: &Bar,
) -> Result<Vec<LeftOut>, Failure> {
    let output = super::export::file_of(output.map(Path::to_owned));
    let output: Box<dyn Write + Send> = match output {
        Some(file) => Box::new(BufWriter::new(std::fs::File::create(file)?)),
        None if io::stdout().is_terminal() => {
            let error = OperationError::invalid("a tar archive is not for a terminal");
            return Err(error.hint("-o FILE, or redirect the output").into());
        }
        None => Box::new(io::stdout()),
    };
    let reader = SyncIoBridge::new(StreamReader::new(stream.map_err(io::Error::other)));
    let copying = bar.hear(None);
    let copied = tokio::task::spawn_blocking(move || extract::copy(reader, output, &copying)).await;
    let copied = copied.map_err(|error| OperationError::internal(error.to_string()))?;
    copied.map_err(|error| match error {
        CopyError::Archive(error) => error.into(),
        CopyError::Output(error) => Failure::output(error),
    })
}

/// Unpacks the archive as it comes; gives where, and what it leaves out.
async fn extract(
    stream: ByteStream,
    args: &Get,
    bar: &Bar,
) -> Result<(PathBuf, Vec<LeftOut>), Failure> {
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
    let left_out = tokio::task::spawn_blocking(move || Extract::new(to).run(reader, &unpacking))
        .await
        .map_err(|error| OperationError::internal(error.to_string()))??;
    Ok((target, left_out))
}
