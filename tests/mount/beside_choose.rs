//! How it is chosen what is done on the mount and beside it.
//!
//! An operation is data and knows no tree: names come from a small pool in which `d…` is mostly a
//! directory, `f…` a file and `l…` a link, so that many operations find something, also after
//! others were left out.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "only some operations are filled in"
)]

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::beside_ops::{
    At, Bytes, Event, New, ONE, Op, ROOT, SLOTS, Stamp, Step, TWO, Target, Taste,
};

/// What chooses.
pub(crate) struct Chooser<'a> {
    pub(crate) rng: &'a mut StdRng,
    pub(crate) taste: Taste,
}

type Way = fn(&mut Chooser<'_>) -> Op;

const WAYS: &[(u32, Way)] = &[
    (12, make),
    (4, symlink),
    (5, link),
    (9, |c| unlink(c, false)),
    (4, |c| unlink(c, true)),
    (10, rename),
    (14, open),
    (2, |c| Op::Close { slot: c.slot() }),
    (10, save),
    (3, |c| Op::Load {
        at: c.at(Likely::File),
    }),
    (9, write),
    (3, |c| Op::Put {
        slot: c.slot(),
        bytes: c.bytes(),
    }),
    (3, |c| Op::Read {
        slot: c.slot(),
        off: c.off(),
        len: c.len(),
    }),
    (6, truncate),
    (6, allocate),
    (5, copy),
    (3, |c| Op::Seek {
        slot: c.slot(),
        off: c.off(),
    }),
    (4, map),
    (1, |c| Op::Sync {
        slot: c.slot(),
        data: c.rng.random(),
    }),
    (6, |c| Op::Chmod {
        target: c.target(),
        mode: c.mode(),
    }),
    (5, chown),
    (5, times),
    (9, set_xattr),
    (2, get_xattr),
    (1, |c| Op::ListXattr { target: c.target() }),
    (3, |c| Op::RemoveXattr {
        target: c.target(),
        name: c.xattr(),
    }),
    (2, |c| Op::Stat { target: c.target() }),
    (1, |c| Op::Readlink {
        at: c.at(Likely::Link),
    }),
    (1, |c| Op::List {
        at: c.at(Likely::Dir),
    }),
    (2, |c| Op::Access {
        at: c.at(Likely::Any),
        mode: c.rng.random_range(0..8),
    }),
];

/// What a name probably is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Likely {
    Dir,
    File,
    Link,
    Any,
}

