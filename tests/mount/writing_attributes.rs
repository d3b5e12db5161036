//! Owners, modes, times, attributes and ACLs of the writable tree, on a real mount.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use crate::writable::{Writable, fd, is_root, open};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A user who is not root.
const OTHER: &str = "setpriv --reuid=12345 --regid=12346 --clear-groups";

#[test]
fn every_bit_of_a_mode_is_kept() {
    let world = Writable::new();
    fs::write(world.path("f"), "").unwrap();
    fs::create_dir(world.path("d")).unwrap();
    for bits in [0o7777, 0o4755, 0o2711, 0o1777, 0o640, 0] {
        for name in ["f", "d"] {
            set_mode(&world.path(name), bits);
            assert_eq!(mode(&world.path(name)), bits, "{name}");
        }
    }
    world.sh("umask 027 && touch masked && mkdir masked-dir && ln -s x link");
    assert_eq!(mode(&world.path("masked")), 0o640);
    assert_eq!(mode(&world.path("masked-dir")), 0o750);
    assert_eq!(mode(&world.path("link")), 0o777);
}

#[test]
fn owners_are_who_made_it_and_permissions_are_checked() {
    if !is_root() {
        return;
    }
    let world = Writable::new();
    world.sh("mkdir open closed && chmod 1777 open && chmod 700 closed && touch open/root");
    world.sh(&format!("{OTHER} touch open/other"));
    let made = fs::metadata(world.path("open/other")).unwrap();
    assert_eq!((made.uid(), made.gid()), (12345, 12346));
    for refused in [
        "touch closed/x",
        "ls closed",
        "rm -f open/root",
        "chmod 777 open/root",
        "touch x",
    ] {
        let said = world.refused(&format!("{OTHER} {refused}"));
        assert!(said.contains("ermi"), "{refused}: {said}");
    }
    chown(world.path("open/other"), Some(7), None).unwrap();
    chown(world.path("open/other"), None, Some(8)).unwrap();
    let moved = fs::metadata(world.path("open/other")).unwrap();
    assert_eq!((moved.uid(), moved.gid()), (7, 8));
    world.sh("ln -s nowhere open/link && chown -h 9:10 open/link");
    let link = fs::symlink_metadata(world.path("open/link")).unwrap();
    assert_eq!((link.uid(), link.gid()), (9, 10));
}

#[test]
fn a_setgid_directory_hands_its_group_on() {
    if !is_root() {
        return;
    }
    let world = Writable::new();
    world.sh("mkdir shared && chgrp 500 shared && chmod 2777 shared && umask 022");
    world.sh(&format!(
        "cd shared && {OTHER} touch file && {OTHER} mkdir dir"
    ));
    let file = fs::metadata(world.path("shared/file")).unwrap();
    assert_eq!((file.gid(), file.mode() & 0o7777), (500, 0o644));
    let dir = fs::metadata(world.path("shared/dir")).unwrap();
    assert_eq!((dir.gid(), dir.mode() & 0o7777), (500, 0o2755));
}

#[test]
fn privileges_go_with_a_write_a_cut_or_a_new_owner() {
    if !is_root() {
        return;
    }
    let world = Writable::new();
    let path = world.path("f");
    let ways = [
        ("echo >> f", 0o0777),
        ("truncate -s 1 f", 0o0777),
        ("fallocate -l 9000 f", 0o0777),
        (
            "dd if=/dev/zero of=f bs=4096 count=1 oflag=direct conv=notrunc status=none",
            0o0777,
        ),
    ];
    for (way, left) in ways {
        fs::write(&path, "twelve bytes").unwrap();
        set_mode(&path, 0o6777);
        world.sh(&format!("{OTHER} sh -c '{way}'"));
        assert_eq!(mode(&path), left, "{way}");
        // Without asking for it first: what `exec` would go by.
        set_mode(&path, 0o6777);
        world.sh(&format!(
            "{OTHER} sh -c '{way}' && sleep 0.1 && {OTHER} test ! -u f"
        ));
    }
    // Root may write and keep them; a new owner never does.
    set_mode(&path, 0o6777);
    world.sh("echo >> f && truncate -s 5 f");
    assert_eq!(mode(&path), 0o6777);
    chown(&path, Some(3), None).unwrap();
    assert_eq!(mode(&path), 0o0777);
    // setgid without execution by the group is no privilege for who is in the group.
    for (group, left) in [(12346, 0o2767), (500, 0o0767)] {
        for way in ["echo >> f", "truncate -s 3 f", "fallocate -l 9000 f"] {
            chown(&path, Some(3), Some(group)).unwrap();
            set_mode(&path, 0o2767);
            world.sh(&format!("{OTHER} sh -c '{way}'"));
            assert_eq!(mode(&path), left, "{group}, {way}");
        }
    }
    // Directories keep theirs.
    fs::create_dir(world.path("d")).unwrap();
    set_mode(&world.path("d"), 0o6777);
    chown(world.path("d"), Some(3), Some(4)).unwrap();
    assert_eq!(mode(&world.path("d")), 0o6777);
}

