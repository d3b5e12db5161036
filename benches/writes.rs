//! The same work done on several file systems, side by side in one run.
//!
//! Usage: `writes [--rounds N] [--only WORD] [--limit SECONDS] [--mib N] NAME=DIR NAME=DIR…`; the
//! first is what the others are compared with. `writes --directory N NAME=DIR…` fills one directory
//! up to N entries instead. Figures are medians of the rounds; the file systems take turns within a
//! round, since machines drift. Each piece of work is a process of its own, so that one that hangs in
//! a file system ends the figures of that one only. What is not done after the limit is counted as
//! far as it came, and marked with `*`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs
)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

const MIB: u64 = 1 << 20;
/// The files of the work with many.
const MANY: u64 = 10_000;
/// How far apart the sizes at which a growing directory is looked at.
const STEP: u64 = 10;

/// A workload: its name, its unit, and what does it.
struct Workload {
    name: &'static str,
    unit: &'static str,
    run: fn(&Job) -> Done,
}

const WORKLOADS: &[Workload] = &[
    work("create 10,000 files of 1 KiB", "files/s", create),
    work("untar 10,000 files of 4 KiB", "files/s", untar),
    work("rm -rf of those", "files/s", remove),
    work("sequential write, fsync", "MiB/s", sequential),
    work("random 4 KiB overwrite, fsync", "writes/s", overwrite),
    work("4 KiB write + fsync, 1 writer", "writes/s", one_writer),
    work("4 KiB write + fsync, 16 writers", "writes/s", many_writers),
    work("rename", "renames/s", rename),
];

const fn work(name: &'static str, unit: &'static str, run: fn(&Job) -> Done) -> Workload {
    Workload { name, unit, run }
}

/// Where to work, how much, and how long at most.
struct Job {
    dir: PathBuf,
    mib: u64,
    begin: Instant,
    limit: Duration,
}

/// How many units were done in what time, and whether that was all of them.
struct Done {
    units: u64,
    took: Duration,
    whole: bool,
}

impl Job {
    fn late(&self) -> bool {
        self.begin.elapsed() > self.limit
    }

    /// Starts the clock: what came before was preparation.
    fn start(&mut self) {
        self.begin = Instant::now();
    }

    fn done(&self, units: u64, whole: bool) -> Done {
        let took = self.begin.elapsed();
        Done { units, took, whole }
    }

    fn again(&self) -> Self {
        let dir = self.dir.clone();
        Self { dir, ..*self }
    }
}

#[derive(Clone)]
struct Options {
    rounds: usize,
    only: String,
    limit: u64,
    mib: u64,
    directory: u64,
    mounts: Vec<(String, PathBuf)>,
}

fn main() {
    let mut options = Options {
        rounds: 3,
        only: String::new(),
        limit: 120,
        mib: 512,
        directory: 0,
        mounts: Vec::new(),
    };
    let mut one = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap();
        match word.as_str() {
            "--rounds" => options.rounds = value().parse().unwrap(),
            "--only" => options.only = value(),
            "--limit" => options.limit = value().parse().unwrap(),
            "--mib" => options.mib = value().parse().unwrap(),
            "--directory" => options.directory = value().parse().unwrap(),
            "--one" => one = Some(value()),
            // What `cargo bench` adds.
            "--bench" => {}
            _ => {
                let (name, dir) = word.split_once('=').expect("NAME=DIR");
                options.mounts.push((name.to_owned(), PathBuf::from(dir)));
            }
        }
    }
    match one {
        Some(name) => do_one(&name, &options),
        None if options.mounts.is_empty() => {
            println!("nothing to measure: scripts/bench-write.sh makes the mounts");
        }
        None if options.directory > 0 => directories(&options),
        None => table(&options),
    }
}

/// The side of the child: does one piece of work and prints its figure.
fn do_one(name: &str, options: &Options) {
    let workload = WORKLOADS.iter().find(|w| w.name == name).unwrap();
    let job = Job {
        dir: options.mounts[0].1.clone(),
        mib: options.mib,
        begin: Instant::now(),
        limit: Duration::from_secs(options.limit),
    };
    let done = (workload.run)(&job);
    let figure = done.units as f64 / done.took.as_secs_f64();
    println!("{figure} {}", done.whole);
}

