# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Faults: calls of the relay that fail.

Whatever fails: the relay continues, a connection carries all its bytes or is reset, the next
one is served, descriptors are returned, and nothing spins.
"""

import contextlib
import errno
import os
import re
import signal
import socket
import struct
import threading
import time

import pytest

import host
import inject
import wire
from harness import SERVER

WHOLE = "whole"
UP, DOWN = (b"".join(wire.Stream(name, 1 << 20).blocks()) for name in ("up", "down"))

# After these errors the peer counts as reset, so its socket may be closed without a reset.
PEER_GONE = {errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH}

# After these errors, or errors of these calls, a connection is still served.
NO_HARM = {errno.EAGAIN, errno.EINTR, errno.EINVAL}
CLIENT_WAITS = {"accept4", "socket", "bpf_update", "setsockopt"}
# No end notices these.
HARMLESS = {"epoll_wait", "epoll_del", "close", "write", "getsockname"}

# Errors that a busy, small or guarded host may return. Calls are those of inject.py.
FAULTS = {
    "accept4": ["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "ECONNABORTED", "EINTR", "EPERM",
                "EPROTO", "EAGAIN", "ENETDOWN", "EHOSTUNREACH"],
    "socket": ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EACCES", "EPERM"],
    "connect": ["EADDRNOTAVAIL", "EADDRINUSE", "EAGAIN", "ENETUNREACH", "EHOSTUNREACH",
                "ECONNREFUSED", "ETIMEDOUT", "EPERM", "EACCES", "EINTR", "ENOBUFS", "ENOMEM"],
    "recv": ["EINTR", "EAGAIN", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENOMEM", "ENOBUFS"],
    "send": ["EINTR", "EAGAIN", "ECONNRESET", "EPIPE", "ETIMEDOUT", "ENOMEM", "ENOBUFS"],
    "splice_in": ["EINTR", "EAGAIN", "EINVAL", "ECONNRESET", "ETIMEDOUT", "ENOMEM"],
    "splice_out": ["EINTR", "EAGAIN", "ECONNRESET", "EPIPE", "ETIMEDOUT", "ENOMEM"],
    "epoll_add": ["ENOMEM", "ENOSPC"],
    "epoll_del": ["ENOENT"],
    "epoll_wait": ["EINTR"],
    "close": ["EINTR", "EIO"],
    "write": ["EAGAIN", "ENOSPC", "EPIPE", "EINTR"],
    "getsockname": ["ENOBUFS"],
    "bpf_update": ["ENOMEM", "EPERM", "EAGAIN"],
    "getsockopt": ["ENOMEM", "ENOBUFS", "EPERM"],
    "setsockopt": ["ENOMEM", "EPERM", "ENOPROTOOPT"],
    "shutdown": ["ENOTCONN"],
    "malloc": ["ENOMEM"],
}



# --- a relay whose calls fail


@pytest.fixture(scope="session")
def library(run_directory):
    return inject.build(run_directory)


@pytest.fixture
def faulty(bed, library):
    """A bed whose relay follows bed.faults, and a server that swaps streams with its clients. The
    relay is not in the relay cgroup, so it marks its upstream sockets. Its buffer is small: each
    write of the server fills it again and again, which begins a splice, however fast the relay
    is."""
    bed.load(relay_cgroup=False)
    with inject.Faults(library, bed.directory / "faults") as faults:
        bed.faults = faults
        bed.start_relay("--workers", 1, "--max-connections", 30, "--error-memory", 0,
                        "--half-closed-timeout", "2s", "--buffer-size", "8K",
                        env=faults.env, place=bed.client)
        bed.swaps = Swaps(bed)
        yield bed


def swap(sock, outgoing, incoming):
    """Sends and receives at the same time. Returns WHOLE, RESET, or what else happened."""
    broken = []

    def send():
        try:
            sock.sendall(outgoing)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            broken.append(True)

    sender = threading.Thread(target=send)
    if outgoing:
        sender.start()
        if not incoming:
            sender.join()
    try:
        data, end = wire.read_to_end(sock)
    except OSError as error:
        data, end = b"", repr(error)
    if sender.ident:
        sender.join()
    if not incoming.startswith(data):
        return "other bytes"
    if end == wire.EOF and len(data) == len(incoming):
        return WHOLE
    # A reset is reported once: if the writer gets it, the reader gets EOF.
    return wire.RESET if broken or end == wire.RESET else f"{end} after {len(data)} bytes"


class Swaps:
    """A server that swaps streams: on one port it receives, on one it sends, on one it does both.
    It reports the outcome of each connection by a socket."""

    WAYS = [(UP, b""), (b"", DOWN), (UP, DOWN)]

    def __init__(self, bed):
        self._bed = bed
        listeners = [bed.listen() for _ in self.WAYS]
        self._addresses = [listener.getsockname() for listener in listeners]
        self._told, channel = map(bed.keep, socket.socketpair(type=socket.SOCK_SEQPACKET))
        bed.task(self._serve, listeners, channel, place=bed.server)

    @classmethod
    def _serve(cls, listeners, channel):
        def serve(conn, up, down):
            with conn:
                conn.settimeout(wire.TIMEOUT)
                channel.send(swap(conn, down, up).encode())

        def accept(listener, up, down):
            listener.settimeout(None)
            while True:
                conn, _ = listener.accept()
                channel.send(b"accepted")
                threading.Thread(target=serve, args=(conn, up, down)).start()

        for listener, way in zip(listeners, cls.WAYS):
            threading.Thread(target=accept, args=(listener, *way)).start()
        signal.pause()

    def _visits(self, count):
        verdicts = []
        for number in range(count):
            try:
                way = number % len(self.WAYS)
                with wire.connect(self._addresses[way]) as sock:
                    verdicts.append(swap(sock, *self.WAYS[way]))
            except ConnectionResetError:
                verdicts.append(wire.RESET)
        return verdicts

    def visit(self, count):
        """Returns the outcomes of @count connections, one after the other, for the clients."""
        return self._bed.run_in(self._visits, count, timeout=20)

    def served(self):
        """Returns their outcomes for the server, after another connection of each kind, which are
        whole."""
        assert self.visit(3) == [WHOLE] * 3, "the next connections are served"
        # All connections before these three have been accepted, so their outcomes were sent
        # already.
        messages = []
        self._told.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(self._told.recv(100))
        accepted = messages.count(b"accepted")
        self._told.settimeout(2 * wire.TIMEOUT)
        while len(messages) < 2 * accepted:
            messages.append(self._told.recv(100))
        return [message.decode() for message in messages if message != b"accepted"]


def descriptors(relay, kind):
    """The number of sockets or pipes."""
    count = 0
    for entry in os.scandir(f"/proc/{relay.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += os.readlink(entry.path).startswith(kind)
    return count


def cpu_used(relay, duration):
    before = relay.cpu_seconds()
    time.sleep(duration)  # the time over which it is measured
    return relay.cpu_seconds() - before


def check_fault(bed, call, code, count, **rule):
    what = f"{call} {errno.errorcode[code]} {rule}"
    bed.faults.fail(call, code, **rule)
    clients = bed.swaps.visit(count)
    # One write() may contain the lines of many connections, and comes a moment later.
    for _ in range(20):
        if call == "write" and bed.faults.struck(call) == 0:
            clients += bed.swaps.visit(3)
    assert bed.faults.stop(call) > 0, f"{what}: it did not come to that"
    servers = bed.swaps.served()
    if code in PEER_GONE:
        # The end that counts as gone sees its own error, the other end a reset.
        allowed = re.compile(r"whole|reset|eof after \d+ bytes")
        cut = sum("after" in verdict for verdict in clients + servers)
        assert cut <= bed.faults.struck(call), f"{what}: {clients} {servers}"
    else:
        allowed = re.compile("whole|reset")
    for verdict in clients + servers:
        assert allowed.fullmatch(verdict), f"{what}: {clients} {servers}"
    if call in CLIENT_WAITS | HARMLESS or (code in NO_HARM and call != "connect"):
        assert set(clients + servers) == {WHOLE}, f"{what}: {clients} {servers}"
    if rule["left"] == 1:
        whole = clients.count(WHOLE)
        assert whole >= len(clients) - 1, f"{what}: {clients}, one failure costs more"


@pytest.mark.needs("cc")
@pytest.mark.deadline(60)
@pytest.mark.parametrize("call", [
    pytest.param(call, marks=pytest.mark.plain_build) if call == "malloc" else call
    for call in FAULTS])
def test_call_fails(faulty, call):
    """Once, early or late in a connection, and repeatedly: connections are whole or reset,
    nothing leaks or spins.

    To see it fail: take EINTR for a reset in read_result() (recv, splice_in) or write_result()
    (send, splice_out); do not release the session after accept4() failed (accept4); in
    session_destroy() close the client without a reset if connect() failed (connect).
    """
    relay = faulty.relay
    assert faulty.swaps.visit(3) == [WHOLE] * 3, "well before"
    faulty.swaps.served()
    before = host.settled(lambda: descriptors(relay, "socket:"), "sockets")
    for name in FAULTS[call]:
        code = getattr(errno, name)
        for skip in (0, 2):
            # Calls at a session's end may come, for the last one, after this check. And not every
            # connection sets an option.
            count = 6 if call in HARMLESS | {"setsockopt"} else 3
            check_fault(faulty, call, code, count=count, skip=skip, left=1)
        check_fault(faulty, call, code, count=6, skip=0, every=3, left=6)
    host.wait_until(lambda: descriptors(relay, "socket:") <= before, "sockets come back")
    host.wait_until(faulty.pins.at_rest, "nothing is left")
    assert cpu_used(relay, 0.3) < 0.05, "spins"
    assert relay.running()


@pytest.mark.needs("cc")
@pytest.mark.parametrize("call, code", [("pipe2", errno.EMFILE), ("pipe2", errno.ENFILE),
                                        ("pipe2", errno.ENOMEM), ("setpipe", errno.EPERM),
                                        ("setpipe", errno.EBUSY)])
def test_no_pipe(faulty, call, code):
    """Bulk is served without pipes: all is whole, no pipe is left that could not be enlarged,
    and at most one is tried in a second.

    To see it fail: keep the descriptors when F_SETPIPE_SZ fails in pipe_create(); do not set
    try_again_ms.
    """
    before = descriptors(faulty.relay, "pipe:")
    start = time.monotonic()
    faulty.faults.fail(call, code, left=inject.FOR_EVER)
    assert faulty.swaps.visit(6) == [WHOLE] * 6
    most = time.monotonic() - start + 1
    assert 0 < faulty.faults.stop(call) <= most
    assert descriptors(faulty.relay, "pipe:") == before

    def used_again():
        faulty.swaps.served()
        return descriptors(faulty.relay, "pipe:") > before

    host.wait_until(used_again, "pipes are used when they can be had")


@pytest.mark.needs("cc")
@pytest.mark.parametrize("call", [
    "recv",
    "send",
    "splice_in",
    "splice_out"])
def test_error_that_says_nothing_of_the_peer(faulty, call):
    """ENOMEM on the client's socket: the client is alive, and must not take a part for the
    whole.

    Ensured by session_destroy(), which closes both sides by reset unless all is done.
    """
    client, server = faulty.pair()
    server.sendall(b"a part")
    assert wire.read_exactly(client, 6) == b"a part"
    faulty.faults.fail(call, errno.ENOMEM, left=inject.FOR_EVER)
    if call == "recv":
        client.shutdown(socket.SHUT_WR)
    elif call == "send":
        server.sendall(b"another")
    else:
        faulty.task(swap, server, DOWN, b"", place=faulty.server)
    _, end = wire.read_to_end(client)
    assert faulty.faults.stop(call) > 0
    assert end == wire.RESET


@pytest.mark.needs("cc")
def test_reset_that_cannot_be_asked_for(faulty):
    """SO_LINGER is refused, as a foreign cgroup program may do. An incomplete stream still does
    not end by FIN.

    Ensured by connect(AF_UNSPEC), which resets too, after setsockopt() has failed.
    """
    faulty.faults.fail("linger", errno.EPERM, left=inject.FOR_EVER)
    client, server = faulty.pair()
    server.sendall(b"a part")
    assert wire.read_exactly(client, 6) == b"a part"
    wire.reset(server)
    assert wire.ended_by(client) == wire.RESET


@pytest.mark.needs("cc")
@pytest.mark.parametrize("call, name", [
    ("accept4", "EMFILE"), ("socket", "EACCES"), ("bpf_update", "ENOMEM"),
    pytest.param("malloc", "ENOMEM", marks=pytest.mark.plain_build),
    ("accept4", "EPERM"), ("accept4", "EINVAL")])
def test_fault_that_lasts(faulty, call, name):
    """The relay waits without spinning, logs one line, and continues when the fault has ended.

    To see it fail: return ACCEPTED for EMFILE in accept_one(); do not add the timer that
    resumes in listener_pause().
    """
    relay = faulty.relay
    assert faulty.swaps.visit(3) == [WHOLE] * 3
    faulty.faults.fail(call, getattr(errno, name), left=inject.FOR_EVER)
    listener = faulty.listen()
    if call == "malloc":
        assert faulty.run_in(wire.fate, listener.getsockname()) == wire.RESET
    clients = [] if call == "malloc" else [faulty.connect(listener) for _ in range(3)]
    used = cpu_used(relay, 0.6)
    assert faulty.faults.stop(call) > 0
    assert used < 0.06, f"spins: {used} s of CPU in 0.6 s"
    if clients:
        relay.says("accepting paused")
    assert relay.text().count("accepting paused") == (1 if clients else 0)
    # In any order, because they wait at different ports.
    for number, client in enumerate(clients):
        client.sendall(b"late%d" % number)
    said = [wire.read_exactly(faulty.accept(listener)[0], 5) for _ in clients]
    assert sorted(said) == [b"late%d" % number for number in range(len(clients))]
    faulty.swaps.served()


@pytest.mark.needs("ss")
def test_listener_destroyed(proxied):
    """By `ss -K`, as if meant for other sockets: accept4() returns EINVAL from then on. Clients
    at other listeners are served, and the relay makes new listeners, once.

    To see it fail: do not set listener_env::lost in socket_is_lost(), or let accept_one() pause
    there.
    """
    relay, listener = proxied.relay, proxied.listen()
    with relay.stopped():
        destroy_listener(proxied, relay.address[1])
        clients = [proxied.connect(listener) for _ in range(relay.ports())]
        for client in clients:
            client.sendall(b"waiting")
    for _ in clients:
        assert wire.read_exactly(proxied.accept(listener)[0], 7) == b"waiting"
    assert any(client.getsockname()[0] == "127.0.0.1" for client in clients)
    assert cpu_used(relay, 0.5) < 0.05, "spins"
    relay.wait_registered(2)
    host.stays_true(lambda: len(relay.registrations()) == 2, "no more of them", 2.2)
    assert relay.says("a listening socket is lost")
    assert relay.text().count("a listening socket is lost") == 1
    assert_all_ports_serve(proxied)


def destroy_listener(bed, port):
    """Destroys a listener and its sink. The kernel looks sockets up by port, and so destroys one of
    them at a time."""
    while str(port) in bed.run("ss", "-tln", "sport", "=", f":{port}", place=bed.bystander).out:
        destroy(bed, "-tln", port)


def destroy(bed, kind, port):
    """Destroys the sockets of that kind with this local port."""
    sockets = (kind, "sport", "=", f":{port}")
    assert str(port) in bed.run("ss", *sockets, place=bed.bystander).out
    if str(port) not in bed.run("ss", "-K", *sockets, place=bed.bystander).out:
        pytest.skip("this kernel does not destroy sockets")


@pytest.mark.needs("ss")
def test_clients_socket_destroyed(proxied):
    """As without a relay, client and server see an error, and no entry is left while the client
    holds the socket. To see it fail: leave client_forget() out of client_close(); then the sweep
    has to find the entries."""
    client, server = proxied.pair()
    wire.exchange(client, server)
    destroy(proxied, "-tn", client.getsockname()[1])
    assert wire.ended_by(server) == wire.RESET
    with pytest.raises(ConnectionAbortedError):
        client.recv(1)
    host.wait_until(proxied.pins.at_rest, "nothing is left")
    assert proxied.stats()["stale"] == 0


@pytest.mark.needs("ss")
def test_drain_with_a_destroyed_listener(proxied):
    """A relay that was replaced makes no new listeners, and still ends.

    To see it fail: let accept_one() pause for a destroyed socket.
    """
    older = proxied.relay
    proxied.start_relay()
    host.wait_until(lambda: "another relay has registered" in older.text(), "it knows")
    destroy_listener(proxied, older.address[1])
    older.signal(signal.SIGQUIT)
    assert older.wait() == 0


@pytest.mark.needs("ss")
def test_destroyed_listener_whose_port_is_taken(loaded):
    """The other ports continue to serve. When the port is free again, all are there. It can be
    taken only if the listener has no sink.

    To see it fail: close the registration before relay_listen() in register_again().
    """
    loaded.accept_strangers()
    relay = loaded.start_relay("--workers", 1, "--listeners", 2, "--listen", "127.0.0.1:7654")
    with relay.stopped():
        destroy_listener(loaded, 7655)
        with loaded.client_net.inside():
            stranger = loaded.keep(wire.listener(("127.0.0.1", 7655)))
    host.wait_until(lambda: "cannot listen on 127.0.0.1:7655" in relay.text(), "it has tried")

    def alive_ns():
        (entry,) = loaded.pins.dump("map_config")
        return entry["value"]["alive_ns"]

    before, listener = alive_ns(), loaded.listen()
    host.wait_until(lambda: alive_ns() > before, "it is alive")
    assert any([loaded.visit(listener).relayed for _ in range(2)])
    stranger.close()
    relay.wait_registered(2)
    assert_all_ports_serve(loaded)
    assert "nothing is pinned" not in relay.text()


@pytest.mark.needs("ss")
def test_destroyed_pair_keeps_its_port(loaded):
    """A listener and its sink are destroyed. Nobody else can take their port, and the relay makes
    another pair there.

    To see it fail: set SO_REUSEADDR for each socket in bind_socket().
    """
    relay = loaded.start_relay("--workers", 1, "--listeners", 2, "--listen", "127.0.0.1:7654",
                               "--honest-connect")
    with relay.stopped():
        destroy_listener(loaded, 7655)
        with loaded.client_net.inside(), pytest.raises(OSError) as refused:
            loaded.keep(wire.listener(("127.0.0.1", 7655)))
    assert refused.value.errno == errno.EADDRINUSE
    relay.wait_registered(2)
    assert relay.text().count(", honest connect\n") == 2
    assert_all_ports_serve(loaded)


@pytest.mark.needs("ss")
@pytest.mark.parametrize("sink", [False, True])
def test_one_of_a_pair_destroyed(proxied, sink):
    """The listener or its sink: clients are served at once, and the relay makes new listeners.

    To see it fail: leave the sink alone in socket_is_lost(); do not set listener_env::lost in
    on_sink().
    """
    port = proxied.relay.address[1]
    lines = proxied.run("ss", "-Htlne", "sport", "=", f":{port}", place=proxied.bystander).out
    # Only the backlog of the sink is 1.
    (cookie,) = (int(re.search(r"sk:(\w+)", line)[1], 16) for line in lines.splitlines()
                 if (line.split()[2] == "1") == sink)
    if not proxied.run_in(destroy_one, port, cookie, place=proxied.bystander):
        pytest.skip("this kernel does not destroy sockets")
    assert_all_ports_serve(proxied)
    proxied.relay.wait_registered(2)
    assert_all_ports_serve(proxied)


def destroy_one(port, cookie):
    """Destroys one of the sockets that listen at a port. The kernel chooses one by the remote
    address, and refuses if it has another cookie."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as diag:  # NETLINK_SOCK_DIAG
        for remote_port in range(1, 65):
            ends = struct.pack(">HH4s28x", port, remote_port, socket.inet_aton("127.0.0.1"))
            request = (struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0) + ends +
                       struct.pack("=IQ", 0, cookie))
            # SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK
            diag.send(struct.pack("=IHHII", 16 + len(request), 21, 5, 0, 0) + request)
            if struct.unpack_from("=i", diag.recv(4096), 16) == (0,):
                return True
    return False


