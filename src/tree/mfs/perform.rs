//! A change from its plan to its acknowledgement.
//!
//! Planned under the lock, journaled, applied; only the journal can refuse it then.

use std::sync::atomic::Ordering;

use super::Mfs;
use super::calls::content::store_failed;
use super::changes::op::{Logged, Op};
use super::changes::{apply::apply, class::Effect};
use super::nodes::fault::{Fault, Step};
use super::nodes::state::State;
use super::types::{Change, Origin, Time};
use super::watch::changes_of;
use crate::config::{PLAN_ROUNDS_MAX, ROOM_WAITS_MAX};
use crate::journal::{Class, FRAME_HEAD_BYTES, Record, Seq, TxId};
use crate::tree::error::TreeError;

/// A planned change, and what its caller wants to know of it.
pub(super) struct Plan<T> {
    /// What is done: all of it or nothing, also by a recovery.
    pub(super) logged: Vec<Logged>,
    pub(super) told: T,
}

impl<T> Plan<T> {
    pub(super) fn of(path: Vec<u8>, op: Op, told: T) -> Self {
        Self {
            logged: vec![Logged {
                path,
                to: Vec::new(),
                op,
            }],
            told,
        }
    }

    pub(super) fn nothing(told: T) -> Self {
        Self {
            logged: Vec::new(),
            told,
        }
    }
}

impl Mfs {
    /// Tries a step until everything that it needs is loaded.
    pub(super) async fn look<T>(
        &self,
        mut step: impl FnMut(&mut State) -> Step<T>,
    ) -> Result<T, TreeError> {
        for _ in 0..PLAN_ROUNDS_MAX {
            let need = match step(&mut self.state.lock()) {
                Ok(value) => return Ok(value),
                Err(Fault::Error(error)) => return Err(error),
                Err(Fault::Need(need)) => need,
            };
            self.load(&need).await?;
        }
        Err(TreeError::Busy(
            "the tree changes faster than it can be read",
        ))
    }

    /// Plans a change, journals it, applies it; `done` sees the tree after it.
    pub(super) async fn change<T, R>(
        &self,
        origin: Origin,
        mut plan: impl FnMut(&mut State, Time) -> Step<Plan<T>>,
        done: impl FnOnce(&mut State, T) -> R,
    ) -> Result<R, TreeError> {
        let mut done = Some(done);
        self.wait_for_checkpoint().await;
        let (mut no_room, mut waits) = (None, 0);
        for _ in 0..PLAN_ROUNDS_MAX {
            if let Some(error) = no_room.take() {
                waits += 1;
                if waits > ROOM_WAITS_MAX || !self.wait_for_room().await {
                    return Err(error);
                }
            }
            let need = {
                let mut state = self.state.lock();
                let planned = plan(&mut state, self.now()).and_then(|plan| {
                    match self.unkept(&state, &plan.logged) {
                        Some(need) => Err(Fault::Need(need)),
                        None => Ok(plan),
                    }
                });
                match planned {
                    Ok(plan) => {
                        let class = self.class(&state, &plan.logged);
                        let done_so = self.perform_as(&mut state, class, &plan.logged);
                        let changes = match done_so {
                            Err(error @ TreeError::NoSpace(_)) if class == Class::Reserve => {
                                no_room = Some(error);
                                continue;
                            }
                            other => other?,
                        };
                        let done = done.take().ok_or(TreeError::Busy("planned twice"))?;
                        let told = done(&mut state, plan.told);
                        drop(state);
                        self.tell(origin, &changes);
                        return Ok(told);
                    }
                    Err(Fault::Error(error)) => return Err(error),
                    Err(Fault::Need(need)) => need,
                }
            };
            self.load(&need).await?;
        }
        Err(TreeError::Busy(
            "the tree changes faster than it can be read",
        ))
    }

    /// Journals changes, as one transaction where there are several, and applies them.
    pub(super) fn perform(
        &self,
        state: &mut State,
        logged: &[Logged],
    ) -> Result<Vec<Change>, TreeError> {
        let class = self.class(state, logged);
        self.perform_as(state, class, logged)
    }

