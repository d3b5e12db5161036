//! The repository on its disk, without opening it.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, StatVfs, accessat, statvfs};
use rustix::process::geteuid;

use super::Check;
use crate::cli::output::human_bytes;
use crate::config::{DISK_FREE_MIN, DOCTOR_WAIT, JOURNAL_ROOM_BYTES};
use crate::repo::{self, ConfigFile, RepoError};

const GROUP: &str = "repository";

pub(super) fn checks(dir: &Path) -> Vec<Check> {
    let found = match dir.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return vec![not_made(dir)],
        Err(error) => return vec![unusable(dir, &error)],
    };
    if !found.is_dir() {
        return vec![unusable(dir, &io::ErrorKind::NotADirectory.into())];
    }
    let owner = (found.uid(), geteuid().as_raw());
    let mut checks = vec![
        directory(dir, owner, found.permissions().mode()),
        version(dir),
    ];
    let config = repo::read_config(dir);
    let kept_free = config
        .as_ref()
        .ok()
        .and_then(|config| config.store.disk_free_min)
        .unwrap_or(DISK_FREE_MIN);
    checks.push(configuration(&config));
    match statvfs(dir) {
        Ok(stat) => checks.push(space(&stat, kept_free)),
        Err(error) => checks.push(unusable(dir, &error.into())),
    }
    checks
}

/// For a disk that does not answer.
pub(super) fn silent(dir: &Path) -> Check {
    let found = format!(
        "{} gave no answer in {} s",
        dir.display(),
        DOCTOR_WAIT.as_secs()
    );
    Check::fail(
        GROUP,
        "directory",
        found,
        "is its disk, or the network below it, there?",
    )
}

fn not_made(dir: &Path) -> Check {
    let name = "directory";
    let above = dir.ancestors().skip(1).find(|above| above.exists());
    let writable =
        above.is_some_and(|above| accessat(CWD, above, Access::WRITE_OK, AtFlags::EACCESS).is_ok());
    if writable {
        let found = format!(
            "{} is not there yet; the first command makes it",
            dir.display()
        );
        return Check::ok(GROUP, name, found);
    }
    let found = format!(
        "{} is not there, and this user cannot make it",
        dir.display()
    );
    Check::fail(
        GROUP,
        name,
        found,
        "--repo or $CIDFS_REPO with a place of your own",
    )
}

fn unusable(dir: &Path, error: &io::Error) -> Check {
    let found = format!("{}: {error}", dir.display());
    let next = "--repo or $CIDFS_REPO with another directory";
    Check::fail(GROUP, "directory", found, next)
}

/// `owner` is whose it is and who we are.
fn directory(dir: &Path, owner: (u32, u32), mode: u32) -> Check {
    let name = "directory";
    let shown = dir.display();
    if owner.0 != owner.1 {
        let found = format!("{shown} belongs to user {}, this is {}", owner.0, owner.1);
        return Check::fail(
            GROUP,
            name,
            found,
            "run as its owner, or give another --repo",
        );
    }
    if mode & 0o700 != 0o700 {
        let found = format!("{shown} has mode {:o}", mode & 0o7777);
        return Check::fail(GROUP, name, found, format!("chmod 700 {shown}"));
    }
    if mode & 0o077 != 0 {
        let found = format!("{shown} is open to other users (mode {:o})", mode & 0o7777);
        return Check::warn(GROUP, name, found, format!("chmod 700 {shown}"));
    }
    Check::ok(GROUP, name, shown)
}

fn version(dir: &Path) -> Check {
    let name = "version";
    match repo::known_version(dir) {
        Ok(Some(version)) => Check::ok(GROUP, name, version),
        Ok(None) => Check::ok(GROUP, name, "none yet; the first command writes it"),
        Err(error) => Check::fail(
            GROUP,
            name,
            error,
            "the cidfs that made it, or another --repo; nothing here is touched",
        ),
    }
}

fn configuration(config: &Result<ConfigFile, RepoError>) -> Check {
    let name = "config";
    match config {
        Ok(config) => Check::ok(
            GROUP,
            name,
            format!("valid; {} sources", config.source.len()),
        ),
        Err(error) => Check::fail(GROUP, name, error, "docs/CONTROL.md has the keys"),
    }
}

fn space(stat: &StatVfs, kept_free: u64) -> Check {
    let name = "space";
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{} free", human_bytes(free));
    if free < JOURNAL_ROOM_BYTES {
        let next = "make room on the disk, or cidfs gc; until then writes get ENOSPC";
        return Check::fail(GROUP, name, found, next);
    }
    if stat.f_files > 0 && stat.f_favail == 0 {
        let next = "remove files on that disk: it has no inode left for new ones";
        return Check::fail(GROUP, name, "no file can be made", next);
    }
    if free < kept_free {
        let found = format!(
            "{found}, fewer than the {} kept free",
            human_bytes(kept_free)
        );
        let next = "make room: until then fetched blocks are kept in memory only";
        return Check::warn(GROUP, name, found, next);
    }
    Check::ok(GROUP, name, found)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn worst(dir: &Path) -> Option<Status> {
        checks(dir).iter().map(|check| check.status).max()
    }

    #[test]
    fn a_repository_that_is_not_there_is_fine_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("a/b");
        assert_eq!(worst(&repo), Some(Status::Ok));
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn a_foreign_version_and_a_bad_config_fail() {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        drop(repo::Repo::open(&repo).unwrap());
        assert!(worst(&repo).unwrap() < Status::Fail);
        std::fs::write(repo.join("version"), "99\n").unwrap();
        assert_eq!(version(&repo).status, Status::Fail);
        assert_eq!(std::fs::read(repo.join("version")).unwrap(), b"99\n");
        std::fs::write(repo.join("config.toml"), "[store]\nspeed = 1\n").unwrap();
        let bad = configuration(&repo::read_config(&repo));
        assert!(
            bad.status == Status::Fail && bad.found.contains("speed"),
            "{bad:?}"
        );
    }

    #[test]
    fn a_directory_of_others_fails_and_one_open_to_them_is_warned_of() {
        let dir = Path::new("/x");
        assert_eq!(directory(dir, (1, 1), 0o40700).status, Status::Ok);
        assert_eq!(directory(dir, (1, 1), 0o40755).status, Status::Warn);
        assert_eq!(directory(dir, (1, 1), 0o40500).status, Status::Fail);
        assert_eq!(directory(dir, (0, 1), 0o40700).status, Status::Fail);
    }

    #[test]
    fn little_space_is_warned_of_and_none_fails() {
        let dir = tempfile::tempdir().unwrap();
        let mut stat = statvfs(dir.path()).unwrap();
        (stat.f_frsize, stat.f_files, stat.f_favail) = (1, 10, 1);
        stat.f_bavail = JOURNAL_ROOM_BYTES - 1;
        assert_eq!(space(&stat, DISK_FREE_MIN).status, Status::Fail);
        stat.f_bavail = DISK_FREE_MIN - 1;
        assert_eq!(space(&stat, DISK_FREE_MIN).status, Status::Warn);
        stat.f_bavail = DISK_FREE_MIN;
        assert_eq!(space(&stat, DISK_FREE_MIN).status, Status::Ok);
        stat.f_favail = 0;
        assert_eq!(space(&stat, DISK_FREE_MIN).status, Status::Fail);
    }
}
