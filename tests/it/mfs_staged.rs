//! Changes by path, which come through control: what they refer to survives
//! what they survive, and what they take away leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cidfs::block::{Block, BlockSink, Cid, RAW, SHA2_256};
use cidfs::testing::dag::Dag;
use cidfs::testing::disk::{Effect, FaultDisk, Op};
use cidfs::tree::TreeError;
use cidfs::tree::mfs::path::TreePath;
use cidfs::tree::mfs::{CopySource, Mfs, New, NodeId, SetAttr, Staged, WriteAt};

use crate::mfs_crash::seen;
use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::{self, ME, World};
use crate::store_support::Place;

const ROOT: NodeId = NodeId::ROOT;

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

async fn at(mfs: &Mfs, text: &str) -> Result<NodeId, TreeError> {
    let mut at = ROOT;
    for name in text.split('/') {
        at = mfs.lookup(at, name.as_bytes(), false).await?.node;
    }
    Ok(at)
}

async fn file(mfs: &Mfs, name: &str, bytes: &[u8]) -> NodeId {
    let made = mfs.make(ME, ROOT, name.as_bytes(), New::File, 0o644, 0, false);
    let node = made.await.unwrap().node;
    mfs.write(ME, node, 0, bytes, false).await.unwrap();
    node
}

async fn mount(mfs: &Mfs, cid: &Cid, to: &str) {
    let content = mfs.content(cid).await.unwrap();
    let staged = Staged::Mount {
        path: path(to),
        content,
        plain: false,
    };
    mfs.perform_staged(ME, &[staged]).await.unwrap();
}

