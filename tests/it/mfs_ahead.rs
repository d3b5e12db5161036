//! Streams of chunks, which are acknowledged before they are hashed.

use std::sync::Arc;
use std::time::Duration;

use cidfs::testing::disk::{Effect, FaultDisk, Op};
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{Mfs, MfsOptions, New, NodeId, RenameMode, SetAttr};
use cidfs::unixfs::file_update::FileForm;

use crate::mfs_sim::{End, Sim, quiet};
use crate::mfs_support::{ME, open_from, read};
use crate::store_support::Place;

const ROOT: NodeId = NodeId::ROOT;
const CHUNK: u64 = 64;

fn options() -> MfsOptions {
    MfsOptions {
        file_form: Some(FileForm {
            chunk_bytes: CHUNK as usize,
            links_max: 3,
            ..cidfs::unixfs::profile::Profile::default().into()
        }),
        ..quiet()
    }
}

fn chunk(number: u64) -> Vec<u8> {
    (0..CHUNK).map(|at| (number * 31 + at) as u8).collect()
}

fn chunks(count: u64) -> Vec<u8> {
    (0..count).flat_map(chunk).collect()
}

async fn put(mfs: &Mfs, node: NodeId, number: u64) -> Result<usize, TreeError> {
    mfs.write(ME, node, number * CHUNK, &chunk(number), false)
        .await
}

/// A file with the beginning of a stream in a directory, synced.
async fn begun(sim: &Sim) -> NodeId {
    let dir = sim
        .mfs
        .make(ME, ROOT, b"d", New::Directory, 0o755, 0, false)
        .await
        .unwrap();
    let made = sim
        .mfs
        .make(ME, dir.node, b"f", New::File, 0o644, 0, false)
        .await
        .unwrap();
    for number in 0..2 {
        put(&sim.mfs, made.node, number).await.unwrap();
    }
    sim.mfs.sync().unwrap();
    made.node
}

async fn found(mfs: &Mfs) -> NodeId {
    let dir = mfs.lookup(ROOT, b"d", false).await.unwrap().node;
    mfs.lookup(dir, b"f", false).await.unwrap().node
}

