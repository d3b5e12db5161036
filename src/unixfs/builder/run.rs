//! One import: walks ahead, builds on the workers, assembles in order.
//!
//! What the walk meets goes into a bounded queue, small files with a ticket of
//! the worker that builds them. The front of the queue is assembled, so a
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
use super::small::{self, Small};
use super::{AddEvent, Added, AddedKind};
use crate::config::IMPORTS_AHEAD_MAX;
use crate::unixfs::dir_build::NewEntry;
use crate::unixfs::layout::{Metadata, Piece};
use crate::unixfs::walk::{Step, WalkError};

/// What waits to be assembled.
enum Item<'r> {
    Enter(Vec<u8>, Metadata),
    Leave { skip: bool },
    File(Vec<u8>, PathBuf, Ticket<Small>),
    Symlink(Vec<u8>, Vec<u8>, Metadata),
    Reader(Vec<u8>, Box<dyn Read + 'r>),
    Pipe(Vec<u8>, PathBuf),
}

/// A directory whose entries are coming in.
struct Open {
    name: Vec<u8>,
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
        loop {
            self.engine.check()?;
            while queue.len() < IMPORTS_AHEAD_MAX {
                match self.next_item(&mut sources)? {
                    Some(item) => queue.push_back(item),
                    None => break,
                }
            }
            match queue.pop_front() {
                Some(item) => self.assemble(item)?,
                None => break,
            }
        }
        if wrap {
            self.leave(false)?;
        }
        Ok(self.roots)
    }

    /// Takes the next step of the first source that has one, and starts it.
    fn next_item<'r>(
        &self,
        sources: &mut VecDeque<Source<'r>>,
    ) -> Result<Option<Item<'r>>, AddError> {
        loop {
            match sources.pop_front() {
                None => return Ok(None),
                Some(Source::Reader(name, reader)) => return Ok(Some(Item::Reader(name, reader))),
                Some(Source::Walk(mut walk)) => {
                    if let Some(step) = walk.advance()? {
                        sources.push_front(Source::Walk(walk));
                        return Ok(Some(self.start(step)));
                    }
                }
            }
        }
    }

    fn start<'r>(&self, step: Step) -> Item<'r> {
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
            Step::File { name, path, .. } => {
                let (engine, at) = (self.engine.clone(), path.clone());
                let ticket = self
                    .pool
                    .submit(move |scratch| small::build(&engine, &at, scratch));
                Item::File(name, path, ticket)
            }
        }
    }

    fn assemble(&mut self, item: Item<'_>) -> Result<(), AddError> {
        match item {
            Item::Enter(name, meta) => self.enter(name, meta),
            Item::Leave { skip } => self.leave(skip)?,
            Item::Symlink(name, target, meta) => {
                let piece = self.engine.symlink(&target, meta.mtime)?;
                self.finish(name, AddedKind::Symlink, piece, meta);
            }
            Item::File(name, path, ticket) => {
                let (piece, meta) = match ticket.wait()? {
                    Small::Built(built) => {
                        self.report(&name, built.0.size);
                        *built
                    }
                    Small::Large => {
                        let report = |bytes| self.report(&name, bytes);
                        Large::new(self.pool, self.engine, &report).file(&path)?
                    }
                };
                self.finish(name, AddedKind::File, piece, meta);
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
        self.finish(name, AddedKind::File, piece, meta);
        Ok(())
    }

    fn enter(&mut self, name: Vec<u8>, meta: Metadata) {
        self.open.push(Open {
            name,
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
        self.finish(done.name, AddedKind::Directory, piece, done.meta);
        Ok(())
    }

    /// Hands what is built to its directory, or out.
    fn finish(&mut self, name: Vec<u8>, kind: AddedKind, piece: Piece, meta: Metadata) {
        let added = Added {
            name: self.path(&name),
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
                    .push(NewEntry::new(&name, &piece.cid, piece.tsize));
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
        let above = self.open.iter().map(|dir| dir.name.as_slice());
        let parts: Vec<&[u8]> = above
            .chain([name])
            .filter(|part| !part.is_empty())
            .collect();
        parts.join(&b'/')
    }
}
