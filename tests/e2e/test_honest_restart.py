# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Honest connect while relays are replaced: a connection that is pending in the old one is finished
by it, or dialled again by the next one. Nobody is refused."""

import errno
import os
import signal
import time

import pytest

import host
import wire
from clients import connecting
from honest import HonestBed, outcomes
from test_handover import LIFE_LEAST, registered_pids, start  # noqa: F401 (a fixture)

CLIENTS = 48
SIZE = 300
TAKEOVER = 3  # seconds that a relay waits for another one after SIGTERM


@pytest.fixture
def bed(request, run_directory, binaries):
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    with HonestBed(name, run_directory / name, binaries) as bed:
        yield bed


@pytest.fixture
def loaded(bed):
    bed.load("--fail-closed")
    return bed


def pending(bed, count=3):
    """Sockets that wait at a gate: one more than @count is refused when it opens."""
    gate = bed.gate()
    listener, address = gate.listen()
    socks = bed.sockets(count + 1)
    for sock in socks[:-1]:
        assert sock.connect_ex(address) == errno.EINPROGRESS
    assert socks[-1].connect_ex(gate.address()) == errno.EINPROGRESS
    bed.slots.wait_dialling(count + 1)
    return gate, listener, socks


def finish(bed, gate, listener, socks):
    gate.open()
    assert outcomes(socks) == [0] * (len(socks) - 1) + [errno.ECONNREFUSED]
    bed.exchange_all(socks[:-1], listener)
    socks[-1].close()


@pytest.mark.deadline(90)
@pytest.mark.parametrize("options", [[], ["--workers", 1, "--listen", "127.0.0.1:3128"]],
                         ids=["", "same-port"])
def test_restart_under_load(loaded, start, options):  # noqa: F811
    """Three restarts, while each dial takes 50 to 300 ms and some take longer than the restart: no
    connection is refused, reset or accepted as before, and each byte comes back. On a machine on
    which a relay takes longer to start than the old one waits, clients are refused meanwhile.

    To see it fail: let a relay that drains stop reading its rings at once. For the same port, sleep
    between listen() and pending_pair_add(), and let the program choose from the pair of ctx->sk.
    """
    address = loaded.slow_echo()
    # The clients at the gate wait for as long as a slow machine needs for a restart.
    options = ["--honest-connect", "--drain-timeout", "1m", *options]
    start(*options)
    before = loaded.stats()
    took = 0
    with connecting(loaded, CLIENTS, size=SIZE, address=address, pause=0.1) as outcome:
        for turn in range(1, 4):
            host.wait_until(lambda: loaded.stats()["redirected"] > before["redirected"]
                            + 2 * CLIENTS * turn, "clients connect")
            waiting = loaded.gate()
            listener, to_waiting = waiting.listen()
            socks = loaded.sockets(4)
            for sock in socks:
                assert sock.connect_ex(to_waiting) == errno.EINPROGRESS
            host.wait_until(lambda: waiting.dials(to_waiting[1]) == len(socks), "it is dialled")
            old, begun = loaded.relay, time.monotonic()
            old.signal(signal.SIGTERM)
            assert old.wait() == 0
            start(*options)
            took = max(took, time.monotonic() - begun)
            assert registered_pids(loaded) == [loaded.relay.relay_pid]
            waiting.open()
            assert outcomes(socks) == [0] * len(socks)
            loaded.exchange_all(socks, listener)
    assert outcome.good > 3 * CLIENTS
    assert outcome.failed == [] or took > TAKEOVER
    assert outcome.bytes == outcome.good * SIZE
    stats = loaded.stats()
    assert stats["honest_pending"] == stats["redirected"]
    assert stats["refused"] == stats["no_relay"] == len(outcome.failed)
    assert stats["no_listener"] == 0
    loaded.wait_rest()


def test_killed_beside_another_at_the_same_port(loaded, start):  # noqa: F811
    """The other one takes over the clients that were pending: it accepts them, then dials.

    To see it fail: do not look at map_newest in client_listener(), or select no other pair's real
    listener in pick_waiting().
    """
    options = ["--honest-connect", "--workers", 1, "--listen", "127.0.0.1:3128"]
    first = start(*options)
    gate = loaded.gate()
    listener, address = gate.listen()
    socks = loaded.sockets(6)
    for sock in socks:
        assert sock.connect_ex(address) == errno.EINPROGRESS
    loaded.slots.wait_dialling(len(socks))
    start(*options)
    child = first.relay_pid
    first.stop_child()
    # Before the child, or it starts another one, which takes over the clients.
    first.kill()
    os.kill(child, signal.SIGKILL)
    assert outcomes(socks) == [0] * len(socks)
    gate.open()
    loaded.exchange_all(socks, listener)
    loaded.wait_rest()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_child_killed(loaded, start, number):  # noqa: F811
    """The supervisor holds the listening sockets, and the next child dials again. A client notices
    nothing.

    To see it fail: let claim_one() open our rings without a scan.
    """
    relay = start("--honest-connect")
    time.sleep(LIFE_LEAST)
    gate, listener, socks = pending(loaded)
    port = listener.getsockname()[1]
    os.kill(relay.relay_pid, number)
    relay.wait_registered(2)
    host.wait_until(lambda: gate.dials(port) == len(socks) - 1, "the next one dials")
    finish(loaded, gate, listener, socks)
    loaded.wait_rest()


def test_killed_and_replaced(loaded, start):  # noqa: F811
    """A relay with its supervisor is killed. Those that were pending end with an error, and the
    next relay serves new ones.

    To see it fail: let pending_claim() claim none but the rings of our supervisor.
    """
    relay = start("--honest-connect")
    gate, listener, socks = pending(loaded)
    relay.stop_child()
    os.kill(relay.relay_pid, signal.SIGKILL)
    relay.kill()
    host.wait_until(relay.gone, "it has ended")
    start("--honest-connect")
    assert all(outcomes(socks))
    gate.open()
    loaded.reach(listener)
    assert loaded.is_honest(gate.address())
    for sock in socks:
        sock.close()
