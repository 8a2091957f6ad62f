#!/usr/bin/env python3
"""A small S3 client for the demo: ENDPOINT BUCKET create|list|get KEY|put KEY."""

import os
import sys
import time

import boto3
from botocore.config import Config

endpoint, bucket, command, *arguments = sys.argv[1:]
s3 = boto3.client(
    "s3",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", "demo"),
    aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", "demo-secret"),
    config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
)

if command == "create":
    deadline = time.monotonic() + 60
    while True:
        try:
            s3.create_bucket(Bucket=bucket)
            s3.put_object(Bucket=bucket, Key="probe", Body=b"")
            s3.delete_object(Bucket=bucket, Key="probe")
            break
        except Exception as error:
            if time.monotonic() > deadline:
                sys.exit(f"no bucket at {endpoint}: {error}")
            time.sleep(0.2)
elif command == "list":
    for item in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
        print(f"s3://{bucket}/{item['Key']}  {item['Size']} bytes")
elif command == "get":
    sys.stdout.buffer.write(s3.get_object(Bucket=bucket, Key=arguments[0])["Body"].read())
elif command == "put":
    s3.put_object(Bucket=bucket, Key=arguments[0], Body=sys.stdin.buffer.read())
else:
    sys.exit(__doc__)
