# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Proxies that do not know tproxy, which tproxyctl register makes relays: HAProxy, and a small
server with other kinds of sockets that answers with what SO_ORIGINAL_DST says."""

import ctypes
import os
import socket
import struct
from pathlib import Path

import pytest

import host
import host6
import programs
import wire
from tproxyctl import binary, ctl, doctor  # fixtures

PORT = 3128
SO_ORIGINAL_DST = 80
NR_PIDFD_GETFD = 438

# The configuration in the man page.
HAPROXY = """
global
    nbthread 2
    maxconn 2000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend tproxy
{binds}
    tcp-request connection reject if {{ dst 127.0.0.0/8 }} {{ dst_port {ports} }}
    default_backend direct
backend direct
    server any 0.0.0.0:0
"""

_libc = ctypes.CDLL(None, use_errno=True)


class Haproxy(programs.Program):
    """HAProxy as an unprivileged user, in the relay cgroup."""

    def __init__(self, *options, ports=(PORT,), address="127.0.0.1", place, directory, number):
        config = directory / f"haproxy{number}.cfg"
        config.write_text(HAPROXY.format(
            binds="\n".join(f"    bind {address}:{port}" for port in ports),
            ports=" ".join(map(str, ports))))
        self._place, self._ports = place, ports
        super().__init__(*programs.unprivileged(programs.RELAY_UID, programs.RELAY_GID),
                         "/usr/sbin/haproxy", "-db", "-f", config, *options, place=place,
                         log=directory / f"haproxy{number}.log")

    def workers(self):
        return children(self.pid)

    def listens(self):
        """Whether it, or the workers of a master, listens at all of its ports."""
        return any(all(find_listener(pid, port, close=True) for port in self._ports)
                   for pid in [self.pid, *self.workers()])

    def wait_listening(self):
        host.wait_until(lambda: self.listens() or not self.running(), "HAProxy listens", 10)
        assert self.running(), self.text()
        return self


def children(pid):
    try:
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()]
    except FileNotFoundError:
        return []


@pytest.fixture
def register(ctl):
    """Runs tproxyctl register."""
    return lambda *options, **program: ctl("register", *options, **program)


@pytest.fixture
def haproxy(bed):
    """Starts a HAProxy, and waits until it listens."""
    started = []

    def start(*options, **settings):
        settings.setdefault("place", bed.relay_place)
        proxy = Haproxy(*options, **settings, directory=bed.directory, number=len(started))
        started.append(bed._started.enter_context(proxy))
        return proxy.wait_listening()

    return start


def registered(bed):
    return [entry["value"] for entry in bed.pins.dump("map_config")]


# --- marks


def find_listener(pid, port, close=False):
    """Duplicates the listening socket of another process at this port. Returns None if there is
    none."""
    try:
        pidfd = os.pidfd_open(pid)
        names = os.listdir(f"/proc/{pid}/fd")
    except (ProcessLookupError, FileNotFoundError):
        return None
    try:
        for name in names:
            try:
                if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                    continue
            except FileNotFoundError:
                continue
            fd = _libc.syscall(NR_PIDFD_GETFD, pidfd, int(name), 0)
            if fd < 0:
                continue
            try:
                sock = socket.socket(fileno=fd)
            except OSError:  # no socket any more: the process has used the number again
                os.close(fd)
                continue
            if (sock.family in (socket.AF_INET, socket.AF_INET6)
                    and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                    and sock.getsockname()[1] == port):
                if close:
                    sock.close()
                    return True
                return sock
            sock.close()
    finally:
        os.close(pidfd)
    return None


def mark_of_socket(bed, sock):
    """The flags of the socket's mark, or None."""
    with bed.pins.open("map_marks") as marks:
        value = marks.lookup(struct.pack("=i", sock.fileno()))
    return value and struct.unpack_from("=I", value)[0]


def mark_of(bed, pid, port):
    with find_listener(pid, port) as sock:
        return mark_of_socket(bed, sock)


def free_of_marks(bed, pid, port):
    """Removes the mark of a listener."""
    with find_listener(pid, port) as sock, bed.pins.open("map_marks") as marks:
        marks.delete(struct.pack("=i", sock.fileno()))


# --- a server that answers with the destination that it is told


def _where_to(conn):
    """SO_ORIGINAL_DST at both levels; empty if there is no answer."""
    code, data = wire.getsockopt(conn, socket.SOL_IP, SO_ORIGINAL_DST, bytes(16))
    if code == 0:
        port, address = struct.unpack_from("!2xH4s", data)
        return f"{socket.inet_ntop(socket.AF_INET, address)} {port}"
    code, data = wire.getsockopt(conn, socket.IPPROTO_IPV6, SO_ORIGINAL_DST, bytes(28))
    if code == 0:
        port, address = struct.unpack_from("!2xH4x16s", data)
        return f"{socket.inet_ntop(socket.AF_INET6, address)} {port}"
    return ""


def serve(sock):
    while True:
        conn, _ = sock.accept()
        with conn:
            conn.sendall(_where_to(conn).encode())


def bound(family, address, port, only6=False, reuse=False, proto=0):
    sock = socket.socket(family, socket.SOCK_STREAM, proto)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
    sock.bind((address, port))
    sock.listen(64)
    return sock


def serve_where_to(family, address, port, only6=False):
    serve(bound(family, address, port, only6))


def serve_from_children(port, count):
    """Each child has a socket of its own in one SO_REUSEPORT group. The parent has none."""
    for _ in range(count):
        if os.fork() == 0:
            host.die_with_parent()
            serve(bound(socket.AF_INET, "127.0.0.1", port, reuse=True))
    while True:
        os.waitpid(-1, 0)


def ask_where_to(bed, family, address):
    """What that server answers to a client, or None if the client did not reach it."""
    @host.needs_no_process
    def ask():
        with socket.socket(family) as sock:
            sock.settimeout(wire.TIMEOUT)
            if sock.connect_ex(address) != 0:
                return None
            assert host6.plain(sock.getpeername()) == host6.plain(address)
            return wire.read_to_end(sock)[0].decode()

    return bed.run_in(ask)
