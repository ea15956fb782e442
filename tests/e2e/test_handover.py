# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxy-relay --drain-in-background: the process that was started ends at once, and its child
serves until another relay has registered. `systemctl restart` relies on this with the shipped
unit."""

import contextlib
import errno
import os
import random
import re
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from clients import connecting
import host
import programs
import wire

CLIENTS = 64
SIZE = 3000
LIFE_LEAST = 1.1  # seconds; a child that lived for less is not started again
SO_PASSCRED, SCM_CREDENTIALS = 16, 2


class Service(programs.Relay):
    """A relay with --drain-in-background: pid is the supervisor, relay_pid its child."""

    relay_pid = None

    def wait_registered(self, times=1):
        host.wait_until(lambda: len(self.registrations()) >= times or not self.running(),
                        "the relay registers", 10)
        assert self.running(), self.text()
        self.relay_pid = int(self.registrations()[-1][0])
        assert self.relay_pid != self.pid
        return self

    def stop_child(self):
        os.kill(self.relay_pid, signal.SIGSTOP)
        host.wait_until(lambda: host.thread_states(self.relay_pid) == {"T"}, "every thread stands")

    def gone(self):
        """Whether it has ended. Its parent is init by then, and some init processes leave a zombie
        for seconds."""
        if self.relay_pid is None:
            return True
        try:
            status = Path(f"/proc/{self.relay_pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        return re.search(r"^State:\s+[ZX]", status, re.MULTILINE) is not None

    def __exit__(self, *failure):
        super().__exit__(*failure)
        for _ in range(2):  # the first one starts the drain, the second one ends it
            with contextlib.suppress(ProcessLookupError):
                if self.relay_pid:
                    os.kill(self.relay_pid, signal.SIGTERM)
        host.wait_until(self.gone, "the child has ended")


@pytest.fixture
def start(loaded):
    """Starts a service, and waits until it is ready."""
    def start_one(*options, place=None, **program):
        log = loaded.directory / f"relay{len(loaded.relays)}.log"
        loaded.relay = Service(loaded._binaries / programs.RELAY.name, loaded.pins.path,
                               "--drain-in-background", "--drain-timeout", "5s", *options,
                               place=place or loaded.relay_place, log=log, **program)
        loaded.relays.append(loaded.relay)
        return loaded.relay.wait_registered()

    return start_one


def children(pid):
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except (FileNotFoundError, ProcessLookupError):
        return []


@host.needs_no_process
def errno_of(address):
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(address)


def registered_pids(bed):
    return [entry["value"]["pid"] for entry in bed.pins.dump("map_config")]


def ports(bed):
    (entry,) = bed.pins.dump("map_config")
    return [sorted(listen["ports"]) for listen in entry["value"]["listen"]]


@contextlib.contextmanager
def long_connections(bed, count=8):
    """They carry data before and after the block, and end well."""
    listener = bed.listen()
    pairs = [bed.pair(listener) for _ in range(count)]
    data = [random.randbytes(100_000) for _ in pairs]
    for (client, server), sent in zip(pairs, data, strict=True):
        client.sendall(sent[:SIZE])
        assert wire.read_exactly(server, SIZE) == sent[:SIZE]
    yield
    for (client, server), sent in zip(pairs, data, strict=True):
        client.sendall(sent[SIZE:])
        assert wire.read_exactly(server, len(sent) - SIZE) == sent[SIZE:]
        wire.exchange(server, client)
        client.close()
        assert wire.ended_by(server) == wire.EOF
        server.close()


@pytest.mark.deadline(90)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("options", [[], ["--workers", "1"]], ids=["", "one-worker"])
def test_restart_under_load(loaded, start, how, options):
    """64 clients without pause, fail-closed: none is refused or cut, and each byte comes back.
    Long connections survive the restart, which does not wait for them.

    To see it fail: let on_supervisor_gone() drain at once, or let drain() accept nothing more.
    """
    loaded.load("--fail-closed")
    start(*options)
    before = loaded.stats()["redirected"]
    with connecting(loaded, CLIENTS, size=SIZE) as outcome:
        for turn in range(1, 4):
            host.wait_until(lambda: loaded.stats()["redirected"] > before + 300 * turn,
                            "clients connect")
            with long_connections(loaded):
                old = loaded.relay
                old.signal(how)
                assert old.wait() == (0 if how == signal.SIGTERM else -signal.SIGKILL)
                old.killed = True
                start(*options)
                assert not old.gone(), "it did not wait for those that it serves"
                assert registered_pids(loaded) == [loaded.relay.relay_pid]
            host.wait_until(old.gone, "the old one has drained")
    assert outcome.failed == [] and outcome.good > 1000
    assert outcome.bytes == outcome.good * SIZE
    stats = loaded.stats()
    assert stats["redirected"] - before == outcome.good + 3 * 8
    assert stats["refused"] == stats["no_relay"] == stats["no_listener"] == 0
    host.wait_until(loaded.pins.at_rest, "nothing is left")


def test_reload_under_load(loaded, start):
    """SIGHUP reaches the relay: no connection is affected, and the new limit is in effect."""
    config = loaded.directory / "config"
    config.write_text("[relay]\nidle-timeout = 100s\n")
    loaded.load("--fail-closed")
    relay = start("--config", config)
    with connecting(loaded, CLIENTS, size=SIZE) as outcome:
        for turn in range(1, 4):
            host.wait_until(lambda: loaded.stats()["redirected"] > 300 * turn, "clients connect")
            config.write_text(f"[relay]\nidle-timeout = {turn}00s\n")
            relay.signal(signal.SIGHUP)
            host.wait_until(lambda: relay.text().count("read the configuration again") == turn,
                            "it is read")
    assert outcome.failed == [] and outcome.bytes == outcome.good * SIZE > 0
    assert loaded.stats()["refused"] == 0


@pytest.mark.deadline(60)
@pytest.mark.parametrize("policy", [[], ["--fail-closed"]], ids=["fail-open", "fail-closed"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_child_killed_under_load(loaded, start, policy, number):
    """Its connections, at most one for each client, are reset. Everybody else waits for the
    next child: none is refused and none is direct.

    To see it fail: do not call hold_listeners().
    """
    loaded.load(*policy)
    relay = start()
    listener, where = loaded.listen(), ports(loaded)
    with connecting(loaded, CLIENTS, size=SIZE) as outcome:
        for turn in range(1, 4):
            host.wait_until(lambda: loaded.stats()["redirected"] > 300 * turn, "clients connect")
            client, server = loaded.pair(listener)
            wire.exchange(client, server)
            time.sleep(LIFE_LEAST)
            os.kill(relay.relay_pid, number)
            assert [wire.ended_by(end) for end in (client, server)] == [wire.RESET] * 2
            relay.wait_registered(turn + 1)
    assert len(outcome.failed) <= 3 * CLIENTS, outcome.failed
    assert not any("refused" in failure or "timed out" in failure for failure in outcome.failed)
    assert outcome.bytes == outcome.good * SIZE and outcome.good > 1000
    stats = loaded.stats()
    assert stats["no_relay"] == stats["no_listener"] == stats["refused"] == 0
    assert ports(loaded) == where
    assert relay.says("was ended by", 3) and relay.text().count("was ended by") == 3
    assert relay.running()
    host.wait_until(loaded.pins.at_rest, "nothing is left")


def test_clients_wait_for_the_next_child(loaded, start):
    """A child hangs and is killed. The clients in its backlog are served."""
    relay = start("--workers", "1")
    listener = loaded.listen()
    time.sleep(LIFE_LEAST)
    relay.stop_child()
    clients = [loaded.connect(listener) for _ in range(20)]
    for number, client in enumerate(clients):
        client.sendall(b"%02d" % number)
    os.kill(relay.relay_pid, signal.SIGKILL)
    said = [wire.read_exactly(loaded.accept(listener)[0], 2) for _ in clients]
    assert sorted(said) == [b"%02d" % number for number in range(20)]
    relay.wait_registered(2)


def test_next_child_where_other_maps_are_pinned(loaded, start):
    """The old sockets have no mark in these maps, so the child makes new ones."""
    relay = start()
    time.sleep(LIFE_LEAST)
    relay.stop_child()
    loaded.unload()
    loaded.load()
    os.kill(relay.relay_pid, signal.SIGKILL)
    relay.wait_registered(2)
    assert loaded.visit(loaded.listen()).relayed


@pytest.mark.deadline(60)
def test_next_child_has_the_configuration_of_now(loaded, start):
    """It inherits the sockets and creates those that are missing. If the address has changed,
    all are new.

    To see it fail: bind none in bind_family() if some are inherited; inherit sockets whatever
    is_wanted() returns.
    """
    config = loaded.directory / "config"
    config.write_text("[relay]\nworkers = 2\nbacklog = 70\n")
    relay = start("--config", config)
    (inherited, _), listener = ports(loaded), loaded.listen()
    assert backlogs(loaded) == {"70"}

    def next_child(text, times):
        time.sleep(LIFE_LEAST)
        config.write_text(text)
        os.kill(relay.relay_pid, signal.SIGKILL)
        relay.wait_registered(times)
        for _ in range(8):
            assert loaded.visit(listener).relayed
        return ports(loaded)[0]

    more = next_child("[relay]\nworkers = 8\nbacklog = 80\n", 2)
    assert relay.says("workers 8") and backlogs(loaded) == {"80"}
    assert len(set(more) - {0}) == 8 and set(inherited) < set(more)
    next_child("[relay]\nworkers = 2\nlisten = 127.0.0.2:0\n", 3)
    assert relay.registrations()[-1][1] == "127.0.0.2" and listening(loaded) == {"127.0.0.2"}
    for times, first in ((4, 7655), (5, 7654)):
        now = next_child(f"[relay]\nworkers = 2\nlisten = 127.0.0.1:{first}\n", times)
        assert set(now) - {0} == {first, first + 1}


def test_next_child_with_a_configuration_that_is_not_valid(loaded, start):
    """It serves with the options of the start, and says so. To see it fail: parse into the options
    that are in use in read_options_again(), or do not warn."""
    config = loaded.directory / "config"
    config.write_text("[relay]\nworkers = 2\nbacklog = 70\n")
    relay = start("--config", config)
    time.sleep(LIFE_LEAST)
    config.write_text("[relay]\nworkers = 4\nbacklog = 80\nbogus = 1\n")
    os.kill(relay.relay_pid, signal.SIGKILL)
    relay.wait_registered(2)
    assert relay.says("bogus") and relay.says("using the one of the supervisor's start")
    assert backlogs(loaded) == {"70"} and relay.text().count("workers 2") == 2
    assert loaded.visit(loaded.listen()).relayed


def listeners(bed):
    """The output of ss(8) about all sockets that listen at loopback."""
    table = bed.run("ss", "-Hltn", "src", "127.0.0.0/8", place=bed.bystander).succeeded().out
    return [line.split() for line in table.splitlines()]


def backlogs(bed):
    """Without the sinks, whose backlog is 1."""
    return {fields[2] for fields in listeners(bed)} - {"1"}


def listening(bed):
    return {fields[3].rpartition(":")[0] for fields in listeners(bed)}


def sockets_of(pid):
    """The inode of each socket of a process."""
    found = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.update(re.findall(r"^socket:\[(\d+)\]$", os.readlink(entry.path)))
    return found


def listening_inodes(relay):
    """The inodes of all TCP sockets that listen in its network namespace, which are its own."""
    rows = [line.split() for table in ("tcp", "tcp6")
            for line in Path(f"/proc/{relay.relay_pid}/net/{table}").read_text().splitlines()]
    found = {row[9] for row in rows if row[3] == "0A"}
    assert found
    return found


@pytest.mark.deadline(60)
def test_descriptors_do_not_grow(loaded, start):
    """Supervisor and child have as many as before when listeners or children are replaced.

    To see it fail: do not call release() in take() in supervisor.c; do not call close() in
    adopt_inherited().
    """
    def descriptors():
        return tuple(len(os.listdir(f"/proc/{pid}/fd")) for pid in (relay.pid, relay.relay_pid))

    relay = start("--workers", 1)
    # It registers before the supervisor has copies of its listeners.
    host.wait_until(lambda: listening_inodes(relay) <= sockets_of(relay.pid), "they are held")
    before, times = host.settled(descriptors, "descriptors"), 1
    for _ in range(5):
        loaded.unload()
        loaded.load()
        times += 1
        relay.wait_registered(times)
        host.wait_until(lambda: descriptors() == before, f"{before}, and {descriptors()} now")
    for kept in (True, False):
        time.sleep(LIFE_LEAST)
        if not kept:
            relay.stop_child()
            loaded.unload()
            loaded.load()
        os.kill(relay.relay_pid, signal.SIGKILL)
        times += 1
        relay.wait_registered(times)
        host.wait_until(lambda: descriptors() == before, f"{before}, and {descriptors()} now")


@pytest.mark.deadline(60)
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_signal_to_a_child_that_starts(loaded, start, number):
    """The signal does not kill it, and is handled.

    To see it fail: do not block signals in main().
    """
    relay = start()

    def sent_while_it_starts():
        """Returns true if a signal was sent while the child started. If this process got no CPU in
        time, none was."""
        before, sent = len(relay.registrations()), False
        time.sleep(LIFE_LEAST)
        os.kill(relay.relay_pid, signal.SIGKILL)
        while relay.running() and len(relay.registrations()) == before:
            starts = set(children(relay.pid)) - {relay.relay_pid}
            relay.signal(number)
            sent = sent or (starts and len(relay.registrations()) == before)
            time.sleep(0.0002)
        relay.wait_registered(before + 1)
        return sent

    host.wait_until(sent_while_it_starts, "a signal to a child that starts", 20)
    heard = "configuration again" if number == signal.SIGHUP else "connections: "
    host.wait_until(lambda: heard in relay.text(), "it is heard")
    assert loaded.visit(loaded.listen()).relayed


def test_stop_after_a_drain_has_begun(loaded, start):
    """SIGQUIT drains without a deadline. SIGTERM then sets the deadline.

    To see it fail: let on_supervisor_gone() return if it drains.
    """
    relay = start("--drain-timeout", "300ms")
    client, server = loaded.pair()
    wire.exchange(client, server)
    relay.signal(signal.SIGQUIT)
    host.wait_until(lambda: "draining 1 connections" in relay.text(), "it drains")
    time.sleep(0.4)
    wire.exchange(client, server)
    relay.signal(signal.SIGTERM)
    assert relay.wait() == 0
    assert [wire.ended_by(end) for end in (client, server)] == [wire.RESET] * 2
    host.wait_until(relay.gone, "it has ended")


def test_child_that_cannot_live(loaded, start):
    """A child that is killed at once is not started again. Restarts are left to the service
    manager, which limits them."""
    # When the supervisor ends, the leak sanitizer's process is a child too, and must not be killed.
    asan = programs.ENVIRONMENT["ASAN_OPTIONS"] + ":detect_leaks=0"
    relay = start(env={"ASAN_OPTIONS": asan})

    def all_killed():
        for pid in children(relay.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not relay.running()

    # On a slow machine the first child may have lived for long enough.
    host.wait_until(all_killed, "it gives up")
    assert relay.wait() == 1 and "was ended by: Killed" in relay.text()
    relay.killed = True


def test_stop_without_a_successor(loaded, start):
    """New connections are served for three seconds, established ones until they end."""
    relay = start()
    client, server = loaded.pair()
    relay.signal(signal.SIGTERM)
    assert relay.wait(1) == 0
    assert loaded.visit(loaded.listen()).relayed
    host.wait_until(lambda: registered_pids(loaded) == [], "it gives up", 10)
    assert relay.says("no other relay has taken over")
    assert not loaded.visit(loaded.listen()).relayed
    wire.exchange(client, server)
    assert not relay.gone()
    client.close()
    assert wire.ended_by(server) == wire.EOF
    server.close()


def test_drain_has_a_deadline(loaded, start):
    relay = start("--drain-timeout", "500ms")
    client, server = loaded.pair()
    wire.exchange(client, server)
    relay.signal(signal.SIGTERM)
    assert relay.wait(1) == 0
    start()
    assert [wire.ended_by(end) for end in (client, server)] == [wire.RESET] * 2
    host.wait_until(relay.gone, "the old one has ended")


def test_unload_ends_the_wait_for_a_successor(loaded, start):
    relay = start()
    relay.signal(signal.SIGTERM)
    assert relay.wait(1) == 0
    loaded.unload()
    host.wait_until(relay.gone, "nothing is to be taken over")
    assert "no other relay has taken over" not in relay.text()


def test_port_that_was_asked_for_is_shared(loaded, start):
    """Otherwise the new relay could not start before the old one ends. A new connection goes to
    either."""
    options = "--workers", "1", "--listen", "127.0.0.1:7654"
    old = start(*options)
    old.signal(signal.SIGTERM)
    assert old.wait(1) == 0
    start(*options)
    host.wait_until(old.gone, "the old one has drained")
    assert loaded.visit(loaded.listen()).relayed


def test_signals_go_to_the_relay(loaded, start):
    relay = start()
    relay.signal(signal.SIGUSR1)
    host.wait_until(lambda: "connections" in relay.text(), "counters are printed")
    relay.signal(signal.SIGQUIT)
    assert relay.wait() == 0
    assert relay.says("draining 0 connections") and relay.gone()


def test_supervisor_lets_go_when_the_relay_drains(loaded, start):
    """It closes its copies too, so no client waits at a socket where nobody accepts.

    To see it fail: do not call supervisor_hold() in drain().
    """
    relay = start()
    client, server = loaded.pair()
    (entry,) = loaded.pins.dump("map_config")
    listen = entry["value"]["listen"][0]
    relay.signal(signal.SIGQUIT)

    def refused():
        return {loaded.run_in(errno_of, ("127.0.0.1", port), place=loaded.bystander)
                for port in listen["ports"][:listen["n_ports"]]} == {errno.ECONNREFUSED}

    host.wait_until(refused, "its ports are closed")
    wire.exchange(client, server)
    assert relay.running() and not relay.gone()
    client.close()
    assert wire.ended_by(server) == wire.EOF
    server.close()
    assert relay.wait() == 0


def test_failure_to_start(bed):
    """The supervisor exits as its child does."""
    result = bed.run_relay("--drain-in-background")
    assert result.status == 1 and "tproxy-load" in result.err and len(result.err.splitlines()) == 1
    assert bed.run_relay("--drain-in-background", "--workers", "x").status == 2


def test_supervisor_notifies(loaded, start):
    """sd_notify: systemd listens to the process that it started (NotifyAccess=main)."""
    path = loaded.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSCRED, 1)
        sock.bind(str(path))
        path.chmod(0o777)
        sock.settimeout(wire.TIMEOUT)
        relay = start(env={"NOTIFY_SOCKET": str(path)})

        def message():
            data, ancillary, _, _ = sock.recvmsg(4096, 1024)
            (pid,) = [struct.unpack("3i", value)[0] for level, kind, value in ancillary
                      if kind == SCM_CREDENTIALS]
            return data.decode(), pid

        assert message() == ("READY=1", relay.pid)
        relay.signal(signal.SIGHUP)
        assert message() == ("RELOADING=1", relay.pid)
        assert message() == ("READY=1", relay.pid)
        relay.signal(signal.SIGTERM)
        assert message() == ("STOPPING=1", relay.pid)
        assert relay.wait(1) == 0
        host.wait_until(relay.gone, "it has drained")
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            message()
    assert relay.says("drains in the background")
