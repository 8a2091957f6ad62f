"""Works in a directory of its own below a mount until its standard input ends.

worker.py KIND NAME ROOT: says "ready", then works, compares every byte that it
sees, and prints how often it did so. Any error ends it with a message and 1.
"""

import hashlib
import os
import random
import select
import sys
import traceback

BLOCK = 64 * 1024


def pattern(seed, length):
    return hashlib.shake_128(str(seed).encode()).digest(length)


def compare(name, seen, wanted, previous):
    if seen != wanted:
        pairs = zip(seen, wanted)
        first = next((at for at, (a, b) in enumerate(pairs) if a != b), None)
        raise AssertionError(
            f"{name}: {len(seen)} bytes instead of {len(wanted)}, the first other one at {first}; "
            f"the version before: {seen == previous}"
        )


def read(directory, rng):
    body = pattern("read", 40 * BLOCK)
    path = os.path.join(directory, "body")
    with open(path, "wb") as file:
        file.write(body)
    held = os.open(path, os.O_RDONLY)
    inode = os.stat(path).st_ino

    def step():
        at = rng.randrange(len(body))
        length = rng.randrange(1, 2 * BLOCK)
        if rng.random() < 0.3:
            # Past the kernel's cache.
            os.posix_fadvise(held, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(held, length, at) == body[at : at + length], "bytes differ"
        assert os.stat(path).st_ino == inode, "another inode"

    return step


def write(directory, rng):
    contents = {}

    def step():
        name = f"f{rng.randrange(8)}"
        path = os.path.join(directory, name)
        previous = contents.get(name)
        if name in contents and rng.random() < 0.4:
            at = rng.randrange(len(contents[name]) + 1)
            data = pattern(rng.random(), rng.randrange(1, 3000))
            with open(path, "r+b", buffering=0) as file:
                file.seek(at)
                assert file.write(data) == len(data)
                if rng.random() < 0.5:
                    os.fsync(file.fileno())
            old = contents[name]
            contents[name] = old[:at] + data + old[at + len(data) :]
        else:
            body = pattern(rng.random(), rng.randrange(1, 5 * BLOCK))
            with open(path, "wb", buffering=0) as file:
                for start in range(0, len(body), BLOCK // 2):
                    piece = body[start : start + BLOCK // 2]
                    assert file.write(piece) == len(piece)
            contents[name] = body
        with open(path, "rb") as file:
            compare(name, file.read(), contents[name], previous)

    return step


def rename(directory, rng):
    count = [0]
    current = [None]
    target = os.path.join(directory, "current")

    def step():
        count[0] += 1
        body = pattern(count[0], 2000)
        temporary = os.path.join(directory, f"tmp-{count[0]}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, body)
        os.fsync(descriptor)
        os.close(descriptor)
        held = os.open(target, os.O_RDONLY) if current[0] else None
        os.rename(temporary, target)
        assert not os.path.exists(temporary), "both names"
        with open(target, "rb") as file:
            assert file.read() == body, "not the new one"
        if held is not None:
            assert os.pread(held, 5000, 0) == current[0], "the old one is lost to its reader"
            os.close(held)
        current[0] = body
        assert sorted(os.listdir(directory)) == ["current"], os.listdir(directory)

    return step


def list_(directory, rng):
    names = [f"n{number:04}" for number in range(300)]
    for name in names:
        os.mknod(os.path.join(directory, name))

    def step():
        seen = []
        with os.scandir(directory) as entries:
            for entry in entries:
                seen.append(entry.name)
        assert sorted(seen) == names, f"{len(seen)} names, {len(set(seen))} different"

    return step


def tree(directory, rng):
    def step():
        top = os.path.join(directory, "a")
        os.mkdir(top)
        os.mkdir(os.path.join(top, "b"))
        path = os.path.join(top, "b", "c")
        with open(path, "x") as file:
            file.write("text")
        os.rename(top, top + "2")
        moved = os.path.join(top + "2", "b", "c")
        with open(moved) as file:
            assert file.read() == "text"
        os.unlink(moved)
        os.rmdir(os.path.join(top + "2", "b"))
        os.rmdir(top + "2")
        assert os.listdir(directory) == [], os.listdir(directory)

    return step


def append(directory, rng):
    path = os.path.join(directory, "log")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    lines = []

    def step():
        line = f"line {len(lines)}\n".encode()
        assert os.write(descriptor, line) == len(line)
        lines.append(line)
        if len(lines) % 50 == 0:
            os.fsync(descriptor)
        if len(lines) % 20 == 0:
            whole = b"".join(lines)
            assert os.pread(descriptor, len(whole) + 1, 0) == whole, "lines differ"

    return step


def main():
    kind, name, root = sys.argv[1:]
    kinds = {"read": read, "write": write, "rename": rename, "list": list_, "tree": tree, "append": append}
    directory = os.path.join(root, name)
    os.mkdir(directory)
    step = kinds[kind](directory, random.Random(name))
    print("ready", flush=True)
    rounds = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        step()
        rounds += 1
    print(f"{rounds} rounds")


try:
    main()
except BaseException:
    traceback.print_exc(file=sys.stdout)
    sys.exit(1)
