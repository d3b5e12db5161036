//! Where log lines go: standard error, or `daemon.log`, bounded.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LOG_BYTES_MAX;

/// Name of the log inside the repository.
pub const LOG_NAME: &str = "daemon.log";
/// Environment variable with the filter of log lines.
pub const LOG_VARIABLE: &str = "CIDFS_LOG";

/// Sends log lines to standard error.
pub fn to_stderr(verbose: u8, quiet_level: &str) {
    let made = tracing_subscriber::fmt()
        .with_env_filter(filter(verbose, quiet_level))
        .with_writer(io::stderr)
        .with_ansi(wants_colours())
        .with_target(false)
        .log_internal_errors(false)
        .try_init();
    // Set already: a test, or another program that uses this library.
    drop(made);
}

/// Whether log lines on standard error have colours: on a terminal, unless
/// `$NO_COLOR` is set (no-color.org).
fn wants_colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !refused
}

/// Sends log lines to `daemon.log` in `repo`.
pub fn to_file(repo: &Path, verbose: u8) -> io::Result<()> {
    let log = BoundedLog::open(repo.join(LOG_NAME), LOG_BYTES_MAX)?;
    let made = tracing_subscriber::fmt()
        .with_env_filter(filter(verbose, "info"))
        .with_writer(log)
        .with_ansi(false)
        // Told on standard error, which is this file too: on a full disk that is a panic.
        .log_internal_errors(false)
        .try_init();
    drop(made);
    Ok(())
}

/// `$CIDFS_LOG` if it is set and valid, else by the number of `-v`.
fn filter(verbose: u8, quiet_level: &str) -> EnvFilter {
    let by_flag = match verbose {
        0 if quiet_level == "warn" => "warn,fuser=error",
        // fuser warns when somebody else has unmounted: ordinary here.
        0 | 1 => "info,fuser=error",
        2 => "cidfs=debug,info",
        _ => "cidfs=trace,debug",
    };
    match std::env::var(LOG_VARIABLE) {
        Ok(text) => EnvFilter::try_new(text).unwrap_or_else(|_| EnvFilter::new(by_flag)),
        Err(_) => EnvFilter::new(by_flag),
    }
}

/// A log file that is set aside as `….1` when it is full.
#[derive(Clone)]
struct BoundedLog(Arc<Mutex<Inner>>);

struct Inner {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl BoundedLog {
    fn open(path: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let file = append(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Inner {
            path,
            file,
            bytes,
            bytes_max,
        }))))
    }
}

/// Opens a log file at its end.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

impl Inner {
    fn turn(&mut self) -> io::Result<()> {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        std::fs::rename(&self.path, older)?;
        self.file = append(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

impl Write for BoundedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut inner = self.0.lock();
        if inner.bytes >= inner.bytes_max {
            inner.turn()?;
        }
        inner.file.write_all(line)?;
        inner.bytes += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for BoundedLog {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_never_grows_beyond_two_files_of_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOG_NAME);
        let mut log = BoundedLog::open(path.clone(), 100).unwrap();
        for number in 0..100 {
            log.write_all(format!("line {number}\n").as_bytes())
                .unwrap();
        }
        let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(files.len(), 2);
        for file in files {
            assert!(file.metadata().unwrap().len() <= 110);
        }
        assert!(
            std::fs::read_to_string(path)
                .unwrap()
                .ends_with("line 99\n")
        );
    }
}
