//! The kernel's mount table, as `/proc/self/mountinfo` has it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Device number, as `major:minor`.
    pub device: String,
    /// Where it is mounted.
    pub dir: PathBuf,
    /// Type, `fuse.cidfs` for ours.
    pub fs_type: String,
    /// What is mounted.
    pub source: String,
    /// Those of the file system and then its own, separated by commas.
    pub options: String,
}

/// The type of our mounts in the table.
pub(super) const FS_TYPE: &str = "fuse.cidfs";

/// Our mounts, in the order of the table.
pub fn our_mounts() -> io::Result<Vec<MountEntry>> {
    Ok(all()?
        .into_iter()
        .filter(|m| m.fs_type == FS_TYPE)
        .collect())
}

/// The mount whose directory is exactly `dir`; the topmost if several are stacked.
pub fn find_mount(dir: &Path) -> io::Result<Option<MountEntry>> {
    Ok(all()?.into_iter().rev().find(|m| m.dir == dir))
}

/// The mounts below a directory, whoever made them.
pub(super) fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let below = |mount: &MountEntry| mount.dir != dir && mount.dir.starts_with(dir);
    let found = all()?.into_iter().filter(below);
    Ok(found.map(|mount| mount.dir).collect())
}

/// Whether `dir` is a mount whose daemon is gone: ENOTCONN.
///
/// The kernel answers `stat` with what it knows, also of a daemon that is gone; `statfs` it always
/// asks.
pub fn is_stale(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_err_and(|error| error == rustix::io::Errno::NOTCONN)
}

fn all() -> io::Result<Vec<MountEntry>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|b| *b == b'\n').filter_map(parse).collect())
}

/// `36 35 98:0 /root /dir options [optional…] - type source superoptions`
fn parse(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let device = fields.nth(2)?;
    let dir = fields.nth(1)?;
    let own = fields.next()?;
    let mut rest = fields.skip_while(|f| *f != b"-").skip(1);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (fs_type, source) = (rest.next()?, rest.next()?);
    // What concerns this mount alone counts, where both say something.
    let all = rest.next().unwrap_or_default();
    Some(MountEntry {
        device: text(device),
        dir: PathBuf::from(unescape(dir)),
        fs_type: text(fs_type),
        source: unescape(source).to_string_lossy().into_owned(),
        options: [text(all), text(own)].join(","),
    })
}

/// Spaces, tabs, newlines and backslashes stand as `\ooo`.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let octal = digits.and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out)
}

/// The name of a path's last part, or the path itself.
pub(super) fn short(path: &OsStr) -> String {
    let name = Path::new(path).file_name().unwrap_or(path);
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_spaces_in_its_path_is_read() {
        let line = br"36 35 0:98 / /mnt/a\040b rw,nosuid shared:1 - fuse.cidfs cidfs ro,user_id=0";
        let entry = parse(line).unwrap();
        assert_eq!(entry.dir, Path::new("/mnt/a b"));
        assert_eq!(entry.device, "0:98");
        assert_eq!(entry.fs_type, FS_TYPE);
        assert_eq!(entry.source, "cidfs");
        assert_eq!(entry.options, "ro,user_id=0,rw,nosuid");
    }

    #[test]
    fn lines_that_are_cut_off_are_passed_over() {
        for line in [&b""[..], b"36 35", b"36 35 0:98 / /mnt rw"] {
            assert_eq!(parse(line), None);
        }
    }
}
