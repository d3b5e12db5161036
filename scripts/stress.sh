#!/usr/bin/env bash
# Programs that write and check what they wrote, on the writable tree: fio with verification through
# each of its ways to do I/O, the file system stressors of stress-ng, LMDB with a writable map, RocksDB.
#
# Usage: scripts/stress.sh [--on DIR] [--only WORD] [--mib N] [--seconds N] [--keep] [--require]
#   --only WORD   only the checks whose names contain it: fio, stress-ng, lmdb, rocksdb
#   --mib N       the size of fio's files (64)
#   --seconds N   for each stressor of stress-ng (2)
#   --on DIR      on a directory of any other file system
# What is not installed is installed with apt, or with pip into ${CIDFS_TOOLS:-target/tools}; where
# that fails, the check is skipped aloud, and is a failure with --require or CIDFS_REQUIRE_TOOLS=1.
# The last line is "N passed, N failed". Exits with 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/proof-lib.sh

only='' mib=64 seconds=2
lmdb_version=1.4.1
proof_begin stress
while [ $# -gt 0 ]; do
    case $1 in
    --only) only=$2; shift 2 ;;
    --mib) mib=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    *) proof_option "$@"; shift "$taken" ;;
    esac
done

# check NAME SECONDS COMMAND...: runs it in a directory of its own, which goes afterwards.
check() {
    local name=$1 limit=$2 dir=$tree/$1 log=$work/$1.log begin
    shift 2
    mkdir -p "$dir"
    begin=$(date +%s)
    local status=0
    (cd "$dir" && deadline "$limit" "$@") >"$log" 2>&1 || status=$?
    if [ "$status" -eq 0 ]; then
        pass "$name ($(($(date +%s) - begin)) s)"
    elif [[ $name == stress-ng-* && $status -eq 4 ]]; then
        # Its word for "this file system has no such thing": fiemap, leases, verity.
        echo "absent  $name"
    else
        keep=1
        fail "$name: $*"
        tail -n 20 "$log"
    fi
    rm -rf --one-file-system "$dir"
}

with_fio() {
    if ! proof_tool fio fio; then
        skip "fio: not installed"
        return 0
    fi
    # Each block carries its checksum and place; a file is written twice over, then verified from disk.
    local common=(fio --size="${mib}M" --filename=data --verify=crc32c --verify_fatal=1 --do_verify=1
        --randrepeat=1 --loops=2 --fsync=64 --end_fsync=1 --invalidate=1)
    check fio-psync 300 "${common[@]}" --name=psync --ioengine=psync --rw=randwrite --bsrange=512-64k --bs_unaligned=1
    check fio-psync-sequential 300 "${common[@]}" --name=sequential --ioengine=psync --rw=write --bs=1M
    check fio-libaio-direct 300 "${common[@]}" --name=libaio --ioengine=libaio --direct=1 --iodepth=16 --rw=randwrite --bs=4k
    check fio-mmap 300 "${common[@]}" --name=mmap --ioengine=mmap --rw=randwrite --bs=4k
    check fio-io_uring 300 "${common[@]}" --name=uring --ioengine=io_uring --iodepth=16 --rw=randwrite --bs=4k
    check fio-io_uring-direct 300 "${common[@]}" --name=uring --ioengine=io_uring --direct=1 --iodepth=16 --rw=randwrite --bs=16k
    # Several writers at once, each with a file of its own, reading and writing.
    check fio-writers 300 fio --name=many --directory=. --numjobs=8 --size="$((mib / 4))M" \
        --ioengine=psync --rw=randrw --bs=4k --verify=crc32c --verify_fatal=1 --fsync=128
}

with_stress_ng() {
    if ! proof_tool stress-ng stress-ng; then
        skip "stress-ng: not installed"
        return 0
    fi
    local all stressor
    all=$(stress-ng --class 'filesystem?' 2>/dev/null | sed -n "s/^class 'filesystem' stressors: //p")
    for stressor in $all; do
        case $stressor in
        # These touch other file systems than the one of their directory, or none.
        bind-mount | binderfs | dup | eventfd | ioprio | procfs) continue ;;
        esac
        check "stress-ng-$stressor" "$((seconds + 60))" \
            stress-ng --"$stressor" 2 --timeout "${seconds}s" --verify --temp-path . --no-rand-seed
    done
}

with_lmdb() {
    local tools=${CIDFS_TOOLS:-target/tools} python
    mkdir -p "$tools"
    python=$(cd "$tools" && pwd)/python/bin/python3
    if ! "$python" -c "import lmdb; assert lmdb.__version__ == '$lmdb_version'" 2>/dev/null; then
        { python3 -m venv "$tools/python" && "$python" -m pip install -q "lmdb==$lmdb_version"; } >&2 || true
    fi
    if ! "$python" -c 'import lmdb' 2>/dev/null; then
        skip "lmdb: the module could not be installed"
        return 0
    fi
    check lmdb-writable-map 300 "$python" - <<'PYTHON'
import hashlib, lmdb, random

def value(key, generation):
    return hashlib.sha256(b"%s %d" % (key, generation)).digest() * (1 + key[-1] % 60)

rng = random.Random(7)
expected = {}
for generation in range(6):
    # Opened anew each time: what a generation left in the map must be in the file.
    env = lmdb.open("db", map_size=256 << 20, writemap=True, map_async=generation % 2 == 1, sync=True)
    for _ in range(40):
        with env.begin(write=True) as txn:
            for _ in range(100):
                key = b"key-%06d" % rng.randrange(8000)
                if rng.random() < 0.2:
                    txn.delete(key)
                    expected.pop(key, None)
                else:
                    txn.put(key, value(key, generation))
                    expected[key] = value(key, generation)
    env.sync(True)
    with env.begin() as txn:
        found = {bytes(k): bytes(v) for k, v in txn.cursor()}
    assert found == expected, f"generation {generation}: {len(found)} entries, {len(expected)} expected"
    env.close()
env = lmdb.open("db", readonly=True)
with env.begin() as txn:
    assert {bytes(k): bytes(v) for k, v in txn.cursor()} == expected
PYTHON
}

with_rocksdb() {
    if ! proof_tool db_bench rocksdb-tools || ! proof_tool ldb rocksdb-tools; then
        skip "rocksdb: not installed"
        return 0
    fi
    local benchmarks=fillseq,overwrite,deleterandom,readrandom,compact
    local common=(db_bench --db=db --num=100000 --value_size=200 --write_buffer_size=2097152 --seed=7
        --verify_checksum=true --histogram=false)
    check rocksdb 300 "${common[@]}" --benchmarks="$benchmarks"
    check rocksdb-sync 300 "${common[@]}" --num=2000 --benchmarks=fillsync,readrandom
    # shellcheck disable=SC2016  # The inner shell's words.
    check rocksdb-consistency 300 bash -euo pipefail -c '
        "$@" >/dev/null 2>&1
        ldb --db=db checkconsistency | grep -qx OK
        ldb --db=db manifest_dump >/dev/null
        for table in db/*.sst; do sst_dump --file="$table" --command=verify >/dev/null; done' \
        - "${common[@]}" --benchmarks="$benchmarks" --mmap_read=true
    check rocksdb-direct 300 "${common[@]}" --benchmarks="$benchmarks" --use_direct_reads=true \
        --use_direct_io_for_flush_and_compaction=true
}

proof_tree
for group in with_fio with_stress_ng with_lmdb with_rocksdb; do
    name=${group#with_}
    case ${name/_/-} in *"$only"*) "$group" ;; esac
done
proof_end
