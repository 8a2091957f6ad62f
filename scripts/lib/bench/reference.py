"""The same work without a file system: what the store itself takes."""
import http.client
import statistics
import time
from urllib.parse import urlsplit

from data import at_once, timed, whole
from workloads import EDITED_MIB, Result

NAME = "store itself"
PART_MIB = 8
FIRST_BYTES = 20


def first_byte(s3, bucket, mib):
    """The median wait for the first byte of an object's range, through the proxy."""
    url = urlsplit(s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "long"}))
    connection = http.client.HTTPConnection(url.netloc)
    took = []
    for number in range(FIRST_BYTES):
        at = number * 7919 % (mib * 256) * 4096
        began = time.monotonic()
        connection.request("GET", f"{url.path}?{url.query}", headers={"Range": f"bytes={at}-{at + 4095}"})
        answer = connection.getresponse()
        answer.read(1)
        took.append(time.monotonic() - began)
        answer.read()
    connection.close()
    yield Result("first byte", "of a range", statistics.median(took))


def edits(s3, bucket):
    """Requests of rename, append and overwrite, sent to the server past the proxy."""
    s3.put_object(Bucket=bucket, Key="a", Body=whole(EDITED_MIB))
    source = {"Bucket": bucket, "Key": "a"}

    def rename():
        s3.copy_object(Bucket=bucket, Key="b", CopySource=source)
        s3.delete_object(Bucket=bucket, Key="a")

    yield Result("rename", f"{EDITED_MIB} MiB", timed(rename))
    source["Key"] = "b"
    for key in ("append", "overwrite"):
        yield Result(key, f"{EDITED_MIB} MiB", timed(lambda: in_parts(s3, bucket, source)))


def in_parts(s3, bucket, source):
    """An object again: all but its last part copied, the last one sent, both at once."""
    where = {"Bucket": bucket, "Key": "c"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    copied = (EDITED_MIB - PART_MIB) << 20
    body = whole(PART_MIB)
    etags = {}

    def part(number):
        if number == 0:
            answer = s3.upload_part_copy(**upload, PartNumber=1, CopySource=source, CopySourceRange=f"bytes=0-{copied - 1}")
            etags[1] = answer["CopyPartResult"]["ETag"]
        else:
            etags[2] = s3.upload_part(**upload, PartNumber=2, Body=body)["ETag"]

    at_once(part, 2)
    parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
