# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Many clients that connect without pause, while a test does something to what serves them."""

import contextlib
import dataclasses
import select
import socket
import threading
import time

import wire

TASKS = 2


@dataclasses.dataclass
class Outcome:
    """What became of the connections, complete after the block."""

    good: int = 0
    failed: list = dataclasses.field(default_factory=list)


def _visit(address, timeout):
    """None, or what went wrong. It ends with a reset: TIME_WAIT would take all ports soon."""
    with wire.connect(address, timeout=timeout) as sock:
        sock.sendall(b"x")
        answer = sock.recv(1)
        wire.reset(sock)
    return None if answer == b"x" else f"end of file from {address}"


def _connect_until_told(told, address, threads, timeout, pause):
    enough, lock, outcome = threading.Event(), threading.Lock(), Outcome()

    def connect():
        good, failed = 0, []
        while not enough.is_set():
            try:
                failure = _visit(address, timeout)
            except OSError as error:
                failure = repr(error)
            if failure:
                failed.append(failure)
            else:
                good += 1
            time.sleep(pause)
        with lock:
            outcome.good += good
            outcome.failed += failed

    clients = [threading.Thread(target=connect) for _ in range(threads)]
    for client in clients:
        client.start()
    select.select([told], [], [])
    enough.set()
    for client in clients:
        client.join()
    return outcome.good, outcome.failed


@contextlib.contextmanager
def connecting(bed, clients, timeout=wire.TIMEOUT, place=None, pause=0.0):
    """So many clients connect, one connection after the other, all through the block. Yields the
    Outcome. A connection carries a byte there and back, and may take as long as the timeout."""
    outcome = Outcome()
    (address,) = bed.echo_server()
    ours, theirs = map(bed.keep, socket.socketpair())
    tasks = [bed.task(_connect_until_told, theirs, address, clients // TASKS, timeout, pause,
                      place=place)
             for _ in range(TASKS)]
    yield outcome
    ours.sendall(b"enough")
    for task in tasks:
        good, failed = task.result(timeout=timeout + 10)
        outcome.good += good
        outcome.failed += failed
