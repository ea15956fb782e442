# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Relays are never redirected (I8), and a relay that hangs, dies or is replaced blocks no
client."""

import contextlib
import ctypes
import errno
import os
import re
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from clients import connecting
import host
import host6
import programs
import wire
from harness import CLIENT
from maps import Layout

FAIL_OPEN = pytest.param([], id="fail-open")
FAIL_CLOSED = pytest.param(["--fail-closed"], id="fail-closed")

MARK_UPSTREAM = 2
SO_NETNS_COOKIE = 71
CLIENTS = 32
TIMED_OUT = repr(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
WAITING = 200
STALE = 5.0
EXEMPT_CHECK_EVERY = 16  # as in listener.c


@pytest.fixture
def bed(bed):
    host6.give_addresses(bed)
    return bed


def in_the_scope(bed, *options, **load):
    """A relay in scope, which is exempt by its marks only."""
    bed.load(relay_cgroup=False, **load)
    return bed.start_relay(*options, place=bed.client)


def assert_exempt(bed, relays=1):
    """As many connections were bypassed for relays as were redirected, so no relay's own connection
    was redirected."""
    stats = bed.stats()
    assert stats["redirected"] == stats["bypass_relay"] > 0
    for relay in bed.relays[-relays:]:
        assert "no destination" not in relay.text()


# --- whoever is a relay


def test_several_workers(bed):
    """Each worker connects upstream for itself, in both families. To see it fail: mark only the
    first worker's sockets."""
    in_the_scope(bed, "--workers", 4)
    listener, listener6 = bed.listen(), host6.listen(bed)
    # Concurrent connections are spread over all workers.
    pairs = [bed.pair(listener) for _ in range(16)]
    for _ in range(16):
        assert host6.visit(bed, listener6).relayed
    for client, server in pairs:
        wire.exchange(client, server)
    assert bed.stats()["redirected"] == 32
    assert_exempt(bed)


def test_several_relay_processes(bed):
    """Two generations serve at the same time. The older one is not in map_config."""
    first = in_the_scope(bed)
    listener = bed.listen()
    old = bed.pair(listener)
    second = bed.start_relay(place=bed.client)
    new = bed.pair(listener)
    for client, server in (old, new):
        wire.exchange(client, server)
    second.signal(signal.SIGTERM)
    for client, server in (old, new):
        client.close()
        server.close()
    assert second.wait() == 0
    host.wait_until(lambda: bed.visit(listener).relayed, "the older one serves again")
    assert first.running()
    assert_exempt(bed, relays=2)


@pytest.mark.parametrize("how", ["moved", "loaded"])
def test_relay_leaves_the_relays_cgroup(bed, how):
    """In that cgroup its sockets have no mark. When it is moved into the scope, or a loader
    chooses another relay cgroup, its own connections are redirected to it until it checks
    again, and then marks its sockets.

    Its listeners stay in the cgroup where they were created, so it continues to serve. To see
    it fail: do not call is_exempt() again; for "moved": create the socket that is_heard()
    queries at each check.
    """
    bed.load()
    relay = bed.start_relay("--workers", 1)
    listener = bed.listen()
    for _ in range(3):
        assert bed.visit(listener).relayed
    assert bed.stats()["redirected"] == 3
    if how == "moved":
        (bed.scope.path / "cgroup.procs").write_text(str(relay.pid))
    else:
        bed.load(scopes=[bed.scope, bed.relay_cgroup], relay_cgroup=False)
    for _ in range(40):
        assert bed.visit(listener).relayed
    stats = bed.stats()
    assert 43 < stats["redirected"] <= 43 + EXEMPT_CHECK_EVERY
    assert "no destination" not in relay.text()
    host.stays_true(lambda: bed.pins.dump("map_config"), "two looks at least", 2.5)
    assert bed.visit(listener).relayed
    assert bed.stats()["redirected"] == stats["redirected"] + 1


def test_loopback_destinations_do_not_loop(bed):
    """--include-loopback, with the relay in scope. To see it fail: do not mark upstream sockets."""
    bed.load("--include-loopback", relay_cgroup=False)
    bed.start_relay(place=bed.client)
    assert bed.visit(bed.listen("127.0.0.1", netns=bed.client_net)).relayed
    assert host6.visit(bed, host6.listen(bed, "::1", netns=bed.client_net)).relayed
    assert_exempt(bed)


