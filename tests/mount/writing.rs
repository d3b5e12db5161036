//! Files and names of the writable tree, on a real mount.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;

use crate::world::{noise, text};
use crate::writable::{Writable, checked, errno, fd, is_root, names, open};

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

#[test]
fn what_is_written_is_read_wherever_it_is_written() {
    let world = Writable::new();
    let path = world.path("file");
    let file = open(&path);
    let mut model = vec![0u8; 3 << 20];
    for round in 0..200u64 {
        let len = (round * 7919 % 70_000) as usize + 1;
        let at = round * 104_729 % (model.len() - len) as u64;
        let bytes = noise(len, round);
        file.write_all_at(&bytes, at).unwrap();
        model[at as usize..at as usize + len].copy_from_slice(&bytes);
        let mut back = vec![0; len];
        file.read_exact_at(&mut back, at).unwrap();
        assert_eq!(back, bytes, "round {round}");
    }
    file.set_len(model.len() as u64).unwrap();
    assert_eq!(fs::read(&path).unwrap(), model);
    file.sync_all().unwrap();
    drop(file);
    // Past the page cache, what the daemon has.
    rustix::fs::fadvise(
        File::open(&path).unwrap(),
        0,
        None,
        rustix::fs::Advice::DontNeed,
    )
    .unwrap();
    assert_eq!(fs::read(&path).unwrap(), model);
}

#[test]
fn files_are_opened_as_their_flags_say() {
    let world = Writable::new();
    let path = world.path("file");
    fs::write(&path, "old").unwrap();
    let new = OpenOptions::new().write(true).create_new(true).open(&path);
    assert_eq!(errno(new), libc::EEXIST);
    let mut ends = OpenOptions::new();
    let ends = ends.append(true);
    let (mut one, mut two) = (ends.open(&path).unwrap(), ends.open(&path).unwrap());
    one.write_all(b"+1").unwrap();
    two.write_all(b"+2").unwrap();
    one.write_all(b"+3").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old+1+2+3");
    let mut cut = OpenOptions::new();
    let cut = cut.write(true).truncate(true).open(&path).unwrap();
    assert_eq!(cut.metadata().unwrap().len(), 0);
    assert_eq!(fs::read(&path).unwrap(), b"");
    // What was just made may be written whatever its mode.
    let closed = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o0)
        .open(world.path("closed"));
    closed.unwrap().write_all(b"x").unwrap();
    assert_eq!(errno(File::open(world.path("absent"))), libc::ENOENT);
    let below = File::open(world.path("closed/below"));
    assert_eq!(errno(below), libc::ENOTDIR);
    let nameless = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(&world.mfs);
    assert_eq!(errno(nameless), libc::EOPNOTSUPP);
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    let world = Writable::new();
    let path = world.path("gone");
    let mut file = open(&path);
    file.write_all(b"before").unwrap();
    fs::remove_file(&path).unwrap();
    assert!(!path.exists());
    file.write_all(b" and after").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut back = String::new();
    file.read_to_string(&mut back).unwrap();
    assert_eq!(back, "before and after");
    let meta = file.metadata().unwrap();
    assert_eq!((meta.nlink(), meta.len()), (0, 16));
    file.set_len(3).unwrap();
    file.sync_all().unwrap();
    // The name is free, and another file.
    fs::write(&path, "new").unwrap();
    assert_ne!(fs::metadata(&path).unwrap().ino(), meta.ino());
}

#[test]
fn hard_links_are_one_file() {
    let world = Writable::new();
    let (one, two) = (world.path("one"), world.path("dir/two"));
    fs::create_dir(world.path("dir")).unwrap();
    fs::write(&one, "shared").unwrap();
    fs::hard_link(&one, &two).unwrap();
    let (first, second) = (fs::metadata(&one).unwrap(), fs::metadata(&two).unwrap());
    assert_eq!(first.ino(), second.ino());
    assert_eq!((first.nlink(), second.nlink()), (2, 2));
    fs::write(&two, "changed").unwrap();
    assert_eq!(fs::read_to_string(&one).unwrap(), "changed");
    fs::remove_file(&one).unwrap();
    assert_eq!(fs::metadata(&two).unwrap().nlink(), 1);
    assert_eq!(errno(fs::hard_link(&two, &two)), libc::EEXIST);
    let directory = fs::hard_link(world.path("dir"), world.path("again"));
    assert_eq!(errno(directory), libc::EPERM);
}

