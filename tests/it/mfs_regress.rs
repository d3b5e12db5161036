//! What once went wrong in the writable tree, each by its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cidfs::block::Cid;
use cidfs::testing::dag::Dag;
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{CopySource, MfsOptions, New, NodeId, RenameMode, SetAttr, XattrMode};
use cidfs::unixfs::file_update::FileForm;
use cidfs::unixfs::profile::Profile;

use crate::mfs_support::{ME, World, dump};

const ROOT: NodeId = NodeId::ROOT;

/// A directory with a file and a directory with a file.
fn content(world: &World) -> Cid {
    let mut dag = Dag::default();
    let leaf = dag.leaf(Bytes::from_static(b"far away"));
    let below = dag.directory(&[("deep", leaf)]);
    let root = dag.directory(&[("file", leaf), ("sub", below)]);
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    root
}

async fn node(world: &World, path: &str) -> NodeId {
    let mut at = ROOT;
    for name in path.split('/') {
        at = world
            .mfs
            .lookup(at, name.as_bytes(), false)
            .await
            .unwrap()
            .node;
    }
    at
}

/// The tree is the same after a checkpoint and a start.
async fn same_after_a_checkpoint(world: World) -> World {
    let before = dump(&world.mfs).await;
    world.mfs.checkpoint().await.unwrap();
    same(&before, &dump(&world.mfs).await, "after a checkpoint");
    let world = world.killed().await;
    assert_eq!(world.mfs.recovery().errors, Vec::<String>::new());
    same(&before, &dump(&world.mfs).await, "after a start");
    world
}

