//! A full disk, and segments that are dropped.

use std::sync::Arc;
use std::time::Duration;

use cidfs::config::JOURNAL_RESERVE_BYTES;
use cidfs::disk::{Disk, RealDisk};
use cidfs::journal::{
    Class, Journal, JournalError, JournalOptions, PAYLOAD_BYTES_MAX, Retention, Seq,
};
use cidfs::testing::disk::{Effect, FaultDisk, Op};
use cidfs::testing::sim_disk::SimDisk;

use crate::journal_support::{
    SetClock, append_all, dir, files, open, payloads, place, place_in, record, segment_in, small,
};

/// Appends until the journal is full, and counts.
fn fill(journal: &Journal, class: Class, payload: &[u8]) -> u64 {
    let before = journal.last().0;
    loop {
        match journal.append(class, &[record(payload)]) {
            Ok(_) => {}
            Err(JournalError::Full) => return journal.last().0 - before,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_full_disk_is_found_before_a_frame_is_written_and_stops_nothing() {
    let disk = SimDisk::new();
    disk.set_bytes_max(Some(20_000));
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    let count = fill(&journal, Class::Normal, &[1; 100]);
    assert!(count > 100, "{count}");
    let (appends, bytes) = (disk.counts().appends, journal.figures().bytes);
    assert_eq!(fill(&journal, Class::Normal, &[1; 100]), 0);
    assert_eq!(disk.counts().appends, appends, "nothing was tried");
    journal.sync(journal.last()).unwrap();
    // What makes room still goes, as far as the reserve.
    let reserved = fill(&journal, Class::Reserve, &[2; 52]);
    assert!((5..=20).contains(&reserved), "{reserved}");
    assert_eq!(journal.figures().bytes, bytes + reserved * 100);
    journal.check().unwrap();
    disk.set_bytes_max(Some(40_000));
    assert!(fill(&journal, Class::Normal, &[3; 100]) > 50);
    drop(journal);
    let (_, recovered, frames) = open(&place(disk), small()).unwrap();
    assert_eq!((recovered.torn, recovered.damage), (None, None));
    assert!(frames.len() as u64 > count + reserved + 50);
}

#[test]
fn the_end_of_the_reserve_is_left_for_checkpoints_over_a_restart_too() {
    let options = JournalOptions {
        last_bytes: 300,
        ..small()
    };
    let disk = SimDisk::new();
    disk.set_bytes_max(Some(20_000));
    let (journal, ..) = open(&place(disk.clone()), options).unwrap();
    fill(&journal, Class::Normal, &[1; 100]);
    assert!(!journal.in_reserve());
    assert!(fill(&journal, Class::Reserve, &[2; 52]) > 0);
    assert!(journal.in_reserve());
    drop(journal);
    let (journal, ..) = open(&place(disk.clone()), options).unwrap();
    assert_eq!(fill(&journal, Class::Reserve, &[2; 52]), 0);
    let last = fill(&journal, Class::Last, &[3; 52]);
    assert!((3..=4).contains(&last), "{last}");
    disk.set_bytes_max(Some(40_000));
    append_all(&journal, &[&[1; 100]]);
    assert!(!journal.in_reserve());
}

#[test]
fn the_reserve_outlives_a_restart_on_a_full_disk() {
    let disk = SimDisk::new();
    disk.set_bytes_max(Some(10_000));
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    fill(&journal, Class::Normal, &[1; 100]);
    drop(journal);
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    assert_eq!(fill(&journal, Class::Normal, &[1; 100]), 0);
    let reserved = fill(&journal, Class::Reserve, &[2; 52]);
    assert!(reserved >= 5, "{reserved}");
}

#[test]
fn dropping_segments_makes_room_on_a_full_disk() {
    let disk = SimDisk::new();
    disk.set_bytes_max(Some(16_000));
    let (journal, ..) = open(&place(disk), small()).unwrap();
    fill(&journal, Class::Normal, &[1; 100]);
    let checkpoint = journal
        .append(Class::Reserve, &[record(b"checkpoint")])
        .unwrap();
    journal.sync(checkpoint).unwrap();
    let none = Retention {
        age: Duration::ZERO,
        bytes: 0,
    };
    assert!(journal.retire_beyond(checkpoint, none).unwrap().segments >= 2);
    assert!(fill(&journal, Class::Normal, &[1; 100]) > 20);
}

#[test]
fn an_append_that_the_disk_has_no_room_for_is_taken_back() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let place = place_in(Arc::new(disk.clone()), temp.path());
    let (journal, ..) = open(&place, small()).unwrap();
    append_all(&journal, &[b"one"]);
    let len = journal.figures().bytes;
    // A filesystem that cannot set space aside: only the write finds it.
    disk.fail(Op::Append, ".seg", 0, 1, Effect::Short(20, libc::ENOSPC));
    let full = journal.append(Class::Normal, &[record(b"two")]);
    assert!(matches!(full, Err(JournalError::Full)), "{full:?}");
    let bytes = disk.read(&segment_in(temp.path(), 1), 1 << 20).unwrap();
    assert_eq!(bytes.len() as u64, len);
    assert_eq!(append_all(&journal, &[b"two again"]), Seq(2));
    drop(journal);
    let (_, _, frames) = open(&place, small()).unwrap();
    assert_eq!(payloads(&frames), [&b"one"[..], b"two again"]);
}

#[test]
fn an_append_that_is_taken_back_gives_up_what_was_set_aside() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let place = place_in(Arc::new(disk.clone()), temp.path());
    let (journal, ..) = open(&place, small()).unwrap();
    append_all(&journal, &[b"one"]);
    disk.fail(Op::Append, ".seg", 0, 1, Effect::Short(20, libc::ENOSPC));
    let full = journal.append(Class::Normal, &[record(b"two")]);
    assert!(matches!(full, Err(JournalError::Full)), "{full:?}");
    // Cutting the file has freed the space: it is asked for again, and not there.
    disk.fail(Op::Reserve, ".seg", 0, 9, Effect::Errno(libc::ENOSPC));
    let full = journal.append(Class::Normal, &[record(b"two")]);
    assert!(matches!(full, Err(JournalError::Full)), "{full:?}");
}

#[test]
fn a_segment_whose_first_append_had_no_room_is_used_by_the_next() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let place = place_in(Arc::new(disk.clone()), temp.path());
    disk.fail(
        Op::Append,
        "0001.seg",
        0,
        1,
        Effect::Short(20, libc::ENOSPC),
    );
    disk.fail(
        Op::Append,
        "next.seg",
        0,
        1,
        Effect::Short(20, libc::ENOSPC),
    );
    let (journal, ..) = open(&place, small()).unwrap();
    let full = journal.append(Class::Normal, &[record(b"one")]);
    assert!(matches!(full, Err(JournalError::Full)), "{full:?}");
    append_all(&journal, &[&[1; 2900], &[1; 2900]]);
    assert_eq!(journal.figures().segments, 2);
    drop(journal);
    assert_eq!(open(&place, small()).unwrap().2.len(), 2);
}

