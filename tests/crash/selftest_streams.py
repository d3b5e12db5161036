"""Does the harness notice what is wrong with long streams?"""

import os
import shutil
import tempfile
import unittest

import check
import streams
from manifest import Entry, Manifest
from model import PAGE
from streams import MIB, Hand, Sight, bytes_of


class Made:
    """Streams on a directory, and the manifest of who wrote them."""

    def __init__(self, seed, ops=400, style=None):
        self.dir = tempfile.mkdtemp(dir=os.environ.get("CRASH_DIR"))
        self.hand = Hand(self.dir, {}, seed, 48 * MIB, style)
        self.manifest = Manifest(os.devnull)
        self.clock = 0
        for _ in range(ops):
            self.do(self.hand.next())

    def do(self, op):
        entry = Entry(op, self.clock + 1)
        self.hand.do(op)
        self.hand.done(op)
        self.clock += 2
        entry.done = self.clock
        self.manifest.acknowledged.append(entry)

    def settle(self, atomic=True):
        streams.settle({}, self.manifest, streams.look(self.dir), atomic)

    def after(self, length):
        """What is there after the first operations only."""
        sight = Sight({}, {})
        for entry in self.manifest.acknowledged[:length]:
            sight.apply(entry.op)
        return {path: bytes(data) for path, data in sight.files.items()}

    def largest(self):
        return os.path.join(self.dir, max(self.hand.sizes, key=self.hand.sizes.get))

    def close(self):
        self.hand.turn_to(None)
        shutil.rmtree(self.dir)


def patch(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def middle(path):
    """A chunk's place half way."""
    return os.path.getsize(path) // 2 // MIB * MIB


def part_of(path, at, length):
    with open(path, "rb") as file:
        file.seek(at)
        return file.read(length)


def shorten(path, by):
    os.truncate(path, os.path.getsize(path) - by)


SABOTAGES = {
    "the last byte is lost": lambda path: shorten(path, 1),
    "the last chunk is lost": lambda path: shorten(path, MIB),
    "the last page is zeros": lambda path: patch(path, os.path.getsize(path) - PAGE, bytes(PAGE)),
    "a page in the middle is zeros": lambda path: patch(path, middle(path) + PAGE, bytes(PAGE)),
    "a chunk in the middle is zeros": lambda path: patch(path, middle(path), bytes(MIB)),
    "a chunk is that of another place": lambda path: patch(path, middle(path), part_of(path, middle(path) - MIB, MIB)),
    "a byte is another": lambda path: patch(path, 5, bytes([part_of(path, 5, 1)[0] ^ 1])),
    "it goes on behind its end": lambda path: patch(path, os.path.getsize(path), b"x"),
    "it is lost": os.unlink,
    "it has another name": lambda path: os.rename(path, path + "x"),
}


class Streams(unittest.TestCase):
    def make(self, *args, **kwargs):
        made = Made(*args, **kwargs)
        self.addCleanup(made.close)
        return made

    def prefix(self, made, found):
        streams.prefix([{}], [made.manifest], [found], True)

    def test_sound_streams_are_accepted(self):
        kinds = set()
        for seed in range(4):
            made = self.make(seed)
            made.settle()
            kinds |= {entry.op["op"] for entry in made.manifest.acknowledged}
        self.assertEqual(kinds, {"create", "unlink", "stream", *streams.WEIGHTS})

    def test_every_sabotage_of_a_stream_is_noticed(self):
        for name, sabotage in SABOTAGES.items():
            with self.subTest(name):
                made = self.make(1, ops=60, style="dd")
                made.settle()
                sabotage(made.largest())
                with self.assertRaises(check.Difference) as noticed:
                    made.settle()
                self.assertIn("in flight", noticed.exception.args[0][-1])

    def test_the_loss_of_the_last_acknowledged_write_is_noticed_whatever_is_in_flight(self):
        made = self.make(2, ops=20, style="dd")
        path, size = made.hand.path, made.hand.sizes[made.hand.path]
        for at, length in [(size, MIB), (size - MIB, MIB), (5, 100)]:
            op = {"op": "stream", "path": path, "at": at, "append": False, "from": 77, "len": length}
            made.manifest.in_flight = Entry(op, made.clock + 1)
            made.settle()
        os.truncate(os.path.join(made.dir, path), size - MIB)
        with self.assertRaises(check.Difference) as noticed:
            made.settle()
        self.assertIn(f"{path} has {size - MIB} bytes, expected {size}", noticed.exception.args[0])

    def test_a_hole_is_told_with_its_place(self):
        made = self.make(3, ops=60, style="dd")
        path = made.largest()
        patch(path, middle(path), bytes(MIB))
        with self.assertRaises(check.Difference) as noticed:
            made.settle()
        words = f"other bytes in {middle(path)}..{middle(path) + MIB}, all zeros"
        self.assertIn(words, noticed.exception.args[0][0])

    def test_a_part_of_a_write_in_flight_may_be_there_up_to_a_page(self):
        made = self.make(4, ops=20, style="dd")
        path, size = made.hand.path, made.hand.sizes[made.hand.path]
        op = {"op": "stream", "path": path, "at": size, "append": False, "from": 77, "len": 2 * MIB}
        made.manifest.in_flight = Entry(op, made.clock + 1)
        for length, whole_requests in [(MIB, True), (PAGE, True), (PAGE + 1, False), (2 * MIB, True)]:
            patch(os.path.join(made.dir, path), size, bytes_of(op)[:length])
            os.truncate(os.path.join(made.dir, path), size + length)
            made.settle(atomic=False)
            if whole_requests:
                made.settle()
                continue
            with self.assertRaises(check.Difference):
                made.settle()

    def test_after_a_cut_any_prefix_is_accepted_and_nothing_else(self):
        made = self.make(5, ops=150)
        entries = made.manifest.acknowledged
        made.manifest.acknowledged = [entry for entry in entries if entry.op["op"] not in streams.SYNCS]
        count = len(made.manifest.acknowledged)
        for length in (0, 1, count // 3, count // 2, count - 1, count):
            self.prefix(made, made.after(length))
        found = made.after(count // 2)
        path = max(found, key=lambda path: len(found[path]))
        size = len(found[path])
        for at in (0, size // 2, size - PAGE):
            holed = {**found, path: found[path][:at] + bytes(PAGE) + found[path][at + PAGE :]}
            with self.assertRaises(check.Difference):
                self.prefix(made, holed)

    def test_after_a_cut_what_is_older_than_a_sync_is_refused(self):
        made = self.make(6, ops=150)
        synced = [n for n, entry in enumerate(made.manifest.acknowledged) if entry.op["op"] in streams.SYNCS][-1]
        changing = [n for n, e in enumerate(made.manifest.acknowledged[:synced]) if e.op["op"] == "stream"]
        self.prefix(made, made.after(synced))
        with self.assertRaises(check.Difference):
            self.prefix(made, made.after(changing[-1]))