fn table(options: &Options) {
    beside(options);
    let names: Vec<_> = options
        .mounts
        .iter()
        .map(|(name, _)| format!(" {name} "))
        .collect();
    println!(
        "| workload | unit |{}| ratios to {} |",
        names.join("|"),
        options.mounts[0].0
    );
    println!("|---|---|{}---|", "---:|".repeat(names.len()));
    let mut out = vec![false; options.mounts.len()];
    for workload in WORKLOADS.iter().filter(|w| w.name.contains(&options.only)) {
        row(workload, options, &mut out);
    }
}

/// What the figures of a sequential write are to be held against.
fn beside(options: &Options) {
    let mut data = vec![0; 64 * MIB as usize];
    StdRng::seed_from_u64(1).fill_bytes(&mut data);
    let begin = Instant::now();
    let sum = <sha2::Sha256 as sha2::Digest>::digest(&data);
    let hash = per_second(64, begin.elapsed());
    println!(
        "SHA-256, one core: {hash:.0} MiB/s (of {:02x}…). The disk, {} MiB written with O_DIRECT: {:.0} MiB/s.\n",
        sum[0],
        options.mib,
        raw_disk(&options.mounts[0].1, options.mib)
    );
}

fn raw_disk(dir: &Path, mib: u64) -> f64 {
    let path = dir.join("raw");
    let dd = format!("of={}", path.display());
    let begin = Instant::now();
    let status = Command::new("dd")
        .args(["if=/dev/zero", &dd, "bs=1M", &format!("count={mib}")])
        .args(["oflag=direct", "conv=fsync", "status=none"])
        .status()
        .unwrap();
    let took = begin.elapsed();
    fs::remove_file(path).unwrap();
    if status.success() {
        per_second(mib, took)
    } else {
        f64::NAN
    }
}

/// `out`: which file systems hang and are not asked again.
fn row(workload: &Workload, options: &Options, out: &mut [bool]) {
    let mut figures = vec![Vec::new(); options.mounts.len()];
    let mut whole = vec![true; options.mounts.len()];
    for _ in 0..options.rounds {
        for (n, (_, dir)) in options.mounts.iter().enumerate() {
            if out[n] {
                continue;
            }
            // Writing back what another one left must not be this one's time.
            sync();
            match measured(workload, dir, options) {
                Some((figure, all)) => {
                    figures[n].push(figure);
                    whole[n] &= all;
                }
                None => out[n] = true,
            }
        }
    }
    let medians: Vec<_> = figures.into_iter().map(median).collect();
    let shown: Vec<_> = medians
        .iter()
        .zip(&whole)
        .map(|(m, whole)| format!(" {}{} ", rounded(*m), if *whole { "" } else { "*" }))
        .collect();
    let ratios: Vec<_> = medians[1..]
        .iter()
        .map(|m| match (m, medians[0]) {
            (Some(m), Some(first)) => format!("{:.3}", m / first),
            _ => "-".to_owned(),
        })
        .collect();
    println!(
        "| {} | {} |{}| {} |",
        workload.name,
        workload.unit,
        shown.join("|"),
        ratios.join(", ")
    );
}

/// Runs one piece of work in a process of its own. `None` if it hangs or fails.
fn measured(workload: &Workload, dir: &Path, options: &Options) -> Option<(f64, bool)> {
    let place = format!("it={}", dir.display());
    let (limit, mib) = (options.limit.to_string(), options.mib.to_string());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--one",
            workload.name,
            "--limit",
            &limit,
            "--mib",
            &mib,
            &place,
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Preparing and tidying up are not in the limit of the work itself.
    let end = Instant::now() + Duration::from_secs(options.limit * 3);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            eprintln!("{} hangs on {}", workload.name, dir.display());
            // Not waited for: it may be in a request that is never answered.
            drop(child.kill());
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let Some((figure, whole)) = text.trim().split_once(' ') else {
        eprintln!("{} fails on {}", workload.name, dir.display());
        return None;
    };
    Some((figure.parse().unwrap(), whole == "true"))
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

fn rounded(figure: Option<f64>) -> String {
    match figure {
        None => "-".to_owned(),
        Some(figure) if figure >= 100.0 => format!("{figure:.0}"),
        Some(figure) => format!("{figure:.1}"),
    }
}

fn per_second(units: u64, took: Duration) -> f64 {
    units as f64 / took.as_secs_f64()
}

fn sync() {
    // SAFETY: takes no arguments and touches no memory.
    #[allow(unsafe_code)]
    unsafe {
        libc::sync();
    }
}

/// A fresh directory for one piece of work; what an earlier one left goes.
fn fresh(job: &Job, name: &str) -> PathBuf {
    let dir = job.dir.join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap();
    }
    fs::create_dir(&dir).unwrap();
    dir
}

