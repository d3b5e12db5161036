//! One thing goes wrong, and everything else goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cidfs::block::Cid;
use cidfs::clock::SystemClock;
use cidfs::disk::{Disk, RealDisk};
use cidfs::testing::dag::Dag;
use cidfs::testing::sim_disk::SimDisk;
use cidfs::testing::source::{Fault, FaultSource};
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{Mfs, MfsOptions, New, NodeId, Parts, RenameMode};
use cidfs::unixfs::dir_build::DirRules;
use cidfs::unixfs::profile::Profile;
use cidfs::unixfs::{Reader, hamt};

use crate::mfs_sim::{Sim, open, quiet};
use crate::mfs_support::{ME, World, dump, open_waiting, read, two_halves};
use crate::store_support::Place;

const ROOT: NodeId = NodeId::ROOT;
const CHUNK: u64 = 1 << 20;

async fn file(mfs: &Mfs, name: &str, bytes: &[u8]) -> NodeId {
    let made = mfs.make(ME, ROOT, name.as_bytes(), New::File, 0o644, 0, false);
    let node = made.await.unwrap().node;
    mfs.write(ME, node, 0, bytes, false).await.unwrap();
    node
}

/// Damages the own block that begins with these bytes.
fn damage(disk: &SimDisk, place: &Place, bytes: &[u8]) {
    let dir = place.path("packs/own");
    for entry in disk.list(&dir).unwrap() {
        let pack: PathBuf = dir.join(entry.name);
        let content = disk.read(&pack, 1 << 30).unwrap();
        let found = content.windows(bytes.len()).rposition(|at| at == bytes);
        if let Some(at) = found {
            disk.flip(&pack, at).unwrap();
            return;
        }
    }
    panic!("not in a pack");
}

