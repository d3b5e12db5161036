//! Nodes that are made beside the tree, and become part of it at once.
//!
//! Their entries go to the journal in batches, in a transaction without an end,
//! and are applied to a state of their own that nobody sees. At the end it is
//! proven under the lock that the place is still as it was; the end of the
//! transaction is journaled; the nodes move over, and their first names appear.
//! What ends before leaves a transaction that a recovery rolls back.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Restored;
use crate::config::{PLAN_ROUNDS_MAX, RESTORE_BATCH, RESTORE_BATCH_BYTES};
use crate::journal::{Class, TxId};
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::apply;
use crate::tree::mfs::changes::op::{Logged, Op};
use crate::tree::mfs::nodes::fault::{Fault, Step};
use crate::tree::mfs::nodes::node::Name;
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::path::TreePath;
use crate::tree::mfs::transaction::{OwnTransaction, names_in};
use crate::tree::mfs::types::{Caller, Change, NodeId, Time};
use crate::tree::mfs::watch::changes_of;

/// Nodes on their way into the tree.
pub(super) struct Detached<'m> {
    mfs: &'m Mfs,
    caller: Caller,
    transaction: OwnTransaction<'m>,
    time: Time,
    place: Place,
    state: State,
    /// What is not journaled yet.
    batch: Vec<Logged>,
    batch_bytes: usize,
    /// Changes of the tree itself, by their sequence.
    attach: Vec<(u64, Op)>,
    numbers: Range<u64>,
    made: u64,
    _held: HeldPlace<'m>,
}

/// The directory that it goes into stays loaded, however long it takes.
struct HeldPlace<'m>(&'m Mfs, Option<NodeId>);

impl<'m> HeldPlace<'m> {
    fn new(mfs: &'m Mfs, node: NodeId) -> Self {
        Self(mfs, mfs.hold(node).then_some(node))
    }
}

impl Drop for HeldPlace<'_> {
    fn drop(&mut self) {
        if let Some(node) = self.1 {
            self.0.release(node, 1);
        }
    }
}

/// Where it goes.
struct Place {
    parent: NodeId,
    /// Path of the parent as it was at the beginning.
    path: Vec<u8>,
    /// The name that it gets; the root's names all are replaced otherwise.
    name: Option<Name>,
    /// What is there, and goes.
    taken: BTreeMap<Name, NodeId>,
}

impl<'m> Detached<'m> {
    /// Looks at the place and begins; what is there goes if `replace`.
    pub(super) async fn begin(
        mfs: &'m Mfs,
        caller: Caller,
        to: &TreePath,
        replace: bool,
    ) -> Result<Self, TreeError> {
        let _stay = mfs.stay();
        let place = mfs.look(|state| Place::find(state, to)).await?;
        if !place.taken.is_empty() && !replace {
            return Err(match place.name {
                Some(_) => TreeError::Exists,
                None => TreeError::NotEmpty,
            });
        }
        for node in place.taken.values() {
            mfs.load_linked_below(*node).await?;
        }
        mfs.sealed.sync(&mfs.blocks)?;
        let parent = place.parent;
        let mut detached = Self {
            mfs,
            caller,
            transaction: mfs.begin_own(caller)?,
            time: mfs.now(),
            state: State::default(),
            batch: Vec::new(),
            batch_bytes: 0,
            attach: Vec::new(),
            numbers: 0..0,
            made: 0,
            place,
            _held: HeldPlace::new(mfs, parent),
        };
        let gone: Vec<Name> = detached.place.taken.keys().cloned().collect();
        for name in gone {
            let (parent, time) = (detached.place.parent, detached.time);
            let path = match detached.place.name {
                Some(_) => to.clone(),
                None => to.join(&name),
            };
            // With all below it, by one entry.
            detached.log(&path, Op::Unmount { parent, name, time })?;
        }
        Ok(detached)
    }

