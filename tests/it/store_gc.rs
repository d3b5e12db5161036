//! Garbage collection: keeps what is live whatever happens, and frees the rest.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use cidfs::block::{Block, Cid, DAG_CBOR, IDENTITY, RAW, SHA2_256};
use cidfs::cache::{Blocks, CacheError, GcReport, Pin, PinMode, Tier};
use cidfs::disk::Disk;
use cidfs::testing::disk::FaultDisk;
use cidfs::testing::sim_disk::SimDisk;

use super::store_support::{Place, assert_absent, assert_local, block};

/// A node that links to others: their CIDs, one after the other.
fn node(below: &[&Block], salt: u8) -> Block {
    let mut data = vec![salt];
    for block in below {
        data.extend(block.cid().to_bytes());
    }
    Block::seal(DAG_CBOR, SHA2_256, Bytes::from(data)).unwrap()
}

fn links(block: &Block) -> Result<Vec<Cid>, String> {
    let mut rest = &block.data()[1..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        found.push(Cid::read_bytes(&mut rest).map_err(|error| error.to_string())?);
    }
    Ok(found)
}

fn gc(store: &Blocks, roots: &[&Block]) -> Result<GcReport, CacheError> {
    let roots = roots.iter().map(|block| (*block.cid(), PinMode::Recursive));
    let roots: Vec<_> = roots.collect();
    store.gc(&links, &|| Ok(roots.clone()), &|_| {})
}

fn pin(block: &Block, mode: PinMode) -> Pin {
    Pin {
        cid: *block.cid(),
        mode,
        name: None,
    }
}

/// Two trees that share a leaf, and a block that nothing leads to.
struct Forest {
    leaves: Vec<Block>,
    one: Block,
    two: Block,
    lone: Block,
}

impl Forest {
    fn new() -> Self {
        let leaves: Vec<_> = (0..3).map(|seed| block(seed, 2000)).collect();
        Self {
            one: node(&[&node(&[&leaves[0]], 9), &leaves[1]], 1),
            two: node(&[&leaves[1], &leaves[2]], 2),
            lone: block(77, 3000),
            leaves,
        }
    }

    fn all(&self) -> Vec<Block> {
        let inner = node(&[&self.leaves[0]], 9);
        let more = [inner, self.one.clone(), self.two.clone(), self.lone.clone()];
        self.leaves.iter().cloned().chain(more).collect()
    }

    fn put(&self, store: &Blocks) {
        for block in self.all() {
            store.put(block, Tier::Own).unwrap();
        }
    }
}

#[test]
fn what_is_pinned_stays_and_the_rest_goes() {
    let place = Place::new();
    let forest = Forest::new();
    let store = place.open();
    forest.put(&store);
    store.sync().unwrap();
    let before = store.figures().own.bytes;
    store
        .pins()
        .add(&[pin(&forest.one, PinMode::Recursive)])
        .unwrap();
    let report = gc(&store, &[]).unwrap();
    assert_eq!((report.kept_blocks, report.freed_blocks), (4, 3));
    assert_eq!(report.freed_bytes, before - store.figures().own.bytes);
    let check = |store: &Blocks| {
        let gone = [&forest.two, &forest.lone, &forest.leaves[2]];
        for block in forest.all() {
            if gone.contains(&&block) {
                assert_absent(store, block.cid());
            } else {
                assert_local(store, &block);
            }
        }
    };
    drop(store);
    let store = place.open();
    check(&store);
    drop(store);
    place.forget_clean_end();
    let store = place.open();
    check(&store);
    assert!(store.verify_all(&|_| {}).unwrap().is_clean());
    assert_eq!(gc(&store, &[]).unwrap().freed_blocks, 0);
}

#[test]
fn a_direct_pin_keeps_its_block_only_and_extra_roots_keep_all_below() {
    let place = Place::new();
    let forest = Forest::new();
    let store = place.open();
    forest.put(&store);
    store
        .pins()
        .add(&[pin(&forest.one, PinMode::Direct)])
        .unwrap();
    gc(&store, &[&forest.two]).unwrap();
    drop(store);
    let store = place.open();
    for kept in [
        &forest.one,
        &forest.two,
        &forest.leaves[1],
        &forest.leaves[2],
    ] {
        assert_local(&store, kept);
    }
    assert_absent(&store, forest.leaves[0].cid());
}

#[test]
fn nothing_pinned_leaves_no_pack_and_a_block_can_come_back() {
    let mut place = Place::new();
    place.options.memory_bytes_max = 0;
    let forest = Forest::new();
    let store = place.open();
    forest.put(&store);
    assert_eq!(gc(&store, &[]).unwrap().freed_blocks, 7);
    assert!(place.packs("own").is_empty());
    assert_absent(&store, forest.one.cid());
    forest.put(&store);
    store.sync().unwrap();
    forest
        .all()
        .iter()
        .for_each(|block| assert_local(&store, block));
}