def test_relay_in_a_pid_namespace(bed):
    """It is PID 1 there, and is registered under its PID in the initial namespace."""
    bed.load(relay_cgroup=False)
    relay = programs.Program(
        "unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
        *programs.unprivileged(programs.RELAY_UID, programs.RELAY_GID), bed._binaries /
        programs.RELAY.name, "--pin-dir", bed.pins.path, "-v", "--drain-timeout", "1s",
        place=bed.client, log=bed.directory / "relay.log")
    with relay:
        host.wait_until(lambda: "registered pid" in relay.text() or not relay.running(),
                        "it is registered")
        (entry,) = bed.pins.dump("map_config")
        pid = entry["value"]["pid"]
        assert relay.says(f"registered pid {pid},")
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(rf"^NSpid:\s+{pid}\s+1$", status, re.MULTILINE), status
        assert bed.visit(bed.listen()).relayed
        assert host6.visit(bed, host6.listen(bed)).relayed
        assert_exempt(bed, relays=0)
        bed.load(relay_cgroup=False)
        assert len(bed.pins.dump("map_config")) == 1, "its registration is kept"
        os.kill(pid, signal.SIGTERM)
        assert relay.wait() == 0
    assert bed.pins.dump("map_config") == []


def connect_with_a_mark(pins, address):
    """A forked child connects with a socket that its parent has marked."""
    sock = socket.socket()
    with pins.open("map_marks") as marks:
        marks.update(struct.pack("=i", sock.fileno()),
                     struct.pack("=I", MARK_UPSTREAM).ljust(marks.value_size, b"\0"))
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(sock.connect_ex(address))
        finally:
            os._exit(255)
    _, status = os.waitpid(pid, 0)
    return sock, os.waitstatus_to_exitcode(status)


def test_forked_child(proxied):
    """A mark belongs to the socket, whichever process uses it."""
    listener = proxied.listen()
    sock, code = proxied.run_in(connect_with_a_mark, proxied.pins, listener.getsockname())
    assert code == 0
    assert proxied.accept(listener)[1] == proxied.keep(sock).getsockname()
    assert proxied.stats()["bypass_relay"] == 1


def registered(pins):
    (entry,) = pins.dump("map_config")
    return entry["value"]


def rewrite_registration(pins, sock, **changes):
    """Writes other numbers into the entry of the network namespace of this socket."""
    value = {**registered(pins), **changes}
    listen = b"".join(bytes(family["addr"]) + struct.pack("=HH", family["n_ports"], 0)
                      + struct.pack("=64H", *family["ports"]) for family in value["listen"])
    numbers = {name: struct.pack(form, value[name]) for name, form in (
        ("registered_ns", "=Q"), ("alive_ns", "=Q"), ("pid", "=I"), ("uid", "=I"))}
    with pins.open("map_config") as config:
        config.update(sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8),
                      Layout(pins.path / "map_config").pack(listen=listen, **numbers))


def connect_as(pins, address):
    """Writes the PID of this process to map_config, then connects."""
    sock = socket.socket()
    sock.settimeout(wire.TIMEOUT)
    rewrite_registration(pins, sock, pid=os.getpid())
    sock.connect(address)
    return sock, registered(pins)["pid"] == os.getpid()


def test_recycled_pid_is_not_exempt(proxied):
    """To see it fail: let gather_caller() compare PIDs with that in map_config."""
    listener = proxied.listen()

    def relayed_in_its_name():
        client, named = proxied.run_in(connect_as, proxied.pins, listener.getsockname())
        server, peer = proxied.accept(listener)
        assert peer != client.getsockname(), "not relayed"
        wire.exchange(proxied.keep(client), server)
        return named  # unless the relay wrote its entry meanwhile

    host.wait_until(relayed_in_its_name, "map_config names the client")


# --- a relay that is replaced


def test_restart_under_load(proxied):
    """The new relay starts, then the old one gets SIGTERM. 32 clients connect without pause,
    and no connection fails.

    To see it fail: let the older relay take back the registration of the newer one.
    """
    with connecting(proxied, CLIENTS) as outcome:
        for turn in range(1, 4):
            host.wait_until(lambda: proxied.stats()["redirected"] > 200 * turn, "clients connect")
            old = proxied.relay
            proxied.start_relay()
            old.signal(signal.SIGTERM)
            assert old.wait() == 0
    assert outcome.failed == [] and outcome.good > 500
    assert proxied.stats()["redirected"] == outcome.good
    host.wait_until(proxied.pins.at_rest, "nothing is left")


def test_stop_and_start_under_load(proxied):
    """The old relay ends before the new one starts. Connections in between are direct, and none
    fails."""
    with connecting(proxied, CLIENTS) as outcome:
        for turn in range(1, 3):
            host.wait_until(lambda: proxied.stats()["redirected"] > 200 * turn, "clients connect")
            proxied.relay.signal(signal.SIGTERM)
            assert proxied.relay.wait() == 0
            proxied.start_relay()
    assert outcome.failed == [] and outcome.good > 400
    stats = proxied.stats()
    assert outcome.good == stats["redirected"] + stats["no_relay"] + stats["no_listener"]
    assert stats["no_relay"] > 0


