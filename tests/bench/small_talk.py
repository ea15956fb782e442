# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workloads patterns and fair: whether an exchange waits for a timer, or for other flows.

The shapes of patterns are in shape.c. Their names are repeated here, because tables are also
made without the load generator. test_publish.py compares the two lists.
"""

import contextlib
import subprocess
import time

from contenders import client_result
from sandbox import SERVER_PORT, SMALL_PORT, Failure
from workload import Metric, Workload

SHAPES = (
    "write-20+80", "write-20+80-nodelay",
    "post-1500+100", "post-3000+100", "post-3000+100-nodelay", "post-3000+100-fresh",
    "post-20000+100", "answer-1500+100", "answer-3000+100", "answer-20000+100", "both-3000+100",
    "pipelined-16x64", "pipelined-16x64-nodelay",
    "trickle-up", "trickle-up-nodelay", "trickle-down", "trickle-down-nodelay",
    "up-100k", "up-1m", "up-sndbuf-4k", "up-sndbuf-8k", "up-sndbuf-8k-1400", "up-sndbuf-32k",
    "up-sndbuf-4k-late", "up-server-rcvbuf-4k", "up-listener-4k",
    "down-100k", "down-1m", "down-rcvbuf-4k", "down-rcvbuf-8k", "down-rcvbuf-16k",
    "down-rcvbuf-4k-late", "down-rcvbuf-8k-late", "down-rcvbuf-16k-late", "down-server-sndbuf-4k",
    "down-listener-4k")
SHAPE_SECONDS = 1  # at most: a shape that stalls has shown it by then
SETTLE_SECONDS = 0.4  # until windows and buffers of new flows have grown
START_SECONDS = 5  # at most, until the exchanges begin beside flows that use up the CPU
PAUSE_US = 2000  # between two exchanges: as at a prompt, not enough to keep a relay awake
TALK_MAX = 100000
FLOWS = ("bulk-up", "bulk-down")
STREAMS = 2  # in each direction


class Patterns(Workload):
    """One connection for each shape, and the median of its exchanges. The headline is their sum."""

    name = "patterns"
    title = (f"{len(SHAPES)} shapes of an exchange: two writes and a read, small buffers, "
             "pipelined, trickling; p50 of each")
    metrics = (Metric("sum_ms", "p50 of all shapes, ms", 2),
               Metric("sum_p90_ms", "p90 of all shapes, ms", 2),
               *(Metric(shape, f"{shape}, p50 µs", 0) for shape in SHAPES))

    def measure(self, variant, scale):
        contender = self.contenders[variant]
        p50, p90 = {}, 0.0
        for shape in SHAPES:
            port = SMALL_PORT if "-listener-" in shape else SERVER_PORT
            try:
                numbers = contender.run_bench(
                    "shape", "--shape", shape, "--count", scale.shape,
                    "--seconds", SHAPE_SECONDS, server=f"{contender.host}:{port}")
            except Failure as failure:
                raise Failure(f"{shape}: {failure}") from failure
            p50[shape] = numbers["p50_us"]
            p90 += numbers["p90_us"]
        return {"sum_ms": sum(p50.values()) / 1000, "sum_p90_ms": p90 / 1000, **p50}


class Fair(Workload):
    """Small exchanges alone, then beside bulk flows that take all they get."""

    name = "fair"
    title = (f"64 bytes and 64 back every {PAUSE_US // 1000} ms, alone, then beside two streams up "
             "and two down through the same relay")
    metrics = (Metric("p50_us", "p50 µs beside them"), Metric("p99_us", "p99 µs beside them"),
               Metric("alone_p50_us", "p50 µs alone"), Metric("alone_p99_us", "p99 µs alone"),
               Metric("times", "p50 beside them / alone", 2),
               Metric("gbit_s", "the streams, Gbit/s", 2, "higher"))
    headlines = ("p50_us", "times")

    def measure(self, variant, scale):
        contender = self.contenders[variant]
        seconds = scale.fair_seconds
        alone = self.talk(contender, seconds)
        with contextlib.ExitStack() as flows:
            clients = [self.flow(flows, contender, way, seconds + START_SECONDS) for way in FLOWS]
            time.sleep(SETTLE_SECONDS)
            beside = self.talk(contender, seconds)
            if any(client.poll() is not None for client in clients):
                raise Failure("a stream has ended before the exchanges")
            bulk = [self.finish(client) for client in clients]
        return {"p50_us": beside["p50_us"], "p99_us": beside["p99_us"],
                "alone_p50_us": alone["p50_us"], "alone_p99_us": alone["p99_us"],
                "times": beside["p50_us"] / alone["p50_us"],
                "gbit_s": sum(numbers["gbit_s"] for numbers in bulk)}

    @staticmethod
    def talk(contender, seconds):
        return contender.run_bench("rr", "--count", TALK_MAX, "--seconds", seconds,
                                   "--pause-us", PAUSE_US)

    @staticmethod
    def flow(stack, contender, way, seconds):
        client = contender.open_client(contender.bench(way, "--streams", STREAMS,
                                                       "--seconds", seconds))
        stack.callback(lambda: client.poll() is None and (client.kill(), client.communicate()))
        return client

    @staticmethod
    def finish(client):
        try:
            return client_result(*client.communicate(timeout=30))
        except subprocess.TimeoutExpired as error:
            raise Failure("a stream does not end") from error
