# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Many clients that connect without pause while a test acts on the relay."""

import collections
import contextlib
import dataclasses
import random
import select
import socket
import threading
import time

import wire

TASKS = 2


@dataclasses.dataclass
class Outcome:
    """The number of connections by outcome, complete after the block."""

    good: int = 0
    bytes: int = 0  # bytes that came back unchanged
    failed: list = dataclasses.field(default_factory=list)


def _visit(address, timeout, data):
    """Returns how many bytes came back unchanged. Closes by reset, because sockets in TIME_WAIT
    would use up the ports."""
    answer = b""
    with wire.connect(address, timeout=timeout) as sock:
        sock.sendall(data)
        while len(answer) < len(data):
            chunk = sock.recv(len(data) - len(answer))
            if not chunk:
                raise OSError(f"end of file from {address} after {len(answer)} bytes")
            answer += chunk
        wire.reset(sock)
    if answer != data:
        raise OSError(f"wrong bytes from {address}")
    return len(answer)


def run_until_told(told, client, threads):
    """Runs client(number, enough) in this many threads, until the socket @told is readable: then
    the event @enough is set. Returns when they have ended."""
    enough = threading.Event()
    clients = [threading.Thread(target=client, args=(number, enough)) for number in range(threads)]
    for thread in clients:
        thread.start()
    select.select([told], [], [])
    enough.set()
    for thread in clients:
        thread.join()


def count_during(bed, act, tasks, connect_until_told, *args):
    """Runs connect_until_told(told, *args) in this many processes while act() runs. Returns the sum
    of their Counters."""
    ours, theirs = map(bed.keep, socket.socketpair())
    running = [bed.task(connect_until_told, theirs, *args) for _ in range(tasks)]
    act()
    ours.sendall(b"enough")
    return sum((task.result(timeout=60) for task in running), collections.Counter())


def _connect_until_told(told, address, threads, timeout, pause, size):
    lock, outcome = threading.Lock(), Outcome()

    def connect(_, enough):
        good, count, failed, data = 0, 0, [], random.randbytes(size)
        while not enough.is_set():
            try:
                count += _visit(address, timeout, data)
                good += 1
            except OSError as error:
                failed.append(repr(error))
            time.sleep(pause)
        with lock:
            outcome.good += good
            outcome.bytes += count
            outcome.failed += failed

    run_until_told(told, connect, threads)
    return outcome.good, outcome.bytes, outcome.failed


@contextlib.contextmanager
def connecting(bed, clients, timeout=wire.TIMEOUT, place=None, pause=0.0, size=1,
               address=None):
    """@clients connect in a loop while the block runs, to @address or to a server near by. Yields
    the Outcome. A connection carries @size bytes there and back, and may take as long as
    @timeout."""
    outcome = Outcome()
    address = address or bed.echo_server()[0]
    ours, theirs = map(bed.keep, socket.socketpair())
    tasks = [bed.task(_connect_until_told, theirs, address, clients // TASKS, timeout, pause,
                      size, place=place)
             for _ in range(TASKS)]
    yield outcome
    ours.sendall(b"enough")
    for task in tasks:
        good, count, failed = task.result(timeout=timeout + 10)
        outcome.good += good
        outcome.bytes += count
        outcome.failed += failed
