#!/usr/bin/env bash
# Runs pjdfstest (the crate) on the writable tree, mounted as the root of a mount of its own.
#
# Usage: scripts/pjdfstest.sh [--on DIR] [--keep] [--require] [PATTERN...]
#   --on DIR   on a directory of any other file system, for comparison
#   PATTERN    only the tests whose names contain one of these
# Needs root, and a tmpfs at /dev/shm as the second file system. The crate is installed once into
# ${CIDFS_TOOLS:-target/tools}. A test that is skipped must stand in tests/pjdfstest.skips with its
# reason, and on cidfs one that stands there must be skipped: either difference counts as a failure.
# That leaves 384 tests: 377 that every sound FUSE file system passes, and 7 for the ctime that local
# file systems change with a rename.
# The last line is "N passed, N failed". Exits with 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/proof-lib.sh

patterns=()
version=0.2.2
list=$PWD/tests/pjdfstest.skips
proof_begin pjdfstest
while [ $# -gt 0 ]; do
    case $1 in
    --*) proof_option "$@"; shift "$taken" ;;
    *) patterns+=("$1"); shift ;;
    esac
done

if [ "$(id -u)" -ne 0 ]; then
    skip "pjdfstest: it takes root"
    proof_end
    exit
fi
if [ ! -e /usr/include/sys/acl.h ]; then
    say "installing libacl1-dev"
    apt_install libacl1-dev || { fail "pjdfstest: there is no libacl1-dev"; proof_end; exit; }
fi
proof_cargo pjdfstest "$version"
proof_tree

cat >"$work/pjdfstest.toml" <<'CONF'
[features]
rename_ctime = {}
posix_fallocate = {}
utime_now = {}
utimensat = {}

[settings]
naptime = 0.01
allow_remount = false

[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
CONF
mkdir "$tree/run"
chmod 777 "$tree/run"

status=0
deadline 600 "$program" -c "$work/pjdfstest.toml" -p "$tree/run" -s /dev/shm "${patterns[@]}" \
    >"$work/log" 2>&1 || status=$?

# The names are coloured whatever the terminal; what follows a name is on the lines below it.
sed 's/\x1b\[[0-9;]*m//g' "$work/log" >"$work/plain"
grep -E '^[^[:space:]].* (skipped|FAILED)$' -A 1 "$work/plain" | grep -v '^--$' || true
awk '$2 == "skipped" {print $1}' "$work/plain" | sort >"$work/skipped"
sed 's/ *#.*//; /^$/d' "$list" | sort >"$work/expected"
if [ "${#patterns[@]}" -eq 0 ]; then
    while read -r name; do
        fail "$name was skipped and is not in ${list##*/}"
    done < <(comm -23 "$work/skipped" "$work/expected")
    while read -r name; do
        # Another file system may be able to do more.
        [ -n "$on" ] || fail "$name is in ${list##*/} and was not skipped"
    done < <(comm -13 "$work/skipped" "$work/expected")
fi
read -r bad ok < <(sed -n 's/^Summary: \([0-9]*\) failed, [0-9]* skipped, \([0-9]*\) passed.*/\1 \2/p' "$work/plain") ||
    fail "pjdfstest ended without a summary (status $status)"
passed=$((passed + ${ok:-0}))
failed=$((failed + ${bad:-0}))
echo "$(wc -l <"$work/skipped") skipped"
proof_end
