#!/usr/bin/env bash
# Everything that a change must pass: format, lints, documentation, tests. This is what CI runs.
#
# Usage: scripts/check.sh
# The last line is "N passed, N failed": tests of all binaries, and one failure for each other step
# that failed. Exits with 1 if anything failed.
set -uo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh || exit 1
command -v cargo >/dev/null || . "$HOME/.cargo/env"

passed=0
failed=0

# step NAME COMMAND...: runs all steps even when one fails, so that one run shows everything.
step() {
    local name=$1
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    if ! "$@"; then
        echo "FAILED: $name"
        failed=$((failed + 1))
    fi
}

# tests NAME COMMAND...: adds up the result lines of every test binary that the command runs.
tests() {
    local name=$1 log status ok bad
    shift
    log=$(mktemp)
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    ok=$(sed -n 's/^test result: .* \([0-9]*\) passed; .*/\1/p' "$log" | paste -sd+ | sed 's/^$/0/')
    bad=$(sed -n 's/^test result: .* \([0-9]*\) failed; .*/\1/p' "$log" | paste -sd+ | sed 's/^$/0/')
    rm -f "$log"
    passed=$((passed + $((ok))))
    failed=$((failed + $((bad))))
    # A binary that did not compile, or that died, prints no result line.
    if [ "$status" -ne 0 ] && [ $((bad)) -eq 0 ]; then
        echo "FAILED: $name (status $status)"
        failed=$((failed + 1))
    fi
}

step format cargo fmt --check
step lints cargo clippy --locked --all-targets --all-features -- -D warnings
step documentation env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
if [ -e fuzz/Cargo.toml ]; then
    step "fuzz targets build" cargo check --manifest-path fuzz/Cargo.toml
fi
tests tests cargo test --locked --no-fail-fast --lib --bins --test it --test mount
tests "documentation tests" cargo test --locked --no-fail-fast --doc

echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
