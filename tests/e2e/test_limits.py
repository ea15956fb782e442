# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Limits that are an option each: that the kernel is asked for what was said. Timeouts are in
test_relay.py, numbers of connections in test_overload.py and test_quota.py, ports in test_ports.py.
"""

import re
import signal
import subprocess

import pytest

import host
import wire

BULK = 8 << 20


def ss(bed, *filters):
    return bed.run("ss", "-Hnt", *filters, place=bed.relay_place).succeeded().out


@pytest.mark.needs("ss")
@pytest.mark.parametrize("options, backlog", [([], 4096), (["--backlog", 77], 77)])
def test_backlog(loaded, options, backlog):
    """To see it red: listen() with a number of its own."""
    loaded.start_relay(*options)
    rows = [line.split() for line in ss(loaded, "-l").splitlines()]
    assert {int(row[2]) for row in rows if row[3].startswith("127.0.0.1:")} == {backlog}


@pytest.mark.needs("ss")
@pytest.mark.parametrize("options, most", [([], 300), (["--keepalive-time", "100s"], 100)])
def test_keepalive_time(loaded, options, most):
    """To see it red: do not set TCP_KEEPIDLE in make_spare()."""
    loaded.start_relay(*options)
    listener = loaded.listen()
    wire.exchange(*loaded.pair(listener))
    address = "{}:{}".format(*listener.getsockname())

    def timer():
        return re.search(r"timer:\(keepalive,(?:(\d+)min)?(?:(\d+)sec)?",
                         ss(loaded, "-o", "dst", address))

    host.wait_until(timer, "it runs")
    minutes, seconds = (int(part or 0) for part in timer().groups())
    assert most - 20 < 60 * minutes + seconds <= most


def calls(bed, relay, names):
    """What the relay asks of the kernel while it passes a bulk transfer on."""
    listener = bed.listen()
    client, server = bed.pair(listener)
    table = bed.directory / "strace.log"
    with subprocess.Popen(["strace", "-q", "-f", "-e", f"trace={names}", "-o", table, "-p",
                           str(relay.pid)]) as trace:
        try:
            relay.wait_traced()
            stream = wire.Stream("limits", BULK)
            bed.task(wire.send_stream, server, stream, place=bed.server)
            assert stream.sha256() in str(wire.receive_stream(client))
        finally:
            trace.send_signal(signal.SIGINT)
    return table.read_text()


@pytest.mark.needs("strace")
@pytest.mark.parametrize("options, size", [([], 65536), (["--buffer-size", "8K"], 8192)])
def test_buffer_size(loaded, options, size):
    """Read at a time, so kept at most. To see it red: allocate and read 64 KiB."""
    relay = loaded.start_relay("--workers", 1, "--pipe-size", 0, *options)
    text = calls(loaded, relay, "recvfrom,splice,pipe2")
    assert set(re.findall(r"recvfrom\(\d+, .*, (\d+), 0", text)) == {str(size)}
    assert "splice(" not in text and "pipe2(" not in text


@pytest.mark.needs("strace")
@pytest.mark.parametrize("options, size", [([], 512 << 10), (["--pipe-size", "64K"], 64 << 10)])
def test_pipe_size(loaded, options, size):
    """To see it red: F_SETPIPE_SZ of another size."""
    # A small buffer is filled again and again, which begins a splice, however quick the relay is.
    relay = loaded.start_relay("--workers", 1, "--buffer-size", "8K", *options)
    text = calls(loaded, relay, "fcntl,splice")
    assert set(re.findall(r"F_SETPIPE_SZ, (\d+)\)", text)) == {str(size)}
    assert re.search(rf"splice\(\d+, NULL, \d+, NULL, {size}, ", text)


@pytest.mark.parametrize("option, value", [
    ("--buffer-size", "2M"), ("--buffer-size", "1K"), ("--pipe-size", "63K"), ("--backlog", "0"),
    ("--keepalive-time", "500ms"), ("--keepalive-time", "10h")])
def test_what_cannot_be(loaded, option, value):
    result = loaded.run_relay(option, value)
    assert result.status == 2 and option.lstrip("-") in result.err
    assert len(result.err.splitlines()) == 1
