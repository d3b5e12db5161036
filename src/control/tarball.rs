//! A tree of content as a tar archive.
//!
//! Stored modes and times stand in the headers; that they are stored, not
//! defaults, and their fractions of a second are in the extended headers
//! [`STORED_MODE`] and `mtime`, which other programs may ignore. Pipes,
//! sockets and devices of the writable tree are left out; each leaves a global
//! extended header [`LEFT_OUT`] in its place.

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tar::{Builder, Entry, EntryType, Header};
use tokio::runtime::Handle;

use super::channel::{ChannelWriter, stream_of};
use super::ops::kind_name;
use super::{ByteStream, ErrorKind, OperationError};
use crate::config::{CAT_CHUNK_BYTES, PATH_BYTES_MAX};
use crate::tree::{Attr, Kind, Located, Node, Tree, TreeError};
use crate::unixfs::data::Mtime;

/// Extended header with the mode in octal, where the content says one.
pub const STORED_MODE: &str = "CIDFS.mode";

/// Global extended header with a [`LeftOut`] in JSON.
pub const LEFT_OUT: &str = "CIDFS.left_out";

/// What an archive does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its path in the archive.
    pub path: String,
    /// What it is: `fifo`, `socket`, `character device` or `block device`.
    pub kind: String,
}

/// Reads what an entry says that was left out; `None` of any other entry.
pub fn left_out<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Option<LeftOut>> {
    if !entry.header().entry_type().is_pax_global_extensions() {
        return Ok(None);
    }
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        if extension.key() == Ok(LEFT_OUT) {
            return Ok(serde_json::from_slice(extension.value_bytes()).ok());
        }
    }
    Ok(None)
}

/// Gives the archive of `node`, whose first entry is called `name`.
pub(super) fn stream(tree: Arc<Tree>, node: Located, name: String) -> ByteStream {
    let runtime = Handle::current();
    stream_of(move |out| {
        let mut walk = Walk {
            tree,
            runtime,
            archive: Builder::new(out),
        };
        walk.all(node, PathBuf::from(name))?;
        walk.archive.finish()?;
        Ok(())
    })
}

struct Walk<'a> {
    tree: Arc<Tree>,
    runtime: Handle,
    archive: Builder<&'a mut ChannelWriter>,
}

impl Walk<'_> {
    /// Writes a node and all below it, parents first.
    fn all(&mut self, node: Located, path: PathBuf) -> Result<(), OperationError> {
        let mut open = vec![(Next::Known(node), path)];
        while let Some((next, path)) = open.pop() {
            if path.as_os_str().len() > PATH_BYTES_MAX {
                let message = format!("a path is longer than {PATH_BYTES_MAX} bytes");
                return Err(OperationError::new(ErrorKind::TooLarge, message));
            }
            let done = match self.take(next) {
                Ok(Some(node)) => self.one(&node, &path, &mut open),
                Ok(None) => Ok(()),
                Err(error) => Err(error.into()),
            };
            done.map_err(|error| error.context(path.display()))?;
        }
        Ok(())
    }

    /// `None` for an entry that was removed since its directory was listed.
    fn take(&self, next: Next) -> Result<Option<Located>, TreeError> {
        match next {
            Next::Known(node) => Ok(Some(node)),
            Next::Named(parent, name) => {
                match self.runtime.block_on(self.tree.locate_in(&parent, &name)) {
                    Err(TreeError::NotFound) => Ok(None),
                    found => found.map(Some),
                }
            }
        }
    }

    fn one(
        &mut self,
        node: &Located,
        path: &Path,
        open: &mut Vec<(Next, PathBuf)>,
    ) -> Result<(), OperationError> {
        let attr = self.runtime.block_on(self.tree.attr(node))?;
        let Some(mut header) = header(&attr) else {
            tracing::warn!(path = %path.display(), kind = ?attr.kind, "left out of an archive");
            return Ok(self.leave_out(path, attr.kind)?);
        };
        self.extended(&attr)?;
        match attr.kind {
            Kind::Directory => {
                self.archive.append_data(&mut header, path, io::empty())?;
                let listing = self.runtime.block_on(self.tree.list(node))?;
                // Taken from the end: the first entry comes first.
                for entry in listing.entries.iter().rev() {
                    let name = std::ffi::OsStr::from_bytes(&entry.name);
                    let next = match entry.node.writable() {
                        Some(_) => Next::Named(node.clone(), entry.name.clone()),
                        None => Next::Known(self.tree.keep(entry.node.clone())?),
                    };
                    open.push((next, path.join(name)));
                }
            }
            Kind::Symlink => {
                let target = self.runtime.block_on(self.tree.readlink(node))?;
                let target = Path::new(std::ffi::OsStr::from_bytes(&target));
                self.archive.append_link(&mut header, path, target)?;
            }
            // What has no header is left out above.
            Kind::File | Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                let file = FileReader {
                    tree: &self.tree,
                    runtime: &self.runtime,
                    node,
                    offset: 0,
                    size: attr.size,
                    chunk: Vec::new(),
                    used: 0,
                };
                self.archive.append_data(&mut header, path, file)?;
            }
        }
        Ok(())
    }

    /// Says in the place of a node that it is left out.
    fn leave_out(&mut self, path: &Path, kind: Kind) -> io::Result<()> {
        let told = serde_json::to_string(&LeftOut {
            path: path.to_string_lossy().into_owned(),
            kind: kind_name(kind).to_owned(),
        })?;
        let record = pax_record(LEFT_OUT, &told);
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XGlobalHeader);
        header.set_path("pax_global_header")?;
        header.set_mode(0o644);
        header.set_size(record.len() as u64);
        header.set_cksum();
        self.archive.append(&header, record.as_bytes())
    }

    /// Writes what the header has no room for.
    fn extended(&mut self, attr: &Attr) -> io::Result<()> {
        let mut fields: Vec<(&str, Vec<u8>)> = Vec::new();
        if let Some(mode) = attr.mode {
            fields.push((STORED_MODE, format!("{:o}", mode & 0o7777).into_bytes()));
        }
        if let Some(mtime) = attr.mtime {
            fields.push(("mtime", decimal(mtime).into_bytes()));
        }
        if fields.is_empty() {
            return Ok(());
        }
        self.archive
            .append_pax_extensions(fields.iter().map(|(key, value)| (*key, value.as_slice())))
    }
}

