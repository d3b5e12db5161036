//! What the kernel must drop, because others than its own mount changed it.
//!
//! The kernel keeps names and attributes of the writable tree as long as it
//! likes; what this mount changes, it knows. Changes that came through another
//! door are told to it here, by one thread for each mount: telling can wait
//! for locks that only the answer to some other request frees, so no thread
//! that answers requests ever does it, nor anyone who holds a lock. It is
//! quiet while the mount is being unmounted and ends before the process does.
//!
//! A node is told twice, the second time half a second to a second later: an
//! answer from before the change may be on its way to a kernel that did not
//! know the node yet, and had nothing to drop the first time. (A name is not:
//! the kernel drops it under the lock that looking it up takes.)

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::config::{NOTICE_AGAIN_AFTER, NOTICE_GRACE, NOTICES_MAX};

/// The kernel, as something that drops what it keeps. May block.
pub(super) trait Kernel: Send + 'static {
    /// Drops what a name leads to.
    fn drop_name(&self, parent: u64, name: &[u8]) -> io::Result<()>;
    /// Drops the attributes of an inode, and its pages if `content`.
    fn drop_inode(&self, ino: u64, content: bool) -> io::Result<()>;
    /// Drops every name.
    fn drop_all_names(&self) -> io::Result<()>;
}

/// What waits to be told to the kernel of one mount.
#[derive(Debug, Default)]
pub(super) struct Notices {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    now: Batch,
    /// Nodes to be told again at the next turn, and at the one after it.
    old: HashMap<u64, bool>,
    young: HashMap<u64, bool>,
    turn: Option<Instant>,
    paused: bool,
    ended: bool,
    busy: bool,
    /// Whether a thread tells what is pushed.
    tells: bool,
    /// Counts what was pushed, and up to which of it the kernel was told or is
    /// being told.
    pushed: u64,
    telling: u64,
    told: u64,
}

/// What is told in one go.
#[derive(Debug, Default, PartialEq, Eq)]
struct Batch {
    names: HashSet<(u64, Bytes)>,
    /// Inode number, and whether its content is dropped too.
    nodes: HashMap<u64, bool>,
    /// Too much: everything is dropped.
    all: bool,
}

impl Notices {
    /// What `name` in `parent` leads to changed, and the listing with it.
    pub(super) fn name(&self, parent: u64, name: Bytes) {
        self.push(|batch| {
            batch.names.insert((parent, name));
            batch.nodes.insert(parent, true);
        });
    }

    /// A node changed.
    pub(super) fn node(&self, ino: u64, content: bool) {
        self.push(|batch| *batch.nodes.entry(ino).or_default() |= content);
    }

    /// A node may change without notice: the kernel keeps it for a second.
    pub(super) fn later(&self, ino: u64) {
        let mut state = self.state.lock();
        state.young.insert(ino, true);
        state.start_turn();
        drop(state);
        self.changed.notify_all();
    }

