//! Torn tails are cut off; damage to what was safe changes nothing.

use cidfs::disk::Disk;
use cidfs::journal::{
    Class, Fault, FrameFault, HeadFault, Journal, JournalError, Reader, Recovered, Seq,
    set_aside_from,
};
use cidfs::testing::sim_disk::SimDisk;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::journal_support::{
    append_all, dir, files, open, payloads, place, record, segment, shorten, small,
};

/// Bytes of a segment's head and of a frame's head.
const HEAD: u64 = 48;

/// Three frames that were synced, and one that was not and knows of them.
fn three_and_one() -> SimDisk {
    let disk = SimDisk::new();
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    let last = append_all(&journal, &[&b"one"[..], b"two", b"three"]);
    journal.sync(last).unwrap();
    append_all(&journal, &[b"the fourth"]);
    drop(journal);
    disk
}

const FOURTH: u64 = HEAD + 3 * HEAD + 11;
const END: u64 = FOURTH + HEAD + 10;

#[track_caller]
fn assert_read_only(journal: &Journal) {
    let error = journal.append(Class::Reserve, &[record(b"x")]).unwrap_err();
    assert!(matches!(error, JournalError::ReadOnly(_)), "{error}");
    let error = journal.retire(Seq(1)).unwrap_err();
    assert!(matches!(error, JournalError::ReadOnly(_)), "{error}");
    let error = journal.cut_after(journal.last()).unwrap_err();
    assert!(matches!(error, JournalError::ReadOnly(_)), "{error}");
    let error = journal.sync(journal.last()).err();
    let refused = matches!(error, None | Some(JournalError::ReadOnly(_)));
    assert!(refused, "{error:?}");
}

/// Opens a damaged journal, and checks that no byte of it changes.
#[track_caller]
fn assert_damaged(disk: &SimDisk) -> Recovered {
    let before = files(disk, &dir());
    let (journal, recovered, _) = open(&place(disk.clone()), small()).unwrap();
    assert_eq!(recovered.torn, None);
    assert!(recovered.damage.is_some(), "no damage was found");
    assert_read_only(&journal);
    drop(journal);
    assert_eq!(files(disk, &dir()), before);
    recovered
}

#[test]
fn a_tail_torn_at_any_byte_of_the_last_frame_is_cut_off_and_kept_aside() {
    let whole = files(&three_and_one(), &dir()).remove(0).1;
    assert_eq!(whole.len() as u64, END);
    for len in FOURTH..END {
        let disk = three_and_one();
        shorten(&disk, &segment(1), len);
        let (journal, recovered, frames) = open(&place(disk.clone()), small()).unwrap();
        assert_eq!(payloads(&frames), [&b"one"[..], b"two", b"three"]);
        let torn = len - FOURTH;
        assert_eq!(recovered.torn.as_ref().map_or(0, |torn| torn.bytes), torn);
        assert_eq!(recovered.torn.is_some(), torn > 0, "{len}");
        if let Some(torn) = recovered.torn {
            assert_eq!((torn.after, torn.frames), (Seq(3), 0));
            assert_eq!(torn.why.unwrap().fault, Fault::Short(len - FOURTH));
            assert_eq!(torn.kept, ["00000000000000000004-0000.torn"]);
            let kept = disk.read(&dir().join(&torn.kept[0]), 1 << 20).unwrap();
            assert_eq!(kept, whole[FOURTH as usize..len as usize]);
        }
        assert_eq!(append_all(&journal, &[b"again"]), Seq(4));
        drop(journal);
        let (_, recovered, frames) = open(&place(disk), small()).unwrap();
        assert_eq!(payloads(&frames)[3], b"again");
        assert_eq!(recovered.torn, None);
    }
}

#[test]
fn a_changed_byte_in_a_frame_that_was_not_synced_is_a_torn_tail() {
    for at in FOURTH..END {
        let disk = three_and_one();
        disk.flip(&segment(1), at as usize).unwrap();
        let (_, recovered, frames) = open(&place(disk), small()).unwrap();
        assert_eq!(frames.len(), 3, "byte {at}");
        assert_eq!(recovered.torn.unwrap().bytes, END - FOURTH);
    }
}