#[test]
fn renames_replace_refuse_or_exchange() {
    let world = Writable::new();
    let (a, b) = (world.path("a"), world.path("b"));
    let rename = |flags: u32| {
        let (from, to) = (c(&a), c(&b));
        // SAFETY: both paths are C strings that outlive the call.
        #[allow(unsafe_code)]
        let code = unsafe {
            libc::renameat2(
                libc::AT_FDCWD,
                from.as_ptr(),
                libc::AT_FDCWD,
                to.as_ptr(),
                flags,
            )
        };
        checked(code.into())
    };
    fs::write(&a, "a").unwrap();
    fs::write(&b, "b").unwrap();
    assert_eq!(errno(rename(libc::RENAME_NOREPLACE)), libc::EEXIST);
    rename(libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(fs::read_to_string(&a).unwrap(), "b");
    assert_eq!(errno(rename(libc::RENAME_WHITEOUT)), libc::EINVAL);
    rename(0).unwrap();
    assert_eq!(names(&world.mfs), ["b"]);
    assert_eq!(errno(rename(libc::RENAME_EXCHANGE)), libc::ENOENT);
    rename(0).unwrap_err();
    fs::create_dir_all(world.path("d/e")).unwrap();
    fs::create_dir(&a).unwrap();
    assert_eq!(errno(fs::rename(&a, world.path("d"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::rename(&a, &b)), libc::ENOTDIR);
    assert_eq!(errno(fs::rename(&b, &a)), libc::EISDIR);
    let inside = fs::rename(world.path("d"), world.path("d/e/f"));
    assert_eq!(errno(inside), libc::EINVAL);
    fs::rename(&a, world.path("d/e")).unwrap();
    assert_eq!(names(&world.path("d")), ["e"]);
    fs::rename(world.path("d/e"), world.path("up")).unwrap();
    assert_eq!(world.sh("cd up && cd .. && ls").trim(), "b\nd\nup");
}

#[test]
fn directories_list_every_entry_once_while_they_change() {
    let world = Writable::new();
    let dir = world.path("many");
    fs::create_dir(&dir).unwrap();
    let wanted: BTreeSet<String> = (0..3000).map(|n| format!("entry number {n}")).collect();
    for name in &wanted {
        File::create(dir.join(name)).unwrap();
    }
    assert_eq!(names(&dir), wanted.iter().cloned().collect::<Vec<_>>());
    // Removing what was just listed skips nothing.
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        fs::remove_file(entry.path()).unwrap();
        assert!(seen.insert(entry.file_name().into_string().unwrap()));
    }
    assert_eq!(seen, wanted);
    fs::create_dir(dir.join("last")).unwrap();
    assert_eq!(errno(fs::remove_dir(&dir)), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_file(dir.join("last"))), libc::EISDIR);
    fs::remove_dir(dir.join("last")).unwrap();
    fs::remove_dir(&dir).unwrap();
    assert!(names(&world.mfs).is_empty());
    world.sh("mkdir -p t/a/b/c && touch t/a/b/{1..600} && rm -r t && test ! -e t");
}

#[test]
fn holes_are_found_made_and_filled() {
    let world = Writable::new();
    let file = open(&world.path("sparse"));
    file.write_all_at(b"start", 0).unwrap();
    file.write_all_at(b"end", 8 << 20).unwrap();
    let seek = |at: i64, whence| {
        // SAFETY: the file is open.
        #[allow(unsafe_code)]
        checked(unsafe { libc::lseek(fd(&file), at, whence) })
    };
    let end = (8 << 20) + 3;
    assert_eq!(seek(0, libc::SEEK_DATA).unwrap(), 0);
    let hole = seek(0, libc::SEEK_HOLE).unwrap();
    assert!((5..8 << 20).contains(&hole), "{hole}");
    let data = seek(hole, libc::SEEK_DATA).unwrap();
    assert!(data > hole && data <= 8 << 20, "{data}");
    assert_eq!(seek(8 << 20, libc::SEEK_HOLE).unwrap(), end);
    assert_eq!(errno(seek(end, libc::SEEK_DATA)), libc::ENXIO);
    assert!(file.metadata().unwrap().blocks() < 4096);
    let change = |mode, at, len| {
        // SAFETY: the file is open.
        #[allow(unsafe_code)]
        checked(unsafe { libc::fallocate(fd(&file), mode, at, len) }.into())
    };
    let (keep, punch) = (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_PUNCH_HOLE);
    change(keep | punch, 1, 3).unwrap();
    let mut start = [9; 6];
    file.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(&start, b"s\0\0\0t\0");
    change(keep, 0, 20 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), end as u64);
    change(libc::FALLOC_FL_ZERO_RANGE, 8 << 20, 100).unwrap();
    assert_eq!(file.metadata().unwrap().len(), (8 << 20) + 100);
    change(0, 0, 9 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 9 << 20);
    for moves in [libc::FALLOC_FL_COLLAPSE_RANGE, libc::FALLOC_FL_INSERT_RANGE] {
        assert_eq!(errno(change(moves, 0, 4096)), libc::EOPNOTSUPP);
    }
    let mut all = Vec::new();
    (&file).read_to_end(&mut all).unwrap();
    file.set_len(3).unwrap();
    file.set_len(10).unwrap();
    assert_eq!(
        fs::read(world.path("sparse")).unwrap(),
        b"s\0\0\0\0\0\0\0\0\0"
    );
}

