# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a workload is, and how much one turn of each is.

The rounds of a workload interleave its variants (A B C C B A), and its ratios compare them. For
most workloads the variants are the contenders. measure() is one variant's turn in one round. It
returns numbers by metric, or raises Failure.
"""

from typing import NamedTuple

from contenders import IDLE_MAX
from report import paired


class Scale(NamedTuple):
    """The amount of one turn."""

    rr: int
    crr: int
    crr64: int
    bulk_seconds: int
    http_seconds: int
    idle: int
    churn: int
    connects: int
    shape: int
    fair_seconds: int

    def divided(self, counts, seconds):
        return Scale(*(max(1, amount // (seconds if name.endswith("_seconds") else counts))
                       for name, amount in self._asdict().items()))

    def warm_up(self):
        return self.divided(10, 10)

    def of(self, contender):
        """A minor contender has shorter turns, because it is there for comparison.

        Turns that count connections are much shorter. Dante binds each socket to a port before
        it connects, so tcp_tw_reuse does not help it, and only 64,000 connections fit into a
        minute.
        """
        return self.divided(8, 2) if contender.minor else self


FULL = Scale(rr=12500, crr=2500, crr64=5000, bulk_seconds=2, http_seconds=4, idle=IDLE_MAX,
             churn=100000, connects=5000, shape=60, fair_seconds=2)
QUICK = Scale(rr=2500, crr=1000, crr64=2000, bulk_seconds=1, http_seconds=1, idle=2000, churn=10000,
              connects=2000, shape=20, fair_seconds=1)


class Metric(NamedTuple):
    """A number that a turn returns: its key, label and format, and whether lower is better."""

    key: str
    label: str
    digits: int = 1
    better: str = "lower"


PERCENTILES = (Metric("p50_us", "p50 µs"), Metric("p90_us", "p90 µs"),
               Metric("p99_us", "p99 µs"), Metric("p99_9_us", "p99.9 µs"))
RATE = Metric("rate", "per second", 0, "higher")
RELAY_US = Metric("relay_us", "relay CPU µs each")
GBIT = Metric("gbit_s", "Gbit/s", 2, "higher")
RELAY_S = Metric("relay_s_per_gb", "relay CPU s/GB", 3)


def in_pairs(metric, result, key=None):
    """A metric's number and ratio, of what run_pair() returned."""
    return {metric: result[key or metric], paired(metric): result["ratio"]}


class Workload:
    """Base: each contender is a variant, without minor ones and tproxy-honest if it says so."""

    name: str
    title: str
    metrics: tuple[Metric, ...]
    headlines: tuple[str, ...] = ()  # keys shown in the plot and in README.md; default: the first
    baselines: tuple[str, ...] = ("direct", "haproxy", "bare", "tproxy")
    minors = False
    honest = False  # tproxy-honest takes part
    once = False  # one round is enough, because it counts and does not time
    finely = 1  # rounds for each of the run's, where a difference is small beside noise

    def __init__(self, contenders):
        self.contenders = contenders

    def variants(self):
        return [name for name, contender in self.contenders.items()
                if (self.minors or not contender.minor) and (self.honest or not contender.honest)]

    def begin(self):
        """Sets up what all turns need. A Failure here is the reason of each variant."""

    def end(self):
        """Undoes begin(), and removes what the turns have left."""

    def measure(self, variant, scale):
        raise NotImplementedError

    def recover(self, variant):
        """Called after a Failure: the next turn or workload starts with a fresh relay."""
        self.contenders[variant].restart()
