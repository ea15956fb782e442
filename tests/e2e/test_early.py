# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Clients that connect at the same time: the relay reads what they have sent before it connects
upstream, and sends it with the last segment of that handshake (connect_directly())."""

import itertools
import socket

import pytest

import host
import wire
from test_log import counters, wait_ended

CLIENTS = 24


def connect_all(address):
    return [wire.connect(address) for _ in range(CLIENTS)]


@pytest.fixture
def at_once(loaded):
    """Takes a listener and what a client does after connecting. Several clients do it while the
    relay is stopped, and only then the relay accepts them."""
    loaded.start_relay("--workers", 1, "--listeners", 1)

    def connect(listener, say):
        with loaded.relay.stopped():
            clients = loaded.run_in(connect_all, listener.getsockname())
            for client in clients:
                say(loaded.keep(client))
        return clients

    return connect


def counter(bed, table, row, name):
    """A counter of the clients' namespace, which is the relay's too."""
    with bed.client_net.inside(), open(f"/proc/net/{table}", encoding="ascii") as file:
        names, values = (line.split() for line in file if line.startswith(row))
    return int(values[names.index(name)])


def segments(bed):
    """The number of segments that were sent."""
    return counter(bed, "snmp", "Tcp:", "OutSegs")


def test_one_segment_less(loaded, at_once):
    """To see it fail: do not call pump_prefetch(), or leave TCP_QUICKACK on."""
    listener = loaded.listen()

    def sent_by(serve):
        before = segments(loaded)
        serve()
        return (segments(loaded) - before) / CLIENTS

    def one_after_the_other():
        for _ in range(CLIENTS):
            client = loaded.connect(listener)
            client.sendall(b"x")
            assert wire.read_exactly(loaded.accept(listener)[0], 1) == b"x"

    def together():
        at_once(listener, lambda client: client.sendall(b"x"))
        for _ in range(CLIENTS):
            assert wire.read_exactly(loaded.accept(listener)[0], 1) == b"x"

    # A handshake that does not complete at once saves nothing, which happens on a busy machine.
    assert any(sent_by(one_after_the_other) - sent_by(together) > 0.7 for _ in range(5))


def test_request_and_end(loaded, at_once):
    """The client half-closed before the relay accepted it. To see it fail: take EOF for a reset in
    pump_prefetch()."""
    listener = loaded.listen()

    def say(client):
        client.sendall(b"request")
        client.shutdown(socket.SHUT_WR)

    clients = at_once(listener, say)
    for _ in clients:
        server, _ = loaded.accept(listener)
        assert wire.read_exactly(server, 7) == b"request"
        assert wire.ended_by(server) == wire.EOF
        server.sendall(b"response")
        server.close()
    for client in clients:
        assert wire.read_exactly(client, 8) == b"response"
        assert wire.ended_by(client) == wire.EOF


def test_silence(loaded, at_once):
    """A server that speaks first."""
    listener = loaded.listen()
    clients = at_once(listener, lambda client: None)
    for _ in clients:
        loaded.accept(listener)[0].sendall(b"hello")
    for client in clients:
        assert wire.read_exactly(client, 5) == b"hello"


def test_server_that_writes_twice_is_not_slow(loaded, at_once):
    """Nagle's algorithm holds its second write until the first one is acknowledged, which happens
    at once without tproxy. To see it fail: do not turn TCP_QUICKACK on in
    session_start_relaying()."""
    listener = loaded.listen()

    def delayed():
        before = counter(loaded, "netstat", "TcpExt:", "DelayedACKs")
        clients = at_once(listener, lambda client: client.sendall(b"x"))
        for _ in clients:
            server, _ = loaded.accept(listener)
            assert wire.read_exactly(server, 1) == b"x"
            server.sendall(b"a")
            server.sendall(b"b")
        for client in clients:
            assert wire.read_exactly(client, 2) == b"ab"
        return counter(loaded, "netstat", "TcpExt:", "DelayedACKs") - before

    # A reader that gets no CPU for 40 ms is late too.
    assert any(delayed() < CLIENTS / 2 for _ in range(5))


def waiting(listener):
    """How many connections wait for accept()."""
    listener.setblocking(False)
    for number in itertools.count():
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return number


def all_reset(bed):
    """Waits until the relay has accepted all clients and none is left."""
    host.wait_until(lambda: counters(bed.relay, r"now, (\d+) accepted") == CLIENTS, "accepted")
    wait_ended(bed.relay)


@pytest.mark.parametrize("data, least, most", [(b"", 0, 1), (b"x", CLIENTS, CLIENTS)],
                         ids=["silent", "sent"])
def test_reset_in_the_backlog(loaded, at_once, data, least, most):
    """The server gets what clients sent before they reset, and does not hear of those that sent
    nothing: a flood of them delays others less. The first one is served as if it were alone.

    To see it fail: ignore prefetch_error in connect_directly().
    """
    listener = loaded.listen()

    def give_up(client):
        client.sendall(data)
        wire.reset(client)

    at_once(listener, give_up)
    all_reset(loaded)
    assert least <= waiting(listener) <= most


def test_reset_before_a_dial(loaded, at_once):
    """The same with a proxy. To see it fail: do not call has_given_up() in dial()."""
    proxy = loaded.listen()
    config = loaded.directory / "relay.conf"
    config.write_text("[relay]\ndefault-upstream = a\n[upstream a]\ntype = http\n"
                      "address = {}:{}\n".format(*proxy.getsockname()))
    loaded.relay.kill()
    loaded.start_relay("--workers", 1, "--listeners", 1, "--config", config)
    at_once(proxy, wire.reset)
    all_reset(loaded)
    assert waiting(proxy) <= 1
