"""Measures mounts of a local S3 server behind a proxy that answers as late as S3 does.

bench.py [--quick] [--rounds N] [--latency MS] [--rate MB/S] [--json FILE]
         [--endpoint URL] --binary PATH [--binary PATH...] [WORKLOAD...]

Each workload runs in each round with each binary, on a mount and a page cache that are
fresh; medians are printed, and with more than one binary their ratio to the first one.
Every byte that is read is compared.
"""
import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import boto3
from botocore.config import Config

from bench_proxy import Proxy

MIB = 1 << 20
PATTERN = os.urandom(4 * MIB)
MOUNTED_WITHIN_SECONDS = 30


def piece(index):
    """1 MiB that tells its place in the file."""
    start = index * 4099 % (3 * MIB)
    return PATTERN[start:start + MIB]


class Mount:
    """A daemon on a fresh spool, with cold caches."""

    def __init__(self, binary, bucket, endpoint, options=()):
        self.dir = tempfile.mkdtemp(prefix="mediafs-bench-")
        self.root = os.path.join(self.dir, "mnt")
        os.mkdir(self.root)
        log = open(os.path.join(self.dir, "log"), "wb")
        command = [binary, "mount", "--foreground", bucket, self.root, "--endpoint-url", endpoint,
                   "--force-path-style", "--region", "us-east-1", "--spool", os.path.join(self.dir, "spool"), *options]
        self.child = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + MOUNTED_WITHIN_SECONDS
        while not os.path.ismount(self.root):
            if self.child.poll() is not None or time.monotonic() > deadline:
                sys.exit("not mounted:\n" + open(log.name).read())
            time.sleep(0.02)
        drop_caches()

    def path(self, *names):
        return os.path.join(self.root, *names)

    def cpu(self):
        fields = open(f"/proc/{self.child.pid}/stat").read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        status = open(f"/proc/{self.child.pid}/status").read()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def end(self):
        subprocess.run(["umount", self.root], check=False)
        try:
            self.child.wait(60)
        except subprocess.TimeoutExpired:
            self.child.send_signal(signal.SIGKILL)
            self.child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def read_whole(path, mib):
    """Reads and compares; only reading counts."""
    seconds = 0
    with open(path, "rb", buffering=0) as file:
        for index in range(mib):
            began = time.monotonic()
            got = b""
            while len(got) < MIB:
                more = file.read(MIB - len(got))
                if not more:
                    sys.exit(f"{path} is too short")
                got = got + more if got else more
            seconds += time.monotonic() - began
            if got != piece(index):
                sys.exit(f"{path}: other bytes in MiB {index}")
    return seconds


def at_once(run, count):
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


class Workloads:
    """Each: objects that it needs, then what is measured: (what, seconds or more) pairs."""

    def __init__(self, s3, quick):
        self.s3, self.quick = s3, quick
        self.mib = 256 if quick else 1024
        self.files = 2000 if quick else 10000

    def put(self, bucket, key, mib):
        body = b"".join(piece(index) for index in range(mib))
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)

    def put_many(self, bucket, names, body=b"x" * 8192):
        names, lock = list(names), threading.Lock()

        def some(_):
            while True:
                with lock:
                    if not names:
                        return
                    name = names.pop()
                self.s3.put_object(Bucket=bucket, Key=name, Body=body)

        at_once(some, 8)

    def prepare(self, bucket):
        self.put(bucket, "long", self.mib)
        for number in range(8):
            self.put(bucket, f"eight/{number}", 64)
        self.put_many(bucket, (f"small/{n:03}" for n in range(200)))
        self.put_many(bucket, (f"tree/d{n % 200:03}/f{n:04}" for n in range(2000)), b"x")
        self.put_many(bucket, (f"many/f{n:05}" for n in range(self.files)), b"x")

    def read(self, mount):
        yield "cold read", read_whole(mount.path("long"), self.mib)
        drop_caches()
        yield "again, page cache dropped", read_whole(mount.path("long"), self.mib)

    def parallel(self, mount):
        yield "8 files of 64 MiB", at_once(lambda n: read_whole(mount.path("eight", str(n)), 64), 8)

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
                    sys.exit(f"other bytes at {at}")
        return took

    def random(self, mount):
        yield "median of 100 random reads of 4 KiB", statistics.median(self.random_reads(mount, range(100)))

    def tail(self, mount):
        self.random_reads(mount, range(300))
        mount.mark()
        mount.proxy.slow_every = 100
        took = sorted(self.random_reads(mount, range(300, 1300)))
        mount.proxy.slow_every = 0
        yield "1,000 reads, 1 % answered 1 s later: median", statistics.median(took)
        yield "the slowest 1 %, mean", statistics.mean(took[-10:])

    def small(self, mount):
        def scan():
            for name in sorted(os.listdir(mount.path("small"))):
                with open(mount.path("small", name), "rb") as file:
                    if file.read() != b"x" * 8192:
                        sys.exit(f"{name}: other bytes")

        yield "200 files of 8 KiB read", timed(scan)
        yield "again", timed(scan)

    def walk(self, mount):
        for what in ("walk of 2,000 files in 200 directories", "again"):
            yield what, timed(lambda: walk(mount.path("tree")) == 2200 or sys.exit("names are missing"))

    def ls(self, mount):
        for what in (f"ls -l of {self.files}", "again"):
            yield what, timed(lambda: subprocess.run(["ls", "-l", mount.path("many")], stdout=subprocess.DEVNULL, check=True))

    def write(self, mount):
        def write():
            with open(mount.path("written"), "wb", buffering=0) as file:
                for index in range(self.mib):
                    file.write(piece(index))

        yield f"write of {self.mib} MiB", timed(write)

    def create(self, mount):
        def create(names):
            for name in names:
                with open(mount.path("new", name), "wb") as file:
                    file.write(b"y" * 8192)

        os.mkdir(mount.path("new"))
        create(["first"])
        yield "200 files of 8 KiB created", timed(lambda: create(f"a{n}" for n in range(200)))
        yield "the same by 16 writers", at_once(lambda t: create(f"t{t}-{n}" for n in range(12)), 16)

    def replace(self, mount):
        def replace():
            for number in range(100):
                name = mount.path("new", f"f{number}.txt")
                with open(name + ".tmp", "wb", buffering=0) as file:
                    file.write(b"z" * 8192)
                    os.fsync(file.fileno())
                os.rename(name + ".tmp", name)

        os.makedirs(mount.path("new"), exist_ok=True)
        replace()
        time.sleep(2)
        mount.mark()
        yield "100 files replaced by tmp and rename", timed(replace)

    def remove(self, mount):
        os.makedirs(mount.path("gone"))
        at_once(lambda t: [open(mount.path("gone", f"{t}-{n}"), "wb").close() for n in range(25)], 16)
        mount.mark()
        yield "rename of a directory of 400", timed(lambda: os.rename(mount.path("gone"), mount.path("went")))
        yield "rm -r of 400", timed(lambda: shutil.rmtree(mount.path("went")))


