# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Limits with an option each: the kernel gets the configured value. Timeouts are in test_relay.py,
numbers of connections in test_overload.py and test_quota.py, ports in test_ports.py."""

import contextlib
import ctypes
import os
import re
import signal
import socket
import stat
import subprocess

import pytest

import host
import wire
from harness import BLACKHOLE

BULK = 8 << 20
PIDFD_GETFD = 438


def ss(bed, *filters):
    return bed.run("ss", "-Hnt", *filters, place=bed.relay_place).succeeded().out


@pytest.mark.needs("ss")
@pytest.mark.parametrize("options, backlog", [([], 4096), (["--backlog", 77], 77)])
def test_backlog(loaded, options, backlog):
    """Beside each listener there is a sink, which accepts nothing.

    To see it fail: call listen() with a constant.
    """
    loaded.start_relay(*options)
    rows = [line.split() for line in ss(loaded, "-l").splitlines()]
    assert {int(row[2]) for row in rows if row[3].startswith("127.0.0.1:")} == {1, backlog}


@pytest.mark.needs("ss")
@pytest.mark.parametrize("options, most", [([], 300), (["--keepalive-time", "100s"], 100)])
def test_keepalive_time(loaded, options, most):
    """To see it fail: do not set TCP_KEEPIDLE in tuning_set_keepidle()."""
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


def options_of(bed, relay, listener, names):
    """Options of the relay's socket to a server, read by way of the relay's descriptors."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(relay.pid)
    try:
        for fd in map(int, os.listdir(f"/proc/{relay.pid}/fd")):
            copy = libc.syscall(PIDFD_GETFD, pidfd, fd, 0)
            if copy < 0:
                continue
            if not stat.S_ISSOCK(os.fstat(copy).st_mode):
                os.close(copy)
                continue
            with socket.socket(fileno=copy) as sock, contextlib.suppress(OSError):
                if sock.getpeername() == listener.getsockname():
                    return [sock.getsockopt(*name) for name in names]
    finally:
        os.close(pidfd)
    raise AssertionError("the relay has no such socket")


KEEP = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE)] + [
    (socket.IPPROTO_TCP, name)
    for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)]
USER_TIMEOUT = [(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)]


@pytest.mark.parametrize("time, interval", [("1s", 1), ("30s", 30), ("200s", 75)])
def test_keepalive_interval(loaded, time, interval):
    """Fails without TCP_KEEPINTVL in tuning_set_keepidle(): all probes but the first come at the
    host's interval of 75 s."""
    loaded.client_net.sysctl("ipv4/tcp_keepalive_intvl", 75)
    relay = loaded.start_relay("--keepalive-time", time)
    listener = loaded.listen()
    ends = loaded.pair(listener)
    wire.exchange(*ends)
    seconds = int(time[:-1])
    host.wait_until(lambda: options_of(loaded, relay, listener, KEEP)[:3] == [1, seconds, interval],
                    "the interval is set")


def connect_with(address, options):
    sock = socket.socket()
    sock.settimeout(wire.TIMEOUT)
    for level, name, value in options:
        sock.setsockopt(level, name, value)
    sock.connect(address)
    return sock


def test_client_options_are_passed_on(proxied):
    """Options that the client set before connect(). Fails without tuning_pass_options_on()."""
    listener = proxied.listen()
    asked = [(*name, value) for name, value in zip(KEEP + USER_TIMEOUT, [1, 7, 3, 4, 5500])]
    client = proxied.keep(proxied.run_in(connect_with, listener.getsockname(), asked))
    server, _ = proxied.accept(listener)
    wire.exchange(client, server)
    host.wait_until(lambda: options_of(proxied, proxied.relay, listener, KEEP + USER_TIMEOUT) ==
                    [1, 7, 3, 4, 5500], "they are set")


@pytest.mark.needs("ss")
def test_options_after_a_long_dial(loaded):
    """While a dial lasts, the session has no socket that could get them. The proxy answers the
    first client when the second one, whose turn is later, has its options.

    To see it fail: do not call session_start_keepalive() in on_dialled().
    """
    proxy = loaded.listen()
    config = loaded.directory / "relay.conf"
    config.write_text("[relay]\ndefault-upstream = a\n[upstream a]\ntype = http\n"
                      "address = {}:{}\n".format(*proxy.getsockname()))
    loaded.start_relay("--config", config, "--workers", 1)
    dials = []
    for _ in range(2):
        loaded.connect(BLACKHOLE)
        dials.append(loaded.accept(proxy)[0])
    for dial in reversed(dials):
        dial.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        host.wait_until(lambda port=dial.getpeername()[1]: "timer:(keepalive" in
                        ss(loaded, "-o", "sport", f":{port}"), "it has keepalive")


@pytest.mark.parametrize("asked, sends", [
    (dict(zip(USER_TIMEOUT, [2000])), True),
    (dict(zip(KEEP, [1, 1, 1, 2])), False)], ids=["user timeout", "keepalive"])
def test_client_learns_of_a_cut_cable(proxied, asked, sends):
    """In the time that it asked for, not after the host's 15 minutes. Fails without
    tuning_pass_options_on()."""
    listener = proxied.listen()
    client = proxied.keep(proxied.run_in(connect_with, listener.getsockname(),
                                         [(*name, value) for name, value in asked.items()]))
    server, _ = proxied.accept(listener)
    wire.exchange(client, server)
    host.wait_until(lambda: options_of(proxied, proxied.relay, listener, asked) ==
                    list(asked.values()), "they are set")
    proxied.server_net.ip("link set tproxy0 down")
    if sends:
        client.sendall(b"lost")
    assert wire.ended_by(client) == wire.RESET


def calls(bed, relay, names):
    """The system calls of the relay while it relays a bulk transfer."""
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
    """The number of bytes read at a time, which is the most that is kept. To see it fail: allocate
    and read 64 KiB."""
    relay = loaded.start_relay("--workers", 1, "--pipe-size", 0, *options)
    text = calls(loaded, relay, "recvfrom,splice,pipe2")
    # Data begin with a quote. Messages of the kernel about addresses are read too.
    assert set(re.findall(r'recvfrom\(\d+, ".*, (\d+), 0', text)) == {str(size)}
    assert "splice(" not in text and "pipe2(" not in text


@pytest.mark.needs("strace")
@pytest.mark.parametrize("options, size", [([], 512 << 10), (["--pipe-size", "64K"], 64 << 10)])
def test_pipe_size(loaded, options, size):
    """To see it fail: call F_SETPIPE_SZ with another size."""
    # A small buffer is filled again and again, which begins a splice, however fast the relay is.
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
