"""Does the harness notice? Trees are made on a directory, broken on purpose, and must be refused."""

import copy
import os
import random
import shutil
import sys
import tempfile
import unittest

import check
from manifest import Entry, Manifest
from model import Model, content
from ops import SYNCS, Generator, execute, unsupported
from selftest_streams import Streams  # noqa: F401  (run below with the others)
from subjects import Cidfs


class Made:
    """A tree made by random operations, and the manifests of its workers."""

    def __init__(self, seed, workers=1, ops=600):
        os.umask(0)
        self.dir = tempfile.mkdtemp(dir=os.environ.get("CRASH_DIR"))
        self.models = [Model() for _ in range(workers)]
        self.manifests = [Manifest(os.devnull) for _ in range(workers)]
        os.mkdir(self.home(0))
        without = unsupported(self.home(0))
        makers = [Generator(seed * 10 + n, m, without) for n, m in enumerate(self.models)]
        rng = random.Random(seed)
        self.clock = 0
        for number in range(1, workers):
            os.mkdir(self.home(number))
        for _ in range(ops):
            number = rng.randrange(workers)
            self.do(number, makers[number].next())

    def home(self, number):
        return os.path.join(self.dir, f"w{number}")

    def do(self, number, op):
        entry = Entry(op, self.clock + 1)
        data = content(op) if "seed" in op else b""
        execute(self.home(number), op, data)
        self.models[number].apply(op)
        self.clock += 2
        entry.done = self.clock
        self.manifests[number].acknowledged.append(entry)

    def settle(self, atomic=True):
        return check.settle(Model(), self.manifests[0], check.seen(self.home(0)), atomic)

    def path(self, kind, want=lambda node: True):
        paths = [p for p in self.models[0].paths(kind) if want(self.models[0].find(p))]
        return os.path.join(self.home(0), paths[0])

    def prefix_of(self, lengths):
        """The verdict on trees that hold only the first operations of each worker."""
        for number, length in enumerate(lengths):
            shutil.rmtree(self.home(number))
            os.mkdir(self.home(number))
            for entry in self.manifests[number].acknowledged[:length]:
                execute(self.home(number), entry.op, content(entry.op) if "seed" in entry.op else b"")
        return self.prefix()

    def prefix(self):
        founds = [check.seen(self.home(n)) for n in range(len(self.models))]
        return check.prefix([Model() for _ in self.models], self.manifests, founds, SYNCS)

    def close(self):
        shutil.rmtree(self.dir)


def flip(path):
    with open(path, "r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


def unshare(path):
    with open(path, "rb") as file:
        data = file.read()
    info = os.stat(path)
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, info.st_mode & 0o7777)


def redo_link(path):
    os.unlink(path)
    os.symlink("elsewhere", path)


def plain(node):
    return len(node.data) > 0 and not node.xattrs


def visible(model):
    return {path: dict(value, mtime=None) for path, value in model.portrait().items()}


SABOTAGES = {
    "a file is lost": lambda m: os.unlink(m.path("file")),
    "a file is there again": lambda m: open(os.path.join(m.home(0), "ghost"), "wb").close(),
    "a byte has changed": lambda m: flip(m.path("file", plain)),
    "the end of a file is lost": lambda m: os.truncate(m.path("file", plain), 0),
    "a file has grown": lambda m: os.truncate(m.path("file", plain), 5 << 20),
    "a directory is lost": lambda m: shutil.rmtree(m.path("dir")),
    "a link leads elsewhere": lambda m: redo_link(m.path("link")),
    "a mode is another": lambda m: os.chmod(m.path("file"), 0o611),
    "an attribute is lost": lambda m: os.removexattr(
        m.path("file", lambda n: n.xattrs), sorted(os.listxattr(m.path("file", lambda n: n.xattrs)))[0]
    ),
    "an attribute is another": lambda m: os.setxattr(m.path("file"), "user.n0", b"another"),
    "a hard link is a copy": lambda m: unshare(
        os.path.join(m.home(0), next(p for p, v in m.models[0].portrait().items() if v["names"] and len(v["names"]) > 1 and v["kind"] == "file"))
    ),
    "a time is another": lambda m: os.utime(m.path("file", lambda n: n.mtime is not None), ns=(1, 1)),
    "a name is another": lambda m: os.rename(m.path("file"), os.path.join(m.home(0), "renamed")),
}


