"""Operations: chosen at random so that they succeed on a model, and done on a real tree."""

import ctypes
import errno
import mmap
import os
import random

from model import PAGE

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_EXCHANGE = 2
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE = 1, 2

# How much a worker may have at once. Files reach over the border of a chunk (1 MiB).
FILES_MAX, DIRS_MAX, BYTES_MAX, FILE_BYTES_MAX = 60, 12, 12 << 20, 5 << 19

WEIGHTS = {
    "create": 14, "write": 16, "append": 14, "truncate": 5, "unlink": 7, "mkdir": 4, "rmdir": 3,
    "rename": 9, "exchange": 2, "link": 4, "symlink": 3, "fifo": 1, "setxattr": 4, "removexattr": 2,
    "chmod": 3, "chown": 2, "utime": 3, "punch": 3, "allocate": 2, "copy": 4, "store": 4,
    "fsync": 5, "fdatasync": 3, "fsyncdir": 3,
}  # fmt: skip
SYNCS = ("fsync", "fdatasync", "fsyncdir")
NAMES = ["a", "b.txt", "c d", "\u00e4\u2713", "e\udcff", "-f", "longer-" * 20]


class Generator:
    """Chooses the next operation; the same seed and model give the same choice."""

    def __init__(self, seed, model, without=()):
        self.rng = random.Random(seed)
        self.model = model
        self.weights = {op: w for op, w in WEIGHTS.items() if op not in without}
        if os.getuid() != 0:
            self.weights.pop("chown", None)
        self.count = 0

    def next(self):
        while True:
            kind = self.rng.choices(list(self.weights), list(self.weights.values()))[0]
            op = getattr(self, "pick_" + kind)()
            if op is not None:
                return dict(op, op=kind)

    def _path(self, *kinds):
        paths = self.model.paths(*kinds)
        return self.rng.choice(paths) if paths else None

    def _new_path(self):
        self.count += 1
        parent = self.rng.choice([""] + self.model.paths("dir"))
        name = f"{self.rng.choice(NAMES)}{self.rng.randrange(400)}"
        path = f"{parent}/{name}" if parent else name
        return None if name in self.model.find(parent).entries or path.count("/") > 4 else path

    def _bytes(self, most):
        # Mostly small, as programs write; some across pages and chunks.
        length = self.rng.choice([1, 17, 512, 4096, 5000, 20000, 65536, 131072])
        return {"seed": self.rng.getrandbits(48), "len": min(self.rng.randint(1, length), most)}

    def _room(self):
        return BYTES_MAX - self.model.bytes()

    def _mode(self):
        return self.rng.choice([0o600, 0o640, 0o644, 0o755, 0o700])

    def pick_create(self):
        path = self._new_path()
        if path is None or len(self.model.paths("file")) >= FILES_MAX:
            return None
        return {"path": path, "mode": self._mode()}

    def pick_mkdir(self):
        path = self._new_path()
        if path is None or len(self.model.paths("dir")) >= DIRS_MAX:
            return None
        return {"path": path, "mode": 0o755}

    def pick_symlink(self):
        path = self._new_path()
        if path is None or len(self.model.paths("link", "fifo")) >= 20:
            return None
        return {"path": path, "target": self.rng.choice(["../x", "/nowhere/at/all", "t" * 300])}

    def pick_fifo(self):
        picked = self.pick_symlink()
        return picked and {"path": picked["path"], "mode": self._mode()}

    def pick_link(self):
        path, to = self._path("file"), self._new_path()
        if path is None or to is None or len(self.model.paths("file")) >= FILES_MAX:
            return None
        return {"path": path, "to": to}

    def pick_unlink(self):
        full = self.model.bytes() > BYTES_MAX * 3 // 4 or len(self.model.paths("file")) > 50
        path = self._path("file", "link", "fifo") if full or self.rng.random() < 0.7 else None
        return path and {"path": path}

    def pick_rmdir(self):
        path = self._path("dir")
        return {"path": path} if path and not self.model.find(path).entries else None

    def pick_rename(self):
        path = self._path()
        if path is None:
            return None
        node = self.model.find(path)
        if self.rng.random() < 0.4 and node.kind != "dir":
            # Over something that is there.
            to = self._path("file", "link")
            return to and {"path": path, "to": to}
        to = self._new_path()
        inside = to is not None and (to + "/").startswith(path + "/")
        return None if to is None or inside else {"path": path, "to": to}

    def pick_exchange(self):
        path, to = self._path(), self._path()
        if path is None or path == to or f"{path}/".startswith(f"{to}/") or f"{to}/".startswith(f"{path}/"):
            return None
        return {"path": path, "to": to}

    def pick_write(self):
        path = self._path("file")
        if path is None:
            return None
        size = len(self.model.find(path).data)
        at = self.rng.choice([0, size, self.rng.randint(0, size), min(size + 70000, FILE_BYTES_MAX)])
        most = min(FILE_BYTES_MAX - at, self._room())
        return {"path": path, "at": at, **self._bytes(most)} if most > 70000 else None

    def pick_append(self):
        path = self._path("file")
        most = path and min(FILE_BYTES_MAX - len(self.model.find(path).data), self._room())
        return {"path": path, **self._bytes(most)} if path and most > 0 else None

    def pick_store(self):
        path = self._path("file")
        pages = path and len(self.model.find(path).data) // PAGE
        if not pages:
            return None
        # Within one page, so that it is there or not.
        at = self.rng.randrange(PAGE - 1)
        op = self._bytes(PAGE - at)
        return {"path": path, "at": self.rng.randrange(pages) * PAGE + at, **op}

    def pick_copy(self):
        path, to = self._path("file"), self._path("file")
        if path is None or self.model.find(path) is self.model.find(to):
            return None
        size = len(self.model.find(path).data)
        start = self.rng.randint(0, size) // 2
        at = self.rng.randint(0, len(self.model.find(to).data))
        length = min(size - start, FILE_BYTES_MAX - at, self._room())
        return {"path": path, "to": to, "from": start, "at": at, "len": length} if length > 0 else None

    def pick_truncate(self):
        path = self._path("file")
        if path is None:
            return None
        size = len(self.model.find(path).data)
        most = size + min(self._room(), 100000, FILE_BYTES_MAX - size)
        return {"path": path, "size": self.rng.choice([0, self.rng.randint(0, size), max(size, most)])}

    def pick_punch(self):
        path = self._path("file")
        size = path and len(self.model.find(path).data)
        return {"path": path, "at": self.rng.randrange(size), "len": self.rng.randint(1, size)} if size else None

    def pick_allocate(self):
        picked = self.pick_append()
        return picked and {"path": picked["path"], "at": len(self.model.find(picked["path"]).data), "len": picked["len"]}

    def pick_chmod(self):
        path = self._path("file", "dir", "fifo")
        mode = path and (0o755 if self.model.find(path).kind == "dir" else self._mode())
        return path and {"path": path, "mode": mode}

    def pick_chown(self):
        path = self._path("file")
        return path and {"path": path, "uid": self.rng.randrange(3), "gid": self.rng.randrange(3)}

    def pick_utime(self):
        path = self._path("file")
        return path and {"path": path, "ns": self.rng.randrange(1, 2**61)}

    def pick_setxattr(self):
        path = self._path("file", "dir")
        if path is None:
            return None
        return {"path": path, "name": f"user.n{self.rng.randrange(4)}", **self._bytes(200)}

    def pick_removexattr(self):
        path = self._path("file", "dir")
        names = sorted(self.model.find(path).xattrs) if path else []
        return {"path": path, "name": self.rng.choice(names)} if names else None

    def pick_fsync(self):
        path = self._path("file")
        return path and {"path": path}

    pick_fdatasync = pick_fsync

    def pick_fsyncdir(self):
        return {"path": self.rng.choice([""] + self.model.paths("dir"))}


