//! Many waiters share a sync, and a sync that failed fails for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cidfs::journal::{Class, Journal, JournalError, Seq, Step};
use cidfs::testing::disk::{Effect, FaultDisk, Op};
use cidfs::testing::sim_disk::SimDisk;
use parking_lot::{Condvar, Mutex};

use crate::journal_support::{append_all, open, payloads, place, place_in, record, small};

/// A sync of data that waits for leave.
#[derive(Default)]
struct Gate {
    state: Mutex<(u32, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock();
        state.0 += 1;
        self.changed.notify_all();
        while !state.1 {
            self.changed.wait(&mut state);
        }
    }

    fn wait_for_arrival(&self) {
        let mut state = self.state.lock();
        while state.0 == 0 {
            self.changed.wait(&mut state);
        }
    }

    fn open(&self) {
        self.state.lock().1 = true;
        self.changed.notify_all();
    }
}

#[test]
fn all_who_come_during_a_sync_share_the_next_one() {
    let (disk, gate) = (SimDisk::new(), Arc::new(Gate::default()));
    let mut place = place(disk.clone());
    let at_sync = Arc::clone(&gate);
    place.before_sync = Arc::new(move || {
        at_sync.pass();
        Ok(())
    });
    let (journal, ..) = open(&place, small()).unwrap();
    let append_and_sync = || {
        let seq = journal.append(Class::Normal, &[record(b"x")]).unwrap();
        journal.sync(seq).unwrap();
        assert!(journal.durable() >= seq);
    };
    std::thread::scope(|scope| {
        scope.spawn(append_and_sync);
        gate.wait_for_arrival();
        for _ in 0..20 {
            scope.spawn(append_and_sync);
        }
        while journal.last() < Seq(21) {
            std::thread::yield_now();
        }
        assert_eq!(journal.durable(), Seq(0));
        gate.open();
    });
    assert_eq!(journal.durable(), Seq(21));
    assert_eq!((journal.figures().syncs, disk.counts().syncs), (2, 2));
}

#[test]
fn what_is_durable_already_costs_no_sync() {
    let disk = SimDisk::new();
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    append_all(&journal, &[&b"one"[..], b"two"]);
    for _ in 0..3 {
        journal.sync(Seq(1)).unwrap();
        journal.sync(Seq(2)).unwrap();
        journal.sync(Seq(99)).unwrap();
    }
    assert_eq!((disk.counts().syncs, disk.counts().dir_syncs), (1, 2));
}

fn assert_stopped(journal: &Journal, step: Step) {
    for _ in 0..2 {
        let refused = [
            journal.append(Class::Reserve, &[record(b"x")]).map(drop),
            journal.sync(journal.last()),
            journal.retire(Seq(1)).map(drop),
            journal.check(),
        ];
        for result in refused {
            let error = result.unwrap_err();
            let right = matches!(&error, JournalError::Stopped { step: at, .. } if *at == step);
            assert!(right, "{error}");
            assert!(error.to_string().contains("open the repository again"));
        }
    }
}

#[test]
fn a_sync_that_failed_fails_for_good_and_nothing_more_is_appended() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let place = place_in(Arc::new(disk.clone()), temp.path());
    let (journal, ..) = open(&place, small()).unwrap();
    append_all(&journal, &[b"one"]);
    journal.sync(Seq(1)).unwrap();
    append_all(&journal, &[b"two"]);
    disk.fail(Op::Sync, ".seg", 0, 1, Effect::Errno(libc::EIO));
    // The disk is well again after the first call, and that changes nothing.
    assert_stopped_by_sync(&journal);
    assert_eq!(journal.durable(), Seq(1));
    drop(journal);
    let (journal, recovered, frames) = open(&place, small()).unwrap();
    assert_eq!(payloads(&frames), [&b"one"[..], b"two"]);
    assert_eq!(recovered.torn, None);
    assert_eq!(append_all(&journal, &[b"three"]), Seq(3));
    journal.sync(Seq(3)).unwrap();
}

fn assert_stopped_by_sync(journal: &Journal) {
    let error = journal.sync(journal.last()).unwrap_err();
    assert!(error.to_string().contains("sync failed"), "{error}");
    assert_stopped(journal, Step::Sync);
}

#[test]
fn data_that_cannot_be_synced_stops_the_journal_for_all_who_wait() {
    let failing = Arc::new(AtomicBool::new(false));
    let mut place = place(SimDisk::new());
    let fails = Arc::clone(&failing);
    place.before_sync = Arc::new(move || {
        std::thread::sleep(Duration::from_millis(5));
        match fails.load(Ordering::Relaxed) {
            true => Err(std::io::Error::from_raw_os_error(libc::EIO)),
            false => Ok(()),
        }
    });
    let (journal, ..) = open(&place, small()).unwrap();
    append_all(&journal, &[b"one"]);
    journal.sync(Seq(1)).unwrap();
    failing.store(true, Ordering::Relaxed);
    append_all(&journal, &[b"two"]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(journal.sync(Seq(2)).is_err()));
        }
    });
    failing.store(false, Ordering::Relaxed);
    assert_stopped(&journal, Step::Data);
    journal.sync(Seq(1)).unwrap();
}

#[test]
fn an_append_that_failed_is_taken_back_and_stops_the_journal() {
    for effect in [Effect::Errno(libc::EIO), Effect::Short(20, libc::EIO)] {
        let temp = tempfile::tempdir().unwrap();
        let disk = FaultDisk::new();
        let place = place_in(Arc::new(disk.clone()), temp.path());
        let (journal, ..) = open(&place, small()).unwrap();
        append_all(&journal, &[b"one"]);
        disk.fail(Op::Append, ".seg", 0, 1, effect);
        let failed = journal.append(Class::Normal, &[record(b"two")]);
        assert!(
            matches!(failed, Err(JournalError::Stopped { .. })),
            "{failed:?}"
        );
        assert_stopped(&journal, Step::Append);
        assert_eq!(journal.last(), Seq(1));
        drop(journal);
        let (_, recovered, frames) = open(&place, small()).unwrap();
        assert_eq!((frames.len(), recovered.torn), (1, None));
    }
}

#[test]
fn waiters_go_on_when_the_leader_panics() {
    let mut place = place(SimDisk::new());
    let first = AtomicBool::new(true);
    place.before_sync = Arc::new(move || {
        assert!(!first.swap(false, Ordering::Relaxed), "the leader panics");
        Ok(())
    });
    let (journal, ..) = open(&place, small()).unwrap();
    append_all(&journal, &[b"one"]);
    std::thread::scope(|scope| {
        assert!(scope.spawn(|| journal.sync(Seq(1))).join().is_err());
        scope.spawn(|| journal.sync(Seq(1)).unwrap());
    });
    assert_eq!(journal.durable(), Seq(1));
}
