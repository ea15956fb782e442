# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Several network namespaces with one set of pins, each with its own relay or none."""

import dataclasses
import errno
import json
import os
import selectors
import signal
import socket

import pytest

import host
import host6
import programs
import wire
from harness import CLIENT, SERVER, SERVER2
from host6 import CLIENT6, SERVER6, SERVER6_2
from test_admin import Admin
from tproxyctl import binary, ctl  # noqa: F401 (fixtures)

FAIL_OPEN = pytest.param([], id="fail-open")
FAIL_CLOSED = pytest.param(["--fail-closed"], id="fail-closed")

PORTS = (8001, 8002, 8003)
SOURCES = range(20001, 20041)  # ports that a relay does not get for itself
ROUNDS = 5
RELAY_PORT = 40500


@dataclasses.dataclass(frozen=True)
class Network:
    """A client namespace, its relay's place, and the servers that it sees."""

    name: str
    client: host.Place
    relay: host.Place
    server: host.Place


@pytest.fixture
def networks(bed):
    """The bed's namespaces and second ones with the same addresses, both with IPv6."""
    host6.give_addresses(bed)
    with host.NetNs() as client_net, host.NetNs() as server_net:
        client_net.ip(
            f"link add tproxy0 type veth peer name tproxy0 netns {server_net.path}",
            f"addr add {CLIENT}/24 dev tproxy0",
            "link set tproxy0 up",
            f"addr add {CLIENT6}/64 dev tproxy0 nodad")
        server_net.ip(
            "link set tproxy0 up",
            *(f"addr add {address}/24 dev tproxy0" for address in (SERVER, SERVER2)),
            *(f"addr add {address}/64 dev tproxy0 nodad" for address in (SERVER6, SERVER6_2)))
        yield [Network("one", bed.client, bed.relay_place, bed.server),
               Network("two", host.Place(bed.scope, client_net),
                       host.Place(bed.relay_cgroup, client_net),
                       host.Place(bed.servers, server_net))]


