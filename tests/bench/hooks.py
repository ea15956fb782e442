# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workload hooks: the run time of the BPF programs, by program, as the kernel counts it.

With BPF_ENABLE_STATS the kernel reads the clock before and after each run of each program. This
costs some 20 to 40 ns, which every number here includes. It lasts as long as the descriptor is
open, so nothing stays enabled whatever happens to this process.
"""

import contextlib
import ctypes
import json
import os
import platform

from sandbox import SERVER_PORT, Failure, command
from workload import Metric, Workload

BPF_ENABLE_STATS = 32
BPF_STATS_RUN_TIME = 0
NR_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
PROGRAMS = ("connect4", "connect6", "sockops", "sockopt", "getpeer4", "getpeer6", "release")


@contextlib.contextmanager
def run_time_stats():
    """The kernel measures BPF programs during the block."""
    number = NR_BPF.get(platform.machine())
    if number is None:
        raise Failure(f"the number of bpf(2) on {platform.machine()} is not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    # The kernel reads only enable_stats.type of union bpf_attr.
    attributes = ctypes.create_string_buffer(BPF_STATS_RUN_TIME.to_bytes(4, "little"), 128)
    fd = libc.syscall(number, BPF_ENABLE_STATS, attributes, len(attributes))
    if fd < 0:
        raise Failure(f"BPF_ENABLE_STATS: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.close(fd)


class Hooks(Workload):
    """Redirected connections as in crr, and those of bystander, in scope and out of it.

    A run is counted for the program, a connection for the client. sockops, for example, runs
    several times for each socket of a redirected connection.
    """

    name = "hooks"
    title = ("run time of our BPF programs, which includes some 20 to 40 ns a run for measuring it"
             "\n  redirected: a connection as in crr; bypassed: to loopback, in scope; outside: the"
             " same, out of scope")
    metrics = (Metric("sum_ns", "all programs, ns each", 0),
               Metric("sum_runs", "all programs, runs each", 2),
               *(metric for program in PROGRAMS
                 for metric in (Metric(f"{program}_ns", f"{program}, ns a run", 0),
                                Metric(f"{program}_runs", f"{program}, runs each", 2))))
    baselines = ()

    def variants(self):
        return ["redirected", "bypassed", "outside"] if "tproxy" in self.contenders else []

    def measure(self, variant, scale):
        tproxy = self.contenders["tproxy"]
        count = scale.crr
        with run_time_stats():
            before = self.counters(tproxy.pins)
            if variant == "redirected":
                tproxy.run_bench("crr", "--count", count)
            else:
                tproxy.run_bench("connect", "--count", count, server=f"127.0.0.1:{SERVER_PORT}",
                                 cgroup=None if variant == "bypassed" else "outside")
            after = self.counters(tproxy.pins)
        result = {"sum_ns": 0.0, "sum_runs": 0.0}
        for program in PROGRAMS:
            ns, runs = (now - then for now, then in zip(after[program], before[program]))
            result["sum_ns"] += ns / count
            result["sum_runs"] += runs / count
            if runs:
                result[f"{program}_ns"] = ns / runs
                result[f"{program}_runs"] = runs / count
        if variant == "redirected" and not result.get("connect4_runs", 0) >= 1:
            raise Failure("connect4 has not run for each connection")
        return result

    @staticmethod
    def counters(pins):
        """(nanoseconds, runs) by program. bpftool prints neither while they are zero."""
        result = {}
        for program in PROGRAMS:
            shown = json.loads(command("bpftool", "-j", "prog", "show", "pinned",
                                       os.path.join(pins, f"prog_{program}")))
            result[program] = (shown.get("run_time_ns", 0), shown.get("run_cnt", 0))
        return result

    def recover(self, variant):
        self.contenders["tproxy"].restart()
