# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Many clients that connect once and stay. clients.py has clients that come and go."""

import contextlib
import select
import socket

import host
import wire


def _say_x(sock):
    sock.send(b"x")


class ClientGroup:
    """@n clients in a task. They connect, send a byte each or begin in another way, and stay until
    they are told to leave. Clients that read wait for an echo."""

    def __init__(self, bed, address, count, reads=True, connect=wire.connect, begin=_say_x):
        self._ours, theirs = map(bed.keep, socket.socketpair())
        self._task = bed.task(self._hold, theirs, address, count, reads, connect, begin)

    @staticmethod
    def _hold(channel, address, count, reads, connect, begin):
        """Reports each answer by a byte, until it is told to leave. Returns how many came."""
        clients, served = [], 0
        with contextlib.ExitStack() as stack, select.epoll() as poll:
            poll.register(channel, select.EPOLLIN)
            for _ in range(count):
                clients.append(stack.enter_context(connect(address)))
                begin(clients[-1])
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


def visit_and_hold(address, count):
    """Returns the outcomes of @n clients that stay, each kind once."""
    verdicts, held = set(), []
    for _ in range(count):
        try:
            held.append(wire.connect(address))
            held[-1].sendall(b"x")
            verdicts.add("served" if held[-1].recv(1) == b"x" else wire.EOF)
        except (ConnectionResetError, BrokenPipeError):
            verdicts.add(wire.RESET)
    return verdicts
