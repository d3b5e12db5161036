//! The same operations on the writable tree and on a local filesystem: what
//! they give, and what is there afterwards. Needs root, for owners and devices.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cidfs::fs::Errno;
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{
    Allocate, Caller, CopySource, Mfs, New, NodeId, NodeKind, Origin, RenameMode, SetAttr,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::mfs_sim::{Sim, quiet};
use crate::store_support::runtime;

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    origin: Origin(0),
};

#[derive(Debug)]
enum Op {
    Make(Vec<u8>, New, u32),
    Write(Vec<u8>, u64, Vec<u8>),
    Truncate(Vec<u8>, u64),
    Chmod(Vec<u8>, u32),
    Chown(Vec<u8>, u32, u32),
    Allocate(Vec<u8>, Allocate, u64, u64),
    Copy(Vec<u8>, u64, Vec<u8>, u64, u64),
    Link(Vec<u8>, Vec<u8>),
    Unlink(Vec<u8>),
    Rmdir(Vec<u8>),
    Rename(Vec<u8>, Vec<u8>, RenameMode),
    Restart,
}

fn path(rng: &mut StdRng) -> Vec<u8> {
    let depth = [1, 1, 2, 2, 3][rng.random_range(0..5)];
    let part = |rng: &mut StdRng| match rng.random_range(0..60) {
        0 => "x".repeat(256),
        _ => format!("n{}", rng.random_range(0..4)),
    };
    let parts: Vec<String> = (0..depth).map(|_| part(rng)).collect();
    parts.join("/").into_bytes()
}

fn op(rng: &mut StdRng) -> Op {
    let at = rng.random_range(0..3000);
    let len = rng.random_range(1..2000);
    match rng.random_range(0..100) {
        0..24 => {
            let new = match rng.random_range(0..10) {
                0..4 => New::File,
                4..7 => New::Directory,
                7 => New::Symlink(path(rng).into()),
                8 => New::Fifo,
                _ => New::CharDevice(259),
            };
            Op::Make(path(rng), new, rng.random_range(0..0o10000))
        }
        24..38 => Op::Write(path(rng), at, vec![rng.random(); len]),
        38..44 => Op::Truncate(path(rng), at),
        44..48 => Op::Chmod(path(rng), rng.random_range(0..0o10000)),
        48..52 => Op::Chown(path(rng), rng.random_range(0..5), rng.random_range(0..5)),
        52..58 => {
            let what = match rng.random_range(0..4) {
                0 => Allocate::Reserve {
                    keep_size: rng.random(),
                },
                1 => Allocate::Punch,
                _ => Allocate::Zero {
                    keep_size: rng.random(),
                },
            };
            Op::Allocate(path(rng), what, at, len as u64)
        }
        58..62 => Op::Copy(
            path(rng),
            at,
            path(rng),
            rng.random_range(0..3000),
            len as u64,
        ),
        62..69 => Op::Link(path(rng), path(rng)),
        69..77 => Op::Unlink(path(rng)),
        77..81 => Op::Rmdir(path(rng)),
        81..99 => {
            let mode = match rng.random_range(0..4) {
                0 => RenameMode::NoReplace,
                1 => RenameMode::Exchange,
                _ => RenameMode::Replace,
            };
            Op::Rename(path(rng), path(rng), mode)
        }
        _ => Op::Restart,
    }
}

