//! What waits to be told to the kernel, and in which order. Pure.
//!
//! One notice after the other is told, and those of one inode never side by
//! side. One that takes long is stuck: it waits for a lock that the answer to
//! some request frees, and others overtake it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use crate::config::{NOTICE_AGAIN_AFTER, NOTICE_STUCK_AFTER, NOTICE_WAIT, NOTICES_MAX};

/// The inode that stands for everything: none has this number.
const ALL: u64 = 0;
/// Number of a notice that nobody waits for.
const UNAWAITED: u64 = u64::MAX;

/// What the kernel drops of one inode.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) ino: u64,
    /// Names in it.
    pub(super) names: HashSet<Bytes>,
    /// Its attributes, and its content where that is true.
    pub(super) node: Option<bool>,
    /// Whether it is told a second time.
    again: bool,
}

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Something of one inode.
    One(Notice),
    /// Too much changed: all names, and then what [`Queue::sweep`] takes.
    All,
}

/// What is being told.
#[derive(Debug)]
struct Running {
    number: u64,
    since: Instant,
}

/// What waits behind what is being told of the same inode.
#[derive(Debug)]
struct Held {
    number: u64,
    notice: Notice,
    /// When it was last added to.
    since: Instant,
}

/// What waits to be told.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By the number of the first change in each.
    waiting: BTreeMap<u64, Notice>,
    /// Where the notice of an inode waits.
    places: HashMap<u64, u64>,
    held: HashMap<u64, Held>,
    running: HashMap<u64, Running>,
    /// Names and nodes in what waits and is held.
    count: usize,
    /// Inodes that are dropped because everything is, and since which change.
    sweep: VecDeque<u64>,
    sweep_number: u64,
    /// Nodes to be told again: now, at the next turn, and at the one after it.
    due: Vec<(u64, bool)>,
    old: HashMap<u64, bool>,
    young: HashMap<u64, bool>,
    turn: Option<Instant>,
    /// Counts the changes.
    pushed: u64,
}

impl Notice {
    fn of(ino: u64) -> Self {
        Self {
            ino,
            again: true,
            ..Self::default()
        }
    }

    fn once(ino: u64, content: bool) -> Self {
        Self {
            ino,
            node: Some(content),
            ..Self::default()
        }
    }

    fn count(&self) -> usize {
        self.names.len() + usize::from(self.node.is_some())
    }
}

impl Queue {
    /// Adds to what is told of an inode.
    pub(super) fn push(&mut self, ino: u64, now: Instant, change: impl FnOnce(&mut Notice)) {
        self.pushed += 1;
        let number = self.pushed;
        let notice = if self.running.contains_key(&ino) {
            let fresh = || Held {
                number,
                notice: Notice::of(ino),
                since: now,
            };
            let held = self.held.entry(ino).or_insert_with(fresh);
            held.since = now;
            &mut held.notice
        } else {
            let place = *self.places.entry(ino).or_insert(number);
            let fresh = || Notice::of(ino);
            self.waiting.entry(place).or_insert_with(fresh)
        };
        let before = notice.count();
        change(notice);
        self.count = self.count + notice.count() - before;
        if self.count > NOTICES_MAX {
            self.drop_all(number);
        }
    }

    fn drop_all(&mut self, number: u64) {
        self.waiting.clear();
        self.places.clear();
        self.held.clear();
        self.count = 0;
        self.sweep.clear();
        self.waiting.insert(number, Notice::of(ALL));
        self.places.insert(ALL, number);
    }

    /// Has a node told at the turns only.
    pub(super) fn later(&mut self, ino: u64, now: Instant) {
        self.young.insert(ino, true);
        self.start_turn(now);
    }

    fn start_turn(&mut self, now: Instant) {
        self.turn.get_or_insert(now + NOTICE_AGAIN_AFTER);
    }

    /// What there is to tell now. It counts as being told until [`Self::done`].
    pub(super) fn take(&mut self, now: Instant) -> Option<Job> {
        if self.stuck_at().is_some_and(|at| at > now) {
            return None;
        }
        if let Some((number, notice)) = self.waiting.pop_first() {
            self.places.remove(&notice.ino);
            self.count -= notice.count();
            self.run(notice.ino, number, now);
            return Some(match notice.ino {
                ALL => Job::All,
                _ => Job::One(notice),
            });
        }
        while let Some(ino) = self.sweep.pop_front() {
            if self.running.contains_key(&ino) {
                self.later(ino, now);
                continue;
            }
            self.run(ino, self.sweep_number, now);
            return Some(Job::One(Notice::once(ino, true)));
        }
        self.turn_over(now);
        while let Some((ino, content)) = self.due.pop() {
            if self.running.contains_key(&ino) {
                self.later(ino, now);
                continue;
            }
            self.run(ino, UNAWAITED, now);
            return Some(Job::One(Notice::once(ino, content)));
        }
        None
    }

    fn run(&mut self, ino: u64, number: u64, now: Instant) {
        let since = now;
        self.running.insert(ino, Running { number, since });
    }

    fn turn_over(&mut self, now: Instant) {
        if self.turn.is_none_or(|turn| turn > now) {
            return;
        }
        let young = std::mem::take(&mut self.young);
        self.due.extend(std::mem::replace(&mut self.old, young));
        self.turn = None;
        if !self.old.is_empty() {
            self.start_turn(now);
        }
    }