def check(status):
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fallocate(fd, mode, at, length):
    check(LIBC.fallocate(fd, mode, ctypes.c_int64(at), ctypes.c_int64(length)))


def all_of(done, wanted):
    # A local file system gives fewer only with an error to come.
    if done != wanted:
        raise OSError(errno.EIO, f"{done} of {wanted} bytes")


def copy(source, target, op):
    start, at, left = op["from"], op["at"], op["len"]
    while left > 0:
        done = os.copy_file_range(source, target, left, start, at)
        if done == 0:
            raise OSError(errno.EIO, f"the copy ends {left} bytes early")
        start, at, left = start + done, at + done, left - done


def store(fd, op, data):
    size = os.fstat(fd).st_size
    if size < op["at"] + len(data):
        raise OSError(errno.EIO, f"the file has {size} bytes")
    with mmap.mmap(fd, 0) as view:
        view[op["at"] : op["at"] + len(data)] = data
        view.flush(op["at"] // PAGE * PAGE, PAGE)


def execute(root, op, data):
    """Does an operation below `root`. Whatever it needs beside itself changes nothing."""
    kind = op["op"]
    path = os.path.join(root, op["path"])
    to = os.path.join(root, op["to"]) if "to" in op else None
    paths = {
        "create": lambda: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, op["mode"])),
        "mkdir": lambda: os.mkdir(path, op["mode"]),
        "symlink": lambda: os.symlink(op["target"], path),
        "fifo": lambda: os.mkfifo(path, op["mode"]),
        "link": lambda: os.link(path, to, follow_symlinks=False),
        "unlink": lambda: os.unlink(path),
        "rmdir": lambda: os.rmdir(path),
        "rename": lambda: os.rename(path, to),
        "exchange": lambda: check(
            LIBC.renameat2(AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(to), RENAME_EXCHANGE)
        ),
        "chmod": lambda: os.chmod(path, op["mode"]),
        "chown": lambda: os.chown(path, op["uid"], op["gid"]),
        "utime": lambda: os.utime(path, ns=(op["ns"], op["ns"])),
        "setxattr": lambda: os.setxattr(path, op["name"], data),
        "removexattr": lambda: os.removexattr(path, op["name"]),
        "truncate": lambda: os.truncate(path, op["size"]),
    }
    if kind in paths:
        paths[kind]()
        return
    flags = {"append": os.O_WRONLY | os.O_APPEND, "fsyncdir": os.O_RDONLY, "copy": os.O_RDONLY}
    fd = os.open(path, flags.get(kind, os.O_RDWR))
    try:
        on_file(fd, to, op, data)
    finally:
        os.close(fd)


