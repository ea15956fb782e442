# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What programs do with sockets besides connect() to a server, in both families.

test_redirect.py has the first half of these tests for IPv4.
"""

import contextlib
import errno
import select
import socket
import struct

import pytest

import host
import host6
import wire
from harness import CLIENT, SERVER, SERVER2
from host6 import CLIENT6, SERVER6, SERVER6_2, plain
from programs import SANITIZED

FAIL_OPEN = pytest.param([], id="fail-open")
FAIL_CLOSED = pytest.param(["--fail-closed"], id="fail-closed")

TCP_FASTOPEN_CONNECT = 30
IP_BIND_ADDRESS_NO_PORT = 24
# tcp_fastopen in ip-sysctl.rst: client, server, both without a cookie, every listener.
FAST_OPEN_EVERYWHERE = 0x1 | 0x2 | 0x4 | 0x200 | 0x400

CLIENT_2 = "198.51.100.4"
CLIENT6_2 = "fd00:7470:0:1:a:b:c:4"

KINDS = ["inet", "inet6", "mapped"]


@pytest.fixture
def bed(bed):
    host6.give_addresses(bed)
    return bed


class Kind:
    """Sockets of one family, and a listener that they reach. "mapped" is IPv4 by an IPv6 socket."""

    def __init__(self, bed, name):
        self._bed = bed
        self._name = name
        self.family = socket.AF_INET if name == "inet" else socket.AF_INET6

    def listen(self, number=0, port=0, netns=None):
        """Listens at the first or second address of the server. Returns the listener and the
        address that reaches it."""
        if self._name == "inet6":
            sock = host6.listen(self._bed, (SERVER6, SERVER6_2)[number], port, netns)
            return sock, sock.getsockname()[:2]
        sock = self._bed.listen((SERVER, SERVER2)[number], port, netns)
        if self._name == "mapped":
            return sock, host6.mapped(sock.getsockname())
        return sock, sock.getsockname()

    def source(self, port=0):
        return {"inet": (CLIENT, port), "inet6": (CLIENT6, port),
                "mapped": (f"::ffff:{CLIENT}", port)}[self._name]

    def accept_relayed(self, listener, client):
        """The server's end of a connection, which works and is relayed."""
        server, peer = self._bed.accept(listener)
        assert plain(peer) != plain(client.getsockname()), "not relayed"
        wire.exchange(client, server)
        return server


@pytest.fixture(params=KINDS)
def kind(request, proxied):
    return Kind(proxied, request.param)


def rest(bed, *socks):
    """Closes these, after which nothing is left."""
    for sock in socks:
        sock.close()
    host.wait_until(bed.pins.at_rest, "nothing is left")


# --- connect(), and connect() again


def nonblocking(family, address):
    """The errno of each connect() on one socket, until well after it is connected."""
    with socket.socket(family) as sock:
        sock.setblocking(False)
        first = sock.connect_ex(address)
        select.select([], [sock], [], wire.TIMEOUT)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return [first, error, sock.connect_ex(address), sock.connect_ex(address),
                sock.getpeername()]


def test_nonblocking_connect(proxied, kind):
    """As without tproxy, each time. To see it fail: redirect a socket that is being connected."""
    _, address = kind.listen()
    direct = proxied.run_in(nonblocking, kind.family, address, place=proxied.bystander)
    assert direct[0] == errno.EINPROGRESS
    assert proxied.run_in(nonblocking, kind.family, address) == direct
    assert proxied.stats()["redirected"] == 1
    rest(proxied)


def test_connect_again_on_a_connected_socket(proxied, kind):
    """EISCONN. The first destination and its record stay."""
    (first, to_first), (_, to_second) = kind.listen(), kind.listen(1)

    def connect():
        sock = socket.socket(kind.family)
        sock.connect(to_first)
        return sock, sock.connect_ex(to_second)

    client, code = proxied.run_in(connect)
    proxied.keep(client).settimeout(wire.TIMEOUT)
    assert code == errno.EISCONN and client.getpeername()[:2] == to_first
    rest(proxied, kind.accept_relayed(first, client), client)


