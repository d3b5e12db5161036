//! How fast the journal takes and syncs frames, on the disk of the temporary
//! directory. `TMPDIR=/some/disk cargo bench --bench journal`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use cidfs::clock::SystemClock;
use cidfs::disk::RealDisk;
use cidfs::journal::{Class, Journal, JournalOptions, JournalPlace, Reader, Record, Seq, TxId};

const FRAMES: u64 = 500_000;
const PAYLOAD: [u8; 102] = [7; 102];

fn record(payload: &[u8]) -> Record<'_> {
    Record {
        tx: TxId(0),
        kind: 1,
        payload,
    }
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let place = JournalPlace {
        dir: dir.path().join("journal"),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        room: Arc::default(),
        before_sync: Arc::new(|| Ok(())),
    };
    let open = || Journal::open(&place, JournalOptions::default(), Seq(1), &mut |_, _| {}).unwrap();
    let (journal, _) = open();

    let mut slowest = Duration::ZERO;
    let started = Instant::now();
    for _ in 0..FRAMES {
        let one = Instant::now();
        journal.append(Class::Normal, &[record(&PAYLOAD)]).unwrap();
        slowest = slowest.max(one.elapsed());
    }
    tell("frames of 150 bytes", FRAMES, started);
    println!("  the slowest took {slowest:?}");

    let tens = [record(&PAYLOAD); 10];
    let started = Instant::now();
    for _ in 0..FRAMES / 10 {
        journal.append(Class::Normal, &tens).unwrap();
    }
    tell("frames of 150 bytes, ten in an append", FRAMES, started);

    let long = vec![7; 128 << 10];
    let started = Instant::now();
    for _ in 0..2000 {
        journal.append(Class::Normal, &[record(&long)]).unwrap();
    }
    tell("frames of 128 KiB", 2000, started);
    journal.sync(journal.last()).unwrap();

    for threads in [1_u64, 8, 64] {
        let (before, started) = (journal.figures().syncs, Instant::now());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let seq = journal.append(Class::Normal, &[record(&PAYLOAD)]).unwrap();
                        journal.sync(seq).unwrap();
                    }
                });
            }
        });
        tell(
            &format!("synced appends, {threads} threads"),
            200 * threads,
            started,
        );
        println!("  in {} syncs", journal.figures().syncs - before);
    }
    read(&place.dir, &journal);
    drop(journal);
    let started = Instant::now();
    let (_, recovered) = open();
    tell("frames recovered", recovered.frames, started);
}

fn read(dir: &std::path::Path, journal: &Journal) {
    let started = Instant::now();
    let frames = journal.reader().frames(Seq(1)).unwrap().count();
    tell("frames read", frames as u64, started);
    let reader = Reader::open(dir, Arc::new(RealDisk));
    for what in ["first page of 100, cold", "first page of 100"] {
        let started = Instant::now();
        reader.page(Some(Seq(FRAMES)), 100).unwrap();
        tell(what, 1, started);
    }
}

fn tell(what: &str, count: u64, started: Instant) {
    let took = started.elapsed();
    let rate = count as f64 / took.as_secs_f64();
    println!("{what}: {count} in {took:.3?}, {rate:.0}/s");
}
