# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A session that moves bulk data goes to the bulk worker, and comes back
(proxy/worker/handoff.h).

Whatever happens on the way, its bytes are exact and it ends as without a handoff (I6, I12).
"""

import contextlib
import random
import signal
import threading
import time
from pathlib import Path

import pytest

import host
import wire

WORKER, BULK = "tproxy-worker", "tproxy-bulk"
MIB = 1 << 20
ENOUGH = 16 * MIB  # enough to be handed over, with some left


def cpu_ns(relay, name):
    """The CPU time of the threads of this name."""
    return sum(int((comm.parent / "schedstat").read_text().split()[0])
               for comm in Path(f"/proc/{relay.pid}/task").glob("*/comm")
               if comm.read_text() == f"{name}\n")


def send_all(sock, stream):
    """If the connection is reset, the reader finds that bytes are missing."""
    with contextlib.suppress(ConnectionError):
        for block in stream.blocks():
            sock.sendall(block)


def move(source, target, size, name="bulk", pause=0.0):
    """Sends @size bytes from one end to the other and compares them."""
    stream = wire.Stream(name, size)
    sender = threading.Thread(target=send_all, args=(source, stream))
    sender.start()
    for block in stream.blocks():
        assert wire.read_exactly(target, len(block)) == block
        time.sleep(pause)
    sender.join(wire.TIMEOUT)
    assert not sender.is_alive()


@pytest.fixture(name="talk")
def fixture_talk(loaded):
    """A relay with one worker that has a second session. A session that is the only one is not
    handed over."""
    relay = loaded.start_relay("--workers", 1)
    client, server = loaded.pair()
    wire.exchange(client, server)
    return relay, client, server


@pytest.mark.parametrize("way", ["up", "down"])
def test_bulk_goes_and_comes_back(loaded, talk, way):
    """To see it fail: let handoff_bulk() return false; let handoff_small() return false."""
    relay = talk[0]
    client, server = loaded.pair()
    ends = (client, server) if way == "up" else (server, client)
    before = cpu_ns(relay, BULK)

    def is_there():
        move(*ends, ENOUGH)
        return cpu_ns(relay, BULK) > before + 2_000_000

    host.wait_until(is_there, "bulk moves on the bulk worker", 15)
    for _ in range(100):
        wire.exchange(client, server)
    before = [cpu_ns(relay, name) for name in (WORKER, BULK)]
    for _ in range(1000):
        wire.exchange(client, server)
    worker, bulk = (cpu_ns(relay, name) - start
                    for name, start in zip((WORKER, BULK), before, strict=True))
    # Each thread answers the main thread once a second.
    assert bulk < worker / 4
    wire.exchange(*talk[1:])


@pytest.mark.parametrize("workers", [1, 3])
def test_bytes_between_handoffs(loaded, workers):
    """Bulk and small messages alternate in both directions, on many connections, with slow
    receivers.

    To see it fail: forget the pipe, or what a half waits for, in session_attach().
    """
    loaded.start_relay("--workers", workers)
    listener = loaded.listen()
    pairs = [loaded.pair(listener) for _ in range(6)]
    failures = []

    def use(number, client, server):
        rng = random.Random(number)
        try:
            for phase in range(6):
                ends = (client, server) if rng.random() < 0.5 else (server, client)
                size = rng.randrange(MIB, 4 * MIB)
                move(*ends, size, f"{number}/{phase}", rng.choice([0, 0, 0.005]))
                for _ in range(rng.choice([10, 70, 90])):
                    wire.exchange(client, server)
        except (AssertionError, OSError) as error:
            failures.append(f"{number}: {error!r}")

    threads = [threading.Thread(target=use, args=(number, *pair))
               for number, pair in enumerate(pairs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("end", ["half-close", "reset-by-client", "reset-by-server", "idle",
                                 "half-closed"])
def test_ends_after_a_handoff(loaded, talk, end):
    """It ends as on the worker that accepted it, and makes room for the next client."""
    relay = talk[0]
    client, server = loaded.pair()
    move(server, client, ENOUGH)
    if end == "half-close":
        client.shutdown(wire.socket.SHUT_WR)
        assert wire.read_to_end(server) == (b"", wire.EOF)
        move(server, client, ENOUGH)
        server.close()
        assert wire.read_to_end(client) == (b"", wire.EOF)
    elif end.startswith("reset"):
        one, other = (client, server) if end == "reset-by-client" else (server, client)
        wire.reset(one)
        assert wire.ended_by(other) == wire.RESET
        host.wait_until(lambda: relay.says(end.replace("-", " ")), "it says so")
    else:
        option = "idle" if end == "idle" else "half-closed"
        relay = loaded.start_relay("--workers", 1, f"--{option}-timeout", "1s")
        _other = loaded.pair()
        client, server = loaded.pair()
        move(server, client, ENOUGH)
        if end == "half-closed":
            client.shutdown(wire.socket.SHUT_WR)
        assert wire.ended_by(server) in (wire.RESET, wire.EOF)
        assert wire.ended_by(client) == wire.RESET
        assert relay.says(f"{end} timeout")


def test_limit_after_a_handoff(loaded):
    """A session that ends on the bulk worker makes room on the worker that accepts."""
    relay = loaded.start_relay("--workers", 1, "--max-connections", 2)
    listener = loaded.listen()
    first, second = loaded.pair(listener), loaded.pair(listener)
    move(*first, ENOUGH)
    waiting = loaded.connect(listener)
    relay.says("accepting paused")
    for end in first:
        end.close()
    server = loaded.accept(listener)[0]
    wire.exchange(waiting, server)
    wire.exchange(*second)


@pytest.mark.parametrize("timeout", ["20s", "300ms"])
def test_drain_while_sessions_move(loaded, timeout):
    """Sessions on the way to another worker are drained too, or reset at the deadline.

    To see it fail: do not tell the bulk workers to drain.
    """
    relay = loaded.start_relay("--workers", 2, "--drain-timeout", timeout)
    listener = loaded.listen()
    pairs = [loaded.pair(listener) for _ in range(8)]
    outcomes = []

    def use(client, server):
        try:
            for _ in range(8):
                move(client, server, 2 * MIB, pause=0.02)
                for _ in range(70):
                    wire.exchange(client, server)
            client.close()
            server.close()
            outcomes.append("whole")
        except (AssertionError, OSError):
            outcomes.append("reset")

    threads = [threading.Thread(target=use, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    host.wait_until(lambda: cpu_ns(relay, BULK) > 1_000_000, "bulk has moved", 15)
    relay.signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert relay.wait() == 0
    if timeout == "20s":
        assert outcomes == ["whole"] * len(pairs)
    else:
        assert "reset" in outcomes and len(outcomes) == len(pairs)
