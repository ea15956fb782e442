# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The relay: bytes, EOF and resets (I6), limits and timeouts, the end of the process."""

import errno
import os
import re
import resource
import select
import signal
import socket
import time

import pytest

import host
import wire
from harness import BLACKHOLE, CLIENT, NOBODY
from programs import RELAY_GID, RELAY_UID, SANITIZED

SYN_SENT, CLOSE_WAIT = "02", "08"  # in proc_net_tcp.rst

MIB = 1024


@pytest.fixture(params=["client", "server"])
def ends(request, proxied):
    """Both ends of a relayed connection, in both orders."""
    client, server = proxied.pair()
    return (client, server) if request.param == "client" else (server, client)


def send_until_blocked(sock):
    """Fills every buffer on the way, and returns how many bytes that took."""
    sent, quiet_since = 0, time.monotonic()
    sock.setblocking(False)
    while time.monotonic() - quiet_since < 0.3:
        try:
            sent += sock.send(bytes(1 << 16))
            quiet_since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    sock.settimeout(wire.TIMEOUT)
    return sent


# --- I6: ends of file and resets stay what they are, in both directions


def test_half_close(ends):
    """I6. To see it fail: close the whole session at the first EOF."""
    one, other = ends
    one.sendall(b"the question")
    one.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(other) == (b"the question", wire.EOF)
    for part in (b"the ", b"answer"):
        other.sendall(part)
        assert wire.read_exactly(one, len(part)) == part
    other.close()
    assert wire.ended_by(one) == wire.EOF


def test_half_close_without_data(ends):
    one, other = ends
    one.shutdown(socket.SHUT_WR)
    assert wire.ended_by(other) == wire.EOF
    other.sendall(b"late")
    other.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(one) == (b"late", wire.EOF)


def test_both_half_close_at_once(ends):
    for end in ends:
        end.sendall(b"bye")
        end.shutdown(socket.SHUT_WR)
    for end in ends:
        assert wire.read_to_end(end) == (b"bye", wire.EOF)


def test_one_end_speaks_first(ends):
    """The server speaks first in ssh and SMTP."""
    one, other = ends
    one.sendall(b"220 welcome\r\n")
    assert wire.read_exactly(other, 13) == b"220 welcome\r\n"
    wire.exchange(other, one)


def test_close_with_data_in_flight(ends):
    """One end writes and closes. The other, which reads late, gets all of it."""
    one, other = ends
    stream = wire.Stream("in flight", 1 << 20)
    other.settimeout(wire.TIMEOUT)
    wire.send_stream(one, stream)
    one.close()
    assert wire.receive_stream(other) == (stream.size, stream.sha256())


def test_reset(ends):
    """I6. To see it fail: shut the other side down in place of resetting it."""
    one, other = ends
    wire.exchange(one, other)
    wire.reset(one)
    assert wire.ended_by(other) == wire.RESET


def test_reset_with_data_in_flight(ends):
    """The other end reads nothing until the reset: it may lose data, but must not take them for
    complete."""
    one, other = ends
    send_until_blocked(one)
    wire.reset(one)
    assert wire.read_to_end(other)[1] == wire.RESET


def test_last_words_before_a_reset(proxied):
    """Bytes that the kernel has acknowledged arrive, although the relay learns of the reset by
    writing the other way. To see it fail: do not run the pump in half_flush()."""
    client, server = proxied.pair()
    wire.exchange(client, server)
    proxied.relay.stop()
    server.sendall(b"nobody reads this")
    client.sendall(b"last words")
    wire.reset(client)
    proxied.relay.signal(signal.SIGCONT)
    assert wire.read_to_end(server) == (b"last words", wire.RESET)


@pytest.mark.parametrize("shuts_down", [False, True], ids=["", "shuts-down"])
def test_server_that_resets_before_the_relay_looks(proxied, shuts_down):
    """It accepts, sends data and resets while the relay waits to run. Without a relay the client
    would read the data, and then get the reset. Fails if connect_failed() takes ECONNRESET for a
    refusal, or EPIPE if the server has sent a FIN."""
    listener = proxied.listen()
    address = listener.getsockname()
    proxied.server_net.ip(f"route add blackhole {CLIENT}/32")  # the SYN is retransmitted

    def relays_states():
        with proxied.client_net.inside():
            return wire.tcp_states(address)

    client = proxied.connect(listener)
    host.wait_until(lambda: SYN_SENT in relays_states(), "the relay connects")
    with proxied.relay.stopped():
        proxied.server_net.ip(f"route del blackhole {CLIENT}/32")
        server, _ = proxied.accept(listener)
        server.sendall(b"go away")
        if shuts_down:
            server.shutdown(socket.SHUT_WR)
            host.wait_until(lambda: relays_states() == [CLOSE_WAIT], "the FIN has come")
        wire.reset(server)
        host.wait_until(lambda: not relays_states(), "the reset has come")
    assert wire.read_to_end(client) == (b"go away", wire.RESET)


