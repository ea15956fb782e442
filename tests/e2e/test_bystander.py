# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that tproxy does not serve are not affected (I5)."""

import errno
import os
import socket
import struct

import pytest

import wire
from harness import CLIENT
from maps import bpftool, load_getsockopt
from programs import RELAY_GID
from test_abi import MARK_UPSTREAM, mark

RULES = 300
GROUPS = 2000
SO_PEERGROUPS = 59
TPROXY_SO_CONN = 0x74700002
MCAST_JOIN_SOURCE_GROUP, MCAST_MSFILTER = 46, 48


@pytest.fixture(params=["client", "relay_place", "bystander"])
def place(request, bed):
    """Among the clients, among the relays (where getsockopt is attached), and outside of both."""
    return getattr(bed, request.param)


@pytest.fixture(params=[True, False], ids=["relay-cgroup", "relay-in-scope"])
def load(request, bed):
    """Loads with the getsockopt hook at the relays' cgroup, or at the scope itself."""
    return lambda: bed.load(relay_cgroup=request.param)


def all_options(server):
    """The result of every option of many kinds of sockets, without the values."""
    answers = {}
    pair = socket.socketpair()
    socks = {
        "tcp": socket.socket(),
        "connected": wire.connect(server),
        "listening": wire.listener(),
        "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "tcp6": socket.socket(socket.AF_INET6),
        "unix": pair[0],
    }
    for kind, sock in socks.items():
        for level in (socket.SOL_SOCKET, socket.SOL_IP, socket.SOL_TCP, socket.SOL_UDP,
                      socket.IPPROTO_IPV6):
            for name in [*range(100), 0x74700001, 0x74700002]:
                for size in (4, 256, 8192):
                    error, answer = wire.getsockopt(sock, level, name, bytes(size))
                    answers[kind, level, name, size] = error, len(answer)
    return answers


def test_every_option_of_every_socket_answers_as_before(bed, load, place):
    """I5. To see it fail: answer SO_ORIGINAL_DST for any socket."""
    listener = bed.listen()
    before = bed.run_in(all_options, listener.getsockname(), place=place)
    load()
    after = bed.run_in(all_options, listener.getsockname(), place=place)
    assert {key: (before[key], after[key]) for key in before if before[key] != after[key]} == {}


def peer_groups():
    """An answer of 8,000 bytes, complete."""
    os.setgroups(range(1, GROUPS + 1))
    one, _ = socket.socketpair()
    error, answer = wire.getsockopt(one, socket.SOL_SOCKET, SO_PEERGROUPS, bytes(4 * GROUPS))
    return error or struct.unpack(f"={GROUPS}I", answer)


def test_answer_longer_than_a_page(bed, load, place):
    """I5. To see it fail (kernels before 6.5): drop getsockopt_pass()."""
    load()
    assert bed.run_in(peer_groups, place=place) == tuple(range(1, GROUPS + 1))


def multicast_sources():
    """The same with input: a filter of 60 sources."""
    def sockaddr(address):
        return struct.pack("=HH4s120x", socket.AF_INET, 0, socket.inet_aton(address))

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        group = struct.pack("=I4x", socket.if_nametoindex("tproxy0")) + sockaddr("232.1.1.1")
        for number in range(10):
            sock.setsockopt(socket.SOL_IP, MCAST_JOIN_SOURCE_GROUP,
                            group + sockaddr(f"192.0.2.{number}"))
        asked = group + struct.pack("=II", 0, 60) + bytes(60 * 128)
        error, answer = wire.getsockopt(sock, socket.SOL_IP, MCAST_MSFILTER, asked)
        return error or struct.unpack_from("=I", answer, len(group) + 4)[0]


def test_request_longer_than_a_page(bed, load, place):
    """The option reads the caller's buffer and writes to it."""
    load()
    assert bed.run_in(multicast_sources, place=place) == 10


