"""Whether a tree is what a manifest allows."""

import copy
import hashlib
import os
import stat

KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo",
}  # fmt: skip


class Difference(Exception):
    """The tree is in no state that the manifests allow."""


def seen(root):
    """Path to what is there, in the form of `Model.portrait`."""
    try:
        return walk(root)
    except OSError as error:
        raise Difference([f"the tree cannot be read: {error}"]) from error


def walk(root):
    found, names, open_ = {}, {}, [""]
    while open_:
        at = open_.pop()
        for name in os.listdir(os.path.join(root, at)):
            path = f"{at}/{name}" if at else name
            full = os.path.join(root, path)
            info = os.lstat(full)
            kind = KINDS.get(stat.S_IFMT(info.st_mode), "other")
            names.setdefault(info.st_ino, []).append(path)
            if kind == "dir":
                open_.append(path)
            found[path] = look(full, kind, info)
    for paths in names.values():
        for path in paths:
            if found[path]["kind"] != "dir":
                found[path]["names"] = sorted(paths)
    return found


def look(full, kind, info):
    value = {
        "kind": kind, "mode": stat.S_IMODE(info.st_mode), "owner": (info.st_uid, info.st_gid),
        "names": None, "size": None, "digest": None, "target": None, "mtime": info.st_mtime_ns,
        "links": info.st_nlink, "xattrs": {}, "full": full,
    }  # fmt: skip
    if kind == "file":
        with open(full, "rb") as file:
            data = file.read()
        value["size"] = info.st_size
        value["digest"] = hashlib.blake2b(data, digest_size=16).hexdigest()
        if len(data) != info.st_size:
            value["digest"] = f"{len(data)} bytes can be read"
    if kind == "link":
        value["target"] = os.readlink(full)
    if kind in ("file", "dir"):
        names = [n for n in sorted(os.listxattr(full)) if n.startswith("user.")]
        value["xattrs"] = {name: os.getxattr(full, name).hex() for name in names}
    return value


def differences(expected, found):
    """In words; empty if the tree is as expected."""
    words = [f"{path!r} is lost" for path in sorted(expected.keys() - found.keys())]
    words += [f"{path!r} is there" for path in sorted(found.keys() - expected.keys())]
    for path in sorted(expected.keys() & found.keys()):
        want, got = expected[path], found[path]
        for field, value in want.items():
            free = value is None and field in ("mode", "mtime")
            if not free and got[field] != value:
                words.append(f"{path!r}: {field} is {got[field]!r}, expected {value!r}")
        if want["names"] is not None and got["links"] != len(want["names"]):
            words.append(f"{path!r}: {got['links']} links, expected {len(want['names'])}")
    return words


def partly(model, op, found):
    """Makes of an operation that puts bytes as much as the tree shows: a long write or copy is more
    than one request to a file system. Gives the model after it, or `None`."""
    target = model.target_range(op)
    if target is None:
        return None
    after = copy.deepcopy(model)
    node, at, data = after.target_range(op)
    path = next(p for p in after.paths("file") if after.find(p) is node)
    if found.get(path, {}).get("kind") != "file":
        return None
    with open(found[path]["full"], "rb") as file:
        file.seek(at)
        there = file.read(len(data))
    same = next((n for n, (a, b) in enumerate(zip(there, data)) if a != b), min(len(there), len(data)))
    after.splice(node, at, data[:same])
    after.cut = at + same
    return after


# The kernel cuts these into several requests to a file system, and a kill may come between them. It
# cuts a write only where a page begins.
WRITES = ("write", "append")
REQUESTS = ("copy", "store", *WRITES)
PAGE = 4096


def on_a_page(after, op):
    """Whether a write that is there in part ends where a page does."""
    return after.cut % PAGE == 0


def settle(model, manifest, found, atomic):
    """The model after all that was acknowledged, and the operation in flight if that shows. Raises.
    `atomic`: one call is there or not; without it a call may be there in part."""
    for entry in manifest.acknowledged:
        model.apply(entry.op)
    words = differences(model.portrait(), found)
    if not words:
        return model
    for candidate in may_be(model, manifest.in_flight, found, atomic):
        if not differences(candidate.portrait(), found):
            return candidate
    last = manifest.in_flight.op if manifest.in_flight else None
    raise Difference(words[:12] + [f"{len(words)} differences; in flight: {last}"])