#[test]
fn a_collection_that_stops_at_any_step_loses_nothing_live() {
    let forest = Forest::new();
    let set_up = || {
        let place = Place::new();
        let store = place.open();
        forest.put(&store);
        store
            .pins()
            .add(&[pin(&forest.two, PinMode::Recursive)])
            .unwrap();
        store.close();
        place
    };
    let live = [&forest.two, &forest.leaves[1], &forest.leaves[2]];
    let mut finished = false;
    for step in 0.. {
        let place = set_up();
        let disk = FaultDisk::new();
        let store = place.open_on(Arc::new(disk.clone()), place.source.clone());
        disk.stop_after(step);
        let outcome = gc(&store, &[]);
        live.iter().for_each(|block| assert_local(&store, block));
        // The process ends here: nothing that it does from now on arrives.
        drop(store);
        let store = place.open();
        live.iter().for_each(|block| assert_local(&store, block));
        assert!(store.verify_all(&|_| {}).unwrap().is_clean(), "step {step}");
        gc(&store, &[]).unwrap();
        live.iter().for_each(|block| assert_local(&store, block));
        assert_absent(&store, forest.lone.cid());
        if outcome.is_ok() {
            finished = true;
            assert!(step > 5, "so few steps are not a collection");
            break;
        }
    }
    assert!(finished);
}

#[test]
fn damaged_pins_and_damaged_nodes_stop_a_collection_before_it_drops_anything() {
    let mut place = Place::new();
    place.options.memory_bytes_max = 0;
    let forest = Forest::new();
    let store = place.open();
    forest.put(&store);
    store
        .pins()
        .add(&[pin(&forest.one, PinMode::Recursive)])
        .unwrap();
    store.close();
    drop(store);
    let pins = std::fs::read(place.path("pins")).unwrap();
    std::fs::write(place.path("pins"), &pins[..pins.len() - 3]).unwrap();
    let store = place.open();
    assert!(gc(&store, &[]).unwrap_err().to_string().contains("pins"));
    drop(store);
    std::fs::write(place.path("pins"), pins).unwrap();
    let pack = place.packs("own").remove(0);
    let mut bytes = std::fs::read(&pack).unwrap();
    let data = forest.one.data();
    let at = bytes
        .windows(data.len())
        .position(|part| part == &data[..])
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let store = place.open();
    let error = gc(&store, &[]).unwrap_err().to_string();
    assert!(error.contains(&forest.one.cid().to_string()), "{error}");
    forest
        .leaves
        .iter()
        .for_each(|block| assert_local(&store, block));
}

#[test]
fn a_pack_with_a_damaged_live_leaf_stays_as_it_is() {
    let mut place = Place::new();
    place.options.memory_bytes_max = 0;
    let forest = Forest::new();
    let store = place.open();
    forest.put(&store);
    store
        .pins()
        .add(&[pin(&forest.one, PinMode::Recursive)])
        .unwrap();
    drop(store);
    let pack = place.packs("own").remove(0);
    let mut bytes = std::fs::read(&pack).unwrap();
    let data = forest.leaves[0].data();
    let at = bytes
        .windows(data.len())
        .position(|part| part == &data[..])
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(&pack, &bytes).unwrap();
    let store = place.open();
    let report = gc(&store, &[]).unwrap();
    assert_eq!((report.damaged_packs, report.freed_blocks), (1, 0));
    assert_eq!(std::fs::read(&pack).unwrap(), bytes);
    assert_eq!(place.packs("own"), [pack]);
    assert_local(&store, &forest.leaves[1]);
}

