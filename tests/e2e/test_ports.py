# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The ports of a relay: each of its listening sockets has one, and connect chooses among them."""

import collections
import errno
import signal
import socket
from pathlib import Path

import pytest

import host
import host6
import wire
from harness import SERVER

EPHEMERAL = 200  # the number of source ports left to the clients' namespace


@pytest.fixture
def loaded(bed):
    """The hosts have IPv6 routes, without which a relay does not serve IPv6."""
    host6.give_addresses(bed)
    bed.load()
    return bed


def ports(pins, family=0):
    """The ports that the relay has registered."""
    (entry,) = pins.dump("map_config")
    listen = entry["value"]["listen"][family]
    return listen["ports"][:listen["n_ports"]]


def taken(pins):
    """The number of live connections at each port."""
    return collections.Counter(entry["key"]["dst"]["port"] for entry in pins.dump("map_ports"))


@pytest.mark.parametrize("options, count", [
    (["--workers", 1], 4), (["--workers", 2], 4), (["--workers", 3], 6), (["--workers", 7], 7),
    (["--workers", 2, "--listeners", 5], 10), (["--workers", 64], 64)])
def test_number_of_ports(loaded, options, count):
    """A multiple of the number of workers, at least four by default."""
    loaded.start_relay(*options)
    for family in (0, 1):
        assert len(set(ports(loaded.pins, family))) == count
    assert loaded.relay.says(f"ports {2 * count}")


@pytest.mark.parametrize("options", [["--workers", 1], ["--workers", 2], ["--workers", 3]])
def test_connections_take_them_in_turn(loaded, options):
    """Each worker has the same number of connections. To see it fail: let port_compare() keep the
    first."""
    loaded.start_relay(*options)
    listener, count = loaded.listen(), len(ports(loaded.pins))
    pairs = [loaded.pair(listener) for _ in range(5 * count)]
    assert taken(loaded.pins) == {port: 5 for port in ports(loaded.pins)}
    for client, server in pairs:
        wire.exchange(client, server)


def test_one_after_the_other_has_one_port(loaded):
    """The worker that has just served the client is awake. A client that connects meanwhile
    gets another port.

    To see it fail: let entries_count() count no deletion.
    """
    loaded.start_relay("--workers", 2)
    listener, seen = loaded.listen(), []
    for _ in range(10):
        client, server = loaded.pair(listener)
        seen += taken(loaded.pins)
        client.close()
        assert wire.ended_by(server) == wire.EOF
        server.close()
        host.wait_until(loaded.pins.at_rest, "it has ended")
    assert len(seen) == 10 and len(set(seen)) == 1
    for _ in range(len(ports(loaded.pins))):
        loaded.pair(listener)
    assert taken(loaded.pins) == {port: 1 for port in ports(loaded.pins)}


def test_place_of_one_that_ends_is_taken(loaded):
    """With one connection at each port, the next one gets the port of the one that has ended.

    To see it fail: let port_compare() keep the first.
    """
    loaded.start_relay("--workers", 2)
    listener, even = loaded.listen(), {port: 1 for port in ports(loaded.pins)}
    pairs = [loaded.pair(listener) for _ in even]
    assert taken(loaded.pins) == even
    for client, server in pairs:
        client.close()
        assert wire.ended_by(server) == wire.EOF
        server.close()
        host.wait_until(lambda: sum(taken(loaded.pins).values()) == len(even) - 1, "it has ended")
        loaded.pair(listener)
        assert taken(loaded.pins) == even


def test_both_families_take_turns(loaded):
    loaded.start_relay("--workers", 1, "--listeners", 2)
    host6.visit(loaded, host6.listen(loaded))
    assert loaded.visit(loaded.listen()).relayed


def test_turns_go_on_when_the_relay_renews_its_entry(loaded):
    """The relay renews it once a second. To see it fail: let port_compare() keep the first."""
    loaded.start_relay("--workers", 1, "--listeners", 3)
    listener = loaded.listen()

    def alive():
        return loaded.pins.dump("map_config")[0]["value"]["alive_ns"]

    for _ in range(3):
        before = alive()
        loaded.pair(listener)
        host.wait_until(lambda: alive() != before, "the entry is renewed")
    assert taken(loaded.pins) == {port: 1 for port in ports(loaded.pins)}


