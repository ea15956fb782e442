# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""I10: an exchange that is prompt without a relay is prompt with it.

A client's segments on loopback have up to 64 KiB, and the kernel delays acknowledgements by 40
ms. With Nagle's algorithm, small buffers or windows both ends may wait for a timer, in nearly
every exchange. A busy machine delays some exchanges, or many for a while. So the test counts
the exchanges that took as long as a timer, in the best of some tries.
"""

import socket
import time

import pytest

import wire

pytestmark = pytest.mark.alone

TIMER = 0.035
EXCHANGES = 20
TRIES = 4
ANSWER = 100
NODELAY = (socket.SOL_TCP, socket.TCP_NODELAY, 1)


def write_all(sock, writes, options):
    """Without Nagle's algorithm each write is a segment, also between the sockets of the relay if
    it has time to read each."""
    for number, size in enumerate(writes):
        if number and NODELAY in options:
            time.sleep(0.002)
        sock.sendall(bytes(size))


def serve(listener, size, *writes):
    """Answers each request of this size, by some writes without Nagle's algorithm."""
    listener.settimeout(None)
    while True:
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(None)
            sock.setsockopt(*NODELAY)
            try:
                while True:
                    wire.read_exactly(sock, size)
                    write_all(sock, writes or [ANSWER], [NODELAY])
            except (AssertionError, ConnectionError):
                pass


def exchange_times(address, writes, options):
    with socket.socket() as sock:
        sock.settimeout(20)
        for level, name, value in options:
            sock.setsockopt(level, name, value)
        sock.connect(address)
        times = []
        for _ in range(EXCHANGES):
            start = time.monotonic()
            write_all(sock, writes, options)
            wire.read_exactly(sock, ANSWER)
            times.append(time.monotonic() - start)
        return times


def slow(times):
    return sum(taken >= TIMER for taken in times)


def small_buffer(size):
    return [(socket.SOL_SOCKET, socket.SO_SNDBUF, size)]


@pytest.mark.parametrize("writes, options", [
    ([1500, 100], []),
    ([3000, 100], []),
    ([20_000, 100], []),
    ([1500] * 30, []),
    ([2, 3000], []),
    ([200, 1448], []),
    ([900, 2500], []),
    ([50] * 4, [NODELAY]),
    ([100_000], small_buffer(4096)),
    ([100_000], small_buffer(8192)),
    ([300_000], small_buffer(32_768)),
], ids=["1500+100", "3000+100", "20000+100", "30x1500", "2+3000", "200+1448",
        "900+2500", "nodelay", "sndbuf-4K", "sndbuf-8K", "sndbuf-32K"])
def test_request(proxied, writes, options):
    """Header and body by two writes, as wget and others do, and small send buffers.

    Fails if acknowledge() in pump.c does nothing: half of the exchanges or more take 40 ms.
    Exchanges that begin with a few bytes also fail if ack_owe() does nothing, and those of a client
    without Nagle's algorithm if opening_new_session() does not set pump::nagle.
    """
    listener = proxied.listen()
    proxied.task(serve, listener, sum(writes), place=proxied.server)
    tries = []
    while len(tries) < TRIES and (not tries or slow(tries[-1]) > EXCHANGES // 4):
        tries.append(proxied.run_in(exchange_times, listener.getsockname(), writes, options,
                                    timeout=25))
    assert slow(tries[-1]) <= EXCHANGES // 4, tries


def test_answer_by_several_writes(proxied):
    """The server's sockets have no Nagle's algorithm. Fails without TCP_NODELAY in
    client_sock_prepare(): the relay's sockets have it then."""
    listener = proxied.listen()
    proxied.task(serve, listener, 100, 25, 25, 50, place=proxied.server)
    tries = []
    while len(tries) < TRIES and (not tries or slow(tries[-1]) > EXCHANGES // 4):
        tries.append(proxied.run_in(exchange_times, listener.getsockname(), [100], [], timeout=25))
    assert slow(tries[-1]) <= EXCHANGES // 4, tries


@pytest.mark.parametrize("size", [8192, 16_384], ids=["8K", "16K"])
def test_window_made_small(proxied, size):
    """SO_RCVBUF is set after connect(), when the first window was large. Without a relay this
    takes 0.1 s.

    Fails without TCP_MAXSEG in client_sock_prepare(): each 100 kB take a second or more with 8 KiB.
    """
    def taken():
        client, server = proxied.pair()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        start = time.monotonic()
        for _ in range(4):
            client.sendall(b"?")
            assert wire.read_exactly(server, 1) == b"?"
            server.sendall(bytes(100_000))
            wire.read_exactly(client, 100_000)
        return time.monotonic() - start

    assert any(taken() < 2.5 for _ in range(TRIES))
