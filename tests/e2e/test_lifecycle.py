# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Loader and relay start, stop and change in any order."""

import contextlib
import select
import signal
import socket
import struct
import time

import pytest

import host
import wire
from programs import ABI_VERSION, RELAY_GID, RELAY_UID


@contextlib.contextmanager
def clients_connecting(bed):
    """Clients connect one after the other while the block runs, and no connection may fail. Yields
    a list that afterwards contains their number."""
    (address,) = bed.echo_server()
    ours, theirs = map(bed.keep, socket.socketpair())

    def connect_until_told():
        count = 0
        while not select.select([theirs], [], [], 0)[0]:
            with wire.connect(address) as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x", f"connection {count}"
            count += 1
        return count

    task, counts = bed.task(connect_until_told), []
    yield counts
    ours.sendall(b"enough")
    counts.append(task.result())


def registered_pids(bed):
    return [entry["value"]["pid"] for entry in bed.pins.dump("map_config")]


def registrations(bed):
    """The registrations without the fields that a relay renews every second."""
    return [(entry["key"], {name: value for name, value in entry["value"].items()
                            if name != "alive_ns"}) for entry in bed.pins.dump("map_config")]


def redirected(bed):
    return bed.stats()["redirected"]


# --- a relay that cannot do its work refuses to start, in one line


def test_relay_without_anything_loaded(bed):
    bed.run_relay().refused(bed.pins.path, "tproxy-load")


def test_relay_with_a_pin_directory_of_others(bed):
    bed.pins.path.mkdir()
    bed.pins.path.chmod(0o755)
    bed.run_relay().refused(bed.pins.path)
    bed.pins.path.rmdir()


def test_relay_that_may_not_open_the_pins(loaded):
    loaded.run_relay(gid=RELAY_GID + 1).refused(loaded.pins.path, "--relay-group")


def test_relay_whose_port_is_taken(loaded):
    listener = loaded.listen("127.0.0.1", netns=loaded.client_net)
    address = "{}:{}".format(*listener.getsockname())
    loaded.run_relay("--listen", address).refused(address, "in use")


def test_relay_whose_address_is_not_here(loaded):
    loaded.run_relay("--listen", "192.0.2.1:0").refused("192.0.2.1:0")


def test_relay_of_another_abi_version(loaded):
    with loaded.pins.open("map_policy") as policy:
        policy.update(bytes(4), struct.pack("=I", 99).ljust(policy.value_size, b"\0"))
    loaded.run_relay().refused("99", f"version {ABI_VERSION}")


def test_relay_where_the_hooks_do_not_see_it(loaded):
    """Outside the scope and the relay cgroup it could not get destinations."""
    loaded.run_relay(place=loaded.bystander).refused("cgroup")
    assert loaded.pins.dump("map_config") == []


def test_relay_is_unprivileged(proxied):
    """It has no capability and no group but its own."""
    status = dict(line.split(":\t", 1) for line in
                  open(f"/proc/{proxied.relay.pid}/status").read().splitlines() if ":\t" in line)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert status["Uid"].split() == [str(RELAY_UID)] * 4
    assert status["Groups"].split() in ([], [str(RELAY_GID)])


# --- relays come and go


def test_relay_restarts(proxied):
    listener = proxied.listen()
    proxied.relay.signal(signal.SIGTERM)
    assert proxied.relay.wait() == 0
    assert not proxied.visit(listener).relayed
    proxied.start_relay()
    assert proxied.visit(listener).relayed


def test_relay_starts_again_after_a_crash(proxied):
    listener = proxied.listen()
    proxied.relay.kill()
    assert not proxied.visit(listener).relayed
    proxied.start_relay()
    assert proxied.visit(listener).relayed
    assert registered_pids(proxied) == [proxied.relay.pid]


@pytest.mark.parametrize("half_closed", [False, True])
def test_crash_with_live_connections_resets_them(proxied, half_closed):
    """A part must not look like the whole. To see it fail: remove sock_abort_on_close() from
    sock_prepare()."""
    client, server = proxied.pair()
    wire.exchange(client, server)
    if half_closed:
        client.shutdown(socket.SHUT_WR)
        assert wire.ended_by(server) == wire.EOF
    proxied.relay.kill()
    assert wire.ended_by(client) == wire.RESET
    if half_closed:
        def is_broken():
            try:
                server.sendall(b"to nobody")
            except (ConnectionResetError, BrokenPipeError):
                return True

        host.wait_until(is_broken, "the answer to it is a reset")
    else:
        assert wire.ended_by(server) == wire.RESET
    client.close()
    host.wait_until(proxied.pins.at_rest, "nothing is left")


def test_last_relay_to_register_wins(proxied):
    first = proxied.relay
    listener = proxied.listen()
    client, server = proxied.pair(listener)
    second = proxied.start_relay()
    assert registered_pids(proxied) == [second.pid]
    assert proxied.visit(listener).relayed
    second.signal(signal.SIGUSR1)
    host.wait_until(lambda: proxied.pins.count("map_ports") == 2, "both connections are live")
    relays = {entry["key"]["dst"]["port"] for entry in proxied.pins.dump("map_ports")}
    mine = {port for entry in proxied.pins.dump("map_config")
            for listen in entry["value"]["listen"] for port in listen["ports"]}
    assert first.address[1] in relays and len(relays & mine) == 1
    wire.exchange(client, server)


def test_older_relay_that_ends_keeps_the_registration_of_the_newer(proxied):
    """The order of an upgrade: the new relay starts, then the old one gets SIGTERM."""
    first = proxied.relay
    second = proxied.start_relay()
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    assert registered_pids(proxied) == [second.pid]
    assert proxied.visit(proxied.listen()).relayed