#[test]
fn a_changed_byte_in_what_was_synced_makes_the_journal_read_only() {
    for at in HEAD..FOURTH {
        let disk = three_and_one();
        disk.flip(&segment(1), at as usize).unwrap();
        let recovered = assert_damaged(&disk);
        let damage = recovered.damage.unwrap();
        // What is before the damage is served.
        assert_eq!(recovered.last.next(), damage.expected, "byte {at}");
        assert!(at >= damage.offset && damage.segment == Seq(1));
        assert!(damage.resumes.is_some_and(|resumes| resumes > Seq(0)));
        assert_eq!(recovered.durable, Seq(3));
    }
}

#[test]
fn a_damaged_head_of_a_segment_costs_no_frame() {
    for at in 0..HEAD {
        let disk = three_and_one();
        disk.flip(&segment(1), at as usize).unwrap();
        let (journal, recovered, frames) = open(&place(disk), small()).unwrap();
        assert_eq!((frames.len(), recovered.damage), (4, None), "byte {at}");
        let fault = &recovered.history[0].fault;
        assert!(matches!(fault, Fault::Head(_)), "{fault}");
        assert_eq!(append_all(&journal, &[b"five"]), Seq(5));
    }
}

#[test]
fn a_damaged_head_of_a_later_segment_costs_no_frame() {
    let (_, firsts) = many_segments();
    for first in firsts {
        let (disk, _) = many_segments();
        disk.flip(&segment(first), 20).unwrap();
        let (journal, recovered, frames) = open(&place(disk), small()).unwrap();
        assert_eq!((frames.len(), recovered.damage), (12, None), "{first}");
        assert_eq!((recovered.torn, recovered.history.len()), (None, 1));
        assert_eq!(append_all(&journal, &[b"on"]), Seq(13));
    }
}

/// Segments of two frames each, all but the last two synced.
fn many_segments() -> (SimDisk, Vec<u64>) {
    let disk = SimDisk::new();
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    let payload = [9; 1500];
    for _ in 0..5 {
        let last = append_all(&journal, &[&payload, &payload]);
        journal.sync(last).unwrap();
    }
    append_all(&journal, &[&payload, &payload]);
    drop(journal);
    let segments = Reader::open(&dir(), std::sync::Arc::new(disk.clone())).segments();
    let firsts: Vec<_> = segments.unwrap().iter().map(|s| s.first.0).collect();
    assert_eq!(firsts, [1, 3, 5, 7, 9, 11]);
    (disk, firsts)
}

#[test]
fn a_later_segment_tells_that_an_earlier_one_was_safe() {
    for first in [1, 3, 5, 7, 9] {
        let (disk, _) = many_segments();
        // The second frame of the segment.
        let offset = 2 * HEAD as usize + 1500 + 60;
        disk.flip(&segment(first), offset).unwrap();
        let recovered = assert_damaged(&disk);
        assert_eq!(recovered.last, Seq(first));
        assert_eq!(recovered.durable, Seq(10));
    }
}

#[test]
fn segments_after_a_break_that_was_not_synced_are_set_aside() {
    let disk = SimDisk::new();
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    let payload = [9; 1500];
    let last = append_all(&journal, &[&payload]);
    journal.sync(last).unwrap();
    append_all(&journal, &[&payload; 7]);
    drop(journal);
    disk.flip(&segment(3), 1000).unwrap();
    let (journal, recovered, frames) = open(&place(disk.clone()), small()).unwrap();
    assert_eq!(frames.len(), 2);
    let torn = recovered.torn.unwrap();
    assert_eq!((torn.after, torn.frames, torn.kept.len()), (Seq(2), 5, 3));
    assert_eq!(append_all(&journal, &[b"x"]), Seq(3));
    let names: Vec<_> = files(&disk, &dir())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let expected = [
        "00000000000000000001.seg",
        "00000000000000000003-0000.torn",
        "00000000000000000003.seg",
        "00000000000000000005-0000.torn",
        "00000000000000000007-0000.torn",
    ];
    // The first segment had room for the new frame, or had not.
    let names: Vec<_> = names.iter().filter(|n| n.ends_with("torn")).collect();
    assert_eq!(names, [expected[1], expected[3], expected[4]]);
}

