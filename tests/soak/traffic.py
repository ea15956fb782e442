# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Both ends of the soak's traffic: clients of nine kinds, and the servers that they use.

A connection begins with a line that has its kind, a name and sizes. Both ends can produce the
bytes of a name, and so check what they receive. Each end keeps a Tally, whose size is bounded.
A failure is noted with the time during which the connection lived, and judged later.
"""

import contextlib
import dataclasses
import errno
import hashlib
import random
import select
import signal
import socket
import threading
import time

import wire

# An operation that takes longer is a failure of its own: "timeout".
TIMEOUT = 15.0
THREADS = 4
PAUSE = 0.06
IDLE = (2.0, 8.0)
BULK_MAX = 4 << 20
PART_MAX = 256 << 10
FAILURES_MAX = 5000
MAX_LINE = 200

ENDED = "end of file"
RESET = "reset"
REFUSED = "refused"
WRONG = "wrong bytes"


@dataclasses.dataclass(frozen=True)
class Failure:
    """begin and end of the connection, by CLOCK_MONOTONIC, which all processes share."""

    side: str
    kind: str
    what: str
    begin: float
    end: float


@dataclasses.dataclass
class Tally:
    good: dict = dataclasses.field(default_factory=dict)
    bytes: int = 0
    failures: list = dataclasses.field(default_factory=list)
    dropped: int = 0  # failures beyond FAILURES_MAX

    def add_good(self, kind):
        self.good[kind] = self.good.get(kind, 0) + 1

    def add_failure(self, failure):
        if len(self.failures) < FAILURES_MAX:
            self.failures.append(failure)
        else:
            self.dropped += 1

    def merge(self, other):
        for kind, count in other.good.items():
            self.good[kind] = self.good.get(kind, 0) + count
        self.bytes += other.bytes
        self.dropped += other.dropped
        for failure in other.failures:
            self.add_failure(failure)


class WrongBytes(Exception):
    pass


def what_failed(error):
    """The kind of failure of an exception."""
    if isinstance(error, WrongBytes):
        return WRONG
    if isinstance(error, EOFError):
        return ENDED
    if isinstance(error, ConnectionRefusedError):
        return REFUSED
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return RESET
    if isinstance(error, OSError) and error.errno == errno.ENOTCONN:
        return RESET  # shutdown() fails like this after a reset
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode.get(error.errno, str(error.errno))
    return f"{type(error).__name__}: {error}"


class Line:
    """A socket that is read by lines and by sizes, and counts what it reads."""

    def __init__(self, sock, tally):
        self.sock = sock
        self._tally = tally
        self._data = b""

    def _more(self):
        data = self.sock.recv(1 << 16)
        self._tally.bytes += len(data)
        return data

    def read(self):
        """Returns the next bytes, b"" at EOF."""
        data, self._data = self._data, b""
        return data or self._more()

    def exactly(self, size):
        while len(self._data) < size:
            data = self._more()
            if not data:
                raise EOFError
            self._data += data
        data, self._data = self._data[:size], self._data[size:]
        return data

    def line(self, end_allowed=False):
        """A line without its newline; None at an EOF that may come here."""
        while b"\n" not in self._data:
            if len(self._data) > MAX_LINE:
                raise WrongBytes
            data = self._more()
            if not data and end_allowed and not self._data:
                return None
            if not data:
                raise EOFError
            self._data += data
        line, _, self._data = self._data.partition(b"\n")
        try:
            return line.decode("ascii")
        except UnicodeDecodeError:
            raise WrongBytes from None

    def prefix_of(self, stream):
        """Reads to the end and returns its kind. The bytes must be a prefix of the stream."""
        got = bytearray()
        try:
            while data := self.read():
                got += data
            end = ENDED
        except ConnectionResetError:
            end = RESET
        whole = b"".join(stream.blocks())
        if len(got) > len(whole) or whole[:len(got)] != got:
            raise WrongBytes
        return end

    def equals(self, stream):
        """Reads to EOF. The bytes must be the whole stream."""
        size, digest = 0, hashlib.sha256()
        while data := self.read():
            size += len(data)
            digest.update(data)
        if size < stream.size:
            raise EOFError
        if (size, digest.hexdigest()) != (stream.size, stream.sha256()):
            raise WrongBytes

    def expect(self, data):
        if self.exactly(len(data)) != data:
            raise WrongBytes

    def expect_end(self):
        if self.read():
            raise WrongBytes

    def expect_reset(self, stream):
        if self.prefix_of(stream) != RESET:
            raise EOFError


@contextlib.contextmanager
def sending(sock, stream):
    """Sends a stream and FIN while the block reads."""
    failed = []

    def send():
        try:
            wire.send_stream(sock, stream)
        except OSError as error:
            failed.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join()
    if failed:
        raise failed[0]


# --- servers: one function for each kind, given the rest of the first line


def _serve_short(line, _name, _sizes):
    while (size := line.line(end_allowed=True)) is not None:
        line.sock.sendall(line.exactly(int(size)))


def _serve_bulk(line, name, sizes):
    up, down = wire.Stream(name + "up", sizes[0]), wire.Stream(name + "down", sizes[1])
    with sending(line.sock, down):
        line.equals(up)


def _serve_half_close(line, name, sizes):
    stream = wire.Stream(name, sizes[0])
    line.equals(stream)
    line.sock.sendall(stream.sha256().encode())


def _serve_late(line, name, sizes):
    line.sock.sendall(b"go\n")
    line.sock.shutdown(socket.SHUT_WR)
    line.equals(wire.Stream(name, sizes[0]))


def _serve_client_resets(line, name, sizes):
    line.sock.sendall(b"go\n")
    line.expect_reset(wire.Stream(name, sizes[0]))


def _serve_server_resets(line, name, sizes):
    for block in wire.Stream(name, sizes[0]).blocks():
        line.sock.sendall(block)
    wire.reset(line.sock)


SERVED = {"short": _serve_short, "idle": _serve_short, "bulk": _serve_bulk,
          "half-close": _serve_half_close, "late": _serve_late,
          "client-resets": _serve_client_resets, "server-resets": _serve_server_resets}


def _serve(sock, greets, tally, lock):
    begin, kind, mine = time.monotonic(), "greeting" if greets else "unknown", Tally()
    try:
        with sock:
            sock.settimeout(TIMEOUT + IDLE[1])
            line = Line(sock, mine)
            if greets:
                sock.sendall(b"220 tproxy soak\n")
                line.expect(b"QUIT\n")
                sock.sendall(b"221 bye\n")
            else:
                words = line.line().split(" ")
                if words[0] not in SERVED or len(words) < 2:
                    raise WrongBytes
                kind = words[0]
                SERVED[kind](line, words[1], [int(word) for word in words[2:]])
        mine.add_good(kind)
    except Exception as error:  # noted, whatever it is
        mine.add_failure(Failure("server", kind, what_failed(error), begin, time.monotonic()))
    with lock:
        tally.merge(mine)


def serve(told, listeners, greeters):
    """Serves until told to end, or until the parent is gone. Returns a Tally."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tally, lock, threads = Tally(), threading.Lock(), []
    for sock in listeners + greeters:
        sock.setblocking(False)
    while True:
        ready, _, _ = select.select([told, *listeners, *greeters], [], [])
        for listener in ready:
            if listener is told:
                deadline = time.monotonic() + TIMEOUT
                for thread in threads:
                    thread.join(max(0, deadline - time.monotonic()))
                with lock:
                    return tally
            with contextlib.suppress(BlockingIOError):
                sock, _ = listener.accept()
                thread = threading.Thread(target=_serve, daemon=True,
                                          args=(sock, listener in greeters, tally, lock))
                thread.start()
                threads.append(thread)
        threads = [thread for thread in threads if thread.is_alive()]


