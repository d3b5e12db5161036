//! A whole tree as it is found, and what is different in another.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::beside_calls::{
    Done, Stat, addr, arg, c, close, entries, holes, open, pread, stat, sys,
};

/// A file's bytes are compared by pages.
const PAGE: usize = 4096;

/// A node under one of its names.
#[derive(Clone)]
struct Found {
    stat: Stat,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    body: Body,
    /// What its directory says of it is what it is.
    listed: bool,
}

#[derive(Clone, PartialEq, Eq)]
enum Body {
    File { len: usize, pages: Vec<u64> },
    Link(Vec<u8>),
    Other,
}

/// All of a tree, by paths from its root.
pub(crate) struct Tree(BTreeMap<Vec<u8>, Found>);

impl Tree {
    pub(crate) fn nodes(&self) -> usize {
        self.0.len()
    }

    /// Walks the tree that is the root directory. With `anew` the kernel is to forget the bytes
    /// first.
    pub(crate) fn walk(anew: bool) -> Done<Self> {
        let mut tree = Self(BTreeMap::new());
        let root = stat(libc::AT_FDCWD, &c(b"/"), 0)?;
        let top = open(libc::AT_FDCWD, &c(b"/"), libc::O_DIRECTORY, 0)?;
        let found = Found {
            stat: root,
            xattrs: xattrs(b".")?,
            body: Body::Other,
            listed: true,
        };
        tree.0.insert(b"/".to_vec(), found);
        tree.below(top, b"", anew)?;
        close(top);
        sys(libc::SYS_chdir, &[addr(&c(b"/"))])?;
        Ok(tree)
    }

    fn below(&mut self, dir: i32, path: &[u8], anew: bool) -> Done<()> {
        for (name, ino, kind) in entries(dir)? {
            // Attributes of links are to be had by name alone.
            sys(libc::SYS_fchdir, &[arg(dir)])?;
            let stat = stat(dir, &c(&name), libc::AT_SYMLINK_NOFOLLOW)?;
            let found = Found {
                stat,
                xattrs: xattrs(&name)?,
                body: body(dir, &name, &stat, anew)?,
                listed: ino == stat.ino && u32::from(kind) == stat.kind() >> 12,
            };
            let path = [path, b"/", &name[..]].concat();
            self.0.insert(path.clone(), found);
            if stat.kind() == libc::S_IFDIR {
                let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
                let fd = open(dir, &c(&name), flags, 0)?;
                self.below(fd, &path, anew)?;
                close(fd);
            }
        }
        Ok(())
    }

    /// Of each file the first of its names.
    fn groups(&self) -> HashMap<&[u8], &[u8]> {
        let mut first = HashMap::new();
        self.0
            .iter()
            .map(|(path, found)| {
                let first = first.entry(found.stat.ino).or_insert(&path[..]);
                (&path[..], *first)
            })
            .collect()
    }

    /// The first difference on the mount.
    pub(crate) fn against(&self, mount: &Self) -> Option<String> {
        let shown = |path: &[u8]| path.escape_ascii().to_string();
        let absent = |from: &Self, path: &Vec<u8>| !from.0.contains_key(path);
        if let Some(path) = self.0.keys().find(|path| absent(mount, path)) {
            return Some(format!("{} is not on the mount", shown(path)));
        }
        if let Some(path) = mount.0.keys().find(|path| absent(self, path)) {
            return Some(format!("{} is only on the mount", shown(path)));
        }
        let (groups, others) = (self.groups(), mount.groups());
        let pairs = self.0.iter().zip(mount.0.values());
        for ((path, one), other) in pairs {
            if let Some(why) = one.against(other) {
                return Some(format!("{}: {why}", shown(path)));
            }
            let (one, other) = (groups[&path[..]], others[&path[..]]);
            if one != other {
                let (one, other) = (shown(one), shown(other));
                return Some(format!("{} is {one}, on the mount {other}", shown(path)));
            }
        }
        None
    }
}

impl Found {
    fn against(&self, mount: &Self) -> Option<String> {
        if let Some(why) = self.stat.against(&mount.stat) {
            return Some(why);
        }
        if self.xattrs != mount.xattrs {
            let (one, other) = (&self.xattrs, &mount.xattrs);
            return Some(format!("attributes {one:?}\n    mount {other:?}"));
        }
        if self.listed != mount.listed {
            return Some("its directory lists it as something else".into());
        }
        self.body.against(&mount.body)
    }
}

impl Body {
    fn against(&self, mount: &Self) -> Option<String> {
        match (self, mount) {
            (one, other) if one == other => None,
            (
                Self::File { len, pages },
                Self::File {
                    len: other,
                    pages: others,
                },
            ) => {
                let differ = pages.iter().zip(others).position(|(one, two)| one != two);
                Some(format!(
                    "{len} bytes, on the mount {other}; from {:?} on others",
                    differ.map(|page| page * PAGE)
                ))
            }
            (one, other) => Some(format!("leads to {}, {}", one.link(), other.link())),
        }
    }

    fn link(&self) -> String {
        match self {
            Self::Link(target) => target.escape_ascii().to_string(),
            Self::File { .. } | Self::Other => "no link".into(),
        }
    }
}

fn body(dir: i32, name: &[u8], of: &Stat, anew: bool) -> Done<Body> {
    match of.kind() {
        libc::S_IFREG => file(dir, name, of.size as usize, anew),
        libc::S_IFLNK => {
            let (path, mut link) = (c(name), vec![0u8; 5000]);
            let to = link.as_mut_ptr() as usize;
            let args = [arg(dir), addr(&path), to, link.len()];
            let len = sys(libc::SYS_readlinkat, &args)?;
            link.truncate(len as usize);
            Ok(Body::Link(link))
        }
        _ => Ok(Body::Other),
    }
}

fn file(dir: i32, name: &[u8], size: usize, anew: bool) -> Done<Body> {
    // Looking is not to show.
    let fd = open(dir, &c(name), libc::O_RDONLY | libc::O_NOATIME, 0)?;
    if anew {
        let forget = libc::POSIX_FADV_DONTNEED as usize;
        sys(libc::SYS_fadvise64, &[arg(fd), 0, 0, forget])?;
    }
    let bytes = pread(fd, 0, size + 10)?;
    let wrong = if size > 0 {
        holes(fd, 0, &bytes)?
    } else {
        None
    };
    close(fd);
    let hash = |page: &[u8]| {
        let mut hasher = DefaultHasher::new();
        page.hash(&mut hasher);
        hasher.finish()
    };
    let mut pages: Vec<u64> = bytes.chunks(PAGE).map(hash).collect();
    // What is wrong with the holes of one side differs from the other.
    pages.extend(wrong.map(|why| hash(why.as_bytes())));
    Ok(Body::File {
        len: bytes.len(),
        pages,
    })
}

/// The attributes of a name in the working directory.
fn xattrs(name: &[u8]) -> Done<BTreeMap<Vec<u8>, Vec<u8>>> {
    let path = c(name);
    let mut names = vec![0u8; 8 << 10];
    let args = [addr(&path), names.as_mut_ptr() as usize, names.len()];
    let len = sys(libc::SYS_llistxattr, &args)? as usize;
    let mut found = BTreeMap::new();
    for name in names[..len].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        let (name_c, to) = (c(name), value.as_mut_ptr() as usize);
        let args = [addr(&path), addr(&name_c), to, value.len()];
        let len = sys(libc::SYS_lgetxattr, &args)? as usize;
        found.insert(name.to_vec(), value[..len].to_vec());
    }
    Ok(found)
}
