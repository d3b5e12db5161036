#!/usr/bin/env bash
# Compares cidfs with a real Kubo: identifiers, CAR files, and trees read through a mount.
#
# Usage: scripts/interop.sh [FILTER...]
# Builds the pinned Kubo if it is not there (needs Go) and runs the tests in tests/interop, or those
# whose names contain a FILTER. Kubo runs on loopback, in a temporary repository, without peers.
# The last line is "N passed, N failed". Exits with 1 if anything failed.
set -uo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "interop: $*" >&2
    echo
    echo "0 passed, 1 failed"
    exit 1
}

command -v cargo >/dev/null || . "$HOME/.cargo/env"
kubo=$(scripts/kubo.sh) || fail "there is no Kubo to compare with"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

CIDFS_KUBO=$kubo CIDFS_REQUIRE_TOOLS=1 \
    cargo test --locked --no-fail-fast --test interop -- "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

read -r passed failed < <(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed;.*/\1 \2/p' "$log")
# Without a result line the tests did not compile, or died.
if [ -z "${passed:-}" ]; then
    passed=0
    failed=0
fi
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    failed=1
fi
echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
