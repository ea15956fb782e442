# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The block list at the sockets of scopes and relays: block_in and block_out with real traffic on
veth. tests/verifier/block_frames.c gives them each frame."""

import errno
import ipaddress
import select
import socket
import struct

import pytest

import host
import host6
import wire
from harness import CLIENT, SERVER, SERVER2
from test_block import Waiting, ctl, write_list  # noqa: F401 (a fixture)
from test_block_connect import ENTRIES, add, put_in_force
from tproxyctl import binary  # noqa: F401 (a fixture)

STAT = struct.Struct("=6Q")  # tproxy_block_stat: seen, dropped, ...
INGRESS, EGRESS = 1, 2
CHANGING = 64  # of tproxy_block.state
OTHERS = "203.0.113.0/24"  # keeps the hooks attached
PAUSE = 0.5  # seconds in which nothing arrives, where something would


def stat(bed, place):
    """Returns seen and dropped of a place."""
    with bed.pins.open("map_block_stats") as stats:
        values = stats.lookup_per_cpu(struct.pack("=I", place))
    sums = [sum(column) for column in zip(*STAT.iter_unpack(values))]
    return sums[0], sums[1]


def block(bed, *cidrs):
    """Blocks, and attaches the packet hooks, as a load does while the list has entries."""
    add(bed, "map_block_0", *cidrs)
    put_in_force(bed, ENTRIES)
    bed.load()


def received(sock):
    """Returns what arrives soon, or None."""
    sock.settimeout(PAUSE)
    try:
        return sock.recv(100)
    except TimeoutError:
        return None
    finally:
        sock.settimeout(wire.TIMEOUT)


def test_relayed_connection_stops(proxied):
    """The relay's packets are those of its client. When the address is no longer blocked, TCP sends
    again. To see it fail: attach block_in and block_out at scopes only."""
    visit = proxied.visit(proxied.listen())
    assert visit.relayed
    block(proxied, f"{SERVER}/32")
    visit.client.sendall(b"up")
    visit.server.sendall(b"down")
    assert received(visit.server) is None and received(visit.client) is None
    assert stat(proxied, INGRESS)[1] and stat(proxied, EGRESS)[1]
    put_in_force(proxied, 0)
    assert wire.read_exactly(visit.server, 2) == b"up"
    assert wire.read_exactly(visit.client, 4) == b"down"


@pytest.fixture
def datagrams(loaded):
    """A UDP socket of a client and one of the server, connected to each other."""
    with loaded.server_net.inside():
        server = loaded.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind((SERVER, 0))

    def connect():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((CLIENT, 0))
        sock.connect(server.getsockname())
        return sock

    client = loaded.keep(loaded.run_in(connect))
    server.connect(client.getsockname())
    for sock in client, server:
        sock.settimeout(wire.TIMEOUT)
    return client, server


def test_datagrams(loaded, datagrams):
    """To see it fail: let block_skb() pass everything."""
    client, server = datagrams
    server.send(b"first")
    assert client.recv(100) == b"first"
    block(loaded, "198.51.100.0/24")
    with pytest.raises(PermissionError):
        client.send(b"up")
    with pytest.raises(PermissionError):
        client.sendto(b"up", server.getsockname())
    server.send(b"down")
    assert received(client) is None
    assert stat(loaded, INGRESS)[1] == 1 and stat(loaded, EGRESS)[1] == 2
    add(loaded, "map_block_0", "198.51.100.0/24", ends_ns=1)
    client.send(b"up")
    assert server.recv(100) == b"up", "the entry has ended"


def passes_out(sock):
    try:
        sock.send(b"up")
        return True
    except PermissionError:
        return False


def passes_in(bed, sender, sock):
    """Waits until a datagram has arrived, or was dropped on the way."""
    def arrived():
        return select.select([sock], [], [], 0)[0] and sock.recv(100)

    before = stat(bed, INGRESS)[1]
    sender.send(b"down")
    host.wait_until(lambda: arrived() or stat(bed, INGRESS)[1] > before, "it arrived or not")
    return stat(bed, INGRESS)[1] == before


def check(bed, datagrams, passes):
    """Twice: an address that passes is remembered."""
    client, server = datagrams
    for _ in range(2):
        assert passes_out(client) == passes
        assert passes_in(bed, server, client) == passes


def test_each_change_counts_at_once(loaded, datagrams, ctl, binary):  # noqa: F811
    """Nothing that was remembered before counts, on sockets that exist. To see it fail: leave out
    the number of changes in passed4_has()."""
    ctl("block", OTHERS).succeeded()
    check(loaded, datagrams, True)
    for options, passes in ((("block", SERVER), False), (("allow", "198.51.100.0/24"), True),
                            (("unblock", "198.51.100.0/24"), False), (("unblock", SERVER), True),
                            (("block", SERVER, "--for", "1h"), False), (("unblock", SERVER), True)):
        ctl(*options).succeeded()
        check(loaded, datagrams, passes)
    blocking, other = (write_list(loaded, address, name=f"{address}.netset")
                       for address in (SERVER, SERVER2))
    for path, passes in ((other, True), (blocking, False), (other, True)):
        ctl("block", "--apply", path).succeeded()
        check(loaded, datagrams, passes)
    for path in blocking, other:
        waiting = Waiting(loaded, binary, path, 60)
        check(loaded, datagrams, path == other)
        ctl("block", "--revert").succeeded()
        waiting.process.wait(20)
        check(loaded, datagrams, path == blocking)
        ctl("block", "--apply", blocking).succeeded()
        check(loaded, datagrams, False)


def test_a_socket_with_many_peers(loaded, ctl):  # noqa: F811
    """Each datagram is decided by its own address, also after another connect()."""
    with loaded.server_net.inside():
        server = loaded.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind(("0.0.0.0", 0))
    port = server.getsockname()[1]

    def send(sock, address):
        sock.connect(address)
        return passes_out(sock)

    def send_to_all():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            return [send(sock, (address, port)) for address in (SERVER, SERVER2, SERVER, SERVER2)]

    ctl("block", OTHERS).succeeded()
    assert loaded.run_in(send_to_all) == [True] * 4
    ctl("block", SERVER2).succeeded()
    assert loaded.run_in(send_to_all) == [True, False, True, False]


def test_a_command_is_killed_during_a_change(loaded, datagrams, ctl):  # noqa: F811
    """As it leaves the list: each packet is looked up until the next command. To see it fail: let
    block_check() ignore CHANGING, or block_store_open() leave it."""
    def flags(add_flags=0):
        with loaded.pins.open("map_block") as head:
            value = head.lookup(bytes(4))
            state, = struct.unpack_from("=I", value)
            head.update(bytes(4), struct.pack("=I", state | add_flags) + value[4:])
            return state

    ctl("block", OTHERS).succeeded()
    check(loaded, datagrams, True)
    assert not flags(add_flags=CHANGING) & CHANGING
    check(loaded, datagrams, True)
    add(loaded, "map_block_0", f"{SERVER}/32")
    check(loaded, datagrams, False)
    ctl("allow", "203.0.113.7").succeeded()
    assert not flags() & CHANGING
    check(loaded, datagrams, False)


def test_established_connection_stops_and_goes_on(loaded, ctl):  # noqa: F811
    """TCP, whose packets pass by what is remembered."""
    visit = loaded.visit(loaded.listen())
    ctl("block", OTHERS).succeeded()
    wire.exchange(visit.client, visit.server)
    ctl("block", SERVER).succeeded()
    visit.client.sendall(b"up")
    assert received(visit.server) is None
    ctl("unblock", SERVER).succeeded()
    assert wire.read_exactly(visit.server, 2) == b"up"
    wire.exchange(visit.client, visit.server)


IPV6_RTHDR = 57


@pytest.mark.parametrize("final, hop, option, value", [
    (SERVER, SERVER2, (socket.SOL_IP, socket.IP_OPTIONS), b"\x83\7\4%s\0"),
    (SERVER, SERVER2, (socket.SOL_IP, socket.IP_OPTIONS), b"\1\x89\7\4%s"),
    (host6.SERVER6, host6.SERVER6_2, (socket.IPPROTO_IPV6, IPV6_RTHDR),
     b"\0\4\4\1\1\0\0\0" + bytes(16) + b"%s"),
], ids=["loose", "strict", "segments"])
def test_source_route(loaded, final, hop, option, value):
    """The packet goes to the first hop, and from there to the address that is blocked. If that is
    the first hop, it is not sent either. To see it fail: do not call block_routed()."""
    host6.give_addresses(loaded)

    def send(to, via):
        with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET,
                           socket.SOCK_DGRAM) as sock:
            sock.setsockopt(*option, value % ipaddress.ip_address(via).packed)
            try:
                return sock.sendto(b"up", (to, 9))
            except PermissionError:
                return None

    assert loaded.run_in(send, final, hop) == 2
    block(loaded, str(ipaddress.ip_network(final)))
    assert loaded.run_in(send, final, hop) is None
    assert loaded.run_in(send, hop, final) is None
    assert stat(loaded, EGRESS)[1] == 2


def test_mapped_addresses_are_ipv4_packets(loaded):
    block(loaded, f"{SERVER}/32")

    def send():
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            with pytest.raises(PermissionError):
                sock.sendto(b"up", host6.mapped((SERVER, 9)))

    loaded.run_in(send)


def test_server_in_scope(loaded):
    """A blocked client gets no answer from a server in scope; a bystander's server answers."""
    listener = loaded.run_in(lambda: wire.listener((CLIENT, 0)))
    other = loaded.run_in(lambda: wire.listener((CLIENT, 0)), place=loaded.bystander)
    loaded.keep(listener)
    loaded.keep(other)
    block(loaded, f"{SERVER}/32")

    def connect(address, timeout):
        with socket.socket() as sock:
            sock.settimeout(timeout)
            return sock.connect_ex(address)

    assert loaded.run_in(connect, listener.getsockname(), PAUSE,
                         place=loaded.server) == errno.EAGAIN
    assert stat(loaded, INGRESS)[1]
    assert loaded.run_in(connect, other.getsockname(), wire.TIMEOUT, place=loaded.server) == 0


def test_loopback_passes(loaded):
    """Packets of a host to itself are not looked up, from which address they may come."""
    block(loaded, "0.0.0.0/0", "::/0")

    def talk(address):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(wire.TIMEOUT)
            sock.bind((address, 0))
            sock.sendto(b"self", sock.getsockname())
            return sock.recv(100)

    assert loaded.run_in(talk, "127.0.0.1") == loaded.run_in(talk, CLIENT) == b"self"
    assert stat(loaded, EGRESS) == (0, 0)