#[test]
fn a_file_of_content_has_no_holes_and_one_end() {
    let world = Writable::new();
    fs::write(world.native().join("f"), noise(100_000, 3)).unwrap();
    let cid = text(&world.cidfs(&["add", "-Q", world.native().join("f").to_str().unwrap()]));
    let file = File::open(world.top.join("ipfs").join(cid.trim())).unwrap();
    let seek = |at: i64, whence| {
        // SAFETY: the file is open.
        #[allow(unsafe_code)]
        checked(unsafe { libc::lseek(fd(&file), at, whence) })
    };
    assert_eq!(seek(7, libc::SEEK_DATA).unwrap(), 7);
    assert_eq!(seek(7, libc::SEEK_HOLE).unwrap(), 100_000);
    assert_eq!(errno(seek(100_000, libc::SEEK_HOLE)), libc::ENXIO);
}

#[test]
fn stores_through_a_mapping_are_in_the_file() {
    let world = Writable::new();
    let path = world.path("mapped");
    let file = open(&path);
    file.set_len(3 * 4096).unwrap();
    // SAFETY: the mapping is of an open file, as long as it, and is
    // unmapped before the end; nobody else refers to its bytes.
    #[allow(unsafe_code)]
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            3 * 4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd(&file),
            0,
        );
        assert_ne!(at, libc::MAP_FAILED);
        let bytes = at.cast::<u8>();
        bytes.add(5).write(b'x');
        bytes.add(2 * 4096 + 1).write(b'y');
        assert_eq!(libc::msync(at, 3 * 4096, libc::MS_SYNC), 0);
        bytes.add(4096).write(b'z');
        assert_eq!(libc::munmap(at, 3 * 4096), 0);
    }
    file.sync_all().unwrap();
    drop(file);
    let bytes = fs::read(&path).unwrap();
    let set: Vec<_> = bytes.iter().enumerate().filter(|(_, b)| **b != 0).collect();
    assert_eq!(set, [(5, &b'x'), (4096, &b'z'), (2 * 4096 + 1, &b'y')]);
}

