//! Readers, beside a writer and without one.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cidfs::disk::{Disk, DiskEntry, DiskFile, RealDisk};
use cidfs::journal::{
    Class, Frame, Journal, JournalError, JournalOptions, Reader, Record, Seq, TxId,
};
use cidfs::testing::sim_disk::SimDisk;

use crate::journal_support::{
    append_all, dir, files, open, place, place_in, record, segment, shorten, small,
};

fn numbered(count: u64) -> (SimDisk, Journal) {
    let disk = SimDisk::new();
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    for number in 1..=count {
        let payload = number.to_le_bytes().repeat(1 + number as usize % 20);
        append_all(&journal, &[&payload]);
    }
    (disk, journal)
}

fn numbers(frames: &[Frame]) -> Vec<u64> {
    for frame in frames {
        assert_eq!(frame.payload[..8], frame.head.seq.0.to_le_bytes());
    }
    frames.iter().map(|frame| frame.head.seq.0).collect()
}

fn all(reader: &Reader, from: u64) -> Vec<Frame> {
    let frames = reader.frames(Seq(from)).unwrap();
    frames.map(Result::unwrap).collect()
}

#[test]
fn a_frame_has_what_was_appended() {
    let disk = SimDisk::new();
    let (journal, ..) = open(&place(disk), small()).unwrap();
    let records = [
        Record {
            tx: TxId(9),
            kind: 4,
            payload: b"first",
        },
        Record {
            tx: TxId(0),
            kind: 255,
            payload: b"",
        },
    ];
    assert_eq!(journal.append(Class::Normal, &records).unwrap(), Seq(2));
    journal.sync(Seq(2)).unwrap();
    append_all(&journal, &[b"third"]);
    let frames = all(&journal.reader(), 1);
    let head = frames[0].head;
    assert_eq!((head.seq, head.tx, head.kind), (Seq(1), TxId(9), 4));
    assert_eq!((head.time_ns, head.durable), (1_000_000_000_000, Seq(0)));
    assert_eq!(&frames[0].payload[..], b"first");
    let head = frames[1].head;
    assert_eq!((head.seq, head.tx, head.kind), (Seq(2), TxId(0), 255));
    assert_eq!(frames[2].head.durable, Seq(2));
}

#[test]
fn frames_come_in_order_from_any_one_on() {
    let (disk, journal) = numbered(300);
    assert!(journal.figures().segments > 5);
    for reader in [journal.reader(), Reader::open(&dir(), Arc::new(disk))] {
        for from in [0, 1, 2, 150, 299, 300] {
            let expected: Vec<_> = (from.max(1)..=300).collect();
            assert_eq!(numbers(&all(&reader, from)), expected);
        }
        assert!(all(&reader, 301).is_empty());
        for seq in (1..=300).rev() {
            let frame = reader.get(Seq(seq)).unwrap().unwrap();
            assert_eq!(numbers(&[frame]), [seq]);
        }
        assert_eq!(reader.get(Seq(0)).unwrap(), None);
        assert_eq!(reader.get(Seq(301)).unwrap(), None);
        assert_eq!(reader.last().unwrap(), Seq(300));
    }
}

#[test]
fn pages_go_back_from_the_newest_frame_to_the_oldest() {
    let (disk, journal) = numbered(300);
    for reader in [journal.reader(), Reader::open(&dir(), Arc::new(disk))] {
        for limit in [1, 7, 100, 1000] {
            let (mut before, mut seen) = (None, Vec::new());
            loop {
                let page = reader.page(before, limit).unwrap();
                assert!(page.frames.len() <= limit && page.damage.is_empty());
                seen.extend(numbers(&page.frames));
                before = page.before;
                if before.is_none() {
                    break;
                }
            }
            assert_eq!(seen, (1..=300).rev().collect::<Vec<_>>());
        }
        let page = reader.page(Some(Seq(10)), 3).unwrap();
        assert_eq!(
            (numbers(&page.frames), page.before),
            (vec![9, 8, 7], Some(Seq(7)))
        );
        assert!(reader.page(Some(Seq(1)), 3).unwrap().frames.is_empty());
    }
}

#[test]
fn a_page_of_long_frames_ends_early_and_the_next_goes_on_there() {
    let disk = SimDisk::new();
    let (journal, ..) = open(&place(disk), JournalOptions::default()).unwrap();
    append_all(&journal, &[&[1; 1_000_000]; 40]);
    let (mut before, mut seen, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = journal.reader().page(before, 100).unwrap();
        seen.extend(page.frames.iter().map(|frame| frame.head.seq.0));
        (before, pages) = (page.before, pages + 1);
        if before.is_none() {
            break;
        }
    }
    assert_eq!((seen, pages), ((1..=40).rev().collect(), 3));
}

