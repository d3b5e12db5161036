//! Reading through the block store: one fetch, every tier, nothing unproved.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cidfs::block::{Block, Cid, DAG_PB, IDENTITY, RAW};
use cidfs::cache::{Blocks, CacheError, StoreOptions, Tier, VerifyPolicy};
use cidfs::testing::disk::{Effect, FaultDisk, Op};
use cidfs::testing::source::{Fault, FaultSource, MemorySource};

use super::store_support::{Place, assert_local, block, blocks, runtime};

#[test]
fn however_many_wait_a_block_is_fetched_once() {
    let wanted = block(1, 1000);
    let memory = Arc::new(MemorySource::with("far", [wanted.clone()]));
    let source = Arc::new(FaultSource::new(memory));
    source.always(Some(Fault::Slow(Duration::from_millis(50))));
    let store = Blocks::without_disk(StoreOptions::default(), source.clone());
    runtime().block_on(async {
        let waiters: Vec<_> = (0..50)
            .map(|_| {
                let (store, cid) = (store.clone(), *wanted.cid());
                tokio::spawn(async move { store.get(&cid).await })
            })
            .collect();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap().unwrap(), wanted);
        }
    });
    assert_eq!(source.gets(), 1);
    assert_eq!(store.figures().fetch.joined, 49);
}