def assert_all_ports_serve(bed):
    """Connections use the ports in turn."""
    listener = bed.listen()
    for _ in range(bed.relay.ports()):
        assert bed.visit(listener).relayed


@pytest.mark.needs("cc")
@pytest.mark.parametrize("call, code", [
    ("epoll_add", errno.ENOSPC), ("epoll_add", errno.ENOMEM),
    pytest.param("malloc", errno.ENOMEM, marks=pytest.mark.plain_build),
    pytest.param("worker_malloc", errno.ENOMEM, marks=pytest.mark.plain_build)])
def test_new_listeners_meet_a_fault(faulty, call, code):
    """Other maps are pinned, and a call fails that the relay needs to listen again. It still
    serves.

    To see it fail: let listen_for_clients() fail without a pause in listener_init(); do not set
    listener_env::lost in replace_listeners().
    """
    faulty.unload()
    faulty.faults.fail(call, code, left=3)
    faulty.load(relay_cgroup=False)
    host.wait_until(lambda: faulty.faults.struck(call) == 3, "it came to that")
    if call == "worker_malloc":  # the main thread registers again, which it has done once by now
        faulty.relay.wait_registered(3)
    host.wait_until(lambda: registered_pid(faulty) == faulty.relay.pid, "it is registered")
    # A pause of listeners is shorter than this.
    host.stays_true(lambda: faulty.relay.running(), "it lives", 0.3)
    assert_all_ports_serve(faulty)
    assert cpu_used(faulty.relay, 0.5) < 0.05, "spins"


