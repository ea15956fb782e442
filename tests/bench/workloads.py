# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workloads: what one round of each is, for each of its variants.

The variants of a workload are what its rounds interleave (A B C A B C) and its ratios compare. For
most they are the contenders. measure() is one variant's turn in one round: it returns numbers by
metric, or raises Failure.
"""

import resource
from typing import NamedTuple

from contenders import IDLE_MAX, Tproxy
from sandbox import SERVER_PORT, Failure, wait_until


class Scale(NamedTuple):
    """How much one turn is."""

    rr: int
    crr: int
    crr64: int
    bulk_seconds: int
    idle: int
    churn: int
    connects: int

    def warm_up(self):
        return Scale(*(max(1, amount // 10) for amount in self))


FULL = Scale(rr=50000, crr=10000, crr64=20000, bulk_seconds=10, idle=IDLE_MAX, churn=100000,
             connects=20000)
QUICK = Scale(rr=10000, crr=4000, crr64=6000, bulk_seconds=2, idle=2000, churn=10000,
              connects=10000)


class Metric(NamedTuple):
    """A number that a turn returns: its key, and how it is called and printed."""

    key: str
    label: str
    digits: int = 1


PERCENTILES = (Metric("p50_us", "p50 µs"), Metric("p90_us", "p90 µs"),
               Metric("p99_us", "p99 µs"), Metric("p99_9_us", "p99.9 µs"))
RATE = Metric("rate", "per second", 0)
RELAY_US = Metric("relay_us", "relay CPU µs each")


class Workload:
    """Base: each contender is a variant."""

    name: str
    title: str
    metrics: tuple[Metric, ...]
    baselines: tuple[str, ...] = ("direct", "haproxy")
    once = False  # one round is enough: it counts rather than times

    def __init__(self, contenders):
        self.contenders = contenders

    def variants(self):
        return list(self.contenders)

    def measure(self, variant, scale):
        raise NotImplementedError

    def recover(self, variant):
        """After a Failure: the next turn or workload starts with a fresh relay."""
        self.contenders[variant].restart()


class Exchange(Workload):
    """A number of exchanges or connections, and what each has taken."""

    client = "crr"
    clients = 1

    def measure(self, variant, scale):
        contender = self.contenders[variant]
        count = getattr(scale, self.name)
        before = contender.relay and contender.relay.cpu_seconds()
        result = contender.run_client(self.client, "--count", count, "--clients", self.clients)
        if contender.relay:
            result["relay_us"] = (contender.relay.cpu_seconds() - before) / count * 1e6
        return result


class Rr(Exchange):
    name = "rr"
    client = "rr"
    title = "one connection, 64-byte requests and responses"
    metrics = (*PERCENTILES, RELAY_US)


class Crr(Exchange):
    name = "crr"
    title = "connect, 64-byte request and response, close"
    metrics = (*PERCENTILES, RATE, RELAY_US)


class Crr64(Exchange):
    name = "crr64"
    clients = 64
    title = "crr by 64 clients at once"
    metrics = (RATE, RELAY_US)


class Bulk(Workload):
    """As many bytes as get through in the time, each of them checked."""

    streams = 1
    metrics = (Metric("gbit_s", "Gbit/s", 2), Metric("relay_s_per_gb", "relay CPU s/GB", 3))

    def measure(self, variant, scale):
        contender = self.contenders[variant]
        before = contender.relay and contender.relay.cpu_seconds()
        result = contender.run_client(self.name.removesuffix("-8"), "--seconds", scale.bulk_seconds,
                                      "--streams", self.streams)
        if contender.relay:
            used = contender.relay.cpu_seconds() - before
            result["relay_s_per_gb"] = used / (result["bytes"] / 1e9)
        return result


class BulkUp(Bulk):
    name = "bulk-up"
    title = "one stream to the server"


class BulkUp8(Bulk):
    name = "bulk-up-8"
    streams = 8
    title = "eight streams to the server"


class BulkDown(Bulk):
    name = "bulk-down"
    title = "one stream from the server"


class BulkDown8(Bulk):
    name = "bulk-down-8"
    streams = 8
    title = "eight streams from the server"


class Relayed(Workload):
    """Base: about a relay's own resources, so the direct way has no part in it."""

    baselines = ("haproxy",)

    def variants(self):
        return [name for name in self.contenders if name != "direct"]


class Idle(Relayed):
    name = "idle"
    title = "memory of a fresh relay for each idle connection"
    metrics = (Metric("bytes", "bytes each", 0),)

    def measure(self, variant, scale):
        contender = self.contenders[variant]
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        count = min(scale.idle, limit // 2 - 200)
        contender.restart()
        contender.hold(100, lambda: None)
        before = contender.relay.rss_bytes()
        after = contender.hold(count, contender.relay.rss_bytes)
        return {"bytes": (after - before) / count}


class Churn(Relayed):
    name = "churn"
    title = "connections one after the other: what they leave behind in a fresh relay"
    metrics = (Metric("count", "connections", 0), Metric("rss_kib", "RSS growth KiB", 0),
               *(Metric(f"{name}_{when}", f"{name} {when}", 0)
                 for name in Tproxy.maps for when in ("before", "after")), RATE)
    once = True

    def measure(self, variant, scale):
        contender = self.contenders[variant]
        contender.restart()
        contender.run_client("crr", "--count", 1000)
        entries = self.entries_at_rest(contender)
        before = contender.relay.rss_bytes()
        result = contender.run_client("crr", "--count", scale.churn)
        for name, count in self.entries_at_rest(contender).items():
            result[f"{name}_before"], result[f"{name}_after"] = entries[name], count
        result["rss_kib"] = (contender.relay.rss_bytes() - before) / 1024
        return result

    @staticmethod
    def entries_at_rest(contender):
        """How many are left in each map, once the last connections have had the time to end."""
        try:
            wait_until(lambda: not any(contender.entries().values()), "the maps are empty", 5)
        except Failure:
            pass  # what is left is the result
        return contender.entries()


class Bystander(Workload):
    """Connections that are none of ours, to the loopback address, which is bypassed.

    Client and listener are one process, so both their sockets are in the cgroup. Attached means:
    loaded, and a relay registered. Detached, both cgroups are the same, so their ratio says what
    is noise.
    """

    name = "bystander"
    title = "connect, close: sockets that are never redirected"
    metrics = PERCENTILES
    baselines = ("scope, detached", "outside, detached")
    address = f"127.0.0.1:{SERVER_PORT}"

    def __init__(self, contenders):
        super().__init__(contenders)
        self.tproxy = contenders.get("tproxy")

    def variants(self):
        if not self.tproxy:
            return []
        return ["scope, detached", "outside, detached", "scope, attached", "outside, attached"]

    def measure(self, variant, scale):
        cgroup, state = variant.split(", ")
        if state == "detached":
            self.tproxy.stop()
        elif not self.tproxy.relay:
            self.tproxy.start()
        return self.tproxy.run_client("connect", "--count", scale.connects, cgroup=cgroup,
                                      server=self.address)

    def recover(self, variant):
        self.tproxy.stop()


WORKLOADS = {kind.name: kind for kind in (Rr, Crr, Crr64, BulkUp, BulkUp8, BulkDown, BulkDown8,
                                          Bystander, Idle, Churn)}
