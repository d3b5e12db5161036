//! One import: walks ahead, builds on the workers, assembles in order.
//!
//! What the walk meets goes into a bounded queue, the files of a directory some
//! at a time, with a ticket of the worker that builds them: to hand over each
//! alone would cost as much as to build it. The front of the queue is assembled, so a
//! directory is built when all its entries are, while the workers are at the
//! next one already.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use super::engine::Engine;
use super::input::Source;
use super::large::Large;
use super::pool::{Pool, Ticket};
use super::refused::AddError;
use super::small::{self, FileToAdd, Small};
use super::{AddEvent, Added, AddedKind};
use crate::config::{IMPORTS_AHEAD_MAX, IMPORTS_PER_JOB};
use crate::unixfs::dir_build::NewEntry;
use crate::unixfs::layout::{Metadata, Piece};
use crate::unixfs::walk::{Step, WalkError};

/// What waits to be assembled.
enum Item<'r> {
    Enter(Vec<u8>, Metadata),
    Leave {
        skip: bool,
    },
    /// Files that follow each other in one directory.
    Files(Arc<[FileToAdd]>, Ticket<Vec<Result<Small, AddError>>>),
    Symlink(Vec<u8>, Vec<u8>, Metadata),
    Reader(Vec<u8>, Box<dyn Read + 'r>),
    Pipe(Vec<u8>, PathBuf),
}

impl Item<'_> {
    /// What it counts for in the queue.
    fn weight(&self) -> usize {
        match self {
            Self::Files(files, _) => files.len(),
            Self::Enter(..)
            | Self::Leave { .. }
            | Self::Symlink(..)
            | Self::Reader(..)
            | Self::Pipe(..) => 1,
        }
    }
}

/// A directory whose entries are coming in.
struct Open {
    name: Vec<u8>,
    /// Its path with a slash behind it; nothing where it has no name.
    prefix: Vec<u8>,
    meta: Metadata,
    entries: Vec<NewEntry>,
    size: u64,
}

