//! What somebody may spend, keep or reach, and what must go on working then.

use cidfs::tree::TreeError;
use cidfs::tree::mfs::path::TreePath;
use cidfs::tree::mfs::{
    Allocate, Caller, Mfs, MfsOptions, New, NodeId, RenameMode, SetAttr, SetTime, Staged, Time,
    XattrMode,
};

use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::{ME, World};

const ROOT: NodeId = NodeId::ROOT;
const ACL: &[u8] = b"system.posix_acl_access";

fn mode(mode: u32) -> SetAttr {
    SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    }
}

fn mtime(sec: i64) -> SetAttr {
    SetAttr {
        mtime: Some(SetTime::At(Time { sec, nsec: 0 })),
        ..SetAttr::default()
    }
}

async fn make(mfs: &Mfs, parent: NodeId, name: &[u8], new: New) -> Result<NodeId, TreeError> {
    let made = mfs.make(ME, parent, name, new, 0o755, 0, false).await?;
    Ok(made.node)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sets_times_on_a_full_disk_cannot_spend_what_is_kept_for_removing() {
    let sim = Sim::new(quiet()).await;
    let mut dir = ROOT;
    for _ in 0..8 {
        dir = make(&sim.mfs, dir, &[b'd'; 250], New::Directory)
            .await
            .unwrap();
    }
    let node = make(&sim.mfs, dir, b"f", New::File).await.unwrap();
    sim.mfs.write(ME, node, 0, &[1; 1000], false).await.unwrap();
    let set = async |sec: i64| sim.mfs.set_attr(ME, node, mtime(sec)).await;
    sim.disk.set_bytes_max(Some(1 << 40));
    let free = cidfs::disk::Disk::free_bytes(&sim.disk, std::path::Path::new("/")).unwrap();
    sim.disk.set_bytes_max(Some((1 << 40) - free));
    while sim
        .mfs
        .write(ME, node, 5, &vec![2; 500 << 10], false)
        .await
        .is_ok()
    {}
    let mut count = 0;
    let full = loop {
        match set(count).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 20_000, "the disk is never full");
    };
    assert!(matches!(full, TreeError::NoSpace(_)), "{full:?}");
    let cut = SetAttr {
        size: Some(10),
        ..SetAttr::default()
    };
    sim.mfs.set_attr(ME, node, cut).await.unwrap();
    let more = SetAttr {
        size: Some(2000),
        ..SetAttr::default()
    };
    let more = sim.mfs.set_attr(ME, node, more).await;
    assert!(matches!(more, Err(TreeError::NoSpace(_))), "{more:?}");
    sim.mfs.unlink(ME, dir, b"f").await.unwrap();
    sim.disk.set_bytes_max(None);
    sim.mfs.close().await;
}

