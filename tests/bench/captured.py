# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workload capture: connections through the relay while packets are captured: by nothing, by
tproxyctl capture, by one whose filter no connection passes, and by tcpdump, which takes all."""

import shutil
import signal

from sandbox import Failure, wait_until
from workload import Metric, Workload

SNAP = "262144"
READY = {"tproxyctl": "capturing to", "tcpdump": "listening on"}


class Capture(Workload):
    """All packets go to /dev/null. A turn fails if the capture did not see any."""

    name = "capture"
    title = "crr and bulk through the relay while packets are captured"
    metrics = (Metric("p50_us", "crr p50 µs"), Metric("up_gbit_s", "bulk-up Gbit/s", 2, "higher"),
               Metric("down_gbit_s", "bulk-down Gbit/s", 2, "higher"),
               Metric("dropped", "packets dropped", 0))
    headlines = ("p50_us", "up_gbit_s", "down_gbit_s")
    baselines = ("no-capture", "tcpdump")

    def variants(self):
        if "tproxy" not in self.contenders:
            return []
        return ["no-capture", "capture", "filtered-out"] + \
            ["tcpdump"] * bool(shutil.which("tcpdump"))

    def recover(self, variant):
        self.contenders["tproxy"].restart()

    def argv(self, tproxy, variant):
        if variant == "tcpdump":
            return ["tcpdump", "-i", "any", "-n", "-s", SNAP, "-B", "16384", "-w", "/dev/null"]
        filters = ["--command", "nothing"] if variant == "filtered-out" else []
        return [tproxy.program("loader", "tproxyctl"), "capture", "-p", tproxy.pins, "-w",
                "/dev/null", *filters]

    def measure(self, variant, scale):
        tproxy = self.contenders["tproxy"]
        if variant == "no-capture":
            return self.run(tproxy, scale)
        argv = self.argv(tproxy, variant)
        capture = tproxy.sandbox.start(argv, tproxy.netns, "outside", f"capture-{variant}")
        try:
            ready = READY[argv[0].rpartition("/")[2]]
            wait_until(lambda: capture.check() or ready in capture.log(), "it captures")
            result = self.run(tproxy, scale)
        finally:
            capture.popen.send_signal(signal.SIGINT)
            capture.popen.wait(30)
        result["dropped"] = self.dropped(capture.log(), variant)
        return result

    @staticmethod
    def run(contender, scale):
        short = contender.run_bench("crr", "--count", scale.crr, "--clients", 1)
        up, down = (contender.run_bench(kind, "--seconds", scale.bulk_seconds, "--streams", 1)
                    for kind in ("bulk-up", "bulk-down"))
        return {"p50_us": short["p50_us"], "up_gbit_s": up["gbit_s"],
                "down_gbit_s": down["gbit_s"]}

    @staticmethod
    def dropped(log, variant):
        words = log.split()
        captured = words[words.index("captured") + (-2 if variant == "tcpdump" else 1)]
        if (captured == "0") != (variant == "filtered-out"):
            raise Failure(f"{captured} packets were captured")
        return float(words[words.index("dropped") - (2 if variant == "tcpdump" else 1)])
