"""How memory and time grow with what a mount has to do: JSON and a picture for each curve."""
import json
import os
import time
from collections import namedtuple

import svg
from data import MIB, at_once, read_whole, shared_out, timed, walk, whole, write_whole

# `draws`: the column that the picture shows, and its name.
Curve = namedtuple("Curve", "title x_name xs prepare run draws")
MEMORY = ("rss_mib", "peak memory of the daemon, MiB")
EACH_MIB = 16


class Curves:
    def __init__(self, s3, bucket, proxy, is_quick):
        self.s3, self.bucket, self.proxy = s3, bucket, proxy
        many = [1, 2, 4, 8, 16, 32] + ([] if is_quick else [64])
        names = [1000, 3000, 10000] + ([] if is_quick else [30000, 100000])
        self.long_mib = 128 if is_quick else 512
        self.curves = {
            "readers": Curve(f"Readers of a file of {EACH_MIB} MiB each", "readers", many, self.put_files,
                             self.readers, MEMORY),
            "writers": Curve(f"Writers of a file of {EACH_MIB} MiB each", "writers", many, lambda xs: None,
                             self.writers, MEMORY),
            "files": Curve("Walk over files in directories of 100", "files", names, self.put_trees, self.tree, MEMORY),
            "directory": Curve("ls -l of one directory", "names", names, self.put_directories, self.directory, MEMORY),
            "latency": Curve(f"Cold read of {self.long_mib} MiB", "milliseconds before the first byte of an answer",
                             [1, 5, 25, 100, 200], self.put_long, self.latency, ("mb_a_second", "MB/s")),
        }

    def put(self, keys, body):
        shared_out(keys, lambda key: self.s3.put_object(Bucket=self.bucket, Key=key, Body=body), 16)

    def put_files(self, xs):
        self.put((f"readers/{n}" for n in range(max(xs))), whole(EACH_MIB))

    def readers(self, mount, x):
        return at_once(lambda n: read_whole(mount.path("readers", str(n)), EACH_MIB), x), x * EACH_MIB

    def writers(self, mount, x):
        return at_once(lambda n: write_whole(mount.path(f"written-{x}-{n}"), EACH_MIB), x), x * EACH_MIB

    def put_trees(self, xs):
        for x in xs:
            self.put((f"files/{x}/d{n // 100:04}/f{n:06}" for n in range(x)), b"x")

    def tree(self, mount, x):
        return timed(lambda: self.count(walk(mount.path("files", str(x))), x + -(-x // 100))), 0

    def put_directories(self, xs):
        for x in xs:
            self.put((f"directory/{x}/f{n:06}" for n in range(x)), b"x")

    def directory(self, mount, x):
        return timed(lambda: self.count(walk(mount.path("directory", str(x))), x)), 0

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
        mount = contestant.mount(self.bucket)
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


NAMES = ["readers", "writers", "files", "directory", "latency"]


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
