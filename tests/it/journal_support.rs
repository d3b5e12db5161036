//! What the journal's tests share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cidfs::clock::Clock;
use cidfs::disk::Disk;
use cidfs::journal::{
    Class, Frame, Journal, JournalError, JournalOptions, JournalPlace, Record, Recovered,
    Retention, Seq, TxId,
};

/// A clock that moves when it is told.
#[derive(Default)]
pub(crate) struct SetClock(AtomicU64);

impl SetClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> SystemTime {
        let since = 1_000_000_000_000 + self.0.load(Ordering::Relaxed);
        SystemTime::UNIX_EPOCH + Duration::from_nanos(since)
    }
}

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/repo/journal")
}

pub(crate) fn segment(first: u64) -> PathBuf {
    segment_in(&dir(), first)
}

pub(crate) fn segment_in(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

/// A journal on a disk, with nothing to be synced before it.
pub(crate) fn place(disk: impl Disk) -> JournalPlace {
    place_in(Arc::new(disk), &dir())
}

pub(crate) fn place_in(disk: Arc<dyn Disk>, dir: &Path) -> JournalPlace {
    JournalPlace {
        dir: dir.to_owned(),
        disk,
        clock: Arc::new(SetClock::default()),
        room: Arc::default(),
        before_sync: Arc::new(|| Ok(())),
    }
}

/// Small segments, so that a test sees many; and no thread, so that each run
/// is the same.
pub(crate) fn small() -> JournalOptions {
    JournalOptions {
        segment_bytes: 4096,
        reserve_bytes: 512,
        last_bytes: 0,
        room_bytes: 1024,
        append_bytes_max: 3000,
        retain: Retention {
            age: Duration::MAX,
            bytes: 8192,
        },
        prepare_ahead: false,
        only_read: false,
    }
}

pub(crate) fn record(payload: &[u8]) -> Record<'_> {
    Record {
        tx: TxId(3),
        kind: 7,
        payload,
    }
}

/// Opens, and gives all frames too.
pub(crate) fn open(
    place: &JournalPlace,
    options: JournalOptions,
) -> Result<(Journal, Recovered, Vec<Frame>), JournalError> {
    let mut frames = Vec::new();
    let (journal, recovered) = Journal::open(place, options, Seq(1), &mut |head, payload| {
        frames.push(Frame {
            head: *head,
            payload: payload.to_vec().into(),
        });
    })?;
    Ok((journal, recovered, frames))
}

/// Appends one frame each.
pub(crate) fn append_all(journal: &Journal, payloads: &[impl AsRef<[u8]>]) -> Seq {
    let append = |payload: &_| {
        let payload = AsRef::as_ref(payload);
        journal.append(Class::Normal, &[record(payload)]).unwrap()
    };
    payloads.iter().map(append).last().unwrap()
}

pub(crate) fn payloads(frames: &[Frame]) -> Vec<&[u8]> {
    frames.iter().map(|frame| &frame.payload[..]).collect()
}

/// All files of the journal with their bytes.
pub(crate) fn files(disk: &dyn Disk, dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = disk.list(dir).unwrap();
    let mut files: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let bytes = disk.read(&dir.join(&entry.name), 1 << 30).unwrap();
            (entry.name.into_string().unwrap(), bytes)
        })
        .collect();
    files.sort();
    files
}

/// Cuts a file off, as nobody should.
pub(crate) fn shorten(disk: &dyn Disk, path: &Path, len: u64) {
    disk.open(path).unwrap().cut(len).unwrap();
}
