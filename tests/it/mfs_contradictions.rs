//! Entries under right checksums that contradict each other: they are damage.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use cidfs::disk::Disk;
use cidfs::journal::{Class, Frame, Journal, JournalOptions, JournalPlace, Reader, Record, Seq};
use cidfs::testing::sim_disk::SimDisk;
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{Mfs, New, NodeId, Parts};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::mfs_crash::seen;
use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::ME;

const ROOT: NodeId = NodeId::ROOT;

/// The entries of a tree with changes of each kind.
fn entries(dir: &Path) -> Vec<Frame> {
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/journal/v1/tree/00000000000000000001.seg"
    );
    let bytes = std::fs::read(fixture).unwrap();
    let disk = SimDisk::new();
    disk.make_dirs(dir).unwrap();
    let file = disk.create(&dir.join("00000000000000000001.seg")).unwrap();
    assert_eq!(file.append(&[IoSlice::new(&bytes)]).unwrap(), bytes.len());
    let journal = Reader::open(dir, Arc::new(disk));
    let frames = journal.frames(Seq(1)).unwrap();
    frames.collect::<Result<_, _>>().unwrap()
}

/// A disk with a journal of entries as they are given, each whole.
fn journal_of(sim: &Sim, entries: &[&Frame]) -> SimDisk {
    let disk = SimDisk::new();
    let place = JournalPlace {
        dir: sim.place.path("journal"),
        disk: Arc::new(disk.clone()),
        clock: sim.clock.clone(),
        room: Arc::default(),
        before_sync: Arc::new(|| Ok(())),
    };
    let options = JournalOptions {
        prepare_ahead: false,
        ..JournalOptions::default()
    };
    let (journal, _) = Journal::open(&place, options, Seq(1), &mut |_, _| {}).unwrap();
    for frame in entries {
        let record = Record {
            tx: frame.head.tx,
            kind: frame.head.kind,
            payload: &frame.payload,
        };
        journal.append(Class::Normal, &[record]).unwrap();
    }
    journal.sync(journal.last()).unwrap();
    disk
}

async fn make(mfs: &Mfs, name: &[u8]) -> Result<NodeId, TreeError> {
    let made = mfs.make(ME, ROOT, name, New::File, 0o644, 0, false);
    made.await.map(|made| made.node)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_entries_say_the_tree_that_comes_of_them_is_sound() {
    let sim = Sim::new(quiet()).await;
    let all = entries(&sim.place.path("journal"));
    assert!(all.len() > 20);
    let mut contradicted = 0;
    for seed in 0..150 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut some: Vec<&Frame> = Vec::new();
        for frame in &all {
            match rng.random_range(0..12) {
                0 => {}
                1 => some.extend([frame, frame]),
                2 => some.insert(rng.random_range(0..=some.len()), frame),
                3 => some.extend([frame, &all[rng.random_range(0..all.len())]]),
                _ => some.push(frame),
            }
        }
        let one = sim.beside(journal_of(&sim, &some)).await;
        assert_eq!(one.mfs.check_sound(), Ok(()), "seed {seed}");
        seen(&one.mfs).await.unwrap();
        assert_eq!(one.mfs.check_sound(), Ok(()), "seed {seed}");
        if one.mfs.recovery().contradicts.is_some() {
            contradicted += 1;
            let refused = make(&one.mfs, b"new").await;
            assert!(
                matches!(refused, Err(TreeError::ReadOnly(_))),
                "{refused:?}"
            );
        }
        one.end().await;
    }
    assert!(contradicted > 50, "{contradicted}");
    sim.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_contradicts_those_before_it_is_damage_that_fsck_sets_aside() {
    let sim = Sim::new(quiet()).await;
    for name in [&b"a"[..], b"b", b"c"] {
        make(&sim.mfs, name).await.unwrap();
    }
    sim.mfs.sync().unwrap();
    let journal = Reader::open(&sim.place.path("journal"), Arc::new(sim.disk.clone()));
    let frames = journal.frames(Seq(1)).unwrap();
    let all: Vec<Frame> = frames.collect::<Result<_, _>>().unwrap();
    let wanted = seen(&sim.mfs).await.unwrap();
    // The last name is made twice, and then everything again.
    let twice: Vec<&Frame> = all.iter().chain(&all[1..]).collect();
    let bad = sim.beside(journal_of(&sim, &twice)).await;
    let from = all.len() as u64 + 1;
    let contradicts = bad.mfs.recovery().contradicts.clone().unwrap();
    assert_eq!(contradicts.0, from, "{contradicts:?}");
    assert_eq!(seen(&bad.mfs).await.unwrap(), wanted);
    assert!(make(&bad.mfs, b"new").await.is_err());
    let open = bad.mfs.inspect(&|_| ()).await.unwrap();
    let told = |problems: &[String]| problems.iter().any(|one| one.contains("contradicts"));
    assert!(told(&open.problems), "{:?}", open.problems);
    let disk = bad.disk.kill();
    let bad = bad.next(disk).await;
    let parts = Parts {
        journal_dir: bad.place.path("journal"),
        disk: Arc::new(bad.disk.clone()),
        clock: bad.clock.clone(),
        blocks: bad.blocks.clone(),
        reader: cidfs::unixfs::Reader::new(bad.blocks.clone()),
    };
    let mut found = Mfs::inspect_closed(&parts, 3, &|_| ()).await.unwrap();
    assert!(told(&found.problems), "{:?}", found.problems);
    Mfs::mend(&parts, &mut found).await.unwrap();
    let disk = bad.disk.kill();
    let mended = bad.next(disk).await;
    assert_eq!(mended.mfs.recovery().errors, Vec::<String>::new());
    assert_eq!(seen(&mended.mfs).await.unwrap(), wanted);
    make(&mended.mfs, b"new").await.unwrap();
    mended.end().await;
    sim.end().await;
}
