//! Reads and builds a small file in one go, on a worker.

use std::fs::{File, Metadata as Stat, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::engine::Engine;
use super::pool::Scratch;
use super::refused::AddError;
use crate::unixfs::layout::{Metadata, Piece};

/// Below this a buffer of a file's own size is cheaper than a shared one that
/// a sink might keep whole for a few bytes of it.
const RECYCLED_BYTES_MIN: usize = 64 << 10;

/// What became of a file on a worker.
pub(super) enum Small {
    /// It is built.
    Built(Box<(Piece, Metadata)>),
    /// It is too large for one thread.
    Large,
}

/// Opens a regular file and nothing else, without waiting for anyone.
pub(super) fn open(path: &Path, follow: bool) -> Result<(File, Stat), AddError> {
    let flags = if follow { 0 } else { libc::O_NOFOLLOW };
    let opened = OpenOptions::new()
        .read(true)
        // What was a regular file a moment ago may be a pipe now: don't hang on it.
        .custom_flags(flags | libc::O_NONBLOCK)
        .open(path)
        .and_then(|file| Ok((file.metadata()?, file)));
    let (stat, file) = opened.map_err(|source| AddError::read(path, source))?;
    if !stat.is_file() {
        return Err(AddError::Changed(path.to_owned()));
    }
    Ok((file, stat))
}

pub(super) fn build(
    engine: &Engine,
    path: &Path,
    scratch: &mut Scratch,
) -> Result<Small, AddError> {
    engine.check()?;
    let (file, stat) = open(path, engine.recipe.walk.follow)?;
    let limit = engine.small_bytes_max();
    let Some(size) = usize::try_from(stat.len()).ok().filter(|s| *s <= limit) else {
        return Ok(Small::Large);
    };
    let mut buffer = if size >= RECYCLED_BYTES_MIN {
        std::mem::take(&mut scratch.spare)
    } else {
        BytesMut::new()
    };
    // One byte more than there should be shows the end without another read.
    let start = align(&mut buffer, size + 1);
    let whole = read_whole(&file, &mut buffer, start, limit);
    if !whole.map_err(|source| AddError::read(path, source))? {
        return Ok(Small::Large);
    }
    let meta = engine.recipe.stats.file(&stat);
    let data = buffer.freeze();
    let piece = engine.file(&data.slice(start..), &meta)?;
    if size >= RECYCLED_BYTES_MIN {
        scratch.recycle(data);
    }
    Ok(Small::Built(Box::new((piece, meta))))
}

/// Gives the buffer room for `len` bytes that begin on a cache line, and says where.
///
/// The kernel copies into such a place three to four times as fast as into the
/// one 16 bytes behind a page that the allocator gives; that is a third of the
/// time of an import.
pub(super) fn align(buffer: &mut BytesMut, len: usize) -> usize {
    const CACHE_LINE: usize = 64;
    let wanted = len.saturating_add(CACHE_LINE);
    buffer.reserve(wanted.saturating_sub(buffer.len()));
    let start = buffer.as_ptr().align_offset(CACHE_LINE);
    let start = if start < CACHE_LINE { start } else { 0 };
    buffer.resize(start + len, 0);
    start
}

/// Reads to the end, into what follows `start`; false if there are more than
/// `limit` bytes.
pub(super) fn read_whole(
    mut from: impl Read,
    buffer: &mut BytesMut,
    start: usize,
    limit: usize,
) -> io::Result<bool> {
    let end_max = start + limit + 1;
    let mut end = start;
    loop {
        if end == end_max {
            return Ok(false);
        }
        if end >= buffer.len() {
            buffer.resize((end * 2).max(512).min(end_max), 0);
        }
        match from.read(buffer.get_mut(end..).unwrap_or_default()) {
            Ok(0) => {
                buffer.truncate(end);
                return Ok(true);
            }
            Ok(count) => end += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

impl Scratch {
    /// Takes a buffer back, unless someone still holds its bytes.
    pub(super) fn recycle(&mut self, data: Bytes) {
        if let Ok(buffer) = data.try_into_mut() {
            self.spare = buffer;
        }
    }
}

impl AddError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            name: path.display().to_string(),
            source,
        }
    }
}
