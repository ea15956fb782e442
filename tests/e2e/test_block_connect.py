# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The block list at connect(), as the kernel half applies it. The tests write the maps themselves.
What commands write is tested in test_block.py."""

import errno
import ipaddress
import json
import signal
import socket
import struct

import pytest

import host
import host6
import wire
from harness import SERVER
from test_abi import MARK_UPSTREAM, mark
from test_log import json_lines
from test_watch import plain, try_connect, watch  # fixture too
from tproxyctl import binary, ctl  # fixtures

ENTRIES, ALLOWS, SLOT = 1, 2, 4
ENTRY = struct.Struct("=QQQQIHH")
BLOCKED = ("192.0.2.1", 80)  # no route leads there
ERROR_OFFSETS = {0: 8 + 24, SLOT: 8 + 32 + 24}


def prefix(cidr):
    network = ipaddress.ip_network(cidr)
    if network.version == 6:
        return struct.pack("=I16s", network.prefixlen, network.network_address.packed)
    return struct.pack("=I12s4s", 96 + network.prefixlen, bytes(10) + b"\xff\xff",
                       network.network_address.packed)


def add(bed, name, *cidrs, ends_ns=0):
    with bed.pins.open(name) as trie:
        for cidr in cidrs:
            key = prefix(cidr)
            trie.update(key, ENTRY.pack(ends_ns, 0, 0, 0, struct.unpack_from("=I", key)[0], 0, 0))


def hits(bed, name, cidr):
    with bed.pins.open(name) as trie:
        return ENTRY.unpack(trie.lookup(prefix(cidr)))[1]


def put_in_force(bed, state, error=0):
    with bed.pins.open("map_block") as block:
        changes, = struct.unpack_from("=I", block.lookup(bytes(4)), 4)
        value = bytearray(block.value_size)
        struct.pack_into("=2I", value, 0, state, changes + 1)
        struct.pack_into("=I", value, ERROR_OFFSETS[state & SLOT], error)
        block.update(bytes(4), bytes(value))


def block(bed, *cidrs, error=0):
    add(bed, "map_block_0", *cidrs)
    put_in_force(bed, ENTRIES, error)


def result(bed, address, place=None, family=socket.AF_INET):
    """Returns the name of the errno of connect(), or None."""
    def connect():
        with socket.socket(family) as sock:
            sock.settimeout(wire.TIMEOUT)
            return errno.errorcode.get(sock.connect_ex(address))

    return bed.run_in(connect, place=place or bed.client)


def test_refused_before_anything_else(proxied):
    """Also if the address belongs to a working server, and for an IPv4-mapped address. Bystanders
    connect. To see it fail: leave out gather_block()."""
    listener = proxied.listen()
    address = listener.getsockname()
    block(proxied, "198.51.100.0/24")
    assert result(proxied, address) == "EACCES"
    assert result(proxied, host6.mapped(address), family=socket.AF_INET6) == "EACCES"
    assert result(proxied, address, place=proxied.bystander) is None
    stats = proxied.stats()
    assert stats["blocked"] == 2 and stats["redirected"] == 0 and stats["refused"] == 0
    assert hits(proxied, "map_block_0", "198.51.100.0/24") == 2
    put_in_force(proxied, 0)
    assert proxied.visit(proxied.listen()).relayed, "as before"


def test_ipv6(loaded):
    host6.give_addresses(loaded)
    block(loaded, "fd00:7470::/32", "0.0.0.0/0")
    assert result(loaded, (host6.SERVER6, 9), family=socket.AF_INET6) == "EACCES"
    assert result(loaded, ("::1", 9), family=socket.AF_INET6) == "ECONNREFUSED", "loopback passes"
    assert result(loaded, ("127.0.0.1", 9)) == "ECONNREFUSED"
    assert result(loaded, ("0.0.0.0", 9)) == "ECONNREFUSED"


def test_errno_of_the_list(loaded):
    """Each slot has its own, and its own entries."""
    block(loaded, "192.0.2.1/32", error=errno.ENETUNREACH)
    assert result(loaded, BLOCKED) == "ENETUNREACH"
    add(loaded, "map_block_1", "198.51.100.2/32")
    put_in_force(loaded, ENTRIES | SLOT, error=errno.ECONNREFUSED)
    assert result(loaded, (SERVER, 80)) == "ECONNREFUSED" and loaded.stats()["blocked"] == 2
    put_in_force(loaded, ENTRIES, error=100000)
    assert result(loaded, BLOCKED) == "EACCES", "no errno"


def test_allow_wins(proxied):
    listener = proxied.listen()
    add(proxied, "map_allow_0", "198.51.100.0/30")
    add(proxied, "map_block_0", "198.51.100.2/32")
    put_in_force(proxied, ENTRIES | ALLOWS)
    assert proxied.visit(listener).relayed
    assert hits(proxied, "map_allow_0", "198.51.100.0/30") == 1
    put_in_force(proxied, ENTRIES)
    assert result(proxied, listener.getsockname()) == "EACCES"


def connect_marked(pins, address):
    with socket.socket() as sock:
        mark(pins, sock, MARK_UPSTREAM)
        sock.settimeout(wire.TIMEOUT)
        return errno.errorcode.get(sock.connect_ex(address))


def test_relay_is_refused_too(loaded):
    """A relay's mark exempts from redirection, and not from the list. To see it fail: ask
    STAGE_CALLER before STAGE_BLOCK."""
    block(loaded, "192.0.2.1/32")
    assert loaded.run_in(lambda: connect_marked(loaded.pins, (SERVER, 9))) == "ECONNREFUSED"
    assert loaded.stats()["bypass_relay"] == 1
    assert loaded.run_in(lambda: connect_marked(loaded.pins, BLOCKED)) == "EACCES"


def test_log_line_names_the_program(loaded, ctl):
    """The relay logs a refused connect(), up to a limit in a second."""
    loaded.start_relay("--connection-log", "json")
    block(loaded, "192.0.2.0/24", error=errno.EHOSTUNREACH)
    assert result(loaded, BLOCKED) == "EHOSTUNREACH"

    def blocked():
        return [line for line in json_lines(loaded.relay) if line.get("blocked")]

    host.wait_until(blocked, "a line")
    line, = blocked()
    assert (line["destination"], line["command"], line["reason"]) == (
        "192.0.2.1:80", "python3", "blocked")
    assert line["error"] == "EHOSTUNREACH" and line["pid"] and line["uid"] == 0

    def try_often():
        for _ in range(1000):
            with socket.socket() as sock:
                sock.connect_ex(BLOCKED)

    loaded.run_in(try_often)
    assert loaded.stats()["blocked"] == 1001
    loaded.relay.signal(signal.SIGTERM)
    loaded.relay.wait()
    assert 100 <= len(blocked()) < 1001


@pytest.mark.parametrize("error, name", [(0, "EACCES"), (errno.EPERM, "EPERM")])
def test_watch_and_explain(loaded, ctl, watch, error, name):  # noqa: F811
    """The watchers and explain give the answer of connect()."""
    block(loaded, "192.0.2.0/24", error=error)
    add(loaded, "map_allow_0", "192.0.2.9/32")
    put_in_force(loaded, ENTRIES | ALLOWS, error)
    watcher = watch()
    assert loaded.run_in(lambda: try_connect(BLOCKED)) == name
    begun, = watcher.wait("connect")
    assert (begun["verdict"], begun["counter"], begun["error"]) == ("refused", "blocked", name)
    assert begun["destination"] == plain(BLOCKED) and "rule" not in begun
    document = json.loads(ctl("explain", "--json", "192.0.2.1:80",
                              place=loaded.client).succeeded().out)
    assert (document["verdict"], document["reason"], document["errno"]) == (
        "refuse", "blocked", name)
    assert document["block"] == {"cidr": "192.0.2.0/24", "action": "block"}
    document = json.loads(ctl("explain", "--json", "192.0.2.9:80",
                              place=loaded.client).succeeded().out)
    assert document["reason"] == "no_relay"
    assert document["block"] == {"cidr": "192.0.2.9", "action": "allow"}
    text = ctl("explain", "192.0.2.1:80", place=loaded.client).succeeded().out
    assert "block list: block 192.0.2.0/24\n" in text
