#!/usr/bin/env bash
# Real programs at work on the writable tree, each with a check of its own.
#
# Usage: scripts/apps.sh [--on DIR] [--only NAME]... [--list] [--keep] [--require]
#   --only NAME   only this one; may be repeated
#   --on DIR      on a directory of any other file system
# A program that is missing is installed with apt; where that fails its check is skipped aloud, and is
# a failure with --require or CIDFS_REQUIRE_TOOLS=1. No check uses the network.
# The last line is "N passed, N failed". Exits with 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/proof-lib.sh

apps=(git cargo npm venv sqlite rsync tar cp mv editors postgres unzip rewrite)

# In what follows, the working directory is on the tree, and $scratch is on the disk beside it.

# A tree with all that a copy can lose. Owners, device files and ACLs take root.
make_tree() {
    local at=$1 n
    mkdir -p "$at/sub/deeper" "$at/empty" "$at/many"
    head -c 3000000 /dev/urandom >"$at/large"
    for n in $(seq 300); do head -c "$n" /dev/urandom >"$at/many/$n"; done
    ln "$at/large" "$at/sub/hard link"
    ln -s ../large "$at/sub/relative"
    ln -s /does/not/exist "$at/dangling"
    ln "$at/many/7" "$at/many/7 again"
    ln "$at/many/7" "$at/sub/deeper/and again"
    mkfifo -m 640 "$at/fifo"
    truncate -s 50M "$at/sparse"
    printf x | dd of="$at/sparse" bs=1 seek=20000000 conv=notrunc status=none
    printf '#!/bin/sh\n' >"$at/run me" && chmod 755 "$at/run me"
    printf 'bytes' >"$at/"$'n\xc3\xa4me \xff'
    setfattr -n user.note -v "what a note" "$at/large"
    setfattr -n user.note -v "on a directory" "$at/sub"
    chmod 2775 "$at/sub"
    chmod 1777 "$at/empty"
    chmod 4711 "$at/run me"
    if [ "$(id -u)" -eq 0 ]; then
        chown 1:1 "$at/many/9" "$at/empty"
        chown -h 65534:65534 "$at/dangling"
        mknod "$at/device" c 1 3
        setfacl -m u:1:rx,g:1:r "$at/many/10"
        setfacl -d -m u:1:rwx "$at/sub/deeper"
    fi
    touch -d '1999-12-31 23:59:59.123456789' "$at/many/11"
    touch -h -d '2001-02-03 04:05:06.7' "$at/dangling"
    touch -d '2030-01-01' "$at/sub"
}

# Everything about a tree that a copy must keep, as text: names, types, modes, owners, sizes, links,
# times to the nanosecond, extended attributes, ACLs, which names share an inode, contents.
portrait() {
    (
        cd "$1"
        find . -mindepth 1 \( -type d -printf '%P %y %m %U %G %T@\n' -o -printf '%P %y %m %U %G %s %n %T@ %l\n' \)
        find . -mindepth 1 -links +1 ! -type d -printf '%i %P\n' | sort |
            awk '{i = $1; sub(/^[0-9]+ /, ""); a[i] = a[i] " + " $0} END {for (i in a) print "same:" a[i]}'
        find . -mindepth 1 ! -type l \( -type f -o -type d \) -print0 | sort -z | xargs -0 getfattr -h -d -m '^user\.' --
        find . -mindepth 1 \( -type f -o -type d \) -print0 | sort -z | xargs -0 getfacl -n -p --
        find . -type f -print0 | sort -z | xargs -0 sha256sum
    ) | LC_ALL=C sort
}

same_portrait() { diff <(portrait "$1") <(portrait "$2"); }

app_git() {
    export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@localhost GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@localhost
    local n
    git init -q -b main "$scratch/origin"
    for n in $(seq 20); do
        mkdir -p "$scratch/origin/d$n"
        for f in $(seq 20); do seq "$((n * f * 20))" >"$scratch/origin/d$n/f$f"; done
        git -C "$scratch/origin" add -A
        git -C "$scratch/origin" commit -q -m "commit $n"
    done
    git clone -q "file://$scratch/origin" clone
    cd clone
    git checkout -q -b work
    for n in $(seq 15); do
        seq "$((n * 1000))" >"d$n/f1"
        git mv "d$n/f2" "d$n/renamed"
        git commit -q -a -m "work $n"
    done
    git checkout -q main
    git rm -q -r d20
    git commit -q -m removed
    git merge -q -m merged work
    git gc -q --aggressive --prune=now
    git repack -q -a -d -f
    git fsck --full --strict --no-dangling
    test -z "$(git status --porcelain)"
    git push -q origin work:pushed
    git worktree add -q ../second work
    git -C ../second status --porcelain | diff /dev/null -
    # What git has on the tree is what it makes of the same commit elsewhere.
    git clone -q . "$scratch/back"
    diff -r --exclude=.git . "$scratch/back"
}

