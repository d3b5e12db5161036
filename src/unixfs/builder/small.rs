//! Reads and builds a small file in one go, on a worker.

use std::ffi::OsStr;
use std::fs::{File, Metadata as Stat};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::retry_on_intr;

use super::engine::Engine;
use super::pool::Scratch;
use super::refused::AddError;
use crate::unixfs::layout::{Metadata, Piece};

/// A file below this is read into a page that several share. A larger one gets
/// a buffer that is used again at once if the sink did not keep it.
const PAGED_BYTES_MAX: usize = 64 << 10;
/// Where copies from the kernel should begin.
const CACHE_LINE: usize = 64;

/// A regular file that the walk met.
pub(super) struct FileToAdd {
    /// Its name in its directory.
    pub(super) name: Vec<u8>,
    /// Where it is.
    pub(super) path: PathBuf,
}

/// What became of a file on a worker.
pub(super) enum Small {
    /// It is built.
    Built(Box<(Piece, Metadata)>),
    /// It is too large for one thread.
    Large,
}

/// Opens a regular file and nothing else, without waiting for anyone.
pub(super) fn open(path: &Path, follow: bool) -> Result<(File, Stat), AddError> {
    open_at(None, path, path, follow)
}

/// Opens `name` in a directory that is open, or else `path`.
fn open_at(
    dir: Option<&OwnedFd>,
    name: &Path,
    path: &Path,
    follow: bool,
) -> Result<(File, Stat), AddError> {
    // What was a regular file a moment ago may be a pipe now: don't hang on it.
    let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !follow);
    let opened = retry_on_intr(|| match dir {
        Some(dir) => openat(dir, name, flags, Mode::empty()),
        None => openat(CWD, path, flags, Mode::empty()),
    });
    let opened = opened
        .map_err(io::Error::from)
        .map(File::from)
        .and_then(|file| Ok((file.metadata()?, file)));
    let (stat, file) = opened.map_err(|source| AddError::read(path, source))?;
    if !stat.is_file() {
        return Err(AddError::Changed(path.to_owned()));
    }
    Ok((file, stat))
}

/// Builds files of one directory, up to the first that cannot be built.
pub(super) fn build_all(
    engine: &Engine,
    files: &[FileToAdd],
    scratch: &mut Scratch,
) -> Vec<Result<Small, AddError>> {
    let mut all = Vec::with_capacity(files.len());
    let dir = folder_of(files);
    for file in files {
        let built = build(engine, dir.as_ref(), file, scratch);
        let failed = built.is_err();
        all.push(built);
        if failed {
            break;
        }
    }
    all
}

/// Opens the directory that several files are in, so that each is found in one
/// step; `None` where they are found by their paths.
fn folder_of(files: &[FileToAdd]) -> Option<OwnedFd> {
    let [first, _, ..] = files else { return None };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, first.path.parent()?, flags, Mode::empty()).ok()
}

fn build(
    engine: &Engine,
    dir: Option<&OwnedFd>,
    file: &FileToAdd,
    scratch: &mut Scratch,
) -> Result<Small, AddError> {
    engine.check()?;
    let (path, name) = (&*file.path, Path::new(OsStr::from_bytes(&file.name)));
    let (file, stat) = open_at(dir, name, path, engine.recipe.walk.follow)?;
    let limit = engine.small_bytes_max();
    let Some(size) = usize::try_from(stat.len()).ok().filter(|s| *s <= limit) else {
        return Ok(Small::Large);
    };
    let paged = size < PAGED_BYTES_MAX;
    let mut buffer = if paged {
        scratch.pages.take(size + 1 + CACHE_LINE)
    } else {
        std::mem::take(&mut scratch.spare)
    };
    // One byte more than there should be shows whether the file has grown.
    let start = align(&mut buffer, size + 1);
    let whole = read_file(&file, &mut buffer, start, size, limit);
    if !whole.map_err(|source| AddError::read(path, source))? {
        return Ok(Small::Large);
    }
    let meta = engine.recipe.stats.file(&stat);
    let data = if paged {
        scratch.pages.filled(buffer)
    } else {
        buffer.freeze()
    };
    let piece = engine.file(&data.slice(start..), &meta)?;
    if !paged {
        scratch.recycle(data);
    }
    Ok(Small::Built(Box::new((piece, meta))))
}