@pytest.mark.needs("cc")
@pytest.mark.plain_build
def test_lost_listeners_cannot_be_replaced_at_once(faulty):
    """There is no memory for them, and then no descriptor to examine the pins: the relay tries
    again.

    To see it fail: in check() discard the result of worker_has_lost_listener().
    """
    faulty.unload()
    faulty.faults.fail("worker_malloc", errno.ENOMEM)
    faulty.load(relay_cgroup=False)
    host.wait_until(lambda: faulty.faults.struck("worker_malloc"), "it came to that")
    faulty.faults.fail("obj_get", errno.EMFILE, left=inject.FOR_EVER)
    host.wait_until(lambda: "cannot open" in faulty.relay.text(), "it has tried")
    faulty.faults.stop("obj_get")
    faulty.relay.wait_registered(3)
    assert_all_ports_serve(faulty)


def registered_pid(bed):
    entries = bed.pins.dump("map_config")
    return entries[0]["value"]["pid"] if entries else None


@pytest.mark.needs("cc")
@pytest.mark.parametrize("code, lines", [
    (errno.EADDRNOTAVAIL, 1), (errno.EPERM, 1), (errno.ECONNREFUSED, 0)])
def test_connect_that_this_host_refuses(faulty, code, lines):
    """The operator gets one line. Errors of the server are for the client only.

    To see it fail: log each time, or every error, in connect_failed().
    """
    faulty.faults.fail("connect", code, left=5)
    faulty.swaps.visit(5)
    assert faulty.faults.stop("connect") == 5
    faulty.swaps.served()

    def said():
        return faulty.relay.text().count("failed locally: ")

    # The log is written by a thread of its own.
    host.wait_until(lambda: said() >= lines, "it is said")
    host.stays_true(lambda: said() == lines, "once", 0.2)