impl Chooser<'_> {
    pub(crate) fn step(&mut self) -> Step {
        if self.rng.random_ratio(1, self.taste.compare_every) {
            return Step::Event(Event::Compare);
        }
        if self.rng.random_ratio(1, self.taste.event_every) {
            let events = [
                Event::Remount,
                Event::Kill,
                Event::Checkpoint,
                Event::Checkpoint,
            ];
            return Step::Event(events[self.rng.random_range(0..events.len())]);
        }
        let other = self.rng.random_ratio(self.taste.others, 10);
        let who = if other {
            [ONE, TWO][self.rng.random_range(0..2)]
        } else {
            ROOT
        };
        let umask = [0, 0, 0o022, 0o077][self.rng.random_range(0..4)];
        let way = WAYS.choose_weighted(self.rng, |way| way.0).unwrap().1;
        let op = way(self);
        Step::Do { who, umask, op }
    }

    /// A step that fills the tree: else most names would be absent for long.
    pub(crate) fn build(&mut self) -> Step {
        let mut op = match self.rng.random_range(0..4) {
            0 | 1 => make(self),
            2 => save(self),
            _ => open(self),
        };
        match &mut op {
            Op::Make { mode, .. } => *mode = 0o777,
            Op::Save { flags, .. } => *flags |= libc::O_CREAT,
            Op::Open { flags, mode, .. } if *flags & libc::O_ACCMODE == libc::O_RDWR => {
                *flags |= libc::O_CREAT;
                *mode = 0o666;
            }
            _ => {}
        }
        Step::Do {
            who: ROOT,
            umask: 0,
            op,
        }
    }

    fn one_of(&mut self, many: u32) -> bool {
        self.rng.random_ratio(1, many)
    }

    fn slot(&mut self) -> u8 {
        self.rng.random_range(0..SLOTS)
    }

    fn name(&mut self, likely: Likely) -> Vec<u8> {
        let letter = match (likely, self.rng.random_range(0..12)) {
            (Likely::Dir, 2..) | (_, 0) | (Likely::Any, 1..5) => 'd',
            (Likely::Link, 2..) | (_, 1) | (Likely::Any, 5..7) => 'l',
            (Likely::File, _) | (Likely::Dir, _) | (Likely::Link, _) | (Likely::Any, _) => 'f',
        };
        match self.rng.random_range(0..300) {
            0 => vec![b'x'; 256],
            1..3 => vec![b'y'; 255],
            3..5 => b"\xff\xfe\x80 \n".to_vec(),
            5 => b".".to_vec(),
            6 => b"..".to_vec(),
            7 => "naïve".into(),
            8..60 => {
                let new = self.taste.names + self.rng.random_range(0..6);
                format!("{letter}{new}").into_bytes()
            }
            _ => format!("{letter}{}", self.rng.random_range(0..self.taste.names)).into_bytes(),
        }
    }

    fn at(&mut self, likely: Likely) -> At {
        let depth = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2][self.rng.random_range(0..10)];
        let mut parts: Vec<Vec<u8>> = (0..depth).map(|_| self.name(Likely::Dir)).collect();
        if self.one_of(40) {
            parts.push(b"..".to_vec());
        }
        parts.push(self.name(likely));
        let mut path = parts.join(&b'/');
        match self.rng.random_range(0..400) {
            0 => path.clear(),
            1 => path = b"/".to_vec(),
            2..8 => path.push(b'/'),
            8..12 => path.insert(0, b'/'),
            12 => path = [b"./".repeat((4095 - path.len()) / 2), path].concat(),
            13 => path = [b"./".repeat(2048), path].concat(),
            14 => path = [b"d0/".repeat(40), path].concat(),
            15 => path.extend_from_slice(b"/."),
            _ => {}
        }
        let base = self.one_of(30).then(|| self.slot());
        At { base, path }
    }

    fn target(&mut self) -> Target {
        if self.one_of(4) {
            return Target::Slot(self.slot());
        }
        let at = self.at(Likely::Any);
        Target::Path {
            at,
            follow: self.rng.random(),
        }
    }

    fn mode(&mut self) -> u32 {
        const MODES: &[u32] = &[
            0o644, 0o600, 0o666, 0o664, 0o755, 0o700, 0o777, 0o777, 0o777, 0o1777, 0o2775, 0o2770,
            0o4755, 0o6777, 0o2644, 0,
        ];
        if self.one_of(4) {
            return self.rng.random_range(0..0o10000);
        }
        MODES[self.rng.random_range(0..MODES.len())]
    }

    fn line(&mut self) -> i64 {
        if self.taste.large {
            (256 << 10) * self.rng.random_range(0..9)
        } else {
            4096 * self.rng.random_range(0..9)
        }
    }

    /// Near what is a line to somebody: of a page, a chunk, a block.
    fn off(&mut self) -> i64 {
        let line = self.line();
        match self.rng.random_range(0..80) {
            0 => -1,
            1 => i64::MAX - 5,
            2..20 => line,
            20..28 => line + 1,
            28..36 => (line - 1).max(0),
            36..60 => self.rng.random_range(0..300),
            _ => line + self.rng.random_range(0..5000),
        }
    }

    fn len(&mut self) -> usize {
        match self.rng.random_range(0..10) {
            0 => self.rng.random_range(0..2),
            1 => 4096,
            2 => 4095,
            3 if self.taste.large => 256 << 10,
            4 if self.taste.large => self.rng.random_range(0..1_200_000),
            5 => self.rng.random_range(0..30_000),
            _ => self.rng.random_range(1..600),
        }
    }

    fn bytes(&mut self) -> Bytes {
        let seed = (!self.one_of(6)).then(|| self.rng.random_range(1..1 << 20));
        Bytes {
            len: self.len(),
            seed,
        }
    }

    fn xattr(&mut self) -> &'static str {
        const NAMES: &[&str] = &[
            "user.a",
            "user.b",
            "user.c",
            "user.longer-name",
            "trusted.t",
            "security.capability",
            "system.posix_acl_access",
            "system.posix_acl_access",
            "system.posix_acl_default",
        ];
        if self.one_of(25) {
            return ["user.", "nothing", "system.other", ""][self.rng.random_range(0..4)];
        }
        NAMES[self.rng.random_range(0..NAMES.len())]
    }

    /// No time that the clock could show during a run.
    fn stamp(&mut self) -> Stamp {
        let nsec = match self.rng.random_range(0..4) {
            0 => 0,
            1 => 999_999_999,
            _ => self.rng.random_range(0..1_000_000_000),
        };
        match self.rng.random_range(0..12) {
            0 => (0, libc::UTIME_NOW),
            1 | 2 => (0, libc::UTIME_OMIT),
            3 => (self.rng.random_range(-(1 << 31)..0), nsec),
            4 => (self.rng.random_range(4_000_000_000..1 << 33), nsec),
            5 if self.one_of(4) => (7, 1_000_000_000),
            _ => (self.rng.random_range(0..1_500_000_000), nsec),
        }
    }
}