#[test]
fn space_that_cannot_be_set_aside_for_other_reasons_is_an_error_and_no_stop() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let place = place_in(Arc::new(disk.clone()), temp.path());
    let (journal, ..) = open(&place, small()).unwrap();
    disk.fail(Op::Reserve, "", 0, 1, Effect::Errno(libc::EIO));
    let failed = journal.append(Class::Normal, &[record(b"one")]);
    assert!(matches!(failed, Err(JournalError::Io { .. })), "{failed:?}");
    assert_eq!(append_all(&journal, &[b"one"]), Seq(1));
}

#[test]
fn the_real_disk_sets_space_aside_beyond_the_end_of_a_file() {
    use std::os::unix::fs::MetadataExt;
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    let file = RealDisk.create(&path).unwrap();
    file.reserve(1 << 20).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 0);
    let supported = metadata.blocks() * 512 >= 1 << 20;
    assert!(
        supported || !temp.path().starts_with("/"),
        "not on this filesystem"
    );
    let full = file.reserve(1 << 60).unwrap_err();
    let kinds = [
        std::io::ErrorKind::StorageFull,
        std::io::ErrorKind::FileTooLarge,
    ];
    assert!(kinds.contains(&full.kind()), "{full}");
}

#[test]
fn what_is_too_long_is_refused_and_the_longest_is_not() {
    let disk = SimDisk::new();
    let (journal, ..) = open(&place(disk.clone()), JournalOptions::default()).unwrap();
    let longest = vec![5; PAYLOAD_BYTES_MAX];
    append_all(&journal, &[&longest]);
    let records = [record(&longest); 17];
    let refused = journal.append(Class::Normal, &records);
    assert!(
        matches!(refused, Err(JournalError::TooLong { .. })),
        "{refused:?}"
    );
    journal.append(Class::Normal, &records[..16]).unwrap();
    let longer = vec![5; PAYLOAD_BYTES_MAX + 1];
    let refused = journal.append(Class::Normal, &[record(&longer)]);
    assert!(
        matches!(refused, Err(JournalError::TooLong { .. })),
        "{refused:?}"
    );
    // Also more payloads than one call of the kernel takes, one write each.
    let many: Vec<_> = (0..3000_u64).map(|n| n.to_le_bytes().repeat(9)).collect();
    let records: Vec<_> = many.iter().map(|payload| record(payload)).collect();
    let appends = disk.counts().appends;
    assert_eq!(journal.append(Class::Normal, &records).unwrap(), Seq(3017));
    assert_eq!(disk.counts().appends, appends + 1);
    assert_eq!(journal.append(Class::Normal, &[]).unwrap(), Seq(3017));
    drop(journal);
    let (_, _, frames) = open(&place(disk), JournalOptions::default()).unwrap();
    assert!(frames[..17].iter().all(|frame| frame.payload == longest));
    let rest: Vec<_> = frames[17..].iter().map(|f| f.payload.to_vec()).collect();
    assert_eq!(rest, many);
}

