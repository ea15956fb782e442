# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The block list at the sockets of scopes and relays: block_in and block_out with real traffic on
veth. tests/verifier/block.c has the frames."""

import errno
import socket
import struct

import pytest

import host6
import wire
from harness import CLIENT, SERVER
from test_block_connect import ENTRIES, add, put_in_force

STAT = struct.Struct("=6Q")  # tproxy_block_stat: seen, dropped, ...
INGRESS, EGRESS = 1, 2
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
