# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Many connections one after the other: none fails, and nothing is left (I4)."""

import pytest

import host
import wire
from programs import SANITIZED

CONNECTIONS = 20_000
WARM_UP = 2_000


def visit_in_turn(addresses, count):
    """Each connection carries a byte there and back."""
    for number in range(count):
        with wire.connect(addresses[number % len(addresses)]) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x", f"connection {number}"


@pytest.mark.deadline(200)
def test_20000_connections(proxied):
    """I4. To see it fail: leak one socket, or one map entry, in a hundred connections; leak the
    memory of one session in ten.

    Memory is compared with that of the relay after a warm-up.
    """
    relay = proxied.relay
    addresses = proxied.echo_server(4)
    # Use all ports at once. Sequential clients may have one worker only, and each worker that has
    # served a client keeps a prepared upstream socket.
    for end in [end for _ in range(2 * relay.ports()) for end in proxied.pair()]:
        end.close()
    proxied.run_in(visit_in_turn, addresses, WARM_UP, timeout=60)
    host.wait_until(proxied.pins.at_rest, "maps are empty after the warm-up")
    memory, descriptors = relay.rss_kib(), relay.descriptors()

    proxied.run_in(visit_in_turn, addresses, CONNECTIONS, timeout=180)
    host.wait_until(proxied.pins.at_rest, "maps are empty")
    host.wait_until(lambda: relay.descriptors() <= descriptors, "descriptors are closed")
    assert relay.rss_kib() - memory < (8192 if SANITIZED else 512)
    visits = 2 * relay.ports() + WARM_UP + CONNECTIONS
    host.wait_until(lambda: len(relay.connections()) == visits, "all are told of")
    stats = proxied.stats()
    assert stats.pop("redirected") == visits
    assert not any(stats.values()), stats