#[test]
fn many_long_payloads_reach_the_real_disk_whole() {
    let temp = tempfile::tempdir().unwrap();
    let place = place_in(Arc::new(RealDisk), temp.path());
    let (journal, ..) = open(&place, JournalOptions::default()).unwrap();
    let many: Vec<_> = (0..2500_u64).map(|n| n.to_le_bytes().repeat(500)).collect();
    let records: Vec<_> = many.iter().map(|payload| record(payload)).collect();
    journal.append(Class::Normal, &records).unwrap();
    drop(journal);
    let (_, _, frames) = open(&place, JournalOptions::default()).unwrap();
    let read: Vec<_> = frames.iter().map(|frame| frame.payload.to_vec()).collect();
    assert!(read == many);
}

#[test]
fn segments_are_dropped_by_age_and_by_bytes_and_never_after_the_checkpoint() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SetClock::default()));
    let mut place = place(disk.clone());
    place.clock = Arc::clone(&clock) as _;
    let (journal, ..) = open(&place, small()).unwrap();
    for _ in 0..12 {
        append_all(&journal, &[&[1; 1500]]);
        clock.advance(Duration::from_secs(60));
    }
    let keep = |age_s, bytes| Retention {
        age: Duration::from_secs(age_s),
        bytes,
    };
    let firsts = || {
        let segments = journal.reader().segments().unwrap();
        segments.iter().map(|s| s.first.0).collect::<Vec<_>>()
    };
    assert_eq!(firsts(), [1, 3, 5, 7, 9, 11]);
    // Not durable yet: a power loss could take the checkpoint back.
    journal.retire_beyond(Seq(12), keep(0, 0)).unwrap();
    assert_eq!(firsts().len(), 6);
    journal.sync(Seq(12)).unwrap();
    let retired = journal
        .retire_beyond(Seq(12), keep(9 * 60, u64::MAX))
        .unwrap();
    assert_eq!((retired.segments, retired.bytes), (1, 48 + 2 * 1548));
    assert_eq!(firsts(), [3, 5, 7, 9, 11]);
    journal.retire(Seq(12)).unwrap();
    assert_eq!(firsts(), [9, 11], "8192 bytes hold two segments");
    journal.retire_beyond(Seq(10), keep(0, 0)).unwrap();
    assert_eq!(firsts(), [9, 11]);
    journal.retire_beyond(Seq(12), keep(0, 0)).unwrap();
    assert_eq!(firsts(), [11]);
    assert_eq!(journal.figures().first, Seq(11));
    drop(journal);
    let (journal, recovered, frames) = open(&place, small()).unwrap();
    assert_eq!((recovered.first, frames.len()), (Seq(11), 2));
    assert_eq!(append_all(&journal, &[b"x"]), Seq(13));
}