pub(super) struct Run<'a> {
    pool: &'a Pool,
    engine: &'a Arc<Engine>,
    progress: &'a dyn Fn(AddEvent),
    open: Vec<Open>,
    roots: Vec<Added>,
    /// Files that the walk met and nobody was given yet.
    gathered: Vec<FileToAdd>,
    /// What it met behind them.
    held: Option<Step>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        pool: &'a Pool,
        engine: &'a Arc<Engine>,
        progress: &'a dyn Fn(AddEvent),
    ) -> Self {
        Self {
            pool,
            engine,
            progress,
            open: Vec::new(),
            roots: Vec::new(),
            gathered: Vec::new(),
            held: None,
        }
    }

    pub(super) fn all(
        mut self,
        mut sources: VecDeque<Source<'_>>,
        wrap: bool,
    ) -> Result<Vec<Added>, AddError> {
        if wrap {
            self.enter(Vec::new(), self.engine.recipe.stats.fixed());
        }
        let mut queue = VecDeque::new();
        let mut ahead = 0;
        loop {
            self.engine.check()?;
            while ahead < IMPORTS_AHEAD_MAX {
                let Some(item) = self.next_item(&mut sources)? else {
                    break;
                };
                ahead += item.weight();
                queue.push_back(item);
            }
            let Some(item) = queue.pop_front() else { break };
            ahead -= item.weight();
            self.assemble(item)?;
        }
        if wrap {
            self.leave(false)?;
        }
        Ok(self.roots)
    }

    /// Takes the next step of the first source that has one, and starts it.
    fn next_item<'r>(
        &mut self,
        sources: &mut VecDeque<Source<'r>>,
    ) -> Result<Option<Item<'r>>, AddError> {
        loop {
            if let Some(step) = self.held.take() {
                return Ok(Some(self.start(step)));
            }
            let step = match sources.front_mut() {
                Some(Source::Walk(walk)) => walk.advance()?,
                Some(Source::Reader(..)) | None => None,
            };
            match step {
                Some(Step::File { name, path }) => {
                    self.gathered.push(FileToAdd { name, path });
                    if self.gathered.len() < IMPORTS_PER_JOB {
                        continue;
                    }
                }
                other => self.held = other,
            }
            if !self.gathered.is_empty() {
                return Ok(Some(self.submit()));
            }
            if self.held.is_some() {
                continue;
            }
            match sources.pop_front() {
                Some(Source::Walk(_)) => {}
                Some(Source::Reader(name, reader)) => return Ok(Some(Item::Reader(name, reader))),
                None => return Ok(None),
            }
        }
    }

    /// Gives what was gathered to a worker.
    fn submit<'r>(&mut self) -> Item<'r> {
        let files: Arc<[FileToAdd]> = std::mem::take(&mut self.gathered).into();
        let (engine, work) = (Arc::clone(self.engine), Arc::clone(&files));
        let ticket = self
            .pool
            .submit(move |scratch| Ok(small::build_all(&engine, &work, scratch)));
        Item::Files(files, ticket)
    }

    fn start<'r>(&mut self, step: Step) -> Item<'r> {
        let stats = &self.engine.recipe.stats;
        match step {
            Step::Enter { name, stat } => Item::Enter(name, stats.directory(&stat)),
            Step::Leave { skip } => Item::Leave { skip },
            Step::Pipe { name, path } => Item::Pipe(name, path),
            Step::Symlink { name, target, stat } => {
                let meta = Metadata {
                    mode: None,
                    mtime: stats.mtime(&stat),
                };
                Item::Symlink(name, target, meta)
            }
            Step::File { name, path } => {
                self.gathered.push(FileToAdd { name, path });
                self.submit()
            }
        }
    }

    fn assemble(&mut self, item: Item<'_>) -> Result<(), AddError> {
        match item {
            Item::Enter(name, meta) => self.enter(name, meta),
            Item::Leave { skip } => self.leave(skip)?,
            Item::Symlink(name, target, meta) => {
                let piece = self.engine.symlink(&target, meta.mtime)?;
                self.finish(&name, AddedKind::Symlink, piece, meta);
            }
            Item::Files(files, ticket) => {
                for (file, built) in files.iter().zip(ticket.wait()?) {
                    self.file(file, built?)?;
                }
            }
            Item::Reader(name, mut reader) => self.stream(name, &mut reader)?,
            Item::Pipe(name, path) => {
                // Waits for the other end, as any reader of a pipe does.
                let opened = File::open(&path).map_err(|source| WalkError::Io { path, source });
                self.stream(name, &mut opened?)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &FileToAdd, built: Small) -> Result<(), AddError> {
        let (piece, meta) = match built {
            Small::Built(built) => {
                self.report(&file.name, built.0.size);
                *built
            }
            Small::Large => {
                let report = |bytes| self.report(&file.name, bytes);
                Large::new(self.pool, self.engine, &report).file(&file.path)?
            }
        };
        self.finish(&file.name, AddedKind::File, piece, meta);
        Ok(())
    }

    fn stream(&mut self, name: Vec<u8>, reader: &mut dyn Read) -> Result<(), AddError> {
        let meta = super::recipe::without_zero_mode(self.engine.recipe.stats.fixed());
        let shown = String::from_utf8_lossy(&name).into_owned();
        let report = |bytes| self.report(&name, bytes);
        let piece = Large::new(self.pool, self.engine, &report).stream(reader, &shown, &meta)?;
        let name = if name.is_empty() {
            piece.cid.to_string().into_bytes()
        } else {
            name
        };
        self.finish(&name, AddedKind::File, piece, meta);
        Ok(())
    }

    fn enter(&mut self, name: Vec<u8>, meta: Metadata) {
        let mut prefix = self.path(&name);
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        self.open.push(Open {
            name,
            prefix,
            meta,
            entries: Vec::new(),
            size: 0,
        });
    }

    fn leave(&mut self, skip: bool) -> Result<(), AddError> {
        let Some(done) = self.open.pop() else {
            return Ok(());
        };
        if skip {
            return Ok(());
        }
        let built = self.engine.directory(done.entries, &done.meta)?;
        let piece = Piece {
            cid: built.cid,
            size: done.size,
            tsize: built.tsize,
        };
        self.finish(&done.name, AddedKind::Directory, piece, done.meta);
        Ok(())
    }

    /// Hands what is built to its directory, or out.
    fn finish(&mut self, name: &[u8], kind: AddedKind, piece: Piece, meta: Metadata) {
        let added = Added {
            name: self.path(name),
            cid: piece.cid,
            kind,
            size: piece.size,
            tsize: piece.tsize,
            meta,
        };
        match self.open.last_mut() {
            Some(parent) => {
                parent.size = parent.size.saturating_add(piece.size);
                parent
                    .entries
                    .push(NewEntry::new(name, &piece.cid, piece.tsize));
            }
            None => self.roots.push(added.clone()),
        }
        (self.progress)(AddEvent::Entry(Box::new(added)));
    }

    fn report(&self, name: &[u8], bytes: u64) {
        (self.progress)(AddEvent::Progress {
            name: self.path(name),
            bytes,
        });
    }

    /// The path of `name` in the open directories; a wrapping one has no name.
    fn path(&self, name: &[u8]) -> Vec<u8> {
        let above = self.open.last().map_or(&[][..], |dir| &dir.prefix);
        if name.is_empty() {
            return above.strip_suffix(b"/").unwrap_or(above).to_owned();
        }
        [above, name].concat()
    }
}