class Case(unittest.TestCase):
    def setUp(self):
        self.made = []

    def tearDown(self):
        for made in self.made:
            made.close()

    def make(self, *args, **kwargs):
        self.made.append(Made(*args, **kwargs))
        return self.made[-1]


class Sabotage(Case):
    def test_a_sound_tree_is_accepted(self):
        for seed in range(5):
            self.make(seed).settle()

    def test_every_sabotage_is_noticed(self):
        for name, sabotage in SABOTAGES.items():
            with self.subTest(name):
                made = self.make(3)
                made.settle()
                sabotage(made)
                with self.assertRaises(check.Difference):
                    made.settle()

    def test_the_loss_of_the_last_acknowledged_operation_is_noticed(self):
        noticed = 0
        for seed in range(6):
            made = self.make(seed, ops=200)
            before = Model()
            for entry in made.manifests[0].acknowledged[:-1]:
                before.apply(entry.op)
            shutil.rmtree(made.home(0))
            os.mkdir(made.home(0))
            for entry in made.manifests[0].acknowledged[:-1]:
                execute(made.home(0), entry.op, content(entry.op) if "seed" in entry.op else b"")
            # Some change nothing that can be seen but a time.
            if visible(before) == visible(made.models[0]):
                continue
            with self.assertRaises(check.Difference):
                made.settle()
            noticed += 1
        self.assertGreater(noticed, 2)

    def test_an_operation_in_flight_may_be_there_or_not(self):
        for there in (False, True):
            made = self.make(4)
            op = {"op": "create", "path": "in flight", "mode": 0o600}
            made.manifests[0].in_flight = Entry(op, made.clock + 1)
            if there:
                execute(made.home(0), op, b"")
            made.settle()

    def test_a_part_of_one_write_is_refused_where_a_call_is_all_or_nothing(self):
        made = self.make(5)
        op = {"op": "append", "path": made.models[0].paths("file")[0], "seed": 9, "len": 9000}
        made.manifests[0].in_flight = Entry(op, made.clock + 1)
        execute(made.home(0), op, content(op)[:4100])
        made.settle(atomic=False)
        with self.assertRaises(check.Difference):
            made.settle(atomic=True)
        # Other bytes are no part of it.
        flip(os.path.join(made.home(0), op["path"]))
        with self.assertRaises(check.Difference):
            made.settle(atomic=False)


