//! Walks local files in the order in which directories are built.
//!
//! Depth first, entries sorted by the bytes of their names, one open listing
//! a level. Nothing is read but directories and link targets. Hidden and
//! ignored entries are left out below the paths that were named, never these
//! themselves. Does not know blocks.

mod rules;

pub use rules::{BadRule, Rules};

use std::ffi::OsString;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What the walk takes in.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Take in names that begin with a dot.
    pub hidden: bool,
    /// What else to leave out.
    pub rules: Rules,
}

impl Filter {
    fn takes(&self, name: &[u8]) -> bool {
        (self.hidden || !name.starts_with(b".")) && !self.rules.matches(name)
    }
}

/// How the walk goes.
#[derive(Debug, Clone, Default)]
pub struct WalkRules {
    /// What it takes in.
    pub filter: Filter,
    /// Follow symbolic links below the named paths.
    pub follow: bool,
    /// Leave out directories without entries, but not the named ones.
    pub skip_empty: bool,
}

/// What the walk meets next.
#[derive(Debug)]
pub enum Step {
    /// A directory begins; its entries follow, then [`Step::Leave`].
    Enter {
        /// Its name in its parent.
        name: Vec<u8>,
        /// What the filesystem says of it.
        stat: Metadata,
    },
    /// A directory ends.
    Leave {
        /// It is to be left out: it has no entries.
        skip: bool,
    },
    /// A regular file, not opened yet.
    File {
        /// Its name in its parent.
        name: Vec<u8>,
        /// Where it is.
        path: PathBuf,
    },
    /// A symbolic link.
    Symlink {
        /// Its name in its parent.
        name: Vec<u8>,
        /// Where it leads.
        target: Vec<u8>,
        /// What the filesystem says of it.
        stat: Metadata,
    },
    /// A named pipe that was named itself; inside directories it is an error.
    Pipe {
        /// Its name.
        name: Vec<u8>,
        /// Where it is.
        path: PathBuf,
    },
}

/// Why a walk cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The filesystem refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A socket, device or pipe, which UnixFS has no form for.
    #[error("{}: {kind} cannot be added", path.display())]
    Special {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A followed link leads back to a directory that it is in.
    #[error("{}: symbolic link leads back to a directory above it", .0.display())]
    Loop(PathBuf),
}

/// A name, and the type that the listing gave with it.
type Named = (OsString, Option<FileType>);

/// A walk over one named path.
#[derive(Debug)]
pub struct Walk {
    rules: WalkRules,
    /// The named path, until it was looked at.
    start: Option<(PathBuf, Vec<u8>)>,
    /// Whether the start counts as named; false below a wrapping directory.
    keep_empty_start: bool,
    open: Vec<Listing>,
}

#[derive(Debug)]
struct Listing {
    path: PathBuf,
    /// Device and inode, to notice loops.
    id: (u64, u64),
    /// Names still to come, the next one last, with what the listing says of them.
    names: Vec<Named>,
    skip: bool,
}

impl Walk {
    /// Starts at `path`, which will be called `name`.
    pub fn new(path: PathBuf, name: Vec<u8>, rules: WalkRules, keep_empty_start: bool) -> Self {
        Self {
            rules,
            start: Some((path, name)),
            keep_empty_start,
            open: Vec::new(),
        }
    }

    /// What comes next; `None` at the end.
    pub fn advance(&mut self) -> Result<Option<Step>, WalkError> {
        if let Some((path, name)) = self.start.take() {
            let stat = look(&path, self.rules.follow)?;
            if stat.file_type().is_fifo() {
                return Ok(Some(Step::Pipe { name, path }));
            }
            return self.step(path, name, &stat).map(Some);
        }
        let Some(listing) = self.open.last_mut() else {
            return Ok(None);
        };
        let Some((name, kind)) = listing.names.pop() else {
            let skip = listing.skip;
            self.open.pop();
            return Ok(Some(Step::Leave { skip }));
        };
        let path = listing.path.join(&name);
        if kind.is_some_and(|kind| kind.is_file()) {
            // Who opens it sees for himself what it is by then.
            let name = name.into_vec();
            return Ok(Some(Step::File { name, path }));
        }
        let stat = look(&path, self.rules.follow)?;
        self.step(path, name.into_vec(), &stat).map(Some)
    }