#[test]
fn a_collection_spares_what_is_put_while_it_runs() {
    let mut place = Place::new();
    place.options.own_pack_bytes_max = 100_000;
    place.options.memory_bytes_max = 0;
    let store = place.open();
    for seed in 0..1000 {
        store.put(block(seed, 3000), Tier::Own).unwrap();
    }
    let (go, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (report, put) = std::thread::scope(|scope| {
        let putters: Vec<_> = (1..=3_u64)
            .map(|thread| {
                let (store, go, stop) = (&store, &go, &stop);
                scope.spawn(move || {
                    let mut put = HashMap::new();
                    let mut seed = thread;
                    while !stop.load(Ordering::Relaxed) {
                        if !go.load(Ordering::Relaxed) {
                            std::thread::yield_now();
                            continue;
                        }
                        // Old blocks are put again while they are swept, and new ones come.
                        seed = (seed * 1_103_515_245 + 12_345) % 1500;
                        let block = block(seed, 3000);
                        store.put(block.clone(), Tier::Own).unwrap();
                        assert_local(store, &block);
                        put.insert(seed, block);
                    }
                    put
                })
            })
            .collect();
        let report = store
            .gc(&links, &|| Ok(Vec::new()), &|_| {
                go.store(true, Ordering::Relaxed)
            })
            .unwrap();
        stop.store(true, Ordering::Relaxed);
        let put = putters.into_iter().map(|putter| putter.join().unwrap());
        (report, put.flatten().collect::<HashMap<_, _>>())
    });
    assert!(report.freed_blocks > 0, "{report:?}");
    assert!(!put.is_empty());
    put.values().for_each(|block| assert_local(&store, block));
    store.sync().unwrap();
    drop(store);
    place.forget_clean_end();
    let store = place.open();
    put.values().for_each(|block| assert_local(&store, block));
    assert!(store.verify_all(&|_| {}).unwrap().is_clean());
    assert_eq!(gc(&store, &[]).unwrap().kept_blocks, 0);
}

#[test]
fn a_sink_holds_collections_off_until_what_was_added_is_pinned() {
    let place = Place::new();
    let store = place.open();
    let forest = Forest::new();
    let sink = store.own_sink();
    for block in forest.all() {
        cidfs::block::BlockSink::put(&*sink, block).unwrap();
    }
    let collector = {
        let store = store.clone();
        std::thread::spawn(move || gc(&store, &[]))
    };
    std::thread::sleep(std::time::Duration::from_millis(50));
    sink.flush().unwrap();
    store
        .pins()
        .add(&[pin(&forest.one, PinMode::Recursive)])
        .unwrap();
    drop(sink);
    assert_eq!(collector.join().unwrap().unwrap().kept_blocks, 4);
    assert_local(&store, &forest.one);
}

/// A block whose CID carries it.
fn inline(codec: u64, data: Vec<u8>) -> Block {
    Block::seal(codec, IDENTITY, Bytes::from(data)).unwrap()
}

#[test]
fn cids_that_carry_much_or_that_no_block_can_have_do_not_stop_a_collection() {
    let place = Place::new();
    let store = place.open();
    let (leaf, lone) = (block(1, 500), block(2, 500));
    let within = node(&[&leaf], 3);
    let mut data = within.data().to_vec();
    // The salt comes first, so that what follows are its links, twice.
    data.extend_from_slice(&within.data()[1..]);
    let long = inline(DAG_CBOR, data);
    assert!(long.data().len() > 67);
    let plain = inline(RAW, vec![7; 128]);
    let digest = cidfs::block::hash(IDENTITY, &[5; 128]).unwrap();
    let hostile = cidfs::block::Multihash::wrap(0x1b, digest.digest()).unwrap();
    let mut data = vec![9];
    for cid in [*long.cid(), *plain.cid(), Cid::new_v1(RAW, hostile)] {
        data.extend(cid.to_bytes());
    }
    let root = Block::seal(DAG_CBOR, SHA2_256, Bytes::from(data)).unwrap();
    for block in [&leaf, &lone, &root] {
        store.put(block.clone(), Tier::Own).unwrap();
    }
    let report = gc(&store, &[&root, &long, &plain]).unwrap();
    assert_eq!((report.kept_blocks, report.freed_blocks), (2, 1));
    assert_eq!(report.missing_blocks, 1);
    assert_local(&store, &leaf);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_copy_is_dropped_before_the_other_one_survives_a_power_loss() {
    for seed in 0..16 {
        let place = Place::new();
        // Where there is no directory for the index it is in memory.
        std::fs::write(place.path("index"), "").unwrap();
        let disk = SimDisk::new();
        let open = |disk: &SimDisk| place.open_on(Arc::new(disk.clone()), place.source.clone());
        let (twice, other) = (block(1, 3000), block(2, 3000));
        let store = open(&disk);
        for block in [&twice, &other] {
            store.put(block.clone(), Tier::Own).unwrap();
        }
        store.close();
        let own = place.path("packs/own");
        let pack = own.join(&disk.list(&own).unwrap()[0].name);
        let bytes = disk.read(&pack, 1 << 20).unwrap();
        let data = twice.data();
        let at = bytes.windows(data.len()).position(|part| part == &data[..]);
        disk.flip(&pack, at.unwrap() + 100).unwrap();
        place.source.insert(twice.clone());
        let store = open(&disk);
        // What comes later goes to another pack.
        gc(&store, &[&twice, &other]).unwrap();
        store.get(twice.cid()).await.unwrap();
        place.source.remove(twice.cid());
        gc(&store, &[&twice, &other]).unwrap();
        let next = disk.crash(seed);
        store.close();
        let store = open(&next);
        assert_local(&store, &twice);
        assert_local(&store, &other);
    }
}
