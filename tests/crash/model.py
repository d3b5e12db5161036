"""What a tree must look like after a list of operations. Knows no file system.

An operation is a dictionary that JSON can hold: `op` names it, the rest are absolute values. Bytes are
given by a seed and a length. `Model.apply` cannot fail for an operation that the generator chose.
"""

import hashlib
import os
import random

PAGE = 4096


def content(op):
    """The bytes that an operation writes."""
    return random.Random(op["seed"]).randbytes(op["len"])


class Node:
    """An inode. Directories have `entries`, files `data`, links `target`."""

    def __init__(self, kind, mode, target=""):
        self.kind = kind
        self.mode = mode
        self.target = target
        self.owner = (os.getuid(), os.getgid())
        self.entries = {}
        self.data = bytearray()
        self.xattrs = {}
        # Known only while nothing but utime has touched it.
        self.mtime = None
        self._digest = None

    def touched(self):
        self.mtime = None
        self._digest = None

    def digest(self):
        if self._digest is None:
            self._digest = hashlib.blake2b(self.data, digest_size=16).hexdigest()
        return self._digest


class Model:
    """A directory and all below it. Paths are relative to it; "" is itself."""

    def __init__(self):
        self.root = Node("dir", 0o755)

    def find(self, path):
        node = self.root
        for name in filter(None, path.split("/")):
            node = node.entries[name]
        return node

    def place(self, path):
        """The directory that holds a path's last name, and the name."""
        parent, _, name = path.rpartition("/")
        return self.find(parent), name

    def paths(self, *kinds):
        """The paths below the root, parents first; only of some kinds if any are given."""
        found, open_ = [], [("", self.root)]
        while open_:
            at, node = open_.pop()
            for name, child in node.entries.items():
                path = f"{at}/{name}" if at else name
                if not kinds or child.kind in kinds:
                    found.append(path)
                if child.kind == "dir":
                    open_.append((path, child))
        return found

    def bytes(self):
        return sum(len(self.find(path).data) for path in self.paths("file"))

    def apply(self, op):
        getattr(self, "op_" + op["op"])(op)

    # Names.

    def _put(self, path, node):
        parent, name = self.place(path)
        parent.entries[name] = node
        parent.touched()

    def _take(self, path):
        parent, name = self.place(path)
        parent.touched()
        return parent.entries.pop(name)

    def op_create(self, op):
        self._put(op["path"], Node("file", op["mode"]))

    def op_mkdir(self, op):
        self._put(op["path"], Node("dir", op["mode"]))

    def op_symlink(self, op):
        self._put(op["path"], Node("link", 0o777, op["target"]))

    def op_fifo(self, op):
        self._put(op["path"], Node("fifo", op["mode"]))

    def op_link(self, op):
        self._put(op["to"], self.find(op["path"]))

    def op_unlink(self, op):
        self._take(op["path"])

    op_rmdir = op_unlink

    def op_rename(self, op):
        # Two names of one file: POSIX has the call do nothing.
        parent, name = self.place(op["to"])
        if parent.entries.get(name) is not self.find(op["path"]):
            self._put(op["to"], self._take(op["path"]))

    def op_exchange(self, op):
        one, other = self._take(op["path"]), self._take(op["to"])
        self._put(op["path"], other)
        self._put(op["to"], one)

    # Bytes.

    def splice(self, node, at, data):
        if len(node.data) < at:
            node.data.extend(bytes(at - len(node.data)))
        node.data[at : at + len(data)] = data
        node.touched()

    def target_range(self, op):
        """Where an operation puts which bytes, for those that put bytes; else None."""
        if op["op"] in ("write", "store"):
            return self.find(op["path"]), op["at"], content(op)
        if op["op"] == "append":
            node = self.find(op["path"])
            return node, len(node.data), content(op)
        if op["op"] == "copy":
            taken = bytes(self.find(op["path"]).data[op["from"] : op["from"] + op["len"]])
            return self.find(op["to"]), op["at"], taken
        return None

    def _write(self, op):
        self.splice(*self.target_range(op))

    op_write = op_store = op_append = op_copy = _write

    def op_truncate(self, op):
        node = self.find(op["path"])
        del node.data[op["size"] :]
        node.data.extend(bytes(op["size"] - len(node.data)))
        node.touched()

    def op_punch(self, op):
        node = self.find(op["path"])
        end = min(op["at"] + op["len"], len(node.data))
        node.data[op["at"] : end] = bytes(max(0, end - op["at"]))
        node.touched()

    def op_allocate(self, op):
        node = self.find(op["path"])
        node.data.extend(bytes(max(0, op["at"] + op["len"] - len(node.data))))
        node.touched()

    # Attributes.

    def op_chmod(self, op):
        self.find(op["path"]).mode = op["mode"]

    def op_chown(self, op):
        self.find(op["path"]).owner = (op["uid"], op["gid"])

    def op_utime(self, op):
        self.find(op["path"]).mtime = op["ns"]

    def op_setxattr(self, op):
        self.find(op["path"]).xattrs[op["name"]] = content(op)

    def op_removexattr(self, op):
        del self.find(op["path"]).xattrs[op["name"]]

    # Promises; they change nothing.

    def op_fsync(self, op):
        pass

    op_fdatasync = op_fsyncdir = op_fsync

    def portrait(self):
        """Path to what must be seen there. `None` in a value: anything may be."""
        names = {}
        for path in sorted(self.paths()):
            names.setdefault(id(self.find(path)), []).append(path)
        seen = {}
        for paths in names.values():
            node = self.find(paths[0])
            file = node.kind == "file"
            for path in paths:
                seen[path] = {
                    "kind": node.kind,
                    "mode": None if node.kind == "link" else node.mode,
                    "owner": node.owner,
                    "names": None if node.kind == "dir" else paths,
                    "size": len(node.data) if file else None,
                    "digest": node.digest() if file else None,
                    "target": node.target or None,
                    "xattrs": {k: v.hex() for k, v in sorted(node.xattrs.items())},
                    "mtime": node.mtime,
                }
        return seen