    fn step(&mut self, path: PathBuf, name: Vec<u8>, stat: &Metadata) -> Result<Step, WalkError> {
        let kind = stat.file_type();
        if kind.is_file() {
            return Ok(Step::File { name, path });
        }
        if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(|source| WalkError::io(&path, source))?;
            return Ok(Step::Symlink {
                name,
                target: target.into_os_string().into_vec(),
                stat: stat.clone(),
            });
        }
        if kind.is_dir() {
            self.enter(path, stat)?;
            return Ok(Step::Enter {
                name,
                stat: stat.clone(),
            });
        }
        Err(WalkError::Special {
            kind: special(kind),
            path,
        })
    }

    fn enter(&mut self, path: PathBuf, stat: &Metadata) -> Result<(), WalkError> {
        let id = (stat.dev(), stat.ino());
        if self.rules.follow && self.open.iter().any(|above| above.id == id) {
            return Err(WalkError::Loop(path));
        }
        let names = self
            .names(&path)
            .map_err(|source| WalkError::io(&path, source))?;
        let named = self.open.is_empty() && self.keep_empty_start;
        self.open.push(Listing {
            skip: names.is_empty() && self.rules.skip_empty && !named,
            path,
            id,
            names,
        });
        Ok(())
    }

    /// Names of a directory, the last one first.
    fn names(&self, path: &Path) -> io::Result<Vec<Named>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            if self.rules.filter.takes(name.as_bytes()) {
                names.push((name, entry.file_type().ok()));
            }
        }
        names.sort_unstable_by(|(a, _), (b, _)| b.as_bytes().cmp(a.as_bytes()));
        Ok(names)
    }
}

impl WalkError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

fn look(path: &Path, follow: bool) -> Result<Metadata, WalkError> {
    let stat = if follow {
        fs::metadata(path)
    } else {
        fs::symlink_metadata(path)
    };
    stat.map_err(|source| WalkError::io(path, source))
}

fn special(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "a named pipe inside a directory"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn steps(path: &Path, rules: WalkRules) -> Result<Vec<String>, WalkError> {
        let mut walk = Walk::new(path.to_owned(), b"top".to_vec(), rules, true);
        let mut found = Vec::new();
        let text = |name: Vec<u8>| String::from_utf8(name).unwrap();
        while let Some(step) = walk.advance()? {
            found.push(match step {
                Step::Enter { name, .. } => format!("{}/", text(name)),
                Step::Leave { skip } => if skip { "skip" } else { "leave" }.to_owned(),
                Step::File { name, .. } | Step::Pipe { name, .. } => text(name),
                Step::Symlink { name, target, .. } => format!("{}>{}", text(name), text(target)),
            });
        }
        Ok(found)
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("b/c")).unwrap();
        for name in ["z", "a", ".hidden", "b/x.log", "b/y"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        symlink("b/y", dir.path().join("link")).unwrap();
        dir
    }

    #[test]
    fn entries_come_depth_first_in_the_order_of_their_names() {
        let found = steps(tree().path(), WalkRules::default()).unwrap();
        let wanted = "top/ a b/ c/ leave x.log y leave link>b/y z leave";
        assert_eq!(found.join(" "), wanted);
    }

    #[test]
    fn hidden_ignored_and_empty_entries_are_taken_as_asked() {
        let rules = WalkRules {
            filter: Filter {
                hidden: true,
                rules: Rules::parse(["*.log", "z"]).unwrap(),
            },
            follow: true,
            skip_empty: true,
        };
        let found = steps(tree().path(), rules).unwrap();
        assert_eq!(
            found.join(" "),
            "top/ .hidden a b/ c/ skip y leave link leave"
        );
    }

    #[test]
    fn a_named_path_is_taken_whatever_its_name() {
        let dir = tree();
        let rules = WalkRules {
            filter: Filter {
                hidden: false,
                rules: Rules::parse(["*"]).unwrap(),
            },
            ..WalkRules::default()
        };
        let found = steps(&dir.path().join(".hidden"), rules.clone()).unwrap();
        assert_eq!(found, ["top"]);
        assert_eq!(steps(dir.path(), rules).unwrap(), ["top/", "leave"]);
    }

    #[test]
    fn a_followed_link_to_a_directory_above_is_an_error() {
        let dir = tree();
        symlink("..", dir.path().join("b/up")).unwrap();
        let rules = WalkRules {
            follow: true,
            ..WalkRules::default()
        };
        assert!(matches!(steps(dir.path(), rules), Err(WalkError::Loop(_))));
        assert!(steps(dir.path(), WalkRules::default()).is_ok());
    }

    #[test]
    fn special_files_are_an_error_inside_directories_and_pipes_may_be_named() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert_eq!(steps(&pipe, WalkRules::default()).unwrap(), ["top"]);
        let inside = steps(dir.path(), WalkRules::default());
        assert!(matches!(inside, Err(WalkError::Special { .. })));
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let named = steps(&socket, WalkRules::default());
        assert!(matches!(named, Err(WalkError::Special { .. })));
    }
}