def serve_identity(name):
    """At every address and port: sends which of all servers this is, and waits for the end."""
    selector = selectors.DefaultSelector()
    for port in PORTS:
        for address in (SERVER, SERVER2):
            selector.register(wire.listener((address, port)), selectors.EVENT_READ)
        for address in (SERVER6, SERVER6_2):
            selector.register(host6.listener((address, port)), selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if not isinstance(key.data, bool):
                conn, _ = key.fileobj.accept()
                address, port = conn.getsockname()[:2]
                conn.sendall(f"{name} {address} {port}\n".encode())
                selector.register(conn, selectors.EVENT_READ, True)
            else:
                selector.unregister(key.fileobj)
                key.fileobj.close()


def visit_all(name):
    """Makes one connection after the other from a few source ports, which the other network's
    clients use at the same time. Some are open at once. Returns the differences from what is
    expected."""
    wrong, count = [], 0
    for turn in range(ROUNDS):
        opened = []
        for source in SOURCES:
            six = (source + turn) % 2
            address = ((SERVER6, SERVER6_2) if six else (SERVER, SERVER2))[source // 2 % 2]
            port = PORTS[(source + turn) % len(PORTS)]
            sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.settimeout(wire.TIMEOUT)
            sock.bind(("::" if six else "", source))
            sock.connect((address, port))
            opened.append((sock, f"{name} {address} {port}"))
        for sock, expected in opened:
            answer = wire.read_exactly(sock, len(expected) + 1).decode().strip()
            if answer != expected or sock.getpeername()[0] != expected.split()[1]:
                wrong.append((expected, answer, sock.getpeername()))
            wire.reset(sock)
            count += 1
    return count, wrong


def test_two_relays_with_equal_addresses_and_ports(bed, networks):
    """Two sets of clients at once, with all addresses and ports equal: no client gets the other
    network's server.

    To see it fail: leave netns_cookie out of the tuple, or out of map_config's key.
    """
    bed.load()
    for network in networks:
        bed.start_relay("--listen", f"127.0.0.1:{RELAY_PORT}", "--listen", f"[::1]:{RELAY_PORT}",
                        place=network.relay)
        bed.task(serve_identity, network.name, place=network.server)
    assert len(bed.pins.dump("map_config")) == 2
    for network in networks:
        address = (SERVER6, PORTS[-1])
        host.wait_until(lambda: bed.run_in(host6.errno_of, address, place=host.Place(
            bed.outside, network.client.netns)) == 0, "the server listens")
    clients = [bed.task(visit_all, network.name, place=network.client) for network in networks]
    answers = [client.result(timeout=25) for client in clients]
    assert answers == [(ROUNDS * len(SOURCES), [])] * 2
    host.wait_until(bed.pins.at_rest, "nothing is left")

    pair = [bed.keep(bed.run_in(wire.connect, (SERVER, PORTS[0]), (CLIENT, SOURCES[0]),
                                place=network.client)) for network in networks]
    entries = [entry["key"] for entry in bed.pins.dump("map_ports")]
    assert len(entries) == 2 and entries[0].pop("netns_cookie") != entries[1].pop("netns_cookie")
    assert entries[0].pop("isn") and entries[1].pop("isn")
    assert entries[0] == entries[1], "but for the namespace they are the same"
    for sock in pair:
        sock.close()
    stats = bed.stats()
    assert stats["redirected"] == 2 * ROUNDS * len(SOURCES) + 2
    assert not stats["publish_failed"] and not stats["no_relay"]
    host.wait_until(bed.pins.at_rest, "nothing is left")


@pytest.mark.parametrize("policy", [FAIL_OPEN, FAIL_CLOSED])
@pytest.mark.parametrize("family", ["inet", "inet6"])
def test_namespace_without_a_relay(bed, networks, policy, family):
    """Direct, or refused, and counted. It is not sent to its own loopback, where a process
    listens at the port of the other namespace's relay.

    To see it fail: use any entry of map_config.
    """
    bed.load(*policy)
    bed.start_relay("--listen", f"127.0.0.1:{RELAY_PORT}", "--listen", f"[::1]:{RELAY_PORT}")
    other = networks[1]
    with other.client.netns.inside():
        strangers = [bed.keep(wire.listener(("127.0.0.1", RELAY_PORT))),
                     bed.keep(host6.listener(("::1", RELAY_PORT)))]
    if family == "inet":
        listener, connect = bed.listen(netns=other.server.netns), wire.connect
    else:
        listener, connect = host6.listen(bed, netns=other.server.netns), host6.connect
    if policy:
        with pytest.raises(ConnectionRefusedError):
            bed.run_in(connect, listener.getsockname()[:2], place=other.client)
    else:
        client = bed.keep(bed.run_in(connect, listener.getsockname()[:2], place=other.client))
        server, peer = bed.accept(listener)
        wire.exchange(client, server)
        assert peer == client.getsockname()
    stats = bed.stats()
    assert stats["no_relay"] == 1 and stats["refused"] == bool(policy)
    assert stats["redirected"] == 0
    for stranger in strangers:
        stranger.setblocking(False)
        with pytest.raises(BlockingIOError):
            stranger.accept()


def test_relay_that_ends_leaves_the_other_namespace_alone(bed, networks):
    """Only its own registration is removed."""
    bed.load("--fail-closed")
    first, second = (bed.start_relay(place=network.relay) for network in networks)
    (entry,) = [entry for entry in bed.pins.dump("map_config")
                if entry["value"]["pid"] == second.pid]
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    assert [e["key"] for e in bed.pins.dump("map_config")] == [entry["key"]]
    listener = bed.listen(netns=networks[1].server.netns)
    assert bed.visit(listener, place=networks[1].client).relayed
    assert bed.run_in(host6.errno_of, (SERVER6, 80)) == errno.ECONNREFUSED


def test_tools_show_all_namespaces(bed, networks, ctl):  # noqa: F811
    """connections, top, the page and the metrics have the connections of both; with the numbers of
    their sockets, where the reader can enter a namespace: root both, the relay its own.

    To see it fail: leave out read_maps() for other namespaces in live_read().
    """
    bed.load()
    directory = bed.directory / "run"
    directory.mkdir()
    os.chown(directory, programs.RELAY_UID, programs.RELAY_GID)
    admin = Admin(bed, directory / "admin.sock")
    bed.start_relay("--admin", admin.address, place=networks[0].relay)
    bed.start_relay(place=networks[1].relay)
    sent = {}
    for size, network in zip((100, 2000), networks):
        listener = bed.listen(netns=network.server.netns)
        client, server = bed.pair(listener, place=network.client)
        client.sendall(bytes(size))
        wire.read_exactly(server, size)
        sent[wire.connection_id(client)] = size

    for list_, size, *command in (("connections", "tx_bytes", "connections"),
                                  ("lines", "tx", "top", "--delay", "0.1", "--once")):
        answer = json.loads(ctl(*command, "--json").succeeded().out)
        assert {one["id"]: one[size] for one in answer[list_]} == sent, command
    own, other = sent
    page = json.loads(admin.get("/state.json"))
    rows = {row["id"]: row.get("up") for row in page["connections"]}
    assert rows == {own: 100, other: None} and page["live_bytes"] and page["read"] == 2
    assert admin.metrics()['tproxy_connections_total{verdict="redirected"}'] == 2


def connect_from_elsewhere(address):
    """The process enters another network namespace after it has made its socket."""
    sock = socket.socket()
    sock.settimeout(wire.TIMEOUT)
    with host.NetNs() as other, other.inside():
        sock.connect(address)
    return sock


def test_socket_keeps_its_namespace(proxied):
    """The relay of the socket's namespace serves it, although the process is in another one. To
    see it fail: pass NULL to bpf_get_netns_cookie() in attempt.bpf.h."""
    listener = proxied.listen()
    client = proxied.keep(proxied.run_in(connect_from_elsewhere, listener.getsockname()))
    server, peer = proxied.accept(listener)
    wire.exchange(client, server)
    assert peer != client.getsockname(), "not relayed"
    assert client.getpeername() == listener.getsockname()


def test_namespace_that_is_gone(bed, networks):
    """The entry of its relay stays, without harm, until the next load."""
    bed.load()
    with host.NetNs() as doomed:
        relay = bed.start_relay(place=host.Place(bed.relay_cgroup, doomed))
        relay.kill()
    bed.start_relay()
    assert len(bed.pins.dump("map_config")) == 2
    assert bed.visit(bed.listen()).relayed
    bed.load()
    (entry,) = bed.pins.dump("map_config")
    assert entry["value"]["pid"] == bed.relay.pid
    assert bed.visit(bed.listen()).relayed
