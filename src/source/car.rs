//! CAR files on this machine: one, or all of a directory, without an import.
//!
//! Opening reads the headers only. A thread then notes where the blocks stand
//! (from the index of a version 2 file if it proves right, else by passing
//! over the file), and requests are served from what it has noted so far and
//! wait for the rest. Every block is proved on every read. Of a damaged file
//! the whole blocks before the damage are served, and the damage stands in
//! the figures and the log. Files are only ever read.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::car_files::{CarFile, describe, list};
use super::car_index::{CarIndex, Place};
use super::{BlockSource, Fetched, SourceError, SourceFigures};
use crate::block::{Block, Cid};
use crate::car::SectionHead;
use crate::config::{BLOCK_BYTES_MAX, CAR_FILES_OPEN_MAX, CAR_ROOTS_MAX};

/// After so many blocks of a scan those who wait look again.
const BATCH: usize = 1024;
/// Most damages that are remembered; each is logged.
const DAMAGES_MAX: usize = 100;

/// CAR files that are read where they lie.
pub struct CarSource {
    name: String,
    files: Arc<Files>,
}

struct Files {
    files: Vec<CarFile>,
    index: RwLock<CarIndex>,
    progress: watch::Sender<Progress>,
    damages: Mutex<Vec<Arc<str>>>,
    /// Files of which only the index was read; a miss has them scanned.
    unscanned: Mutex<Vec<u32>>,
    stop: AtomicBool,
}

/// How far the index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Places are still being added; the number only changes.
    Building(u64),
    /// Every file that needs it was passed over, or its index was read.
    Done,
}

impl CarSource {
    /// Opens the file, or the directory of files, at `path`.
    ///
    /// A single file whose header cannot be read is an error; in a directory
    /// such a file is left out and reported.
    pub fn open(name: String, path: &Path) -> Result<Self, String> {
        let paths = list(path)?;
        let keep_open = paths.len() <= CAR_FILES_OPEN_MAX;
        let (mut files, mut damages) = (Vec::new(), Vec::new());
        for file in &paths {
            match CarFile::open(file, keep_open) {
                Ok(file) => files.push(file),
                Err(error) if file == path => return Err(describe(file, &error).to_string()),
                Err(error) => damages.push(describe(file, &error)),
            }
        }
        let files = Arc::new(Files {
            files,
            index: RwLock::default(),
            progress: watch::Sender::new(Progress::Building(0)),
            damages: Mutex::default(),
            unscanned: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        for damage in damages {
            files.report(damage);
        }
        let all: Vec<u32> = (0..).zip(&files.files).map(|(number, _)| number).collect();
        Files::build(&files, all, true).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { name, files })
    }

    /// How many blocks are known so far.
    pub fn block_count(&self) -> usize {
        self.files.index.read().len()
    }

    /// What of the files cannot be read, in words; empty if all can.
    pub fn damages(&self) -> Vec<String> {
        self.files
            .damages
            .lock()
            .iter()
            .map(|damage| damage.to_string())
            .collect()
    }

    /// Waits until every file was looked through.
    pub async fn indexed(&self) {
        let mut progress = self.files.progress.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        drop(
            progress
                .wait_for(|progress| *progress == Progress::Done)
                .await,
        );
    }

    /// Tries the places of a block that were not tried yet.
    async fn read(&self, cid: Cid, places: Vec<Place>) -> Result<Option<Block>, Arc<str>> {
        let files = Arc::clone(&self.files);
        let work = tokio::task::spawn_blocking(move || files.read(&cid, &places));
        work.await
            .unwrap_or_else(|error| Err(error.to_string().into()))
    }
}

impl Drop for CarSource {
    fn drop(&mut self) {
        self.files.stop.store(true, Ordering::Relaxed);
    }
}

impl Files {
    /// Starts a thread that adds `numbers` to the index.
    fn build(files: &Arc<Self>, numbers: Vec<u32>, use_index: bool) -> std::io::Result<()> {
        let files = Arc::clone(files);
        let thread = std::thread::Builder::new().name("car-index".to_owned());
        thread.spawn(move || {
            for number in numbers {
                files.add(number, use_index);
            }
            files.progress.send_replace(Progress::Done);
        })?;
        Ok(())
    }

    /// Adds one file to the index.
    fn add(&self, number: u32, use_index: bool) {
        let Some(file) = usize::try_from(number).ok().and_then(|n| self.files.get(n)) else {
            return;
        };
        if use_index && self.add_by_index(number, file) {
            self.unscanned.lock().push(number);
            return;
        }
        let mut batch = Vec::with_capacity(BATCH);
        let result = file.scan(&mut |head| {
            if head.data_len > BLOCK_BYTES_MAX as u64 {
                let (offset, len) = (head.offset, head.data_len);
                self.report(
                    format!(
                        "{}: the block at offset {offset} has {len} bytes and is left out",
                        file.path().display()
                    )
                    .into(),
                );
            } else {
                batch.push(*head);
            }
            if batch.len() == BATCH {
                self.add_batch(number, &mut batch);
            }
            !self.stop.load(Ordering::Relaxed)
        });
        self.add_batch(number, &mut batch);
        if let Err(error) = result {
            self.report(describe(file.path(), &error));
        }
    }

