"""What a worker was told: a file beside the tree, to which each operation and its outcome is appended.

A line each: `{"begin": ns, "op": {…}}`, then `{"done": ns}` once the call has returned, or
`{"error": errno, "at": ns}`. Times are of the monotonic clock, which all processes share.
"""

import json
import os
import time


class Writer:
    def __init__(self, path):
        self.fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)

    def _line(self, value):
        os.write(self.fd, json.dumps(value).encode() + b"\n")

    def begin(self, op):
        self._line({"begin": time.monotonic_ns(), "op": op})

    def done(self):
        self._line({"done": time.monotonic_ns()})

    def error(self, number):
        self._line({"error": number, "at": time.monotonic_ns()})


class Entry:
    def __init__(self, op, begin):
        self.op = op
        self.begin = begin
        self.done = None


class Manifest:
    """The acknowledged operations in order, the one in flight if any, and its error if any."""

    def __init__(self, path):
        self.acknowledged, self.in_flight, self.error = [], None, None
        with open(path, "rb") as file:
            for line in file:
                self._read(json.loads(line))

    def _read(self, value):
        if "op" in value:
            assert self.in_flight is None, "a worker does one thing at a time"
            self.in_flight = Entry(value["op"], value["begin"])
        elif "done" in value:
            self.in_flight.done = value["done"]
            self.acknowledged.append(self.in_flight)
            self.in_flight = None
        else:
            self.error = value["error"]
