# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A relay whose cgroup has a memory limit, kernel memory of its sockets included.

With a --max-connections that fits the limit, further clients wait, as in test_overload.py.
Without it, the kernel kills the relay at the limit, which is like a crash: its connections are
reset, and the next child of its supervisor serves, or clients connect directly. test_no_memory in
test_overload.py limits the process in place of the cgroup.
"""

import signal

import time

import pytest

import host
import wire
from stay import ClientGroup, visit_and_hold
from test_handover import LIFE_LEAST, start  # a fixture

KIB, MIB = 1 << 10, 1 << 20
# The memory of an idle connection as in the man page, and some more for a start.
EACH = 8 * KIB
START = 1 * MIB

pytestmark = pytest.mark.plain_build


@pytest.mark.deadline(60)
def test_room_for_those_who_are_let_in(loaded):
    """Three times as many clients as there is memory for: a third is served and works, and the
    others wait for them to leave. A connection takes no more memory than the man page says.

    To see it fail: calloc() 8 KiB more for each session in session_create().
    """
    most = 1000
    place, memory = loaded.limited_place()
    relay = loaded.start_relay("--max-connections", most, "--connection-log", "none", place=place)
    (address,) = loaded.echo_server()
    inside = [loaded.pair() for _ in range(10)]
    memory.limit(memory.used() + START + most * EACH)
    first = ClientGroup(loaded, address, most)
    first.wait_connected(20)
    room = most - len(inside)
    first.wait(lambda: first.served() == room, "a third is served")
    others = ClientGroup(loaded, address, 2 * most)
    others.wait_connected(20)
    for client, server in inside:
        wire.exchange(client, server, bytes(1000))
    client, server = inside[0]
    stream = wire.Stream("inside", 16 * MIB)
    loaded.task(wire.send_stream, server, stream, place=loaded.server)
    assert wire.receive_stream(client) == (stream.size, stream.sha256())
    assert (first.served(), others.served()) == (room, 0)
    first.leave()
    others.wait(lambda: others.served() == room, "the next third is served")
    assert relay.running() and memory.kills() == 0


@pytest.mark.deadline(60)
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_the_limit(loaded, workers):
    """No connection hangs, later clients connect directly, and another relay with more memory
    serves those after them.

    To see it fail: let is_our_listener() in bpf/ always return true.
    """
    place, memory = loaded.limited_place()
    relay = loaded.start_relay("--workers", workers, place=place)
    (address,) = loaded.echo_server()
    client, server = loaded.pair()
    wire.exchange(client, server)
    memory.limit(memory.used() + 2 * MIB)
    verdicts = loaded.run_in(visit_and_hold, address, 2000, timeout=30)
    relay.killed = True
    assert relay.wait() == -signal.SIGKILL and memory.kills() >= 1
    assert [wire.ended_by(end) for end in (client, server)] == [wire.RESET] * 2
    assert "served" in verdicts and verdicts <= {"served", wire.RESET}
    assert not loaded.visit(loaded.listen()).relayed
    memory.limit(64 * MIB)
    loaded.start_relay("--workers", workers, place=place)
    assert loaded.visit(loaded.listen()).relayed


@pytest.mark.deadline(60)
def test_service_killed_at_the_limit(loaded, start):
    """With a supervisor, as in the unit, the next child starts by itself, and no connection is
    direct.

    To see it fail: do not call hold_listeners().
    """
    loaded.load("--fail-closed")
    place, memory = loaded.limited_place()
    relay = start("--workers", 1, place=place)
    (address,) = loaded.echo_server()
    client, server = loaded.pair()
    wire.exchange(client, server)
    time.sleep(LIFE_LEAST)
    memory.limit(memory.used() + 16 * MIB)
    verdicts = loaded.run_in(visit_and_hold, address, 3500, timeout=30)
    assert [wire.ended_by(end) for end in (client, server)] == [wire.RESET] * 2
    assert "served" in verdicts and verdicts <= {"served", wire.RESET}
    relay.wait_registered(2)
    assert memory.kills() == 1 and relay.running()
    assert loaded.visit(loaded.listen()).relayed
    stats = loaded.stats()
    assert stats["no_relay"] == stats["no_listener"] == stats["refused"] == 0