    fn add_by_index(&self, number: u32, file: &CarFile) -> bool {
        let mut index = self.index.write();
        let added = file.load_index(&mut |digest, offset| {
            let key = index.key(digest);
            index.insert(
                key,
                Place {
                    file: number,
                    len: 0,
                    offset,
                },
            );
        });
        drop(index);
        match added {
            Ok(added) => added,
            Err(error) => {
                tracing::warn!("{}: {error}; the file is scanned", file.path().display());
                false
            }
        }
    }

    fn add_batch(&self, number: u32, batch: &mut Vec<SectionHead>) {
        let mut index = self.index.write();
        for head in batch.drain(..) {
            let len = u32::try_from(head.head_len + head.data_len).unwrap_or(0);
            let key = index.key(head.cid.hash().digest());
            index.insert(
                key,
                Place {
                    file: number,
                    len,
                    offset: head.offset,
                },
            );
        }
        drop(index);
        self.progress.send_modify(|progress| {
            if let Progress::Building(count) = progress {
                *count += 1;
            }
        });
    }

    fn report(&self, damage: Arc<str>) {
        tracing::warn!("{damage}");
        let mut damages = self.damages.lock();
        if damages.len() < DAMAGES_MAX {
            damages.push(damage);
        }
    }

    /// Has the files scanned of which only the index was read; `false` if
    /// there are none left.
    fn scan_the_rest(files: &Arc<Self>) -> bool {
        let mut unscanned = files.unscanned.lock();
        let numbers = std::mem::take(&mut *unscanned);
        if numbers.is_empty() {
            return false;
        }
        // Under the lock, so that who comes next waits for the scan.
        files.progress.send_replace(Progress::Building(0));
        if let Err(error) = Self::build(files, numbers, false) {
            tracing::warn!("no thread for a scan: {error}");
            files.progress.send_replace(Progress::Done);
        }
        true
    }

    /// Reads and proves a block at the first of `places` that has it.
    fn read(&self, cid: &Cid, places: &[Place]) -> Result<Option<Block>, Arc<str>> {
        let mut wrong = None;
        for place in places {
            let Some(file) = usize::try_from(place.file)
                .ok()
                .and_then(|n| self.files.get(n))
            else {
                continue;
            };
            let why = match file.read(*place) {
                Ok((found, _)) if found.hash() != cid.hash() => continue,
                Ok((_, data)) => match Block::verify(*cid, data) {
                    Ok(block) => return Ok(Some(block)),
                    Err(error) => format!(
                        "{}: block at offset {}: {error}",
                        file.path().display(),
                        place.offset
                    ),
                },
                Err(error) => describe(file.path(), &error).to_string(),
            };
            wrong = Some(why.into());
        }
        wrong.map_or(Ok(None), Err)
    }
}

#[async_trait]
impl BlockSource for CarSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        let mut progress = self.files.progress.subscribe();
        let mut tried: Vec<Place> = Vec::new();
        let mut wrong = None;
        loop {
            let done = *progress.borrow_and_update() == Progress::Done;
            let mut places = self.files.index.read().places(cid.hash().digest());
            places.retain(|place| !tried.contains(place));
            tried.extend(&places);
            if !places.is_empty() {
                match self.read(*cid, places).await {
                    Ok(Some(block)) => return Ok(Fetched { block, keep: false }),
                    Ok(None) => (),
                    Err(why) => wrong = Some(why),
                }
            }
            // An index that does not name a block proves nothing. If someone else
            // has begun that scan meanwhile, the progress has changed.
            let more = !done
                || Files::scan_the_rest(&self.files)
                || progress.has_changed().unwrap_or(false);
            if !more {
                break;
            }
            if progress.changed().await.is_err() {
                break;
            }
        }
        let (what, source_name) = (cid.to_string(), self.name.clone());
        Err(match wrong {
            Some(why) => SourceError::Corrupt {
                what,
                source_name,
                why: why.to_string(),
            },
            None => SourceError::NotFound { what, source_name },
        })
    }

    async fn probe(&self) -> Result<(), SourceError> {
        match self.files.damages.lock().first() {
            None => Ok(()),
            Some(damage) => Err(SourceError::Corrupt {
                what: "its files".to_owned(),
                source_name: self.name.clone(),
                why: damage.to_string(),
            }),
        }
    }

    fn is_local(&self) -> bool {
        true
    }

    fn roots(&self) -> Vec<Cid> {
        let mut seen = std::collections::HashSet::new();
        let roots = self.files.files.iter().flat_map(|file| &file.roots);
        roots
            .filter(|root| seen.insert(**root))
            .take(CAR_ROOTS_MAX)
            .copied()
            .collect()
    }

    fn figures(&self) -> Vec<SourceFigures> {
        let mut figures = SourceFigures::named(self.name.clone());
        if let Some(damage) = self.files.damages.lock().first() {
            figures.health = "damaged".to_owned();
            figures.last_error = Some(damage.to_string());
        }
        vec![figures]
    }
}

#[cfg(test)]
#[path = "car_tests.rs"]
mod tests;
