# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The line for each connection, levels, limits, logs that nobody reads, and reload (SIGHUP)."""

import contextlib
import ctypes
import datetime
import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import tempfile
import threading
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
    return [json.loads(line) for line in relay.complete_lines() if line.startswith("{")]


def test_json(loaded):
    """One object on each line, of one version, with the client's process as the kernel half
    recorded it.

    To see it fail: answer TPROXY_SO_CONN with nothing in tproxy_sockopt().
    """
    relay = loaded.start_relay("--connection-log", "json")
    listener = loaded.listen()
    client, server_sees = one_connection(loaded, listener)
    host.wait_until(lambda: json_lines(relay), "a line")
    line, = json_lines(relay)
    ended = datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
    assert abs(datetime.datetime.now(datetime.timezone.utc) - ended).total_seconds() < 10
    assert list(line)[0] == "version" and line["version"] == 1
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
    assert line["id"] == wire.connection_id(client)


def named_visit(name, address):
    ctypes.CDLL(None).prctl(PR_SET_NAME, name)
    with wire.connect(address) as sock:
        sock.sendall(b"tproxy")
        wire.read_exactly(sock, 6)


@pytest.mark.parametrize("form", ["json", "text"])
def test_command_cannot_forge_a_line(loaded, form):
    """A program chooses its command name. To see it fail: print who->comm unescaped."""
    relay = loaded.start_relay("--connection-log", form, verbose=False)
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
    """A configuration file that the relay's user can read, unlike one in tmp_path."""
    with tempfile.TemporaryDirectory(prefix="tproxy-") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory) / "tproxy.conf"


def config(path, *lines):
    path.write_text("\n".join(["[relay]", *lines, ""]))


def reload(relay, answer):
    before = relay.text().count(answer)
    relay.signal(signal.SIGHUP)
    host.wait_until(lambda: relay.text().count(answer) > before, answer)


def test_hup_with_fewer_cpus(loaded, path):
    """A default number of workers is no change of the configuration. To see it fail:
    in reload() keep no number of workers that was not given."""
    config(path, "idle-timeout = 1h")
    relay = loaded.start_relay("--config", path)
    assert len(os.sched_getaffinity(relay.pid)) > 1, "this test needs two CPUs"
    os.sched_setaffinity(relay.pid, {min(os.sched_getaffinity(relay.pid))})
    reload(relay, "read the configuration again")
    config(path, "workers = 63")
    reload(relay, "'workers' cannot change while the relay runs")


@pytest.mark.needs("ss")
def test_hup_keepalive(loaded, path):
    """Established connections are changed too. To see it fail: do not call set_keepalive()."""
    def timer():
        return loaded.run("ss", "-Hnto", "dst", address,
                          place=loaded.relay_place).succeeded().out

    config(path)
    relay = loaded.start_relay("--config", path)
    listener = loaded.listen()
    address = "{}:{}".format(*listener.getsockname())
    wire.exchange(*loaded.pair(listener))
    host.wait_until(lambda: re.search(r"timer:\(keepalive,[45]min", timer()), "the default of 5m")
    config(path, "keepalive-time = 2h")
    reload(relay, "read the configuration again")
    host.wait_until(lambda: re.search(r"timer:\(keepalive,1(?:19|20)min", timer()), "2h")


def test_hup(loaded, path):
    """New timeouts apply to established connections. A wrong line leaves everything unchanged.

    To see it fail: do not call worker_configure() in on_hup().
    """
    config(path, "idle-timeout = 1h")
    relay = loaded.start_relay("--config", path)
    listener = loaded.listen()
    client, server = loaded.pair(listener)
    wire.exchange(client, server)

    config(path, "idle-timeout = 300ms", "half-closed-timeout = never")
    reload(relay, "going on with the one before")
    assert relay.says(f"{path}:3: half-closed-timeout: 'never' is not a duration")
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
    """Lines have a prefix with the level if JOURNAL_STREAM names stderr, and only then.

    To see it fail: let stderr_is_journal() return false.
    """
    log = loaded.directory / f"relay{len(loaded.relays)}.log"
    log.touch()
    stream = f"{log.stat().st_dev}:{log.stat().st_ino}"
    relay = loaded.start_relay("--max-connections", "9000000", env={"JOURNAL_STREAM": stream})
    assert relay.says("<6>registered pid")
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
    """Replaces the maps before the relay sees the originals."""
    bed.relay.stop()
    bed.load()
    with bed.pins.open("map_policy") as policy:
        policy.update(bytes(4), struct.pack("=I", 99).ljust(policy.value_size, b"\0"))
    bed.relay.signal(signal.SIGCONT)


@pytest.mark.parametrize("load, said, times",
                         [(of_another_group, "no permission to open the pins", 1),
                          (of_another_version, "holds ABI version 99", 3)],
                         ids=["group", "version"])
