# shellcheck shell=bash
# What the proof scripts share. It is sourced from the project's directory, never run.
#
#   proof_begin NAME         counters, a work directory in target/, and a trap that leaves nothing behind
#   proof_option "$@"        takes the options that every script has; the caller shifts by $taken
#   proof_tree               sets $tree: a new directory below --on DIR, or the root of a new mount of /mfs
#   proof_tool PROG PACKAGE  true if the program is there or can be installed (apt)
#   proof_cargo NAME VERSION installs a pinned crate into ${CIDFS_TOOLS:-target/tools}; sets $program
#   pass/fail/skip NAME …    one line each; within --require (or CIDFS_REQUIRE_TOOLS=1) a skip is a failure
#   deadline SECONDS CMD…    runs CMD; when it hangs on the mount, the daemon is killed to free it
#   proof_end                prints "N passed, N failed", which is the last line, and gives the status
#
# The options: --on DIR (a directory of any file system instead of cidfs), --keep (the work directory
# stays), --require. CIDFS_BIN names a cidfs to use; without it one is built.

passed=0 failed=0 skipped=0
work='' tree='' mnt='' daemon_pid='' on='' keep='' ended=''
require=${CIDFS_REQUIRE_TOOLS:-}
# What proof_leave ends, unmounts and removes beside cidfs: processes, mount points, directories.
started=() also_mounted=() also_made=() mount_points=()

say() { echo "$proof_name: $*" >&2; }

proof_begin() {
    proof_name=$1
    local target=${CARGO_TARGET_DIR:-target}
    # Not on a tmpfs: what is proven here is about disks.
    mkdir -p "$target"
    work=$(mktemp -d "$(cd "$target" && pwd)/$proof_name.XXXXXX")
    # Some tests become other users, who must get through to the mount.
    chmod 755 "$work"
    export CIDFS_REPO=$work/repo
    trap proof_leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# shellcheck disable=SC2034  # $taken is the caller's.
proof_option() {
    case ${1:-} in
    --on) on=$(cd "${2:?--on takes a directory}" && pwd) taken=2 ;;
    --keep) keep=1 taken=1 ;;
    --require) require=1 taken=1 ;;
    *) echo "unknown option ${1:-}; the usage is at the top of $0" >&2; exit 2 ;;
    esac
}

# Ends what this script started, and nothing else.
proof_leave() {
    local status=$?
    trap - EXIT
    cd / || true
    for pid in "${started[@]}"; do
        end_process "$pid"
    done
    for dir in "${also_mounted[@]}"; do
        ! mounted "$dir" || umount -l "$dir" || true
    done
    proof_unmount || true
    if [ -n "$on" ] && [ -n "$tree" ] && [ -z "$keep" ]; then
        also_made+=("$tree")
    fi
    # Only if empty: one that is still mounted is not to be emptied.
    for dir in "${mount_points[@]}"; do
        rmdir "$dir" || true
    done
    for dir in "${also_made[@]}"; do
        rm -rf --one-file-system "$dir"
    done
    if [ -n "$keep" ]; then
        say "kept $work"
    elif [ -n "$work" ]; then
        rm -rf --one-file-system "$work"
    fi
    # Whoever reads the last line must not take a script that died for one that passed.
    if [ -z "$ended" ]; then
        [ "$status" -ne 0 ] || status=1
        echo
        echo "$passed passed, $((failed + 1)) failed"
    fi
    exit "$status"
}

# Patiently, then not.
end_process() {
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq 100); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# The kernel is asked, not the mount: a daemon that hangs would hang us too.
mounted() { grep -qF " $1 " /proc/self/mounts; }

proof_unmount() {
    [ -n "$mnt" ] || return 0
    if mounted "$mnt"; then
        timeout 60 "$cidfs" umount "$mnt" >/dev/null 2>&1 || true
    fi
    timeout 60 "$cidfs" shutdown --force >/dev/null 2>&1 || true
    kill_daemon
    if mounted "$mnt"; then
        umount -l "$mnt" 2>/dev/null || fusermount3 -uz "$mnt" || true
    fi
    mnt=''
}

