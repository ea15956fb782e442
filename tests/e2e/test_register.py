# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxyctl register: HAProxy and redsocks, which do not know tproxy, as relays. Refusals are in
test_register_refused.py."""

import json
import re
import signal
import socket
import struct
import threading
from functools import partial

import pytest

from clients import connecting
import host
import host6
import programs
import wire
from harness import SERVER
from registering import (PORT, ask_where_to, children, find_listener, free_of_marks, mark_of,
                         registered, serve_from_children, serve_where_to)
from registering import binary, ctl, doctor, haproxy, register  # fixtures

CLIENTS = 64
SIZE = 3000
SOCKS_PORT = 1080

REDSOCKS = """
base {{ log_debug = off; log_info = on; log = "stderr"; daemon = off; redirector = iptables; }}
redsocks {{ local_ip = 127.0.0.1; local_port = {port}; ip = 127.0.0.1; port = {socks};
            type = socks5; }}
"""


def more_clients(bed, count=300):
    """Waits until @count more connections are redirected."""
    before = bed.stats()["redirected"]
    host.wait_until(lambda: bed.stats()["redirected"] > before + count, "clients connect", 20)


# --- HAProxy


@pytest.mark.needs("haproxy")
def test_haproxy(loaded, haproxy, register):
    """Fail-closed: refused before, relayed afterwards. The client reaches its own server, which
    getpeername() names.

    To see it fail: let marks_set() set LISTENER without ATTACHED.
    """
    loaded.load("--fail-closed")
    listener = loaded.listen()
    relay = haproxy()
    with pytest.raises(ConnectionRefusedError):
        loaded.connect(listener)
    out = register("--pid", relay.pid).succeeded().out
    assert re.fullmatch(rf"registered pid {relay.pid}, uid {programs.RELAY_UID}, as the relay of "
                        rf"network namespace \d+: 127\.0\.0\.1:{PORT}\n", out)
    visit = loaded.visit(listener)
    assert visit.relayed and visit.client.getpeername() == listener.getsockname()
    visit.client.shutdown(socket.SHUT_WR)
    assert wire.ended_by(visit.server) == wire.EOF
    visit.server.close()
    assert wire.ended_by(visit.client) == wire.EOF
    # HAProxy's own connections, and those of bystanders, are direct.
    assert not loaded.visit(listener, place=loaded.relay_place).relayed
    assert not loaded.visit(listener, place=loaded.bystander).relayed
    visit.client.close()
    host.wait_until(loaded.pins.at_rest, "nothing is left")


@pytest.mark.needs("haproxy")
def test_bytes_are_exact(loaded, haproxy, register):
    register("--pid", haproxy().pid).succeeded()
    client, server = loaded.pair()
    up, down = wire.Stream("up", 20_000_000), wire.Stream("down", 30_000_000)
    received = []
    thread = threading.Thread(target=lambda: received.append(wire.swap_streams(server, down, up)))
    thread.start()
    assert wire.swap_streams(client, up, down) == (down.size, down.sha256())
    thread.join()
    assert received == [(up.size, up.sha256())]


@pytest.mark.needs("haproxy")
@pytest.mark.deadline(60)
def test_many_connections(loaded, haproxy, register):
    """Over four ports, in turn, which HAProxy's threads share."""
    loaded.load("--fail-closed")
    relay = haproxy(ports=range(PORT, PORT + 4))
    register("--pid", relay.pid).succeeded()
    (entry,) = registered(loaded)
    assert sorted(entry["listen"][0]["ports"][:4]) == list(range(PORT, PORT + 4))
    with connecting(loaded, CLIENTS, size=SIZE) as outcome:
        more_clients(loaded, 1500)
    assert outcome.failed == [] and outcome.bytes == outcome.good * SIZE > 0
    stats = loaded.stats()
    assert stats["redirected"] == outcome.good and stats["refused"] == 0
    host.wait_until(loaded.pins.at_rest, "nothing is left")


