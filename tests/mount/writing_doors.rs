//! The writable tree through several doors: mounts, control, the namespaces beside it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use cidfs::car::CarWriter;
use cidfs::testing::dag::Dag;

use crate::world::{noise, text};
use crate::writable::{Writable, errno, fd, is_root, names, open, within_a_second};

#[test]
fn two_mounts_see_each_others_changes() {
    let world = Writable::new();
    let (here, there) = (
        world.mfs.clone(),
        world.mount("/mfs", "second", "allow_other"),
    );
    // All that can be kept is: a file's bytes, its attributes, that a name is
    // absent, a listing.
    fs::write(here.join("f"), "first").unwrap();
    within_a_second("a new file", || there.join("f").exists());
    assert_eq!(fs::read_to_string(there.join("f")).unwrap(), "first");
    assert_eq!(names(&there), ["f"]);
    assert!(!there.join("g").exists());
    fs::write(here.join("f"), "second, and longer").unwrap();
    within_a_second("new bytes", || {
        fs::read_to_string(there.join("f")).unwrap() == "second, and longer"
    });
    open(&here.join("f")).write_all_at(b"S", 0).unwrap();
    within_a_second("bytes of the same length", || {
        fs::read(there.join("f")).unwrap().starts_with(b"S")
    });
    fs::set_permissions(here.join("f"), fs::Permissions::from_mode(0o604)).unwrap();
    within_a_second("a mode", || {
        fs::metadata(there.join("f")).unwrap().mode() & 0o777 == 0o604
    });
    fs::rename(here.join("f"), here.join("g")).unwrap();
    within_a_second("a rename", || {
        there.join("g").exists() && !there.join("f").exists()
    });
    within_a_second("a listing", || names(&there) == ["g"]);
    fs::create_dir_all(there.join("d/e")).unwrap();
    within_a_second("a directory", || here.join("d/e").is_dir());
    fs::remove_dir(here.join("d/e")).unwrap();
    within_a_second("its end", || names(&there.join("d")).is_empty());
    fs::remove_file(there.join("g")).unwrap();
    within_a_second("a removal", || !here.join("g").exists());
    // Numbers are the same through both.
    let ino = |path: &std::path::Path| fs::metadata(path).unwrap().ino();
    assert_eq!(ino(&here.join("d")), ino(&there.join("d")));
}

#[test]
fn appends_through_two_mounts_land_at_the_end_of_the_file() {
    let world = Writable::new();
    let there = world.mount("/mfs", "second", "allow_other");
    fs::write(world.path("log"), "").unwrap();
    within_a_second("the file", || there.join("log").exists());
    let append = |path: &std::path::Path| {
        let mut options = fs::OpenOptions::new();
        options.append(true).open(path).unwrap()
    };
    let mut doors = [append(&world.path("log")), append(&there.join("log"))];
    let mut all = Vec::new();
    for round in 0..200 {
        // Whoever writes does not ask how long the file is by now.
        let mut line = format!("{round} ").into_bytes();
        line.extend(noise(round * 37 % 9000, round as u64 + 1));
        doors[round % 2].write_all(&line).unwrap();
        all.extend(line);
    }
    // A chunk at a time, and more than a chunk.
    for (round, len) in [1 << 20, 1 << 20, 1 << 20, 3_000_000]
        .into_iter()
        .enumerate()
    {
        let bytes = noise(len, round as u64 + 1000);
        doors[round % 2].write_all(&bytes).unwrap();
        all.extend(bytes);
    }
    for dir in [&world.mfs, &there] {
        within_a_second("what both wrote", || {
            fs::read(dir.join("log")).unwrap() == all
        });
    }
    // A place that is asked for is kept.
    let mut plain = open(&there.join("log"));
    plain.write_all(b"first").unwrap();
    within_a_second("a write in its place", || {
        fs::read(world.path("log")).unwrap().starts_with(b"first")
    });
    assert_eq!(
        fs::metadata(world.path("log")).unwrap().len(),
        all.len() as u64
    );
}