    /// When the newest of what is being told counts as stuck.
    fn stuck_at(&self) -> Option<Instant> {
        let newest = self.running.values().map(|one| one.since).max()?;
        Some(newest + NOTICE_STUCK_AFTER)
    }

    /// When to look again though nothing is pushed.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let none = self.waiting.is_empty() && self.sweep.is_empty() && self.due.is_empty();
        match self.stuck_at() {
            Some(at) if !none => Some(at),
            stuck => Some(self.turn?.max(stuck.unwrap_or(self.turn?))),
        }
    }

    /// A notice was told: what was held behind it waits in its place.
    pub(super) fn done(&mut self, notice: &Notice, now: Instant) {
        self.running.remove(&notice.ino);
        if let Some(content) = notice.node.filter(|_| notice.again)
            && self.young.len() < NOTICES_MAX
        {
            *self.young.entry(notice.ino).or_default() |= content;
            self.start_turn(now);
        }
        if let Some(held) = self.held.remove(&notice.ino) {
            self.places.insert(notice.ino, held.number);
            self.waiting.insert(held.number, held.notice);
        }
    }

    /// All names were dropped; `known` inodes come next.
    pub(super) fn sweep(&mut self, known: Vec<u64>) {
        if let Some(all) = self.running.remove(&ALL) {
            self.sweep_number = all.number;
        }
        self.sweep = known.into();
        if let Some(held) = self.held.remove(&ALL) {
            self.places.insert(ALL, held.number);
            self.waiting.insert(held.number, held.notice);
        }
    }

    /// How many notices are being told.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// The number of the newest change.
    pub(super) fn newest(&self) -> u64 {
        self.pushed
    }

    /// Whether the kernel was told of all changes up to one. What is stuck is
    /// waited for once, by those who came in its first moments.
    pub(super) fn is_told(&self, number: u64, now: Instant) -> bool {
        let counts = |its: u64, since: Instant| its <= number && since + NOTICE_WAIT > now;
        let waits = self
            .waiting
            .first_key_value()
            .is_some_and(|(its, _)| *its <= number);
        let sweeps = !self.sweep.is_empty() && self.sweep_number <= number;
        let mut running = self.running.values();
        let mut held = self.held.values();
        !waits
            && !sweeps
            && !running.any(|one| counts(one.number, one.since))
            && !held.any(|one| counts(one.number, one.since))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn changed(queue: &mut Queue, ino: u64, now: Instant) {
        queue.push(ino, now, |notice| notice.node = Some(true));
    }

    fn inode(job: Option<Job>) -> Option<Notice> {
        match job? {
            Job::One(notice) => Some(notice),
            Job::All => panic!("everything is dropped"),
        }
    }

    #[test]
    fn one_after_the_other_is_told_until_one_is_stuck() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        for ino in [5, 6] {
            changed(&mut queue, ino, start);
        }
        let first = inode(queue.take(start)).unwrap();
        assert_eq!(first.ino, 5);
        assert_eq!(queue.take(start), None, "the first is being told");
        let stuck = queue.wake_at().unwrap();
        assert_eq!(stuck, start + NOTICE_STUCK_AFTER);
        assert_eq!(inode(queue.take(stuck)).unwrap().ino, 6);
    }

    #[test]
    fn what_is_held_behind_its_own_inode_comes_when_that_is_told() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        changed(&mut queue, 5, start);
        let stuck = inode(queue.take(start)).unwrap();
        changed(&mut queue, 5, start);
        changed(&mut queue, 6, start);
        let then = start + NOTICE_STUCK_AFTER;
        let other = inode(queue.take(then)).unwrap();
        assert_eq!(other.ino, 6);
        queue.done(&other, then);
        assert_eq!(queue.take(then), None);
        queue.done(&stuck, then);
        assert_eq!(inode(queue.take(then)).unwrap().ino, 5);
    }

    #[test]
    fn what_is_stuck_is_waited_for_once() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        changed(&mut queue, 5, start);
        drop(queue.take(start));
        let (soon, late) = (start + Duration::from_millis(1), start + NOTICE_WAIT);
        assert!(!queue.is_told(queue.newest(), soon));
        assert!(queue.is_told(queue.newest(), late), "others gave it up");
        // What comes behind it is waited for by those who bring it.
        changed(&mut queue, 5, late);
        assert!(!queue.is_told(queue.newest(), late));
        assert!(queue.is_told(queue.newest(), late + NOTICE_WAIT));
        changed(&mut queue, 6, late);
        assert!(!queue.is_told(queue.newest(), late + NOTICE_WAIT));
    }

    #[test]
    fn a_repeat_does_not_run_into_what_is_stuck() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.later(5, start);
        changed(&mut queue, 5, start);
        let stuck = inode(queue.take(start)).unwrap();
        let mut now = start;
        for _ in 0..10 {
            now += NOTICE_AGAIN_AFTER;
            assert_eq!(queue.take(now), None);
        }
        queue.done(&stuck, now);
        let mut told = 0;
        for _ in 0..10 {
            now += NOTICE_AGAIN_AFTER;
            if let Some(notice) = inode(queue.take(now)) {
                told += 1;
                queue.done(&notice, now);
            }
        }
        assert!((1..=2).contains(&told), "{told}");
    }
}