@pytest.mark.needs("haproxy")
def test_connection_to_the_port_itself(loaded, haproxy, register):
    """HAProxy gets no destination, and the rule in the man page rejects the connection. Otherwise
    HAProxy would connect to itself in a loop."""
    register("--pid", haproxy().pid).succeeded()
    listener = loaded.listen()
    for place in (loaded.client, loaded.bystander):
        assert loaded.run_in(wire.fate, ("127.0.0.1", PORT), place=place) in (wire.RESET, wire.EOF)
    assert loaded.visit(listener).relayed


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("options", [[], ["--fail-closed"]], ids=["open", "closed"])
def test_haproxy_killed(loaded, haproxy, register, options):
    """Another process that binds its port gets no connections.

    To see it fail: let is_our_listener() in target.bpf.h ignore the mark.
    """
    loaded.load(*options)
    relay = haproxy()
    register("--pid", relay.pid).succeeded()
    listener = loaded.listen()
    assert loaded.visit(listener).relayed
    relay.kill()

    def is_as_without_relay():
        if options:
            with pytest.raises(ConnectionRefusedError):
                loaded.connect(listener)
        else:
            assert not loaded.visit(listener).relayed

    is_as_without_relay()
    stranger = loaded.listen("127.0.0.1", PORT, netns=loaded.client_net)
    stranger.setblocking(False)
    is_as_without_relay()
    with pytest.raises(BlockingIOError):
        stranger.accept()
    assert loaded.stats()["no_listener"] == 2


@pytest.mark.needs("haproxy")
def test_next_load_forgets_it(loaded, haproxy, register):
    """It removes the entry, as that of a tproxy-relay that was killed. The entry of a running proxy
    stays."""
    relay = haproxy()
    register("--pid", relay.pid).succeeded()
    loaded.load()
    assert len(registered(loaded)) == 1 and loaded.visit(loaded.listen()).relayed
    relay.kill()
    assert f"registration of relay {relay.pid}," in loaded.load().err
    assert registered(loaded) == []


@pytest.mark.needs("haproxy")
def test_stopped_is_waited_for(loaded, haproxy, register):
    """It does not renew its registration, so it never counts as stale: its clients wait in the
    backlog.

    To see it fail: put the time into alive_ns too.
    """
    loaded.load("--fail-closed")
    relay = haproxy()
    register("--pid", relay.pid).succeeded()
    (entry,) = registered(loaded)
    assert entry["alive_ns"] == 0 and entry["registered_ns"] > 0 and entry["unreachable"] == 0
    relay.stop()
    listener = loaded.listen()
    client = loaded.connect(listener)
    relay.signal(signal.SIGCONT)
    wire.exchange(client, loaded.accept(listener)[0])


# --- restart and reload


@pytest.mark.needs("haproxy")
def test_restart(loaded, haproxy, register):
    """Another process with other sockets must register again. --remove of the old one is refused
    then."""
    loaded.load("--fail-closed")
    old = haproxy()
    register("--pid", old.pid).succeeded()
    listener = loaded.listen()
    assert loaded.visit(listener).relayed
    old.kill()
    new = haproxy()
    with pytest.raises(ConnectionRefusedError):
        loaded.connect(listener)
    assert f"it replaces relay {old.pid}" in register("--pid", new.pid).succeeded().out
    assert loaded.visit(listener).relayed
    register("--remove", "--pid", old.pid).refused(f"{old.pid} is not registered")


@pytest.mark.needs("haproxy")
def test_reload_by_another_process(loaded, haproxy, register):
    """haproxy -sf: the new process shares the port (SO_REUSEPORT) until the old one has closed
    it."""
    loaded.load("--fail-closed")
    old = haproxy()
    register("--pid", old.pid).succeeded()
    client, server = loaded.pair()
    new = haproxy("-sf", old.pid)
    register("--pid", new.pid).succeeded()
    assert [entry["pid"] for entry in registered(loaded)] == [new.pid]
    host.wait_until(lambda: not old.listens(), "the old one has closed the port")
    for _ in range(20):
        assert loaded.visit(loaded.listen()).relayed
    wire.exchange(client, server)
    client.close()
    server.close()
    assert old.wait() == 0