#[test]
fn a_missing_segment_is_damage_if_it_was_synced_and_torn_if_not() {
    for first in [3, 5, 7, 9] {
        let (disk, _) = many_segments();
        disk.remove(&segment(first)).unwrap();
        let damage = assert_damaged(&disk).damage.unwrap();
        assert_eq!(damage.fault, Fault::Missing(Seq(first + 2)));
    }
    let disk = SimDisk::new();
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    append_all(&journal, &[&[9; 1500]; 6]);
    drop(journal);
    disk.remove(&segment(3)).unwrap();
    let (_, recovered, frames) = open(&place(disk), small()).unwrap();
    assert_eq!((recovered.last, frames.len()), (Seq(2), 2));
    assert_eq!(recovered.torn.unwrap().frames, 2);
}

#[test]
fn damage_before_the_frame_that_is_asked_for_stops_nothing() {
    let (disk, _) = many_segments();
    disk.flip(&segment(5), 1000).unwrap();
    disk.flip(&segment(7), 100).unwrap();
    let place = place(disk);
    let mut seen = Vec::new();
    let visit = &mut |head: &cidfs::journal::FrameHead, _: &[u8]| seen.push(head.seq.0);
    let (journal, recovered) = Journal::open(&place, small(), Seq(8), visit).unwrap();
    assert_eq!(seen, [8, 9, 10, 11, 12]);
    assert_eq!(recovered.damage, None);
    assert_eq!(recovered.history.len(), 1);
    assert_eq!(append_all(&journal, &[b"x"]), Seq(13));
}

