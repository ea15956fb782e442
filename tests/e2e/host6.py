# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The bed with IPv6, and what tests do with IPv6 sockets.

    client namespace NET6 :1, fe80::7470:1        server namespace NET6 :2 and :3, fe80::7470:2

The four words of an address differ, so that none can take another's place unseen. Nobody answers at
BLACKHOLE6: a SYN to it vanishes.
"""

import re
import socket
from functools import partial

import host
import wire
from harness import Visit

NET6 = "fd00:7470:0:1::/64"
CLIENT6 = "fd00:7470:0:1:a:b:c:1"
SERVER6 = "fd00:7470:0:1:a:b:c:2"
SERVER6_2 = "fd00:7470:0:1:a:b:c:3"
LINK_LOCAL_CLIENT = "fe80::7470:1"
LINK_LOCAL_SERVER = "fe80::7470:2"
BLACKHOLE6 = ("2001:db8::1", 80)
DEVICE = "tproxy0"


def mapped(address):
    """The IPv4-mapped form of (address, port)."""
    return f"::ffff:{address[0]}", address[1]


def plain(name):
    """Reduces a result of getsockname(), getpeername() or accept() of either family to address and
    port."""
    return name[0].removeprefix("::ffff:"), name[1]


def give_addresses(bed):
    """Adds IPv6 addresses at both ends. A relay that was started before notices within a second."""
    # Without the route the server's host answers a SYN to BLACKHOLE6 with an ICMPv6 error.
    bed.server_net.ip(*(f"addr add {address}/64 dev {DEVICE} nodad"
                        for address in (SERVER6, SERVER6_2, LINK_LOCAL_SERVER)),
                      f"route add blackhole {BLACKHOLE6[0]}/128")
    bed.client_net.ip(*(f"addr add {address}/64 dev {DEVICE} nodad"
                        for address in (CLIENT6, LINK_LOCAL_CLIENT)),
                      f"route add 2001:db8::/32 via {SERVER6}")


def listener(address=("::", 0), only6=True):
    sock = socket.socket(socket.AF_INET6)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
    sock.bind(address)
    sock.listen(4096)
    sock.settimeout(wire.TIMEOUT)
    return sock


@host.needs_no_process
def connect(address, source=None, timeout=wire.TIMEOUT, only6=False):
    """Connects an IPv6 socket to any address, IPv4-mapped ones included."""
    sock = socket.socket(socket.AF_INET6)
    try:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
        sock.settimeout(timeout)
        if source:
            sock.bind(source)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


@host.needs_no_process
def errno_of(address, only6=False):
    """Returns the errno of connect() of an IPv6 socket."""
    with socket.socket(socket.AF_INET6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
        sock.settimeout(wire.TIMEOUT)
        return sock.connect_ex(address)


@host.needs_no_process
def fate(address, data=b""):
    """See wire.fate()."""
    try:
        with connect(address) as sock:
            sock.sendall(data)
            return wire.ended_by(sock)
    except (ConnectionResetError, BrokenPipeError):
        return wire.RESET
    except ConnectionRefusedError:
        return wire.REFUSED


def listen(bed, address=SERVER6, port=0, netns=None):
    with (netns or bed.server_net).inside():
        return bed.keep(listener((address, port)))


def visit(bed, sock, address=None, place=None, **options):
    """Connects an IPv6 socket to a listener, verifies that both directions work, and finds out
    whether the connection was relayed."""
    address = address or sock.getsockname()
    client = bed.keep(bed.run_in(partial(connect, address, **options), place=place))
    server, peer = bed.accept(sock)
    wire.exchange(client, server)
    return Visit(client, server, relayed=plain(peer) != plain(client.getsockname()))


def pair(bed, sock, **options):
    """Both ends of a relayed connection that has not carried data."""
    client = bed.keep(bed.run_in(partial(connect, sock.getsockname(), **options)))
    server, peer = bed.accept(sock)
    assert plain(peer) != plain(client.getsockname()), "not relayed"
    return client, server


def relay_address(relay):
    """The address at which a relay listens for IPv6."""
    address, port = re.findall(r"and \[([0-9a-f:]+)\]:(\d+), workers", relay.text())[-1]
    return address, int(port)