/// A tree on a disk that has no room but what is kept for removing; `/f` has 1000 bytes.
async fn full() -> (Sim, NodeId) {
    let sim = Sim::new(quiet()).await;
    let node = make(&sim.mfs, ROOT, b"f", New::File).await.unwrap();
    sim.mfs.write(ME, node, 0, &[1; 1000], false).await.unwrap();
    sim.disk.set_bytes_max(Some(1 << 40));
    let free = cidfs::disk::Disk::free_bytes(&sim.disk, std::path::Path::new("/")).unwrap();
    sim.disk.set_bytes_max(Some((1 << 40) - free));
    let big = make(&sim.mfs, ROOT, b"big", New::File).await.unwrap();
    let write = async |len: usize| sim.mfs.write(ME, big, 5, &vec![2; len], false).await;
    while write(500 << 10).await.is_ok() {}
    // The shortest entry that is not for what frees.
    let same = SetAttr {
        size: Some(1000),
        ..SetAttr::default()
    };
    while sim.mfs.set_attr(ME, node, same).await.is_ok() {}
    (sim, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_what_frees_goes_on_and_what_could_grow_does_not() {
    let (sim, node) = full().await;
    let punch = async |at, len| sim.mfs.allocate(ME, node, Allocate::Punch, at, len).await;
    // A part of a chunk takes room of its own, and a hole that is there has none to give.
    for (at, len) in [(10, 5), (5000, 100)] {
        let refused = punch(at, len).await;
        assert!(matches!(refused, Err(TreeError::NoSpace(_))), "{refused:?}");
    }
    let truncate = async |size| {
        let path = TreePath::parse(b"/f").unwrap();
        let staged = [Staged::Truncate { path, size }];
        sim.mfs.perform_staged(ME, &staged).await
    };
    let refused = truncate(2000).await;
    assert!(refused.is_err(), "{refused:?}");
    truncate(500).await.expect("it gives room");
    punch(0, 500).await.expect("all that there is");
    let refused = punch(0, 500).await;
    assert!(matches!(refused, Err(TreeError::NoSpace(_))), "{refused:?}");
    sim.disk.set_bytes_max(None);
    sim.mfs.close().await;
}

fn acl() -> Vec<u8> {
    let mut out = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in [
        (1_u16, 7_u16, u32::MAX),
        (2, 4, 12345),
        (4, 5, u32::MAX),
        (0x10, 5, u32::MAX),
        (0x20, 5, u32::MAX),
    ] {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acl_set_by_somebody_outside_the_group_takes_setgid_away() {
    let world = World::new().await;
    let root = Caller { uid: 0, ..ME };
    let member = Caller { gid: 2000, ..ME };
    for (name, caller, left) in [("a", ME, 0o755), ("b", root, 0o2755), ("c", member, 0o2755)] {
        let node = world.make(ROOT, name, New::File, 0o755).await.node;
        let set = SetAttr {
            gid: Some(2000),
            ..SetAttr::default()
        };
        world.mfs.set_attr(root, node, set).await.unwrap();
        let set = world.mfs.set_attr(root, node, mode(0o2755));
        assert_eq!(set.await.unwrap().mode, 0o2755);
        let value = acl();
        let set = world
            .mfs
            .set_xattr(caller, node, ACL, &value, XattrMode::Set);
        set.await.unwrap();
        assert_eq!(world.mfs.attr(node).unwrap().mode, left, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cid_of_a_node_follows_what_unixfs_carries_of_its_attributes() {
    let world = World::with(MfsOptions {
        store_metadata: true,
        ..quiet()
    })
    .await;
    let file = world.file(ROOT, "f", b"some bytes").await;
    let link = world
        .make(ROOT, "l", New::Symlink("t".into()), 0)
        .await
        .node;
    let cid = async |node| world.mfs.cid(node).await.unwrap().unwrap();
    world.mfs.checkpoint().await.unwrap();
    for (node, sets) in [
        (file, vec![mode(0o600), mtime(5), mode(0o640)]),
        (link, vec![mtime(7)]),
    ] {
        for set in sets {
            let before = cid(node).await;
            world.mfs.set_attr(ME, node, set).await.unwrap();
            let after = cid(node).await;
            assert_ne!(before, after, "{set:?}");
            assert_eq!(cid(node).await, after);
            let reader = cidfs::unixfs::Reader::new(world.blocks.clone());
            let meta = reader.meta(&after).await.unwrap();
            if let Some(mode) = set.mode {
                assert_eq!(meta.mode, Some(mode));
            }
            assert_eq!(world.read(file).await, b"some bytes");
            world.mfs.checkpoint().await.unwrap();
            assert_eq!(cid(node).await, after, "what a checkpoint gives");
        }
    }
}

/// Directories with the longest names, each in the one before.
async fn chain(mfs: &Mfs, depth: usize) -> Vec<NodeId> {
    let mut dirs = vec![ROOT];
    for above in 0..depth {
        let made = make(mfs, dirs[above], &[b'd'; 255], New::Directory);
        dirs.push(made.await.unwrap());
    }
    dirs
}

/// Changes of every kind in a directory.
async fn change_everything(mfs: &Mfs, dir: NodeId, bytes: &[u8]) {
    let node = make(mfs, dir, b"f", New::File).await.unwrap();
    mfs.write(ME, node, 5, bytes, false).await.unwrap();
    mfs.link(ME, node, dir, b"other", false).await.unwrap();
    let value = vec![7; 60 << 10];
    let set = mfs.set_xattr(ME, node, b"user.x", &value, XattrMode::Set);
    set.await.unwrap();
    let replace = RenameMode::Replace;
    let moved = mfs.rename(ME, (dir, b"other"), (dir, b"moved"), replace);
    moved.await.unwrap();
    mfs.set_attr(ME, node, mode(0o600)).await.unwrap();
    make(mfs, dir, b"gone", New::Directory).await.unwrap();
    mfs.rmdir(ME, dir, b"gone").await.unwrap();
}

async fn at_depth(mfs: &Mfs, depth: usize) -> NodeId {
    let mut at = ROOT;
    for _ in 0..depth {
        at = mfs.lookup(at, &[b'd'; 255], false).await.unwrap().node;
    }
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn where_something_can_be_made_it_can_be_changed_and_recovered_however_long_its_path_is() {
    let mut world = World::with(quiet()).await;
    let dirs = chain(&world.mfs, 2100).await;
    let bytes: Vec<u8> = (0..3 << 20).map(|at: u32| (at % 251) as u8).collect();
    // Half a million bytes of path; at first all that is above was made since the
    // checkpoint, and then nothing of it is loaded.
    for depth in [2100, 2050] {
        let dir = at_depth(&world.mfs, depth).await;
        assert_eq!(dir, dirs[depth]);
        change_everything(&world.mfs, dir, &bytes).await;
        world = world.killed().await;
        assert_eq!(world.mfs.recovery().errors, Vec::<String>::new(), "{depth}");
        assert!(world.mfs.recovery().entries_applied >= 8);
        let dir = at_depth(&world.mfs, depth).await;
        let found = world.mfs.lookup(dir, b"moved", false).await.unwrap();
        assert_eq!((found.nlink, found.mode), (2, 0o600));
        let read = world.read(found.node).await;
        assert_eq!(read[5..], bytes, "{depth}");
        world = world.reopen().await;
    }
}
