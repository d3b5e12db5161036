//! Syncs that failed: what they have lost is not believed by the next start.

use cidfs::testing::sim_disk::SimDisk;
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{Mfs, New, NodeId};

use crate::mfs_crash::seen;
use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::ME;

const ROOT: NodeId = NodeId::ROOT;
const CHUNK: usize = 1 << 20;

async fn file(mfs: &Mfs, name: &str, bytes: &[u8]) -> Result<(), TreeError> {
    let name = name.as_bytes();
    let made = mfs.make(ME, ROOT, name, New::File, 0o644, 0, false).await?;
    mfs.write(ME, made.node, 0, bytes, false).await.map(drop)
}

/// What power losses leave of what was synced: always all of it.
async fn survives(sim: &Sim, disk: &SimDisk) {
    let before = seen(&sim.mfs).await.unwrap();
    // Each power loss stops the disk: all begin with the same one.
    for seed in 0..12 {
        let next = disk.fork().crash(seed);
        let after = sim.beside(next).await;
        assert_eq!(after.mfs.recovery().errors, Vec::<String>::new());
        assert_eq!(seen(&after.mfs).await.unwrap(), before, "seed {seed}");
        after.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_after_a_failed_sync_and_a_restart_survives_a_power_loss() {
    for failing in ["journal", "packs/own", ""] {
        let sim = Sim::new(quiet()).await;
        file(&sim.mfs, "safe", &vec![1; CHUNK]).await.unwrap();
        sim.mfs.sync().unwrap();
        file(&sim.mfs, "chunk", &vec![2; CHUNK]).await.unwrap();
        file(&sim.mfs, "small", b"small").await.unwrap();
        let acknowledged = seen(&sim.mfs).await.unwrap();
        sim.disk.fail_syncs(Some(failing));
        assert!(sim.mfs.sync().is_err(), "{failing}");
        let refused = file(&sim.mfs, "refused", b"").await;
        assert!(matches!(refused, Err(TreeError::Failed(_))), "{refused:?}");
        // The next process reads what the disk does not have.
        let sim = sim.killed().await;
        assert_eq!(seen(&sim.mfs).await.unwrap(), acknowledged, "{failing}");
        file(&sim.mfs, "after", b"after").await.unwrap();
        // The same bytes as before: they are here already.
        file(&sim.mfs, "again", &vec![2; CHUNK]).await.unwrap();
        sim.mfs.sync().unwrap();
        survives(&sim, &sim.disk).await;
        sim.mfs.checkpoint().await.unwrap();
        survives(&sim, &sim.disk).await;
        sim.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_again_at_the_start_is_not_believed_either() {
    let sim = Sim::new(quiet()).await;
    file(&sim.mfs, "chunk", &vec![2; CHUNK]).await.unwrap();
    sim.disk.fail_syncs(Some("packs/own"));
    assert!(sim.mfs.sync().is_err());
    let next = sim.disk.kill();
    next.fail_syncs(Some("packs/own"));
    let sim = sim.next(next).await;
    assert!(sim.mfs.sync().is_err(), "it would say what is not so");
    let sim = sim.killed().await;
    sim.mfs.sync().unwrap();
    survives(&sim, &sim.disk).await;
    sim.end().await;
}
