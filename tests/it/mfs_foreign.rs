//! Content from elsewhere that changes rest on: it is here before they are, and
//! what becomes of its source and of the cache does not matter.

use cidfs::block::Cid;
use cidfs::cache::Tier;
use cidfs::testing::dag::Dag;
use cidfs::tree::TreeError;
use cidfs::tree::mfs::path::TreePath;
use cidfs::tree::mfs::{
    CopySource, Mfs, MfsOptions, New, NodeId, RenameMode, SetAttr, Staged, WriteAt, XattrMode,
};

use crate::mfs_full::collect;
use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::{ME, read};

const ROOT: NodeId = NodeId::ROOT;

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

/// Puts a DAG where only the source has it.
fn far(sim: &Sim, dag: Dag) {
    for block in dag.blocks {
        sim.place.source.insert(block);
    }
}

/// A file of three leaves that begin with `salt`, in the source only.
fn far_file(sim: &Sim, salt: u8) -> Cid {
    let mut dag = Dag::default();
    let leaves = [salt, salt + 1, salt + 2].map(|n| (dag.leaf(vec![n; 900]), 900));
    let file = dag.file(&leaves);
    far(sim, dag);
    file
}

/// Kills the tree, and takes away what can be fetched.
async fn alone(sim: Sim) -> Sim {
    for block in sim.place.source.blocks() {
        sim.place.source.remove(block.cid());
    }
    sim.killed().await
}

