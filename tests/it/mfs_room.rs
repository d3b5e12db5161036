//! Room that is kept back: what makes room never takes it from what frees it.

use std::sync::Arc;
use std::time::Duration;

use cidfs::cache::{Blocks, Tier};
use cidfs::testing::disk::{Effect, FaultDisk, Op};
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{Mfs, MfsOptions, New, NodeId, SetAttr};
use cidfs::unixfs::file_update::FileForm;

use crate::mfs_full::{fill, leave, options};
use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::{self, ME};
use crate::store_support::{Place, block, until};

const ROOT: NodeId = NodeId::ROOT;

/// Writes until the journal has no room but what is kept back.
async fn fill_journal(mfs: &Mfs, name: &[u8]) {
    let node = mfs.lookup(ROOT, name, false).await.unwrap().node;
    for length in [60_000, 6_000, 600, 1] {
        loop {
            match mfs.write(ME, node, 0, &vec![7; length], false).await {
                Ok(_) => {}
                Err(TreeError::NoSpace(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Makes a file shorter byte by byte, so often that the journal's reserve is used
/// up and what checkpoints have freed of it again; gives how often there was room.
async fn shorten(mfs: &Mfs, name: &[u8]) -> u64 {
    let file = mfs.lookup(ROOT, name, false).await.unwrap();
    let mut size = file.size;
    for _ in 0..60_000 {
        let set = SetAttr {
            size: Some(size - 1),
            ..SetAttr::default()
        };
        match mfs.set_attr(ME, file.node, set).await {
            Ok(_) => size -= 1,
            Err(TreeError::NoSpace(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    file.size - size
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_made_though_deletions_have_used_up_the_reserve() {
    let sim = Sim::new(options()).await;
    fill(&sim).await;
    fill_journal(&sim.mfs, b"f0").await;
    touch_reserve(&sim.mfs).await;
    // What that checkpoint has left is not for the journal.
    leave(&sim.disk, 0);
    let count = shorten(&sim.mfs, b"f4").await;
    assert!(count > 10_000, "{count}");
    sim.mfs.checkpoint().await.expect("its room is its own");
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_deletion_into_the_reserve_asks_for_a_checkpoint() {
    let sim = Sim::new(options()).await;
    fill(&sim).await;
    fill_journal(&sim.mfs, b"f0").await;
    touch_reserve(&sim.mfs).await;
    sim.mfs.close().await;
}

/// Removes files until the reserve is used, and waits for the checkpoint.
async fn touch_reserve(mfs: &Mfs) {
    let mut newest = mfs.newest_checkpoint();
    newest.borrow_and_update();
    for name in ["f1", "f2", "f3"] {
        mfs.unlink(ME, ROOT, name.as_bytes()).await.unwrap();
    }
    let made = tokio::time::timeout(Duration::from_secs(20), newest.changed()).await;
    made.expect("soon").unwrap();
    // To its end: what it has left of its room is set aside then.
    mfs.checkpoint().await.unwrap();
}

/// A file of a mebibyte of nothing far below the root: an entry about it is long.
async fn far_below(mfs: &Mfs) -> NodeId {
    let mut dir = ROOT;
    for letter in b'a'..b'm' {
        let name = vec![letter; 250];
        let made = mfs.make(ME, dir, &name, New::Directory, 0o755, 0, false);
        dir = made.await.unwrap().node;
    }
    let made = mfs.make(ME, dir, b"f", New::File, 0o644, 0, false).await;
    let node = made.unwrap().node;
    set_size(mfs, node, 1 << 20).await.unwrap();
    node
}

async fn set_size(mfs: &Mfs, node: NodeId, size: u64) -> Result<(), TreeError> {
    let set = SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    mfs.set_attr(ME, node, set).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn removals_without_a_collection_go_on_far_beyond_what_is_kept_back() {
    let sim = Sim::new(options()).await;
    let node = far_below(&sim.mfs).await;
    fill(&sim).await;
    fill_journal(&sim.mfs, b"f0").await;
    let before = sim.mfs.journal().figures();
    let kept_back = (8 << 20) + sim.blocks.reserve_bytes();
    let size = 1_u64 << 20;
    // Entries of more than three kibibytes.
    for count in 1..=26_000 {
        let cut = set_size(&sim.mfs, node, size - count).await;
        assert!(cut.is_ok(), "{count}: {cut:?}");
    }
    let journaled = (sim.mfs.journal().last().0 - before.last.0) * (3 << 10);
    assert!(journaled > kept_back, "{journaled} {kept_back}");
    assert!(sim.mfs.figures().unwrap().given_up.0 > 0);
    sim.mfs.unlink(ME, ROOT, b"f1").await.unwrap();
    sim.mfs.checkpoint().await.expect("its room is its own");
    // What gives room again has room too, and after it everything has.
    sim.mfs.unlink(ME, ROOT, b"f2").await.unwrap();
    sim.mfs.checkpoint().await.unwrap();
    let seen_before = crate::mfs_crash::seen(&sim.mfs).await.unwrap();
    let sim = sim.crashed(11).await;
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    assert_eq!(crate::mfs_crash::seen(&sim.mfs).await.unwrap(), seen_before);
    assert!(crate::mfs_full::collect(&sim.blocks, &sim.mfs).freed_bytes > 0);
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_checkpoint_on_a_full_disk_does_not_need_is_the_reserve_again() {
    let sim = Sim::new(options()).await;
    fill(&sim).await;
    let whole = sim.blocks.reserve_bytes();
    for name in ["f1", "f2", "f3", "f4"] {
        sim.mfs.unlink(ME, ROOT, name.as_bytes()).await.unwrap();
        sim.mfs.checkpoint().await.unwrap();
    }
    assert!(sim.blocks.figures().reserve.spent >= 4);
    let rest = sim.blocks.reserve_bytes();
    assert!(rest > whole - whole / 16, "{rest} of {whole}");
    sim.mfs.close().await;
}

#[test]
fn a_collection_has_room_that_checkpoints_leave_alone() {
    let place = Place::new();
    let disk = cidfs::testing::sim_disk::SimDisk::new();
    let blocks = place.open_on(Arc::new(disk.clone()), place.source.clone());
    blocks.put(block(1, 100), Tier::Own).unwrap();
    blocks.sync().unwrap();
    leave(&disk, 0);
    let whole = blocks.reserve_bytes();
    let mut count = 2;
    let full = loop {
        let put = blocks.put_reserved(block(count, 1 << 20));
        match put.and_then(|()| blocks.sync_reserved()) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 200);
    };
    assert!(full.to_string().contains("space"), "{full}");
    let left = blocks.reserve_bytes();
    assert!((whole / 4..whole / 2).contains(&left), "{left} of {whole}");
    // What waited goes with it.
    blocks.put_last(block(255, 100)).unwrap();
    blocks.sync_last().unwrap();
    blocks.close();
}

#[test]
fn the_rest_of_the_reserve_is_kept_though_others_take_room_meanwhile() {
    let (disk, place) = (FaultDisk::new(), Place::new());
    let blocks = place.open_on(Arc::new(disk.clone()), place.source.clone());
    blocks.put(block(1, 100), Tier::Own).unwrap();
    blocks.sync().unwrap();
    let whole = blocks.reserve_bytes();
    let full = Effect::Errno(libc::ENOSPC);
    disk.fail(Op::Append, "packs/own", 0, 1000, full);
    disk.fail(Op::Reserve, "packs/reserve", 0, 1, full);
    blocks.put_reserved(block(2, 100)).unwrap();
    blocks.sync_reserved().unwrap();
    let rest = blocks.reserve_bytes();
    assert!((1 << 20..whole).contains(&rest), "{rest} of {whole}");
    disk.heal();
    blocks.close();
}

/// A tree on a disk that fails as it is told.
async fn on(disk: &FaultDisk, place: &Place, options: MfsOptions) -> (Arc<Blocks>, Arc<Mfs>) {
    mfs_support::open(place, &options, Arc::new(disk.clone())).await
}

async fn file(mfs: &Mfs, name: &[u8]) -> NodeId {
    let made = mfs.make(ME, ROOT, name, New::File, 0o644, 0, false);
    made.await.unwrap().node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_is_a_full_disk() {
    let (disk, place) = (FaultDisk::new(), Place::new());
    let (blocks, mfs) = on(&disk, &place, quiet()).await;
    let node = file(&mfs, b"f").await;
    let quota = Effect::Errno(libc::EDQUOT);
    disk.fail(Op::Append, "packs/own", 0, 1, quota);
    let refused = mfs.write(ME, node, 0, &vec![1; 1 << 20], false).await;
    assert!(matches!(refused, Err(TreeError::NoSpace(_))), "{refused:?}");
    // What was acknowledged is sealed into the reserve.
    mfs.write(ME, node, 0, b"small", false).await.unwrap();
    disk.fail(Op::Append, "packs/own", 0, 1000, quota);
    mfs.checkpoint().await.expect("it has the reserve");
    disk.heal();
    mfs.close().await;
    blocks.close();
}

/// Options with chunks of 64 bytes.
fn small_chunks() -> MfsOptions {
    MfsOptions {
        file_form: Some(FileForm {
            chunk_bytes: 64,
            ..cidfs::unixfs::profile::Profile::default().into()
        }),
        ..quiet()
    }
}

async fn stream(mfs: &Mfs, node: NodeId, chunks: std::ops::Range<u64>) {
    for number in chunks {
        let bytes = [number as u8; 64];
        let written = mfs.write(ME, node, 64 * number, &bytes, false).await;
        assert_eq!(written.unwrap(), 64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_meets_a_quota_lands_in_the_reserve() {
    let (disk, place) = (FaultDisk::new(), Place::new());
    let (blocks, mfs) = on(&disk, &place, small_chunks()).await;
    let node = file(&mfs, b"f").await;
    stream(&mfs, node, 0..2).await;
    disk.fail(
        Op::Append,
        "packs/own",
        0,
        1000,
        Effect::Errno(libc::EDQUOT),
    );
    // Acknowledged before anybody looks for room.
    stream(&mfs, node, 2..3).await;
    mfs.sync().expect("it has the reserve");
    assert_eq!(mfs_support::read(&mfs, node).await.len(), 3 * 64);
    disk.heal();
    mfs.close().await;
    blocks.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_chunk_that_cannot_be_stored_is_synced() {
    let (disk, place) = (FaultDisk::new(), Place::new());
    let (blocks, mfs) = on(&disk, &place, small_chunks()).await;
    let node = file(&mfs, b"f").await;
    stream(&mfs, node, 0..2).await;
    disk.fail(Op::Append, "packs/own", 0, 1000, Effect::Errno(libc::EIO));
    stream(&mfs, node, 2..3).await;
    let failed = mfs.sync();
    assert!(matches!(failed, Err(TreeError::Failed(_))), "{failed:?}");
    assert!(mfs.journal().last().0 > 0);
    assert_eq!(mfs.journal().durable(), mfs.journal().last());
    disk.heal();
    mfs.close().await;
    blocks.close();
}

#[test]
fn a_reserve_that_could_not_be_set_aside_for_a_moment_is_tried_again() {
    let (disk, place) = (FaultDisk::new(), Place::new());
    disk.fail(Op::Reserve, "reserve", 0, 1, Effect::Errno(libc::EMFILE));
    let blocks = place.open_on(Arc::new(disk.clone()), place.source.clone());
    blocks.put(block(1, 100), Tier::Own).unwrap();
    assert!(!blocks.figures().reserve.whole);
    until("it is set aside", || {
        blocks.check_room().unwrap();
        blocks.figures().reserve.whole
    });
    blocks.close();
}
