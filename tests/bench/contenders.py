# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The contenders: what is between client and server. Direct and both tproxies are here, the others
in peers.py.

Each has a network namespace of its own, joined to the server's by a veth pair of its own, so
that NAT and connection tracking of one cost the others nothing. Its relay has a cgroup of its
own, which counts the CPU time of all its processes. Clients differ only in their namespace and
cgroup, and in a wrapper where a contender needs one.
"""

import json
import os
import re
import subprocess

from sandbox import (NAME, SERVER_PORT, SINGLE_PORT, Failure, Process, command, need, unprivileged,
                     wait_until)

IDLE_MAX = 9800  # connections with two descriptors each; a process may be limited to 20,000
CLIENT_SECONDS_MAX = 660
RELAY_PORT = 7001  # of the relays that are not tproxy-relay
HELD = 8  # connections that prove that a relay is in the path
ESTABLISHED = "01"
HONEST = ("--honest-connect",)  # an option of tproxy-relay
RELAY_IDS = 64777  # user and group of each relay, which nothing else on the host has


class Contender:
    """A path from client to server. Without a process of its own it is the direct one."""

    name = "direct"
    minor = False  # takes part in some workloads only, with shorter turns
    honest = False  # takes part in those only that honest connect changes
    wrapper: tuple[str, ...] = ()  # before a client's command
    needs: tuple[tuple[str, str], ...] = ()  # programs and the Debian packages that have them

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.netns = f"{NAME}-{self.name}"
        self.host, self.own_host = sandbox.add_client_netns(self.netns)
        self.relay_cgroup = sandbox.add_cgroup(f"relay-{self.name}")
        self.client_cgroup = "outside"
        self.relay: Process | None = None

    def start(self):
        """Returns when it is ready to serve."""
        need(*self.needs)

    def stop(self):
        """Undoes start(), one that failed too. Does nothing if there was none."""
        relay, self.relay = self.relay, None
        try:
            if relay:
                relay.stop()
        finally:
            self.sandbox.empty_cgroup(self.relay_cgroup)

    def restart(self):
        self.stop()
        self.start()

    def entries(self):
        """The number of its entries for connections, by map."""
        return {}

    def relay_seconds(self):
        """The CPU time of its relay so far."""
        return self.sandbox.cpu_seconds(self.relay_cgroup)

    def start_relay(self, argv, label=None):
        self.relay = self.sandbox.start([*unprivileged(RELAY_IDS, RELAY_IDS), *argv], self.netns,
                                        self.relay_cgroup, label or self.name)
        return self.relay

    def open_client(self, argv, cgroup=None):
        return self.sandbox.start_client([*self.wrapper, *map(str, argv)], self.netns,
                                         cgroup or self.client_cgroup)

    def run_client(self, argv, cgroup=None):
        """Returns a client's output on stdout and on stderr."""
        client = self.open_client(argv, cgroup)
        try:
            output, errors = client.communicate(timeout=CLIENT_SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            client.kill()
            client.communicate()
            raise Failure(f"client: not done after {CLIENT_SECONDS_MAX} s") from error
        if self.relay:
            self.relay.check()
        return output, errors

    def run_bench(self, workload, *options, cgroup=None, server=None):
        """Returns the result of tproxy-bench. Raises Failure with its reason if there is none."""
        return client_result(*self.run_client(self.bench(workload, *options, server=server),
                                              cgroup))

    def run_pair(self, workload, ours, base, *options):
        """The same with sockets of two cgroups by turns. The result has the numbers of the first
        and, as "base", of the other, and the "ratio" of both."""
        cgroups = ",".join(map(self.sandbox.cgroup_path, (ours, base)))
        return self.run_bench(workload, "--cgroups", cgroups, *options, cgroup=ours,
                              server=f"{self.host}:{SINGLE_PORT}")

    def bench(self, workload, *options, server=None):
        return [self.sandbox.bench, workload, server or f"{self.host}:{SERVER_PORT}", *options]

    def hold(self, count, look):
        """Returns the result of look() while @count idle connections are open. Each of them works
        afterwards."""
        client = self.open_client(self.bench("hold", "--count", count, "--seconds", 60))
        try:
            client_result(client.stdout.readline(), "the client has not said why")
            result = look()
            _, errors = client.communicate(timeout=CLIENT_SECONDS_MAX)
            if client.returncode:
                raise Failure(f"client: {errors.strip() or client.returncode}")
            return result
        except subprocess.TimeoutExpired as error:
            raise Failure(f"client: not done after {CLIENT_SECONDS_MAX} s") from error
        finally:
            if client.returncode is None:
                client.kill()
                client.communicate()

    def upstreams(self):
        """The number of connections to the server that its relay has made, which have the relay's
        user."""
        return sum(row[2].endswith(f":{SERVER_PORT:04X}") and row[3] == ESTABLISHED
                   and row[7] == str(RELAY_IDS) for row in self.relay.tcp())

    def prove(self):
        """Verifies that the relay is in the path, because without it a contender would be the
        fastest. Each connection must be one of the relay's own, otherwise the contender is
        excluded."""
        if self.relay:
            self.hold(HELD, lambda: wait_until(lambda: self.upstreams() >= HELD,
                                               "connections go through the relay"))


class Redirected(Contender):
    """Base: tproxy's programs redirect, in cgroups and with pins of its own. start() adds the
    relay."""

    build = ""  # set from the command line

    def __init__(self, sandbox):
        super().__init__(sandbox)
        self.client_cgroup = sandbox.add_cgroup(f"scope-{self.name}")
        self.pins = os.path.join(sandbox.bpffs, self.name.replace("-", "_"))

    def program(self, *path):
        path = os.path.join(self.build, *path)
        if not os.access(path, os.X_OK):
            raise Failure(f"not built: {path}")
        return path

    def load(self):
        # Fail-closed: a connection that is not redirected fails, so it cannot make tproxy look
        # fast.
        command(self.program("loader", "tproxy-load"),
                "--cgroup", self.sandbox.cgroup_path(self.client_cgroup),
                "--relay-cgroup", self.sandbox.cgroup_path(self.relay_cgroup),
                "--relay-group", str(RELAY_IDS), "--pin-dir", self.pins, "--fail-closed")

    def register(self):
        """Makes the relay's listener the target of the redirect."""
        command("nsenter", f"--net=/run/netns/{self.netns}", self.program("loader", "tproxyctl"),
                "register", "-p", self.pins, "--pid", str(self.relay.popen.pid))

    def stop(self):
        try:
            super().stop()
        finally:
            if os.path.isdir(self.pins):
                command(self.program("loader", "tproxy-load"), "--unload", "--pin-dir", self.pins)


class Bare(Redirected):
    """The smallest possible relay (bare.c) behind tproxy's redirect: the bound for all others."""

    name = "bare"

    def start(self):
        super().start()
        self.load()
        self.start_relay([self.program("tests", "bench", "tproxy-bare"), "127.0.0.1",
                          str(RELAY_PORT)])
        wait_until(lambda: self.relay.check() or self.relay.listens_on(RELAY_PORT), "it listens")
        self.register()


class Tproxy(Redirected):
    """tproxy-load and tproxy-relay from the build directory."""

    name = "tproxy"
    needs = (("bpftool", "bpftool"),)
    maps = ("map_socks", "map_ports")

    def __init__(self, sandbox):
        super().__init__(sandbox)
        self.workers = os.cpu_count()
        self.relay_options = ()

    def start(self):
        super().start()
        self.load()
        self.start_relay([self.program("proxy", "tproxy-relay"), "--pin-dir", self.pins,
                          "--workers", str(self.workers), *self.relay_options])
        wait_until(lambda: self.relay.check()
                   or re.search(r"registered pid \d+, listening on", self.relay.log()),
                   "it registers")

    def entries(self):
        dumps = {name: command("bpftool", "-j", "map", "dump", "pinned",
                               os.path.join(self.pins, name)) for name in self.maps}
        return {name: len(json.loads(dump)) for name, dump in dumps.items()}


class TproxyHonest(Tproxy):
    """The same with honest connect: connect() waits until the relay has reached the server."""

    name = "tproxy-honest"
    honest = True

    def __init__(self, sandbox):
        super().__init__(sandbox)
        self.relay_options = HONEST


class Instance:
    """The programs of a build, with pins and a cgroup of their own and without a relay."""

    def __init__(self, tproxy, name, *options, netns=None):
        self.tproxy = tproxy
        self.inside = ("nsenter", f"--net=/run/netns/{netns}") if netns else ()
        self.cgroup = tproxy.sandbox.add_cgroup(name)
        self.pins = os.path.join(tproxy.sandbox.bpffs, name.replace("-", "_"))
        command(*self.inside, tproxy.program("loader", "tproxy-load"), "--pin-dir", self.pins,
                "--cgroup", tproxy.sandbox.cgroup_path(self.cgroup), *options)

    def ctl(self, *argv):
        """The output of tproxyctl."""
        return command(*self.inside, self.tproxy.program("loader", "tproxyctl"), *argv, "-p",
                       self.pins)

    def unload(self):
        command(self.tproxy.program("loader", "tproxy-load"), "--unload", "--pin-dir", self.pins)


def client_result(output, errors):
    """The JSON object that a client printed, if it has numbers."""
    try:
        result = json.loads(output)
    except ValueError as error:
        raise Failure(f"client: {errors.strip() or 'no output'}") from error
    if "reason" in result:
        raise Failure(f"{result['reason']} ({result['failures']} failures, "
                      f"progress {result['progress']})")
    return result