#[test]
fn a_segment_of_a_later_format_is_refused_and_not_damaged() {
    let disk = three_and_one();
    let before = files(&disk, &dir());
    let mut bytes = before[0].1.clone();
    bytes[8] = 2;
    bytes[12..16].fill(0);
    let sum = crc32c::crc32c(&bytes[..48]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    shorten(&disk, &segment(1), 0);
    let file = disk.open(&segment(1)).unwrap();
    file.append(&[std::io::IoSlice::new(&bytes)]).unwrap();
    let refused = open(&place(disk.clone()), small()).map(drop);
    assert!(
        matches!(refused, Err(JournalError::Version { found: 2 })),
        "{refused:?}"
    );
    assert_eq!(files(&disk, &dir())[0].1, bytes);
}

#[test]
fn a_segment_that_holds_nothing_whole_is_set_aside_whole() {
    for len in [1, 47, 48, 60] {
        let disk = SimDisk::new();
        let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
        append_all(&journal, &[b"one"]);
        drop(journal);
        shorten(&disk, &segment(1), len);
        let (journal, recovered, frames) = open(&place(disk.clone()), small()).unwrap();
        assert_eq!(
            (frames.len(), recovered.segments),
            (0, usize::from(len == 48))
        );
        assert_eq!(append_all(&journal, &[b"new"]), Seq(1));
        drop(journal);
        let (_, recovered, frames) = open(&place(disk), small()).unwrap();
        assert_eq!(
            (payloads(&frames), recovered.torn),
            (vec![&b"new"[..]], None)
        );
    }
}

#[test]
fn a_journal_inside_a_payload_is_not_taken_for_frames() {
    let inner = files(&three_and_one(), &dir()).remove(0).1;
    let disk = SimDisk::new();
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    append_all(&journal, &[&b"a"[..], &inner]);
    drop(journal);
    // The frame that holds the other journal is torn. Its frames say that
    // frame 3 is durable; they are not believed.
    disk.flip(&segment(1), 2 * HEAD as usize + 1 + 20).unwrap();
    let (_, recovered, frames) = open(&place(disk), small()).unwrap();
    assert_eq!(
        (payloads(&frames), recovered.damage),
        (vec![&b"a"[..]], None)
    );
    assert_eq!(recovered.torn.unwrap().frames, 0);
}

#[test]
fn kept_tails_have_a_bound() {
    let disk = SimDisk::new();
    for round in 0..3 {
        let (journal, ..) = open(&place(disk.clone()), Default::default()).unwrap();
        append_all(&journal, &[b"kept"]);
        journal.sync(journal.last()).unwrap();
        let from = journal.figures().bytes;
        append_all(&journal, &[&[round; 1_000_000]; 40]);
        drop(journal);
        disk.flip(&segment(1), from as usize).unwrap();
        let (journal, recovered, _) = open(&place(disk.clone()), Default::default()).unwrap();
        assert_eq!(recovered.torn.unwrap().frames, 39);
        drop(journal);
        let torn = files(&disk, &dir());
        let torn = torn.iter().filter(|(name, _)| name.ends_with(".torn"));
        assert_eq!(torn.count(), 1, "of 40 MB each only one is within 64 MiB");
    }
}

#[test]
fn frames_whose_data_is_gone_are_taken_back_if_they_are_not_durable() {
    let (disk, _) = many_segments();
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    append_all(&journal, &[&[9; 1500]; 3]);
    let refused = journal.cut_after(Seq(9)).unwrap_err();
    assert!(matches!(refused, JournalError::Durable { .. }), "{refused}");
    let reader = journal.reader();
    assert_eq!(reader.frames(Seq(1)).unwrap().count(), 15);
    let torn = journal.cut_after(Seq(11)).unwrap();
    assert_eq!((torn.frames, journal.last()), (4, Seq(11)));
    assert_eq!(append_all(&journal, &[&[8; 1400]]), Seq(12));
    // The reader's places are of before the cut.
    let frames: Vec<_> = reader
        .frames(Seq(10))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let lens: Vec<_> = frames.iter().map(|frame| frame.payload.len()).collect();
    assert_eq!(lens, [1500, 1500, 1400]);
    drop(journal);
    let (_, recovered, frames) = open(&place(disk), small()).unwrap();
    assert_eq!((frames.len(), recovered.torn), (12, None));
    assert_eq!(frames[11].payload.len(), 1400);
}

#[test]
fn what_the_disk_cannot_read_is_damage_whatever_is_known() {
    use cidfs::testing::disk::{Effect, FaultDisk, Op};
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let at = crate::journal_support::place_in(std::sync::Arc::new(disk.clone()), temp.path());
    let (journal, ..) = open(&at, small()).unwrap();
    append_all(&journal, &[&b"one"[..], b"two"]);
    drop(journal);
    let before = files(&disk, temp.path());
    disk.fail(Op::Read, ".seg", 0, 9, Effect::Errno(libc::EIO));
    let (journal, recovered, _) = open(&at, small()).unwrap();
    let fault = recovered.damage.unwrap().fault;
    assert!(matches!(fault, Fault::Unreadable(_)), "{fault}");
    assert_read_only(&journal);
    drop(journal);
    disk.heal();
    assert_eq!(files(&disk, temp.path()), before);
    let (_, recovered, frames) = open(&at, small()).unwrap();
    assert_eq!((recovered.damage, frames.len()), (None, 2));
}

#[test]
fn the_check_of_all_checksums_lists_every_damaged_place() {
    let (disk, _) = many_segments();
    let reader = Reader::open(&dir(), std::sync::Arc::new(disk.clone()));
    let sound = reader.verify(|_| true).unwrap();
    assert_eq!((sound.frames, sound.damaged, sound.torn), (12, 0, None));
    disk.flip(&segment(1), 20).unwrap();
    disk.flip(&segment(5), 60).unwrap();
    disk.remove(&segment(9)).unwrap();
    shorten(&disk, &segment(11), 2000);
    let mut steps = Vec::new();
    let report = reader
        .verify(|progress| {
            steps.push(progress.bytes);
            true
        })
        .unwrap();
    let faults: Vec<_> = report.damage.iter().map(|d| d.fault.clone()).collect();
    assert_eq!(
        faults,
        [
            Fault::Head(HeadFault::Checksum),
            Fault::Frame(FrameFault::Checksum),
            Fault::Missing(Seq(11)),
        ]
    );
    assert_eq!((report.frames, report.damaged, report.segments), (8, 3, 5));
    assert!(matches!(report.torn.unwrap().fault, Fault::Short(_)));
    assert!(steps.is_sorted() && steps.len() > 8);
    let mut calls = 0;
    let early = reader.verify(|_| {
        calls += 1;
        calls < 3
    });
    assert_eq!((early.unwrap().frames < 4, calls), (true, 3));
}

/// Does something to the bytes of a segment that a disk or a person might.
fn spoil(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    let at = rng.random_range(0..bytes.len());
    let end = (at + rng.random_range(1..600)).min(bytes.len());
    match rng.random_range(0..6) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes.truncate(at.max(1)),
        2 => bytes[at..end].fill(0),
        3 => drop(bytes.drain(at..end)),
        4 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
        _ => rng.fill(&mut bytes[at..end]),
    }
}