fn chmod(at: &str, mode: u32) -> Staged {
    Staged::Metadata {
        path: path(at),
        set: SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cid_that_was_just_made_is_still_there_after_it_was_mounted_and_all_was_killed() {
    let sim = Sim::new(quiet()).await;
    let node = file(&sim.mfs, "f", b"hi").await;
    let cid = sim.mfs.cid(node).await.unwrap().unwrap();
    mount(&sim.mfs, &cid, "/g").await;
    sim.mfs.sync().unwrap();
    let sim = sim.killed().await;
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    let mounted = at(&sim.mfs, "g").await.unwrap();
    assert_eq!(mfs_support::read(&sim.mfs, mounted).await, b"hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_after_a_write_through_control_leaves_its_content_or_no_trace_of_it() {
    for seed in 0..24 {
        let sim = Sim::new(quiet()).await;
        // So that the name of the pack survives.
        file(&sim.mfs, "whole", &vec![1; 1 << 20]).await;
        sim.mfs.sync().unwrap();
        let before = seen(&sim.mfs).await.unwrap();
        let sink = sim.blocks.own_sink();
        let bytes = vec![7; 300 << 10];
        let block = Block::seal(RAW, SHA2_256, bytes.clone().into()).unwrap();
        let content = *block.cid();
        sink.put(block).unwrap();
        sink.flush().unwrap();
        let staged = Staged::Write {
            path: path("/new"),
            content,
            size: bytes.len() as u64,
            at: WriteAt::Whole,
            mode: 0o644,
        };
        sim.mfs.perform_staged(ME, &[staged]).await.unwrap();
        drop(sink);
        let after = seen(&sim.mfs).await.unwrap();
        let sim = sim.crashed(seed).await;
        let found = seen(&sim.mfs).await.expect("what is there can be read");
        assert!(found == before || found == after, "seed {seed}");
        sim.mfs.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refers_to_a_sealed_block_waits_for_it_while_another_makes_it_safe() {
    let (place, disk) = (Place::new(), FaultDisk::new());
    let (blocks, mfs) = mfs_support::open(&place, &quiet(), Arc::new(disk.clone())).await;
    let from = file(&mfs, "from", b"small").await;
    let (one, two) = (file(&mfs, "1", b"").await, file(&mfs, "2", b"").await);
    let cid = mfs.cid(from).await.unwrap().unwrap();
    assert!(!blocks.has_own(&cid), "it waits in memory");
    let slow = Effect::Slow(Duration::from_millis(700));
    disk.fail(Op::Append, "packs", 0, 1, slow);
    let first = {
        let mfs = mfs.clone();
        let source = CopySource::Node(from);
        tokio::spawn(async move { mfs.copy_range(ME, source, 0, one, 0, 5).await })
    };
    tokio::time::sleep(Duration::from_millis(150)).await;
    let source = CopySource::Node(from);
    let copied = mfs.copy_range(ME, source, 0, two, 0, 5).await;
    assert_eq!(copied.unwrap(), 5);
    assert!(blocks.has_own(&cid), "what is acknowledged survives a kill");
    assert_eq!(first.await.unwrap().unwrap(), 5);
    mfs.close().await;
}

/// A mounted directory with `y` and `sub/z`, of which there are links outside,
/// after a checkpoint and a start.
async fn linked_from_outside() -> World {
    let world = World::with(quiet()).await;
    let mut dag = Dag::default();
    let leaf = dag.leaf(Bytes::from_static(b"far away"));
    let below = dag.directory(&[("z", leaf)]);
    let root = dag.directory(&[("y", leaf), ("sub", below)]);
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    world.dir(ROOT, "d").await;
    mount(&world.mfs, &root, "/d/M").await;
    for (from, to) in [("/d/M/y", "/x"), ("/d/M/sub/z", "/w")] {
        let (from, to) = (path(from), path(to));
        let link = Staged::Link { from, to };
        world.mfs.perform_staged(ME, &[link]).await.unwrap();
    }
    world.mfs.checkpoint().await.unwrap();
    world.killed().await
}

async fn checkpoint(mfs: &Mfs) {
    let made = tokio::time::timeout(Duration::from_secs(20), mfs.checkpoint());
    made.await.expect("a checkpoint ends").unwrap();
}

/// The names outside are the only ones, and can be changed.
async fn only_outside(world: World) {
    for round in 0..2 {
        for name in ["x", "w"] {
            let node = at(&world.mfs, name).await.unwrap();
            let nlink = world.mfs.attr(node).unwrap().nlink;
            assert_eq!(nlink, 1, "{name}, round {round}");
            let set = chmod(&format!("/{name}"), 0o600 + round);
            world.mfs.perform_staged(ME, &[set]).await.unwrap();
        }
        checkpoint(&world.mfs).await;
    }
    let world = world.killed().await;
    for name in ["x", "w"] {
        let node = at(&world.mfs, name).await.unwrap();
        let attr = world.mfs.attr(node).unwrap();
        assert_eq!((attr.nlink, attr.mode), (1, 0o601), "{name}");
        assert_eq!(world.read(node).await, b"far away");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unmounting_by_path_takes_the_names_below_of_what_is_linked_from_outside() {
    let world = linked_from_outside().await;
    let path = path("/d/M");
    let gone = [Staged::Unmount { path, force: true }];
    world.mfs.perform_staged(ME, &gone).await.unwrap();
    checkpoint(&world.mfs).await;
    only_outside(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_directory_with_a_mount_below_takes_the_names_there_too() {
    let world = linked_from_outside().await;
    let gone = [Staged::Remove {
        path: path("/d"),
        recursive: true,
    }];
    world.mfs.perform_staged(ME, &gone).await.unwrap();
    only_outside(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_in_the_same_transaction_is_unmounted_with_its_names() {
    let world = linked_from_outside().await;
    let id = world
        .mfs
        .begin_transaction(ME, Duration::from_secs(60))
        .unwrap();
    let (from, to) = (path("/d/M"), path("/N"));
    let mode = cidfs::tree::mfs::RenameMode::Replace;
    let path = to.clone();
    let into = false;
    let moved = Staged::Move {
        from,
        to,
        into,
        mode,
    };
    for staged in [moved, Staged::Unmount { path, force: true }] {
        world.mfs.stage(id, staged).unwrap();
    }
    world.mfs.commit_transaction(id).await.unwrap();
    only_outside(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_somebody_is_in_while_it_is_unmounted_holds_no_checkpoint_up() {
    let world = linked_from_outside().await;
    let inside = at(&world.mfs, "d/M").await.unwrap();
    assert!(world.mfs.hold(inside));
    let path = path("/d/M");
    let gone = [Staged::Unmount { path, force: true }];
    world.mfs.perform_staged(ME, &gone).await.unwrap();
    let set = chmod("/x", 0o640);
    world.mfs.perform_staged(ME, &[set]).await.unwrap();
    checkpoint(&world.mfs).await;
    world.mfs.release(inside, 1);
    only_outside(world).await;
}

/// A clock that counts how often it is asked.
#[derive(Default)]
struct Asked(std::sync::atomic::AtomicU64);

impl cidfs::clock::Clock for Asked {
    fn now(&self) -> std::time::SystemTime {
        let count = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(count)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_over_a_tree_that_is_not_loaded_is_not_planned_again_for_each_name() {
    const COUNT: usize = 600;
    let world = World::with(quiet()).await;
    let dir = world.dir(ROOT, "d").await;
    for count in 0..COUNT {
        let node = world.dir(dir, &format!("{count}")).await;
        world.file(node, "f", b"x").await;
    }
    let World {
        place,
        blocks,
        mfs,
        options,
    } = world;
    mfs.close().await;
    drop(mfs);
    blocks.close();
    let disk: Arc<dyn cidfs::disk::Disk> = Arc::new(cidfs::disk::RealDisk);
    let blocks = place.open_on(disk.clone(), place.source.clone());
    let clock = Arc::new(Asked::default());
    let parts = cidfs::tree::mfs::Parts {
        journal_dir: place.path("journal"),
        disk,
        clock: clock.clone(),
        blocks: blocks.clone(),
        reader: cidfs::unixfs::Reader::new(blocks.clone()),
    };
    let mfs = Mfs::open(parts, options).await.unwrap();
    let id = mfs.begin_transaction(ME, Duration::from_secs(60)).unwrap();
    for count in 0..COUNT {
        let at = format!("/d/{count}");
        let staged = match count % 6 {
            0 => chmod(&format!("{at}/f"), 0o600),
            1 => Staged::Mkdir {
                path: path(&format!("{at}/new")),
                mode: 0o755,
                parents: true,
            },
            2 => Staged::Symlink {
                path: path(&format!("{at}/l")),
                target: "f".into(),
            },
            3 => Staged::Remove {
                path: path(&format!("{at}/f")),
                recursive: false,
            },
            4 => Staged::Remove {
                path: path(&at),
                recursive: true,
            },
            _ => Staged::Move {
                from: path(&format!("{at}/f")),
                to: path(&format!("{at}/g")),
                into: false,
                mode: cidfs::tree::mfs::RenameMode::Replace,
            },
        };
        mfs.stage(id, staged).unwrap();
    }
    let asked = || clock.0.load(std::sync::atomic::Ordering::SeqCst);
    let before = asked();
    mfs.commit_transaction(id).await.unwrap();
    // Each plan asks for the time once.
    assert!(asked() - before < 10, "planned {} times", asked() - before);
    mfs.check_sound().unwrap();
    mfs.close().await;
}
