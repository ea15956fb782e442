# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Upstreams whose address is a host name. The name server is one of the test."""

import contextlib
import json
import os
import selectors
import socket
import struct
import subprocess

import pytest

import host
import wire
from harness import SERVER, SERVER2
from terminator import relay_via  # fixture

NAME = "proxy.example.test"
ELSEWHERE = (SERVER, 7)
TYPE_A, CLASS_IN = 1, 1
TRUNCATED = 0x0200


def answer(query, state, stream):
    """The answer to a query, by the state: addresses, ttl, truncate."""
    number, = struct.unpack_from("!H", query)
    end = query.index(0, 12) + 5
    kind, = struct.unpack_from("!H", query, end - 4)
    addresses = state["addresses"] if kind == TYPE_A else []
    flags = 0x8400
    if state.get("truncate") and not stream:
        flags, addresses = flags | TRUNCATED, []
    records = b"".join(struct.pack("!HHHIH", 0xc00c, TYPE_A, CLASS_IN, state["ttl"], 4) +
                       socket.inet_aton(address) for address in addresses)
    return struct.pack("!6H", number, flags, 1, len(addresses), 0, 0) + query[12:end] + records


def serve_names(datagrams, listener, path, queries_path):
    """Answers as the file at @path says. Notes each query in the other file."""
    queries = open(queries_path, "wb", buffering=0)
    selector = selectors.DefaultSelector()
    for sock in (datagrams, listener):
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    while True:
        selector.select()
        with contextlib.suppress(BlockingIOError):
            query, peer = datagrams.recvfrom(512)
            queries.write(b"u")
            datagrams.sendto(answer(query, json.loads(path.read_text()), False), peer)
        with contextlib.suppress(BlockingIOError):
            sock, _ = listener.accept()
            queries.write(b"t")
            with sock:
                sock.settimeout(wire.TIMEOUT)
                with contextlib.suppress(AssertionError):
                    while True:
                        size, = struct.unpack("!H", wire.read_exactly(sock, 2))
                        reply = answer(wire.read_exactly(sock, size),
                                       json.loads(path.read_text()), True)
                        sock.sendall(struct.pack("!H", len(reply)) + reply)


class NameServer:
    def __init__(self, bed):
        self._path = bed.directory / "names"
        with bed.server_net.inside():
            datagrams = bed.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            datagrams.bind((SERVER2, 53))
        self._sockets = [datagrams, bed.listen(SERVER2, 53)]
        self.say(SERVER)
        self._queries = self._path.with_suffix(".queries")
        self._queries.touch()
        self._task = bed.task(serve_names, *self._sockets, self._path, self._queries,
                              place=bed.server)

    def say(self, *addresses, ttl=0, **state):
        """Sets the answer, in one step."""
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"addresses": addresses, "ttl": ttl, **state}))
        new.rename(self._path)

    def die(self):
        self._task.stop()
        for sock in self._sockets:
            sock.close()

    def queries(self):
        return self._queries.read_bytes()


@pytest.fixture
def names(bed):
    """A name server, which /etc/resolv.conf names in the mount namespace of the test."""
    server = NameServer(bed)
    conf = bed.directory / "resolv.conf"
    conf.write_text(f"nameserver {SERVER2}\n")
    target = os.path.realpath("/etc/resolv.conf")
    subprocess.run(["mount", "--bind", conf, target], check=True)
    yield server
    subprocess.run(["umount", target], check=True)


@pytest.fixture
def hosts(bed):
    """Makes this text /etc/hosts in the mount namespace of the test."""
    def mount(text):
        file = bed.directory / "hosts"
        file.write_text(text)
        subprocess.run(["mount", "--bind", file, "/etc/hosts"], check=True)

    yield mount
    subprocess.run(["umount", "/etc/hosts"], check=True)


def via_name(port):
    return ["type = tcp", f"address = {NAME}:{port}"]


def visit(bed, listener):
    """Connects, and verifies that the connection arrives at this listener."""
    client = bed.connect(ELSEWHERE)
    server, _ = bed.accept(listener)
    wire.exchange(client, server)
    client.close()
    server.close()


def arrives(bed, listener):
    """Connects. Returns whether the connection arrived there, and not elsewhere."""
    try:
        client = bed.run_in(wire.connect, ELSEWHERE)
    except ConnectionResetError:
        return False
    with client:
        listener.settimeout(0.2 * host.patience)
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            return False
        with sock:
            sock.settimeout(wire.TIMEOUT)
            wire.exchange(client, sock)
        return True


@pytest.mark.deadline(60)
def test_address_changes(loaded, names, relay_via):
    """The first connection waits for the first answer. When the address changes, connections go to
    the new one after the TTL, 5 s at least. When the name server does not answer any more the last
    address stays in use. To see it fail: ask once only; drop the addresses after a failure."""
    first = loaded.listen()
    second = loaded.listen(SERVER2, first.getsockname()[1])
    relay_via(*via_name(first.getsockname()[1]))
    visit(loaded, first)
    names.say(SERVER2)
    host.wait_until(lambda: arrives(loaded, second), "connections go to the new address", 15)
    names.die()
    host.wait_until(lambda: f'cannot resolve "{NAME}"' in loaded.relay.text(),
                    "the resolver notices", 30)
    second.settimeout(wire.TIMEOUT)
    visit(loaded, second)


def test_no_such_name(loaded, names, relay_via):
    """An upstream without an address is refused; it works as soon as the name has one."""
    names.say()
    listener = loaded.listen()
    relay_via(*via_name(listener.getsockname()[1]), options=["--error-memory", 0])
    assert loaded.run_in(wire.fate, ELSEWHERE) == wire.RESET
    assert f'cannot resolve "{NAME}"' in loaded.relay.text()
    names.say(SERVER)
    host.wait_until(lambda: arrives(loaded, listener), "the name has an address now", 20)


def test_check_of_a_name_without_address(loaded, names, relay_via):
    """An active check finds it, without a client. To see it fail: leave fail_without_address() out
    of go_on() in checks.c."""
    names.say()
    relay_via(*via_name(9), "check-interval = 100ms")
    loaded.relay.says(f"is down after 3 failures, the last one: its name {NAME} has no address")


def test_never_through_itself(bed, names, relay_via):
    """The relay is in the scope: its sockets are redirected unless they are marked. The answer is
    too long for a datagram, so the resolver connects. To see it fail: do not mark in
    on_new_socket() of resolver_thread.c."""
    bed.load(relay_cgroup=False)
    names.say(SERVER, ttl=3600, truncate=True)
    listener = bed.listen()
    relay_via(*via_name(listener.getsockname()[1]), place=host.Place(bed.scope, bed.client_net))
    visit(bed, listener)
    assert b"t" in names.queries()
    assert not bed.relay.connections_to((SERVER2, 53))


def test_name_of_the_hosts_file(loaded, names, hosts, relay_via):
    """A name that the file has in one family only is not asked of the name servers in the other
    one. To see it fail: ask for both in on_file()."""
    names.say(SERVER2)
    hosts(f"{SERVER} {NAME}\n")
    listener = loaded.listen()
    relay_via(*via_name(listener.getsockname()[1]))
    visit(loaded, listener)
    assert names.queries() == b""