@pytest.mark.needs("haproxy")
@pytest.mark.deadline(60)
def test_reload_of_a_master_under_load(loaded, haproxy, register):
    """haproxy -W, as in its unit: the master is registered, and its workers hold the listeners
    and pass them on. Fail-closed: of thousands of connections none is refused, though register
    runs only after each reload.

    To see it fail: store the worker's PID, or search for listeners in the process itself only.
    """
    loaded.load("--fail-closed")
    master = haproxy("-W")
    register("--pid", master.pid).succeeded()
    with connecting(loaded, CLIENTS, size=SIZE) as outcome:
        for turn in range(1, 4):
            more_clients(loaded)
            workers = master.workers()
            master.signal(signal.SIGUSR2)
            host.wait_until(lambda: set(master.workers()) - set(workers) and
                            master.text().count("Loading success") == turn + 1, "a new worker", 10)
            more_clients(loaded)
            register("--pid", master.pid).succeeded()
    assert outcome.failed == [] and outcome.bytes == outcome.good * SIZE > 0
    (entry,) = registered(loaded)
    assert entry["pid"] == master.pid and entry["unreachable"] == 0
    assert loaded.stats()["refused"] == 0


@pytest.mark.needs("haproxy")
@pytest.mark.deadline(60)
def test_registered_again_and_again_under_load(loaded, haproxy, register):
    """A marked socket stays marked at every moment.

    To see it fail: remove the shortcut of marks_set() for sockets that are marked.
    """
    loaded.load("--fail-closed")
    relay = haproxy()
    register("--pid", relay.pid).succeeded()
    with connecting(loaded, CLIENTS, size=SIZE) as outcome:
        for _ in range(100):
            register("--pid", relay.pid).succeeded()
        more_clients(loaded)
    assert outcome.failed == [] and loaded.stats()["no_listener"] == 0


# --- with tproxy-relay


@pytest.mark.needs("haproxy")
def test_in_place_of_a_relay_of_ours(proxied, haproxy, register):
    """The last one to register gets connections. The relay keeps checking, and takes over when
    connections do not reach the other proxy."""
    relay = haproxy()
    out = register("--pid", relay.pid).succeeded().out
    assert out.endswith(f"; it replaces relay {proxied.relay.pid}\n")
    listener = proxied.listen()
    assert proxied.visit(listener).relayed
    host.stays_true(lambda: [entry["pid"] for entry in registered(proxied)] == [relay.pid],
                    "the relay looks on", 2.5)
    assert proxied.relay.connections_to(listener.getsockname()) == []
    relay.kill()
    assert not proxied.visit(listener).relayed
    host.wait_until(lambda: [entry["pid"] for entry in registered(proxied)] == [proxied.relay.pid],
                    "the relay takes over")
    assert proxied.visit(listener).relayed


def test_relay_of_ours_is_refused(proxied, register):
    register("--pid", proxied.relay.pid).refused("tproxy-relay", proxied.relay.pid)
    register("--remove", "--pid", proxied.relay.pid).refused("tproxy-relay", "stop it")
    assert proxied.visit(proxied.listen()).relayed


# --- what others show


@pytest.mark.needs("haproxy")
def test_json(loaded, haproxy, register):
    relay = haproxy(ports=[PORT, PORT + 1])
    answer = json.loads(register("--json", "--pid", relay.pid, "--port", PORT).succeeded().out)
    cookie = loaded.run_in(wire_cookie)
    assert answer == {"version": 1, "pin_dir": str(loaded.pins.path), "netns_cookie": cookie,
                      "pid": relay.pid, "uid": programs.RELAY_UID, "listen": [f"127.0.0.1:{PORT}"]}
    new = haproxy("-sf", relay.pid, ports=[PORT + 2])
    answer = json.loads(register("--json", "--pid", new.pid).succeeded().out)
    assert answer["replaced"] == relay.pid and answer["listen"] == [f"127.0.0.1:{PORT + 2}"]
    answer = json.loads(register("--json", "--remove", "--pid", new.pid).succeeded().out)
    assert answer == {"version": 1, "pin_dir": str(loaded.pins.path), "pid": new.pid,
                      "removed": [cookie]}


