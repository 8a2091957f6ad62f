"""A small S3 client: s3.py ENDPOINT list BUCKET | get BUCKET KEY | put BUCKET KEY TEXT | wait-ready BUCKET"""
import sys
import time

import boto3
from botocore.config import Config

READY_WITHIN_SECONDS = 60


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


def main(endpoint, command, bucket, *rest):
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=5, read_timeout=10)
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config)
    if command == "wait-ready":
        wait_ready(s3, bucket)
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
