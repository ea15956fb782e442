# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The contenders: what stands between client and server. Here direct and ours, others in peers.py.

Each has a network namespace of its own, joined to the server's by a veth pair of its own: the NAT
and connection tracking of one must not cost the others anything. Its relay has a cgroup of its own,
which counts the CPU time of all its processes. Clients differ in nothing but the namespace and the
cgroup that they run in, and a wrapper where that is the way through.
"""

import json
import os
import re
import subprocess

from sandbox import NAME, SERVER_PORT, Failure, Process, command, need, unprivileged, wait_until

IDLE_MAX = 9800  # connections; two descriptors each, and 20,000 may be all there are
CLIENT_SECONDS_MAX = 660
RELAY_PORT = 7001  # of the relays that are not ours
HELD = 8  # connections that prove that a relay is in the way
ESTABLISHED = "01"
RELAY_IDS = 64777  # user and group of each relay: any that nothing else on the host has


class Contender:
    """A way from client to server. Without a process of its own it is the direct one."""

    name = "direct"
    minor = False  # takes part in some workloads only, with shorter turns
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
        """Ready to serve when it returns."""
        need(*self.needs)

    def stop(self):
        """Undoes start(); also what a failed one has done, and nothing if there was none."""
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
        """Entries that it holds for connections, by map."""
        return {}

    def relay_seconds(self):
        """CPU time of its relay so far."""
        return self.sandbox.cpu_seconds(self.relay_cgroup)

    def start_relay(self, argv, label=None):
        self.relay = self.sandbox.start([*unprivileged(RELAY_IDS, RELAY_IDS), *argv], self.netns,
                                        self.relay_cgroup, label or self.name)
        return self.relay

    def open_client(self, argv, cgroup=None):
        return self.sandbox.start_client([*self.wrapper, *map(str, argv)], self.netns,
                                         cgroup or self.client_cgroup)

    def run_client(self, argv, cgroup=None):
        """What a client has written to stdout, and to stderr."""
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
        """What tproxy-bench has measured. Raises Failure with its reason if it has not."""
        return client_result(*self.run_client(self.bench(workload, *options, server=server),
                                              cgroup))

    def bench(self, workload, *options, server=None):
        return [self.sandbox.bench, workload, server or f"{self.host}:{SERVER_PORT}", *options]

    def hold(self, count, look):
        """The result of look() while count idle connections are open, each of which works
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
        """How many connections to the server are its relay's: the user tells them from clients'."""
        return sum(row[2].endswith(f":{SERVER_PORT:04X}") and row[3] == ESTABLISHED
                   and row[7] == str(RELAY_IDS) for row in self.relay.tcp())

    def prove(self):
        """A relay that is not in the way would win: each connection is one of its own, or out."""
        if self.relay:
            self.hold(HELD, lambda: wait_until(lambda: self.upstreams() >= HELD,
                                               "connections go through the relay"))


class Redirected(Contender):
    """Base: our programs redirect, in cgroups and with pins of its own; start() has the relay."""

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
        # Fail-closed: a connection that is not redirected fails, so it cannot make us look fast.
        command(self.program("loader", "tproxy-load"),
                "--cgroup", self.sandbox.cgroup_path(self.client_cgroup),
                "--relay-cgroup", self.sandbox.cgroup_path(self.relay_cgroup),
                "--relay-group", str(RELAY_IDS), "--pin-dir", self.pins, "--fail-closed")

    def register(self):
        """Makes the relay's listener the one that we redirect to."""
        command("nsenter", f"--net=/run/netns/{self.netns}", self.program("loader", "tproxyctl"),
                "register", "-p", self.pins, "--pid", str(self.relay.popen.pid))

    def stop(self):
        try:
            super().stop()
        finally:
            if os.path.isdir(self.pins):
                command(self.program("loader", "tproxy-load"), "--unload", "--pin-dir", self.pins)


class Bare(Redirected):
    """The least that a relay can be (bare.c), behind our redirect: the limit for all others."""

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

    def start(self):
        super().start()
        self.load()
        self.start_relay([self.program("proxy", "tproxy-relay"), "--pin-dir", self.pins,
                          "--workers", str(self.workers)])
        wait_until(lambda: self.relay.check()
                   or re.search(r"registered pid \d+, listening on", self.relay.log()),
                   "it registers")

    def entries(self):
        dumps = {name: command("bpftool", "-j", "map", "dump", "pinned",
                               os.path.join(self.pins, name)) for name in self.maps}
        return {name: len(json.loads(dump)) for name, dump in dumps.items()}


def client_result(output, errors):
    """The JSON object of a client, if it has numbers in it."""
    try:
        result = json.loads(output)
    except ValueError as error:
        raise Failure(f"client: {errors.strip() or 'no output'}") from error
    if "reason" in result:
        raise Failure(f"{result['reason']} ({result['failures']} failures, "
                      f"progress {result['progress']})")
    return result