# --- clients


@dataclasses.dataclass(frozen=True)
class Targets:
    """Addresses, each of both families."""

    servers: tuple
    greeters: tuple
    closed: tuple


class Client:
    """A thread that makes one connection after the other."""

    def __init__(self, targets, seed, enough):
        self.targets = targets
        self.random = random.Random(seed)
        self.seed = seed.replace(" ", "")
        self.enough = enough
        self.tally = Tally()
        self.count = 0

    KINDS = {"short": 40, "bulk": 10, "half-close": 10, "late": 5, "client-resets": 8,
             "server-resets": 8, "idle": 4, "greeting": 10, "closed-port": 5}

    def run(self):
        kinds, weights = list(self.KINDS), list(self.KINDS.values())
        while not self.enough.is_set():
            self.count += 1
            # All random choices are made here, so that a failure does not change later ones.
            family = self.random.randrange(2)
            kind = self.random.choices(kinds, weights)[0]
            dice = random.Random(self.random.getrandbits(64))
            self._one(kind, family, dice)
            self.enough.wait(dice.uniform(0, PAUSE))

    def _one(self, kind, family, dice):
        label = f"{kind} {'v6' if family else 'v4'}"
        begin = time.monotonic()
        try:
            getattr(self, "_" + kind.replace("-", "_"))(family, dice)
            self.tally.add_good(label)
        except Exception as error:  # noted, whatever it is
            self.tally.add_failure(
                Failure("client", label, what_failed(error), begin, time.monotonic()))

    def _name(self):
        return f"{self.seed}/{self.count}"

    @contextlib.contextmanager
    def _connected(self, address, head=None):
        with socket.create_connection(address, TIMEOUT) as sock:
            if head:
                sock.sendall(" ".join(map(str, head)).encode() + b"\n")
            yield Line(sock, self.tally)

    def _to_server(self, family, *head):
        return self._connected(self.targets.servers[family], head)

    @staticmethod
    def _exchange(line, dice):
        data = dice.randbytes(dice.randrange(1, 1500))
        line.sock.sendall(b"%d\n" % len(data) + data)
        line.expect(data)

    def _short(self, family, dice):
        with self._to_server(family, "short", "-") as line:
            for _ in range(dice.randrange(1, 9)):
                self._exchange(line, dice)

    def _idle(self, family, dice):
        with self._to_server(family, "idle", "-") as line:
            self._exchange(line, dice)
            self.enough.wait(dice.uniform(*IDLE))
            self._exchange(line, dice)

    def _bulk(self, family, dice):
        name = self._name()
        up, down = (dice.choice((0, dice.randrange(BULK_MAX))) for _ in range(2))
        with self._to_server(family, "bulk", name, up, down) as line:
            with sending(line.sock, wire.Stream(name + "up", up)):
                line.equals(wire.Stream(name + "down", down))

    def _half_close(self, family, dice):
        stream = wire.Stream(self._name(), dice.randrange(PART_MAX))
        with self._to_server(family, "half-close", self._name(), stream.size) as line:
            wire.send_stream(line.sock, stream)
            line.expect(stream.sha256().encode())
            line.expect_end()

    def _late(self, family, dice):
        stream = wire.Stream(self._name(), dice.randrange(PART_MAX))
        with self._to_server(family, "late", self._name(), stream.size) as line:
            line.expect(b"go\n")
            line.expect_end()
            self.enough.wait(dice.uniform(0, 0.5))
            wire.send_stream(line.sock, stream)

    def _client_resets(self, family, dice):
        stream = wire.Stream(self._name(), dice.randrange(PART_MAX))
        with self._to_server(family, "client-resets", self._name(), stream.size) as line:
            line.expect(b"go\n")
            for block in stream.blocks():
                line.sock.sendall(block)
            wire.reset(line.sock)

    def _server_resets(self, family, dice):
        stream = wire.Stream(self._name(), dice.randrange(PART_MAX))
        with self._to_server(family, "server-resets", self._name(), stream.size) as line:
            line.expect_reset(stream)

    def _greeting(self, family, dice):
        with self._connected(self.targets.greeters[family]) as line:
            line.expect(b"220 tproxy soak\n")
            self.enough.wait(dice.uniform(0, 0.1))
            line.sock.sendall(b"QUIT\n")
            line.expect(b"221 bye\n")
            line.expect_end()

    def _closed_port(self, family, _dice):
        """Refused directly; through a relay connected, then reset."""
        try:
            with self._connected(self.targets.closed[family]) as line:
                line.expect_reset(wire.Stream("", 0))
        except ConnectionResetError:
            pass
        except ConnectionRefusedError:
            pass


def run_clients(told, targets, seed):
    """Threads connect until told to end. Returns a Tally."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    enough = threading.Event()
    clients = [Client(targets, f"{seed}/{number}", enough) for number in range(THREADS)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    select.select([told], [], [])
    enough.set()
    tally = Tally()
    for client, thread in zip(clients, threads):
        thread.join()
        tally.merge(client.tally)
    return tally
