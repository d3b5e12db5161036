//! What recovery cuts off is kept beside the segments, within bounds.

use std::io::{self, IoSlice};

use super::error::JournalError;
use super::frame::Seq;
use super::reader::Reader;
use super::segment::{Folder, SegmentFile, name_of};
use crate::config::{JOURNAL_READ_BYTES, JOURNAL_TORN_BYTES_MAX};
use crate::disk::{DiskFile, append_all, is_full, read_exact_at};

/// Keeps the bytes of a segment from an offset on, and names the file.
/// `None` if the disk has no room for them.
pub(super) fn keep_tail(
    folder: &Folder,
    file: &dyn DiskFile,
    from: u64,
    to: u64,
    cut: Seq,
) -> Result<Option<String>, JournalError> {
    let bytes = (to - from).min(JOURNAL_TORN_BYTES_MAX);
    let name = free_name(folder, cut, bytes)?;
    let path = folder.path(&name);
    match copy(folder, &name, file, from, bytes) {
        Ok(()) => Ok(Some(name)),
        Err(error) if is_full(&error) => {
            folder.remove(&name).map_err(JournalError::io(path))?;
            Ok(None)
        }
        Err(error) => Err(JournalError::io(path)(error)),
    }
}

pub(super) fn copy(
    folder: &Folder,
    name: &str,
    from: &dyn DiskFile,
    mut offset: u64,
    mut left: u64,
) -> io::Result<()> {
    let to = folder.disk.create(&folder.path(name))?;
    let mut buffer = vec![0; JOURNAL_READ_BYTES];
    while left > 0 {
        let count = left.min(buffer.len() as u64) as usize;
        let part = buffer.get_mut(..count).unwrap_or_default();
        read_exact_at(from, part, offset)?;
        append_all(&*to, &mut [IoSlice::new(part)])?;
        offset += count as u64;
        left -= count as u64;
    }
    to.sync()
}

/// Takes a whole segment out of the journal, and names the file that it is now.
pub(super) fn keep_segment(
    folder: &Folder,
    segment: SegmentFile,
) -> Result<Option<String>, JournalError> {
    let path = folder.path(&name_of(segment.first));
    if segment.bytes == 0 || segment.bytes > JOURNAL_TORN_BYTES_MAX {
        let removed = folder.remove(&name_of(segment.first));
        return removed.map(|()| None).map_err(JournalError::io(path));
    }
    let name = free_name(folder, segment.first, segment.bytes)?;
    let renamed = folder.disk.rename(&path, &folder.path(&name));
    renamed.map_err(JournalError::io(path))?;
    Ok(Some(name))
}

/// Files that were set aside, with their lengths, oldest first.
fn kept(folder: &Folder) -> Result<Vec<(String, u64)>, JournalError> {
    let listed = match folder.disk.list(&folder.dir) {
        // Where the directory is lost, nothing is aside in it either.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(JournalError::io(&folder.dir))?,
    };
    let mut kept = Vec::new();
    for entry in listed {
        let name = entry.name.to_string_lossy().into_owned();
        if name.ends_with(".torn") {
            kept.push((name, entry.len));
        }
    }
    kept.sort_unstable();
    Ok(kept)
}

impl Reader {
    /// Names of the files that recoveries and repairs have set aside. Nothing
    /// reads them: they are there to be looked at, and then removed.
    pub fn set_aside(&self) -> Result<Vec<String>, JournalError> {
        let kept = kept(&self.folder)?;
        Ok(kept.into_iter().map(|(name, _)| name).collect())
    }
}

/// A name that no file has. Makes room for the bytes, oldest files first.
fn free_name(folder: &Folder, cut: Seq, bytes: u64) -> Result<String, JournalError> {
    let kept = kept(folder)?;
    let mut sum: u64 = kept.iter().map(|(_, len)| len).sum();
    let mut number = 0;
    let name_with = |number: u32| format!("{:020}-{number:04}.torn", cut.0);
    while kept.iter().any(|(name, _)| *name == name_with(number)) {
        number += 1;
    }
    for (name, len) in &kept {
        if sum + bytes <= JOURNAL_TORN_BYTES_MAX {
            break;
        }
        let path = folder.path(name);
        folder.remove(name).map_err(JournalError::io(path))?;
        sum -= len;
    }
    Ok(name_with(number))
}
