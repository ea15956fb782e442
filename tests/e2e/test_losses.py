# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Losses: pins, maps, cgroups, networks and peers that disappear under a running relay."""

import select
import socket

import pytest

import host
import wire
from harness import SERVER
from maps import attached, bpftool


# --- what is pinned goes away


def test_all_pins_removed(proxied):
    """Removed by hand, without --unload: established connections continue and new ones are direct.
    After a load new ones are relayed again. To see it fail: compare no map ids in
    registration_check()."""
    listener = proxied.listen()
    client, server = proxied.pair(listener)
    for pin in proxied.pins.path.iterdir():
        pin.unlink()
    proxied.pins.path.rmdir()
    wire.exchange(client, server)

    def is_direct():
        """The kernel detaches links without references a little later, one after the other. A
        connection that meets connect's and no longer that of sockops is reset."""
        try:
            return not proxied.visit(listener).relayed
        except ConnectionResetError:
            return False

    host.wait_until(is_direct, "connections are direct")
    host.wait_until(lambda: not attached(proxied.scope) + attached(proxied.relay_cgroup),
                    "the other links are gone too")
    host.wait_until(lambda: "nothing is pinned" in proxied.relay.text(), "the relay tells")
    proxied.load()
    proxied.relay.wait_registered(times=2)
    assert proxied.visit(listener).relayed
    wire.exchange(client, server)


@pytest.mark.parametrize("hooks, policy", [
    (["sockopt"], []), (["sockops"], []), (["sockopt", "sockops"], ["--fail-closed"])],
    ids=["sockopt", "sockops", "both-closed"])
def test_relay_that_cannot_ask_any_more(bed, hooks, policy):
    """Its programs are detached from its own cgroup. It withdraws, logs this once, and no client is
    reset after that. When the programs are back, it registers again. Fails if is_heard() returns
    true; the sockops case fails if it only calls whoami() on ask_fd."""
    bed.load(*policy)
    bed.start_relay()
    listener = bed.listen()
    client, server = bed.pair(listener)
    number = f"{bed.relay_cgroup.path.stat().st_ino:x}"
    for hook in hooks:
        bpftool("link", "detach", "pinned", bed.pins.path / f"link_{hook}_{number}")
    host.wait_until(lambda: not bed.pins.dump("map_config"), "the relay withdraws")
    for _ in range(5):
        if policy:
            with pytest.raises(ConnectionRefusedError):
                bed.connect(listener)
        else:
            assert not bed.visit(listener).relayed
    host.stays_true(
        lambda: bed.relay.text().count("not attached to our cgroup any more") == 1 and
        not bed.pins.dump("map_config"), "it has told once", 2.2)
    wire.exchange(client, server)
    bed.load(*policy)
    host.wait_until(lambda: bed.pins.dump("map_config"), "it is back")
    assert bed.visit(listener).relayed


@pytest.mark.parametrize("name", [
    "map_config", "map_socks", "map_failed",
    "map_marks"])
def test_a_map_pin_removed(proxied, name):
    """No connection fails, and the next load repairs it. With a new map_socks, the program that
    chooses the listener does not know the clients: they are refused until the relay has replaced
    its listeners.

    To see it fail: compare no map ids in registration_check(). To make map_marks pass: compare
    its id there too.
    """
    listener = proxied.listen()
    client, server = proxied.pair(listener)
    (proxied.pins.path / name).unlink()
    proxied.visit(listener)
    proxied.load()
    if name != "map_socks":
        proxied.visit(listener)
    wire.exchange(client, server)

    def is_relayed():
        try:
            return proxied.visit(listener).relayed
        except ConnectionRefusedError:
            assert name == "map_socks"
            return False
    host.wait_until(is_relayed, "it is relayed again")


def empty(bed, name):
    """Deletes every entry, as an administrator could."""
    pin = bed.pins.path / name
    for entry in bpftool("map", "dump", "pinned", pin):
        bpftool("map", "delete", "pinned", pin, "key", "hex",
                *(byte.removeprefix("0x") for byte in entry["key"]))


def test_maps_emptied(proxied):
    """An established connection continues, and new ones are relayed. To see it fail: do not
    register again in registration_check()."""
    listener = proxied.listen()
    client, server = proxied.pair(listener)
    for name in ("map_socks", "map_ports", "map_config"):
        assert proxied.pins.count(name) == 1
        empty(proxied, name)
    wire.exchange(client, server)
    assert client.getpeername() == listener.getsockname()
    proxied.visit(listener)
    host.wait_until(lambda: proxied.pins.count("map_config"), "the relay registers again")
    visit = proxied.visit(listener)
    assert visit.relayed
    for end in (client, server, visit.client, visit.server):
        end.close()
    host.wait_until(proxied.pins.at_rest, "nothing is left")


def test_maps_emptied_before_the_relay_accepts(proxied):
    """The connection was recorded, so the relay still gets its destination.

    To see it fail: answer SO_ORIGINAL_DST from the maps.
    """
    listener = proxied.listen()
    with proxied.relay.stopped():
        client = proxied.connect(listener)
        for name in ("map_socks", "map_ports"):
            empty(proxied, name)
    server, _ = proxied.accept(listener)
    wire.exchange(client, server)


# --- where it runs goes away


def test_cgroup_of_the_clients_removed(bed):
    """Its connections, whose sockets another process holds, continue and leave nothing. Other
    cgroups can be loaded. To see it fail: do not request state changes in client_publish()."""
    gone = bed.scope.child("gone")
    bed.load(scopes=[gone])
    bed.start_relay()
    listener = bed.listen()
    client, server = bed.pair(listener, place=host.Place(gone, bed.client_net))
    gone.path.rmdir()
    wire.exchange(client, server)
    client.close()
    assert wire.ended_by(server) == wire.EOF
    server.close()
    host.wait_until(bed.pins.at_rest, "nothing is left")
    bed.load()
    assert bed.visit(listener).relayed


