# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Clients that connect one after the other until they are told to stop, and a few slow ones.

Usage: traffic.py DIRECTORY. Creates DIRECTORY/ready once connections work, ends when
DIRECTORY/stop exists, and then prints one line. Exit status 1 if a connection failed, or if too
few slow ones were completed. The local address of a relayed connection is a loopback address.
"""

import os
import socket
import sys
import threading
import time
from pathlib import Path

SERVER = ("10.213.7.2", 80)
THREADS = 3
PAUSE = 0.03  # seconds between connections of one thread: the machine is slow
SLOW = 2
# Less than the relay's drain timeout; more where a connection must outlast it.
SLOW_SECONDS = int(os.environ.get("TPROXY_SLOW_SECONDS", 15))
SMALL = b"tproxy-vm\n"
BIG = 16 << 20
CHUNK = 65536


class Counts:
    def __init__(self):
        self.lock = threading.Lock()
        self.relayed = self.direct = self.slow = 0
        self.failures = []

    def add(self, relayed):
        with self.lock:
            self.relayed += relayed
            self.direct += not relayed


def fetch(path, pause=0.0):
    """Return the body of an answer, and whether the connection was relayed."""
    with socket.socket() as sock:
        sock.settimeout(60)
        # With a small buffer, what is not read stays with the server instead of in buffers on the
        # way.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * CHUNK)
        sock.connect(SERVER)
        relayed = sock.getsockname()[0].startswith("127.")
        assert sock.getpeername() == SERVER, f"peer {sock.getpeername()}"
        sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        parts = []
        while part := sock.recv(CHUNK, socket.MSG_WAITALL):
            parts.append(part)
            time.sleep(pause)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], head
    return body, relayed


def attempt(counts, name, function):
    try:
        function()
    except (OSError, AssertionError) as error:
        with counts.lock:
            counts.failures.append(f"{name}: {error!r}")


def quick(counts, stop):
    def once():
        body, relayed = fetch("/")
        assert body == SMALL, f"{len(body)} bytes"
        counts.add(relayed)

    while not stop.is_set():
        attempt(counts, "quick", once)
        time.sleep(PAUSE)


def slow(counts, stop):
    """Read in pieces over SLOW_SECONDS, so that data is in flight all the time."""
    def once():
        body, relayed = fetch("/big", pause=SLOW_SECONDS * CHUNK / BIG)
        assert len(body) == BIG and body.count(b"x") == BIG, f"{len(body)} bytes"
        counts.add(relayed)
        with counts.lock:
            counts.slow += 1

    while not stop.is_set():
        attempt(counts, "slow", once)


def main():
    directory, counts, stop = Path(sys.argv[1]), Counts(), threading.Event()
    threads = [threading.Thread(target=quick, args=(counts, stop)) for _ in range(THREADS)]
    threads += [threading.Thread(target=slow, args=(counts, stop)) for _ in range(SLOW)]
    for thread in threads:
        thread.start()
    while counts.relayed + counts.direct < 2 * THREADS and not counts.failures:
        time.sleep(0.1)
    (directory / "ready").touch()
    while not (directory / "stop").exists():
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    total = counts.relayed + counts.direct + len(counts.failures)
    print(f"{total} connections: {counts.relayed} relayed, {counts.direct} direct, "
          f"{len(counts.failures)} failed; {counts.slow} of them of {SLOW_SECONDS} s and more",
          *counts.failures[:5])
    return 1 if counts.failures or counts.slow < SLOW else 0


sys.exit(main())
