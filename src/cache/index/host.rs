//! The index and what stands in for it while it opens.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::watch;

use super::{Change, Index, IndexError};
use crate::cache::key::Key;
use crate::cache::packs::Location;

/// The answer to where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) enum Lookup {
    /// There.
    Found(Location),
    /// In no pack.
    Absent,
    /// The index is not open, so nobody knows.
    Unknown,
}

/// Holds the index.
pub(in crate::cache) struct IndexHost {
    state: RwLock<State>,
    /// One change at a time, since changes look first.
    changing: Mutex<()>,
    ready: watch::Sender<bool>,
    gate: Mutex<()>,
    opened: Condvar,
}

enum State {
    /// What was appended since the opening began.
    Opening(Mutex<HashMap<Key, Location>>),
    Ready(Box<dyn Index>),
    Closed,
}

impl IndexHost {
    pub(in crate::cache) fn new() -> Self {
        Self {
            state: RwLock::new(State::Opening(Mutex::default())),
            changing: Mutex::new(()),
            ready: watch::Sender::new(false),
            gate: Mutex::new(()),
            opened: Condvar::new(),
        }
    }

    /// The word for figures.
    pub(in crate::cache) fn state(&self) -> &'static str {
        match *self.state.read() {
            State::Opening(_) => "opening",
            State::Ready(_) => "ready",
            State::Closed => "closed",
        }
    }

    /// Tells whether it is open.
    pub(in crate::cache) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until it is open; `false` after the deadline.
    pub(in crate::cache) fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut gate = self.gate.lock();
        while !self.is_ready() {
            if self.opened.wait_until(&mut gate, deadline).timed_out() {
                return self.is_ready();
            }
        }
        true
    }

    /// As [`wait`](Self::wait), without a thread.
    pub(in crate::cache) async fn ready(&self, timeout: Duration) -> bool {
        if self.is_ready() {
            return true;
        }
        let mut ready = self.ready.subscribe();
        let waiting = ready.wait_for(|ready| *ready);
        matches!(tokio::time::timeout(timeout, waiting).await, Ok(Ok(_)))
    }

    /// Says where a block is.
    pub(in crate::cache) fn get(&self, key: &Key) -> Result<Lookup, IndexError> {
        match &*self.state.read() {
            State::Opening(appended) => {
                let found = appended.lock().get(key).copied();
                Ok(found.map_or(Lookup::Unknown, Lookup::Found))
            }
            State::Ready(index) => Ok(index.get(key)?.map_or(Lookup::Absent, Lookup::Found)),
            State::Closed => Ok(Lookup::Unknown),
        }
    }

    /// Makes changes. While it opens, only what was appended counts: an entry
    /// that leads nowhere is harmless, and what moved is found by the rebuild.
    pub(in crate::cache) fn change(&self, changes: &[Change]) -> Result<(), IndexError> {
        let _one = self.changing.lock();
        match &*self.state.read() {
            State::Opening(appended) => {
                let mut appended = appended.lock();
                for change in changes {
                    let found = appended.get(change.key()).copied();
                    match change.outcome(found) {
                        Some(Some(location)) => appended.insert(*change.key(), location),
                        Some(None) => appended.remove(change.key()),
                        None => None,
                    };
                }
                Ok(())
            }
            State::Ready(index) => changes.iter().try_for_each(|one| change_one(&**index, one)),
            State::Closed => Err(IndexError("it is closed".to_owned())),
        }
    }

    /// Takes over an index that was opened, with what was appended meanwhile.
    pub(in crate::cache) fn open(&self, index: Box<dyn Index>) -> Result<(), IndexError> {
        let _one = self.changing.lock();
        let mut state = self.state.write();
        if let State::Opening(appended) = &*state {
            for (key, location) in appended.lock().iter() {
                change_one(&*index, &Change::Put(*key, *location))?;
            }
            *state = State::Ready(index);
        }
        drop(state);
        self.tell(true);
        Ok(())
    }

    /// Goes back to opening, and gives the index that failed, if this call did that.
    pub(in crate::cache) fn fail(&self) -> Option<Box<dyn Index>> {
        let _one = self.changing.lock();
        let mut state = self.state.write();
        if !matches!(*state, State::Ready(_)) {
            return None;
        }
        let old = std::mem::replace(&mut *state, State::Opening(Mutex::default()));
        drop(state);
        self.tell(false);
        match old {
            State::Ready(index) => Some(index),
            State::Opening(_) | State::Closed => None,
        }
    }

    /// Closes, and gives the index to close if it was open.
    pub(in crate::cache) fn close(&self) -> Option<Box<dyn Index>> {
        let _one = self.changing.lock();
        let old = std::mem::replace(&mut *self.state.write(), State::Closed);
        self.tell(false);
        match old {
            State::Ready(index) => Some(index),
            State::Opening(_) | State::Closed => None,
        }
    }

    fn tell(&self, ready: bool) {
        self.ready.send_replace(ready);
        // Who waits has the gate or sleeps, so no wakeup falls between.
        drop(self.gate.lock());
        self.opened.notify_all();
    }
}

fn change_one(index: &dyn Index, change: &Change) -> Result<(), IndexError> {
    let found = index.get(change.key())?;
    match change.outcome(found) {
        Some(location) => index.set(change.key(), location),
        None => Ok(()),
    }
}