#[test]
fn a_segment_that_could_not_be_removed_is_removed_before_those_after_it() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let place = place_in(Arc::new(disk.clone()), temp.path());
    let (journal, ..) = open(&place, small()).unwrap();
    for _ in 0..9 {
        append_all(&journal, &[&[1; 1500]]);
    }
    journal.sync(Seq(9)).unwrap();
    let firsts = || {
        let segments = journal.reader().segments().unwrap();
        segments.iter().map(|s| s.first.0).collect::<Vec<_>>()
    };
    assert_eq!(firsts(), [1, 3, 5, 7, 9]);
    let none = Retention {
        age: Duration::ZERO,
        bytes: 0,
    };
    disk.fail(Op::Name, "0003.seg", 0, 1, Effect::Errno(libc::EIO));
    let failed = journal.retire_beyond(Seq(7), none);
    assert!(matches!(failed, Err(JournalError::Io { .. })), "{failed:?}");
    assert_eq!(firsts(), [3, 5, 7, 9]);
    assert_eq!(journal.retire_beyond(Seq(9), none).unwrap().segments, 3);
    assert_eq!(firsts(), [9]);
    drop(journal);
    let (_, recovered, frames) = open(&place, small()).unwrap();
    assert_eq!((recovered.damage, frames.len()), (None, 1));
}

#[test]
fn the_thread_sets_space_aside_before_it_is_needed() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let place = place_in(Arc::new(disk.clone()), temp.path());
    let options = JournalOptions {
        segment_bytes: 1 << 20,
        reserve_bytes: 64 << 10,
        room_bytes: 256 << 10,
        append_bytes_max: 64 << 10,
        prepare_ahead: true,
        ..JournalOptions::default()
    };
    let (journal, ..) = open(&place, options).unwrap();
    for _ in 0..900 {
        append_all(&journal, &[&[1; 1000]]);
        std::thread::sleep(Duration::from_micros(100));
    }
    let named = |name: &str| files(&disk, temp.path()).iter().any(|(n, _)| n == name);
    assert!(
        named("next.seg"),
        "the next segment is ready before this one is full"
    );
    append_all(&journal, &[&[1; 1000]; 200]);
    assert_eq!(journal.figures().segments, 2);
    drop(journal);
    assert_eq!(open(&place, options).unwrap().2.len(), 1100);
}

#[test]
fn the_default_reserve_is_what_the_design_says() {
    assert_eq!(
        JournalOptions::default().reserve_bytes,
        JOURNAL_RESERVE_BYTES
    );
    assert_eq!(JOURNAL_RESERVE_BYTES, 4 << 20);
    assert!(dir().is_absolute());
}