/// The local filesystem.
struct Local(PathBuf);

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn done(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[allow(unsafe_code)]
impl Local {
    fn at(&self, path: &[u8]) -> PathBuf {
        self.0.join(std::ffi::OsStr::from_bytes(path))
    }

    fn open(&self, path: &[u8]) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.at(path);
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        if !kind.is_file() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
    }

    fn make(&self, path: &[u8], new: &New, mode: u32) -> io::Result<()> {
        let at = c(&self.at(path));
        let (kind, rdev) = match new {
            New::Directory => {
                // SAFETY: the path is a string that ends.
                done(unsafe { libc::mkdir(at.as_ptr(), mode) })?;
                return self.set_mode(path, mode);
            }
            New::Symlink(target) => {
                return std::os::unix::fs::symlink(
                    std::ffi::OsStr::from_bytes(target),
                    self.at(path),
                );
            }
            New::File => (libc::S_IFREG, 0),
            New::Fifo => (libc::S_IFIFO, 0),
            _ => (libc::S_IFCHR, 259),
        };
        // SAFETY: as above.
        done(unsafe { libc::mknod(at.as_ptr(), kind | mode, rdev) })?;
        self.set_mode(path, mode)
    }

    /// What the umask of this process took, and in directories setuid and what
    /// is inherited: what is compared is what was asked for.
    fn set_mode(&self, path: &[u8], mode: u32) -> io::Result<()> {
        let above = fs::metadata(self.at(path).parent().unwrap())?.mode();
        let is_dir = fs::symlink_metadata(self.at(path))?.is_dir();
        let inherited = if is_dir { above & 0o2000 } else { 0 };
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode | inherited))
    }

    fn allocate(&self, path: &[u8], what: Allocate, at: u64, len: u64) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let keep = |keep: bool| if keep { libc::FALLOC_FL_KEEP_SIZE } else { 0 };
        let mode = match what {
            Allocate::Reserve { keep_size } => keep(keep_size),
            Allocate::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Allocate::Zero { keep_size } => libc::FALLOC_FL_ZERO_RANGE | keep(keep_size),
        };
        let file = self.open(path)?;
        // SAFETY: the file is open.
        done(unsafe { libc::fallocate(file.as_raw_fd(), mode, at as i64, len as i64) })
    }

    fn copy(&self, from: &[u8], from_at: u64, to: &[u8], at: u64, len: u64) -> io::Result<()> {
        let (from, to) = (self.open(from)?, self.open(to)?);
        let mut bytes = vec![0; len as usize];
        let count = from.read_at(&mut bytes, from_at)?;
        if count > 0 {
            // Whoever copies by sharing leaves no privileges, root neither.
            let mode = to.metadata()?.mode() & 0o7777;
            let setgid = if mode & 0o010 != 0 { 0o2000 } else { 0 };
            to.set_permissions(fs::Permissions::from_mode(mode & !(0o4000 | setgid)))?;
        }
        to.write_all_at(&bytes[..count], at)
    }

    fn rename(&self, from: &[u8], to: &[u8], mode: RenameMode) -> io::Result<()> {
        let flags = match mode {
            RenameMode::Replace => 0,
            RenameMode::NoReplace => libc::RENAME_NOREPLACE,
            RenameMode::Exchange => libc::RENAME_EXCHANGE,
        };
        let (from, to) = (c(&self.at(from)), c(&self.at(to)));
        let here = libc::AT_FDCWD;
        // SAFETY: the paths are strings that end.
        done(unsafe { libc::renameat2(here, from.as_ptr(), here, to.as_ptr(), flags) })
    }

    fn run(&self, op: &Op) -> io::Result<()> {
        match op {
            Op::Make(path, new, mode) => self.make(path, new, *mode),
            Op::Write(path, at, bytes) => self.open(path)?.write_all_at(bytes, *at),
            Op::Truncate(path, size) => self.open(path)?.set_len(*size),
            Op::Chmod(path, mode) => {
                if fs::symlink_metadata(self.at(path))?.is_symlink() {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                fs::set_permissions(self.at(path), fs::Permissions::from_mode(*mode))
            }
            Op::Chown(path, uid, gid) => {
                std::os::unix::fs::lchown(self.at(path), Some(*uid), Some(*gid))
            }
            Op::Allocate(path, what, at, len) => self.allocate(path, *what, *at, *len),
            Op::Copy(from, from_at, to, at, len) => self.copy(from, *from_at, to, *at, *len),
            Op::Link(from, to) => fs::hard_link(self.at(from), self.at(to)),
            Op::Unlink(path) => {
                let at = c(&self.at(path));
                // SAFETY: the path is a string that ends.
                done(unsafe { libc::unlink(at.as_ptr()) })
            }
            Op::Rmdir(path) => fs::remove_dir(self.at(path)),
            Op::Rename(from, to, mode) => self.rename(from, to, *mode),
            Op::Restart => Ok(()),
        }
    }

    fn seen(&self) -> BTreeMap<Vec<u8>, String> {
        let mut out = BTreeMap::new();
        let mut open = vec![(Vec::new(), self.0.clone())];
        while let Some((path, at)) = open.pop() {
            for entry in fs::read_dir(at).unwrap() {
                let entry = entry.unwrap();
                let name = [&path[..], b"/", entry.file_name().as_bytes()].concat();
                let meta = entry.metadata().unwrap();
                let kind = meta.file_type();
                let (kind, bytes, size) = if kind.is_dir() {
                    open.push((name.clone(), entry.path()));
                    (NodeKind::Directory, Vec::new(), 0)
                } else if kind.is_symlink() {
                    let to = fs::read_link(entry.path()).unwrap().into_os_string();
                    (NodeKind::Symlink, to.as_bytes().to_vec(), meta.size())
                } else if kind.is_file() {
                    (NodeKind::File, fs::read(entry.path()).unwrap(), meta.size())
                } else if kind.is_fifo() {
                    (NodeKind::Fifo, Vec::new(), 0)
                } else {
                    (NodeKind::CharDevice, Vec::new(), 0)
                };
                let nlink = meta.nlink();
                let (mode, rdev) = (meta.mode() & 0o7777, meta.rdev());
                let owner = (meta.uid(), meta.gid());
                out.insert(
                    name,
                    format!(
                        "{kind:?} {size} {nlink} {mode:o} {rdev} {owner:?} {:x}",
                        crc32fast::hash(&bytes)
                    ),
                );
            }
        }
        out
    }
}

