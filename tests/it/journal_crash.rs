//! Power losses and kills at every write and sync of the journal.

use std::sync::Arc;
use std::time::Duration;

use cidfs::disk::Disk;
use cidfs::journal::{Class, Journal, JournalError, JournalOptions, Recovered, Retention, Seq};
use cidfs::testing::sim_disk::SimDisk;

use crate::journal_support::{append_all, dir, open, place, record, segment, small};

/// What a run was told before it ended.
#[derive(Default, Clone)]
struct Told {
    /// Payload of every frame that was appended or tried to, by number less one.
    payloads: Vec<Vec<u8>>,
    /// The last frame whose append returned.
    appended: u64,
    /// The last frame whose sync returned.
    synced: u64,
    /// The newest checkpoint that segments were dropped for.
    checkpoint: u64,
}

fn payload(run: u8, seq: u64) -> Vec<u8> {
    // Lengths that put frames across, on and inside the edges of sectors.
    let len = [3, 90, 150, 464, 700, 17, 1500][seq as usize % 7];
    let mut payload = vec![run ^ seq as u8; len];
    payload[0] = run;
    payload
}

impl Told {
    fn append(&mut self, journal: &Journal, run: u8, count: u64) -> Result<(), JournalError> {
        let first = journal.last().0 + 1;
        self.payloads.truncate(first as usize - 1);
        let new: Vec<_> = (first..first + count)
            .map(|seq| payload(run, seq))
            .collect();
        self.payloads.extend(new.iter().cloned());
        let records: Vec<_> = new.iter().map(|payload| record(payload)).collect();
        self.appended = journal.append(Class::Normal, &records)?.0;
        Ok(())
    }

    fn sync(&mut self, journal: &Journal) -> Result<(), JournalError> {
        journal.sync(Seq(self.appended))?;
        self.synced = self.appended;
        Ok(())
    }

    fn retire(&mut self, journal: &Journal) -> Result<(), JournalError> {
        self.checkpoint = self.synced;
        let keep = Retention {
            age: Duration::ZERO,
            bytes: 6000,
        };
        journal.retire_beyond(Seq(self.checkpoint), keep)?;
        Ok(())
    }

    /// A script with long runs without a sync, and segments dropped in between.
    fn run(&mut self, journal: &Journal, run: u8) -> Result<(), JournalError> {
        for round in 0..4 {
            for step in 0..8 {
                self.append(journal, run, 1 + step % 3)?;
                if step == 2 || (step == 5 && round % 2 == 0) {
                    self.sync(journal)?;
                }
            }
            if round != 1 {
                self.sync(journal)?;
                self.retire(journal)?;
            }
        }
        Ok(())
    }

    /// Recovers, and checks the result against what was told.
    fn check(&mut self, disk: &SimDisk, at_least: u64, case: &str) -> (Journal, Recovered) {
        let opened = open(&place(disk.clone()), small());
        let (journal, recovered, frames) = opened.unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!(recovered.damage, None, "{case}");
        assert_eq!(recovered.history, [], "{case}");
        let oldest = recovered.first.0;
        assert!(
            oldest <= self.checkpoint.max(1),
            "{case}: begins at {oldest}"
        );
        for (frame, seq) in frames.iter().zip(oldest..) {
            assert_eq!(frame.head.seq, Seq(seq), "{case}");
            let expected = &self.payloads[seq as usize - 1];
            assert_eq!(&frame.payload[..], expected, "{case}: frame {seq}");
        }
        let last = recovered.last.0;
        assert_eq!(last + 1 - oldest, frames.len() as u64, "{case}");
        assert!(last >= at_least, "{case}: {last} of {at_least} survived");
        assert!(recovered.durable.0 <= self.synced, "{case}: {recovered:?}");
        self.appended = last;
        (journal, recovered)
    }
}