/// `None` for what no content can be.
fn header(attr: &Attr) -> Option<Header> {
    let mut header = Header::new_gnu();
    let (kind, default_mode, size) = match attr.kind {
        Kind::File => (EntryType::Regular, 0o644, attr.size),
        Kind::Directory => (EntryType::Directory, 0o755, 0),
        Kind::Symlink => (EntryType::Symlink, 0o777, 0),
        Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => return None,
    };
    header.set_entry_type(kind);
    header.set_mode(attr.mode.map_or(default_mode, |mode| mode & 0o7777));
    header.set_size(size);
    let seconds = attr.mtime.map_or(0, |mtime| mtime.seconds);
    header.set_mtime(u64::try_from(seconds).unwrap_or(0));
    Some(header)
}

/// One record of an extended header, whose length counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut len = rest.len();
    while len != rest.len() + len.to_string().len() {
        len = rest.len() + len.to_string().len();
    }
    format!("{len}{rest}")
}

/// Writes a time as seconds with a fraction.
fn decimal(time: Mtime) -> String {
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let size = nanoseconds.unsigned_abs();
    format!("{sign}{}.{:09}", size / 1_000_000_000, size % 1_000_000_000)
}

/// Reads what `decimal` writes.
pub fn parse_time(text: &str) -> Option<Mtime> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let whole = whole.parse::<u64>().ok()?;
    let fraction = fraction.parse::<u32>().ok()?;
    let nanoseconds = sign * (i128::from(whole) * 1_000_000_000 + i128::from(fraction));
    Some(Mtime {
        seconds: i64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?,
        nanoseconds: u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).ok()?,
    })
}

/// What is still to be written.
enum Next {
    /// A node that stays as it is.
    Known(Located),
    /// An entry of a directory of the writable tree: what has this name when
    /// its turn comes, so that a long walk holds no more than it must.
    Named(Located, Bytes),
}

/// A file as a stream of exactly its size.
struct FileReader<'a> {
    tree: &'a Tree,
    runtime: &'a Handle,
    node: &'a Node,
    offset: u64,
    size: u64,
    chunk: Vec<u8>,
    used: usize,
}

impl Read for FileReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.used == self.chunk.len() {
            let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
            self.chunk.resize(left.min(CAT_CHUNK_BYTES), 0);
            self.used = 0;
            let reading = self.tree.read(self.node, self.offset, &mut self.chunk);
            let read = self
                .runtime
                .block_on(reading)
                .map_err(|error| io::Error::other(OperationError::from(error)))?;
            if read != self.chunk.len() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.offset += read as u64;
        }
        let rest = self.chunk.get(self.used..).unwrap_or_default();
        let count = rest.len().min(out.len());
        for (to, from) in out.iter_mut().zip(rest) {
            *to = *from;
        }
        self.used += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for len in 0..200 {
            let record = pax_record("key", &"x".repeat(len));
            let said: usize = record.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, record.len());
        }
    }

    #[test]
    fn times_survive_with_sign_and_fraction() {
        for (seconds, nanoseconds) in [
            (0, 0),
            (5, 250_000_000),
            (-5, 250_000_000),
            (-1, 1),
            (1 << 40, 7),
        ] {
            let time = Mtime {
                seconds,
                nanoseconds,
            };
            let back = parse_time(&decimal(time)).unwrap();
            assert_eq!((back.seconds, back.nanoseconds), (seconds, nanoseconds));
        }
        assert_eq!(parse_time("12").unwrap().seconds, 12);
        assert!(parse_time("x").is_none() && parse_time("").is_none());
    }
}
