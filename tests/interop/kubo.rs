//! A Kubo of our own: its repository is temporary, it listens on loopback and knows no peers.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::run::{Said, bounded, run};

/// A CID profile (IPIP-499).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    V1,
    V0,
}

impl Profile {
    pub(crate) const ALL: [Self; 2] = [Self::V1, Self::V0];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V1 => "unixfs-v1-2025",
            Self::V0 => "unixfs-v0-2015",
        }
    }
}

/// The program; `None`, said aloud, where there is none and none is required.
pub(crate) fn program() -> Option<PathBuf> {
    if let Some(program) = env::var_os("CIDFS_KUBO") {
        return Some(program.into());
    }
    let required = env::var_os("CI").is_some() || env::var_os("CIDFS_REQUIRE_TOOLS").is_some();
    assert!(
        !required,
        "CIDFS_KUBO names no Kubo: scripts/interop.sh builds one"
    );
    // Not eprintln: the test harness would keep it to itself.
    let note = b"SKIPPED: CIDFS_KUBO names no Kubo; scripts/interop.sh builds one\n";
    drop(stderr().write_all(note));
    None
}

/// A repository, and the daemon that serves it, if one was started.
pub(crate) struct Kubo {
    program: PathBuf,
    dir: TempDir,
    daemon: Option<Child>,
}

/// Ends the daemon when this test binary goes, however it goes: its end of the pipe closes.
const GUARDED_DAEMON: &str = r#"
"$0" daemon --routing=none >"$IPFS_PATH/daemon.log" 2>&1 &
daemon=$!
cat >/dev/null
kill "$daemon" 2>/dev/null
for _ in $(seq 100); do
    kill -0 "$daemon" 2>/dev/null || exit 0
    sleep 0.1
done
kill -9 "$daemon"
"#;

impl Kubo {
    /// A repository without a daemon: commands work on it directly.
    pub(crate) fn offline(profile: Profile) -> Option<Self> {
        let program = program()?;
        let kubo = Self {
            program,
            dir: TempDir::new().unwrap(),
            daemon: None,
        };
        let profiles = format!("--profile=test,{}", profile.name());
        kubo.run(&["init", &profiles]).expect_ok("ipfs init");
        Some(kubo)
    }

    /// A repository with its daemon, which answers when this returns.
    pub(crate) fn start(profile: Profile) -> Option<Self> {
        let mut kubo = Self::offline(profile)?;
        kubo.serve();
        Some(kubo)
    }

    /// Starts the daemon; it answers when this returns.
    pub(crate) fn serve(&mut self) {
        let mut command = Command::new("sh");
        command.arg("-c").arg(GUARDED_DAEMON).arg(&self.program);
        self.settle(&mut command);
        self.daemon = Some(command.stdin(Stdio::piped()).spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(90);
        while !(self.file("api").exists() && self.file("gateway").exists()) {
            let log = || fs::read_to_string(self.file("daemon.log")).unwrap_or_default();
            assert!(
                Instant::now() < end,
                "Kubo's daemon did not start:\n{}",
                log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        self.run(&["id"]).expect_ok("ipfs id");
    }

    /// Ends the daemon.
    pub(crate) fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            drop(daemon.stdin.take());
            drop(daemon.wait());
        }
    }

    fn settle(&self, command: &mut Command) {
        command
            .env("IPFS_PATH", self.repo())
            .env("IPFS_TELEMETRY", "off");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory of the repository.
    pub(crate) fn repo(&self) -> &Path {
        self.dir.path()
    }

    /// The address of the RPC, such as `http://127.0.0.1:5001`.
    pub(crate) fn api(&self) -> String {
        let multiaddr = fs::read_to_string(self.file("api")).unwrap();
        let parts: Vec<&str> = multiaddr.trim().split('/').collect();
        format!("http://{}:{}", parts[2], parts[4])
    }

    /// The address of the gateway.
    pub(crate) fn gateway(&self) -> String {
        let url = fs::read_to_string(self.file("gateway")).unwrap();
        url.trim().trim_end_matches('/').to_owned()
    }

    /// Runs `ipfs` with the given arguments.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Said {
        self.run_in(Path::new("/"), args, b"")
    }

    /// Runs `ipfs` in a directory, with input.
    pub(crate) fn run_in<S: AsRef<OsStr>>(&self, dir: &Path, args: &[S], input: &[u8]) -> Said {
        let mut command = bounded(self.program.as_os_str());
        self.settle(&mut command);
        run(command.args(args).current_dir(dir), input)
    }

    /// Adds with the given flags and names the root, or says why not.
    pub(crate) fn add<S: AsRef<OsStr>>(&self, dir: &Path, args: &[S]) -> Result<String, String> {
        let mut all: Vec<OsString> = vec!["add".into(), "-Q".into()];
        all.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self.run_in(dir, &all, b"").cid()
    }
}

impl Drop for Kubo {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn the_daemon_answers_has_no_peers_and_ends_with_its_owner() {
    let Some(kubo) = Kubo::start(Profile::V1) else {
        return;
    };
    assert_eq!(
        kubo.run(&["swarm", "peers"]).expect_ok("ipfs swarm peers"),
        ""
    );
    assert!(kubo.api().starts_with("http://127.0.0.1:"));
    assert!(kubo.gateway().starts_with("http://127.0.0.1:"));
    let hello = kubo.run_in(
        Path::new("/"),
        &["add", "-Q", "--raw-leaves"],
        b"hello world",
    );
    assert_eq!(
        hello.cid().unwrap(),
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    );
    let address = kubo.api().replace("http://", "");
    drop(kubo);
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "the daemon is still there"
    );
}
