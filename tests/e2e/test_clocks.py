# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Clocks: the host's clock is set, the relay is in a time namespace, the relay is stopped."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

import host
import inject
import wire
from harness import CLIENT, NOBODY
from tproxyctl import CTL

CLONE_NEWTIME = 0x00000080
STALE = 5.0  # TPROXY_STALE_NS

_libc = ctypes.CDLL(None, use_errno=True)


def alive_ns(bed):
    (entry,) = bed.pins.dump("map_config")
    return entry["value"]["alive_ns"]


def is_alive(bed):
    """Evaluates alive_ns as the kernel half does: renewed a moment ago, and not in the future."""
    return abs(alive_ns(bed) - time.monotonic_ns()) < 4_500_000_000


@contextlib.contextmanager
def stopped(relay, seconds=0.0):
    """Stops the program while the block runs, for at least @seconds."""
    with relay.stopped():
        yield
        time.sleep(seconds)  # the time that has passed when the relay runs again


# --- the host's clock is set


@pytest.mark.needs("cc")
@pytest.mark.parametrize("hours", [10, -10])
def test_clock_is_set(loaded, hours):
    """No timeout becomes shorter or longer, and the relay stays registered.

    To see it fail: use CLOCK_REALTIME in monotonic_coarse_ms() or monotonic_kernel_ns(). For
    libevent's timers: let inject.c set CLOCK_MONOTONIC as well.
    """
    library = inject.build(loaded.directory)
    with inject.Faults(library, loaded.directory / "faults") as faults:
        relay = loaded.start_relay("--workers", 1, "--half-closed-timeout", "1s",
                                   "--error-memory", "1h", "--drain-timeout", "1s", env=faults.env)
        assert faults.clock_read() > 0, "the clock that is set is not the relay's"
        assert loaded.run_in(wire.fate, NOBODY) == wire.RESET
        client, server = loaded.pair()
        half_closed, _ = loaded.pair()
        since = time.monotonic()
        half_closed.shutdown(socket.SHUT_WR)
        faults.set_clock(hours * 3600)

        assert wire.ended_by(half_closed) == wire.RESET
        assert 0.9 < time.monotonic() - since < 20
        wire.exchange(client, server)
        with pytest.raises(ConnectionRefusedError):
            loaded.connect(NOBODY)  # creates an entry of the negative cache
        before = alive_ns(loaded)
        host.wait_until(lambda: alive_ns(loaded) > before, "it says that it is alive", 6.0)
        assert is_alive(loaded)
        assert loaded.visit(loaded.listen()).relayed

        since = time.monotonic()
        relay.signal(signal.SIGTERM)
        assert wire.ended_by(client) == wire.RESET, "the drain has a deadline"
        assert 0.9 < time.monotonic() - since < 20
        assert relay.wait() == 0


# --- a relay in a time namespace


class TimePlace(host.Place):
    """A place where CLOCK_MONOTONIC is ahead by @seconds."""

    seconds = 0

    def enter(self):
        super().enter()
        if _libc.unshare(CLONE_NEWTIME) < 0:
            raise OSError(ctypes.get_errno(), "unshare")
        with open("/proc/self/timens_offsets", "w", encoding="ascii") as file:
            file.write(f"monotonic {self.seconds} 500000000\n")
        namespace = os.open("/proc/self/ns/time_for_children", os.O_RDONLY)
        if _libc.setns(namespace, CLONE_NEWTIME) < 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(namespace)


class Ahead(TimePlace):
    seconds = 100_000


class Behind(TimePlace):
    seconds = -20


@pytest.mark.parametrize("kind", [Ahead, Behind])
def test_relay_in_a_time_namespace(loaded, kind):
    """The relay serves. When stopped, it is stale after the same 5 s. It remembers a failed
    destination for the configured time.

    To see it fail: do not subtract the offset in monotonic_kernel_ns(). With a clock behind nothing
    was relayed; with one ahead a stopped relay counted as alive for a day.
    """
    place = kind(loaded.relay_cgroup, loaded.client_net)
    (ahead,) = struct.unpack("=q", host.run_in(place, lambda: struct.pack(
        "=q", time.clock_gettime_ns(time.CLOCK_MONOTONIC))))
    assert abs(ahead - time.monotonic_ns() - kind.seconds * 10**9) < 3 * 10**9, "no such namespace"
    relay = loaded.start_relay("--error-memory", "10s", place=place)
    assert is_alive(loaded)
    listener = loaded.listen()
    assert loaded.visit(listener).relayed

    assert loaded.run_in(wire.fate, NOBODY) == wire.RESET
    (failed,) = loaded.pins.dump("map_failed")
    left = failed["value"]["expires_ns"] - time.monotonic_ns()
    assert 0 < left < 10_100_000_000

    def is_direct():
        client = loaded.connect(listener)
        if client.getsockname()[0] != CLIENT:
            time.sleep(0.1)  # in the relay's backlog until it continues
            return False
        return True

    with stopped(relay):
        stalled_ns = alive_ns(loaded) + STALE * 1e9
        host.wait_until(is_direct, "it is stalled", STALE + 6)
        assert time.monotonic_ns() >= stalled_ns


