//! The same corpus read through several mounts, side by side in one run.
//!
//! Usage: `mounts [--rounds N] [--only WORD] NAME=DIR NAME=DIR…`; the first is
//! what the others are compared with. Each DIR holds the corpus that
//! `scripts/bench.sh` makes: `large` (a file), `many/` (10,000 files of 1 KiB)
//! and `tree/` (200 directories of 50 files of 4 KiB). Figures are medians of
//! the rounds; the mounts take turns within a round, since machines drift.
//! Cold means that the kernel's caches were dropped, which takes root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs
)]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};

const MIB: u64 = 1 << 20;
/// Pause between dropping the caches and measuring.
const SETTLE: Duration = Duration::from_millis(300);

/// A workload: its name, its unit, and how many units it did in the time it took.
struct Workload {
    name: &'static str,
    unit: &'static str,
    cold: bool,
    run: fn(&Path) -> f64,
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "sequential read, cold",
        unit: "MiB/s",
        cold: true,
        run: sequential,
    },
    Workload {
        name: "sequential read, warm",
        unit: "MiB/s",
        cold: false,
        run: sequential,
    },
    Workload {
        name: "random 4 KiB read, cold",
        unit: "reads/s",
        cold: true,
        run: random_some,
    },
    Workload {
        name: "random 4 KiB read, warm",
        unit: "reads/s",
        cold: false,
        run: random_many,
    },
    Workload {
        name: "8 readers of one file, cold",
        unit: "MiB/s",
        cold: true,
        run: eight,
    },
    Workload {
        name: "open and close",
        unit: "opens/s",
        cold: false,
        run: open_close,
    },
    Workload {
        name: "list and stat 10,000, cold",
        unit: "entries/s",
        cold: true,
        run: list,
    },
    Workload {
        name: "list and stat 10,000, warm",
        unit: "entries/s",
        cold: false,
        run: list,
    },
    Workload {
        name: "find over 200 directories, cold",
        unit: "entries/s",
        cold: true,
        run: find,
    },
    Workload {
        name: "find over 200 directories, warm",
        unit: "entries/s",
        cold: false,
        run: find,
    },
    Workload {
        name: "read 10,000 small files, cold",
        unit: "files/s",
        cold: true,
        run: small,
    },
    Workload {
        name: "read 10,000 small files, warm",
        unit: "files/s",
        cold: false,
        run: small,
    },
];

fn main() {
    let (mut rounds, mut only, mut mounts) = (5, String::new(), Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => rounds = words.next().unwrap().parse().unwrap(),
            "--only" => only = words.next().unwrap(),
            // What `cargo bench` adds.
            "--bench" => {}
            _ => {
                let (name, dir) = word.split_once('=').expect("NAME=DIR");
                mounts.push((name.to_owned(), PathBuf::from(dir)));
            }
        }
    }
    if mounts.is_empty() {
        println!("nothing to measure: scripts/bench.sh makes the corpus and the mounts");
        return;
    }
    head(&mounts);
    for workload in WORKLOADS.iter().filter(|w| w.name.contains(&only)) {
        row(workload, &mounts, rounds);
    }
}

fn head(mounts: &[(String, PathBuf)]) {
    let names: Vec<_> = mounts.iter().map(|(name, _)| format!(" {name} ")).collect();
    println!(
        "| workload | unit |{}| ratios to {} |",
        names.join("|"),
        mounts[0].0
    );
    println!("|---|---|{}---|", "---:|".repeat(mounts.len()));
}