def connect_many(address, count):
    """Makes connections while there are source ports, up to @count. Returns the errno of the next
    one."""
    socks = []
    for _ in range(count):
        sock = socket.socket()
        sock.settimeout(wire.TIMEOUT)
        code = sock.connect_ex(address)
        if code:
            return socks, code
        socks.append(sock)
    return socks, 0


@pytest.mark.parametrize("listeners", [1, 4])
def test_more_connections_than_ephemeral_ports(loaded, listeners):
    """Each port of the relay takes as many connections as there are source ports: 28,232 by
    default, 200 here. From the relay on, the number of destinations counts, which is eight.

    To see it fail: let port_compare() keep the first.
    """
    relay = loaded.start_relay("--workers", 1, "--listeners", listeners)
    with loaded.client_net.inside():
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"20000 {20000 + EPHEMERAL - 1}")
    addresses = loaded.echo_server(listeners=8)

    def connect_all():
        socks = []
        for address in addresses:
            more, code = connect_many(address, 150)
            socks += more
            if code:
                break
        for sock in socks:
            sock.sendall(b"x")
            assert wire.read_exactly(sock, 1) == b"x"
        return len(socks), code

    count, code = loaded.run_in(connect_all, timeout=30)
    assert (count, code) == (listeners * EPHEMERAL, errno.EADDRNOTAVAIL)
    assert relay.running()
    host.wait_until(loaded.pins.at_rest, "nothing is left")


def test_port_that_was_asked_for(loaded):
    """One port for each worker, from there on."""
    loaded.start_relay("--workers", 3, "--listen", "127.0.0.1:7654", "--listen", "[::1]:8000")
    assert ports(loaded.pins) == [7654, 7655, 7656]
    assert ports(loaded.pins, family=1) == [8000, 8001, 8002]
    listener = loaded.listen()
    for _ in range(3):
        assert loaded.visit(listener).relayed
    assert set(taken(loaded.pins)) == {7654, 7655, 7656}


def test_next_port_is_taken(loaded):
    stranger = loaded.listen("127.0.0.1", 7655, netns=loaded.client_net)
    result = loaded.run_relay("--workers", "2", "--listen", "127.0.0.1:7654")
    result.refused("127.0.0.1:7655", "in use")
    assert stranger and loaded.pins.dump("map_config") == []


@pytest.mark.parametrize("options, needles", [
    (["--workers", "4", "--listeners", "17"], ["17", "4 workers", "64"]),
    (["--workers", "2", "--listen", "127.0.0.1:65535"], ["127.0.0.1:65535", "2 ports"]),
    (["--listeners", "65"], ["'65'"]), (["--listeners", "0"], ["'0'"])])
def test_ports_that_cannot_be(loaded, options, needles):
    result = loaded.run_relay(*options)
    assert result.status == 2
    for needle in needles:
        assert needle in result.err


def test_each_port_is_known_for_the_relay(loaded):
    """I3: a client that connects to any of them is not redirected to another one.

    To see it fail: let port_is_relays() check the first one only.
    """
    loaded.load("--include-loopback")
    loaded.accept_strangers()
    relay = loaded.start_relay("--workers", 2, "--listeners", 3)
    for port in ports(loaded.pins):
        assert loaded.run_in(wire.fate, ("127.0.0.1", port)) == wire.RESET
    stats = loaded.stats()
    assert stats["bypass_listener"] == 6 and stats["redirected"] == 0
    relay.signal(signal.SIGUSR1)
    host.wait_until(lambda: "no recorded destination: 6" in relay.text(), "the relay reset six")
    assert loaded.visit(loaded.listen(SERVER)).relayed


@pytest.mark.parametrize("policy", [[], ["--fail-closed"]], ids=["open", "closed"])
@pytest.mark.parametrize("family", [0, 1], ids=["4", "6"])
def test_other_hosts_at_the_port_of_a_wildcard_relay(bed, family, policy):
    """A lookup finds the relay's listener at the address of every host. To see it fail: let
    port_is_relays() compare ports only."""
    host6.give_addresses(bed)
    bed.load(*policy)
    bed.start_relay("--workers", 1, "--listen", "0.0.0.0:0", "--listen", "[::]:0")
    port = ports(bed.pins, family)[0]
    visit = host6.visit(bed, host6.listen(bed, port=port)) if family else bed.visit(
        bed.listen(SERVER, port))
    assert visit.relayed
    assert bed.stats()["bypass_listener"] == 0
