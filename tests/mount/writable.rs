//! A repository of its own for each test, mounted to be written by the program.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::world::{good, text};

/// A repository whose writable tree is mounted.
pub(crate) struct Writable {
    temp: tempfile::TempDir,
    repo: PathBuf,
    /// Where all namespaces are mounted.
    pub(crate) top: PathBuf,
    /// The writable tree in it.
    pub(crate) mfs: PathBuf,
}

impl Writable {
    pub(crate) fn new() -> Self {
        Self::with("allow_other,suid,dev")
    }

    pub(crate) fn with(options: &str) -> Self {
        Self::in_repo(None, options)
    }

    /// With its repository in a directory that is there.
    pub(crate) fn at(repo: &Path, options: &str) -> Self {
        Self::in_repo(Some(repo.to_owned()), options)
    }

    fn in_repo(repo: Option<PathBuf>, options: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        // Other users pass through on their way to the mount.
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let top = temp.path().join("top");
        let world = Self {
            mfs: top.join("mfs"),
            repo: repo.unwrap_or_else(|| temp.path().join("repo")),
            temp,
            top,
        };
        world.mount("/", "top", options);
        world
    }

    /// Mounts `source` at a directory of this name.
    pub(crate) fn mount(&self, source: &str, name: &str, options: &str) -> PathBuf {
        let dir = self.temp.path().join(name);
        fs::create_dir(&dir).unwrap();
        self.cidfs(&["mount", "-o", options, source, dir.to_str().unwrap()]);
        dir
    }

    /// The path of a mount that was made beside the first.
    pub(crate) fn beside(&self, name: &str) -> String {
        self.temp.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cidfs"));
        command.env("CIDFS_REPO", &self.repo).args(arguments);
        command
    }

    pub(crate) fn cidfs(&self, arguments: &[&str]) -> Output {
        good(&mut self.command(arguments))
    }

    /// The repository's directory.
    pub(crate) fn repo(&self) -> &Path {
        &self.repo
    }

    /// A directory beside the mounts.
    pub(crate) fn native(&self) -> PathBuf {
        let dir = self.temp.path().join("native");
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Runs a shell script in the writable tree; `$T` is all namespaces, `$N`
    /// a directory beside the mounts.
    pub(crate) fn sh(&self, script: &str) -> String {
        text(&good(&mut self.shell(script)))
    }

    /// As `sh`, for a script that fails; gives what it says.
    pub(crate) fn refused(&self, script: &str) -> String {
        let output = self.shell(script).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "{script}: it was not refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command.arg("-euo").arg("pipefail").arg("-c").arg(script);
        command
            .current_dir(&self.mfs)
            .env("LC_ALL", "C")
            .env("T", &self.top)
            .env("N", self.native());
        command
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.mfs.join(name)
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        let mut command = self.command(&["shutdown", "--force"]);
        drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// Whether this is root; says aloud where a test needs it and it is not.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: it takes root");
    }
    root
}

/// The error number of what must fail.
pub(crate) fn errno<T>(outcome: io::Result<T>) -> i32 {
    match outcome {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error.raw_os_error().unwrap(),
    }
}

/// Opens for reading and writing, made if it is not there.
pub(crate) fn open(path: &Path) -> File {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    options.open(path).unwrap()
}

/// What a system call of this kind gives.
pub(crate) fn checked(result: i64) -> io::Result<i64> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

pub(crate) fn fd(file: &File) -> i32 {
    file.as_raw_fd()
}

/// Waits until `holds`, a second at most: so long a change through another
/// door may take.
pub(crate) fn within_a_second(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(1);
    while !holds() {
        assert!(Instant::now() < until, "not within a second: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