fn create(job: &Job) -> Done {
    let dir = fresh(job, "create");
    let mut content = [0; 1024];
    StdRng::seed_from_u64(2).fill_bytes(&mut content);
    let mut job = job.again();
    job.start();
    let mut count = 0;
    while count < MANY && !job.late() {
        content[..8].copy_from_slice(&count.to_le_bytes());
        fs::write(dir.join(format!("file-{count}")), content).unwrap();
        count += 1;
    }
    let done = job.done(count, count == MANY);
    fs::remove_dir_all(dir).unwrap();
    done
}

/// Makes the archive once, in the system's directory for such things.
fn archive() -> PathBuf {
    let path = std::env::temp_dir().join(format!("cidfs-bench-{}.tar", std::process::id()));
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    let mut rng = StdRng::seed_from_u64(3);
    for number in 0..MANY {
        let mut content = [0; 4096];
        rng.fill_bytes(&mut content);
        let mut header = tar::Header::new_gnu();
        header.set_size(4096);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        let name = format!("{:03}/file-{number}", number / 50);
        tar.append_data(&mut header, name, &content[..]).unwrap();
    }
    tar.finish().unwrap();
    path
}

/// Runs a program up to the limit; gives whether it came to its end.
fn run(job: &Job, command: &mut Command) -> bool {
    let mut child = command.spawn().unwrap();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?}");
            return true;
        }
        if job.late() {
            child.kill().unwrap();
            child.wait().unwrap();
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn files_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    entries
        .map(|e| match e.file_type().unwrap().is_dir() {
            true => files_below(&e.path()),
            false => 1,
        })
        .sum()
}

fn untar(job: &Job) -> Done {
    let (dir, archive) = (fresh(job, "untar"), archive());
    let mut job = job.again();
    job.start();
    let whole = run(
        &job,
        Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&dir),
    );
    let mut done = job.done(MANY, whole);
    if !whole {
        done.units = files_below(&dir);
    }
    fs::remove_file(archive).unwrap();
    fs::remove_dir_all(dir).unwrap();
    done
}

fn remove(job: &Job) -> Done {
    let (dir, archive) = (fresh(job, "remove"), archive());
    let mut job = job.again();
    job.start();
    run(
        &job,
        Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&dir),
    );
    fs::remove_file(archive).unwrap();
    let before = files_below(&dir);
    job.start();
    let whole = run(&job, Command::new("rm").arg("-rf").arg(&dir));
    let left = if whole { 0 } else { files_below(&dir) };
    job.done(before - left, whole)
}

/// A mebibyte that no chunk repeats, nor another round, since what a repository has is not stored again:
/// the number is written into every page of it, and which process it is.
fn mebibyte(number: u64, buffer: &mut [u8]) {
    let round = u64::from(std::process::id());
    for (page, bytes) in buffer.chunks_mut(4096).enumerate() {
        bytes[16..24].copy_from_slice(&round.to_le_bytes());
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..16].copy_from_slice(&(page as u64).to_le_bytes());
    }
}

fn fill(job: &Job, file: &mut File) -> u64 {
    let mut buffer = vec![0; MIB as usize];
    StdRng::seed_from_u64(4).fill_bytes(&mut buffer);
    let mut written = 0;
    while written < job.mib && !job.late() {
        mebibyte(written, &mut buffer);
        file.write_all(&buffer).unwrap();
        written += 1;
    }
    file.sync_all().unwrap();
    written
}

fn sequential(job: &Job) -> Done {
    let path = job.dir.join("sequential");
    let mut file = File::create(&path).unwrap();
    let mut job = job.again();
    job.start();
    let written = fill(&job, &mut file);
    let done = job.done(written, written == job.mib);
    drop(file);
    fs::remove_file(path).unwrap();
    done
}

