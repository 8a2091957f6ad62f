"""What is written and read, and how it is timed."""
import os
import threading
import time

MIB = 1 << 20
SMALL = b"x" * 8192
PATTERN = os.urandom(4 * MIB)


class WrongBytes(Exception):
    """What was read is not what was written."""


def piece(index):
    """1 MiB that tells its place in the file."""
    start = index * 4099 % (3 * MIB)
    return PATTERN[start:start + MIB]


def whole(mib):
    return b"".join(piece(index) for index in range(mib))


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def read_whole(path, mib, repeats_after=1 << 30):
    """Reads and compares; only reading counts. A file may be copies of so many MiB."""
    seconds = 0
    with open(path, "rb", buffering=0) as file:
        for index in range(mib):
            began = time.monotonic()
            got = b""
            while len(got) < MIB:
                more = file.read(MIB - len(got))
                if not more:
                    raise WrongBytes(f"{path} is too short")
                got = got + more if got else more
            seconds += time.monotonic() - began
            if got != piece(index % repeats_after):
                raise WrongBytes(f"{path}: other bytes in MiB {index}")
    return seconds


def write_whole(path, mib):
    with open(path, "wb", buffering=0) as file:
        for index in range(mib):
            file.write(piece(index))


def write_small(path, body):
    with open(path, "wb", buffering=0) as file:
        file.write(body)


def at_once(run, count):
    """Calls run(0) and so on in threads. Returns how long it took."""
    failed = []

    def guarded(number):
        try:
            run(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return time.monotonic() - began


def shared_out(items, run, workers):
    """Calls run(item) for each in so many threads."""
    items, lock = list(items), threading.Lock()

    def some(_):
        while True:
            with lock:
                if not items:
                    return
                item = items.pop()
            run(item)

    return at_once(some, workers)


def walk(root):
    found = 0
    for entry in os.scandir(root):
        entry.stat(follow_symlinks=False)
        found += 1 + (walk(entry.path) if entry.is_dir(follow_symlinks=False) else 0)
    return found


def timed(run):
    began = time.monotonic()
    run()
    return time.monotonic() - began
