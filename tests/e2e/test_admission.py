# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Sessions that have begun are served first (accept throttle, proxy/session/admission.h). The test
reads the relay's system calls."""

import re
import signal
import subprocess

import pytest

from clients import connecting
import host

ACCEPTED = 500  # enough to look at
TURN = re.compile(r"epoll_wait(?:\(\d+, | resumed>)\[(.*)\], \d+, ")
READY = re.compile(r"events=EPOLLIN[^}]*, data=\{u32=(\d+)")
ACCEPT = re.compile(r"accept4\((\d+), ")


def turns(trace):
    """For each iteration of each thread's loop: the descriptors that were ready, and those on which
    it accepted a client."""
    found, last = [], {}
    for line in trace.splitlines():
        thread = line.split()[0]
        if turn := TURN.search(line):
            last[thread] = (set(map(int, READY.findall(turn[1]))), set())
            found.append(last[thread])
        elif (accept := ACCEPT.search(line)) and thread in last:
            last[thread][1].add(int(accept[1]))
    return found


def turns_that_wait(trace):
    """The number of iterations that left clients in the backlog."""
    seen = turns(trace)
    listening = set().union(*(taken for _, taken in seen))
    # The last line may be incomplete.
    return sum(bool(ready & listening) and not taken for ready, taken in seen[:-1])


@pytest.mark.needs("strace")
@pytest.mark.deadline(60)
@pytest.mark.parametrize("clients, wait", [(128, True), (4, False)], ids=["many", "few"])
def test_clients_wait(loaded, tmp_path, clients, wait):
    """While many clients connect, some iterations leave clients in the backlog, and all are
    served. With few clients none waits.

    To see it fail: do not call admission_wait() in on_client(); set LOAD_LEAST to 2.
    """
    relay = loaded.start_relay("--workers", 1, "--listeners", 1)
    table = tmp_path / "strace"

    def seen_enough():
        """On a slow machine the clients may connect in lockstep at first. Then none waits."""
        trace = table.read_text()
        return trace.count("accept4(") > ACCEPTED and (not wait or turns_that_wait(trace) > 0)

    # -v: otherwise strace ends a long list of events with "...".
    with connecting(loaded, clients) as outcome, subprocess.Popen(
            ["strace", "-q", "-f", "-v", "-e", "trace=accept4,epoll_wait", "-o", table, "-p",
             str(relay.pid)]) as trace:
        try:
            relay.wait_traced()
            host.wait_until(seen_enough, "it accepts, and clients wait", timeout=20)
        finally:
            trace.send_signal(signal.SIGINT)
    assert outcome.good > ACCEPTED / 2 and not outcome.failed
    assert (turns_that_wait(table.read_text()) > 0) == wait
