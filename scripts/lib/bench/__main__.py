"""Measures mounts of a local S3 server behind a proxy that answers as late as S3 does.

bench [--quick] [--peers] [--juicefs PATH] [--rounds N] [--latency MS] [--rate MB/S] [--json FILE]
      [--mount-option=OPTION...] --endpoint URL --binary PATH [--binary PATH...] [WORKLOAD...]
bench --curves FOLDER [--quick] --endpoint URL --binary PATH [CURVE...]

Each workload runs in each round with each program, on a mount and a page cache that are
fresh; medians are printed, and their ratio to the first one. Every byte that is read is
compared. Ends with 1 where a target is missed.
"""
import argparse
import os
import subprocess
import sys
import time

import boto3
from botocore.config import Config

import curves
import peers
import reference
import report
import targets
from data import WrongBytes
from mounts import Mediafs, NotMounted, REGION
from proxy import Proxy
from workloads import CHANGING, LATER_SECONDS, NAMES, Workloads


def measure(workloads, name, contestant, bucket, proxy, rows):
    """One workload on one fresh mount."""
    mount = contestant.mount(bucket, name)
    mount.bucket, mount.keeps_names, mount.proxy = bucket, contestant.keeps_names, proxy
    began = {}

    def mark():
        proxy.take()
        began["cpu"] = mount.cpu()

    mount.mark = mark
    mark()
    try:
        for result in getattr(workloads, name)(mount):
            cpu = mount.cpu()
            # What follows a reply counts too.
            time.sleep(LATER_SECONDS.get(name, 0))
            counts, got, sent = proxy.take()
            rows.add(name, contestant.name, result, cpu=cpu - began["cpu"], rss_mib=mount.peak_mib(),
                     requests=sum(counts.values()), kinds=counts, mb_in=got / 1e6, mb_out=sent / 1e6)
            mark()
    finally:
        mount.end()


def client(endpoint):
    config = Config(s3={"addressing_style": "path"}, max_pool_connections=16)
    return boto3.client("s3", endpoint_url=endpoint, region_name=REGION, config=config)


class Run:
    def __init__(self, args, proxy):
        self.args, self.proxy = args, proxy
        self.s3, self.through_proxy = client(args.endpoint), client(proxy.endpoint)
        self.workloads = Workloads(self.s3, args.quick)
        self.names = args.workloads or NAMES
        self.contestants = [Mediafs(proxy.endpoint, binary, args.mount_option) for binary in args.binary]
        for number, contestant in enumerate(self.contestants):
            if any(contestant.name == it.name for it in self.contestants[:number]):
                contestant.name = contestant.binary
        self.not_measured = []
        if args.peers:
            found, self.not_measured = peers.found(proxy.endpoint, args.juicefs)
            self.contestants += found
        self.rows = report.Rows()
        self.sources = {}

    def bucket(self, name):
        self.s3.create_bucket(Bucket=name)
        return name

    def fill(self):
        """The objects to read: once for all that show objects as files, and for each other."""
        source = f"bench-{os.getpid()}"
        for contestant in self.contestants:
            name = source if contestant.keeps_names else f"{source}-{contestant.name}"
            if name not in self.sources.values():
                self.workloads.fill(contestant, self.bucket(name), self.workloads.objects(self.names))
            self.sources[contestant.name] = name
        self.source = source

    def all(self):
        latency, self.proxy.latency = self.proxy.latency, 0
        self.fill()
        self.proxy.latency = latency
        for number in range(self.args.rounds):
            for name in self.names:
                for contestant in self.contestants:
                    print(f"round {number + 1}: {name} by {contestant.name}", file=sys.stderr, flush=True)
                    self.one(number, name, contestant)
                if self.args.peers:
                    self.store_itself(number, name)

    def one(self, number, name, contestant):
        bucket = self.sources[contestant.name]
        try:
            if name in CHANGING:
                who = self.contestants.index(contestant)
                bucket = self.bucket(f"{self.source}-{name}-{number}-{who}")
                self.workloads.before(name, contestant, bucket)
            measure(self.workloads, name, contestant, bucket, self.proxy, self.rows)
        except (OSError, subprocess.SubprocessError, NotMounted, WrongBytes) as error:
            if isinstance(contestant, Mediafs):
                raise
            self.rows.fail(name, contestant.name, error)

    def store_itself(self, number, name):
        results = []
        if name == "random":
            results = reference.first_byte(self.through_proxy, self.source, self.workloads.mib)
        elif name == "edit":
            results = reference.edits(self.s3, self.bucket(f"{self.source}-{name}-{number}-store"))
        for result in results:
            self.rows.add(name, reference.NAME, result)
        self.proxy.take()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--juicefs")
    parser.add_argument("--curves")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=25)
    parser.add_argument("--rate", type=float, default=90)
    parser.add_argument("--json")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--binary", action="append", required=True)
    parser.add_argument("--mount-option", action="append", default=[])
    parser.add_argument("workloads", nargs="*")
    args = parser.parse_args()
    known = curves.NAMES if args.curves else NAMES
    if unknown := set(args.workloads) - set(known):
        sys.exit(f"not known: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    proxy = Proxy(args.endpoint, args.latency / 1000, args.rate * 1e6)
    if args.curves:
        contestant = Mediafs(proxy.endpoint, args.binary[0], args.mount_option)
        return curves.draw(args.workloads or known, contestant, client(args.endpoint), proxy, args.curves, args.quick)
    run = Run(args, proxy)
    versions = {it.name: it.version() for it in run.contestants}
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    for name, why in run.not_measured:
        print(f"not measured: {name}: {why}")
    first = run.contestants[0].name
    try:
        run.all()
    finally:
        report.show(run.rows, first)
    results = {(key, who): row for _, key, who, row in run.rows.medians()}
    # Targets are for the settings that an operator has who sets none.
    missed = [] if args.mount_option else targets.missed(
        results, first, run.workloads.files, args.latency / 1000, args.peers and not args.quick)
    for line in missed:
        print(f"missed: {line}")
    if args.json:
        report.write_json(args.json, run.rows, versions, run.not_measured, missed)
    sys.exit(1 if missed else 0)


main()
