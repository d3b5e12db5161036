#!/usr/bin/env bash
# What writing costs: the same work on this machine's file system, on the writable tree, and on Kubo's
# own /mfs mount where CIDFS_KUBO names an ipfs binary, all in one run. Prints Markdown.
#
# Usage: scripts/bench-write.sh [--rounds N] [--only WORD] [--limit SECONDS] [--mib N]
#                               [--directory N | --no-directory] [--beside NAME=DIR]...
#   --rounds N         of which the medians are shown (3)
#   --only WORD        only the workloads whose names contain it, and no directory
#   --limit SECONDS    for each workload on each file system (120); what is cut short is marked
#   --mib N            the size of the large files (512)
#   --directory N      the largest directory (1000000)
#   --beside NAME=DIR  another directory to measure, for instance of another file system
#   --no-cidfs         only what is named by --beside, next to this machine's file system
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/proof-lib.sh

proof_begin bench-write
arguments=() beside=() directory=1000000 without=''
while [ $# -gt 0 ]; do
    case $1 in
    --only) directory=0; arguments+=("$1" "$2"); shift 2 ;;
    --rounds | --limit | --mib) arguments+=("$1" "$2"); shift 2 ;;
    --directory) directory=$2; shift 2 ;;
    --no-directory) directory=0; shift ;;
    --beside) beside+=("$2"); shift 2 ;;
    --no-cidfs) without=1; shift ;;
    *) proof_option "$@"; shift "$taken" ;;
    esac
done

proof_rust
bench=$(cargo bench --locked --bench writes --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"name":"writes".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
native=$work/native
mkdir "$native"
kind=$(findmnt -n -o FSTYPE -T "$native")
mounts=("$kind=$native")
if [ -z "$without" ]; then
    proof_cidfs
    proof_mount
    mounts+=("cidfs=$mnt")
fi

if [ -n "${CIDFS_KUBO:-}" ]; then
    export IPFS_PATH=$work/kubo IPFS_TELEMETRY=off
    "$CIDFS_KUBO" init --profile=test,unixfs-v1-2025 >/dev/null
    mkdir "$work/kubo-ipfs" "$work/kubo-ipns" "$work/kubo-mfs"
    "$CIDFS_KUBO" daemon --routing=none --mount --mount-ipfs "$work/kubo-ipfs" \
        --mount-ipns "$work/kubo-ipns" --mount-mfs "$work/kubo-mfs" >"$work/kubo.log" 2>&1 &
    started+=($!)
    also_mounted+=("$work/kubo-ipfs" "$work/kubo-ipns" "$work/kubo-mfs")
    for _ in $(seq 150); do mounted "$work/kubo-mfs" && break; sleep 0.2; done
    mounted "$work/kubo-mfs" && mounts+=("kubo=$work/kubo-mfs")
fi
for other in "${beside[@]}"; do
    made=$(mktemp -d "${other#*=}/bench-write.XXXXXX")
    also_made+=("$made")
    mounts+=("${other%%=*}=$made")
done

echo "$(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo), Linux $(uname -r)"
echo
"$bench" "${arguments[@]}" "${mounts[@]}"

rss() { awk '/^VmRSS/ {r = $2} /^VmHWM/ {h = $2} END {printf "%.0f MiB, at most %.0f MiB", r/1024, h/1024}' "/proc/$daemon_pid/status"; }
if [ "$directory" -gt 0 ]; then
    echo
    # Not on Kubo, which would take days.
    growing=()
    for mount in "${mounts[@]}"; do case $mount in kubo=*) ;; *) growing+=("$mount") ;; esac done
    "$bench" --directory "$directory" "${growing[@]}"
fi
if [ -n "$mnt" ]; then
    echo
    echo "The daemon's memory after all of this: $(rss)"
    begin=$(date +%s.%N)
    kill -9 "$daemon_pid"
    while [ -e "/proc/$daemon_pid/exe" ]; do sleep 0.01; done
    umount -l "$mnt"
    killed=$(date +%s.%N)
    proof_mount
    echo "Killed then, and mounted again after $(awk -v b="$killed" -v e="$(date +%s.%N)" 'BEGIN {printf "%.2f s", e - b}')"
    begin=$(date +%s.%N)
    entries=$(find "$mnt" | wc -l)
    echo "A walk over its $entries entries: $(awk -v b="$begin" -v e="$(date +%s.%N)" 'BEGIN {printf "%.1f s", e - b}'), memory $(rss)"
fi
ended=1