#[test]
fn times_are_kept_to_the_nanosecond_also_before_the_epoch() {
    let world = Writable::new();
    let path = world.path("f");
    fs::write(&path, "x").unwrap();
    let set = |access: (i64, i64), modified: (i64, i64)| {
        let spec = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: spec(access),
            last_modification: spec(modified),
        };
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let meta = fs::metadata(&path).unwrap();
        (
            (meta.atime(), meta.atime_nsec()),
            (meta.mtime(), meta.mtime_nsec()),
        )
    };
    for pair in [
        ((1_234_567_890, 123_456_789), (1, 1)),
        ((-1, 999_999_999), (-7, 1)),
        ((-100, 0), (0, 0)),
        ((1 << 33, 5), (1 << 34, 999_999_999)),
    ] {
        assert_eq!(set(pair.0, pair.1), pair);
    }
    let omit = (0, UTIME_OMIT);
    assert_eq!(set((7, 7), omit), ((7, 7), (1 << 34, 999_999_999)));
    let (access, modified) = set(omit, (0, UTIME_NOW));
    assert_eq!(access, (7, 7));
    assert!(modified.0 > 1_600_000_000 && modified.0 < 1 << 33);
    // Reading changes nothing, and writing the times that it should.
    let before = fs::metadata(&path).unwrap();
    fs::read(&path).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(fs::metadata(&path).unwrap().atime(), before.atime());
    fs::write(&path, "more").unwrap();
    let after = fs::metadata(&path).unwrap();
    let stamp = |meta: &fs::Metadata| (meta.mtime(), meta.mtime_nsec());
    assert!(stamp(&after) > stamp(&before));
    assert_eq!(after.atime(), before.atime());
    let dir = fs::metadata(&world.mfs).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(world.path("g"), "").unwrap();
    assert!(stamp(&fs::metadata(&world.mfs).unwrap()) > stamp(&dir));
}

#[test]
fn extended_attributes_are_set_listed_and_removed() {
    let world = Writable::new();
    world.sh("touch f && setfattr -n user.one -v first f && setfattr -n user.two -v 0x00ff f");
    assert_eq!(world.sh("getfattr -n user.one --only-values f"), "first");
    assert_eq!(
        world.sh("getfattr -e hex -n user.two f | grep user"),
        "user.two=0x00ff\n"
    );
    assert_eq!(world.sh("getfattr f | grep -c user"), "2\n");
    world.sh("setfattr -n user.one -v second f && setfattr -x user.two f");
    assert_eq!(
        world.sh("getfattr -d f | grep user"),
        "user.one=\"second\"\n"
    );
    assert!(
        world
            .refused("getfattr -n user.two f")
            .contains("No such attribute")
    );
    assert!(
        world
            .refused("setfattr -x user.two f")
            .contains("No such attribute")
    );
    assert!(
        world
            .refused("setfattr -n other.x -v 1 f")
            .contains("not supported")
    );
    for way in ["getfattr -n other.x f", "setfattr -x other.x f"] {
        assert!(world.refused(way).contains("not supported"), "{way}");
    }
    assert!(
        world
            .refused("setfattr -n ipfs.cid -v 1 f")
            .contains("not permitted")
    );
    let (file, name) = (open(&world.path("f")), c"user.flagged");
    let set = |flags| rustix::fs::fsetxattr(&file, name, b"value", flags);
    use rustix::fs::XattrFlags as Flags;
    assert_eq!(set(Flags::REPLACE), Err(rustix::io::Errno::NODATA));
    set(Flags::CREATE).unwrap();
    assert_eq!(set(Flags::CREATE), Err(rustix::io::Errno::EXIST));
    set(Flags::REPLACE).unwrap();
    let mut short = [0u8; 3];
    let refused = rustix::fs::fgetxattr(&file, name, &mut short);
    assert_eq!(refused, Err(rustix::io::Errno::RANGE));
    // SAFETY: the file is open, and no bytes are asked for.
    #[allow(unsafe_code)]
    let size = unsafe { libc::fgetxattr(fd(&file), name.as_ptr(), std::ptr::null_mut(), 0) };
    assert_eq!(size, 5);
    world.sh("mkdir d && setfattr -n user.d -v x d && getfattr -n user.d d");
    if is_root() {
        world.sh("setfattr -n trusted.t -v x f && getfattr -d -m - f | grep -q trusted.t");
        world.sh(&format!("! {OTHER} getfattr -d -m - f | grep trusted.t"));
    }
    world.sh("cp --preserve=all f g && getfattr -n user.one g");
}

#[test]
fn what_the_daemon_tells_is_answered_and_never_listed() {
    let world = Writable::new();
    world.sh("echo text > f && mkdir d && cp f d");
    let cid = world.sh("getfattr -n ipfs.cid --only-values f");
    assert_eq!(world.sh("getfattr -n ipfs.cid --only-values d/f"), cid);
    assert_eq!(world.sh(&format!("cat \"$T/ipfs/{cid}\"")), "text\n");
    let tree = world.sh("getfattr -n ipfs.cid --only-values d");
    assert_eq!(world.sh(&format!("cat \"$T/ipfs/{tree}/f\"")), "text\n");
    assert_eq!(world.sh("getfattr -d -m - f d | wc -c"), "0\n");
}

