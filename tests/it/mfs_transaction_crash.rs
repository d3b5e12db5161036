//! Transactions of clients and restores on a disk that stops at each of its
//! changes, with recoveries that end at each of theirs: all of one is there, or
//! nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use cidfs::block::{Block, BlockSink, RAW, SHA2_256};
use cidfs::tree::TreeError;
use cidfs::tree::mfs::path::TreePath;
use cidfs::tree::mfs::{
    Checkpointed, Mfs, New, NodeId, Refused, RenameMode, Restore, SetAttr, Staged, WriteAt,
};

use cidfs::testing::sim_disk::SimDisk;

use crate::mfs_crash::seen;
use crate::mfs_sim::{End, Sim, quiet};
use crate::mfs_support::ME;
use crate::store_support::runtime;

type Seen = BTreeMap<String, String>;

/// What a client does.
enum Step {
    /// Several changes as one transaction of the tree's own, or one alone.
    Do(Vec<Staged>),
    Begin(u8),
    Stage(u8, Vec<Staged>),
    Commit(u8),
    /// Commits what the tree refuses.
    Refused(u8),
    RollBack(u8),
    Sync,
    Checkpoint,
    /// Brings back what the checkpoint has.
    Restore(&'static str, &'static str),
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn mkdir(at: &str) -> Staged {
    Staged::Mkdir {
        path: path(at),
        mode: 0o750,
        parents: true,
    }
}

/// Content of a length that the grid does not know.
fn block(seed: u8) -> Block {
    let bytes: Vec<u8> = (0..200 + u32::from(seed))
        .map(|at| at as u8 ^ seed)
        .collect();
    Block::seal(RAW, SHA2_256, bytes.into()).unwrap()
}

fn write(at: &str, seed: u8) -> Staged {
    let block = block(seed);
    Staged::Write {
        path: path(at),
        content: *block.cid(),
        size: block.data().len() as u64,
        at: WriteAt::Whole,
        mode: 0o640,
    }
}

fn rename(from: &str, to: &str) -> Staged {
    Staged::Move {
        from: path(from),
        to: path(to),
        mode: RenameMode::Replace,
        into: false,
    }
}

fn link(from: &str, to: &str) -> Staged {
    Staged::Link {
        from: path(from),
        to: path(to),
    }
}

fn symlink(at: &str) -> Staged {
    Staged::Symlink {
        path: path(at),
        target: "where/to".into(),
    }
}

fn chmod(at: &str, mode: u32) -> Staged {
    Staged::Metadata {
        path: path(at),
        set: SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        },
    }
}

fn remove(at: &str) -> Staged {
    Staged::Remove {
        path: path(at),
        recursive: true,
    }
}

/// Transactions beside each other, over a checkpoint, of many changes, refused,
/// given up and never ended, and restores of a part and of everything.
fn script() -> Vec<Step> {
    let truncated = Staged::Truncate {
        path: path("/a/b/w"),
        size: 77,
    };
    let many = (0..60u8).flat_map(|count| {
        let dir = format!("/m/{count}");
        [
            mkdir(&dir),
            write(&format!("{dir}/f"), count),
            chmod(&dir, 0o711),
        ]
    });
    vec![
        Step::Do(vec![
            mkdir("/d"),
            write("/d/f", 1),
            write("/d/g", 2),
            symlink("/d/l"),
        ]),
        Step::Sync,
        Step::Begin(0),
        Step::Stage(
            0,
            vec![mkdir("/a/b"), write("/a/b/w", 3), rename("/d/f", "/a/f")],
        ),
        Step::Do(vec![write("/x", 4)]),
        Step::Stage(
            0,
            vec![link("/a/f", "/a/b/h"), chmod("/a/f", 0o600), truncated],
        ),
        Step::Begin(1),
        Step::Stage(1, vec![mkdir("/e"), rename("/x", "/e/x"), symlink("/e/s")]),
        Step::Commit(0),
        Step::Do(vec![write("/d/h", 5)]),
        Step::Checkpoint,
        Step::Commit(1),
        Step::Begin(2),
        Step::Stage(2, vec![remove("/e"), mkdir("/e2")]),
        Step::RollBack(2),
        Step::Sync,
        Step::Begin(3),
        Step::Stage(3, vec![mkdir("/q"), remove("/a"), remove("/is-not-there")]),
        Step::Refused(3),
        Step::Do(many.collect()),
        Step::Begin(4),
        Step::Restore("/d", "/m/7"),
        Step::Do(vec![remove("/d"), rename("/e", "/d")]),
        Step::Restore("/", "/"),
        Step::Stage(4, vec![mkdir("/never")]),
    ]
}

/// A client in the middle of its script.
#[derive(Default)]
struct Client {
    transactions: BTreeMap<u8, u64>,
    checkpoint: Option<Checkpointed>,
}

