# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The line for each connection, levels, limits, and reading the configuration again (SIGHUP)."""

import ctypes
import json
import os
import re
import signal
import socket
import struct
import tempfile
from pathlib import Path

import pytest

import host
import wire

PR_SET_NAME = 15


def one_connection(bed, listener):
    client, server = bed.pair(listener)
    client.sendall(bytes(78))
    client.shutdown(socket.SHUT_WR)
    assert wire.read_to_end(server)[1] == wire.EOF
    server.sendall(bytes(200))
    server_sees = server.getpeername()
    server.close()
    wire.read_to_end(client)
    return client, server_sees


def json_lines(relay):
    return [json.loads(line) for line in relay.text().splitlines() if line.startswith("{")]


def test_json(loaded):
    """One object a line, with what the kernel half knows of the client.

    To see it red: answer TPROXY_SO_CONN with nothing in tproxy_sockopt().
    """
    relay = loaded.start_relay("--connection-log", "json")
    listener = loaded.listen()
    client, server_sees = one_connection(loaded, listener)
    host.wait_until(lambda: json_lines(relay), "a line")
    line, = json_lines(relay)
    assert line["client"] == "{}:{}".format(*client.getsockname())
    assert line["destination"] == "{}:{}".format(*listener.getsockname())
    assert line["from"] == "{}:{}".format(*server_sees)
    assert (line["bytes_up"], line["bytes_down"]) == (78, 200)
    assert line["reason"] == "closed"
    assert line["duration_ms"] < 60000
    assert line["command"] == "python3"
    assert line["uid"] == os.getuid()
    assert line["cgroup_id"] == loaded.scope.path.stat().st_ino
    assert line["pid"] > 1


def named_visit(name, address):
    ctypes.CDLL(None).prctl(PR_SET_NAME, name)
    with wire.connect(address) as sock:
        sock.sendall(b"tproxy")
        wire.read_exactly(sock, 6)


@pytest.mark.parametrize("form", ["json", "text"])
def test_command_cannot_forge_a_line(loaded, form):
    """It chooses its name. To see it red: print who->comm as it is."""
    relay = loaded.start_relay("--connection-log", form)
    address, = loaded.echo_server()
    loaded.run_in(named_visit, b'x"}\n<0>\x1b[2J\xff', address)
    host.wait_until(lambda: "destination" in relay.text() or relay.connections(), "a line")
    if form == "json":
        assert json_lines(relay)[0]["command"] == 'x"}?<0>?[2J?'
    else:
        assert '(x"}?<0>?[2J?), uid' in relay.connections()[0]
    assert relay.log.read_bytes().isascii() and "\x1b" not in relay.text()


def test_no_line_without_a_wish(loaded):
    relay = loaded.start_relay("--connection-log", "none")
    one_connection(loaded, loaded.listen())
    host.wait_until(loaded.pins.at_rest, "the connection has ended")
    relay.signal(signal.SIGUSR1)
    host.wait_until(lambda: "1 accepted" in relay.text(), "counters")
    assert "connection 127" not in relay.text()


@pytest.fixture
def path():
    """A configuration file that the relay's user can read, which one in tmp_path is not."""
    with tempfile.TemporaryDirectory(prefix="tproxy-") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory) / "tproxy.conf"


def config(path, *lines):
    path.write_text("\n".join(["[relay]", *lines, ""]))


def reload(relay, answer):
    before = relay.text().count(answer)
    relay.signal(signal.SIGHUP)
    host.wait_until(lambda: relay.text().count(answer) > before, answer)


def test_hup(loaded, path):
    """Timeouts hold for running connections; a wrong line leaves everything as it was.

    To see it red: do not call worker_configure() in on_hup().
    """
    config(path, "idle-timeout = 1h")
    relay = loaded.start_relay("--config", path)
    listener = loaded.listen()
    client, server = loaded.pair(listener)
    wire.exchange(client, server)

    config(path, "idle-timeout = 300ms", "half-closed-timeout = never")
    reload(relay, "going on with the one before")
    assert f"{path}:3: half-closed-timeout: 'never' is not a duration" in relay.text()
    config(path, "idle-timeout = 300ms", "workers = 63")
    reload(relay, "'workers' cannot change while the relay runs")
    wire.exchange(client, server)

    config(path, "idle-timeout = 300ms", "connection-log = json")
    reload(relay, "read the configuration again")
    assert wire.ended_by(client) == wire.RESET
    host.wait_until(lambda: json_lines(relay), "a line")
    assert json_lines(relay)[0]["reason"] == "idle timeout"


# --- journald


def test_levels_for_journald(loaded):
    """A prefix with the level where JOURNAL_STREAM names what stderr is, and nowhere else.

    To see it red: answer false in stderr_is_journal().
    """
    log = loaded.directory / f"relay{len(loaded.relays)}.log"
    log.touch()
    stream = f"{log.stat().st_dev}:{log.stat().st_ino}"
    relay = loaded.start_relay("--max-connections", "9000000", env={"JOURNAL_STREAM": stream})
    assert "<6>registered pid" in relay.text()
    assert re.search("^<4>--max-connections 9000000: ", relay.text(), re.MULTILINE)
    one_connection(loaded, loaded.listen())
    host.wait_until(lambda: "<6>connection 127" in relay.text(), "a line")
    assert all(re.match(r"<[3467]>", line) for line in relay.text().splitlines())
    other = loaded.start_relay(env={"JOURNAL_STREAM": stream})
    assert all(line.startswith("tproxy-relay: ") for line in other.text().splitlines())


# --- what is wrong again and again


def of_another_group(bed):
    bed.load("--relay-group", "1")


def of_another_version(bed):
    """Before the relay sees them as they were."""
    bed.relay.signal(signal.SIGSTOP)
    bed.load()
    with bed.pins.open("map_policy") as policy:
        policy.update(bytes(4), struct.pack("=I", 99).ljust(policy.value_size, b"\0"))
    bed.relay.signal(signal.SIGCONT)


@pytest.mark.parametrize("load, said", [(of_another_group, "is not ours to open"),
                                        (of_another_version, "holds ABI version 99")],
                         ids=["group", "version"])
def test_what_stays_wrong_is_not_said_every_second(loaded, load, said):
    """The relay cannot register in what was loaded, tries every second, and says so a few times.

    To see it red: leave out log_limit_begin() in on_check(). For the group, and that it is said at
    all: look only at the map's id in check_pin().
    """
    relay = loaded.start_relay()
    loaded.unload()
    load(loaded)
    host.wait_until(lambda: relay.text().count(said) >= 3, "it is said", timeout=15)
    host.stays_true(lambda: relay.text().count(said) <= 5, "but not for ever", 5)
    loaded.unload()
    loaded.load()
    host.wait_until(lambda: len(relay.registrations()) == 2, "what is good is said at once")
