//! The newest checkpoint's name beside the journal, in the file `head` of the
//! repository: a journal that was lost, emptied, or brought back as it once was
//! is told by it from one that has all there is.
//!
//! It holds the CID of the commit object, and is written once the journal's own
//! entry survives a power loss. Where it lacks or is damaged the journal alone
//! counts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chain::read_commit;
use crate::block::Cid;
use crate::cache::Blocks;
use crate::config::HEAD_BYTES_MAX;
use crate::disk::{Disk, replace};
use crate::journal::{
    Class, Journal, JournalOptions, JournalPlace, Reader, Record, Seq, TxId, set_aside_all,
};
use crate::tree::error::TreeError;
use crate::tree::mfs::checkpoint::{Checkpointed, entry_of};
use crate::tree::mfs::open::Parts;

/// What to do where the journal ends before the newest checkpoint.
pub(in crate::tree::mfs) const HINT: &str = "bring its files back if they are elsewhere, or `cidfs fsck \
                               --repair` goes on from that checkpoint";

fn path(journal_dir: &Path) -> PathBuf {
    journal_dir.with_file_name("head")
}

fn named(disk: &dyn Disk, journal_dir: &Path) -> Option<Cid> {
    let text = disk.read(&path(journal_dir), HEAD_BYTES_MAX).ok()?;
    Cid::try_from(std::str::from_utf8(&text).ok()?.trim()).ok()
}

/// Tells whether a checkpoint is named.
pub(in crate::tree::mfs) fn exists(disk: &dyn Disk, journal_dir: &Path) -> bool {
    named(disk, journal_dir).is_some()
}

/// Names a checkpoint that is in force.
pub(in crate::tree::mfs) fn write(
    disk: &dyn Disk,
    journal_dir: &Path,
    commit: &Cid,
) -> io::Result<()> {
    replace(disk, &path(journal_dir), format!("{commit}\n").as_bytes())
}

/// A checkpoint that the journal does not name.
#[derive(Clone, Copy)]
pub(in crate::tree::mfs) struct Newer {
    pub(in crate::tree::mfs) one: Checkpointed,
    /// Whether the journal ends before it; else only its entry there is gone.
    pub(in crate::tree::mfs) is_end_lost: bool,
}

/// The checkpoint that it names, if that is newer than the newest of the journal.
pub(in crate::tree::mfs) fn newer_than(
    last: Option<&Checkpointed>,
    journal: &Reader,
    disk: &dyn Disk,
    journal_dir: &Path,
    blocks: &Blocks,
) -> Option<Newer> {
    let cid = named(disk, journal_dir)?;
    let is_last = last.is_some_and(|last| last.commit == cid);
    let (one, _) = (!is_last).then(|| read_commit(&cid, blocks).ok())??;
    let is_end_lost = journal.last().map_or(true, |end| end.0 < one.sequence);
    let newer = Newer { one, is_end_lost };
    (one.sequence > last.map_or(0, |last| last.sequence)).then_some(newer)
}

/// Says that the journal ends before a checkpoint.
pub(in crate::tree::mfs) fn lost_end(one: &Checkpointed) -> String {
    format!(
        "the journal is lost, or ends before entry {}, which checkpoint {} has",
        one.sequence, one.commit
    )
}

/// Begins a journal with a checkpoint, where the one that it was in is lost. What
/// is left of that is set aside; gives the names of its files.
pub(in crate::tree::mfs) fn begin_anew(
    parts: &Parts,
    one: &Checkpointed,
) -> Result<Vec<String>, TreeError> {
    let (dir, disk) = (&parts.journal_dir, &parts.disk);
    let kept = set_aside_all(dir, Arc::clone(disk))?;
    let blocks = Arc::clone(&parts.blocks);
    let place = JournalPlace {
        dir: dir.clone(),
        disk: Arc::clone(disk),
        clock: Arc::clone(&parts.clock),
        room: parts.blocks.room(),
        before_sync: Arc::new(move || blocks.sync_flushed().map_err(io::Error::other)),
    };
    let from = Seq(one.sequence).next();
    let (journal, _) = Journal::open(&place, JournalOptions::default(), from, &mut |_, _| {})?;
    let logged = entry_of(one);
    let record = Record {
        tx: TxId(0),
        kind: logged.kind(),
        payload: &logged.encode(),
    };
    let last = journal.append(Class::Last, &[record])?;
    journal.sync(last)?;
    Ok(kept)
}