impl Client {
    async fn step(&mut self, sim: &Sim, step: &Step) -> Result<(), String> {
        sim.clock.tick();
        let mfs = &sim.mfs;
        let told = |error: TreeError| error.to_string();
        match step {
            Step::Do(staged) => {
                put(sim, staged)?;
                let done = mfs.perform_staged(ME, staged).await;
                done.map(drop).map_err(|refused| refused.to_string())
            }
            Step::Begin(name) => {
                let id = mfs.begin_transaction(ME, Duration::from_secs(600));
                self.transactions.insert(*name, id.map_err(told)?);
                Ok(())
            }
            Step::Stage(name, all) => {
                put(sim, all)?;
                for staged in all {
                    let staged = mfs.stage(self.transactions[name], staged.clone());
                    staged.map_err(told)?;
                }
                Ok(())
            }
            Step::Commit(name) => {
                let done = mfs.commit_transaction(self.transactions[name]).await;
                done.map(drop).map_err(|refused| refused.to_string())
            }
            Step::Refused(name) => match mfs.commit_transaction(self.transactions[name]).await {
                Err(Refused::Change {
                    error: TreeError::NotFound,
                    ..
                }) => Ok(()),
                other => Err(format!("{other:?}")),
            },
            Step::RollBack(name) => mfs.roll_back(self.transactions[name]).map_err(told),
            Step::Sync => mfs.sync().map_err(told),
            Step::Checkpoint => {
                self.checkpoint = Some(mfs.checkpoint().await.map_err(told)?);
                Ok(())
            }
            Step::Restore(from, to) => {
                let what = Restore {
                    snapshot: self.checkpoint.unwrap(),
                    from: path(from),
                    to: path(to),
                    replace: true,
                    content_only: false,
                };
                mfs.restore(ME, &what, &|_| {})
                    .await
                    .map(drop)
                    .map_err(told)
            }
        }
    }
}

/// Stores the content that changes refer to, as who stages them must.
fn put(sim: &Sim, all: &[Staged]) -> Result<(), String> {
    let sink = sim.blocks.own_sink();
    for seed in 0..60 {
        let block = block(seed);
        let is_it = |staged: &Staged| matches!(staged, Staged::Write { content, .. } if content == block.cid());
        if all.iter().any(is_it) {
            sink.put(block).map_err(|error| error.to_string())?;
        }
    }
    sink.flush().map_err(|error| error.to_string())
}

/// What is there after each of the first steps, and which changes of the disk they are.
struct Known {
    script: Vec<Step>,
    seen: Vec<Seen>,
    changes: Range<u64>,
}

impl Known {
    async fn new() -> Self {
        let script = script();
        let sim = Sim::new(quiet()).await;
        let begin = sim.disk.counts().changes;
        let mut client = Client::default();
        let mut all = vec![seen(&sim.mfs).await.unwrap()];
        for (number, step) in script.iter().enumerate() {
            let done = client.step(&sim, step).await;
            done.unwrap_or_else(|why| panic!("step {number}: {why}"));
            all.push(seen(&sim.mfs).await.unwrap());
        }
        let changes = begin..sim.disk.counts().changes + 1;
        sim.end().await;
        Self {
            script,
            seen: all,
            changes,
        }
    }

    /// Runs until the disk stops; tells how many steps were acknowledged, and how many
    /// of them before the last sync.
    async fn until(&self, stop: u64) -> (Sim, usize, usize) {
        let sim = Sim::new(quiet()).await;
        sim.disk.stop_at(Some(stop));
        let (mut client, mut done, mut synced) = (Client::default(), 0, 0);
        for step in &self.script {
            if client.step(&sim, step).await.is_err() {
                break;
            }
            done += 1;
            if matches!(step, Step::Sync | Step::Checkpoint) {
                synced = done;
            }
        }
        (sim, done, synced)
    }

    /// What is on the disk is what was there after some number of steps in this range.
    async fn check(
        &self,
        sim: &Sim,
        disk: SimDisk,
        range: (usize, usize),
        seed: u64,
    ) -> Result<u64, String> {
        let next = sim.beside(disk).await;
        let recovery = next.mfs.recovery();
        if !recovery.errors.is_empty() {
            return Err(format!("{:?}", recovery.errors));
        }
        let rolled_back = recovery.rolled_back;
        let found = told(&next.mfs).await?;
        let states = self.seen.iter().enumerate().take(range.1 + 1).skip(range.0);
        if !states.clone().any(|(_, seen)| *seen == found) {
            let other = self.seen.iter().rposition(|seen| *seen == found);
            return Err(format!(
                "none of {range:?}, but {other:?}: {:?}",
                found.keys()
            ));
        }
        if !next.mfs.transactions().is_empty() {
            return Err("a transaction is under way".to_owned());
        }
        // It goes on, and what comes is as safe as ever.
        let more = Step::Do(vec![mkdir("/after/it"), write("/after/f", 9)]);
        for step in [more, Step::Sync] {
            Client::default().step(&next, &step).await?;
        }
        let before = told(&next.mfs).await?;
        let again = next.crashed(seed).await;
        let after = told(&again.mfs).await?;
        again.end().await;
        match before == after {
            true => Ok(rolled_back),
            false => Err("what came after it is lost".to_owned()),
        }
    }
}

