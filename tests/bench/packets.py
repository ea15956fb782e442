# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The workloads packets and drops: what the block list costs, and how many packets a second it
drops beside others.

packets.c makes the packets. Each list has pins and a cgroup of its own, and all are loaded during
the whole workload, so that a turn loads nothing. In drops each filter has a veth pair of its own.
"""

import json
import os

from contenders import Instance
from decide import networks
from sandbox import NAME, SERVER_NETNS, Failure, command, need, wait_until, write
from workload import Metric, Workload, in_pairs

LISTED = "11.0.0.1"
REPEATED, RANDOM = 200_000, 4_096  # runs of a turn
XDP_DROP, SKB_DROP = 1, 0
SIZES = {"empty list": 0, "1k entries": 1_000, "100k entries": 100_000, "1M entries": 1_000_000}
SECONDS = 0.5  # of a turn of drops
SOURCES = [f"11.0.0.{number}" for number in range(256)]  # of tproxy-packets send


def tool(contender, netns, *argv):
    """The JSON object that tproxy-packets prints."""
    return json.loads(command("nsenter", f"--net=/run/netns/{netns}",
                              contender.program("tests", "bench", "tproxy-packets"),
                              *map(str, argv)))


def device_of(netns, address):
    """(name, MAC) of the interface with an address."""
    for link in json.loads(command("ip", "-n", netns, "-j", "address", "show")):
        if any(one.get("local") == address for one in link["addr_info"]):
            return link["ifname"], link["address"]
    raise Failure(f"{netns} has no {address}")


class BlockList(Instance):
    """With a block list."""

    def __init__(self, tproxy, name, entries, *options, netns=None):
        super().__init__(tproxy, name, *options, netns=netns)
        self.entries = entries
        if entries:
            path = os.path.join(tproxy.sandbox.directory, f"{name}.netset")
            write(path, "\n".join([*entries, ""]))
            # No allow entry for the peer of an ssh session: it would be looked up too.
            self.ctl("block", "--apply", path, "--no-safety")

    def run(self, program, kind, source, count):
        """Nanoseconds of a run of a program, and its last verdict if the source is one."""
        result = tool(self.tproxy, self.tproxy.netns, "run", os.path.join(self.pins, program),
                      kind, self.device, source, count)
        return result["ns"], result.get("verdict")

    @property
    def device(self):
        return device_of(self.tproxy.netns, self.tproxy.own_host)[0]


class Packets(Workload):
    """A turn fails unless a listed source is dropped, and with an empty list passes."""

    name = "packets"
    title = ("the block list: a run of xdp and block_in by BPF_PROG_TEST_RUN, rr and bulk-down"
             " direct\n  one: the source is listed, and the same each time; random: any sources,"
             " with cold code, and some 20 to 40 ns for measuring it\n  unloaded: a cgroup without"
             " programs, which each turn of rr and bulk-down has beside its own")
    metrics = (Metric("p50_us", "rr p50 µs"),
               Metric("down_gbit_s", "bulk-down Gbit/s", 2, "higher"),
               Metric("xdp_ns", "xdp, one, ns", 0), Metric("xdp_random_ns", "xdp, random, ns", 0),
               Metric("skb_ns", "block_in, one, ns", 0),
               Metric("skb_random_ns", "block_in, random, ns", 0))
    headlines = ("p50_us", "down_gbit_s", "xdp_ns", "skb_ns")
    baselines = ("unloaded",)
    finely = 2

    def __init__(self, contenders):
        super().__init__(contenders)
        self.tproxy = contenders.get("tproxy")
        self.lists = {}
        self.unloaded = ""

    def variants(self):
        return ["unloaded", *SIZES] if self.tproxy else []

    def begin(self):
        for number, (name, size) in enumerate(SIZES.items()):
            entries = networks(size, {f"{LISTED}/32"}) if size else []
            self.lists[name] = BlockList(self.tproxy, f"packets-{number}", entries)
        self.unloaded = self.tproxy.sandbox.add_cgroup("packets-unloaded")

    def end(self):
        while self.lists:
            self.lists.popitem()[1].unload()

    def recover(self, variant):
        """The lists stay in force: a turn changes nothing."""

    def measure(self, variant, scale):
        block = self.lists.get(variant)
        cgroup = block.cgroup if block else self.unloaded
        talk = self.tproxy.run_pair("rr", cgroup, "outside", "--count", scale.rr)
        bulk = self.tproxy.run_pair("bulk-down", cgroup, "outside", "--seconds",
                                    max(1, scale.bulk_seconds // 2))
        result = {**in_pairs("p50_us", talk), **in_pairs("down_gbit_s", bulk, "gbit_s")}
        if block:
            for key, program, kind in (("xdp", "prog_xdp", "xdp"), ("skb", "prog_block_in", "skb")):
                ns, verdict = block.run(program, kind, LISTED, REPEATED)
                dropped = verdict == (XDP_DROP if kind == "xdp" else SKB_DROP)
                if dropped != bool(block.entries):
                    raise Failure(f"{program} returned {verdict}")
                result[f"{key}_ns"] = ns
                result[f"{key}_random_ns"] = block.run(program, kind, "random", RANDOM)[0]
        return result


class Filter:
    """Base: something at the server's end of a veth pair that drops SOURCES."""

    needs: tuple[tuple[str, str], ...] = ()

    def __init__(self, tproxy, number):
        self.tproxy, self.number = tproxy, number
        self.netns = f"{NAME}-drops{number}"
        host, own_host = tproxy.sandbox.add_client_netns(self.netns)
        self.device, self.mac = device_of(SERVER_NETNS, host)
        self.own_device = device_of(self.netns, own_host)[0]
        need(*self.needs)
        tool(tproxy, SERVER_NETNS, "poll", self.device)
        self.start()

    def start(self):
        """Drops from now on."""

    def stop(self):
        """Undoes start()."""

    def inside(self, *argv):
        return command("nsenter", f"--net=/run/netns/{SERVER_NETNS}", *argv)

    def received(self):
        """Packets that the interface has received, and those that reached the IP layer of the
        namespace."""
        link, = json.loads(command("ip", "-n", SERVER_NETNS, "-s", "-j", "link", "show", "dev",
                                   self.device))
        rows = [line.split() for line in self.inside("cat", "/proc/net/snmp").splitlines()
                if line.startswith("Ip:")]
        return link["stats64"]["rx"]["packets"], int(dict(zip(*rows))["InReceives"])

    def drops(self):
        """False: a filter that drops nothing."""
        return True