app_cargo() {
    mkdir -p small/src small/tests
    cd small
    printf '[package]\nname = "small"\nversion = "0.1.0"\nedition = "2021"\n' >Cargo.toml
    cat >src/lib.rs <<'RUST'
/// Adds up.
/// ```
/// assert_eq!(small::sum(&[1, 2, 3]), 6);
/// ```
pub fn sum(numbers: &[u64]) -> u64 { numbers.iter().sum() }
RUST
    printf 'fn main() { println!("{}", small::sum(&[40, 2])); }\n' >src/main.rs
    printf '#[test]\nfn sums() { assert_eq!(small::sum(&[1, 1]), 2); }\n' >tests/sums.rs
    # The user's own settings (wrappers, other target directories) are not what is tested.
    unset RUSTC_WRAPPER CARGO_TARGET_DIR
    export CARGO_TARGET_DIR=$PWD/target CARGO_TERM_PROGRESS_WHEN=never
    cargo build -q --offline
    test "$(target/debug/small)" = 42
    cargo test -q --offline
    # Times must be good enough for a rebuild to see the change, and then that there is none.
    printf 'fn main() { println!("{}", small::sum(&[40, 3])); }\n' >src/main.rs
    cargo build -q --offline
    test "$(target/debug/small)" = 43
    cargo build --offline 2>again
    if grep Compiling again; then return 1; fi
    cargo clean -q
    test ! -e target/debug
}

app_npm() {
    export npm_config_cache=$PWD/cache npm_config_update_notifier=false npm_config_audit=false npm_config_fund=false
    mkdir -p leaf/lib app
    printf '{"name":"leaf","version":"1.0.0","main":"lib/index.js","bin":{"leaf":"cli.js"}}\n' >leaf/package.json
    printf 'module.exports = n => n * 2\n' >leaf/lib/index.js
    printf '#!/usr/bin/env node\nconsole.log(require("./lib")(21))\n' >leaf/cli.js
    chmod 755 leaf/cli.js
    (cd leaf && npm pack --silent --pack-destination ..)
    cd app
    printf '{"name":"app","version":"1.0.0"}\n' >package.json
    npm install --offline --silent ../leaf-1.0.0.tgz
    test "$(node -p 'require("leaf")(4)')" = 8
    test "$(node_modules/.bin/leaf)" = 42
    npm ls --offline
    rm -rf node_modules
    npm ci --offline --silent
    test "$(node_modules/.bin/leaf)" = 42
    npm install --offline --silent ../leaf --install-links=false
    test -L node_modules/leaf
    test "$(node -p 'require("leaf")(5)')" = 10
    npm uninstall --offline --silent leaf
    test ! -e node_modules/leaf
}

