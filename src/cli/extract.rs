//! Unpacking what `ipfs/get` gives.
//!
//! The archive is made from content of others. Everything is made anew below
//! the target, with names checked one by one: nothing that exists is opened,
//! followed or replaced. setuid and setgid are not taken over. What the archive
//! leaves out is handed back, to be said.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
use serde_json::json;
use tar::{Archive, Entry, EntryType};

use crate::control::tarball::{self, LeftOut};
use crate::control::{ErrorKind, OperationError, Progress};
use crate::unixfs::data::Mtime;

/// Unpacks one archive.
pub(super) struct Extract {
    target: PathBuf,
    dirs: HashSet<PathBuf>,
    later: Vec<(PathBuf, Stored)>,
    left_out: Vec<LeftOut>,
    bytes: u64,
}

/// What the content says of a node beside its bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Stored {
    mode: Option<u32>,
    mtime: Option<Mtime>,
}

impl Extract {
    /// Will unpack to `target`, which must not exist.
    pub(super) fn new(target: PathBuf) -> Self {
        Self {
            target,
            dirs: HashSet::new(),
            later: Vec::new(),
            left_out: Vec::new(),
            bytes: 0,
        }
    }

    /// Unpacks all of it; gives what it leaves out.
    pub(super) fn run(
        mut self,
        reader: impl Read,
        progress: &Progress,
    ) -> Result<Vec<LeftOut>, OperationError> {
        let mut archive = Archive::new(reader);
        for entry in archive.entries()? {
            let mut entry = entry?;
            if entry.header().entry_type().is_pax_global_extensions() {
                self.left_out.extend(tarball::left_out(&mut entry)?);
                continue;
            }
            let path = self.place(&entry.path_bytes())?;
            self.one(&mut entry, &path)
                .map_err(|error| in_the_way(error, &path))?;
            progress.tick(|| json!({"bytes": self.bytes}));
        }
        // Directories last and from below: their modes may forbid to write,
        // and their times change with what is made in them.
        for (path, stored) in std::mem::take(&mut self.later).into_iter().rev() {
            apply(&path, stored)?;
        }
        Ok(self.left_out)
    }

    /// Says where an entry goes: its first part becomes the target.
    fn place(&self, name: &[u8]) -> Result<PathBuf, OperationError> {
        let name = name.strip_suffix(b"/").unwrap_or(name);
        let mut path = self.target.clone();
        for part in name.split(|byte| *byte == b'/').skip(1) {
            if matches!(part, b"" | b"." | b"..") || part.contains(&0) {
                let name = String::from_utf8_lossy(name).into_owned();
                let message = format!("refusing the unsafe name {name:?}");
                return Err(OperationError::new(ErrorKind::Corrupt, message));
            }
            path.push(OsStr::from_bytes(part));
        }
        let known = path
            .parent()
            .is_some_and(|parent| self.dirs.contains(parent));
        if path != self.target && !known {
            let message = format!("{} comes before its directory", path.display());
            return Err(OperationError::new(ErrorKind::Corrupt, message));
        }
        Ok(path)
    }

    fn one<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &Path) -> io::Result<()> {
        let stored = stored(entry)?;
        let kind = entry.header().entry_type();
        if kind == EntryType::Directory {
            std::fs::create_dir(path)?;
            self.dirs.insert(path.to_owned());
            self.later.push((path.to_owned(), stored));
            return Ok(());
        }
        if kind == EntryType::Symlink {
            let target = entry.link_name_bytes().ok_or(io::ErrorKind::InvalidData)?;
            symlink(OsStr::from_bytes(&target), path)?;
            let mode = None;
            return apply(path, Stored { mode, ..stored });
        }
        if kind != EntryType::Regular {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut file = File::create_new(path)?;
        self.bytes += io::copy(entry, &mut file)?;
        drop(file);
        apply(path, stored)
    }
}

/// Copies an archive as it is; gives what it leaves out.
pub(super) fn copy(
    reader: impl Read,
    output: impl Write,
    progress: &Progress,
) -> Result<Vec<LeftOut>, CopyError> {
    let mut tee = Tee {
        from: reader,
        to: output,
        bytes: 0,
        progress,
        failed: None,
    };
    let mut left_out = Vec::new();
    let outcome = (|| {
        let mut archive = Archive::new(&mut tee);
        for entry in archive.entries()? {
            left_out.extend(tarball::left_out(&mut entry?)?);
        }
        // What is behind its end belongs to it.
        io::copy(&mut archive.into_inner(), &mut io::sink())?;
        Ok(())
    })();
    if let Some(error) = tee.failed.take() {
        return Err(CopyError::Output(error));
    }
    outcome.map_err(CopyError::Archive)?;
    tee.to.flush().map_err(CopyError::Output)?;
    Ok(left_out)
}

/// Why an archive was not copied.
pub(super) enum CopyError {
    /// It does not come, or is none.
    Archive(io::Error),
    /// It cannot be written.
    Output(io::Error),
}

