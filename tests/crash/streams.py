"""Processes that write large files from end to end, and what must be there of them.

Contents are slices of one pool of random bytes: they cost nothing to make, no page of them is empty,
and no two places look alike. A file is judged by its bytes alone."""

import os
import random

import check
from model import PAGE
from ops import SYNCS, all_of, execute
from rounds import Rounds

MIB = 1 << 20
POOL = random.Random(20).randbytes(24 * MIB)
# What is compared at once.
UNIT = 64 << 10

# How a file is written: how often, and its length.
STYLES = {
    "dd": (10, [16 * MIB, 64 * MIB, 200 * MIB]),
    "append": (3, [16 * MIB, 64 * MIB]),
    "large": (2, [64 * MIB, 200 * MIB]),
    "odd": (2, [4 * MIB]),
    "near": (2, [16 * MIB]),
}
# What comes between two of its writes, and how often in all.
WEIGHTS = {"fsync": 4, "fdatasync": 2, "fsyncdir": 1, "look": 3, "write": 6, "truncate": 2, "rename": 2}
ODDS = 0.05


def bytes_of(op):
    return POOL[op["from"] : op["from"] + op["len"]]


class Hand:
    """Writes one file after the other below `root`; `sizes` are those of what is there."""

    def __init__(self, root, sizes, seed, bytes_max, style=None):
        self.root, self.sizes, self.bytes_max = root, dict(sizes), bytes_max
        self.rng = random.Random(seed)
        self.weights = dict(WEIGHTS)
        self.styles = {style: STYLES[style]} if style else STYLES
        self.path = self.style = self.fd = None
        self.end, self.names = 0, 0

    # Choosing.

    def next(self):
        if self.path is None or self.sizes[self.path] >= self.end:
            return self.another()
        if self.rng.random() < ODDS:
            kind = self.rng.choices(list(self.weights), list(self.weights.values()))[0]
            return dict(getattr(self, "pick_" + kind, self.pick_sync)(), op=kind)
        size = self.sizes[self.path]
        append = self.style == "append"
        return {"op": "stream", "path": self.path, "at": size, "append": append, **self.bytes(self.length())}

    def another(self):
        """Turns to a file: one that is there, or a new one; what is too much goes first."""
        room = self.bytes_max - sum(self.sizes.values())
        if self.sizes and room < self.bytes_max // 2:
            return {"op": "unlink", "path": self.rng.choice(sorted(self.sizes))}
        odds = [odds for odds, _ in self.styles.values()]
        self.style = self.rng.choices(list(self.styles), odds)[0]
        more = min(self.rng.choice(self.styles[self.style][1]), room)
        if self.sizes and self.rng.random() < 0.3:
            self.turn_to(self.rng.choice(sorted(self.sizes)))
            self.end = self.sizes[self.path] + more
            return {"op": "look", "path": self.path}
        self.turn_to(self.new_name())
        self.end = more
        return {"op": "create", "path": self.path, "mode": 0o644}

    def turn_to(self, path):
        if self.fd is not None:
            os.close(self.fd)
        self.path, self.fd = path, None

    def new_name(self):
        self.names += 1
        return f"{self.names}-{self.rng.randrange(1 << 30)}"

    def length(self):
        if self.style == "odd":
            return self.rng.randint(1, 70_000)
        if self.style == "near":
            return self.rng.choice([PAGE, PAGE + 1, MIB - 1, MIB + 1, MIB // 2, 12_345])
        return 4 * MIB if self.style == "large" else MIB

    def bytes(self, length):
        return {"from": self.rng.randrange(len(POOL) - length), "len": length}

    def chunk(self, most):
        """A place in the file, often where a chunk begins."""
        at = self.rng.randint(0, most)
        return at // MIB * MIB if self.rng.random() < 0.5 else at

    def pick_sync(self):
        return {"path": self.path}

    def pick_fsyncdir(self):
        return {"path": ""}

    pick_look = pick_sync

    def pick_write(self):
        size = self.sizes[self.path]
        if size == 0:
            return {"path": self.path, "at": 0, **self.bytes(PAGE)}
        at = self.chunk(size - 1)
        length = min(self.rng.choice([1, 100, PAGE, 300_000, MIB]), size - at)
        return {"path": self.path, "at": at, **self.bytes(length)}

    def pick_truncate(self):
        size = self.sizes[self.path]
        return {"path": self.path, "size": max(self.chunk(size), size // 2)}

    def pick_rename(self):
        return {"path": self.path, "to": self.new_name()}

    def sync_no_more(self):
        for sync in SYNCS:
            self.weights.pop(sync, None)

    # Doing.

    def do(self, op):
        if op["op"] == "stream":
            self.write(op)
        elif op["op"] == "look":
            size = os.stat(os.path.join(self.root, op["path"])).st_size
            assert size == self.sizes[op["path"]], f"{op}: {size} bytes of {self.sizes[op['path']]}"
        else:
            execute(self.root, op, bytes_of(op) if "from" in op else b"")

    def write(self, op):
        if self.fd is None:
            flags = os.O_WRONLY | (os.O_APPEND if op["append"] else 0)
            self.fd = os.open(os.path.join(self.root, op["path"]), flags)
        data = bytes_of(op)
        done = os.write(self.fd, data) if op["append"] else os.pwrite(self.fd, data, op["at"])
        all_of(done, len(data))

    def done(self, op):
        kind, path = op["op"], op["path"]
        if kind == "create":
            self.sizes[path] = 0
        elif kind == "unlink":
            del self.sizes[path]
            if path == self.path:
                self.turn_to(None)
        elif kind == "rename":
            self.sizes[op["to"]] = self.sizes.pop(path)
            self.path = op["to"]
        elif kind == "truncate":
            self.sizes[path] = op["size"]
        elif kind in ("stream", "write"):
            self.sizes[path] = max(self.sizes[path], op["at"] + op["len"])


class Sight:
    """Files as they are expected beside those that were found. What differs is known at any time,
    while one operation after the other is applied: nothing is compared twice."""

    def __init__(self, files, found):
        self.files, self.found = dict(files), found
        # Path to the units that differ; to `None` where a whole file does.
        self.wrong = {}
        for path in sorted(files.keys() | found.keys()):
            self.compare(path)

    def compare(self, path, at=0, end=None):
        ours, theirs = self.files.get(path), self.found.get(path)
        if ours is None or theirs is None:
            self.wrong[path] = None
            if ours is theirs:
                del self.wrong[path]
            return
        end = max(len(ours), len(theirs)) if end is None else end
        units = self.wrong.get(path) or set()
        for unit in range(at // UNIT, -(-end // UNIT)):
            place = slice(unit * UNIT, (unit + 1) * UNIT)
            (units.discard if ours[place] == theirs[place] else units.add)(unit)
        self.wrong[path] = units
        if not units:
            del self.wrong[path]

    def splice(self, path, at, data):
        ours = self.changing(path)
        if len(ours) < at:
            raise AssertionError(f"{path} has {len(ours)} bytes: nothing is written at {at}")
        ours[at : at + len(data)] = data
        self.compare(path, at, at + len(data))

    def changing(self, path):
        if not isinstance(self.files[path], bytearray):
            self.files[path] = bytearray(self.files[path])
        return self.files[path]

    def apply(self, op):
        kind, path = op["op"], op["path"]
        if kind in ("stream", "write"):
            self.splice(path, op["at"], bytes_of(op))
        elif kind == "truncate":
            before = len(self.files[path])
            del self.changing(path)[op["size"] :]
            self.compare(path, op["size"], before)
        elif kind == "create":
            self.files[path] = bytearray()
            self.compare(path)
        elif kind == "unlink":
            del self.files[path]
            self.compare(path)
        elif kind == "rename":
            self.files[op["to"]] = self.files.pop(path)
            self.compare(path)
            self.compare(op["to"])

    def shows_part(self, op, atomic):
        """Whether all is as expected but for a write that is there in part. That write is applied as far
        as it is there; it must be applied as a whole before anything else."""
        path, units = op["path"], self.wrong.get(op["path"])
        if op["op"] not in ("stream", "write") or len(self.wrong) != 1 or not units:
            return False
        if len(units) > op["len"] // UNIT + 2:
            return False
        data, there = bytes_of(op), self.found[path][op["at"] : op["at"] + op["len"]]
        same = in_common(data, there)
        # The kernel cuts a write into requests where a page begins, and each of them is there or not.
        if same == 0 or (atomic and (op["at"] + same) % PAGE):
            return False
        self.splice(path, op["at"], data[:same])
        return not self.wrong

    def words(self):
        """What differs, for people."""
        words = []
        for path, units in sorted(self.wrong.items()):
            if units is None:
                words.append(f"{path} is {'lost' if path in self.files else 'there'}")
                continue
            ours, theirs = self.files[path], self.found[path]
            if len(ours) != len(theirs):
                words.append(f"{path} has {len(theirs)} bytes, expected {len(ours)}")
            words += [f"{path}: {run}" for run in self.runs(ours, theirs, sorted(units))[:6]]
        return words

    def runs(self, ours, theirs, units):
        """The stretches that differ within the shorter length."""
        runs = []
        for unit in units:
            begin, end = unit * UNIT, min((unit + 1) * UNIT, len(ours), len(theirs))
            if ours[begin:end] == theirs[begin:end]:
                continue
            if runs and runs[-1][1] == begin:
                runs[-1][1] = end
            else:
                runs.append([begin, end])
        is_empty = [not any(theirs[begin:end]) for begin, end in runs]
        return [f"other bytes in {b}..{e}{', all zeros' if z else ''}" for (b, e), z in zip(runs, is_empty)]


def matches(files, manifest, found, atomic):
    """The lengths of the prefixes of a manifest that what was found equals. One more than all that was
    acknowledged stands for the operation in flight; of the next one a part may be there."""
    entries = manifest.acknowledged + ([manifest.in_flight] if manifest.in_flight else [])
    sight, lengths = Sight(files, found), set()
    for length in range(len(entries) + 1):
        if length > 0:
            sight.apply(entries[length - 1].op)
        following = entries[length].op if length < len(entries) else None
        if not sight.wrong or (following and sight.shows_part(following, atomic)):
            lengths.add(length)
    return lengths


def in_common(one, other):
    """How many bytes two strings of bytes begin with."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        half = (least + most + 1) // 2
        if one[least:half] == other[least:half]:
            least = half
        else:
            most = half - 1
    return least


def beside(files, manifest, found):
    """What was found beside all that was acknowledged."""
    sight = Sight(files, found)
    for entry in manifest.acknowledged:
        sight.apply(entry.op)
    return sight


def settle(files, manifest, found, atomic):
    """Checks that all that was acknowledged is there. Raises."""
    lengths = matches(files, manifest, found, atomic)
    if max(lengths, default=-1) < len(manifest.acknowledged):
        raise check.Difference(why(files, manifest, found, lengths))


def why(files, manifest, found, lengths):
    last = manifest.in_flight.op if manifest.in_flight else None
    told = f"{len(manifest.acknowledged)} operations were acknowledged; in flight: {last}"
    return [*beside(files, manifest, found).words()[:12], f"{told}; it is as after {sorted(lengths) or 'none'}"]


def prefix(all_files, manifests, founds, atomic):
    """Checks that what all workers find is one prefix of what was acknowledged, and no older than the
    last acknowledged sync. Raises."""
    possible = []
    for files, manifest, found in zip(all_files, manifests, founds):
        lengths = matches(files, manifest, found, atomic)
        if not lengths:
            raise check.Difference(why(files, manifest, found, lengths))
        possible.append(lengths)
    check.in_order(possible, manifests, SYNCS)


def look(root):
    """Path to bytes."""
    found = {}
    try:
        for name in os.listdir(root):
            with open(os.path.join(root, name), "rb") as file:
                found[name] = file.read()
                size = os.fstat(file.fileno()).st_size
            if size != len(found[name]):
                raise check.Difference([f"{name}: {len(found[name])} of {size} bytes can be read"])
    except OSError as error:
        raise check.Difference([f"the files cannot be read: {error}"]) from error
    return found


class StreamRounds(Rounds):
    """Rounds of streams: one alone, which is what is acknowledged ahead, and several beside each other."""

    def __init__(self, subject, options, tally):
        super().__init__(subject, options, tally)
        self.rounds_ahead = self.chunks_ahead = 0

    def run(self):
        super().run()
        if self.subject.everything:
            print(f"chunks that only the ring had: {self.chunks_ahead}, in {self.rounds_ahead} rounds", flush=True)

    def nothing(self):
        return {}

    def crew(self, round_):
        alone = round_ % 2 == 1
        return [self.rng.randrange(self.options.workers)] if alone else list(range(self.options.workers))

    def hand(self, number, seed):
        sizes = {path: len(data) for path, data in self.models[number].items()}
        return Hand(self.home(number), sizes, seed, self.options.stream_mib * MIB)

    def look(self, home):
        return look(home)

    def mutilate(self, since):
        if not self.subject.everything:
            return super().mutilate(since)
        ahead = self.subject.ahead()
        how = super().mutilate(since)
        self.chunks_ahead += ahead
        self.rounds_ahead += ahead > 0
        if self.options.cut_segment:
            how += f", {self.subject.mar_ring(self.rng)}"
        elif self.options.sabotage and os.path.exists(self.subject.ring()):
            os.unlink(self.subject.ring())
        return f"{how}; {ahead} chunks in the ring alone"

    def spoil(self, _round):
        # It was done to the ring.
        pass

    def judge(self, manifests, founds):
        if self.options.cut_segment:
            prefix(self.models, manifests, founds, self.subject.atomic)
        else:
            for files, manifest, found in zip(self.models, manifests, founds):
                settle(files, manifest, found, self.subject.atomic)
        return founds
