"""Rounds of work and sudden death, and what is there after each."""

import copy
import multiprocessing
import os
import random
import shutil
import time

import check
from manifest import Manifest
from model import Model
from ops import SYNCS, unsupported
from subjects import Cidfs, DidNotStart
from worker import FAILED, Hand, Signals, work

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
        self.models = [self.nothing() for _ in range(self.options.workers)]
        for number in range(self.options.workers):
            os.mkdir(self.home(number))
        self.settle_down()

    def nothing(self):
        """What a worker's directory is at first."""
        return Model()

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
            if self.subject.is_full():
                # The repository goes on for as long as the disk can take it.
                self.subject.stop()
                self.fresh()
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
        for log in logs:
            # Who does not work in this round is told nothing.
            open(log, "wb").close()
        signals = Signals(CONTEXT)
        crew = self.crew(number)
        workers = [self.worker(n, logs[n], number, signals) for n in crew]
        clean = not self.options.cut_segment and number % 20 == 0
        since = self.at_work(signals, workers)
        if clean:
            signals.stop.set()
        early = [w for w in workers if w.exitcode is not None]
        if not clean:
            self.subject.kill(workers)
        self.join(workers)
        manifests = [Manifest(log) for log in logs]
        self.judge_ends(workers, [manifests[n] for n in crew], early, clean)
        if clean:
            self.subject.stop()
        how = self.mutilate(since)
        begin = time.monotonic()
        self.subject.start()
        took = time.monotonic() - begin
        if self.options.sabotage:
            self.spoil(number)
        founds = [self.look(self.home(n)) for n in range(self.options.workers)]
        self.models = self.judge(manifests, founds)
        acknowledged = sum(len(m.acknowledged) for m in manifests)
        end = "clean end" if clean else "killed"
        return f"{end} after {acknowledged} operations{how}; there again in {took:.2f} s"

    def crew(self, _round):
        """Who works in a round."""
        return list(range(self.options.workers))

    def worker(self, number, log, round_, signals):
        seed = self.options.seed * 1_000_003 + round_ * 101 + number
        process = CONTEXT.Process(target=work, args=(self.hand(number, seed), log, signals), daemon=True)
        process.start()
        return process

    def hand(self, number, seed):
        """What a worker works with."""
        return Hand(self.home(number), copy.deepcopy(self.models[number]), seed, self.without)

    def look(self, home):
        """What is there of a worker's work."""
        return check.seen(home)

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

    def spoil(self, number):
        """Breaks the result, to see that it is noticed."""
        if number == 2:
            names = [n for n, v in check.seen(self.home(0)).items() if v["kind"] == "file"]
            os.truncate(os.path.join(self.home(0), names[0]), 7 << 20)

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