@pytest.mark.needs("cc")
def test_map_that_cannot_be_read(faulty):
    """An older relay that cannot read the registration leaves the entry of the newer one alone.

    To see it fail: take each failure of bpf_map_lookup_elem() for ENOENT in
    registration_check().
    """
    older = faulty.relay
    newer = faulty.start_relay(place=faulty.client)
    assert registered_pid(faulty) == newer.pid
    faulty.faults.fail("bpf_other", errno.ENOMEM, left=inject.FOR_EVER)
    host.wait_until(lambda: "cannot renew our entry" in older.text(), "it has looked")
    assert registered_pid(faulty) == newer.pid
    faulty.faults.stop("bpf_other")
    host.wait_until(lambda: "another relay has registered" in older.text(), "it has read the map")
    assert registered_pid(faulty) == newer.pid and "registered again" not in older.text()


@pytest.mark.needs("cc")
def test_entry_that_another_one_changes_meanwhile(faulty):
    """Between lookup and update: BPF_EXIST and BPF_NOEXIST detect this, and it is no failure.

    To see it fail: take ENOENT for a failure in renew().
    """
    faulty.faults.fail("bpf_update", errno.ENOENT)
    host.wait_until(lambda: faulty.faults.struck("bpf_update"), "it came to that")
    host.stays_true(lambda: registered_pid(faulty) == faulty.relay.pid, "it stays", 1.2)
    assert "cannot renew" not in faulty.relay.text()


