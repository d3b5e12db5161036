//! Packs and their index: what is lost where something is cut, damaged, or full.

use std::fs;
use std::sync::Arc;

use cidfs::block::Block;
use cidfs::cache::{Blocks, Tier};
use cidfs::car::CarReader;
use cidfs::testing::disk::{Effect, FaultDisk, Op};

use super::store_support::{
    Place, assert_absent, assert_local, block, blocks, files, runtime, until,
};

fn filled(place: &Place, blocks: &[Block], tier: Tier) {
    let store = place.open();
    for block in blocks {
        store.put(block.clone(), tier).unwrap();
    }
    store.close();
}

/// Where each section of a pack begins, and the end.
fn borders(pack: &[u8]) -> Vec<usize> {
    let mut reader = CarReader::new(std::io::Cursor::new(pack)).unwrap();
    let mut borders = vec![reader.position() as usize];
    while reader.next_section().unwrap().is_some() {
        borders.push(reader.position() as usize);
    }
    borders
}

#[test]
fn a_pack_is_a_car_file_that_ordinary_tools_take() {
    let place = Place::new();
    filled(&place, &blocks(5, 100), Tier::Own);
    let file = fs::File::open(&place.packs("own")[0]).unwrap();
    let mut reader = CarReader::new(file).unwrap();
    let roots: Vec<_> = reader
        .header()
        .roots
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(roots, ["bafkqaaa"]);
    for wanted in blocks(5, 100) {
        let section = reader.next_section().unwrap().unwrap();
        assert_eq!(Block::verify(*section.cid(), section.data).unwrap(), wanted);
    }
    assert!(reader.next_section().unwrap().is_none());
}

#[test]
fn what_was_put_is_there_at_once_and_after_a_restart_with_or_without_the_index() {
    let place = Place::new();
    let all: Vec<_> = (0..40)
        .map(|seed| block(seed, seed as usize * 1000))
        .collect();
    let store = place.open();
    for block in &all {
        store.put(block.clone(), Tier::Own).unwrap();
        assert_local(&store, block);
    }
    drop(store);
    let store = place.open();
    assert_eq!(
        store.figures().index_rebuilds,
        0,
        "a clean end needs no rebuild"
    );
    all.iter().for_each(|block| assert_local(&store, block));
    drop(store);
    fs::remove_dir_all(place.path("index")).unwrap();
    let store = place.open();
    assert_eq!(store.figures().index_rebuilds, 1);
    all.iter().for_each(|block| assert_local(&store, block));
    drop(store);
    assert_eq!(place.open().figures().index_rebuilds, 0);
}

#[test]
fn a_block_that_is_here_is_not_appended_again() {
    let place = Place::new();
    filled(&place, &blocks(10, 1000), Tier::Cache);
    filled(&place, &blocks(10, 1000), Tier::Cache);
    filled(&place, &blocks(5, 1000), Tier::Own);
    filled(&place, &blocks(10, 1000), Tier::Own);
    filled(&place, &blocks(10, 1000), Tier::Cache);
    let figures = place.open().figures();
    assert_eq!((figures.cache.blocks, figures.own.blocks), (10, 10));
}

#[test]
fn a_pack_cut_at_any_byte_serves_its_whole_blocks_and_reports_the_rest() {
    let place = Place::new();
    let all: Vec<_> = (0..4).map(|seed| block(seed, 20 * seed as usize)).collect();
    filled(&place, &all, Tier::Own);
    let path = place.packs("own").remove(0);
    let whole = fs::read(&path).unwrap();
    let borders = borders(&whole);
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        for pack in place.packs("own").iter().filter(|pack| **pack != path) {
            fs::remove_file(pack).unwrap();
        }
        let store = place.open();
        for (block, end) in all.iter().zip(&borders[1..]) {
            if *end <= cut {
                assert_local(&store, block);
            } else {
                assert_absent(&store, block.cid());
            }
        }
        let torn = !borders.contains(&cut);
        assert_eq!(store.figures().torn_packs, u64::from(torn), "cut at {cut}");
        let report = store.verify_all(&|_| {}).unwrap();
        assert_eq!(report.is_clean(), !torn, "cut at {cut}: {report:?}");
        let new = block(99, 10);
        store.put(new.clone(), Tier::Own).unwrap();
        store.sync().unwrap();
        assert_local(&store, &new);
        store.close();
        if torn {
            assert_eq!(
                fs::read(&path).unwrap(),
                &whole[..cut],
                "the torn end stays"
            );
        }
    }
}

