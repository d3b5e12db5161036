#!/usr/bin/env bash
# Makes the data set in demo/: writes a small tree, has Kubo add it, and exports it as CAR files.
#
# Usage: scripts/make-demo-data.sh
# Needs: go (to build the pinned Kubo once) and python3. The result is the same, byte for byte, on
# every machine: times and modes are not stored, and the picture is compressed by nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

ipfs=$(scripts/kubo.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export IPFS_PATH="$work/repo" IPFS_TELEMETRY=off

write_texts() {
    mkdir -p "$1/texts" "$1/links/up/and/down"
    cat >"$1/README.txt" <<'END'
A small library, addressed by content
=====================================

Everything below this directory is stored in IPFS. You are reading it through
an ordinary file system: use ls, cat, grep, cp, tar or an image viewer, and
nothing here will seem unusual. That is the point.

    texts/     five short notes on content addressing
    pictures/  a Merkle tree, drawn by arithmetic
    data/      bytes that no one would want to read, in more than one block
    links/     symbolic links, some of them going a long way round

Try this:

    sha256sum data/noise.bin
    cat links/start-here
    getfattr -n ipfs.cid texts/1-names.txt
END
    cat >"$1/texts/1-names.txt" <<'END'
1. Names that cannot lie

A path says where to look. Whoever keeps that place decides what you find
there, and may decide differently tomorrow. Most of the time this is what we
want: today's newspaper should not be yesterday's.

A content identifier says what you will find, and leaves open where. It is
made from the bytes themselves by a hash function, so anyone who has the bytes
can work it out, and no one can find other bytes that answer to it. Whether
they came from a friend, a server on the other side of the world or a stranger
on the train, you can check them on arrival.

There is a price. A name made from bytes cannot be chosen, is not pretty, and
changes completely when one letter changes. It is a name for machines to
compare, and for people to copy and paste.
END
    cat >"$1/texts/2-trees.txt" <<'END'
2. Trees of hashes

A large file is cut into chunks. Each chunk has its own identifier, and a
small block above them lists those identifiers in order. That list is a block
like any other, so it has an identifier too, and this one stands for the whole
file. Ralph Merkle described such trees in 1979.

Directories work the same way: a block that lists names, each with the
identifier of what it names. The identifier of the topmost directory depends
on every byte below it. Two people who hold the same root hold the same tree,
without comparing anything else.

Reading needs only a path through the tree. To show you the last line of a
long file, a file system fetches the blocks from the root to that line, and
leaves the rest wherever they are.
END
    cat >"$1/texts/3-caches.txt" <<'END'
3. The easiest cache in the world

There are said to be two hard things in computing: naming things, and knowing
when a cached copy is out of date. When the name is made from the content, the
second one goes away. A copy is either right for ever, or was never right.

So nothing here expires. A block fetched once need never be asked for again;
the kernel may keep a page for as long as it has the memory; a copy on a USB
stick found in a drawer is as good as the original. What remains to be decided
is only what to throw away when there is no more room.
END
    cat >"$1/texts/4-change.txt" <<'END'
4. What about change?

Nothing under an identifier ever changes. To change a file is to make another
file, and with it another directory that lists it, and so on up to a new root.
Every part that stayed the same keeps its identifier and is shared by the old
tree and the new: a day's work in a large tree adds a few small blocks.

The old root remains valid. Keep it, and you have a snapshot; keep them all,
and you have a history. A name that should follow the newest version is a
separate and much smaller thing: a signed note saying which root is current.
END
    cat >"$1/texts/5-ünïcode ✓.txt" <<'END'
5. Names are bytes

A file name on a Unix system is a string of bytes without a slash and without
a zero. This one has accents, a space and a check mark in it. Grüße, 你好, مرحبا.

The directory block keeps the bytes as they are. It does not fold upper case
into lower, does not compose or decompose accents, and does not mind spaces.
END
    : >"$1/texts/empty.txt"
    ln -s ../README.txt "$1/links/start-here"
    ln -s ../texts "$1/links/texts"
    ln -s up/and/down/../../../start-here "$1/links/the-long-way-round"
    ln -s ../../../../pictures/tree.png "$1/links/up/and/down/picture"
    ln -s nowhere "$1/links/leads-nowhere"
}

# The picture and the bytes: plain arithmetic, no compressor whose version could show.
write_pictures_and_data() {
    mkdir -p "$1/pictures" "$1/data/deep/deeper/deepest"
    python3 - "$1" <<'END'
import hashlib, struct, sys, zlib

top = sys.argv[1]
WIDTH, HEIGHT, LEVELS = 320, 200, 6


def draw_tree():
    """Returns rows of palette indices: a binary tree, its edges coloured by level."""
    rows = [bytearray(WIDTH) for _ in range(HEIGHT)]
    step = (HEIGHT - 30) // LEVELS

    def dot(x, y, radius, colour):
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                if dx * dx + dy * dy <= radius * radius and 0 <= y + dy < HEIGHT and 0 <= x + dx < WIDTH:
                    rows[y + dy][x + dx] = colour

    def branch(x, y, spread, level):
        if level < LEVELS:
            for side in (-1, 1):
                for i in range(step * 4):
                    dot(x + side * spread * i // (step * 4), y + i // 4, 1 if level < 2 else 0, 1 + level)
                branch(x + side * spread, y + step, (spread + 1) // 2, level + 1)
        dot(x, y, max(1, 7 - level), 8 + level)

    branch(WIDTH // 2, 15, WIDTH // 4, 0)
    return rows


def png(rows):
    """Returns a palette PNG whose deflate stream holds stored blocks only."""
    shades = [(255, 253, 245)] + [(90 + 20 * i, 70 + 22 * i, 60 + 15 * i) for i in range(7)]
    shades += [(20 + 30 * i, 90 + 15 * i, 160 - 12 * i) for i in range(8)]
    raw = b"".join(b"\0" + bytes(row) for row in rows)
    parts = [raw[i : i + 65535] for i in range(0, len(raw), 65535)]
    stream = b"\x78\x01"
    for number, part in enumerate(parts):
        stream += struct.pack("<BHH", number == len(parts) - 1, len(part), len(part) ^ 0xFFFF) + part
    stream += struct.pack(">I", zlib.adler32(raw))
    out = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)
    palette = b"".join(bytes(shade) for shade in shades)
    for kind, body in ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", stream), (b"IEND", b"")):
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return out


def noise(length):
    """Returns bytes that do not repeat: SHA-256 in counter mode."""
    blocks = (hashlib.sha256(b"cidfs demo %d" % i).digest() for i in range(length // 32 + 1))
    return b"".join(blocks)[:length]


with open(top + "/pictures/tree.png", "wb") as file:
    file.write(png(draw_tree()))
with open(top + "/data/noise.bin", "wb") as file:
    file.write(noise(1_600_000))
with open(top + "/data/one-block.bin", "wb") as file:
    file.write(noise(100_000))
with open(top + "/data/deep/deeper/deepest/treasure.txt", "w") as file:
    file.write("You found it. It was in the tree all along.\n")
END
}

# Long names, many of them: enough for a directory that Kubo spreads over many blocks (a HAMT).
write_numbers() {
    mkdir -p "$1"
    python3 - "$1" <<'END'
import sys

ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen").split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()


def words(n):
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + ("-" + ONES[n % 10] if n % 10 else "")
    return ONES[n // 100] + " hundred" + (" and " + words(n % 100) if n % 100 else "")


def factors(n):
    found, divisor = [], 2
    while n > 1:
        while n % divisor == 0:
            found.append(divisor)
            n //= divisor
        divisor += 1
    return found


for n in range(1, 701):
    text = words(n)
    proof = " x ".join(map(str, factors(n))) or "1"
    kind = "a prime" if len(factors(n)) == 1 else "= " + proof
    with open(f"{sys.argv[1]}/{n:03} {text}.txt", "w") as file:
        file.write(f"{n}: {text}, {kind}\n")
END
}

# pack DIR NAME: adds DIR, writes demo/NAME.car and its lines of MANIFEST, sets $root.
pack() {
    root=$("$ipfs" add -r -Q --pin=false "$1")
    "$ipfs" dag export --progress=false "$root" >"demo/$2.car"
    (cd "$1" && find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum) |
        sed "s|  |  ipfs/$root/|" >>demo/MANIFEST
}

"$ipfs" init --profile=test,unixfs-v1-2025 >/dev/null
mkdir -p demo "$work/library" "$work/numbers"
: >demo/MANIFEST
write_texts "$work/library"
write_pictures_and_data "$work/library"
write_numbers "$work/numbers"

pack "$work/library" library
library=$root
# The profile shards a directory above 256 KiB; a smaller limit makes the same shape with fewer files.
"$ipfs" config Import.UnixFSHAMTDirectorySizeThreshold 8KiB
pack "$work/numbers" numbers
numbers=$root

cat >demo/ROOTS <<END
library $library
numbers $numbers
END
cat demo/ROOTS
ls -l demo
