//! A repository on a small disk of its own that is full to the last block.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::world::text;
use crate::writable::{Writable, is_root};

/// A small disk, mounted where the repository is to be.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, said aloud, where this machine has no such disk.
    fn new(kind: &str, image: &Path, dir: &Path) -> Option<Self> {
        fs::create_dir(dir).unwrap();
        let script = match kind {
            "tmpfs" => "mount -t tmpfs -o size=400m,mode=700 none \"$D\"",
            _ => {
                "truncate -s 400M \"$I\" && mkfs.ext4 -q -m 0 \"$I\" && \
                 mount -o loop \"$I\" \"$D\""
            }
        };
        let mut command = Command::new("bash");
        command.args(["-euc", script]).env("I", image).env("D", dir);
        let output = command.stdin(Stdio::null()).output().unwrap();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            eprintln!("SKIPPED: no {kind} can be mounted: {why}");
            return None;
        }
        Some(Self(dir.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut command = Command::new("umount");
        drop(command.arg("-l").arg(&self.0).status());
    }
}

fn on_a_full(kind: &str) {
    if !is_root() {
        eprintln!("SKIPPED: a disk can only be mounted by root");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let (image, repo) = (temp.path().join("image"), temp.path().join("repo"));
    let Some(_disk) = SmallDisk::new(kind, &image, &repo) else {
        return;
    };
    fs::write(repo.join("config.toml"), "[tree]\nsnapshots_kept = 1\n").unwrap();
    let world = Writable::at(&repo, "allow_other");
    fs::write(world.path("kept"), "kept").unwrap();
    // What is left when writing has ended somebody else takes, and what a checkpoint
    // that the full disk has asked for gives back. A few blocks may be free that the
    // file system gives to nobody.
    let fill = "i=0; while head -c 30M /dev/urandom > big.$i; do i=$((i+1)); done 2>$N/why || true; \
                grep -c 'No space' $N/why; \
                for try in $(seq 100); do cat /dev/zero >> $R/filler 2>/dev/null || true; \
                left=$(stat -f -c %a $R); [ $left -ge 100 ] || break; sleep 0.1; done; \
                [ $left -ge 100 ] || echo full";
    let fill = fill.replace("$R", repo.to_str().unwrap());
    assert_eq!(world.sh(&fill), "1\nfull\n", "{kind}: written to its end");
    world.sh("rm big.*");
    world.cidfs(&["journal", "checkpoint"]);
    let refused = world.refused("echo more > more");
    assert!(refused.contains("No space"), "{kind}: {refused}");
    let status = text(&world.cidfs(&["status"]));
    assert!(status.contains("spent 1,"), "{kind}: {status}");
    world.cidfs(&["gc"]);
    world.sh("dd if=/dev/urandom of=again bs=1M count=60 status=none; sync again; rm again");
    assert_eq!(world.sh("cat kept; ls"), "keptkept\n");
}

#[test]
fn on_an_ext4_without_room_deletions_and_checkpoints_work_and_a_collection_gives_it_back() {
    on_a_full("ext4");
}

#[test]
fn on_a_tmpfs_without_room_deletions_and_checkpoints_work_and_a_collection_gives_it_back() {
    on_a_full("tmpfs");
}

/// One pack has nearly all that the disk holds, and most of it is live.
fn recipe_on_a_full(kind: &str) {
    if !is_root() {
        eprintln!("SKIPPED: a disk can only be mounted by root");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let (image, repo) = (temp.path().join("image"), temp.path().join("repo"));
    let Some(_disk) = SmallDisk::new(kind, &image, &repo) else {
        return;
    };
    let world = Writable::at(&repo, "allow_other");
    // Each is in a pack when the next comes, and the journal lets go of it.
    let fill = |number: u32| {
        let file = format!("head -c 20M /dev/urandom > b.{number} && sync b.{number}");
        let full = world.sh(&format!("{{ {file}; }} 2>&1 | grep -c 'No space' || true")) != "0\n";
        world.cidfs(&["journal", "checkpoint"]);
        full
    };
    // What a checkpoint gives back is written full too.
    let mut refused = 0;
    let tried = (0..60).take_while(|number| {
        refused = if fill(*number) { refused + 1 } else { 0 };
        refused < 3
    });
    let tried = tried.count();
    let kept: u64 = world
        .sh("du -cm b.* | tail -1 | cut -f1")
        .trim()
        .parse()
        .unwrap();
    assert!(
        (160..400).contains(&kept),
        "{kind}: {kept} MiB after {tried} files"
    );
    // Some of it is for the reserve, which the checkpoints have used.
    let sums = world.sh("rm b.0 b.1 b.2 b.3 b.4; sha256sum b.*");
    world.cidfs(&["snapshot", "rm", "--keep", "1"]);
    let said = text(&world.cidfs(&["gc"]));
    assert!(!said.contains("could not"), "{kind}: {said}");
    world.sh("head -c 30M /dev/urandom > again; sync again");
    assert_eq!(world.sh("sha256sum b.*"), sums, "{kind}");
    let clean = text(&world.cidfs(&["verify"]));
    assert!(clean.contains("are sound"), "{kind}: {clean}");
}

#[test]
fn on_a_full_ext4_the_recipe_gives_room_where_one_pack_has_it_all_and_most_is_live() {
    recipe_on_a_full("ext4");
}

#[test]
fn on_a_full_tmpfs_the_recipe_gives_room_where_one_pack_has_it_all_and_most_is_live() {
    recipe_on_a_full("tmpfs");
}
