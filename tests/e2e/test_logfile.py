# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Logs that are files: full, at their size limit, frozen, renamed, truncated, or closed. None of
this stops a connection, and a line is logged whole or not at all."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

import host
import programs
import wire
from harness import NOBODY
from programs import RELAY_GID, RELAY_UID
from test_handover import start  # pylint: disable=unused-import


@pytest.fixture(params=["plain", "background"])
def start_either(request, loaded):
    """Starts a relay, or one with a supervisor."""
    if request.param == "plain":
        return loaded.start_relay
    return request.getfixturevalue("start")


@pytest.fixture
def place(loaded):
    """A directory in which the relay may create files."""
    with tempfile.TemporaryDirectory(prefix="tproxy-") as directory:
        os.chown(directory, RELAY_UID, RELAY_GID)
        yield Path(directory)


def use(address, count):
    for _ in range(count):
        with wire.connect(address) as sock:
            sock.sendall(b"tproxy")
            wire.read_exactly(sock, 6)


def lines(path):
    """Parses every line: a torn line does not parse."""
    text = path.read_text() if path.exists() else ""
    assert text.endswith("\n") or not text
    return [json.loads(line) for line in text.splitlines()]


def whole_lines(path):
    """The number of lines. For waiting, because a write in progress is seen in part."""
    return path.read_text().count("\n") if path.exists() else 0


def counter(relay, pattern):
    relay.signal(signal.SIGUSR1)
    return int(host.wait_until(lambda: re.findall(pattern, relay.text()), "told")[-1])


def lost(relay):
    return counter(relay, r"that were dropped: (\d+)")


