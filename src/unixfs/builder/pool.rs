//! Worker threads, as many as cores, and tickets for their answers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use bytes::BytesMut;
use parking_lot::{Condvar, Mutex};

use super::pages::Pages;
use super::refused::AddError;

/// What a worker keeps from job to job.
#[derive(Default)]
pub(super) struct Scratch {
    /// A buffer to read into, with its pages in memory already.
    pub(super) spare: BytesMut,
    /// What small files are read into.
    pub(super) pages: Pages,
}

type Job = Box<dyn FnOnce(&mut Scratch) + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
}

/// The threads. Dropping it ends them after the jobs that they are at.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// An answer to come.
pub(super) struct Ticket<T>(Receiver<Result<T, AddError>>);

impl Pool {
    pub(super) fn new() -> Result<Self, AddError> {
        let count = thread::available_parallelism().map_or(2, usize::from);
        let mut pool = Self {
            shared: Arc::default(),
            threads: Vec::with_capacity(count),
        };
        for number in 0..count {
            let shared = pool.shared.clone();
            let builder = thread::Builder::new().name(format!("import-{number}"));
            let spawned = builder.spawn(move || work(&shared));
            pool.threads.push(spawned.map_err(AddError::Sink)?);
        }
        Ok(pool)
    }

    pub(super) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Queues a job.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Scratch) -> Result<T, AddError> + Send + 'static,
    ) -> Ticket<T> {
        let (sender, receiver) = sync_channel(1);
        let job: Job = Box::new(move |scratch| {
            // A ticket that nobody waits for any more is no error.
            drop(sender.send(job(scratch)));
        });
        self.shared.queue.lock().jobs.push_back(job);
        self.shared.ready.notify_one();
        Ticket(receiver)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let mut queue = self.shared.queue.lock();
            queue.closed = true;
            queue.jobs.clear();
        }
        self.shared.ready.notify_all();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl<T> Ticket<T> {
    /// Waits for the answer. A job that panicked gives [`AddError::Worker`].
    pub(super) fn wait(self) -> Result<T, AddError> {
        self.0.recv().map_err(|_| AddError::Worker)?
    }
}

fn work(shared: &Shared) {
    let mut scratch = Scratch::default();
    while let Some(job) = next(shared) {
        // The job's ticket tells of the panic; the thread serves the others.
        if catch_unwind(AssertUnwindSafe(|| job(&mut scratch))).is_err() {
            scratch = Scratch::default();
        }
    }
}

fn next(shared: &Shared) -> Option<Job> {
    let mut queue = shared.queue.lock();
    loop {
        if let Some(job) = queue.jobs.pop_front() {
            return Some(job);
        }
        if queue.closed {
            return None;
        }
        shared.ready.wait(&mut queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ticket_is_answered_even_after_panics() {
        let pool = Pool::new().unwrap();
        let bad: Vec<Ticket<()>> = (0..pool.threads() + 1)
            .map(|_| pool.submit(|_| panic!("on purpose")))
            .collect();
        let good: Vec<Ticket<u32>> = (0..100).map(|n| pool.submit(move |_| Ok(n))).collect();
        for ticket in bad {
            assert!(matches!(ticket.wait(), Err(AddError::Worker)));
        }
        let answers: Vec<u32> = good.into_iter().map(|t| t.wait().unwrap()).collect();
        assert_eq!(answers, (0..100).collect::<Vec<_>>());
    }
}
