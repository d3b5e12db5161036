//! The program under test, with a repository of its own.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::kubo::Profile;
use crate::run::{Said, bounded, run};

/// cidfs and a temporary repository. Its daemon, if any, ends with it.
pub(crate) struct Product {
    repo: TempDir,
}

impl Product {
    pub(crate) fn new() -> Self {
        Self {
            repo: TempDir::new().unwrap(),
        }
    }

    /// Runs `cidfs` with the given arguments.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Said {
        self.run_in(Path::new("/"), args, b"")
    }

    /// Runs `cidfs` in a directory, with input.
    pub(crate) fn run_in<S: AsRef<OsStr>>(&self, dir: &Path, args: &[S], input: &[u8]) -> Said {
        let mut command = bounded(OsStr::new(env!("CARGO_BIN_EXE_cidfs")));
        command.env("CIDFS_REPO", self.repo.path().join("repo"));
        run(command.args(args).current_dir(dir), input)
    }

    /// Adds with the given flags and names the root, or says why not.
    pub(crate) fn add<S: AsRef<OsStr>>(
        &self,
        profile: Profile,
        dir: &Path,
        args: &[S],
    ) -> Result<String, String> {
        let mut all: Vec<OsString> = ["add", "-Q", "--profile", profile.name()]
            .map(Into::into)
            .into();
        all.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self.run_in(dir, &all, b"").cid()
    }

    /// Writes the configuration; before the first command.
    pub(crate) fn configure(&self, text: &str) {
        let repo = self.repo.path().join("repo");
        std::fs::create_dir_all(&repo).unwrap();
        std::fs::write(repo.join("config.toml"), text).unwrap();
    }

    /// Mounts the writable tree.
    pub(crate) fn mount_tree(&self) -> Mounted<'_> {
        let dir = TempDir::new().unwrap();
        let args = [OsStr::new("mount"), "/mfs".as_ref(), dir.path().as_ref()];
        self.run(&args).expect_ok("cidfs mount");
        Mounted { product: self, dir }
    }

    /// Runs a command with `--json` and gives what it printed.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let all = [args, &["--json"]].concat();
        let said = self.run(&all).expect_ok(&args.join(" "));
        serde_json::from_str(&said).unwrap()
    }

    /// Mounts `what` with the blocks of `source`.
    pub(crate) fn mount(&self, source: &str, what: &str) -> Mounted<'_> {
        let dir = TempDir::new().unwrap();
        let mut args: Vec<OsString> = ["mount", "--source", source, what].map(Into::into).into();
        args.push(dir.path().into());
        self.run(&args).expect_ok("cidfs mount");
        Mounted { product: self, dir }
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        // Without a daemon there is nothing to end, which it says.
        self.run(&["shutdown"]);
    }
}

/// A mount that goes away with its test, also after a panic.
pub(crate) struct Mounted<'a> {
    product: &'a Product,
    dir: TempDir,
}

impl Mounted<'_> {
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let dir = self.dir.path().as_os_str();
        let said = self.product.run(&[OsStr::new("umount"), dir]);
        if !said.ok {
            let mut force = bounded(OsStr::new("fusermount3"));
            run(force.arg("-uz").arg(dir), b"");
        }
    }
}