/// Reads a file of `size` bytes. The filesystem had room for one more and gave
/// none: that is its end, without another read.
fn read_file(
    mut file: &File,
    buffer: &mut BytesMut,
    start: usize,
    size: usize,
    limit: usize,
) -> io::Result<bool> {
    let count = retry_interrupted(|| file.read(buffer.get_mut(start..).unwrap_or_default()))?;
    if count == size && size > 0 {
        buffer.truncate(start + size);
        return Ok(true);
    }
    if count == 0 {
        buffer.truncate(start);
        return Ok(true);
    }
    read_rest(file, buffer, start, start + count, limit)
}

fn retry_interrupted(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Gives the buffer room for `len` bytes that begin on a cache line, and says where.
///
/// The kernel copies into such a place three to four times as fast as into the
/// one 16 bytes behind a page that the allocator gives; that is a third of the
/// time of an import.
pub(super) fn align(buffer: &mut BytesMut, len: usize) -> usize {
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
    from: impl Read,
    buffer: &mut BytesMut,
    start: usize,
    limit: usize,
) -> io::Result<bool> {
    read_rest(from, buffer, start, start, limit)
}

/// As [`read_whole`], where bytes up to `end` are read already.
fn read_rest(
    mut from: impl Read,
    buffer: &mut BytesMut,
    start: usize,
    mut end: usize,
    limit: usize,
) -> io::Result<bool> {
    let end_max = start + limit + 1;
    loop {
        if end == end_max {
            return Ok(false);
        }
        if end >= buffer.len() {
            buffer.resize((end * 2).max(512).min(end_max), 0);
        }
        match retry_interrupted(|| from.read(buffer.get_mut(end..).unwrap_or_default()))? {
            0 => {
                buffer.truncate(end);
                return Ok(true);
            }
            count => end += count,
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::super::{AddOptions, Nowhere, Recipe};
    use super::*;
    use crate::unixfs::profile::Profile;

    fn engine() -> Engine {
        let options = AddOptions::from_profile(Profile::default());
        Engine::new(Recipe::new(&options).unwrap(), Arc::new(Nowhere))
    }

    fn file(dir: &Path, name: &str) -> FileToAdd {
        FileToAdd {
            name: name.as_bytes().to_owned(),
            path: dir.join(name),
        }
    }

    #[test]
    fn a_file_is_read_whole_whatever_its_size_was_thought_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, [7; 1000]).unwrap();
        for thought in [0, 1, 999, 1000, 1001, 5000] {
            let mut buffer = BytesMut::new();
            let start = align(&mut buffer, thought + 1);
            let file = File::open(&path).unwrap();
            assert!(read_file(&file, &mut buffer, start, thought, 5000).unwrap());
            assert_eq!(buffer.get(start..), Some(&[7; 1000][..]), "{thought}");
        }
        let mut buffer = BytesMut::new();
        let start = align(&mut buffer, 101);
        let file = File::open(&path).unwrap();
        assert!(!read_file(&file, &mut buffer, start, 100, 500).unwrap());
    }

    #[test]
    fn files_before_one_that_cannot_be_read_are_built_and_none_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "d"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let files: Vec<_> = ["a", "b", "c", "d"]
            .map(|name| file(dir.path(), name))
            .into();
        let built = build_all(&engine(), &files, &mut Scratch::default());
        assert_eq!(built.len(), 3);
        assert!(built.iter().take(2).all(Result::is_ok));
        let why = built
            .last()
            .map(|last| last.as_ref().err().map(ToString::to_string));
        assert!(
            why.flatten()
                .is_some_and(|why| why.contains("c: No such file"))
        );
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "a").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("b")).unwrap();
        let files = [file(dir.path(), "a"), file(dir.path(), "b")];
        let built = build_all(&engine(), &files, &mut Scratch::default());
        assert!(matches!(
            built.as_slice(),
            [Ok(_), Err(AddError::Read { .. })]
        ));
    }
}