fn make(c: &mut Chooser<'_>) -> Op {
    let new = match c.rng.random_range(0..40) {
        0..20 => New::Dir,
        20..32 => New::File,
        32..34 => New::Fifo,
        34..36 => New::Socket,
        36 => New::Char(libc::makedev(1, 3) as u32),
        37 => New::Char(0),
        38 => New::Block(libc::makedev(240, 70_000) as u32),
        _ => New::Bad,
    };
    let likely = if new == New::Dir {
        Likely::Dir
    } else {
        Likely::File
    };
    let (at, mode) = (c.at(likely), c.mode());
    Op::Make { at, new, mode }
}

fn symlink(c: &mut Chooser<'_>) -> Op {
    let at = c.at(Likely::Link);
    let mut target = c.at(Likely::Any);
    target.base = None;
    match c.rng.random_range(0..20) {
        0 => target.path = vec![b't'; 4095],
        1 => target.path = vec![b't'; 4096],
        2..6 => target.path = [b"../", &target.path[..]].concat(),
        6..8 => target.path.insert(0, b'/'),
        _ => {}
    }
    Op::Symlink { at, target }
}

fn link(c: &mut Chooser<'_>) -> Op {
    let likely = if c.one_of(6) {
        Likely::Any
    } else {
        Likely::File
    };
    let (from, to) = (c.at(likely), c.at(Likely::File));
    let follow = c.one_of(4);
    Op::Link { from, to, follow }
}

fn unlink(c: &mut Chooser<'_>, dir: bool) -> Op {
    let likely = match (dir, c.one_of(3)) {
        (true, _) => Likely::Dir,
        (false, true) => Likely::Link,
        (false, false) => Likely::File,
    };
    let at = c.at(likely);
    Op::Unlink { at, dir }
}

fn rename(c: &mut Chooser<'_>) -> Op {
    let likely = [Likely::File, Likely::Dir, Likely::Link, Likely::Any][c.rng.random_range(0..4)];
    let (from, to) = (c.at(likely), c.at(likely));
    let flags = match c.rng.random_range(0..40) {
        0..6 => libc::RENAME_NOREPLACE,
        6..16 => libc::RENAME_EXCHANGE,
        16 => libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE,
        17 => 8,
        _ => 0,
    };
    Op::Rename { from, to, flags }
}

fn open(c: &mut Chooser<'_>) -> Op {
    let ways = [
        libc::O_RDONLY,
        libc::O_WRONLY,
        libc::O_RDWR,
        libc::O_RDWR,
        libc::O_RDWR,
    ];
    // A fifo is not waited for.
    let mut flags = ways[c.rng.random_range(0..ways.len())] | libc::O_NONBLOCK;
    for (flag, many) in [
        (libc::O_CREAT, 2),
        (libc::O_EXCL, 15),
        (libc::O_TRUNC, 8),
        (libc::O_APPEND, 6),
        (libc::O_NOFOLLOW, 10),
        (libc::O_DIRECTORY, 30),
        (libc::O_PATH, 40),
        (libc::O_NOATIME, 40),
    ] {
        if c.one_of(many) {
            flags |= flag;
        }
    }
    let mut likely = Likely::File;
    if c.one_of(6) {
        likely = Likely::Dir;
        flags = libc::O_RDONLY | libc::O_NONBLOCK | (flags & libc::O_DIRECTORY);
    }
    Op::Open {
        at: c.at(likely),
        flags,
        mode: c.mode(),
        slot: c.slot(),
    }
}

fn save(c: &mut Chooser<'_>) -> Op {
    let mut flags = libc::O_WRONLY | libc::O_NONBLOCK;
    for (flag, many) in [
        (libc::O_CREAT, 2),
        (libc::O_EXCL, 10),
        (libc::O_TRUNC, 6),
        (libc::O_APPEND, 6),
    ] {
        if c.one_of(many) {
            flags |= flag;
        }
    }
    let (at, off, bytes) = (c.at(Likely::File), c.off(), c.bytes());
    Op::Save {
        at,
        flags,
        off,
        bytes,
    }
}