async fn mount(mfs: &Mfs, cid: &Cid, at: &str, plain: bool) {
    let content = mfs.content(cid).await.unwrap();
    let path = path(at);
    let staged = Staged::Mount {
        path,
        content,
        plain,
    };
    mfs.perform_staged(ME, &[staged]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_leaf_that_a_write_cuts_is_here_after_a_kill() {
    let sim = Sim::new(quiet()).await;
    let cid = far_file(&sim, 10);
    mount(&sim.mfs, &cid, "/m", false).await;
    let node = sim.mfs.lookup(ROOT, b"m", false).await.unwrap().node;
    // The first is kept with the file's root; the others come by themselves.
    for at in [100, 1000, 1900] {
        sim.mfs.write(ME, node, at, b"new", false).await.unwrap();
    }
    sim.mfs.sync().unwrap();
    let before = read(&sim.mfs, node).await;
    let sim = alone(sim).await;
    assert_eq!(sim.mfs.recovery().errors, [""; 0]);
    let node = sim.mfs.lookup(ROOT, b"m", false).await.unwrap().node;
    assert_eq!(read(&sim.mfs, node).await, before);
    sim.mfs.checkpoint().await.expect("it needs no source");
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_leaf_that_a_copy_cuts_is_here_after_a_kill() {
    let sim = Sim::new(quiet()).await;
    let to = sim.mfs.make(ME, ROOT, b"f", New::File, 0o644, 0, false);
    let to = to.await.unwrap().node;
    for (count, salt) in (0..).zip([10, 20]) {
        let from = CopySource::Content(far_file(&sim, salt));
        let copy = sim.mfs.copy_range(ME, from, 100, to, 850 * count, 850);
        assert_eq!(copy.await.unwrap(), 850);
    }
    sim.mfs.sync().unwrap();
    let sim = alone(sim).await;
    let node = sim.mfs.lookup(ROOT, b"f", false).await.unwrap().node;
    let parts = [(10, 800), (11, 50), (20, 800), (21, 50)];
    let expected = parts.map(|(byte, len)| vec![byte; len]).concat();
    assert_eq!(read(&sim.mfs, node).await, expected);
    sim.mfs.checkpoint().await.expect("it needs no source");
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_leaf_of_what_is_appended_to_by_control_is_here_after_a_kill() {
    let sim = Sim::new(quiet()).await;
    let mut dag = Dag::default();
    let leaf = dag.leaf(vec![5; 900]);
    let many = dag.file(&[(leaf, 900)]);
    far(&sim, dag);
    let more = cidfs::block::Block::seal(
        cidfs::block::RAW,
        cidfs::block::SHA2_256,
        b"more".as_slice().into(),
    );
    let more = more.unwrap();
    let content = *more.cid();
    sim.blocks.put(more, Tier::Own).unwrap();
    let append = |at: &str| Staged::Write {
        path: path(at),
        content,
        size: 4,
        at: WriteAt::End,
        mode: 0o644,
    };
    mount(&sim.mfs, &leaf, "/one", false).await;
    mount(&sim.mfs, &many, "/many", false).await;
    let all = [append("/one"), append("/many"), append("/many")];
    sim.mfs.perform_staged(ME, &all).await.unwrap();
    sim.mfs.sync().unwrap();
    let sim = alone(sim).await;
    assert_eq!(sim.mfs.recovery().errors, [""; 0]);
    for (name, times) in [(&b"one"[..], 1), (&b"many"[..], 2)] {
        let node = sim.mfs.lookup(ROOT, name, false).await.unwrap().node;
        let expected = [vec![5; 900], b"more".repeat(times)].concat();
        assert_eq!(read(&sim.mfs, node).await, expected);
    }
    sim.mfs.checkpoint().await.expect("it needs no source");
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_content_was_added_to_is_no_place_for_a_mount_once_it_is_empty() {
    let sim = Sim::new(quiet()).await;
    let mut dag = Dag::default();
    let leaf = dag.leaf(b"leaf".as_slice());
    let sub = dag.directory(&[("f", leaf)]);
    let top = dag.directory(&[("sub", sub)]);
    let other = dag.directory(&[("sub", top)]);
    far(&sim, dag);
    mount(&sim.mfs, &top, "/data", true).await;
    let data = sim.mfs.lookup(ROOT, b"data", false).await.unwrap().node;
    assert!(sim.mfs.list_xattr(data).unwrap().is_empty());
    let moved = (ROOT, &b"other"[..]);
    let rename = sim
        .mfs
        .rename(ME, (data, b"sub"), moved, RenameMode::Replace);
    rename.await.unwrap();
    let value = other.to_string();
    // Also as the next start finds it in the checkpoint.
    let sim = sim.reopened().await;
    let data = sim.mfs.lookup(ROOT, b"data", false).await.unwrap().node;
    let refused = sim
        .mfs
        .set_xattr(ME, data, b"cidfs.mount", value.as_bytes(), XattrMode::Set)
        .await;
    assert!(matches!(refused, Err(TreeError::Busy(_))), "{refused:?}");
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_content_that_was_added_is_here_once_it_changed() {
    let sim = Sim::new(MfsOptions {
        store_metadata: true,
        ..quiet()
    })
    .await;
    let cid = far_file(&sim, 10);
    mount(&sim.mfs, &cid, "/f", true).await;
    let node = sim.mfs.lookup(ROOT, b"f", false).await.unwrap().node;
    let set = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    sim.mfs.set_attr(ME, node, set).await.unwrap();
    assert!(sim.blocks.has_own(&cid));
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collection_has_taken_is_kept_again_before_a_change() {
    let sim = Sim::new(MfsOptions {
        snapshots_kept: 1,
        ..quiet()
    })
    .await;
    let mut dag = Dag::default();
    let leaf = dag.leaf(b"leaf".as_slice());
    let top = dag.directory(&[("f", leaf)]);
    far(&sim, dag);
    for round in 0..2 {
        mount(&sim.mfs, &top, "/m", false).await;
        let node = sim.mfs.lookup(ROOT, b"m", false).await.unwrap().node;
        let made = sim.mfs.make(ME, node, b"new", New::File, 0o644, 0, false);
        made.await.unwrap();
        assert!(sim.blocks.has_own(&top), "round {round}");
        if round == 0 {
            sim.mfs.checkpoint().await.unwrap();
            sim.mfs.unmount(ME, ROOT, b"m").await.unwrap();
            sim.mfs.checkpoint().await.unwrap();
            collect(&sim.blocks, &sim.mfs);
            assert!(!sim.blocks.has_own(&top), "nothing leads to it any more");
        }
    }
    sim.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_by_root_leaves_the_privileges_of_the_file() {
    let sim = Sim::new(quiet()).await;
    let root = cidfs::tree::mfs::Caller {
        uid: 0,
        gid: 0,
        ..ME
    };
    let cid = far_file(&sim, 10);
    for (caller, mode) in [(root, 0o6755), (ME, 0o755)] {
        let name = format!("{}", caller.uid);
        let name = name.as_bytes();
        let made = sim.mfs.make(ME, ROOT, name, New::File, 0o6755, 0, false);
        let to = made.await.unwrap().node;
        let copy = sim
            .mfs
            .copy_range(caller, CopySource::Content(cid), 0, to, 0, 900);
        copy.await.unwrap();
        assert_eq!(sim.mfs.attr(to).unwrap().mode, mode);
    }
    sim.mfs.close().await;
}

/// Directories below one another.
async fn deep(mfs: &Mfs, name: &[u8], count: usize) -> NodeId {
    let mut at = ROOT;
    for depth in 0..count {
        let name = if depth == 0 { name } else { b"d" };
        let made = mfs.make(ME, at, name, New::Directory, 0o755, 0, false);
        at = made.await.unwrap().node;
    }
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_a_tree_that_was_moved_below_the_depth_limit_is_in_every_checkpoint() {
    let sim = Sim::new(quiet()).await;
    let (one, two) = (
        deep(&sim.mfs, b"1", 2500).await,
        deep(&sim.mfs, b"2", 2000).await,
    );
    let made = sim.mfs.make(ME, two, b"f", New::File, 0o644, 0, false);
    let node = made.await.unwrap().node;
    sim.mfs.link(ME, node, ROOT, b"f", false).await.unwrap();
    let moved = sim
        .mfs
        .rename(ME, (ROOT, b"2"), (one, b"2"), RenameMode::Replace);
    moved.await.unwrap();
    // So that only the checkpoint knows where the other name is.
    let sim = sim.reopened().await;
    let node = sim.mfs.lookup(ROOT, b"f", false).await.unwrap().node;
    let set = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    sim.mfs.set_attr(ME, node, set).await.unwrap();
    sim.mfs.checkpoint().await.unwrap();
    sim.mfs.close().await;
}
