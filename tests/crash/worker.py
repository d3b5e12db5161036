"""A process that works on a directory of its own and keeps a manifest of what it was told."""

import os
import signal
import traceback

import manifest
from model import content
from ops import SYNCS, Generator, execute

# How a worker ends, when it was not killed: it was asked to; a call failed; it is itself wrong.
ASKED, FAILED, WRONG = 0, 3, 4


class Signals:
    """What the harness tells its workers."""

    def __init__(self, context):
        self.stop = context.Event()
        self.pause = context.Event()
        self.go_on = context.Event()
        self.idle = context.Semaphore(0)


class Hand:
    """Does on a real tree what a generator chooses for a model. Others have the same four methods."""

    def __init__(self, root, model, seed, without):
        self.root, self.model = root, model
        self.generator = Generator(seed, model, without)

    def next(self):
        return self.generator.next()

    def do(self, op):
        execute(self.root, op, content(op) if "seed" in op else b"")

    def done(self, op):
        self.model.apply(op)

    def sync_no_more(self):
        for sync in SYNCS:
            self.generator.weights.pop(sync, None)


def work(hand, path, signals, ops_max=-1):
    """Never returns. `path` is that of the manifest."""
    code = WRONG
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.umask(0)
        code = run(hand, manifest.Writer(path), signals, ops_max)
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def run(hand, log, signals, ops_max):
    done = 0
    while not signals.stop.is_set() and done != ops_max:
        if signals.pause.is_set():
            if not step(hand, log, {"op": "fsyncdir", "path": ""}):
                return FAILED
            signals.idle.release()
            signals.go_on.wait()
            signals.pause.clear()
            hand.sync_no_more()
        if not step(hand, log, hand.next()):
            return FAILED
        done += 1
    return ASKED


def step(hand, log, op):
    """Does one operation, with the promise written down before and the outcome after."""
    log.begin(op)
    try:
        hand.do(op)
    except OSError as error:
        log.error(error.errno)
        return False
    log.done()
    hand.done(op)
    return True
