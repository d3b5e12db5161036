//! A writable tree on a disk in memory, under a clock that tests move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cidfs::cache::Blocks;
use cidfs::clock::Clock;
use cidfs::disk::Disk;
use cidfs::testing::sim_disk::SimDisk;
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{Mfs, MfsOptions, Parts, Time};
use cidfs::unixfs::Reader;

use crate::store_support::{Place, until};

/// A clock that stands still until it is moved on.
#[derive(Default)]
pub(crate) struct Ticking(AtomicU64);

const TICK: Duration = Duration::from_millis(1_000_003);

impl Ticking {
    pub(crate) fn tick(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn time(&self) -> Time {
        let since = TICK * self.0.load(Ordering::SeqCst) as u32;
        Time {
            sec: since.as_secs() as i64,
            nsec: since.subsec_nanos(),
        }
    }
}

impl Clock for Ticking {
    fn now(&self) -> SystemTime {
        let time = self.time();
        SystemTime::UNIX_EPOCH + Duration::new(time.sec as u64, time.nsec)
    }
}

/// Options with which nothing happens by itself.
pub(crate) fn quiet() -> MfsOptions {
    let never = Duration::from_secs(1 << 20);
    MfsOptions {
        commit_interval: never,
        checkpoint_interval: never,
        checkpoint_bytes: u64::MAX,
        checkpoint_changes: u64::MAX,
        changed_bytes_max: u64::MAX,
        ..MfsOptions::default()
    }
}

pub(crate) struct Sim {
    pub(crate) place: Arc<Place>,
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<Ticking>,
    pub(crate) options: MfsOptions,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) mfs: Arc<Mfs>,
}

/// How a process ends: by a kill, or with its machine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Kill,
    PowerLoss(u64),
}

impl End {
    /// The disk as the next process finds it.
    pub(crate) fn of(self, disk: &SimDisk) -> SimDisk {
        match self {
            Self::Kill => disk.kill(),
            Self::PowerLoss(seed) => disk.crash(seed),
        }
    }
}

/// Opens what is on a disk.
pub(crate) async fn open(
    place: &Place,
    disk: &SimDisk,
    clock: &Arc<Ticking>,
    options: &MfsOptions,
) -> Result<(Arc<Blocks>, Arc<Mfs>), TreeError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (options_of_blocks, source) = (place.options.clone(), place.source.clone());
    let blocks = Blocks::open(place.dir.path(), disk.clone(), options_of_blocks, source);
    let blocks = blocks.map_err(|error| TreeError::Failed(error.to_string()))?;
    until("the index is open", || blocks.figures().index == "ready");
    let parts = Parts {
        journal_dir: place.path("journal"),
        disk,
        clock: clock.clone(),
        blocks: blocks.clone(),
        reader: Reader::new(blocks.clone()),
    };
    let mfs = Mfs::open(parts, options.clone()).await?;
    Ok((blocks, mfs))
}

impl Sim {
    pub(crate) async fn new(options: MfsOptions) -> Self {
        let place = Arc::new(Place::new());
        // The index has no seam for its files: where it finds no directory it
        // is held in memory, and made anew at each start.
        std::fs::write(place.path("index"), "").unwrap();
        Self::on(place, SimDisk::new(), Arc::default(), options).await
    }

    /// One whose disk has rings, so that streams are acknowledged before they are hashed.
    pub(crate) async fn with_rings(options: MfsOptions) -> Self {
        let place = Arc::new(Place::new());
        std::fs::write(place.path("index"), "").unwrap();
        let disk = SimDisk::new().with_rings();
        Self::on(place, disk, Arc::default(), options).await
    }

    pub(crate) async fn on(
        place: Arc<Place>,
        disk: SimDisk,
        clock: Arc<Ticking>,
        options: MfsOptions,
    ) -> Self {
        let (blocks, mfs) = open(&place, &disk, &clock, &options).await.unwrap();
        Self {
            place,
            disk,
            clock,
            options,
            blocks,
            mfs,
        }
    }

    /// Ends in order and starts again.
    pub(crate) async fn reopened(self) -> Self {
        self.mfs.close().await;
        self.blocks.close();
        let Self {
            place,
            disk,
            clock,
            options,
            blocks,
            mfs,
        } = self;
        drop((mfs, blocks));
        Self::on(place, disk, clock, options).await
    }

    /// What a start leaves behind whose disk stops at one of its changes. Tells
    /// too whether it came to its end before.
    pub(crate) async fn start_until(&self, disk: &SimDisk, stop: u64, end: End) -> (SimDisk, bool) {
        disk.stop_at(Some(stop));
        let opened = open(&self.place, disk, &self.clock, &self.options).await;
        let done = opened.is_ok() && disk.counts().changes < stop;
        let next = end.of(disk);
        if let Ok((blocks, mfs)) = opened {
            mfs.close().await;
            blocks.close();
        }
        (next, done)
    }

    /// A start on another disk.
    pub(crate) async fn beside(&self, disk: SimDisk) -> Self {
        let (place, clock) = (Arc::clone(&self.place), Arc::clone(&self.clock));
        Self::on(place, disk, clock, self.options.clone()).await
    }

    /// Ends without a trace.
    pub(crate) async fn end(self) {
        self.disk.kill();
        self.mfs.close().await;
        self.blocks.close();
    }

    /// Starts again as after a kill.
    pub(crate) async fn killed(self) -> Self {
        let next = self.disk.kill();
        self.next(next).await
    }

    /// Starts again as after a power loss.
    pub(crate) async fn crashed(self, seed: u64) -> Self {
        let next = self.disk.crash(seed);
        self.next(next).await
    }

    /// Its disk has stopped: nothing that ends now reaches the next one.
    pub(crate) async fn next(self, next: SimDisk) -> Self {
        self.mfs.close().await;
        self.blocks.close();
        let Self {
            place,
            clock,
            options,
            ..
        } = self;
        Self::on(place, next, clock, options).await
    }
}