fn is_eio(error: &TreeError) -> bool {
    matches!(
        error,
        TreeError::Unavailable(_) | TreeError::Malformed { .. }
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_into_a_damaged_chunk_is_refused_and_checkpoints_go_on() {
    let sim = Sim::new(quiet()).await;
    let chunks: Vec<Vec<u8>> = (1..4).map(|seed| vec![seed; CHUNK as usize]).collect();
    let node = file(&sim.mfs, "f", &chunks.concat()).await;
    sim.mfs.checkpoint().await.unwrap();
    let disk = sim.disk.kill();
    damage(&disk, &sim.place, &[2; 1000]);
    let sim = sim.next(disk).await;
    sim.mfs.lookup(ROOT, b"f", false).await.unwrap();
    for (at, len) in [(CHUNK + 5, 4), (CHUNK - 2, 4), (2 * CHUNK - 2, 4)] {
        let wrote = sim.mfs.write(ME, node, at, &vec![9; len], false).await;
        assert!(wrote.as_ref().is_err_and(is_eio), "{at}: {wrote:?}");
    }
    let size = cidfs::tree::mfs::SetAttr {
        size: Some(CHUNK + 9),
        ..Default::default()
    };
    let cut = sim.mfs.set_attr(ME, node, size).await;
    assert!(cut.as_ref().is_err_and(is_eio), "{cut:?}");
    sim.mfs.write(ME, node, 5, b"good", false).await.unwrap();
    file(&sim.mfs, "other", b"other").await;
    sim.mfs.checkpoint().await.unwrap();
    assert_eq!(sim.mfs.figures().unwrap().checkpoint_failed, None);
    // Written anew as a whole it is good again.
    let again = sim.mfs.write(ME, node, CHUNK, &chunks[1], false).await;
    again.unwrap();
    sim.mfs.checkpoint().await.unwrap();
    let sim = sim.killed().await;
    sim.mfs.lookup(ROOT, b"f", false).await.unwrap();
    let mut want = chunks.concat();
    want[5..9].copy_from_slice(b"good");
    assert!(read(&sim.mfs, node).await == want);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_sealed_holds_up_neither_writes_nor_the_start() {
    let mut sim = Sim::new(quiet()).await;
    let chunks: Vec<Vec<u8>> = (1..4).map(|seed| vec![seed; CHUNK as usize]).collect();
    let node = file(&sim.mfs, "f", &chunks.concat()).await;
    sim.mfs.checkpoint().await.unwrap();
    // Parts of chunks, which wait in memory; then what stays of them is damaged.
    for chunk in 0..3 {
        let at = chunk * CHUNK + 10;
        let wrote = sim.mfs.write(ME, node, at, &[7; 100 << 10], false);
        wrote.await.unwrap();
    }
    let disk = sim.disk.kill();
    damage(&disk, &sim.place, &[2; 1000]);
    sim.options.unsealed_bytes_max = 64 << 10;
    let sim = sim.next(disk).await;
    assert_eq!(sim.mfs.recovery().entries_applied, 3);
    for count in 0..9_u8 {
        let other = file(&sim.mfs, &format!("f{count}"), &[count; 40 << 10]).await;
        assert_eq!(read(&sim.mfs, other).await, [count; 40 << 10]);
    }
    sim.mfs.lookup(ROOT, b"f", false).await.unwrap();
    let more = sim.mfs.write(ME, node, 5, b"more", false).await;
    assert!(more.is_err(), "what cannot be sealed does not grow");
    // The checkpoint has all the others, and this one as it was.
    sim.mfs.checkpoint().await.unwrap();
    let figures = sim.mfs.figures().unwrap();
    assert_eq!(figures.checkpoint_failed, None);
    assert!(figures.held_back[0].0 == "/f" && figures.held_back[0].1.contains("damaged"));
    let cid = sim.mfs.cid(ROOT).await;
    assert!(cid.as_ref().is_err_and(is_eio), "{cid:?}");
    let earlier = {
        let kept = cidfs::tree::mfs::KeptNode::root(*sim.mfs.checkpoints().last().unwrap());
        let file = sim.mfs.kept_find(&kept, b"f").await.unwrap();
        let mut bytes = [0; 20];
        let at = 2 * CHUNK + 10;
        sim.mfs.kept_read(&file, at, &mut bytes).await.unwrap();
        bytes
    };
    assert_eq!(earlier, [3; 20], "from before the last write");
    let seen = async |mfs: &Mfs| {
        let attr = mfs.lookup(ROOT, b"f", false).await.unwrap();
        let mut bytes = vec![0; 20];
        mfs.read(attr.node, 0, &mut bytes).await.unwrap();
        let mut last = vec![0; 200 << 10];
        mfs.read(attr.node, 2 * CHUNK, &mut last).await.unwrap();
        (attr, bytes, last)
    };
    let before = seen(&sim.mfs).await;
    assert_eq!(before.1, [[1; 10], [7; 10]].concat());
    let sim = sim.crashed(5).await;
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    // One by the way, for the CID of the root.
    assert_eq!(sim.mfs.checkpoints().len(), 3);
    assert!(seen(&sim.mfs).await == before, "as it was acknowledged");
    let again = sim.mfs.write(ME, node, CHUNK, &chunks[1], false).await;
    again.unwrap();
    sim.mfs.checkpoint().await.unwrap();
    assert_eq!(sim.mfs.figures().unwrap().checkpoint_failed, None);
    let before = dump(&sim.mfs).await;
    let sim = sim.killed().await;
    assert_eq!(sim.mfs.recovery().entries_applied, 0);
    assert_eq!(dump(&sim.mfs).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_file_whose_leaf_has_another_length_cannot_be_written_into() {
    let world = World::new().await;
    let mut dag = Dag::default();
    let leaves = [dag.leaf(vec![1; 100]), dag.leaf(vec![2; 100])];
    let hostile = dag.file(&[(leaves[0], 100), (leaves[1], 200)]);
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    let mounted = world.mfs.mount(ME, ROOT, b"m", &hostile).await.unwrap();
    let wrote = world.mfs.write(ME, mounted.node, 150, b"x", false).await;
    assert!(wrote.as_ref().is_err_and(is_eio), "{wrote:?}");
    world
        .mfs
        .write(ME, mounted.node, 50, b"x", false)
        .await
        .unwrap();
    world.mfs.checkpoint().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_becomes_durable_while_a_checkpoint_waits_for_a_source() {
    let place = Place::new();
    let (root, far) = two_halves(&place);
    let source = Arc::new(FaultSource::new(place.source.clone()));
    source.for_cid(&far, Some(Fault::Hang));
    let options = MfsOptions {
        commit_interval: Duration::from_millis(20),
        checkpoint_changes: 1,
        ..MfsOptions::default()
    };
    let deadline = Duration::from_secs(6);
    let (_, mfs) = open_waiting(&place, &options, source.clone(), deadline).await;
    let asked = source.gets();
    let mounted = mfs.mount(ME, ROOT, b"m", &root).await.unwrap();
    mfs.write(ME, mounted.node, 50, b"x", false).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while source.gets() < asked + 4 {
        assert!(Instant::now() < deadline, "no checkpoint was begun");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    file(&mfs, "f", b"acknowledged").await;
    let last = mfs.journal().last();
    while mfs.journal().durable() < last {
        assert!(began.elapsed() < Duration::from_secs(4), "not synced");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    source.for_cid(&far, None);
    mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_at_the_start_does_not_count_as_left_unsynced() {
    let sim = Sim::new(quiet()).await;
    file(&sim.mfs, "f", b"f").await;
    let sim = sim.reopened().await;
    (0..9000).for_each(|_| sim.clock.tick());
    let sim = sim.killed().await;
    assert_eq!(sim.mfs.figures().unwrap().unsynced_for, Duration::ZERO);
    file(&sim.mfs, "g", b"g").await;
    (0..50).for_each(|_| sim.clock.tick());
    // A tick is a thousand seconds.
    let waits = sim.mfs.figures().unwrap().unsynced_for.as_secs();
    assert!((50_000..50_001).contains(&waits), "{waits}");
}

/// Names with one murmur3 hash: the second block of each brings the hash's
/// state to where the first one's is.
fn twins(count: u64) -> Vec<Vec<u8>> {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let inverse = |odd: u64| {
        let step = |x: u64, _| x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x)));
        (0..6).fold(odd, step)
    };
    let state = |block: &[u8], (h1, h2): (u64, u64)| {
        let half = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
        let k1 = half(0).wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
        let h1 = (h1 ^ k1).rotate_left(27).wrapping_add(h2);
        let h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        let k2 = half(8).wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
        let h2 = (h2 ^ k2).rotate_left(31).wrapping_add(h1);
        (h1, h2.wrapping_mul(5).wrapping_add(0x3849_5ab5))
    };
    let (t1, t2) = state(b"the second block", state(b"the first block.", (0, 0)));
    let five = inverse(5);
    let name = |number: u64| {
        let first = format!("name {number:011}");
        let (h1, h2) = state(first.as_bytes(), (0, 0));
        let x1 = t1.wrapping_sub(0x52dc_e729).wrapping_mul(five);
        let k1 = x1.wrapping_sub(h2).rotate_right(27) ^ h1;
        let k1 = k1.wrapping_mul(inverse(C2)).rotate_right(31);
        let x2 = t2.wrapping_sub(0x3849_5ab5).wrapping_mul(five);
        let k2 = x2.wrapping_sub(t1).rotate_right(31) ^ h2;
        let k2 = k2.wrapping_mul(inverse(C1)).rotate_right(33);
        let second = [
            k1.wrapping_mul(inverse(C1)).to_le_bytes(),
            k2.wrapping_mul(inverse(C2)).to_le_bytes(),
        ];
        [first.as_bytes(), &second.concat()].concat()
    };
    let fit = (0..)
        .map(name)
        .filter(|name| !name.contains(&0) && !name.contains(&b'/'));
    let names: Vec<_> = fit.take(count as usize).collect();
    assert!(names.iter().all(|n| hamt::hash(n) == hamt::hash(&names[0])));
    names
}

async fn make(mfs: &Mfs, dir: NodeId, name: &[u8]) -> Result<NodeId, TreeError> {
    let made = mfs.make(ME, dir, name, New::File, 0o644, 0, false).await;
    made.map(|attr| attr.node)
}

async fn list(mfs: &Mfs, dir: NodeId) -> Vec<Bytes> {
    let (mut cookie, mut names) = (0, Vec::new());
    loop {
        let page = mfs.readdir(dir, cookie, 2).await.unwrap();
        let Some(last) = page.last() else {
            return names;
        };
        assert!(last.cookie > cookie);
        cookie = last.cookie;
        names.extend(page.into_iter().map(|entry| entry.name));
        assert!(names.len() < 100, "the listing has no end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_name_with_the_hash_of_one_that_is_there_is_refused() {
    let names = twins(4);
    // A HAMT, and a directory that is in one block so far.
    for threshold_bytes in [0, 1 << 20] {
        let world = World::with(MfsOptions {
            dir_rules: Some(DirRules {
                threshold_bytes,
                ..Profile::default().into()
            }),
            ..MfsOptions::default()
        })
        .await;
        let refused = |made: Result<NodeId, TreeError>| {
            assert!(matches!(made, Err(TreeError::Invalid(_))), "{made:?}");
        };
        let dir = world.dir(ROOT, "d").await;
        make(&world.mfs, dir, b"other").await.unwrap();
        let node = make(&world.mfs, dir, &names[0]).await.unwrap();
        refused(make(&world.mfs, dir, &names[1]).await);
        let linked = world.mfs.link(ME, node, dir, &names[1], false).await;
        refused(linked.map(|attr| attr.node));
        let mut moved = Vec::new();
        for (from, to) in [(b"other" as &[u8], &names[1]), (&names[0], &names[1])] {
            let (from, to) = ((dir, from), (dir, &to[..]));
            moved.push(world.mfs.rename(ME, from, to, RenameMode::Replace).await);
        }
        assert!(matches!(moved[0], Err(TreeError::Invalid(_))), "{moved:?}");
        assert!(moved[1].is_ok(), "it takes the place of the other");
        world.mfs.checkpoint().await.unwrap();
        // Now the name is in a block, and not loaded.
        let world = world.killed().await;
        let dir = world.mfs.lookup(ROOT, b"d", false).await.unwrap().node;
        refused(make(&world.mfs, dir, &names[2]).await);
        world.mfs.unlink(ME, dir, &names[1]).await.unwrap();
        make(&world.mfs, dir, &names[2]).await.unwrap();
        refused(make(&world.mfs, dir, &names[1]).await);
        world.mfs.checkpoint().await.unwrap();
        let world = world.killed().await;
        let dir = world.mfs.lookup(ROOT, b"d", false).await.unwrap().node;
        refused(make(&world.mfs, dir, &names[3]).await);
        let mut listed = list(&world.mfs, dir).await;
        listed.sort();
        assert_eq!(listed, [&names[2][..], b"other"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_names_with_one_hash_are_listed_once_each() {
    let world = World::new().await;
    let mut dag = Dag::default();
    let leaf = dag.leaf(&b"leaf"[..]);
    let mut names = twins(10);
    names.push(b"other".to_vec());
    names.sort();
    let link = |name: &Vec<u8>| cidfs::unixfs::dag_pb::Link {
        cid: leaf,
        name: Some(name.clone().into()),
        tsize: Some(4),
    };
    let links = names.iter().map(link).collect();
    let kind = cidfs::unixfs::data::Kind::Directory;
    let root = dag.node(links, &cidfs::unixfs::data::UnixFs::new(kind));
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    let mounted = world.mfs.mount(ME, ROOT, b"m", &root).await.unwrap();
    let mut listed = list(&world.mfs, mounted.node).await;
    listed.sort();
    assert_eq!(listed, names);
    // Some go: the rest stays listed once each.
    for name in names.iter().step_by(2) {
        world.mfs.unlink(ME, mounted.node, name).await.unwrap();
    }
    let mut listed = list(&world.mfs, mounted.node).await;
    listed.sort();
    let stay: Vec<_> = names.iter().skip(1).step_by(2).collect();
    assert_eq!(listed, stay);
    world.mfs.checkpoint().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_directory_with_names_of_one_hash_grows_as_one_block_and_then_no_more() {
    let world = World::with(quiet()).await;
    let mut dag = Dag::default();
    let leaf = dag.leaf(&b"leaf"[..]);
    let name = |index: usize| format!("{index:0250}").into_bytes();
    let mut names = twins(2);
    names.extend((0..850).map(name));
    names.sort();
    let link = |name: &Vec<u8>| cidfs::unixfs::dag_pb::Link {
        cid: leaf,
        name: Some(name.clone().into()),
        tsize: Some(4),
    };
    let links = names.iter().map(link).collect();
    let kind = cidfs::unixfs::data::Kind::Directory;
    let root = dag.node(links, &cidfs::unixfs::data::UnixFs::new(kind));
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    let dir = world.mfs.mount(ME, ROOT, b"m", &root).await.unwrap().node;
    let mut made = 850;
    let refused = loop {
        match make(&world.mfs, dir, &name(made)).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        if made % 400 == 0 {
            world.mfs.checkpoint().await.expect("it grows as one block");
        }
        assert!(made < 5000, "it grows without an end");
    };
    assert!(matches!(refused, TreeError::Limit(_)), "{refused:?}");
    assert!(made > 2000, "{made}");
    world.mfs.checkpoint().await.unwrap();
    world.mfs.unlink(ME, dir, &name(1)).await.unwrap();
    world.mfs.checkpoint().await.unwrap();
    let world = world.reopen().await;
    let dir = world.mfs.lookup(ROOT, b"m", false).await.unwrap().node;
    assert_eq!(
        world.mfs.readdir(dir, 0, 9999).await.unwrap().len(),
        made + 1
    );
    let full = made + 400;
    let refused = loop {
        match make(&world.mfs, dir, &name(made)).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < full, "it knows how large it is");
    };
    assert!(matches!(refused, TreeError::Limit(_)), "{refused:?}");
    // Without the two it is a directory like any other.
    for twin in twins(2) {
        world.mfs.unlink(ME, dir, &twin).await.unwrap();
    }
    world.mfs.checkpoint().await.unwrap();
    let world = world.reopen().await;
    let dir = world.mfs.lookup(ROOT, b"m", false).await.unwrap().node;
    make(&world.mfs, dir, &name(made + 9)).await.unwrap();
    world.mfs.checkpoint().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_root_is_called_as_the_snapshots_are() {
    let world = World::new().await;
    let denied = |done: Result<(), TreeError>| {
        assert!(matches!(done, Err(TreeError::NotPermitted(_))), "{done:?}");
    };
    let name = b".snapshots";
    denied(make(&world.mfs, ROOT, name).await.map(drop));
    let node = world.file(ROOT, "f", b"f").await;
    denied(world.mfs.link(ME, node, ROOT, name, false).await.map(drop));
    let (from, to) = ((ROOT, &b"f"[..]), (ROOT, &name[..]));
    denied(world.mfs.rename(ME, from, to, RenameMode::Replace).await);
    let cid = world.mfs.cid(node).await.unwrap().unwrap();
    denied(world.mfs.mount(ME, ROOT, name, &cid).await.map(drop));
    let below = world.dir(ROOT, "d").await;
    make(&world.mfs, below, name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_listed_though_children_cannot_be_had_and_fetches_no_raw_one() {
    let world = World::new().await;
    let mut dag = Dag::default();
    let raw: Vec<Cid> = (1..5_u8).map(|n| dag.leaf(vec![n; 100])).collect();
    let file = dag.file(&[(raw[0], 100)]);
    let gone = dag.file(&[(raw[1], 100)]);
    let links = [("a", file), ("gone", gone), ("r0", raw[2]), ("r1", raw[3])];
    let links = links.map(|(name, cid)| cidfs::testing::dag::link(name, &cid, 100));
    let kind = cidfs::unixfs::data::Kind::Directory;
    let unixfs = cidfs::unixfs::data::UnixFs::new(kind);
    let root = dag.node(links.to_vec(), &unixfs);
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    world.place.source.remove(&gone);
    world.place.source.remove(&raw[3]);
    let mounted = world.mfs.mount(ME, ROOT, b"m", &root).await.unwrap();
    let before = world.place.source.gets();
    let (mut cookie, mut listed) = (0, Vec::new());
    loop {
        let page = world.mfs.list(mounted.node, cookie, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        cookie = last.cookie;
        listed.extend(page.into_iter().map(|entry| {
            let name = String::from_utf8(entry.name.to_vec()).unwrap();
            (name, entry.attr.size, entry.guessed)
        }));
    }
    listed.sort();
    let want = [("a", false), ("gone", true), ("r0", true), ("r1", true)];
    let want = want.map(|(name, guessed)| (name.to_owned(), 100, guessed));
    assert_eq!(listed, want);
    let asked = world.place.source.gets() - before;
    assert_eq!(asked, 2, "the two nodes that may be directories");
    // What can be had is there as ever, and the rest is no proof of absence.
    let found = world.mfs.lookup(mounted.node, b"r0", false).await.unwrap();
    assert_eq!(found.size, 100);
    let found = world.mfs.lookup(mounted.node, b"gone", false).await;
    assert!(found.as_ref().is_err_and(is_eio), "{found:?}");
}

/// The only segment of a journal, and where in it some bytes are.
fn find_in_journal(world: &World, bytes: &[u8]) -> (PathBuf, usize) {
    let files = crate::store_support::files(&world.place.path("journal"));
    for file in files
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "seg"))
    {
        let content = std::fs::read(file).unwrap();
        if let Some(at) = content.windows(bytes.len()).position(|at| at == bytes) {
            return (file.clone(), at);
        }
    }
    panic!("not in the journal");
}

async fn killed_and_damaged(world: World, bytes: &[u8]) -> World {
    let (file, at) = find_in_journal(&world, bytes);
    let World {
        place,
        blocks,
        mfs,
        options,
    } = world;
    drop(mfs);
    blocks.close();
    drop(blocks);
    let mut content = std::fs::read(&file).unwrap();
    content[at] ^= 0xff;
    std::fs::write(&file, content).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (blocks, mfs) = crate::mfs_support::open(&place, &options, disk).await;
    World {
        place,
        blocks,
        mfs,
        options,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_what_an_idle_tree_has_synced_is_told_from_a_torn_end() {
    let world = World::with(MfsOptions {
        commit_interval: Duration::from_millis(20),
        ..MfsOptions::default()
    })
    .await;
    for count in 0..9 {
        world.file(ROOT, &format!("file {count}"), b"bytes").await;
    }
    let journal = world.mfs.journal();
    let changes = journal.last();
    crate::store_support::until("the end is marked", || {
        journal.last() > changes && journal.durable() == journal.last()
    });
    let last = journal.last();
    assert_eq!(last, changes.next(), "one mark");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.mfs.journal().last(), last, "an idle tree stays idle");
    let marked = world.mfs.history().get(last.0).unwrap().unwrap();
    assert_eq!(marked.operation_type, "synced");
    let world = world.killed().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.mfs.journal().last(), last, "nor after a start");
    let world = killed_and_damaged(world, b"/file 4").await;
    assert!(world.mfs.journal().check().is_err(), "it is read-only");
    assert_eq!(world.mfs.recovery().errors.len(), 1);
    assert_eq!(world.mfs.figures().unwrap().set_aside, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_entries_that_a_start_cuts_off_are_counted_and_named_until_they_are_removed() {
    let world = World::with(quiet()).await;
    for count in 0..9 {
        world.file(ROOT, &format!("file {count}"), b"bytes").await;
    }
    let parts = |world: &World| Parts {
        journal_dir: world.place.path("journal"),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        blocks: world.blocks.clone(),
        reader: Reader::new(world.blocks.clone()),
    };
    let (file, at) = find_in_journal(&world, b"/file 4");
    let mut content = std::fs::read(&file).unwrap();
    content[at] ^= 0xff;
    std::fs::write(&file, content).unwrap();
    // A check says what a start does.
    let found = Mfs::inspect_closed(&parts(&world), 1, &|_| {})
        .await
        .unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    assert!(found.torn.is_some());
    // The broken entry is a create; behind it are its write and the last four files.
    assert_eq!(found.torn_entries, 9);
    let world = world.killed().await;
    assert_eq!(world.mfs.recovery().torn_entries, 9);
    assert!(world.mfs.recovery().torn_bytes > 0);
    let aside = world.mfs.figures().unwrap().set_aside;
    assert_eq!(aside.len(), 1);
    world.mfs.close().await;
    let found = Mfs::inspect_closed(&parts(&world), 1, &|_| {})
        .await
        .unwrap();
    assert_eq!(found.set_aside, aside);
    std::fs::remove_file(world.place.path("journal").join(&aside[0])).unwrap();
    assert_eq!(world.mfs.figures().unwrap().set_aside, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_anywhere_in_the_newest_checkpoint_leaves_a_tree_that_opens() {
    let sim = Sim::new(quiet()).await;
    for number in 0..600 {
        file(&sim.mfs, &format!("file {number:03}"), b"").await;
    }
    sim.mfs.checkpoint().await.unwrap();
    let pack = |disk: &SimDisk, dir: &std::path::Path| {
        let packs = disk.list(dir).unwrap();
        let newest = packs.into_iter().filter(|entry| entry.name != "reserve");
        newest.max_by_key(|entry| entry.len).unwrap()
    };
    let dir = sim.place.path("packs/own");
    let before = pack(&sim.disk, &dir).len;
    file(&sim.mfs, "one more", b"").await;
    sim.mfs.checkpoint().await.unwrap();
    sim.mfs.close().await;
    let whole = pack(&sim.disk, &dir);
    assert!(whole.len > before);
    let (place, clock, options) = (sim.place.clone(), sim.clock.clone(), sim.options.clone());
    for at in (before..whole.len).step_by(97) {
        let disk = sim.disk.kill();
        disk.flip(&dir.join(&whole.name), at as usize).unwrap();
        let opened = open(&place, &disk, &clock, &options).await;
        let (blocks, mfs) = opened.unwrap_or_else(|error| panic!("byte {at}: {error}"));
        mfs.close().await;
        blocks.close();
    }
}
