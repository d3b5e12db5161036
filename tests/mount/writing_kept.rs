//! What is kept: holes over a restart, and all that a checkpoint has of a tree.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::world::text;
use crate::writable::{Writable, checked, errno, fd, is_root, open};

const OPTIONS: &str = "allow_other,suid,dev";

impl Writable {
    /// Ends the daemon in order and begins anew: nothing is in any memory.
    fn restart(&self) {
        self.cidfs(&["shutdown", "--force"]);
        let top = self.top.to_str().unwrap();
        self.cidfs(&["mount", "-o", OPTIONS, "/", top]);
    }

    /// Makes a checkpoint; gives its number.
    fn checkpoint(&self) -> String {
        self.cidfs(&["journal", "checkpoint"]);
        let kept = text(&self.cidfs(&["--json", "snapshot", "ls"]));
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        kept["snapshots"][0]["sequence"].to_string()
    }
}

/// Where a file has data, as begin and end.
fn data(file: &File) -> Vec<(i64, i64)> {
    let seek = |at: i64, whence| {
        // SAFETY: the file is open.
        #[allow(unsafe_code)]
        checked(unsafe { libc::lseek(fd(file), at, whence) })
    };
    let (mut found, mut at) = (Vec::new(), 0);
    while let Ok(begin) = seek(at, libc::SEEK_DATA) {
        at = seek(begin, libc::SEEK_HOLE).unwrap();
        found.push((begin, at));
    }
    found
}

#[test]
fn a_sparse_file_is_as_sparse_after_a_checkpoint_and_a_restart() {
    let world = Writable::new();
    let file = open(&world.path("sparse"));
    for at in [0, 300_000, 5 << 20, 200 << 20] {
        file.write_all_at(&[7; 5000], at).unwrap();
    }
    file.set_len(1 << 30).unwrap();
    world.sh("truncate -s 4G hole; cp --sparse=always sparse copy; dd if=/dev/zero of=zeros bs=1M count=3 2>&1");
    let names = ["sparse", "hole", "copy", "zeros"];
    let seen = || {
        let one = |name: &&str| {
            let file = File::open(world.path(name)).unwrap();
            let meta = file.metadata().unwrap();
            (meta.len(), meta.blocks(), data(&file))
        };
        names.iter().map(one).collect::<Vec<_>>()
    };
    let before = seen();
    assert_eq!(before[0].2.len(), 4);
    assert_eq!(before[0].1, 20_000u64.div_ceil(512));
    assert_eq!((before[1].1, before[1].2.len()), (0, 0));
    assert_eq!(before[3].1, (3 << 20) / 512);
    drop(file);
    world.checkpoint();
    assert_eq!(seen(), before, "after a checkpoint");
    let usage = world.sh("du -k --apparent-size sparse; du -k sparse hole");
    world.restart();
    world.sh("echo 3 > /proc/sys/vm/drop_caches 2> /dev/null || true");
    assert_eq!(seen(), before, "after a restart");
    assert_eq!(
        world.sh("du -k --apparent-size sparse; du -k sparse hole"),
        usage
    );
    // A copy takes no more than the data, and a hole of the copy is one.
    world.sh(r#"cp --sparse=auto sparse "$N/" && cmp sparse "$N/sparse" && test $(du -k "$N/sparse" | cut -f1) -lt 200"#);
}

#[test]
fn a_snapshot_shows_all_that_was_there_and_copies_take_it_along() {
    if !is_root() {
        return;
    }
    let world = Writable::new();
    world.sh(r#"
        mkdir -p t/d/e t/empty && cd t
        echo one > d/one && ln d/one d/e/two && ln -s d/one link
        mkfifo -m 640 pipe && mknod null c 1 3 && chmod 666 null
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
        cp /bin/true setuid && chown 1234:4321 setuid d/e && chmod 4711 setuid
        chmod 1777 empty && chown -h 77:88 link
        setfattr -n user.color -v blue d/one && setfattr -n trusted.x -v y d
        setfacl -m u:1234:rw d/one && setfacl -d -m g:55:rx d
        truncate -s 50M sparse && echo end >> sparse
        touch -d '2001-02-03 04:05:06.123456789' d/one && touch -d '1999-01-01' d empty .
        "#);
    let number = world.checkpoint();
    let list = r#"find . -printf '%P %y %m %U:%G %n %s %b %T@ %C@ %l\n' | sort; find . | sort | xargs getfattr -dh -m -; find . -not -type l | sort | xargs getfacl -n"#;
    let before = world.sh(&format!("cd t && {list}"));
    let inodes = r#"test $(stat -c %i d/one) = $(stat -c %i d/e/two)"#;
    world.sh(r#"cp -a t "$N/first" && rm -rf t && mkdir t && echo other > t/d"#);
    for round in ["while it runs", "after a restart"] {
        let now = world.sh(&format!("cd .snapshots/{number}/t && {inodes} && {list}"));
        assert_eq!(now, before, "{round}");
        world.sh(&format!(
            r#"
            S=.snapshots/{number}/t
            rm -rf "$N/rsync" "$N/cp" back
            rsync -aHAX "$S/" "$N/rsync/" && cp -a "$S" "$N/cp" && cp -a "$S" back
            for copy in "$N/rsync/" "$N/cp/" back/; do
                test -z "$(rsync -aHAXnic --delete "$N/first/" "$copy")"
            done
            cmp "$S/d/e/two" "$N/first/d/one" && test "$(cat "$S/link")" = one
            test $(du -k "$N/cp/sparse" | cut -f1) -lt 200
            "#
        ));
        let dir = world.path(&format!(".snapshots/{number}/t"));
        assert_eq!(errno(std::fs::write(dir.join("x"), "")), libc::EROFS);
        assert_eq!(errno(std::fs::write(dir.join("d/one"), "")), libc::EROFS);
        assert_eq!(errno(std::fs::remove_file(dir.join("pipe"))), libc::EROFS);
        let file = File::open(dir.join("sparse")).unwrap();
        assert_eq!(data(&file), [(50 << 20, (50 << 20) + 4)]);
        let cid = world.sh(&format!(
            "getfattr --only-values -n ipfs.cid .snapshots/{number}"
        ));
        let kept = text(&world.cidfs(&["snapshot", "ls"]));
        assert!(kept.contains(cid.trim()), "{kept}");
        if round == "while it runs" {
            world.restart();
        }
    }
    let many = r#"mkdir many && cd many && touch $(seq 1 3000) && mkdir dir"#;
    world.sh(many);
    let number = world.checkpoint();
    let listed = world.sh(&format!("ls .snapshots/{number}/many | wc -l"));
    assert_eq!(listed.trim(), "3001");
}
