# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Overload: more clients, slower ones, and less memory or fewer descriptors than one would like.

The rule: who is served goes on being served; who comes too late waits in the backlog, as long as
descriptors, --max-connections or memory for a session are missing, and is served later; whose
bytes find no memory is reset. Afterwards all is as before.
"""

import contextlib
import os
import resource
import select
import socket
import threading
import time

import pytest

import host
import wire
from programs import RELAY_GID, RELAY_UID, SANITIZED

MIB = 1024
CROWD = 5500
NEVER_READ = 300


def cpu_used(relay, duration):
    before = relay.cpu_seconds()
    time.sleep(duration)  # the time that is measured over
    return relay.cpu_seconds() - before


def set_limit(bed, relay, which, soft):
    """Of a running relay, as its own user could."""
    def limit():
        os.setresgid(RELAY_GID, RELAY_GID, RELAY_GID)
        os.setresuid(RELAY_UID, RELAY_UID, RELAY_UID)
        resource.prlimit(relay.pid, which, (soft, resource.prlimit(relay.pid, which)[1]))

    bed.run_in(limit, place=bed.bystander)


class Crowd:
    """So many clients in a task, which connect, say a byte each, and stay until told to leave."""

    def __init__(self, bed, address, count, reads=True):
        self._ours, theirs = map(bed.keep, socket.socketpair())
        self._task = bed.task(self._hold, theirs, address, count, reads)
        self._count = count

    @staticmethod
    def _hold(channel, address, count, reads):
        """Tells of each answer by a byte, up to the word to leave; returns how many came."""
        clients, served = [], 0
        with contextlib.ExitStack() as stack, select.epoll() as poll:
            poll.register(channel, select.EPOLLIN)
            for _ in range(count):
                clients.append(stack.enter_context(wire.connect(address)))
                clients[-1].send(b"x")
                if reads:
                    poll.register(clients[-1], select.EPOLLIN)
            by_fd = {client.fileno(): client for client in clients}
            channel.send(b"c")
            while True:
                for fd, _ in poll.poll():
                    if fd == channel.fileno():
                        return served
                    poll.unregister(fd)
                    if by_fd[fd].recv(1) == b"x":
                        served += 1
                        channel.send(b"s")

    def _read_some(self):
        with contextlib.suppress(BlockingIOError):
            self._seen += self._ours.recv(1 << 16)

    _seen = b""

    def wait_connected(self, timeout=10):
        self.wait(lambda: b"c" in self._seen, "all are connected", timeout)

    def served(self):
        self._ours.setblocking(False)
        self._read_some()
        return self._seen.count(b"s")

    def wait(self, predicate, what, timeout=10):
        host.wait_until(lambda: self.served() >= 0 and predicate(), what, timeout)

    def leave(self):
        self._ours.setblocking(True)
        self._ours.send(b"leave")
        return self._task.result()


def visit(bed):
    """A connection works, and is closed."""
    made = bed.visit(bed.listen())
    assert made.relayed
    made.client.close()
    made.server.close()


def pauses(relay):
    return relay.text().count("accepting paused, clients wait")


# --- too many


@pytest.mark.parametrize("workers", [1, 2])
def test_running_work_goes_on_at_the_limit(loaded, workers):
    """Hundreds wait, those within are as quick as before, and when they leave the others are
    served; one line of each worker tells of it.

    To see it red: give no session back in worker_on_session_end(), or resume no listener there and
    none by timer.
    """
    relay = loaded.start_relay("--max-connections", 20, "--workers", workers)
    (address,) = loaded.echo_server()  # before there are sockets that it would inherit
    listener = loaded.listen()
    inside = [loaded.pair(listener) for _ in range(10)]
    crowd = Crowd(loaded, address, 200)
    crowd.wait_connected()
    crowd.wait(lambda: crowd.served() == 10, "there is room for ten")
    started = time.monotonic()
    for _ in range(20):
        for client, server in inside:
            wire.exchange(client, server, bytes(1000))
    assert time.monotonic() - started < 1.0, "200 exchanges"
    assert crowd.served() == 10 and 1 <= pauses(relay) <= workers
    assert cpu_used(relay, 0.5) < 0.05, "spins"
    crowd.leave()
    for pair in inside:
        for end in pair:
            end.close()
    host.wait_until(loaded.pins.at_rest, "nothing is left")
    assert loaded.visit(loaded.listen()).relayed
    assert pauses(relay) <= workers


def test_waiting_clients_are_served_in_their_turn(loaded):
    """Each that leaves lets one in, until all have been served. To see it red: as above."""
    loaded.start_relay("--max-connections", 8, "--workers", 1)
    (address,) = loaded.echo_server()

    def come_and_go():
        with wire.connect(address) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"

    def visit_all():
        threads = [threading.Thread(target=come_and_go) for _ in range(150)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    started = time.monotonic()
    loaded.run_in(visit_all)
    assert time.monotonic() - started < 5.0
    host.wait_until(lambda: len(loaded.relay.connections_to(address)) == 150, "all are told of")
    assert all(", closed" in line for line in loaded.relay.connections())


def test_descriptors_taken_away_and_given_back(loaded):
    """The limit is lowered under a running relay: bulk goes on, new clients wait; and are served at
    once when it is raised again, before anybody has left. To see it red: no timer in
    listener_pause()."""
    relay = loaded.start_relay("--workers", 1)
    client, server = loaded.pair()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    set_limit(loaded, relay, resource.RLIMIT_NOFILE, relay.descriptors() + 1)
    (address,) = loaded.echo_server()
    crowd = Crowd(loaded, address, 20)
    crowd.wait_connected()
    stream = wire.Stream("bulk", 8 << 20)
    loaded.task(wire.send_stream, server, stream, place=loaded.server)
    assert wire.receive_stream(client) == (stream.size, stream.sha256())
    assert crowd.served() <= 1 and pauses(relay) == 1
    assert cpu_used(relay, 0.5) < 0.05, "spins"
    set_limit(loaded, relay, resource.RLIMIT_NOFILE, most)
    crowd.wait(lambda: crowd.served() == 20, "all are served", timeout=2)
    assert crowd.leave() == 20


# --- too little memory


@pytest.mark.plain_allocator
def test_no_memory(loaded):
    """The data segment may not grow: some are reset, those who are served go on, the relay lives,
    does not spin, and serves all when there is memory again.

    To see it red: leave the client open where session_create() finds no memory.
    """
    relay = loaded.start_relay("--workers", 1)
    listener = loaded.listen()
    inside = [loaded.pair(listener) for _ in range(10)]
    for client, server in inside:
        wire.exchange(client, server)
    set_limit(loaded, relay, resource.RLIMIT_DATA, 1 << 16)

    (address,) = loaded.echo_server()
    verdicts = loaded.run_in(visit_and_hold, address, 2000, timeout=20)
    assert wire.RESET in verdicts and verdicts <= {"served", wire.RESET}
    for client, server in inside:
        wire.exchange(client, server)
    assert cpu_used(relay, 0.5) < 0.1, "spins"
    set_limit(loaded, relay, resource.RLIMIT_DATA, resource.RLIM_INFINITY)
    for _ in range(5):
        assert loaded.visit(loaded.listen()).relayed
    assert relay.running() and relay.text().count("\n") < 4000


def visit_and_hold(address, count):
    """What became of so many clients that stay, each kind once."""
    verdicts, held = set(), []
    for _ in range(count):
        try:
            held.append(wire.connect(address))
            held[-1].sendall(b"x")
            verdicts.add("served" if held[-1].recv(1) == b"x" else wire.EOF)
        except (ConnectionResetError, BrokenPipeError):
            verdicts.add(wire.RESET)
    return verdicts


# --- idle, and slow


@pytest.mark.deadline(60)
def test_thousands_of_idle_connections(loaded):
    """They cost no CPU and next to no memory, any of them works at once, and when they have left
    nothing is left of them.

    To see it red: allocate a buffer for each session in session_create().
    """
    relay = loaded.start_relay()
    (address,) = loaded.echo_server()
    visit(loaded)
    descriptors, memory = relay.descriptors(), relay.rss_kib()
    crowd = Crowd(loaded, address, CROWD)
    crowd.wait_connected(30)
    crowd.wait(lambda: crowd.served() == CROWD, "all are served", timeout=20)
    assert relay.descriptors() >= 2 * CROWD
    assert cpu_used(relay, 1.0) < 0.05
    assert (relay.rss_kib() - memory) / CROWD < (16 if SANITIZED else 2), "KiB each"
    visit(loaded)
    assert crowd.leave() == CROWD
    host.wait_until(loaded.pins.at_rest, "nothing is left", timeout=10)
    host.wait_until(lambda: relay.descriptors() <= descriptors + 8, "descriptors come back")
    assert pauses(relay) == 0


def serve_endlessly(listener):
    """Sends to each that comes as much as it takes."""
    data, open_socks = bytes(1 << 16), {}
    with select.epoll() as poll:
        listener.setblocking(False)
        poll.register(listener, select.EPOLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == listener.fileno():
                    conn, _ = listener.accept()
                    conn.setblocking(False)
                    open_socks[conn.fileno()] = conn
                    poll.register(conn, select.EPOLLOUT)
                    continue
                try:
                    open_socks[fd].send(data)
                except BlockingIOError:
                    pass
                except OSError:
                    poll.unregister(fd)
                    open_socks.pop(fd).close()


def test_clients_that_never_read(loaded):
    """Servers fill every buffer for 300 of them: the relay holds 64 KiB or a pipe for each at most,
    rests, and serves others as before.

    To see it red: do not stop_reading() in wait_write().
    """
    relay = loaded.start_relay()
    for net in (loaded.client_net, loaded.server_net):  # so that they are full soon
        net.sysctl("ipv4/tcp_rmem", "4096 65536 131072")
        net.sysctl("ipv4/tcp_wmem", "4096 65536 131072")
    endless = loaded.listen()
    loaded.task(serve_endlessly, endless, place=loaded.server)
    visit(loaded)
    memory = relay.rss_kib()
    crowd = Crowd(loaded, endless.getsockname(), NEVER_READ, reads=False)
    crowd.wait_connected()
    host.wait_until(lambda: cpu_used(relay, 0.3) < 0.02, "all buffers are full", timeout=20)
    assert cpu_used(relay, 0.5) < 0.05, "spins"
    assert relay.rss_kib() - memory < NEVER_READ * 80 * (2 if SANITIZED else 1)
    client, server = loaded.pair()
    stream = wire.Stream("others", 16 << 20)
    loaded.task(wire.send_stream, server, stream, place=loaded.server)
    started = time.monotonic()
    assert wire.receive_stream(client) == (stream.size, stream.sha256())
    assert time.monotonic() - started < 3.0
    crowd.leave()
    client.close()
    server.close()
    host.wait_until(loaded.pins.at_rest, "nothing is left")


def dribble(socks, told):
    """A byte from each, over and over, until told."""
    count = 0
    with contextlib.suppress(ConnectionError):  # which those who hear will tell
        while not select.select([told], [], [], 0.1)[0]:
            for sock in socks:
                sock.send(b".")
            count += 1
    return count


@pytest.mark.parametrize("slow", ["clients", "servers"])
def test_slow_loris(loaded, slow):
    """A hundred ends that say a byte at a time, for longer than the idle timeout: all arrive,
    nobody is cut off, others have the speed that they had. To see it red: no deadline_touch() in
    half_run()."""
    relay = loaded.start_relay("--idle-timeout", "800ms", "--workers", 1)
    listener = loaded.listen()
    address = listener.getsockname()
    clients = loaded.run_in(lambda: [wire.connect(address) for _ in range(100)])
    servers = [loaded.accept(listener)[0] for _ in clients]
    for client in clients:
        loaded.keep(client)
    talkers, hearers = (clients, servers) if slow == "clients" else (servers, clients)
    ours, theirs = map(loaded.keep, socket.socketpair())
    counts = []
    thread = threading.Thread(target=lambda: counts.append(dribble(talkers, theirs)))
    thread.start()
    client, server = loaded.pair()
    stream = wire.Stream("others", 32 << 20)
    started = time.monotonic()
    loaded.task(wire.send_stream, server, stream, place=loaded.server)
    assert wire.receive_stream(client) == (stream.size, stream.sha256())
    assert time.monotonic() - started < 3.0
    used = cpu_used(relay, 1.2)
    ours.send(b"enough")
    thread.join()
    for talker in talkers:
        talker.close()
    for hearer in hearers:
        assert wire.read_to_end(hearer) == (b"." * counts[0], wire.EOF)
    assert used < 0.4
    assert "idle timeout" not in relay.text()