/// The file stays for the next round.
fn overwrite(job: &Job) -> Done {
    let path = job.dir.join("large");
    if fs::metadata(&path).map_or(0, |m| m.len()) < job.mib * MIB {
        fill(job, &mut File::create(&path).unwrap());
    }
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    let mut rng = StdRng::seed_from_u64(5);
    let mut page = [0; 4096];
    rng.fill_bytes(&mut page);
    let mut job = job.again();
    job.start();
    let mut count: u64 = 0;
    while count < 20_000 && !job.late() {
        page[..8].copy_from_slice(&count.to_le_bytes());
        let at = rng.random_range(0..pages) * 4096;
        file.write_all_at(&page, at).unwrap();
        count += 1;
    }
    file.sync_all().unwrap();
    job.done(count, count == 20_000)
}

fn one_writer(job: &Job) -> Done {
    writers(job, 1, 1000)
}

fn many_writers(job: &Job) -> Done {
    writers(job, 16, 200)
}

fn writers(job: &Job, writers: u64, each: u64) -> Done {
    let dir = fresh(job, "writers");
    let mut job = job.again();
    job.start();
    let writer = |number: u64| {
        let mut file = File::create(dir.join(number.to_string())).unwrap();
        let mut page = [7; 4096];
        let mut count = 0;
        while count < each && !job.late() {
            page[..8].copy_from_slice(&(number * each + count).to_le_bytes());
            file.write_all(&page).unwrap();
            file.sync_all().unwrap();
            count += 1;
        }
        count
    };
    let count: u64 = std::thread::scope(|scope| {
        let writer = &writer;
        let all: Vec<_> = (0..writers)
            .map(|n| scope.spawn(move || writer(n)))
            .collect();
        all.into_iter().map(|w| w.join().unwrap()).sum()
    });
    let done = job.done(count, count == writers * each);
    fs::remove_dir_all(dir).unwrap();
    done
}

fn rename(job: &Job) -> Done {
    let dir = fresh(job, "rename");
    for number in 0..100 {
        fs::write(dir.join(format!("{number}-0")), b"x").unwrap();
    }
    let mut job = job.again();
    job.start();
    let (mut count, whole) = (0, 20_000);
    while count < whole && !job.late() {
        let (number, turn) = (count % 100, count / 100);
        let from = dir.join(format!("{number}-{turn}"));
        fs::rename(from, dir.join(format!("{number}-{}", turn + 1))).unwrap();
        count += 1;
    }
    let done = job.done(count, count == whole);
    fs::remove_dir_all(dir).unwrap();
    done
}

/// Fills one directory, and looks at sizes a factor of ten apart at how fast entries are made, looked
/// up, not found, and listed. The directory stays, for who wants to look at what it costs.
fn directories(options: &Options) {
    println!("| file system | entries | creates/s | lookups/s | absent/s | listed/s |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, dir) in &options.mounts {
        let dir = dir.join("directory");
        fs::create_dir(&dir).unwrap();
        let (mut have, mut size) = (0, 1000);
        while size <= options.directory {
            let begin = Instant::now();
            for number in have..size {
                File::create(dir.join(format!("entry-{number}"))).unwrap();
            }
            let created = per_second(size - have, begin.elapsed());
            have = size;
            let (found, absent, listed) = look(&dir, size);
            println!("| {name} | {size} | {created:.0} | {found:.0} | {absent:.0} | {listed:.0} |");
            size *= STEP;
        }
    }
}

fn look(dir: &Path, size: u64) -> (f64, f64, f64) {
    // Each name once: one that was asked for before is the kernel's to answer.
    let count = size.min(20_000);
    let mut rng = StdRng::seed_from_u64(6);
    let mut look = |prefix: &str, there: bool| {
        let numbers = rand::seq::index::sample(&mut rng, size as usize, count as usize);
        let paths: Vec<_> = numbers
            .iter()
            .map(|number| dir.join(format!("{prefix}-{number}")))
            .collect();
        let begin = Instant::now();
        for path in &paths {
            assert_eq!(path.symlink_metadata().is_ok(), there, "{}", path.display());
        }
        per_second(count, begin.elapsed())
    };
    forget_names();
    let (found, absent) = (look("entry", true), look("absent", false));
    forget_names();
    let begin = Instant::now();
    assert_eq!(fs::read_dir(dir).unwrap().count() as u64, size);
    (found, absent, per_second(size, begin.elapsed()))
}

/// Lookups that the kernel remembers never reach a file system. Root only; otherwise they are warm.
fn forget_names() {
    sync();
    drop(fs::write("/proc/sys/vm/drop_caches", "2"));
}
