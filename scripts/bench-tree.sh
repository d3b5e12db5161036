#!/usr/bin/env bash
# What a tree costs in memory: trees of small files are made on the writable tree, 100 in a directory,
# the daemon is started anew, and the clean tree is walked. Prints Markdown.
#
# Usage: scripts/bench-tree.sh [--files N]... [--one] [--keep]
#   --files N   the sizes of the trees (1000, 100000, 1000000)
#   --one       all files in one directory
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/proof-lib.sh

proof_begin bench-tree
sizes=() one=''
while [ $# -gt 0 ]; do
    case $1 in
    --files) sizes+=("$2"); shift 2 ;;
    --one) one=1; shift ;;
    *) proof_option "$@"; shift "$taken" ;;
    esac
done
[ ${#sizes[@]} -gt 0 ] || sizes=(1000 100000 1000000)

proof_cidfs
now() { date +%s.%N; }
since() { awk -v b="$1" -v e="$(now)" 'BEGIN {printf "%.1f s", e - b}'; }
rss() { awk -v key="$1" '$1 == key":" {printf "%.0f MiB", $2/1024}' "/proc/$daemon_pid/status"; }

# make N: files that differ, each with its number.
make() {
    local per=100
    [ -z "$one" ] || per=$1
    seq -f "$mnt/%.0f" 0 $((($1 - 1) / per)) | xargs mkdir
    awk -v n="$1" -v per="$per" -v top="$mnt" 'BEGIN {
        for (i = 0; i < n; i++) {
            file = top "/" int(i / per) "/file-" i
            print i > file
            close(file)
        }
    }'
}

echo "| files | made in | memory at most; checkpoint | mount; one name | memory then | walk | memory after | at most |"
echo "|---:|---:|---:|---:|---:|---:|---:|---:|"
for size in "${sizes[@]}"; do
    export CIDFS_REPO=$work/repo-$size
    proof_mount
    begin=$(now)
    make "$size"
    made=$(since "$begin")
    begin=$(now)
    "$cidfs" journal checkpoint >/dev/null
    stopped=$(since "$begin") made_in=$(rss VmHWM)
    proof_unmount
    begin=$(now)
    proof_mount
    mounted=$(since "$begin")
    # A name that was not looked at, in a directory that is not loaded.
    begin=$(now)
    stat "$mnt/0/file-$((${one:-0} ? size - 1 : size < 100 ? size - 1 : 99))" >/dev/null
    named=$(since "$begin")
    then=$(rss VmRSS)
    begin=$(now)
    entries=$(find "$mnt" -printf '%s\n' | wc -l)
    walked=$(since "$begin")
    [ "$entries" -gt "$size" ] || { say "only $entries of $size"; exit 1; }
    # What the walk used for a while is given back once it has ended.
    sleep 3
    after=$(rss VmRSS) most=$(rss VmHWM)
    proof_unmount
    rm -rf "$CIDFS_REPO"
    echo "| $size | $made | $made_in; $stopped | $mounted, one name $named | $then | $walked | $after | $most |"
done
ended=1
