# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workloads with the project's load generator: one round of each, for each variant."""

import os
import resource

from captured import Capture
from chain import Chain, ChainLoad, Failover
from contenders import HONEST, Redirected, Tproxy
from decide import Decide
from honest import Honest
from hooks import Hooks
from observed import Observe
from packets import Drops, Packets
from small_talk import Fair, Patterns
from sandbox import SERVER_PORT, Failure, wait_until
from watched import Watch
from web import Http, HttpClose
from workload import GBIT, PERCENTILES, RATE, RELAY_S, RELAY_US, Metric, Workload


class Exchange(Workload):
    """A number of exchanges or connections, and the time of each."""

    minors = True
    honest = True
    finely = 4
    client = "crr"
    clients = 1

    def measure(self, variant, scale):
        contender = self.contenders[variant]
        count = getattr(scale.of(contender), self.name)
        before = contender.relay_seconds()
        result = contender.run_bench(self.client, "--count", count, "--clients", self.clients)
        if contender.relay:
            result["relay_us"] = (contender.relay_seconds() - before) / count * 1e6
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
    finely = 8
    title = "crr by 64 clients at once"
    metrics = (RATE, RELAY_US)


class Bulk(Workload):
    """The bytes that pass in the given time, each of them checked."""

    minors = True
    honest = True
    finely = 2
    client = "bulk-down"
    streams = 1
    metrics = (GBIT, RELAY_S)

    def measure(self, variant, scale):
        return self.transfer(self.contenders[variant], scale)

    def transfer(self, contender, scale):
        before = contender.relay_seconds()
        result = contender.run_bench(self.client, "--seconds", scale.of(contender).bulk_seconds,
                                     "--streams", self.streams)
        if contender.relay:
            used = contender.relay_seconds() - before
            result["relay_s_per_gb"] = used / (result["bytes"] / 1e9)
        return result


class BulkUp(Bulk):
    name = client = "bulk-up"
    title = "one stream to the server"


class BulkUp8(BulkUp):
    name = "bulk-up-8"
    minors = honest = False
    streams = 8
    title = "eight streams to the server"


class BulkDown(Bulk):
    name = "bulk-down"
    title = "one stream from the server"


class BulkDown8(Bulk):
    name = "bulk-down-8"
    minors = honest = False
    streams = 8
    title = "eight streams from the server"


class Workers(BulkDown8):
    """One worker against two. If the relay takes less than a core, one worker has time to spare."""

    name = "workers"
    title = ("tproxy-relay --workers: crr by 64 clients, eight streams of exchanges (rr), eight "
             "streams down")
    metrics = (Metric("rate", "crr by 64 clients, per second", 0, "higher"),
               Metric("exchanges", "rr in 8 streams, per second", 0, "higher"),
               Metric("gbit_s", "8 streams down, Gbit/s", 2, "higher"),
               Metric("relay_cores", "8 streams down, cores that the relay takes", 2))
    headlines = ("rate", "exchanges", "gbit_s")
    baselines = ("1 worker",)

    def variants(self):
        return ["1 worker", "2 workers"] if "tproxy" in self.contenders else []

    def measure(self, variant, scale):
        tproxy = self.contenders["tproxy"]
        tproxy.workers = int(variant.split()[0])
        tproxy.restart()
        short = tproxy.run_bench("crr", "--count", 2 * scale.crr64, "--clients", 64)
        talk = tproxy.run_bench("rr", "--count", 2 * scale.rr, "--clients", self.streams)
        bulk = self.transfer(tproxy, scale)
        return {"rate": short["rate"], "exchanges": talk["rate"], "gbit_s": bulk["gbit_s"],
                "relay_cores": bulk["relay_s_per_gb"] * bulk["gbit_s"] / 8}

    def recover(self, variant):
        self.end()

    def end(self):
        if tproxy := self.contenders.get("tproxy"):
            tproxy.workers = os.cpu_count()
            tproxy.restart()


