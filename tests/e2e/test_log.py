# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The line for each connection, and reading the configuration again (SIGHUP)."""

import json
import os
import signal
import socket
import tempfile
from pathlib import Path

import pytest

import host
import wire


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