NAMES = ["read", "parallel", "random", "tail", "small", "walk", "ls", "write", "create", "replace", "remove"]


def measure(workloads, name, binary, bucket, proxy):
    mount = Mount(binary, bucket, proxy.endpoint)
    state = {}

    def mark():
        proxy.take()
        state["cpu"] = mount.cpu()

    mount.mark, mount.proxy = mark, proxy
    mark()
    rows = []
    try:
        for what, seconds in getattr(workloads, name)(mount):
            cpu = mount.cpu()
            # What follows a reply counts too.
            time.sleep(1.5 if name in ("replace", "remove") else 0)
            counts, got, sent = proxy.take()
            rows.append({"what": what, "seconds": seconds, "cpu": cpu - state["cpu"], "rss_mib": mount.peak_mib(),
                         "requests": sum(counts.values()), "kinds": counts, "mb_in": got / 1e6, "mb_out": sent / 1e6})
            state["cpu"] = mount.cpu()
    finally:
        mount.end()
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=25)
    parser.add_argument("--rate", type=float, default=90)
    parser.add_argument("--json")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--binary", action="append", required=True)
    parser.add_argument("workloads", nargs="*")
    args = parser.parse_args()
    names = args.workloads or NAMES
    if unknown := set(names) - set(NAMES):
        sys.exit(f"no workload {', '.join(sorted(unknown))}: {', '.join(NAMES)}")
    config = Config(s3={"addressing_style": "path"}, max_pool_connections=16)
    s3 = boto3.client("s3", endpoint_url=args.endpoint, region_name="us-east-1", config=config)
    proxy = Proxy(args.endpoint, args.latency / 1000, args.rate * 1e6)
    workloads = Workloads(s3, args.quick)
    source = f"bench-{os.getpid()}"
    s3.create_bucket(Bucket=source)
    workloads.prepare(source)
    results = {}
    for round_number in range(args.rounds):
        for name in names:
            for index, binary in enumerate(args.binary):
                bucket = source
                if name in ("write", "create", "replace", "remove"):
                    bucket = f"{source}-{name}-{round_number}-{index}"
                    s3.create_bucket(Bucket=bucket)
                for row in measure(workloads, name, binary, bucket, proxy):
                    results.setdefault((name, row["what"]), {}).setdefault(binary, []).append(row)
    report(results, args)


def report(results, args):
    print(f"{'work':<42} {'seconds':>9} {'ratio':>6} {'CPU s':>7} {'RSS MiB':>8} {'MB in':>7} {'requests'}")
    lines = []
    for (name, what), of_binary in results.items():
        first = None
        for binary, rows in of_binary.items():
            middle = {key: statistics.median(row[key] for row in rows)
                      for key in ("seconds", "cpu", "rss_mib", "requests", "mb_in", "mb_out")}
            first = first or middle["seconds"]
            kinds = " ".join(f"{op}={count}" for op, count in sorted(rows[-1]["kinds"].items()))
            print(f"{what:<42} {middle['seconds']:>9.3f} {first / max(middle['seconds'], 1e-9):>6.2f} {middle['cpu']:>7.2f} "
                  f"{middle['rss_mib']:>8.0f} {middle['mb_in']:>7.1f} {middle['requests']:.0f} {kinds}  [{os.path.basename(binary)}]")
            lines.append({"workload": name, "what": what, "binary": binary, **middle, "kinds": rows[-1]["kinds"]})
    if args.json:
        with open(args.json, "w") as file:
            json.dump(lines, file, indent=1)


main()