def test_newer_relay_that_is_killed(proxied):
    """Clients connect, with an older relay or without."""
    proxied.start_relay().kill()
    proxied.visit(proxied.listen())


def test_relay_stopped_and_continued(proxied):
    """Clients of a stopped relay wait, and are served when it continues."""
    listener = proxied.listen()
    proxied.relay.stop()
    client = proxied.connect(listener)
    client.sendall(b"waiting")
    proxied.relay.signal(signal.SIGCONT)
    server, _ = proxied.accept(listener)
    assert wire.read_exactly(server, 7) == b"waiting"


def test_relay_is_replaced_while_clients_connect(proxied):
    """No connection fails: the new relay registers, and the old one serves those on the way to
    it."""
    with clients_connecting(proxied) as counts:
        for _ in range(3):
            old = proxied.relay
            proxied.start_relay()
            old.signal(signal.SIGTERM)
            assert old.wait() == 0
    assert [redirected(proxied)] == counts and counts[0] > 100


# --- the loader meanwhile


def test_second_load_keeps_registration_and_connections(proxied):
    listener = proxied.listen()
    client, server = proxied.pair(listener)
    before = registrations(proxied)
    proxied.load()
    assert registrations(proxied) == before
    assert client.getpeername() == listener.getsockname()
    wire.exchange(client, server)
    assert proxied.visit(listener).relayed
    client.close()
    wire.ended_by(server)


def test_second_load_switches_the_policy(proxied):
    proxied.load("--include-loopback")
    assert proxied.visit(proxied.listen("127.0.0.1", netns=proxied.client_net)).relayed
    proxied.load("--fail-closed")
    proxied.relay.kill()
    with pytest.raises(ConnectionRefusedError):
        proxied.connect(proxied.listen())


def test_loading_while_clients_connect(proxied):
    """No connection fails while programs are replaced."""
    with clients_connecting(proxied) as counts:
        for load in range(5):
            host.wait_until(lambda: redirected(proxied) > 100 * load, "clients are redirected")
            proxied.load()
    assert [redirected(proxied)] == counts


def test_unload_with_live_connections(proxied):
    """Relayed connections continue, and new connections are direct."""
    listener = proxied.listen()
    client, server = proxied.pair(listener)
    proxied.unload()
    wire.exchange(client, server)
    assert not proxied.visit(listener).relayed
    client.close()
    assert wire.ended_by(server) == wire.EOF


def test_unloading_while_clients_connect(proxied):
    """No connection fails: one that was redirected a moment before still finds all that it
    needs.

    To see it fail: detach everything at once, or another hook before connect's.
    """
    with contextlib.ExitStack() as clients:
        for _ in range(6):
            clients.enter_context(clients_connecting(proxied))
        for times in (2, 3, 4):
            host.wait_until(lambda: redirected(proxied) > 300, "clients are redirected")
            proxied.unload()
            proxied.load()
            proxied.relay.wait_registered(times)


@pytest.mark.parametrize("what", ["unload", "load"])
def test_clients_of_a_late_relay(proxied, what):
    """They wait in its backlog during an unload, or a load with another relay cgroup. The
    loader gives the relay time to accept them and to ask for their destinations.

    To see it fail: let have_waiting() return false.
    """
    relay, listener = proxied.relay, proxied.listen()
    options = {"unload": ["--unload"],
               "load": ["--cgroup", proxied.scope, "--relay-cgroup", proxied.outside]}[what]
    with relay.stopped():
        clients = [proxied.connect(listener) for _ in range(8)]
        loader = proxied.tproxy_load.start(*options, place=proxied.bystander,
                                           log=proxied.directory / "loader.log")
        host.stays_true(loader.running, "it waits", 0.8)
    for client in clients:
        client.sendall(b"waiting")
    for _ in clients:
        assert wire.read_exactly(proxied.accept(listener)[0], 7) == b"waiting"
    assert loader.wait() == 0, loader.text()


def test_relay_registers_again_after_unload_and_load(proxied):
    listener = proxied.listen()
    proxied.unload()
    assert not proxied.visit(listener).relayed
    proxied.load()
    proxied.relay.wait_registered(times=2)
    assert proxied.visit(listener).relayed


def test_relay_ends_well_after_an_unload(proxied):
    proxied.unload()
    proxied.relay.signal(signal.SIGTERM)
    assert proxied.relay.wait(3) == 0


def test_signals_until_the_end(proxied):
    """Signals that come while the relay ends change nothing, up to its last moment. To see it fail:
    leave block_signals() out of relay_finish(): a signal after event_free() ends the relay."""
    pairs = [proxied.pair() for _ in range(8)]
    while proxied.relay.running():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            proxied.relay.signal(number)
    assert proxied.relay.wait() == 0
    assert wire.ended_by(pairs[0][0]) == wire.RESET


def test_readiness_is_notified(loaded):
    """sd_notify: READY=1 when it has registered, and not before."""
    path = loaded.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        path.chmod(0o777)
        sock.settimeout(wire.TIMEOUT)
        loaded.start_relay(env={"NOTIFY_SOCKET": str(path)})
        messages = [sock.recv(4096).decode()]
        assert "READY=1" in messages[0].splitlines()
        assert registered_pids(loaded) == [loaded.relay.pid]
        loaded.relay.signal(signal.SIGTERM)
        loaded.relay.wait()
        sock.setblocking(False)
        assert "STOPPING=1" in sock.recv(4096).decode().splitlines()
