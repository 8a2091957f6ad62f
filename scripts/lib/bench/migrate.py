"""Measures `aws s3 sync`, `rclone sync`, and `mediafs import` and `export`, on one server.

migrate.py [--quick] [--latency MS] [--rate MB/S] [--json FILE] [--only NAME...]
           --aws PATH --rclone PATH --endpoint URL --binary PATH

Each program sends 10,000 files of 8 KiB and one of 2 GiB to a bucket of its own behind a
proxy that answers as late as S3 does, and brings them back into an empty directory; each
run is made once more with nothing changed. What comes back is compared. The exit code is
1 where mediafs sends more requests than it needs.
"""
import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import boto3
from botocore.config import Config

from proxy import Proxy

KIB, MIB = 1 << 10, 1 << 20
FILES_PER_DIRECTORY = 100
KEYS_PER_PAGE = 1000
REGION = "us-east-1"
RUN_WITHIN_SECONDS = 3600


class PatientProxy(Proxy):
    """Also of clients that ask before they send a body, which costs them a round trip."""

    def exchange(self, head, from_client, from_server):
        asked = re.sub(rb"\r\nexpect: 100-continue(?=\r\n)", b"", head, flags=re.IGNORECASE)
        if asked != head:
            time.sleep(self.latency)
            from_client.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        super().exchange(asked, from_client, from_server)


class Aws:
    """aws-cli with its defaults."""

    name = "aws s3 sync"

    def __init__(self, path, endpoint, scratch):
        self.path, self.endpoint = path, endpoint

    def env(self):
        return {"AWS_DEFAULT_REGION": REGION}

    def up(self, tree, bucket):
        return self.sync(tree, f"s3://{bucket}/media")

    def down(self, bucket, tree):
        return self.sync(f"s3://{bucket}/media", tree)

    def sync(self, source, target):
        return [self.path, "s3", "sync", source, target, "--endpoint-url", self.endpoint, "--only-show-errors"]


class Rclone:
    """rclone with its defaults."""

    name = "rclone sync"

    def __init__(self, path, endpoint, scratch):
        self.path, self.endpoint = path, endpoint

    def env(self):
        return {"RCLONE_CONFIG": "", "RCLONE_CONFIG_S_TYPE": "s3", "RCLONE_CONFIG_S_PROVIDER": "SeaweedFS",
                "RCLONE_CONFIG_S_ENV_AUTH": "true", "RCLONE_CONFIG_S_REGION": REGION,
                "RCLONE_CONFIG_S_ENDPOINT": self.endpoint}

    def up(self, tree, bucket):
        return [self.path, "sync", tree, f"s:{bucket}/media"]

    def down(self, bucket, tree):
        return [self.path, "sync", f"s:{bucket}/media", tree]


class Mediafs:
    name = "mediafs"

    def __init__(self, path, endpoint, scratch):
        owner = [f"--uid={os.getuid()}", f"--gid={os.getgid()}"]
        self.path = path
        self.options = ["--yes", "--endpoint-url", endpoint, "--force-path-style", "--region", REGION,
                        "--spool", os.path.join(scratch, "state", "spool"), *owner]

    def env(self):
        return {}

    def up(self, tree, bucket):
        return [self.path, "import", tree, f"{bucket}/media", *self.options]

    def down(self, bucket, tree):
        return [self.path, "export", f"{bucket}/media", tree, *self.options]


class Small:
    """So many files of 8 KiB."""

    def __init__(self, files):
        self.files, self.name = files, f"{files} x 8 KiB"

    def make(self, tree):
        for number in range(self.files):
            folder = os.path.join(tree, f"d{number // FILES_PER_DIRECTORY:04}")
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"{number}.png"), "wb") as file:
                file.write(number.to_bytes(8, "big") * KIB)