@pytest.mark.parametrize("writes", [False, True], ids=["", "but-writes"])
def test_reset_reaches_an_end_that_does_not_read(ends, writes):
    """It gets the reset at once, although data sent before cannot be delivered."""
    one, other = ends
    send_until_blocked(one)
    if writes:
        send_until_blocked(other)
    wire.reset(one)
    poll = select.poll()
    poll.register(other, 0)
    assert poll.poll(5000 * host.patience), "no reset"
    assert other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (errno.ECONNRESET, errno.EPIPE)


def test_close_with_unread_data_is_a_reset(ends):
    """The kernel resets a connection that is closed with unread data."""
    one, other = ends
    other.sendall(bytes(100))
    wire.read_exactly(one, 1)
    one.close()
    assert wire.ended_by(other) == wire.RESET


def test_reset_after_half_close(ends):
    one, other = ends
    one.shutdown(socket.SHUT_WR)
    assert wire.ended_by(other) == wire.EOF
    wire.reset(other)
    assert wire.ended_by(one) == wire.RESET


def test_reset_by_the_end_that_half_closed(ends):
    one, other = ends
    one.shutdown(socket.SHUT_WR)
    assert wire.ended_by(other) == wire.EOF
    wire.reset(one)

    def reset_seen():
        try:
            other.send(b"more")
        except (ConnectionResetError, BrokenPipeError):
            return True
        return False

    host.wait_until(reset_seen, "the end that still writes learns of the reset")


# --- the upstream connection


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.0\r\n\r\n"], ids=["silent", "speaks"])
def test_refused_destination_is_a_reset(proxied, data):
    assert proxied.run_in(wire.fate, NOBODY, data) == wire.RESET
    host.wait_until(proxied.pins.at_rest, "nothing is left")


def test_unreachable_destination_is_a_reset(proxied):
    proxied.client_net.ip("route add unreachable 192.0.2.0/24")
    assert proxied.run_in(wire.fate, ("192.0.2.1", 80)) == wire.RESET


def test_connect_timeout(loaded):
    loaded.start_relay("--connect-timeout", "400ms")
    started = time.monotonic()
    assert wire.ended_by(loaded.connect(BLACKHOLE)) == wire.RESET
    assert 0.4 <= time.monotonic() - started < 8, "the default is 30 s"


def test_client_that_leaves_while_the_relay_connects(loaded):
    """The relay gives up too, long before its connect timeout, and leaks nothing."""
    loaded.start_relay("--connect-timeout", "60s", "--workers", 1)
    before = loaded.relay.descriptors_at_rest()
    clients = [loaded.connect(BLACKHOLE) for _ in range(4)]
    host.wait_until(lambda: loaded.relay.descriptors() >= before + 8, "the relay connects")
    for client in clients[:2]:
        wire.reset(client)
    # and a socket that a worker prepares for the next client
    host.wait_until(lambda: loaded.relay.descriptors() <= before + 5, "two are given up")


def test_data_sent_before_the_destination_answers_is_kept(proxied):
    """The client may write, and even send FIN, before the server has accepted."""
    listener = proxied.listen()
    client = proxied.connect(listener)
    client.sendall(b"early")
    client.shutdown(socket.SHUT_WR)
    server, _ = proxied.accept(listener)
    assert wire.read_to_end(server) == (b"early", wire.EOF)


def test_client_that_has_closed_before_the_destination_answers(loaded):
    """Its FIN does not tell close() from shutdown(), so what it has sent is delivered. To see it
    fail: let expiry_find_reset() take POLLRDHUP of the client for a reset."""
    loaded.start_relay("--connect-timeout", "60s")
    with loaded.connect(BLACKHOLE) as client:
        client.sendall(b"request")
    host.wait_until(loaded.pins.at_rest, "it is closed")
    listener = loaded.listen("", BLACKHOLE[1])
    loaded.server_net.ip(f"addr add {BLACKHOLE[0]}/32 dev lo")
    server, _ = loaded.accept(listener)
    assert wire.read_to_end(server) == (b"request", wire.EOF)


# --- timeouts