class Relayed(Workload):
    """Base: about a relay's own resources, so the direct path takes no part."""

    baselines = ("haproxy", "bare", "tproxy")

    def variants(self):
        return [name for name in super().variants() if name != "direct"]


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
    honest = True
    title = "connections one after the other: what they leave behind in a fresh relay"
    metrics = (Metric("count", "connections", 0, "higher"), Metric("rss_kib", "RSS growth KiB", 0),
               *(Metric(f"{name}_{when}", f"{name} {when}", 0)
                 for name in Tproxy.maps for when in ("before", "after")), RATE)
    headlines = ("count", "rss_kib", "map_socks_after", "map_ports_after")
    baselines = ()
    once = True

    def measure(self, variant, scale):
        contender = self.contenders[variant]
        contender.restart()
        contender.run_bench("crr", "--count", 1000)
        entries = self.entries_at_rest(contender)
        before = contender.relay.rss_bytes()
        result = contender.run_bench("crr", "--count", scale.churn)
        for name, count in self.entries_at_rest(contender).items():
            result[f"{name}_before"], result[f"{name}_after"] = entries[name], count
        result["rss_kib"] = (contender.relay.rss_bytes() - before) / 1024
        return result

    @staticmethod
    def entries_at_rest(contender):
        """The entries left in each map, once the last connections have had time to end."""
        try:
            wait_until(lambda: not any(contender.entries().values()), "the maps are empty", 5)
        except Failure:
            pass  # the remaining entries are the result
        return contender.entries()


class Bystander(Workload):
    """Connections that are not redirected: to the loopback address, which is bypassed.

    Client and listener are one process, so both their sockets are in the cgroup. Attached
    means: loaded, and a relay registered; honest: the relay has honest connect. Detached, both
    cgroups are equal, so their ratio is noise.
    """

    name = "bystander"
    title = "connect, close: sockets that are never redirected"
    metrics = PERCENTILES
    baselines = ("scope, detached", "outside, detached", "scope, attached")
    finely = 8
    address = f"127.0.0.1:{SERVER_PORT}"

    def __init__(self, contenders):
        super().__init__(contenders)
        self.tproxy = contenders.get("tproxy")
        self.stopped = []
        self.state = "detached"

    def variants(self):
        if not self.tproxy:
            return []
        return [f"{cgroup}, {state}" for state in ("detached", "attached", "honest")
                for cgroup in ("scope", "outside")]

    def begin(self):
        """A program at any cgroup makes the kernel look for programs at every cgroup, so no foreign
        ones may be attached."""
        self.stopped = [contender for contender in self.contenders.values()
                        if isinstance(contender, Redirected) and contender.relay]
        for contender in self.stopped:
            contender.stop()

    def end(self):
        if self.tproxy:
            self.bring("detached")
            self.tproxy.relay_options = ()
        for contender in self.stopped:
            contender.restart()

    def measure(self, variant, scale):
        cgroup, state = variant.split(", ")
        self.bring(state)
        return self.tproxy.run_bench("connect", "--count", scale.connects, server=self.address,
                                     cgroup=self.tproxy.client_cgroup if cgroup == "scope"
                                     else "outside")

    def bring(self, state):
        if state == self.state:
            return
        self.tproxy.stop()
        self.state = "detached"
        if state != "detached":
            self.tproxy.relay_options = HONEST if state == "honest" else ()
            self.tproxy.start()
            self.state = state

    def recover(self, variant):
        self.bring("detached")


WORKLOADS = {kind.name: kind for kind in (Rr, Crr, Crr64, Http, HttpClose, BulkUp, BulkDown,
                                          BulkUp8, BulkDown8, Patterns, Fair, Workers, Idle,
                                          Churn, Honest, Hooks, Bystander, Observe, Decide, Watch,
                                          Capture, Packets, Drops, Chain, ChainLoad,
                                          Failover)}
