"""Kills a file system's daemon under work, and compares what is there afterwards with what was
acknowledged. `scripts/crash.sh` says how it is used; `--help` has all options."""

import argparse
import copy
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import check
import sweep
from manifest import Manifest
from model import Model
from ops import SYNCS, unsupported
from subjects import Cidfs, DidNotStart, Peer, Plain
from worker import FAILED, Signals, work

CONTEXT = multiprocessing.get_context("fork")
WORKER_TIMEOUT = 60


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def passes(self, words):
        self.passed += 1
        print(f"ok      {words}", flush=True)

    def fails(self, words, why=()):
        self.failed += 1
        print(f"FAILED  {words}", flush=True)
        for line in why:
            print(f"        {str(line)[:300]}", flush=True)


class Rounds:
    """Rounds of work and sudden death over one repository, which lives on from round to round."""

    def __init__(self, subject, options, tally):
        self.subject, self.options, self.tally = subject, options, tally
        self.rng = random.Random(options.seed)
        self.models = None
        self.without = set()

    def fresh(self):
        self.subject.reset()
        self.subject.start()
        self.without = set() if self.subject.everything else unsupported(self.subject.root)
        self.models = [Model() for _ in range(self.options.workers)]
        for number in range(self.options.workers):
            os.mkdir(self.home(number))
        self.settle_down()

    def settle_down(self):
        """The workers' own directories are not in doubt."""
        fd = os.open(self.subject.root, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def home(self, number):
        return os.path.join(self.subject.root, f"w{number}")

    def run(self):
        self.fresh()
        if self.without:
            print(f"not done here: {', '.join(sorted(self.without))}")
        for number in range(1, self.options.rounds + 1):
            evidence = os.path.join(self.options.work, f"round-{number}")
            os.makedirs(evidence)
            try:
                words = self.round(number, evidence)
            except (check.Difference, DidNotStart) as error:
                why = error.args[0] if isinstance(error.args[0], list) else [str(error)]
                self.tally.fails(f"round {number} (seed {self.options.seed}); see {evidence}", why)
                if self.tally.failed >= self.options.failures:
                    return
                self.subject.kill([])
                if isinstance(self.subject, Cidfs):
                    shutil.move(self.subject.repo, os.path.join(evidence, "repo"))
                self.fresh()
                continue
            shutil.rmtree(evidence)
            self.tally.passes(f"round {number}: {words}")
        self.subject.stop()

    def round(self, number, evidence):
        logs = [os.path.join(evidence, f"manifest-{n}") for n in range(self.options.workers)]
        signals = Signals(CONTEXT)
        workers = [self.worker(n, log, number, signals) for n, log in enumerate(logs)]
        clean = not self.options.cut_segment and number % 20 == 0
        since = self.at_work(signals, workers)
        if clean:
            signals.stop.set()
        early = [w for w in workers if w.exitcode is not None]
        if not clean:
            self.subject.kill(workers)
        self.join(workers)
        manifests = [Manifest(log) for log in logs]
        self.judge_ends(workers, manifests, early, clean)
        if clean:
            self.subject.stop()
        how = self.mutilate(since)
        begin = time.monotonic()
        self.subject.start()
        took = time.monotonic() - begin
        if self.options.sabotage and number == 2:
            names = [n for n, v in check.seen(self.home(0)).items() if v["kind"] == "file"]
            os.truncate(os.path.join(self.home(0), names[0]), 7 << 20)
        founds = [check.seen(self.home(n)) for n in range(len(workers))]
        self.models = self.judge(manifests, founds)
        acknowledged = sum(len(m.acknowledged) for m in manifests)
        end = "clean end" if clean else "killed"
        return f"{end} after {acknowledged} operations{how}; there again in {took:.2f} s"

    def worker(self, number, log, round_, signals):
        model = copy.deepcopy(self.models[number])
        seed = self.options.seed * 1_000_003 + round_ * 101 + number
        arguments = (self.home(number), log, model, seed, signals, self.without, -1)
        process = CONTEXT.Process(target=work, args=arguments, daemon=True)
        process.start()
        return process

    def at_work(self, signals, workers):
        """Lets them work for a while. With a cut to come, they stop half way, sync, and sync no more."""
        low, high = self.options.seconds
        time.sleep(self.rng.uniform(low, high))
        if not self.options.cut_segment:
            return None
        signals.pause.set()
        for _ in workers:
            if not signals.idle.acquire(timeout=WORKER_TIMEOUT):
                raise check.Difference(["a worker did not come to rest"])
        since = self.subject.last_segment()
        signals.go_on.set()
        time.sleep(self.rng.uniform(low, high))
        return since

    def join(self, workers):
        for worker in workers:
            worker.join(WORKER_TIMEOUT)
            if worker.exitcode is None:
                worker.kill()
                raise check.Difference([f"worker {worker.pid} hangs after the daemon's end"])

    def judge_ends(self, workers, manifests, early, clean):
        """A call may only fail because the daemon is gone."""
        for worker, manifest in zip(workers, manifests):
            failed = worker.exitcode != 0 if clean else worker in early
            if failed or worker.exitcode not in (0, FAILED, -7, -9):
                what = manifest.in_flight.op if manifest.in_flight else None
                error = os.strerror(manifest.error) if manifest.error else f"exit {worker.exitcode}"
                raise check.Difference([f"a worker ended by itself: {error}, at {what}"])

    def mutilate(self, since):
        how = ""
        if self.options.delete_index:
            self.subject.delete_index()
            how += "; index deleted"
        if self.options.cut_segment:
            how += "; " + self.subject.cut(since, self.rng)
        return how

    def judge(self, manifests, founds):
        models = [copy.deepcopy(m) for m in self.models]
        if self.options.cut_segment:
            return check.prefix(models, manifests, founds, SYNCS)
        atomic = self.subject.atomic
        return [check.settle(m, f, s, atomic) for m, f, s in zip(models, manifests, founds)]


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
            Rounds(subject, options, tally).run()
    finally:
        if not options.plain and subject.child is not None:
            subject.kill([])
    print(f"\n{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
