//! Packs of which the end may not be on the disk though it can be read.
//!
//! After a sync that failed the system takes for written what it could not write,
//! and no later sync saves it. So a sync that fails notes in `packs/unsure` which
//! packs it was about and from where on, and the next start writes that again
//! before anything rests on it. The note needs no sync of its own: it speaks of
//! what is in the system's memory, and is gone no sooner than that.

use std::io::{self, IoSlice};
use std::path::PathBuf;

use super::{PackId, Packs, number_of};
use crate::cache::options::Tier;
use crate::disk::{DiskFile, append_all, read_exact_at};

/// Its name beside the tiers.
const NAME: &str = "unsure";
/// Longest note that is read: many thousand lines.
const NOTE_BYTES_MAX: usize = 1 << 20;
/// What is written again at a time.
const PIECE_BYTES: u64 = 1 << 20;

impl Packs {
    fn note_path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// Notes packs, each with the length up to which it is known to be on the disk.
    pub(in crate::cache) fn note_unsure(&self, packs: &[(PackId, u64)]) -> io::Result<()> {
        let path = self.note_path();
        let file = match self.disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(&path)?,
            other => other?,
        };
        let line = |(pack, from): &(PackId, u64)| format!("{:08}.car {from}\n", pack.number);
        let lines: String = packs.iter().map(line).collect();
        append_all(&*file, &mut [IoSlice::new(lines.as_bytes())])
    }

    /// Own packs that an earlier run has noted.
    fn unsure(&self) -> io::Result<Vec<(PackId, u64)>> {
        let bytes = match self.disk.read(&self.note_path(), NOTE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let line = |line: &str| {
            let (name, from) = line.split_once(' ')?;
            let tier = Tier::Own;
            let number = number_of(name)?;
            // A line that is cut short says too little: all of the pack is written again.
            Some((PackId { tier, number }, from.parse().unwrap_or(0)))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    /// Writes again what an earlier run has noted, and makes it survive a power
    /// loss; fails where the disk still cannot.
    pub(in crate::cache) fn make_sure(&self) -> io::Result<()> {
        let unsure = self.unsure()?;
        if unsure.is_empty() {
            return Ok(());
        }
        for (pack, from) in unsure {
            let Some(known) = self.get(pack) else {
                continue;
            };
            tracing::warn!(
                "{} is written again from byte {from} on: a sync of it has failed",
                super::name_of(pack)
            );
            let len = known.len.load(std::sync::atomic::Ordering::Acquire);
            let file = self.file(pack)?;
            self.write_again(pack, &*file, (from, len))?;
            file.sync()?;
        }
        self.sync_names(Tier::Own)?;
        self.disk.remove(&self.note_path())?;
        self.disk.sync_dir(&self.dir)
    }

    fn write_again(
        &self,
        pack: PackId,
        file: &dyn DiskFile,
        (mut from, to): (u64, u64),
    ) -> io::Result<()> {
        let path = self.path(pack);
        while from < to {
            let mut piece = vec![0; PIECE_BYTES.min(to - from) as usize];
            // What the disk cannot read it does not have either.
            if let Err(error) = read_exact_at(file, &mut piece, from) {
                tracing::error!("{} at byte {from}: {error}", path.display());
            } else {
                self.disk.write_again(&path, &piece, from)?;
            }
            from += piece.len() as u64;
        }
        Ok(())
    }
}