class Long:
    """One file."""

    files = 1

    def __init__(self, mib):
        self.mib, self.name = mib, f"1 x {mib} MiB"

    def make(self, tree):
        random = os.urandom(4 * MIB)
        with open(os.path.join(tree, "long.bin"), "wb") as file:
            for index in range(self.mib):
                start = index * 4099 % (3 * MIB)
                file.write(random[start:start + MIB])


class Bench:
    def __init__(self, args):
        self.args, self.rows = args, []
        self.proxy = PatientProxy(args.endpoint, args.latency / 1000, args.rate * 1_000_000)
        self.s3 = boto3.client("s3", endpoint_url=args.endpoint, region_name=REGION,
                               config=Config(s3={"addressing_style": "path"}))

    def run(self, program, data, scratch):
        tree, back = os.path.join(scratch, "tree"), os.path.join(scratch, "back")
        for folder in (tree, back):
            os.mkdir(folder)
        data.make(tree)
        bucket = f"migrate-{os.getpid()}-{len(self.rows)}"
        self.s3.create_bucket(Bucket=bucket)
        for direction, command in (("up", program.up(tree, bucket)), ("down", program.down(bucket, back))):
            for run in ("first", "again"):
                self.measure(program, data, (direction, run), command)
        subprocess.run(["diff", "-r", tree, back], check=True)

    def measure(self, program, data, which, command):
        os.sync()
        self.proxy.take()
        began = time.monotonic()
        ended = subprocess.run(command, env={**os.environ, **program.env()}, capture_output=True,
                               timeout=RUN_WITHIN_SECONDS, check=False)
        seconds = time.monotonic() - began
        if ended.returncode != 0:
            sys.exit(f"{command}: {ended.returncode}\n{ended.stdout.decode()}{ended.stderr.decode()}")
        requests, received, sent = self.proxy.take()
        self.rows.append({"program": program.name, "data": data.name, "files": data.files, "direction": which[0],
                          "run": which[1], "seconds": round(seconds, 2), "requests": requests,
                          "sent_bytes": sent, "received_bytes": received})
        print(line(self.rows[-1]), flush=True)


def line(row):
    requests = ", ".join(f"{kind} {count}" for kind, count in sorted(row["requests"].items()))
    return f"{row['data']:14} {row['direction']:5} {row['run']:6} {row['program']:12} {row['seconds']:9.2f} s  {requests}"


def missed(row):
    """What a run of mediafs sent more than it needs; small files alone are counted."""
    if row["program"] != Mediafs.name or row["files"] == 1:
        return
    files, pages = row["files"], math.ceil(row["files"] / KEYS_PER_PAGE)
    # An empty bucket is a page too; the first file tells whether conditions are heeded.
    most = {"LIST": max(pages, 1), "HEAD": 0}
    if row["run"] == "first":
        if row["direction"] == "up":
            most |= {"PUT": files + 1, "HEAD": 1}
        else:
            most |= {"GET": files}
    for kind, count in row["requests"].items():
        if count > most.get(kind, 0):
            yield f"{line(row)}: at most {most.get(kind, 0)} {kind} expected"


def parsed():
    parser = argparse.ArgumentParser()
    for name in ("endpoint", "binary", "aws", "rclone"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--latency", type=float, default=25)
    parser.add_argument("--rate", type=float, default=90)
    parser.add_argument("--json")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=["aws", "rclone", "mediafs"])
    return parser.parse_args()


def main():
    args = parsed()
    bench = Bench(args)
    kinds = {"aws": (Aws, args.aws), "rclone": (Rclone, args.rclone), "mediafs": (Mediafs, args.binary)}
    for data in (Small(1000), Long(64)) if args.quick else (Small(10_000), Long(2048)):
        for name in args.only or kinds:
            kind, path = kinds[name]
            scratch = tempfile.mkdtemp(prefix="mediafs-bench-")
            try:
                bench.run(kind(os.path.abspath(path), bench.proxy.endpoint, scratch), data, scratch)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(bench.rows, file, indent=1)
    complaints = [text for row in bench.rows for text in missed(row)]
    print("\n".join(complaints), file=sys.stderr)
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