#[test]
fn copies_inside_the_mount_are_whole() {
    let world = Writable::new();
    let bytes = noise(5_000_001, 9);
    fs::write(world.native().join("f"), &bytes).unwrap();
    let cid = text(&world.cidfs(&["add", "-Q", world.native().join("f").to_str().unwrap()]));
    let content = world.top.join("ipfs").join(cid.trim());
    let copy = |from: &Path, to: &Path, (at, len): (i64, usize)| {
        let (from, to) = (File::open(from).unwrap(), open(to));
        let (mut source, mut target) = (at, 0);
        let mut left = len;
        while left > 0 {
            // SAFETY: both files are open and the offsets outlive the call.
            #[allow(unsafe_code)]
            let copied = checked(unsafe {
                libc::copy_file_range(fd(&from), &mut source, fd(&to), &mut target, left, 0)
            } as i64)
            .unwrap();
            if copied == 0 {
                break;
            }
            left -= copied as usize;
        }
        len - left
    };
    let (first, second) = (world.path("first"), world.path("second"));
    assert_eq!(copy(&content, &first, (0, usize::MAX >> 1)), bytes.len());
    assert_eq!(fs::read(&first).unwrap(), bytes);
    assert_eq!(copy(&first, &second, (1_000_000, 2_000_000)), 2_000_000);
    assert_eq!(fs::read(&second).unwrap(), bytes[1_000_000..3_000_000]);
    // A changed copy leaves its source alone.
    open(&first).write_all_at(b"changed", 17).unwrap();
    assert_eq!(fs::read(&content).unwrap(), bytes);
    world.sh("cp --reflink=auto first third && cmp first third && cp -a third fourth");
    // From outside, and out of it, the kernel copies.
    world.sh(r#"cp "$N/f" fifth && cmp "$N/f" fifth && cp fifth "$N/g" && cmp "$N/f" "$N/g""#);
}

#[test]
fn names_are_bytes_up_to_255_of_them() {
    let world = Writable::new();
    let longest = world.path(&"n".repeat(255));
    fs::write(&longest, "x").unwrap();
    assert_eq!(fs::read(&longest).unwrap(), b"x");
    let longer = world.path(&"n".repeat(256));
    assert_eq!(errno(fs::write(&longer, "x")), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(&longer)), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::rename(&longest, &longer)), libc::ENAMETOOLONG);
    let raw = world
        .mfs
        .join(std::ffi::OsStr::from_bytes(b"\xff\xfe\x80 \n"));
    fs::create_dir(&raw).unwrap();
    let listed = fs::read_dir(&world.mfs).unwrap();
    let listed: Vec<_> = listed.map(|e| e.unwrap().path()).collect();
    assert!(listed.contains(&raw), "{listed:?}");
    let target = "t".repeat(4000);
    symlink(&target, world.path("link")).unwrap();
    let link = world.path("link");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new(&target));
    assert_eq!(fs::symlink_metadata(&link).unwrap().len(), 4000);
}

#[test]
fn special_files_do_what_they_are_for() {
    let world = Writable::new();
    world.sh("mkfifo pipe && (echo through > pipe &) && test \"$(cat pipe)\" = through");
    assert!(
        fs::metadata(world.path("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let socket = world.path("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut near = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    near.write_all(b"hello").unwrap();
    drop(near);
    let mut said = String::new();
    listener
        .accept()
        .unwrap()
        .0
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "hello");
    if !is_root() {
        return;
    }
    world.sh("mknod null c 1 3 && mknod disk b 259 70000");
    assert_eq!(world.sh("stat -c %t:%T null disk"), "1:3\n103:11170\n");
    world.sh("echo gone > null && test ! -s null");
    let kind = fs::metadata(world.path("disk")).unwrap().file_type();
    assert!(kind.is_block_device());
}

#[test]
fn locks_exclude_each_other() {
    let world = Writable::new();
    world.sh("touch f && flock f true");
    world.sh("flock f sh -c '! flock -n f true' && flock -n f true");
    let (one, two) = (open(&world.path("f")), open(&world.path("f")));
    let lock = |file: &File, start| {
        let wanted = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: start,
            l_len: 10,
            l_pid: 0,
        };
        // SAFETY: the file is open and the description outlives the call.
        #[allow(unsafe_code)]
        checked(unsafe { libc::fcntl(fd(file), libc::F_OFD_SETLK, &wanted) }.into())
    };
    lock(&one, 0).unwrap();
    assert_eq!(errno(lock(&two, 5)), libc::EAGAIN);
    lock(&two, 10).unwrap();
    drop(one);
    lock(&two, 0).unwrap();
}

#[test]
fn the_file_system_says_how_large_it_is() {
    let world = Writable::new();
    let found = rustix::fs::statvfs(&world.mfs).unwrap();
    assert_eq!(found.f_namemax, 255);
    assert!(found.f_blocks > 0 && found.f_bavail > 0 && found.f_ffree > 0);
    let file = open(&world.path("f"));
    let far = file.write_all_at(b"x", i64::MAX as u64 - 1);
    assert_eq!(errno(far), libc::EFBIG);
    let mut error = io::Error::from_raw_os_error(0);
    if let Err(refused) = file.set_len(i64::MAX as u64) {
        error = refused;
    }
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
}
