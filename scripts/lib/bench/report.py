"""Medians of the rounds, on the terminal and as JSON."""
import json
import statistics

import prices

COLUMNS = ("seconds", "cpu", "rss_mib", "requests", "mb_in", "mb_out", "usd_requests", "usd_egress")


class Rows:
    """What each round measured."""

    def __init__(self):
        self.rows, self.failed = {}, {}

    def add(self, workload, who, result, **measured):
        measured.setdefault("kinds", {})
        measured["usd_requests"] = prices.usd_of_requests(measured["kinds"])
        measured["usd_egress"] = prices.usd_of_egress(measured.get("mb_in", 0) * 1e6)
        row = {"seconds": result.seconds, "detail": result.detail, **measured}
        self.rows.setdefault((workload, result.key), {}).setdefault(who, []).append(row)

    def fail(self, workload, who, why):
        """A contestant cannot do it."""
        self.failed.setdefault(workload, {})[who] = " ".join(str(why).split())[-200:]

    def medians(self):
        """Of each result in the order in which they came: (workload, key, who, row)."""
        for (workload, key), of_who in self.rows.items():
            for who, rows in of_who.items():
                row = {column: statistics.median(it.get(column, 0) for it in rows) for column in COLUMNS}
                yield workload, key, who, {**row, "detail": rows[0]["detail"], "kinds": rows[-1]["kinds"]}


def show(rows, first):
    """`first`: whom the others are compared with: a ratio above 1 is faster than that."""
    print(f"{'work':<42} {'by':<16} {'seconds':>9} {'ratio':>6} {'CPU s':>7} {'RSS MiB':>8} {'MB in':>7} {'MB out':>7} "
          f"{'$/1000':>7} requests")
    medians = list(rows.medians())
    seconds = {key: row["seconds"] for _, key, who, row in medians if who == first}
    for _, key, who, row in medians:
        kinds = " ".join(f"{op}={count}" for op, count in sorted(row["kinds"].items()))
        ratio = seconds.get(key, 0) / max(row["seconds"], 1e-9)
        print(f"{key + ' (' + row['detail'] + ')':<42} {who:<16} {row['seconds']:>9.3f} {ratio:>6.2f} {row['cpu']:>7.2f} "
              f"{row['rss_mib']:>8.0f} {row['mb_in']:>7.1f} {row['mb_out']:>7.1f} {row['usd_requests'] * 1000:>7.2f} "
              f"{row['requests']:.0f} {kinds}")
    for workload, of_who in rows.failed.items():
        for who, why in of_who.items():
            print(f"{workload}: not by {who}: {why}")
    print(f"$/1000: requests of a thousand such runs, {prices.AS_OF}; bytes out to the internet are beside it, in --json")


def write_json(path, rows, versions, not_measured, missed):
    results = [{"workload": workload, "key": key, "by": who, **row} for workload, key, who, row in rows.medians()]
    with open(path, "w") as file:
        json.dump({"versions": versions, "not_measured": dict(not_measured), "prices": prices.AS_OF, "results": results,
                   "failed": rows.failed, "targets_missed": missed}, file, indent=1)
