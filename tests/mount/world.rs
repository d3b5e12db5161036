//! A repository with a tree that the program itself added and mounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A repository with a tree added to it and mounted by the program.
pub(crate) struct World {
    pub(crate) temp: tempfile::TempDir,
    /// The tree as it was added.
    pub(crate) native: PathBuf,
    /// The same tree on the mount.
    pub(crate) mounted: PathBuf,
}

impl World {
    pub(crate) fn new(fill: impl FnOnce(&Path)) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let native = temp.path().join("native");
        fs::create_dir(&native).unwrap();
        fill(&native);
        let dir = temp.path().join("mnt");
        fs::create_dir(&dir).unwrap();
        let mut world = Self {
            temp,
            native,
            mounted: PathBuf::new(),
        };
        let native = world.native.to_str().unwrap().to_owned();
        let root = text(&world.cidfs(&["add", "-r", "-Q", "--hidden", &native]));
        world.mounted = dir.join("ipfs").join(root.trim());
        let on = dir.to_str().unwrap().to_owned();
        world.cidfs(&["mount", "-o", "exec_files", &on]);
        world
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cidfs"));
        command
            .env("CIDFS_REPO", self.temp.path().join("repo"))
            .args(arguments);
        command
    }

    pub(crate) fn cidfs(&self, arguments: &[&str]) -> Output {
        good(&mut self.command(arguments))
    }

    /// Runs a shell script with `$N` and `$M`, the native and the mounted tree,
    /// and `$T`, a directory for its results.
    pub(crate) fn sh(&self, script: &str) -> String {
        let results = self.temp.path().join("results");
        fs::create_dir_all(&results).unwrap();
        let mut command = Command::new("bash");
        command.arg("-euo").arg("pipefail").arg("-c").arg(script);
        command
            .env("N", &self.native)
            .env("M", &self.mounted)
            .env("T", results);
        text(&good(&mut command))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The daemon ends with its last mount; forced, also after a panic.
        let mut command = self.command(&["shutdown", "--force"]);
        drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

pub(crate) fn good(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    output
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Bytes that look like noise and are the same each time.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

pub(crate) fn a_tree(dir: &Path) {
    fs::create_dir_all(dir.join("deep/er/est")).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    fs::create_dir(dir.join("wide")).unwrap();
    fs::write(dir.join("deep/er/est/text.txt"), "needle in a haystack\n").unwrap();
    fs::write(dir.join(".hidden"), "hidden\n").unwrap();
    fs::write(dir.join("nothing"), "").unwrap();
    fs::write(dir.join("large"), noise(5_000_001, 1)).unwrap();
    fs::write(dir.join("naïve name with spaces"), noise(300_000, 2)).unwrap();
    for number in 0..300 {
        fs::write(dir.join(format!("wide/{number}")), noise(number * 7, 3)).unwrap();
    }
    std::os::unix::fs::symlink("../large", dir.join("deep/link")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("dangling")).unwrap();
}
