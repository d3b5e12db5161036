//! The kernel, FUSE, and the limits of this process.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, getuid};

use super::Check;
use crate::config::{FILES_OPEN_MIN, READAHEAD_BYTES, REQUEST_BYTES_MAX};

const GROUP: &str = "system";
/// Oldest kernel that opens and lists without asking the daemon and has all
/// calls that mounts answer.
const KERNEL_MIN: (u32, u32) = (5, 4);
const PAGE_BYTES: u32 = 4096;

pub(super) fn checks() -> Vec<Check> {
    let root = getuid().is_root();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    let pages = std::fs::read_to_string("/proc/sys/fs/fuse/max_pages_limit");
    let conf = std::fs::read_to_string("/etc/fuse.conf");
    vec![
        kernel(release.unwrap_or_default().trim()),
        device(Path::new("/dev/fuse")),
        request_size(pages.ok().as_deref()),
        fusermount(find_program("fusermount3").as_deref(), root),
        allow_other(conf, root),
        readahead(root && Path::new("/sys/class/bdi").is_dir()),
        open_files(getrlimit(Resource::Nofile)),
    ]
}

fn kernel(release: &str) -> Check {
    let mut numbers = release
        .split(|one: char| !one.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {release}");
    let (major, minor) = KERNEL_MIN;
    match version {
        (0, _) => Check::warn(GROUP, "kernel", "its version cannot be told", "uname -r"),
        old if old < KERNEL_MIN => {
            let next = format!("a kernel from {major}.{minor} on");
            Check::warn(GROUP, "kernel", format!("{found} is old"), next)
        }
        _ => Check::ok(GROUP, "kernel", found),
    }
}

fn device(path: &Path) -> Check {
    let name = "device";
    let shown = path.display();
    match path.metadata() {
        Ok(found) if !found.file_type().is_char_device() => {
            let found = format!("{shown} is no device");
            return Check::fail(GROUP, name, found, "mknod /dev/fuse c 10 229, as root");
        }
        Ok(_) | Err(_) => {}
    }
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Check::ok(GROUP, name, format!("{shown} opens")),
        Err(error) => Check::fail(
            GROUP,
            name,
            format!("{shown}: {error}"),
            device_hint(&error),
        ),
    }
}

fn device_hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "chmod 666 /dev/fuse, as root; in a container: --device /dev/fuse --cap-add SYS_ADMIN"
    } else {
        "modprobe fuse, as root; in a container: start it with --device /dev/fuse"
    }
}

