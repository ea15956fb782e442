# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""--max-per-cgroup: one service cannot take all that a relay can serve."""

import signal

import pytest

import host
import wire

MOST = 5


def warnings(relay):
    return relay.text().count("which is --max-per-cgroup")


@pytest.fixture
def greedy(loaded):
    """A place for clients in a cgroup of its own, in scope."""
    return host.Place(loaded.scope.child("greedy"), loaded.client_net)


@pytest.mark.parametrize("workers", [1, 2])
def test_limit_of_one_cgroup(loaded, greedy, workers):
    """Clients over the limit are reset, those of other cgroups are served. When one ends,
    another is served.

    To see it fail: count nothing in quota_take(), or release nothing in session_destroy().
    """
    relay = loaded.start_relay("--max-per-cgroup", MOST, "--workers", workers)
    listener = loaded.listen()
    inside = [loaded.pair(listener, place=greedy) for _ in range(MOST)]
    for _ in range(4):
        assert loaded.run_in(wire.fate, listener.getsockname(), place=greedy) == wire.RESET
    for _ in range(MOST):
        assert loaded.visit(listener).relayed
    client, server = inside.pop()
    client.close()
    assert wire.ended_by(server) == wire.EOF
    server.close()
    host.wait_until(lambda: loaded.pins.count("map_socks") == 2 * MOST - 1, "it has ended")
    host.wait_until(lambda: "closed" in relay.text(), "the relay has noticed")
    client, server = loaded.pair(listener, place=greedy)
    wire.exchange(client, server)
    for pair in inside:
        wire.exchange(*pair)
    assert warnings(relay) == 1
    relay.signal(signal.SIGUSR1)
    host.wait_until(lambda: "ended, cgroup limit: 4" in relay.text(), "they are counted")


def test_limit_that_is_reached_again_and_again(loaded, greedy):
    """Each time after all have ended. It is logged a few times only.

    To see it fail: log_warning() in quota.c.
    """
    relay = loaded.start_relay("--max-per-cgroup", 1, "--workers", 1)
    listener = loaded.listen()
    for turn in range(1, 9):
        client, server = loaded.pair(listener, place=greedy)
        assert loaded.run_in(wire.fate, listener.getsockname(), place=greedy) == wire.RESET
        wire.reset(client)
        assert wire.ended_by(server) == wire.RESET
        host.wait_until(lambda: relay.text().count("reset by client") == turn, "it has ended")
    assert warnings(relay) == 5


def test_limit_is_changed_while_it_runs(loaded, greedy):
    config = loaded.directory / "config"
    config.write_text("[relay]\n")
    relay = loaded.start_relay("--config", config)
    listener = loaded.listen()

    def configure(line, times):
        config.write_text(f"[relay]\n{line}\n")
        relay.signal(signal.SIGHUP)
        host.wait_until(lambda: relay.text().count("read the configuration again") == times,
                        "it is read")

    uncounted = loaded.pair(listener, place=greedy)
    configure("max-per-cgroup = 1", 1)
    counted = loaded.pair(listener, place=greedy)
    assert loaded.run_in(wire.fate, listener.getsockname(), place=greedy) == wire.RESET
    configure("", 2)
    for pair in (uncounted, counted, loaded.pair(listener, place=greedy)):
        wire.exchange(*pair)
        pair[0].close()
        assert wire.ended_by(pair[1]) == wire.EOF


def test_cgroup_below_has_its_own(loaded, greedy):
    """Each cgroup has a limit of its own, whatever is above it, as the man page and SECURITY.md
    say."""
    loaded.start_relay("--max-per-cgroup", 1)
    listener = loaded.listen()
    below = [host.Place(greedy.cgroup.child(name), loaded.client_net) for name in ("a", "b")]
    pairs = [loaded.pair(listener, place=place) for place in (greedy, *below)]
    for place in below:
        assert loaded.run_in(wire.fate, listener.getsockname(), place=place) == wire.RESET
    for pair in pairs:
        wire.exchange(*pair)