fn same(want: &BTreeMap<String, String>, got: &BTreeMap<String, String>, when: &str) {
    let lost: Vec<_> = want
        .keys()
        .filter(|path| !got.contains_key(*path))
        .collect();
    let more: Vec<_> = got
        .keys()
        .filter(|path| !want.contains_key(*path))
        .collect();
    assert!(
        lost.is_empty() && more.is_empty(),
        "{when}: lost {lost:?}, and there are {more:?}"
    );
    for (path, line) in want {
        let got = &got[path];
        let head = |line: &str| line.chars().take(400).collect::<String>();
        assert!(line == got, "{when}: {path}\n{}\n{}", head(got), head(line));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_a_new_tree_has_a_cid() {
    let world = World::new().await;
    let cid = world.mfs.cid(ROOT).await.unwrap();
    assert_eq!(cid, Some(world.mfs.checkpoint().await.unwrap().root));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_moved_out_of_one_that_is_removed_keeps_what_is_recorded_below_it() {
    let world = World::new().await;
    let old = world.dir(ROOT, "old").await;
    let moved = world.dir(old, "moved").await;
    world.make(moved, "fifo", New::Fifo, 0o640).await;
    world.make(moved, "file", New::File, 0o4711).await;
    world.mfs.checkpoint().await.unwrap();
    let world = world.killed().await;
    let old = node(&world, "old").await;
    let mfs = &world.mfs;
    mfs.rename(ME, (old, b"moved"), (ROOT, b"moved"), RenameMode::Replace)
        .await
        .unwrap();
    mfs.rmdir(ME, ROOT, b"old").await.unwrap();
    mfs.checkpoint().await.unwrap();
    let world = world.killed().await;
    node(&world, "moved/fifo").await;
    let file = node(&world, "moved/file").await;
    assert_eq!(world.mfs.attr(file).unwrap().mode, 0o4711);
}

#[tokio::test(flavor = "multi_thread")]
async fn unmounting_takes_what_was_changed_below_with_it() {
    let world = World::new().await;
    let cid = content(&world);
    world.mfs.mount(ME, ROOT, b"m", &cid).await.unwrap();
    let sub = node(&world, "m/sub").await;
    let made = world.file(sub, "made", b"x").await;
    world.mfs.unmount(ME, ROOT, b"m").await.unwrap();
    assert!(matches!(world.mfs.attr(made), Err(TreeError::NotFound)));
    assert!(matches!(world.mfs.attr(sub), Err(TreeError::NotFound)));
    same_after_a_checkpoint(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unmounting_takes_the_names_below_of_what_is_linked_from_outside() {
    let world = World::new().await;
    let cid = content(&world);
    let mounted = world.mfs.mount(ME, ROOT, b"m", &cid).await.unwrap().node;
    let sub = node(&world, "m/sub").await;
    let deep = node(&world, "m/sub/deep").await;
    world
        .mfs
        .link(ME, deep, ROOT, b"outside", false)
        .await
        .unwrap();
    let own = world.file(ROOT, "own", b"own").await;
    world
        .mfs
        .link(ME, own, sub, b"inside", false)
        .await
        .unwrap();
    world
        .mfs
        .link(ME, own, mounted, b"inside too", false)
        .await
        .unwrap();
    let world = same_after_a_checkpoint(world).await;
    // Nothing below the mount is loaded now.
    world.mfs.unmount(ME, ROOT, b"m").await.unwrap();
    for name in ["outside", "own"] {
        assert_eq!(
            world.mfs.attr(node(&world, name).await).unwrap().nlink,
            1,
            "{name}"
        );
    }
    let world = world.killed().await;
    for name in ["outside", "own"] {
        assert_eq!(
            world.mfs.attr(node(&world, name).await).unwrap().nlink,
            1,
            "{name}"
        );
    }
    let own = node(&world, "own").await;
    world.mfs.write(ME, own, 0, b"new", false).await.unwrap();
    same_after_a_checkpoint(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cid_mounted_at_a_directory_does_not_inherit_the_records_of_what_was_there() {
    let world = World::new().await;
    let cid = content(&world);
    let dir = world.dir(ROOT, "d").await;
    let old = world.make(dir, "file", New::File, 0o4700).await;
    world.mfs.checkpoint().await.unwrap();
    world.mfs.unlink(ME, dir, b"file").await.unwrap();
    let value = cid.to_string();
    let set = world
        .mfs
        .set_xattr(ME, dir, b"cidfs.mount", value.as_bytes(), XattrMode::Set);
    set.await.unwrap();
    let new = world.mfs.lookup(dir, b"file", false).await.unwrap();
    assert_ne!(new.node, old.node);
    assert_eq!((new.mode, new.size), (0o644, 8));
    let world = same_after_a_checkpoint(world).await;
    // Emptied, it takes no other content: numbers would come twice.
    let dir = node(&world, "d").await;
    world.mfs.unlink(ME, dir, b"file").await.unwrap();
    let sub = node(&world, "d/sub").await;
    world
        .mfs
        .rename(ME, (dir, b"sub"), (ROOT, b"sub"), RenameMode::Replace)
        .await
        .unwrap();
    let set = world
        .mfs
        .set_xattr(ME, dir, b"cidfs.mount", value.as_bytes(), XattrMode::Set);
    assert!(matches!(set.await, Err(TreeError::Busy(_))));
    world.mfs.unlink(ME, sub, b"deep").await.unwrap();
    let set = world
        .mfs
        .set_xattr(ME, sub, b"cidfs.mount", value.as_bytes(), XattrMode::Set);
    assert!(matches!(set.await, Err(TreeError::Busy(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_and_names_that_no_record_can_hold_are_refused_before_they_are_journaled() {
    let world = World::new().await;
    let mfs = &world.mfs;
    let file = world.file(ROOT, "f", b"").await;
    let big = vec![b'x'; 60 << 10];
    mfs.set_xattr(ME, file, b"user.a", &big, XattrMode::Set)
        .await
        .unwrap();
    let more = mfs
        .set_xattr(ME, file, b"user.b", &big[..30 << 10], XattrMode::Set)
        .await;
    assert!(matches!(more, Err(TreeError::NoSpace(_))), "{more:?}");
    let mut count = 1;
    let refused = loop {
        let name = format!("{count:0200}");
        match mfs.link(ME, file, ROOT, name.as_bytes(), false).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, TreeError::TooManyLinks), "{refused:?}");
    assert!(count > 150, "{count}");
    // A longer name needs room too.
    let long = [b'n'; 255];
    let name = format!("{:0200}", 1);
    let moved = mfs
        .rename(
            ME,
            (ROOT, name.as_bytes()),
            (ROOT, &long),
            RenameMode::Replace,
        )
        .await;
    let room = (40 << 10) - (1 + 16) - (count - 1) * 216;
    assert_eq!(moved.is_ok(), room >= 55, "{moved:?}");
    same_after_a_checkpoint(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_linked_file_goes_with_its_last_name() {
    let plain = World::new().await;
    let linked = World::new().await;
    for world in [&plain, &linked] {
        world.dir(ROOT, "keep").await;
        world.mfs.checkpoint().await.unwrap();
    }
    let file = linked.file(ROOT, "a", b"x").await;
    linked.mfs.link(ME, file, ROOT, b"b", false).await.unwrap();
    linked.mfs.checkpoint().await.unwrap();
    linked.mfs.unlink(ME, ROOT, b"a").await.unwrap();
    linked.mfs.unlink(ME, ROOT, b"b").await.unwrap();
    let made = linked.mfs.checkpoint().await.unwrap();
    let map = cidfs::tree::posix::PosixMap::new(Arc::clone(&linked.blocks));
    let all = map
        .range(&made.posix.unwrap(), &[], None, 100)
        .await
        .unwrap();
    // The root, the directory and its place, and the count of nodes.
    assert_eq!(all.len(), 4, "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_fail_in_the_order_in_which_linux_looks() {
    let world = World::new().await;
    let mfs = &world.mfs;
    let a = world.dir(ROOT, "a").await;
    world.file(a, "f", b"").await;
    let over = mfs
        .rename(ME, (a, b"f"), (ROOT, b"a"), RenameMode::Replace)
        .await;
    assert!(matches!(over, Err(TreeError::NotEmpty)), "{over:?}");
    let below = world.dir(a, "b").await;
    world.file(below, "x", b"").await;
    let into = mfs
        .rename(ME, (ROOT, b"a"), (below, b"x"), RenameMode::NoReplace)
        .await;
    assert!(matches!(into, Err(TreeError::Exists)), "{into:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_that_unixfs_carries_follows_a_change_of_a_sealed_file() {
    let options = MfsOptions {
        store_metadata: true,
        ..MfsOptions::default()
    };
    let world = World::with(options).await;
    let file = world.file(ROOT, "f", b"x").await;
    let link = world
        .make(ROOT, "l", New::Symlink("t".into()), 0)
        .await
        .node;
    let one = world.mfs.checkpoint().await.unwrap();
    let set = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    world.mfs.set_attr(ME, file, set).await.unwrap();
    let two = world.mfs.checkpoint().await.unwrap();
    assert_ne!(one.root, two.root);
    let cid = world.mfs.cid(file).await.unwrap().unwrap();
    let reader = cidfs::unixfs::Reader::new(Arc::clone(&world.blocks));
    assert_eq!(reader.meta(&cid).await.unwrap().mode, Some(0o600));
    let time = cidfs::tree::mfs::Time { sec: 77, nsec: 0 };
    let time = Some(cidfs::tree::mfs::SetTime::At(time));
    let set = SetAttr {
        mtime: time,
        ..SetAttr::default()
    };
    world.mfs.set_attr(ME, link, set).await.unwrap();
    world.mfs.checkpoint().await.unwrap();
    let cid = world.mfs.cid(link).await.unwrap().unwrap();
    assert_eq!(reader.meta(&cid).await.unwrap().mtime.unwrap().seconds, 77);
    same_after_a_checkpoint(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copying_more_unsealed_bytes_than_one_append_takes_is_a_short_copy() {
    let world = World::new().await;
    let mfs = &world.mfs;
    let from = world.file(ROOT, "from", b"").await;
    let to = world.file(ROOT, "to", b"").await;
    let piece = vec![3; (1 << 20) - 1];
    for chunk in 0..20 {
        mfs.write(ME, from, chunk << 20, &piece, false)
            .await
            .unwrap();
    }
    let size = mfs.attr(from).unwrap().size;
    let mut done = 0;
    while done < size {
        let source = CopySource::Node(from);
        let copied = mfs
            .copy_range(ME, source, done, to, done, size - done)
            .await
            .unwrap();
        assert!(copied > 0);
        done += copied;
    }
    assert_eq!(world.read(from).await, world.read(to).await);
    let dir = world.dir(ROOT, "d").await;
    mfs.checkpoint().await.unwrap();
    let cid = mfs.cid(dir).await.unwrap().unwrap();
    let refused = mfs
        .copy_range(ME, CopySource::Content(cid), 0, to, 0, 1)
        .await;
    assert!(
        matches!(refused, Err(TreeError::IsADirectory)),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_far_content_that_is_changed_can_be_sealed_without_its_source() {
    let form = FileForm {
        chunk_bytes: 64,
        ..FileForm::from(Profile::default())
    };
    let options = MfsOptions {
        file_form: Some(form),
        ..MfsOptions::default()
    };
    let world = World::with(options).await;
    let mut dag = Dag::default();
    let leaves: Vec<(Cid, u64)> = (0..4u8)
        .map(|leaf| (dag.leaf(Bytes::from(vec![leaf; 50])), 50))
        .collect();
    let far = dag.file(&leaves);
    for block in &dag.blocks {
        world.place.source.insert(block.clone());
    }
    let mfs = &world.mfs;
    let appended = mfs.mount(ME, ROOT, b"appended", &far).await.unwrap().node;
    mfs.write(ME, appended, 200, b"more", false).await.unwrap();
    let cut = mfs.mount(ME, ROOT, b"cut", &far).await.unwrap().node;
    mfs.write(ME, cut, 60, b"x", false).await.unwrap();
    let longer = mfs.mount(ME, ROOT, b"longer", &far).await.unwrap().node;
    let set = SetAttr {
        size: Some(300),
        ..SetAttr::default()
    };
    mfs.set_attr(ME, longer, set).await.unwrap();
    let copied = world.file(ROOT, "copied", b"").await;
    mfs.copy_range(ME, CopySource::Content(far), 10, copied, 0, 20)
        .await
        .unwrap();
    for block in &dag.blocks {
        world.place.source.remove(block.cid());
    }
    // Fetched blocks go with their packs; own ones stay.
    world.blocks.flush().unwrap();
    let world = world.killed().await;
    world.blocks.close();
    for pack in world.place.packs("cache") {
        std::fs::remove_file(pack).unwrap();
    }
    let world = world.killed().await;
    assert!(!world.blocks.has_local(&leaves[2].0), "it was never cut");
    world.mfs.checkpoint().await.unwrap();
    let copied = node(&world, "copied").await;
    assert_eq!(world.read(copied).await, [0; 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_and_a_mode_that_are_set_at_once_are_one_transaction() {
    let world = World::new().await;
    let file = world.file(ROOT, "f", b"12345").await;
    let last = world.mfs.journal().last();
    let set = SetAttr {
        size: Some(2),
        mode: Some(0o600),
        ..SetAttr::default()
    };
    world.mfs.set_attr(ME, file, set).await.unwrap();
    let frames = world.mfs.journal().reader().frames(last.next()).unwrap();
    let transactions: Vec<u64> = frames.map(|frame| frame.unwrap().head.tx.0).collect();
    assert_eq!(transactions.len(), 3, "two changes and their commit");
    assert!(transactions[0] > 0 && transactions.iter().all(|tx| *tx == transactions[0]));
    // A later run gives other numbers.
    let world = world.reopen().await;
    let file = node(&world, "f").await;
    let last = world.mfs.journal().last();
    world.mfs.set_attr(ME, file, set).await.unwrap();
    let frame = world
        .mfs
        .journal()
        .reader()
        .get(last.next())
        .unwrap()
        .unwrap();
    assert!(frame.head.tx.0 > transactions[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_at_a_directory_that_is_not_loaded_is_replayed_on_that_directory() {
    let world = World::new().await;
    let cid = content(&world).to_string();
    world.make(ROOT, "d", New::Directory, 0o4700).await;
    let world = world.reopen().await;
    let dir = node(&world, "d").await;
    let set = world
        .mfs
        .set_xattr(ME, dir, b"cidfs.mount", cid.as_bytes(), XattrMode::Set);
    set.await.unwrap();
    let before = dump(&world.mfs).await;
    let world = world.killed().await;
    assert_eq!(dump(&world.mfs).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_while_a_checkpoint_is_made_stays_away() {
    for round in 0..12 {
        let world = World::with(crate::mfs_sim::quiet()).await;
        let dir = world.dir(ROOT, "d").await;
        for name in 0..40 {
            world.file(dir, &format!("f{name}"), &[7; 100]).await;
        }
        let mfs = Arc::clone(&world.mfs);
        let checkpoint = tokio::spawn(async move { mfs.checkpoint().await });
        // At another moment of it each time.
        tokio::time::sleep(std::time::Duration::from_micros(250 * round)).await;
        for name in 0..40 {
            world
                .mfs
                .unlink(ME, dir, format!("f{name}").as_bytes())
                .await
                .unwrap();
        }
        checkpoint.await.unwrap().unwrap();
        world.mfs.checkpoint().await.unwrap();
        let world = world.killed().await;
        let dir = node(&world, "d").await;
        assert_eq!(
            world.mfs.readdir(dir, 0, 9).await.unwrap(),
            [],
            "round {round}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_file_below_a_mount_is_found_by_its_other_name_after_a_start() {
    let world = World::new().await;
    let cid = content(&world);
    world.mfs.mount(ME, ROOT, b"m", &cid).await.unwrap();
    world.mfs.checkpoint().await.unwrap();
    let deep = node(&world, "m/sub/deep").await;
    world
        .mfs
        .link(ME, deep, ROOT, b"outside", false)
        .await
        .unwrap();
    let world = same_after_a_checkpoint(world).await;
    let world = world.killed().await;
    let outside = node(&world, "outside").await;
    world
        .mfs
        .write(ME, outside, 0, b"new", false)
        .await
        .unwrap();
    let world = same_after_a_checkpoint(world).await;
    assert_eq!(
        world.read(node(&world, "m/sub/deep").await).await,
        b"new away"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_owner_takes_setuid_from_everything_but_directories() {
    let world = World::new().await;
    let set = SetAttr {
        uid: Some(7),
        ..SetAttr::default()
    };
    for (name, new, mode) in [("fifo", New::Fifo, 0o644), ("dir", New::Directory, 0o4644)] {
        let node = world.make(ROOT, name, new, 0o4644).await.node;
        assert_eq!(
            world.mfs.set_attr(ME, node, set).await.unwrap().mode,
            mode,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tall_tree_that_is_shared_behind_a_few_leaves_stays_there() {
    let form = FileForm {
        chunk_bytes: 64,
        links_max: 3,
        ..FileForm::from(Profile::default())
    };
    let options = MfsOptions {
        file_form: Some(form),
        ..MfsOptions::default()
    };
    let world = World::with(options).await;
    let bytes: Vec<u8> = (0..1200_u32).map(|at| (at / 5) as u8).collect();
    let from = world.file(ROOT, "from", &bytes).await;
    world.mfs.checkpoint().await.unwrap();
    let to = world.file(ROOT, "to", &[7; 65]).await;
    let source = CopySource::Node(from);
    world
        .mfs
        .copy_range(ME, source, 0, to, 65, 1200)
        .await
        .unwrap();
    let world = same_after_a_checkpoint(world).await;
    let to = node(&world, "to").await;
    assert!(world.read(to).await == [&[7; 65], &bytes[..]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_come_while_a_checkpoint_is_made_wait_for_the_next() {
    let world = World::new().await;
    let mut came_between = 0;
    for round in 0..150 {
        let mfs = Arc::clone(&world.mfs);
        let making = tokio::spawn(async move { mfs.checkpoint().await.unwrap() });
        for part in 0..4 {
            world
                .make(ROOT, &format!("{round}-{part}"), New::File, 0o644)
                .await;
        }
        let made = making.await.unwrap();
        let waiting = world.mfs.figures().unwrap().changes;
        let next = world.mfs.checkpoint().await.unwrap();
        let is_new = next.sequence > made.sequence;
        assert!(
            waiting > 0 || !is_new,
            "round {round}: nobody would ask for it"
        );
        came_between += u32::from(is_new);
        assert_eq!(world.mfs.figures().unwrap().changes, 0);
    }
    assert!(
        came_between > 0,
        "no change came while a checkpoint was made"
    );
}
