# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Negative cache: connect() to a destination that could not be reached a moment ago fails with
the true error.

The client whose connection met the error is reset, because its connect() had succeeded already.
"""

import errno
import os
import socket
import struct
import time

import pytest

import host
import host6
import wire
from harness import BLACKHOLE, NOBODY, SERVER, SERVER2
from host6 import SERVER6, SERVER6_2

SO_NETNS_COOKIE = 71
NOBODY6 = (SERVER6, 9)
FAILED_KEY = struct.Struct("=8s16sHHI")
FAILED = struct.Struct("=QII")


@pytest.fixture
def bed(bed):
    host6.give_addresses(bed)
    return bed


@host.needs_no_process
def errno_of(address):
    """Returns the errno of connect(2) of a socket of the address's family."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as sock:
        sock.settimeout(wire.TIMEOUT)
        return sock.connect_ex(address)


@host.needs_no_process
def fate(address):
    return (host6.fate if ":" in address[0] else wire.fate)(address)


def learn(bed, address, place=None):
    """The first client is reset."""
    assert bed.run_in(fate, address, place=place) == wire.RESET


def ask(bed, address, place=None):
    """Returns the errno of connect(), and how many known failures were counted."""
    before = bed.stats()["negative_cache"]
    code = bed.run_in(errno_of, address, place=place)
    return code, bed.stats()["negative_cache"] - before


@pytest.fixture
def remembering(loaded):
    """A relay that remembers for longer than a test takes."""
    loaded.start_relay("--error-memory", "1m", "--connect-timeout", "200ms")
    return loaded


# --- the true errno


@pytest.mark.parametrize("address", [NOBODY, NOBODY6], ids=["inet", "inet6"])
def test_refused(remembering, address):
    """To see it fail: do not note the error in connect_failed()."""
    learn(remembering, address)
    assert ask(remembering, address) == (errno.ECONNREFUSED, 1)
    assert ask(remembering, address) == (errno.ECONNREFUSED, 1)


@pytest.mark.parametrize("kind, error", [("unreachable", errno.EHOSTUNREACH),
                                         ("throw", errno.ENETUNREACH)])
@pytest.mark.parametrize("prefix, address", [("192.0.2.0/24", ("192.0.2.1", 80)),
                                             ("2001:db8:1::/48", ("2001:db8:1::1", 80))],
                         ids=["inet", "inet6"])
def test_no_route(remembering, kind, error, prefix, address):
    """The relay's kernel has no route. Other clients get the same error."""
    remembering.client_net.ip(f"route add {kind} {prefix}")
    assert remembering.run_in(errno_of, address, place=remembering.bystander) == error
    learn(remembering, address)
    assert ask(remembering, address) == (error, 1)


@pytest.mark.parametrize("kind, prefix, address", [
    ("prohibit", "192.0.2.0/24", ("192.0.2.1", 80)),
    ("blackhole", "192.0.2.0/24", ("192.0.2.1", 80)),
    ("prohibit", "2001:db8:1::/48", ("2001:db8:1::1", 80)),
    ("blackhole", "2001:db8:1::/48", ("2001:db8:1::1", 80))])
def test_local_policy_is_not_remembered(remembering, kind, prefix, address):
    """EACCES and EINVAL concern this host and not the destination, so there is only a reset.

    To see it fail: remember any errno in marks_note_error().
    """
    remembering.client_net.ip(f"route add {kind} {prefix}")
    for _ in range(2):
        learn(remembering, address)
    assert remembering.stats()["negative_cache"] == 0


@pytest.mark.parametrize("kind, prefix, error", [
    ("unreachable", "203.0.113.0/24", errno.EHOSTUNREACH),
    ("prohibit", "203.0.113.0/24", errno.EHOSTUNREACH)])
def test_router_says_unreachable(remembering, kind, prefix, error):
    """By ICMP, some time after the SYN."""
    remembering.server_net.sysctl("ipv4/ip_forward", 1)
    remembering.server_net.ip(f"route add {kind} {prefix}")
    assert remembering.run_in(errno_of, BLACKHOLE, place=remembering.bystander) == error
    learn(remembering, BLACKHOLE)
    assert ask(remembering, BLACKHOLE) == (error, 1)


