//! Builds a large file or a stream with all threads.
//!
//! Chunks are hashed side by side, a bounded number at a time, and hung into
//! the tree in their order. Chunks of one size are read by the workers
//! themselves, each at its own place; where content decides, one thread reads
//! and cuts, and the workers hash.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::engine::Engine;
use super::pool::{Pool, Scratch, Ticket};
use super::recipe::without_zero_mode;
use super::refused::AddError;
use super::small::{align, open, read_whole};
use crate::block::DAG_PB;
use crate::config::CHUNKS_AHEAD_PER_THREAD;
use crate::unixfs::chunker::Chunker;
use crate::unixfs::layout::{Metadata, Piece, Tree};

/// One file being built.
pub(super) struct Large<'a> {
    pool: &'a Pool,
    engine: &'a Arc<Engine>,
    /// Hears how many bytes of the file are done.
    progress: &'a dyn Fn(u64),
}

/// The tree and what is on its way into it.
struct Growing<'a> {
    large: &'a Large<'a>,
    tree: Tree,
    waiting: VecDeque<Ticket<Option<Piece>>>,
    done_bytes: u64,
}

impl<'a> Large<'a> {
    pub(super) fn new(pool: &'a Pool, engine: &'a Arc<Engine>, progress: &'a dyn Fn(u64)) -> Self {
        Self {
            pool,
            engine,
            progress,
        }
    }

    /// Builds a local file that was too large for one thread when last looked at.
    pub(super) fn file(&self, path: &Path) -> Result<(Piece, Metadata), AddError> {
        let (file, stat) = open(path, self.engine.recipe.walk.follow)?;
        let meta = self.engine.recipe.stats.file(&stat);
        let piece = match self.engine.recipe.chunker {
            Chunker::Size(chunk) if stat.len() > self.engine.small_bytes_max() as u64 => {
                self.by_place(file, stat.len(), chunk, path, &meta)?
            }
            Chunker::Size(_) | Chunker::Rabin { .. } | Chunker::Buzhash => {
                self.stream(&mut &file, &path.display().to_string(), &meta)?
            }
        };
        Ok((piece, meta))
    }

    /// Chunks of one size, read at their places.
    fn by_place(
        &self,
        file: File,
        size: u64,
        chunk: usize,
        path: &Path,
        meta: &Metadata,
    ) -> Result<Piece, AddError> {
        let file = Arc::new(file);
        let path: Arc<Path> = path.into();
        let mut growing = self.growing();
        let step = chunk as u64;
        let mut asked = 0;
        loop {
            self.engine.check()?;
            // Beyond the size that it had, the file's end is found one chunk at a time.
            let ahead = if asked < size { self.ahead() } else { 1 };
            if growing.waiting.len() < ahead {
                let (engine, file, path) = (self.engine.clone(), file.clone(), path.clone());
                let at = asked;
                growing.waiting.push_back(self.pool.submit(move |scratch| {
                    read_chunk(&engine, &file, at, chunk, scratch)
                        .map_err(|e| e.unwrap_or_read(&path))
                }));
                asked = asked.saturating_add(step);
                continue;
            }
            match growing.settle()? {
                Some(piece) if piece.size == step => {}
                // The end, where it was expected or later.
                _ if growing.done_bytes >= size => break,
                _ => return Err(AddError::Changed(path.to_path_buf())),
            }
        }
        growing.finish(meta)
    }

    /// Whatever can only be read from front to end.
    pub(super) fn stream(
        &self,
        reader: &mut dyn Read,
        name: &str,
        meta: &Metadata,
    ) -> Result<Piece, AddError> {
        let read = |source| AddError::Read {
            name: name.to_owned(),
            source,
        };
        let limit = self.engine.small_bytes_max();
        let mut buffer = BytesMut::new();
        let at = align(&mut buffer, 64 << 10);
        let whole = read_whole(&mut *reader, &mut buffer, at, limit).map_err(read)?;
        let start = buffer.freeze().slice(at..);
        if whole {
            let piece = self.engine.file(&start, meta)?;
            (self.progress)(piece.size);
            return Ok(piece);
        }
        let mut growing = self.growing();
        let mut chunks = Chunks::new(self.engine.recipe.chunker, start, reader);
        while let Some(chunk) = chunks.next().map_err(read)? {
            self.engine.check()?;
            if growing.waiting.len() >= self.ahead() {
                growing.settle()?;
            }
            let engine = self.engine.clone();
            let job = move |_: &mut Scratch| engine.leaf(chunk, &Metadata::default()).map(Some);
            growing.waiting.push_back(self.pool.submit(job));
        }
        growing.finish(meta)
    }

