//! Transactions of clients: several changes by path, all or nothing.
//!
//! `begin` journals that one is under way. What is staged is only kept in
//! memory (content is in own packs already), so that a crash leaves nothing to
//! take back. `commit` plans and applies all of it under the tree's lock, each
//! change seeing those before it, and journals it as one append with its end;
//! what is not loaded is loaded without the lock, and the whole is tried again.
//! A change that the tree refuses by then takes all back, and is journaled as
//! failed. A transaction that outlives its deadline is rolled back.

mod own;
mod plan;
mod staged;

pub(super) use own::OwnTransaction;
pub(super) use plan::names_in;
pub use staged::{Staged, WriteAt};

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Mfs;
use super::calls::unmounting::loses_nothing;
use super::changes::op::{Logged, Op};
use super::changes::{apply, class};
use super::nodes::fault::{Fault, Need, Step};
use super::nodes::node::Name;
use super::nodes::state::State;
use super::types::{Caller, Change, NodeId, Origin, Time};
use super::watch::changes_of;
use crate::block::Cid;
use crate::config::{
    PLAN_ROUNDS_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_CHANGES_MAX, TRANSACTION_DEADLINE_MAX,
    TRANSACTION_STAGED_MAX, TRANSACTIONS_OPEN_MAX,
};
use crate::journal::{Class, TxId};
use crate::tree::error::TreeError;

/// Transactions that are under way, by number.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<BTreeMap<u64, Staging>>);

/// One that is under way.
#[derive(Debug)]
struct Staging {
    caller: Caller,
    staged: Arc<Vec<Staged>>,
    begun: Instant,
    deadline: Instant,
    /// Nothing is staged any more, and no deadline ends it.
    committing: bool,
}

/// What was found out for a transaction before it is planned.
#[derive(Default)]
struct Known {
    /// Nodes to unmount below which all is loaded that has names elsewhere too.
    linked: HashSet<NodeId>,
    /// Mounted nodes that were unchanged at a checkpoint, by its epoch.
    unchanged: HashMap<NodeId, u64>,
    /// Names of content that cannot be had, and is to be removed.
    unseen: HashSet<(NodeId, Name)>,
    /// Directories that cannot be listed, and are to be removed.
    unlisted: HashSet<NodeId>,
}

/// What is told of one that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Its number.
    pub id: u64,
    /// Changes that are staged.
    pub staged: usize,
    /// Since when.
    pub age: Duration,
    /// When it will be rolled back.
    pub left: Duration,
}

/// Why a transaction came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// One of its changes was refused.
    #[error("{operation} {}: {error}", path.escape_ascii())]
    Change {
        /// Which one, from 0.
        index: usize,
        /// What it does.
        operation: &'static str,
        /// What it concerns.
        path: Vec<u8>,
        /// Why.
        error: TreeError,
    },
    /// All of it.
    #[error(transparent)]
    Whole(#[from] TreeError),
}

impl Open {
    /// Tells whether a transaction is under way.
    pub(super) fn has(&self, transaction: u64) -> bool {
        self.0.lock().contains_key(&transaction)
    }

    /// Content that is staged.
    pub(super) fn referred(&self, roots: &mut Vec<Cid>) {
        for staging in self.0.lock().values() {
            roots.extend(staging.staged.iter().filter_map(Staged::content));
        }
    }

    /// How many are under way.
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

impl Mfs {
    /// Begins a transaction, which is rolled back if it has not ended within
    /// `within`; gives its number.
    pub fn begin_transaction(&self, caller: Caller, within: Duration) -> Result<u64, TreeError> {
        self.expire_transactions();
        if within.is_zero() || within > TRANSACTION_DEADLINE_MAX {
            return Err(TreeError::Invalid("the deadline of a transaction"));
        }
        let state = self.state.lock();
        let mut open = self.open.0.lock();
        if open.len() >= TRANSACTIONS_OPEN_MAX {
            let why = format!("{TRANSACTIONS_OPEN_MAX} transactions are under way");
            return Err(TreeError::Limit(why));
        }
        let id = self.next_transaction();
        self.log(Class::Normal, id, &[&mark(Op::Begin)])?;
        drop(state);
        let begun = Instant::now();
        let staged = Arc::default();
        let staging = Staging {
            caller,
            staged,
            begun,
            deadline: begun + within,
            committing: false,
        };
        open.insert(id.0, staging);
        Ok(id.0)
    }

    /// Adds a change to a transaction; gives how many it has.
    pub fn stage(&self, id: u64, staged: Staged) -> Result<usize, TreeError> {
        self.expire_transactions();
        let mut open = self.open.0.lock();
        let staging = open
            .get_mut(&id)
            .filter(|one| !one.committing)
            .ok_or_else(ended)?;
        if staging.staged.len() >= TRANSACTION_STAGED_MAX {
            let why = format!("{TRANSACTION_STAGED_MAX} changes in one transaction");
            return Err(TreeError::Limit(why));
        }
        let all = Arc::make_mut(&mut staging.staged);
        all.push(staged);
        Ok(all.len())
    }

