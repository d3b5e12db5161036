//! What somebody may spend, keep or reach, and what must go on working then.

use cidfs::tree::TreeError;
use cidfs::tree::mfs::{Caller, Mfs, MfsOptions, New, NodeId, SetAttr, SetTime, Time, XattrMode};

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