@pytest.mark.needs("cc")
def test_worker_that_cannot_wait(faulty):
    """epoll_wait() fails permanently: the relay exits, so that the supervisor or systemd starts
    another.

    To see it fail: let has_failed() in main.c return false.
    """
    faulty.relay.killed = True
    faulty.faults.fail("epoll_wait", errno.EBADF)
    assert faulty.relay.wait() == 1
    assert "a worker cannot wait for events" in faulty.relay.text()
    assert registered_pid(faulty) is None


@pytest.mark.needs("cc")
def test_relay_that_cannot_accept_can_be_stopped(faulty):
    """SIGTERM while accept4() fails. Ensured by accept_one(), which pauses for other errors."""
    faulty.faults.fail("accept4", errno.EPERM, left=inject.FOR_EVER)
    faulty.relay.signal(signal.SIGTERM)
    try:
        host.wait_until(lambda: not faulty.relay.running(), "the relay ends", timeout=6)
    finally:
        faulty.faults.stop("accept4")


@pytest.mark.needs("cc")
def test_connect_whose_outcome_cannot_be_read(faulty):
    """getsockopt(SO_ERROR) fails: the client gets a reset, and the server is left alone.

    To see it fail: let connect_result() return 0 then.
    """
    with faulty.server_net.inside():
        full = faulty.keep(wire.listener((SERVER, 0), backlog=0))
    filler = faulty.connect(full, place=faulty.server)
    faulty.faults.fail("so_error", errno.ENOMEM)
    client = faulty.connect(full)

    def connects():
        return faulty.run_in(wire.tcp_states, full.getsockname(),
                             place=faulty.relay_place) == [wire.SYN_SENT]

    host.wait_until(connects, "the relay connects; its second SYN will be answered")
    faulty.accept(full)
    assert wire.ended_by(client) == wire.RESET
    assert faulty.faults.stop("so_error") == 1
    filler.close()
    faulty.swaps.served()


