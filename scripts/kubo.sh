#!/usr/bin/env bash
# Builds the Kubo that tests/interop/kubo/go.mod pins, once, and prints the path of its program.
#
# Usage: scripts/kubo.sh
# The program goes to ${CIDFS_TOOLS:-target/tools}/ipfs. It is 120 MB and takes some minutes to build
# the first time; a program of the pinned version that is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=${CIDFS_TOOLS:-target/tools}
module=tests/interop/kubo
pinned=$(sed -n 's/^require github.com\/ipfs\/kubo v//p; s/^\tgithub.com\/ipfs\/kubo v\([0-9.]*\).*/\1/p' "$module/go.mod" | head -n 1)

built_version() {
    [ -x "$tools/ipfs" ] && IPFS_TELEMETRY=off "$tools/ipfs" version --number 2>/dev/null
}

if [ -z "$pinned" ]; then
    echo "kubo.sh: $module/go.mod names no version of Kubo" >&2
    exit 1
fi
mkdir -p "$tools"
tools=$(cd "$tools" && pwd)
if [ "$(built_version)" != "$pinned" ]; then
    if ! command -v go >/dev/null; then
        echo "kubo.sh: Go is needed to build Kubo $pinned: https://go.dev/doc/install" >&2
        exit 1
    fi
    echo "kubo.sh: building Kubo $pinned into $tools (some minutes, once)" >&2
    (cd "$module" && go build -o "$tools/ipfs.new" github.com/ipfs/kubo/cmd/ipfs) >&2
    mv "$tools/ipfs.new" "$tools/ipfs"
fi
if [ "$(built_version)" != "$pinned" ]; then
    echo "kubo.sh: $tools/ipfs is not Kubo $pinned" >&2
    exit 1
fi
echo "$tools/ipfs"