def test_network_lost_and_back(loaded):
    """The only interface is deleted: connect() fails with a reset, idle connections end by timeout,
    and with the interface everything works again. To see it fail: close without a reset in
    session_destroy() when the destination failed or a timeout expired."""
    relay = loaded.start_relay("--workers", 1, "--idle-timeout", "1500ms", "--error-memory", 0)
    listener = loaded.listen()
    client, _ = loaded.pair(listener)
    before = relay.descriptors_at_rest()
    loaded.client_net.ip("link del tproxy0")
    assert loaded.run_in(wire.fate, listener.getsockname()) == wire.RESET
    assert wire.ended_by(client) == wire.RESET
    host.wait_until(lambda: relay.descriptors() < before, "its descriptors come back")
    loaded._connect_namespaces()
    with loaded.server_net.inside():
        assert loaded.visit(listener).relayed


def test_namespace_of_the_server_is_gone(loaded):
    """A container ends: its connections end by timeout, with data in flight or not. To see it fail:
    set no deadline in session_start_relaying()."""
    relay = loaded.start_relay("--idle-timeout", "1500ms")
    with host.NetNs() as container:
        loaded.client_net.ip(f"link add tproxy1 type veth peer name tproxy1 netns {container.path}",
                             "addr add 192.0.2.1/24 dev tproxy1", "link set tproxy1 up")
        container.ip("addr add 192.0.2.2/24 dev tproxy1", "link set tproxy1 up")
        listener = loaded.listen("192.0.2.2", netns=container)
        idle, busy = (loaded.pair(listener) for _ in range(2))
        container.ip("link del tproxy1")
        for sock in (listener, idle[1], busy[1]):
            sock.close()
    busy[0].send(b"is there anybody?")
    for client, _ in (idle, busy):
        assert wire.ended_by(client) == wire.RESET
        client.close()
    host.wait_until(loaded.pins.at_rest, "nothing is left")
    assert loaded.visit(loaded.listen()).relayed
    assert relay.running()


def test_server_that_accepts_and_never_answers(loaded):
    """The idle timeout resets both ends. To see it fail: set no deadline in
    session_start_relaying()."""
    loaded.start_relay("--idle-timeout", "1s")
    client, server = loaded.pair()
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert wire.ended_by(client) == wire.RESET
    assert wire.read_to_end(server)[1] == wire.RESET


def test_server_that_does_not_accept(loaded):
    """Its backlog is full: the relay's connect() times out, and others are served meanwhile. To see
    it fail: set no deadline in connect_directly()."""
    loaded.start_relay("--connect-timeout", "500ms", "--workers", 1)
    with loaded.server_net.inside():
        full = loaded.keep(wire.listener((SERVER, 0), backlog=0))
    address = full.getsockname()
    # In one task: once the first one has timed out, the relay refuses others at once.
    clients = [loaded.keep(client) for client in loaded.run_in(
        lambda: [wire.connect(address) for _ in range(4)])]
    assert loaded.visit(loaded.listen()).relayed
    host.wait_until(lambda: len(ended(clients)) >= 2, "those not taken are reset")
    assert all(wire.ended_by(client) == wire.RESET for client in ended(clients))
    assert len(ended(clients)) < 4, "it took one"
    host.wait_until(lambda: len(loaded.relay.connections()) >= 2, "told")


def ended(socks):
    """The sockets that have something to read, which is an end here."""
    return select.select(socks, [], [], 0)[0]


def timers(address):
    """The timer that runs on each established connection to an address, see proc_net_tcp.rst."""
    remote = socket.inet_aton(address[0])[::-1].hex().upper() + f":{address[1]:04X}"
    with open("/proc/self/net/tcp", encoding="ascii") as table:
        lines = [line.split() for line in table]
    return [fields[5].partition(":")[0] for fields in lines
            if fields[2] == remote and fields[3] == "01"]


def test_keepalive_towards_servers(proxied):
    """A server whose host has vanished must not hold a connection for the idle timeout (an hour by
    default). Ensured by tuning_set_keepidle()."""
    listener = proxied.listen()
    client, server = proxied.pair(listener)
    wire.exchange(client, server)
    host.wait_until(lambda: proxied.run_in(timers, listener.getsockname(),
                                           place=proxied.relay_place) == ["02"],
                    "a keepalive timer runs")


@pytest.mark.deadline(60)
def test_keepalive_finds_nobody(loaded):
    """A server that has vanished: the client is reset, long before the idle timeout. To see it
    fail: ignore errors in session_probe() and in reads."""
    loaded.client_net.sysctl("ipv4/tcp_keepalive_intvl", 1)
    loaded.client_net.sysctl("ipv4/tcp_keepalive_probes", 2)
    loaded.start_relay("--keepalive-time", "1s")
    client, server = loaded.pair()
    wire.exchange(client, server)
    client.settimeout(20)
    loaded.server_net.ip("link set tproxy0 down")
    assert wire.ended_by(client) == wire.RESET
    host.wait_until(loaded.pins.at_rest, "nothing is left")


def test_server_whose_cable_is_cut(loaded):
    """Half-open, and both ends are silent. The idle timeout ends it, for the client by a reset. To
    see it fail: set no deadline in session_start_relaying()."""
    loaded.start_relay("--idle-timeout", "1500ms")
    client, server = loaded.pair()
    wire.exchange(client, server)
    loaded.server_net.ip("link set tproxy0 down")
    client.sendall(b"into the void")
    assert wire.ended_by(client) == wire.RESET
    host.wait_until(loaded.pins.at_rest, "nothing is left")