def test_reconnect_after_unspec(proxied, kind):
    """AF_UNSPEC disconnects, and the next connect() has a new destination. To see it fail: keep the
    first record of a socket."""
    (_, to_first), (second, to_second) = kind.listen(), kind.listen(1)

    def connect():
        sock = socket.socket(kind.family)
        sock.settimeout(wire.TIMEOUT)
        for address in (to_first, to_first):
            sock.connect(address)
            wire.disconnect(sock)
        with pytest.raises(OSError) as error:
            sock.getpeername()
        assert error.value.errno == errno.ENOTCONN
        sock.connect(to_second)
        return sock

    client = proxied.keep(proxied.run_in(connect))
    assert client.getpeername()[:2] == to_second
    rest(proxied, kind.accept_relayed(second, client), client)
    assert proxied.stats()["redirected"] == 3


def test_direct_after_a_redirect(proxied, kind):
    """I5: a socket that was redirected connects again when the relay has been killed. The record of
    its first connection names a listener that is closed. To see it fail: let client_established()
    ignore client->published."""
    listener, address = kind.listen()

    def connect():
        sock = socket.socket(kind.family)
        sock.settimeout(wire.TIMEOUT)
        sock.connect(address)
        return sock

    client = proxied.keep(proxied.run_in(connect))
    kind.accept_relayed(listener, client)
    wire.disconnect(client)
    proxied.relay.kill()
    client.connect(address)
    server, peer = proxied.accept(listener)
    wire.exchange(client, server)
    assert plain(peer) == plain(client.getsockname())
    assert proxied.stats()["aborted"] == 0


def test_one_socket_in_both_families(proxied):
    """An IPv6 socket connects to an IPv6 server, then to an IPv4 one. (The kernel turns it into an
    IPv4 socket for good.)"""
    v6, v4 = host6.listen(proxied), proxied.listen()
    to = [v6.getsockname()[:2], host6.mapped(v4.getsockname())]

    def connect():
        peers = []
        with socket.socket(socket.AF_INET6) as sock:
            sock.settimeout(wire.TIMEOUT)
            for address in to:
                sock.connect(address)
                peers.append(sock.getpeername()[:2])
                wire.disconnect(sock)
        return peers

    direct = proxied.run_in(connect, place=proxied.bystander)
    assert proxied.run_in(connect) == direct == to
    assert proxied.stats()["redirected"] == 2
    rest(proxied)


def connect_after_a_failure(first, second, reset):
    """Binds two sockets to one address and connects both to @first: the kernel refuses the second
    one. Returns that one, connected to @second. @reset: closes the other one before."""
    socks = [socket.socket() for _ in range(2)]
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((CLIENT, 23456))
    codes = [sock.connect_ex(first.getsockname()) for sock in socks]
    if reset:
        wire.reset(socks[0])
    codes.append(socks[1].connect_ex(second.getsockname()))
    assert codes == [0, errno.EADDRNOTAVAIL, 0]
    return socks[1]


def test_connect_again_after_a_failure(loaded):
    """The kernel refuses the first connect() (its address is in use), and the second one works."""
    loaded.start_relay("--workers", 1, "--listeners", 1)
    proxied = loaded
    listener, other = proxied.listen(), proxied.listen(SERVER2)
    client = proxied.run_in(connect_after_a_failure, listener, other, True)
    proxied.keep(client).settimeout(wire.TIMEOUT)
    server = Kind(proxied, "inet").accept_relayed(other, client)
    assert client.getpeername() == other.getsockname()
    rest(proxied, server, client)