@pytest.mark.needs("iptables-legacy-save")
def test_iptables_save_with_many_rules(bed, load, place):
    """Legacy iptables reads its tables by getsockopt(), with answers far longer than a page."""
    rules = "".join(f"-A OUTPUT -d 192.0.2.{number % 250} -p tcp -m tcp --dport {number} -j DROP\n"
                    for number in range(1, RULES + 1))
    bed.run("iptables-legacy-restore", place=bed.bystander,
            data=f"*filter\n{rules}COMMIT\n").succeeded()
    before = bed.run("iptables-legacy-save", place=place).succeeded().out
    assert before.count("-A OUTPUT") == RULES
    load()

    def rules_only(text):
        return [line for line in text.splitlines() if line.startswith("-A")]

    after = bed.run("iptables-legacy-save", place=place).succeeded().out
    assert rules_only(after) == rules_only(before)
    bed.run("iptables-legacy", "-A", "INPUT", "-s", CLIENT, "-j", "ACCEPT",
            place=place).succeeded()


def test_servers_in_the_scope_are_reached_as_ever(proxied):
    """Incoming connections of a program in scope are not redirected."""
    listener = proxied.keep(proxied.run_in(wire.listener, (CLIENT, 0)))
    client = proxied.connect(listener, place=proxied.server)
    server, peer = proxied.accept(listener)
    wire.exchange(client, server)
    assert peer == client.getsockname() and server.getpeername() == peer
    assert proxied.pins.at_rest()


def test_servers_in_the_relays_cgroup_are_reached_as_ever(proxied):
    listener = proxied.keep(proxied.run_in(wire.listener, (CLIENT, 0), place=proxied.relay_place))
    client = proxied.connect(listener, place=proxied.server)
    server, peer = proxied.accept(listener)
    wire.exchange(client, server)
    assert peer == client.getsockname()


def test_ipv6_and_unix_sockets_in_the_scope(proxied):
    def talk():
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        client = socket.create_connection(listener.getsockname()[:2])
        wire.exchange(client, listener.accept()[0])
        wire.exchange(*socket.socketpair())

    proxied.run_in(talk)


def test_clients_need_no_privilege_and_no_group(proxied):
    """A client of any user is redirected, and cannot open the pins."""
    listener = proxied.listen()

    def connect():
        os.setgroups([])
        os.setresgid(RELAY_GID + 1, RELAY_GID + 1, RELAY_GID + 1)
        os.setresuid(12345, 12345, 12345)
        with pytest.raises(PermissionError):
            os.listdir(proxied.pins.path)
        return wire.connect(listener.getsockname())

    client = proxied.keep(proxied.run_in(connect))
    server, peer = proxied.accept(listener)
    wire.exchange(client, server)
    assert peer != client.getsockname()


def long_getsockopt(pins):
    """The errnos of getsockopt() with two pages, for options that the kernel does not know. For
    other options programs would see the length of the answer. One option is tproxy's, of a socket
    that is not a relay's, and of one that is, and has no connection."""
    with socket.socket() as sock, socket.socket() as marked:
        mark(pins, marked, MARK_UPSTREAM)
        return {wire.getsockopt(asked, level, name, bytes(8192))[0] for asked, level, name in (
            (sock, socket.SOL_SOCKET, 9999), (sock, socket.SOL_IP, 9999),
            (sock, socket.SOL_IP, TPROXY_SO_CONN), (marked, socket.SOL_IP, TPROXY_SO_CONN))}


def test_long_buffer_is_handed_back_as_unseen(bed):
    """I5: tproxy's program sets optlen to 0, which means that the caller's buffer stays as it is.

    Newer kernels tolerate a program that does not, older ones return EFAULT. A foreign program,
    attached above and so run afterwards, detects both. To see it fail: drop one of the calls of
    getsockopt_pass().
    """
    pin = bed.directory / "bpf" / "foreign"
    load_getsockopt(pin, most=4096)
    bpftool("cgroup", "attach", bed.top, "cgroup_getsockopt", "pinned", pin, "multi")
    try:
        bed.load()
        assert bed.run_in(long_getsockopt, bed.pins, place=bed.bystander) == {0}, "it tells nothing"
        assert bed.run_in(long_getsockopt, bed.pins,
                          place=bed.relay_place) == {errno.ENOPROTOOPT}
    finally:
        bpftool("cgroup", "detach", bed.top, "cgroup_getsockopt", "pinned", pin)
