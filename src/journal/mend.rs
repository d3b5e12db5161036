//! A damaged journal is made one that can be written again: what is damaged is
//! set aside under another name. Nothing is deleted, and nothing is done without
//! being asked for.

use std::path::Path;
use std::sync::Arc;

use super::aside::copy;
use super::error::{Damage, JournalError};
use super::frame::Seq;
use super::segment::{Folder, SEGMENT_HEAD_BYTES, SegmentFile, name_of};
use crate::disk::Disk;

/// Sets aside the part of a journal from a damaged place on. Whole frames behind
/// it are set aside too: they may rest on what is lost. Gives the names of the
/// files. The journal must not be open.
pub fn set_aside_from(
    dir: &Path,
    disk: Arc<dyn Disk>,
    damage: &Damage,
) -> Result<Vec<String>, JournalError> {
    let folder = Folder::new(disk, dir);
    let mut kept = Vec::new();
    // The newest first: a crash in between leaves the damage where it is.
    for segment in list(&folder)?.into_iter().rev() {
        if segment.first > damage.segment {
            kept.push(rename_away(&folder, &name_of(segment.first))?);
        } else if segment.first == damage.segment {
            kept.push(cut_copy(&folder, segment, damage.offset)?);
        }
    }
    folder.sync().map_err(JournalError::io(dir))?;
    Ok(kept)
}

/// Sets aside whole segments up to a damaged place, where a later segment begins
/// at or before `needed`: what is before a checkpoint is only history.
pub fn set_aside_before(
    dir: &Path,
    disk: Arc<dyn Disk>,
    damage: &Damage,
    needed: Seq,
) -> Result<Vec<String>, JournalError> {
    let folder = Folder::new(disk, dir);
    let segments = list(&folder)?;
    let goes_on = |next: &SegmentFile| next.first > damage.segment && next.first <= needed;
    if !segments.iter().any(goes_on) {
        return Ok(Vec::new());
    }
    let mut kept = Vec::new();
    for segment in segments
        .iter()
        .filter(|segment| segment.first <= damage.segment)
    {
        kept.push(rename_away(&folder, &name_of(segment.first))?);
        // One by one: never a gap between those that stay.
        folder.sync().map_err(JournalError::io(dir))?;
    }
    Ok(kept)
}

/// Sets aside all segments. The next open begins where it is told to.
pub fn set_aside_all(dir: &Path, disk: Arc<dyn Disk>) -> Result<Vec<String>, JournalError> {
    let folder = Folder::new(disk, dir);
    let made = folder.disk.make_dirs(dir);
    made.map_err(JournalError::io(dir))?;
    let mut kept = Vec::new();
    for segment in list(&folder)?.into_iter().rev() {
        kept.push(rename_away(&folder, &name_of(segment.first))?);
    }
    folder.sync().map_err(JournalError::io(dir))?;
    Ok(kept)
}

fn list(folder: &Folder) -> Result<Vec<SegmentFile>, JournalError> {
    folder.segments().map_err(JournalError::io(&folder.dir))
}

/// Puts a copy of the beginning of a segment in its place.
fn cut_copy(folder: &Folder, segment: SegmentFile, len: u64) -> Result<String, JournalError> {
    let name = name_of(segment.first);
    let at = |error| JournalError::io(folder.path(&name))(error);
    if len <= SEGMENT_HEAD_BYTES as u64 {
        return rename_away(folder, &name);
    }
    let part = format!("{name}.part");
    folder.remove(&part).map_err(at)?;
    let file = folder.open(segment.first).map_err(at)?;
    copy(folder, &part, &*file, 0, len).map_err(at)?;
    // The segment's own name is never gone: a crash before it is another's leaves
    // the damage to be found again, not a journal that seems to end before it.
    let kept = free_name(folder, &name)?;
    let linked = folder.disk.link(&folder.path(&name), &folder.path(&kept));
    linked.map_err(at)?;
    folder.sync().map_err(at)?;
    let renamed = folder.disk.rename(&folder.path(&part), &folder.path(&name));
    renamed.map_err(at)?;
    Ok(kept)
}

/// Gives a file a name that no segment has, and that is free.
fn rename_away(folder: &Folder, name: &str) -> Result<String, JournalError> {
    let free = free_name(folder, name)?;
    folder
        .disk
        .rename(&folder.path(name), &folder.path(&free))
        .map_err(JournalError::io(folder.path(name)))?;
    Ok(free)
}

fn free_name(folder: &Folder, name: &str) -> Result<String, JournalError> {
    let at = |error| JournalError::io(folder.path(name))(error);
    let taken = folder.disk.list(&folder.dir).map_err(at)?;
    let mut number = 0_u32;
    loop {
        let free = format!("{name}.damaged-{number:04}");
        if !taken.iter().any(|entry| entry.name.to_str() == Some(&free)) {
            return Ok(free);
        }
        number += 1;
    }
}
