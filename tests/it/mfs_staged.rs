//! Changes by path, which come through control: what they refer to survives
//! what they survive, and what they take away leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use cidfs::block::{Block, BlockSink, Cid, RAW, SHA2_256};
use cidfs::testing::disk::{Effect, FaultDisk, Op};
use cidfs::tree::TreeError;
use cidfs::tree::mfs::path::TreePath;
use cidfs::tree::mfs::{CopySource, Mfs, New, NodeId, Staged};

use crate::mfs_crash::seen;
use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::{self, ME};
use crate::store_support::Place;

const ROOT: NodeId = NodeId::ROOT;

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

async fn at(mfs: &Mfs, text: &str) -> Result<NodeId, TreeError> {
    let mut at = ROOT;
    for name in text.split('/') {
        at = mfs.lookup(at, name.as_bytes(), false).await?.node;
    }
    Ok(at)
}

async fn file(mfs: &Mfs, name: &str, bytes: &[u8]) -> NodeId {
    let made = mfs.make(ME, ROOT, name.as_bytes(), New::File, 0o644, 0, false);
    let node = made.await.unwrap().node;
    mfs.write(ME, node, 0, bytes, false).await.unwrap();
    node
}

async fn mount(mfs: &Mfs, cid: &Cid, to: &str) {
    let content = mfs.content(cid).await.unwrap();
    let staged = Staged::Mount {
        path: path(to),
        content,
        plain: false,
    };
    mfs.perform_staged(ME, &[staged]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cid_that_was_just_made_is_still_there_after_it_was_mounted_and_all_was_killed() {
    let sim = Sim::new(quiet()).await;
    let node = file(&sim.mfs, "f", b"hi").await;
    let cid = sim.mfs.cid(node).await.unwrap().unwrap();
    mount(&sim.mfs, &cid, "/g").await;
    sim.mfs.sync().unwrap();
    let sim = sim.killed().await;
    assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new());
    let mounted = at(&sim.mfs, "g").await.unwrap();
    assert_eq!(mfs_support::read(&sim.mfs, mounted).await, b"hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_after_a_write_through_control_leaves_its_content_or_no_trace_of_it() {
    for seed in 0..24 {
        let sim = Sim::new(quiet()).await;
        // So that the name of the pack survives.
        file(&sim.mfs, "whole", &vec![1; 1 << 20]).await;
        sim.mfs.sync().unwrap();
        let before = seen(&sim.mfs).await.unwrap();
        let sink = sim.blocks.own_sink();
        let bytes = vec![7; 300 << 10];
        let block = Block::seal(RAW, SHA2_256, bytes.clone().into()).unwrap();
        let content = *block.cid();
        sink.put(block).unwrap();
        sink.flush().unwrap();
        let staged = Staged::Write {
            path: path("/new"),
            content,
            size: bytes.len() as u64,
            offset: None,
            mode: 0o644,
        };
        sim.mfs.perform_staged(ME, &[staged]).await.unwrap();
        drop(sink);
        let after = seen(&sim.mfs).await.unwrap();
        let sim = sim.crashed(seed).await;
        let found = seen(&sim.mfs).await.expect("what is there can be read");
        assert!(found == before || found == after, "seed {seed}");
        sim.mfs.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refers_to_a_sealed_block_waits_for_it_while_another_makes_it_safe() {
    let (place, disk) = (Place::new(), FaultDisk::new());
    let (blocks, mfs) = mfs_support::open(&place, &quiet(), Arc::new(disk.clone())).await;
    let from = file(&mfs, "from", b"small").await;
    let (one, two) = (file(&mfs, "1", b"").await, file(&mfs, "2", b"").await);
    let cid = mfs.cid(from).await.unwrap().unwrap();
    assert!(!blocks.has_own(&cid), "it waits in memory");
    let slow = Effect::Slow(Duration::from_millis(700));
    disk.fail(Op::Append, "packs", 0, 1, slow);
    let first = {
        let mfs = mfs.clone();
        let source = CopySource::Node(from);
        tokio::spawn(async move { mfs.copy_range(ME, source, 0, one, 0, 5).await })
    };
    tokio::time::sleep(Duration::from_millis(150)).await;
    let source = CopySource::Node(from);
    let copied = mfs.copy_range(ME, source, 0, two, 0, 5).await;
    assert_eq!(copied.unwrap(), 5);
    assert!(blocks.has_own(&cid), "what is acknowledged survives a kill");
    assert_eq!(first.await.unwrap().unwrap(), 5);
    mfs.close().await;
}
