"""Answers to ListObjectsV2 for directories of more names than a local server is filled with
in reasonable time. Source: S3 API Reference, ListObjectsV2."""
import urllib.parse

PAGE = 1000


class Listed:
    """A prefix below which there are so many objects of one byte, `f0000000` and on."""

    def __init__(self, prefix, names):
        self.prefix, self.names = prefix, names

    def answer(self, head):
        """The answer to a request, or None for what is not a listing of this prefix."""
        method, target = head.split(b" ", 2)[:2]
        bucket, _, query = target.decode().partition("?")
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        prefix = asked.get("prefix", "")
        if method != b"GET" or asked.get("list-type") != "2" or not prefix.startswith(self.prefix):
            return None
        first = self.first(prefix, asked)
        number = min(int(asked.get("max-keys", PAGE)), PAGE, self.names - first)
        body = self.page(bucket.strip("/"), prefix, first, number if prefix == self.prefix else 0)
        return (f"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {len(body)}\r\n\r\n".encode(),
                body)

    def first(self, prefix, asked):
        if token := asked.get("continuation-token"):
            return int(token)
        after = asked.get("start-after", "")
        name = after.removeprefix(prefix)
        # A name of another form is of somebody who looks between two.
        return int(name[1:8]) + 1 if after.startswith(prefix) and name[1:8].isdigit() else 0

    def page(self, bucket, prefix, first, number):
        last = first + number
        more = f"<NextContinuationToken>{last}</NextContinuationToken>" if 0 < number and last < self.names else ""
        objects = "".join(
            f"<Contents><Key>{prefix}f{n:07}</Key><LastModified>2025-11-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;9dd4e461268c8034f5c8564e155c67a6&quot;</ETag><Size>1</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>" for n in range(first, last))
        return (f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>{bucket}</Name><Prefix>{prefix}</Prefix>'
                f"<KeyCount>{number}</KeyCount><MaxKeys>{PAGE}</MaxKeys><IsTruncated>{'true' if more else 'false'}"
                f"</IsTruncated>{more}{objects}</ListBucketResult>").encode()