fn write(c: &mut Chooser<'_>) -> Op {
    let (slot, off, bytes) = (c.slot(), c.off(), c.bytes());
    Op::Write { slot, off, bytes }
}

fn truncate(c: &mut Chooser<'_>) -> Op {
    let target = if c.rng.random() {
        Target::Slot(c.slot())
    } else {
        let at = c.at(Likely::File);
        Target::Path { at, follow: true }
    };
    let len = c.off();
    Op::Truncate { target, len }
}

fn allocate(c: &mut Chooser<'_>) -> Op {
    let (keep, punch) = (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_PUNCH_HOLE);
    let zero = if c.taste.zero_range {
        libc::FALLOC_FL_ZERO_RANGE
    } else {
        keep | punch
    };
    let modes = [
        0,
        keep,
        keep | punch,
        keep | punch,
        zero,
        keep | zero,
        punch,
    ];
    let (mode, slot) = (modes[c.rng.random_range(0..modes.len())], c.slot());
    let len = if c.one_of(30) { -1 } else { c.len() as i64 };
    let off = c.off();
    Op::Allocate {
        slot,
        mode,
        off,
        len,
    }
}

fn copy(c: &mut Chooser<'_>) -> Op {
    Op::Copy {
        from: c.slot(),
        from_off: c.off(),
        to: c.slot(),
        off: c.off(),
        len: c.len() * 2,
    }
}

fn map(c: &mut Chooser<'_>) -> Op {
    Op::Map {
        slot: c.slot(),
        off: c.line(),
        bytes: c.bytes(),
        msync: c.rng.random(),
    }
}

fn chown(c: &mut Chooser<'_>) -> Op {
    let pick = |c: &mut Chooser<'_>, ids: [u32; 5]| ids[c.rng.random_range(0..5)];
    let target = c.target();
    let uid = pick(c, [0, ONE.uid, TWO.uid, TWO.uid, u32::MAX]);
    let gid = pick(c, [0, ONE.gid, 4003, 4003, u32::MAX]);
    let neither = uid == u32::MAX && gid == u32::MAX;
    let gid = if neither { ONE.gid } else { gid };
    Op::Chown { target, uid, gid }
}

fn times(c: &mut Chooser<'_>) -> Op {
    let (target, atime, mtime) = (c.target(), c.stamp(), c.stamp());
    Op::Times {
        target,
        atime,
        mtime,
    }
}

fn set_xattr(c: &mut Chooser<'_>) -> Op {
    let (target, name) = (c.target(), c.xattr());
    let value = match name {
        "security.capability" => capability(c),
        _ if name.starts_with("system.posix") => acl(c),
        // One block is all that ext4 has for them.
        _ if c.one_of(30) => vec![7; (64 << 10) + 1],
        _ => vec![c.rng.random(); c.rng.random_range(0..250)],
    };
    let flags = if c.one_of(3) {
        c.rng.random_range(0..4)
    } else {
        0
    };
    Op::SetXattr {
        target,
        name,
        value,
        flags,
    }
}

fn get_xattr(c: &mut Chooser<'_>) -> Op {
    let room = [0, 0, 10, 1000][c.rng.random_range(0..4)];
    let (target, name) = (c.target(), c.xattr());
    Op::GetXattr { target, name, room }
}

/// What `setcap` writes.
fn capability(c: &mut Chooser<'_>) -> Vec<u8> {
    let mut value = 0x0200_0000u32.to_le_bytes().to_vec();
    value.extend(c.rng.random_range(0u32..1 << 10).to_le_bytes());
    value.extend([0; 12]);
    value
}

/// An ACL as the kernel takes it; now and then one that it does not.
fn acl(c: &mut Chooser<'_>) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    let mut entry = |tag: u16, perm: u16, id: u32| {
        value.extend(tag.to_le_bytes());
        value.extend(perm.to_le_bytes());
        value.extend(id.to_le_bytes());
    };
    let mut perm = || c.rng.random_range(0..8);
    entry(1, perm(), u32::MAX);
    let (user, group) = (perm() > 2, perm() > 4);
    if user {
        entry(2, perm(), ONE.uid);
    }
    entry(4, perm(), u32::MAX);
    if group {
        entry(8, perm(), 4003);
    }
    let broken = perm() == 0 && perm() < 3;
    if (user || group) != broken {
        entry(16, perm(), u32::MAX);
    }
    entry(32, perm(), u32::MAX);
    if perm() == 0 && perm() == 0 {
        value.truncate(value.len() / 2);
    }
    value
}
