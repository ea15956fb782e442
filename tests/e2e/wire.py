# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Operations on sockets, and servers.

A test holds both ends of a connection in its own process (Bed.connect, Bed.accept), so most
tests are a plain sequence of steps. Servers are for load: they run in a task of their own.
"""

import contextlib
import ctypes
import hashlib
import selectors
import socket
import struct
import threading

from host import needs_no_process

TIMEOUT = 20.0

EOF = "eof"
RESET = "reset"
REFUSED = "refused"

ESTABLISHED, SYN_SENT = "01", "02"
SO_COOKIE = 57
TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE = 30, 34

_libc = ctypes.CDLL(None, use_errno=True)


def listener(address=("", 0), backlog=4096, timeout=TIMEOUT):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.listen(backlog)
    sock.settimeout(timeout)
    return sock


@needs_no_process
def connect(address, source=None, timeout=TIMEOUT):
    sock = socket.socket()
    try:
        sock.settimeout(timeout)
        if source:
            sock.bind(source)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def connection_id(sock):
    """The id of the connection in logs and tools."""
    cookie, = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))
    return f"{cookie:x}"


@needs_no_process
def connect_deferred(address):
    """connect() that sends its SYN with the first data."""
    sock = socket.socket()
    sock.settimeout(TIMEOUT)
    sock.setsockopt(socket.SOL_TCP, TCP_FASTOPEN_CONNECT, 1)
    sock.setsockopt(socket.SOL_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    sock.connect(address)
    return sock


def disconnect(sock):
    """connect() to AF_UNSPEC, after which the socket may be connected again."""
    code = raw_connect(sock, struct.pack("=H14x", socket.AF_UNSPEC))
    assert code == 0, f"connect(AF_UNSPEC): errno {code}"


def raw_connect(sock, address):
    """connect(2) with the bytes of a sockaddr. Returns 0 or the errno."""
    result = _libc.connect(sock.fileno(), address, len(address))
    return ctypes.get_errno() if result < 0 else 0


def getsockopt(sock, level, name, buffer):
    """getsockopt(2) with a buffer of this content. Returns errno and answer. The socket module's
    getsockopt() takes no more than 1024 bytes."""
    buffer = ctypes.create_string_buffer(buffer, len(buffer))
    length = ctypes.c_uint(len(buffer))
    if _libc.getsockopt(sock.fileno(), level, name, buffer, ctypes.byref(length)) < 0:
        return ctypes.get_errno(), b""
    return 0, buffer.raw[:length.value]


def reset(sock):
    """Closes with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
    sock.close()


def read_exactly(sock, size):
    data = bytearray()
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        assert chunk, f"end of file after {len(data)} of {size} bytes"
        data += chunk
    return bytes(data)


def read_to_end(sock):
    """Returns all bytes, and how the stream ended: EOF or RESET."""
    data = bytearray()
    while True:
        try:
            chunk = sock.recv(1 << 16)
        except ConnectionResetError:
            return bytes(data), RESET
        if not chunk:
            return bytes(data), EOF
        data += chunk


def ended_by(sock):
    """How a connection ends on which no byte may come any more."""
    data, end = read_to_end(sock)
    assert data == b""
    return end


@needs_no_process
def tcp_states(address):
    """The state of each connection to an address, see proc_net_tcp.rst."""
    remote = socket.inet_aton(address[0])[::-1].hex().upper() + f":{address[1]:04X}"
    with open("/proc/self/net/tcp", encoding="ascii") as table:
        return [fields[3] for fields in map(str.split, table) if fields[2] == remote]


@needs_no_process
def fate(address, data=b""):
    """Connects, sends data, and returns how the connection ends, or REFUSED. A reset may come so
    soon that connect() fails."""
    try:
        with connect(address) as sock:
            sock.sendall(data)
            return ended_by(sock)
    except (ConnectionResetError, BrokenPipeError):
        return RESET
    except ConnectionRefusedError:
        return REFUSED


def exchange(one, other, data=b"tproxy"):
    """Verifies both directions of a connection."""
    one.sendall(data)
    assert read_exactly(other, len(data)) == data
    other.sendall(data[::-1])
    assert read_exactly(one, len(data)) == data[::-1]


# --- bulk


class Stream:
    """Bytes that are cheap to make and to check, and differ at every position."""

    BLOCK = 1 << 18

    def __init__(self, name, size):
        self.size = size
        self._block = hashlib.shake_128(name.encode()).digest(self.BLOCK)

    def blocks(self):
        for start in range(0, self.size, self.BLOCK):
            yield (struct.pack("=Q", start) + self._block[8:])[:self.size - start]

    def sha256(self):
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()


def send_stream(sock, stream, may_end=None):
    """With @may_end, an event, sends FIN only after that."""
    for block in stream.blocks():
        sock.sendall(block)
    if may_end:
        may_end.wait()
    sock.shutdown(socket.SHUT_WR)


def receive_stream(sock, pause_every=0, pause=None, whole=None, is_whole=None):
    """Reads to EOF. Returns size and sha256. Calls pause() after every so many bytes. Sets the
    event @is_whole when there are as many as the stream @whole has."""
    digest, size, next_pause = hashlib.sha256(), 0, pause_every
    while chunk := sock.recv(1 << 18):
        digest.update(chunk)
        size += len(chunk)
        if whole and size >= whole.size:
            is_whole.set()
        if pause and size >= next_pause:
            next_pause += pause_every
            pause()
    return size, digest.hexdigest()


def swap_streams(sock, outgoing, incoming=None, **reading):
    """Sends one stream while it receives another. Returns what was received.

    With @incoming, the stream that should come, FIN is sent only when all of it has come. HAProxy
    2.6 needs this at both ends. Without it 18 of 1,404 connections through HAProxy alone lost their
    last bytes, with a clean end: after a FIN of the server it may take EPOLLHUP without EPOLLIN for
    the end of the data.
    """
    may_end = threading.Event()
    if not incoming:
        may_end.set()
    sender = threading.Thread(target=send_stream, args=(sock, outgoing, may_end))
    sender.start()
    try:
        received = receive_stream(sock, whole=incoming, is_whole=may_end, **reading)
    finally:
        may_end.set()
    sender.join()
    return received


# --- servers


def serve_each(answer, *listeners):
    """Calls answer(sock) for each client, one after the other, and closes, forever."""
    with selectors.DefaultSelector() as selector:
        for sock in listeners:
            selector.register(sock, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                with contextlib.suppress(OSError), key.fileobj.accept()[0] as sock:
                    answer(sock)


def serve_echo(*listeners):
    """Echoes what any number of connections send, forever."""
    with selectors.DefaultSelector() as selector:
        for sock in listeners:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj in listeners:
                    with contextlib.suppress(BlockingIOError):
                        conn, _ = key.fileobj.accept()
                        selector.register(conn, selectors.EVENT_READ)
                    continue
                try:
                    data = key.fileobj.recv(1 << 16)
                    if data:
                        key.fileobj.sendall(data)
                        continue
                except ConnectionError:
                    pass
                selector.unregister(key.fileobj)
                key.fileobj.close()