def wire_cookie():
    with socket.socket() as sock:
        return struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, 71, 8))[0]


@pytest.mark.needs("haproxy")
def test_status_and_doctor(loaded, haproxy, register, doctor):
    """To see it fail: take an alive_ns of 0 for old in is_alive(), or search for listeners in the
    process itself only."""
    relay = haproxy("-W")
    register("--pid", relay.pid).succeeded()
    (shown,) = loaded.tproxy_load.status()["relays"]
    assert shown["pid"] == relay.pid and shown["listen"] == [f"127.0.0.1:{PORT}"]
    assert shown["process_exists"] is True
    assert f" 127.0.0.1:{PORT}\n" in loaded.tproxy_load("--status").out
    diagnosis = doctor().fine()
    (well,) = diagnosis.about("relay", "ok")
    assert str(relay.pid) in well["what"] and "registered by tproxyctl" in well["what"]

    for worker in relay.workers():
        free_of_marks(loaded, worker, PORT)
    error = doctor().only("error", "relay", "not marked", relay.pid)
    assert "tproxyctl register --pid" in error
    register("--pid", relay.pid).succeeded()
    doctor().fine()
    relay.kill()
    host.wait_until(lambda: not relay.workers(), "its workers end with it")
    assert "tproxyctl register --pid" in doctor().only("error", "relay", "does not exist")


# --- --remove


@pytest.mark.needs("haproxy")
def test_remove(loaded, haproxy, register):
    """The entry and the marks are removed. Established connections continue."""
    loaded.load("--fail-closed")
    relay = haproxy()
    register("--pid", relay.pid).succeeded()
    client, server = loaded.pair()
    assert mark_of(loaded, relay.pid, PORT)
    assert f"pid {relay.pid}" in register("--remove", "--pid", relay.pid).succeeded().out
    assert registered(loaded) == [] and mark_of(loaded, relay.pid, PORT) is None
    wire.exchange(client, server)
    with pytest.raises(ConnectionRefusedError):
        loaded.connect(loaded.listen())
    register("--remove", "--pid", relay.pid).refused(f"{relay.pid} is not registered")
    register("--pid", relay.pid).succeeded()
    assert loaded.visit(loaded.listen()).relayed


@pytest.mark.needs("haproxy")
@pytest.mark.deadline(60)
def test_remove_under_load(loaded, haproxy, register):
    """Fail-open: clients that were redirected before are served, later ones are direct, and
    none fails.

    To see it fail: call unmark() before the entry is deleted.
    """
    relay = haproxy()
    with connecting(loaded, CLIENTS, size=SIZE) as outcome:
        for _ in range(5):
            register("--pid", relay.pid).succeeded()
            more_clients(loaded)
            register("--remove", "--pid", relay.pid).succeeded()
    assert outcome.failed == [] and outcome.good > 0
    assert loaded.stats()["no_listener"] == 0


@pytest.mark.needs("haproxy")
def test_remove_of_one_that_has_ended(loaded, haproxy, register):
    relay = haproxy()
    register("--pid", relay.pid).succeeded()
    relay.kill()
    register("--remove", "--pid", relay.pid).succeeded()
    assert registered(loaded) == []


# --- redsocks, and sockets of other shapes


@pytest.mark.needs("redsocks", "microsocks")
def test_redsocks(loaded, register):
    """With a SOCKS5 server, which is in the relay cgroup as well."""
    loaded.load("--fail-closed")
    config = loaded.directory / "redsocks.conf"
    config.write_text(REDSOCKS.format(port=PORT, socks=SOCKS_PORT))
    user = programs.unprivileged(programs.RELAY_UID, programs.RELAY_GID)

    def start(name, *argv):
        program = programs.Program(*user, *argv, place=loaded.relay_place,
                                   log=loaded.directory / f"{name}.log")
        return loaded._started.enter_context(program)

    start("microsocks", "microsocks", "-i", "127.0.0.1", "-p", SOCKS_PORT)
    redsocks = start("redsocks", "redsocks", "-c", config)
    host.wait_until(lambda: register("--pid", redsocks.pid).status == 0, "it listens")
    listener = loaded.listen()
    visit = loaded.visit(listener)
    assert visit.relayed and visit.client.getpeername() == listener.getsockname()
    with connecting(loaded, 16, size=SIZE, pause=0.01) as outcome:
        more_clients(loaded, 200)
    assert outcome.failed == [] and outcome.bytes == outcome.good * SIZE > 0
    assert redsocks.says("{}:{}".format(*listener.getsockname()))


