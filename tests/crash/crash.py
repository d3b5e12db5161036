"""Kills a file system's daemon under work, and compares what is there afterwards with what was
acknowledged. `scripts/crash.sh` says how it is used; `--help` has all options."""

import argparse
import os
import random
import signal
import sys
import time

import sweep
from rounds import Rounds, Tally
from streams import StreamRounds
from subjects import Cidfs, Peer, Plain


def fsynced(subject, options, tally):
    """Twenty files are written and fsynced, and the daemon is killed at once. Their directory is not
    fsynced: what a program was told about a file holds for its name too, as on local file systems."""
    files, there, rounds = 20, 0, 6
    for number in range(rounds):
        subject.reset()
        subject.start()
        contents = [os.urandom(random.randint(1, 100_000)) for _ in range(files)]
        for n, data in enumerate(contents):
            fd = os.open(os.path.join(subject.root, f"file-{n}"), os.O_CREAT | os.O_WRONLY, 0o644)
            os.write(fd, data)
            os.fsync(fd)
            os.close(fd)
        subject.kill([])
        subject.start()
        if options.sabotage and number == 2:
            os.unlink(os.path.join(subject.root, "file-7"))
        for n, data in enumerate(contents):
            try:
                with open(os.path.join(subject.root, f"file-{n}"), "rb") as file:
                    there += file.read() == data
            except OSError:
                pass
        subject.stop()
    words = f"fsynced files after a kill: {there} of {files * rounds}"
    (tally.passes if there == files * rounds else tally.fails)(words)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, help="a directory for the run; evidence stays there")
    parser.add_argument("--cidfs", help="the program")
    parser.add_argument("--options", default="allow_other,default_permissions,suid,dev", help="mount options")
    parser.add_argument("--plain", action="store_true", help="on a directory, where the workers are killed")
    parser.add_argument("--peer", help="on another FUSE file system: a command with {back} and {mnt}")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, nargs=2, default=(0.1, 1.0), help="how long a round works")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--failures", type=int, default=3, help="after so many, stop")
    parser.add_argument("--delete-index", action="store_true")
    parser.add_argument("--cut-segment", action="store_true")
    parser.add_argument("--streams", action="store_true", help="the rounds are of streams: large files, end to end")
    parser.add_argument("--stream-mib", type=int, default=256, help="what a worker's streams may have at once")
    parser.add_argument("--fsynced", action="store_true", help="the fsynced files, before the rounds")
    parser.add_argument("--sweep", choices=["kill", "EIO", "ENOSPC"], action="append", default=[])
    parser.add_argument("--stride", type=int, default=1, help="of a sweep: every so many calls")
    parser.add_argument("--points", type=int, default=1000, help="of a sweep: at most so many for each call")
    parser.add_argument("--ops", type=int, default=120, help="of a sweep: operations of its workload")
    parser.add_argument("--sabotage", action="store_true", help="break the result, to see that it is noticed")
    return parser.parse_args()


def subject_of(options):
    if options.plain:
        return Plain(options.work)
    if options.peer:
        return Peer(options.work, options.peer)
    return Cidfs(options.work, options.cidfs, options.options)


def end(*_):
    """So that the daemon and the workers do not outlive this. A second signal must not stop that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def main():
    options = arguments()
    os.umask(0)
    options.work = os.path.abspath(options.work)
    signal.signal(signal.SIGTERM, end)
    subject, tally = subject_of(options), Tally()
    if options.rounds:
        print(f"seed {options.seed}", flush=True)
    try:
        if options.fsynced:
            fsynced(subject, options, tally)
        for fault in options.sweep:
            sweep.sweep(subject, options, tally, fault)
        if options.rounds:
            rounds = StreamRounds if options.streams else Rounds
            rounds(subject, options, tally).run()
    finally:
        if not options.plain and subject.child is not None:
            subject.kill([])
    print(f"\n{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