#[test]
fn who_still_uses_a_detached_mount_sees_what_others_change() {
    let world = Writable::new();
    let there = world.mount("/mfs", "second", "allow_other");
    fs::write(world.path("f"), "first").unwrap();
    within_a_second("the file", || there.join("f").exists());
    let (file, dir) = (open(&there.join("f")), fs::File::open(&there).unwrap());
    assert_eq!(file.metadata().unwrap().len(), 5);
    world.cidfs(&["umount", "--lazy", there.to_str().unwrap()]);
    fs::write(world.path("f"), "second, and longer").unwrap();
    within_a_second("new bytes", || {
        let mut all = [0; 18];
        file.metadata().unwrap().len() == 18
            && file.read_exact_at(&mut all, 0).is_ok()
            && &all == b"second, and longer"
    });
    let through = std::path::PathBuf::from(format!("/proc/self/fd/{}", fd(&dir)));
    assert_eq!(names(&through), ["f"]);
    fs::rename(world.path("f"), world.path("g")).unwrap();
    within_a_second("a listing", || names(&through) == ["g"]);
    // Another mount takes its place, and the daemon ends under both.
    let again = world.command(&[
        "mount",
        "-o",
        "allow_other",
        "/mfs",
        there.to_str().unwrap(),
    ]);
    crate::world::good(&mut { again });
    assert_eq!(names(&there), ["g"]);
    world.cidfs(&["shutdown", "--force"]);
}

/// A repository whose only source takes questions and never answers, and the
/// listener that does so.
fn with_a_silent_source(temp: &std::path::Path) -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = format!("[[source]]\nkind = \"gateway\"\nurl = \"http://{address}\"\n");
    fs::write(temp.join("config.toml"), config).unwrap();
    listener
}