@pytest.mark.needs("cc")
@pytest.mark.parametrize("code", [errno.EINTR, errno.ENOMEM])
def test_poll_fails(faulty, code):
    """poll() is for sessions that are not read from. They are checked again. To see it fail: take
    -1 for a reset in session_probe()."""
    client, server = faulty.pair()
    client.shutdown(socket.SHUT_WR)
    faulty.faults.fail("poll", code, left=1)
    assert wire.ended_by(server) == wire.EOF
    host.wait_until(lambda: faulty.faults.struck("poll"), "it is asked")
    server.sendall(b"x")
    assert wire.read_exactly(client, 1) == b"x"
    wire.reset(client)

    def is_broken():
        try:
            server.sendall(b"x")
        except ConnectionError:
            return True

    host.wait_until(is_broken, "the server learns of the reset")


@pytest.mark.needs("cc")
@pytest.mark.parametrize("code", [errno.EINTR, errno.EAGAIN])
def test_message_between_threads_is_late(faulty, code):
    """An eventfd that cannot be read at once: workers still get SIGHUP and SIGTERM, and the main
    thread learns of their end. To see it fail: leave out EV_PERSIST where they are read."""
    relay = faulty.relay
    faulty.faults.fail("eventfd_read", code, left=2)
    relay.signal(signal.SIGHUP)
    host.wait_until(lambda: faulty.faults.struck("eventfd_read") == 2, "it came to that")
    assert cpu_used(relay, 0.3) < 0.05, "spins"
    faulty.swaps.served()
    faulty.faults.fail("eventfd_read", code, skip=1, left=2)  # not the worker's read
    relay.signal(signal.SIGTERM)
    assert relay.wait() == 0
    assert faulty.faults.stop("eventfd_read") == 2


