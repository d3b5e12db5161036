//! Random operations: what the tree does is what the model does, and its
//! checkpoint is what the builder makes of the same files.
//!
//! `CIDFS_MODEL_OPS` sets how many operations are run, `CIDFS_MODEL_SEED` where
//! it begins. A failure prints its seed and the fewest operations that fail.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cidfs::block::{Block, BlockSink, Cid};
use cidfs::config::NODES_LOADED_MAX;
use cidfs::tree::mfs::MfsOptions;
use cidfs::unixfs::builder::{AddOptions, Adder};
use cidfs::unixfs::dir_build::{DirRules, SizeEstimate};
use cidfs::unixfs::file_update::FileForm;
use cidfs::unixfs::profile::Profile;
use futures::FutureExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::mfs_model::{Body, FILE_MAX, Id, Model, ROOT};
use crate::mfs_model_ops::{CHUNK, Op, Taste, op};
use crate::mfs_model_run::Run;
use crate::mfs_sim::{Sim, quiet};
use crate::store_support::runtime;

/// Operations of one tree.
const OPS_A_TREE: u64 = 400;

/// What a seed stands for.
struct Plan {
    seed: u64,
    taste: Taste,
    options: MfsOptions,
    add: AddOptions,
}

impl Plan {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let taste = Taste {
            far: rng.random_ratio(2, 3),
            compare_every: [1, 5, 40][rng.random_range(0..3)].max(2),
            restart_every: [6, 20, 60][rng.random_range(0..3)],
            names: [5, 14, 30][rng.random_range(0..3)],
        };
        let old = rng.random_ratio(1, 3);
        let profile = if old {
            Profile::UnixfsV0_2015
        } else {
            Profile::UnixfsV1_2025
        };
        let form = FileForm {
            chunk_bytes: CHUNK as usize,
            links_max: 3,
            ..FileForm::from(profile)
        };
        let rules = DirRules {
            threshold_bytes: [200, 500][rng.random_range(0..2)],
            fanout: 8,
            ..DirRules::from(profile)
        };
        let options = MfsOptions {
            profile,
            file_form: Some(form),
            dir_rules: Some(rules),
            file_bytes_max: FILE_MAX,
            unsealed_bytes_max: [100, 2000, 1 << 20][rng.random_range(0..3)],
            // Trees of a test are small: nothing would ever be dropped and loaded anew.
            nodes_loaded_max: [30, 50, NODES_LOADED_MAX][rng.random_range(0..3)],
            ..quiet()
        };
        let add = AddOptions {
            chunker: format!("size-{CHUNK}"),
            max_file_links: 3,
            max_hamt_fanout: 8,
            hamt_threshold_bytes: rules.threshold_bytes,
            size_estimate: if old {
                SizeEstimate::Links
            } else {
                SizeEstimate::Block
            },
            recursive: true,
            hidden: true,
            ..AddOptions::from_profile(profile)
        };
        Self {
            seed,
            taste,
            options,
            add,
        }
    }

    fn ops(&self, count: u64) -> Vec<Op> {
        let mut rng = StdRng::seed_from_u64(self.seed ^ 0x5eed);
        (0..count).map(|_| op(&mut rng, &self.taste)).collect()
    }

    async fn run(&self, ops: &[Op]) -> Result<(), String> {
        let sim = Sim::new(self.options.clone()).await;
        let mut run = Run::new(sim, self.seed);
        let done = AssertUnwindSafe(self.run_all(&mut run, ops))
            .catch_unwind()
            .await;
        done.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(format!("panicked: {}", text.unwrap_or_default()))
        })
    }

    async fn run_all(&self, run: &mut Run, ops: &[Op]) -> Result<(), String> {
        run.all(ops).await?;
        let made = run
            .sim()
            .mfs
            .checkpoint()
            .await
            .map_err(|error| error.to_string())?;
        run.compare().await?;
        if !self.taste.far {
            let built = built(&run.model, &self.add);
            if built != made.root {
                return Err(format!(
                    "the checkpoint is {}, and the builder makes {built}",
                    made.root
                ));
            }
        }
        run.sim().mfs.close().await;
        Ok(())
    }

    /// The fewest operations that still fail.
    async fn shrink(&self, mut ops: Vec<Op>) -> Vec<Op> {
        let until = Instant::now() + Duration::from_secs(60);
        let mut size = ops.len() / 2;
        while size > 0 {
            let mut at = 0;
            while at < ops.len() && Instant::now() < until {
                let mut fewer = ops.clone();
                fewer.drain(at..(at + size).min(ops.len()));
                if self.run(&fewer).await.is_err() {
                    ops = fewer;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        ops
    }
}

struct Nowhere;

impl BlockSink for Nowhere {
    fn put(&self, _: Block) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the builder makes of the same files.
pub(crate) fn built(model: &Model, options: &AddOptions) -> Cid {
    let dir = tempfile::tempdir().unwrap();
    write_out(model, ROOT, dir.path());
    let adder = Adder::new(options.clone(), Arc::new(Nowhere)).unwrap();
    adder.add_path(dir.path(), None, &|_| {}).unwrap().cid
}

fn write_out(model: &Model, dir: Id, to: &Path) {
    for (name, id) in model.dir(dir).unwrap() {
        let path = to.join(std::ffi::OsStr::from_bytes(name));
        match &model.nodes[id].body {
            Body::File(bytes) => fs::write(path, bytes).unwrap(),
            Body::Link(target) => symlink(std::ffi::OsStr::from_bytes(target), path).unwrap(),
            Body::Dir(_) => {
                fs::create_dir(&path).unwrap();
                write_out(model, *id, &path);
            }
            Body::Special => {}
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn random_operations_do_what_the_model_says() {
    let (ops, first) = (
        number("CIDFS_MODEL_OPS", 8000),
        number("CIDFS_MODEL_SEED", 1),
    );
    let runtime = runtime();
    let begun = Instant::now();
    for seed in first..first + ops.div_ceil(OPS_A_TREE) {
        let plan = Plan::new(seed);
        let ops = plan.ops(OPS_A_TREE);
        if let Err(why) = runtime.block_on(plan.run(&ops)) {
            let few = runtime.block_on(plan.shrink(ops));
            let again = runtime.block_on(plan.run(&few));
            for op in &few {
                println!("    {op:?}");
            }
            panic!(
                "CIDFS_MODEL_SEED={seed}: {why}\nwith {} operations: {again:?}",
                few.len()
            );
        }
    }
    println!(
        "{ops} operations from seed {first} in {:?}",
        begun.elapsed()
    );
}