def test_relay_that_ends_serves_its_backlog(loaded):
    """Clients that were redirected to it before. More of them wait than it accepts in one go.

    To see it fail: let the relay close its listeners at SIGTERM.
    """
    loaded.start_relay("--workers", "1", "--drain-timeout", "20s")
    relay, listener = loaded.relay, loaded.listen()

    def connect_many():
        return [wire.connect(listener.getsockname()) for _ in range(WAITING)]

    with relay.stopped():
        clients = [loaded.keep(client) for client in loaded.run_in(connect_many)]
        relay.signal(signal.SIGTERM)
    for number, client in enumerate(clients):
        client.sendall(struct.pack("=I", number))
    servers = [loaded.accept(listener)[0] for _ in clients]
    numbers = [struct.unpack("=I", wire.read_exactly(server, 4))[0] for server in servers]
    assert sorted(numbers) == list(range(WAITING))
    for sock in clients + servers:
        sock.close()
    assert relay.wait() == 0


# --- a relay that hangs, dies, or whose port is another's


def test_relay_stopped(proxied):
    """For 5 s clients wait in the backlog, then they are direct, or refused with --fail-closed.
    When the relay continues, clients are relayed again, and so are those that waited.

    To see it fail: ignore alive_ns, or do not renew it.
    """
    listener = proxied.listen()
    waiting, began = [], [0.0]

    def is_direct():
        before = time.monotonic()
        client = proxied.connect(listener)
        if client.getsockname()[0] == CLIENT:
            wire.exchange(client, proxied.accept(listener)[0])
            return True
        client.sendall(b"waiting")
        began[0] = before
        waiting.append(client)
        time.sleep(0.1)  # they are kept open
        return False

    with proxied.relay.stopped():
        alive = registered(proxied.pins)["alive_ns"] / 1e9
        host.wait_until(is_direct, "connections are direct", timeout=STALE + 5)
        assert began[0] <= alive + STALE <= time.monotonic()
        assert len(waiting) > 2 and proxied.stats()["stalled"] == 1
        proxied.load("--fail-closed")
        with pytest.raises(ConnectionRefusedError):
            proxied.connect(listener)
        assert proxied.run_in(host6.errno_of, (host6.SERVER6, 9)) == errno.ECONNREFUSED
        assert proxied.stats()["stalled"] == 3 and proxied.stats()["refused"] == 2
    for _ in waiting:
        assert wire.read_exactly(proxied.accept(listener)[0], 7) == b"waiting"

    def is_relayed():
        return proxied.run_in(host6.errno_of, host6.mapped(listener.getsockname())) == 0

    host.wait_until(is_relayed, "it serves again")
    proxied.accept(listener)
    assert proxied.visit(listener).relayed


def test_older_relay_takes_over_from_a_stopped_one(proxied):
    """Connections did not reach the newer relay. The older one checks every second.

    To see it fail: do not count missed connections of a stalled relay.
    """
    first, listener = proxied.relay, proxied.listen()
    second = proxied.start_relay()

    def taken_over():
        proxied.connect(listener)
        return registered(proxied.pins)["pid"] == first.pid

    with second.stopped(), proxied.client_net.inside(), socket.socket() as sock:
        assert registered(proxied.pins)["pid"] == second.pid
        rewrite_registration(proxied.pins, sock,
                             alive_ns=registered(proxied.pins)["alive_ns"] - int(STALE * 1e9))
        host.wait_until(taken_over, "the older one is registered")
    assert proxied.stats()["stalled"] > 0


def test_entry_that_an_older_relay_overwrote(proxied):
    """The relay that registered last owns the entry. It writes the entry again, and the older
    one leaves it.

    To see it fail: leave out registered_ns in registration_check().
    """
    older = registered(proxied.pins)
    newer = proxied.start_relay()
    with newer.stopped(), proxied.client_net.inside(), socket.socket() as sock:
        rewrite_registration(proxied.pins, sock,
                             **{name: older[name] for name in ("registered_ns", "pid", "listen")})
        assert registered(proxied.pins)["pid"] == older["pid"]
    host.wait_until(lambda: registered(proxied.pins)["pid"] == newer.pid, "it has written again")
    host.stays_true(lambda: registered(proxied.pins)["pid"] == newer.pid, "it stays", 2.2)


PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000


@contextlib.contextmanager
def stopped_thread(tid):
    """Stops one thread. SIGSTOP would stop all of them."""
    def ptrace(request):
        assert libc.ptrace(request, tid, 0, 0) == 0, os.strerror(ctypes.get_errno())

    libc = ctypes.CDLL(None, use_errno=True)
    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(tid, WALL)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH)


