"""Measures small reads while one answer in a hundred comes a second late.

late.py [--quick] [--latency MS] [--rate MB/S] [--json FILE] --endpoint URL --binary PATH

Each read is of a block of its own, so it is one GET. A mount sends a late GET a second time
once it has seen 256 of them: reads without second requests are the first ones of many
mounts, and reads with them are those of one mount after its first ones. Ends with 1 where
second requests do not shorten the tail, or are more than two in a hundred.
"""
import argparse
import json
import os
import statistics
import sys
import threading
import time

import boto3
from botocore.config import Config

from data import MIB, WrongBytes, piece, shared_out, whole
from mounts import Mediafs, REGION
from proxy import SLOW_SECONDS, Proxy

KEY = "long"
BLOCK = 128 << 10
READ = 4 << 10
READERS = 4
# The program has too few reads to tell what is late before the 256th. Source: src/store/hedge.rs, WINDOW.
READS_BEFORE = 248
SLOW_EVERY = 100
# Source: src/store/hedge.rs, SHARE and BURST.
SHARE, BURST = 0.02, 4


class Reads:
    """Reads of blocks that are each read once in a mount."""

    def __init__(self, mib):
        self.blocks = mib * MIB // BLOCK

    def one(self, file, number):
        """How long it took."""
        # Odd, and the number of blocks is a power of two: no block comes twice.
        at = number * 7919 % self.blocks * BLOCK
        began = time.monotonic()
        got = os.pread(file.fileno(), READ, at)
        took = time.monotonic() - began
        inside = at % MIB
        if got != piece(at // MIB)[inside:inside + READ]:
            raise WrongBytes(f"other bytes at {at}")
        return took

    def all(self, mount, numbers):
        took, lock = [], threading.Lock()
        files = [open(mount.path(KEY), "rb", buffering=0) for _ in range(READERS)]
        free = list(files)

        def read(number):
            with lock:
                file = free.pop()
            seconds = self.one(file, number)
            with lock:
                free.append(file)
                took.append(seconds)

        shared_out(numbers, read, READERS)
        for file in files:
            file.close()
        return took


class Measurement:
    def __init__(self, contestant, bucket, proxy, reads):
        self.contestant, self.bucket, self.proxy, self.reads = contestant, bucket, proxy, reads

    def slow(self, mount, numbers):
        """Times of reads, and how many GETs they were."""
        self.proxy.take()
        self.proxy.slow_every = SLOW_EVERY
        took = self.reads.all(mount, numbers)
        self.proxy.slow_every = 0
        # A request that is not waited for any more is counted when it comes.
        counts, _, _ = self.proxy.take()
        return took, counts.get("GET", 0)

    def on_a_mount(self, before, numbers):
        mount = self.contestant.mount(self.bucket)
        try:
            self.reads.all(mount, before)
            return self.slow(mount, numbers)
        finally:
            mount.end()

    def without(self, count):
        took, gets = [], 0
        for begin in range(0, count, READS_BEFORE):
            of_mount, got = self.on_a_mount([], range(begin, min(begin + READS_BEFORE, count)))
            took, gets = took + of_mount, gets + got
        return row("without", took, gets)

    def with_second(self, count):
        before = READS_BEFORE + 2 * READERS
        return row("with", *self.on_a_mount(range(before), range(before, before + count)))


def row(name, took, gets):
    took = sorted(took)

    def percentile(share):
        return took[min(len(took) - 1, int(len(took) * share))] * 1000

    return {"second_requests": name, "reads": len(took), "gets": gets, "p50_ms": percentile(0.5), "p99_ms": percentile(0.99),
            "p999_ms": percentile(0.999), "mean_ms": statistics.mean(took) * 1000}


def show(rows):
    print(f"{'second requests':<16} {'reads':>6} {'GETs':>6} {'p50 ms':>8} {'p99 ms':>8} {'p99.9 ms':>9} {'mean ms':>8}")
    for it in rows:
        print(f"{it['second_requests']:<16} {it['reads']:>6} {it['gets']:>6} {it['p50_ms']:>8.0f} {it['p99_ms']:>8.0f} "
              f"{it['p999_ms']:>9.0f} {it['mean_ms']:>8.1f}")


def missed(without, with_second):
    told = []
    if with_second["p999_ms"] >= without["p999_ms"]:
        told.append("second requests do not shorten the slowest reads")
    most = with_second["reads"] * (1 + SHARE) + BURST
    if with_second["gets"] > most:
        told.append(f"{with_second['gets']} GETs, at most {most:.0f}")
    return told


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--latency", type=float, default=25)
    parser.add_argument("--rate", type=float, default=90)
    parser.add_argument("--json")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--binary", required=True)
    args = parser.parse_args()
    mib, count = (256, 1000) if args.quick else (1024, 4000)
    proxy = Proxy(args.endpoint, args.latency / 1000, args.rate * 1e6)
    config = Config(s3={"addressing_style": "path"})
    s3 = boto3.client("s3", endpoint_url=args.endpoint, region_name=REGION, config=config)
    bucket = f"late-{os.getpid()}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=KEY, Body=whole(mib))
    measurement = Measurement(Mediafs(proxy.endpoint, args.binary), bucket, proxy, Reads(mib))
    print(f"random reads of {READ >> 10} KiB by {READERS} readers; 1 answer in {SLOW_EVERY} comes {SLOW_SECONDS} s late")
    rows = [measurement.without(count), measurement.with_second(count)]
    show(rows)
    told = missed(*rows)
    for line in told:
        print(f"missed: {line}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"results": rows, "missed": told}, file, indent=1)
    sys.exit(1 if told else 0)


main()
