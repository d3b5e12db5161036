#!/usr/bin/env bash
# Runs fsx (the crate) on a file of the writable tree: random operations, each read compared with what
# must be there. All its operations are on (tests/fsx.toml), mmap and copy_file_range too.
#
# Usage: scripts/fsx.sh [--on DIR] [--seeds LIST|COUNT] [--ops N] [--long] [--keep] [--require]
#   --seeds    how many seeds (5: the numbers 1 to 5), or the seeds, separated by commas
#   --ops N    operations for each seed (20000)
#   --long     10 seeds of 1,000,000 operations, in runs of 50,000: seed S has S, S + 1000, S + 2000, …
#   --on DIR   on a directory of any other file system
# A seed repeats a run exactly. The file and the log of a seed that failed are kept, with the command.
# The last line is "N passed, N failed". Exits with 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/proof-lib.sh

version=0.3.2
which=5 ops=20000 run_max=50000
proof_begin fsx
while [ $# -gt 0 ]; do
    case $1 in
    --seeds) which=$2; shift 2 ;;
    --ops) ops=$2; shift 2 ;;
    --long) which=10 ops=1000000; shift ;;
    *) proof_option "$@"; shift "$taken" ;;
    esac
done
case $which in
*,*) IFS=, read -ra seeds <<<"$which" ;;
*) mapfile -t seeds < <(seq "$which") ;;
esac

proof_cargo fsx "$version"
proof_tree

# All operations of a seed, in runs with seeds of their own: this fsx never unmaps what it maps to read,
# so that one run gets slow, and the kernel refuses at 65,530 mappings; its -b fails on ext4 too.
one_seed() {
    local seed=$1 file=$2 out=$3 left=$ops run=0 some
    while [ "$left" -gt 0 ]; do
        some=$((left < run_max ? left : run_max))
        command=("$program" -f tests/fsx.toml -N "$some" -S "$((seed + 1000 * run))" -P "$out" "$file")
        # Far below what any file system does, also beside other work.
        deadline $((some / 250 + 120)) "${command[@]}" >"$out/log" 2>&1 || return 1
        left=$((left - some)) run=$((run + 1))
        # What was overwritten would fill the disk over a million operations.
        [ "$left" -eq 0 ] || [ -z "$mnt" ] || "$cidfs" gc >/dev/null || return 1
    done
}

for seed in "${seeds[@]}"; do
    file=$tree/seed-$seed out=$work/seed-$seed
    mkdir "$out"
    begin=$(date +%s)
    if one_seed "$seed" "$file" "$out"; then
        pass "seed $seed: $ops operations in $(($(date +%s) - begin)) s"
        rm -f "$file"
    else
        keep=1
        fail "seed $seed: ${command[*]}"
        tail -n 40 "$out/log"
        cp "$file" "$out/file" 2>/dev/null || true
    fi
done
proof_end
