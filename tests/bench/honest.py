# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workload honest: what connect() takes that waits for the relay, by the round trip time from
the relay to the server."""

from chain import Distant
from contenders import HONEST
from workload import Metric, Workload

DELAYS_MS = (0, 20, 100, 400)
CLOSED = 7199  # nobody listens at this port
CLIENTS = 8  # at a time, where a turn mostly waits
FIRST_NUMBER = 100  # of the links


class Honest(Workload):
    """Of tproxy without honest connect, connect() to a port that refuses is no failure."""

    name = "honest"
    title = ("over links with a round trip time: crr, crr by 64 clients, and connect() to a port"
             " that refuses,\n  whose answer waits for the client's next SYN")
    metrics = (*(Metric(f"crr_{delay}_ms", f"RTT {delay} ms, crr p50 ms", 2)
                 for delay in DELAYS_MS),
               Metric("rate_20", "RTT 20 ms, crr64 per second", 0, "higher"),
               *(Metric(f"refused_{delay}_{percentile}_ms",
                        f"RTT {delay} ms, refused {percentile} ms")
                 for delay in DELAYS_MS for percentile in ("p50", "p99")))
    headlines = tuple(metric.key for metric in metrics)
    baselines = ("no relay", "tproxy")

    def __init__(self, contenders):
        super().__init__(contenders)
        self.tproxy = contenders.get("tproxy")
        self.places = {}

    def variants(self):
        return ["no relay", "tproxy", "tproxy-honest"] if self.tproxy else []

    def begin(self):
        for relay, options in (("tproxy", ()), ("tproxy-honest", HONEST)):
            for delay in DELAYS_MS:
                number = FIRST_NUMBER + len(self.places)
                place = Distant(self.tproxy.sandbox, f"far-{number}", number, delay)
                place.relay_options += options
                self.places[relay, delay] = place
                place.start()

    def end(self):
        while self.places:
            place = self.places.popitem()[1]
            place.stop()
            place.cut()

    def recover(self, variant):
        for (relay, _), place in self.places.items():
            if relay == variant:
                place.restart()

    def measure(self, variant, scale):
        """Without a relay: a client that is out of scope."""
        result = {}
        cgroup = "outside" if variant == "no relay" else None
        relay = "tproxy" if variant == "no relay" else variant
        for delay in DELAYS_MS:
            place = self.places[relay, delay]
            count, clients = self.amount(delay, scale)
            crr = place.run_bench("crr", "--count", count, "--clients", clients, cgroup=cgroup)
            result[f"crr_{delay}_ms"] = crr["p50_us"] / 1000
            if variant == "tproxy":
                continue
            refused = place.run_bench("refused", "--count", max(CLIENTS, scale.crr // 50),
                                      "--clients", CLIENTS, cgroup=cgroup,
                                      server=f"{place.host}:{CLOSED}")
            for percentile in ("p50", "p99"):
                result[f"refused_{delay}_{percentile}_ms"] = refused[f"{percentile}_us"] / 1000
        many = self.places[relay, 20].run_bench("crr", "--count", max(64, scale.crr64 // 3),
                                                "--clients", 64, cgroup=cgroup)
        result["rate_20"] = many["rate"]
        return result

    @staticmethod
    def amount(delay, scale):
        """Connections of crr, and how many at a time."""
        if delay == 0:
            return scale.crr, 1
        return max(CLIENTS, scale.crr // (12 if delay <= 20 else 60)), CLIENTS
