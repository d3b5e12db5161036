#!/usr/bin/env bash
# Installs what a fresh Debian or Ubuntu lacks for building cidfs and running its tests.
#
# Usage: scripts/setup.sh
# Does nothing, at once, when everything is there. Installs packages with apt (through sudo unless
# run by root), never anything else. Rust is not installed: where it is missing, this says how to
# get it and stops.
set -euo pipefail

say() { echo "setup: $*"; }

# Each line: a program, and the package that brings it.
needed() {
    cat <<'END'
fusermount3 fuse3
cc build-essential
pkg-config pkg-config
git git
rsync rsync
sqlite3 sqlite3
python3 python3
getfattr attr
fuser psmisc
file file
less less
tar tar
diff diffutils
find findutils
mount mount
findmnt util-linux
unshare util-linux
setpriv util-linux
script bsdutils
END
}

missing_packages() {
    needed | while read -r program package; do
        command -v "$program" >/dev/null || echo "$package"
    done | sort -u
}

if ! command -v cargo >/dev/null && [ -r "$HOME/.cargo/env" ]; then
    # shellcheck disable=SC1091
    . "$HOME/.cargo/env"
fi
if ! command -v cargo >/dev/null; then
    say "Rust is missing. Get it with" >&2
    say "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
    say "and run this again in a new shell." >&2
    exit 1
fi

mapfile -t packages < <(missing_packages)
if [ "${#packages[@]}" -eq 0 ]; then
    say "everything needed is installed"
else
    if ! command -v apt-get >/dev/null; then
        say "please install by hand (there is no apt here): ${packages[*]}" >&2
        exit 1
    fi
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            say "neither root nor sudo; as root, run: apt-get install ${packages[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    say "installing ${packages[*]}"
    install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
        apt-get install -y -qq --no-install-recommends "${packages[@]}")
    # The package lists of a fresh machine are absent or stale: fetch them only if the first try fails.
    if ! "${install[@]}" >/dev/null 2>&1; then
        "${as_root[@]}" apt-get update -qq
        "${install[@]}" >/dev/null
    fi
    mapfile -t packages < <(missing_packages)
    if [ "${#packages[@]}" -ne 0 ]; then
        say "still missing after the installation: ${packages[*]}" >&2
        exit 1
    fi
    say "done"
fi

if [ ! -e /dev/fuse ]; then
    say "warning: there is no /dev/fuse, so nothing can be mounted here" >&2
    say "         (in a container: --device /dev/fuse --cap-add SYS_ADMIN)" >&2
fi