#[test]
fn acls_are_kept_enforced_and_in_step_with_the_mode() {
    if !is_root() {
        return;
    }
    let world = Writable::new();
    world.sh("echo secret > f && chmod 640 f");
    // To have none is no error, as on local file systems.
    world.sh("setfattr -x system.posix_acl_access f && setfattr -x system.posix_acl_default f");
    world.refused(&format!("{OTHER} cat f"));
    world.sh("setfacl -m u:12345:r f");
    world.sh(&format!("{OTHER} cat f"));
    assert!(world.sh("getfacl -cn f").contains("user:12345:r--"));
    // The mask is the group's part of the mode, both ways.
    world.sh("setfacl -m m::rwx f");
    assert_eq!(mode(&world.path("f")), 0o670);
    set_mode(&world.path("f"), 0o600);
    let acl = world.sh("getfacl -cn f");
    assert!(
        acl.contains("mask::---") && acl.contains("user:12345:r--"),
        "{acl}"
    );
    world.refused(&format!("{OTHER} cat f"));
    world.sh("setfacl -b f && chmod 644 f");
    world.sh(&format!("{OTHER} cat f"));
    assert_eq!(world.sh("getfattr -d -m - f | wc -c"), "0\n");
}

#[test]
fn default_acls_are_handed_on_instead_of_the_umask() {
    let world = Writable::new();
    world.sh("mkdir d && setfacl -d -m u::rwx,u:12345:rwx,g::rx,o::- d && umask 077");
    world.sh("umask 077 && touch d/file && mkdir d/dir && umask 022 && touch plain");
    let file = world.sh("getfacl -cn d/file");
    assert!(
        file.contains("user:12345:rwx") && file.contains("mask::rw-"),
        "{file}"
    );
    assert!(file.contains("other::---"), "{file}");
    let dir = world.sh("getfacl -cn d/dir");
    assert!(dir.contains("default:user:12345:rwx"), "{dir}");
    assert!(dir.contains("mask::rwx"), "{dir}");
    assert_eq!(mode(&world.path("plain")), 0o644);
    world.sh("setfacl -k d && touch d/later");
    assert!(!world.sh("getfacl -cn d/later").contains("12345"));
}

#[test]
fn content_is_mounted_by_attribute_for_root_and_who_mounted_alone() {
    if !is_root() {
        return;
    }
    let world = Writable::new();
    world.sh("mkdir source open && echo hello > source/a && chmod 777 open");
    world.sh(&format!("{OTHER} mkdir open/mine"));
    let cid = world.sh("getfattr --only-values -n ipfs.cid source");
    for command in ["-n cidfs.mount -v {}", "-x cidfs.mount"] {
        let command = command.replace("{}", &cid);
        let said = world.refused(&format!("{OTHER} setfattr {command} open/mine"));
        assert!(said.contains("not permitted"), "{said}");
    }
    world.sh(&format!("{OTHER} touch open/mine/still-his"));
    // Root takes away what root has mounted, and the kernel sees it.
    world.sh(&format!("mkdir g && setfattr -n cidfs.mount -v {cid} g"));
    world.sh("setfattr -x cidfs.mount g");
    world.sh("for i in $(seq 100); do [ -e g ] || break; sleep 0.05; done; [ ! -e g ]");
}

#[test]
fn an_attribute_mounts_a_cid_at_an_empty_directory_or_file_and_the_kernel_sees_it() {
    let world = Writable::new();
    world.sh("mkdir source g && echo hello > source/a && touch h");
    assert_eq!(world.sh("ls g; cat h"), "");
    world.sh("setfattr -n cidfs.mount -v $(getfattr --only-values -n ipfs.cid source) g");
    world.sh("setfattr -n cidfs.mount -v $(getfattr --only-values -n ipfs.cid source/a) h");
    let seen = "for i in $(seq 100); do [ \"$(cat g/a h 2>&1)\" = \"$(printf 'hello\\nhello')\" ] && break; sleep 0.05; done";
    world.sh(seen);
    assert_eq!(world.sh("ls g; cat g/a h"), "a\nhello\nhello\n");
    assert_eq!(world.sh("stat -c %s h"), "6\n");
    let taken = world
        .refused("setfattr -n cidfs.mount -v $(getfattr --only-values -n ipfs.cid source) source");
    assert!(taken.contains("not empty"), "{taken}");
}

#[test]
fn times_at_both_ends_of_what_a_program_can_say_are_kept() {
    let world = Writable::new();
    fs::write(world.path("f"), "x").unwrap();
    for seconds in [i64::MIN, i64::MIN + 1, -1, i64::MAX] {
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: 5,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, world.path("f"), &times, AtFlags::empty()).unwrap();
        let now = fs::metadata(world.path("f")).unwrap();
        assert_eq!((now.mtime(), now.atime()), (seconds, seconds));
    }
    // All threads of the mount are still there.
    for _ in 0..64 {
        fs::write(world.path("f"), "y").unwrap();
    }
}