    fn ahead(&self) -> usize {
        self.pool.threads() * CHUNKS_AHEAD_PER_THREAD + 1
    }

    fn growing(&'a self) -> Growing<'a> {
        Growing {
            large: self,
            tree: self.engine.recipe.tree(),
            waiting: VecDeque::new(),
            done_bytes: 0,
        }
    }
}

impl Growing<'_> {
    /// Waits for the oldest chunk and hangs it in; `None` beyond the end.
    fn settle(&mut self) -> Result<Option<Piece>, AddError> {
        let Some(ticket) = self.waiting.pop_front() else {
            return Ok(None);
        };
        let found = ticket.wait()?;
        if let Some(piece) = found {
            let engine = self.large.engine;
            self.tree
                .push(piece, &mut |node| engine.store(DAG_PB, node))?;
            self.done_bytes = self.done_bytes.saturating_add(piece.size);
            (self.large.progress)(self.done_bytes);
        }
        Ok(found)
    }

    fn finish(mut self, meta: &Metadata) -> Result<Piece, AddError> {
        while !self.waiting.is_empty() {
            self.settle()?;
        }
        let engine = self.large.engine;
        let meta = without_zero_mode(*meta);
        let root = self
            .tree
            .finish(&meta, &mut |node| engine.store(DAG_PB, node))?;
        root.ok_or(AddError::Worker)
    }
}

/// Why a chunk was not built; `Err` of reading has no name yet.
enum ChunkError {
    Read(io::Error),
    Other(AddError),
}

impl ChunkError {
    fn unwrap_or_read(self, path: &Path) -> AddError {
        match self {
            Self::Read(source) => AddError::read(path, source),
            Self::Other(error) => error,
        }
    }
}

/// Reads a chunk into the worker's buffer and builds it; `None` beyond the end.
fn read_chunk(
    engine: &Engine,
    file: &File,
    at: u64,
    chunk: usize,
    scratch: &mut Scratch,
) -> Result<Option<Piece>, ChunkError> {
    engine.check().map_err(ChunkError::Other)?;
    let mut buffer = std::mem::take(&mut scratch.spare);
    let start = align(&mut buffer, chunk);
    let room = buffer.get_mut(start..).unwrap_or_default();
    let count = read_at(file, at, room).map_err(ChunkError::Read)?;
    buffer.truncate(start + count);
    if count == 0 {
        return Ok(None);
    }
    let data = buffer.freeze();
    let piece = engine
        .leaf(data.slice(start..), &Metadata::default())
        .map_err(ChunkError::Other)?;
    scratch.recycle(data);
    Ok(Some(piece))
}

fn read_at(file: &File, at: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = out.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read_at(room, at.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Cuts a stream; what was cut off shares the memory that it was read into.
struct Chunks<'a> {
    chunker: Chunker,
    /// What was read before, then more of the stream.
    reader: io::Chain<io::Cursor<Bytes>, &'a mut dyn Read>,
    buffer: BytesMut,
    ended: bool,
}

impl<'a> Chunks<'a> {
    fn new(chunker: Chunker, start: Bytes, rest: &'a mut dyn Read) -> Self {
        Self {
            chunker,
            reader: io::Cursor::new(start).chain(rest),
            buffer: BytesMut::new(),
            ended: false,
        }
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.fill()?;
        let len = self.chunker.cut(&self.buffer);
        let chunk = self.buffer.split_to(len).freeze();
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// Reads until the chunker has all that it looks at.
    fn fill(&mut self) -> io::Result<()> {
        let window = self.chunker.window_bytes();
        let mut filled = self.buffer.len();
        if filled >= window || self.ended {
            return Ok(());
        }
        if filled == 0 {
            let start = align(&mut self.buffer, window);
            drop(self.buffer.split_to(start));
        }
        self.buffer.resize(window, 0);
        while let Some(room) = self.buffer.get_mut(filled..).filter(|r| !r.is_empty()) {
            match self.reader.read(room) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}
