# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The bed that a test lies in: two network namespaces, cgroups, a bpffs, the programs under test.

    client namespace 198.51.100.1               server namespace 198.51.100.2 and .3
      cgroup scope    clients, redirected         cgroup servers
      cgroup outside  clients, not redirected
      cgroup relays   tproxy-relay

Nobody answers at BLACKHOLE: a SYN to it vanishes. Nobody listens at NOBODY: a SYN to it is refused.
"""

import contextlib
import dataclasses
import shutil
import socket
from functools import partial

import host
import programs
import wire
from maps import Pins, attached

CLIENT = "198.51.100.1"
SERVER = "198.51.100.2"
SERVER2 = "198.51.100.3"
NOBODY = (SERVER, 9)
BLACKHOLE = ("203.0.113.1", 80)


@dataclasses.dataclass(frozen=True)
class Visit:
    """Both ends of a connection that works."""

    client: socket.socket
    server: socket.socket
    relayed: bool


class Bed:
    def __init__(self, name, directory, binaries):
        self.name = name
        self.directory = directory
        self._binaries = binaries
        self._host = None
        self._started = contextlib.ExitStack()
        self.relay = None
        self.relays = []

    # --- set-up and teardown

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.directory.mkdir()
            stack.callback(shutil.rmtree, self.directory)
            self.top = stack.enter_context(
                host.Cgroup(host.cgroup2_root() / self.directory.parent.name / self.name))
            self.scope, self.outside, self.relay_cgroup, self.servers = (
                self.top.child(name) for name in ("scope", "outside", "relays", "servers"))
            bpffs = stack.enter_context(host.bpffs(self.directory / "bpf"))
            self.client_net = stack.enter_context(host.NetNs())
            self.server_net = stack.enter_context(host.NetNs())
            self._connect_namespaces()
            self.pins = Pins(bpffs / "tproxy")
            self.tproxy_load = programs.Loader(self._binaries / programs.LOAD.name, self.pins.path)
            self._bed_load = programs.Loader(self._binaries / "bed" / programs.BED_LOAD.name,
                                             self.pins.path)
            self.client = host.Place(self.scope, self.client_net)
            self.bystander = host.Place(self.outside, self.client_net)
            self.relay_place = host.Place(self.relay_cgroup, self.client_net)
            self.server = host.Place(self.servers, self.server_net)
            self._host = stack.pop_all()
        return self

    def _connect_namespaces(self):
        self.client_net.ip(
            f"link add tproxy0 type veth peer name tproxy0 netns {self.server_net.path}",
            f"addr add {CLIENT}/24 dev tproxy0",
            "link set tproxy0 up",
            f"route add 203.0.113.0/24 via {SERVER}")
        self.server_net.ip(
            f"addr add {SERVER}/24 dev tproxy0",
            f"addr add {SERVER2}/24 dev tproxy0",
            "link set tproxy0 up")

    def __exit__(self, *_):
        """Ends everything, and raises if anything of tproxy is left behind."""
        with self._host:
            with contextlib.ExitStack() as relays:
                for relay in self.relays:
                    relays.push(relay)
                self._started.close()
            self.unload()
            # The background process of `tproxyctl run` ends after the command.
            host.wait_until(lambda: not self.top.pids(), "no process is left")

    def unload(self):
        """Unloads, and asserts that this leaves no pin and no program."""
        self._bed_load.unload(env=programs.NO_LEAK_CHECK)
        assert not self.pins.path.exists(), f"left in the pin directory: {self.pins.names()}"
        for cgroup in (self.scope, self.outside, self.relay_cgroup, self.servers):
            assert not attached(cgroup), f"programs are left on {cgroup}"

    def logs(self):
        """The output of every program so far, by name."""
        return {path.name: path.read_text(errors="replace")
                for path in sorted(self.directory.glob("*.log"))}

    # --- the programs under test

    def _load_options(self, scopes=None, relay_cgroup=True):
        args = [arg for scope in scopes or [self.scope] for arg in ("--cgroup", scope)]
        if relay_cgroup:
            args += ["--relay-cgroup", self.relay_cgroup]
        return [*args, "--relay-group", programs.RELAY_GID]

    def load(self, *options, scopes=None, relay_cgroup=True):
        """Runs tproxy-load for the cgroup of the clients, or for other scopes."""
        return self.tproxy_load(*self._load_options(scopes, relay_cgroup), *options).succeeded()

    def prepare(self):
        """Loads for a test of something else."""
        self._bed_load(*self._load_options(), env=programs.NO_LEAK_CHECK).succeeded()

    def limited_place(self):
        """A place for relays with a memory limit that can be set, and the cgroup of that limit."""
        memory = self._host.enter_context(
            host.MemoryCgroup(f"{self.directory.parent.name}-memory", self.relay_cgroup))
        return host.Place(memory, self.client_net), memory

    def start_relay(self, *options, place=None, **program):
        """Starts a relay and waits until it is registered. It is stopped with the bed."""
        log = self.directory / f"relay{len(self.relays)}.log"
        relay = programs.Relay(self._binaries / programs.RELAY.name, self.pins.path, *options,
                               place=place or self.relay_place, log=log, **program)
        self.relays.append(relay)
        self.relay = relay
        return relay.wait_registered()

    def accept_strangers(self):
        """A relay that is started after this accepts whoever connects to its port, as where the
        kernel refuses the program that chooses its listener."""
        (self.pins.path / "prog_pick").unlink()

    def run_relay(self, *options, place=None, gid=programs.RELAY_GID, env=None):
        """Runs a relay that is expected to fail at once, and returns its Result. Without @gid, user
        and group are those of the place."""
        return programs.call(self._binaries / programs.RELAY.name, "--pin-dir", self.pins.path,
                             *options, place=place or self.relay_place,
                             user=(programs.RELAY_UID, gid) if gid else None, timeout=10,
                             env=env)

    def stats(self):
        """The counters of map_stats."""
        return self.tproxy_load.status()["counters"]

    # --- other programs, tasks and sockets

    def run(self, *argv, place=None, **options):
        """Runs a program to its end among the clients, or at another place."""
        return programs.call(*argv, place=place or self.client, **options)

    def start(self, *argv, place=None):
        """Starts a program among the servers, or at another place. It is stopped with the bed."""
        log = self.directory / f"{argv[0].rpartition('/')[2]}.log"
        program = programs.Program(*argv, place=place or self.server, log=log)
        return self._started.enter_context(program)

    def task(self, function, *args, place=None):
        """Starts a function among the clients, or at another place. It is stopped with the bed."""
        task = host.Task(place or self.client, function, *args)
        self._started.callback(task.stop)
        return task

    def run_in(self, function, *args, place=None, timeout=10.0):
        return host.run_in(place or self.client, function, *args, timeout=timeout)

    def keep(self, sock):
        """Closes a socket with the bed."""
        return self._started.enter_context(sock)

    def listen(self, address=SERVER, port=0, netns=None):
        with (netns or self.server_net).inside():
            return self.keep(wire.listener((address, port)))

    def connect(self, target, place=None, **options):
        """Connects, as one of the clients, to a listener or an address."""
        address = target.getsockname() if isinstance(target, socket.socket) else target
        return self.keep(self.run_in(partial(wire.connect, address, **options), place=place))

    def accept(self, listener):
        """Accepts the next connection and returns it with its peer's address."""
        sock, peer = listener.accept()
        sock.settimeout(wire.TIMEOUT)
        return self.keep(sock), peer

    def visit(self, listener, place=None, **options):
        """Connects, verifies that both directions work, and finds out whether the connection was
        relayed."""
        client = self.connect(listener, place=place, **options)
        server, peer = self.accept(listener)
        wire.exchange(client, server)
        return Visit(client, server, relayed=peer != client.getsockname())

    def pair(self, listener=None, **options):
        """Both ends of a relayed connection that has not carried data."""
        listener = listener or self.listen()
        client = self.connect(listener, **options)
        server, peer = self.accept(listener)
        assert peer != client.getsockname(), "not relayed"
        return client, server

    def echo_server(self, listeners=1):
        """Starts a server that echoes, and returns its addresses."""
        socks = [self.listen() for _ in range(listeners)]
        self.task(wire.serve_echo, *socks, place=self.server)
        return [sock.getsockname() for sock in socks]
