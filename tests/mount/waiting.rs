//! Content that does not come: nobody hangs, and nobody else waits.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cidfs::block::Cid;
use cidfs::source::BlockSource;
use cidfs::testing::dag::Dag;

use crate::harness::{Fault, Memory, Mounted};

const CHUNK: usize = 256 << 10;

/// A directory of a good file, a file of three chunks, and an unreachable one.
struct World {
    memory: Arc<Memory>,
    mounted: Mounted,
    base: PathBuf,
    chunks: Vec<Cid>,
    lone: Cid,
}

fn world(options: &str) -> World {
    let mut dag = Dag::default();
    let good = dag.leaf("good");
    let lone = dag.leaf("lone");
    let chunks: Vec<_> = (1..=3u8).map(|n| dag.leaf(vec![n; CHUNK])).collect();
    let parts: Vec<_> = chunks.iter().map(|c| (*c, CHUNK as u64)).collect();
    let file = dag.file(&parts);
    let root = dag.directory(&[("file", file), ("good", good), ("lone", lone)]);
    let memory = Arc::new(Memory::of(dag));
    let mounted = Mounted::new(memory.clone(), options);
    let base = mounted.dir.join("ipfs").join(root.to_string());
    World {
        memory,
        mounted,
        base,
        chunks,
        lone,
    }
}

#[allow(unsafe_code)]
fn reader(program: &str, args: &[&str], file: &std::path::Path) -> Child {
    let mut command = Command::new(program);
    command
        .args(args)
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let default = || {
        // SAFETY: signal(2) may be called between fork and exec.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        Ok(())
    };
    // SAFETY: as above. A shell's background jobs ignore SIGINT, and so would a
    // reader that is started in one of them.
    unsafe { command.pre_exec(default) };
    command.spawn().unwrap()
}

/// Waits for a child; `None` if it is still there after `limit`.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_caller_that_is_killed_while_it_waits_comes_back_whatever_it_waits_for() {
    // `stat` waits for a lookup, which the kernel cannot end by itself; `cat`
    // waits for a page; `dd` with O_DIRECT for a reply.
    let world = world("deadline=600");
    world.memory.fault(&world.lone, Fault::Hang);
    world.memory.fault(&world.chunks[1], Fault::Hang);
    let lone = world.base.join("lone");
    let file = world.base.join("file");
    for signal in [libc::SIGINT, libc::SIGKILL, libc::SIGTERM] {
        let mut waiting = [
            reader("stat", &[], &lone),
            reader("cat", &[], &file),
            reader("python3", &["-c", DIRECT], &file),
        ];
        std::thread::sleep(Duration::from_millis(400));
        for child in &mut waiting {
            assert!(child.try_wait().unwrap().is_none(), "it should still wait");
            kill(child, signal);
        }
        for child in &mut waiting {
            // The promise is a second; a machine under load gets some more.
            let ended = wait(child, Duration::from_secs(10));
            let ended = ended.unwrap_or_else(|| {
                let told = ["cmdline", "status", "wchan", "stack"]
                    .map(|what| fs::read_to_string(format!("/proc/{}/{what}", child.id())));
                panic!("a caller that got signal {signal} never came back: {told:#?}")
            });
            assert!(
                ended.signal() == Some(signal) || !ended.success(),
                "{ended:?}"
            );
        }
    }
}

const DIRECT: &str = "import os, sys\n\
    fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)\n\
    os.lseek(fd, 300000, 0)\n\
    os.read(fd, 4096)\n";

#[allow(unsafe_code)]
fn kill(child: &Child, signal: i32) {
    // SAFETY: the child is ours and has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

#[test]
fn a_block_that_hangs_blocks_only_its_reader_and_ends_with_etimedout() {
    let world = world("deadline=3");
    world.memory.fault(&world.chunks[1], Fault::Hang);
    let file = world.base.join("file");
    let slow = std::thread::spawn(move || {
        let begin = Instant::now();
        (fs::read(&file).unwrap_err().raw_os_error(), begin.elapsed())
    });
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fs::read(world.base.join("good")).unwrap(), b"good");
    assert!(
        !slow.is_finished(),
        "the others were served while it waited"
    );
    let (errno, waited) = slow.join().unwrap();
    assert_eq!(errno, Some(libc::ETIMEDOUT));
    // The kernel's retry of the failed readahead did not cost the deadline again.
    assert!(waited < Duration::from_secs(3 * 2), "{waited:?}");
    world.memory.mend(&world.chunks[1]);
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(fs::read(world.base.join("file")).unwrap().len(), 3 * CHUNK);
}

