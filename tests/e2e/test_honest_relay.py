# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Honest connect while something happens to the relay, and what there is more than one of: workers,
network namespaces, rules."""

import contextlib
import errno
import os
import select
import signal
import socket
import struct
import threading
import time

import pytest

import host
import host6
import maps
import wire
from harness import BLACKHOLE, CLIENT, SERVER
from honest import CLOSED, KINDS, NOTIFIED, HonestBed, errno_of, error_of, outcomes
from programs import RELAY_UID
from ruling import binary, ctl, load_rules  # noqa: F401 (fixtures)
from test_log import config, path, reload  # noqa: F401 (path is a fixture)
from test_stray import USER, as_user, bind_all, ports_of

SHARED = ("10.74.70.1", 4000)
TCPI_RTO = 8  # offset in struct tcp_info, microseconds
TCP_SYN_SENT, TCP_CLOSE = 2, 7
MARK_UPSTREAM, MARK_JOINS = 1 << 1, 1 << 9


@pytest.fixture
def bed(request, run_directory, binaries):
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    with HonestBed(name, run_directory / name, binaries) as bed:
        bed.load("--fail-closed")
        yield bed


def pending(bed, gate, count=1):
    """Sockets whose connect() waits at the gate, and the listener behind it."""
    listener, address = gate.listen()
    socks = bed.sockets(count, gate.family)
    for sock in socks:
        assert sock.connect_ex(address) == errno.EINPROGRESS
    return socks, listener


def rto_of(sock):
    """The time until the next SYN, in seconds."""
    return struct.unpack_from("=I", sock.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 64),
                              TCPI_RTO)[0] / 1e6


# --- the relay gives up

HEARTBEAT = 1.1  # a little longer
DIAL = 30.5  # its default --connect-timeout, and what the kernel half waits longer


def limit_of(sock):
    """TCP_USER_TIMEOUT in seconds: while connect() waits, when the kernel ends it."""
    return sock.getsockopt(socket.SOL_TCP, socket.TCP_USER_TIMEOUT) / 1000


def test_silent_destination(bed):
    """connect() ends when the relay has given up, and not at the next SYN, which is due after
    6.1 s with a HZ of 250.

    To see it fail: pass a dial_ms of 0 in client_waits().
    """
    bed.start_honest("--connect-timeout", "3300ms", "--connection-log", "text")
    sock, = bed.sockets()
    began = time.monotonic()
    assert sock.connect_ex(BLACKHOLE) == errno.EINPROGRESS
    assert outcomes([sock]) == [errno.ETIMEDOUT]
    assert 3.3 <= time.monotonic() - began < 5
    bed.relay.says("connect timeout")
    assert limit_of(sock) == 0


def test_limits_of_relay_and_client(bed):
    """The sooner one counts: --connect-timeout from when the relay dials, for which it may have no
    room yet, or the client's own.

    To see it fail: let pending_is_dialled() return true, or slot_dial_limit_ms() end_ms, or do not
    call timer_limit() in timer_renew() if the program has set nothing.
    """
    bed.start_honest("--workers", 1, "--max-connections", 2)
    gate = bed.gate()
    began = time.monotonic()
    first, impatient, late = bed.sockets(3)
    impatient.setsockopt(socket.SOL_TCP, socket.TCP_USER_TIMEOUT, 20_000)
    for sock in (first, impatient):
        assert sock.connect_ex(gate.address()) == errno.EINPROGRESS
    bed.slots.wait_dialling(2)
    host.wait_until(lambda: limit_of(first) < 60, "the relay's limit counts")
    assert DIAL <= limit_of(first) <= DIAL + time.monotonic() - began
    assert late.connect_ex(gate.address()) == errno.EINPROGRESS
    bed.slots.wait_dialling(3)
    host.wait_until(lambda: rto_of(late) > 0.5, "its SYNs are rare")
    assert limit_of(late) > 60 and limit_of(impatient) == 20
    first.close()
    host.wait_until(lambda: limit_of(late) < 60, "it is dialled")
    assert limit_of(late) >= DIAL + 0.4
    impatient.close()
    late.close()
    bed.wait_rest()


def test_limit_after_reload(bed, path):  # noqa: F811 (a fixture)
    """A reload that removes the last when-down = direct leaves dials that run as long as they were.

    To see it fail: return longest_ms in dial_limit_ms().
    """
    config(path, "[upstream spare]", "type = socks5", "address = 127.0.0.1:1", "when-down = direct")
    relay = bed.start_honest("--config", path)
    sock, = bed.sockets()
    assert sock.connect_ex(bed.gate().address()) == errno.EINPROGRESS
    host.wait_until(lambda: limit_of(sock) < 100, "the relay's limit counts")
    config(path)
    reload(relay, "read the configuration again")
    time.sleep(HEARTBEAT)
    rto = rto_of(sock)
    host.wait_until(lambda: rto_of(sock) > rto, "its SYN was sent again", timeout=20)
    assert limit_of(sock) >= 2 * DIAL - 0.5
    sock.close()
    bed.wait_rest()


# --- the relay dies, or stands still


def test_killed(bed):
    """connect() fails soon, and the slots are free.

    To see it fail: leave pending_give_up() out of client_forget().
    """
    bed.start_honest()
    gates = [bed.gate(kind) for kind in KINDS]
    waiting = [pending(bed, gate, 3) for gate in gates]
    bed.slots.wait_dialling(9)
    bed.relay.kill()
    socks = [sock for some, _ in waiting for sock in some]
    # A SYN that comes while the relay's sockets are being closed is refused.
    assert set(outcomes(socks)) - {errno.ECONNREFUSED} == {errno.ENODEV, errno.ENETUNREACH}
    for gate in gates:
        gate.open()
    assert not select.select([listener for _, listener in waiting], [], [], 0)[0]
    bed.wait_rest()


def test_stranger_at_the_port_of_a_dead_relay(bed):
    """It gets no SYN of those that were pending.

    To see it fail: do not look at map_listeners in the RTO callback.
    """
    bed.start_honest("--workers", 1, "--listeners", 1)
    gate = bed.gate()
    socks, _ = pending(bed, gate, 4)
    bed.slots.wait_dialling(len(socks))
    ports = ports_of(bed)
    host.wait_until(lambda: all(rto_of(sock) > 0.5 for sock in socks), "their SYNs are rare")
    bed.relay.kill()
    strangers = [bed.keep(sock) for sock in bed.run_in(as_user, bind_all, ports,
                                                       place=bed.bystander)]
    assert all(outcomes(socks))
    assert not select.select(strangers, [], [], 0)[0]
    bed.wait_rest()


def bind_some(uid, address, option, count):
    """Sockets of a user, bound to one address. They do not listen."""
    os.setuid(uid)
    socks = []
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind(address)
        sock.setblocking(False)
        socks.append(sock)
    return socks


def join_all(strangers, socks):
    """Each stranger connects to a client in SYN_SENT, which is a simultaneous open, and each client
    sends. Returns what the strangers have got when the clients have ended."""
    for stranger, sock in zip(strangers, socks, strict=True):
        with contextlib.suppress(BlockingIOError):
            stranger.connect(sock.getsockname())
    outcomes(socks)
    got = []
    for sock in socks:
        with contextlib.suppress(OSError):
            sock.send(b"secret")
    host.wait_until(lambda: not any(map(state_of, socks)), "no client is connected")
    for stranger in strangers:
        with contextlib.suppress(OSError):
            got.append(stranger.recv(100))
    return got


def state_of(sock):
    """enum of TCP's states, 0 if the socket is closed."""
    state = sock.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 1)[0]
    return state % TCP_CLOSE