/// Runs the script until the disk stops at a change.
fn run_until(stop_at: u64) -> (SimDisk, Told, bool) {
    let disk = SimDisk::new();
    disk.make_repo();
    disk.stop_at(Some(stop_at));
    let mut told = Told::default();
    let done = open(&place(disk.clone()), small()).and_then(|(journal, ..)| told.run(&journal, 1));
    (disk, told, done.is_ok())
}

trait MakeRepo {
    fn make_repo(&self);
}

impl MakeRepo for SimDisk {
    fn make_repo(&self) {
        self.make_dirs("/repo".as_ref()).unwrap();
    }
}

fn changes_of_the_script() -> u64 {
    let (disk, _, done) = run_until(u64::MAX);
    assert!(done);
    disk.counts().changes
}

#[test]
fn a_power_loss_at_any_write_or_sync_leaves_a_beginning_with_all_that_was_synced() {
    let changes = changes_of_the_script();
    assert!(changes > 100, "{changes} changes are no test");
    let mut torn = 0;
    for stop_at in 1..=changes {
        let (disk, told, done) = run_until(stop_at);
        assert_eq!(done, stop_at == changes);
        for seed in 0..30 {
            let mut told = told.clone();
            let case = format!("stopped at {stop_at}, seed {seed}");
            let disk = disk.crash(seed);
            let at_least = told.synced;
            let (journal, recovered) = told.check(&disk, at_least, &case);
            torn += u32::from(recovered.torn.is_some());
            // Life goes on, and what was cut off stays off.
            told.append(&journal, 2, 2).unwrap();
            told.sync(&journal).unwrap();
            drop(journal);
            let disk = disk.crash(seed);
            let at_least = told.synced;
            let (_, recovered) = told.check(&disk, at_least, &case);
            assert_eq!(recovered.torn, None, "{case}");
        }
    }
    assert!(torn > changes as u32, "only {torn} tails were torn");
}

#[test]
fn a_kill_at_any_write_or_sync_loses_nothing_that_was_appended() {
    for stop_at in 1..=changes_of_the_script() {
        let (disk, told, _) = run_until(stop_at);
        let case = format!("stopped at {stop_at}");
        let mut told = told.clone();
        let at_least = told.appended;
        let (journal, recovered) = told.check(&disk.kill(), at_least, &case);
        assert_eq!(recovered.torn, None, "{case}");
        told.append(&journal, 2, 2).unwrap();
    }
}

#[test]
fn recovery_may_itself_lose_power_at_any_write_or_sync() {
    let changes = changes_of_the_script();
    let mut stopped = 0;
    for stop_at in (1..=changes).step_by(2) {
        for seed in 0..3 {
            let (disk, told, _) = run_until(stop_at);
            let broken = disk.crash(seed);
            for inner in 1.. {
                let mut told = told.clone();
                let case = format!("stopped at {stop_at}, seed {seed}, then at {inner}");
                // Killed disks are the same disk again.
                let disk = broken.kill();
                disk.stop_at(Some(inner));
                let (at_least, opened) = (told.synced, open(&place(disk.clone()), small()));
                let done = match opened {
                    Ok((journal, ..)) => {
                        told.appended = journal.last().0;
                        told.append(&journal, 2, 3).is_ok() && told.sync(&journal).is_ok()
                    }
                    Err(_) => false,
                };
                stopped += u32::from(!done);
                let at_least = at_least.max(told.synced);
                let (journal, _) = told.check(&disk.crash(seed), at_least, &case);
                told.append(&journal, 3, 1).unwrap();
                if done {
                    break;
                }
            }
        }
    }
    assert!(stopped > 100, "{stopped}");
}

#[test]
fn a_killed_process_and_then_a_power_loss_lose_nothing_that_was_synced() {
    for stop_at in (1..=changes_of_the_script()).step_by(2) {
        let (disk, mut told, _) = run_until(stop_at);
        let disk = disk.kill();
        let appended = told.appended;
        let (journal, _) = told.check(&disk, appended, "killed");
        // Segments of the process before need a sync too.
        told.append(&journal, 2, 1).unwrap();
        told.sync(&journal).unwrap();
        told.append(&journal, 2, 1).unwrap();
        for seed in 0..6 {
            let case = format!("stopped at {stop_at}, seed {seed}");
            let mut told = told.clone();
            let at_least = told.synced;
            told.check(&disk.crash(seed), at_least, &case);
        }
    }
}