def may_be(model, in_flight, found, atomic):
    """The models that an operation in flight may have left."""
    if in_flight is None:
        return
    op = in_flight.op
    after = copy.deepcopy(model)
    after.apply(op)
    yield after
    part = partly(model, op, found) if not atomic or op["op"] in REQUESTS else None
    if part is not None and (not atomic or op["op"] not in WRITES or on_a_page(part, op)):
        yield part
    if atomic and op["op"] not in ("copy", "store"):
        return
    untimed = copy.deepcopy(model)
    untimed.find(op.get("to", op["path"]) if op["op"] == "copy" else op["path"].rpartition("/")[0]).mtime = None
    if op["op"] in ("write", "append", "store", "truncate", "punch", "allocate"):
        untimed.find(op["path"]).mtime = None
    yield untimed


# What a part of an operation on bytes may change of each name of its file: size, digest, mtime.
FIELDS_OF_BYTES = 3


def may_be_part(model, op, words):
    """Whether differences are few enough to be those of a file whose operation is there in part. It
    spares the copy of a model for each operation; every hard link shows the same differences again."""
    if op["op"] not in REQUESTS:
        return False
    node = model.find(op.get("to", op["path"]))
    names = sum(1 for path in model.paths("file") if model.find(path) is node)
    return len(words) <= FIELDS_OF_BYTES * names


def matches(model, manifest, found):
    """The lengths of the prefixes of a manifest that the tree equals, each with its model. One more
    than all acknowledged stands for the operation in flight."""
    entries = list(manifest.acknowledged)
    if manifest.in_flight is not None:
        entries.append(manifest.in_flight)
    result, nearest = {}, None
    for length in range(len(entries) + 1):
        if length > 0:
            model.apply(entries[length - 1].op)
        words = differences(model.portrait(), found)
        next_op = entries[length].op if length < len(entries) else None
        if not words:
            result[length] = copy.deepcopy(model)
        elif next_op and may_be_part(model, next_op, words):
            part = partly(model, next_op, found)
            if part is not None and not differences(part.portrait(), found):
                result[length] = part
        if nearest is None or len(words) < len(nearest[1]):
            nearest = (length, words, next_op)
    if not result:
        raise Difference(no_prefix(len(entries), found, *nearest))
    return result


def no_prefix(operations, found, length, words, next_op):
    return [
        f"no prefix of {operations} operations gives this tree; {len(found)} paths are there",
        f"nearest are the first {length}, with {len(words)} differences; the next: {next_op}",
        *words[:12],
    ]


def prefix(models, manifests, founds, syncs):
    """Checks that all workers' trees are one prefix of what was acknowledged, in its order, and no
    older than the last acknowledged sync. Gives the models. Raises."""
    possible = [matches(m, f, s) for m, f, s in zip(models, manifests, founds)]
    return [possible[n][length] for n, length in enumerate(in_order(possible, manifests, syncs))]


def in_order(possible, manifests, syncs):
    """The shortest of each worker's possible lengths that are one prefix of what was acknowledged."""
    synced = max((e.begin for f in manifests for e in f.acknowledged if e.op["op"] in syncs), default=0)

    def acknowledged_before(number, time):
        return sum(1 for entry in manifests[number].acknowledged if entry.done <= time)

    def raise_to(number, least):
        fits = [length for length in possible[number] if length >= least]
        if not fits:
            have = sorted(possible[number])
            raise Difference([f"worker {number}: {least} operations must be there, the tree shows {have}"])
        return min(fits)

    lengths = [raise_to(n, acknowledged_before(n, synced)) for n in range(len(manifests))]
    # Whatever was acknowledged before an operation began that is there must be there too.
    changed = True
    while changed:
        changed = False
        for shown, length in enumerate(lengths):
            if length == 0:
                continue
            entries = manifests[shown].acknowledged + [manifests[shown].in_flight]
            began = entries[length - 1].begin
            for other in range(len(manifests)):
                least = raise_to(other, acknowledged_before(other, began))
                if least > lengths[other]:
                    lengths[other], changed = least, True
    return lengths
