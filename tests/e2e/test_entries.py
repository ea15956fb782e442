# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""I4 beyond what tproxy's hooks see: no entry without a socket stays, whatever failed before its
SYN, whichever other programs are on the hooks, and whatever was detached for a moment. And no user
takes all entries."""

import errno
import os
import re
import signal
import socket
import struct
import subprocess
import time

import pytest

import host
import host6
import maps
import wire
from harness import CLIENT
from maps import bpftool
from tproxyctl import binary, ctl  # noqa: F401 (fixtures)

IPPROTO_MPTCP = 262
SOURCE_PORT = 23456
SOCK_OPS, SOCK_OPS_ATTACH = 13, 3
ACTIVE_ESTABLISHED_CB = 4
RTT_CB = 12
PRIORITY = 5
USER = 1234
IPV6_FLOWLABEL_MGR, IPV6_FLOWINFO_SEND = 32, 33
IPV6_FL_A_GET, IPV6_FL_S_EXCL, IPV6_FL_F_CREATE = 0, 1, 1
FLOW_LABEL = 0x12345


def wait_at_rest(bed):
    host.wait_until(bed.pins.at_rest, "nothing is left in the maps")


def connect_from_one_source(address, protocol, count):
    """Connections that find no free port of the relay fail. Returns how many are recorded at the
    same time."""
    codes, socks = [], []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((CLIENT, SOURCE_PORT))
        codes.append(sock.connect_ex(address))
        socks.append(sock)
    return codes, socks


@pytest.mark.parametrize("protocol", [0, IPPROTO_MPTCP], ids=["tcp", "mptcp"])
def test_fails_before_its_syn(proxied, protocol):
    """No hook reports the end of a socket that the kernel made for itself. Fails if connect leaves
    an entry in map_socks (has_room() without its delete)."""
    (address,) = proxied.echo_server()
    ports = len(proxied.tproxy_load.status()["relays"][0]["listen"])
    codes, socks = proxied.run_in(connect_from_one_source, address, protocol, ports + 4)
    assert codes.count(0) == ports and codes.count(errno.EADDRNOTAVAIL) == 4
    assert proxied.pins.count("map_socks") == ports, "those that failed have one"
    for sock in socks:
        sock.close()
    wait_at_rest(proxied)
    assert proxied.stats()["stale"] == 0, "the sweep had to find them"


def take_flow_label(address):
    """From here on, the namespace may use a flow label only if the socket has asked for it."""
    sock = socket.socket(socket.AF_INET6)
    request = struct.pack("=16s4sBBHHHI", socket.inet_pton(socket.AF_INET6, address),
                          struct.pack("!I", FLOW_LABEL), IPV6_FL_A_GET, IPV6_FL_S_EXCL,
                          IPV6_FL_F_CREATE, 0, 0, 0)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, request)
    return sock


def connect_with_flow_label(address):
    """With a label that nobody has asked for. Returns the errno and the socket."""
    sock = socket.socket(socket.AF_INET6)
    sock.settimeout(wire.TIMEOUT)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1)
    return sock.connect_ex((*address, FLOW_LABEL + 1, 0)), sock


def test_refused_flow_label(loaded):
    """The kernel refuses the connection between connect's hook and the SYN, as without tproxy.
    Fails if connect leaves an entry in map_socks (has_room() without its delete)."""
    host6.give_addresses(loaded)
    loaded.start_relay()
    address = host6.listen(loaded).getsockname()[:2]
    loaded.keep(loaded.run_in(take_flow_label, address[0], place=loaded.bystander))
    for place in (loaded.bystander, loaded.client):
        code, sock = loaded.run_in(connect_with_flow_label, address, place=place)
        loaded.keep(sock)
        assert code == errno.EINVAL
    assert loaded.stats()["redirected"] == 1, "the hook did not run"
    assert loaded.pins.at_rest()


def talk(address, count):
    for _ in range(count):
        with wire.connect(address) as sock:
            sock.sendall(b"hi")
            assert wire.read_exactly(sock, 2) == b"hi"


# Programs of a cgroup run in the order in which they were attached, those above it after them.
@pytest.mark.parametrize("where, first", [("scope", "foreign"), ("scope", "tproxy"),
                                          ("top", "foreign")],
                         ids=["foreign", "tproxy", "above"])
@pytest.mark.parametrize("op", [maps.TCP_CONNECT_CB, ACTIVE_ESTABLISHED_CB],
                         ids=["connect", "established"])
@pytest.mark.parametrize("flags", [maps.RTT_CB_FLAG, 0], ids=["rtt", "none"])
def test_callback_flags_of_others(bed, op, flags, where, first):
    """A sockops program that sets its own flags clears tproxy's. Fails if client_released() leaves
    published sockets to STATE_CB (established, where ours runs first); if client_established() does
    nothing either (established-foreign, and connect, where ours runs first); if client_publish()
    does not set CLIENT_FLAGS either (connect-foreign)."""
    pin = bed.directory / "bpf" / "foreign_sockops"
    maps.load_sockops(pin, op, flags)
    cgroup = getattr(bed, where)
    if first == "tproxy":
        bed.load()
    bpftool("cgroup", "attach", cgroup, "cgroup_sock_ops", "pinned", pin, "multi")
    if first == "foreign":
        bed.load()
    try:
        bed.start_relay()
        (address,) = bed.echo_server()
        bed.run_in(talk, address, 10)
        wait_at_rest(bed)
        assert bed.stats()["stale"] == 0
    finally:
        bpftool("cgroup", "detach", cgroup, "cgroup_sock_ops", "pinned", pin)


def load_rtt_sockops(path):
    """Asks for RTT_CB at maps.TCP_CONNECT_CB, and sets SO_PRIORITY at RTT_CB."""
    maps._load(path, SOCK_OPS, SOCK_OPS_ATTACH,
               (0xBF, 0x16, 0, 0),                  # r6 = ctx
               (0x61, 0x12, 0, 0),                  # r2 = ctx->op
               (0x55, 0x02, 2, maps.TCP_CONNECT_CB),     # if r2 != op, skip the next two
               (0xB7, 2, 0, maps.RTT_CB_FLAG),
               (0x85, 0, 0, 59),                    # bpf_sock_ops_cb_flags_set(ctx, r2)
               (0x61, 0x62, 0, 0),                  # r2 = ctx->op
               (0x55, 0x02, 8, RTT_CB),             # if r2 != op, skip the next eight
               (0x62, 0x0A, -4, PRIORITY),
               (0xBF, 0x61, 0, 0), (0xB7, 2, 0, socket.SOL_SOCKET),
               (0xB7, 3, 0, socket.SO_PRIORITY), (0xBF, 0xA4, 0, 0), (0x07, 4, 0, -4),
               (0xB7, 5, 0, 4), (0x85, 0, 0, 49),   # bpf_setsockopt(), value at r10 - 4
               (0xB7, 0, 0, 1),
               maps._RETURN)


def priority_of_talk(address):
    with wire.connect(address) as sock:
        sock.sendall(b"hi")
        assert wire.read_exactly(sock, 2) == b"hi"
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY)


def test_callback_flags_stay_others(bed):
    """I5. A sockops program that runs before tproxy's keeps its callbacks. To see it fail: set
    flags alone in request_callbacks()."""
    pin = bed.directory / "bpf" / "foreign_sockops"
    load_rtt_sockops(pin)
    bpftool("cgroup", "attach", bed.scope, "cgroup_sock_ops", "pinned", pin, "multi")
    try:
        bed.load()
        bed.start_relay()
        (address,) = bed.echo_server()
        assert bed.run_in(priority_of_talk, address) == PRIORITY
        assert bed.stats()["redirected"] == 1
    finally:
        bpftool("cgroup", "detach", bed.scope, "cgroup_sock_ops", "pinned", pin)


def lose(bed, count):
    """Makes connections whose end no hook sees: the hooks are detached for a moment."""
    pairs = [bed.pair() for _ in range(count)]
    with bed.relay.stopped():  # it would sweep soon
        for hook in ("release", "sockops"):
            bpftool("link", "detach", "pinned",
                    bed.pins.path / f"link_{hook}_{bed.scope.path.stat().st_ino:x}")
        for client, server in pairs:
            client.close()
            server.close()
        assert bed.pins.count("map_socks") == bed.pins.count("map_ports") == count


def test_hooks_detached_for_a_moment(proxied):
    """The relay runs a sweep. Fails if sweep() in registration.c does nothing."""
    lose(proxied, 3)
    proxied.load()
    wait_at_rest(proxied)
    assert proxied.stats()["stale"] == 3
    assert proxied.visit(proxied.listen()).relayed


def test_living_entries_are_not_swept(proxied):
    """To see it fail: let has_socket() return false."""
    pairs = [proxied.pair() for _ in range(4)]

    def begun():
        return [entry["value"]["begun_ns"] for entry in proxied.pins.dump("map_sweep")
                if entry["value"]["entries"] == 4]

    host.wait_until(begun, "a pass")
    before = begun()
    host.wait_until(lambda: begun() > before, "another")
    assert proxied.pins.count("map_socks") == proxied.pins.count("map_ports") == 4
    assert proxied.stats()["stale"] == 0
    for client, server in pairs:
        wire.exchange(client, server)


@pytest.mark.needs("strace")
def test_pass_that_has_to_wait(proxied):
    """A pass of 0.4 s, of which the relay's thread does not run, delays the next one by no more
    than another. To see it fail: let thread_cpu_ns() return CLOCK_MONOTONIC."""
    def begun():
        return max([entry["value"]["begun_ns"] for entry in proxied.pins.dump("map_sweep")],
                   default=0)

    log = proxied.directory / "strace.log"
    with subprocess.Popen(["strace", "-q", "-f", "-e", "trace=bind", "-e",
                           "inject=bind:delay_enter=400000", "-o", log, "-p",
                           str(proxied.relay.pid)]) as strace:
        try:
            host.wait_until(lambda: log.exists() and re.search(r'"0\.0\.0\.0".*\(DELAYED\)',
                                                               log.read_text()), "a pass", 20)
        finally:
            strace.terminate()
    before = begun()
    host.wait_until(lambda: begun() > before, "the next pass", 30)


def test_client_that_binds_to_a_device_later(proxied):
    """The sweep does not find its socket and removes the entry. The connection continues, because
    the relay has its own copy, and nothing is counted twice. Fails if entries_delete() counts an
    entry that another program has deleted."""
    client, server = proxied.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    host.wait_until(proxied.pins.at_rest, "it is swept")
    assert proxied.stats()["stale"] == 1
    wire.exchange(client, server)
    client.close()
    assert server.recv(1) == b"" and not shares(proxied)


@pytest.mark.parametrize("command", ["connections", "status"])
def test_commands_show_no_dead_ones(proxied, ctl, command):
    """Also where no tproxy-relay runs sweeps. Fails if bpffs_sweep() does nothing."""
    lose(proxied, 2)
    with proxied.relay.stopped(), proxied.client_net.inside():
        host.wait_until(lambda: ctl(command).succeeded() and proxied.pins.at_rest(), "swept")
    assert proxied.stats()["stale"] == 2


# --- shares


def as_user(function, *args):
    os.setuid(USER)
    return function(*args)


def shares(bed):
    return {entry["key"]: entry["value"] for entry in bed.pins.dump("map_shares")
            if entry["value"]}


def test_shares_come_back(proxied):
    """Fails if entries_count() does not count deletions."""
    pairs = [proxied.pair() for _ in range(3)]
    (entry, *_) = [entry["value"] for entry in proxied.pins.dump("map_socks")]
    assert {index: 3 for index in entry["shares"]} == shares(proxied)
    for client, server in pairs:
        client.close()
        server.close()
    wait_at_rest(proxied)
    assert not shares(proxied)


@pytest.mark.parametrize("policy", [[], ["--fail-closed"]], ids=["open", "closed"])
def test_one_user_has_not_all(bed, policy):
    """A user that has used up its share gets the policy's answer, others are served. To see it
    fail: let share_is_free() return true."""
    bed.load(*policy)
    bed.start_relay()
    listener = bed.listen()
    sock = bed.keep(bed.run_in(as_user, wire.connect, listener.getsockname()))
    bed.accept(listener)
    (entry,) = bed.pins.dump("map_socks")
    user = struct.pack("=I", entry["value"]["shares"][0])
    with bed.pins.open("map_shares") as counters:
        counters.update(user, struct.pack("=q", 65536 // 4 * 3))
        if policy:
            with pytest.raises(ConnectionRefusedError):
                bed.run_in(as_user, wire.connect, listener.getsockname())
        else:
            direct = bed.keep(bed.run_in(as_user, wire.connect, listener.getsockname()))
            assert bed.accept(listener)[1] == direct.getsockname()
        other = bed.visit(listener)
        assert other.relayed
        counters.update(user, struct.pack("=q", 1))
    assert bed.stats()["over_share"] == 1
    for each in (sock, other.client, other.server):
        each.close()
    wait_at_rest(bed)


def test_share_that_is_used_up_before_the_syn(proxied):
    """A deferred SYN (Fast Open): since connect() other connections of the user have used up its
    share. Fails if entries_make() does not call share_is_free()."""
    listener = proxied.listen()
    sock = proxied.keep(proxied.run_in(as_user, wire.connect, listener.getsockname()))
    proxied.accept(listener)
    deferred = proxied.keep(proxied.run_in(as_user, wire.connect_deferred, listener.getsockname()))
    (entry,) = proxied.pins.dump("map_socks")
    user = struct.pack("=I", entry["value"]["shares"][0])
    with proxied.pins.open("map_shares") as counters:
        counters.update(user, struct.pack("=q", 65536 // 4 * 3))
        with pytest.raises(OSError):
            deferred.sendall(b"with the SYN")
        counters.update(user, struct.pack("=q", 1))
    assert proxied.stats()["publish_failed"] == 1
    assert proxied.pins.count("map_socks") == 1
    sock.close()
    wait_at_rest(proxied)
    assert not shares(proxied)


@pytest.mark.parametrize("policy", [[], ["--fail-closed"]], ids=["open", "closed"])
def test_no_memory_for_the_record(bed, policy):
    """The socket's options have used up the memory that the kernel allows. Fails if it is counted
    as MAP_FULL."""
    bed.load(*policy)
    bed.start_relay()
    listener = bed.listen()
    bed.client_net.sysctl("core/optmem_max", 64)
    if policy:
        with pytest.raises(ConnectionRefusedError):
            bed.connect(listener)
    else:
        assert not bed.visit(listener).relayed
    assert bed.stats()["no_storage"] == 1


@pytest.mark.deadline(60)
def test_namespace_without_a_relay(proxied):
    """Entries of a namespace that is gone, or has no relay any more: no sweep runs there, so relays
    of other namespaces remove them after some time. Fails if sweep_sock() skips them."""
    visit = proxied.visit(proxied.listen())
    (entry,) = proxied.pins.dump("map_socks")
    with proxied.pins.open("map_socks") as socks:
        value = socks.lookup(struct.pack("=Q", entry["key"]))
        gone, began_ns = struct.pack("=Q", 1 << 40), time.monotonic_ns() - 60_000_000_000
        socks.update(gone, struct.pack("=QQ", began_ns, 1 << 40) + value[16:])
        host.wait_until(lambda: socks.lookup(gone) is None, "it is removed", 20)
    wire.exchange(visit.client, visit.server)
    assert proxied.stats()["stale"] == 1
    assert proxied.pins.count("map_socks") == 1


def test_port_without_a_connection(proxied):
    """An entry of map_ports whose connection is in no map any more. To see it fail: let
    sweep_port() return at once."""
    visit = proxied.visit(proxied.listen())
    with proxied.pins.open("map_ports") as ports:
        key = ports.first_key()
        stale = key[:-8] + bytes(4 * [0xFF]) + key[-4:]  # another sequence number
        ports.update(stale, struct.pack("=Q", 1 << 40))
        host.wait_until(lambda: ports.lookup(stale) is None, "it is removed", 20)
        assert ports.lookup(key)
    assert proxied.stats()["stale"] == 1
    wire.exchange(visit.client, visit.server)