/// Walks paths as the kernel does, and calls the tree.
struct Tree<'a>(&'a Mfs);

impl Tree<'_> {
    async fn dir<'p>(&self, path: &'p [u8]) -> Result<(NodeId, &'p [u8]), TreeError> {
        let mut at = NodeId::ROOT;
        let mut rest = path;
        while let Some(end) = rest.iter().position(|byte| *byte == b'/') {
            let found = self.0.lookup(at, &rest[..end], false).await?;
            if found.kind == NodeKind::Symlink {
                // Not followed here.
                return Err(TreeError::BadPath("link".into()));
            }
            if found.kind != NodeKind::Directory {
                return Err(TreeError::NotADirectory);
            }
            at = found.node;
            rest = &rest[end + 1..];
        }
        Ok((at, rest))
    }

    async fn node(&self, path: &[u8]) -> Result<NodeId, TreeError> {
        let (dir, name) = self.dir(path).await?;
        Ok(self.0.lookup(dir, name, false).await?.node)
    }

    /// What is opened before anything is copied.
    async fn open(&self, path: &[u8]) -> Result<NodeId, TreeError> {
        let node = self.node(path).await?;
        match self.0.attr(node)?.kind {
            NodeKind::File => Ok(node),
            NodeKind::Directory => Err(TreeError::IsADirectory),
            _ => Err(TreeError::Invalid("no file")),
        }
    }

    async fn run(&self, op: &Op) -> Result<(), TreeError> {
        let mfs = self.0;
        match op {
            Op::Make(path, new, mode) => {
                let (dir, name) = self.dir(path).await?;
                mfs.make(CALLER, dir, name, new.clone(), *mode, 0, false)
                    .await
                    .map(drop)
            }
            Op::Write(path, at, bytes) => {
                let node = self.node(path).await?;
                mfs.write(CALLER, node, *at, bytes, false).await.map(drop)
            }
            Op::Truncate(path, size) => {
                let set = SetAttr {
                    size: Some(*size),
                    ..SetAttr::default()
                };
                mfs.set_attr(CALLER, self.node(path).await?, set)
                    .await
                    .map(drop)
            }
            Op::Chmod(path, mode) => {
                let set = SetAttr {
                    mode: Some(*mode),
                    ..SetAttr::default()
                };
                mfs.set_attr(CALLER, self.node(path).await?, set)
                    .await
                    .map(drop)
            }
            Op::Chown(path, uid, gid) => {
                let set = SetAttr {
                    uid: Some(*uid),
                    gid: Some(*gid),
                    ..SetAttr::default()
                };
                mfs.set_attr(CALLER, self.node(path).await?, set)
                    .await
                    .map(drop)
            }
            Op::Allocate(path, what, at, len) => {
                mfs.allocate(CALLER, self.node(path).await?, *what, *at, *len)
                    .await
            }
            Op::Copy(from, from_at, to, at, len) => {
                let from = self.open(from).await?;
                let (from, to) = (CopySource::Node(from), self.open(to).await?);
                mfs.copy_range(CALLER, from, *from_at, to, *at, *len)
                    .await
                    .map(drop)
            }
            Op::Link(from, to) => {
                let node = self.node(from).await?;
                let (dir, name) = self.dir(to).await?;
                mfs.link(CALLER, node, dir, name, false).await.map(drop)
            }
            Op::Unlink(path) => {
                let (dir, name) = self.dir(path).await?;
                mfs.lookup(dir, name, false).await?;
                mfs.unlink(CALLER, dir, name).await
            }
            Op::Rmdir(path) => {
                let (dir, name) = self.dir(path).await?;
                mfs.lookup(dir, name, false).await?;
                mfs.rmdir(CALLER, dir, name).await
            }
            Op::Rename(from, to, mode) => {
                let (from, to) = (self.dir(from).await?, self.dir(to).await?);
                mfs.rename(CALLER, from, to, *mode).await
            }
            Op::Restart => Ok(()),
        }
    }

    async fn seen(&self) -> BTreeMap<Vec<u8>, String> {
        let mut out = BTreeMap::new();
        let mut open = vec![(Vec::new(), NodeId::ROOT)];
        while let Some((path, dir)) = open.pop() {
            for entry in self.0.readdir(dir, 0, 999).await.unwrap() {
                let name = [&path[..], b"/", &entry.name].concat();
                let attr = entry.attr;
                let bytes = match attr.kind {
                    NodeKind::File => crate::mfs_support::read(self.0, attr.node).await,
                    NodeKind::Symlink => self.0.readlink(attr.node).unwrap().to_vec(),
                    NodeKind::Directory => {
                        open.push((name.clone(), attr.node));
                        Vec::new()
                    }
                    _ => Vec::new(),
                };
                let owner = (attr.uid, attr.gid);
                let crc = crc32fast::hash(&bytes);
                let (kind, size, nlink, mode, rdev) =
                    (attr.kind, attr.size, attr.nlink, attr.mode, attr.rdev);
                out.insert(
                    name,
                    format!("{kind:?} {size} {nlink} {mode:o} {rdev} {owner:?} {crc:x}"),
                );
            }
        }
        out
    }
}