def on_file(fd, to, op, data):
    kind = op["op"]
    if kind == "write":
        all_of(os.pwrite(fd, data, op["at"]), len(data))
    elif kind == "append":
        all_of(os.write(fd, data), len(data))
    elif kind == "store":
        store(fd, op, data)
    elif kind == "punch":
        fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, op["at"], op["len"])
    elif kind == "allocate":
        fallocate(fd, 0, op["at"], op["len"])
    elif kind == "fdatasync":
        os.fdatasync(fd)
    elif kind in ("fsync", "fsyncdir"):
        os.fsync(fd)
    elif kind == "copy":
        target = os.open(to, os.O_WRONLY)
        try:
            copy(fd, target, op)
        finally:
            os.close(target)
    else:
        raise ValueError(kind)


def unsupported(root):
    """What a file system cannot do at all. Asked of peers; cidfs must do everything."""
    one, other = os.path.join(root, "probe one"), os.path.join(root, "probe two")
    for path in (one, other):
        with open(path, "wb") as file:
            file.write(bytes(2 * PAGE))
    tries = [
        {"op": "exchange", "path": "probe one", "to": "probe two"},
        {"op": "link", "path": "probe one", "to": "probe three"},
        {"op": "fifo", "path": "probe fifo", "mode": 0o600},
        {"op": "punch", "path": "probe one", "at": 0, "len": PAGE},
        {"op": "allocate", "path": "probe one", "at": 0, "len": 3 * PAGE},
        {"op": "copy", "path": "probe one", "to": "probe two", "from": 0, "at": 0, "len": 10},
        {"op": "setxattr", "path": "probe one", "name": "user.probe"},
        {"op": "chown", "path": "probe one", "uid": 1, "gid": 1},
        {"op": "store", "path": "probe one", "at": 10},
    ]
    missing = set()
    for op in tries:
        try:
            execute(root, op, b"x")
        except OSError:
            missing.add(op["op"])
    if "setxattr" in missing:
        missing.add("removexattr")
    for name in ("one", "two", "three", "fifo"):
        try:
            os.unlink(os.path.join(root, "probe " + name))
        except FileNotFoundError:
            pass
    return missing
