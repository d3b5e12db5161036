//! The tree's root, pushed to a node that behaves, and that does not.

use std::sync::Arc;
use std::time::Duration;

use cidfs::block::Cid;
use cidfs::clock::SystemClock;
use cidfs::control::{Call, Registry};
use cidfs::disk::RealDisk;
use cidfs::testing::dag::Dag;
use cidfs::tree::mfs::{Checkpointed, NodeId, RenameMode};
use cidfs::tree::push::{
    Configured, Doing, NodeFigures, OnProgress, PushError, PushParts, Pushed, Pusher, Wanted,
};

use crate::control_world::context_over;
use crate::mfs_support::{ME, World};
use crate::push_node::{Fault, Shelf, shelf, until};

const CHUNK: usize = 1 << 20;

fn silent() -> OnProgress {
    Arc::new(|_| ())
}

/// What pushes a tree to one node.
fn pusher(world: &World, node: &Arc<Shelf>, fetch: bool) -> Arc<Pusher> {
    let parts = PushParts {
        blocks: Arc::clone(&world.blocks),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        file: world.place.path("push.json"),
        newest: world.mfs.newest_checkpoint(),
        open_node: Box::new(|text| Err(PushError::Unknown(text.to_owned()))),
    };
    let node = Configured {
        node: Arc::clone(node) as _,
        fetch,
    };
    Pusher::open(parts, vec![node]).unwrap()
}

async fn push_once(world: &World, pusher: &Pusher) -> (Checkpointed, Result<Pushed, PushError>) {
    let made = world.mfs.checkpoint().await.unwrap();
    let done = pusher
        .push("shelf", Wanted::from(&made), false, silent())
        .await;
    (made, done)
}

async fn push(world: &World, pusher: &Pusher) -> (Cid, Pushed) {
    let (made, done) = push_once(world, pusher).await;
    (made.root, done.unwrap())
}

fn figures(pusher: &Pusher) -> NodeFigures {
    pusher.figures().remove(0)
}

/// A directory with a file of three chunks and some small ones.
async fn fill(world: &World) -> NodeId {
    let dir = world.dir(NodeId::ROOT, "dir").await;
    let big: Vec<u8> = (0..3 * CHUNK).map(|at| (at / CHUNK) as u8).collect();
    world.file(dir, "big", &big).await;
    for name in ["a", "b", "c"] {
        world.file(dir, name, name.as_bytes()).await;
    }
    dir
}