#[test]
fn an_iterator_that_has_ended_goes_on_when_more_is_appended() {
    let (_, journal) = numbered(10);
    let mut frames = journal.reader().frames(Seq(8)).unwrap();
    assert_eq!(frames.by_ref().count(), 3);
    for number in 11..=200_u64 {
        assert!(frames.next().is_none());
        append_all(&journal, &[&number.to_le_bytes()]);
        assert_eq!(numbers(&[frames.next().unwrap().unwrap()]), [number]);
    }
}

#[test]
fn the_newest_frame_that_is_wanted_is_found_behind_damage_too() {
    let (disk, journal) = numbered(300);
    let reader = journal.reader();
    let found = |wanted: u64| {
        let newest = reader.newest(|head, payload| head.seq.0 <= wanted && payload.len() == 160);
        newest.unwrap().map(|frame| frame.head.seq.0)
    };
    assert_eq!(found(300), Some(299));
    assert_eq!(found(246), Some(239));
    assert_eq!(found(5), None);
    let third = reader.segments().unwrap()[2].first;
    disk.flip(&segment(third.0), 30).unwrap();
    disk.flip(&segment(third.0), 60).unwrap();
    assert_eq!(
        found(third.0 + 25),
        Some(third.0 + 25 - (third.0 + 25 - 19) % 20)
    );
}