@pytest.mark.needs("cc")
def test_listener_that_cannot_be_resumed_is_tried_again(faulty):
    """epoll_ctl() fails at the moment when accepting is to resume.

    Ensured by listener_resume(), which adds the timer again when event_add() fails.
    """
    faulty.faults.fail("accept4", errno.EMFILE, left=1)
    faulty.faults.fail("epoll_add", errno.ENOSPC, left=1)
    listener = faulty.listen()
    client = faulty.connect(listener)
    server, _ = faulty.accept(listener)
    assert faulty.faults.stop("accept4") == 1
    wire.exchange(client, server)


@pytest.mark.needs("cc")
@pytest.mark.parametrize("call, calls", [("bpf_update", 4), ("bpf_other", 9)])
def test_registration_that_cannot_be_renewed(faulty, call, calls):
    """bpf(2) fails for seconds: established connections continue, new ones are relayed or
    direct, one line is logged, and the relay registers again afterwards.

    Ensured by write_entry() and registration_check(), which log only when the state changes.
    """
    client, server = faulty.pair()
    before = faulty.relay.text().count("\n")
    faulty.faults.fail(call, errno.EPERM, left=inject.FOR_EVER)
    host.wait_until(lambda: faulty.faults.struck(call) >= calls, "renewals fail", timeout=10)
    wire.exchange(client, server)
    told = faulty.relay.text().splitlines()[before:]
    faulty.faults.stop(call)
    faulty.swaps.served()
    host.wait_until(lambda: faulty.visit(faulty.listen()).relayed, "it is relayed again")
    assert len(told) <= 3, f"more than one line for the whole of it: {told}"
