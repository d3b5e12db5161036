//! What is done to trees at random, and how it is chosen.

use cidfs::tree::acl::{Acl, AclEntry, Tag};
use cidfs::tree::mfs::{Allocate, New, RenameMode, SetAttr, SetTime, Time, XattrMode};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// The grid of the files in these trees.
pub(crate) const CHUNK: u64 = 64;

/// Which node: any, a directory, or a file; by its place among them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    Any(u32),
    Dir(u32),
    File(u32),
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Make {
        dir: Who,
        name: Vec<u8>,
        new: New,
        mode: u32,
        umask: u32,
        hold: bool,
    },
    Write {
        file: Who,
        at: u64,
        len: u64,
        seed: u8,
        kill: bool,
    },
    SetAttr {
        node: Who,
        set: SetAttr,
    },
    Allocate {
        file: Who,
        what: Allocate,
        at: u64,
        len: u64,
    },
    Copy {
        from: Who,
        from_at: u64,
        to: Who,
        at: u64,
        len: u64,
    },
    CopyFar {
        which: u32,
        from_at: u64,
        to: Who,
        at: u64,
        len: u64,
    },
    Link {
        node: Who,
        dir: Who,
        name: Vec<u8>,
    },
    Unlink {
        dir: Who,
        name: Vec<u8>,
    },
    Rmdir {
        dir: Who,
        name: Vec<u8>,
    },
    Rename {
        dir: Who,
        name: Vec<u8>,
        to: Who,
        new: Vec<u8>,
        mode: RenameMode,
    },
    SetXattr {
        node: Who,
        name: Vec<u8>,
        len: usize,
        mode: XattrMode,
    },
    RemoveXattr {
        node: Who,
        name: Vec<u8>,
    },
    SetAcl {
        node: Who,
        access: bool,
        list: Option<Acl>,
    },
    Mount {
        dir: Who,
        name: Vec<u8>,
        which: u32,
    },
    MountAt {
        node: Who,
        which: u32,
    },
    Unmount {
        dir: Who,
        name: Vec<u8>,
    },
    Lookup {
        dir: Who,
        name: Vec<u8>,
        hold: bool,
    },
    Release {
        pick: u32,
    },
    Read {
        file: Who,
        at: u64,
        len: u64,
    },
    Seek {
        file: Who,
        at: u64,
    },
    Cid {
        node: Who,
    },
    Compare,
    Sync,
    Checkpoint,
    /// While other operations go on.
    CheckpointBeside,
    Reopen,
    Kill,
}

/// What a run of operations is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taste {
    /// Whether content from elsewhere comes in.
    pub(crate) far: bool,
    /// One of so many operations is a comparison of everything; 1: after each.
    pub(crate) compare_every: u32,
    /// How rare restarts and checkpoints are.
    pub(crate) restart_every: u32,
    /// How many names a directory may have.
    pub(crate) names: u32,
}

fn who(rng: &mut StdRng, likely: fn(u32) -> Who) -> Who {
    let pick = rng.random();
    if rng.random_ratio(1, 20) {
        Who::Any(pick)
    } else {
        likely(pick)
    }
}

fn name(rng: &mut StdRng, taste: &Taste) -> Vec<u8> {
    match rng.random_range(0..200) {
        0 => b".".to_vec(),
        1 => vec![b'x'; 256],
        2 => b"a/b".to_vec(),
        3..6 => vec![b'l'; 255],
        6..9 => b"\xff\xfe".to_vec(),
        9..12 => b".hidden".to_vec(),
        _ => format!("n{}", rng.random_range(0..taste.names)).into_bytes(),
    }
}

/// Near the lines of the grid.
fn place(rng: &mut StdRng) -> u64 {
    let line = CHUNK * rng.random_range(0..14);
    match rng.random_range(0..6) {
        0..3 => line,
        3 => line + 1,
        4 => line.saturating_sub(1),
        _ => line + rng.random_range(0..CHUNK),
    }
}

fn len(rng: &mut StdRng) -> u64 {
    match rng.random_range(0..8) {
        0 => 1,
        1 => CHUNK,
        2 => CHUNK * rng.random_range(1..5),
        3 => CHUNK - 1,
        4 => rng.random_range(0..600),
        _ => rng.random_range(1..CHUNK),
    }
}

fn new(rng: &mut StdRng) -> New {
    match rng.random_range(0..20) {
        0..9 => New::File,
        9..15 => New::Directory,
        15 => New::Symlink(vec![b't'; rng.random_range(0..90)].into()),
        16 => New::Fifo,
        17 => New::Socket,
        18 => New::CharDevice(rng.random()),
        _ => New::BlockDevice(rng.random()),
    }
}

fn time(rng: &mut StdRng) -> Option<SetTime> {
    let time = Time {
        sec: rng.random_range(-9..1 << 40),
        nsec: rng.random_range(0..1_000_000_000),
    };
    [None, Some(SetTime::Now), Some(SetTime::At(time))]
        .choose(rng)
        .copied()
        .flatten()
}

fn attr(rng: &mut StdRng) -> SetAttr {
    let mut set = SetAttr {
        kill_privileges: rng.random(),
        ..SetAttr::default()
    };
    for _ in 0..rng.random_range(1..3) {
        match rng.random_range(0..6) {
            0 => set.mode = Some(rng.random_range(0..0o10000)),
            1 => set.uid = Some(rng.random_range(0..9)),
            2 => set.gid = Some(rng.random_range(0..9)),
            3 => set.atime = time(rng),
            4 => set.mtime = time(rng),
            _ => set.size = Some(place(rng) * rng.random_range(1..3)),
        }
    }
    set
}

