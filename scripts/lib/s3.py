"""A small S3 client: s3.py ENDPOINT list BUCKET | get BUCKET KEY | put BUCKET KEY TEXT | wait-ready BUCKET
| watch BUCKET LOG FILE"""
import os
import shutil
import sys
import time

import boto3
from botocore.config import Config

READY_WITHIN_SECONDS = 60
# SeaweedFS may stand still for a minute on a busy machine, and goes on.
BROKEN_AFTER_SECONDS = 120
PROBED_EVERY_SECONDS = 10


def wait_ready(s3, bucket):
    """Makes the bucket; the server is ready when an object can be put there."""
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while True:
        try:
            s3.create_bucket(Bucket=bucket)
            s3.put_object(Bucket=bucket, Key="probe", Body=b"x")
            s3.delete_object(Bucket=bucket, Key="probe")
            return
        except s3.exceptions.BucketAlreadyOwnedByYou:
            s3.put_object(Bucket=bucket, Key="probe", Body=b"x")
            s3.delete_object(Bucket=bucket, Key="probe")
            return
        except Exception as error:
            if time.monotonic() > deadline:
                sys.exit(f"no answer: {error}")
            time.sleep(0.2)


def watch(s3, bucket, log, file):
    """Once no object could be put for BROKEN_AFTER_SECONDS, writes to the file why.

    Fails where who has started it has ended."""
    parent = os.getppid()
    taken = time.monotonic()
    while True:
        if os.getppid() != parent:
            sys.exit(1)
        try:
            s3.put_object(Bucket=bucket, Key="probe", Body=b"x")
            taken = time.monotonic()
        except Exception as error:
            why = error
            if time.monotonic() - taken > BROKEN_AFTER_SECONDS:
                break
        time.sleep(PROBED_EVERY_SECONDS)
    disk = shutil.disk_usage(os.path.dirname(log))
    with open(log) as lines:
        said = [line for line in lines if line[:1] in "EW"][-20:]
    with open(file + ".new", "w") as f:
        f.write(f"no object could be put for {BROKEN_AFTER_SECONDS} s: {why}\n")
        f.write(f"{disk.free >> 20} MiB of {disk.total >> 20} MiB of disk are free\n")
        f.writelines(said)
    os.rename(file + ".new", file)


def main(endpoint, command, bucket, *rest):
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=5, read_timeout=10)
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config)
    if command == "wait-ready":
        wait_ready(s3, bucket)
    elif command == "watch":
        watch(s3, bucket, *rest)
    elif command == "list":
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", []):
                print(f"{item['Size']:>10}  {item['Key']}")
    elif command == "get":
        sys.stdout.buffer.write(s3.get_object(Bucket=bucket, Key=rest[0])["Body"].read())
    elif command == "put":
        s3.put_object(Bucket=bucket, Key=rest[0], Body=rest[1].encode() + b"\n", ContentType="text/plain")
    else:
        sys.exit(__doc__)


if len(sys.argv) < 4:
    sys.exit(__doc__)
main(*sys.argv[1:])
