//! Disks that are full, fail or rot under the writable tree.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cidfs::disk::Disk;
use cidfs::testing::disk::{Effect, FaultDisk, Op};
use cidfs::testing::sim_disk::SimDisk;
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{Mfs, MfsOptions, New, NodeId, RenameMode, SetAttr};

use crate::mfs_crash::seen;
use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::{self, ME};
use crate::store_support::Place;

const ROOT: NodeId = NodeId::ROOT;

async fn file(mfs: &Mfs, name: &str, bytes: &[u8]) -> Result<NodeId, TreeError> {
    let node = mfs
        .make(ME, ROOT, name.as_bytes(), New::File, 0o644, 0, false)
        .await?
        .node;
    mfs.write(ME, node, 0, bytes, false).await?;
    Ok(node)
}

/// The files of a directory of a disk in memory.
fn files(disk: &SimDisk, dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = disk
        .list(dir)
        .unwrap()
        .into_iter()
        .map(|e| dir.join(e.name))
        .collect();
    files.sort();
    files
}

/// Where bytes are in an own pack.
fn find(disk: &SimDisk, place: &Place, bytes: &[u8]) -> (PathBuf, usize) {
    for pack in files(disk, &place.path("packs/own")) {
        let content = disk.read(&pack, 1 << 30).unwrap();
        if let Some(at) = content
            .windows(bytes.len())
            .rposition(|window| window == bytes)
        {
            return (pack, at);
        }
    }
    panic!("not in a pack");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_cut_at_any_byte_is_a_tree_with_fewer_changes() {
    let sim = Sim::new(quiet()).await;
    let mut states = vec![seen(&sim.mfs).await.unwrap()];
    for count in 0..4_u8 {
        let node = file(&sim.mfs, &format!("f{count}"), &[count; 9])
            .await
            .unwrap();
        // The file before its bytes were written is a state too.
        let now = seen(&sim.mfs).await.unwrap();
        sim.mfs
            .set_attr(
                ME,
                node,
                SetAttr {
                    size: Some(0),
                    ..SetAttr::default()
                },
            )
            .await
            .unwrap();
        sim.mfs
            .write(ME, node, 0, &[count; 20], false)
            .await
            .unwrap();
        states.extend([now, seen(&sim.mfs).await.unwrap()]);
    }
    let journal = sim.place.path("journal");
    let whole = sim.disk.kill();
    let segments = files(&whole, &journal);
    let segment = segments
        .iter()
        .find(|path| path.extension().is_none_or(|e| e != "tmp"))
        .unwrap();
    let len = whole.open(segment).unwrap().len().unwrap();
    let mut least = usize::MAX;
    for cut in (len - 400..=len).rev() {
        let disk = whole.kill();
        disk.stop_at(None);
        disk.open(segment).unwrap().cut(cut).unwrap();
        let place = Arc::clone(&sim.place);
        let next = Sim::on(place, disk, sim.clock.clone(), sim.options.clone()).await;
        assert_eq!(
            next.mfs.recovery().errors,
            Vec::<String>::new(),
            "cut at {cut}"
        );
        let found = seen(&next.mfs).await.unwrap();
        let paths = found.len();
        assert!(paths <= least, "never more with fewer bytes");
        least = paths;
        if let Some(at) = states.iter().position(|state| *state == found) {
            assert!(at > 0);
        }
        file(&next.mfs, "after", b"goes on").await.unwrap();
        next.mfs.close().await;
    }
    assert!(
        least < states.last().unwrap().len(),
        "the cuts took something"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_own_block_is_an_error_of_its_range_and_the_rest_is_served() {
    let sim = Sim::new(quiet()).await;
    let chunks: Vec<Vec<u8>> = (1..4).map(|seed| vec![seed; 1 << 20]).collect();
    let node = file(&sim.mfs, "f", &chunks.concat()).await.unwrap();
    file(&sim.mfs, "other", b"whole").await.unwrap();
    sim.mfs.checkpoint().await.unwrap();
    let disk = sim.disk.kill();
    let (pack, at) = find(&disk, &sim.place, &[2; 1000]);
    disk.flip(&pack, at).unwrap();
    let sim = sim.next(disk).await;
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    let found = sim.mfs.lookup(ROOT, b"f", false).await.unwrap();
    assert_eq!(found.node, node);
    let mut out = vec![0; 100];
    for (chunk, good) in [(0, true), (1, false), (2, true)] {
        let read = sim.mfs.read(node, chunk << 20, &mut out).await;
        assert_eq!(read.is_ok(), good, "chunk {chunk}: {read:?}");
    }
    let other = sim.mfs.lookup(ROOT, b"other", false).await.unwrap().node;
    assert_eq!(mfs_support::read(&sim.mfs, other).await, b"whole");
    // Written again it is good again.
    sim.mfs
        .write(ME, node, 1 << 20, &chunks[1], false)
        .await
        .unwrap();
    sim.mfs.checkpoint().await.unwrap();
    let sim = sim.killed().await;
    sim.mfs.lookup(ROOT, b"f", false).await.unwrap();
    assert!(mfs_support::read(&sim.mfs, node).await == chunks.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_entry_that_cannot_be_applied_now_is_not_called_damage() {
    let sim = Sim::new(quiet()).await;
    let made = sim
        .mfs
        .make(ME, ROOT, b"dir", New::Directory, 0o755, 0, false);
    let dir = made.await.unwrap().node;
    let made = sim.mfs.make(ME, dir, b"moved", New::File, 0o644, 0, false);
    made.await.unwrap();
    sim.mfs.checkpoint().await.unwrap();
    let cid = sim.mfs.cid(dir).await.unwrap().unwrap();
    let block = sim.blocks.get_local(&cid).unwrap().unwrap();
    let replace = RenameMode::Replace;
    for (from, to) in [
        ((dir, &b"moved"[..]), &b"here"[..]),
        ((ROOT, b"here"), b"there"),
    ] {
        let renamed = sim.mfs.rename(ME, from, (ROOT, to), replace).await;
        renamed.unwrap();
    }
    file(&sim.mfs, "after", b"small").await.unwrap();
    let before = seen(&sim.mfs).await.unwrap();
    let disk = sim.disk.kill();
    let (pack, at) = find(&disk, &sim.place, block.data());
    disk.flip(&pack, at + 3).unwrap();
    let sim = sim.next(disk).await;
    let report = sim.mfs.recovery();
    assert!(report.errors.len() >= 2, "{report:?}");
    assert_eq!(report.contradicts, None);
    let small = sim.mfs.lookup(ROOT, b"after", false).await.unwrap().node;
    assert_eq!(mfs_support::read(&sim.mfs, small).await, b"small");
    assert!(
        file(&sim.mfs, "new", b"").await.is_err(),
        "it takes changes"
    );
    // The block is as it was: so is all the rest.
    let disk = sim.disk.kill();
    disk.flip(&pack, at + 3).unwrap();
    let sim = sim.next(disk).await;
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    assert_eq!(seen(&sim.mfs).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_gives_way_to_the_one_before_and_the_journal() {
    for what in ["commit", "root"] {
        let sim = Sim::new(quiet()).await;
        file(&sim.mfs, "one", b"1").await.unwrap();
        sim.mfs.checkpoint().await.unwrap();
        let dir = sim
            .mfs
            .make(ME, ROOT, b"dir", New::Directory, 0o755, 0, false)
            .await
            .unwrap();
        sim.mfs
            .make(ME, dir.node, b"fifo", New::Fifo, 0o600, 0, false)
            .await
            .unwrap();
        file(&sim.mfs, "two", &vec![2; 3 << 20]).await.unwrap();
        let last = sim.mfs.checkpoint().await.unwrap();
        file(&sim.mfs, "three", b"3").await.unwrap();
        let before = seen(&sim.mfs).await.unwrap();
        let cid = if what == "commit" {
            last.commit
        } else {
            last.root
        };
        let block = sim.blocks.get_local(&cid).unwrap().unwrap();
        let disk = sim.disk.kill();
        let (pack, at) = find(&disk, &sim.place, block.data());
        disk.flip(&pack, at + 3).unwrap();
        let sim = sim.next(disk).await;
        let errors = sim.mfs.recovery().errors.clone();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("checkpoint"), "{errors:?}");
        assert_eq!(seen(&sim.mfs).await.unwrap(), before, "{what}");
        // The next checkpoint is sound again, though it may make the same blocks.
        sim.mfs.checkpoint().await.unwrap();
        let sim = sim.killed().await;
        assert_eq!(sim.mfs.recovery().entries_applied, 0);
        assert_eq!(seen(&sim.mfs).await.unwrap(), before, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_nothing_and_what_was_acknowledged_stays() {
    let used = |disk: &SimDisk| {
        disk.set_bytes_max(Some(1 << 40));
        (1 << 40) - disk.free_bytes(Path::new("/")).unwrap()
    };
    for room in [0, 1 << 10, 700 << 10, 3 << 20, 20 << 20] {
        let sim = Sim::new(quiet()).await;
        let kept = file(&sim.mfs, "kept", b"kept").await.unwrap();
        sim.disk.set_bytes_max(Some(used(&sim.disk) + room));
        let mut refused = 0;
        for count in 0..45_u8 {
            let names = sim.mfs.readdir(ROOT, 0, 99).await.unwrap();
            // Whole chunks, parts of them, and what fills them.
            let (at, len) =
                [(0, 1 << 20), (3, 600 << 10), (600 << 10, 1 << 20)][count as usize % 3];
            let name = format!("f{count}");
            let made = sim
                .mfs
                .make(ME, ROOT, name.as_bytes(), New::File, 0o644, 0, false)
                .await;
            let wrote = match &made {
                Ok(made) => {
                    let wrote = sim
                        .mfs
                        .write(ME, made.node, at, &vec![count; len], false)
                        .await;
                    let size = if wrote.is_ok() { at + len as u64 } else { 0 };
                    assert_eq!(
                        sim.mfs.attr(made.node).unwrap().size,
                        size,
                        "all or nothing"
                    );
                    wrote.map(drop)
                }
                Err(error) => {
                    let after = sim.mfs.readdir(ROOT, 0, 99).await.unwrap();
                    assert_eq!(after, names, "all or nothing");
                    Err(error.clone())
                }
            };
            if let Err(error) = wrote {
                assert!(
                    matches!(error, TreeError::NoSpace(_)),
                    "room {room}: {error:?}"
                );
                refused += 1;
            }
            sim.mfs.sync().unwrap();
        }
        assert!(refused > 0, "room {room}");
        sim.mfs.unlink(ME, ROOT, b"kept").await.unwrap();
        assert!(sim.mfs.attr(kept).is_err());
        let made = sim.mfs.checkpoint().await;
        assert!(made.is_ok(), "room {room}: {made:?}");
        sim.mfs.sync().unwrap();
        let before = seen(&sim.mfs).await.unwrap();
        // With room again all goes on.
        sim.disk.set_bytes_max(None);
        file(&sim.mfs, "after", b"after").await.unwrap();
        sim.mfs.unlink(ME, ROOT, b"after").await.unwrap();
        let sim = sim.killed().await;
        let after = seen(&sim.mfs).await.unwrap();
        assert!(after.keys().eq(before.keys()), "room {room}");
        sim.mfs.checkpoint().await.unwrap();
        sim.mfs.close().await;
    }
}

/// A tree on a real disk that fails as it is told.
async fn failing() -> (Place, FaultDisk, Arc<Mfs>, MfsOptions) {
    let (place, disk, options) = (Place::new(), FaultDisk::new(), quiet());
    let (_blocks, mfs) = mfs_support::open(&place, &options, Arc::new(disk.clone())).await;
    (place, disk, mfs, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_the_disk_does_not_give_at_the_start_costs_no_entry() {
    let (place, disk) = (Place::new(), FaultDisk::new());
    let bytes = vec![7; 1 << 20];
    let (blocks, mfs) = mfs_support::open(&place, &quiet(), Arc::new(disk.clone())).await;
    let node = file(&mfs, "whole", &bytes).await.unwrap();
    file(&mfs, "after", b"small").await.unwrap();
    drop(mfs);
    blocks.close();
    drop(blocks);
    disk.fail(Op::Read, "packs/own", 0, u64::MAX, Effect::Errno(libc::EIO));
    let (blocks, mfs) = mfs_support::open(&place, &quiet(), Arc::new(disk.clone())).await;
    let report = mfs.recovery();
    let told = report
        .errors
        .iter()
        .any(|one| one.contains("cannot be read"));
    assert!(told, "{report:?}");
    // The rest is served, and nothing is changed that rests on what is not known.
    let after = mfs.lookup(ROOT, b"after", false).await.unwrap();
    assert_eq!(mfs_support::read(&mfs, after.node).await, b"small");
    assert!(file(&mfs, "new", b"").await.is_err());
    drop(mfs);
    blocks.close();
    drop(blocks);
    disk.heal();
    let (_blocks, mfs) = mfs_support::open(&place, &quiet(), Arc::new(disk)).await;
    assert_eq!(mfs_support::read(&mfs, node).await, bytes);
    file(&mfs, "new", b"").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_written_or_synced_refuses_everything_until_it_is_opened_anew() {
    for op in [Op::Append, Op::Sync] {
        let (place, disk, mfs, options) = failing().await;
        let node = file(&mfs, "f", b"before").await.unwrap();
        disk.fail(op, "journal", 0, 1, Effect::Errno(libc::EIO));
        let failed = match op {
            Op::Append => mfs.write(ME, node, 0, b"lost", false).await.map(drop),
            _ => mfs.sync(),
        };
        assert!(matches!(failed, Err(TreeError::Failed(_))), "{failed:?}");
        for _ in 0..2 {
            assert!(mfs.sync().is_err(), "it keeps failing");
            let more = mfs.unlink(ME, ROOT, b"f").await;
            assert!(matches!(more, Err(TreeError::Failed(_))), "{more:?}");
        }
        assert!(mfs.checkpoint().await.is_err());
        assert_eq!(
            mfs_support::read(&mfs, node).await,
            b"before",
            "what is there is served"
        );
        mfs.close().await;
        drop(mfs);
        let (_blocks, mfs) = mfs_support::open(&place, &options, Arc::new(disk.clone())).await;
        mfs.lookup(ROOT, b"f", false).await.unwrap();
        assert_eq!(mfs_support::read(&mfs, node).await, b"before");
        mfs.write(ME, node, 0, b"after!", false).await.unwrap();
        mfs.sync().unwrap();
        mfs.close().await;
    }
}

/// A tree with a checkpoint, and then so many changes that the journal has two
/// segments; and what is seen of it.
async fn two_segments() -> (Sim, std::collections::BTreeMap<String, String>) {
    let sim = Sim::new(quiet()).await;
    file(&sim.mfs, "old", b"before the checkpoint")
        .await
        .unwrap();
    sim.mfs.checkpoint().await.unwrap();
    for number in 0..80_u8 {
        let bytes = vec![number; 900 << 10];
        let name = format!("f{number}");
        file(&sim.mfs, &name, &bytes).await.unwrap();
    }
    sim.mfs.sync().unwrap();
    let seen = seen(&sim.mfs).await.unwrap();
    (sim, seen)
}

fn segments(sim: &Sim) -> Vec<PathBuf> {
    let mut all = files(&sim.disk, &sim.place.path("journal"));
    all.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".seg") && name != "next.seg"
    });
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_head_of_a_later_segment_costs_no_change() {
    let (sim, before) = two_segments().await;
    let all = segments(&sim);
    assert_eq!(all.len(), 2);
    sim.disk.flip(&all[1], 20).unwrap();
    let sim = sim.killed().await;
    assert!(seen(&sim.mfs).await.unwrap() == before, "all is there");
    file(&sim.mfs, "more", b"goes on").await.unwrap();
    let found = sim.mfs.inspect(&|_| {}).await.unwrap();
    assert_eq!(found.notices.len(), 1, "{found:?}");
    let sim = sim.killed().await;
    assert_eq!(seen(&sim.mfs).await.unwrap().len(), before.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_without_a_sound_checkpoint_takes_no_change_and_lets_nothing_go() {
    let (sim, before) = two_segments().await;
    let kept = sim.mfs.checkpoint().await.unwrap();
    let root = sim.blocks.get_local(&kept.root).unwrap().unwrap();
    file(&sim.mfs, "more", b"goes on").await.unwrap();
    let Sim {
        place,
        disk,
        clock,
        options,
        ..
    } = sim.killed().await;
    // As after a retirement.
    let first = files(&disk, &place.path("journal")).remove(0);
    disk.remove(&first).unwrap();
    let (pack, at) = find(&disk, &place, root.data());
    disk.flip(&pack, at).unwrap();

    let sim = Sim::on(place, disk.kill(), clock, options).await;
    let refused = file(&sim.mfs, "new", b"").await;
    assert!(
        matches!(refused, Err(TreeError::ReadOnly(_))),
        "{refused:?}"
    );
    let roots = sim.mfs.live_roots();
    assert!(matches!(roots, Err(TreeError::ReadOnly(_))), "{roots:?}");
    let found = sim.mfs.inspect(&|_| {}).await.unwrap();
    let told = found.problems.join("\n");
    assert!(told.contains("no kept checkpoint is sound"), "{told}");

    // Brought back, it is all there.
    sim.disk.flip(&pack, at).unwrap();
    let sim = sim.killed().await;
    assert_eq!(seen(&sim.mfs).await.unwrap().len(), before.len() + 1);
    file(&sim.mfs, "new", b"").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_whose_entry_alone_is_gone_is_begun_with_and_gets_another() {
    let sim = Sim::new(quiet()).await;
    file(&sim.mfs, "old", b"first").await.unwrap();
    sim.mfs.checkpoint().await.unwrap();
    file(&sim.mfs, "new", b"second").await.unwrap();
    let made = sim.mfs.checkpoint().await.unwrap();
    let before = seen(&sim.mfs).await.unwrap();
    let segment = segments(&sim).pop().unwrap();
    let len = sim.disk.open(&segment).unwrap().len().unwrap();
    sim.disk.flip(&segment, len as usize - 1).unwrap();
    let sim = sim.killed().await;
    assert_eq!(sim.mfs.recovery().torn_entries, 0);
    assert!(sim.mfs.recovery().torn_bytes > 0, "it was cut off");
    assert_eq!(sim.mfs.recovery().checkpoint, Some(made.sequence));
    assert!(seen(&sim.mfs).await.unwrap() == before);
    assert_eq!(sim.mfs.checkpoints().len(), 2, "with those before it");
    let found = sim.mfs.inspect(&|_| {}).await.unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    file(&sim.mfs, "more", b"third").await.unwrap();
    let sim = sim.reopened().await;
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    assert_eq!(seen(&sim.mfs).await.unwrap().len(), before.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_older_checkpoint_does_not_take_those_before_it_along() {
    let sim = Sim::new(quiet()).await;
    let mut made = Vec::new();
    for name in ["first", "second", "third"] {
        file(&sim.mfs, name, name.as_bytes()).await.unwrap();
        made.push(sim.mfs.checkpoint().await.unwrap());
    }
    let root = sim.blocks.get_local(&made[1].root).unwrap().unwrap();
    let (pack, at) = find(&sim.disk, &sim.place, root.data());
    sim.disk.flip(&pack, at).unwrap();
    let sim = sim.killed().await;
    let kept: Vec<_> = sim
        .mfs
        .checkpoints()
        .iter()
        .map(|one| one.sequence)
        .collect();
    assert_eq!(kept, [made[0].sequence, made[2].sequence]);
}
