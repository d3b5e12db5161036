//! `cidfs export`.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::args::Common;
use super::backend::Backend;
use super::cat::{bytes, pump};
use super::failure::Failure;
use super::output::{human_bytes, print_json};
use super::progress::Bar;
use crate::control::{ByteStream, Call, OperationError};

/// Flags of `cidfs export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// File to write; - and none are standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to export: /ipfs/<cid>[/path] or <cid>[/path]; each becomes a root
    #[arg(required = true)]
    paths: Vec<String>,
}

/// What a DAG of UnixFS cannot say of the tree.
const NOT_IN_A_CAR: &str = "not in a CAR file: owners, attributes, hard links, pipes, sockets and devices of /mfs, \
     and modes and times unless the tree is kept with `store_metadata`\n";

/// The file of `-o`; `-` is standard output.
pub(super) fn file_of(output: Option<PathBuf>) -> Option<PathBuf> {
    output.filter(|file| file != Path::new("-"))
}

pub(super) async fn run(common: &Common, args: Export) -> Result<(), Failure> {
    let output = file_of(args.output);
    if output.is_none() && io::stdout().is_terminal() {
        return Err(OperationError::invalid("a CAR file is not for a terminal")
            .hint("-o FILE, or redirect the output")
            .into());
    }
    let backend = Backend::open(common).await?;
    let params = json!({"paths": args.paths});
    let (_, stream) = bytes(backend.call("ipfs/export", Call::with(params)).await?)?;
    let bar = Bar::start("exporting", common.json);
    let written = match &output {
        Some(file) => into_file(stream, file, &bar).await?,
        None => {
            pump(stream, &mut io::stdout().lock(), |count| {
                bar.bytes(count, None)
            })
            .await?
        }
    };
    bar.end();
    backend.close().await?;
    let is_of_tree = |path: &String| path == "/mfs" || path.starts_with("/mfs/");
    if !common.json && args.paths.iter().any(is_of_tree) {
        io::stderr()
            .write_all(NOT_IN_A_CAR.as_bytes())
            .map_err(Failure::output)?;
    }
    if let Some(file) = &output {
        if common.json {
            return print_json(&json!({"file": file, "bytes": written}));
        }
        let note = format!("{} in {}\n", human_bytes(written), file.display());
        io::stderr()
            .write_all(note.as_bytes())
            .map_err(Failure::output)?;
    }
    Ok(())
}

/// Writes beside the file and renames at the end: nobody takes a part for the whole.
pub(super) async fn into_file(stream: ByteStream, file: &Path, bar: &Bar) -> Result<u64, Failure> {
    let mut part = file.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let at = |error: io::Error| OperationError::from(error).context(file.display());
    let mut out = BufWriter::new(std::fs::File::create_new(&part).map_err(at)?);
    let outcome = pump(stream, &mut out, |count| bar.bytes(count, None)).await;
    let outcome = outcome.and_then(|count| {
        std::fs::rename(&part, file).map_err(at)?;
        Ok(count)
    });
    if outcome.is_err() {
        // What is left of it is of no use; that it stays harms nobody.
        drop(std::fs::remove_file(&part));
    }
    outcome
}
