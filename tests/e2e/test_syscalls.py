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
@pytest.mark.parametrize("exempt", [True, False], ids=["by-its-cgroup", "by-marks"])
def test_short_connections(bed, tmp_path, exempt):
    """24 of them, one more for a mark, and two waits for events: accept4 twice, the second one
    finds nobody; SO_ORIGINAL_DST; socket, SO_LINGER, connect twice; four recv, two send, four
    epoll_ctl; shutdown, SO_LINGER twice, close twice. A tick now and then.

    To see it red: ask getsockopt() once more for each session; mark always, or never.
    """
    bed.load(relay_cgroup=exempt)
    relay = bed.start_relay("--workers", 1, "--busy-poll", 0, "--connection-log", "none",
                            place=bed.relay_place if exempt else bed.client)
    addresses = bed.echo_server(1)
    table = tmp_path / "strace"
    with subprocess.Popen(["strace", "-q", "-f", "-c", "-o", table, "-p", str(relay.pid)]) as trace:
        try:
            host.wait_until(lambda: "TracerPid:\t0" not in status(relay), "strace has attached")
            bed.run_in(visit_in_turn, addresses, CONNECTIONS, timeout=60)
        finally:
            trace.send_signal(signal.SIGINT)
    calls = counts(table.read_text())
    each = {name: number / CONNECTIONS for name, number in calls.items()}
    assert sum(each.values()) < (25.5 if exempt else 26.5), each
    assert each.get("bpf", 0) < 0.5 if exempt else 1 <= each["bpf"] < 1.5, each
    assert each["epoll_wait"] < 3.5, each
    assert each["epoll_ctl"] < 4.5, each
    # Small talk holds no pipe and copies once each way.
    assert "splice" not in calls and "pipe2" not in calls


def status(relay):
    with open(f"/proc/{relay.pid}/task/{relay.pid}/status", encoding="ascii") as file:
        return file.read()
