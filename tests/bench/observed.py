# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workload observe: direct connections that a rule observes and the relay logs, beside those of
a cgroup without programs."""

import json
import os

from report import paired
from sandbox import Failure, command, wait_until
from workload import Metric, Workload, in_pairs

RULES = "observe name bench\n"
BURST = 250  # connections, some 10 ms: the relay writes its log a millisecond later


class Observe(Workload):
    """Both variants are direct. A turn of the observed one fails unless each of its connections has
    a line in the relay's log."""

    name = "observe"
    title = "crr and bulk direct, and direct with a rule that observes"
    metrics = (Metric("p50_us", "crr p50 µs"), Metric("p90_us", "crr p90 µs"),
               Metric("up_gbit_s", "bulk-up Gbit/s", 2, "higher"),
               Metric("down_gbit_s", "bulk-down Gbit/s", 2, "higher"),
               Metric("relay_us", "relay CPU µs each"))
    headlines = ("p50_us", "up_gbit_s", "down_gbit_s")
    baselines = ("direct",)
    finely = 4

    def __init__(self, contenders):
        super().__init__(contenders)
        self.unobserved = ""

    def variants(self):
        return ["direct", "observed"] if "tproxy" in self.contenders else []

    def begin(self):
        self.unobserved = self.contenders["tproxy"].sandbox.add_cgroup("observe-direct")
        self.start()

    def start(self):
        tproxy = self.contenders["tproxy"]
        tproxy.relay_options = ("--connection-log", "json")
        tproxy.restart()
        path = os.path.join(tproxy.sandbox.directory, "observe.rules")
        with open(path, "w", encoding="utf-8") as file:
            file.write(RULES)
        command(tproxy.program("loader", "tproxyctl"), "rules", "load", path, "-p", tproxy.pins)

    def end(self):
        """A fresh relay, and pins without rules."""
        tproxy = self.contenders["tproxy"]
        tproxy.relay_options = ()
        tproxy.restart()

    def recover(self, variant):
        self.start()

    def measure(self, variant, scale):
        tproxy = self.contenders["tproxy"]
        if variant == "direct":
            return self.run(tproxy, self.unobserved, scale)[0]
        before, used = self.lines(tproxy), tproxy.relay_seconds()
        result, count = self.run(tproxy, tproxy.client_cgroup, scale)
        wait_until(lambda: self.lines(tproxy) >= before + count, "each connection has a line")
        if (lost := self.lost(tproxy)):
            raise Failure(f"{lost} connections were not reported")
        result["relay_us"] = (tproxy.relay_seconds() - used) / count * 1e6
        return result

    @staticmethod
    def run(tproxy, cgroup, scale):
        """Returns the numbers of a cgroup beside one without programs, and how many connections it
        has made."""
        crr = tproxy.run_pair("crr", cgroup, "outside", "--count", scale.crr, "--burst", BURST)
        up, down = (tproxy.run_pair(kind, cgroup, "outside", "--seconds", scale.bulk_seconds)
                    for kind in ("bulk-up", "bulk-down"))
        return {**in_pairs("p50_us", crr), "p90_us": crr["p90_us"],
                paired("p90_us"): crr["p90_us"] / crr["base"]["p90_us"],
                **in_pairs("up_gbit_s", up, "gbit_s"), **in_pairs("down_gbit_s", down, "gbit_s")
                }, sum(result["connections"] for result in (crr, up, down))

    @staticmethod
    def lines(tproxy):
        with open(tproxy.relay.log_path, "rb") as log:
            return sum(b'"observed":true' in line for line in log)

    @staticmethod
    def lost(tproxy):
        status = json.loads(command(tproxy.program("loader", "tproxyctl"), "status", "--json", "-p",
                                    tproxy.pins))
        return status["sums"]["not_reported"]