#[test]
fn a_waiter_who_leaves_does_not_take_the_fetch_away_from_the_others() {
    let wanted = block(1, 1000);
    let memory = Arc::new(MemorySource::with("far", [wanted.clone()]));
    let source = Arc::new(FaultSource::new(memory));
    source.always(Some(Fault::Slow(Duration::from_millis(100))));
    let store = Blocks::without_disk(StoreOptions::default(), source.clone());
    runtime().block_on(async {
        let (one, cid) = (store.clone(), *wanted.cid());
        let leader = tokio::spawn(async move { one.get(&cid).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let (two, cid) = (store.clone(), *wanted.cid());
        let waiter = tokio::spawn(async move { two.get(&cid).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        leader.abort();
        assert_eq!(waiter.await.unwrap().unwrap(), wanted);
    });
    assert_eq!(source.gets(), 1);
    assert_eq!(store.figures().fetch.under_way, 0);
}

#[test]
fn a_hanging_fetch_is_given_up_with_its_last_waiter_and_can_begin_anew() {
    let wanted = block(1, 1000);
    let memory = Arc::new(MemorySource::with("far", [wanted.clone()]));
    let source = Arc::new(FaultSource::new(memory));
    source.script([Some(Fault::Hang)]);
    let store = Blocks::without_disk(StoreOptions::default(), source.clone());
    runtime().block_on(async {
        let hangs = store.get(wanted.cid());
        assert!(
            tokio::time::timeout(Duration::from_millis(20), hangs)
                .await
                .is_err()
        );
        assert_eq!(store.figures().fetch.under_way, 0);
        assert_eq!(store.get(wanted.cid()).await.unwrap(), wanted);
    });
}

#[test]
fn what_sources_say_reaches_the_reader_as_what_it_is() {
    let wanted = block(1, 10);
    let source = Arc::new(FaultSource::new(Arc::new(MemorySource::new("far"))));
    let store = Blocks::without_disk(StoreOptions::default(), source.clone());
    source.script([
        None,
        Some(Fault::Timeout),
        Some(Fault::Unreachable),
        Some(Fault::Corrupt),
    ]);
    runtime().block_on(async {
        let mut outcomes = Vec::new();
        for _ in 0..4 {
            outcomes.push(store.get(wanted.cid()).await.unwrap_err());
        }
        assert!(
            matches!(outcomes[0], CacheError::NotFound { .. }),
            "{outcomes:?}"
        );
        assert!(
            matches!(outcomes[1], CacheError::Timeout { .. }),
            "{outcomes:?}"
        );
        assert!(
            matches!(outcomes[2], CacheError::Unavailable { .. }),
            "{outcomes:?}"
        );
        assert!(
            matches!(outcomes[3], CacheError::Unavailable { .. }),
            "{outcomes:?}"
        );
    });
    assert_eq!(store.figures().fetch.failed, 4);
}

#[test]
fn a_cidv0_and_a_cidv1_of_one_node_are_one_block() {
    let place = Place::new();
    let store = place.open();
    let old = Block::seal_v0(Bytes::from_static(b"\x0a\x02\x08\x01")).unwrap();
    let new = Cid::new_v1(DAG_PB, *old.cid().hash());
    store.put(old.clone(), Tier::Own).unwrap();
    store.sync().unwrap();
    store
        .put(Block::verify(new, old.data().clone()).unwrap(), Tier::Own)
        .unwrap();
    store.sync().unwrap();
    assert_eq!(store.figures().own.blocks, 1);
    let found = store.get_local(&new).unwrap().unwrap();
    assert_eq!((found.cid(), found.data()), (&new, old.data()));
    assert_local(&store, &old);
}

#[test]
fn identity_cids_are_served_and_never_reach_the_disk() {
    let place = Place::new();
    let store = place.open();
    let inline = Block::seal(RAW, IDENTITY, Bytes::from_static(b"inline")).unwrap();
    store.put(inline.clone(), Tier::Own).unwrap();
    store.sync().unwrap();
    assert_local(&store, &inline);
    assert_eq!(store.len_local(inline.cid()).unwrap(), Some(6));
    let mut out = [0; 4];
    assert!(store.read_local(inline.cid(), 2, &mut out).unwrap());
    assert_eq!(&out, b"line");
    assert_eq!(runtime().block_on(store.get(inline.cid())).unwrap(), inline);
    assert!(place.packs("own").is_empty());
}

#[test]
fn every_range_of_a_block_reads_the_same_waiting_unproved_proved_and_in_memory() {
    for verify in [
        VerifyPolicy::FirstRead,
        VerifyPolicy::Always,
        VerifyPolicy::Never,
    ] {
        let mut place = Place::new();
        place.options.verify = verify;
        let wanted = block(7, 500);
        let ranges = || {
            (0..508_usize)
                .step_by(61)
                .flat_map(|from| [(from, 1), (from, 508 - from)])
        };
        let check = |store: &Blocks| {
            for (from, len) in ranges() {
                let mut out = vec![0; len];
                assert!(
                    store
                        .read_local(wanted.cid(), from as u64, &mut out)
                        .unwrap()
                );
                assert_eq!(out, wanted.data()[from..from + len]);
            }
            let beyond = store.read_local(wanted.cid(), 500, &mut [0; 9]);
            assert!(matches!(beyond, Err(CacheError::Io(_))), "{beyond:?}");
            assert_eq!(store.len_local(wanted.cid()).unwrap(), Some(508));
        };
        let store = place.open();
        store.put(wanted.clone(), Tier::Own).unwrap();
        check(&store);
        drop(store);
        check(&place.open());
        place.options.memory_bytes_max = 0;
        check(&place.open());
    }
}

#[test]
fn a_fetched_block_is_cached_on_disk_unless_its_source_is_local() {
    for local in [false, true] {
        let mut place = Place::new();
        let wanted = block(1, 1000);
        let source = MemorySource::with("far", [wanted.clone()]);
        place.source = Arc::new(if local { source.local() } else { source });
        runtime().block_on(place.open().get(wanted.cid())).unwrap();
        let store = place.open();
        assert_eq!(store.get_local(wanted.cid()).unwrap().is_some(), !local);
        assert_eq!(store.figures().cache.packs, u64::from(!local));
    }
}

#[test]
fn a_damaged_cache_block_is_fetched_again_and_a_good_copy_takes_its_place() {
    let place = Place::new();
    let wanted = block(1, 1000);
    place.source.insert(wanted.clone());
    runtime().block_on(place.open().get(wanted.cid())).unwrap();
    flip(&place.packs("cache")[0], -10);
    let store = place.open();
    assert_eq!(runtime().block_on(store.get(wanted.cid())).unwrap(), wanted);
    assert_eq!(place.source.gets(), 2);
    assert_eq!(store.figures().damaged_blocks, 1);
    drop(store);
    assert_local(&place.open(), &wanted);
}

#[test]
fn a_damaged_own_block_is_replaced_from_a_source_or_else_an_error_that_names_it() {
    let place = Place::new();
    let wanted = block(1, 1000);
    place.open().put(wanted.clone(), Tier::Own).unwrap();
    flip(&place.packs("own")[0], -10);
    let store = place.open();
    let error = runtime().block_on(store.get(wanted.cid())).unwrap_err();
    assert!(
        error.to_string().contains(&wanted.cid().to_string()),
        "{error}"
    );
    assert!(error.to_string().contains("damaged"), "{error}");
    let mut out = vec![0; 1008];
    assert!(!store.read_local(wanted.cid(), 0, &mut out).unwrap());
    assert!(!store.read_local(wanted.cid(), 5, &mut out[..5]).unwrap());
    place.source.insert(wanted.clone());
    assert_eq!(runtime().block_on(store.get(wanted.cid())).unwrap(), wanted);
    drop(store);
    place.forget_clean_end();
    let store = place.open();
    assert_local(&store, &wanted);
    assert_eq!(store.figures().damaged_blocks, 0);
}

fn flip(path: &std::path::Path, from_end: i64) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = usize::try_from(bytes.len() as i64 + from_end).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn an_unreadable_sector_is_an_error_of_its_block_only() {
    let place = Place::new();
    let all = blocks(3, 1000);
    let store = place.open();
    for block in &all {
        store.put(block.clone(), Tier::Own).unwrap();
    }
    drop(store);
    let disk = FaultDisk::new();
    let store = place.open_on(Arc::new(disk.clone()), place.source.clone());
    disk.fail(Op::Read, "own", 1, 1, Effect::Errno(libc::EIO));
    assert_local(&store, &all[0]);
    assert_eq!(store.get_local(all[1].cid()).unwrap(), None);
    assert_local(&store, &all[2]);
    disk.heal();
    assert_local(&store, &all[1]);
}

#[test]
fn bytes_that_change_on_their_way_from_the_disk_are_never_served() {
    for len in [1_000, 100_000] {
        let place = Place::new();
        let wanted = block(1, len);
        place.open().put(wanted.clone(), Tier::Own).unwrap();
        let disk = FaultDisk::new();
        let store = place.open_on(Arc::new(disk.clone()), place.source.clone());
        disk.fail(Op::Read, "own", 0, 3, Effect::Flip);
        let mut out = vec![0; wanted.data().len()];
        assert!(!store.read_local(wanted.cid(), 0, &mut out).unwrap());
        assert!(!store.read_local(wanted.cid(), 3, &mut out[..10]).unwrap());
        assert_eq!(store.get_local(wanted.cid()).unwrap(), None);
        assert_local(&store, &wanted);
    }
}
