# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a short connection costs the relay in system calls, so that it does not grow unnoticed."""

import re
import signal
import subprocess

import pytest

import host
from test_churn import visit_in_turn

CONNECTIONS = 300


def counts(summary):
    """{system call: calls} of the table that strace -c prints."""
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", summary, re.M)
    return {name: int(calls) for calls, name in rows if name != "total"}


@pytest.mark.needs("strace")
def test_short_connections(loaded, tmp_path):
    """28 of them and two waits for events, as of 0.1.0; see ARCHITECTURE.md for which.

    To see it red: ask getsockopt() once more for each session.
    """
    relay = loaded.start_relay("--workers", 1, "--connection-log", "none")
    addresses = loaded.echo_server(1)
    table = tmp_path / "strace"
    with subprocess.Popen(["strace", "-q", "-f", "-c", "-o", table, "-p", str(relay.pid)]) as trace:
        try:
            host.wait_until(lambda: "TracerPid:\t0" not in status(relay), "strace has attached")
            loaded.run_in(visit_in_turn, addresses, CONNECTIONS, timeout=60)
        finally:
            trace.send_signal(signal.SIGINT)
    calls = counts(table.read_text())
    each = {name: number / CONNECTIONS for name, number in calls.items()}
    assert sum(each.values()) < 29.5, each
    assert each["epoll_wait"] < 3.5, each
    assert each["epoll_ctl"] < 4.5, each
    # Small talk holds no pipe and copies once each way.
    assert "splice" not in calls and "pipe2" not in calls


def status(relay):
    with open(f"/proc/{relay.pid}/task/{relay.pid}/status", encoding="ascii") as file:
        return file.read()