    /// Does all that is staged, or nothing; gives the number of the last entry.
    pub async fn commit_transaction(&self, id: u64) -> Result<u64, Refused> {
        self.expire_transactions();
        let (caller, staged) = {
            let mut open = self.open.0.lock();
            let staging = open
                .get_mut(&id)
                .filter(|one| !one.committing)
                .ok_or_else(ended)?;
            staging.committing = true;
            (staging.caller, Arc::clone(&staging.staged))
        };
        let outcome = self.perform_all(caller, Some(id), &staged).await;
        if let Err(refused) = &outcome {
            self.end_refused(id, refused);
        }
        self.open.0.lock().remove(&id);
        outcome
    }

    /// Gives a transaction up.
    pub fn roll_back(&self, id: u64) -> Result<(), TreeError> {
        let state = self.state.lock();
        let mut open = self.open.0.lock();
        if open.get(&id).is_none_or(|one| one.committing) {
            return Err(ended());
        }
        open.remove(&id);
        let logged = self.log(Class::Last, TxId(id), &[&mark(Op::Rollback)]);
        drop(state);
        logged.map(drop)
    }

    /// Transactions that are under way, oldest first.
    pub fn transactions(&self) -> Vec<OpenTransaction> {
        let now = Instant::now();
        let open = self.open.0.lock();
        let told = open.iter().map(|(id, one)| OpenTransaction {
            id: *id,
            staged: one.staged.len(),
            age: now.saturating_duration_since(one.begun),
            left: one.deadline.saturating_duration_since(now),
        });
        told.collect()
    }

    /// Rolls back what has outlived its deadline.
    pub(super) fn expire_transactions(&self) {
        let now = Instant::now();
        self.roll_back_where(|one| one.deadline <= now, "outlived its deadline");
    }

    /// Rolls back all that are under way: the tree ends.
    pub(super) fn end_transactions(&self) {
        self.roll_back_where(|_| true, "was under way at the end");
    }

    fn roll_back_where(&self, which: impl Fn(&Staging) -> bool, why: &str) {
        let open = self.open.0.lock();
        let over = open.iter().filter(|(_, one)| !one.committing && which(one));
        let over: Vec<u64> = over.map(|(id, _)| *id).collect();
        drop(open);
        for id in over {
            match self.roll_back(id) {
                Ok(()) => tracing::warn!(id, "a transaction {why} and was rolled back"),
                Err(error) => tracing::warn!(id, %error, "a transaction could not be rolled back"),
            }
        }
    }

    /// Does changes by path, all or none; gives the number of the last entry.
    pub async fn perform_staged(&self, caller: Caller, staged: &[Staged]) -> Result<u64, Refused> {
        self.perform_all(caller, None, staged).await
    }

    async fn perform_all(
        &self,
        caller: Caller,
        id: Option<u64>,
        staged: &[Staged],
    ) -> Result<u64, Refused> {
        let refused = |index: usize, error| match staged.get(index) {
            Some(one) => Refused::Change {
                index,
                operation: one.operation(),
                path: one.path().bytes(),
                error,
            },
            None => Refused::Whole(error),
        };
        let named: Vec<_> = staged.iter().filter_map(Staged::content).collect();
        let _held = self.hold_content(named.clone()).await?;
        if !named.is_empty() {
            // Recovery does not look for what such entries refer to. Who staged
            // it has put the blocks, or was told of the CID of a file here.
            self.sealed.note();
            self.sealed.sync(&self.blocks)?;
        }
        let _stay = self.stay();
        let mut known = Known::default();
        for (index, one) in staged.iter().enumerate() {
            self.prepare(one, &mut known)
                .await
                .map_err(|error| refused(index, error))?;
        }
        self.wait_for_checkpoint().await;
        for _ in 0..PLAN_ROUNDS_MAX {
            let attempt = {
                let mut state = self.state.lock();
                let attempt = self.attempt(&mut state, caller, id, staged, &known);
                self.background.changed(state.changed_bytes());
                attempt
            };
            let (index, need) = match attempt {
                Ok((changes, last)) => {
                    self.tell(caller.origin, &changes);
                    return Ok(last);
                }
                Err((index, Fault::Error(error))) => return Err(refused(index, error)),
                Err((index, Fault::Need(need))) => (index, need),
            };
            let loaded = self.look_for(&need, &mut known).await;
            loaded.map_err(|error| {
                // It is only there once the transaction is: not to be loaded before.
                let below = "what is below content mounted in the same transaction";
                let is_new = matches!(error, TreeError::NotFound);
                refused(
                    index,
                    if is_new {
                        TreeError::Unsupported(below)
                    } else {
                        error
                    },
                )
            })?;
        }
        Err(TreeError::Busy("the tree changes faster than it can be read").into())
    }

    /// Loads, or finds out, what the plan of a transaction needs.
    async fn look_for(&self, need: &Need, known: &mut Known) -> Result<(), TreeError> {
        match need {
            Need::Linked(node, below) => {
                self.load_linked_in(below.clone()).await?;
                known.linked.insert(*node);
            }
            Need::Unchanged(node) => {
                let epoch = self.unchanged_in_checkpoint(*node).await?;
                known.unchanged.insert(*node, epoch);
            }
            Need::Entry(..) | Need::Listing(_) | Need::Keep(_) | Need::Hashes(_) => {
                self.load(need).await?;
            }
        }
        Ok(())
    }