#[test]
fn readers_of_the_same_page_wait_for_the_deadline_of_their_mount_and_not_one_after_the_other() {
    let mut dag = Dag::default();
    let far = dag.leaf(vec![1; CHUNK]);
    let file = dag.file(&[(far, CHUNK as u64)]);
    let lone = dag.file(&[(far, CHUNK as u64), (far, CHUNK as u64)]);
    let root = dag.directory(&[("file", file), ("lone", lone)]);
    let memory = Arc::new(Memory::of(dag));
    let source: Arc<dyn BlockSource> = memory.clone();
    let mounted = Mounted::fetching(source, "deadline=1", Duration::from_secs(30));
    let base = mounted.dir.join("ipfs").join(root.to_string());
    for fault in [&far, &lone] {
        memory.fault(fault, Fault::Hang);
    }
    let begin = Instant::now();
    let waiting: Vec<_> = (0..8)
        .map(|number| {
            let (file, lone) = (base.join("file"), base.join("lone"));
            std::thread::spawn(move || match number % 2 {
                0 => fs::read(file).map(drop),
                _ => fs::metadata(lone).map(drop),
            })
        })
        .collect();
    for one in waiting {
        let error = one.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
    }
    // With some room for a machine under load.
    let waited = begin.elapsed();
    assert!(waited < Duration::from_millis(1900), "{waited:?}");
}

#[test]
fn a_missing_block_in_the_middle_is_eio_and_the_rest_of_the_file_reads() {
    use std::os::unix::fs::FileExt;
    let world = world("");
    world.memory.fault(&world.chunks[1], Fault::Absent);
    let file = fs::File::open(world.base.join("file")).unwrap();
    let mut page = [0; 4096];
    let mut outcome = |at: usize| file.read_exact_at(&mut page, at as u64).map(|()| page[0]);
    assert_eq!(outcome(0).unwrap(), 1);
    assert_eq!(outcome(CHUNK - 4096).unwrap(), 1);
    assert_eq!(outcome(CHUNK).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(
        outcome(2 * CHUNK - 4096).unwrap_err().raw_os_error(),
        Some(libc::EIO)
    );
    assert_eq!(outcome(2 * CHUNK).unwrap(), 3);
    assert_eq!(outcome(3 * CHUNK - 4096).unwrap(), 3);
}

#[test]
fn a_source_that_breaks_off_is_eio_and_what_was_read_stays() {
    let world = world("");
    assert_eq!(fs::read(world.base.join("good")).unwrap(), b"good");
    for chunk in &world.chunks {
        world.memory.fault(chunk, Fault::Broken);
    }
    let error = fs::read(world.base.join("file")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert_eq!(fs::read(world.base.join("good")).unwrap(), b"good");
    assert!(world.mounted.dir.join("ipfs").is_dir());
}

#[test]
fn unreachable_content_is_never_reported_absent() {
    let world = world("deadline=1");
    world.memory.fault(&world.lone, Fault::Hang);
    let error = fs::metadata(world.base.join("lone")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
    world.memory.mend(&world.lone);
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(fs::read(world.base.join("lone")).unwrap(), b"lone");
    let absent = fs::metadata(world.base.join("nothing")).unwrap_err();
    assert_eq!(absent.raw_os_error(), Some(libc::ENOENT));
    let no_cid = fs::metadata(world.mounted.dir.join("ipfs/autorun.inf")).unwrap_err();
    assert_eq!(no_cid.raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn nothing_can_be_written_or_changed() {
    let world = world("");
    let erofs = |outcome: std::io::Result<()>| {
        assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EROFS));
    };
    erofs(fs::write(world.base.join("good"), b"x"));
    erofs(fs::write(world.base.join("new"), b"x"));
    erofs(fs::create_dir(world.base.join("new")));
    erofs(fs::remove_file(world.base.join("good")));
    erofs(fs::rename(world.base.join("good"), world.base.join("bad")));
    assert_eq!(fs::read(world.base.join("good")).unwrap(), b"good");
}
