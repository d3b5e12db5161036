//! The journal of a tree, as a file in the tree: what it says today is what it
//! said when it was written.
//!
//! `CIDFS_WRITE_FIXTURES=1` writes it anew, with the same bytes each time.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cidfs::disk::Disk;
use cidfs::testing::sim_disk::SimDisk;
use cidfs::tree::mfs::path::TreePath;
use cidfs::tree::mfs::{
    Allocate, New, NodeId, RenameMode, SetAttr, SetTime, Staged, Time, XattrMode,
};

use crate::mfs_crash::seen;
use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::ME;
use crate::store_support::runtime;

const ROOT: NodeId = NodeId::ROOT;

fn fixture() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/fixtures/journal/v1/tree/00000000000000000001.seg")
}

async fn make(sim: &Sim, dir: NodeId, name: &str, new: New) -> NodeId {
    sim.clock.tick();
    let made = sim
        .mfs
        .make(ME, dir, name.as_bytes(), new, 0o644, 0o022, false);
    made.await.unwrap().node
}

/// A change of each kind that needs no blocks.
async fn grown(sim: &Sim) {
    let mfs = &sim.mfs;
    let dir = make(sim, ROOT, "dir", New::Directory).await;
    let file = make(sim, dir, "file", New::File).await;
    mfs.write(ME, file, 0, b"hello, world", false)
        .await
        .unwrap();
    mfs.write(ME, file, 9000, b"behind a hole", true)
        .await
        .unwrap();
    mfs.allocate(ME, file, Allocate::Punch, 2, 3).await.unwrap();
    let size = SetAttr {
        size: Some(9005),
        ..SetAttr::default()
    };
    mfs.set_attr(ME, file, size).await.unwrap();
    make(sim, dir, "link", New::Symlink("file".into())).await;
    make(sim, ROOT, "fifo", New::Fifo).await;
    make(sim, ROOT, "device", New::CharDevice(259)).await;
    mfs.link(ME, file, ROOT, b"hard", false).await.unwrap();
    let set = mfs.set_xattr(ME, file, b"user.a", b"value", XattrMode::Create);
    set.await.unwrap();
    mfs.set_xattr(ME, dir, b"user.b", b"", XattrMode::Set)
        .await
        .unwrap();
    mfs.remove_xattr(ME, dir, b"user.b").await.unwrap();
    let attr = SetAttr {
        mode: Some(0o2710),
        uid: Some(7),
        gid: Some(8),
        mtime: Some(SetTime::At(Time { sec: -5, nsec: 6 })),
        ..SetAttr::default()
    };
    mfs.set_attr(ME, dir, attr).await.unwrap();
    let copy = make(sim, ROOT, "copy", New::File).await;
    let from = cidfs::tree::mfs::CopySource::Node(file);
    assert_eq!(mfs.copy_range(ME, from, 0, copy, 4, 8).await.unwrap(), 8);
    let moved = mfs.rename(ME, (ROOT, b"fifo"), (dir, b"pipe"), RenameMode::NoReplace);
    moved.await.unwrap();
    make(sim, ROOT, "gone", New::Directory).await;
    mfs.rmdir(ME, ROOT, b"gone").await.unwrap();
    mfs.unlink(ME, ROOT, b"device").await.unwrap();
    for (name, ends) in [("one", true), ("other", false)] {
        let id = mfs.begin_transaction(ME, Duration::from_secs(60)).unwrap();
        for name in [name.to_owned(), format!("{name}/below")] {
            let path = TreePath::parse(name.as_bytes()).unwrap();
            let staged = Staged::Mkdir {
                path,
                mode: 0o700,
                parents: false,
            };
            mfs.stage(id, staged).unwrap();
        }
        match ends {
            true => drop(mfs.commit_transaction(id).await.unwrap()),
            false => mfs.roll_back(id).unwrap(),
        }
    }
    mfs.sync().unwrap();
}

fn segment(sim: &Sim) -> PathBuf {
    sim.place.path("journal/00000000000000000001.seg")
}

#[test]
fn a_tree_comes_of_the_journal_of_an_earlier_version_as_it_was() {
    runtime().block_on(async {
        let sim = Sim::new(quiet()).await;
        grown(&sim).await;
        let wanted = seen(&sim.mfs).await.unwrap();
        let bytes = sim.disk.read(&segment(&sim), 1 << 20).unwrap();
        if std::env::var_os("CIDFS_WRITE_FIXTURES").is_some() {
            std::fs::create_dir_all(fixture().parent().unwrap()).unwrap();
            std::fs::write(fixture(), &bytes).unwrap();
        }
        let kept = std::fs::read(fixture()).unwrap();
        let disk = SimDisk::new();
        disk.make_dirs(segment(&sim).parent().unwrap()).unwrap();
        let file = disk.create(&segment(&sim)).unwrap();
        assert_eq!(file.append(&[IoSlice::new(&kept)]).unwrap(), kept.len());
        let old = sim.beside(disk).await;
        assert_eq!(old.mfs.recovery().errors, Vec::<String>::new());
        assert!(old.mfs.recovery().entries_applied > 20);
        assert_eq!(seen(&old.mfs).await.unwrap(), wanted);
        assert!(kept == bytes, "the current format is that of the fixture");
        old.end().await;
        sim.end().await;
    });
}