    pub(super) fn mfs(&self) -> &'m Mfs {
        self.mfs
    }

    /// The directory that it goes into.
    pub(super) fn parent(&self) -> NodeId {
        self.place.parent
    }

    /// When everything is made.
    pub(super) fn time(&self) -> Time {
        self.time
    }

    /// Names that were made so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// A number for a new node.
    pub(super) fn number(&mut self) -> NodeId {
        if self.numbers.is_empty() {
            let mut state = self.mfs.state.lock();
            let first = state.next;
            state.next += RESTORE_BATCH as u64;
            self.numbers = first..state.next;
        }
        let number = self.numbers.start;
        self.numbers.start += 1;
        NodeId::counted(number)
    }

    /// Adds a change that makes a name.
    pub(super) fn log_made(&mut self, logged: Logged) -> Result<(), TreeError> {
        self.made += 1;
        self.add(logged)
    }

    /// Adds a change.
    pub(super) fn log(&mut self, path: &TreePath, op: Op) -> Result<(), TreeError> {
        self.add(Logged {
            path: path.bytes(),
            to: Vec::new(),
            op,
        })
    }

    fn add(&mut self, mut logged: Logged) -> Result<(), TreeError> {
        logged.shorten_made();
        self.batch_bytes += logged.encode().len();
        self.batch.push(logged);
        if self.batch.len() >= RESTORE_BATCH || self.batch_bytes >= RESTORE_BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Journals what was added, and applies it beside the tree.
    fn flush(&mut self) -> Result<(), TreeError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if self.mfs.is_closing() {
            return Err(TreeError::Busy("the tree is being closed"));
        }
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let all: Vec<&Logged> = batch.iter().collect();
        let last = {
            // All entries are appended under the lock.
            let _state = self.mfs.state.lock();
            let id = TxId(self.transaction.id());
            self.mfs.log(Class::Normal, id, &all)?
        };
        let chunk = self.mfs.options.chunk_bytes();
        let first = last.0 + 1 - batch.len() as u64;
        for (seq, one) in (first..).zip(batch) {
            apply::apply(&mut self.state, &one.op, seq, chunk);
            if concerns(&one.op, self.place.parent) {
                self.attach.push((seq, one.op));
            }
        }
        Ok(())
    }

    /// Journals that it came to nothing, and why.
    pub(super) fn refuse(self, error: TreeError) -> TreeError {
        self.transaction.refuse(&error);
        error
    }

    /// Makes it part of the tree.
    pub(super) async fn commit(mut self) -> Result<Restored, TreeError> {
        match self.join_when_loaded().await {
            Ok((last, changes)) => {
                self.mfs.tell(self.caller.origin, &changes);
                let made = self.made;
                Ok(Restored { last, made })
            }
            Err(error) => Err(self.refuse(error)),
        }
    }

    async fn join_when_loaded(&mut self) -> Result<(u64, Vec<Change>), TreeError> {
        self.flush()?;
        for _ in 0..PLAN_ROUNDS_MAX {
            let need = {
                let mut state = self.mfs.state.lock();
                match self.place.is_as_it_was(&state) {
                    Ok(true) => return self.join(&mut state),
                    Ok(false) | Err(Fault::Error(_)) => {
                        return Err(TreeError::Busy("the place has changed meanwhile"));
                    }
                    Err(Fault::Need(need)) => need,
                }
            };
            self.mfs.load(&need).await?;
        }
        Err(TreeError::Busy(
            "the tree changes faster than it can be read",
        ))
    }

    /// Journals the end and moves the nodes over.
    fn join(&mut self, state: &mut State) -> Result<(u64, Vec<Change>), TreeError> {
        let watched = !self.mfs.watchers.read().is_empty();
        let last = self.transaction.commit()?;
        state.adopt(std::mem::take(&mut self.state));
        let chunk = self.mfs.options.chunk_bytes();
        let mut changes = Vec::new();
        for (seq, op) in self.attach.drain(..) {
            if watched {
                changes.extend(changes_of(state, &op));
            }
            apply::attach(state, &op, seq, chunk);
        }
        Ok((last, changes))
    }
}

/// Whether a change is one of the directory that is in the tree.
fn concerns(op: &Op, parent: NodeId) -> bool {
    let is_of_it = matches!(op, Op::Attr(attr) if attr.node == parent);
    is_of_it || op.directories().contains(&parent)
}

impl Place {
    fn find(state: &State, to: &TreePath) -> Step<Self> {
        let (parent, name) = match to.names() {
            [] => (NodeId::ROOT, None),
            [_, ..] => {
                let (parent, name) = state.above(to)?;
                (parent, Some(name.clone()))
            }
        };
        let mut place = Self {
            parent,
            path: state.path(parent, None),
            name,
            taken: BTreeMap::new(),
        };
        place.taken = place.there(state)?;
        Ok(place)
    }

    /// What is there now.
    fn there(&self, state: &State) -> Step<BTreeMap<Name, NodeId>> {
        let names = match &self.name {
            Some(name) => vec![name.clone()],
            None => names_in(state, self.parent)?,
        };
        let mut there = BTreeMap::new();
        for name in names {
            if let Some(node) = state.find(self.parent, &name)? {
                there.insert(name, node);
            }
        }
        Ok(there)
    }

    fn is_as_it_was(&self, state: &State) -> Step<bool> {
        state.directory(self.parent)?;
        Ok(state.path(self.parent, None) == self.path && self.there(state)? == self.taken)
    }
}
