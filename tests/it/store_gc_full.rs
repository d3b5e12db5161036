//! Garbage collection on a disk that has no room for a copy of what is live.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cidfs::block::Block;
use cidfs::cache::{Blocks, GcReport, PinMode, Tier};
use cidfs::testing::sim_disk::SimDisk;

use super::mfs_full::leave;
use super::mfs_sim::End;
use super::store_support::{Place, assert_absent, assert_local, block};

/// Length of a block; four make a part that a collection cuts off.
const BLOCK_BYTES: usize = 300_000;
/// Room for the copy of one part that has a dead block.
const ROOM: u64 = 950_000;

/// A pack on a disk with little room.
struct Crowded {
    place: Place,
    disk: SimDisk,
    live: Vec<Block>,
    dead: Vec<Block>,
}

impl Crowded {
    fn new(count: u64, room: u64, is_dead: impl Fn(u64) -> bool) -> Self {
        let mut place = Place::new();
        place.options.own_reserve_bytes = 0;
        place.options.memory_bytes_max = 0;
        // Where there is no directory for the index it is in memory.
        std::fs::write(place.path("index"), "").unwrap();
        let disk = SimDisk::new();
        let store = place.open_on(Arc::new(disk.clone()), place.source.clone());
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for seed in 0..count {
            let block = block(seed, BLOCK_BYTES);
            store.put(block.clone(), Tier::Own).unwrap();
            let list = if is_dead(seed) { &mut dead } else { &mut live };
            list.push(block);
        }
        store.close();
        leave(&disk, room);
        Self {
            place,
            disk,
            live,
            dead,
        }
    }

    fn open(&self, disk: &SimDisk) -> Arc<Blocks> {
        self.place
            .open_on(Arc::new(disk.clone()), self.place.source.clone())
    }

    fn gc(&self, store: &Blocks) -> std::io::Result<GcReport> {
        let roots: Vec<_> = self.live.iter().map(|block| *block.cid()).collect();
        let roots = || Ok(roots.iter().map(|cid| (*cid, PinMode::Direct)).collect());
        store
            .gc(&|_| Ok(Vec::new()), &roots, &|_| {})
            .map_err(std::io::Error::other)
    }

    fn assert_all(&self, store: &Blocks) {
        self.live
            .iter()
            .for_each(|block| assert_local(store, block));
    }
}

#[test]
fn what_is_dead_at_the_front_of_a_pack_goes_with_the_room_of_one_part() {
    let crowded = Crowded::new(40, 1_300_000, |seed| seed < 8);
    let store = crowded.open(&crowded.disk);
    let before = store.figures().own.bytes;
    let report = crowded.gc(&store).unwrap();
    assert_eq!((report.kept_blocks, report.freed_blocks), (32, 8));
    assert_eq!((report.full_packs, report.damaged_packs), (0, 0));
    let freed = before - store.figures().own.bytes;
    assert_eq!(report.freed_bytes, freed);
    assert!(freed > 7 * BLOCK_BYTES as u64, "{freed}");
    for seed in 100..107 {
        store.put(block(seed, BLOCK_BYTES), Tier::Own).unwrap();
    }
    store.sync().expect("there is room again");
    crowded.assert_all(&store);
    let store = crowded.open(&crowded.disk.crash(7));
    crowded.assert_all(&store);
    for gone in &crowded.dead {
        assert_absent(&store, gone.cid());
    }
    assert!(store.verify_all(&|_| {}).unwrap().is_clean());
}

#[test]
fn a_pack_stays_from_its_beginning_to_what_is_dead_in_it() {
    let crowded = Crowded::new(40, ROOM, |seed| seed == 37);
    let store = crowded.open(&crowded.disk);
    let report = crowded.gc(&store).unwrap();
    assert_eq!((report.kept_blocks, report.freed_blocks), (39, 1));
    assert_eq!(store.figures().own.packs, 2, "36 stay where they are");
    crowded.assert_all(&store);
}

#[test]
fn without_room_for_one_part_it_is_told_how_much_is_needed_and_that_is_enough() {
    let crowded = Crowded::new(12, 100_000, |seed| seed % 4 == 1);
    let store = crowded.open(&crowded.disk);
    let report = crowded.gc(&store).unwrap();
    assert_eq!((report.full_packs, report.freed_bytes), (1, 0));
    assert_eq!((report.kept_blocks, report.freed_blocks), (12, 0));
    let needs = report.full_needs_bytes;
    assert!((900_000..ROOM).contains(&needs), "{needs}");
    crowded.assert_all(&store);
    leave(&crowded.disk, needs + 100);
    let report = crowded.gc(&store).unwrap();
    assert_eq!((report.full_packs, report.freed_blocks), (0, 3));
    crowded.assert_all(&store);
}

#[test]
fn who_reads_while_a_pack_is_cut_off_finds_every_live_block() {
    let crowded = Crowded::new(40, ROOM, |seed| seed % 4 == 1);
    let store = crowded.open(&crowded.disk);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    crowded.live.iter().rev().for_each(|block| {
                        let mut out = [0; 1000];
                        let read = store.read_local(block.cid(), 5, &mut out);
                        assert!(read.unwrap(), "{}", block.cid());
                        assert_eq!(out, block.data()[5..1005]);
                    });
                }
            });
        }
        let report = crowded.gc(&store);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(report.unwrap().freed_blocks, 10);
    });
    assert_eq!(store.figures().damaged_blocks, 0);
}

#[test]
fn a_collection_in_parts_that_stops_at_any_change_of_the_disk_loses_nothing_live() {
    let crowded = Crowded::new(12, ROOM, |seed| [0, 1, 5, 9].contains(&seed));
    let mut steps = 0;
    for step in 0.. {
        let disk = crowded.disk.fork();
        let store = crowded.open(&disk);
        disk.stop_at(Some(disk.counts().changes + step));
        let outcome = crowded.gc(&store);
        crowded.assert_all(&store);
        let finished = outcome.is_ok_and(|report| report.freed_blocks == 4);
        let ends = [End::Kill, End::PowerLoss(step), End::PowerLoss(step + 1000)];
        for end in ends {
            let next = match end {
                End::Kill => disk.fork(),
                End::PowerLoss(seed) => disk.fork().crash(seed),
            };
            let store = crowded.open(&next);
            crowded.assert_all(&store);
            if matches!(end, End::Kill) {
                assert_eq!(store.figures().torn_packs, 0, "{step}");
            }
            leave(&next, ROOM);
            crowded.gc(&store).unwrap();
            crowded.assert_all(&store);
        }
        steps += 1;
        if finished {
            break;
        }
    }
    assert!(steps > 12, "{steps} changes are not a collection in parts");
}
