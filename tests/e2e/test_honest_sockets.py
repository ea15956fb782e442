# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Honest connect, as the sockets of a client see it: each way to call connect(), and each moment at
which a program may give it up.

Where a connection without tproxy is the model, both are made, and must not differ. The tests of a
process share one bed; after each of them nothing is left.
"""

import contextlib
import errno
import os
import select
import signal
import socket
import struct
import time

import pytest

import host
import wire
from harness import BLACKHOLE, CLIENT
from honest import CLOSED, KINDS, HonestBed, errno_of, error_of, family_of, outcomes
from host6 import BLACKHOLE6, CLIENT6, mapped

NONBLOCKING = struct.pack("=ii", 1, 0)  # SO_LINGER: close() resets
SYNCNT = (socket.SOL_TCP, socket.TCP_SYNCNT)
USER_TIMEOUT = (socket.SOL_TCP, socket.TCP_USER_TIMEOUT)
SNDTIMEO = (socket.SOL_SOCKET, socket.SO_SNDTIMEO)
FAST_OPEN_EVERYWHERE = 0x1 | 0x2 | 0x4 | 0x200 | 0x400  # tcp_fastopen in ip-sysctl.rst


@pytest.fixture(scope="module")
def bed(run_directory, binaries):
    with HonestBed("honest", run_directory / "honest", binaries) as bed:
        bed.load()
        bed.start_honest()
        yield bed


@pytest.fixture(autouse=True)
def case(bed):
    with bed.case():
        yield


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def gate(bed):
    return bed.gate()


def counted(bed, name, before):
    return bed.stats()[name] - before[name]


# --- what connect() and its relatives return


def bits(events):
    return [event for _, event in events]


def steps(bed, gate, address, place):
    """What a program sees of a non-blocking connect(), at each step."""
    sock, = bed.sockets(family=gate.family, place=place)
    seen = [sock.connect_ex(address)]
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT)
    with select.epoll() as edges:
        edges.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        if place is bed.client:
            bed.slots.wait_dialling(1)
        with pytest.raises(OSError) as no_peer:
            sock.getpeername()
        seen += [bits(poll.poll(0)), bits(edges.poll(0)), sock.connect_ex(address), error_of(sock),
                 no_peer.value.errno]
        gate.open()
        seen.append(bits(edges.poll(wire.TIMEOUT)))
        seen += [bits(edges.poll(0.05)), bits(poll.poll(0)), error_of(sock)]
        seen += [sock.connect_ex(address) for _ in range(2)]
        if seen[-1] == errno.EISCONN:
            seen.append(sock.getpeername()[:2] == address)
        return seen


@pytest.mark.parametrize("listens", [True, False], ids=["reached", "refused"])
def test_nonblocking(bed, kind, listens):
    """Nothing happens while it is pending, then one edge. Another connect() gives EALREADY, then 0
    and EISCONN, or the error.

    To see it fail: answer the first SYN by the real listener in pick_pending().
    """
    seen = []
    for place in (bed.bystander, bed.client):
        gate = bed.gate(kind)
        address = gate.listen()[1] if listens else gate.address()
        seen.append(steps(bed, gate, address, place))
    assert seen[1] == seen[0]
    assert seen[0][:6] == [errno.EINPROGRESS, [], [], errno.EALREADY, 0, errno.ENOTCONN]
    assert seen[0][9] == (0 if listens else errno.ECONNREFUSED)


def say_and_close(address):
    with socket.socket(family_of(address)) as sock:
        sock.connect(address)
        sock.sendall(b"said")


def test_blocking(bed, kind):
    """It returns when the server has been reached, or has refused. What is sent at once arrives,
    also if the client closes before the relay knows that it has joined it.

    To see it fail: answer the first SYN by the real listener in pick_pending().
    """
    gate = bed.gate(kind)
    listener, address = gate.listen()
    refused = bed.task(errno_of, gate.address())
    reached = bed.task(say_and_close, address)
    bed.slots.wait_dialling(2)
    assert not select.select([listener], [], [], 0)[0]
    gate.open()
    assert reached.result() is None and refused.result() == errno.ECONNREFUSED
    server, _ = bed.accept(listener)
    assert wire.read_exactly(server, 4) == b"said" and wire.ended_by(server) == wire.EOF
    bed.reach(listener, address)


def test_send_timeout(bed, gate):
    """SO_SNDTIMEO: connect() ends with EINPROGRESS, and the handshake goes on.

    To see it fail: answer the first SYN by the real listener in pick_pending().
    """
    listener, address = gate.listen()
    sock, = bed.sockets()
    limit = struct.pack("=qq", 0, 100_000)
    sock.setsockopt(*SNDTIMEO, limit)
    sock.settimeout(None)
    assert sock.connect_ex(address) == errno.EINPROGRESS
    bed.slots.wait_dialling(1)
    gate.open()
    assert outcomes([sock]) == [0]
    assert sock.getsockopt(*SNDTIMEO, len(limit)) == limit
    wire.exchange(sock, bed.accept(listener)[0])


# --- the client's timers


def test_options_read_back(bed, gate):
    """What the kernel half has set aside while a connection was pending is back, whatever its end.

    To see it fail: leave out timer_end() in client_established(), or in client_close().
    """
    listener, address = gate.listen()
    # The last three end soon, so they begin when the gate is open.
    settings = [{}, {SYNCNT: 3}, {USER_TIMEOUT: 90_000}, {SYNCNT: 1}, {USER_TIMEOUT: 100},
                {SYNCNT: 2, USER_TIMEOUT: 5000}]
    socks = bed.sockets(2 * len(settings))
    before = []
    for number, sock in enumerate(socks):
        for option, value in settings[number // 2].items():
            sock.setsockopt(*option, value)
        before.append([sock.getsockopt(*option) for option in (SYNCNT, USER_TIMEOUT)])
        if number == len(socks) // 2:
            bed.slots.wait_dialling(number)
            gate.open()
        assert sock.connect_ex(gate.address() if number % 2 else address) == errno.EINPROGRESS
    assert outcomes(socks) == [0, errno.ECONNREFUSED] * len(settings)
    assert [[sock.getsockopt(*option) for option in (SYNCNT, USER_TIMEOUT)]
            for sock in socks] == before
    for sock in socks[::2]:
        bed.accept(listener)


def test_user_timeout_shorter_than_the_dial(bed, gate):
    """Without tproxy the kernel looks at TCP_USER_TIMEOUT after a second, when it retransmits.

    To see it fail: let timer_limit() set what the program has set.
    """
    listener, address = gate.listen()
    sock, = bed.sockets()
    sock.setsockopt(*USER_TIMEOUT, 100)
    assert sock.connect_ex(address) == errno.EINPROGRESS
    time.sleep(0.3)
    gate.open()
    assert outcomes([sock]) == [0]
    wire.exchange(sock, bed.accept(listener)[0])


def lives(bed, address, *option_sets):
    """How long connect() to a black hole takes with each of these options, without tproxy and with
    it: pairs of a least and a most. All run at once, and one loop takes the times, so that a busy
    machine delays both."""
    began, ended, socks = {}, {}, []
    for options in option_sets:
        for place in (bed.bystander, bed.client):
            sock, = bed.sockets(family=family_of(address), place=place)
            for option, value in options.items():
                sock.setsockopt(*option, value)
            socks.append(sock)
    with select.epoll() as poll:
        for sock in socks:
            before = time.monotonic()
            assert sock.connect_ex(address) == errno.EINPROGRESS
            began[sock.fileno()] = before, time.monotonic()
            poll.register(sock, select.EPOLLOUT)
        while len(ended) < len(socks):
            for fd, _ in poll.poll():
                poll.unregister(fd)
                ended[fd] = time.monotonic()
    assert [error_of(sock) for sock in socks] == [errno.ETIMEDOUT] * len(socks)
    spans = [(ended[sock.fileno()] - began[sock.fileno()][1],
              ended[sock.fileno()] - began[sock.fileno()][0]) for sock in socks]
    return list(zip(spans[::2], spans[1::2], strict=True))


@pytest.mark.parametrize("linear", [0, 2])
def test_black_hole(bed, linear):
    """The client's own limits, TCP_SYNCNT and TCP_USER_TIMEOUT, end it after the same time as
    without tproxy. Timers of seconds are late by an eighth at most. With linear timers a long
    TCP_USER_TIMEOUT makes it longer: then the kernel counts SYNs, and no time.

    To see it fail: do not set TCP_USER_TIMEOUT in timer_limit(), or leave out
    tcp_syn_linear_timeouts there, or take slot_timer_from_s() for count_ms in slot_limit_ms().
    """
    with bed.setting("ipv4/tcp_syn_linear_timeouts", linear):
        spans = lives(bed, BLACKHOLE, {SYNCNT: 1}, *([] if linear else [{SYNCNT: 2}]),
                      {USER_TIMEOUT: 100}, {SYNCNT: 1, USER_TIMEOUT: 1500},
                      {SYNCNT: 1, USER_TIMEOUT: 60_000})
    for direct, honest in spans:
        grain = max(0.15, direct[1] / 8)
        assert honest[1] >= direct[0] - grain and honest[0] <= direct[1] + grain, spans


@pytest.mark.parametrize("address", [BLACKHOLE6, mapped(BLACKHOLE)], ids=["inet6", "mapped"])
def test_black_hole_of_the_other_family(bed, address):
    """To see it fail: as test_black_hole()."""
    (direct, honest), = lives(bed, address, {USER_TIMEOUT: 100})
    assert abs(honest[0] - direct[0]) < 0.5


# --- bound before


SOURCES = {"address": (CLIENT, 0), "port": ("", 23456), "loopback": ("127.0.0.5", 0),
           "both": (CLIENT, 23457), "inet6": (CLIENT6, 23458)}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_bound_before(bed, source):
    """The relay joins the address and port that the client has bound.

    To see it fail: connect to the relay's own address in join_begin().
    """
    gate = bed.gate("inet6" if source[0] == CLIENT6 else "inet")
    listener, address = gate.listen()
    sock, = bed.sockets(family=gate.family)
    sock.bind(source)
    name = sock.getsockname()
    assert sock.connect_ex(address) == errno.EINPROGRESS
    bed.slots.wait_dialling(1)
    gate.open()
    assert outcomes([sock]) == [0]
    assert sock.getsockname()[1] == name[1]
    assert not source[0] or sock.getsockname() == name
    assert sock.getpeername()[:2] == address
    wire.exchange(sock, bed.accept(listener)[0])


def test_port_used_again_where_the_server_closes_first(bed):
    """The relay's side is in TIME_WAIT, without timestamps, when the next SYN comes from there.

    To see it fail: make the joining socket without SO_REUSEPORT.
    """
    ports, rounds = range(23500, 23515), 3
    listener = bed.listen()
    before = bed.stats()
    with bed.setting("ipv4/tcp_timestamps", 0):
        for _ in range(rounds):
            for sock, port in zip(bed.sockets(len(ports)), ports, strict=True):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((CLIENT, port))
                _, server = bed.reach(listener, sock=sock)
                server.close()
                assert wire.ended_by(sock) == wire.EOF
                sock.close()
            bed.wait_rest()
    assert counted(bed, "honest_pending", before) == rounds * len(ports)


# --- what is accepted as before


def fast_open(sock, address):
    """Sends data with the SYN if the kernel has a cookie or needs none."""
    sock.setblocking(True)
    sock.sendto(b"early", socket.MSG_FASTOPEN, address)
    sock.settimeout(wire.TIMEOUT)


def test_fast_open_asks_for_a_cookie(bed):
    """This SYN has no data, so connect() is pending, and the data follow.

    To see it fail: let pick_read() find data in each SYN.
    """
    before = bed.stats()
    for listener in (bed.listen(), bed.listen()):
        sock, = bed.sockets()
        fast_open(sock, listener.getsockname())
        server, _ = bed.accept(listener)
        assert wire.read_exactly(server, 5) == b"early"
        wire.exchange(sock, server)
    assert counted(bed, "honest_pending", before) == 2
    assert counted(bed, "honest_data", before) == 0
    sock, = bed.sockets()
    with pytest.raises(ConnectionRefusedError):
        fast_open(sock, (listener.getsockname()[0], CLOSED))


def test_fast_open_with_data(bed, gate):
    """The sink would swallow data that the kernel then sends much later.

    To see it fail: let pick_pending() select the sink for a SYN with data.
    """
    before = bed.stats()
    listener, address = gate.listen()
    with bed.setting("ipv4/tcp_fastopen", FAST_OPEN_EVERYWHERE):
        sock, = bed.sockets()
        fast_open(sock, address)
        host.wait_until(lambda: gate.dials(address[1]), "the relay has accepted")
        gate.open()
        server, _ = bed.accept(listener)
        assert wire.read_exactly(server, 5) == b"early"
        wire.exchange(sock, server)
    assert counted(bed, "honest_data", before) == 1


def test_multipath_tcp(bed, kind):
    """Such a socket does not take part in a simultaneous open: it is accepted, then reset.

    To see it fail: do not look at is_mptcp in pending_begin(). connect() never returns then.
    """
    before = bed.stats()
    gate = bed.gate(kind)
    gate.open()
    listener, address = gate.listen()
    reached, refused = bed.sockets(2, gate.family, socket.IPPROTO_MPTCP)
    bed.reach(listener, address, reached)
    assert not bed.is_honest(gate.address(), refused)
    assert counted(bed, "honest_mptcp", before) == 2


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_hop_limit_of_255(bed, family):
    """The sink would let these SYNs through.

    To see it fail: do not look at the TTL in pick_pending().
    """
    before = bed.stats()
    name = "ipv4/ip_default_ttl" if family == "ipv4" else "ipv6/conf/lo/hop_limit"
    gate = bed.gate("inet" if family == "ipv4" else "inet6")
    gate.open()
    with bed.setting(name, 255):
        bed.reach(*gate.listen())
        assert not bed.is_honest(gate.address())
    assert counted(bed, "honest_ttl", before) == 2


def send_with_hop_limit_255(sock):
    """Its next SYN is accepted."""
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)


def test_hop_limit_set_while_pending(bed, kind):
    """The relay dials already. The next SYN is accepted, and this dial is replaced by another.

    To see it fail: look at the TTL in pick_pending() only if the slot is WAITS.
    """
    before = bed.stats()
    gate = bed.gate(kind)
    listener, address = gate.listen()
    bed.task(wire.serve_echo, listener, place=bed.server)
    sock, = bed.sockets(family=gate.family)
    assert sock.connect_ex(address) == errno.EINPROGRESS
    bed.slots.wait_dialling(1)
    send_with_hop_limit_255(sock)
    assert outcomes([sock]) == [0]
    gate.open()
    sock.sendall(b"echo")
    assert wire.read_exactly(sock, 4) == b"echo"
    assert counted(bed, "honest_ttl", before) == 1


# --- hosts with other settings


def every_outcome(bed):
    """Connections of each kind that wait, that do not, and that are refused."""
    for kind in KINDS:
        gate = bed.gate(kind)
        listener, address = gate.listen()
        socks = bed.sockets(4, gate.family)
        for number, sock in enumerate(socks):
            assert sock.connect_ex(gate.address() if number % 2 else address) == errno.EINPROGRESS
        bed.slots.wait_dialling(len(socks))
        gate.open()
        assert outcomes(socks) == [0, errno.ECONNREFUSED] * 2
        ends = [bed.accept(listener)[0] for _ in range(2)]
        assert bed.is_honest(gate.address(CLOSED + 1))
        for number, sock in enumerate(socks[::2]):
            sock.sendall(b"%d" % number)
        assert sorted(wire.read_exactly(end, 1) for end in ends) == [b"0", b"1"]
        bed.reach(listener, address)


def test_syn_cookies(bed):
    """The ACK that answers a cookie reaches the listener as a SYN does.

    To see it fail: select the sink in pick_run() for all segments that are no SYN.
    """
    with bed.setting("ipv4/tcp_syncookies", 2):
        every_outcome(bed)
        for kind in KINDS:
            gate = bed.gate(kind)
            gate.open()
            sock, = bed.sockets(family=gate.family)
            send_with_hop_limit_255(sock)
            bed.reach(*gate.listen(), sock)


def test_explicit_congestion_notification(bed):
    """ECN is negotiated with flags in the SYN.

    To see it fail: compare all flags with PICK_SYN in pick_run().
    """
    with bed.setting("ipv4/tcp_ecn", 1):
        every_outcome(bed)


@pytest.mark.needs("iptables-legacy")
def test_firewall_that_drops_invalid_packets(bed):
    """conntrack knows the simultaneous open: no packet of it is invalid.

    To see it fail: let the rules match packets that are NEW.
    """
    rules = [(tool, chain, flag, "lo") for tool in ("iptables-legacy", "ip6tables-legacy")
             for chain, flag in (("INPUT", "-i"), ("OUTPUT", "-o"))]
    for tool, chain, flag, device in rules:
        bed.nsenter(tool, "-A", chain, flag, device, "-m", "conntrack", "--ctstate", "INVALID",
                    "-j", "DROP")
    try:
        every_outcome(bed)
        for tool, chain, _, _ in rules:
            line = bed.nsenter(tool, "-nvxL", chain).splitlines()[2]
            assert line.split()[0] == "0" and "DROP" in line, line
    finally:
        for tool, chain, _, _ in rules:
            bed.nsenter(tool, "-F", chain)


# --- clients that give up


def close(sock):
    sock.close()


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NONBLOCKING)
    sock.close()


def shut_down(sock):
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def test_give_up(bed, gate):
    """By close(), by a reset, by shutdown(), by connect() to AF_UNSPEC, and by the death of the
    process: the relay cancels its dial, and the server hears of nobody.

    To see it fail: ignore the event in session_pending_gone(), and the slot in session_probe().
    """
    listener, address = gate.listen()
    ways = [close, reset, shut_down, wire.disconnect]
    socks = bed.sockets(len(ways))
    for sock in socks:
        assert sock.connect_ex(address) == errno.EINPROGRESS
    dying = bed.task(errno_of, address)
    bed.slots.wait_dialling(len(ways) + 1)
    host.wait_until(lambda: gate.dials(address[1]) == len(ways) + 1, "all are dialled")
    for way, sock in zip(ways, socks, strict=True):
        way(sock)
    os.kill(dying.pid, signal.SIGKILL)
    host.wait_until(lambda: not bed.slots.held(), "the slots are free")
    host.wait_until(lambda: not gate.dials(address[1]), "the dials are cancelled")
    gate.open()
    probe, = bed.sockets(place=bed.bystander)
    probe.settimeout(wire.TIMEOUT)
    probe.connect(address)
    assert bed.accept(listener)[1] == probe.getsockname()
    assert not select.select([listener], [], [], 0)[0]


def test_connect_again_after_giving_up(bed):
    """One socket, two destinations: the second one is reached, the first one is not.

    To see it fail: as test_give_up().
    """
    first, second = bed.gate(), bed.gate()
    (unused, to_first), (listener, to_second) = first.listen(), second.listen()
    sock, = bed.sockets()
    assert sock.connect_ex(to_first) == errno.EINPROGRESS
    bed.slots.wait_dialling(1)
    wire.disconnect(sock)
    assert sock.connect_ex(to_second) == errno.EINPROGRESS
    host.wait_until(lambda: not first.dials(to_first[1]), "the first dial is cancelled")
    bed.slots.wait_dialling(1)
    first.open()
    second.open()
    assert outcomes([sock]) == [0] and sock.getpeername() == to_second
    wire.exchange(sock, bed.accept(listener)[0])
    assert not select.select([unused], [], [], 0)[0]


# --- many


@pytest.mark.deadline(90)
@pytest.mark.parametrize("count", [400, pytest.param(8000, marks=pytest.mark.plain_build)])
def test_many_at_once(bed, gate, count):
    """Half of them reach a server, which echoes what each sends, and half are refused.

    To see it fail: let pending_claim() give out two slots, free or not.
    """
    listener, address = gate.listen()
    bed.task(wire.serve_echo, listener, place=bed.server)
    before = bed.stats()
    socks = bed.sockets(count)
    for number, sock in enumerate(socks):
        assert sock.connect_ex(gate.address() if number % 2 else address) == errno.EINPROGRESS
    bed.slots.wait_dialling(count)
    gate.open()
    assert outcomes(socks, 60) == [0, errno.ECONNREFUSED] * (count // 2)
    for number, sock in enumerate(socks[::2]):
        sock.sendall(struct.pack("=I", number))
    for number, sock in enumerate(socks[::2]):
        sock.settimeout(wire.TIMEOUT)
        assert wire.read_exactly(sock, 4) == struct.pack("=I", number)
    assert counted(bed, "honest_pending", before) == count
