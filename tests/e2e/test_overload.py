# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Overload: more clients, slower ones, and less memory or fewer descriptors than needed.

The rule: sessions that are served continue. Further clients wait in the backlog while
descriptors, memory for a session or room under --max-connections are missing, and are served
later. A session whose bytes find no memory is reset. Afterwards everything is as before.
"""

import contextlib
import json
import os
import re
import resource
import select
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

import host
import host6
import wire
from harness import BLACKHOLE
from programs import RELAY, RELAY_GID, RELAY_UID, SANITIZED, Program
from stay import ClientGroup, visit_and_hold
from test_log import counters

IDLE = 10_000
NEVER_READ = 1000
SLOW = 1000
PIPES = 128


def cpu_used(duration, *relays):
    before = sum(relay.cpu_seconds() for relay in relays)
    time.sleep(duration)  # the time over which it is measured
    return sum(relay.cpu_seconds() for relay in relays) - before


def rests(*relays, duration=1.0, share=0.01):
    """The relay takes less than this share of a CPU, in the last of some tries: on a busy machine
    its remaining work takes longer."""
    most, used = duration * share * (5 if SANITIZED else 1), []
    while len(used) < 4 and (not used or used[-1] >= most):
        used.append(cpu_used(duration, *relays))
    assert used[-1] < most, f"spins: {used} s in {duration} s"


def reloadable(bed, option, *options):
    """A relay whose timeout is a minute, and a function that changes it once the test is
    prepared."""
    config = bed.directory / "config"
    config.write_text(f"[relay]\n{option} = 60s\n")
    relay = bed.start_relay("--config", config, *options)

    def set_to(value):
        config.write_text(f"[relay]\n{option} = {value}\n")
        relay.signal(signal.SIGHUP)
        host.wait_until(lambda: "read the configuration again" in relay.text(), "it is read")

    return relay, set_to


def set_limit(bed, relay, which, soft):
    """Sets a limit of a running relay, as its own user could."""
    def limit():
        os.setresgid(RELAY_GID, RELAY_GID, RELAY_GID)
        os.setresuid(RELAY_UID, RELAY_UID, RELAY_UID)
        resource.prlimit(relay.pid, which, (soft, resource.prlimit(relay.pid, which)[1]))

    bed.run_in(limit, place=bed.bystander)


def visit(bed):
    """A connection works, and is closed."""
    made = bed.visit(bed.listen())
    assert made.relayed
    made.client.close()
    made.server.close()


def pauses(relay):
    return relay.text().count("accepting paused, clients wait")


# --- too many


@pytest.mark.parametrize("limit", ["option", "descriptors"])
@pytest.mark.parametrize("workers", [1, 2])
def test_running_work_goes_on_at_the_limit(loaded, workers, limit):
    """Hundreds of clients wait, served ones are as fast as before, and when they leave the
    others are served. One line is logged.

    To see it fail: release no session in on_session_end(), or resume no listener in
    after_sessions() and none by timer; or let set_limit() forget what is reserved.
    """
    if limit == "option":
        relay = loaded.start_relay("--max-connections", 20, "--workers", workers)
    else:
        relay = loaded.start_relay("--workers", workers, files=400)
    (address,) = loaded.echo_server()  # before there are sockets that it would inherit
    listener = loaded.listen()
    inside = [loaded.pair(listener) for _ in range(10)]
    group = ClientGroup(loaded, address, 300)
    group.wait_connected()
    group.wait(lambda: pauses(relay) > 0, "the limit is met")
    host.wait_until(lambda: cpu_used(0.2, relay) < 0.01, "those within are served")
    rests(relay)
    room = group.served()
    assert room == 10 if limit == "option" else 10 < room < 200, room
    started = time.monotonic()
    for _ in range(20):
        for client, server in inside:
            wire.exchange(client, server, bytes(1000))
    assert time.monotonic() - started < 19, "200 exchanges, by no timer of 100 ms"
    assert group.served() == room and relay.descriptors() <= 400
    group.leave()
    for pair in inside:
        for end in pair:
            end.close()
    host.wait_until(loaded.pins.at_rest, "nothing is left")
    assert loaded.visit(loaded.listen()).relayed
    assert pauses(relay) == 1 and "Too many open files" not in relay.text()


def paused_times(relay):
    """The counter of pauses, which SIGUSR1 prints."""
    def printed():
        return re.findall(r"accepting paused: (\d+) times", relay.text())

    known = len(printed())
    relay.signal(signal.SIGUSR1)
    host.wait_until(lambda: len(printed()) > known, "counters are printed")
    return int(printed()[-1])


def test_one_line_for_an_episode(loaded):
    """Both workers and both families are at the limit for seconds: one line, and a counter for
    the rest. After ten quiet seconds the next pause is another episode.

    To see it fail: keep an episode in each listener, or never log again.
    """
    host6.give_addresses(loaded)
    relay = loaded.start_relay("--max-connections", 20, "--workers", 2, verbose=False)
    (address,) = loaded.echo_server()
    listener6 = host6.listen(loaded)
    loaded.task(wire.serve_echo, listener6, place=loaded.server)
    addresses = [(address, wire.connect), (listener6.getsockname()[:2], host6.connect)]

    def overload():
        groups = [ClientGroup(loaded, to, 200, connect=connect) for to, connect in addresses]
        for group in groups:
            group.wait_connected()
        host.wait_until(lambda: sum(group.served() for group in groups) == 20, "20 are served")
        rests(relay)
        for group in groups:
            group.leave()
        host.wait_until(loaded.pins.at_rest, "nothing is left")

    def nobody_waits():
        before = paused_times(relay)
        time.sleep(0.3)  # several times longer than a pause
        return paused_times(relay) == before

    overload()
    host.wait_until(nobody_waits, "those who left have been accepted too")
    first, lines = paused_times(relay), pauses(relay)
    assert first >= 2 * 2 * 5, "each worker and family, every 100 ms"
    assert lines == 1
    host.stays_true(lambda: pauses(relay) == 1, "one line", 10.2)  # then the episode has ended
    overload()
    assert paused_times(relay) > first
    assert pauses(relay) == 2


def test_waiting_clients_are_served_in_their_turn(loaded):
    """Each client that leaves makes room for one, until all have been served. To see it fail: as
    above."""
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

    loaded.run_in(visit_all)
    host.wait_until(lambda: len(loaded.relay.connections_to(address)) == 150, "all are told of")
    assert all(", closed" in line for line in loaded.relay.connections())


def test_descriptors_taken_away_and_given_back(loaded):
    """The limit is lowered under a running relay: bulk continues and new clients wait. They are
    served at once when it is raised again, before any client has left. To see it fail: no timer in
    listener_pause()."""
    relay = loaded.start_relay("--workers", 1)
    client, server = loaded.pair()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    set_limit(loaded, relay, resource.RLIMIT_NOFILE, relay.descriptors() + 1)
    (address,) = loaded.echo_server()
    group = ClientGroup(loaded, address, 20)
    group.wait_connected()
    stream = wire.Stream("bulk", 8 << 20)
    loaded.task(wire.send_stream, server, stream, place=loaded.server)
    assert wire.receive_stream(client) == (stream.size, stream.sha256())
    assert group.served() <= 1 and pauses(relay) == 1
    rests(relay)
    set_limit(loaded, relay, resource.RLIMIT_NOFILE, most)
    group.wait(lambda: group.served() == 20, "all are served")
    assert group.leave() == 20


@pytest.mark.plain_build
@pytest.mark.parametrize("files", [16, 24, 64, 100])
@pytest.mark.parametrize("options", [(), ("--drain-in-background",)])
def test_too_few_descriptors_to_start(loaded, files, options):
    """The relay says why it does not start, also where libevent would end the process. It does not
    register without descriptors for clients.

    To see it fail: leave out capacity_fit(), and log libevent's errors at level debug.
    """
    with Program(RELAY, "--pin-dir", loaded.pins.path, *options, place=loaded.relay_place,
                 log=loaded.directory / "few.log", files=files) as relay:
        status = relay.process.wait(10 * host.patience)
    said = relay.log.read_text()
    assert status == 1 and ("Too many open files" in said or "are not enough for" in said), said
    assert said.count("\n") == 1, said


@pytest.mark.plain_build
def test_fewer_workers_than_cpus(loaded):
    """Without --workers there are as few as the descriptors suffice for, and they serve clients.

    To see it fail: lower no number in capacity_fit(), or count no listeners in reserved_fds().
    """
    assert os.cpu_count() > 1, "this test needs two CPUs"
    relay = loaded.start_relay(files=200)
    assert relay.says("going on with 1 of")
    (address,) = loaded.echo_server()
    group = ClientGroup(loaded, address, 20)
    group.wait(lambda: group.served() == 20, "all are served")
    assert group.leave() == 20


# --- too little memory


@pytest.mark.plain_build
def test_no_memory(loaded):
    """The data segment may not grow: some connections are reset, which is logged once.
    Established ones continue, the relay does not spin, and it serves all when there is memory
    again.

    To see it fail: leave the client open where session_create() finds no memory.
    """
    relay = loaded.start_relay("--workers", 1, verbose=False)
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
    rests(relay)
    set_limit(loaded, relay, resource.RLIMIT_DATA, resource.RLIM_INFINITY)
    for _ in range(5):
        assert loaded.visit(loaded.listen()).relayed
    assert relay.running()
    assert relay.says("out of memory: connections are reset")
    assert relay.text().count("out of memory: connections are reset") == 1


# --- idle, and slow


@pytest.mark.deadline(90)
def test_ten_thousand_idle_connections(loaded):
    """They use no CPU and almost no memory, each works at once, and when they have left nothing
    remains. Two relays, one after the other, have half of them each, because a process may be
    limited to 20,000 descriptors.

    To see it fail: allocate a buffer for each session in session_create().
    """
    (address,) = loaded.echo_server()
    relays, early, groups, before = [], [], [], []
    for _ in range(2):
        relay = loaded.start_relay()
        relays.append(relay)
        early.append(loaded.pair())
        visit(loaded)
        before.append(relay.descriptors())
        memory = relay.rss_kib()
        groups.append(ClientGroup(loaded, address, IDLE // 2))
        groups[-1].wait_connected(30)
        groups[-1].wait(lambda: groups[-1].served() == IDLE // 2, "all are served", timeout=20)
        assert relay.descriptors() >= IDLE
        assert (relay.rss_kib() - memory) / (IDLE / 2) < (16 if SANITIZED else 2), "KiB each"
    # Most of it is the sweep, which looks all of them up every two seconds.
    rests(*relays, duration=5.0, share=0.01)
    for client, server in early:
        wire.exchange(client, server)
    visit(loaded)
    for group in groups:
        assert group.leave() == IDLE // 2
    for client, server in early:
        wire.exchange(client, server)
        client.close()
        server.close()
    host.wait_until(loaded.pins.at_rest, "nothing is left", timeout=10)
    for relay, descriptors in zip(relays, before):
        host.wait_until(lambda: relay.descriptors() <= descriptors + 8, "descriptors come back")
        assert pauses(relay) == 0


def serve_endlessly(listener, told):
    """Sends to each connection as much as it takes, once its client has sent its number. When told
    to stop, reports how many bytes each got, with its port, and keeps the connections."""
    data, clients, sent = bytes(1 << 16), {}, {}
    with select.epoll() as poll:
        listener.setblocking(False)
        poll.register(listener, select.EPOLLIN)
        poll.register(told, select.EPOLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == told.fileno():
                    told.sendall(json.dumps([[*key, sent[key]] for key in sent]).encode() + b"\n")
                    signal.pause()
                if fd == listener.fileno():
                    conn, (_, port) = listener.accept()
                    who = int(wire.read_exactly(conn, 5))
                    conn.setblocking(False)
                    clients[conn.fileno()] = conn, (who, port)
                    sent[who, port] = 0
                    poll.register(conn, select.EPOLLOUT)
                    continue
                conn, key = clients[fd]
                with contextlib.suppress(BlockingIOError):
                    sent[key] += conn.send(data)


def queues(netns, loopback=False):
    """The bytes that the kernel holds for each connected socket, by its port and its peer's: bytes
    that were not acknowledged, and bytes that were not read (proc_net_tcp). Either sockets on
    loopback, or the others: one port may be in use in both."""
    with netns.inside():
        table = Path("/proc/thread-self/net/tcp").read_text(encoding="ascii")
    rows = [line.split() for line in table.splitlines()][1:]
    port = lambda address: int(address.rpartition(":")[2], 16)
    return {(port(row[1]), port(row[2])): tuple(int(n, 16) for n in row[4].split(":"))
            for row in rows if row[3] == "01" and (row[1][6:8] == "7F") == loopback}


def reads_first(port):
    """How many bytes the client with this port reads before it stops. For every other client the
    flow is bulk then (pump.c)."""
    return 512 << 10 if port & 2 else 0


def connect_by_port(address):
    """Connects from a port that no other socket has, whatever its peer, so that the port identifies
    the socket."""
    return wire.connect(address, source=("", 0))


def begin_and_read_no_more(sock):
    """Sends its number first."""
    port = sock.getsockname()[1]
    sock.send(b"%5d" % port)
    wire.read_exactly(sock, reads_first(port))


def pipe_ends(relay):
    count = 0
    for path in Path(f"/proc/{relay.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += os.readlink(path).startswith("pipe:")
    return count


def held_by(bed, server_port, sent):
    """How many of the bytes that were sent to each client are in no socket and were not read, so
    that the relay holds them. Returns None if a number is negative or a socket is missing, because
    the table is read in pieces."""
    accepted = queues(bed.client_net, loopback=True)
    ours, theirs = queues(bed.client_net), queues(bed.server_net)
    unread = {port: queued[1] for (port, _), queued in accepted.items()}
    unsent = {peer: queued[0] for (_, peer), queued in accepted.items()}
    try:
        held = [size - reads_first(client) - unread[client] - unsent[client]
                - theirs[server_port, upstream][0] - ours[upstream, server_port][1]
                for client, upstream, size in sent]
    except KeyError:
        return None
    return held if min(held) >= 0 else None


@pytest.mark.deadline(60)
def test_clients_that_never_read(loaded):
    """Servers fill every buffer for a thousand of them: the relay holds what the man page says
    for each and no more, rests, and serves others as before.

    To see it fail: wait for the source in half_wait_write(), or let
    pipes_borrow() always make a pipe.
    """
    relay = loaded.start_relay()
    # Small, to spare the host, and just large enough that flows are bulk.
    for net, wmem in ((loaded.client_net, 131072), (loaded.server_net, 65536)):
        net.sysctl("ipv4/tcp_rmem", "4096 65536 131072")
        net.sysctl("ipv4/tcp_wmem", f"4096 16384 {wmem}")
    endless = loaded.listen()
    ask, told = map(loaded.keep, socket.socketpair())
    loaded.task(serve_endlessly, endless, told, place=loaded.server)
    visit(loaded)
    memory, pipes = relay.rss_kib(), pipe_ends(relay)
    group = ClientGroup(loaded, endless.getsockname(), NEVER_READ, reads=False,
                        connect=connect_by_port, begin=begin_and_read_no_more)
    group.wait_connected(20)
    host.wait_until(lambda: cpu_used(0.5, relay) < 0.01, "all buffers are full", timeout=20)
    rests(relay, share=0.02)  # it probes whether they are alive
    client, other = loaded.pair()
    stream = wire.Stream("others", 16 << 20)
    loaded.task(wire.send_stream, other, stream, place=loaded.server)
    assert wire.receive_stream(client) == (stream.size, stream.sha256())

    ask.send(b"enough")
    with ask.makefile() as answer:
        sent = json.loads(answer.readline())
    assert len(sent) == NEVER_READ
    # Until bytes on the way are acknowledged, they are counted at both ends.
    held = host.wait_until(lambda: held_by(loaded, endless.getsockname()[1], sent), "acknowledged")
    assert max(held) <= 512 << 10 and sum(size > 64 << 10 for size in held) <= PIPES
    assert pipe_ends(relay) - pipes <= 2 * PIPES
    assert relay.rss_kib() - memory < NEVER_READ * 72 * (3 if SANITIZED else 1)
    group.leave()
    client.close()
    other.close()
    host.wait_until(loaded.pins.at_rest, "nothing is left")
    assert loaded.visit(loaded.listen()).relayed


# --- slow loris


def dribble(socks, rounds, pause):
    """Sends a byte on each, @rounds times, and EOF."""
    for _ in range(rounds):
        time.sleep(pause)  # slowness is under test
        for sock in socks:
            sock.send(b".")
    for sock in socks:
        sock.close()


def hear_all(socks):
    """What each received, each kind once."""
    return {wire.read_to_end(sock) for sock in socks}


@pytest.mark.deadline(60)
@pytest.mark.parametrize("slow", ["clients", "servers"])
def test_slow_loris(loaded, slow):
    """A thousand ends send a byte at a time, for longer than the idle timeout: all bytes arrive,
    none is cut off, and other connections are as fast as before. To see it fail: let
    progress_check() return at once."""
    rounds, pause = 7, 0.5
    relay, set_idle_timeout = reloadable(loaded, "idle-timeout", "--workers", 1)
    listener = loaded.listen()
    roles = {"clients": lambda socks: dribble(socks, rounds, pause), "servers": hear_all}
    if slow == "servers":
        roles = {"clients": hear_all, "servers": roles["clients"]}
    ready, theirs = map(loaded.keep, socket.socketpair())

    def serve():
        socks = [listener.accept()[0] for _ in range(SLOW)]
        for sock in socks:
            sock.settimeout(wire.TIMEOUT)
        theirs.send(b"ready")
        return roles["servers"](socks)

    def visit_all(address):
        return roles["clients"]([wire.connect(address) for _ in range(SLOW)])

    servers = loaded.task(serve, place=loaded.server)
    clients = loaded.task(visit_all, listener.getsockname())
    ready.settimeout(wire.TIMEOUT)
    assert ready.recv(16) == b"ready"
    set_idle_timeout("2s")
    client, server = loaded.pair()
    stream = wire.Stream("others", 32 << 20)
    loaded.task(wire.send_stream, server, stream, place=loaded.server)
    assert wire.receive_stream(client) == (stream.size, stream.sha256())
    used = cpu_used(1.0, relay)
    results = [clients.result(20), servers.result(20)]
    assert {(b"." * rounds, wire.EOF)} in results, results
    assert used < 0.5, "of a CPU, for 2000 bytes a second"
    assert "idle timeout" not in relay.text()


@pytest.mark.deadline(60)
@pytest.mark.parametrize("silent", ["clients", "servers"])
def test_silent_ones_fill_the_limit(loaded, silent):
    """A thousand clients that begin and stop, or whose servers never answer, use up the limit.
    Working sessions continue. New clients wait, and are served when the silent ones have expired,
    which are reset. To see it fail: do not call expire() for one of the queues in on_tick()."""
    option = {"clients": "idle-timeout", "servers": "connect-timeout"}[silent]
    relay, set_timeout = reloadable(loaded, option, "--max-connections", SLOW + 1)
    address = BLACKHOLE
    if silent == "clients":
        mute = loaded.listen()
        loaded.task(accept_all, mute, place=loaded.server)
        address = mute.getsockname()
    pair = loaded.pair()
    with at_work(*pair):
        group = loaded.task(begin_only, address, SLOW)
        host.wait_until(lambda: counters(relay, r"connections: (\d+) now") == SLOW + 1,
                        "all the room is taken")
        (echo,) = loaded.echo_server()
        late = loaded.connect(echo)
        late.send(b"x")
        late.settimeout(0.5)
        with pytest.raises(TimeoutError):
            late.recv(1)
        rests(relay, share=0.05)  # it probes whether they are alive
        set_timeout("3s")
        late.settimeout(wire.TIMEOUT)
        assert late.recv(1) == b"x"
        assert group.result() == [wire.RESET] * SLOW
    assert pauses(relay) == 1
    ending = f", {option.replace('-', ' ')}[ ;]"
    host.wait_until(lambda: len(re.findall(ending, relay.text())) == SLOW, "all are told of")


@contextlib.contextmanager
def at_work(one, other):
    """A connection that carries bytes all the time without an error."""
    told, failures = threading.Event(), []

    def work():
        try:
            while not told.wait(0.1):
                wire.exchange(one, other)
        except (OSError, AssertionError) as error:
            failures.append(repr(error))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        told.set()
        thread.join()
    assert not failures


def accept_all(listener):
    listener.settimeout(None)
    held = []
    while True:
        held.append(listener.accept())


def begin_only(address, count):
    """@n clients send a byte and wait. Returns how each ends."""
    socks = [wire.connect(address) for _ in range(count)]
    for sock in socks:
        sock.send(b"x")
    return [wire.ended_by(sock) for sock in socks]


# --- clients that come to the relay's port by themselves


def knock(address):
    """Connects and closes in a loop; each connection is reset."""
    while True:
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.connect_ex(address)


@pytest.mark.parametrize("how", [signal.SIGTERM, "new listeners"], ids=["drain", "new-listeners"])
def test_flood_of_those_who_are_not_redirected(loaded, how):
    """It does not keep a relay from ending or, with new listeners, delay an established
    connection.

    Fails if on_accept_grace() accepts all clients in one go: the relay is blocked as long as the
    flood lasts.
    """
    loaded.accept_strangers()
    relay = loaded.start_relay("--workers", 1, "--drain-timeout", "20s")
    client, server = loaded.pair()
    floods = [loaded.task(knock, relay.address, place=loaded.bystander) for _ in range(3)]
    host.wait_until(lambda: relay.cpu_seconds() > 0.1, "it is a flood", 20)
    if how == "new listeners":
        loaded.tproxy_load.unload()
        loaded.load()
        relay.wait_registered(2)
    else:
        relay.signal(how)
    for _ in range(20):
        wire.exchange(client, server)
    if how == signal.SIGTERM:
        client.close()
        server.close()
        relay.wait(20)
    for flood in floods:
        flood.stop()
