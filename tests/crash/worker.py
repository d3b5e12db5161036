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


def work(root, path, model, seed, signals, without, ops_max):
    """Never returns. `model` is what the directory holds at the start."""
    code = WRONG
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.umask(0)
        code = run(root, manifest.Writer(path), model, Generator(seed, model, without), signals, ops_max)
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def run(root, log, model, generator, signals, ops_max):
    done = 0
    while not signals.stop.is_set() and done != ops_max:
        if signals.pause.is_set():
            if not step(root, log, model, {"op": "fsyncdir", "path": ""}):
                return FAILED
            signals.idle.release()
            signals.go_on.wait()
            signals.pause.clear()
            for sync in SYNCS:
                generator.weights.pop(sync, None)
        if not step(root, log, model, generator.next()):
            return FAILED
        done += 1
    return ASKED


def step(root, log, model, op):
    """Does one operation, with the promise written down before and the outcome after."""
    data = content(op) if "seed" in op else b""
    log.begin(op)
    try:
        execute(root, op, data)
    except OSError as error:
        log.error(error.errno)
        return False
    log.done()
    model.apply(op)
    return True
