//! How long a large store takes to open and what it holds in memory: printed,
//! and only its results asserted.
//!
//! `CIDFS_SCALE_BLOCKS=1000000 CIDFS_SCALE_DIR=/some/dir cargo test --test it
//! store_scale -- --nocapture` fills the directory the first time and opens it
//! in every run, so that the second run shows a process that only opened it;
//! with `CIDFS_SCALE_KEEP` the run ends before it rebuilds the index.

use std::sync::Arc;
use std::time::Instant;

use cidfs::cache::{Blocks, Tier};
use cidfs::disk::RealDisk;

use super::store_support::{Place, assert_local, block};

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn opening_a_large_store_returns_at_once_and_serves_when_its_index_is_open() {
    let count = std::env::var("CIDFS_SCALE_BLOCKS").map_or(20_000, |count| count.parse().unwrap());
    let place = Place::new();
    let dir = std::env::var_os("CIDFS_SCALE_DIR")
        .map_or(place.dir.path().into(), std::path::PathBuf::from);
    let open = || {
        let disk = Arc::new(RealDisk);
        Blocks::open(&dir, disk, place.options.clone(), place.source.clone()).unwrap()
    };
    let ready = |store: &Blocks| {
        while store.figures().index != "ready" {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    if !dir.join("packs").exists() {
        let store = open();
        let before = Instant::now();
        for seed in 0..count {
            store.put(block(seed, 24), Tier::Own).unwrap();
        }
        store.sync().unwrap();
        eprintln!("{count} blocks put in {:.2?}", before.elapsed());
        let before = Instant::now();
        store.close();
        eprintln!(
            "closed in {:.2?}, {} KiB resident",
            before.elapsed(),
            resident_kib()
        );
    }
    let before = Instant::now();
    let store = open();
    let returned = before.elapsed();
    ready(&store);
    let figures = store.figures();
    eprintln!(
        "open returned in {returned:.2?}, index ready in {:.2?} ({} rebuilds), {} KiB resident",
        before.elapsed(),
        figures.index_rebuilds,
        resident_kib()
    );
    let before = Instant::now();
    for seed in (0..count).step_by(97) {
        assert_local(&store, &block(seed, 24));
    }
    eprintln!(
        "{} reads in {:.2?}, {} KiB resident",
        count / 97,
        before.elapsed(),
        resident_kib()
    );
    assert_eq!(figures.own.blocks, count);
    store.close();
    drop(store);
    if std::env::var_os("CIDFS_SCALE_KEEP").is_some() {
        return;
    }
    std::fs::remove_dir_all(dir.join("index")).unwrap();
    let before = Instant::now();
    let store = open();
    ready(&store);
    eprintln!(
        "rebuilt in {:.2?}, {} KiB resident",
        before.elapsed(),
        resident_kib()
    );
    assert_local(&store, &block(count - 1, 24));
}