def test_stranger_joins(bed):
    """Another process of the relay's user, which may bind its port, connects to pending clients in
    the relay's place. It gets no byte.

    To see it fail: do not look for JOINING in pending_established().
    """
    relay = bed.start_honest("--workers", 1, "--listeners", 1)
    gate = bed.gate()
    socks, _ = pending(bed, gate, 4)
    bed.slots.wait_dialling(len(socks))
    strangers = bed.run_in(bind_some, RELAY_UID, relay.address, socket.SO_REUSEPORT, len(socks),
                           place=bed.bystander)
    assert not any(join_all([bed.keep(sock) for sock in strangers], socks))
    assert bed.stats()["aborted"] == len(socks)
    for sock in socks:
        sock.close()
    bed.wait_rest()


def test_join_of_another_address(bed):
    """A socket with the relay's mark connects elsewhere. The client does not count as joined, or a
    stranger could join it now. To see it fail: compare no addresses in joiner_begins()."""
    bed.start_honest("--workers", 1, "--listeners", 1)
    pending(bed, bed.gate())
    bed.slots.wait_dialling(1)
    joiner, = bed.sockets(place=bed.relay_place)
    with bed.pins.open("map_socks") as socks, bed.pins.open("map_marks") as marks:
        conn = socks.lookup(socks.first_key())
        mark = struct.pack("=I", MARK_UPSTREAM | MARK_JOINS).ljust(marks.value_size - len(conn),
                                                                   b"\0")
        marks.update(struct.pack("=i", joiner.fileno()), mark + conn)
    joiner.settimeout(wire.TIMEOUT)
    joiner.connect(bed.listen().getsockname())
    assert [state for state, _, _ in bed.slots.used()] == [NOTIFIED]


