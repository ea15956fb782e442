# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workload watch: redirected connections without a watcher, and with `tproxyctl watch`."""

import json
import os
import signal
import subprocess

from sandbox import Failure, wait_until
from workload import PERCENTILES, Metric, Workload



class Watch(Workload):
    """A turn with a watcher fails unless the watcher has seen each of its connections."""

    name = "watch"
    title = "crr without a watcher, and while one prints each connection as JSON to a file"
    metrics = (*PERCENTILES, Metric("watcher_us", "watcher CPU µs each"))
    baselines = ("unwatched",)
    finely = 8

    def variants(self):
        return ["unwatched", "watched"] if "tproxy" in self.contenders else []

    def recover(self, variant):
        self.contenders["tproxy"].restart()

    def measure(self, variant, scale):
        tproxy = self.contenders["tproxy"]
        if variant == "unwatched":
            return tproxy.run_bench("crr", "--count", scale.crr, "--clients", 1)
        path = os.path.join(tproxy.sandbox.directory, "watch.json")
        with open(path, "w", encoding="utf-8") as output:
            watcher = subprocess.Popen(
                [tproxy.program("loader", "tproxyctl"), "watch", "--json", "-p", tproxy.pins],
                stdin=subprocess.DEVNULL, stdout=output)
        try:
            wait_until(lambda: self.is_watched(tproxy.pins), "it watches")
            result = tproxy.run_bench("crr", "--count", scale.crr, "--clients", 1)
        finally:
            watcher.send_signal(signal.SIGINT)
            _, status, used = os.wait4(watcher.pid, 0)
        if status:
            raise Failure(f"the watcher ended with {status}")
        with open(path, encoding="utf-8") as output:
            totals = json.loads(output.readlines()[-1])
        if totals["lost"] or totals["redirected"] < scale.crr:
            raise Failure(f"{totals['redirected']} connections of {scale.crr} were seen")
        result["watcher_us"] = (used.ru_utime + used.ru_stime) / scale.crr * 1e6
        return result

    @staticmethod
    def is_watched(pins):
        """The kernel half reports to a watcher."""
        shown = subprocess.run(
            ["bpftool", "-j", "map", "dump", "pinned", os.path.join(pins, "map_interest")],
            capture_output=True, text=True, check=True).stdout
        entry, = json.loads(shown)
        return entry["formatted"]["value"]["watching"] != 0