def speaks(one, other, began, pause_most):
    """Sends a byte one way again and again for 2.5 s. Returns false if the test is void, because
    this process did not get the CPU for longer than the pause. @began: when the connection did, as
    the relay's timeout runs from there."""
    last = began
    while last - began < 2.5:
        try:
            one.sendall(b".")
            assert wire.read_exactly(other, 1) == b"."
            time.sleep(0.01)
        except (OSError, AssertionError):
            if time.monotonic() - last > pause_most:
                return False
            raise
        now = time.monotonic()
        if now - last > pause_most:
            return False
        last = now
    return True


def ended_after(sock, started, least):
    wire.ended_by(sock)
    return time.monotonic() - started >= least


def test_idle_timeout(loaded):
    loaded.start_relay("--idle-timeout", "600ms")
    client, server = loaded.pair()
    started = time.monotonic()
    wire.exchange(client, server)
    assert ended_after(client, started, 0.5)
    wire.ended_by(server)
    host.wait_until(loaded.pins.at_rest, "nothing is left")


@pytest.mark.parametrize("speaker", ["client", "server"])
def test_one_direction_keeps_a_connection_from_being_idle(loaded, speaker):
    loaded.start_relay("--idle-timeout", "1200ms")

    def attempt():
        began = time.monotonic()
        ends = loaded.pair()
        one, other = ends if speaker == "client" else reversed(ends)
        if speaks(one, other, began, pause_most=0.6):
            wire.exchange(other, one)
            return True

    host.wait_until(attempt, "an attempt without a pause", 20)


@pytest.mark.parametrize("first", ["client", "server"])
def test_half_closed_timeout(loaded, first):
    loaded.start_relay("--half-closed-timeout", "600ms", "--idle-timeout", "60s")
    ends = loaded.pair()
    one, other = ends if first == "client" else reversed(ends)
    started = time.monotonic()
    one.shutdown(socket.SHUT_WR)
    assert wire.ended_by(other) == wire.EOF
    assert ended_after(one, started, 0.5)


def test_half_closed_timeout_does_not_end_a_transfer(loaded):
    loaded.start_relay("--half-closed-timeout", "1200ms")

    def attempt():
        began = time.monotonic()
        client, server = loaded.pair()
        client.shutdown(socket.SHUT_WR)
        assert wire.ended_by(server) == wire.EOF
        return speaks(server, client, began, pause_most=0.6)

    host.wait_until(attempt, "an attempt without a pause", 20)


@pytest.mark.parametrize("sender", ["client", "server"])
@pytest.mark.parametrize("ends_well", [True, False], ids=["half-closed", "open"])
def test_slow_reader_is_not_cut_off(loaded, sender, ends_well):
    """Its unread bytes are in a buffer of the relay's socket, and the relay moves nothing for
    longer than either timeout. Then the reader stops, and is cut off.

    To see it fail: do not compare what has been acknowledged in progress_check(); take waiting
    bytes for progress.
    """
    loaded.start_relay("--half-closed-timeout", "1s", "--idle-timeout", "1s")
    listener = loaded.listen()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)

    def read_slowly(sock, duration):
        """Returns how many bytes were read; None if this process did not get the CPU for half of a
        timeout."""
        got, began = 0, time.monotonic()
        last = began
        while last - began < duration:
            try:
                got += len(wire.read_exactly(sock, 4000))
            except (OSError, AssertionError):
                if time.monotonic() - last > 0.5:
                    return None
                raise
            time.sleep(0.05)  # the reader's rate
            now = time.monotonic()
            if now - last > 0.5:
                return None
            last = now
        return got

    def attempt():
        client, server = loaded.pair(listener)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        one, other = (client, server) if sender == "client" else (server, client)
        size = 400_000
        one.sendall(bytes(size))
        if ends_well:
            one.shutdown(socket.SHUT_WR)
        got = read_slowly(other, 2.5)
        if got is None:
            return False
        assert got < size - 20_000, "not slow"
        poll = select.poll()
        poll.register(one, 0)
        assert poll.poll(10_000 * host.patience), "a reader that takes nothing is cut off"
        return True

    host.wait_until(attempt, "an attempt without a pause", 20)


# --- bulk