def test_stranger_joins_clients_that_do_not_wait(bed):
    """A user has bound the relay's port before it started. The relay and its backlog are full, so
    SYNs have no answer. To see it fail: let client_established() accept joined clients."""
    address = "127.0.0.1", 7655
    strangers = [bed.keep(sock) for sock in bed.run_in(
        bind_some, USER, address, socket.SO_REUSEADDR, 4, place=bed.bystander)]
    relay = bed.start_relay("--listen", "127.0.0.1:7655", "--workers", 1, "--max-connections", 1,
                            "--backlog", 1)
    relay.says("port 7655")
    listener = bed.listen()
    socks = bed.sockets(12)
    for sock in socks:
        assert sock.connect_ex(listener.getsockname()) == errno.EINPROGRESS
    waiting = [sock for sock in socks if state_of(sock) == TCP_SYN_SENT][-len(strangers):]
    assert not any(join_all(strangers, waiting))
    assert bed.stats()["aborted"] == len(waiting) == len(strangers)


def test_stopped_for_a_while(bed):
    """Nothing fails: a connection that is pending ends when the relay goes on, and so does one that
    began meanwhile.

    To see it fail: let pending_owner() give a relay one second.
    """
    bed.start_honest()
    gate = bed.gate()
    socks, listener = pending(bed, gate, 3)
    bed.slots.wait_dialling(len(socks))
    with bed.relay.stopped():
        late, = bed.sockets()
        assert late.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        gate.open()
        assert not select.select([], [late, *socks], [], 2)[1]
    assert outcomes([late, *socks]) == [0] * 4
    for _ in range(4):
        bed.accept(listener)


def test_stopped_for_good(bed):
    """A connection that is pending does not wait for it forever.

    To see it fail: do not look at alive_ns in the RTO callback.
    """
    bed.start_honest()
    gate = bed.gate()
    socks, listener = pending(bed, gate)
    bed.slots.wait_dialling(1)
    with bed.relay.stopped():
        gate.open()
        assert outcomes(socks)[0] in (errno.ETIMEDOUT, errno.ECONNREFUSED, errno.EHOSTUNREACH)
    bed.wait_rest()


def test_told_to_end(bed):
    """It goes on until its last pending connection has an answer, and clients hear its heartbeat.

    To see it fail: let has_pending() return false; or send no heartbeat while the relay drains.
    """
    bed.start_honest("--drain-timeout", "2m")
    gate = bed.gate()
    (reached,), listener = pending(bed, gate)
    refused, = bed.sockets()
    assert refused.connect_ex(gate.address()) == errno.EINPROGRESS
    bed.slots.wait_dialling(2)
    bed.relay.signal(signal.SIGTERM)
    bed.relay.says("draining")
    before = bed.owners.all()
    host.wait_until(lambda: bed.owners.all() > before, "a heartbeat")
    gate.open()
    assert outcomes([reached, refused]) == [0, errno.ECONNREFUSED]
    server, _ = bed.accept(listener)
    wire.exchange(reached, server)
    reached.close()
    server.close()
    assert bed.relay.wait() == 0
    bed.wait_rest()


def test_unload(bed):
    """It waits for clients whose connect() is pending: their sockets have their own options back,
    and carry bytes.

    To see it fail: let have_pending() of handshakes.c return false.
    """
    bed.start_honest()
    gate = bed.gate()
    socks, listener = pending(bed, gate, 3)
    before = bed.sockets()[0].getsockopt(socket.SOL_TCP, socket.TCP_SYNCNT)
    bed.slots.wait_dialling(len(socks))
    unloading = threading.Thread(target=bed.unload)
    unloading.start()
    host.wait_until(lambda: "map_config" not in bed.pins.names(), "it is being unloaded")
    assert not select.select([], socks, [], 0.5)[1]
    gate.open()
    assert outcomes(socks) == [0] * len(socks)
    assert {sock.getsockopt(socket.SOL_TCP, socket.TCP_SYNCNT) for sock in socks} == {before}
    bed.exchange_all(socks, listener)
    unloading.join()


def test_full_ring(bed):
    """The relay stands still, and there are more SYNs than its ring has room for: clients send them
    again, so each is served.

    To see it fail: leave a slot NOTIFIED whose event found no room.
    """
    bed.start_honest("--workers", 1)
    listener = bed.listen()
    socks = bed.sockets(1600)
    with bed.relay.stopped():
        bed.owners.keep_alive(60)  # it is not to be taken for dead on a slow machine
        for sock in socks:
            assert sock.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        assert bed.stats()["honest_ring_full"] > 0
    assert not any(outcomes(socks))
    assert bed.stats()["honest_pending"] == len(socks)
    for sock in socks:
        sock.close()
    bed.wait_rest()


