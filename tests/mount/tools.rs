//! The program itself, with the tools that people use, on a real mount.

use std::fs;
use std::process::Command;

use super::world::{World, a_tree, good};

#[test]
fn copying_and_comparing_tools_see_the_tree_that_was_added() {
    let world = World::new(a_tree);
    world.sh(r#"diff -r --no-dereference "$N" "$M""#);
    world.sh(r#"diff <(cd "$N" && find . | sort) <(cd "$M" && find . | sort)"#);
    let md5 = r#"find . -type f -print0 | sort -z | xargs -0 md5sum"#;
    world.sh(&format!(r#"diff <(cd "$N" && {md5}) <(cd "$M" && {md5})"#));
    world.sh(r#"cp -a "$M" "$T/cp" && diff -r --no-dereference "$N" "$T/cp""#);
    world.sh(r#"mkdir "$T/tar" && tar -C "$M" -cf - . | tar -C "$T/tar" -xf -"#);
    world.sh(r#"diff -r --no-dereference "$N" "$T/tar""#);
    world.sh(r#"rsync -aHAX "$M/" "$T/rsync/" && diff -r --no-dereference "$N" "$T/rsync""#);
    world.sh(r#"test -z "$(rsync -aHAXnic --no-times --no-perms "$M/" "$T/rsync/")""#);
    assert!(world.sh(r#"grep -r needle "$M""#).contains("haystack"));
    assert_eq!(world.sh(r#"ls -A "$M" | wc -l"#).trim(), "8");
}

#[test]
fn sizes_blocks_and_types_are_right() {
    let world = World::new(a_tree);
    assert_eq!(world.sh(r#"stat -c %s "$M/large""#).trim(), "5000001");
    assert_eq!(world.sh(r#"stat -c %b "$M/large""#).trim(), "9766");
    let apparent = |tree: &str| world.sh(&format!("du -sb --apparent-size \"{tree}/large\""));
    assert!(apparent("$M").starts_with("5000001"));
    let kib: u64 = world.sh(r#"du -sk "$M" | cut -f1"#).trim().parse().unwrap();
    let bytes: u64 = (0..300u64).map(|n| n * 7).sum::<u64>() + 5_000_001 + 300_000;
    assert!((bytes / 1024..bytes / 1024 + 200).contains(&kib), "{kib}");
    assert!(
        world
            .sh(r#"file "$M/deep/er/est/text.txt""#)
            .contains("ASCII text")
    );
    assert_eq!(world.sh(r#"readlink "$M/deep/link""#).trim(), "../large");
    assert_eq!(world.sh(r#"stat -Lc %s "$M/deep/link""#).trim(), "5000001");
}

#[test]
fn any_part_of_a_file_reads_as_the_original() {
    let world = World::new(a_tree);
    let same = |how: &str| {
        world.sh(&format!(
            r#"cmp <(F="$N/large"; {how}) <(F="$M/large"; {how})"#
        ));
    };
    for (size, skip, count) in [
        (1, 1_048_575, 3),
        (4097, 255, 9),
        (1_000_003, 1, 4),
        (7, 714_285, 9),
    ] {
        same(&format!(
            "dd if=\"$F\" bs={size} skip={skip} count={count} status=none"
        ));
    }
    same(r#"dd if="$F" bs=4096 skip=200 count=100 iflag=direct status=none"#);
    same(r#"head -c 1048577 "$F""#);
    same(r#"tail -c 1048577 "$F""#);
    same(r#"tac "$F""#);
    let mapped = "import mmap, sys; f = open(sys.argv[1], 'rb'); \
        m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); \
        sys.stdout.buffer.write(m[4999990:] + m[1048000:1049000] + m[::4099])";
    same(&format!(r#"python3 -c "{mapped}" "$F""#));
}

#[test]
fn eight_readers_of_one_file_all_get_it() {
    let world = World::new(a_tree);
    let sums = world.sh(r#"for i in 1 2 3 4 5 6 7 8; do sha256sum <"$M/large" & done; wait"#);
    let native = world.sh(r#"sha256sum <"$N/large""#);
    assert_eq!(sums, native.repeat(8));
}

#[test]
fn programs_and_libraries_run_from_the_mount() {
    let world = World::new(|dir| {
        fs::create_dir(dir.join("package")).unwrap();
        fs::write(
            dir.join("package/__init__.py"),
            "from .inner import answer\n",
        )
        .unwrap();
        fs::write(dir.join("package/inner.py"), "def answer(): return 6 * 7\n").unwrap();
        fs::write(dir.join("script"), "#!/bin/sh\necho ran $1\n").unwrap();
        fs::copy("/bin/true", dir.join("program")).unwrap();
    });
    let import = r#"PYTHONPATH="$M" python3 -c "import package; print(package.answer())""#;
    assert_eq!(world.sh(import).trim(), "42");
    assert_eq!(world.sh(r#""$M/script" here"#).trim(), "ran here");
    world.sh(r#""$M/program""#);
}

#[test]
fn a_database_is_read_and_a_repository_cloned() {
    let world = World::new(|dir| {
        let script = r#"
            sqlite3 db "create table t(n, s); with recursive c(n) as
                (select 1 union all select n + 1 from c where n < 20000)
                insert into t select n, hex(randomblob(20)) from c"
            export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
            git init -q -b main work && cd work
            git config user.name a && git config user.email a@example.net
            for i in 1 2 3; do echo "$i" >"file$i"; git add .; git commit -qm "commit $i"; done
            cd .. && git clone -q --bare work repo.git && rm -rf work"#;
        good(Command::new("bash").args(["-euc", script]).current_dir(dir));
    });
    let sum = r#"sqlite3 "file:$M/db?immutable=1" "select sum(n), count(distinct s) from t""#;
    assert_eq!(world.sh(sum).trim(), "200010000|20000");
    assert_eq!(
        world
            .sh(r#"sqlite3 -readonly "$M/db" "pragma integrity_check""#)
            .trim(),
        "ok"
    );
    let clone = r#"export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
        git clone -q "$M/repo.git" "$T/clone" && git -C "$T/clone" fsck --strict 2>&1
        git -C "$T/clone" log --oneline | wc -l"#;
    assert_eq!(world.sh(clone).trim().lines().last().unwrap(), "3");
}

#[test]
fn a_busy_mount_names_who_is_in_the_way_and_a_lazy_unmount_goes_through() {
    let world = World::new(a_tree);
    let mount = world.temp.path().join("mnt");
    let mut reader = Command::new("sleep")
        .arg("60")
        .current_dir(&world.mounted)
        .spawn()
        .unwrap();
    let refused = world
        .command(&["umount", mount.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    world.cidfs(&["umount", "--lazy", mount.to_str().unwrap()]);
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert!(!refused.status.success());
    assert!(
        said.contains("sleep") && said.contains(&reader.id().to_string()),
        "{said}"
    );
    assert_eq!(
        fs::read_dir(&mount).unwrap().count(),
        0,
        "nothing is mounted there"
    );
}

#[test]
fn the_mount_of_a_killed_daemon_is_cleared_by_the_next() {
    let world = World::new(a_tree);
    let repo = world.temp.path().join("repo");
    let pid = fs::read_to_string(repo.join("lock")).unwrap();
    // The kernel goes on telling what it knows of the mount.
    fs::metadata(world.temp.path().join("mnt")).unwrap();
    good(Command::new("kill").args(["-9", pid.trim()]));
    let mount = world.temp.path().join("mnt");
    while fs::exists(format!("/proc/{}", pid.trim())).unwrap() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    world.cidfs(&["mount", mount.to_str().unwrap()]);
    world.sh(r#"diff -r --no-dereference "$N" "$M""#);
}