    fn push(&self, change: impl FnOnce(&mut Batch)) {
        let mut state = self.state.lock();
        state.pushed += 1;
        let batch = &mut state.now;
        change(batch);
        if batch.names.len().max(batch.nodes.len()) > NOTICES_MAX {
            *batch = Batch {
                all: true,
                ..Batch::default()
            };
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Is quiet from now on; waits, within limits, for what is being told.
    pub(super) fn pause(&self) {
        let mut state = self.state.lock();
        state.paused = true;
        self.wait_idle(state);
    }

    /// Goes on after a pause; nothing was forgotten.
    pub(super) fn resume(&self) {
        self.state.lock().paused = false;
        self.changed.notify_all();
    }

    /// Ends the thread that tells; waits for it within limits.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        self.changed.notify_all();
        self.wait_idle(state);
    }

    /// Waits until the kernel was told of all that was pushed so far; false
    /// where that is not so by `deadline`. While nothing is told, it waits for
    /// nothing.
    pub(super) fn wait_told(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        let target = state.pushed;
        while state.tells && !state.paused && !state.ended && state.told < target {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    fn wait_idle(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let until = Instant::now() + NOTICE_GRACE;
        while state.busy {
            if self.changed.wait_until(&mut state, until).timed_out() {
                tracing::warn!("a notice to the kernel takes long; it is left behind");
                return;
            }
        }
    }

    /// Waits for something to tell; `None` at the end.
    fn next(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        if state.busy {
            state.busy = false;
            state.told = state.telling;
            self.changed.notify_all();
        }
        loop {
            if state.ended {
                return None;
            }
            if !state.paused
                && let Some(batch) = state.take(Instant::now())
            {
                state.busy = true;
                return Some(batch);
            }
            match state.turn.filter(|_| !state.paused) {
                Some(turn) => drop(self.changed.wait_until(&mut state, turn)),
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Starts the thread that tells `kernel`; `known` are the inodes that it
    /// may have if everything must be dropped.
    pub(super) fn start(
        self: &Arc<Self>,
        kernel: impl Kernel,
        known: impl Fn() -> Vec<u64> + Send + 'static,
    ) -> io::Result<()> {
        self.state.lock().tells = true;
        let notices = Arc::clone(self);
        let thread = std::thread::Builder::new().name("notices".into());
        thread.spawn(move || {
            while let Some(batch) = notices.next() {
                tell(&kernel, &batch, &known);
            }
        })?;
        Ok(())
    }
}

impl State {
    fn start_turn(&mut self) {
        let next = || Instant::now() + NOTICE_AGAIN_AFTER;
        self.turn.get_or_insert_with(next);
    }

    /// What there is to tell at `now`.
    fn take(&mut self, now: Instant) -> Option<Batch> {
        if self.now != Batch::default() {
            let batch = std::mem::take(&mut self.now);
            self.telling = self.pushed;
            if !batch.all && self.young.len() < NOTICES_MAX {
                for (ino, content) in &batch.nodes {
                    *self.young.entry(*ino).or_default() |= content;
                }
                self.start_turn();
            }
            return Some(batch);
        }
        if self.turn.is_none_or(|turn| turn > now) {
            return None;
        }
        let nodes = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        self.turn = None;
        if !self.old.is_empty() {
            self.start_turn();
        }
        (!nodes.is_empty()).then(|| Batch {
            nodes,
            ..Batch::default()
        })
    }
}

fn tell(kernel: &impl Kernel, batch: &Batch, known: &impl Fn() -> Vec<u64>) {
    let said = |what: &str, outcome: io::Result<()>| {
        if let Err(error) = outcome {
            tracing::debug!(what, %error, "the kernel took no notice");
        }
    };
    if batch.all {
        tracing::warn!("too many changes at once: the kernel drops all that it keeps");
        if let Err(error) = kernel.drop_all_names() {
            tracing::warn!(%error, "this kernel may keep names that lead elsewhere now");
        }
        for ino in known() {
            said("inode", kernel.drop_inode(ino, true));
        }
    }
    for (parent, name) in &batch.names {
        said("name", kernel.drop_name(*parent, name));
    }
    for (ino, content) in &batch.nodes {
        said("inode", kernel.drop_inode(*ino, *content));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Said {
        Name(u64, Vec<u8>),
        Inode(u64, bool),
        All,
    }

    struct Fake(Sender<Said>);

    impl Kernel for Fake {
        fn drop_name(&self, parent: u64, name: &[u8]) -> io::Result<()> {
            self.0.send(Said::Name(parent, name.to_vec())).unwrap();
            Ok(())
        }

        fn drop_inode(&self, ino: u64, content: bool) -> io::Result<()> {
            self.0.send(Said::Inode(ino, content)).unwrap();
            Ok(())
        }

        fn drop_all_names(&self) -> io::Result<()> {
            self.0.send(Said::All).unwrap();
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    fn running() -> (Arc<Notices>, Receiver<Said>) {
        let (sender, said) = channel();
        let notices = Arc::new(Notices::default());
        notices.start(Fake(sender), || vec![1, 2]).unwrap();
        (notices, said)
    }

    fn soon(said: &Receiver<Said>) -> Said {
        said.recv_timeout(Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn a_name_is_told_once_and_its_directory_twice() {
        let (notices, said) = running();
        notices.name(7, Bytes::from("a"));
        assert_eq!(soon(&said), Said::Name(7, b"a".to_vec()));
        assert_eq!(soon(&said), Said::Inode(7, true));
        assert_eq!(soon(&said), Said::Inode(7, true));
        assert!(said.recv_timeout(Duration::from_secs(2)).is_err());
        notices.end();
    }

    #[test]
    fn a_pause_holds_back_and_forgets_nothing() {
        let (notices, said) = running();
        notices.pause();
        notices.node(3, false);
        notices.node(3, true);
        notices.later(4);
        assert!(said.recv_timeout(Duration::from_millis(1500)).is_err());
        notices.resume();
        assert_eq!(soon(&said), Said::Inode(3, true));
        let mut rest = [soon(&said), soon(&said)];
        rest.sort();
        assert_eq!(rest, [Said::Inode(3, true), Said::Inode(4, true)]);
        notices.end();
    }

    #[test]
    fn who_waits_goes_on_when_all_so_far_was_told_and_never_waits_for_nobody() {
        let soon = || Instant::now() + Duration::from_secs(5);
        let silent = Notices::default();
        silent.node(1, true);
        assert!(silent.wait_told(soon()), "nobody tells");
        let (notices, said) = running();
        for ino in 0..200 {
            notices.node(ino, true);
            assert!(notices.wait_told(soon()));
            assert!(said.try_iter().any(|one| one == Said::Inode(ino, true)));
        }
        notices.pause();
        notices.node(7, true);
        assert!(notices.wait_told(soon()), "an unmount does not hold it up");
        notices.end();
        assert!(notices.wait_told(soon()));
    }

    struct Stuck(Receiver<()>);

    impl Kernel for Stuck {
        fn drop_name(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn drop_inode(&self, _: u64, _: bool) -> io::Result<()> {
            assert!(self.0.recv().is_err(), "freed by the end of the test");
            Ok(())
        }

        fn drop_all_names(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_kernel_that_is_stuck_holds_nobody_up_beyond_the_deadline() {
        let (free, stuck) = channel();
        let notices = Arc::new(Notices::default());
        notices.start(Stuck(stuck), Vec::new).unwrap();
        notices.node(1, true);
        assert!(!notices.wait_told(Instant::now() + Duration::from_millis(100)));
        drop(free);
        assert!(notices.wait_told(Instant::now() + Duration::from_secs(5)));
        notices.end();
    }

    #[test]
    fn too_many_changes_drop_everything() {
        let notices = Arc::new(Notices::default());
        for ino in 0..=NOTICES_MAX as u64 {
            notices.node(ino, false);
        }
        let (sender, said) = channel();
        notices.start(Fake(sender), || vec![1, 2]).unwrap();
        assert_eq!(soon(&said), Said::All);
        assert_eq!(soon(&said), Said::Inode(1, true));
        assert_eq!(soon(&said), Said::Inode(2, true));
        notices.end();
        assert!(said.recv_timeout(Duration::from_secs(1)).is_err(), "ended");
    }
}
