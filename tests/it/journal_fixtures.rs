//! Journals of every format, as files in the tree.
//!
//! `CIDFS_WRITE_FIXTURES=1` writes those of the current format anew. They are
//! the same bytes each time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cidfs::disk::{Disk, RealDisk};
use cidfs::journal::{
    Class, Fault, Frame, FrameFault, JournalOptions, Reader, Record, Recovered, Seq, TxId,
};
use cidfs::testing::sim_disk::SimDisk;

use crate::journal_support::{dir, files, open, place, place_in, segment, segment_in, shorten};

fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/fixtures/journal/v1").join(name)
}

/// What the sound journal holds.
fn records() -> [(TxId, u8, Vec<u8>); 5] {
    [
        (TxId(0), 1, b"the first frame".to_vec()),
        (TxId(7), 2, (0..=255).collect()),
        (TxId(7), 3, Vec::new()),
        (TxId(0), 255, [0xC1, 0xDF, b'J', b'F'].repeat(50)),
        (TxId(u64::MAX), 4, b"the last frame".to_vec()),
    ]
}

/// The offset of the fourth frame and of the last.
const FOURTH: u64 = 48 + 3 * 48 + 15 + 256;
const LAST: u64 = FOURTH + 48 + 200;

/// The sound journal: three frames in one append, synced, then two more.
fn sound() -> SimDisk {
    let disk = SimDisk::new();
    let options = JournalOptions {
        prepare_ahead: false,
        ..JournalOptions::default()
    };
    let (journal, ..) = open(&place(disk.clone()), options).unwrap();
    let records = records();
    let records: Vec<_> = records
        .iter()
        .map(|(tx, kind, payload)| Record {
            tx: *tx,
            kind: *kind,
            payload,
        })
        .collect();
    journal.append(Class::Normal, &records[..3]).unwrap();
    journal.sync(Seq(3)).unwrap();
    for record in &records[3..] {
        journal.append(Class::Normal, &[*record]).unwrap();
    }
    drop(journal);
    disk
}

/// All fixtures of the current format.
fn made() -> [(&'static str, Vec<u8>); 3] {
    let bytes = |disk: &SimDisk| files(disk, &dir()).remove(0).1;
    let (torn, damaged) = (sound(), sound());
    shorten(&torn, &segment(1), LAST + 50);
    // In the second frame, which was synced.
    damaged.flip(&segment(1), 48 + 48 + 15 + 48 + 100).unwrap();
    [
        ("sound", bytes(&sound())),
        ("torn", bytes(&torn)),
        ("damaged", bytes(&damaged)),
    ]
}

/// Opens a copy of a fixture.
fn recover(name: &str) -> (tempfile::TempDir, Recovered, Vec<Frame>) {
    let temp = tempfile::tempdir().unwrap();
    let copy = segment_in(temp.path(), 1);
    std::fs::copy(segment_in(&fixture(name), 1), copy).unwrap();
    let place = place_in(Arc::new(RealDisk), temp.path());
    let (_, recovered, frames) = open(&place, JournalOptions::default()).unwrap();
    (temp, recovered, frames)
}

fn assert_first(frames: &[Frame], count: usize) {
    let expected = records();
    assert_eq!(frames.len(), count);
    for (frame, (tx, kind, payload)) in frames.iter().zip(&expected) {
        assert_eq!((frame.head.tx, frame.head.kind), (*tx, *kind));
        assert_eq!(frame.payload, *payload);
        assert_eq!(frame.head.time_ns, 1_000_000_000_000);
        let durable = if frame.head.seq <= Seq(3) { 0 } else { 3 };
        assert_eq!(frame.head.durable, Seq(durable));
    }
}

#[test]
fn the_current_format_is_that_of_the_fixtures() {
    for (name, bytes) in made() {
        let path = segment_in(&fixture(name), 1);
        if std::env::var_os("CIDFS_WRITE_FIXTURES").is_some() {
            std::fs::create_dir_all(fixture(name)).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "{name}");
    }
}

#[test]
fn the_sound_journal_is_read_whole() {
    let (_temp, recovered, frames) = recover("sound");
    assert_first(&frames, 5);
    assert_eq!((recovered.last, recovered.durable), (Seq(5), Seq(3)));
    assert_eq!((recovered.torn, recovered.damage), (None, None));
    let report = Reader::open(&fixture("sound"), Arc::new(RealDisk)).verify(|_| true);
    assert_eq!(report.unwrap().frames, 5);
}

#[test]
fn the_torn_journal_loses_its_last_frame() {
    let (temp, recovered, frames) = recover("torn");
    assert_first(&frames, 4);
    let torn = recovered.torn.unwrap();
    assert_eq!((torn.after, torn.bytes), (Seq(4), 50));
    assert_eq!(torn.why.unwrap().fault, Fault::Short(50));
    let path = segment_in(temp.path(), 1);
    assert_eq!(std::fs::metadata(path).unwrap().len(), LAST);
}

#[test]
fn the_damaged_journal_is_read_up_to_the_damage_and_stays_as_it_is() {
    let (temp, recovered, frames) = recover("damaged");
    assert_first(&frames, 1);
    let damage = recovered.damage.unwrap();
    assert_eq!(damage.fault, Fault::Frame(FrameFault::Checksum));
    assert_eq!((damage.offset, damage.expected), (48 + 48 + 15, Seq(2)));
    assert_eq!(damage.resumes, Some(Seq(3)));
    let before = RealDisk.read(&segment_in(&fixture("damaged"), 1), 1 << 20);
    let copied = files(&RealDisk, temp.path());
    assert_eq!((copied.len(), &copied[0].1), (1, &before.unwrap()));
}