#[test]
fn a_byte_changed_anywhere_in_a_pack_is_never_served_and_costs_its_block_only() {
    let mut place = Place::new();
    place.options.memory_bytes_max = 0;
    let all: Vec<_> = (0..4).map(|seed| block(seed, 60)).collect();
    filled(&place, &all, Tier::Own);
    let path = place.packs("own").remove(0);
    let whole = fs::read(&path).unwrap();
    let borders = borders(&whole);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        fs::remove_dir_all(place.path("index")).unwrap();
        let store = place.open();
        let mut lost = false;
        for (place, block) in all.iter().enumerate() {
            let mine = (borders[place]..borders[place + 1]).contains(&at);
            match store.get_local(block.cid()).unwrap() {
                Some(found) => assert_eq!(&found, block),
                None => {
                    assert!(mine, "byte {at} took block {place} away");
                    lost = true;
                }
            }
        }
        let report = store.verify_all(&|_| {}).unwrap();
        assert!(!(lost && report.is_clean()), "byte {at}: {report:?}");
    }
}

/// Ways to spoil the index, each of which must cost a rebuild and nothing else.
#[test]
fn whatever_happens_to_the_index_nothing_is_lost() {
    type Spoil = fn(&mut Vec<u8>);
    let ways: [(&str, Spoil); 5] = [
        ("rubbish", |bytes| {
            bytes.iter_mut().for_each(|byte| *byte ^= 0x5a)
        }),
        ("one bit", |bytes| bytes[0] ^= 1),
        ("a zeroed page", |bytes| {
            let end = bytes.len().min(8192);
            bytes[end / 2..end].fill(0);
        }),
        ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("empty", Vec::clear),
    ];
    for (way, spoil) in ways {
        for keep_marker in [true, false] {
            let place = Place::new();
            let all = blocks(200, 50);
            filled(&place, &all, Tier::Own);
            for file in files(&place.path("index/sled")) {
                if file.is_file() {
                    let mut bytes = fs::read(&file).unwrap();
                    if !bytes.is_empty() {
                        spoil(&mut bytes);
                    }
                    fs::write(&file, bytes).unwrap();
                }
            }
            if !keep_marker {
                place.forget_clean_end();
            }
            let store = place.open();
            all.iter().for_each(|block| assert_local(&store, block));
            assert_eq!(store.figures().index_rebuilds, 1, "{way}");
        }
    }
}

#[test]
fn a_marker_that_speaks_of_other_packs_is_not_believed() {
    let place = Place::new();
    filled(&place, &blocks(3, 50), Tier::Own);
    let other = Place::new();
    filled(&other, &blocks(9, 50)[3..], Tier::Own);
    fs::copy(&other.packs("own")[0], place.path("packs/own/00000002.car")).unwrap();
    let store = place.open();
    blocks(9, 50)
        .iter()
        .for_each(|block| assert_local(&store, block));
}

#[test]
fn a_full_disk_fails_no_read_and_caching_goes_on_when_there_is_room() {
    let place = Place::new();
    let all = blocks(64, 100_000);
    all.iter()
        .for_each(|block| place.source.insert(block.clone()));
    let disk = FaultDisk::new();
    let store = place.open_on(Arc::new(disk.clone()), place.source.clone());
    disk.fail(
        Op::Append,
        "cache",
        0,
        u64::MAX,
        Effect::Short(1000, libc::ENOSPC),
    );
    runtime().block_on(async {
        for block in &all {
            assert_eq!(&store.get(block.cid()).await.unwrap(), block);
        }
    });
    assert!(store.figures().cache_skipped > 0);
    disk.heal();
    drop(store);
    let store = place.open();
    assert!(
        store.verify_all(&|_| {}).unwrap().is_clean(),
        "half an append was taken back"
    );
}

#[test]
fn too_little_free_disk_keeps_blocks_out_of_the_cache() {
    let mut place = Place::new();
    place.options.disk_free_min = 1 << 30;
    let wanted = block(1, 2 << 19);
    place.source.insert(wanted.clone());
    let disk = FaultDisk::new();
    disk.set_free(Some(1 << 29));
    let store = place.open_on(Arc::new(disk), place.source.clone());
    assert_eq!(runtime().block_on(store.get(wanted.cid())).unwrap(), wanted);
    assert_eq!(store.figures().cache_skipped, 1);
    drop(store);
    assert!(place.packs("cache").is_empty());
}

#[test]
fn the_cache_stays_within_its_limit_and_keeps_what_is_used() {
    let mut place = Place::new();
    place.options.cache_bytes_max = 8 << 20;
    place.options.memory_bytes_max = 0;
    let store = place.open();
    let first = block(0, 500_000);
    for seed in 0..60 {
        store.put(block(seed, 500_000), Tier::Cache).unwrap();
        assert!(
            store.figures().cache.bytes <= 9 << 20,
            "{:?}",
            store.figures()
        );
        assert_local(&store, &first);
    }
    assert!(store.figures().evicted_packs > 0);
    assert_absent(&store, block(10, 500_000).cid());
    drop(store);
    let store = place.open();
    assert_eq!(store.figures().index_rebuilds, 0);
    assert_local(&store, &first);
}

