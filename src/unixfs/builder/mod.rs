//! Files and directories into blocks: the engine of `cidfs add`.
//!
//! An [`Adder`] gives the same CIDs as `ipfs add` of Kubo 0.42 under the same
//! options, and refuses what Kubo refuses. Blocks go to a sink as they are
//! made, children before their parents; nothing is pinned, synced or named
//! here. Memory holds one open node a level of each file, the entries of the
//! directories that are open, and a bounded number of chunks. A crash or an
//! error leaves blocks without a root behind, which garbage collection takes.

mod engine;
mod input;
mod large;
mod options;
mod pages;
mod pool;
mod recipe;
mod refused;
mod run;
mod small;

pub use input::Input;
pub use options::AddOptions;
pub use refused::{AddError, AddRefused};

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::block::{Block, BlockSink, Cid};
use crate::unixfs::layout::Metadata;

use engine::Engine;
use pool::Pool;
use recipe::Recipe;
use run::Run;

/// What kind of thing was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddedKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// Something that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Its path, beginning with the name of what was asked for; bytes, not
    /// necessarily UTF-8. Empty for a wrapping directory.
    pub name: Vec<u8>,
    /// Its root.
    pub cid: Cid,
    /// What it is.
    pub kind: AddedKind,
    /// Bytes of content: of a file, a link's target, all files of a directory.
    pub size: u64,
    /// Bytes of all its blocks, shared ones counted each time.
    pub tsize: u64,
    /// What was stored beside the content.
    pub meta: Metadata,
}

/// What happens while things are added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddEvent {
    /// Bytes of a file were processed.
    Progress {
        /// Its path, as in [`Added::name`].
        name: Vec<u8>,
        /// How many bytes of it so far.
        bytes: u64,
    },
    /// An entry is finished, children before their directory.
    Entry(Box<Added>),
}

/// How much there is to add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measure {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Imports by one set of options into one sink. Owns a thread for each core.
pub struct Adder {
    engine: Arc<Engine>,
    pool: Pool,
    options: AddOptions,
}

impl Adder {
    /// Checks the options and starts the threads.
    pub fn new(options: AddOptions, sink: Arc<dyn BlockSink>) -> Result<Self, AddError> {
        let recipe = Recipe::new(&options)?;
        let sink: Arc<dyn BlockSink> = if options.only_hash {
            Arc::new(Nowhere)
        } else {
            sink
        };
        Ok(Self {
            engine: Arc::new(Engine::new(recipe, sink)),
            pool: Pool::new()?,
            options,
        })
    }

    /// Adds a file, directory or symbolic link, under `name` if it is given.
    pub fn add_path(
        &self,
        path: &Path,
        name: Option<&[u8]>,
        progress: &dyn Fn(AddEvent),
    ) -> Result<Added, AddError> {
        let mut input = Input::path(path);
        if let Some(name) = name {
            input = input.called(name);
        }
        self.add_one(input, progress)
    }

    /// Adds a stream as a file; without a name its CID becomes its name.
    pub fn add_reader<'r>(
        &self,
        reader: impl Read + 'r,
        name: Option<&[u8]>,
        progress: &dyn Fn(AddEvent),
    ) -> Result<Added, AddError> {
        let mut input = Input::reader(reader);
        if let Some(name) = name {
            input = input.called(name);
        }
        self.add_one(input, progress)
    }

    fn add_one(&self, input: Input<'_>, progress: &dyn Fn(AddEvent)) -> Result<Added, AddError> {
        let mut added = self.add_all(vec![input], progress)?;
        added.pop().ok_or(AddError::Refused(AddRefused::Nothing))
    }

    /// Adds several things, in the order of their names.
    ///
    /// Gives the roots in that order; one if a directory wraps them. The same
    /// path twice is added once.
    pub fn add_all(
        &self,
        inputs: Vec<Input<'_>>,
        progress: &dyn Fn(AddEvent),
    ) -> Result<Vec<Added>, AddError> {
        let sources = input::prepare(inputs, &self.options, &self.engine.recipe)?;
        Run::new(&self.pool, &self.engine, progress).all(sources, self.options.wrap_with_directory)
    }

    /// Walks what would be added and adds up the sizes of its files, for a
    /// progress bar. What cannot be read counts as nothing.
    pub fn measure(&self, paths: &[&Path]) -> Measure {
        let inputs = paths.iter().map(|path| Input::path(path)).collect();
        input::measure(inputs, &self.options, &self.engine.recipe)
    }

    /// Makes running and later calls end soon with [`AddError::Cancelled`].
    ///
    /// May be called from any thread. A read that waits for its bytes ends
    /// when they come.
    pub fn cancel(&self) {
        self.engine.cancel();
    }
}

/// Drops what is only to be hashed.
struct Nowhere;

impl BlockSink for Nowhere {
    fn put(&self, _: Block) -> std::io::Result<()> {
        Ok(())
    }
}