class Nothing(Filter):
    """The kernel drops the packets itself, because they are for another host."""

    def drops(self):
        return False


class Tproxy(Filter):
    mode = "native"

    def start(self):
        self.block = BlockList(self.tproxy, f"drops-{self.number}", SOURCES, "--xdp", self.device,
                               "--xdp-mode", self.mode, netns=SERVER_NETNS)

    def stop(self):
        self.block.unload()


class TproxyGeneric(Tproxy):
    mode = "generic"


class Nft(Filter):
    needs = (("nft", "nftables"),)
    table = NAME.replace("-", "_")

    def start(self):
        path = os.path.join(self.tproxy.sandbox.directory, "drops.nft")
        write(path, f"table netdev {self.table} {{\n"
                    f"set listed {{ type ipv4_addr; elements = {{ {', '.join(SOURCES)} }} }}\n"
                    f'chain drops {{ type filter hook ingress device "{self.device}" priority 0;'
                    "\nip saddr @listed drop\n}\n}\n")
        self.inside("nft", "-f", path)

    def stop(self):
        self.inside("nft", "delete", "table", "netdev", self.table)


class XdpFilter(Filter):
    """xdp-filter pins in /sys/fs/bpf, which is one of its own here: a process keeps the mount."""

    needs = (("xdp-filter", "xdp-tools"),)

    def start(self):
        adds = " && ".join(f"xdp-filter ip {source} -m src" for source in SOURCES)
        self.process = self.tproxy.sandbox.start_in_server_netns(
            ["unshare", "--mount", "sh", "-c",
             f"mount -t bpf {NAME} /sys/fs/bpf && xdp-filter load {self.device} -m native -f ipv4"
             f" && {adds} && echo ready && exec sleep infinity"], "xdp-filter")
        wait_until(lambda: self.process.check() or "ready" in self.process.log(),
                   "xdp-filter has its addresses", 60)

    def stop(self):
        """Removes the veth pair, and with it the program."""
        self.process.stop()
        command("ip", "-n", SERVER_NETNS, "link", "delete", self.device, check=False)


FILTERS = {"no filter": Nothing, "tproxy native": Tproxy, "tproxy generic": TproxyGeneric,
           "nft": Nft, "xdp-filter": XdpFilter}


class Drops(Workload):
    """A turn fails if a packet passes the filter."""

    name = "drops"
    title = ("UDP packets of 60 bytes from 256 sources, all of which are listed: one core sends and"
             " drops them\n  no filter: they reach the IP layer, and are for another host")
    metrics = (Metric("mpps", "million packets per second", 2, "higher"),)
    baselines = ("nft", "xdp-filter")

    def __init__(self, contenders):
        super().__init__(contenders)
        self.tproxy = contenders.get("tproxy")
        self.filters, self.reasons = {}, {}

    def variants(self):
        return list(FILTERS) if self.tproxy else []

    def begin(self):
        for number, (name, kind) in enumerate(FILTERS.items()):
            try:
                self.filters[name] = kind(self.tproxy, number)
            except Failure as failure:
                self.reasons[name] = str(failure)

    def end(self):
        while self.filters:
            self.filters.popitem()[1].stop()

    def recover(self, variant):
        """The filters stay."""

    def measure(self, variant, scale):
        if variant in self.reasons:
            raise Failure(self.reasons[variant])
        one = self.filters[variant]
        before = one.received()
        sent = tool(self.tproxy, one.netns, "send", one.own_device, one.mac, SECONDS, SOURCES[0])
        received, passed = (now - then for now, then in zip(one.received(), before))
        if received < sent["sent"] // 2:
            raise Failure(f"{received} of {sent['sent']} packets were received")
        if (passed > 100) == one.drops():
            raise Failure(f"{passed} of {received} packets passed")
        return {"mpps": received / sent["seconds"] / 1e6}