@pytest.mark.deadline(120)
def test_200_mb_both_ways_through_slow_readers(proxied):
    """I6, and bounded memory: both readers stall again and again, and the relay does not buffer
    all of it.

    To see it fail: read from one side however much waits for the other.
    """
    relay = proxied.relay
    client, server = proxied.pair()
    up, down = wire.Stream("up", 200 << 20), wire.Stream("down", 200 << 20)
    relay.reset_peak()
    before = relay.rss_kib()

    def swap(sock, outgoing):
        return wire.swap_streams(sock, outgoing, pause_every=20 << 20,
                                 pause=lambda: time.sleep(0.2))  # the slow reader

    tasks = [proxied.task(swap, client, up),
             proxied.task(swap, server, down, place=proxied.server)]
    assert tasks[0].result(100) == (down.size, down.sha256())
    assert tasks[1].result(100) == (up.size, up.sha256())
    assert relay.peak_kib() - before < (64 if SANITIZED else 8) * MIB


def test_reader_that_never_reads_stops_the_writer(ends, proxied):
    """Back-pressure reaches the sender, and the relay stays small."""
    one, other = ends
    before = proxied.relay.rss_kib()
    sent = send_until_blocked(one)
    assert sent < 64 << 20
    assert proxied.relay.rss_kib() - before < (32 if SANITIZED else 4) * MIB
    one.shutdown(socket.SHUT_WR)
    data, end = wire.read_to_end(other)
    assert (len(data), end) == (sent, wire.EOF)


def test_idle_relay_uses_no_cpu(proxied):
    """With open connections, half-closed ones, and one whose reader has stopped."""
    proxied.pair()
    client, server = proxied.pair()
    client.shutdown(socket.SHUT_WR)
    assert wire.ended_by(server) == wire.EOF
    stuck, _ = proxied.pair()
    send_until_blocked(stuck)
    host.wait_until(lambda: cpu_used(proxied.relay, 1.0) < 0.05, "it rests")


def cpu_used(relay, duration):
    before = relay.cpu_seconds()
    time.sleep(duration)  # the time over which it is measured
    return relay.cpu_seconds() - before


# --- limits


def served_of(clients, expected, what, timeout=10):
    """The clients whose byte has come back, once there are as many as expected."""
    served = set()

    def enough():
        for client in clients:
            try:
                if client.recv(1):
                    served.add(client)
            except BlockingIOError:
                pass
        return len(served) >= expected

    host.wait_until(enough, what, timeout)
    return served


def waiting_clients(bed, address, count):
    def connect():
        clients = [wire.connect(address) for _ in range(count)]
        for client in clients:
            client.sendall(b"x")
        return clients

    clients = [bed.keep(client) for client in bed.run_in(connect)]
    for client in clients:
        client.setblocking(False)
    return clients


def limit_descriptors(pid, limit):
    """Lowers the limit of a running relay, which its own user may do."""
    os.setresgid(RELAY_GID, RELAY_GID, RELAY_GID)
    os.setresuid(RELAY_UID, RELAY_UID, RELAY_UID)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))


def leave_descriptors(bed, relay, count):
    """Leaves a running relay this many descriptors more than it has at rest."""
    bed.run_in(limit_descriptors, relay.pid, relay.descriptors_at_rest() + count,
               place=bed.bystander)


@pytest.mark.parametrize("limit", ["descriptors", "fewer-descriptors", "connections"])
def test_more_clients_than_can_be_served(loaded, limit):
    """Further clients wait in the backlog, the relay does not spin, and serves them later.

    To see it fail: continue to accept after EMFILE, or do not resume by timer.
    """
    address, = loaded.echo_server()
    if limit == "descriptors":  # of which the relay keeps some 90 for itself, see capacity.c
        relay = loaded.start_relay("--workers", 1, files=150)
    elif limit == "fewer-descriptors":  # than the relay assumes: it meets EMFILE
        relay = loaded.start_relay("--workers", 1)
        leave_descriptors(loaded, relay, 30)
    else:
        relay = loaded.start_relay("--workers", 1, "--max-connections", 20)
    waiting = waiting_clients(loaded, address, 100)
    served = served_of(waiting, 10, "some are served")
    host.wait_until(lambda: cpu_used(relay, 0.2) < 0.05, "the relay comes to rest")
    host.wait_until(lambda: cpu_used(relay, 1.0) < 0.1, "it does not spin")
    served |= served_of(set(waiting) - served, 0, "late answers")
    assert len(served) < 40
    while len(served) < len(waiting):
        for client in served:
            client.close()
        served |= served_of(set(waiting) - served, 1, "the next are served")
    for client in waiting:
        client.close()
    host.wait_until(loaded.pins.at_rest, "nothing is left")
    assert loaded.visit(loaded.listen()).relayed
    told = relay.text().count("accepting paused, clients wait")
    assert 1 <= told <= 3, "one line for the whole of it, not one for each client"


