//! The disk stops at every change that is made to it, and then comes a kill or
//! a power loss: what is found is what was there after some of the operations
//! in their order, and all that must have survived.

use std::collections::BTreeMap;

use cidfs::testing::sim_disk::SimDisk;
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{Mfs, MfsOptions, NodeAttr, NodeId, NodeKind};
use cidfs::unixfs::dir_build::DirRules;
use cidfs::unixfs::file_update::FileForm;
use cidfs::unixfs::profile::Profile;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::mfs_model::{Body, Id, Model, ROOT};
use crate::mfs_model_ops::{CHUNK, Op, Taste, op};
use crate::mfs_model_run::Run;
use crate::mfs_sim::{End, Sim, quiet};
use crate::store_support::runtime;

type Seen = BTreeMap<String, String>;

fn line(attr: NodeAttr, bytes: &[u8], xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> String {
    let mut attr = NodeAttr {
        node: NodeId::ROOT,
        blocks: 0,
        ..attr
    };
    // The model does not count what is below; the paths show it.
    if attr.kind == NodeKind::Directory {
        attr.nlink = attr.nlink.min(1);
    }
    format!("{attr:?} {} {xattrs:?}", bytes.escape_ascii())
}

/// Everything that can be seen of a tree.
pub(crate) async fn seen(mfs: &Mfs) -> Result<Seen, TreeError> {
    let mut out = Seen::new();
    let mut open = vec![("/".to_owned(), NodeId::ROOT)];
    while let Some((path, node)) = open.pop() {
        let attr = mfs.attr(node)?;
        let mut bytes = vec![0; attr.size as usize];
        match attr.kind {
            NodeKind::File => drop(mfs.read(node, 0, &mut bytes).await?),
            NodeKind::Symlink => bytes = mfs.readlink(node)?.to_vec(),
            _ => {}
        }
        let mut xattrs = Vec::new();
        for name in mfs.list_xattr(node)? {
            xattrs.push((name.to_vec(), mfs.get_xattr(node, &name).await?.to_vec()));
        }
        if attr.kind == NodeKind::Directory {
            for entry in mfs.readdir(node, 0, usize::MAX).await? {
                open.push((
                    format!("{path}{}/", entry.name.escape_ascii()),
                    entry.attr.node,
                ));
            }
        }
        out.insert(path, line(attr, &bytes, xattrs));
    }
    Ok(out)
}

/// The same of the model.
pub(crate) fn seen_of(model: &Model) -> Seen {
    let mut out = Seen::new();
    let mut open: Vec<(String, Id)> = vec![("/".to_owned(), ROOT)];
    while let Some((path, id)) = open.pop() {
        let inode = &model.nodes[&id];
        let bytes: &[u8] = match &inode.body {
            Body::File(bytes) | Body::Link(bytes) => bytes,
            Body::Dir(entries) => {
                let below =
                    |(name, id): (&Vec<u8>, &Id)| (format!("{path}{}/", name.escape_ascii()), *id);
                open.extend(entries.iter().map(below));
                &[]
            }
            Body::Special => &[],
        };
        let listed = inode
            .xattrs
            .iter()
            .filter(|(name, _)| !name.starts_with(b"cidfs."));
        let xattrs = listed
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        out.insert(path, line(inode.attr(NodeId::ROOT), bytes, xattrs));
    }
    out
}

/// Operations, and what is there after each of them.
struct Script {
    seed: u64,
    options: MfsOptions,
    ops: Vec<Op>,
    models: Vec<Model>,
    seen: Vec<Seen>,
    changes: std::ops::Range<u64>,
}

impl Script {
    async fn new(seed: u64, count: usize) -> Self {
        let taste = Taste {
            far: false,
            compare_every: 1000,
            restart_every: 9,
            names: 5,
        };
        let mut rng = StdRng::seed_from_u64(seed);
        let ops = std::iter::repeat_with(|| op(&mut rng, &taste));
        let quiet_ones = ops.filter(|op| {
            !matches!(
                op,
                Op::Reopen | Op::Kill | Op::CheckpointBeside | Op::Compare
            )
        });
        let form = FileForm {
            chunk_bytes: CHUNK as usize,
            links_max: 3,
            ..FileForm::from(Profile::default())
        };
        let rules = DirRules {
            threshold_bytes: 200,
            fanout: 8,
            ..Profile::default().into()
        };
        let options = MfsOptions {
            file_form: Some(form),
            dir_rules: Some(rules),
            file_bytes_max: crate::mfs_model::FILE_MAX,
            unsealed_bytes_max: 400,
            ..quiet()
        };
        let ops: Vec<Op> = quiet_ones.take(count).collect();
        let mut run = Run::new(Sim::new(options.clone()).await, seed);
        let begin = run.sim().disk.counts().changes;
        let (mut models, mut found) = (vec![run.model.clone()], vec![seen_of(&run.model)]);
        for op in &ops {
            run.step(op).await.unwrap();
            models.push(run.model.clone());
            found.push(seen_of(&run.model));
        }
        let changes = begin..run.sim().disk.counts().changes + 1;
        run.into_sim().mfs.close().await;
        Self {
            seed,
            options,
            ops,
            models,
            seen: found,
            changes,
        }
    }

    /// Runs until the disk stops; tells how many were acknowledged, and how
    /// many of them before the last sync.
    async fn until(&self, stop: u64) -> (Sim, usize, usize) {
        let mut run = Run::new(Sim::new(self.options.clone()).await, self.seed);
        run.sim().disk.stop_at(Some(stop));
        let (mut acknowledged, mut synced) = (0, 0);
        for op in &self.ops {
            if run.step(op).await.is_err() {
                break;
            }
            acknowledged += 1;
            if matches!(op, Op::Sync | Op::Checkpoint) {
                synced = acknowledged;
            }
        }
        (run.into_sim(), acknowledged, synced)
    }

    /// What is found must be one of these states; gives which.
    fn state(&self, found: &Seen, from: usize, to: usize) -> Result<usize, String> {
        let to = to.min(self.ops.len());
        if let Some(at) = (from..=to).rev().find(|at| &self.seen[*at] == found) {
            return Ok(at);
        }
        let other = self.seen.iter().rposition(|seen| seen == found);
        let nearest = &self.seen[to];
        let differs = |path: &&String| nearest.get(*path) != found.get(*path);
        let paths: Vec<_> = nearest.keys().chain(found.keys()).filter(differs).collect();
        Err(format!(
            "no state of {from}..={to}; it is {other:?}; {paths:?} differ from {to}"
        ))
    }

    /// What goes on after a recovery is durable too, though it writes the same again.
    async fn live_on(&self, sim: Sim, at: usize, seed: u64) -> Result<(), String> {
        let mut model = self.models[at].clone();
        model.restart();
        let mut run = Run::resume(sim, model, seed);
        for op in self.ops.iter().skip(at).take(5) {
            run.step(op)
                .await
                .map_err(|why| format!("then {op:?}: {why}"))?;
        }
        run.step(&Op::Checkpoint).await?;
        run.step(&Op::Compare).await?;
        let mut model = run.model.clone();
        model.restart();
        let sim = run.into_sim().crashed(seed).await;
        let found = seen(&sim.mfs)
            .await
            .map_err(|error| format!("after it: {error}"))?;
        sim.mfs.close().await;
        if found == seen_of(&model) {
            Ok(())
        } else {
            Err("what came after it is lost".to_owned())
        }
    }

    async fn check(
        &self,
        sim: &Sim,
        disk: SimDisk,
        range: (usize, usize),
        seed: u64,
    ) -> Result<(), String> {
        let next = sim.beside(disk).await;
        let errors = next.mfs.recovery().errors.clone();
        if !errors.is_empty() {
            return Err(format!("{errors:?}"));
        }
        let found = seen(&next.mfs).await.map_err(|error| error.to_string())?;
        let at = self.state(&found, range.0, range.1)?;
        self.live_on(next, at, seed).await
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn a_crash_at_every_change_of_the_disk_loses_nothing_that_was_synced() {
    let first = number("CIDFS_CRASH_SEED", 1);
    let (scripts, ops) = (
        number("CIDFS_CRASH_SCRIPTS", 1),
        number("CIDFS_CRASH_OPS", 60),
    );
    let (crashes, runtime) = (number("CIDFS_CRASH_EACH", 2), runtime());
    let mut count = 0;
    for seed in first..first + scripts {
        let script = runtime.block_on(Script::new(seed, ops as usize));
        for stop in script.changes.clone() {
            let (sim, acknowledged, synced) = runtime.block_on(script.until(stop));
            let told = |kind: String, why: String| {
                panic!(
                    "CIDFS_CRASH_SEED={seed}, {kind}, the disk stops at {stop}, with {acknowledged} \
                     acknowledged and {synced} synced, in {:?}: {why}",
                    script.ops.get(acknowledged)
                )
            };
            let range = (acknowledged, acknowledged + 1);
            let killed = script.check(&sim, sim.disk.kill(), range, stop);
            runtime
                .block_on(killed)
                .unwrap_or_else(|why| told("a kill".to_owned(), why));
            for crash in 0..crashes {
                let crash_seed = stop * 100 + crash;
                let range = (synced, acknowledged + 1);
                let crashed = script.check(&sim, sim.disk.crash(crash_seed), range, crash_seed);
                let crashed = runtime.block_on(crashed);
                crashed.unwrap_or_else(|why| told(format!("crash {crash_seed}"), why));
            }
            runtime.block_on(sim.mfs.close());
            sim.blocks.close();
            count += 1;
        }
    }
    println!("{count} places, each with a kill and {crashes} power losses");
}

/// Each recovery ends at one of its changes, and so does the next one, and the
/// one after that.
#[test]
fn a_recovery_may_end_at_any_of_its_changes_again_and_again() {
    let (runtime, seed) = (runtime(), number("CIDFS_CRASH_SEED", 1));
    let script = runtime.block_on(Script::new(seed, number("CIDFS_CRASH_OPS", 40) as usize));
    let step = number("CIDFS_CRASH_STEP", 5) as usize;
    let mut ended = 0;
    for stop in script.changes.clone().step_by(step) {
        let (sim, acknowledged, synced) = runtime.block_on(script.until(stop));
        for (first, least) in [(End::Kill, acknowledged), (End::PowerLoss(stop), synced)] {
            let found = first.of(&sim.disk);
            for at in 0.. {
                let seed = stop * 1000 + at;
                let end = |number: u64| match first {
                    End::PowerLoss(_) if number != 1 => End::PowerLoss(seed + number),
                    _ => End::Kill,
                };
                let all = async {
                    let (disk, done) = sim.start_until(&found.kill(), at, end(0)).await;
                    let (disk, _) = sim.start_until(&disk, at / 2 + 1, end(1)).await;
                    let (disk, _) = sim.start_until(&disk, at / 3, end(2)).await;
                    let range = (least, acknowledged + 1);
                    script.check(&sim, disk, range, seed).await.map(|()| done)
                };
                let done = runtime.block_on(all).unwrap_or_else(|why| {
                    panic!("{first:?} at {stop}, then recoveries that end from {at} on: {why}")
                });
                ended += 1;
                if done {
                    break;
                }
            }
        }
        runtime.block_on(sim.end());
    }
    println!("{ended} recoveries that were ended, each three times");
    assert!(ended > 50);
}

#[test]
fn a_chunk_that_a_power_loss_has_torn_takes_its_write_back_and_can_be_written_again() {
    let runtime = runtime();
    let mut lost = 0;
    for seed in 0..12 {
        runtime.block_on(async {
            let sim = Sim::new(quiet()).await;
            let me = crate::mfs_support::ME;
            let new = cidfs::tree::mfs::New::File;
            let made = sim
                .mfs
                .make(me, NodeId::ROOT, b"f", new, 0o644, 0, false)
                .await
                .unwrap();
            // So that the name of the pack survives.
            sim.mfs
                .write(me, made.node, 3 << 20, &[1; 1 << 20], false)
                .await
                .unwrap();
            sim.mfs.sync().unwrap();
            let before = seen(&sim.mfs).await.unwrap();
            let bytes: Vec<u8> = (0..2 << 20)
                .map(|at: u32| (at % 251 + at / 251 % 7) as u8)
                .collect();
            sim.mfs
                .write(me, made.node, 0, &bytes, false)
                .await
                .unwrap();
            let after = seen(&sim.mfs).await.unwrap();
            let sim = sim.crashed(seed).await;
            let found = seen(&sim.mfs).await.expect("what is there can be read");
            assert!(found == before || found == after, "seed {seed}");
            lost += u32::from(found == before);
            let node = sim
                .mfs
                .lookup(NodeId::ROOT, b"f", false)
                .await
                .unwrap()
                .node;
            sim.mfs.write(me, node, 0, &bytes, false).await.unwrap();
            sim.mfs.sync().unwrap();
            let sim = sim.crashed(seed + 1000).await;
            sim.mfs.lookup(NodeId::ROOT, b"f", false).await.unwrap();
            let read = crate::mfs_support::read(&sim.mfs, node).await;
            assert!(read.starts_with(&bytes), "seed {seed}");
            sim.mfs.close().await;
        });
    }
    assert!(lost > 0);
}
