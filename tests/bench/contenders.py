# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The contenders: what stands between client and server.

Each has a network namespace of its own, joined to the server's by a veth pair of its own: the NAT
and connection tracking of one must not cost the others anything. Clients differ in nothing but the
namespace and the cgroup that they run in.
"""

import json
import os
import pwd
import re

from sandbox import NAME, Failure, Process, command, unprivileged, wait_until

IDLE_MAX = 9800  # connections; two descriptors each, and 20,000 may be all there are
CLIENT_SECONDS_MAX = 660


class Contender:
    """A way from client to server. Without a process of its own it is the direct one."""

    name = "direct"
    client_cgroup = "outside"

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.netns = f"{NAME}-{self.name}"
        self.server = sandbox.add_client_netns(self.netns)
        self.relay: Process | None = None

    def start(self):
        """Ready to serve when it returns."""

    def stop(self):
        """Undoes start(); also what a failed one has done, and nothing if there was none."""

    def restart(self):
        self.stop()
        self.start()

    def entries(self):
        """Entries that it holds for connections, by map."""
        return {}

    def open_client(self, workload, *options, cgroup=None, server=None):
        return self.sandbox.start_client([workload, server or self.server, *options], self.netns,
                                         cgroup or self.client_cgroup)

    def run_client(self, workload, *options, cgroup=None, server=None):
        """What the client has measured. Raises Failure with its reason if it has not."""
        client = self.open_client(workload, *options, cgroup=cgroup, server=server)
        output, errors = client.communicate(timeout=CLIENT_SECONDS_MAX)
        if self.relay:
            self.relay.check()
        return client_result(output, errors)

    def hold(self, count, look):
        """The result of look() while count idle connections are open."""
        client = self.open_client("hold", "--count", count, "--seconds", 60)
        try:
            client_result(client.stdout.readline(), "the client has not said why")
            return look()
        finally:
            client.communicate(timeout=CLIENT_SECONDS_MAX)

    def prove(self):
        """A relay that is not in the way would win: two descriptors for each connection, or out."""
        if not self.relay:
            return
        before = self.relay.descriptors()
        self.hold(8, lambda: wait_until(lambda: self.relay.descriptors() >= before + 16,
                                        "connections go through the relay"))


class Haproxy(Contender):
    """HAProxy in TCP mode behind iptables REDIRECT."""

    name = "haproxy"
    port = 7001

    def __init__(self, sandbox):
        super().__init__(sandbox)
        self.configuration = os.path.join(sandbox.directory, "haproxy.cfg")
        with open(self.configuration, "w", encoding="utf-8") as file:
            file.write(f"""\
global
    maxconn {IDLE_MAX + 100}
    maxpipes 40
    nbthread {os.cpu_count()}
defaults
    mode tcp
    option splice-auto
    timeout connect 10s
    timeout client 10m
    timeout server 10m
listen relay
    bind 127.0.0.1:{self.port}
    server s 0.0.0.0:0
""")

    def start(self):
        try:
            user = pwd.getpwnam("haproxy")
        except KeyError as error:
            raise Failure("not installed: no user haproxy") from error
        port = self.server.split(":")[1]
        command("nsenter", f"--net=/run/netns/{self.netns}", "iptables", "-t", "nat",
                "-A", "OUTPUT", "-p", "tcp", "--dport", port,
                "-m", "owner", "!", "--uid-owner", str(user.pw_uid),
                "-j", "REDIRECT", "--to-ports", str(self.port))
        self.relay = self.sandbox.start(
            [*unprivileged(user.pw_uid, user.pw_gid), "haproxy", "-db", "-f", self.configuration],
            self.netns, "outside", self.name)
        wait_until(lambda: self.relay.check() or self.relay.listens_on(self.port), "it listens")

    def stop(self):
        command("nsenter", f"--net=/run/netns/{self.netns}", "iptables", "-t", "nat", "-F",
                check=False)
        if self.relay:
            self.relay.stop()
            self.relay = None


class Tproxy(Contender):
    """tproxy-load and tproxy-relay from the build directory."""

    name = "tproxy"
    client_cgroup = "scope"
    build = None  # set from the command line
    ids = 64777  # user and group of the relay: any that nothing else on the host has
    maps = ("map_socks", "map_ports")

    def __init__(self, sandbox):
        super().__init__(sandbox)
        self.pins = os.path.join(sandbox.bpffs, "tproxy")
        self.loader = os.path.join(self.build, "loader", "tproxy-load")
        self.program = os.path.join(self.build, "proxy", "tproxy-relay")

    def start(self):
        for path in (self.loader, self.program):
            if not os.access(path, os.X_OK):
                raise Failure(f"not built: {path}")
        # Fail-closed: a connection that is not redirected fails, so it cannot make us look fast.
        command(self.loader, "--cgroup", self.sandbox.cgroup_path("scope"),
                "--relay-cgroup", self.sandbox.cgroup_path("relay"),
                "--relay-group", str(self.ids), "--pin-dir", self.pins, "--fail-closed")
        self.relay = self.sandbox.start(
            [*unprivileged(self.ids, self.ids), self.program, "--pin-dir", self.pins,
             "--workers", str(os.cpu_count())],
            self.netns, "relay", self.name)
        wait_until(lambda: self.relay.check()
                   or re.search(r"registered pid \d+, listening on", self.relay.log()),
                   "it registers")

    def stop(self):
        try:
            if self.relay:
                self.relay.stop()
        finally:
            self.relay = None
            if os.access(self.loader, os.X_OK):
                command(self.loader, "--unload", "--pin-dir", self.pins)

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


CONTENDERS = {kind.name: kind for kind in (Contender, Tproxy, Haproxy)}
