"""What is put to the test: cidfs, or something else to try the harness itself on."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time

START_TIMEOUT, STOP_TIMEOUT = 60, 60
# A repository that has grown over this is not used for another round: what is let go stays in packs.
STORE_BYTES_MAX = 6 << 30
# The ring of chunks that are acknowledged and not journaled (docs/JOURNAL.md).
RING_HEADS, RING_HEAD_BYTES = 4, 4096
SEGMENT_HEAD_BYTES = 48


class DidNotStart(Exception):
    """The daemon ended, or never mounted."""


def mounted(directory):
    with open("/proc/self/mounts") as mounts:
        return any(line.split()[1] == directory for line in mounts)


class Plain:
    """A directory. No daemon: the workers are killed, so that each has an operation in flight."""

    atomic = False
    everything = False

    def __init__(self, work):
        self.root = os.path.join(work, "plain")

    def reset(self):
        shutil.rmtree(self.root, ignore_errors=True)
        os.mkdir(self.root)

    def start(self):
        pass

    def alive(self):
        return True

    def kill(self, workers):
        for worker in workers:
            worker.kill()

    def stop(self):
        pass

    def is_full(self):
        return False


class Daemon:
    """A FUSE file system whose daemon runs in the foreground, so that its number is known."""

    def __init__(self, work):
        self.work = work
        self.mnt = os.path.join(work, "mnt")
        self.root = self.mnt
        self.child = None
        os.makedirs(self.mnt, exist_ok=True)

    def command(self):
        raise NotImplementedError

    def start(self, under=()):
        assert not mounted(self.mnt), "one daemon at a time"
        self.log = open(os.path.join(self.work, "daemon.log"), "ab")
        self.child = subprocess.Popen([*under, *self.command()], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        self.traced = bool(under)
        end = time.monotonic() + START_TIMEOUT
        while not mounted(self.mnt):
            if self.child.poll() is not None or time.monotonic() > end:
                self.gone()
                raise DidNotStart(f"see {self.log.name}")
            time.sleep(0.005)

    def pid(self):
        """The daemon's, which is a child of strace when it is traced."""
        if not self.traced:
            return self.child.pid
        with open(f"/proc/{self.child.pid}/task/{self.child.pid}/children") as children:
            numbers = children.read().split()
        return int(numbers[0]) if numbers else None

    def alive(self):
        return self.child.poll() is None

    def kill(self, workers=()):
        pid = self.pid() if self.alive() else None
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        self.gone()

    def gone(self):
        """After the daemon's end: nothing of it is left, the stale mount neither."""
        if self.child.poll() is None:
            try:
                self.child.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.log.close()
        if mounted(self.mnt):
            subprocess.run(["umount", "-l", self.mnt], check=False)

    def is_full(self):
        files = (os.path.join(at, name) for at, _, names in os.walk(self.store) for name in names)
        return sum(os.lstat(file).st_size for file in files) > STORE_BYTES_MAX

    def stop(self):
        """A clean end. A mount that is still in use is tried again: kernels let go late."""
        end = time.monotonic() + STOP_TIMEOUT
        while mounted(self.mnt) and time.monotonic() < end:
            subprocess.run(["umount", self.mnt], check=False, stderr=subprocess.DEVNULL)
            time.sleep(0.02)
        self.gone()


class Peer(Daemon):
    """Any FUSE file system that keeps its files in a directory: `COMMAND` with {back} and {mnt}."""

    atomic = False
    everything = False

    def __init__(self, work, command):
        super().__init__(work)
        self.back = os.path.join(work, "back")
        self.store = self.back
        self.words = shlex.split(command)

    def command(self):
        return [word.format(back=self.back, mnt=self.mnt) for word in self.words]

    def reset(self):
        shutil.rmtree(self.back, ignore_errors=True)
        os.mkdir(self.back)


class Cidfs(Daemon):
    """The writable tree of a repository of its own."""

    atomic = True
    everything = True

    def __init__(self, work, program, options):
        super().__init__(work)
        self.program = program
        self.options = options
        self.repo = os.path.join(work, "repo")
        self.store = self.repo
        os.environ["CIDFS_REPO"] = self.repo

    def command(self):
        return [self.program, "mount", "-f", "-o", self.options, "/mfs", self.mnt]

    def reset(self):
        shutil.rmtree(self.repo, ignore_errors=True)

    def stop(self):
        subprocess.run([self.program, "umount", self.mnt], check=False, stdout=subprocess.DEVNULL, timeout=STOP_TIMEOUT)
        super().stop()

    def delete_index(self):
        shutil.rmtree(os.path.join(self.repo, "index"), ignore_errors=True)

    def last_segment(self):
        """The path of the journal's last segment, and where its bytes end: the rest is reserved."""
        directory = os.path.join(self.repo, "journal")
        names = sorted(n for n in os.listdir(directory) if re.fullmatch(r"\d{20}\.seg", n))
        path = os.path.join(directory, names[-1])
        with open(path, "rb") as file:
            return path, len(file.read().rstrip(b"\0"))

    def cut(self, since, rng):
        """Loses the journal's last bytes from a random one on, but none that was there at `since`."""
        path, end = self.last_segment()
        begin = since[1] if path == since[0] else 0
        at = rng.randint(begin, max(begin, end))
        size = os.path.getsize(path)
        os.truncate(path, at)
        way = rng.choice(["shorter", "zeros"])
        if way == "zeros":
            os.truncate(path, size)
        return f"{end - at} of {end - begin} bytes cut off ({way})"

    def last_entry(self):
        """The number of the journal's last whole frame, as far as its heads tell."""
        path, end = self.last_segment()
        last = int(os.path.basename(path)[:20]) - 1
        with open(path, "rb") as file:
            data = file.read(end)
        at = SEGMENT_HEAD_BYTES
        while data[at : at + 4] == b"\xc1\xdfJF":
            length, last = int.from_bytes(data[at + 8 : at + 12], "little"), int.from_bytes(data[at + 16 : at + 24], "little")
            at += length
        return last

    def ring(self):
        return os.path.join(self.repo, "journal", "ahead.ring")

    def ahead(self):
        """How many chunks are in the ring alone. Asked of a repository whose daemon is gone."""
        if not os.path.exists(self.ring()):
            return 0
        with open(self.ring(), "rb") as file:
            heads = [file.read(RING_HEAD_BYTES) for _ in range(RING_HEADS)]
        numbers = [int.from_bytes(head[32:40], "little") for head in heads if head.startswith(b"cidfsAHD")]
        last = self.last_entry()
        return sum(1 for number in numbers if number > last)

    def mar_ring(self, rng):
        """Leaves the ring as the end of its machine may: whole, gone, or with pages of another time."""
        way = rng.choice(["kept", "gone", "torn"])
        if not os.path.exists(self.ring()):
            return "no ring"
        if way == "gone":
            os.unlink(self.ring())
        elif way == "torn":
            with open(self.ring(), "r+b") as file:
                for page in range(os.path.getsize(self.ring()) // RING_HEAD_BYTES):
                    if rng.random() < 0.3:
                        file.seek(page * RING_HEAD_BYTES)
                        file.write(bytes(RING_HEAD_BYTES))
        return f"ring {way}"
