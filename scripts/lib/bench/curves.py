"""How memory and time grow with what a mount has to do: JSON and a picture for each curve."""
import json
import mmap
import os
import random
import time
from collections import namedtuple

import svg
from data import MIB, at_once, piece, read_whole, shared_out, timed, walk, whole, write_whole
from listed import Listed

# `draws`: the column that the picture shows, and its name.
# `options`: those of a mount, from x.
Curve = namedtuple("Curve", "title x_name xs prepare run draws options", defaults=[lambda x: []])
MEMORY = ("rss_mib", "peak memory of the daemon, MiB")
RATE = ("mb_a_second", "MB/s")
EACH_MIB = 16
GIB_KIB = 1 << 20
LONG_KIB = [GIB_KIB, 10 * GIB_KIB]
WORKING_MIB = 256


class Curves:
    def __init__(self, s3, bucket, proxy, is_quick):
        self.s3, self.bucket, self.proxy = s3, bucket, proxy
        many = [1, 2, 4, 8, 16, 32] + ([] if is_quick else [64])
        names = [1000, 3000, 10000] + ([] if is_quick else [30000, 100000])
        more_names = [1000, 10000, 100000] + ([] if is_quick else [300000, 1000000])
        self.long_mib = 128 if is_quick else 512
        self.curves = {
            "readers": Curve(f"Readers of a file of {EACH_MIB} MiB each", "readers", many, self.put_files,
                             self.readers, MEMORY),
            "writers": Curve(f"Writers of a file of {EACH_MIB} MiB each", "writers", many, lambda xs: None,
                             self.writers, MEMORY),
            "files": Curve("Walk over files in directories of 100", "files", names, self.put_trees, self.tree, MEMORY),
            "directory": Curve("ls -l of one directory", "names", more_names, self.put_first_names, self.directory,
                               MEMORY),
            "latency": Curve(f"Cold read of {self.long_mib} MiB", "milliseconds before the first byte of an answer",
                             [1, 5, 25, 100, 200], self.put_long, self.latency, RATE),
            "size": Curve("Cold read of one file", "KiB", [1, 32, 1024, 32 << 10] + ([] if is_quick else LONG_KIB),
                          self.put_sizes, self.size, RATE),
            "cache": Curve(f"Reads of 1 MiB out of {WORKING_MIB} MiB, anywhere", "--memory, MiB",
                           [64, 128, 256, 512], self.put_working_set, self.read_again, RATE,
                           lambda x: ["--memory", f"{x}MiB"]),
        }

    def put(self, keys, body):
        shared_out(keys, lambda key: self.s3.put_object(Bucket=self.bucket, Key=key, Body=body), 16)

    def put_files(self, xs):
        self.put((f"readers/{n}" for n in range(max(xs))), whole(EACH_MIB))

    def readers(self, mount, x):
        return at_once(lambda n: read_whole(mount.path("readers", str(n)), EACH_MIB), x), x * EACH_MIB

    def writers(self, mount, x):
        return at_once(lambda n: write_whole(mount.path(f"written-{x}-{n}"), EACH_MIB), x), x * EACH_MIB

    def put_sizes(self, xs):
        for kib in xs:
            if kib <= GIB_KIB:
                self.put([f"size/{kib}"], whole(-(-kib // 1024))[:kib << 10])
            else:
                self.put_copies(f"size/{kib}", f"size/{GIB_KIB}", kib // GIB_KIB)

    def put_copies(self, key, of, number):
        """An object of so many copies of another, made in the store."""
        upload = {"Bucket": self.bucket, "Key": key}
        upload["UploadId"] = self.s3.create_multipart_upload(**upload)["UploadId"]
        source = {"Bucket": self.bucket, "Key": of}
        parts = []
        for part in range(1, number + 1):
            made = self.s3.upload_part_copy(**upload, PartNumber=part, CopySource=source)
            parts.append({"PartNumber": part, "ETag": made["CopyPartResult"]["ETag"]})
        self.s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    def size(self, mount, kib):
        path = mount.path("size", str(kib))
        if kib < 1024:
            return timed(lambda: self.compare(path, piece(0)[:kib << 10])), kib / 1024
        seconds = read_whole(path, kib // 1024, GIB_KIB // 1024)
        return seconds, kib // 1024

    def compare(self, path, wanted):
        with open(path, "rb") as file:
            if file.read() != wanted:
                raise SystemExit(f"{path}: other bytes")

    def put_working_set(self, _):
        self.put(["working-set"], whole(WORKING_MIB))

    def read_again(self, mount, _):
        """Anywhere, past the page cache, once all has been read."""
        path, places = mount.path("working-set"), random.Random(1)
        read_whole(path, WORKING_MIB)
        buffer = mmap.mmap(-1, MIB)
        with open(os.open(path, os.O_RDONLY | os.O_DIRECT), "rb", buffering=0) as file:
            def read():
                for _ in range(WORKING_MIB):
                    index = places.randrange(WORKING_MIB)
                    if os.preadv(file.fileno(), [buffer], index * MIB) != MIB or buffer[:] != piece(index):
                        raise SystemExit(f"{path}: other bytes in MiB {index}")
            return timed(read), WORKING_MIB

    def put_trees(self, xs):
        for x in xs:
            self.put((f"files/{x}/d{n // 100:04}/f{n:06}" for n in range(x)), b"x")

    def tree(self, mount, x):
        return timed(lambda: self.count(walk(mount.path("files", str(x))), x + -(-x // 100))), 0

    def put_first_names(self, xs):
        self.put((f"directory/{x}/f0000000" for x in xs), b"x")

    def directory(self, mount, x):
        self.proxy.listed = Listed(f"directory/{x}/", x)
        try:
            return timed(lambda: self.count(walk(mount.path("directory", str(x))), x)), 0
        finally:
            self.proxy.listed = None

    def count(self, found, wanted):
        if found != wanted:
            raise SystemExit(f"{found} names, not {wanted}")

    def put_long(self, _):
        self.put(["long"], whole(self.long_mib))

    def latency(self, mount, x):
        before, self.proxy.latency = self.proxy.latency, x / 1000
        try:
            return read_whole(mount.path("long"), self.long_mib), self.long_mib
        finally:
            self.proxy.latency = before

    def point(self, contestant, curve, x):
        """One point, on a mount of its own."""
        given = contestant.options
        contestant.options = [*given, *curve.options(x)]
        mount = contestant.mount(self.bucket)
        contestant.options = given
        try:
            cpu = mount.cpu()
            self.proxy.take()
            seconds, mib = curve.run(mount, x)
            counts, got, sent = self.proxy.take()
            return {"x": x, "seconds": seconds, "mb_a_second": mib * MIB / 1e6 / max(seconds, 1e-9),
                    "cpu": mount.cpu() - cpu, "rss_mib": mount.peak_mib(), "requests": sum(counts.values()),
                    "mb_in": got / 1e6, "mb_out": sent / 1e6}
        finally:
            mount.end()


NAMES = ["readers", "writers", "files", "directory", "latency", "size", "cache"]


def draw(names, contestant, s3, proxy, folder, is_quick):
    """Files NAME.json and NAME.svg in the folder."""
    bucket = f"curves-{os.getpid()}-{int(time.time())}"
    s3.create_bucket(Bucket=bucket)
    curves = Curves(s3, bucket, proxy, is_quick)
    os.makedirs(folder, exist_ok=True)
    for name in names:
        curve = curves.curves[name]
        curve.prepare(curve.xs)
        points = []
        for x in curve.xs:
            point = curves.point(contestant, curve, x)
            print(f"{name:<10} {x:>7}  {point['rss_mib']:>6.0f} MiB {point['seconds']:>8.3f} s "
                  f"{point['requests']:>5} requests {point['cpu']:>6.2f} CPU s", flush=True)
            points.append(point)
        column, words = curve.draws
        picture = svg.chart(curve.title, curve.x_name, words, [(it["x"], it[column]) for it in points])
        with open(os.path.join(folder, f"{name}.svg"), "w") as file:
            file.write(picture)
        with open(os.path.join(folder, f"{name}.json"), "w") as file:
            json.dump({"title": curve.title, "x": curve.x_name, "points": points}, file, indent=1)
