#!/usr/bin/env bash
# Kills the daemon under work and compares what is there after the next mount with what the programs
# on the mount were told. tests/crash holds the harness.
#
# Usage: scripts/crash.sh [--quick | --all | --self-test] [OPTION...]
#   (nothing)         fsynced files, then 200 rounds
#   --streams         rounds of long streams: one writer of large files alone, and four beside each other,
#                     with --rounds, --delete-index or --cut-segment as named
#   --quick           a bounded run of everything, for CI
#   --all             fsynced files, 200 rounds, 50 with the index deleted, 50 with the journal's last
#                     segment cut at a random byte, 60 of long streams, 30 of these with that cut, and the
#                     sweeps at every call
#   --self-test       only whether the harness notices trees that were broken on purpose
#   --rounds N        of kill -9 under four workers; with --delete-index or --cut-segment as named
#   --sweep [N]       strace kills the daemon at every N-th write and sync of a fixed workload, and of one
#                     of long streams, and makes them fail with EIO and ENOSPC; one run for each
#   --seed N          repeats the choices of a run (not the moments of its kills)
#   --plain, --peer "COMMAND {back} {mnt}"   on a directory or another FUSE file system, to try the harness
#   --keep, --require
# After a kill: all that was acknowledged is there, and of each worker's one call in flight all or
# nothing. After a cut: one prefix of what was acknowledged, no older than the last acknowledged fsync;
# with streams the ring, too, is left as it is, or goes, or has pages of another time, as after a power loss.
# What was found wrong is kept, with the manifests and the repository.
# The last line is "N passed, N failed". Exits with 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/proof-lib.sh

proof_begin crash
mode='' rounds=200 seed='' subject=() kinds=() stride='' streams=()
while [ $# -gt 0 ]; do
    case $1 in
    --quick | --all | --self-test) mode=${1#--}; shift ;;
    --rounds) rounds=$2; shift 2 ;;
    --seed) seed=$2; shift 2 ;;
    --delete-index | --cut-segment) kinds+=("$1"); shift ;;
    --streams) streams=(--streams --seconds 0.3 3); shift ;;
    --sweep)
        stride=1
        shift
        case ${1:-} in [0-9]*) stride=$1; shift ;; esac
        ;;
    --plain) subject=(--plain); shift ;;
    --peer) subject=(--peer "$2"); shift 2 ;;
    *) proof_option "$@"; shift "$taken" ;;
    esac
done

# Runs a part of the harness in a directory of its own, and takes its figures over.
part() {
    local name=$1 dir=$work/$1 ok bad status=0
    shift
    mkdir "$dir"
    echo "== $name: $*"
    : >"$dir/out"
    python3 -B "$@" >"$dir/out" 2>&1 &
    started+=($!)
    tail -f --pid=$! -n +1 "$dir/out" &
    wait "${started[-1]}" || status=$?
    wait $! || true
    unset 'started[-1]'
    read -r ok bad < <(tail -n 1 "$dir/out" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p') || true
    passed=$((passed + ${ok:-0}))
    failed=$((failed + ${bad:-0}))
    if [ "$status" -ne 0 ]; then
        keep=1
        [ "${bad:-0}" -gt 0 ] || fail "$name ended with status $status"
    fi
}

crash() {
    local name=$1
    shift
    mkdir -p "$work/$name.d"
    part "$name" tests/crash/crash.py --work "$work/$name.d" "${subject[@]}" ${seed:+--seed "$seed"} "$@"
    [ -n "$keep" ] || rm -rf --one-file-system "${work:?}/$name.d"
}

sweeps() {
    if ! proof_tool strace strace; then
        skip "sweep: there is no strace"
        return 0
    fi
    local fault
    for fault in kill EIO ENOSPC; do
        crash "sweep-$fault" --rounds 0 --sweep "$fault" "$@"
    done
    # Of these the ring is struck, too.
    for fault in ${struck_streams:-kill EIO ENOSPC}; do
        crash "sweep-streams-$fault" --rounds 0 --sweep "$fault" --streams "$@"
    done
}

self_test() {
    mkdir -p "$work/made"
    CRASH_DIR=$work/made part self-test tests/crash/selftest.py
}

if [ "$mode" = self-test ]; then
    self_test
    proof_end
    exit
fi
if [ "${#subject[@]}" -eq 0 ]; then
    proof_cidfs
    options=default_permissions
    [ "$(id -u)" -ne 0 ] || options=$mount_options
    subject=(--cidfs "$cidfs" --options "$options")
fi
case $mode in
quick)
    self_test
    crash fsynced --fsynced --rounds 12
    crash index-deleted --rounds 4 --delete-index
    crash segment-cut --rounds 8 --cut-segment
    crash streams --streams --rounds 6 --seconds 0.3 1.5 --stream-mib 96
    crash streams-cut --streams --rounds 3 --seconds 0.3 1 --stream-mib 64 --cut-segment
    struck_streams=kill
    sweeps --stride 7 --points 6 --ops 60
    ;;
all)
    self_test
    crash fsynced --fsynced --rounds "$rounds"
    crash index-deleted --rounds 50 --delete-index
    crash segment-cut --rounds 50 --cut-segment
    crash streams --streams --rounds 60 --seconds 0.3 3
    crash streams-cut --streams --rounds 30 --seconds 0.3 2 --cut-segment
    sweeps --stride "${stride:-1}"
    ;;
*)
    if [ -n "$stride" ]; then
        sweeps --stride "$stride"
    elif [ "${#streams[@]}" -gt 0 ]; then
        crash streams "${streams[@]}" --rounds "$rounds" "${kinds[@]}"
    else
        crash rounds --fsynced --rounds "$rounds" "${kinds[@]}"
    fi
    ;;
esac
proof_end
