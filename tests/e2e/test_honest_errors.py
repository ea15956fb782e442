# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Honest connect: the error of connect(), with no client reset first. ECONNREFUSED and ETIMEDOUT
are exact at once. Every other error is ECONNREFUSED for the client that met it, and exact for those
that follow within --error-memory."""

import errno
import struct
import time

import pytest

import host
import wire
from harness import BLACKHOLE, NOBODY, SERVER
from honest import KINDS, HonestBed, errno_of
from host6 import BLACKHOLE6, SERVER6, mapped

LIMIT = 0.4  # --connect-timeout, seconds


@pytest.fixture(scope="module")
def bed(run_directory, binaries):
    with HonestBed("errors", run_directory / "errors", binaries) as bed:
        bed.load()
        bed.start_honest("--connect-timeout", f"{LIMIT * 1000:.0f}ms", "--error-memory", "1m")
        yield bed


@pytest.fixture(autouse=True)
def case(bed):
    with bed.case():
        yield


def ask(bed, address):
    """The errno of connect(), and whether it was known before."""
    before = bed.stats()
    code = bed.run_in(errno_of, address)
    after = bed.stats()
    known = after["negative_cache"] - before["negative_cache"]
    assert known + after["redirected"] - before["redirected"] == 1
    return code, known == 1


@pytest.mark.parametrize("address", [NOBODY, (SERVER6, 9), mapped(NOBODY)], ids=KINDS)
def test_refused(bed, address):
    """Each time by the server itself.

    To see it fail: note ECONNREFUSED in map_failed for a pending connection.
    """
    for _ in range(3):
        assert ask(bed, address) == (errno.ECONNREFUSED, False)
    assert bed.pins.dump("map_failed") == []


@pytest.mark.parametrize("address", [BLACKHOLE, BLACKHOLE6, mapped(BLACKHOLE)], ids=KINDS)
def test_timed_out(bed, address):
    """The relay's limit is shorter than the client's, which ends with ETIMEDOUT too.

    To see it fail: answer FAILED for each error.
    """
    for _ in range(2):
        started = time.monotonic()
        assert ask(bed, address) == (errno.ETIMEDOUT, False)
        assert time.monotonic() - started >= LIMIT


UNREACHABLE = {"unreachable": errno.EHOSTUNREACH, "throw": errno.ENETUNREACH}


@pytest.mark.parametrize("kind", UNREACHABLE)
@pytest.mark.parametrize("family", ["inet", "inet6"])
def test_unreachable(bed, kind, family):
    """To see it fail: note nothing in map_failed for a pending connection."""
    number = 10 + list(UNREACHABLE).index(kind)
    address = f"192.0.2.{number}" if family == "inet" else f"2001:db8:ffff::{number}"
    bed.client_net.ip(f"route add {kind} {address}/{32 if family == 'inet' else 128}")
    error = bed.run_in(errno_of, (address, 80), place=bed.bystander)
    if family == "inet":
        assert error == UNREACHABLE[kind]
    assert ask(bed, (address, 80)) == (errno.ECONNREFUSED, False)
    assert ask(bed, (address, 80)) == (error, True)


@pytest.mark.parametrize("address", ["192.0.2.20", "2001:db8:ffff::20"], ids=["inet", "inet6"])
def test_local_policy_is_not_remembered(bed, address):
    """EACCES concerns this host and not the destination: ECONNREFUSED each time.

    To see it fail: remember any errno in marks_note_error().
    """
    bed.client_net.ip(f"route add prohibit {address}")
    for _ in range(2):
        assert ask(bed, (address, 80)) == (errno.ECONNREFUSED, False)


def test_router_says_unreachable(bed):
    """By ICMP, after the SYN. To see it fail: as test_unreachable()."""
    bed.server_net.sysctl("ipv4/ip_forward", 1)
    bed.server_net.ip("route add unreachable 203.0.113.7/32")
    assert ask(bed, ("203.0.113.7", 80)) == (errno.ECONNREFUSED, False)
    assert ask(bed, ("203.0.113.7", 80)) == (errno.EHOSTUNREACH, True)
    bed.server_net.sysctl("ipv4/ip_forward", 0)


# --- programs that try again


def test_server_that_starts_is_reached_at_once(bed):
    """To see it fail: as test_refused()."""
    gate = bed.gate()
    gate.open()
    for port in (4001, 4002, 4003):
        assert ask(bed, gate.address(port)) == (errno.ECONNREFUSED, False)
        listener, address = gate.listen(port)
        bed.reach(listener, address)


@pytest.mark.needs("nc")
def test_loop_until_a_server_listens(bed):
    """`until nc -z` ends with the first connection that the server gets.

    To see it fail: as test_refused().
    """
    gate = bed.gate()
    gate.open()
    before = bed.stats()["redirected"]
    loop = bed.start("/bin/sh", "-c", f"until nc -z {gate.ip} 4000; do echo no; done",
                     place=bed.client)
    host.wait_until(lambda: bed.stats()["redirected"] >= before + 3, "it tries")
    assert loop.running()
    listener, _ = gate.listen(4000)
    assert loop.wait() == 0
    bed.accept(listener)


# --- through an upstream

REPLIES = {1: errno.EHOSTUNREACH, 2: errno.EACCES, 3: errno.ENETUNREACH, 4: errno.EHOSTUNREACH,
           5: errno.ECONNREFUSED, 6: errno.ETIMEDOUT}


def answer(sock):
    """A SOCKS5 server whose reply is the last digit of the port. A connection that it accepts is
    told so."""
    sock.settimeout(wire.TIMEOUT)
    _, count = wire.read_exactly(sock, 2)
    wire.read_exactly(sock, count)
    sock.sendall(b"\x05\x00")
    kind = wire.read_exactly(sock, 4)[3]
    request = wire.read_exactly(sock, (4 if kind == 1 else 16) + 2)
    reply = struct.unpack(">H", request[-2:])[0] % 10
    sock.sendall(bytes([5, reply, 0, 1]) + bytes(6) + (b"" if reply else b"hello"))
    if not reply:
        sock.recv(1)


@pytest.fixture(scope="module")
def socks5(bed):
    """Another namespace, whose relay goes through the SOCKS5 server."""
    with host.NetNs() as net:
        net.ip("route add local 192.0.2.0/24 dev lo")
        path = bed.directory / "socks5.conf"
        with net.inside():
            listener = wire.listener(("127.0.0.1", 0))
        path.write_text("[relay]\ndefault-upstream = one\nerror-memory = 1m\n[upstream one]\n"
                        "type = socks5\naddress = {}:{}\n".format(*listener.getsockname()))
        server = host.Task(host.Place(bed.servers, net), wire.serve_each, answer, listener)
        before = bed.relay
        bed.start_honest("--config", path, place=host.Place(bed.relay_cgroup, net))
        bed.relay = before
        yield host.Place(bed.scope, net)
        server.stop()
        listener.close()


@pytest.mark.parametrize("reply", REPLIES)
def test_socks5_refuses(bed, socks5, reply):
    """Refused and timed out at once, other errors at the second connect().

    To see it fail: note nothing in dial_failed() for a pending connection.
    """
    address = ("192.0.2.1", 80 + reply)
    exact = REPLIES[reply]
    known = exact in (errno.ECONNREFUSED, errno.ETIMEDOUT)
    assert bed.run_in(errno_of, address, place=socks5) == (exact if known else errno.ECONNREFUSED)
    assert bed.run_in(errno_of, address, place=socks5) == exact


def test_socks5_connects(bed, socks5):
    """To see it fail: join no client in opened() while a dial is under way."""
    sock, = bed.sockets(place=socks5)
    sock.settimeout(wire.TIMEOUT)
    sock.connect(("192.0.2.1", 80))
    assert wire.read_exactly(sock, 5) == b"hello"
    assert sock.getpeername() == ("192.0.2.1", 80)


def test_dead_proxy(bed):
    """An upstream that cannot be reached is an error of connect() too.

    To see it fail: do not answer FAILED in joining_settle().
    """
    with host.NetNs() as net:
        path = bed.directory / "dead.conf"
        path.write_text("[relay]\ndefault-upstream = one\n[upstream one]\ntype = socks5\n"
                        "address = 127.0.0.1:9\n")
        before = bed.relay
        relay = bed.start_honest("--config", path, place=host.Place(bed.relay_cgroup, net))
        bed.relay = before
        sock, = bed.sockets(place=host.Place(bed.scope, net))
        sock.settimeout(wire.TIMEOUT)
        assert sock.connect_ex((SERVER, 80)) == errno.ECONNREFUSED
        assert relay.running()