fn row(workload: &Workload, mounts: &[(String, PathBuf)], rounds: usize) {
    let mut figures = vec![Vec::new(); mounts.len()];
    if !workload.cold {
        for (_, dir) in mounts {
            // From front to back: page by page it takes some mounts minutes.
            read_all(&dir.join("large"));
            (workload.run)(dir);
        }
    }
    for _ in 0..rounds {
        for ((_, dir), figures) in mounts.iter().zip(&mut figures) {
            if workload.cold {
                drop_caches();
            }
            figures.push((workload.run)(dir));
        }
    }
    let medians: Vec<f64> = figures.into_iter().map(median).collect();
    let shown: Vec<_> = medians
        .iter()
        .map(|m| format!(" {} ", rounded(*m)))
        .collect();
    let ratios: Vec<_> = medians[1..]
        .iter()
        .map(|m| format!("{:.3}", m / medians[0]))
        .collect();
    println!(
        "| {} | {} |{}| {} |",
        workload.name,
        workload.unit,
        shown.join("|"),
        ratios.join(", ")
    );
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn rounded(figure: f64) -> String {
    if figure >= 100.0 {
        format!("{figure:.0}")
    } else {
        format!("{figure:.1}")
    }
}

fn drop_caches() {
    // SAFETY: takes no arguments and touches no memory.
    #[allow(unsafe_code)]
    unsafe {
        libc::sync();
    }
    fs::write("/proc/sys/vm/drop_caches", "3").expect("cold figures take root");
    // A FUSE mount is told of every inode that was dropped, some ten thousand
    // messages that belong to the dropping and not to the reading after it.
    std::thread::sleep(SETTLE);
}

fn per_second(units: u64, took: Duration) -> f64 {
    units as f64 / took.as_secs_f64()
}

fn sequential(dir: &Path) -> f64 {
    let begin = Instant::now();
    let bytes = read_all(&dir.join("large"));
    per_second(bytes, begin.elapsed()) / MIB as f64
}

fn read_all(path: &Path) -> u64 {
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; MIB as usize];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return bytes,
            len => bytes += len as u64,
        }
    }
}

fn random_some(dir: &Path) -> f64 {
    random(dir, 2_000)
}

fn random_many(dir: &Path) -> f64 {
    random(dir, 200_000)
}

fn random(dir: &Path, reads: u64) -> f64 {
    let file = File::open(dir.join("large")).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    let mut rng = StdRng::seed_from_u64(7);
    let mut buffer = [0; 4096];
    let begin = Instant::now();
    for _ in 0..reads {
        file.read_exact_at(&mut buffer, rng.random_range(0..pages) * 4096)
            .unwrap();
    }
    per_second(reads, begin.elapsed())
}

fn eight(dir: &Path) -> f64 {
    let path = dir.join("large");
    let begin = Instant::now();
    let bytes: u64 = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8).map(|_| scope.spawn(|| read_all(&path))).collect();
        readers.into_iter().map(|r| r.join().unwrap()).sum()
    });
    per_second(bytes, begin.elapsed()) / MIB as f64
}

fn open_close(dir: &Path) -> f64 {
    let path = dir.join("large");
    let begin = Instant::now();
    for _ in 0..100_000 {
        drop(File::open(&path).unwrap());
    }
    per_second(100_000, begin.elapsed())
}

fn list(dir: &Path) -> f64 {
    let begin = Instant::now();
    let mut entries = 0;
    for entry in fs::read_dir(dir.join("many")).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().is_file());
        entries += 1;
    }
    per_second(entries, begin.elapsed())
}

fn find(dir: &Path) -> f64 {
    fn walk(dir: &Path) -> u64 {
        let entries = fs::read_dir(dir).unwrap().map(|entry| {
            let entry = entry.unwrap();
            1 + if entry.file_type().unwrap().is_dir() {
                walk(&entry.path())
            } else {
                0
            }
        });
        entries.sum()
    }
    let begin = Instant::now();
    per_second(walk(&dir.join("tree")), begin.elapsed())
}

fn small(dir: &Path) -> f64 {
    let many = dir.join("many");
    let mut names: Vec<_> = fs::read_dir(&many)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    let begin = Instant::now();
    for name in &names {
        assert_eq!(fs::read(many.join(name)).unwrap().len(), 1024);
    }
    per_second(names.len() as u64, begin.elapsed())
}