#[test]
fn a_lookup_that_hangs_holds_up_the_notices_of_its_own_directory_only() {
    let temp = tempfile::tempdir().unwrap();
    let _listener = with_a_silent_source(temp.path());
    let world = Writable::at(temp.path(), "allow_other,deadline=20");
    let mut dag = Dag::default();
    let leaf = dag.leaf("leaf");
    let far = dag.directory(&[("leaf", leaf)]);
    let root = dag.directory(&[("far", far)]);
    let car = world.native().join("root.car");
    let mut writer = CarWriter::new(fs::File::create(&car).unwrap(), &[root]).unwrap();
    let block = dag
        .blocks
        .iter()
        .find(|block| *block.cid() == root)
        .unwrap();
    writer.write(block).unwrap();
    drop(writer);
    world.cidfs(&["import", "--pin-roots=false", car.to_str().unwrap()]);
    world.cidfs(&["tree", "mount", &root.to_string(), "/x"]);
    let write = |text: &str| {
        let file = world.native().join("text");
        fs::write(&file, text).unwrap();
        world.cidfs(&["tree", "write", "/f", file.to_str().unwrap()]);
    };
    write("before");
    let name = world.path("x/far");
    let mut hanging = std::process::Command::new("stat")
        .arg(name)
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    // Its directory cannot be told of this while the lookup goes on.
    world.cidfs(&["tree", "mkdir", "/x/new"]);
    for round in 0..10 {
        let before = fs::read_to_string(world.path("f")).unwrap();
        let text = format!("round {round}");
        assert_ne!(before, text);
        write(&text);
        assert_eq!(fs::read_to_string(world.path("f")).unwrap(), text);
    }
    assert!(
        hanging.try_wait().unwrap().is_none(),
        "it hung all the time"
    );
    hanging.kill().unwrap();
    hanging.wait().unwrap();
    within_a_second("what was told late", || world.path("x/new").is_dir());
    // Who waits when the daemon ends is answered, and the daemon does end.
    let name = world.path("x/far");
    let mut hanging = std::process::Command::new("stat")
        .arg(name)
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    world.cidfs(&["tree", "mkdir", "/x/newer"]);
    let begin = std::time::Instant::now();
    world.cidfs(&["shutdown", "--force"]);
    assert!(!hanging.wait().unwrap().success());
    assert!(begin.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn an_open_file_is_read_as_others_change_it() {
    let world = Writable::new();
    let there = world.mount("/mfs", "second", "allow_other");
    let mut writer = open(&world.path("log"));
    writer.write_all(b"0\n").unwrap();
    within_a_second("the file", || there.join("log").exists());
    let reader = open(&there.join("log"));
    for line in 1..200 {
        writeln!(writer, "{line}").unwrap();
        let wanted = format!("\n{line}\n");
        within_a_second("a line", || {
            let len = reader.metadata().unwrap().len() as usize;
            let mut all = vec![0; len];
            reader.read_exact_at(&mut all, 0).is_ok() && all.ends_with(wanted.as_bytes())
        });
    }
    fs::remove_file(world.path("log")).unwrap();
    within_a_second("its end", || reader.metadata().unwrap().nlink() == 0);
    assert!(reader.metadata().unwrap().len() > 500);
}

#[test]
fn a_directory_of_the_tree_can_be_a_mount_of_its_own() {
    let world = Writable::new();
    world.sh("mkdir -p a/b && echo inside > a/b/f");
    let part = world.mount("/mfs/a/b", "part", "allow_other");
    assert_eq!(names(&part), ["f"]);
    fs::write(part.join("g"), "from the part").unwrap();
    within_a_second("a file of the part", || {
        fs::read_to_string(world.path("a/b/g")).is_ok_and(|t| t == "from the part")
    });
    assert_eq!(names(&part), ["f", "g"]);
    fs::remove_file(world.path("a/b/f")).unwrap();
    within_a_second("a removal", || names(&part) == ["g"]);
    // It goes where its root goes.
    fs::rename(world.path("a/b"), world.path("c")).unwrap();
    fs::write(part.join("h"), "").unwrap();
    within_a_second("a file after the move", || world.path("c/h").exists());
    world.sh(&format!("cd {} && ls ..", part.display()));
    let absent = world.command(&["mount", "/mfs/nothing", part.to_str().unwrap()]);
    let mut absent = absent;
    assert_eq!(absent.output().unwrap().status.code(), Some(3));
}

#[test]
fn snapshots_are_reached_and_never_listed() {
    let world = Writable::new();
    assert!(names(&world.mfs).is_empty());
    let dir = world.path(".snapshots");
    assert!(fs::metadata(&dir).unwrap().is_dir());
    assert_eq!(errno(fs::create_dir(dir.join("1"))), libc::EPERM);
    assert_eq!(errno(fs::write(dir.join("x"), "")), libc::EPERM);
    world.sh("mkdir d && touch f && ls -a | grep -v snapshots");
    assert_eq!(errno(fs::rename(world.path("d"), &dir)), libc::EPERM);
    assert_eq!(errno(fs::remove_dir(&dir)), libc::EPERM);
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        let number = entry.file_name().into_string().unwrap();
        assert!(number.parse::<u64>().is_ok(), "{number}");
        fs::read_dir(entry.path()).unwrap().for_each(drop);
        assert_eq!(errno(fs::write(entry.path().join("x"), "")), libc::EROFS);
    }
    assert!(!dir.join("987654321").exists());
    assert!(!world.path("d/.snapshots").exists());
    fs::create_dir(world.path("d/.snapshots")).unwrap();
}

#[test]
fn what_is_immutable_stays_so_beside_the_tree() {
    if !is_root() {
        return;
    }
    let world = Writable::new();
    fs::write(world.native().join("f"), "content").unwrap();
    let cid = text(&world.cidfs(&["add", "-wQ", world.native().join("f").to_str().unwrap()]));
    let dir = world.top.join("ipfs").join(cid.trim());
    let file = dir.join("f");
    assert_eq!(names(&world.top), ["ipfs", "ipns", "mfs"]);
    for outcome in [
        fs::write(dir.join("new"), ""),
        fs::create_dir(world.top.join("ipfs/new")),
        fs::create_dir(world.top.join("new")),
        fs::remove_file(&file),
        fs::remove_dir(world.top.join("mfs")),
        fs::set_permissions(&file, fs::Permissions::from_mode(0o777)),
        fs::rename(&file, dir.join("g")),
        fs::hard_link(&file, dir.join("g")),
        open(&file).set_len(1),
        open(&file).write_all_at(b"x", 0),
    ] {
        assert_eq!(errno(outcome), libc::EROFS);
    }
    assert_eq!(errno(fs::create_dir(world.top.join(".cidfs"))), libc::EPERM);
    fs::write(world.path("m"), "").unwrap();
    for outcome in [
        fs::rename(world.path("m"), dir.join("m")),
        fs::rename(&file, world.path("n")),
        fs::hard_link(&file, world.path("n")),
        fs::hard_link(world.path("m"), dir.join("m")),
    ] {
        assert_eq!(errno(outcome), libc::EXDEV);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");
    // `mv` copies then; what it took remains, since it cannot be removed.
    assert!(
        world
            .refused(&format!("mv {} .", file.display()))
            .contains("Read-only")
    );
    assert_eq!(fs::read_to_string(world.path("f")).unwrap(), "content");
}

#[test]
fn a_mount_is_read_only_where_it_is_said() {
    let world = Writable::with("ro");
    assert_eq!(errno(fs::write(world.path("f"), "")), libc::EROFS);
    let there = world.mount("/mfs", "second", "rw");
    fs::write(there.join("f"), "x").unwrap();
    within_a_second("a file in the other", || world.path("f").exists());
    assert_eq!(errno(fs::remove_file(world.path("f"))), libc::EROFS);
    let dir = world.native();
    let mut refused =
        world.command(&["mount", "-o", "rw", "/ipfs/bafkqaaa", dir.to_str().unwrap()]);
    let output = refused.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("immutable"));
}

#[test]
fn a_remount_changes_what_the_kernel_allows() {
    if !is_root() {
        return;
    }
    let world = Writable::new();
    fs::write(world.path("f"), "x").unwrap();
    let top = world.top.to_str().unwrap().to_owned();
    world.sh(&format!("mount -i -o remount,ro {top}"));
    assert_eq!(errno(fs::write(world.path("f"), "y")), libc::EROFS);
    assert_eq!(fs::read_to_string(world.path("f")).unwrap(), "x");
    world.sh(&format!("mount -i -o remount,rw {top}"));
    fs::write(world.path("f"), "z").unwrap();
}

#[test]
fn the_commands_read_the_tree_by_its_paths() {
    let world = Writable::new();
    let bytes = noise(3_000_000, 5);
    fs::create_dir_all(world.path("d/e")).unwrap();
    fs::write(world.path("d/e/f"), &bytes).unwrap();
    world.sh("mkfifo d/pipe && ln -s e/f d/link");
    assert_eq!(world.cidfs(&["cat", "/mfs/d/e/f"]).stdout, bytes);
    let listed = text(&world.cidfs(&["ls", "/mfs/d"]));
    assert!(listed.contains("pipe") && listed.contains('e'), "{listed}");
    let out = world.native().join("out");
    // What cannot be had is said, and the code says that something is.
    let get = |arguments: &[&str]| {
        let output = world
            .command(&[&["get", "/mfs/d"], arguments].concat())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.stdout, said)
    };
    let (_, said) = get(&["-o", out.to_str().unwrap()]);
    assert_eq!(said, "cidfs: left out: d/pipe (fifo)\n");
    assert_eq!(fs::read(out.join("e/f")).unwrap(), bytes);
    assert_eq!(fs::read(out.join("link")).unwrap(), bytes);
    assert_eq!(names(&out), ["e", "link"]);
    let again = world.native().join("again");
    let (told, said) = get(&["--json", "-o", again.to_str().unwrap()]);
    let told = String::from_utf8(told).unwrap();
    assert!(
        told.contains(r#""left_out":[{"kind":"fifo","path":"d/pipe"}]"#),
        "{told}"
    );
    assert_eq!(said, "");
    let (archive, said) = get(&["--archive"]);
    assert_eq!(said, "cidfs: left out: d/pipe (fifo)\n");
    fs::write(world.native().join("d.tar"), archive).unwrap();
    world.sh("cd \"$N\" && mkdir tar && tar -C tar -xf d.tar && cmp tar/d/e/f again/e/f");
    let (_, said) = get(&[
        "--json",
        "-a",
        "-o",
        world.native().join("e.tar").to_str().unwrap(),
    ]);
    assert!(said.contains(r#""kind":"fifo""#), "{said}");
    world.sh("cd \"$N\" && cmp d.tar e.tar");
    world.cidfs(&[
        "get",
        "-o",
        world.native().join("e").to_str().unwrap(),
        "/mfs/d/e",
    ]);
    let mut absent = world.command(&["cat", "/mfs/nothing"]);
    assert_eq!(absent.output().unwrap().status.code(), Some(3));
}

#[test]
fn unmounting_and_mounting_again_finds_what_was_written() {
    let world = Writable::new();
    let there = world.mount("/mfs", "second", "allow_other");
    world.sh("mkdir d && echo kept > d/f && ln d/f g && chmod 4710 d/f");
    let before = fs::metadata(world.path("d/f")).unwrap();
    world.cidfs(&["umount", world.top.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(there.join("d/f")).unwrap(), "kept\n");
    world.cidfs(&["mount", world.top.to_str().unwrap()]);
    let after = fs::metadata(world.path("g")).unwrap();
    assert_eq!((after.ino(), after.nlink()), (before.ino(), 2));
    assert_eq!(after.mode(), before.mode());
}

#[test]
fn a_namespace_has_the_time_of_its_listing_on_every_mount() {
    let world = Writable::new();
    world.sh("echo content > f");
    let cid = world.sh("getfattr --only-values -n ipfs.cid f");
    let changed = |dir: &std::path::Path| fs::metadata(dir.join("ipfs")).unwrap().mtime();
    let before = changed(&world.top);
    assert!(before > 1_700_000_000, "{before}");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    world.cidfs(&["pin", "add", &cid]);
    let there = world.mount("/", "second", "allow_other");
    let after = changed(&there);
    assert!(after > before, "{after}");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(changed(&world.top), after, "whenever it is looked at");
    for name in ["ipns", "mfs/.snapshots"] {
        let seen = fs::metadata(world.top.join(name)).unwrap().mtime();
        assert!(seen > 1_700_000_000, "{name}: {seen}");
    }
}

#[test]
fn a_whole_tree_is_copied_in_compared_and_removed() {
    let world = Writable::new();
    let native = world.native();
    for dir in 0..20 {
        let dir = native.join(format!("dir {dir}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..20usize {
            fs::write(dir.join(format!("{file}.txt")), noise(file * 997, 7)).unwrap();
        }
    }
    world.sh(r#"cp -a "$N" copy && diff -r "$N" copy"#);
    world.sh(r#"mkdir tar && tar -C "$N" -cf - . | tar -C tar -xf - && diff -r "$N" tar"#);
    world.sh(r#"tar -C "$N" -cf all.tar . && tar -C tar -df all.tar"#);
    world.sh(r#"rsync -aHAX "$N/" sync/ && test -z "$(rsync -aHAXnic "$N/" sync/)""#);
    world.sh(r#"find copy -type f | wc -l | grep -qx 400"#);
    world.sh("rm -r copy tar sync all.tar && test -z \"$(ls -A)\"");
}

#[test]
fn a_mount_that_was_reported_is_there_whatever_ends_meanwhile() {
    let world = Writable::new();
    let top = world.top.to_str().unwrap().to_owned();
    for round in 0..20 {
        let next = format!("m{round}");
        let last = match round {
            0 => top.clone(),
            _ => world.beside(&format!("m{}", round - 1)),
        };
        let mut ending = world.command(&["umount", &last]).spawn().unwrap();
        let dir = world.mount("/", &next, "allow_other");
        assert!(dir.join("ipfs").is_dir(), "round {round}");
        assert!(ending.wait().unwrap().success());
    }
    // One after the other, with commands in between.
    for round in 20..30 {
        world.cidfs(&["umount", &world.beside(&format!("m{}", round - 1))]);
        world.cidfs(&["tree", "mkdir", &format!("/made-{round}")]);
        let dir = world.mount("/", &format!("m{round}"), "allow_other");
        assert!(dir.join(format!("mfs/made-{round}")).is_dir());
    }
    world.cidfs(&["umount", &world.beside("m29")]);
}

#[test]
fn the_repository_is_closed_when_its_last_mount_is_gone() {
    let world = Writable::new();
    world.sh("head -c 30000000 /dev/urandom >big && mkdir dir");
    let top = world.top.to_str().unwrap();
    world.cidfs(&["umount", top]);
    let lock = std::fs::File::open(world.repo().join("lock")).unwrap();
    assert!(lock.try_lock_shared().is_ok(), "the daemon has it still");
    std::fs::remove_dir_all(world.repo()).unwrap();
}

#[test]
fn what_was_written_through_the_socket_is_read_from_the_mount_at_once() {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    let world = Writable::new();
    let socket = world.repo().join("control.sock");
    let ask = |operation: &str, params: String| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let head = format!(
            "POST /api/v0/mcp/fs-journal/{operation} HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            params.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(params.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    let path = world.path("f");
    fs::write(&path, "before").unwrap();
    for round in 0..1000 {
        // The kernel has pages and attributes of what was there before.
        fs::read_to_string(&path).unwrap();
        let text = format!("round {round:08}");
        let params = format!(r#"{{"path": "/f", "text": "{text}"}}"#);
        ask("write", params);
        let size = fs::metadata(&path).unwrap().len();
        assert_eq!(size, text.len() as u64, "round {round}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "round {round}");
        let name = format!("d{}", round % 7);
        let there = world.path(&name).exists();
        let params = format!(r#"{{"path": "/{name}"}}"#);
        ask(if there { "remove" } else { "mkdir" }, params);
        assert_ne!(world.path(&name).exists(), there, "round {round}");
    }
}

#[test]
fn what_is_no_directory_is_not_mounted() {
    let world = Writable::new();
    world.sh("mkdir d && echo x > d/f && ln -s f d/l");
    let cid = text(&world.cidfs(&["tree", "stat", "--json", "/d"]));
    let cid = cid
        .split("\"cid\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let dir = world.native();
    for (source, what) in [
        ("/mfs/d/f".to_owned(), "it is a file"),
        ("/mfs/d/l".to_owned(), "it is a symbolic link"),
        (format!("/ipfs/{cid}/f"), "it is a file"),
    ] {
        let mut refused = world.command(&["mount", &source, dir.to_str().unwrap()]);
        let output = refused.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{source}: {error}");
        assert!(error.contains(what), "{source}: {error}");
    }
}

#[test]
fn who_is_in_the_way_of_an_unmount_may_be_a_mount_below() {
    if !is_root() {
        return;
    }
    let world = Writable::new();
    world.sh("mkdir d e");
    let below = world.path("d");
    world.cidfs(&["mount", "/mfs/e", below.to_str().unwrap()]);
    let top = world.top.to_str().unwrap();
    let output = world.command(&["umount", top]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{error}");
    let named = format!("in use by the mount on {}", below.display());
    assert!(error.contains(&named), "{error}");
    world.cidfs(&["umount", below.to_str().unwrap()]);
    world.cidfs(&["umount", top]);
}

#[test]
fn a_damaged_tree_is_mounted_with_a_warning() {
    let world = Writable::new();
    world.sh("mkdir one victim three");
    // A sync by time, and one more that knows of it.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    world.sh("mkdir last");
    let repo = world.native().join("killed");
    let copied = std::process::Command::new("cp")
        .args([std::path::Path::new("-r"), world.repo(), &repo])
        .status()
        .unwrap();
    assert!(copied.success());
    drop(fs::remove_file(repo.join("control.sock")));
    let journal = fs::read_dir(repo.join("journal")).unwrap();
    let segment = journal
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with('0'))
        .unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes
        .windows(7)
        .position(|part| part == b"/victim")
        .unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let dir = world.native().join("on");
    fs::create_dir(&dir).unwrap();
    let (repo, dir) = (repo.to_str().unwrap(), dir.to_str().unwrap());
    let run = |arguments: &[&str]| {
        let mut command = world.command(&["--repo", repo]);
        command.args(arguments).output().unwrap()
    };
    let mounted = run(&["mount", dir]);
    let status = run(&["status"]);
    let asked = run(&["umount", dir]);
    assert!(
        mounted.status.success() && asked.status.success(),
        "{mounted:?} {asked:?}"
    );
    let warning = String::from_utf8(mounted.stderr).unwrap();
    assert!(
        warning.contains("warning: the writable tree takes no changes"),
        "{warning}"
    );
    assert!(warning.contains("cidfs fsck"), "{warning}");
    let status = text(&status);
    assert!(
        status.contains("warning  the writable tree takes no changes"),
        "{status}"
    );
    let told = run(&["--json", "mount", dir]);
    run(&["umount", dir]);
    assert!(text(&told).contains("\"warning\":"), "{told:?}");
}
