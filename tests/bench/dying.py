#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The clients of the workload failover: CLIENTS threads of one process connect, exchange and close.
Another process, which they do not keep from running, sends a signal to the upstream, and measures
the first connection after that. Prints as JSON what becomes of all of them.

dying.py ADDR PORT PID SIGNAL
"""

import json
import os
import signal
import socket
import sys
import threading
import time

CLIENTS = 64
BEFORE, AFTER = 0.5, 1.0  # seconds
TIMEOUT = 10


def exchange(address):
    """Returns begin, end and error of one connection."""
    begin, error = time.monotonic(), None
    try:
        with socket.create_connection(address, TIMEOUT) as sock:
            sock.sendall(b"E" * 64)  # OP_ECHO of pattern.h
            if len(sock.recv(64, socket.MSG_WAITALL)) != 64:
                error = "end of file"
    except OSError as failure:
        error = str(failure)
    return begin, time.monotonic(), error


def load(address, pipe):
    """The child: until it gets SIGTERM. Writes the outcomes."""
    outcomes, stop = [], threading.Event()

    def client():
        while not stop.is_set():
            outcomes.append(exchange(address))

    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with os.fdopen(pipe, "w") as file:
        json.dump(outcomes, file)


def main():
    address, (pid, number) = (sys.argv[1], int(sys.argv[2])), map(int, sys.argv[3:])
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        load(address, writable)
        os._exit(0)
    os.close(writable)
    time.sleep(BEFORE)
    death = time.monotonic()
    os.kill(pid, number)
    first = exchange(address)
    time.sleep(AFTER)
    os.kill(pid, signal.SIGKILL)  # what a stopped one has ends now
    os.kill(child, signal.SIGTERM)
    with os.fdopen(readable) as file:
        outcomes = json.load(file)
    os.waitpid(child, 0)
    after = [first, *(outcome for outcome in outcomes if outcome[0] > death)]
    errors = [error for _, _, error in after if error]
    print(json.dumps({
        "first_ms": (first[1] - death) * 1e3,
        "worst_ms": max(end - begin for begin, end, _ in after) * 1e3,
        "lost": sum(1 for begin, _, error in outcomes if error and begin <= death),
        "failed": len(errors), "reason": (errors or [None])[0]}))


if __name__ == "__main__":
    main()
