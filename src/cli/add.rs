//! `cidfs add`: the flags of `ipfs add` by the same names.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{ArgAction, Args};
use serde_json::{Map, Value, json};

use super::args::{Common, in_json};
use super::backend::Backend;
use super::failure::Failure;
use super::output::{list, print, print_json, safe, text};
use super::progress::{Bar, OnItem};
use crate::control::{Body, Call, Gone, OperationError, Output};

/// Flags of `cidfs add`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the flags of `ipfs add`"
)]
pub(super) struct Add {
    /// Files and directories; - is standard input
    paths: Vec<PathBuf>,
    /// Take in directories
    #[arg(short, long)]
    recursive: bool,
    /// Print only CIDs
    #[arg(short, long)]
    quiet: bool,
    /// Print only the last CID: that of the root
    #[arg(short = 'Q', long)]
    quieter: bool,
    /// Print nothing
    #[arg(long)]
    silent: bool,
    /// Show progress [default: on a terminal]
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    progress: Option<bool>,
    /// Only say the CIDs; keep nothing
    #[arg(short = 'n', long)]
    only_hash: bool,
    /// Put everything into one directory
    #[arg(short, long)]
    wrap_with_directory: bool,
    /// How files are cut: size-N, rabin, rabin-AVG, rabin-MIN-AVG-MAX or buzhash
    #[arg(short = 's', long, value_name = "CHUNKER")]
    chunker: Option<String>,
    /// Leaves are plain bytes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    raw_leaves: Option<bool>,
    /// 0 or 1
    #[arg(long, value_name = "N")]
    cid_version: Option<i64>,
    /// Name of the hash function
    #[arg(long, value_name = "NAME")]
    hash: Option<String>,
    /// Trickle instead of balanced trees
    #[arg(short, long)]
    trickle: bool,
    /// Take in hidden entries of directories
    #[arg(short = 'H', long)]
    hidden: bool,
    /// A rule, as in .gitignore, of what to leave out; may be repeated
    #[arg(long, value_name = "RULE")]
    ignore: Vec<String>,
    /// A file of such rules
    #[arg(long, value_name = "FILE")]
    ignore_rules_path: Option<PathBuf>,
    /// Take in directories without entries [default: true]
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    empty_dirs: Option<bool>,
    /// Put small blocks into their CIDs
    #[arg(long)]
    inline: bool,
    /// Most bytes of such a block
    #[arg(long, value_name = "BYTES")]
    inline_limit: Option<i64>,
    /// Most links of a file's node
    #[arg(long, value_name = "N")]
    max_file_links: Option<i64>,
    /// Most entries of a directory in one block
    #[arg(long, value_name = "N")]
    max_directory_links: Option<i64>,
    /// Children of a HAMT's node
    #[arg(long, value_name = "N")]
    max_hamt_fanout: Option<i64>,
    /// Store the permission bits of files
    #[arg(long)]
    preserve_mode: bool,
    /// Store the modification times of files
    #[arg(long)]
    preserve_mtime: bool,
    /// Permission bits to store: octal with a leading 0, hexadecimal with 0x, else decimal
    #[arg(long, value_name = "MODE", value_parser = mode)]
    mode: Option<u32>,
    /// Modification time to store, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    mtime: Option<i64>,
    /// Its nanoseconds
    #[arg(long, value_name = "N")]
    mtime_nsecs: Option<u32>,
    /// Follow symbolic links that are named
    #[arg(long)]
    dereference_args: bool,
    /// Follow all symbolic links
    #[arg(long)]
    dereference_symlinks: bool,
    /// Name of what comes from standard input
    #[arg(long, value_name = "NAME")]
    stdin_name: Option<String>,
    /// Keep it for good [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    pin: Option<bool>,
    /// Name of the pin
    #[arg(long, value_name = "NAME")]
    pin_name: Option<String>,
    /// Where to link it in the writable tree
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true,
          default_missing_value = "/")]
    to_files: Option<String>,
    /// CID profile: unixfs-v1-2025 (the default) or unixfs-v0-2015
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

/// Reads a mode in the forms that `ipfs add` takes.
fn mode(text: &str) -> Result<u32, String> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    u32::from_str_radix(digits, radix)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("{text:?} is not a mode of at most 07777; octal has a leading 0"))
}

