# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The bed for honest connect: a redirected connect() ends when the relay has reached the
destination or has failed to.

    Gate    an address that the relay cannot reach until the test opens the gate: nobody answers ARP
            or neighbour solicitations for the router to it, and the kernel keeps the SYN meanwhile.
    Slow    addresses behind a TUN device, where each SYN is delayed.
    Slots   what map_pending and map_verdicts say.

A test makes the sockets of its clients with Bed.sockets(): programs decide by the cgroup in which a
socket was made, so the test itself can call connect() on them, and act while they are pending.
"""

import contextlib
import errno
import fcntl
import heapq
import itertools
import mmap
import os
import random
import select
import socket
import struct
import subprocess
import time
from pathlib import Path

import host
import host6
import wire
from harness import CLIENT, Bed
from host6 import CLIENT6, SERVER6, plain

KINDS = ["inet", "inet6", "mapped"]
CLOSED = 9  # nobody listens at this port
SERVER_MAC = "02:74:70:00:00:02"

SLOTS = 65536
STALE_NS = 5 * 10**9  # TPROXY_STALE_NS
# enum tproxy_pending_state
FREE, CLAIMED, WAITS, NOTIFIED, JOINING, ACCEPT, ESTABLISHED, ENDED = range(8)
NONE, FAILED, TIMED_OUT, ACCEPT_IT, TAKEN = range(5)  # enum tproxy_answer

SLOW_NET, SLOW_NET6 = "203.0.113.64", "2001:db8:0:ff::64"
_IFF_TUN, _IFF_NO_PI, _TUNSETIFF = 1, 0x1000, 0x400454CA


class Slots:
    """The slots of pending connections, mapped as a relay maps them."""

    def __init__(self, pins):
        with pins.open("map_pending") as pending, pins.open("map_verdicts") as verdicts:
            assert pending.max_entries == verdicts.max_entries == SLOTS
            self._size = pending.value_size
            self._pending = self._map(pending.fd, pending.value_size)
            self._verdicts = self._map(verdicts.fd, verdicts.value_size)

    @staticmethod
    def _map(fd, value_size):
        return mmap.mmap(fd, value_size * SLOTS, mmap.MAP_SHARED, mmap.PROT_READ)

    def used(self):
        """(state, answer) of each slot that is not free, with the ring of its relay."""
        return [self._slot(index, word) for index, word in self._not_free()]

    def held(self):
        """The slots that nobody may claim, as slot_is_free() in bpf/slot.bpf.h."""
        held = []
        for index, word in self._not_free():
            state, answer, ring = self._slot(index, word)
            since_ns, = struct.unpack_from("=Q", self._pending, index * self._size + 24)
            ended = state == ENDED and time.monotonic_ns() > since_ns + STALE_NS
            if not ended and (answer != TAKEN or state not in (ESTABLISHED, ENDED)):
                held.append((state, answer, ring))
        return held

    def _not_free(self):
        words = memoryview(self._pending).cast("Q")[::self._size // 8].tolist()
        return [(index, word) for index, word in enumerate(words) if word & 0xff != FREE]

    def _slot(self, index, word):
        answer, = struct.unpack_from("=Q", self._verdicts, index * 8)
        ring, = struct.unpack_from("=I", self._pending, index * self._size + 20)
        return word & 0xff, answer & 0xff if answer >> 8 == word >> 8 else NONE, ring

    def dialling(self):
        """How many connections wait for an answer of the relay."""
        return sum(state == NOTIFIED and answer == NONE for state, answer, _ in self.used())

    def wait_dialling(self, count):
        host.wait_until(lambda: self.dialling() == count, f"{count} are pending", 10)


class Owners:
    """Who has the rings, as relays note it: (owner, CLOCK_MONOTONIC of its last heartbeat)."""

    def __init__(self, pins):
        self._pins = pins

    def all(self):
        with self._pins.open("map_ring_owners") as owners:
            return [struct.unpack_from("=QQ", owners.lookup(struct.pack("=I", ring)))
                    for ring in range(owners.max_entries)]

    def keep_alive(self, seconds):
        """Puts the last heartbeat of each ring that has an owner this far into the future."""
        for ring, (owner, _) in enumerate(self.all()):
            if owner:
                self.give(owner, seconds, [ring])

    def give(self, owner, seconds, rings=range(32)):
        """Gives rings to a relay whose last heartbeat is this far in the future."""
        alive_ns = time.monotonic_ns() + seconds * 10**9
        with self._pins.open("map_ring_owners") as owners:
            for ring in rings:
                owners.update(struct.pack("=I", ring), struct.pack("=QQQ", owner, alive_ns, 0))


class Gate:
    """A destination that answers once the gate is open. @kind is one of KINDS."""

    def __init__(self, bed, number, kind):
        self._bed, self._kind = bed, kind
        self.family = socket.AF_INET if kind == "inet" else socket.AF_INET6
        if kind == "inet6":
            self.ip, bits = f"2001:db8:0:{number:x}::1", 128
            self._router = f"{SERVER6.rpartition(':')[0]}:{0x100 + number:x}"
        else:
            self.ip, bits = f"203.0.113.{128 + number}", 32
            self._router = f"198.51.100.{100 + number}"
        bed.server_net.ip(f"addr add {self.ip}/{bits} dev lo" + " nodad" * (bits == 128))
        bed.client_net.ip(f"route add {self.ip}/{bits} via {self._router}")

    def address(self, port=CLOSED):
        """The address by which a client reaches this port."""
        return (f"::ffff:{self.ip}" if self._kind == "mapped" else self.ip), port

    def listen(self, port=0):
        listen = host6.listen if self._kind == "inet6" else Bed.listen
        listener = listen(self._bed, self.ip, port)
        return listener, self.address(listener.getsockname()[1])

    def open(self):
        """The packets that wait are sent at once."""
        self._bed.client_net.ip(
            f"neigh replace {self._router} lladdr {SERVER_MAC} dev tproxy0 nud permanent")

    def dials(self, port):
        """How many sockets of the relay's namespace try to reach this port. IPv4 only."""
        with self._bed.client_net.inside():
            return wire.tcp_states((self.ip, port)).count(wire.SYN_SENT)


