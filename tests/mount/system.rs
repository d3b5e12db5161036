//! How a system mounts: mount(8) with /etc/fstab, and users who are not root.
//!
//! What these tests change (`/sbin`, `/dev/fuse`, mounts) they change in a mount
//! namespace of their own, which ends with them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::world::{a_tree, good, text};

/// A directory that every user may enter, with the program and a tree in it.
fn a_place() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_cidfs"), temp.path().join("cidfs")).unwrap();
    let native = temp.path().join("native");
    fs::create_dir(&native).unwrap();
    a_tree(&native);
    temp
}

/// Runs a script in a mount namespace of its own, with `$T` and no other
/// variable but `$PATH`: there is no HOME when a system boots.
fn alone(temp: &Path, script: &str) -> Output {
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "bash",
            "-euc",
            script,
        ])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("T", temp)
        .current_dir(temp);
    command.stdin(Stdio::null()).output().unwrap()
}

/// Whether this is root and may have mount namespaces; said aloud where not.
fn may_unshare(what: &str) -> bool {
    let tried = Command::new("unshare")
        .args(["--mount", "true"])
        .stderr(Stdio::null())
        .status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        eprintln!("SKIPPED: {what} takes root with a mount namespace of its own");
    }
    may
}

#[test]
fn a_line_in_fstab_is_mounted_by_mount_and_unmounted_by_umount() {
    if !may_unshare("mounting from fstab") {
        return;
    }
    let temp = a_place();
    let script = r#"
        fails() { if "$@"; then echo "this went well: $*" >&2; exit 1; fi; }
        mkdir repo mnt twice other helpers old
        # mount(8) looks for helpers in /sbin only: ours stands there beside the others.
        mount --bind "$(readlink -f /sbin)" old
        for program in old/*; do ln -s "$T/$program" helpers/; done
        ln -sf "$T/cidfs" helpers/mount.cidfs
        ln -sf "$T/cidfs" helpers/cidfs
        mount --bind helpers "$(readlink -f /sbin)"
        root=$(./cidfs --repo repo add -r -Q --hidden native)
        {
            echo "/ipfs/$root $T/mnt cidfs repo=$T/repo,allow_other,nofail,x-test.mark 0 0"
            echo "/ $T/twice cidfs noauto,ro,user,repo=$T/repo,_netdev 0 0"
        } >fstab
        trap './cidfs --repo repo shutdown --force >/dev/null 2>&1 || :' EXIT
        mount --all --fstab fstab
        diff -r --no-dereference native mnt
        test "$(findmnt -no FSTYPE mnt)" = fuse.cidfs
        findmnt -no OPTIONS mnt | grep -q allow_other
        # mount(8) remounts: of the type fuse.cidfs by mount.fuse, which runs `cidfs`.
        mount -o remount,noexec mnt
        findmnt -no OPTIONS mnt | grep -q noexec
        mount -t cidfs -o "repo=$T/repo,nodiratime,lazytime,discard,noauto" /mfs other
        touch other/new
        mount -o remount,ro other
        fails touch other/newer 2>/dev/null
        mount -o remount,rw "$T/other"
        touch other/newer
        umount other
        # What is not automatic was not mounted, and is mounted when it is named.
        fails mountpoint -q twice
        mount --fstab fstab "$T/twice"
        diff -r --no-dereference native "twice/ipfs/$root"
        umount mnt twice
        fails mountpoint -q mnt
        # What cannot be mounted makes mount(8) fail and say why.
        fails mount -t cidfs -o "repo=$T/repo,bogus" / mnt 2>why
        grep -q "unknown mount option bogus" why
        echo done"#;
    let output = alone(temp.path(), script);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output).ends_with("done\n"), "{output:?}");
}

#[test]
fn a_user_who_is_not_root_mounts_through_fusermount3() {
    let temp = a_place();
    // As nobody: put a tree in, mount it, read it, unmount it.
    let script = r#"
        fails() { if "$@"; then echo "this went well: $*" >&2; exit 1; fi; }
        export CIDFS_REPO=$T/user/repo
        cd "$T/user" && mkdir mnt
        trap '"$T/cidfs" shutdown --force >/dev/null 2>&1 || :' EXIT
        root=$("$T/cidfs" add -r -Q --hidden "$T/native")
        "$T/cidfs" mount mnt
        diff -r --no-dereference "$T/native" "mnt/ipfs/$root"
        test "$(stat -c %u "mnt/ipfs/$root/large")" = "$(id -u)"
        findmnt -no OPTIONS mnt | grep -q "user_id=$(id -u)"
        fails touch "mnt/ipfs/$root/new" 2>why
        # The kernel looks at the mode first, and directories there have no bit to write.
        grep -q "Permission denied" why
        "$T/cidfs" umount mnt
        fails mountpoint -q mnt
        echo done"#;
    let user = temp.path().join("user");
    fs::create_dir(&user).unwrap();
    let mode = fs::metadata("/dev/fuse").map_or(0, |fuse| fuse.permissions().mode());
    if fs::metadata(&user).unwrap().permissions().mode() & 0o200 == 0 || mode == 0 {
        eprintln!("SKIPPED: there is no /dev/fuse");
        return;
    }
    fs::write(temp.path().join("script"), script).unwrap();
    if !may_unshare("mounting as another user") {
        if mode & 0o006 == 0o006 {
            let mut command = Command::new("bash");
            command.args(["-eu", "script"]).current_dir(temp.path());
            let output = good(command.env("T", temp.path()));
            assert!(text(&output).ends_with("done\n"), "{output:?}");
        }
        return;
    }
    // Where the device is root's alone, the namespace gets one as distributions ship it.
    let as_nobody = r#"
        chown nobody user
        if [ "$(stat -c %a /dev/fuse)" != 666 ]; then
            if ! mknod -m 666 fuse c 10 229 || ! mount --bind fuse /dev/fuse; then
                echo "no device for other users" >&2
                exit 77
            fi
        fi
        setpriv --reuid nobody --regid nogroup --clear-groups bash -eu script"#;
    let output = alone(temp.path(), as_nobody);
    if output.status.code() == Some(77) {
        eprintln!("SKIPPED: /dev/fuse is root's alone, and no other can be made");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output).ends_with("done\n"), "{output:?}");
}