    /// What room changes may use that are one.
    fn class(&self, state: &State, logged: &[Logged]) -> Class {
        let mut effect = Effect::default();
        for one in logged {
            effect.add(state, &one.op, self.options.chunk_bytes());
        }
        effect.class()
    }

    /// The same, for who knows what room they may use.
    pub(super) fn perform_as(
        &self,
        state: &mut State,
        class: Class,
        logged: &[Logged],
    ) -> Result<Vec<Change>, TreeError> {
        let watched = !self.watchers.read().is_empty();
        let mut changes = Vec::new();
        let last = match logged {
            [] => return Ok(changes),
            [one] => self.log(class, TxId(0), &[one])?,
            several => {
                let commit = Logged {
                    path: Vec::new(),
                    to: Vec::new(),
                    op: Op::Commit,
                };
                let all: Vec<&Logged> = several.iter().chain([&commit]).collect();
                Seq(self.log(class, self.next_transaction(), &all)?.0 - 1)
            }
        };
        let first = last.0 + 1 - logged.len() as u64;
        for (seq, one) in (first..).zip(logged) {
            if watched {
                changes.extend(changes_of(state, &one.op));
            }
            apply(state, &one.op, seq, self.options.chunk_bytes());
        }
        self.background.changed(state.changed_bytes());
        Ok(changes)
    }

    /// The number of a transaction is that of its first entry, so it is never
    /// given twice. Only right under the tree's lock: all appends are under it.
    pub(super) fn next_transaction(&self) -> TxId {
        TxId(self.journal.last().next().0)
    }

    /// Journals changes: once this returns they survive a kill.
    pub(super) fn log(&self, class: Class, tx: TxId, logged: &[&Logged]) -> Result<Seq, TreeError> {
        self.check_open()?;
        logged.iter().try_for_each(|one| one.check_ways())?;
        self.check_room(class)?;
        let payloads: Vec<Vec<u8>> = logged.iter().map(|one| one.encode()).collect();
        let records: Vec<Record<'_>> = logged
            .iter()
            .zip(&payloads)
            .map(|(one, payload)| Record {
                tx,
                kind: one.kind(),
                payload,
            })
            .collect();
        if logged.iter().any(|one| one.op.rests_on_blocks()) {
            // Whoever has put them: what this refers to survives what it survives.
            self.blocks.rest_on_appended();
        }
        let bytes: usize = payloads.iter().map(Vec::len).sum();
        let append = || Ok(self.journal.append(class, &records)?);
        let appended = match class {
            Class::Normal => {
                let framed = bytes + records.len() * FRAME_HEAD_BYTES;
                self.in_place_of_history(|| self.journal.lacks(framed as u64), append)
            }
            Class::Reserve | Class::Last => self.in_place_of_spare(append),
        };
        let exhausted = class == Class::Reserve && matches!(appended, Err(TreeError::NoSpace(_)));
        // Until two checkpoints are behind its beginning no segment before it can go.
        let short = self.journal.is_short();
        let pressed = short && self.history.before() < self.journal.current_segment();
        let in_reserve = self.journal.in_reserve();
        self.background.in_reserve(in_reserve, exhausted, pressed);
        let seq = appended?;
        let before = self
            .journaled_bytes
            .fetch_add(bytes as u64 + 64, Ordering::Relaxed);
        let changes = self
            .journaled_changes
            .fetch_add(logged.len() as u64, Ordering::Relaxed);
        self.background.logged(before + bytes as u64, changes);
        Ok(seq)
    }

    /// Fails while what was acknowledged waits for the next start: no entry may
    /// take its place.
    pub(super) fn check_open(&self) -> Result<(), TreeError> {
        self.state.lane.check()?;
        self.check_frozen()
    }

    /// Refuses what does not make room while only that may use the disk: the
    /// next checkpoint must find room for what is acknowledged until then.
    pub(super) fn check_room(&self, class: Class) -> Result<(), TreeError> {
        match class {
            Class::Normal => {
                let check = || self.blocks.check_room().map_err(store_failed);
                self.in_place_of_history(|| self.blocks.room().lacking(), check)
            }
            Class::Reserve | Class::Last => Ok(()),
        }
    }
}