@host.needs_no_process
def _make(count, family, protocol):
    socks = [socket.socket(family, socket.SOCK_STREAM, protocol) for _ in range(count)]
    for sock in socks:
        sock.setblocking(False)
    return socks


def family_of(address):
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


@host.needs_no_process
def errno_of(address):
    """The errno of a blocking connect()."""
    with socket.socket(family_of(address)) as sock:
        sock.settimeout(None)
        return sock.connect_ex(address)


def error_of(sock):
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def outcomes(socks, timeout=wire.TIMEOUT):
    """Waits for the end of each connect(). Returns the errors, in the order of @socks, which wait
    for bytes from then on."""
    left = {sock.fileno(): sock for sock in socks}
    errors, end = {}, time.monotonic() + timeout * host.patience
    with select.epoll() as poll:
        for fd in left:
            poll.register(fd, select.EPOLLOUT)
        while left:
            assert time.monotonic() < end, f"{len(left)} of {len(socks)} are pending"
            for fd, _ in poll.poll(1):
                poll.unregister(fd)
                sock = left.pop(fd)
                errors[fd] = error_of(sock)
                sock.settimeout(wire.TIMEOUT)
    return [errors[sock.fileno()] for sock in socks]


class HonestBed(Bed):
    """A bed with both families, gates and the slots."""

    def __enter__(self):
        super().__enter__()
        self.server_net.ip(f"link set tproxy0 address {SERVER_MAC}")
        host6.give_addresses(self)
        # A dial waits at a gate for as long as its client does, and as many as there are.
        for family in ("ipv4", "ipv6"):
            self.client_net.sysctl(f"{family}/neigh/tproxy0/mcast_solicit", 100)
            self.client_net.sysctl(f"{family}/neigh/tproxy0/unres_qlen_bytes", 1 << 26)
        self._numbers = itertools.count(1)
        self.slots, self.owners = None, Owners(self.pins)
        return self

    def load(self, *options, **scopes):
        result = super().load(*options, **scopes)
        self.slots = Slots(self.pins)
        return result

    def start_honest(self, *options, **program):
        return self.start_relay("--honest-connect", *options, **program)

    @contextlib.contextmanager
    def case(self):
        """What is kept in the block ends with it, and then nothing may be left."""
        outer, self._started = self._started, contextlib.ExitStack()
        try:
            with self._started:
                yield
        finally:
            self._started = outer
        self.wait_rest()

    def wait_rest(self):
        def left():
            return self.pins.dump("map_socks"), self.pins.dump("map_ports"), self.slots.held()

        try:
            host.wait_until(lambda: left() == ([], [], []), "nothing is left", 10)
        except AssertionError as error:
            raise AssertionError(f"{error}: {left()}") from None

    def gate(self, kind="inet"):
        return Gate(self, next(self._numbers), kind)

    def sockets(self, count=1, family=socket.AF_INET, protocol=0, place=None):
        """Non-blocking sockets of a client, or of a program at another place."""
        made = []
        while len(made) < count:
            made += self.run_in(_make, min(count - len(made), 200), family, protocol, place=place)
        return [self.keep(sock) for sock in made]

    def reach(self, listener, address=None, sock=None):
        """Connects a socket, verifies that it is relayed and that both directions work. Returns
        both ends."""
        address = address or listener.getsockname()[:2]
        sock = sock or self.sockets(family=family_of(address))[0]
        sock.settimeout(wire.TIMEOUT)
        sock.connect(address)
        server, peer = self.accept(listener)
        assert plain(peer) != plain(sock.getsockname()), "not relayed"
        # MPTCP shows the relay, also without honest connect.
        assert sock.proto == socket.IPPROTO_MPTCP or sock.getpeername()[:2] == address
        wire.exchange(sock, server)
        return sock, server

    def exchange_all(self, socks, listener):
        """Verifies that each socket is connected to another one that the listener accepts. Closes
        all."""
        ends = [self.accept(listener)[0] for _ in socks]
        for number, sock in enumerate(socks):
            sock.sendall(b"%04d" % number)
        for end in ends:
            end.sendall(wire.read_exactly(end, 4)[::-1])
        for number, sock in enumerate(socks):
            assert wire.read_exactly(sock, 4)[::-1] == b"%04d" % number
        for sock in (*socks, *ends):
            sock.close()

    def is_honest(self, address, sock=None):
        """Whether connect() to this closed port is refused, and not accepted and reset."""
        sock = sock or self.sockets(family=family_of(address))[0]
        sock.settimeout(wire.TIMEOUT)
        error = sock.connect_ex(address)
        if error == 0:
            assert wire.ended_by(sock) == wire.RESET
        # The reset may come so soon that connect() fails.
        assert error in (0, errno.ECONNRESET, errno.ECONNREFUSED)
        return error == errno.ECONNREFUSED

    @contextlib.contextmanager
    def setting(self, name, value, netns=None):
        """A sysctl below net for as long as the block. Older kernels may lack it."""
        netns = netns or self.client_net
        with netns.inside():
            path = Path("/proc/sys/net", name)
            before = path.read_text() if path.exists() else None
        if before is not None:
            netns.sysctl(name, value)
        try:
            yield
        finally:
            if before is not None:
                netns.sysctl(name, before)

    def nsenter(self, *argv):
        """Runs a program of the host in the clients' namespace."""
        return subprocess.run(["nsenter", f"--net={self.client_net.path}", *map(str, argv)],
                              check=True, capture_output=True, text=True).stdout

    # --- servers that are far away

    def slow_net(self, least, most):
        """Each SYN to SLOW_NET and SLOW_NET6 takes so many seconds, at random."""
        for name in ("all", "tproxy0"):
            self.client_net.sysctl(f"ipv4/conf/{name}/rp_filter", 0)
        with self.client_net.inside():
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(tun, _TUNSETIFF, struct.pack("=16sH22x", b"tproxy1", _IFF_TUN | _IFF_NO_PI))
        self._started.callback(os.close, tun)
        self.client_net.ip("link set tproxy1 up",
                           f"route add {SLOW_NET}/32 dev tproxy1 src {CLIENT}",
                           f"route add {SLOW_NET6}/128 dev tproxy1 src {CLIENT6}")
        self.server_net.ip(f"addr add {SLOW_NET}/32 dev lo",
                           f"addr add {SLOW_NET6}/128 dev lo nodad")
        self.task(_delay, tun, least, most, place=self.server)

    def slow_echo(self):
        """Starts a server that echoes, at SLOW_NET, and returns its address."""
        self.slow_net(0.05, 0.3)
        listener = self.listen(SLOW_NET)
        self.task(wire.serve_echo, listener, place=self.server)
        return listener.getsockname()


def _tcp_header(packet):
    """Its offset, or None in packets that are not TCP."""
    if packet[0] >> 4 == 4:
        return (packet[0] & 0xf) * 4 if packet[9] == socket.IPPROTO_TCP else None
    return 40 if packet[6] == socket.IPPROTO_TCP else None


def _is_syn(packet):
    return packet[_tcp_header(packet) + 13] & 0x12 == 0x02


def _send(packet, out, out6):
    """Sends a packet with its header."""
    if packet[0] >> 4 == 4:
        out.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
    else:
        out6.sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0))


def _delay(tun, least, most):
    """Moves the packets of a TUN device to this namespace, SYNs with a delay. Answers go back
    without it, by the other device."""
    socks = [socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
             for family in (socket.AF_INET, socket.AF_INET6)]
    waiting, number = [], itertools.count()
    while True:
        pause = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
        if select.select([tun], [], [], pause)[0]:
            packet = os.read(tun, 1 << 16)
            if _tcp_header(packet) is not None:
                delay = random.uniform(least, most) if _is_syn(packet) else 0
                heapq.heappush(waiting, (time.monotonic() + delay, next(number), packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _send(heapq.heappop(waiting)[2], *socks)