/// Writes down what is read.
struct Tee<'a, R, W> {
    from: R,
    to: W,
    bytes: u64,
    progress: &'a Progress,
    failed: Option<io::Error>,
}

impl<R: Read, W: Write> Read for Tee<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        if let Err(error) = self.to.write_all(buffer.get(..count).unwrap_or_default()) {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        self.bytes += count as u64;
        self.progress.tick(|| json!({"bytes": self.bytes}));
        Ok(count)
    }
}

/// Says what to do about what exists already.
fn in_the_way(error: io::Error, path: &Path) -> OperationError {
    let exists = error.kind() == io::ErrorKind::AlreadyExists;
    let error = OperationError::from(error);
    if exists {
        return error
            .context(path.display())
            .hint("-o PATH writes elsewhere");
    }
    // An error of the stream says already what it is about.
    if error.hint.is_some() {
        error
    } else {
        error.context(path.display())
    }
}

/// Reads what the content itself says, as opposed to defaults.
fn stored<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Stored> {
    let mut stored = Stored::default();
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(stored);
    };
    for extension in extensions {
        let extension = extension?;
        let value = extension.value().unwrap_or_default();
        match extension.key() {
            Ok(tarball::STORED_MODE) => stored.mode = u32::from_str_radix(value, 8).ok(),
            Ok("mtime") => stored.mtime = tarball::parse_time(value),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(stored)
}

/// Applies them; a link has no mode of its own.
fn apply(path: &Path, stored: Stored) -> io::Result<()> {
    if let Some(mode) = stored.mode {
        std::fs::set_permissions(path, Permissions::from_mode(mode & 0o1777))?;
    }
    if let Some(mtime) = stored.mtime {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: mtime.seconds,
                tv_nsec: mtime.nanoseconds.into(),
            },
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    enum Part {
        Dir(&'static str),
        File(&'static str, &'static str),
        Link(&'static str, &'static str),
    }

    fn archive(parts: &[Part]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for part in parts {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            // Past the writer's own checks: the name as it is.
            let name = |header: &mut tar::Header, text: &str| {
                header.as_old_mut().name[..text.len()].copy_from_slice(text.as_bytes());
            };
            match part {
                Part::Dir(path) => {
                    name(&mut header, path);
                    header.set_entry_type(EntryType::Directory);
                    header.set_cksum();
                    builder.append(&header, io::empty()).unwrap();
                }
                Part::File(path, text) => {
                    name(&mut header, path);
                    header.set_size(text.len() as u64);
                    header.set_entry_type(EntryType::Regular);
                    header.set_cksum();
                    builder.append(&header, text.as_bytes()).unwrap();
                }
                Part::Link(path, target) => {
                    name(&mut header, path);
                    header.set_entry_type(EntryType::Symlink);
                    header.set_link_name_literal(target).unwrap();
                    header.set_cksum();
                    builder.append(&header, io::empty()).unwrap();
                }
            }
        }
        builder.into_inner().unwrap()
    }

    fn unpack(target: &Path, parts: &[Part]) -> Result<Vec<LeftOut>, OperationError> {
        Extract::new(target.to_owned()).run(archive(parts).as_slice(), &Progress::default())
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["x/../../evil", "x/..", "x/./evil", "x//evil", "x/a/evil"] {
            let target = dir.path().join("out");
            let refused = unpack(&target, &[Part::Dir("x"), Part::File(bad, "evil")]).unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Corrupt, "{bad}");
            std::fs::remove_dir(&target).unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_is_never_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let to = outside.to_str().unwrap().to_owned().leak();
        let parts = [
            Part::Dir("x"),
            Part::Link("x/a", to),
            Part::File("x/a/evil", "evil"),
        ];
        let refused = unpack(&dir.path().join("out"), &parts).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Corrupt);
        let parts = [
            Part::Dir("x"),
            Part::Link("x/a", to),
            Part::File("x/a", "evil"),
        ];
        let refused = unpack(&dir.path().join("out2"), &parts).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Busy);
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn what_exists_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("kept");
        std::fs::write(&target, "mine").unwrap();
        let refused = unpack(&target, &[Part::File("x", "theirs")]).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Busy);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "mine");
    }

    #[test]
    fn a_read_only_directory_gets_its_files_and_then_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let mut builder = tar::Builder::new(Vec::new());
        let stored: [(&str, &[u8]); 2] = [(tarball::STORED_MODE, b"4555"), ("mtime", b"-5.5")];
        builder.append_pax_extensions(stored).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(EntryType::Directory);
        builder.append_data(&mut header, "x", io::empty()).unwrap();
        header.set_entry_type(EntryType::Regular);
        builder
            .append_data(&mut header, "x/f", io::empty())
            .unwrap();
        let bytes = builder.into_inner().unwrap();
        Extract::new(target.clone())
            .run(bytes.as_slice(), &Progress::default())
            .unwrap();
        let meta = std::fs::metadata(&target).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o555);
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (-6, 500_000_000));
        assert!(target.join("f").exists());
    }
}