@pytest.mark.deadline(60)
@pytest.mark.parametrize("thread", ["tproxy-worker", "tproxy-bulk"])
def test_worker_stopped(loaded, thread):
    """One of two workers stops, with the connections that it serves. After a while the relay
    gets no new connections, as if all of it had stopped. When the worker continues, the relay
    gets connections again.

    To see it fail: renew the entry whatever workers_answer() returns.
    """
    relay = loaded.start_relay("--workers", 2)
    listener = loaded.listen()

    def workers():
        return [int(comm.parent.name) for comm in Path(f"/proc/{relay.pid}/task").glob("*/comm")
                if comm.read_text() == f"{thread}\n"]

    host.wait_until(lambda: len(workers()) == 2, "they run")

    def is_direct():
        return loaded.connect(listener).getsockname()[0] == CLIENT

    with stopped_thread(workers()[-1]):
        host.wait_until(lambda: "a worker does not answer" in relay.text(), "it is noticed", 10)
        host.wait_until(is_direct, "connections are direct", STALE + 3)
        assert loaded.stats()["stalled"] > 0
    host.wait_until(lambda: "all workers answer again" in relay.text(), "it is noticed")
    host.wait_until(lambda: not is_direct(), "it serves again")
    assert relay.says("does not answer") and relay.text().count("does not answer") == 1


@pytest.mark.parametrize("policy", [FAIL_OPEN, FAIL_CLOSED])
def test_killed_under_load(bed, policy):
    """Its connections end and none hangs. New ones are direct, or refused."""
    bed.load(*policy)
    ports = bed.start_relay().ports()
    with connecting(bed, CLIENTS) as outcome:
        host.wait_until(lambda: bed.stats()["redirected"] > 300, "clients connect")
        bed.relay.kill()
        host.wait_until(lambda: bed.stats()["no_listener"] > 300, "they go on without it")
    stats = bed.stats()
    # A client whose SYN or whose answer was under way when its listener went gets ETIMEDOUT from
    # the kernel (aborted, tproxy-load(8)). A TimeoutError without an errno is a client that hangs.
    aborted = outcome.failed.count(TIMED_OUT)
    assert aborted <= min(stats["aborted"], os.cpu_count() * ports), (aborted, stats)
    assert aborted == len([failure for failure in outcome.failed if "imed" in failure])
    refused = [failure for failure in outcome.failed if "ConnectionRefused" in failure]
    # A process that dies closes its sockets one after the other, its listeners among them. A client
    # that was reset may be reset again by each listener that is left.
    assert len(outcome.failed) - len(refused) <= (ports + 1) * CLIENTS, len(outcome.failed)
    if policy:
        assert refused
    # A listener may be closed between the hook that saw it and the SYN. This may affect one
    # connect() on each CPU, for each listening socket.
    else:
        assert len(refused) <= os.cpu_count() * ports, refused
    host.wait_until(bed.pins.at_rest, "nothing is left")
    (address,) = bed.echo_server()
    if policy:
        with pytest.raises(ConnectionRefusedError):
            bed.connect(address)
    else:
        assert bed.connect(address).getsockname()[0] == CLIENT


@pytest.mark.parametrize("policy", [FAIL_OPEN, FAIL_CLOSED])
@pytest.mark.parametrize("address, only6", [("::1", True), ("::", True), ("::", False)],
                         ids=["loopback", "any", "dual-stack"])
def test_port_taken_by_a_stranger(bed, policy, address, only6):
    """At the IPv6 port. A dual-stack socket also takes the IPv4 port, where it receives IPv4
    connections.

    To see it fail: require a listener, but not tproxy's mark on it.
    """
    bed.load(*policy)
    bed.start_relay().kill()
    ports = {host6.relay_address(bed.relay)[1]}
    if not only6:
        ports.add(bed.relay.address[1])
    with bed.client_net.inside():
        strangers = [bed.keep(host6.listener((address, port), only6)) for port in ports]
    targets = [(host6.listen(bed), None)]
    if not only6:
        listener = bed.listen()
        targets.append((listener, host6.mapped(listener.getsockname())))
    for listener, target in targets:
        if policy:
            code = bed.run_in(host6.errno_of, target or listener.getsockname())
            assert code == errno.ECONNREFUSED
        else:
            assert not host6.visit(bed, listener, target).relayed
    assert bed.stats()["no_listener"] == len(targets)
    for stranger in strangers:
        stranger.setblocking(False)
        with pytest.raises(BlockingIOError):
            stranger.accept()