# Only if the number still belongs to the program that was started.
kill_daemon() {
    [ -n "$daemon_pid" ] || return 0
    for _ in $(seq 50); do
        [ "$(readlink "/proc/$daemon_pid/exe" 2>/dev/null)" = "$cidfs" ] || return 0
        sleep 0.1
    done
    say "daemon $daemon_pid does not end: killed"
    kill -9 "$daemon_pid" 2>/dev/null || true
}

proof_rust() {
    # shellcheck disable=SC1091  # Made by rustup.
    command -v cargo >/dev/null || . "$HOME/.cargo/env"
}

proof_cidfs() {
    if [ -n "${CIDFS_BIN:-}" ]; then
        cidfs=$(realpath "$CIDFS_BIN")
    else
        proof_rust
        cargo build --release --locked >&2
        cidfs=$(realpath "${CARGO_TARGET_DIR:-target}/release/cidfs")
    fi
}

# Mounts /mfs of this run's repository.
proof_mount() {
    # A short path: the tests bind sockets far below it, and a socket's address has 107 bytes.
    mnt=$(mktemp -d /tmp/cidfs.XXXXXX)
    chmod 755 "$mnt"
    mount_points+=("$mnt")
    local answer
    answer=$("$cidfs" mount -o "$mount_options" /mfs "$mnt")
    daemon_pid=$(sed -n 's/.*(daemon \([0-9]*\)).*/\1/p' <<<"$answer")
    tree=$mnt
}

# Root's tests need allow_other, and set-id and device files that work.
mount_options=allow_other,default_permissions,suid,dev

proof_tree() {
    if [ -n "$on" ]; then
        tree=$(mktemp -d "$on/$proof_name.XXXXXX")
        chmod 755 "$tree"
        return
    fi
    proof_cidfs
    proof_mount
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_install() {
    command -v apt-get >/dev/null || return 1
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@")
    as_root "${install[@]}" >/dev/null 2>&1 ||
        { as_root apt-get update -qq && as_root "${install[@]}"; } >/dev/null 2>&1
}

proof_tool() {
    command -v "$1" >/dev/null && return 0
    say "installing $2"
    apt_install "$2" && command -v "$1" >/dev/null
}

proof_cargo() {
    local name=$1 version=$2 tools=${CIDFS_TOOLS:-target/tools}
    mkdir -p "$tools"
    tools=$(cd "$tools" && pwd)
    program=$tools/bin/$name
    # What was installed is written down by cargo itself.
    grep -qsF "\"$name $version " "$tools/.crates.toml" && [ -x "$program" ] && return 0
    proof_rust
    say "installing $name $version into $tools"
    cargo install --quiet --locked --root "$tools" "$name@$version" >&2
}

pass() { passed=$((passed + 1)); printf 'ok      %s\n' "$*"; }
fail() { failed=$((failed + 1)); printf 'FAILED  %s\n' "$*"; }
skip() {
    if [ -n "$require" ] && [ "$require" != 0 ]; then
        fail "$* (not to be skipped here)"
    else
        skipped=$((skipped + 1))
        printf 'SKIPPED %s\n' "$*"
    fi
}

# A caller in a request that is never answered cannot be killed; ending the daemon ends the request.
deadline() {
    local seconds=$1 status=0 watcher
    shift
    (
        for _ in $(seq $((seconds + 20))); do sleep 1; done
        [ -z "$daemon_pid" ] || kill -9 "$daemon_pid" 2>/dev/null || true
    ) >/dev/null 2>&1 &
    watcher=$!
    timeout --kill-after=10 "$seconds" "$@" || status=$?
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    [ "$status" -ne 124 ] || say "no end after $seconds s: $*"
    return "$status"
}

proof_end() {
    [ "$skipped" -eq 0 ] || { echo; echo "$skipped SKIPPED"; }
    proof_unmount || true
    ended=1
    echo
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}
