//! The program, run on a repository of its own, with or without a daemon.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A repository and a place for files, gone with the test.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    daemon: Option<Child>,
}

/// What a command did.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            daemon: None,
        }
    }

    /// Starts a daemon and waits until it answers.
    pub(crate) fn with_daemon() -> Self {
        Self::with_daemon_after(|_| ())
    }

    /// The same, once the repository was prepared.
    pub(crate) fn with_daemon_after(prepare: impl FnOnce(&Self)) -> Self {
        let mut place = Self::new();
        prepare(&place);
        let mut command = place.command();
        command
            .arg("daemon")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut daemon = command.spawn().unwrap();
        let mut log = BufReader::new(daemon.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the daemon ended");
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        place.daemon = Some(daemon);
        place
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cidfs"));
        command
            .env("CIDFS_REPO", self.repo())
            .env_remove("CIDFS_LOG");
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        Done::of(&self.command().args(arguments).output().unwrap())
    }

    /// Runs what must go well and gives what it printed.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.err);
        done.out
    }

    /// Runs with bytes on standard input.
    pub(crate) fn feed(&self, arguments: &[&str], input: &[u8]) -> Done {
        let file = self.path("stdin");
        std::fs::write(&file, input).unwrap();
        let input = std::fs::File::open(file).unwrap();
        Done::of(
            &self
                .command()
                .args(arguments)
                .stdin(input)
                .output()
                .unwrap(),
        )
    }

    /// Waits for the daemon to end by itself.
    pub(crate) fn daemon_ended(&mut self) -> bool {
        let end = Instant::now() + Duration::from_secs(10);
        let Some(daemon) = &mut self.daemon else {
            return true;
        };
        while Instant::now() < end {
            if daemon.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}

impl Done {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A small tree with what trees have.
pub(crate) fn tree(place: &Place) -> PathBuf {
    place.write("tree/a.txt", "hello world");
    place.write("tree/sub/big", vec![7; 3 << 20]);
    place.write("tree/sub/empty", "");
    std::os::unix::fs::symlink("../a.txt", place.path("tree/sub/link")).unwrap();
    place.path("tree")
}

/// Compares two trees by `diff -r`.
pub(crate) fn assert_same(left: &Path, right: &Path) {
    let mut diff = Command::new("diff");
    let output = diff
        .args(["-r", "--no-dereference"])
        .arg(left)
        .arg(right)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
