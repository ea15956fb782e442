# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""--busy-poll: a worker does not sleep during a conversation of near peers, and sleeps
otherwise."""

import re
import time
from pathlib import Path

import pytest

import wire

EXCHANGES = 4000
TRIES = 5
IDLE = 0.5  # seconds


def sleeps(relay):
    """How often the threads of a relay have gone to sleep so far."""
    return sum(int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.M)[1])
               for status in Path(f"/proc/{relay.pid}/task").glob("*/status"))


def converse(address, count):
    with wire.connect(address) as sock:
        for _ in range(count):
            sock.sendall(b"x")
            assert wire.read_exactly(sock, 1) == b"x"


def sleeps_in_a_conversation(bed, *options):
    """Sleeps of the relay for each exchange, in some tries. An exchange has two waits. A peer that
    waits for a CPU is not near, and one that gets a CPU at once may answer before the relay
    waits."""
    relay = bed.start_relay("--workers", 1, *options)
    (address,) = bed.echo_server()
    for _ in range(TRIES):
        before = sleeps(relay)
        bed.run_in(converse, address, EXCHANGES, timeout=30)
        yield (sleeps(relay) - before) / EXCHANGES


@pytest.mark.alone
def test_conversation(loaded):
    """To see it fail: let may_spin() return false. Time is not measured, because the machine may be
    busy."""
    assert any(each < 0.5 for each in sleeps_in_a_conversation(loaded, "--busy-poll", 1000))


@pytest.mark.alone
def test_conversation_without(loaded):
    """To see it fail: let may_spin() return true with --busy-poll 0."""
    assert any(each > 1 for each in sleeps_in_a_conversation(loaded, "--busy-poll", 0))


@pytest.mark.parametrize("options", [[], ["--busy-poll", 1000]])
def test_idle_after_a_conversation(loaded, options):
    """Spinning paid off a moment ago and does not any more. To see it fail: spin without a
    limit."""
    relay = loaded.start_relay(*options)
    (address,) = loaded.echo_server()
    client = loaded.connect(address)
    for _ in range(500):
        client.sendall(b"x")
        assert wire.read_exactly(client, 1) == b"x"
    before = relay.cpu_seconds()
    time.sleep(IDLE)
    assert relay.cpu_seconds() - before < 0.03 * IDLE


@pytest.mark.parametrize("value", ["1001", "-1", "10us", ""])
def test_no_such_limit(loaded, value):
    loaded.run_relay("--busy-poll", value).refused("--busy-poll", f"'{value}'", "0 to 1000",
                                                   status=2)