#[test]
fn whatever_happens_to_segments_only_frames_that_were_appended_are_read() {
    let (mut torn, mut damaged) = (0, 0);
    for seed in 0..400 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (disk, firsts) = many_segments();
        for _ in 0..rng.random_range(1..4) {
            let path = segment(firsts[rng.random_range(0..firsts.len())]);
            let mut bytes = disk.read(&path, 1 << 20).unwrap();
            spoil(&mut bytes, &mut rng);
            shorten(&disk, &path, 0);
            let file = disk.open(&path).unwrap();
            file.append(&[std::io::IoSlice::new(&bytes)]).unwrap();
        }
        let reader = Reader::open(&dir(), std::sync::Arc::new(disk.clone()));
        let report = match reader.verify(|_| true) {
            Err(JournalError::Version { .. }) => continue,
            other => other.unwrap(),
        };
        assert!(report.frames <= 12, "seed {seed}");
        let (journal, recovered, frames) = open(&place(disk.clone()), small()).unwrap();
        for (frame, seq) in frames.iter().zip(1..) {
            assert_eq!(
                (frame.head.seq, &frame.payload[..]),
                (Seq(seq), &[9; 1500][..])
            );
        }
        torn += u32::from(recovered.torn.is_some());
        damaged += u32::from(recovered.damage.is_some());
        drop(journal);
        let (_, again, _) = open(&place(disk), small()).unwrap();
        assert_eq!(again.torn, None, "seed {seed}: it is settled");
        assert_eq!(
            (again.last, again.damage),
            (recovered.last, recovered.damage)
        );
    }
    assert!(torn > 20 && damaged > 100, "{torn} torn, {damaged} damaged");
}

#[test]
fn setting_damage_aside_can_stop_anywhere_and_loses_no_whole_frame() {
    let damaged = || {
        let (disk, _) = many_segments();
        // The second frame of the third segment: five frames are before it.
        disk.flip(&segment(5), 2 * HEAD as usize + 1500 + 60)
            .unwrap();
        disk
    };
    let done = damaged();
    let damage = assert_damaged(&done).damage.unwrap();
    let mend = |disk: &SimDisk| set_aside_from(&dir(), std::sync::Arc::new(disk.clone()), &damage);
    let begin = done.counts().changes;
    mend(&done).unwrap();
    let end = done.counts().changes;
    assert!(end > begin + 5);
    for stop in begin..=end {
        for seed in 0..8 {
            let disk = damaged();
            let so_far = disk.counts().changes;
            disk.stop_at(Some(so_far + stop - begin));
            assert_eq!(mend(&disk).is_ok(), stop == end, "change {stop}");
            let after = if seed == 0 {
                disk.kill()
            } else {
                disk.crash(seed)
            };
            let (_, recovered, frames) = open(&place(after.clone()), small()).unwrap();
            assert_eq!(frames.len(), 5, "change {stop}, seed {seed}: {recovered:?}");
            // Begun again, it comes to the same end.
            if let Some(damage) = recovered.damage {
                set_aside_from(&dir(), std::sync::Arc::new(after.clone()), &damage).unwrap();
                let (journal, recovered, frames) = open(&place(after), small()).unwrap();
                assert_eq!((frames.len(), recovered.damage), (5, None));
                assert_eq!(append_all(&journal, &[b"on"]), Seq(6));
            }
        }
    }
}