# --- who else may come


def test_port_scanner(bed):
    """The relay's ports are closed to clients that were not redirected: from this host, in scope or
    not, and from another one.

    To see it fail: select the real listener in tproxy_pick if map_ports has no such connection.
    """
    bed.start_honest("--listen", "0.0.0.0:0", "--listen", "[::]:0", "--workers", 1)
    relay, relay6 = bed.relay.address[1], host6.relay_address(bed.relay)[1]
    for place, addresses in (
            (bed.server, [(CLIENT, relay), (host6.CLIENT6, relay6)]),
            (bed.bystander, [("127.0.0.1", relay), ("::1", relay6), (CLIENT, relay)]),
            (bed.client, [("127.0.0.1", relay), ("::1", relay6)])):
        for address in addresses:
            assert bed.run_in(errno_of, address, place=place) == errno.ECONNREFUSED, address
    assert bed.stats()["honest_stranger"] >= 7
    bed.reach(bed.listen())


def test_slot_of_another_connection(bed):
    """A SYN whose slot belongs to another connection by now is refused: what is said there is not
    for its client.

    To see it fail: do not compare the generation in pick_by_slot().
    """
    bed.start_honest()
    (sock,), _ = pending(bed, bed.gate())
    bed.slots.wait_dialling(1)
    with bed.pins.open("map_socks") as socks:
        key = socks.first_key()
        value = socks.lookup(key)
        generation, = struct.unpack("=Q", value[-8:])
        socks.update(key, value[:-8] + struct.pack("=Q", generation + 1))
    assert outcomes([sock]) == [errno.ECONNREFUSED]
    sock.close()
    bed.wait_rest()


# --- several of each


@pytest.mark.parametrize("options", [["--workers", 3], ["--workers", 2, "--listeners", 2]],
                         ids=["3", "2x2"])
def test_workers(bed, options):
    """Each has a ring, and answers for its own listeners.

    To see it fail: let ring_of() return the first ring for all.
    """
    bed.start_honest(*options)
    for kind in KINDS:
        gate = bed.gate(kind)
        socks, listener = pending(bed, gate, 30)
        closed = bed.sockets(30, gate.family)
        for sock in closed:
            assert sock.connect_ex(gate.address()) == errno.EINPROGRESS
        bed.slots.wait_dialling(60)
        assert len({ring for _, _, ring in bed.slots.used()}) == options[1]
        gate.open()
        assert outcomes(socks) == [0] * 30 and outcomes(closed) == [errno.ECONNREFUSED] * 30
        bed.exchange_all(socks, listener)
        for sock in closed:
            sock.close()
        bed.wait_rest()


def test_rings_of_others(bed):
    """A relay that finds no ring accepts first, and says so. It takes the rings of a dead one, and
    gets others if they are taken from it.

    To see it fail: do not look at alive_ns in is_free(), for the first two. For the third, do not
    compare the owner in pending_heartbeat().
    """
    gate = bed.gate()
    gate.open()
    bed.owners.give(1, 3600)
    relay = bed.start_honest("--error-memory", "0")
    assert relay.says("accepted first: other relays use all rings")
    assert not bed.is_honest(gate.address())
    relay.signal(signal.SIGTERM)
    assert relay.wait() == 0
    bed.owners.give(1, -6)
    relay = bed.start_honest("--workers", 2)
    assert bed.is_honest(gate.address())
    ours = [ring for ring, (owner, _) in enumerate(bed.owners.all()) if owner != 1]
    assert len(ours) == 2
    bed.owners.give(2, 3600, ours)
    host.wait_until(lambda: len(relay.registrations()) == 2, "it has made new listeners")
    assert relay.says("taken over pending connections") and bed.is_honest(gate.address())
    assert [owner for owner, _ in bed.owners.all()].count(2) == 2


def test_port_in_use(bed):
    """One line says why, as without the option. To see it fail: call give_up_pairs() before
    listener_bind()."""
    taken = bed.listen("127.0.0.1", netns=bed.client_net)
    bed.run_relay("--listen", "127.0.0.1:{}".format(taken.getsockname()[1]),
                  "--honest-connect").refused("cannot listen", "in use")


