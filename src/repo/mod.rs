//! The repository directory: where it is, its lock, its version, its config file.
//!
//! One process at a time has a repository open ([`Repo::open`] takes a lock on
//! the file `lock`, which the kernel drops with the process, whatever way it
//! ends). What is inside belongs to the modules that are given its path.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::CONFIG_BYTES_MAX;

mod file;

pub(crate) use file::parse_size;
pub use file::{ConfigFile, FetchConfig, MountConfig, StoreConfig, TreeConfig};

/// Version of the repository's layout that this program reads and writes.
const VERSION: &str = "1";
/// Name of the configuration file.
pub const CONFIG_NAME: &str = "config.toml";
/// Environment variable that names the repository.
pub const REPO_VARIABLE: &str = "CIDFS_REPO";

/// Why a repository could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// Nothing says where it is.
    #[error("no repository is named: neither --repo nor ${REPO_VARIABLE} nor $HOME is set")]
    Nowhere,
    /// Another process has it open.
    #[error("repository {} is in use by process {pid}", dir.display())]
    Locked {
        /// The repository.
        dir: PathBuf,
        /// Who holds it, as far as that is known.
        pid: String,
    },
    /// It was made by another program or version.
    #[error("repository {} has version {found:?}; this program knows {VERSION:?}", dir.display())]
    Version {
        /// The repository.
        dir: PathBuf,
        /// What its version file says.
        found: String,
    },
    /// The configuration file is not valid.
    #[error("{}: {why}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// Line, key and cause.
        why: String,
    },
    /// The directory cannot be used.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
}

/// An open repository. Dropping it lets the next process in.
#[derive(Debug)]
pub struct Repo {
    dir: PathBuf,
    config: ConfigFile,
    _lock: File,
}

/// Says where the repository is: the flag, `$CIDFS_REPO`, `$XDG_DATA_HOME/cidfs`,
/// `~/.local/share/cidfs`. Always an absolute path.
pub fn locate(flag: Option<&Path>) -> Result<PathBuf, RepoError> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let dir = flag
        .map(Path::to_owned)
        .or_else(|| named(REPO_VARIABLE).map(PathBuf::from))
        .or_else(|| named("XDG_DATA_HOME").map(|home| PathBuf::from(home).join("cidfs")))
        .or_else(|| named("HOME").map(|home| PathBuf::from(home).join(".local/share/cidfs")))
        .ok_or(RepoError::Nowhere)?;
    std::path::absolute(&dir).map_err(|error| RepoError::Io { path: dir, error })
}

impl Repo {
    /// Opens the repository in `dir` and makes it if it is not there, mode 0700.
    pub fn open(dir: &Path) -> Result<Self, RepoError> {
        make_dir(dir)?;
        let lock = lock(dir)?;
        check_version(dir)?;
        let config = read_config(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            _lock: lock,
        })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its configuration.
    pub fn config(&self) -> &ConfigFile {
        &self.config
    }
}

/// Makes the directory if it is not there, closed to other users.
pub fn make_dir(dir: &Path) -> Result<(), RepoError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| RepoError::Io {
            path: dir.to_owned(),
            error,
        })
}

/// Tells whether a directory is a repository, or prepared to become one by a
/// configuration file.
pub fn is_there(dir: &Path) -> bool {
    // One that may not be looked at is there: opening it tells why it cannot be.
    ["version", CONFIG_NAME, "packs"]
        .iter()
        .any(|name| !matches!(dir.join(name).try_exists(), Ok(false)))
}

/// Tells whether a process has the repository open.
pub fn is_open(dir: &Path) -> io::Result<bool> {
    let file = match File::open(dir.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes the lock and writes our process id into its file.
fn lock(dir: &Path) -> Result<File, RepoError> {
    let path = dir.join("lock");
    let at = |error| RepoError::Io {
        path: path.clone(),
        error,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(at)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(at(error)),
        Err(TryLockError::WouldBlock) => {
            return Err(RepoError::Locked {
                dir: dir.to_owned(),
                pid: pid_in(&file).map_err(at)?,
            });
        }
    }
    file.set_len(0).map_err(at)?;
    file.rewind().map_err(at)?;
    writeln!(file, "{}", std::process::id()).map_err(at)?;
    Ok(file)
}

/// Says which process has the repository open, without opening it.
pub fn holder(dir: &Path) -> Result<Option<String>, RepoError> {
    let path = dir.join("lock");
    let at = |error| RepoError::Io {
        path: path.clone(),
        error,
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(at)?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::Error(error)) => Err(at(error)),
        Err(TryLockError::WouldBlock) => pid_in(&file).map(Some).map_err(at),
    }
}

fn pid_in(lock: &File) -> io::Result<String> {
    let mut pid = String::new();
    lock.take(20).read_to_string(&mut pid)?;
    Ok(pid.trim().to_owned())
}

/// The version of a repository; `None` where it has none yet, and an error
/// where it is not one that this program knows.
pub fn known_version(dir: &Path) -> Result<Option<&'static str>, RepoError> {
    let path = dir.join("version");
    match read_limited(&path) {
        Ok(text) if text.trim() == VERSION => Ok(Some(VERSION)),
        Ok(text) => {
            let found = text.trim().chars().take(20).collect();
            Err(RepoError::Version {
                dir: dir.to_owned(),
                found,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RepoError::Io { path, error }),
    }
}

/// Checks the version file; a directory without one is new.
fn check_version(dir: &Path) -> Result<(), RepoError> {
    if known_version(dir)?.is_some() {
        return Ok(());
    }
    let path = dir.join("version");
    // By rename, so that a crash leaves no half of it.
    let fresh = dir.join("version.new");
    std::fs::write(&fresh, format!("{VERSION}\n"))
        .and_then(|()| std::fs::rename(&fresh, &path))
        .map_err(|error| RepoError::Io { path, error })
}

/// Reads the configuration; none is the defaults.
pub fn read_config(dir: &Path) -> Result<ConfigFile, RepoError> {
    let path = dir.join(CONFIG_NAME);
    match read_limited(&path) {
        Ok(text) => ConfigFile::parse(&text).map_err(|why| RepoError::Config { file: path, why }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ConfigFile::default()),
        Err(error) => Err(RepoError::Io { path, error }),
    }
}

fn read_limited(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(CONFIG_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if read as u64 > CONFIG_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_holds_the_repository() {
        let dir = tempfile::tempdir().unwrap();
        let held = Repo::open(dir.path()).unwrap();
        let refused = Repo::open(dir.path()).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        drop(held);
        Repo::open(dir.path()).unwrap();
    }

    #[test]
    fn a_repository_of_another_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("version"), "99\n").unwrap();
        let refused = Repo::open(dir.path()).unwrap_err();
        assert!(matches!(refused, RepoError::Version { found, .. } if found == "99"));
        assert_eq!(std::fs::read(dir.path().join("version")).unwrap(), b"99\n");
    }

    #[test]
    fn a_new_repository_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        Repo::open(&inner).unwrap();
        assert_eq!(
            std::fs::metadata(&inner).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn a_bad_config_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG_NAME), "[store]\nspeed = 1\n").unwrap();
        let refused = Repo::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("config.toml"), "{refused}");
        assert!(
            refused.contains("line 2") && refused.contains("speed"),
            "{refused}"
        );
    }
}