@pytest.mark.parametrize("kind", [Ahead, Behind])
def test_ctl_in_a_time_namespace(proxied, kind):
    """Shows the same age of a connection, and finds the relay alive, as outside. To see it fail: as
    above."""
    proxied.pair()

    def ask(command):
        answer = proxied.run(CTL, command, "--pin-dir", proxied.pins.path, "--json",
                             place=kind(proxied.outside, proxied.client_net))
        return json.loads(answer.out)

    host.wait_until(lambda: 0 < ask("connections")["connections"][0]["age_ms"] < 9000,
                    "it grows older")
    assert not [finding for finding in ask("doctor")["findings"] if "alive" in finding["what"]]


# --- a relay that stands still, as when its machine or its virtual CPU does


CLIENTS = 60


def test_stopped_for_longer_than_the_idle_timeout(loaded):
    """When the relay continues, all timeouts have expired. Sessions whose bytes are in a buffer, in
    either direction, or whose reader has made room, are not cut. Silent sessions are.

    To see it fail: do not call has_work() in expiry_is_over().
    """
    relay = loaded.start_relay("--workers", 1, "--idle-timeout", "2s")
    listener = loaded.listen()

    def connect_all():
        return [wire.connect(listener.getsockname()) for _ in range(CLIENTS + 1)]

    clients = [loaded.keep(client) for client in loaded.run_in(connect_all)]
    for number, client in enumerate(clients):
        client.sendall(bytes([number]))
    servers = {wire.read_exactly(server, 1)[0]: server
               for server, _ in (loaded.accept(listener) for _ in clients)}
    *pairs, silent = [(client, servers[number]) for number, client in enumerate(clients)]
    with stopped(relay, 2.5):
        for number, pair in enumerate(pairs):
            pair[number % 2].sendall(b"queued")
    for number, pair in enumerate(pairs):
        assert wire.read_exactly(pair[1 - number % 2], 6) == b"queued"
    assert [wire.ended_by(end) for end in silent] == [wire.RESET] * 2


def test_stopped_for_longer_than_the_connect_timeout(loaded):
    """The server has answered meanwhile, so the client is served.

    To see it fail: do not call has_work() in expiry_is_over().
    """
    relay = loaded.start_relay("--workers", 1, "--connect-timeout", "2s")
    with loaded.server_net.inside():
        full = loaded.keep(wire.listener((loaded.listen().getsockname()[0], 0), backlog=0))
    loaded.connect(full, place=loaded.server)

    def connects(state):
        return loaded.run_in(wire.tcp_states, full.getsockname(),
                             place=loaded.relay_place) == [state]

    client = loaded.connect(full)
    host.wait_until(lambda: connects(wire.SYN_SENT), "the relay connects")
    with stopped(relay, 2):
        loaded.accept(full)
        host.wait_until(lambda: connects(wire.ESTABLISHED), "the server has answered")
    server, _ = loaded.accept(full)
    wire.exchange(client, server)
    assert "timeout" not in relay.text()


@pytest.mark.needs("ss")
def test_never(loaded):
    """0 means never for every duration. Fails without or_never() in worker.c, without the condition
    in tuning_set_keepidle(), and without that in terminate(), each at once."""
    relay = loaded.start_relay("--idle-timeout", "0", "--half-closed-timeout", "0s",
                               "--connect-timeout", "0", "--keepalive-time", "0",
                               "--drain-timeout", "0ms")
    listener = loaded.listen()
    client, server = loaded.pair(listener)
    wire.exchange(client, server)
    client.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(server)[1] == wire.EOF
    other, other_server = loaded.pair(listener)
    wire.exchange(other, other_server)
    said = loaded.run("ss", "-Hnto", "dst", "{}:{}".format(*listener.getsockname()),
                      place=loaded.relay_place).succeeded().out
    assert "ESTAB" in said and "keepalive" not in said
    relay.signal(signal.SIGTERM)
    host.wait_until(lambda: "draining 2 connections\n" in relay.text(), "it drains")
    host.stays_true(relay.running, "without an end", 1.5)
    wire.exchange(other, other_server)
    server.sendall(b"late")
    wire.read_exactly(client, 4)
    for sock in (other, other_server, server, client):
        sock.close()
    assert relay.wait() == 0
