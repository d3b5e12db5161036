//! What the kernel must drop, because others than its own mount changed it.
//!
//! The kernel keeps names and attributes of the writable tree as long as it
//! likes; what this mount changes, it knows. Changes that came through another
//! door are told to it here, by threads of each mount: telling can wait for
//! locks that only the answer to some other request frees, so no thread that
//! answers requests ever does it, nor anyone who holds a lock. One thread tells
//! at a time; when it is stuck behind a request that hangs, another goes on with
//! the rest. All is quiet while the mount is being unmounted, and ends before the
//! process does.
//!
//! A node is told twice, the second time half a second to a second later: an
//! answer from before the change may be on its way to a kernel that did not
//! know the node yet, and had nothing to drop the first time. (A name is not:
//! the kernel drops it under the lock that looking it up takes.)

mod queue;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::config::{NOTICE_GRACE, NOTICE_THREADS_MAX};
use queue::{Job, Notice, Queue};

/// The kernel, as something that drops what it keeps. May block.
pub(super) trait Kernel: Send + Sync + 'static {
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
    /// There may be something to tell.
    work: Condvar,
    /// Something was told, or is no longer waited for.
    told: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    paused: bool,
    ended: bool,
    /// Threads that tell or wait for something to tell.
    threads: usize,
}

/// Who is told, and what it may have if everything must be dropped.
struct Told<K, F> {
    kernel: K,
    known: F,
}

impl Notices {
    /// What `name` in `parent` leads to changed, and the listing with it.
    pub(super) fn name(&self, parent: u64, name: Bytes) {
        self.push(parent, |notice| {
            notice.names.insert(name);
            notice.node = Some(true);
        });
    }

    /// A node changed.
    pub(super) fn node(&self, ino: u64, content: bool) {
        self.push(ino, |notice| *notice.node.get_or_insert(content) |= content);
    }

    /// A node may change without notice: the kernel keeps it for a second.
    pub(super) fn later(&self, ino: u64) {
        self.state.lock().queue.later(ino, Instant::now());
        self.work.notify_one();
    }

    fn push(&self, ino: u64, change: impl FnOnce(&mut Notice)) {
        self.state.lock().queue.push(ino, Instant::now(), change);
        self.work.notify_one();
    }

    /// Is quiet from now on; waits, within limits, for what is being told.
    pub(super) fn pause(&self) {
        let mut state = self.state.lock();
        state.paused = true;
        self.told.notify_all();
        self.wait_idle(state);
    }

    /// Goes on after a pause; nothing was forgotten.
    pub(super) fn resume(&self) {
        self.state.lock().paused = false;
        self.work.notify_all();
    }

    /// Ends the threads that tell; waits for them within limits.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        self.work.notify_all();
        self.told.notify_all();
        self.wait_idle(state);
    }

    /// Waits until the kernel was told of all that was pushed so far; false
    /// where that is not so by `deadline`. While nothing is told, it waits for
    /// nothing.
    pub(super) fn wait_told(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        let newest = state.queue.newest();
        while state.threads > 0
            && !state.paused
            && !state.ended
            && !state.queue.is_told(newest, Instant::now())
        {
            if self.told.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    fn wait_idle(&self, mut state: MutexGuard<'_, State>) {
        let until = Instant::now() + NOTICE_GRACE;
        while state.queue.running() > 0 {
            if self.told.wait_until(&mut state, until).timed_out() {
                tracing::warn!("a notice to the kernel takes long; it is left behind");
                return;
            }
        }
    }

    /// Starts to tell `kernel`; `known` are the inodes that it may have if
    /// everything must be dropped.
    pub(super) fn start(
        self: &Arc<Self>,
        kernel: impl Kernel,
        known: impl Fn() -> Vec<u64> + Send + Sync + 'static,
    ) -> io::Result<()> {
        self.state.lock().threads += 1;
        self.spawn(Arc::new(Told { kernel, known }))
    }

    /// Starts one more thread, which is counted already.
    fn spawn<K, F>(self: &Arc<Self>, told: Arc<Told<K, F>>) -> io::Result<()>
    where
        K: Kernel,
        F: Fn() -> Vec<u64> + Send + Sync + 'static,
    {
        let notices = Arc::clone(self);
        let thread = std::thread::Builder::new().name("notices".into());
        let spawned = thread.spawn(move || notices.run(&told));
        if spawned.is_err() {
            self.state.lock().threads -= 1;
        }
        spawned.map(drop)
    }

    fn run<K, F>(self: &Arc<Self>, told: &Arc<Told<K, F>>)
    where
        K: Kernel,
        F: Fn() -> Vec<u64> + Send + Sync + 'static,
    {
        while let Some((job, alone)) = self.next() {
            if alone && let Err(error) = self.spawn(Arc::clone(told)) {
                tracing::warn!(%error, "a notice that is stuck will hold up the others");
            }
            let stays = match job {
                Job::All => {
                    tell_all(&told.kernel);
                    let known = (told.known)();
                    self.finished(|queue| queue.sweep(known))
                }
                Job::One(notice) => {
                    tell(&told.kernel, &notice);
                    self.finished(|queue| queue.done(&notice, Instant::now()))
                }
            };
            if !stays {
                return;
            }
        }
        self.state.lock().threads -= 1;
    }

    /// Waits for something to tell; `None` at the end. Says too whether no
    /// thread is left to go on should this one be stuck; one more is counted then.
    fn next(&self) -> Option<(Job, bool)> {
        let mut state = self.state.lock();
        loop {
            if state.ended {
                return None;
            }
            if !state.paused
                && let Some(job) = state.queue.take(Instant::now())
            {
                let alone = state.queue.running() == state.threads;
                let alone = alone && state.threads < NOTICE_THREADS_MAX;
                state.threads += usize::from(alone);
                return Some((job, alone));
            }
            match state.queue.wake_at().filter(|_| !state.paused) {
                Some(at) => drop(self.work.wait_until(&mut state, at)),
                None => self.work.wait(&mut state),
            }
        }
    }

    /// Notes that something was told. False where others are enough to go on,
    /// and this thread, which is not counted any more, is to end.
    fn finished(&self, note: impl FnOnce(&mut Queue)) -> bool {
        let mut state = self.state.lock();
        note(&mut state.queue);
        let stays = state.threads <= state.queue.running() + 2;
        state.threads -= usize::from(!stays);
        drop(state);
        self.told.notify_all();
        if !stays {
            self.work.notify_one();
        }
        stays
    }
}

fn said(what: &str, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(what, %error, "the kernel took no notice");
    }
}