def test_connect_to_loopback_after_a_failure(bed):
    """The kernel refuses the first connect(), which was redirected (its address is in use). The
    second one is not redirected: the first one's record does not apply to it. Fails if
    connect_run() does not call client_forget()."""
    bed.load("--fail-closed")
    bed.start_relay("--workers", 1, "--listeners", 1)
    listener, local = bed.listen(), bed.listen("127.0.0.1", netns=bed.client_net)
    client = bed.run_in(connect_after_a_failure, listener, local, False)
    bed.keep(client).settimeout(wire.TIMEOUT)
    server, peer = bed.accept(local)
    assert peer == client.getsockname() and client.getpeername() == local.getsockname()
    wire.exchange(client, server)
    assert bed.stats()["aborted"] == 0
    rest(bed, server, client)


# --- bound before


def test_bound_to_an_address(proxied, kind):
    listener, address = kind.listen()
    client = proxied.keep(proxied.run_in(connect_from, kind.family, address, kind.source()))
    assert client.getsockname()[:2] == (kind.source()[0], client.getsockname()[1])
    kind.accept_relayed(listener, client)


def connect_from(family, address, source, *options):
    sock = socket.socket(family)
    sock.settimeout(wire.TIMEOUT)
    for option in options:
        sock.setsockopt(*option)
    sock.bind(source)
    sock.connect(address)
    return sock


def test_bound_to_an_address_and_a_port(proxied, kind):
    listener, address = kind.listen()
    source = kind.source(23456)
    client = proxied.keep(proxied.run_in(connect_from, kind.family, address, source))
    assert client.getsockname()[:2] == source
    kind.accept_relayed(listener, client)
    (entry,) = proxied.pins.dump("map_ports")
    assert entry["key"]["src"]["port"] == 23456


def test_bound_to_an_address_without_a_port(proxied):
    """IP_BIND_ADDRESS_NO_PORT: connect() chooses the port, after its hook."""
    listener = proxied.listen()
    client = proxied.keep(proxied.run_in(
        connect_from, socket.AF_INET, listener.getsockname(), (CLIENT, 0),
        (socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)))
    Kind(proxied, "inet").accept_relayed(listener, client)


@pytest.mark.parametrize("policy", [FAIL_OPEN, FAIL_CLOSED])
def test_bound_to_a_device(bed, policy):
    """It could not reach the relay, or nothing but the relay: never redirected, and counted. To see
    it fail: ignore bound_dev_if."""
    bed.load(*policy)
    bed.start_relay("--listen", "0.0.0.0:0", "--listen", "[::]:0")
    kinds = [Kind(bed, name) for name in KINDS]
    ways = [(kind.family, kind.listen()[1], device) for kind in kinds
            for device in (b"tproxy0", b"lo")]

    def outcomes():
        codes = []
        for family, address, device in ways:
            with socket.socket(family) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
                sock.settimeout(0.1 if device == b"lo" else wire.TIMEOUT)
                codes.append(sock.connect_ex(address))
        return codes

    direct = bed.run_in(outcomes, place=bed.bystander)
    assert direct[::2] == [0] * len(kinds)
    assert bed.run_in(outcomes) == ([errno.ECONNREFUSED] * len(ways) if policy else direct)
    stats = bed.stats()
    assert stats["bound_device"] == len(ways) and stats["redirected"] == 0