def test_dual_stack_wildcard(loaded, register):
    """One socket at ::, for both families: it asks at SOL_IP and at SOL_IPV6. A client sees what
    the proxy learned."""
    host6.give_addresses(loaded)
    task = loaded.task(serve_where_to, socket.AF_INET6, "::", PORT, place=loaded.relay_place)
    host.wait_until(lambda: register("--pid", task.pid, "--port", PORT).status == 0, "it listens")
    (shown,) = loaded.tproxy_load.status()["relays"]
    assert shown["listen"] == [f"127.0.0.1:{PORT}"] and shown["listen6"] == [f"[::1]:{PORT}"]

    ask = partial(ask_where_to, loaded)
    assert ask(socket.AF_INET, (SERVER, 80)) == f"{SERVER} 80"
    assert ask(socket.AF_INET6, (host6.SERVER6, 81)) == f"{host6.SERVER6} 81"
    assert ask(socket.AF_INET6, host6.mapped((SERVER, 82))) == f"{SERVER} 82"


@pytest.mark.parametrize("family, address, only6, listen, listen6", [
    (socket.AF_INET, "0.0.0.0", False, "127.0.0.1", None),
    (socket.AF_INET, "127.0.0.9", False, "127.0.0.9", None),
    (socket.AF_INET6, "::", False, "127.0.0.1", "[::1]"),
    (socket.AF_INET6, "::", True, None, "[::1]"),
    (socket.AF_INET6, "::1", False, None, "[::1]"),
    (socket.AF_INET6, "::ffff:127.0.0.9", False, "127.0.0.9", None),
])
def test_addresses(loaded, register, family, address, only6, listen, listen6):
    """The address that is registered for a socket. A connection of that family reaches it."""
    host6.give_addresses(loaded)
    task = loaded.task(serve_where_to, family, address, PORT, only6, place=loaded.relay_place)
    host.wait_until(lambda: register("--pid", task.pid, "--port", PORT).status == 0, "it listens")
    (shown,) = loaded.tproxy_load.status()["relays"]
    assert shown.get("listen", [None])[0] == (listen and f"{listen}:{PORT}")
    assert shown.get("listen6", [None])[0] == (listen6 and f"{listen6}:{PORT}")
    assert (ask_where_to(loaded, socket.AF_INET, (SERVER, 9)) is None) == (listen is None)
    assert (ask_where_to(loaded, socket.AF_INET6, (host6.SERVER6, 9)) is None) == (listen6 is None)


def test_all_of_a_shared_port_are_marked(loaded, register):
    """SO_REUSEPORT: the kernel chooses among all sockets of a port, in a process and in its
    children.

    To see it fail: mark only the first socket of each port.
    """
    loaded.load("--fail-closed")
    task = loaded.task(serve_from_children, PORT, 8, place=loaded.relay_place)
    host.wait_until(lambda: sum(bool(find_listener(child, PORT, close=True))
                                for child in children(task.pid)) == 8, "they listen")
    register("--pid", task.pid, "--port", PORT).succeeded()
    (shown,) = loaded.tproxy_load.status()["relays"]
    assert shown["listen"] == [f"127.0.0.1:{PORT}"] and shown["pid"] == task.pid
    told = [ask_where_to(loaded, socket.AF_INET, (SERVER, 9)) for _ in range(100)]
    assert told == [f"{SERVER} 9"] * 100
    processes = children(task.pid)
    task.stop()
    host.wait_until(lambda: not set(processes) & set(loaded.relay_cgroup.pids()), "they end too")