app_venv() {
    python3 -m venv env
    # A wheel made by hand, so that nothing need be fetched to build one.
    env/bin/python - <<'PYTHON'
import zipfile
with zipfile.ZipFile("tiny-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("tiny/__init__.py", "def answer():\n    return 42\n")
    wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("tiny-1.0.dist-info/entry_points.txt", "[console_scripts]\ntiny = tiny:answer\n")
    wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny/__init__.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/entry_points.txt,,\ntiny-1.0.dist-info/RECORD,,\n")
PYTHON
    env/bin/pip install -q --no-index --disable-pip-version-check ./tiny-1.0-py3-none-any.whl
    test "$(env/bin/python -c 'import tiny; print(tiny.answer())')" = 42
    test -x env/bin/tiny
    env/bin/pip check --disable-pip-version-check
    env/bin/python -m compileall -q env/lib
    env/bin/pip uninstall -q -y --disable-pip-version-check tiny
    test ! -e env/bin/tiny
}

app_sqlite() {
    local mode
    for mode in WAL DELETE TRUNCATE PERSIST; do
        # Four writers and their locks; each row names its writer, so that none can be lost unseen.
        python3 - "$mode.db" "$mode" <<'PYTHON'
import multiprocessing, sqlite3, sys

path, mode = sys.argv[1:]
ROWS = 150

def connect():
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    db.execute("pragma busy_timeout = 60000")
    db.execute("pragma synchronous = full")
    return db

def write(writer):
    db = connect()
    for row in range(ROWS):
        db.execute("begin immediate")
        db.execute("insert into t values (?, ?, randomblob(3000))", (writer, row))
        db.execute("update total set n = n + 1")
        db.execute("rollback" if row % 10 == 9 else "commit")
    db.close()

db = connect()
assert db.execute(f"pragma journal_mode = {mode}").fetchone()[0] == mode.lower()
db.execute("create table t (writer, row, bytes, primary key (writer, row))")
db.execute("create table total (n)")
db.execute("insert into total values (0)")
db.close()
writers = [multiprocessing.Process(target=write, args=(n,)) for n in range(4)]
for w in writers: w.start()
for w in writers: w.join()
assert all(w.exitcode == 0 for w in writers)
db = connect()
expected = 4 * (ROWS - ROWS // 10)
assert db.execute("select count(*) from t").fetchone()[0] == expected
assert db.execute("select n from total").fetchone()[0] == expected
db.execute("vacuum")
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
db.close()
PYTHON
        test "$(sqlite3 "$mode.db" 'pragma integrity_check')" = ok
        cp "$mode.db" "$scratch/"
        test "$(sqlite3 "$scratch/$mode.db" 'pragma integrity_check')" = ok
    done
}

app_rsync() {
    make_tree "$scratch/from"
    # Without the window it takes times of the same second for equal.
    local sync=(rsync -aHAX --modify-window=-1)
    "${sync[@]}" --sparse "$scratch/from/" there/
    "${sync[@]}" --sparse there/ "$scratch/back/"
    same_portrait "$scratch/from" there
    same_portrait "$scratch/from" "$scratch/back"
    "${sync[@]}" -cni --delete "$scratch/from/" there/ | diff /dev/null -
    # In place and by difference, as backups do.
    printf more >>"$scratch/from/large"
    rm "$scratch/from/many/5"
    "${sync[@]}" --inplace --no-whole-file --delete "$scratch/from/" there/
    same_portrait "$scratch/from" there
}

app_tar() {
    make_tree "$scratch/from"
    # A socket or a directory's default ACL is more than tar -d looks at; the portrait does.
    tar -C "$scratch" --xattrs --acls --numeric-owner -S -cf "$scratch/tree.tar" from
    tar --xattrs --acls --numeric-owner -xpf "$scratch/tree.tar"
    tar -df "$scratch/tree.tar"
    same_portrait "$scratch/from" from
    tar --xattrs --acls --numeric-owner -S -czf again.tar.gz from
    mkdir "$scratch/again"
    tar -C "$scratch/again" --xattrs --acls --numeric-owner -xpzf again.tar.gz
    same_portrait "$scratch/from" "$scratch/again/from"
    rm -rf from
    test ! -e from
}

app_cp() {
    make_tree "$scratch/from"
    cp -a "$scratch/from" one
    cp -a one two
    cp -a --reflink=never two three
    cp -a three "$scratch/back"
    same_portrait "$scratch/from" one
    same_portrait "$scratch/from" two
    same_portrait "$scratch/from" "$scratch/back"
    # A copy that shares blocks is still a copy.
    printf changed | dd of=two/large bs=1 seek=1500000 conv=notrunc status=none
    cmp one/large "$scratch/from/large"
    cmp three/large "$scratch/from/large"
    if cmp -s one/large two/large; then return 1; fi
}

app_mv() {
    make_tree "$scratch/from"
    cp -a "$scratch/from" a
    mkdir -p b/c
    # Renames keep the inode, from one directory to another too.
    local inode
    inode=$(stat -c %i a/large)
    mv a/large b/c/large
    test "$(stat -c %i b/c/large)" = "$inode"
    mv b/c/large a/large
    mv a b/c/moved
    same_portrait "$scratch/from" b/c/moved
    # A directory does not go into itself; a full one is not replaced.
    if mv -T b b/c/inside 2>/dev/null; then return 1; fi
    mkdir -p full/x
    if mv -T full b 2>/dev/null; then return 1; fi
    # An open file is the same file under its new name, and after it has none.
    exec 7<>b/c/moved/large
    mv b/c/moved/large b/other
    printf new >&7
    test "$(head -c 3 b/other)" = new
    rm b/other
    printf er >&7
    test "$(head -c 5 /proc/self/fd/7)" = newer
    exec 7>&-
    mv b/c/moved "$scratch/out"
    test ! -e b/c/moved
    mv "$scratch/out" back
    cmp "$scratch/from/many/300" back/many/300
    test "$(stat -c '%h' back/many/7)" = 3
    local n
    for n in $(seq 200); do printf '%s' "$n" >next && mv next current; done
    test "$(cat current)" = 200
}

app_editors() {
    local way
    seq 5000 >expected
    sed -i 's/7/seven/g' expected
    # vim writes a new file and renames it, or rewrites the old one; both with a swap file and a backup.
    for way in no yes auto; do
        seq 5000 >text
        chmod 640 text
        setfattr -n user.kept -v 1 text
        vim -es -u NONE -N -c "set backupcopy=$way writebackup backup backupskip= directory=. backupdir=. undofile undodir=." \
            -c '%s/7/seven/g' -c wq text
        cmp text expected
        test "$(stat -c %a text)" = 640
        test -e text~
        rm -f text text~
    done
    seq 5000 >text
    sed -i 's/7/seven/g' text
    cmp text expected
    perl -pi.bak -e 's/seven/8/g' text
    cmp <(sed 's/seven/8/g' expected) text
    python3 - <<'PYTHON'
import os, tempfile
# How careful editors save: a new file beside it, synced, renamed over, and the directory synced.
for generation in range(100):
    fd, name = tempfile.mkstemp(dir=".")
    with os.fdopen(fd, "w") as file:
        file.write(str(generation) * 1000)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, "saved")
    directory = os.open(".", os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    assert open("saved").read() == str(generation) * 1000
assert not [n for n in os.listdir(".") if n.startswith("tmp")]
PYTHON
}

app_postgres() {
    local bin as=() data=$PWD/data sock=$scratch/socket
    bin=$(postgres_bin)
    mkdir -p "$data" "$sock"
    chmod 700 "$data"
    if [ "$(id -u)" -eq 0 ]; then
        # It refuses root, and must be able to reach its own directory.
        as=(setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/nonexistent)
        chown nobody:nogroup "$data" "$sock"
    fi
    # Not local: the trap runs when the function is gone.
    ctl=("${as[@]}" "$bin/pg_ctl" -D "$data" -w -t 120 -s -l "$data/log")
    local here=(-h "$sock" -U keeper)
    # Wherever the checks stop, the server does not stay.
    trap '"${ctl[@]}" stop -m immediate >/dev/null 2>&1 || true' EXIT
    "${as[@]}" "$bin/initdb" -D "$data" -U keeper --data-checksums -A trust -E UTF8 --no-locale >/dev/null
    local config=(-o "-c listen_addresses='' -c unix_socket_directories='$sock' -c shared_buffers=16MB -c max_wal_size=64MB")
    "${ctl[@]}" "${config[@]}" start
    "${as[@]}" "$bin/pgbench" "${here[@]}" -q -i -s 3 postgres
    "${as[@]}" "$bin/pgbench" "${here[@]}" -n -c 4 -j 2 -t 250 postgres
    # Its books balance, also after the server was killed.
    local sums="select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history) and count(*) = 1000 from pgbench_history"
    test "$("${as[@]}" "$bin/psql" "${here[@]}" -XAt -c "$sums" postgres)" = t
    "${ctl[@]}" stop -m immediate
    "${ctl[@]}" "${config[@]}" start
    test "$("${as[@]}" "$bin/psql" "${here[@]}" -XAt -c "$sums" postgres)" = t
    "${as[@]}" "$bin/psql" "${here[@]}" -Xq -c 'create extension if not exists amcheck' -c vacuum postgres
    "${as[@]}" "$bin/pg_amcheck" "${here[@]}" --heapallindexed --all
    "${ctl[@]}" stop -m fast
    "${as[@]}" "$bin/pg_checksums" --check -D "$data"
}

postgres_bin() {
    local found
    for found in /usr/lib/postgresql/*/bin "$(dirname "$(command -v initdb || echo /nowhere/x)")"; do
        if [ -x "$found/pg_amcheck" ] && [ -x "$found/pgbench" ] && [ -x "$found/initdb" ]; then
            echo "$found"
            return
        fi
    done
    return 1
}

app_unzip() {
    make_tree "$scratch/from"
    # What the format cannot say.
    rm -f "$scratch/from/"{fifo,device,dangling} "$scratch/from/"n*
    (cd "$scratch" && zip -q -r -y tree.zip from)
    unzip -q "$scratch/tree.zip"
    diff -r "$scratch/from" from
    test -L from/sub/relative
    # zip itself writes by seeking back into what it has written.
    zip -q -r -y made.zip from
    unzip -tqq made.zip
    printf more >>from/many/1
    zip -q -u made.zip from/many/1
    zip -q -d made.zip from/many/2
    unzip -tqq made.zip
    mkdir "$scratch/out"
    unzip -q made.zip -d "$scratch/out"
    cmp from/many/1 "$scratch/out/from/many/1"
    test ! -e "$scratch/out/from/many/2"
}

# As a muxer does: a header with blanks, a long body, then back to fill in what is known only at the
# end, and finally the index moved from the end to the front by shifting all of the body.
app_rewrite() {
    python3 - "$scratch/expected" <<'PYTHON'
import hashlib, os, random, sys

rng = random.Random(11)
expected = bytearray()
HEADER, FRAMES = 4096, 400
with open("movie", "w+b", buffering=0) as file:
    def put(at, data):
        file.seek(at)
        assert file.write(data) == len(data)
        end = at + len(data)
        expected.extend(bytes(max(0, end - len(expected))))
        expected[at:end] = data
    put(0, bytes(HEADER))
    index, at = [], HEADER
    for n in range(FRAMES):
        frame = rng.randbytes(rng.randrange(200, 60000))
        index.append((at, len(frame)))
        put(at, frame)
        at += len(frame)
        if n % 10 == 0:
            put(8 * n, at.to_bytes(8, "little"))
    table = b"".join(a.to_bytes(8, "little") + l.to_bytes(8, "little") for a, l in index)
    put(at, table)
    put(16, hashlib.sha256(table).digest())
    os.fsync(file.fileno())
    # From the end to the front, so that nothing is overwritten before it was read.
    shift, end = len(table), at
    while end > HEADER:
        begin = max(HEADER, end - 65536)
        file.seek(begin)
        body = file.read(end - begin)
        assert body == expected[begin:end]
        put(begin + shift, body)
        end = begin
    put(HEADER, table)
    file.truncate(at + shift)
    del expected[at + shift:]
assert open("movie", "rb").read() == expected
open(sys.argv[1], "wb").write(expected)
PYTHON
    cmp movie "$scratch/expected"
}

# What each needs: PROGRAM PACKAGE, in pairs.
needs() {
    case $1 in
    git) echo git git ;;
    npm) echo npm npm node nodejs ;;
    venv) echo python3 python3-venv ;;
    sqlite) echo sqlite3 sqlite3 ;;
    rsync) echo rsync rsync setfacl acl setfattr attr ;;
    tar | cp | mv) echo setfacl acl setfattr attr ;;
    editors) echo vim vim-tiny perl perl-base setfattr attr ;;
    postgres) echo setpriv util-linux ;;
    unzip) echo unzip unzip zip zip setfacl acl setfattr attr ;;
    esac
}

# Without these the check of a program is skipped.
ready() {
    local needed i
    read -ra needed < <(needs "$1"; echo) || true
    for ((i = 0; i + 1 < ${#needed[@]}; i += 2)); do
        proof_tool "${needed[i]}" "${needed[i + 1]}" || return 1
    done
    case $1 in
    cargo) command -v cargo >/dev/null ;;
    venv) python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv ;;
    postgres)
        postgres_bin >/dev/null || { say "installing postgresql"; apt_install postgresql && postgres_bin >/dev/null; }
        ;;
    esac
}

# The script calls itself for one program, so that a deadline can end all that the program started.
if [ "${1:-}" = --inside ]; then
    scratch=$3
    cd "$4"
    set -x
    "app_$2"
    exit
fi

only=()
proof_begin apps
while [ $# -gt 0 ]; do
    case $1 in
    --only) only+=("$2"); shift 2 ;;
    --list) printf '%s\n' "${apps[@]}"; ended=1; exit 0 ;;
    *) proof_option "$@"; shift "$taken" ;;
    esac
done
[ "${#only[@]}" -gt 0 ] || only=("${apps[@]}")

proof_rust
proof_tree
for app in "${only[@]}"; do
    if ! ready "$app"; then
        skip "$app: what it needs is not installed"
        continue
    fi
    mkdir -p "$tree/$app" "$work/$app"
    begin=$(date +%s)
    if deadline 600 bash "$PWD/scripts/apps.sh" --inside "$app" "$work/$app" "$tree/$app" >"$work/$app.log" 2>&1; then
        pass "$app ($(($(date +%s) - begin)) s)"
        rm -rf --one-file-system "${tree:?}/$app" "${work:?}/$app"
    else
        keep=1
        fail "$app"
        tail -n 30 "$work/$app.log"
    fi
done
proof_end