/// `limit` is `fs.fuse.max_pages_limit`; kernels without it take 256 pages.
fn request_size(limit: Option<&str>) -> Check {
    let name = "requests";
    let wanted = REQUEST_BYTES_MAX / PAGE_BYTES;
    let pages: u32 = limit.map_or(wanted, |text| text.trim().parse().unwrap_or(0));
    let found = format!(
        "up to {} KiB each",
        u64::from(pages) * u64::from(PAGE_BYTES) / 1024
    );
    if pages < wanted {
        let next = format!("sysctl fs.fuse.max_pages_limit={wanted}, for faster reading");
        return Check::warn(GROUP, name, found, next);
    }
    Check::ok(GROUP, name, found)
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn fusermount(program: Option<&Path>, root: bool) -> Check {
    let name = "fusermount3";
    let Some(program) = program else {
        let next = "apt install fuse3, or what your system calls it";
        return match root {
            true => Check::ok(GROUP, name, "not found; root mounts without it"),
            false => Check::fail(GROUP, name, "not found", next),
        };
    };
    let mode = program
        .metadata()
        .map_or(0, |found| found.permissions().mode());
    let shown = program.display();
    if mode & 0o4000 == 0 && !root {
        let found = format!("{shown} may not mount for others: it has no setuid bit");
        let next = format!("chown root {shown} && chmod u+s {shown}, as root");
        return Check::fail(GROUP, name, found, next);
    }
    Check::ok(GROUP, name, shown)
}

fn allow_other(conf: io::Result<String>, root: bool) -> Check {
    let name = "allow_other";
    let said = |text: String| text.lines().any(|line| line.trim() == "user_allow_other");
    if root {
        return Check::ok(GROUP, name, "root may always use it");
    }
    match conf.map(said) {
        Ok(true) => Check::ok(GROUP, name, "user_allow_other is in /etc/fuse.conf"),
        Ok(false) | Err(_) => Check::warn(
            GROUP,
            name,
            "other users, root among them, cannot enter your mounts",
            "the line user_allow_other in /etc/fuse.conf, if you want -o allow_other",
        ),
    }
}

fn readahead(settable: bool) -> Check {
    let found = match settable {
        true => format!("{} KiB, set when mounting", READAHEAD_BYTES / 1024),
        false => "128 KiB; only root can raise it, in /sys/class/bdi".to_owned(),
    };
    Check::ok(GROUP, "readahead", found)
}

fn open_files(limit: Rlimit) -> Check {
    let name = "open files";
    match limit.current {
        Some(most) if most < FILES_OPEN_MIN => {
            let found = format!("at most {most}");
            let next = format!("ulimit -n {FILES_OPEN_MIN}, before the daemon starts");
            Check::warn(GROUP, name, found, next)
        }
        Some(most) => Check::ok(GROUP, name, format!("at most {most}")),
        None => Check::ok(GROUP, name, "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn an_old_kernel_and_small_requests_are_warned_of() {
        assert_eq!(kernel("6.18.0-cloud").status, Status::Ok);
        assert_eq!(kernel("5.4.0").status, Status::Ok);
        assert_eq!(kernel("5.3.18-lts").status, Status::Warn);
        assert_eq!(kernel("").status, Status::Warn);
        assert_eq!(request_size(None).status, Status::Ok);
        assert_eq!(request_size(Some("256\n")).status, Status::Ok);
        assert_eq!(request_size(Some("32\n")).status, Status::Warn);
    }

    #[test]
    fn a_device_that_is_absent_or_none_fails_and_says_how_to_get_it() {
        let dir = tempfile::tempdir().unwrap();
        let absent = device(&dir.path().join("fuse"));
        assert_eq!(absent.status, Status::Fail);
        assert!(absent.next.unwrap().contains("modprobe fuse"));
        std::fs::write(dir.path().join("fuse"), "").unwrap();
        let plain = device(&dir.path().join("fuse"));
        assert!(plain.found.contains("is no device") && plain.status == Status::Fail);
    }

    #[test]
    fn only_a_plain_user_needs_fusermount_and_its_setuid_bit() {
        assert_eq!(fusermount(None, true).status, Status::Ok);
        assert_eq!(fusermount(None, false).status, Status::Fail);
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("fusermount3");
        std::fs::write(&program, "").unwrap();
        assert_eq!(fusermount(Some(&program), true).status, Status::Ok);
        assert_eq!(fusermount(Some(&program), false).status, Status::Fail);
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
        assert_eq!(fusermount(Some(&program), false).status, Status::Ok);
    }

    #[test]
    fn allow_other_wants_its_line_for_a_plain_user_and_a_comment_is_none() {
        let conf = |text: &str| allow_other(Ok(text.to_owned()), false).status;
        assert_eq!(conf("# x\nuser_allow_other\n"), Status::Ok);
        assert_eq!(conf("#user_allow_other\n"), Status::Warn);
        let absent = Err(io::ErrorKind::NotFound.into());
        assert_eq!(allow_other(absent, false).status, Status::Warn);
        assert_eq!(allow_other(Ok(String::new()), true).status, Status::Ok);
    }

    #[test]
    fn few_open_files_are_warned_of() {
        let limit = |current| Rlimit {
            current,
            maximum: None,
        };
        assert_eq!(
            open_files(limit(Some(FILES_OPEN_MIN - 1))).status,
            Status::Warn
        );
        assert_eq!(open_files(limit(Some(FILES_OPEN_MIN))).status, Status::Ok);
        assert_eq!(open_files(limit(None)).status, Status::Ok);
    }
}