async fn told(mfs: &Mfs) -> Result<Seen, String> {
    mfs.check_sound()?;
    seen(mfs).await.map_err(|error| error.to_string())
}

#[test]
fn an_end_at_any_change_of_the_disk_leaves_each_transaction_done_or_not_begun() {
    let runtime = runtime();
    let known = runtime.block_on(Known::new());
    let (mut places, mut rolled_back) = (0, 0);
    for stop in known.changes.clone() {
        let (sim, done, synced) = runtime.block_on(known.until(stop));
        let ends = [
            (End::Kill, done),
            (End::PowerLoss(2 * stop), synced),
            (End::PowerLoss(2 * stop + 1), synced),
        ];
        for (end, least) in ends {
            let checked = known.check(&sim, end.of(&sim.disk), (least, done + 1), stop);
            rolled_back += runtime.block_on(checked).unwrap_or_else(|why| {
                panic!("{end:?} at {stop}, after {done} steps, {synced} of them synced: {why}")
            });
        }
        runtime.block_on(sim.end());
        places += 1;
    }
    println!("{places} places, {rolled_back} changes rolled back");
    assert!(places > 30 && rolled_back > 60, "{places} {rolled_back}");
}

#[test]
fn recoveries_that_end_at_any_of_their_changes_leave_each_transaction_done_or_not_begun() {
    let runtime = runtime();
    let known = runtime.block_on(Known::new());
    let mut ended = 0;
    for stop in known.changes.clone().step_by(3) {
        let (sim, done, synced) = runtime.block_on(known.until(stop));
        for (first, least) in [(End::Kill, done), (End::PowerLoss(stop), synced)] {
            let found = first.of(&sim.disk);
            for at in 0.. {
                let end = match first {
                    End::Kill => End::Kill,
                    End::PowerLoss(seed) => End::PowerLoss(1000 * seed + at),
                };
                let all = async {
                    let (disk, ready) = sim.start_until(&found.kill(), at, end).await;
                    let (disk, _) = sim.start_until(&disk, at / 2, end).await;
                    let checked = known.check(&sim, disk, (least, done + 1), at).await;
                    checked.map(|_| ready)
                };
                let ready = runtime.block_on(all).unwrap_or_else(|why| {
                    panic!("{first:?} at {stop}, after {done} steps, then recoveries that end from {at} on: {why}")
                });
                ended += 1;
                if ready {
                    break;
                }
            }
        }
        runtime.block_on(sim.end());
    }
    println!("{ended} recoveries that were ended");
    assert!(ended > 100, "{ended}");
}

/// How many names a restored directory has; none where it is not there.
async fn names_of(sim: &Sim, name: &[u8]) -> Option<usize> {
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    let dir = match sim.mfs.lookup(NodeId::ROOT, name, false).await {
        Err(TreeError::NotFound) => return None,
        found => found.unwrap().node,
    };
    let listed = sim.mfs.readdir(dir, 0, usize::MAX).await.unwrap();
    Some(listed.len())
}

#[test]
fn an_end_between_the_parts_of_a_large_restore_leaves_nothing_of_it() {
    // More than go to the journal at once.
    const NAMES: usize = cidfs::config::RESTORE_BATCH + 1000;
    runtime().block_on(async {
        let sim = Sim::new(quiet()).await;
        sim.mfs.perform_staged(ME, &[mkdir("/many")]).await.unwrap();
        let dir = sim.mfs.lookup(NodeId::ROOT, b"many", false).await.unwrap();
        for name in 0..NAMES {
            let name = format!("{name}");
            let made = sim
                .mfs
                .make(ME, dir.node, name.as_bytes(), New::Fifo, 0o600, 0, false);
            made.await.unwrap();
        }
        let what = Restore {
            snapshot: sim.mfs.checkpoint().await.unwrap(),
            from: path("/many"),
            to: path("/again"),
            replace: false,
            content_only: false,
        };
        let base = sim.disk.kill();
        let (mut undone, mut parts) = (0, 0);
        for stop in 0.. {
            let next = sim.beside(base.kill()).await;
            let begin = next.disk.counts();
            next.disk.stop_at(Some(begin.changes + stop));
            let done = next.mfs.restore(ME, &what, &|_| {}).await.is_ok();
            let after = next.disk.counts();
            for end in [End::Kill, End::PowerLoss(stop)] {
                let again = next.beside(end.of(&next.disk)).await;
                match names_of(&again, b"again").await {
                    Some(names) => assert_eq!(names, NAMES, "{end:?} at {stop}"),
                    None => {
                        assert!(
                            !done || matches!(end, End::PowerLoss(_)),
                            "{end:?} at {stop}"
                        );
                        undone += 1;
                    }
                }
                again.end().await;
            }
            next.end().await;
            if after.changes < begin.changes + stop {
                parts = after.appends - begin.appends;
                break;
            }
        }
        sim.end().await;
        assert!(undone > 3 && parts > 3, "{undone} of {parts} parts");
    });
}