#[test]
fn a_sync_covers_every_segment_since_the_last_one() {
    let disk = SimDisk::new();
    disk.make_repo();
    let (journal, ..) = open(&place(disk.clone()), small()).unwrap();
    let mut told = Told::default();
    for _ in 0..20 {
        told.append(&journal, 1, 2).unwrap();
    }
    let segments = journal.figures().segments as u64;
    assert!(segments > 3);
    told.sync(&journal).unwrap();
    assert_eq!(disk.counts().syncs, segments);
    for seed in 0..50 {
        let at_least = told.synced;
        told.clone().check(&disk.crash(seed), at_least, "crashed");
    }
    // Crashing is for good: the old handles do nothing.
    let stopped = journal.append(Class::Normal, &[record(b"x")]);
    assert!(
        matches!(stopped, Err(JournalError::Stopped { .. })),
        "{stopped:?}"
    );
}

#[test]
fn data_is_synced_before_the_frames_that_refer_to_it() {
    let disk = SimDisk::new();
    disk.make_repo();
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut place = place(disk.clone());
    place.before_sync = Arc::new({
        let (seen, disk) = (Arc::clone(&seen), disk.clone());
        move || {
            seen.lock().push(disk.counts().syncs);
            Ok(())
        }
    });
    let (journal, ..) = open(&place, small()).unwrap();
    for _ in 0..3 {
        let seq = journal.append(Class::Normal, &[record(b"x")]).unwrap();
        journal.sync(seq).unwrap();
        assert_eq!(journal.durable(), seq);
    }
    assert_eq!(*seen.lock(), [0, 1, 2]);
}

/// A run of which frames 1 and 2 were synced, frames 3 to 6 reached the disk
/// by chance, and frame 3 did not. Frames are as long as sectors.
fn broken_at_the_third(options: JournalOptions) -> SimDisk {
    let disk = SimDisk::new();
    disk.make_repo();
    let (journal, ..) = open(&place(disk.clone()), options).unwrap();
    append_all(&journal, &[vec![1; 416], vec![1; 464]]);
    journal.sync(Seq(2)).unwrap();
    append_all(&journal, &[[1; 464]; 4]);
    let segments = journal.reader().segments().unwrap();
    drop(journal);
    let of_the_third = segments.iter().rfind(|s| s.first <= Seq(3)).unwrap();
    let offset = 512 * (3 - of_the_third.first.0) as usize + 200;
    disk.flip(&segment(of_the_third.first.0), offset).unwrap();
    for file in segments {
        disk.open(&segment(file.first.0)).unwrap().sync().unwrap();
    }
    disk.sync_dir(&dir()).unwrap();
    disk.kill()
}

#[test]
fn what_recovery_has_cut_off_does_not_come_back_by_a_second_power_loss() {
    let one_segment = small();
    // Here the frames from 3 on are in segments of their own.
    let many_segments = JournalOptions {
        segment_bytes: 1200,
        reserve_bytes: 100,
        append_bytes_max: 1000,
        ..small()
    };
    for options in [one_segment, many_segments] {
        for seed in 0..300 {
            let disk = broken_at_the_third(options);
            let (journal, recovered, _) = open(&place(disk.clone()), options).unwrap();
            assert_eq!(recovered.last, Seq(2));
            assert_eq!(recovered.torn.unwrap().frames, 3);
            append_all(&journal, &[[2; 464]; 2]);
            drop(journal);
            let (_, recovered, frames) = open(&place(disk.crash(seed)), options).unwrap();
            assert_eq!(recovered.damage, None);
            for frame in &frames[2..] {
                assert!(frame.payload[..] == [2; 464], "{} is back", frame.head.seq);
            }
        }
    }
}
