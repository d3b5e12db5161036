//! A disk that is full: what makes room goes on, and everything else waits for it.

use std::path::Path;

use cidfs::cache::{Blocks, PinMode};
use cidfs::disk::Disk;
use cidfs::testing::sim_disk::SimDisk;
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{Mfs, MfsOptions, New, NodeId};
use cidfs::unixfs::links::links;

use crate::mfs_crash::seen;
use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::ME;

const ROOT: NodeId = NodeId::ROOT;
const MIB: usize = 1 << 20;

pub(crate) fn options() -> MfsOptions {
    MfsOptions {
        snapshots_kept: 1,
        ..quiet()
    }
}

fn free(disk: &SimDisk) -> u64 {
    disk.free_bytes(Path::new("/")).unwrap()
}

/// Leaves `room` on the disk.
pub(crate) fn leave(disk: &SimDisk, room: u64) {
    disk.set_bytes_max(Some(1 << 40));
    let used = (1 << 40) - free(disk);
    disk.set_bytes_max(Some(used + room));
}

async fn write(mfs: &Mfs, name: &str, salt: u8, len: usize) -> Result<(), TreeError> {
    let name = name.as_bytes();
    let made = mfs.make(ME, ROOT, name, New::File, 0o644, 0, false).await?;
    let bytes: Vec<u8> = (0..len)
        .map(|at| (at / MIB) as u8 ^ (at % 2 * salt as usize) as u8)
        .collect();
    mfs.write(ME, made.node, 0, &bytes, false).await.map(drop)
}

pub(crate) fn collect(blocks: &Blocks, mfs: &Mfs) -> cidfs::cache::GcReport {
    let roots = || {
        let live = mfs.live_roots().map_err(std::io::Error::other)?;
        let commits = mfs.live_commits().into_iter();
        let all = live.into_iter().map(|cid| (cid, PinMode::Recursive));
        Ok(all.chain(commits.map(|c| (c, PinMode::Direct))).collect())
    };
    let links = |block: &_| links(block).map_err(|error| error.to_string());
    blocks.gc(&links, &roots, &|_| {}).unwrap()
}