def test_limit_of_size(loaded, place, start_either):
    """ulimit -f: SIGXFSZ would end the relay and its supervisor.

    Fails without signal(SIGXFSZ, SIG_IGN) in sink_init(); lines are torn without cut_off() in
    logfile.c.
    """
    log = place / "connections"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    address, = loaded.echo_server()
    with log.open("ab") as out:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limit[1]))
        try:
            relay = start_either("--connection-log", "json", out=out, verbose=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    loaded.run_in(use, address, 60)
    host.wait_until(lambda: "dropped from stdout: File too large" in relay.text(), "it is said")
    assert relay.running() and loaded.stats()["redirected"] == 60
    host.wait_until(lambda: lost(relay) + whole_lines(log) == 60, "the others are counted")
    assert 10 < len(lines(log)) < 60


def test_full_disk(loaded, place):
    """When there is room again, lines are logged again, and none is torn. Fails without
    cut_off()."""
    small = place / "small"
    with host.mounted("tmpfs", small, "size=16k,mode=777"):
        filler = small / "filler"
        filler.write_bytes(bytes(8192))
        with (small / "connections").open("ab") as out:
            relay = loaded.start_relay("--connection-log", "json", out=out, verbose=False)
        address, = loaded.echo_server()
        loaded.run_in(use, address, 60)
        host.wait_until(lambda: "No space left on device" in relay.text(), "it is said")
        host.wait_until(lambda: lost(relay) + whole_lines(small / "connections") == 60, "counted")
        full = len(lines(small / "connections"))
        filler.unlink()
        loaded.run_in(use, address, 3)
        host.wait_until(lambda: whole_lines(small / "connections") == full + 3, "three more")


@pytest.mark.needs("mkfs.ext4", "fsfreeze")
def test_frozen_disk(loaded, place):
    """As during a snapshot: a write waits and cannot be interrupted. Only the log's thread
    waits.

    Fails, by the timeout of use(), with write() in place of logfile_write() in sink_try().
    """
    image, frozen = place / "image", place / "frozen"
    image.touch()
    os.truncate(image, 16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    frozen.mkdir()
    mounted = subprocess.run(["mount", "-o", "loop", image, frozen], text=True,
                             capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no ext4 on a loop device: {mounted.stderr.strip()}")
    try:
        log = frozen / "connections"
        with log.open("ab") as out:
            relay = loaded.start_relay("--connection-log", "json", out=out, verbose=False)
        address, = loaded.echo_server()
        loaded.run_in(use, address, 3)
        host.wait_until(lambda: whole_lines(log) == 3, "three lines")
        subprocess.run(["fsfreeze", "-f", frozen], check=True)
        try:
            loaded.run_in(use, address, 1200, timeout=60)
            host.wait_until(lambda: "its disk does not answer in time" in relay.text(), "said")
            relay.signal(signal.SIGHUP)
            host.wait_until(lambda: "read the configuration again" in relay.text(), "reloaded")
            loaded.run_in(use, address, 10)
        finally:
            subprocess.run(["fsfreeze", "-u", frozen], check=True)
        host.wait_until(lambda: lost(relay) + whole_lines(log) == 1213, "the others")
        assert lost(relay) + len(lines(log)) == 1213
        assert loaded.stats()["redirected"] == 1213
        loaded.relays.remove(relay)
        relay.__exit__()
    finally:
        subprocess.run(["umount", "--lazy", frozen], check=True)


def test_renamed_file(loaded, place, start_either):
    """After SIGHUP there is a new file of that name. Fails without logfile_reopen() in on_hup()."""
    log, renamed = place / "connections", place / "connections.1"
    log.touch()
    os.chown(log, RELAY_UID, RELAY_GID)
    with log.open("ab") as out:
        relay = start_either("--connection-log", "json", out=out, verbose=False)
    address, = loaded.echo_server()
    loaded.run_in(use, address, 3)
    host.wait_until(lambda: whole_lines(log) == 3, "three lines")
    log.rename(renamed)
    loaded.run_in(use, address, 2)
    host.wait_until(lambda: whole_lines(renamed) == 5, "five lines")
    relay.signal(signal.SIGHUP)
    host.wait_until(log.exists, "a new file")
    host.wait_until(lambda: "read the configuration again" in relay.text(), "reloaded")
    loaded.run_in(use, address, 4)
    host.wait_until(lambda: whole_lines(log) == 4, "four lines")
    assert len(lines(renamed)) == 5


def test_renamed_file_that_cannot_be_made_again(loaded, place):
    """The failure is reported, and the renamed file is still used. Fails without check_log() in
    on_check()."""
    log, renamed = place / "connections", place / "connections.1"
    with log.open("ab") as out:
        relay = loaded.start_relay("--connection-log", "json", out=out, verbose=False)
    os.chown(place, 0, 0)
    log.rename(renamed)
    relay.signal(signal.SIGHUP)
    said = f"cannot open '{log}' again: Permission denied, stdout goes on where it was"
    host.wait_until(lambda: said in relay.text(), "it is said")
    address, = loaded.echo_server()
    loaded.run_in(use, address, 2)
    host.wait_until(lambda: whole_lines(renamed) == 2, "two lines")
    assert not log.exists()


def test_emptied_file(loaded, place):
    """copytruncate, of a file that a shell has opened with '>': the file gets no hole at its
    start.

    Fails without O_APPEND in logfile.c.
    """
    log = place / "connections"
    with log.open("wb") as out:
        relay = loaded.start_relay("--connection-log", "json", out=out, verbose=False)
    address, = loaded.echo_server()
    loaded.run_in(use, address, 3)
    host.wait_until(lambda: whole_lines(log) == 3, "three lines")
    os.truncate(log, 0)
    loaded.run_in(use, address, 2)
    host.wait_until(lambda: whole_lines(log) == 2, "two lines")
    assert relay.running()


@pytest.mark.parametrize("options", [["-v"], ["--connection-log", "json"],
                                     ["--drain-in-background", "-v"]], ids=" ".join)
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&-", ">&- 2>&-"])
def test_closed_descriptors(loaded, closed, options):
    """Log text would go to a socket, or to the pipe that libevent uses for signals.

    Fails, by the descriptors, without sink_init() in main().
    """
    argv = [*programs.unprivileged(RELAY_UID, RELAY_GID),
            loaded._binaries / programs.RELAY.name, "--pin-dir", loaded.pins.path, *options]
    relay = programs.Program("/bin/sh", "-c", f'exec "$@" {closed}', "sh", *argv,
                             place=loaded.relay_place, log=loaded.directory / "closed.log")
    with relay:
        registered = host.wait_until(lambda: loaded.tproxy_load.status()["relays"], "registered")
        address, = loaded.echo_server()
        loaded.run_in(use, address, 5)
        pid = registered[0]["pid"]
        for number in range(3):
            if f"{number or ''}{'<>>'[number]}&-" in closed or number == 1 and " >&-" in closed:
                assert os.readlink(f"/proc/{pid}/fd/{number}") == "/dev/null"
        assert loaded.stats()["redirected"] == 5
        os.kill(pid, signal.SIGTERM)
        assert relay.wait() == 0


@pytest.mark.parametrize("program", [["tproxy-load", "--help"], ["tproxy-load", "--version"],
                                     ["tproxy-relay", "--help"], ["tproxy-load", "--status"]],
                         ids=" ".join)
def test_answer_that_cannot_be_written(loaded, binaries, program):
    """A full disk or a closed stdout must not look like success. Fails without log_answered()."""
    options = ["--pin-dir", loaded.pins.path] if "--status" in program else []
    argv = [str(arg) for arg in [binaries / program[0], *program[1:], *options]]
    for redirect, why in ((">/dev/full", "No space left"), (">&-", "Bad file descriptor")):
        result = programs.call("/bin/sh", "-c", f'exec "$@" {redirect}', "sh", *argv)
        assert result.status == 1 and result.err.count("\n") == 1
        assert "cannot write the answer" in result.err and why in result.err


def test_load_whose_reader_goes(bed):
    """A load does not stop in the middle when the reader of its output exits. Fails unless main()
    ignores SIGPIPE."""
    argv = [bed.tproxy_load.binary, "--pin-dir", bed.pins.path, "--cgroup", bed.scope,
            "--relay-cgroup", bed.relay_cgroup, "-v"]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        loader = programs.Program(*argv, place=bed.bystander, log=bed.directory / "load.log",
                                  out=gone, err=gone)
        assert loader.wait() == 1, "not by a signal"
    assert bed.tproxy_load.status()["loaded"] is True


# --- what is said of connections that did not come about


def test_destination_that_fails(loaded):
    """The line has the errno, and no source address of the upstream connection. Fails without
    connect_error in session.c."""
    relay = loaded.start_relay("--connection-log", "json", verbose=False)
    closed = loaded.listen()
    address = closed.getsockname()
    closed.close()
    assert loaded.run_in(wire.fate, address) == wire.RESET
    line, = host.wait_until(lambda: [json.loads(line) for line in relay.complete_lines()
                                     if line.startswith("{")], "a line")
    assert line["reason"] == "destination failed" and line["from"] is None
    assert line["errno"] == 111 and line["error"] == "ECONNREFUSED"
    assert line["destination"] == "{}:{}".format(*address)


def test_destination_that_fails_in_words(loaded):
    relay = loaded.start_relay()
    assert loaded.run_in(wire.fate, NOBODY) == wire.RESET
    line, = host.wait_until(relay.connections, "a line")
    assert "destination failed (" in line and "0.0.0.0" not in line and ", from" not in line


def direct(address, count):
    for _ in range(count):
        assert wire.fate(address) == wire.RESET


@pytest.mark.parametrize("form", ["json", "text"])
def test_flood_of_direct_connections(loaded, form):
    """Any process may connect to the relay's own port, and could fill the log with lines.

    Fails if is_left_out() returns false.
    """
    loaded.accept_strangers()
    relay = loaded.start_relay("--connection-log", form, verbose=False)
    loaded.run_in(direct, relay.address, 300, place=loaded.bystander)
    host.wait_until(lambda: counter(relay, r"no recorded destination: (\d+)") == 300, "counted")
    said = [line for line in relay.text().splitlines()
            if "no recorded destination" in line and "connections ended" not in line]
    assert len(said) == 5
    if form == "json":
        line = json.loads(said[0])
        assert line["destination"] is None and line["from"] is None and "errno" not in line
    else:
        assert "-> unknown: " in said[0] and "connected to the relay's port itself" in said[0]
