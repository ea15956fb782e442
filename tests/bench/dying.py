#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The client of the workload failover: CLIENTS threads that connect, exchange and close. Sends a
signal to a process meanwhile, and prints as JSON what becomes of the connections.

dying.py ADDR PORT PID SIGNAL
"""

import json
import os
import socket
import sys
import threading
import time

CLIENTS = 64
BEFORE, AFTER = 0.3, 1.0  # seconds
TIMEOUT = 10


class Client(threading.Thread):
    """One thread. It notes begin, end and error of each connection."""

    def __init__(self, address, stop):
        super().__init__()
        self.address, self.stop = address, stop
        self.outcomes = []

    def run(self):
        while not self.stop.is_set():
            begin, error = time.monotonic(), None
            try:
                with socket.create_connection(self.address, TIMEOUT) as sock:
                    sock.sendall(b"E" * 64)  # OP_ECHO of pattern.h
                    if len(sock.recv(64, socket.MSG_WAITALL)) != 64:
                        error = "end of file"
            except OSError as failure:
                error = str(failure)
            self.outcomes.append((begin, time.monotonic(), error))


def main():
    address, (pid, number) = (sys.argv[1], int(sys.argv[2])), map(int, sys.argv[3:])
    stop = threading.Event()
    clients = [Client(address, stop) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(BEFORE)
    death = time.monotonic()
    os.kill(pid, number)
    time.sleep(AFTER)
    stop.set()
    for client in clients:
        client.join()
    outcomes = [outcome for client in clients for outcome in client.outcomes]
    after = [outcome for outcome in outcomes if outcome[0] > death]
    good = [(begin, end) for begin, end, error in after if not error]
    errors = [error for _, _, error in after if error]
    print(json.dumps({
        "first_ms": (min((end for _, end in good), default=death) - death) * 1e3,
        "worst_ms": max((end - begin for begin, end in good), default=0) * 1e3,
        "lost": sum(1 for begin, _, error in outcomes if error and begin <= death),
        "failed": len(errors) if good else len(errors) or 1,
        "reason": (errors or ["none was completed"])[0] if errors or not good else None}))


if __name__ == "__main__":
    main()
