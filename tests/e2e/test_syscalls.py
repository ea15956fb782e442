# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The number of system calls of the relay for a short connection, so that it does not grow
unnoticed."""

import contextlib
import re
import signal
import subprocess

import pytest

from clients import connecting
import host
import host6
import proxies
from test_churn import visit_in_turn
from test_upstreams import section, use

CONNECTIONS = 300


def counts(summary):
    """{system call: calls} of the table that strace -c prints."""
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", summary, re.M)
    return {name: int(calls) for calls, name in rows if name != "total"}


@contextlib.contextmanager
def counting(relay, table):
    """Counts the system calls of the block with strace -c. The table is complete after it."""
    with subprocess.Popen(["strace", "-q", "-f", "-c", "-o", table, "-p", str(relay.pid)]) as trace:
        try:
            relay.wait_traced()
            yield
        finally:
            trace.send_signal(signal.SIGINT)


@pytest.mark.alone
@pytest.mark.needs("strace")
@pytest.mark.parametrize("exempt", [True, False], ids=["by-its-cgroup", "by-marks"])
def test_short_connections(bed, tmp_path, exempt):
    """29 calls, one more for a mark, and two waits for events: accept4 twice, the second one
    without a client; SO_ORIGINAL_DST; socket, SO_LINGER, SO_OOBINLINE, connect twice; four
    recv, each after SIOCATMARK, two send, four epoll_ctl; shutdown, SO_LINGER twice, close
    twice. A tick now and then.

    To see it fail: call getsockopt() once more for each session; mark always, or never.
    """
    bed.load(relay_cgroup=exempt)
    relay = bed.start_relay("--workers", 1, "--busy-poll", 0, "--connection-log", "none",
                            place=bed.relay_place if exempt else bed.client)
    addresses = bed.echo_server(1)
    table = tmp_path / "strace"
    with counting(relay, table):
        bed.run_in(visit_in_turn, addresses, CONNECTIONS, timeout=60)
    calls = counts(table.read_text())
    each = {name: number / CONNECTIONS for name, number in calls.items()}
    assert sum(each.values()) < (30.5 if exempt else 31.5), each
    assert each.get("bpf", 0) < 0.5 if exempt else 1 <= each["bpf"] < 1.5, each
    assert each["epoll_wait"] < 3.5, each
    assert each["epoll_ctl"] < 4.5, each
    # Small messages use no pipe, and are copied once each way.
    assert "splice" not in calls and "pipe2" not in calls


@pytest.mark.alone
@pytest.mark.needs("strace", "microsocks")
def test_short_connections_through_socks5(bed, tmp_path):
    """34 calls, and four waits for events: what a direct connection takes, two send and three recv
    for the handshake, and TCP_QUICKACK twice. Its answers are waited for by the same entry of
    epoll as the server's bytes after them.

    To see it fail: let half_wait_read() in take_socket() run after event_del(); leave out
    handshake_io::least; read after flush() in handshake_run().
    """
    host6.give_addresses(bed)
    bed.load(relay_cgroup=True)
    use(bed, section(bed, "one", proxies.microsocks(bed)),
        options=("--workers", 1, "--busy-poll", 0, "--connection-log", "none"))
    addresses = bed.echo_server(1)
    table = tmp_path / "strace"
    with counting(bed.relay, table):
        bed.run_in(visit_in_turn, addresses, CONNECTIONS, timeout=60)
    each = {name: number / CONNECTIONS for name, number in counts(table.read_text()).items()}
    assert sum(each.values()) < 39.5, each
    most = {"setsockopt": 6.5, "recvfrom": 7.5, "sendto": 4.5, "epoll_ctl": 4.5, "epoll_wait": 5.5}
    assert all(each[name] < limit for name, limit in most.items()), each


@pytest.mark.alone
@pytest.mark.needs("strace")
def test_concurrent_clients(loaded, tmp_path):
    """64 clients at a time, which end with a reset: 25 calls each. TCP_QUICKACK is set twice,
    and clients that come together save waits.

    To see it fail: call getsockopt() once more for each session, or set TCP_QUICKACK once more.
    """
    relay = loaded.start_relay("--workers", 1, "--connection-log", "none")
    table = tmp_path / "strace"
    with counting(relay, table), connecting(loaded, 64) as outcome:
        host.wait_until(lambda: loaded.stats()["redirected"] > 2000, "clients connect", 20)
    calls = counts(table.read_text())
    each = {name: number / outcome.good for name, number in calls.items()}
    assert outcome.failed == []
    assert sum(each.values()) < 27, each
    most = {"setsockopt": 7, "getsockopt": 1.5, "recvfrom": 3.5, "epoll_ctl": 4.5, "epoll_wait": 1}
    assert all(each[name] < limit for name, limit in most.items()), each