def test_two_namespaces(bed):
    """Both relays have the same address, and so have both clients: each connection is answered by
    the relay of its own namespace.

    To see it fail: leave the namespace out of the look-up in tproxy_pick.
    """
    with contextlib.ExitStack() as nets:
        ways = []
        for listens in (True, False):
            net = nets.enter_context(host.NetNs())
            net.ip(f"addr add {SHARED[0]}/32 dev lo")
            bed.start_honest("--workers", 1, "--listeners", 1, "--listen", "127.0.0.1:3128",
                             place=host.Place(bed.relay_cgroup, net))
            place = host.Place(bed.scope, net)
            listener = bed.listen(*SHARED, netns=net) if listens else None
            ways.append((place, listener))
        for _ in range(5):
            socks = [bed.sockets(place=place)[0] for place, _ in ways]
            for sock in socks:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((SHARED[0], 23456))
                assert sock.connect_ex(SHARED) == errno.EINPROGRESS
            assert outcomes(socks) == [0, errno.ECONNREFUSED]
            server, _ = bed.accept(ways[0][1])
            wire.exchange(socks[0], server)
            wire.reset(socks[0])
            socks[1].close()
            bed.wait_rest()


@pytest.mark.parametrize("default", [[], ["--honest-connect"]], ids=["asked-for", "asked-against"])
def test_rules(bed, ctl, default):  # noqa: F811
    """`redirect honest` and `redirect eager`, whatever the relay's default.

    To see it fail: leave the flags out of the record in connect4, or let pending_begin() look at
    the default alone.
    """
    bed.start_relay("--error-memory", "0", *default)
    gates = [bed.gate(), bed.gate("inet6")]
    for gate in gates:
        gate.open()
        assert bed.is_honest(gate.address()) == bool(default)
    load_rules(bed, ctl, f"redirect honest port {CLOSED + 1}", f"redirect eager port {CLOSED + 2}",
               "default redirect")
    for gate in gates:
        found = [bed.is_honest(gate.address(CLOSED + more)) for more in range(3)]
        assert found == [bool(default), True, False]
    listener, address = gates[0].listen(CLOSED + 1)
    bed.reach(listener, address)
    bed.reach(*gates[1].listen(CLOSED + 2))
    if not default:
        assert bed.stats()["honest_pending"] == 3


def test_without_the_option(bed):
    """Everything is accepted as before.

    To see it fail: set TPROXY_MARK_HONEST_DEFAULT in each mark.
    """
    bed.start_relay()
    gate = bed.gate()
    gate.open()
    assert not bed.is_honest(gate.address())
    assert bed.stats()["honest_pending"] == 0


def test_full_relay(bed):
    """--max-connections: a connection waits until there is room for it, and is not refused.

    To see it fail: consume the event when limit_reserve() fails.
    """
    bed.start_honest("--workers", 1, "--max-connections", 2)
    listener = bed.listen()
    first = [bed.reach(listener) for _ in range(2)]
    socks = bed.sockets(3)
    for sock in socks:
        assert sock.connect_ex(listener.getsockname()) == errno.EINPROGRESS
    bed.relay.says("accepting paused")
    assert not select.select([listener], socks, [], 0.2)[1]
    for end in (*first[0], *first[1]):
        end.close()
    listener.settimeout(None)
    bed.task(wire.serve_each, wire.ended_by, listener, place=bed.server)
    while socks:
        sock = select.select([], socks, [], wire.TIMEOUT)[1][0]
        assert error_of(sock) == 0
        sock.settimeout(wire.TIMEOUT)
        sock.shutdown(socket.SHUT_WR)
        assert wire.ended_by(sock) == wire.EOF
        sock.close()
        socks.remove(sock)
    bed.wait_rest()


# --- other programs


@pytest.mark.parametrize("flags", [maps.RTT_CB_FLAG, 0], ids=["rtt", "none"])
def test_callback_flags_of_others(bed, flags):
    """Another sockops program takes tproxy's callbacks away: connect() still says the truth, only
    later if it fails.

    To see it fail: answer nothing in pick if the relay's verdict is a refusal.
    """
    pin = bed.directory / "bpf" / "foreign_sockops"
    maps.load_sockops(pin, maps.TCP_CONNECT_CB, flags)
    maps.bpftool("cgroup", "attach", bed.scope, "cgroup_sock_ops", "pinned", pin, "multi")
    try:
        bed.start_honest()
        refused, = bed.sockets()
        assert refused.connect_ex((SERVER, CLOSED)) == errno.EINPROGRESS
        for end in bed.reach(bed.listen()):
            end.close()
        assert outcomes([refused]) == [errno.ECONNREFUSED]
        bed.wait_rest()
    finally:
        maps.bpftool("cgroup", "detach", bed.scope, "cgroup_sock_ops", "pinned", pin)