/// Fills a disk until not one byte is left.
pub(crate) async fn fill(sim: &Sim) -> u8 {
    leave(&sim.disk, 40 << 20);
    let mut count = 0;
    loop {
        match write(&sim.mfs, &format!("f{count}"), count, 2 * MIB + 9).await {
            Ok(()) => count += 1,
            Err(TreeError::NoSpace(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    leave(&sim.disk, 0);
    assert_eq!(free(&sim.disk), 0);
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_byte_left_deletions_and_checkpoints_work_and_a_collection_gives_room_again() {
    let sim = Sim::new(options()).await;
    write(&sim.mfs, "kept", 77, 3 * MIB + 5).await.unwrap();
    let count = fill(&sim).await;
    assert!(count > 5);
    for at in 0..count {
        let name = format!("f{at}");
        sim.mfs.unlink(ME, ROOT, name.as_bytes()).await.unwrap();
    }
    sim.mfs.checkpoint().await.expect("it has the reserve");
    let figures = sim.blocks.figures().reserve;
    assert_eq!((figures.whole, figures.spent), (false, 1));
    let refused = write(&sim.mfs, "more", 1, 10).await;
    assert!(matches!(refused, Err(TreeError::NoSpace(_))), "{refused:?}");
    // A second one goes into what the first has left.
    leave(&sim.disk, 0);
    let node = sim.mfs.lookup(ROOT, b"kept", false).await.unwrap().node;
    sim.mfs
        .set_attr(ME, node, cut_to(MIB as u64 + 3))
        .await
        .unwrap();
    sim.mfs.checkpoint().await.expect("it has room still");
    let before = seen(&sim.mfs).await.unwrap();
    let sim = sim.crashed(3).await;
    assert_eq!(
        seen(&sim.mfs).await.unwrap(),
        before,
        "both survive a power loss"
    );
    let report = collect(&sim.blocks, &sim.mfs);
    assert!(report.freed_bytes > u64::from(count) << 21, "{report:?}");
    assert_eq!(report.full_packs, 0);
    write(&sim.mfs, "more", 1, 3 * MIB)
        .await
        .expect("there is room again");
    assert!(sim.blocks.figures().reserve.bytes > 0);
    sim.mfs.checkpoint().await.unwrap();
    sim.mfs.close().await;
}

fn cut_to(size: u64) -> cidfs::tree::mfs::SetAttr {
    cidfs::tree::mfs::SetAttr {
        size: Some(size),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_a_pack_with_live_blocks_is_rewritten_into_the_reserve() {
    let sim = Sim::new(options()).await;
    let count = fill(&sim).await;
    for at in (0..count).filter(|at| at % 8 > 0) {
        let name = format!("f{at}");
        sim.mfs.unlink(ME, ROOT, name.as_bytes()).await.unwrap();
    }
    let before = seen(&sim.mfs).await.unwrap();
    sim.mfs.checkpoint().await.unwrap();
    leave(&sim.disk, 0);
    let report = collect(&sim.blocks, &sim.mfs);
    assert!(report.freed_bytes > 16 << 20, "{report:?}");
    assert_eq!((report.full_packs, report.reserve_lacks_bytes), (0, 0));
    assert_eq!(sim.blocks.figures().reserve.spent, 2);
    let sim = sim.crashed(5).await;
    assert_eq!(seen(&sim.mfs).await.unwrap(), before);
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserve_of_an_earlier_run_serves_the_next_on_a_disk_that_is_full_from_the_start() {
    let sim = Sim::new(options()).await;
    let count = fill(&sim).await;
    let sim = sim.killed().await;
    assert_eq!(free(&sim.disk), 0);
    for at in 0..count {
        let name = format!("f{at}");
        sim.mfs.unlink(ME, ROOT, name.as_bytes()).await.unwrap();
    }
    sim.mfs.checkpoint().await.expect("it has the reserve");
    assert_eq!(sim.blocks.figures().reserve.spent, 1);
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_entries_are_given_up_before_a_write_is_refused_and_what_is_needed_stays() {
    let sim = Sim::new(quiet()).await;
    let made = sim.mfs.make(ME, ROOT, b"f", New::File, 0o644, 0, false);
    let node = made.await.unwrap().node;
    let write = async |salt: u8| {
        let bytes = vec![salt; 500 << 10];
        sim.mfs.write(ME, node, 0, &bytes, false).await
    };
    for salt in 0..3 {
        for _ in 0..140 {
            write(salt).await.unwrap();
        }
        sim.mfs.checkpoint().await.unwrap();
    }
    let figures = || sim.mfs.figures().unwrap();
    assert_eq!((figures().journal.first.0, figures().given_up), (1, (0, 0)));
    leave(&sim.disk, 0);
    for _ in 0..200 {
        write(9).await.expect("there is history to give up");
    }
    let (segments, bytes) = figures().given_up;
    assert!(segments > 0 && bytes > segments << 25, "{segments} {bytes}");
    // Until all of it is gone; then it is full.
    let mut refused = Ok(0);
    while refused.is_ok() {
        refused = write(10).await;
    }
    assert!(matches!(refused, Err(TreeError::NoSpace(_))), "{refused:?}");
    let kept = sim.mfs.checkpoints();
    assert_eq!(kept.len(), 3);
    assert!(figures().journal.first.0 <= kept[1].sequence + 1);
    let sim = sim.crashed(1).await;
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    assert_eq!(sim.mfs.checkpoints(), kept);
    let node = sim.mfs.lookup(ROOT, b"f", false).await.unwrap().node;
    let mut byte = [0];
    sim.mfs.read(node, 77, &mut byte).await.unwrap();
    assert!([9, 10, 2].contains(&byte[0]), "{byte:?}");
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_given_up_only_where_that_makes_the_room_and_no_more_of_it_than_that() {
    let sim = Sim::new(quiet()).await;
    let made = sim.mfs.make(ME, ROOT, b"f", New::File, 0o644, 0, false);
    let node = made.await.unwrap().node;
    for salt in 0..3 {
        for _ in 0..270 {
            let bytes = vec![salt; 500 << 10];
            sim.mfs.write(ME, node, 0, &bytes, false).await.unwrap();
        }
        sim.mfs.checkpoint().await.unwrap();
    }
    leave(&sim.disk, 0);
    let before = sim.mfs.figures().unwrap().journal.segments;
    assert!(before > 5, "{before}");
    let bytes: Vec<u8> = (0..400 * MIB).map(|at| (at / MIB) as u8).collect();
    let refused = sim.mfs.write(ME, node, 0, &bytes, false).await;
    assert!(matches!(refused, Err(TreeError::NoSpace(_))), "{refused:?}");
    assert_eq!(sim.mfs.figures().unwrap().given_up, (0, 0), "for nothing");
    let few = &bytes[..2 * MIB];
    sim.mfs.write(ME, node, 0, few, false).await.unwrap();
    assert_eq!(sim.mfs.figures().unwrap().given_up.0, 1);
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_disk_takes_up_what_the_ring_has_and_lets_go_of_it_too() {
    let sim = Sim::with_rings(options()).await;
    let made = sim.mfs.make(ME, ROOT, b"f", New::File, 0o644, 0, false);
    let node = made.await.unwrap().node;
    let put = async |number: u8| {
        let bytes = vec![number; MIB];
        let at = u64::from(number) * MIB as u64;
        sim.mfs.write(ME, node, at, &bytes, false).await.unwrap();
    };
    for number in 0..2 {
        put(number).await;
    }
    sim.mfs.sync().unwrap();
    sim.disk.hold(true);
    let appends = sim.disk.counts().appends;
    for number in 2..5 {
        put(number).await;
    }
    assert_eq!(
        sim.disk.counts().appends,
        appends,
        "they are in the ring alone"
    );
    let next = sim.disk.kill();
    leave(&next, 0);
    let sim = sim.next(next).await;
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    let found = sim.mfs.lookup(ROOT, b"f", false).await.unwrap();
    assert_eq!(found.size, 5 * MIB as u64);
    sim.mfs.sync().unwrap();
    sim.mfs.unlink(ME, ROOT, b"f").await.unwrap();
    sim.mfs.checkpoint().await.unwrap();
    assert!(collect(&sim.blocks, &sim.mfs).freed_bytes > 4 * MIB as u64);
    sim.mfs.close().await;
}
