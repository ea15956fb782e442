# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workload decide: what rules cost a connect(), by their number and that of their CIDRs.

Each rule set has pins and a cgroup of its own, and all are loaded during the whole workload, so
that a turn loads nothing. All connections go direct.
"""

import ipaddress
import json
import os
import random
import time
from typing import NamedTuple

from contenders import Instance
from hooks import run_time_stats
from sandbox import SINGLE_PORT, Failure, command, write
from workload import Metric, Workload, in_pairs

RULE = "direct {condition} name n{number}\n"
# Conditions that a connection of the benchmark does not meet.
MIXED_CONDITIONS = ("to @listed port {port}", "uid {id}", "gid {id}", "command none-{number}",
                    "cgroup name:none-{number}.service")
# Destinations: local in the client's namespace, but not loopback, which lists cannot have.
FIRST, NETWORK = ipaddress.ip_address("11.0.0.0"), "11.0.0.0/8"
ADDRESSES, STEP = 1024, 16381  # of tproxy-bench connect
SEED = 1


class Case(NamedTuple):
    """Each rule tests a port, and a set if there are CIDRs. The destination is in the set, the port
    is not that of any rule. The ports of successive rules are far apart."""

    rules: int
    cidrs: int
    special: str = ""

    def name(self):
        cidrs = {0: "", 10_000: ", 10k CIDRs", 1_000_000: ", 1M CIDRs"}[self.cidrs]
        return f"{self.rules} rules{cidrs}{self.special and ', '}{self.special}"

    def port(self, number):
        if self.special == HIT and number == self.rules - 1:
            return SINGLE_PORT
        return 1 + number if number % 2 else 60000 + number

    def rule(self, number):
        if self.special == MIXED:
            condition = MIXED_CONDITIONS[number % len(MIXED_CONDITIONS)]
        elif self.special == UNLESS:
            condition = f"unless port {SINGLE_PORT}"
        else:
            condition = "to @listed port {port}" if self.cidrs else "port {port}"
        condition = condition.format(number=number, port=self.port(number), id=100_000 + number)
        return RULE.format(condition=condition, number=number)


# The last rule applies; the destination is not in the CIDRs; conditions of all kinds; each rule has
# an exception that holds, so that all its rows are tried.
HIT, UNLISTED, MIXED, UNLESS = "hit", "unlisted", "mixed", "unless"
CASES = {case.name(): case for case in (
    Case(0, 0), Case(10, 0), Case(256, 0), Case(128, 0, UNLESS), Case(10, 10_000),
    Case(256, 10_000), Case(256, 10_000, HIT), Case(256, 10_000, UNLISTED),
    Case(256, 10_000, MIXED), Case(10, 1_000_000), Case(256, 1_000_000))}


def destinations(server):
    return {f"{FIRST + number * STEP}/32" for number in range(ADDRESSES)} | {f"{server}/32"}


def networks(count, listed):
    """The listed ones, and CIDRs as lists of addresses have them, the same in each run."""
    found = set(listed)
    generator = random.Random(SEED)
    while len(found) < count:
        length = generator.choice((32, 32, 32, 32, 30, 28, 26, 24))
        bits = generator.getrandbits(length) << (32 - length)
        if bits >> 24 not in (10, 11):
            found.add(f"{ipaddress.ip_address(bits)}/{length}")
    return sorted(found)


class Ruled(Instance):
    """With the rules of one case."""

    def __init__(self, tproxy, case, number):
        super().__init__(tproxy, f"decide-{number}")
        self.case = case
        self.path = os.path.join(tproxy.sandbox.directory, f"decide-{number}.rules")
        self.write_rules()
        begin = time.monotonic()
        self.ctl("rules", "load", self.path)
        self.load_seconds = time.monotonic() - begin
        self.sets_bytes = self.size_of_sets()

    def write_rules(self):
        case, text = self.case, ""
        if case.cidrs:
            netset = os.path.join(self.tproxy.sandbox.directory,
                                  f"{case.cidrs}{case.special and '-'}{case.special}.netset")
            listed = set() if case.special == UNLISTED else destinations(self.tproxy.host)
            if not os.path.exists(netset):
                write(netset, "\n".join([*networks(case.cidrs, listed), ""]))
            text = f'set listed file "{netset}"\n'
        for number in range(case.rules):
            text += case.rule(number)
        write(self.path, f"{text}default direct\n")

    def connect4(self):
        """Nanoseconds and runs so far. bpftool prints neither while they are zero."""
        shown = json.loads(command("bpftool", "-j", "prog", "show", "pinned",
                                   os.path.join(self.pins, "prog_connect4")))
        return shown.get("run_time_ns", 0), shown.get("run_cnt", 0)

    def size_of_sets(self):
        shown = json.loads(command("bpftool", "-j", "map", "show", "pinned",
                                   os.path.join(self.pins, "map_sets_active")))
        return shown["bytes_memlock"]

    def hits(self):
        """Of the rule that decides."""
        stats = json.loads(self.ctl("rules", "stats", "--json"))
        return (stats["rules"][-1] if self.case.special == HIT else stats["default"])["hits"]


class Decide(Workload):
    """A turn fails unless the rule that should decide has decided each of its connections."""

    name = "decide"
    title = ("connections that go direct by rules\n  no rule applies; the last one does (hit); the"
             " destination is in no CIDR (unlisted); conditions of\n  all kinds (mixed); each rule"
             " has an exception that holds (unless)\n  connect4 and connect, close: 1,024"
             " destinations in turn; connect4 includes some 20 to 40 ns a run for measuring it")
    metrics = (Metric("connect4_ns", "connect4 ns", 0),
               Metric("connect_us", "connect, close p50 µs"),
               Metric("p50_us", "crr p50 µs"), Metric("load_s", "load of the rules, s", 2),
               Metric("sets_mib", "memory of the sets, MiB", 1))
    headlines = ("connect4_ns", "connect_us", "p50_us", "load_s", "sets_mib")
    baselines = ("0 rules",)

    def __init__(self, contenders):
        super().__init__(contenders)
        self.tproxy = contenders.get("tproxy")
        self.instances = {}

    def variants(self):
        return list(CASES) if self.tproxy else []

    def begin(self):
        command("ip", "-n", self.tproxy.netns, "route", "replace", "local", NETWORK, "dev", "lo")
        for number, (name, case) in enumerate(CASES.items()):
            self.instances[name] = Ruled(self.tproxy, case, number)

    def end(self):
        while self.instances:
            self.instances.popitem()[1].unload()

    def recover(self, variant):
        """The rules stay in force: a turn changes nothing."""

    def measure(self, variant, scale):
        instance = self.instances[variant]
        many = ("--count", scale.connects, "--addresses", ADDRESSES)
        hits = instance.hits()
        with run_time_stats():
            before = instance.connect4()
            self.connect(instance, *many)
            ns, runs = (now - then for now, then in zip(instance.connect4(), before))
        connect = self.connect(instance, *many)
        base = self.instances[self.baselines[0]]
        crr = self.tproxy.run_pair("crr", instance.cgroup, base.cgroup, "--count", 2 * scale.crr)
        connections = crr["connections"] * (2 if instance is base else 1)
        expected = 2 * scale.connects + connections
        if (hits := instance.hits() - hits) != expected:
            raise Failure(f"{hits} of {expected} connections were decided by the rule that should")
        return {"connect4_ns": ns / runs, "connect_us": connect["p50_us"],
                **in_pairs("p50_us", crr), "load_s": instance.load_seconds,
                "sets_mib": instance.sets_bytes / 2**20}

    def connect(self, instance, *options):
        return self.tproxy.run_bench("connect", *options, server=f"{FIRST}:{SINGLE_PORT}",
                                     cgroup=instance.cgroup)