def test_source_ports_reused_at_once_from_two_addresses(proxied):
    """The same ports at two addresses of each family, at the same time: every connection gets its
    own destination. To see it fail: leave the source address out of the tuple."""
    proxied.client_net.ip(f"addr add {CLIENT_2}/24 dev tproxy0",
                          f"addr add {CLIENT6_2}/64 dev tproxy0 nodad")
    ways = []
    for name, sources in (("inet", (CLIENT, CLIENT_2)), ("inet6", (CLIENT6, CLIENT6_2))):
        kind = Kind(proxied, name)
        for number, source in enumerate(sources):
            ways.append((kind, *kind.listen(number), source))

    def connect_all():
        return [connect_from(kind.family, address, (source, port),
                             (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
                for port in range(23400, 23430) for kind, _, address, source in ways]

    clients = [proxied.keep(client) for client in proxied.run_in(connect_all)]
    assert proxied.pins.count("map_ports") == len(clients)
    for number, client in enumerate(clients):
        client.sendall(struct.pack("=I", number))
    for index, (_, listener, _, _) in enumerate(ways):
        numbers = []
        for _ in range(30):
            numbers += struct.unpack("=I", wire.read_exactly(proxied.accept(listener)[0], 4))
        assert sorted(numbers) == list(range(index, len(clients), len(ways)))
    rest(proxied, *clients)


# --- TCP Fast Open, MPTCP


@pytest.mark.parametrize("everywhere", [False, True], ids=["default", "everywhere"])
@pytest.mark.parametrize("how", ["MSG_FASTOPEN", "TCP_FASTOPEN_CONNECT"])
def test_fast_open(proxied, kind, how, everywhere):
    """Data with the SYN where the host allows it: the relay then accepts before the handshake has
    completed. To see it fail: publish at ACTIVE_ESTABLISHED in place of TCP_CONNECT."""
    if everywhere:
        proxied.client_net.sysctl("ipv4/tcp_fastopen", FAST_OPEN_EVERYWHERE)
    listener, address = kind.listen()

    def send():
        sock = socket.socket(kind.family)
        if how == "MSG_FASTOPEN":
            sock.sendto(b"early", socket.MSG_FASTOPEN, address)
        else:
            sock.setsockopt(socket.SOL_TCP, TCP_FASTOPEN_CONNECT, 1)
            sock.connect(address)
            sock.sendall(b"early")
        sock.settimeout(wire.TIMEOUT)
        return sock

    client = proxied.keep(proxied.run_in(send))
    server, peer = proxied.accept(listener)
    assert wire.read_exactly(server, 5) == b"early"
    wire.exchange(client, server)
    assert plain(peer) != plain(client.getsockname()) and client.getpeername()[:2] == address
    rest(proxied, server, client)


def test_fast_open_connect_without_a_word(proxied, kind):
    """connect() defers the SYN until the first write, which never comes: nothing is left. To see it
    fail: delete nothing in tproxy_release."""
    proxied.client_net.sysctl("ipv4/tcp_fastopen", FAST_OPEN_EVERYWHERE)
    _, address = kind.listen()

    def connect():
        with socket.socket(kind.family) as sock:
            sock.setsockopt(socket.SOL_TCP, TCP_FASTOPEN_CONNECT, 1)
            sock.settimeout(wire.TIMEOUT)
            sock.connect(address)

    proxied.run_in(connect)
    assert proxied.stats()["redirected"] == 1
    rest(proxied)
    proxied.run_in(connect, place=proxied.bystander)


def test_multipath_tcp(proxied, kind):
    listener, address = kind.listen()

    def connect():
        sock = socket.socket(kind.family, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)
        sock.settimeout(wire.TIMEOUT)
        sock.connect(address)
        return sock

    client = proxied.keep(proxied.run_in(connect))
    server = kind.accept_relayed(listener, client)
    rest(proxied, server, client)


# --- other protocols


def test_other_protocols_are_untouched(proxied):
    """UDP, UDP-Lite, ICMP and raw sockets, connected or not. To see it fail: drop is_tcp()."""
    ways = [(socket.AF_INET, socket.SOCK_DGRAM, 0, (SERVER, 53)),
            (socket.AF_INET6, socket.SOCK_DGRAM, 0, (SERVER6, 53)),
            (socket.AF_INET6, socket.SOCK_DGRAM, 0, (f"::ffff:{SERVER}", 53)),
            (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE, (SERVER, 53)),
            (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP, (SERVER, 0)),
            (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP, (SERVER, 80)),
            (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP, (SERVER6, 0)),
            (socket.AF_INET, socket.SOCK_DGRAM, 0, ("198.51.100.255", 53)),
            (socket.AF_INET, socket.SOCK_DGRAM, 0, ("224.0.0.251", 5353)),
            (socket.AF_INET6, socket.SOCK_DGRAM, 0, ("ff02::fb", 5353))]
    before = proxied.stats()

    def outcomes():
        result = []
        for family, type_, protocol, address in ways:
            try:
                with socket.socket(family, type_, protocol) as sock:
                    sock.connect(address)
                    result.append(sock.getpeername()[:2])
            except OSError as error:
                result.append(error.errno)
        return result

    direct = proxied.run_in(outcomes, place=proxied.bystander)
    assert proxied.run_in(outcomes) == direct
    assert direct[:3] == [(SERVER, 53), (SERVER6, 53), (f"::ffff:{SERVER}", 53)]
    assert proxied.stats() == before
    rest(proxied)


@pytest.mark.parametrize("name", ["inet6", "mapped"])
def test_connected_udp_delivers(proxied, name):
    with proxied.server_net.inside():
        server = proxied.keep(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", 0))
        server.settimeout(wire.TIMEOUT)
    address = (SERVER6 if name == "inet6" else f"::ffff:{SERVER}", server.getsockname()[1])

    def ask():
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            sock.send(b"datagram")
            return sock.getsockname()[:2], sock.getpeername()[:2]

    before = proxied.stats()
    name, peer = proxied.run_in(ask)
    data, source = server.recvfrom(100)
    assert (data, source[:2], peer) == (b"datagram", name, address)
    assert proxied.stats() == before


# --- special destinations


SPECIAL = ["0.0.0.0", "255.255.255.255", "224.0.0.1", "239.255.255.250", "::", "ff02::1",
           "::ffff:0.0.0.0", "::ffff:255.255.255.255", "::ffff:224.0.0.1"]


def test_special_destinations_keep_their_errno(proxied):
    """No process listens there, so the kernel's own errno is expected."""
    def outcomes():
        codes = {}
        for address in SPECIAL:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
                codes[address] = sock.connect_ex((address, 9))
        return codes

    direct = proxied.run_in(outcomes, place=proxied.bystander)
    assert proxied.run_in(outcomes) == direct and all(direct.values())
    stats = proxied.stats()
    assert stats["redirected"] == 0
    assert stats["bypass_loopback"] == 3 and stats["bypass_multicast"] == len(SPECIAL) - 3


def test_broadcast_address_of_a_network(proxied):
    """Only the kernel's routes know that it is one: a reset, then the true errno for some time."""
    address = ("198.51.100.255", 9)

    def connect():
        with socket.socket() as sock:
            return sock.connect_ex(address)

    direct = proxied.run_in(connect, place=proxied.bystander)
    assert proxied.run_in(wire.fate, address) == wire.RESET
    assert proxied.run_in(connect) == direct == errno.ENETUNREACH


@pytest.mark.parametrize("policy", [[], ["--include-loopback"]], ids=["", "include-loopback"])
def test_this_host_by_its_unspecified_address(bed, policy):
    """0.0.0.0 and :: are loopback addresses, as for the kernel."""
    bed.load(*policy)
    bed.start_relay()
    v4 = bed.listen("127.0.0.1", netns=bed.client_net)
    v6 = host6.listen(bed, "::1", netns=bed.client_net)
    for connect, address, listener in ((wire.connect, "0.0.0.0", v4), (host6.connect, "::", v6),
                                       (host6.connect, "::ffff:0.0.0.0", v4)):
        client = bed.keep(bed.run_in(connect, (address, listener.getsockname()[1])))
        server, peer = bed.accept(listener)
        wire.exchange(client, server)
        assert (plain(peer) != plain(client.getsockname())) == bool(policy), address


@pytest.mark.parametrize("policy", [[], ["--include-loopback"]], ids=["", "include-loopback"])
def test_the_relays_own_address_is_reset(bed, policy):
    """I3, by any local address and the relay's port, for clients and bystanders. Clients go
    straight to the registered addresses; at other ones they are redirected, and the relay, which
    connects to itself, resets both connections. To see it fail: let the relay connect to the
    address at which it was reached, or do not call is_our_listener() for the destination."""
    bed.load(*policy)
    bed.accept_strangers()
    relay = bed.start_relay("--listen", "0.0.0.0:0", "--listen", "[::]:0")
    others = (CLIENT6, f"::ffff:{CLIENT}", *(["::ffff:127.9.9.9"] if policy else []))
    for address in ("::1", CLIENT6, "::ffff:127.0.0.1", f"::ffff:{CLIENT}", "::ffff:127.9.9.9"):
        mapped = address.startswith("::ffff:")
        port = relay.address[1] if mapped else host6.relay_address(relay)[1]
        for place in (bed.client, bed.bystander):
            assert bed.run_in(host6.fate, (address, port), place=place) == wire.RESET, address
    assert bed.stats()["redirected"] == len(others)
    assert bed.visit(bed.listen()).relayed, "the relay goes on"


def test_an_older_relays_address_is_reset(proxied):
    """Redirected to the newer relay, which connects to the older one's listener: no loop."""
    first = proxied.relay
    proxied.start_relay()
    proxied.load("--include-loopback")
    assert proxied.run_in(wire.fate, first.address) == wire.RESET
    assert proxied.visit(proxied.listen()).relayed


# --- very many at once


MANY = 6_000 if SANITIZED else 30_000
NAMESPACES = 4
EACH = MANY // NAMESPACES


def hold_connections(channel, address, count):
    """Connects @count sockets. Each carries its number there and back, and they stay until told to
    close."""
    socks = []
    for _ in range(count):
        sock = socket.socket()
        sock.settimeout(60)
        sock.connect(address)
        socks.append(sock)
    for number, sock in enumerate(socks):
        sock.sendall(struct.pack("=I", number))
    wrong = sum(wire.read_exactly(sock, 4) != struct.pack("=I", number)
                for number, sock in enumerate(socks))
    channel.sendall(b"r")
    channel.recv(1)
    for sock in socks:
        sock.close()
    return wrong


@pytest.mark.deadline(150)
def test_30000_connections_at_a_time(bed):
    """As many as four relays, client programs and servers with 20,000 descriptors each can hold, in
    four network namespaces. To see it fail: make map_socks or map_ports smaller."""
    bed.load()
    clients = []
    with contextlib.ExitStack() as nets:
        for _ in range(NAMESPACES):
            net = nets.enter_context(host.NetNs())
            net.ip(f"addr add {CLIENT}/32 dev lo")
            bed.start_relay("--workers", 1, place=host.Place(bed.relay_cgroup, net))
            listener = bed.listen(CLIENT, netns=net)
            bed.task(wire.serve_echo, listener, place=host.Place(bed.servers, net))
            ours, theirs = map(bed.keep, socket.socketpair())
            ours.settimeout(120)
            task = bed.task(hold_connections, theirs, listener.getsockname(), EACH,
                            place=host.Place(bed.scope, net))
            clients.append((task, ours))
        for _, channel in clients:
            assert channel.recv(1) == b"r"
        status = bed.tproxy_load.status()
        assert status["map_socks"] == status["map_ports"] == MANY
        counters = status["counters"]
        assert counters.pop("redirected") == MANY
        counters.pop("bypass_relay")
        assert not any(counters.values()), counters
        for _, channel in clients:
            channel.sendall(b"e")
        assert [task.result(timeout=60) for task, _ in clients] == [0] * NAMESPACES
        host.wait_until(lambda: bed.tproxy_load.status()["map_socks"] == 0, "nothing is left", 30)
        assert bed.tproxy_load.status()["map_ports"] == 0
