"""The daemon under strace, which strikes at its N-th call of a kind, for one N after the other."""

import os
import subprocess

import check
import streams
from manifest import Manifest
from model import Model
from ops import SYNCS, execute, unsupported
from subjects import DidNotStart

# Apart from each other, since strace counts each by itself (and each thread by itself).
CALLS = ["write", "writev", "pwrite64", "pwritev", "pwritev2", "fsync", "fdatasync", "ftruncate", "fallocate", "rename", "unlink"]
WORKLOAD_TIMEOUT = 60
HERE = os.path.dirname(os.path.abspath(__file__))


def sweep(subject, options, tally, fault):
    """One result for each kind of call: at every point the tree is what was acknowledged."""
    without, files = survey(subject, options)
    total = 0
    for call in CALLS:
        total += one_call(subject, options, tally, fault, call, without, files)
    if fault == "kill":
        # Also between two answers to the kernel. (An answer that fails would leave its caller waiting.)
        total += one_call(subject, options, tally, fault, "writev", without, [])
    if total == 0:
        tally.fails(f"{fault}: strace struck nowhere")


class Work:
    """The fixed workload: a bit of everything."""

    program = "hand = worker.Hand(sys.argv[1], Model(), 1, set(sys.argv[4].split(',')))"

    def nothing(self, root):
        words = check.differences(Model().portrait(), check.seen(root))
        if words:
            raise check.Difference(words[:12])

    def settle(self, root, told, atomic):
        check.settle(Model(), told, check.seen(root), atomic)

    def live(self, root, told):
        """Before the daemon's end: reads give what was acknowledged."""
        self.settle(root, told, False)


class Streams(Work):
    """Another: large files, chunk by chunk, so that the ring is struck too."""

    program = "hand = streams.Hand(sys.argv[1], {}, 1, 48 << 20, 'dd')"

    def nothing(self, root):
        if streams.look(root):
            raise check.Difference([f"{sorted(streams.look(root))} are there"])

    def settle(self, root, told, atomic):
        streams.settle({}, told, streams.look(root), atomic)

    def live(self, root, told):
        # A chunk that could not be stored is seen again after the next start.
        streams.look(root)


def work_of(options):
    return Streams() if options.streams else Work()


def survey(subject, options):
    """What the file system lacks, and which files its daemon keeps: only calls on those are struck."""
    subject.reset()
    subject.start()
    without = set() if subject.everything else unsupported(subject.root)
    workload(subject, options, fresh(options, "survey-manifest"), without)
    files = [os.path.join(at, name) for at, _, names in os.walk(subject.store) for name in names]
    subject.stop()
    return without, files


def fresh(options, name):
    path = os.path.join(options.work, name)
    if os.path.exists(path):
        os.unlink(path)
    return path


def one_call(subject, options, tally, fault, call, without, files):
    points, struck, bad, number, misses = 0, 0, [], 1, 0
    # Past the last call nothing is struck any more. Threads differ from run to run: ask twice.
    while misses < 2 and points < options.points:
        try:
            hit = point(subject, options, strace(options, fault, call, number, files), fault, without)
        except (check.Difference, DidNotStart) as error:
            hit = True
            bad.append((number, error.args[0]))
            # The next point begins with nothing.
            subject.kill()
        points += 1
        struck += hit
        misses = 0 if hit else misses + 1
        number += options.stride
    words = f"{fault} at {call}{'' if files else ' on anything'}: struck {struck} times"
    if bad:
        number, why = bad[0]
        why = why if isinstance(why, list) else [why]
        tally.fails(f"{words}, {len(bad)} of them bad, at {[n for n, _ in bad][:20]}; the first:", why)
    elif struck:
        tally.passes(words)
    return struck


def strace(options, fault, call, number, files):
    what = "signal=SIGKILL" if fault == "kill" else f"error={fault}"
    log = os.path.join(options.work, "strace.log")
    # Not with --seccomp-bpf: signals are not injected then.
    words = ["strace", "-f", "-qq", "-o", log, "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={number}"]
    for file in files:
        words += ["-P", file]
    return words


def point(subject, options, under, fault, without):
    """Whether it was struck. Raises if the tree is in no allowed state."""
    subject.reset()
    manifest = fresh(options, "sweep-manifest")
    try:
        subject.start(under)
    except DidNotStart:
        # Struck before there was a mount: nothing was acknowledged.
        subject.start()
        work_of(options).nothing(subject.root)
        subject.stop()
        return True
    workload(subject, options, manifest, without)
    with open(os.path.join(options.work, "strace.log"), "rb") as file:
        struck = b"(INJECTED)" in file.read() or not subject.alive()
    told = Manifest(manifest)
    if fault != "kill":
        live(subject, options, told)
    subject.kill()
    subject.start()
    work_of(options).settle(subject.root, told, subject.atomic and fault == "kill")
    subject.stop()
    return struck


def workload(subject, options, manifest, without):
    """The same operations each time, in a process that may die of a fault in a mapping."""
    program = (
        "import sys, streams, worker, multiprocessing; from model import Model; "
        f"{work_of(options).program}; "
        "worker.work(hand, sys.argv[2], worker.Signals(multiprocessing), int(sys.argv[3]))"
    )
    words = ["python3", "-c", program, subject.root, manifest, str(options.ops), ",".join(without)]
    child = subprocess.Popen(words, cwd=HERE)
    try:
        code = child.wait(WORKLOAD_TIMEOUT)
    except subprocess.TimeoutExpired:
        # Its request is answered by the daemon's end.
        subject.kill()
        child.kill()
        child.wait()
        raise check.Difference(["a caller hangs"]) from None
    if code not in (0, 3, -7):
        raise check.Difference([f"the workload ended with {code}"])


def live(subject, options, told):
    """Before the daemon's end: reads still give what was acknowledged, and a sync that has failed with
    an I/O error does not succeed the next time."""
    if not subject.alive():
        raise check.Difference([f"the daemon ended by itself; in flight: {told.in_flight and told.in_flight.op}"])
    work_of(options).live(subject.root, told)
    failed = told.in_flight.op if told.in_flight and told.error == 5 else None
    if subject.everything and failed and failed["op"] in SYNCS:
        try:
            execute(subject.root, failed, b"")
        except OSError:
            return
        raise check.Difference([f"{failed} failed, and then did not"])
