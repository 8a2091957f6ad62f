"""What a run must keep to: what does not depend on the machine's speed."""
from collections import namedtuple

from reference import NAME as STORE

# So many times as fast as another in the same run. `other` None: as the fastest peer.
Ratio = namedtuple("Ratio", "key other least")
# As long as the store's own time and so many waits for a first byte.
Near = namedtuple("Near", "key store_key times round_trips")

# A run of three rounds on a machine with other work differs by so much.
MARGIN = 0.8

RATIOS = [
    Ratio("cold read", "mount-s3", 1.25),
    Ratio("parallel files", "juicefs", 1.1),
    Ratio("again from the disk", "juicefs", 1.0),
    Ratio("write", None, 1.0),
    Ratio("create", None, 1.0),
]
NEAR = [
    Near("random reads, median", "first byte", 1.15, 0),
    Near("rename", "rename", 1.0, 3),
    Near("append", "append", 1.0, 3),
    Near("overwrite", "overwrite", 1.0, 3),
]


def limits(files):
    """Of each result: what at most."""
    return {
        "cold read": {"rss_mib": 320},
        "parallel files": {"requests": 80, "rss_mib": 382},
        # 100 blocks of 128 KiB, and a listing.
        "random reads, median": {"mb_in": 13.2},
        "small files": {"requests": 210},
        "small files again": {"requests": 0},
        "walk": {"requests": 10},
        "walk again": {"requests": 0},
        "ls -l": {"requests": files / 1000 + 1},
        "ls -l again": {"requests": 0},
        # A name that is absent counts for --negative-ttl: one listing a second beside them.
        "create": {"requests": 215},
        "create by 16 writers": {"requests": 200},
        "tmp and rename": {"requests": 250},
        # A HEAD before each copy: a listing does not tell the encryption, which copies drop.
        "rename of a directory": {"requests": 410},
        "rm -r": {"requests": 25},
    }


def missed(results, first, files, latency, is_full):
    """Lines on the targets that the first contestant missed. `results`: of (key, contestant)."""
    told = []
    for key, columns in limits(files).items():
        got = results.get((key, first))
        over = {column: most for column, most in columns.items() if got and got[column] > most}
        told += [f"{key}: {column} {got[column]:.1f}, at most {most:g}" for column, most in over.items()]
    # Where little is moved, latency decides, which is the same for all.
    if is_full:
        told += slower_than_peers(results, first) + slower_than_the_store(results, first, latency)
    return told


def slower_than_peers(results, first):
    told = []
    for ratio in RATIOS:
        got = results.get((ratio.key, first))
        peers = {who: row["seconds"] for (key, who), row in results.items()
                 if key == ratio.key and who not in (first, STORE) and ratio.other in (None, who)}
        if not got or not peers:
            continue
        who = min(peers, key=peers.get)
        times = peers[who] / max(got["seconds"], 1e-9)
        if times < ratio.least * MARGIN:
            told.append(f"{ratio.key}: {times:.2f} x {who}, the target is {ratio.least} x (with a margin of {MARGIN})")
    return told


def slower_than_the_store(results, first, latency):
    told = []
    for near in NEAR:
        got, store = results.get((near.key, first)), results.get((near.store_key, STORE))
        if not got or not store:
            continue
        most = store["seconds"] * near.times + near.round_trips * latency
        if got["seconds"] * MARGIN > most:
            told.append(f"{near.key}: {got['seconds']:.3f} s, the target is {most:.3f} s (with a margin of {MARGIN})")
    return told
