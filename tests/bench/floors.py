#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Floors, which a run must not fall below: each by name, and whether this run meets it.

floors.py FILE judges what run.py --json wrote, and exits 1 if a floor is missed. A floor
without numbers in the run is reported as not measured, and is not met.
"""

import argparse
import json
import statistics
import sys
from typing import NamedTuple

sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
from sandbox import read
from small_talk import SHAPES

OURS, HONEST = "tproxy", "tproxy-honest"
MET, MISSED, UNKNOWN = "met", "missed", "not measured"


class Floor(NamedTuple):
    """A bound of a median: of a ratio to a baseline, or of the measured value if there is none."""

    workload: str
    metric: str
    bound: float
    baseline: str | None = None
    variant: str = OURS
    at_least: bool = False
    digits: int = 2  # that are compared

    def name(self):
        against = f" / {self.baseline}" if self.baseline else ""
        return f"{self.workload}, {self.metric}: {self.variant}{against}"

    def value(self, document):
        numbers = numbers_of(document, self.workload, self.variant, self.metric)
        if numbers and self.baseline:
            numbers = numbers["ratio_to"].get(self.baseline)
        return round(numbers["median"], self.digits) if numbers else None


class Above(NamedTuple):
    """A bound of how far tproxy's median may be above that of a baseline, in the metric's unit."""

    workload: str
    metric: str
    bound: float
    baseline: str
    variant: str = OURS
    at_least = False
    digits: int = 0

    def name(self):
        return f"{self.workload}, {self.metric}: {self.variant} - {self.baseline}, µs"

    def value(self, document):
        """The median of the differences by round, as ratios are computed."""
        ours, theirs = (numbers_of(document, self.workload, variant, self.metric)
                        for variant in (self.variant, self.baseline))
        if not ours or not theirs or len(ours["rounds"]) != len(theirs["rounds"]):
            return None
        return round(statistics.median(a - b for a, b in zip(ours["rounds"], theirs["rounds"])),
                     self.digits)


FLOORS = (
    Floor("rr", "p50_us", 0.75, "direct"),
    Floor("rr", "p50_us", 0.50, "haproxy"),
    Floor("crr", "p50_us", 2.0, "direct"),
    Floor("crr", "p50_us", 0.95, "haproxy"),
    Floor("crr64", "rate", 1.2, "haproxy", at_least=True),
    Floor("bulk-up", "gbit_s", 0.8, "direct", at_least=True),
    Floor("bulk-down", "gbit_s", 0.8, "direct", at_least=True),
    *(Above("patterns", shape, 1000, "direct") for shape in SHAPES),
    Floor("fair", "times", 3.0),
    Floor("idle", "bytes", 734, digits=0),
    Floor("churn", "rss_kib", 0, digits=0),
    Floor("churn", "map_socks_after", 0, digits=0),
    Floor("churn", "map_ports_after", 0, digits=0),
    Floor("bystander", "p50_us", 1.02, "outside, detached", variant="outside, attached"),
    Floor("rr", "p50_us", 1.05, "tproxy", variant=HONEST),
    Floor("crr", "p50_us", 1.10, "tproxy", variant=HONEST),
    Floor("crr64", "rate", 0.95, "tproxy", variant=HONEST, at_least=True),
    Floor("bulk-up", "gbit_s", 0.95, "tproxy", variant=HONEST, at_least=True),
    Floor("bulk-down", "gbit_s", 0.95, "tproxy", variant=HONEST, at_least=True),
    Floor("churn", "rss_kib", 0, variant=HONEST, digits=0),
    Floor("churn", "map_socks_after", 0, variant=HONEST, digits=0),
    Floor("churn", "map_ports_after", 0, variant=HONEST, digits=0),
    Floor("bystander", "p50_us", 1.01, "scope, attached", variant="scope, honest"),
    Floor("bystander", "p50_us", 1.02, "outside, detached", variant="outside, honest"),
    Floor("honest", "crr_20_ms", 1.01, "tproxy", variant=HONEST),
    Floor("honest", "rate_20", 0.95, "tproxy", variant=HONEST, at_least=True),
    Floor("honest", "refused_0_p50_ms", 24, variant=HONEST, digits=0),
    Floor("honest", "refused_20_p50_ms", 2.2, "no relay", variant=HONEST),
    Floor("honest", "refused_100_p50_ms", 1.5, "no relay", variant=HONEST),
    Floor("honest", "refused_400_p50_ms", 1.5, "no relay", variant=HONEST),
    Floor("observe", "p50_us", 1.07, "direct", variant="observed"),
    Floor("observe", "up_gbit_s", 0.99, "direct", variant="observed", at_least=True),
    Floor("observe", "down_gbit_s", 0.99, "direct", variant="observed", at_least=True),
    Floor("decide", "connect4_ns", 900, variant="10 rules, 10k CIDRs", digits=0),
    Floor("decide", "connect4_ns", 900, variant="256 rules, 10k CIDRs, unlisted", digits=0),
    Floor("decide", "connect4_ns", 1800, variant="256 rules, 10k CIDRs", digits=0),
    Floor("decide", "p50_us", 1.02, "0 rules", variant="256 rules"),
    Floor("decide", "p50_us", 1.02, "0 rules", variant="256 rules, 10k CIDRs, unlisted"),
    Floor("watch", "p50_us", 1.07, "unwatched", variant="watched"),
    Floor("packets", "p50_us", 1.00, "unloaded", variant="empty list"),
    Floor("packets", "p50_us", 1.02, "unloaded", variant="1M entries"),
    Floor("packets", "down_gbit_s", 0.99, "unloaded", variant="empty list", at_least=True),
    Floor("packets", "down_gbit_s", 0.99, "unloaded", variant="1M entries", at_least=True),
    Floor("drops", "mpps", 1.5, "nft", variant="tproxy native", at_least=True),
    Floor("drops", "mpps", 1.0, "nft", variant="tproxy generic", at_least=True),
    Floor("chain-load", "rate", 1.2, "redsocks, SOCKS5", variant="tproxy, SOCKS5", at_least=True),
    Floor("chain-load", "rate", 1.2, "HAProxy, PROXY v2", variant="tproxy, PROXY v2",
          at_least=True),
    Floor("chain-load", "relay_s_per_gb", 1.2, "tproxy alone", variant="tproxy, SOCKS5"),
    Floor("chain-load", "relay_s_per_gb", 1.2, "tproxy alone",
          variant="tproxy, SOCKS5 at the server"),
    Floor("chain-load", "up_gbit_s", 0.9, "tproxy alone", variant="tproxy, SOCKS5 at the server",
          at_least=True),
    Floor("chain-load", "down_gbit_s", 0.9, "tproxy alone",
          variant="tproxy, SOCKS5 at the server", at_least=True),
    Floor("failover", "first_ms", 50, variant="killed"),
    Floor("failover", "first_ms", 400, variant="silent"),
)


def numbers_of(document, workload, variant, metric):
    """Returns None if the run has none. A variant that failed has a reason in place of its
    numbers."""
    variants = document["workloads"].get(workload, {}).get("variants", {})
    return variants.get(variant, {}).get(metric)


def failed(document, floor):
    """Returns true if the workload was run and tproxy has no numbers in it, which is below any
    floor."""
    variants = document["workloads"].get(floor.workload, {}).get("variants", {})
    return "reason" in variants.get(floor.variant, {})


def verdicts(document):
    """(floor, verdict, value or None) of each floor."""
    result = []
    for floor in FLOORS:
        value = floor.value(document)
        if value is None:
            verdict = MISSED if failed(document, floor) else UNKNOWN
        elif value >= floor.bound if floor.at_least else value <= floor.bound:
            verdict = MET
        else:
            verdict = MISSED
        result.append((floor, verdict, value))
    return result


def line(floor, verdict, value):
    bound = f"{'at least' if floor.at_least else 'at most'} {floor.bound:g}"
    number = "no number" if value is None else f"{value:.{floor.digits}f}"
    return f"{verdict:12}  {floor.name()}: {number}, {bound}"


def summary(document):
    """For results/README.md: how many floors are met, and the names of those that are missed."""
    judged = [verdict for verdict in verdicts(document) if verdict[1] != UNKNOWN]
    if not judged:
        return []
    missed = [f"{floor.name()} ({'no number' if value is None else f'{value:.{floor.digits}f}'})"
              for floor, verdict, value in judged if verdict == MISSED]
    unknown = dict.fromkeys(
        f"{HONEST} in {floor.workload}"
        if floor.variant == HONEST and floor.workload in document["workloads"] else floor.workload
        for floor, verdict, _ in verdicts(document) if verdict == UNKNOWN)
    text = f"Floors (tests/bench/floors.py): {len(judged) - len(missed)} of {len(judged)} are met"
    if unknown:
        text += f"; not measured: {', '.join(unknown)}"
    return [f"{text}. Missed: {'; '.join(missed)}." if missed else f"{text}.", ""]


def to_text(document):
    return "\n".join(["floors:", *("  " + line(*judged) for judged in verdicts(document)
                                   if judged[0].workload in document["workloads"])])


def main():
    parser = argparse.ArgumentParser(description="Which floors a run meets.")
    parser.add_argument("file", help="of run.py --json")
    options = parser.parse_args()
    try:
        document = json.loads(read(options.file))
        judged = verdicts(document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"floors.py: {options.file}: not written by run.py: {error!r}", file=sys.stderr)
        return 1
    for verdict in judged:
        print(line(*verdict))
    return 1 if any(verdict != MET for _, verdict, _ in judged) else 0


if __name__ == "__main__":
    sys.exit(main())
