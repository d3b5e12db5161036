//! Files and directories into the repository.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::pins::{pins_of, run_blocking};
use crate::cache::{Blocks, PinMode};
use crate::config::ADD_PATHS_MAX;
use crate::control::registry::Io;
use crate::control::{Body, Context, ErrorKind, Gone, Operation, OperationError, Output, Progress};
use crate::unixfs::builder::{AddError, AddEvent, AddOptions, Added, AddedKind, Adder, Input};
use crate::unixfs::profile::Profile;

/// What to add, and how.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Add {
    /// Absolute paths on the daemon's machine, where no bytes are sent as the body.
    #[serde(default)]
    paths: Vec<PathBuf>,
    /// `unixfs-v1-2025` (the default) or `unixfs-v0-2015`.
    #[serde(default)]
    profile: Option<String>,
    /// Options of `ipfs add` by their names, such as `{"raw-leaves": false}`; what is
    /// not said is as in the profile.
    #[serde(default)]
    options: Map<String, Value>,
    /// Walks first to know how much there is, for progress.
    #[serde(default)]
    measure: bool,
    /// Says nothing of each entry as it is added; figures of progress still come.
    #[serde(default)]
    terse: bool,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::write("ipfs/add", "Adds files and directories.", add)
            .taking_body()
            .long(),
    ]
}

async fn add(context: Arc<Context>, what: Add, io: Io) -> Result<Output, OperationError> {
    let options = options(what.profile.as_deref(), what.options)?;
    check(&what.paths, io.body.is_some())?;
    let to_files = options.to_files.clone().filter(|_| !options.only_hash);
    let blocks = Arc::clone(&context.blocks);
    // While it lives nothing is collected: the tree names what was added before it goes.
    let _adding = context.blocks.own_sink();
    // Made here: reading the body needs the runtime that it came by.
    let reader = io.body.map(reader);
    let result = run_blocking(move || {
        let job = Job {
            blocks,
            options,
            progress: io.progress,
            terse: what.terse,
        };
        job.run(&what.paths, reader, what.measure)
    })
    .await?;
    if let Some(path) = to_files {
        super::journal::link_added(&context, &path, &result).await?;
    }
    Ok(Output::Json(result))
}

type BodyReader = SyncIoBridge<StreamReader<Body, bytes::Bytes>>;

fn reader(body: Body) -> BodyReader {
    SyncIoBridge::new(StreamReader::new(body))
}

/// Lays what was said over the options of the profile.
fn options(profile: Option<&str>, said: Map<String, Value>) -> Result<AddOptions, OperationError> {
    let invalid = |error: &dyn std::fmt::Display| OperationError::invalid(error.to_string());
    let profile = profile.map_or(Ok(Profile::default()), str::parse);
    let profile =
        profile.map_err(|error: crate::unixfs::profile::UnknownProfile| invalid(&error))?;
    let mut all = serde_json::to_value(AddOptions::from_profile(profile))
        .map_err(|error| OperationError::internal(error.to_string()))?;
    if let Some(all) = all.as_object_mut() {
        all.extend(said);
    }
    let options: AddOptions = serde_path_to_error::deserialize(all)
        .map_err(|error| invalid(&format!("option {}: {}", error.path(), error.inner())))?;
    Ok(options)
}

fn check(paths: &[PathBuf], body: bool) -> Result<(), OperationError> {
    if body != paths.is_empty() {
        return Err(OperationError::invalid("give either paths or bytes to add"));
    }
    if paths.len() > ADD_PATHS_MAX {
        let message = format!("more than {ADD_PATHS_MAX} paths at once");
        return Err(OperationError::new(ErrorKind::TooLarge, message)
            .hint("add their directory with -r, or add them in parts"));
    }
    for path in paths {
        if !path.is_absolute() {
            let message = format!("{} is not an absolute path", path.display());
            return Err(OperationError::invalid(message));
        }
    }
    Ok(())
}

/// One import.
struct Job {
    blocks: Arc<Blocks>,
    options: AddOptions,
    progress: Progress,
    terse: bool,
}

impl Job {
    fn run(
        self,
        paths: &[PathBuf],
        body: Option<BodyReader>,
        measure: bool,
    ) -> Result<Value, OperationError> {
        // While it lives nothing is collected: the pins are there before it goes.
        let sink = self.blocks.own_sink();
        let adder = Adder::new(self.options.clone(), Arc::clone(&sink) as _)?;
        let inputs = match body {
            Some(reader) => vec![Input::reader(reader)],
            None => paths.iter().map(|path| Input::path(path)).collect(),
        };
        let total = measure.then(|| {
            let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
            adder.measure(&paths).bytes
        });
        let counts = Counts {
            total,
            ..Counts::default()
        };
        let added = adder.add_all(inputs, &|event| self.report(&adder, &counts, event))?;
        sink.flush()?;
        if !self.options.only_hash {
            self.blocks.sync()?;
            if self.options.pin {
                let roots: Vec<_> = added.iter().map(|one| one.cid).collect();
                let name = self.options.pin_name.clone();
                self.blocks
                    .pins()
                    .add(&pins_of(&roots, PinMode::Recursive, name))?;
            }
        }
        Ok(json!({
            "roots": added.iter().map(describe).collect::<Vec<_>>(),
            "files": counts.files.get(),
            "bytes": counts.done.get(),
        }))
    }

    /// Reports an entry; an error where nobody waits for the import any more.
    fn tell(&self, added: &Added) -> Result<(), Gone> {
        if self.terse || !self.progress.is_heard() {
            return self.progress.heard();
        }
        self.progress.item(json!({"added": describe(added)}))
    }

    fn report(&self, adder: &Adder, counts: &Counts, event: AddEvent) {
        match event {
            AddEvent::Progress { bytes, .. } => counts.open.set(bytes),
            AddEvent::Entry(added) => {
                if added.kind == AddedKind::File {
                    counts.files.set(counts.files.get() + 1);
                    counts.done.set(counts.done.get() + added.size);
                    counts.open.set(0);
                }
                if self.tell(&added).is_err() {
                    adder.cancel();
                }
            }
        }
        self.progress.tick(|| {
            let bytes = counts.done.get() + counts.open.get();
            json!({"files": counts.files.get(), "bytes": bytes, "bytes_total": counts.total})
        });
    }
}

/// How far an import is.
#[derive(Default)]
struct Counts {
    files: Cell<u64>,
    done: Cell<u64>,
    /// Bytes of the file that is being read.
    open: Cell<u64>,
    total: Option<u64>,
}

fn describe(added: &Added) -> Value {
    let kind = match added.kind {
        AddedKind::File => "file",
        AddedKind::Directory => "directory",
        AddedKind::Symlink => "symlink",
    };
    json!({
        "name": String::from_utf8_lossy(&added.name),
        "cid": added.cid.to_string(),
        "kind": kind,
        "size": added.size,
        "tsize": added.tsize,
    })
}

impl From<AddError> for OperationError {
    fn from(error: AddError) -> Self {
        let message = error.to_string();
        match error {
            AddError::Refused(_) => Self::invalid(message),
            AddError::Walk(_) | AddError::Changed(_) | AddError::Worker | AddError::Cancelled => {
                Self::internal(message)
            }
            AddError::Read { source, .. } | AddError::Sink(source) => Self {
                message,
                ..Self::from(source)
            },
            AddError::Block(_) | AddError::Hamt(_) => Self::new(ErrorKind::TooLarge, message),
        }
    }
}
