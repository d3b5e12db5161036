#!/usr/bin/env bash
# The first figures: the same corpus on this machine's file system, on a cidfs mount, and on Kubo's
# own /ipfs mount where CIDFS_KUBO names an ipfs binary, all in one run; then `add` and the daemon's
# memory. Prints Markdown. Cold figures take root.
#
# Usage: scripts/bench.sh [--large MIB] [--rounds N] [--only WORD]
set -euo pipefail
cd "$(dirname "$0")/.."

large=512 rounds=5 only=""
while [ $# -gt 0 ]; do
    case $1 in
    --large) large=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
    esac
done

scripts/setup.sh >&2
cargo build --release --locked >&2
bench=$(cargo bench --locked --bench mounts --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"name":"mounts".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
cidfs=$PWD/target/release/cidfs

# Not on a tmpfs: the native figures are those of a disk.
work=$(mktemp -d "$PWD/target/bench.XXXXXX")
export CIDFS_REPO=$work/repo
kubo_pid=
cleanup() {
    "$cidfs" umount "$work/cidfs" >/dev/null 2>&1 || true
    "$cidfs" shutdown >/dev/null 2>&1 || true
    if [ -n "$kubo_pid" ]; then
        for dir in kubo-ipfs kubo-ipns kubo-mfs; do umount "$work/$dir" 2>/dev/null || true; done
        kill "$kubo_pid" 2>/dev/null || true
        wait "$kubo_pid" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

corpus=$work/corpus
mkdir -p "$corpus/many" "$corpus/tree" "$work/cidfs"
head -c "${large}M" /dev/urandom >"$corpus/large"
head -c 10240000 /dev/urandom | split -b 1024 -a 4 -d - "$corpus/many/file-"
for d in $(seq -w 200); do
    mkdir "$corpus/tree/$d"
    head -c 204800 /dev/urandom | split -b 4096 -a 2 -d - "$corpus/tree/$d/file-"
done

root=$("$cidfs" add -r -Q "$corpus")
"$cidfs" mount "$work/cidfs"
mounts=("ext4=$corpus" "cidfs=$work/cidfs/ipfs/$root")

if [ -n "${CIDFS_KUBO:-}" ]; then
    export IPFS_PATH=$work/kubo IPFS_TELEMETRY=off
    "$CIDFS_KUBO" init --profile=test,unixfs-v1-2025 >/dev/null
    kubo_root=$("$CIDFS_KUBO" add -r -Q "$corpus")
    mkdir "$work/kubo-ipfs" "$work/kubo-ipns" "$work/kubo-mfs"
    "$CIDFS_KUBO" daemon --routing=none --mount --mount-ipfs "$work/kubo-ipfs" \
        --mount-ipns "$work/kubo-ipns" --mount-mfs "$work/kubo-mfs" >"$work/kubo.log" 2>&1 &
    kubo_pid=$!
    for _ in $(seq 100); do mountpoint -q "$work/kubo-ipfs" && break; sleep 0.2; done
    mounts+=("kubo=$work/kubo-ipfs/$kubo_root")
fi

echo "$(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo), Linux $(uname -r)"
echo
echo "First touch after the daemon's start (every block is hashed): $(
    sync; echo 3 >/proc/sys/vm/drop_caches
    begin=$(date +%s.%N)
    cat "$work/cidfs/ipfs/$root/large" >/dev/null
    end=$(date +%s.%N)
    awk -v b="$begin" -v e="$end" -v m="$large" 'BEGIN {printf "%.0f MiB/s", m/(e-b)}'
)"
echo
"$bench" --rounds "$rounds" ${only:+--only "$only"} "${mounts[@]}"
echo
if [ -z "$only" ]; then
    # seconds COMMAND...: how long it took, the best of three.
    seconds() {
        local best="" begin end
        for _ in 1 2 3; do
            begin=$(date +%s.%N)
            "$@" >/dev/null
            end=$(date +%s.%N)
            best=$(awk -v b="$begin" -v e="$end" -v old="$best" \
                'BEGIN {took = e - b; print (old == "" || took < old) ? took : old}')
        done
        echo "$best"
    }
    per_second() { awk -v n="$1" -v s="$2" 'BEGIN {printf "%.0f", n / s}'; }
    both=$(openssl speed -seconds 2 -bytes 1048576 -multi "$(nproc)" sha256 2>/dev/null |
        awk 'END {sub("k", "", $2); printf "%.0f", $2 * 1000 / 1048576}')
    echo "| adding | unit | cidfs | beside it |"
    echo "|---|---|---:|---|"
    echo "| -n, the large file | MiB/s | $(per_second "$large" "$(seconds "$cidfs" add -n -Q "$corpus/large")") |" \
        "SHA-256 on all cores by openssl: $both |"
    # Files that neither has seen: what is stored already is not stored again.
    fresh=$work/fresh
    mkdir "$fresh"
    head -c 10240000 /dev/urandom | split -b 1024 -a 4 -d - "$fresh/file-"
    once() {
        local begin end
        begin=$(date +%s.%N)
        "$@" >/dev/null
        end=$(date +%s.%N)
        awk -v b="$begin" -v e="$end" 'BEGIN {print e - b}'
    }
    ours=$(per_second 10000 "$(once "$cidfs" add -r -Q "$fresh")")
    kubo_small=""
    if [ -n "$kubo_pid" ]; then
        kubo_small="Kubo's \`ipfs add\`: $(per_second 10000 "$(once "$CIDFS_KUBO" add -r -Q "$fresh")")"
    fi
    echo "| -r, 10,000 new small files | files/s | $ours | $kubo_small |"
    echo
fi
"$cidfs" status >&2 || true