/// Writes chunks 2 to 4, of which none can be appended to a pack.
async fn held(sim: &Sim, node: NodeId) {
    sim.disk.hold(true);
    let before = sim.disk.counts().appends;
    for number in 2..5 {
        sim.clock.tick();
        put(&sim.mfs, node, number).await.unwrap();
    }
    assert_eq!(sim.disk.counts().appends, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_and_not_hashed_survives_a_kill() {
    let sim = Sim::with_rings(options()).await;
    let node = begun(&sim).await;
    held(&sim, node).await;
    let written = sim.clock.time();
    sim.clock.tick();
    let sim = sim.killed().await;
    assert_eq!(found(&sim.mfs).await, node);
    assert_eq!(read(&sim.mfs, node).await, chunks(5));
    assert_eq!(sim.mfs.attr(node).unwrap().mtime, written);
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    // It is in the journal now, once.
    let last = sim.mfs.journal().last();
    let sim = sim.killed().await;
    found(&sim.mfs).await;
    assert_eq!(read(&sim.mfs, node).await, chunks(5));
    assert_eq!(sim.mfs.journal().last(), last);
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_leaves_a_beginning_of_a_stream() {
    for seed in 0..24 {
        let sim = Sim::with_rings(options()).await;
        let node = begun(&sim).await;
        held(&sim, node).await;
        let sim = sim.crashed(seed).await;
        found(&sim.mfs).await;
        let content = read(&sim.mfs, node).await;
        assert!(content.len() as u64 >= 2 * CHUNK, "it was synced");
        assert!(chunks(5).starts_with(&content), "seed {seed}");
        for number in content.len() as u64 / CHUNK..9 {
            put(&sim.mfs, node, number).await.unwrap();
        }
        sim.mfs.sync().unwrap();
        let sim = sim.crashed(seed + 1000).await;
        found(&sim.mfs).await;
        assert_eq!(read(&sim.mfs, node).await, chunks(9), "seed {seed}");
        sim.mfs.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_sees_what_was_acknowledged() {
    let sim = Sim::with_rings(options()).await;
    let node = begun(&sim).await;
    held(&sim, node).await;
    let disk = sim.disk.clone();
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        disk.hold(false);
    });
    assert_eq!(sim.mfs.attr(node).unwrap().size, 5 * CHUNK);
    release.join().unwrap();
    assert_eq!(sim.mfs.attr(node).unwrap().mtime, sim.clock.time());
    assert_eq!(read(&sim.mfs, node).await, chunks(5));
    // A change after it is after it.
    for number in 5..12 {
        put(&sim.mfs, node, number).await.unwrap();
    }
    let cut = SetAttr {
        size: Some(10 * CHUNK + 5),
        ..SetAttr::default()
    };
    sim.mfs.set_attr(ME, node, cut).await.unwrap();
    let expected = chunks(12)[..10 * CHUNK as usize + 5].to_vec();
    assert_eq!(read(&sim.mfs, node).await, expected);
    let sim = sim.killed().await;
    found(&sim.mfs).await;
    assert_eq!(read(&sim.mfs, node).await, expected);
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_cannot_be_stored_stops_all_changes_and_the_next_start_has_it() {
    let sim = Sim::with_rings(options()).await;
    let node = begun(&sim).await;
    held(&sim, node).await;
    sim.disk.stop_at(Some(1));
    sim.disk.hold(false);
    let synced = sim.mfs.sync();
    assert!(matches!(synced, Err(TreeError::Failed(_))), "{synced:?}");
    // The disk is well again, and what was acknowledged is still not in its place.
    sim.disk.stop_at(None);
    for number in [5, 2] {
        let written = put(&sim.mfs, node, number).await;
        assert!(matches!(written, Err(TreeError::Failed(_))), "{written:?}");
    }
    assert!(sim.mfs.sync().is_err() && sim.mfs.checkpoint().await.is_err());
    let sim = sim.killed().await;
    found(&sim.mfs).await;
    assert_eq!(read(&sim.mfs, node).await, chunks(5));
    sim.mfs.sync().unwrap();
    sim.mfs.close().await;
}

/// Writes 16 chunks with other changes between, until something fails; gives
/// how many chunks were acknowledged and whether the file was renamed.
async fn until_it_fails(sim: &Sim, node: NodeId) -> (u64, bool) {
    let mut renamed = false;
    for number in 2..16 {
        if number == 9 {
            let done = sim
                .mfs
                .rename(ME, (ROOT, b"d"), (ROOT, b"e"), RenameMode::NoReplace)
                .await;
            if done.is_err() {
                return (number, false);
            }
            renamed = true;
        }
        if put(&sim.mfs, node, number).await.is_err() {
            return (number, renamed);
        }
    }
    (16, renamed)
}

/// How many chunks a file has after a recovery; they are those that were written.
async fn chunks_kept(sim: &Sim, node: NodeId, renamed: bool) -> u64 {
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    let dir = match sim.mfs.lookup(ROOT, b"e", false).await {
        Ok(dir) => dir.node,
        Err(error) => {
            assert!(!renamed, "{error}");
            sim.mfs.lookup(ROOT, b"d", false).await.unwrap().node
        }
    };
    sim.mfs.lookup(dir, b"f", false).await.unwrap();
    let content = read(&sim.mfs, node).await;
    assert!(chunks(16).starts_with(&content));
    content.len() as u64 / CHUNK
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_change_of_the_disk_keeps_what_a_stream_acknowledged() {
    let mut whole = 0;
    for stop in 0..80 {
        let sim = Sim::with_rings(options()).await;
        let node = begun(&sim).await;
        let begin = sim.disk.counts().changes;
        sim.disk.stop_at(Some(begin + stop));
        let (acknowledged, renamed) = until_it_fails(&sim, node).await;
        let sim = sim.killed().await;
        let kept = chunks_kept(&sim, node, renamed).await;
        let fits = (acknowledged..=acknowledged + 1).contains(&kept);
        assert!(fits, "stopped at {stop}: {acknowledged} and {kept}");
        whole += u32::from(kept == 16);
        sim.mfs.close().await;
    }
    assert!(whole > 0, "it never came to the end");
}

/// Ends recoveries at each of their changes, and the next ones too; gives how many.
async fn recoveries_end(sim: &Sim, node: NodeId, acknowledged: u64, renamed: bool) -> u32 {
    let mut ended = 0;
    for first in [End::Kill, End::PowerLoss(u64::from(renamed))] {
        let (least, renamed) = match first {
            End::Kill => (acknowledged, renamed),
            End::PowerLoss(_) => (2, false),
        };
        let found = first.of(&sim.disk);
        for at in 0.. {
            let (disk, done) = sim.start_until(&found.kill(), at, End::Kill).await;
            let (disk, _) = sim.start_until(&disk, at / 2, End::Kill).await;
            let next = sim.beside(disk).await;
            let kept = chunks_kept(&next, node, renamed).await;
            let fits = (least..=acknowledged + 1).contains(&kept);
            assert!(
                fits,
                "{first:?}, then {at}: {kept} of {acknowledged} are there"
            );
            next.end().await;
            ended += 1;
            if done {
                break;
            }
        }
    }
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn recoveries_that_end_at_any_of_their_changes_keep_what_a_stream_acknowledged() {
    let sim = Sim::with_rings(options()).await;
    let node = begun(&sim).await;
    held(&sim, node).await;
    let ended = recoveries_end(&sim, node, 5, false).await;
    // Each of the three chunks is appended to a pack and journaled anew.
    assert!(ended > 10, "{ended}");
    sim.end().await;
    for stop in (0..70).step_by(7) {
        let sim = Sim::with_rings(options()).await;
        let node = begun(&sim).await;
        sim.disk.stop_at(Some(sim.disk.counts().changes + stop));
        let (acknowledged, renamed) = until_it_fails(&sim, node).await;
        recoveries_end(&sim, node, acknowledged, renamed).await;
        sim.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_at_once_and_one_that_is_unlinked_are_as_they_were_written() {
    let sim = Arc::new(Sim::with_rings(options()).await);
    let mut tasks = Vec::new();
    for task in 0..3u64 {
        let sim = sim.clone();
        tasks.push(tokio::spawn(async move {
            let name = format!("f{task}");
            let made = sim
                .mfs
                .make(ME, ROOT, name.as_bytes(), New::File, 0o644, 0, false)
                .await
                .unwrap();
            assert!(sim.mfs.hold(made.node));
            for number in 0..600 {
                put(&sim.mfs, made.node, number).await.unwrap();
                if task == 2 && number == 300 {
                    sim.mfs.unlink(ME, ROOT, name.as_bytes()).await.unwrap();
                }
                if number % 50 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            assert_eq!(read(&sim.mfs, made.node).await, chunks(600));
            made.node
        }));
    }
    let mut nodes = Vec::new();
    for task in tasks {
        nodes.push(task.await.unwrap());
    }
    sim.mfs.check_sound().unwrap();
    let sim = Arc::into_inner(sim).unwrap().killed().await;
    for (task, node) in nodes.into_iter().enumerate().take(2) {
        let name = format!("f{task}");
        let found = sim.mfs.lookup(ROOT, name.as_bytes(), false).await.unwrap();
        assert_eq!(found.node, node);
        assert_eq!(read(&sim.mfs, node).await, chunks(600));
    }
    sim.mfs.close().await;
}

/// A repository on a real disk with rings, where a chunk was acknowledged that no
/// pack takes, and then nothing came for a while.
async fn refused_by_its_pack(
    place: &Place,
    disk: &FaultDisk,
    options: &MfsOptions,
    idle: Duration,
) {
    let (blocks, mfs) =
        open_from(place, options, Arc::new(disk.clone()), place.source.clone()).await;
    let made = mfs.make(ME, ROOT, b"f", New::File, 0o644, 0, false);
    let node = made.await.unwrap().node;
    for number in 0..2 {
        put(&mfs, node, number).await.unwrap();
    }
    mfs.sync().unwrap();
    disk.fail(Op::Append, "packs/own", 0, 1000, Effect::Errno(libc::EIO));
    put(&mfs, node, 2).await.unwrap();
    // An idle tree notes that its end is durable: not in the place of the chunk.
    tokio::time::sleep(idle).await;
    assert!(mfs.sync().is_err());
    drop(mfs);
    blocks.close();
    disk.heal();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_tree_gives_nothing_the_number_of_a_chunk_that_was_acknowledged() {
    let options = MfsOptions {
        commit_interval: Duration::from_millis(300),
        ..options()
    };
    let (place, disk) = (Place::new(), FaultDisk::new());
    refused_by_its_pack(&place, &disk, &options, 4 * options.commit_interval).await;
    let (_blocks, mfs) = open_from(&place, &options, Arc::new(disk), place.source.clone()).await;
    assert_eq!(mfs.recovery().errors, Vec::<String>::new());
    let node = mfs.lookup(ROOT, b"f", false).await.unwrap().node;
    assert_eq!(read(&mfs, node).await, chunks(3));
    mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_cannot_be_taken_up_keeps_its_place_until_a_start_that_can() {
    let (place, disk, options) = (Place::new(), FaultDisk::new(), options());
    refused_by_its_pack(&place, &disk, &options, Duration::ZERO).await;
    disk.fail(Op::Append, "packs/own", 0, 1000, Effect::Errno(libc::EIO));
    let shared = Arc::new(disk.clone());
    let (blocks, mfs) = open_from(&place, &options, shared, place.source.clone()).await;
    assert_eq!(mfs.recovery().errors.len(), 1, "{:?}", mfs.recovery());
    let made = mfs
        .make(ME, ROOT, b"other", New::File, 0o644, 0, false)
        .await;
    assert!(matches!(made, Err(TreeError::ReadOnly(_))), "{made:?}");
    disk.heal();
    drop(mfs);
    blocks.close();
    let (_blocks, mfs) = open_from(&place, &options, Arc::new(disk), place.source.clone()).await;
    let node = mfs.lookup(ROOT, b"f", false).await.unwrap().node;
    assert_eq!(read(&mfs, node).await, chunks(3));
    mfs.make(ME, ROOT, b"other", New::File, 0o644, 0, false)
        .await
        .unwrap();
    mfs.close().await;
}