async fn rename(world: &World, from: (NodeId, &str), to: (NodeId, &str)) {
    let names = (from.1.as_bytes(), to.1.as_bytes());
    let mode = RenameMode::Replace;
    world
        .mfs
        .rename(ME, (from.0, names.0), (to.0, names.1), mode)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_push_sends_only_what_is_new_and_the_old_root_is_unpinned() {
    let (world, node) = (World::new().await, shelf());
    let dir = fill(&world).await;
    let pusher = pusher(&world, &node, false);
    let (first, sent) = push(&world, &pusher).await;
    // Two directories, the big file and its leaves, three small ones.
    assert_eq!((sent.blocks, sent.far, sent.already), (9, 0, false));
    assert_eq!(node.pinned(), [first]);

    world.file(dir, "d", b"d").await;
    let (second, sent) = push(&world, &pusher).await;
    assert_eq!(sent.blocks, 3, "the file and both directories above it");
    assert_eq!(node.pinned(), [second]);
    assert_eq!(node.lacks(&second), []);

    let (again, sent) = push(&world, &pusher).await;
    assert_eq!((again, sent.already, sent.blocks), (second, true, 0));
    assert_eq!(node.sizes(), [9, 3]);
    let told = figures(&pusher);
    assert_eq!((told.pushes, told.blocks, told.failures), (2, 12, 0));
    assert!(told.current && told.doing == Doing::Idle && told.root == Some(second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_chunk_costs_its_leaf_and_the_nodes_above() {
    let (world, node) = (World::new().await, shelf());
    let dir = fill(&world).await;
    let pusher = pusher(&world, &node, false);
    push(&world, &pusher).await;
    let big = world.mfs.lookup(dir, b"big", false).await.unwrap().node;
    world
        .mfs
        .write(ME, big, CHUNK as u64 + 5, b"changed", false)
        .await
        .unwrap();
    let (root, sent) = push(&world, &pusher).await;
    assert_eq!(sent.blocks, 4);
    assert_eq!((node.lacks(&root), node.pinned()), (vec![], vec![root]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_or_renamed_is_not_sent_again() {
    let (world, node) = (World::new().await, shelf());
    let dir = fill(&world).await;
    let other = world.dir(NodeId::ROOT, "aa").await;
    let pusher = pusher(&world, &node, false);
    push(&world, &pusher).await;

    rename(&world, (NodeId::ROOT, "dir"), (other, "moved")).await;
    let (_, sent) = push(&world, &pusher).await;
    assert_eq!(sent.blocks, 2, "the root and the directory that it is in");

    rename(&world, (other, "moved"), (NodeId::ROOT, "zz")).await;
    world.file(dir, "new", b"new").await;
    let (root, sent) = push(&world, &pusher).await;
    // aa is empty again, as it was: that root is unpinned, so it is sent.
    assert_eq!(
        sent.blocks, 4,
        "root, aa, the renamed directory, the new file"
    );
    assert_eq!(node.lacks(&root), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_directory_costs_the_shards_that_changed() {
    let (world, node) = (World::new().await, shelf());
    let staged: Vec<_> = (0..6000)
        .map(|at| cidfs::tree::mfs::Staged::Symlink {
            path: path(&format!("/a rather long name of an entry {at}")),
            target: "target".into(),
        })
        .collect();
    world.mfs.perform_staged(ME, &staged).await.unwrap();
    let pusher = pusher(&world, &node, false);
    let (_, first) = push(&world, &pusher).await;
    assert!(first.blocks > 200, "{}", first.blocks);
    world.file(NodeId::ROOT, "one more", b"x").await;
    let (root, second) = push(&world, &pusher).await;
    assert!((3..=5).contains(&second.blocks), "{}", second.blocks);
    assert_eq!(node.lacks(&root), []);
}

fn path(text: &str) -> cidfs::tree::mfs::path::TreePath {
    cidfs::tree::mfs::path::TreePath::parse(text.as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_roots_that_were_made_while_the_node_was_away_only_the_newest_is_pushed() {
    let (world, node) = (World::new().await, shelf());
    *node.always.lock() = Some(Fault::Away);
    let pusher = pusher(&world, &node, false);
    pusher.start();
    let mut last = None;
    for at in 0..4 {
        world.file(NodeId::ROOT, &format!("file {at}"), b"x").await;
        last = Some(world.mfs.checkpoint().await.unwrap().root);
        until("it was tried", || figures(&pusher).failures > 0).await;
    }
    let told = figures(&pusher);
    assert!(matches!(told.doing, Doing::Waiting(left) if left <= Duration::from_secs(4)));
    assert!(told.last_error.unwrap().contains("nobody answers"));
    assert!(!told.current);

    *node.always.lock() = None;
    until("it is pushed", || figures(&pusher).pushes == 1).await;
    assert_eq!(
        node.cars
            .lock()
            .iter()
            .map(|(root, _)| *root)
            .collect::<Vec<_>>(),
        [last.unwrap()]
    );
    assert_eq!(node.pinned(), [last.unwrap()]);
    let told = figures(&pusher);
    assert_eq!((told.failures_in_a_row, told.last_error), (0, None));

    // And from now on each checkpoint by itself.
    world.file(NodeId::ROOT, "later", b"y").await;
    let root = world.mfs.checkpoint().await.unwrap().root;
    until("the next one is pushed", || node.pinned() == [root]).await;
    pusher.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_node_gets_the_difference_to_what_it_had() {
    let (world, node) = (World::new().await, shelf());
    fill(&world).await;
    let before = pusher(&world, &node, false);
    push(&world, &before).await;
    drop(before);
    let world = world.killed().await;
    world.file(NodeId::ROOT, "new", b"new").await;
    let after = pusher(&world, &node, false);
    let (root, sent) = push(&world, &after).await;
    assert_eq!((sent.blocks, node.pinned()), (2, vec![root]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_everything_gets_everything_after_a_restart() {
    let (world, node) = (World::new().await, shelf());
    fill(&world).await;
    let before = pusher(&world, &node, false);
    push(&world, &before).await;
    drop(before);
    node.forget_all();
    let after = pusher(&world, &node, false);
    after.start();
    until("it is there again", || node.sizes() == [9, 9]).await;
    until("it is pinned", || node.pinned().len() == 1).await;
    after.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_broke_off_is_done_anew_and_leaves_no_pin_behind() {
    for fault in [
        ("import", Fault::Cut(CHUNK)),
        ("import", Fault::Fewer),
        ("pin", Fault::LostAnswer),
    ] {
        let (world, node) = (World::new().await, shelf());
        let dir = fill(&world).await;
        let pusher = pusher(&world, &node, false);
        node.once(fault.0, fault.1);
        let (_, failed) = push_once(&world, &pusher).await;
        assert!(
            matches!(failed, Err(PushError::Away(_))),
            "{fault:?}: {failed:?}"
        );
        assert_eq!(figures(&pusher).failures_in_a_row, 1);
        // Meanwhile the tree has moved on.
        world.file(dir, "d", b"d").await;
        let (root, _) = push(&world, &pusher).await;
        assert_eq!(node.pinned(), [root], "{fault:?}");
        assert_eq!(node.lacks(&root), [], "{fault:?}");
        assert_eq!(figures(&pusher).failures_in_a_row, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_someone_else_pinned_is_never_unpinned() {
    let (world, node) = (World::new().await, shelf());
    fill(&world).await;
    let before = pusher(&world, &node, false);
    let (theirs, _) = push(&world, &before).await;
    drop(before);
    // Nobody knows any more that it was us.
    std::fs::remove_file(world.place.path("push.json")).unwrap();
    let pusher = pusher(&world, &node, false);
    let (_, sent) = push(&world, &pusher).await;
    assert!(sent.already && node.sizes() == [9]);
    for name in ["new", "newer"] {
        world.file(NodeId::ROOT, name, b"new").await;
        let (root, _) = push(&world, &pusher).await;
        let pinned = node.pinned();
        assert!(pinned.contains(&theirs) && pinned.contains(&root));
        assert_eq!(pinned.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_get_the_name_that_is_configured_since() {
    let (world, node) = (World::new().await, shelf());
    fill(&world).await;
    *node.pin_name.lock() = "first";
    let (root, _) = push(&world, &pusher(&world, &node, false)).await;
    assert_eq!(node.names.lock().get(&root), Some(&"first"));
    // The same root again: its pin is renamed.
    *node.pin_name.lock() = "second";
    let (same, sent) = push(&world, &pusher(&world, &node, false)).await;
    assert!(same == root && sent.already && node.pinned() == [root]);
    assert_eq!(node.names.lock().get(&root), Some(&"second"));
    // Another root: it is pinned under the new name, by the difference, and the
    // old pin goes.
    *node.pin_name.lock() = "third";
    world.file(NodeId::ROOT, "new", b"new").await;
    let (next, sent) = push(&world, &pusher(&world, &node, false)).await;
    assert_eq!((sent.blocks, node.pinned()), (2, vec![next]));
    assert_eq!(node.names.lock().get(&next), Some(&"third"));
    // The pin of someone else keeps its name.
    std::fs::remove_file(world.place.path("push.json")).unwrap();
    *node.pin_name.lock() = "fourth";
    push(&world, &pusher(&world, &node, false)).await;
    assert_eq!(node.names.lock().get(&next), Some(&"third"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_takes_too_long_to_move_is_made_anew() {
    let (world, node) = (World::new().await, shelf());
    fill(&world).await;
    let pusher = pusher(&world, &node, false);
    push(&world, &pusher).await;
    world.file(NodeId::ROOT, "new", b"new").await;
    node.once("move_pin", Fault::Stalls);
    let (root, sent) = push(&world, &pusher).await;
    assert_eq!((sent.blocks, node.pinned()), (2, vec![root]));
    assert_eq!(figures(&pusher).failures, 0);
}

/// A tree with mounted content of three blocks that is nowhere but at a source.
async fn with_far_content(world: &World) -> Cid {
    let mut dag = Dag::default();
    let leaves = [dag.leaf("far one"), dag.leaf("far two")];
    let far = dag.file(&[(leaves[0], 7), (leaves[1], 7)]);
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    let content = world.mfs.content(&far).await.unwrap();
    let staged = cidfs::tree::mfs::Staged::Mount {
        path: path("/far"),
        content,
        plain: false,
    };
    world.mfs.perform_staged(ME, &[staged]).await.unwrap();
    far
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_tree_only_links_to_is_left_to_the_node_and_not_sent_twice() {
    let (world, node) = (World::new().await, shelf());
    fill(&world).await;
    with_far_content(&world).await;
    let pusher = pusher(&world, &node, false);
    for _ in 0..3 {
        let (_, failed) = push_once(&world, &pusher).await;
        let failed = failed.unwrap_err();
        assert!(
            matches!(failed, PushError::Lacking { far: 2, .. }),
            "{failed:?}"
        );
        assert!(failed.to_string().contains("fetch = true"), "{failed}");
    }
    // The root of the file was looked at when it was mounted; its leaves never.
    assert_eq!(node.sizes(), [10], "what was delivered is not sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_and_collected_there_is_sent_again() {
    let (world, node) = (World::new().await, shelf());
    fill(&world).await;
    let pusher = pusher(&world, &node, false);
    node.once("pin", Fault::Away);
    push_once(&world, &pusher).await.1.unwrap_err();
    node.forget_all();
    let (root, sent) = push(&world, &pusher).await;
    assert_eq!((sent.blocks, node.pinned()), (9, vec![root]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_fetch_gets_what_the_tree_only_links_to() {
    let (world, node) = (World::new().await, shelf());
    fill(&world).await;
    with_far_content(&world).await;
    let pusher = pusher(&world, &node, true);
    let (root, sent) = push(&world, &pusher).await;
    assert_eq!((sent.blocks, sent.far), (12, 0));
    assert_eq!((node.lacks(&root), node.pinned()), (vec![], vec![root]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_holds_up_neither_changes_nor_checkpoints_and_its_root_is_held() {
    let (world, node) = (World::new().await, shelf());
    let pusher = pusher(&world, &node, false);
    node.once("import", Fault::Hang);
    pusher.start();
    world.file(NodeId::ROOT, "first", b"1").await;
    let root = world.mfs.checkpoint().await.unwrap().root;
    until("it hangs", || node.asked.lock().contains(&"import")).await;
    let going_on = async {
        for at in 0..20 {
            world.file(NodeId::ROOT, &format!("file {at}"), b"x").await;
            world.mfs.checkpoint().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), going_on)
        .await
        .unwrap();
    assert_eq!(figures(&pusher).doing, Doing::Pushing(root));
    assert_eq!(pusher.held(), [root]);
    // Older than all kept checkpoints by now, and still not collected.
    assert!(!world.mfs.checkpoints().iter().any(|kept| kept.root == root));
    pusher.ended().await;
    assert_eq!(pusher.held(), []);
    assert_eq!(figures(&pusher).doing, Doing::Idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_keeps_a_root_that_is_on_its_way() {
    let (world, node) = (World::new().await, shelf());
    let pusher = pusher(&world, &node, false);
    node.once("import", Fault::Hang);
    pusher.start();
    world.file(NodeId::ROOT, "only there", b"only there").await;
    let root = world.mfs.checkpoint().await.unwrap().root;
    until("it hangs", || node.asked.lock().contains(&"import")).await;
    world
        .mfs
        .unlink(ME, NodeId::ROOT, b"only there")
        .await
        .unwrap();
    // Until no kept checkpoint has it any more.
    for at in 0..world.options.snapshots_kept + 1 {
        world.file(NodeId::ROOT, &format!("{at}"), b"x").await;
        world.mfs.checkpoint().await.unwrap();
    }
    let reader = cidfs::unixfs::Reader::new(Arc::clone(&world.blocks));
    let (blocks, mfs) = (Arc::clone(&world.blocks), Arc::clone(&world.mfs));
    let repo = world.place.path("");
    let mut context = context_over(repo, blocks, mfs, reader, Arc::default());
    Arc::get_mut(&mut context).unwrap().push = Arc::clone(&pusher);
    let collect = || async {
        let registry = Registry::standard();
        let context = Arc::clone(&context);
        drop(
            registry
                .call(context, "cache/gc", Call::default())
                .await
                .unwrap(),
        );
        world.blocks.has_own(&root)
    };
    assert!(collect().await, "it is on its way");
    pusher.ended().await;
    assert!(!collect().await, "it is not any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_waits_ends_when_the_node_comes() {
    let (world, node) = (World::new().await, shelf());
    fill(&world).await;
    let pusher = pusher(&world, &node, false);
    *node.always.lock() = Some(Fault::Away);
    let made = world.mfs.checkpoint().await.unwrap();
    let wanted = Wanted::from(&made);
    let waiting = Arc::clone(&pusher);
    let task = tokio::spawn(async move { waiting.push("shelf", wanted, true, silent()).await });
    until("it was tried", || figures(&pusher).failures > 0).await;
    *node.always.lock() = None;
    assert_eq!(task.await.unwrap().unwrap().blocks, 9);
    assert_eq!(node.pinned(), [made.root]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_knows_is_refused() {
    let (world, node) = (World::new().await, shelf());
    let pusher = pusher(&world, &node, false);
    let made = world.mfs.checkpoint().await.unwrap();
    let refused = pusher.push("nobody", Wanted::from(&made), false, silent());
    assert!(matches!(refused.await, Err(PushError::Unknown(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_a_push_that_was_given_up() {
    let (world, node) = (World::new().await, shelf());
    let configured = pusher(&world, &node, false);
    *node.always.lock() = Some(Fault::Away);
    let made = world.mfs.checkpoint().await.unwrap();
    let wanted = Wanted::from(&made);
    let try_and_give_up = async |pusher: &Arc<Pusher>| {
        let waiting = Arc::clone(pusher);
        let task = tokio::spawn(async move { waiting.push("shelf", wanted, true, silent()).await });
        until("it waits", || {
            let figures = pusher.figures();
            figures
                .iter()
                .any(|one| matches!(one.doing, Doing::Waiting(_)))
        })
        .await;
        task.abort();
        drop(task.await);
    };
    try_and_give_up(&configured).await;
    assert_eq!(figures(&configured).doing, Doing::Idle);

    // One that is named only for this push: nobody goes on trying it.
    let named = Arc::clone(&node);
    let parts = PushParts {
        blocks: Arc::clone(&world.blocks),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        file: world.place.path("other.json"),
        newest: world.mfs.newest_checkpoint(),
        open_node: Box::new(move |_| {
            Ok(Configured {
                node: Arc::clone(&named) as _,
                fetch: false,
            })
        }),
    };
    let by_name = Pusher::open(parts, Vec::new()).unwrap();
    try_and_give_up(&by_name).await;
    assert!(by_name.figures().is_empty(), "given up");
    let refused = by_name.push("shelf", wanted, false, silent()).await;
    assert!(refused.is_err() && by_name.figures().is_empty(), "failed");
    *node.always.lock() = None;
    by_name
        .push("shelf", wanted, false, silent())
        .await
        .unwrap();
    assert_eq!(by_name.figures().len(), 1, "what a node has is told");
}