fn acl(rng: &mut StdRng) -> Option<Acl> {
    let mut perm = || rng.random_range(0..8);
    let entry = |tag, perm| AclEntry { tag, perm };
    let mut entries = vec![entry(Tag::UserObj, perm())];
    let named = perm() > 3;
    if named {
        entries.push(entry(Tag::User(7), perm()));
    }
    entries.push(entry(Tag::GroupObj, perm()));
    if named {
        entries.push(entry(Tag::Mask, perm()));
    }
    entries.push(entry(Tag::Other, perm()));
    (perm() > 0).then(|| Acl::new(entries).unwrap())
}

fn allocate(rng: &mut StdRng) -> Allocate {
    let keep_size = rng.random();
    match rng.random_range(0..3) {
        0 => Allocate::Reserve { keep_size },
        1 => Allocate::Punch,
        _ => Allocate::Zero { keep_size },
    }
}

fn xattr_name(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..12) {
        0 => b"ipfs.cid".to_vec(),
        1 => b"odd.name".to_vec(),
        pick => format!("user.{}", pick % 4).into_bytes(),
    }
}

/// The next operation.
pub(crate) fn op(rng: &mut StdRng, taste: &Taste) -> Op {
    if rng.random_ratio(1, taste.compare_every) {
        return Op::Compare;
    }
    if rng.random_ratio(1, taste.restart_every) {
        return match rng.random_range(0..8) {
            0 => Op::Sync,
            1..3 => Op::Checkpoint,
            3..5 => Op::CheckpointBeside,
            5 => Op::Reopen,
            _ => Op::Kill,
        };
    }
    match rng.random_range(0..100) {
        0..16 => {
            let (mode, umask) = (
                rng.random_range(0..0o10000),
                [0, 0o022, 0o077][rng.random_range(0..3)],
            );
            let (dir, name) = (who(rng, Who::Dir), name(rng, taste));
            Op::Make {
                dir,
                name,
                new: new(rng),
                mode,
                umask,
                hold: rng.random_ratio(1, 5),
            }
        }
        16..34 => {
            let (file, at, len) = (who(rng, Who::File), place(rng), len(rng));
            Op::Write {
                file,
                at,
                len,
                seed: rng.random(),
                kill: rng.random_ratio(1, 4),
            }
        }
        34..44 => Op::SetAttr {
            node: who(rng, Who::File),
            set: attr(rng),
        },
        44..50 => {
            let (file, what) = (who(rng, Who::File), allocate(rng));
            Op::Allocate {
                file,
                what,
                at: place(rng),
                len: len(rng),
            }
        }
        50..56 => {
            let (from, to) = (who(rng, Who::File), who(rng, Who::File));
            let (mut from_at, mut at, len) = (place(rng), place(rng), len(rng) * 3);
            if !taste.far {
                // Off the grid leaves are shared as they are, which is another tree.
                (from_at, at) = (from_at / CHUNK * CHUNK, at / CHUNK * CHUNK);
            }
            Op::Copy {
                from,
                from_at,
                to,
                at,
                len,
            }
        }
        56..62 => Op::Link {
            node: who(rng, Who::File),
            dir: who(rng, Who::Dir),
            name: name(rng, taste),
        },
        62..68 => Op::Unlink {
            dir: who(rng, Who::Dir),
            name: name(rng, taste),
        },
        68..71 => Op::Rmdir {
            dir: who(rng, Who::Dir),
            name: name(rng, taste),
        },
        71..81 => {
            let mode = match rng.random_range(0..5) {
                0 => RenameMode::NoReplace,
                1 => RenameMode::Exchange,
                _ => RenameMode::Replace,
            };
            let (dir, old) = (who(rng, Who::Dir), name(rng, taste));
            Op::Rename {
                dir,
                name: old,
                to: who(rng, Who::Dir),
                new: name(rng, taste),
                mode,
            }
        }
        81..84 => {
            let mode = match rng.random_range(0..5) {
                0 => XattrMode::Create,
                1 => XattrMode::Replace,
                _ => XattrMode::Set,
            };
            let len = if rng.random_ratio(1, 12) {
                40 << 10
            } else {
                rng.random_range(0..40)
            };
            Op::SetXattr {
                node: who(rng, Who::Any),
                name: xattr_name(rng),
                len,
                mode,
            }
        }
        84 => Op::RemoveXattr {
            node: who(rng, Who::Any),
            name: xattr_name(rng),
        },
        85 => Op::SetAcl {
            node: who(rng, Who::Any),
            access: rng.random(),
            list: acl(rng),
        },
        86..92 if taste.far => match rng.random_range(0..7) {
            0..2 => Op::Mount {
                dir: who(rng, Who::Dir),
                name: name(rng, taste),
                which: rng.random(),
            },
            2..4 => Op::MountAt {
                node: who(rng, Who::Any),
                which: rng.random(),
            },
            4..6 => Op::Unmount {
                dir: who(rng, Who::Dir),
                name: name(rng, taste),
            },
            _ => {
                let (which, to) = (rng.random(), who(rng, Who::File));
                let (from_at, at, len) = (place(rng) / 2, place(rng), len(rng) * 2);
                Op::CopyFar {
                    which,
                    from_at,
                    to,
                    at,
                    len,
                }
            }
        },
        86..90 => Op::Lookup {
            dir: who(rng, Who::Dir),
            name: name(rng, taste),
            hold: rng.random_ratio(1, 3),
        },
        90..94 => Op::Release { pick: rng.random() },
        94..97 => Op::Read {
            file: who(rng, Who::File),
            at: place(rng),
            len: len(rng),
        },
        97..99 => Op::Seek {
            file: who(rng, Who::File),
            at: place(rng),
        },
        _ => Op::Cid {
            node: who(rng, Who::Any),
        },
    }
}