#[test]
fn an_own_append_that_fails_is_an_error_and_succeeds_once_there_is_room() {
    let place = Place::new();
    let all = blocks(30, 100_000);
    let disk = FaultDisk::new();
    let store = place.open_on(Arc::new(disk.clone()), place.source.clone());
    disk.fail(
        Op::Append,
        "own",
        1,
        u64::MAX,
        Effect::Short(4096, libc::ENOSPC),
    );
    let failed = all
        .iter()
        .filter(|block| store.put((*block).clone(), Tier::Own).is_err())
        .count();
    assert!(failed > 0);
    assert!(store.sync().is_err());
    all.iter().for_each(|block| assert_local(&store, block));
    disk.heal();
    store.sync().unwrap();
    drop(store);
    let store = place.open();
    all.iter().for_each(|block| assert_local(&store, block));
    assert!(store.verify_all(&|_| {}).unwrap().is_clean());
    assert_eq!(place.packs("own").len(), 1);
}

#[test]
fn a_sync_that_failed_keeps_failing_until_the_next_start() {
    let place = Place::new();
    let disk = FaultDisk::new();
    let store = place.open_on(Arc::new(disk.clone()), place.source.clone());
    store.put(block(1, 100), Tier::Own).unwrap();
    disk.fail(Op::Sync, "own", 0, 1, Effect::Errno(libc::EIO));
    assert!(store.sync().is_err());
    disk.heal();
    assert!(store.sync().is_err());
    drop(store);
    let store = place.open();
    store.put(block(2, 100), Tier::Own).unwrap();
    store.sync().unwrap();
}

#[test]
fn a_sync_for_who_rests_on_blocks_is_none_for_what_others_append_and_tells_of_their_failure() {
    let place = Place::new();
    let disk = FaultDisk::new();
    let store = place.open_on(Arc::new(disk.clone()), place.source.clone());
    let syncs_something = || {
        let before = disk.changes();
        store.sync_flushed().unwrap();
        disk.changes() > before
    };
    let append = |from: u64| {
        let before = disk.changes();
        for number in from..from + 30 {
            store.put(block(number, 100_000), Tier::Own).unwrap();
        }
        assert!(disk.changes() > before, "some were appended");
    };
    store.sync_flushed().unwrap();
    append(0);
    assert!(!syncs_something());
    store.flush().unwrap();
    assert!(syncs_something());
    assert!(!syncs_something());
    append(100);
    store.rest_on_appended();
    assert!(syncs_something());
    append(200);
    disk.fail(Op::Sync, "own", 0, 1, Effect::Errno(libc::EIO));
    assert!(store.sync().is_err());
    assert!(store.sync_flushed().is_err());
}

#[test]
fn many_threads_put_and_read_and_nothing_gets_lost() {
    let mut place = Place::new();
    place.options.own_pack_bytes_max = 1 << 20;
    place.options.memory_bytes_max = 1 << 20;
    let store = place.open();
    let work = |thread: u64, store: Arc<Blocks>| {
        for round in 0..300 {
            let mine = block(thread * 1000 + round, (round as usize % 40) * 700);
            store.put(mine.clone(), Tier::Own).unwrap();
            store.put(block(round, 500), Tier::Own).unwrap();
            assert_local(&store, &mine);
        }
    };
    let threads: Vec<_> = (1..=4)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || work(thread, store))
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    store.sync().unwrap();
    let figures = store.figures();
    assert_eq!(figures.own.blocks, 4 * 300 + 300);
    assert!(figures.own.packs > 5, "{figures:?}");
    drop(store);
    place.forget_clean_end();
    let store = place.open();
    for thread in 1..=4 {
        for round in 0..300 {
            assert_local(
                &store,
                &block(thread * 1000 + round, (round as usize % 40) * 700),
            );
        }
    }
    assert!(store.verify_all(&|_| {}).unwrap().is_clean());
}

#[test]
fn every_block_is_listed_once_page_by_page() {
    let place = Place::new();
    filled(&place, &blocks(20, 100), Tier::Cache);
    filled(&place, &blocks(15, 100), Tier::Own);
    filled(&place, &blocks(25, 100), Tier::Own);
    let store = place.open();
    let mut wanted: Vec<_> = blocks(25, 100).iter().map(|block| *block.cid()).collect();
    wanted.sort();
    for page in [1, 7, 1000] {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let (cids, next) = store.cids(cursor, page).unwrap();
            assert!(cids.len() <= page);
            found.extend(cids);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        found.sort();
        assert_eq!(found, wanted, "pages of {page}");
    }
}

#[test]
fn closing_while_the_index_opens_is_quick_and_loses_nothing() {
    let place = Place::new();
    let all = blocks(500, 300);
    filled(&place, &all, Tier::Own);
    fs::remove_dir_all(place.path("index")).unwrap();
    let disk = Arc::new(cidfs::disk::RealDisk);
    let options = place.options.clone();
    let store = Blocks::open(place.dir.path(), disk, options, place.source.clone()).unwrap();
    store.close();
    drop(store);
    let store = place.open();
    until("all are there", || {
        all.iter().all(|block| store.has_local(block.cid()))
    });
}