async fn compare(seed: u64, count: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let local = Local(dir.path().to_owned());
    let mut sim = Sim::new(quiet()).await;
    for number in 0..count {
        let op = op(&mut rng);
        if let Op::Restart = op {
            sim = sim.killed().await;
        }
        let got = Tree(&sim.mfs).run(&op).await;
        if matches!(&got, Err(TreeError::BadPath(_))) {
            continue;
        }
        let got = got.err().map(|error| Errno::from(&error).0);
        // Symbolic links have a mode that nobody sets: the kernel asks for none.
        let is_link = matches!(&op, Op::Chmod(path, _)
            if fs::symlink_metadata(local.at(path)).is_ok_and(|meta| meta.is_symlink()));
        if is_link {
            let Op::Chmod(path, _) = &op else { continue };
            let set = SetAttr {
                mode: Some(0o777),
                ..SetAttr::default()
            };
            let node = Tree(&sim.mfs).node(path).await.unwrap();
            sim.mfs.set_attr(CALLER, node, set).await.unwrap();
            continue;
        }
        let want = local
            .run(&op)
            .err()
            .map(|error| error.raw_os_error().unwrap());
        let shown = format!("{op:?}").chars().take(200).collect::<String>();
        assert_eq!(
            got, want,
            "CIDFS_POSIX_SEED={seed}, operation {number}: {shown}"
        );
        if number % 8 == 0 {
            let (got, want) = (Tree(&sim.mfs).seen().await, local.seen());
            assert_eq!(
                got, want,
                "CIDFS_POSIX_SEED={seed}, after operation {number}: {shown}"
            );
        }
    }
    sim.mfs.close().await;
}

#[test]
fn what_a_local_filesystem_does_the_tree_does() {
    if !rustix::process::geteuid().is_root() {
        println!("only root may give files away and make devices");
        return;
    }
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    let (first, ops) = (
        number("CIDFS_POSIX_SEED", 1),
        number("CIDFS_POSIX_OPS", 6000),
    );
    for seed in first..first + ops.div_ceil(600) {
        runtime().block_on(compare(seed, 600));
    }
}