def test_lack_of_descriptors_is_no_reason_to_bypass(loaded):
    """A relay that cannot even check its registration still renews it.

    To see it fail: return REGISTRATION_GONE from registration_check() for every error.
    """
    address, = loaded.echo_server()
    relay = loaded.start_relay("--workers", 1)
    leave_descriptors(loaded, relay, 30)
    waiting = waiting_clients(loaded, address, 100)
    served_of(waiting, 10, "some are served")
    assert cpu_used(relay, 7.0) < 0.7, "spins"  # longer than TPROXY_STALE_NS
    late = loaded.connect(loaded.listen())
    assert loaded.stats()["stalled"] == 0
    for client in [*waiting, late]:
        client.close()


# --- SIGTERM


def test_term_drains(loaded):
    """Live connections continue, new ones are direct, and the relay exits with the last of them."""
    relay = loaded.start_relay("--drain-timeout", "60s")
    listener = loaded.listen()
    client, server = loaded.pair(listener)
    relay.signal(signal.SIGTERM)
    host.wait_until(lambda: not loaded.pins.dump("map_config"), "the relay is not registered")
    assert not loaded.visit(listener).relayed
    wire.exchange(client, server)
    assert relay.running()
    client.close()
    assert wire.ended_by(server) == wire.EOF
    server.close()
    assert relay.wait() == 0


def test_quit_drains_without_a_deadline(loaded):
    """A replaced relay serves its connections without a deadline. SIGTERM sets one.

    To see it fail: add the drain timer in on_quit(), or not in on_term() while draining.
    """
    relay = loaded.start_relay("--drain-timeout", "500ms")
    listener = loaded.listen()
    client, server = loaded.pair(listener)
    relay.signal(signal.SIGQUIT)
    host.wait_until(lambda: not loaded.pins.dump("map_config"), "the relay is not registered")
    assert cpu_used(relay, 1.5) < 0.3  # three times the deadline
    wire.exchange(client, server)
    assert not loaded.visit(listener).relayed
    relay.signal(signal.SIGTERM)
    assert wire.ended_by(client) == wire.RESET
    assert relay.wait() == 0


def test_term_without_connections_ends_at_once(proxied):
    proxied.relay.signal(signal.SIGTERM)
    assert proxied.relay.wait(3) == 0
    assert proxied.pins.dump("map_config") == []


def test_drain_has_a_deadline(loaded):
    relay = loaded.start_relay("--drain-timeout", "500ms")
    client, server = loaded.pair()
    wire.exchange(client, server)
    relay.signal(signal.SIGTERM)
    assert relay.wait(5) == 0
    assert [wire.ended_by(end) for end in (client, server)] == [wire.RESET] * 2


def test_second_term_ends_at_once(loaded):
    relay = loaded.start_relay("--drain-timeout", "60s")
    client, server = loaded.pair()
    relay.signal(signal.SIGTERM)
    host.wait_until(lambda: not loaded.pins.dump("map_config"), "the relay is not registered")
    relay.signal(signal.SIGTERM)
    assert relay.wait(3) == 0
    assert [wire.ended_by(end) for end in (client, server)] == [wire.RESET] * 2


# --- what it tells


def test_line_for_each_connection(proxied):
    """Client, destination, bytes each way, duration, reason."""
    listener = proxied.listen()
    client, server = proxied.pair(listener)
    client.sendall(bytes(78))
    client.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(server)[1] == wire.EOF
    server.sendall(bytes(200))
    server.close()
    wire.read_to_end(client)
    host.wait_until(proxied.relay.connections, "the relay tells of the connection")
    names = [r"{}:{}".format(*end) for end in (client.getsockname(), listener.getsockname())]
    assert re.fullmatch(
        r"connection {} -> {}: up 78 B, down 200 B, \d+\.\d+ s, closed; "
        r"pid \d+ \(python3\), uid 0, cgroup \d+, id {}, from [\d.]+:\d+".format(
            *names, wire.connection_id(client)),
        proxied.relay.connections()[0])


def test_usr1_prints_counters(proxied):
    proxied.visit(proxied.listen())
    before = proxied.relay.text()
    proxied.relay.signal(signal.SIGUSR1)
    host.wait_until(lambda: proxied.relay.text() != before, "counters are printed")
    assert re.search(r"\d", proxied.relay.text().removeprefix(before))


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_workers(loaded, workers):
    """Connections are served by whichever worker gets them."""
    relay = loaded.start_relay("--workers", workers)
    assert int(relay.registrations()[0][3]) == workers
    listener = loaded.listen()
    for _ in range(4 * workers):
        assert loaded.visit(listener).relayed
