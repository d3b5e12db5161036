#!/usr/bin/env bash
# Builds cidfs, mounts the data set in demo/ and looks at it with ordinary tools.
#
# Usage: scripts/demo.sh
# Uses a temporary repository and mount point, no network, and leaves neither behind.
# Exits with a status other than 0 if any step fails.
set -euo pipefail
cd "$(dirname "$0")/.."
project=$PWD

scripts/setup.sh
command -v cargo >/dev/null || . "$HOME/.cargo/env"

echo
echo "== Building (the first time takes a few minutes)"
cargo build --release --locked
cidfs=${CARGO_TARGET_DIR:-target}/release/cidfs
cidfs=$(realpath "$cidfs")

work=$(mktemp -d)
mnt=$work/mnt
export CIDFS_REPO=$work/repo
mkdir "$mnt"

leave_nothing() {
    local status=$?
    cd "$project"
    if mountpoint -q "$mnt"; then
        "$cidfs" umount "$mnt" >/dev/null 2>&1 || fusermount3 -uz "$mnt" || true
    fi
    "$cidfs" shutdown >/dev/null 2>&1 || true
    rm -rf --one-file-system "$work"
    if [ "$status" -ne 0 ]; then
        echo "demo: FAILED" >&2
    fi
    exit "$status"
}
trap leave_nothing EXIT
trap 'exit 130' INT TERM

heading() { printf '\n== %s\n' "$*"; }

# Shows a command as one would type it, then runs it.
run() {
    local shown
    shown=$(printf '%q ' "$@")
    shown=${shown//$cidfs/cidfs}
    printf '$ %s\n' "${shown//$work/\$TMP}"
    "$@"
}

root_of() { sed -n "s/^$1 //p" "$project/demo/ROOTS"; }
library=$(root_of library)
numbers=$(root_of numbers)

heading "One CAR file is imported, another is only named as a source"
run "$cidfs" import demo/library.car
run "$cidfs" mount --source car:demo/numbers.car "$mnt"

heading "A root is a directory"
run ls "$mnt"
run ls "$mnt/ipfs"
run ls -l "$mnt/ipfs/$library/"
cd "$mnt/ipfs/$library"

heading "Ordinary tools read it"
run find . -not -name '*.bin'
run cat texts/1-names.txt
run readlink links/the-long-way-round
run head -n 2 links/the-long-way-round
run file pictures/tree.png
run od -An -tx1 -j 1599984 data/noise.bin
run grep -rl --exclude-dir=links Merkle .
run du -sh --apparent-size .

heading "A directory of 700 entries, spread over many blocks (a HAMT)"
cd "$mnt/ipfs/$numbers"
echo "$ ls | wc -l"
count=$(ls | wc -l)
echo "$count"
test "$count" -eq 700
run cat '541 five hundred and forty-one.txt'

heading "Every byte is the one that was packed"
cd "$mnt"
run sha256sum --quiet --strict -c "$project/demo/MANIFEST"
echo "$(wc -l <"$project/demo/MANIFEST") files: all as in demo/MANIFEST"

heading "Names are proofs"
run getfattr --only-values -n ipfs.cid "ipfs/$library/texts/1-names.txt"
echo
root=$("$cidfs" add -r -Q --only-hash "ipfs/$library")
echo "$ cidfs add -r -Q --only-hash \$TMP/mnt/ipfs/$library"
echo "$root"
test "$root" = "$library"
if echo "change" 2>/dev/null >"ipfs/$library/README.txt"; then
    echo "demo: content under an identifier could be changed" >&2
    exit 1
fi
echo "(and writing to it is refused)"

heading "A tree to write to, journaled"
run cp -r "ipfs/$library/texts" mfs/
# What is copied keeps the mode that content under a CID shows: nobody may write.
run chmod -R u+w mfs/texts
echo "one more line" >>mfs/texts/1-names.txt
run mv mfs/texts mfs/notes
run ls -l mfs/notes
run getfattr --only-values -n ipfs.cid mfs/notes
echo
cd "$project"
root=$("$cidfs" add -r -Q --only-hash "$mnt/mfs/notes")
echo "$ cidfs add -r -Q --only-hash \$TMP/mnt/mfs/notes"
echo "$root"
test "$root" = "$(getfattr --absolute-names --only-values -n ipfs.cid "$mnt/mfs/notes")"
run "$cidfs" journal log -n 4
run "$cidfs" snapshot ls

heading "What happened"
run "$cidfs" status

heading "Unmounting"
run "$cidfs" umount "$mnt"
if mountpoint -q "$mnt"; then
    echo "demo: still mounted" >&2
    exit 1
fi
echo "(the daemon ends with its last mount)"
echo
echo "demo: done"