impl Add {
    /// The options that were given, by their names.
    fn options(&self) -> Result<Map<String, Value>, Failure> {
        let mut all = Map::new();
        let flags = [
            ("recursive", self.recursive),
            ("only-hash", self.only_hash),
            ("wrap-with-directory", self.wrap_with_directory),
            ("trickle", self.trickle),
            ("hidden", self.hidden),
            ("inline", self.inline),
            ("preserve-mode", self.preserve_mode),
            ("preserve-mtime", self.preserve_mtime),
            ("dereference-args", self.dereference_args),
            ("dereference-symlinks", self.dereference_symlinks),
        ];
        all.extend(
            flags
                .into_iter()
                .filter(|(_, on)| *on)
                .map(|(name, on)| (name.to_owned(), on.into())),
        );
        let rules = self
            .ignore_rules_path
            .as_deref()
            .map(std::path::absolute)
            .transpose()?;
        let values = [
            // An empty one is none: the profile's.
            (
                "chunker",
                json!(self.chunker.as_deref().filter(|c| !c.is_empty())),
            ),
            ("raw-leaves", json!(self.raw_leaves)),
            ("cid-version", json!(self.cid_version)),
            ("hash", json!(self.hash)),
            ("ignore-rules-path", json!(rules)),
            ("empty-dirs", json!(self.empty_dirs)),
            ("inline-limit", json!(self.inline_limit)),
            ("max-file-links", json!(self.max_file_links)),
            ("max-directory-links", json!(self.max_directory_links)),
            ("max-hamt-fanout", json!(self.max_hamt_fanout)),
            ("mode", json!(self.mode)),
            ("mtime", json!(self.mtime)),
            ("mtime-nsecs", json!(self.mtime_nsecs)),
            ("stdin-name", json!(self.stdin_name)),
            ("pin", json!(self.pin)),
            ("pin-name", json!(self.pin_name)),
            ("to-files", json!(self.to_files)),
        ];
        let given = values.into_iter().filter(|(_, value)| !value.is_null());
        all.extend(given.map(|(name, value)| (name.to_owned(), value)));
        if !self.ignore.is_empty() {
            all.insert("ignore".to_owned(), json!(self.ignore));
        }
        Ok(all)
    }

    /// Whether nothing is said of entries below the roots.
    fn says_nothing(&self) -> bool {
        self.silent || self.quieter
    }

    /// What to add: paths, or standard input.
    fn inputs(&self) -> Result<(Vec<PathBuf>, Option<Body>), Failure> {
        let is_stdin = |path: &PathBuf| path.as_path() == Path::new("-");
        let stdin = match self.paths.as_slice() {
            [] => !io::stdin().is_terminal(),
            [one] => is_stdin(one),
            several if several.iter().any(is_stdin) => {
                let message = "- goes with no other path";
                return Err(OperationError::invalid(message).into());
            }
            _ => false,
        };
        if stdin {
            return Ok((Vec::new(), Some(super::import::standard_input())));
        }
        let absolute = self.paths.iter().map(|path| {
            let path = std::path::absolute(path)?;
            in_json(&path)?;
            Ok(path)
        });
        Ok((absolute.collect::<Result<_, Failure>>()?, None))
    }
}

pub(super) async fn run(common: &Common, args: Add) -> Result<(), Failure> {
    let (paths, body) = args.inputs()?;
    let quiet = args.silent || common.json || args.progress == Some(false);
    let bar = Bar::start("adding", quiet);
    let params = json!({
        "paths": paths,
        "profile": args.profile,
        "options": args.options()?,
        "measure": bar.is_shown() && body.is_none(),
        "terse": args.says_nothing(),
    });
    let closed = Arc::new(AtomicBool::new(false));
    let on_item = on_item(common, &args, Arc::clone(&closed));
    let progress = bar.hear(Some(on_item));
    let backend = Backend::open(common).await?;
    let outcome = backend
        .call(
            "ipfs/add",
            Call {
                params,
                body,
                progress,
            },
        )
        .await;
    bar.end();
    if closed.load(Ordering::Relaxed) {
        return Err(Failure::output(io::ErrorKind::BrokenPipe.into()));
    }
    let Output::Json(result) = outcome? else {
        return Err(OperationError::internal("ipfs/add gave bytes").into());
    };
    backend.close().await?;
    if args.silent {
        return Ok(());
    }
    if common.json {
        return print_json(&result);
    }
    match list(&result, "roots").last() {
        Some(root) if args.quieter => print(&format!("{}\n", text(root, "cid"))),
        Some(_) | None => Ok(()),
    }
}

/// Prints what was added as it comes.
fn on_item(common: &Common, args: &Add, closed: Arc<AtomicBool>) -> OnItem {
    let (json, quiet) = (common.json, args.quiet);
    let nothing = args.says_nothing();
    Box::new(move |bar, event| {
        let Some(added) = event.get("added").filter(|_| !nothing) else {
            return Ok(());
        };
        let line = if json {
            format!("{event}\n")
        } else if quiet {
            format!("{}\n", text(added, "cid"))
        } else {
            let line = format!(
                "added {} {}",
                text(added, "cid"),
                safe(&text(added, "name"))
            );
            format!("{}\n", line.trim_end())
        };
        bar.suspend(|| print(&line)).map_err(|_| {
            closed.store(true, Ordering::Relaxed);
            Gone
        })
    })
}
