//! Runs a program to its end, or to a deadline.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// No program here needs longer; one that does hangs.
const DEADLINE_SECONDS: &str = "240";

/// What a program said, and whether it ended well.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Said {
    /// Standard output as text, without the line end.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).trim_end().to_owned()
    }

    /// Standard output of a program that must have ended well.
    #[track_caller]
    pub(crate) fn expect_ok(&self, what: &str) -> String {
        assert!(self.ok, "{what} failed: {}", self.err.trim());
        self.text()
    }

    /// The CID on the last line, or why there is none.
    pub(crate) fn cid(&self) -> Result<String, String> {
        if self.ok {
            Ok(self.text().lines().last().unwrap_or_default().to_owned())
        } else {
            let why = self.err.lines().find(|line| !line.trim().is_empty());
            Err(why.unwrap_or("(no message)").trim().to_owned())
        }
    }
}

/// A command that is killed when the deadline has passed.
pub(crate) fn bounded(program: &OsStr) -> Command {
    let mut command = Command::new("timeout");
    command
        .arg("--kill-after=5")
        .arg(DEADLINE_SECONDS)
        .arg(program);
    command
}

/// Runs a command with the given input.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Said {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program may end without having read its input: that is its affair.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Said {
        ok: output.status.success(),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Fails unless the two trees hold the same names, bytes and links.
#[track_caller]
pub(crate) fn assert_same_tree(expected: &Path, found: &Path) {
    let mut diff = bounded(OsStr::new("diff"));
    diff.args(["-r", "--no-dereference", "--brief"])
        .arg(expected)
        .arg(found);
    let said = run(&mut diff, b"");
    assert!(
        said.ok,
        "the trees differ:\n{}{}",
        said.text().lines().take(20).collect::<Vec<_>>().join("\n"),
        said.err
    );
}