class Prefix(Case):
    """Two workers, whose trees are rebuilt to some length."""

    def unsynced(self):
        """All of the two workers' operations but the syncs, which forbid the shorter prefixes."""
        made = self.make(8, workers=2, ops=300)
        for manifest in made.manifests:
            manifest.acknowledged = [e for e in manifest.acknowledged if e.op["op"] not in SYNCS]
        return made

    def cut_at(self, made, time):
        return [sum(1 for e in m.acknowledged if e.done <= time) for m in made.manifests]

    def test_any_prefix_is_accepted(self):
        made = self.unsynced()
        for time in (0, 100, 301, made.clock // 2, made.clock):
            made.prefix_of(self.cut_at(made, time))

    def test_a_gap_is_refused(self):
        made = self.unsynced()
        lengths = [len(m.acknowledged) for m in made.manifests]
        early = self.cut_at(made, made.clock // 2)
        with self.assertRaises(check.Difference):
            made.prefix_of([early[0], lengths[1]])
        with self.assertRaises(check.Difference):
            made.prefix_of([lengths[0], early[1]])

    def test_a_part_of_a_write_is_accepted_whatever_number_of_names_shows_it(self):
        for names in (1, 2, 5):
            with self.subTest(names=names):
                made = self.unsynced()
                made.do(0, {"op": "create", "path": "name 0", "mode": 0o600})
                for number in range(1, names):
                    made.do(0, {"op": "link", "path": "name 0", "to": f"name {number}"})
                # So that its loss is one more difference of each name.
                made.do(0, {"op": "utime", "path": "name 0", "ns": 10**18})
                op = {"op": "append", "path": "name 0", "seed": 9, "len": 9000}
                written = Entry(op, made.clock + 1)
                written.done = made.clock + 2
                made.manifests[0].acknowledged.append(written)
                execute(made.home(0), op, content(op)[:4096])
                made.prefix()
                flip(os.path.join(made.home(0), "name 0"))
                with self.assertRaises(check.Difference):
                    made.prefix()

    def test_what_is_older_than_a_sync_is_refused(self):
        made = self.unsynced()
        half = made.clock // 2
        lengths = self.cut_at(made, half)
        made.prefix_of(lengths)
        synced = copy.copy(made.manifests[1].acknowledged[lengths[1] + 20])
        synced.op = {"op": "fsyncdir", "path": ""}
        made.manifests[1].acknowledged[lengths[1] + 20 : lengths[1] + 20] = [synced]
        with self.assertRaises(check.Difference):
            made.prefix_of(lengths)
        made.prefix_of(self.cut_at(made, synced.done))


class Cut(unittest.TestCase):
    def test_a_cut_spares_what_was_there_before(self):
        with tempfile.TemporaryDirectory() as work:
            subject = Cidfs(work, "cidfs", "")
            journal = os.path.join(subject.repo, "journal")
            os.makedirs(journal)
            ends = set()
            for seed in range(40):
                segment = os.path.join(journal, f"{1:020}.seg")
                with open(segment, "wb") as file:
                    file.write(b"a" * 1000 + bytes(5000))
                since = subject.last_segment()
                self.assertEqual(since, (segment, 1000))
                with open(segment, "r+b") as file:
                    file.seek(1000)
                    file.write(b"b" * 500)
                subject.cut(since, random.Random(seed))
                with open(segment, "rb") as file:
                    left = file.read().rstrip(b"\0")
                self.assertEqual(left[:1000], b"a" * 1000)
                ends.add(len(left))
            self.assertGreater(len(ends), 20)

    def test_chunks_that_only_the_ring_has_are_counted(self):
        with tempfile.TemporaryDirectory() as work:
            subject = Cidfs(work, "cidfs", "")
            os.makedirs(os.path.dirname(subject.ring()))
            self.assertEqual(subject.ahead(), 0)

            def frame(number):
                return b"\xc1\xdfJF" + bytes(4) + (50).to_bytes(4, "little") + bytes(4) + number.to_bytes(8, "little") + bytes(24) + b"pp"

            with open(os.path.join(os.path.dirname(subject.ring()), f"{7:020}.seg"), "wb") as file:
                file.write(b"cidfsJNL" + bytes(40) + frame(7) + frame(8) + bytes(5000))
            with open(subject.ring(), "wb") as file:
                for number in (8, 9, 10, None):
                    head = bytes(32) if number is None else b"cidfsAHD" + bytes(24) + number.to_bytes(8, "little")
                    file.write(head.ljust(4096, b"\0"))
                file.write(b"c" * 4 * 4096)
            self.assertEqual((subject.last_entry(), subject.ahead()), (8, 2))
            with open(subject.ring(), "rb") as file:
                whole = file.read()
            ways = set()
            for seed in range(20):
                with open(subject.ring(), "wb") as file:
                    file.write(whole)
                ways.add(subject.mar_ring(random.Random(seed)))
            self.assertEqual(ways, {"ring kept", "ring gone", "ring torn"})


if __name__ == "__main__":
    program = unittest.main(verbosity=2, exit=False)
    bad = len(program.result.failures) + len(program.result.errors)
    print(f"\n{program.result.testsRun - min(bad, program.result.testsRun)} passed, {bad} failed")
    sys.exit(1 if bad else 0)
