//! The writable tree by itself: what is done is there, also after a restart.

use cidfs::tree::TreeError;
use cidfs::tree::mfs::{MfsOptions, New, NodeId, RenameMode, SetAttr, XattrMode};

use crate::mfs_support::{ME, World, dump};

const ROOT: NodeId = NodeId::ROOT;

async fn a_bit_of_everything(world: &World) {
    let mfs = &world.mfs;
    let dir = world.dir(ROOT, "dir").await;
    let file = world.file(dir, "file", b"hello").await;
    world.file(ROOT, "big", &vec![7; 3 << 20]).await;
    let odd = world.file(ROOT, "odd", &vec![9; (1 << 20) + 5]).await;
    mfs.write(ME, odd, 10, b"over", false).await.unwrap();
    mfs.write(ME, odd, 2 << 20, b"behind a hole", false)
        .await
        .unwrap();
    world
        .make(ROOT, "link", New::Symlink("dir/file".into()), 0)
        .await;
    world.make(dir, "fifo", New::Fifo, 0o600).await;
    world.make(dir, "null", New::CharDevice(259), 0o666).await;
    mfs.link(ME, file, ROOT, b"second", false).await.unwrap();
    mfs.set_xattr(ME, file, b"user.color", b"blue", XattrMode::Set)
        .await
        .unwrap();
    let set = SetAttr {
        mode: Some(0o4711),
        uid: Some(5),
        ..SetAttr::default()
    };
    mfs.set_attr(ME, dir, set).await.unwrap();
    world
        .make(ROOT, "\u{fc}mlaut \u{1f600}", New::Directory, 0o700)
        .await;
    let gone = world.file(ROOT, "gone", b"x").await;
    mfs.unlink(ME, ROOT, b"gone").await.unwrap();
    assert!(mfs.attr(gone).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_kill_and_after_an_orderly_end() {
    let world = World::new().await;
    a_bit_of_everything(&world).await;
    let before = dump(&world.mfs).await;
    assert_eq!(before.len(), 10);
    let world = world.killed().await;
    assert_eq!(world.mfs.recovery().errors, Vec::<String>::new());
    assert_eq!(dump(&world.mfs).await, before, "after a kill");
    let world = world.reopen().await;
    assert_eq!(
        world.mfs.recovery().entries_seen,
        1,
        "the checkpoint itself"
    );
    assert_eq!(dump(&world.mfs).await, before, "after an orderly end");
    // Changes over a checkpoint.
    let dir = world.mfs.lookup(ROOT, b"dir", false).await.unwrap().node;
    world
        .mfs
        .rename(ME, (dir, b"file"), (ROOT, b"moved"), RenameMode::Replace)
        .await
        .unwrap();
    let moved = world.mfs.lookup(ROOT, b"second", false).await.unwrap();
    assert_eq!(moved.nlink, 2);
    world
        .mfs
        .write(ME, moved.node, 5, b" world", false)
        .await
        .unwrap();
    let before = dump(&world.mfs).await;
    let world = world.killed().await;
    assert_eq!(
        dump(&world.mfs).await,
        before,
        "changes over a checkpoint, after a kill"
    );
    let world = world.reopen().await;
    assert_eq!(
        dump(&world.mfs).await,
        before,
        "changes over a checkpoint, after an end"
    );
    let file = world.mfs.lookup(ROOT, b"moved", false).await.unwrap().node;
    assert_eq!(world.read(file).await, b"hello world");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_packs_and_the_checkpoint_are_needed() {
    let world = World::new().await;
    a_bit_of_everything(&world).await;
    let before = dump(&world.mfs).await;
    let made = world.mfs.checkpoint().await.unwrap();
    let again = world.mfs.checkpoint().await.unwrap();
    assert_eq!(made, again, "nothing changed");
    let world = world.killed().await;
    assert_eq!(world.mfs.recovery().entries_applied, 0);
    assert_eq!(world.mfs.recovery().checkpoint, Some(made.sequence));
    assert_eq!(dump(&world.mfs).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_names_hold() {
    let world = World::new().await;
    let mfs = &world.mfs;
    let dir = world.dir(ROOT, "dir").await;
    let below = world.dir(dir, "below").await;
    let file = world.file(ROOT, "file", b"").await;
    macro_rules! refused {
        ($call:expr, $error:pat) => {
            let got = $call.await;
            assert!(matches!(got, Err($error)), "{got:?}");
        };
    }
    refused!(mfs.rmdir(ME, ROOT, b"dir"), TreeError::NotEmpty);
    refused!(mfs.unlink(ME, ROOT, b"dir"), TreeError::IsADirectory);
    refused!(mfs.rmdir(ME, ROOT, b"file"), TreeError::NotADirectory);
    refused!(mfs.unlink(ME, ROOT, b"none"), TreeError::NotFound);
    refused!(
        mfs.link(ME, dir, ROOT, b"x", false),
        TreeError::NotPermitted(_)
    );
    refused!(
        mfs.make(ME, ROOT, b"file", New::File, 0o644, 0, false),
        TreeError::Exists
    );
    refused!(
        mfs.make(ME, ROOT, &[b'n'; 256], New::File, 0o644, 0, false),
        TreeError::NameTooLong
    );
    refused!(
        mfs.rename(ME, (ROOT, b"dir"), (below, b"x"), RenameMode::Replace),
        TreeError::Invalid(_)
    );
    refused!(
        mfs.rename(ME, (ROOT, b"file"), (ROOT, b"dir"), RenameMode::Replace),
        TreeError::IsADirectory
    );
    refused!(
        mfs.rename(ME, (ROOT, b"file"), (ROOT, b"dir"), RenameMode::NoReplace),
        TreeError::Exists
    );
    mfs.rename(ME, (ROOT, b"file"), (dir, b"below"), RenameMode::Exchange)
        .await
        .unwrap();
    assert_eq!(mfs.lookup(ROOT, b"file", false).await.unwrap().node, below);
    assert_eq!(mfs.lookup(dir, b"below", false).await.unwrap().node, file);
    mfs.unlink(ME, dir, b"below").await.unwrap();
    mfs.rmdir(ME, ROOT, b"dir").await.unwrap();
    refused!(mfs.lookup(dir, b"x", false), TreeError::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unlinked_while_it_is_held_lives_until_it_is_let_go() {
    let world = World::new().await;
    let mfs = &world.mfs;
    let attr = mfs
        .make(ME, ROOT, b"f", New::File, 0o644, 0, true)
        .await
        .unwrap();
    mfs.write(ME, attr.node, 0, b"kept", false).await.unwrap();
    mfs.unlink(ME, ROOT, b"f").await.unwrap();
    mfs.checkpoint().await.unwrap();
    assert_eq!(mfs.attr(attr.node).unwrap().nlink, 0);
    mfs.write(ME, attr.node, 4, b" still", false).await.unwrap();
    assert_eq!(world.read(attr.node).await, b"kept still");
    mfs.release(attr.node, 1);
    assert!(matches!(mfs.attr(attr.node), Err(TreeError::NotFound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_the_old_profile_works_too() {
    let options = MfsOptions {
        profile: cidfs::unixfs::profile::Profile::UnixfsV0_2015,
        ..MfsOptions::default()
    };
    let world = World::with(options).await;
    a_bit_of_everything(&world).await;
    let before = dump(&world.mfs).await;
    let world = world.reopen().await;
    assert_eq!(dump(&world.mfs).await, before);
}
