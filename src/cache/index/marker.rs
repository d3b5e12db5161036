//! The clean-shutdown marker `index/clean`.
//!
//! sled is not safe against power loss and opens damaged files in silence. So
//! its files are used only if the last run wrote this marker at its very end,
//! after syncing them: a text of lines `file <name> <bytes> <crc32>` and `pack
//! <tier> <number> <bytes> <blocks>`, ended by `end <crc32 of the lines>`. It is
//! removed before the index is opened. Whatever differs from it, in the index
//! or among the packs, means a rebuild.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::cache::options::Tier;
use crate::cache::packs::{Pack, PackId, Packs};
use crate::disk::{Disk, replace};

const FIRST_LINE: &str = "cidfs index 1\n";
/// Longest marker, for 100,000 packs and more.
const MARKER_BYTES_MAX: usize = 8 << 20;

/// The directory of the database.
pub(in crate::cache) fn database(index_dir: &Path) -> PathBuf {
    index_dir.join("sled")
}

fn marker(index_dir: &Path) -> PathBuf {
    index_dir.join("clean")
}

/// What the marker of the last run says of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PackLine {
    id: PackId,
    bytes: u64,
    blocks: u32,
}

/// The marker of the last run.
pub(in crate::cache) struct Marker {
    files: Vec<String>,
}

/// Takes the marker away, and gives it if it speaks of just these packs.
///
/// The packs then know how many blocks they hold.
pub(in crate::cache) fn take(
    disk: &dyn Disk,
    index_dir: &Path,
    packs: &Packs,
) -> io::Result<Option<Marker>> {
    disk.make_dirs(index_dir)?;
    let path = marker(index_dir);
    let text = match disk.read(&path, MARKER_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            tracing::warn!("{}: {error}", path.display());
            Vec::new()
        }
    };
    disk.remove(&path)?;
    disk.sync_dir(index_dir)?;
    let Some((lines, files)) = String::from_utf8(text).ok().as_deref().and_then(parse) else {
        return Ok(None);
    };
    let all: Vec<_> = [Tier::Own, Tier::Cache]
        .into_iter()
        .flat_map(|tier| packs.of(tier))
        .collect();
    let same = |pack: &Pack, line: &PackLine| {
        pack.id == line.id && pack.len.load(Ordering::Acquire) == line.bytes
    };
    if all.len() != lines.len() || !all.iter().zip(&lines).all(|(p, l)| same(p, l)) {
        return Ok(None);
    }
    for (pack, line) in all.iter().zip(&lines) {
        pack.count.store(line.blocks, Ordering::Release);
    }
    Ok(Some(Marker { files }))
}

impl Marker {
    /// Tells whether the files of the database are what the last run left.
    pub(in crate::cache) fn holds(&self, index_dir: &Path) -> bool {
        matches!(file_lines(&database(index_dir), false), Ok(found) if found == self.files)
    }
}

/// Syncs the closed database and writes the marker: the last thing that a run does.
pub(in crate::cache) fn leave(disk: &dyn Disk, index_dir: &Path, packs: &Packs) -> io::Result<()> {
    let mut text = head(&database(index_dir))?;
    for tier in [Tier::Own, Tier::Cache] {
        for pack in packs.of(tier) {
            let (bytes, blocks) = (
                pack.len.load(Ordering::Acquire),
                pack.count.load(Ordering::Acquire),
            );
            let number = pack.id.number;
            writeln!(text, "pack {} {number} {bytes} {blocks}", tier.name())
                .map_err(io::Error::other)?;
        }
    }
    replace(disk, &marker(index_dir), ended(text)?.as_bytes())
}

/// Takes away the marker of a database that no pack concerns. True if its
/// files are what the last run left.
pub(in crate::cache) fn take_alone(disk: &dyn Disk, marker: &Path, database: &Path) -> bool {
    let Ok(text) = disk.read(marker, MARKER_BYTES_MAX) else {
        return false;
    };
    let taken = disk
        .remove(marker)
        .and_then(|()| disk.sync_dir(marker.parent().unwrap_or(Path::new("."))));
    let parsed = String::from_utf8(text).ok().as_deref().and_then(parse);
    let Some((_, files)) = parsed.filter(|_| taken.is_ok()) else {
        return false;
    };
    matches!(file_lines(database, false), Ok(found) if found == files)
}

/// Syncs such a database, which is closed, and writes its marker.
pub(in crate::cache) fn leave_alone(
    disk: &dyn Disk,
    marker: &Path,
    database: &Path,
) -> io::Result<()> {
    replace(disk, marker, ended(head(database)?)?.as_bytes())
}

/// The first lines: those of the database's files.
fn head(database: &Path) -> io::Result<String> {
    let mut text = FIRST_LINE.to_owned();
    for line in file_lines(database, true)? {
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

/// Ends the lines with their sum.
fn ended(mut text: String) -> io::Result<String> {
    let sum = crc32fast::hash(text.as_bytes());
    writeln!(text, "end {sum:08x}").map_err(io::Error::other)?;
    Ok(text)
}

/// One line for each file of the database, sorted.
fn file_lines(database: &Path, sync: bool) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut open = vec![database.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(database).map_err(io::Error::other)?;
            let (bytes, sum) = sum(&path, sync)?;
            lines.push(format!("file {} {bytes} {sum:08x}", name.display()));
        }
        if sync {
            File::open(&dir)?.sync_all()?;
        }
    }
    lines.sort_unstable();
    Ok(lines)
}

fn sum(path: &Path, sync: bool) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    if sync {
        file.sync_all()?;
    }
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((bytes, hasher.finalize()));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        bytes += count as u64;
    }
}

/// The lines of packs and of files, if the text is whole.
fn parse(text: &str) -> Option<(Vec<PackLine>, Vec<String>)> {
    let body = text.strip_suffix('\n')?;
    let end = body.rfind('\n')? + 1;
    let (lines, last) = (text.get(..end)?, body.get(end..)?);
    if last != format!("end {:08x}", crc32fast::hash(lines.as_bytes())) {
        return None;
    }
    let mut packs = Vec::new();
    let mut files = Vec::new();
    for line in lines.strip_prefix(FIRST_LINE)?.lines() {
        if line.starts_with("file ") {
            files.push(line.to_owned());
        } else {
            packs.push(pack_line(line)?);
        }
    }
    Some((packs, files))
}

fn pack_line(line: &str) -> Option<PackLine> {
    let mut words = line.strip_prefix("pack ")?.split(' ');
    let tier = match words.next()? {
        "own" => Tier::Own,
        "cache" => Tier::Cache,
        _ => return None,
    };
    let number = words.next()?.parse().ok()?;
    Some(PackLine {
        id: PackId { tier, number },
        bytes: words.next()?.parse().ok()?,
        blocks: words.next()?.parse().ok()?,
    })
}