def test_what_stays_wrong_is_not_said_every_second(loaded, load, said, times):
    """The relay cannot register in the loaded maps. It tries every second, and logs this a few
    times.

    To see it fail: leave out log_limit_begin() in on_check(). For the group, and for any line
    at all: compare only the map's id in check_pin().
    """
    relay = loaded.start_relay()
    loaded.unload()
    load(loaded)
    host.wait_until(lambda: relay.text().count(said) >= times, "it is said", timeout=15)
    host.stays_true(lambda: relay.text().count(said) <= 5, "but only a few times", 5)
    loaded.unload()
    loaded.load()
    host.wait_until(lambda: len(relay.registrations()) == 2, "what is good is said at once")


# --- logs that nobody reads


class Reader:
    """A small pipe, and a thread that copies its contents to a file until it is told to stop."""

    def __init__(self, path):
        self._reading, self.end = os.pipe()
        fcntl.fcntl(self.end, fcntl.F_SETPIPE_SZ, 4096)
        self._path = path
        self._stop = threading.Event()

    def start(self):
        self._stop.clear()
        self._thread = threading.Thread(target=self._copy)
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join()

    def _copy(self):
        with self._path.open("ab", buffering=0) as file:
            while not self._stop.is_set():
                if select.select([self._reading], [], [], 0.05)[0]:
                    file.write(os.read(self._reading, 4096))

    def is_full(self):
        return not select.select([], [self.end], [], 0)[1]

    def go(self):
        self.stop()
        os.close(self._reading)
        self._reading = -1

    def close(self):
        if self._reading >= 0:
            self.go()
        os.close(self.end)


@pytest.fixture
def reader(loaded):
    """Closed before the bed, so that the bed's end does not depend on the behaviour under test."""
    with contextlib.closing(Reader(loaded.directory / "relay0.log")) as made:
        made.start()
        yield made


def use(address, count):
    for _ in range(count):
        with wire.connect(address) as sock:
            sock.sendall(b"tproxy")
            wire.read_exactly(sock, 6)


def counters(relay, pattern):
    """The counters that SIGUSR1 prints."""
    before = len(re.findall(pattern, relay.text()))
    relay.signal(signal.SIGUSR1)
    told = host.wait_until(lambda: re.findall(pattern, relay.text())[before:], "told")
    return int(told[-1])


def wait_ended(relay):
    """Waits until the relay has ended its sessions. The maps lose a client earlier."""
    host.wait_until(lambda: counters(relay, r"connections: (\d+) now") == 0, "all have ended")


def dropped(relay):
    return counters(relay, r"that were dropped: (\d+)")


def test_stdout_that_nobody_reads(loaded, reader):
    """Connections continue. Lines that do not fit are counted, and one line reports many of
    them.

    To see it fail: always call write() in sink_write(): the relay hangs.
    """
    reader.stop()
    relay = loaded.start_relay("--connection-log", "json", out=reader.end)
    address, = loaded.echo_server()
    loaded.run_in(use, address, 100)
    host.wait_until(reader.is_full, "no more room")
    assert os.get_blocking(reader.end), "it is shared with who started us"
    wait_ended(relay)
    assert relay.says("dropped from stdout: it is not read", 5)
    assert relay.text().count("dropped from stdout: it is not read") == 5
    lost = dropped(relay)
    assert 50 < lost < 100
    reader.start()
    host.wait_until(lambda: len(json_lines(relay)) == 100 - lost, "the others")


def test_stderr_that_nobody_reads(loaded, reader):
    """The same for all output to stderr. The next line that fits reports how many are missing.

    To see it fail: as above.
    """
    relay = loaded.start_relay(err=reader.end)
    address, = loaded.echo_server()
    reader.stop()
    loaded.run_in(use, address, 100)
    assert reader.is_full()
    host.wait_until(loaded.pins.at_rest, "all have ended")
    relay.signal(signal.SIGHUP)
    reader.start()
    host.wait_until(lambda: relay.connections(), "the lines that found room")
    lost = dropped(relay)
    assert lost > 50
    assert relay.says("messages were dropped here: it is not read")
    assert len(relay.connections()) <= 100 - 50


def test_reader_of_stdout_that_is_gone(loaded):
    """Connections continue, as with a reader that does not read. Ensured by workers that block
    signals, and by ignoring SIGPIPE."""
    reading, end = os.pipe()
    relay = loaded.start_relay("--connection-log", "json", out=end)
    os.close(reading)
    os.close(end)
    address, = loaded.echo_server()
    loaded.run_in(use, address, 10)
    wait_ended(relay)
    assert dropped(relay) == 10


def test_reader_of_stderr_that_is_gone(loaded, reader):
    """Nothing can be reported. To see it fail: leave SIGPIPE at its default."""
    relay = loaded.start_relay(err=reader.end)
    reader.go()
    address, = loaded.echo_server()
    for _ in range(3):
        relay.signal(signal.SIGUSR1)
        loaded.run_in(use, address, 10)
    assert relay.running()
