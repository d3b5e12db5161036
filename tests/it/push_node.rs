//! A node that takes blocks and pins, in memory, and fails as it is told.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cidfs::block::{Block, Cid, Multihash};
use cidfs::car::CarDecoder;
use cidfs::tree::push::{CarStream, Node, Pinned, PushError};
use cidfs::unixfs::links::links;
use futures::StreamExt;
use parking_lot::Mutex;

/// What the double does with a request instead of serving it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It cannot be reached.
    Away,
    /// It takes so many bytes of a CAR and breaks off.
    Cut(usize),
    /// It takes a CAR, and says that it took fewer blocks.
    Fewer,
    /// It pins and says that it failed.
    LostAnswer,
    /// It never answers.
    Hang,
    /// It does not get on, though it lacks nothing.
    Stalls,
}

/// The double. Strict: it pins only what it has as a whole.
#[derive(Default)]
pub(crate) struct Shelf {
    blocks: Mutex<HashMap<Multihash, Block>>,
    pub(crate) pins: Mutex<BTreeSet<Cid>>,
    pub(crate) names: Mutex<HashMap<Cid, &'static str>>,
    /// What our pins are to be called.
    pub(crate) pin_name: Mutex<&'static str>,
    /// How many blocks each CAR had, in order, with its root.
    pub(crate) cars: Mutex<Vec<(Cid, usize)>>,
    pub(crate) always: Mutex<Option<Fault>>,
    script: Mutex<BTreeMap<&'static str, VecDeque<Fault>>>,
    pub(crate) asked: Mutex<Vec<&'static str>>,
}

impl Shelf {
    /// The next request of this name meets this.
    pub(crate) fn once(&self, what: &'static str, fault: Fault) {
        let mut script = self.script.lock();
        script.entry(what).or_default().push_back(fault);
    }

    async fn meet(&self, what: &'static str) -> Result<Option<Fault>, PushError> {
        self.asked.lock().push(what);
        let scripted = self
            .script
            .lock()
            .get_mut(what)
            .and_then(VecDeque::pop_front);
        let fault = scripted.or(*self.always.lock());
        match fault {
            Some(Fault::Away) => Err(PushError::Away("nobody answers".to_owned())),
            Some(Fault::Hang) => std::future::pending().await,
            other => Ok(other),
        }
    }

    /// Whether all below a root is here; else what is not.
    pub(crate) fn lacks(&self, root: &Cid) -> Vec<Cid> {
        let blocks = self.blocks.lock();
        let (mut open, mut lacking) = (vec![*root], Vec::new());
        while let Some(cid) = open.pop() {
            match blocks.get(cid.hash()) {
                Some(block) => open.extend(links(block).unwrap()),
                None => lacking.push(cid),
            }
        }
        lacking
    }

    /// What a collection of garbage leaves, if nothing is pinned.
    pub(crate) fn forget_all(&self) {
        self.blocks.lock().clear();
        self.pins.lock().clear();
    }

    pub(crate) fn pinned(&self) -> Vec<Cid> {
        self.pins.lock().iter().copied().collect()
    }

    /// How many blocks each CAR had.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.cars.lock().iter().map(|(_, count)| *count).collect()
    }
}

fn lacking() -> PushError {
    PushError::Lacking {
        why: "it did not get on".to_owned(),
        far: 0,
    }
}

#[async_trait]
impl Node for Shelf {
    fn name(&self) -> &str {
        "shelf"
    }

    async fn pinned(&self, root: &Cid) -> Result<Pinned, PushError> {
        self.meet("pinned").await?;
        if !self.pins.lock().contains(root) {
            return Ok(Pinned::No);
        }
        match self.names.lock().get(root) {
            Some(name) if *name != *self.pin_name.lock() => Ok(Pinned::OtherName),
            Some(_) | None => Ok(Pinned::Yes),
        }
    }

    async fn holds(&self, cid: &Cid) -> Result<bool, PushError> {
        self.meet("holds").await?;
        Ok(self.blocks.lock().contains_key(cid.hash()))
    }

    async fn import(&self, root: &Cid, mut car: CarStream) -> Result<Option<u64>, PushError> {
        let fault = self.meet("import").await?;
        let mut decoder = CarDecoder::new();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(piece) = car.next().await {
            let piece = piece.map_err(|error| PushError::Away(error.to_string()))?;
            bytes += piece.len();
            decoder.feed(&piece);
            while let Some(section) = decoder.next_section().unwrap() {
                let cid = *section.cid();
                taken.push(Block::verify(cid, section.data).unwrap());
            }
            if let Some(Fault::Cut(limit)) = fault
                && bytes >= limit
            {
                return Err(PushError::Away("broken off".to_owned()));
            }
        }
        decoder.finish().unwrap();
        self.cars.lock().push((*root, taken.len()));
        let count = taken.len() as u64;
        let mut blocks = self.blocks.lock();
        blocks.extend(taken.into_iter().map(|block| (*block.cid().hash(), block)));
        Ok(Some(count - u64::from(fault == Some(Fault::Fewer))))
    }

    async fn pin(&self, root: &Cid, pinned: &(dyn Fn(u64) + Sync)) -> Result<(), PushError> {
        let fault = self.meet("pin").await?;
        if !self.lacks(root).is_empty() {
            return Err(lacking());
        }
        pinned(1);
        self.pins.lock().insert(*root);
        self.names.lock().insert(*root, *self.pin_name.lock());
        match fault {
            Some(Fault::LostAnswer) => Err(PushError::Away("no answer".to_owned())),
            _ => Ok(()),
        }
    }

    async fn move_pin(&self, from: &Cid, to: &Cid, unpin: bool) -> Result<(), PushError> {
        let fault = self.meet("move_pin").await?;
        assert!(self.pins.lock().contains(from), "Kubo refuses that");
        if !self.lacks(to).is_empty() || fault == Some(Fault::Stalls) {
            return Err(lacking());
        }
        let mut names = self.names.lock();
        if let Some(name) = names.get(from).copied() {
            names.insert(*to, name);
        }
        let mut pins = self.pins.lock();
        pins.insert(*to);
        if unpin {
            pins.remove(from);
        }
        Ok(())
    }

    async fn unpin(&self, root: &Cid) -> Result<(), PushError> {
        self.meet("unpin").await?;
        self.pins.lock().remove(root);
        Ok(())
    }
}

/// Waits for something that happens by itself.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A node of its own.
pub(crate) fn shelf() -> Arc<Shelf> {
    Arc::new(Shelf::default())
}