fn tell_all(kernel: &impl Kernel) {
    tracing::warn!("too many changes at once: the kernel drops all that it keeps");
    if let Err(error) = kernel.drop_all_names() {
        tracing::warn!(%error, "this kernel may keep names that lead elsewhere now");
    }
}

fn tell(kernel: &impl Kernel, notice: &Notice) {
    for name in &notice.names {
        said("name", kernel.drop_name(notice.ino, name));
    }
    if let Some(content) = notice.node {
        said("inode", kernel.drop_inode(notice.ino, content));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;
    use crate::config::{NOTICE_WAIT, NOTICES_MAX};

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
        for ino in 1..=200 {
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

    /// Says what it is told; stuck with what is above 1000 until it is freed.
    struct Stuck(Sender<Said>, Mutex<Receiver<()>>);

    impl Stuck {
        fn said(&self, ino: u64, said: Said) -> io::Result<()> {
            if ino > 1000 {
                assert!(
                    self.1.lock().recv().is_err(),
                    "freed by the end of the test"
                );
            }
            // Nobody listens where a test only waits.
            drop(self.0.send(said));
            Ok(())
        }
    }

    impl Kernel for Stuck {
        fn drop_name(&self, parent: u64, name: &[u8]) -> io::Result<()> {
            self.said(parent, Said::Name(parent, name.to_vec()))
        }

        fn drop_inode(&self, ino: u64, content: bool) -> io::Result<()> {
            self.said(ino, Said::Inode(ino, content))
        }

        fn drop_all_names(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sticking() -> (Arc<Notices>, Receiver<Said>, Sender<()>) {
        let ((sender, said), (free, stuck)) = (channel(), channel());
        let notices = Arc::new(Notices::default());
        let kernel = Stuck(sender, Mutex::new(stuck));
        notices.start(kernel, Vec::new).unwrap();
        (notices, said, free)
    }

    #[test]
    fn a_kernel_that_is_stuck_holds_nobody_up_beyond_the_deadline() {
        let (notices, _said, free) = sticking();
        notices.node(1001, true);
        assert!(!notices.wait_told(Instant::now() + Duration::from_millis(100)));
        drop(free);
        assert!(notices.wait_told(Instant::now() + Duration::from_secs(5)));
        notices.end();
    }

    #[test]
    fn a_notice_that_is_stuck_holds_up_its_own_inode_only() {
        let (notices, said, free) = sticking();
        for stuck in 1001..1006 {
            notices.name(stuck, Bytes::from("far"));
            notices.node(stuck - 1000, true);
            // Repeats of what was told before may come between.
            while soon(&said) != Said::Inode(stuck - 1000, true) {}
        }
        // Who came while they were stuck was not held up longer than they may be.
        std::thread::sleep(NOTICE_WAIT);
        while said.try_recv().is_ok() {}
        let begin = Instant::now();
        for ino in 100..110 {
            notices.node(ino, false);
            assert!(notices.wait_told(Instant::now() + NOTICE_WAIT));
        }
        assert!(begin.elapsed() < NOTICE_WAIT, "{:?}", begin.elapsed());
        drop(free);
        let mut names = 0;
        while names < 5 {
            names += usize::from(matches!(soon(&said), Said::Name(..)));
        }
        notices.end();
    }

    #[test]
    fn threads_that_were_started_behind_a_stuck_one_end_when_it_goes_on() {
        let (notices, said, free) = sticking();
        for stuck in 1001..1011 {
            notices.node(stuck, true);
        }
        let until = Instant::now() + Duration::from_secs(10);
        while notices.state.lock().threads < 10 {
            assert!(Instant::now() < until, "too few go on");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(free);
        (0..10).for_each(|_| drop(soon(&said)));
        while notices.state.lock().threads > 2 {
            assert!(Instant::now() < until, "too many stay");
            std::thread::sleep(Duration::from_millis(10));
        }
        notices.end();
    }

    #[test]
    fn too_many_changes_drop_everything() {
        let notices = Arc::new(Notices::default());
        for ino in 1..=NOTICES_MAX as u64 + 1 {
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