@pytest.mark.parametrize("address", [BLACKHOLE, host6.BLACKHOLE6], ids=["inet", "inet6"])
def test_timed_out(remembering, address):
    """--connect-timeout has expired. To see it fail: do not note it in session_expire()."""
    started = time.monotonic()
    learn(remembering, address)
    assert time.monotonic() - started >= 0.19
    assert ask(remembering, address) == (errno.ETIMEDOUT, 1)


def test_second_connect_on_a_nonblocking_socket(remembering):
    """It fails at once, without EINPROGRESS, and the socket can be used again."""
    learn(remembering, NOBODY)
    listener = remembering.listen()
    address = listener.getsockname()

    def connect():
        sock = socket.socket()
        sock.setblocking(False)
        return sock, sock.connect_ex(NOBODY), sock.connect_ex(address)

    client, first, second = remembering.run_in(connect)
    remembering.keep(client)
    assert (first, second) == (errno.ECONNREFUSED, errno.EINPROGRESS)
    client.settimeout(wire.TIMEOUT)
    server, peer = remembering.accept(listener)
    wire.exchange(client, server)
    assert peer != client.getsockname() and client.getpeername() == address


def test_mapped_is_the_same_destination(remembering):
    learn(remembering, NOBODY)
    assert ask(remembering, host6.mapped(NOBODY)) == (errno.ECONNREFUSED, 1)


# --- for how long


def test_for_no_longer_than_the_error_memory(loaded):
    """To see it fail: ignore expires_ns, or renew it with each connect()."""
    loaded.start_relay("--error-memory", "1s")
    before = time.monotonic()

    def until_redirected():
        count = 0
        assert fate(NOBODY) == wire.RESET
        while errno_of(NOBODY) == errno.ECONNREFUSED:
            count += 1
        return time.monotonic(), count

    ended, count = loaded.run_in(until_redirected)
    assert ended >= before + 1
    assert count > 0 and loaded.stats()["negative_cache"] == count


def test_one_second_by_default(proxied):
    before = time.monotonic()
    learn(proxied, NOBODY)
    after = time.monotonic()
    (entry,) = proxied.pins.dump("map_failed")
    assert before + 1 <= entry["value"]["expires_ns"] / 1e9 <= after + 1
    assert entry["value"]["error"] == errno.ECONNREFUSED


@pytest.mark.parametrize("address", [NOBODY, NOBODY6], ids=["inet", "inet6"])
def test_turned_off(loaded, address):
    """--error-memory 0."""
    loaded.start_relay("--error-memory", "0")
    for _ in range(3):
        learn(loaded, address)
    assert loaded.stats()["negative_cache"] == 0 and loaded.stats()["redirected"] == 3
    assert loaded.pins.dump("map_failed") == []


def test_server_that_comes_back_is_reached(loaded):
    """When the time has passed, without an attempt by a client."""
    loaded.start_relay("--error-memory", "300ms")
    learn(loaded, NOBODY)
    listener = loaded.listen(*NOBODY)
    host.wait_until(lambda: loaded.run_in(errno_of, NOBODY) == 0, "it is reached")
    loaded.accept(listener)
    assert loaded.visit(listener).relayed


def test_error_of_a_relay_that_is_gone(loaded):
    """Without a relay connections are direct, whatever a relay met before."""
    loaded.start_relay("--error-memory", "1m")
    learn(loaded, NOBODY)
    listener = loaded.listen(*NOBODY)
    loaded.relay.kill()
    assert not loaded.visit(listener).relayed
    assert loaded.stats()["negative_cache"] == 0


# --- for whom


