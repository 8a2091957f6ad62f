"""What is measured. Each workload yields results, one after the other."""
import os
import shutil
import statistics
import subprocess
import time
from collections import namedtuple

from data import (MIB, SMALL, WrongBytes, at_once, drop_caches, piece, read_whole, shared_out, timed, walk, whole,
                  write_small, write_whole)

Result = namedtuple("Result", "key detail seconds")

NAMES = ["read", "cached", "parallel", "random", "tail", "small", "walk", "ls", "write", "create", "replace", "edit",
         "remove"]
# These change what they work on: a bucket each.
CHANGING = {"write", "create", "replace", "edit", "remove"}
# After these replies a daemon goes on for a moment, at the same cost.
LATER_SECONDS = {"replace": 1.5, "edit": 1.5, "remove": 1.5}
# One that asks for each of 10,000 names by itself takes longer, and is told so.
LS_WITHIN_SECONDS = 120
EDITED_MIB = 100
EDITED = ("renamed", "appended", "overwritten")


class Workloads:
    def __init__(self, s3, quick):
        self.s3 = s3
        self.mib = 256 if quick else 1024
        self.files = 2000 if quick else 10000

    def objects(self, names):
        """What these workloads read, as (key, body) with bodies made when they are called."""
        wanted = set(names)
        if wanted & {"read", "cached", "random", "tail"}:
            yield "long", lambda: whole(self.mib)
        if "parallel" in wanted:
            yield from ((f"eight/{n}", lambda: whole(64)) for n in range(8))
        if "small" in wanted:
            yield from ((f"small/{n:03}", lambda: SMALL) for n in range(200))
        if "walk" in wanted:
            yield from ((f"tree/d{n % 200:03}/f{n:04}", lambda: b"x") for n in range(2000))
        if "ls" in wanted:
            yield from ((f"many/f{n:05}", lambda: b"x") for n in range(self.files))

    def fill(self, contestant, bucket, objects):
        """Puts them where the contestant finds them as files."""
        if contestant.keeps_names:
            shared_out(objects, lambda it: self.s3.put_object(Bucket=bucket, Key=it[0], Body=it[1]()), 8)
            return
        mount = contestant.mount_to_fill(bucket)
        try:
            objects = list(objects)
            for folder in {os.path.dirname(key) for key, _ in objects}:
                os.makedirs(mount.path(folder), exist_ok=True)
            shared_out(objects, lambda it: write_small(mount.path(it[0]), it[1]()), 16)
        finally:
            mount.end()

    def before(self, name, contestant, bucket):
        if name == "edit":
            self.fill(contestant, bucket, [(key, lambda: whole(EDITED_MIB)) for key in EDITED])

    def read(self, mount):
        yield Result("cold read", f"{self.mib} MiB", read_whole(mount.path("long"), self.mib))
        drop_caches()
        yield Result("again, page cache dropped", f"{self.mib} MiB", read_whole(mount.path("long"), self.mib))

    def cached(self, mount):
        yield Result("cold read, kept on disk", f"{self.mib} MiB", read_whole(mount.path("long"), self.mib))
        drop_caches()
        yield Result("again from the disk", f"{self.mib} MiB", read_whole(mount.path("long"), self.mib))

    def parallel(self, mount):
        seconds = at_once(lambda n: read_whole(mount.path("eight", str(n)), 64), 8)
        yield Result("parallel files", "8 of 64 MiB", seconds)

    def random_reads(self, mount, numbers):
        """How long each took."""
        took = []
        with open(mount.path("long"), "rb", buffering=0) as file:
            for number in numbers:
                at = number * 7919 % (self.mib * 256) * 4096
                began = time.monotonic()
                got = os.pread(file.fileno(), 4096, at)
                took.append(time.monotonic() - began)
                inside = at % MIB
                if got != piece(at // MIB)[inside:inside + 4096]:
                    raise WrongBytes(f"other bytes at {at}")
        return took

    def random(self, mount):
        yield Result("random reads, median", "100 of 4 KiB", statistics.median(self.random_reads(mount, range(100))))

    def tail(self, mount):
        self.random_reads(mount, range(300))
        mount.mark()
        mount.proxy.slow_every = 100
        took = sorted(self.random_reads(mount, range(300, 1300)))
        mount.proxy.slow_every = 0
        yield Result("1,000 reads, 1 % a second late", "median", statistics.median(took))
        yield Result("the slowest 1 %", "mean", statistics.mean(took[-10:]))

    def small(self, mount):
        def scan():
            for name in sorted(os.listdir(mount.path("small"))):
                with open(mount.path("small", name), "rb") as file:
                    if file.read() != SMALL:
                        raise WrongBytes(f"{name}: other bytes")

        yield Result("small files", "200 of 8 KiB", timed(scan))
        yield Result("small files again", "200 of 8 KiB", timed(scan))

    def walk(self, mount):
        for key in ("walk", "walk again"):
            seconds = timed(lambda: self.count(walk(mount.path("tree")), 2200))
            yield Result(key, "2,000 files in 200", seconds)

    def count(self, found, wanted):
        if found != wanted:
            raise WrongBytes(f"{found} names, not {wanted}")

    def ls(self, mount):
        for key in ("ls -l", "ls -l again"):
            ls = ["ls", "-l", mount.path("many")]
            seconds = timed(lambda: subprocess.run(ls, stdout=subprocess.DEVNULL, check=True, timeout=LS_WITHIN_SECONDS))
            yield Result(key, f"{self.files} names", seconds)

    def write(self, mount):
        yield Result("write", f"{self.mib} MiB", timed(lambda: write_whole(mount.path("written"), self.mib)))
        self.compare(mount, "written", piece, self.mib)

    def create(self, mount):
        def create(names):
            for name in names:
                write_small(mount.path("new", name), SMALL)

        os.mkdir(mount.path("new"))
        create(["first"])
        mount.mark()
        yield Result("create", "200 of 8 KiB", timed(lambda: create(f"a{n}" for n in range(200))))
        seconds = at_once(lambda t: create(f"t{t}-{n}" for n in range(12)), 16)
        yield Result("create by 16 writers", "192 of 8 KiB", seconds)

    def replace(self, mount):
        def replace():
            for number in range(100):
                name = mount.path("new", f"f{number}.txt")
                with open(name + ".tmp", "wb", buffering=0) as file:
                    file.write(SMALL)
                    os.fsync(file.fileno())
                os.rename(name + ".tmp", name)

        os.makedirs(mount.path("new"), exist_ok=True)
        replace()
        time.sleep(2)
        mount.mark()
        yield Result("tmp and rename", "100 of 8 KiB", timed(replace))

    def edit(self, mount):
        def append():
            with open(mount.path("appended"), "ab", buffering=0) as file:
                file.write(b"!")

        def overwrite():
            with open(mount.path("overwritten"), "r+b", buffering=0) as file:
                file.seek(41 * MIB + 4096)
                file.write(b"!" * 4096)

        detail = f"{EDITED_MIB} MiB"
        os.stat(mount.path("renamed"))
        mount.mark()
        yield Result("rename", detail, timed(lambda: os.rename(mount.path("renamed"), mount.path("moved"))))
        yield Result("append", detail, timed(append))
        yield Result("overwrite", detail, timed(overwrite))
        changed = piece(41)[:4096] + b"!" * 4096 + piece(41)[8192:]
        self.compare(mount, "moved", piece, EDITED_MIB)
        self.compare(mount, "appended", piece, EDITED_MIB, rest=b"!")
        self.compare(mount, "overwritten", lambda at: changed if at == 41 else piece(at), EDITED_MIB)

    def remove(self, mount):
        for folder, count in (("moved", 200), ("gone", 1000)):
            os.makedirs(mount.path(folder))
            shared_out(range(count), lambda n: write_small(mount.path(folder, f"{n:04}"), b"x"), 16)
        time.sleep(2)
        mount.mark()
        yield Result("rename of a directory", "200 files",
                     timed(lambda: os.rename(mount.path("moved"), mount.path("here"))))
        yield Result("rm -r", "1,000 files", timed(lambda: shutil.rmtree(mount.path("gone"))))

    def compare(self, mount, key, wanted, mib, rest=b""):
        """What S3 has under a name is what was written."""
        if not mount.keeps_names:
            return
        body = self.s3.get_object(Bucket=mount.bucket, Key=key)["Body"]
        for index in range(mib):
            if body.read(MIB) != wanted(index):
                raise WrongBytes(f"{key}: S3 has other bytes in MiB {index}")
        if body.read() != rest:
            raise WrongBytes(f"{key}: S3 has another end")