#[test]
fn damage_is_an_error_in_its_place_and_what_is_behind_it_follows() {
    let (disk, journal) = numbered(300);
    drop(journal);
    let reader = Reader::open(&dir(), Arc::new(disk.clone()));
    let second = reader.segments().unwrap()[1].first.0;
    disk.flip(&segment(second), 100).unwrap();
    let mut seen = Vec::new();
    let mut damage = Vec::new();
    for frame in reader.frames(Seq(1)).unwrap() {
        match frame {
            Ok(frame) => seen.push(frame.head.seq.0),
            Err(JournalError::Damaged(at)) => damage.push(at.expected.0),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(damage.len(), 1);
    assert_eq!(seen.len(), 299);
    assert!(!seen.contains(&damage[0]) && seen.is_sorted());
    let page = reader.page(Some(Seq(second + 5)), 10).unwrap();
    assert_eq!((page.frames.len(), page.damage.len()), (9, 1));
    assert_eq!(page.before, Some(Seq(second - 5)));
}

#[test]
fn a_reader_alone_passes_over_a_torn_tail_and_changes_nothing() {
    let (disk, journal) = numbered(30);
    drop(journal);
    let reader = Reader::open(&dir(), Arc::new(disk.clone()));
    let last = *reader.segments().unwrap().last().unwrap();
    shorten(&disk, &segment(last.first.0), last.bytes - 1);
    let (before, changes) = (files(&disk, &dir()), disk.counts());
    assert_eq!(reader.last().unwrap(), Seq(29));
    assert_eq!(numbers(&all(&reader, 1)).len(), 29);
    assert_eq!(reader.page(None, 5).unwrap().frames[0].head.seq, Seq(29));
    assert_eq!(reader.get(Seq(30)).unwrap(), None);
    assert!(reader.verify(|_| true).unwrap().torn.is_some());
    assert_eq!((files(&disk, &dir()), disk.counts()), (before, changes));
}

#[test]
fn a_journal_that_is_not_there_has_no_frames() {
    let reader = Reader::open(Path::new("/nowhere"), Arc::new(SimDisk::new()));
    assert!(all(&reader, 1).is_empty());
    assert_eq!(reader.last().unwrap(), Seq(0));
    assert_eq!(reader.get(Seq(1)).unwrap(), None);
    assert!(reader.page(None, 10).unwrap().frames.is_empty());
    assert!(reader.newest(|_, _| true).unwrap().is_none());
    assert_eq!(reader.verify(|_| true).unwrap().frames, 0);
}

#[test]
fn half_a_frame_that_was_read_ahead_and_taken_back_is_forgotten() {
    let (disk, journal) = numbered(1);
    let mut frames = journal.reader().frames(Seq(1)).unwrap();
    let file = disk.open(&segment(1)).unwrap();
    let len = file.len().unwrap();
    // The beginning of a frame, as an append leaves it that finds no room.
    let whole = disk.read(&segment(1), 1 << 20).unwrap();
    file.append(&[IoSlice::new(&whole[48..100])]).unwrap();
    assert_eq!(frames.next().unwrap().unwrap().head.seq, Seq(1));
    file.cut(len).unwrap();
    append_all(&journal, &[b"two"]);
    let second = frames.next().unwrap().unwrap();
    assert_eq!(&second.payload[..], b"two");
}

/// A disk on which half a frame is finished, and the next ones written, when
/// the directory is listed for the second time: when a reader looks whether
/// another segment follows.
struct Racing {
    inner: SimDisk,
    lists: AtomicU32,
    rest: Vec<u8>,
}

impl Disk for Racing {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.create(path)
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        self.inner.read(path, bytes_max)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        if self.lists.fetch_add(1, Ordering::Relaxed) == 1 {
            let file = self.inner.open(&segment(1))?;
            file.append(&[IoSlice::new(&self.rest)])?;
        }
        self.inner.list(dir)
    }

    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        self.inner.make_dirs(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_tree(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn write_again(&self, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_again(path, bytes, offset)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.inner.free_bytes(dir)
    }
}

#[test]
fn a_frame_that_another_process_was_writing_is_no_damage() {
    let (disk, journal) = numbered(20);
    drop(journal);
    let whole = disk.read(&segment(1), 1 << 20).unwrap();
    let ends = (1..=20).scan(48, |end, number: usize| {
        *end += 48 + 8 * (1 + number % 20);
        Some(*end)
    });
    let ends: Vec<_> = ends.collect();
    // Behind the last frame there is none that would prove it finished.
    for len in (1000..ends[18]).filter(|len| !ends.contains(len)) {
        shorten(&disk, &segment(1), len as u64);
        let racing = Racing {
            inner: disk.clone(),
            lists: AtomicU32::new(0),
            rest: whole[len..].to_vec(),
        };
        let reader = Reader::open(&dir(), Arc::new(racing));
        assert_eq!(numbers(&all(&reader, 1)), (1..=20).collect::<Vec<_>>());
        assert_eq!(disk.read(&segment(1), 1 << 20).unwrap(), whole);
    }
}

#[test]
fn places_of_before_a_cut_are_forgotten() {
    let disk = SimDisk::new();
    let (journal, ..) = open(&place(disk), JournalOptions::default()).unwrap();
    append_all(&journal, &[[1; 1000]; 400]);
    let reader = journal.reader();
    for seq in 1..=400 {
        assert!(reader.get(Seq(seq)).unwrap().is_some());
    }
    journal.cut_after(Seq(100)).unwrap();
    append_all(&journal, &[[2; 500]; 300]);
    for seq in (1..=400).rev() {
        let frame = reader.get(Seq(seq)).unwrap().unwrap();
        assert_eq!(frame.payload.len(), if seq <= 100 { 1000 } else { 500 });
    }
}

const FRAMES: u64 = 60_000;

/// Reads on and on while frames are appended and segments begun, and checks
/// that it is without a gap.
fn read_all(reader: &Reader) {
    let mut next = 1;
    while next <= FRAMES {
        for frame in reader.frames(Seq(next)).unwrap() {
            assert_eq!(frame.unwrap().head.seq.0, next);
            next += 1;
        }
        let page = reader.page(None, 50).unwrap();
        assert_eq!(page.damage, []);
        let newest = page.frames.first().map_or(0, |frame| frame.head.seq.0);
        assert!(newest + 1 >= next, "{newest} is before {next}");
    }
}

#[test]
fn readers_beside_a_writer_see_whole_frames_without_gaps() {
    let temp = tempfile::tempdir().unwrap();
    let place = place_in(Arc::new(RealDisk), temp.path());
    let options = JournalOptions {
        segment_bytes: 256 << 10,
        reserve_bytes: 4 << 10,
        room_bytes: 64 << 10,
        append_bytes_max: 64 << 10,
        ..JournalOptions::default()
    };
    let (journal, ..) = open(&place, options).unwrap();
    let readers = [
        journal.reader(),
        Reader::open(temp.path(), Arc::new(RealDisk)),
    ];
    std::thread::scope(|scope| {
        for reader in &readers {
            scope.spawn(|| read_all(reader));
        }
        for number in 0..FRAMES * 2 / 3 {
            let payload = number.to_le_bytes().repeat(number as usize % 60);
            let records = [record(&payload); 2];
            let count = 1 + number as usize % 2;
            journal.append(Class::Normal, &records[..count]).unwrap();
        }
    });
    assert!(journal.figures().segments > 30);
    assert_eq!(journal.reader().verify(|_| true).unwrap().frames, FRAMES);
}