def impatient_fate(address):
    """The fate of a client with the least TCP_USER_TIMEOUT."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as sock:
        sock.settimeout(wire.TIMEOUT)
        sock.setsockopt(socket.SOL_TCP, socket.TCP_USER_TIMEOUT, 1)
        sock.connect(address)
        return wire.ended_by(sock)


def test_not_for_clients_that_wait_longer(loaded):
    """A client's own TCP_USER_TIMEOUT ends the relay's connect() at its first retransmission. The
    next client has its own time. To see it fail: do not ask tuning_limits_connect()."""
    loaded.start_relay("--error-memory", "1m", "--connect-timeout", "1h")
    fates = [loaded.task(impatient_fate, address) for address in (BLACKHOLE, host6.BLACKHOLE6)]
    assert [task.result() for task in fates] == [wire.RESET] * 2
    assert loaded.pins.dump("map_failed") == []
    assert ask(loaded, BLACKHOLE) == (0, 0)


def test_not_for_another_destination(remembering):
    """Another port, another address, the other family. To see it fail: leave the port, the address
    or half of the address out of the key."""
    learn(remembering, NOBODY)
    learn(remembering, NOBODY6)
    for address in (SERVER, SERVER2):
        port = NOBODY[1] + (address == SERVER)
        assert remembering.visit(remembering.listen(address, port)).relayed
    for address in (SERVER6, SERVER6_2):
        port = NOBODY6[1] + (address == SERVER6)
        assert host6.visit(remembering, host6.listen(remembering, address, port)).relayed
    assert remembering.stats()["negative_cache"] == 0


def test_not_in_another_namespace(remembering):
    """10.9.9.9 exists in one namespace only. To see it fail: leave netns_cookie out of the key."""
    remembering.start_relay("--error-memory", "1m",
                            place=host.Place(remembering.relay_cgroup, remembering.server_net))
    remembering.server_net.ip("addr add 10.9.9.9/32 dev lo")
    listener = remembering.listen("10.9.9.9")
    learn(remembering, listener.getsockname())
    assert ask(remembering, listener.getsockname()) == (errno.ENETUNREACH, 1)
    there = host.Place(remembering.scope, remembering.server_net)
    assert remembering.visit(listener, place=there).relayed
    assert ask(remembering, listener.getsockname()) == (errno.ENETUNREACH, 1)


def test_bystanders_connect_for_themselves(remembering):
    learn(remembering, NOBODY)
    listener = remembering.listen(*NOBODY)
    assert not remembering.visit(listener, place=remembering.bystander).relayed
    assert remembering.run_in(errno_of, NOBODY) == errno.ECONNREFUSED


def note(bed, address, error, seconds=60):
    """Writes to map_failed as a relay does."""
    with bed.client_net.inside(), socket.socket() as sock:
        cookie = sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
    packed = b"\xff\xff".rjust(12, b"\0") + socket.inet_aton(address[0])
    expires = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + int(seconds * 1e9)
    with bed.pins.open("map_failed") as failed:
        failed.update(FAILED_KEY.pack(cookie, packed, address[1], 0, 0),
                      FAILED.pack(expires, error, 0))


def test_nonsense_in_the_map_is_ignored(proxied):
    """An errno of 0, one out of range, and one that has expired. To see it fail: let cached_error()
    return any failed_error."""
    listener = proxied.listen()
    for error, seconds in ((0, 60), (4096, 60), (1 << 31, 60), (errno.ECONNREFUSED, -1)):
        note(proxied, listener.getsockname(), error, seconds)
        assert proxied.visit(listener).relayed
    note(proxied, listener.getsockname(), errno.EHOSTUNREACH)
    assert ask(proxied, listener.getsockname()) == (errno.EHOSTUNREACH, 1)


def test_full_memory_forgets_older_errors(remembering):
    """A full map does not make connections fail."""
    for number in range(5000):
        note(remembering, (socket.inet_ntoa(struct.pack(">I", 0x0A000000 + number)), 80),
             errno.ECONNREFUSED)
    learn(remembering, NOBODY)
    assert ask(remembering, NOBODY) == (errno.ECONNREFUSED, 1)


# --- what it is for


def serve_pages(listener):
    while True:
        conn, _ = listener.accept()
        with conn:
            conn.recv(1 << 16)
            conn.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\npage\n")


@pytest.mark.needs("curl")
def test_happy_eyeballs(loaded):
    """The first address refuses, the second one works. curl connects to it, with its second call at
    the latest. (The reset comes so soon that curl may take it for a refusal by the first one.)"""
    loaded.start_relay("--error-memory", "1m")
    listener = loaded.listen()
    port = listener.getsockname()[1]
    loaded.task(serve_pages, listener, place=loaded.server)

    def curl():
        return loaded.run("curl", "-sS", "--max-time", 10, "--noproxy", "*", "--resolve",
                           f"service.test:{port}:[{SERVER6}],{SERVER}",
                           f"http://service.test:{port}/",
                           env={"HOME": os.fspath(loaded.directory)})

    assert curl().status in (0, 7, 52, 55, 56)
    assert loaded.stats()["negative_cache"] == 0
    assert curl().succeeded().out == "page\n"
    assert loaded.stats()["negative_cache"] == 1