    /// Plans, applies and journals everything, or takes it back. An index past
    /// the changes stands for all of them.
    fn attempt(
        &self,
        state: &mut State,
        caller: Caller,
        id: Option<u64>,
        staged: &[Staged],
        known: &Known,
    ) -> Result<(Vec<Change>, u64), (usize, Fault)> {
        let watched = !self.watchers.read().is_empty();
        let (now, chunk) = (self.now(), self.options.chunk_bytes());
        let first = self.journal.last().next().0;
        let (mut logged, mut changes) = (Vec::new(), Vec::new());
        if let [one] = staged {
            // Nothing to take back: it is applied once it is in the journal.
            let planned = self
                .plan_known(state, caller, one, now, known)
                .map_err(|fault| (0, fault))?;
            if let Some(need) = self.unkept(state, &planned) {
                return Err((0, Fault::Need(need)));
            }
            let mut effect = class::Effect::default();
            for one in &planned {
                effect.add(state, &one.op, chunk);
            }
            let last = self
                .log_all((id, first), &planned, effect.class())
                .map_err(|error| (0, error.into()))?;
            for (seq, one) in (first..).zip(&planned) {
                if watched {
                    changes.extend(changes_of(state, &one.op));
                }
                apply::apply(state, &one.op, seq, chunk);
            }
            return Ok((changes, last));
        }
        state.begin();
        let mut effect = class::Effect::default();
        for (index, one) in staged.iter().enumerate() {
            let planned = match self.plan_known(state, caller, one, now, known) {
                Ok(planned) => planned,
                Err(fault) => {
                    state.take_back();
                    return Err((index, fault));
                }
            };
            if let Some(need) = self.unkept(state, &planned) {
                state.take_back();
                return Err((index, Fault::Need(need)));
            }
            for one in planned {
                effect.add(state, &one.op, chunk);
                if watched {
                    changes.extend(changes_of(state, &one.op));
                }
                apply::apply(state, &one.op, first + logged.len() as u64, chunk);
                logged.push(one);
            }
            if logged.len() > TRANSACTION_CHANGES_MAX {
                state.take_back();
                let why = format!("{TRANSACTION_CHANGES_MAX} changes at once");
                return Err((index, TreeError::Limit(why).into()));
            }
        }
        match self.log_all((id, first), &logged, effect.class()) {
            Ok(last) => {
                state.keep();
                Ok((changes, last))
            }
            Err(error) => {
                state.take_back();
                Err((staged.len(), error.into()))
            }
        }
    }

    /// Plans a change of which all must be found out that it takes away.
    fn plan_known(
        &self,
        state: &State,
        caller: Caller,
        staged: &Staged,
        now: Time,
        known: &Known,
    ) -> Step<Vec<Logged>> {
        let planned = self.plan(state, caller, staged, now, known)?;
        loses_nothing(state, staged, &known.unchanged)?;
        plan::with_linked(state, planned, &known.linked)
    }

    /// Journals the changes of a transaction, with its end.
    fn log_all(
        &self,
        (id, first): (Option<u64>, u64),
        logged: &[Logged],
        class: Class,
    ) -> Result<u64, TreeError> {
        let bytes: usize = logged.iter().map(|one| one.encode().len()).sum();
        if bytes > TRANSACTION_BYTES_MAX {
            return Err(TreeError::Limit(format!(
                "{TRANSACTION_BYTES_MAX} journal bytes at once"
            )));
        }
        match (id, logged) {
            (None, []) => Ok(first - 1),
            (None, [one]) => Ok(self.log(class, TxId(0), &[one])?.0),
            _ => {
                let commit = mark(Op::Commit);
                let all: Vec<&Logged> = logged.iter().chain([&commit]).collect();
                Ok(self.log(class, TxId(id.unwrap_or(first)), &all)?.0)
            }
        }
    }

    /// Journals that a transaction failed, and at what.
    fn end_refused(&self, id: u64, refused: &Refused) {
        let (path, why) = match refused {
            Refused::Change {
                operation,
                path,
                error,
                ..
            } => (path.clone(), format!("{operation}: {error}")),
            Refused::Whole(error) => (Vec::new(), format!("commit: {error}")),
        };
        let failed = Logged {
            path,
            to: Vec::new(),
            op: Op::Failed { why },
        };
        let _state = self.state.lock();
        let logged = self.log(Class::Reserve, TxId(id), &[&failed, &mark(Op::Rollback)]);
        if let Err(error) = logged {
            // The next recovery finds a transaction without an end: rolled back.
            tracing::warn!(id, %error, "a rollback is not in the journal");
        }
    }
}

/// An entry that concerns no path.
fn mark(op: Op) -> Logged {
    Logged {
        path: Vec::new(),
        to: Vec::new(),
        op,
    }
}

fn ended() -> TreeError {
    TreeError::Unavailable("no transaction of that number is under way".to_owned())
}

/// The door that control comes through.
pub const CONTROL: Origin = Origin(0);
