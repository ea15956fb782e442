# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""I2 at the last moment: a SYN for the relay does not leave the host, and does not reach a process
that has taken the relay's port by the time it is sent or retransmitted. And I9, I3: bytes reach the
destination that this very connect() asked for."""

import contextlib
import errno
import os
import select
import selectors
import signal
import socket
import struct
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

import host
import host6
import maps
import wire
from harness import CLIENT, SERVER, SERVER2
from host6 import CLIENT6, SERVER6, SERVER6_2
from registering import binary, ctl, haproxy, register  # noqa: F401 (fixtures)

POLICIES = pytest.mark.parametrize("policy", [[], ["--fail-closed"]], ids=["open", "closed"])
MARK = 7
LETTERS = b"A", b"B"
USER = 1234
SO_BINDTOIFINDEX = 62
VIP = "192.0.2.77"


def assert_answer_of_the_policy(bed, listener, policy, **options):
    if policy:
        with pytest.raises(ConnectionRefusedError):
            bed.connect(listener, **options)
    else:
        assert not bed.visit(listener, **options).relayed


def connected_marked(address):
    sock = socket.socket()
    sock.settimeout(wire.TIMEOUT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    sock.connect(address)
    return sock


def connect_marked(address, again=None):
    """Returns the errno, the device that the socket is bound to, and the errno of another attempt
    with it."""
    with socket.socket() as sock:
        sock.settimeout(wire.TIMEOUT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        codes = [sock.connect_ex(address)]
        if again:
            codes.append(sock.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0)
            codes.append(sock.connect_ex(again))
        return codes


def route_marked_away(bed):
    """Policy routing: connections with a mark leave the host, those to 127.0.0.1 too."""
    bed.client_net.ip(f"route add default via {SERVER} table 100",
                      f"rule add pref 5 fwmark {MARK} lookup 100",
                      "rule add pref 10 lookup local",
                      "rule del pref 0")


@POLICIES
def test_routed_away(bed, policy):
    """The first connection fails before its SYN, those that follow get the policy's answer, and
    users with normal routes are served. To see it fail: let strays() return false (then it
    hangs)."""
    bed.load(*policy)
    bed.start_relay()
    listener = bed.listen()
    route_marked_away(bed)
    assert bed.run_in(connect_marked, listener.getsockname()) == [errno.EHOSTUNREACH]
    assert bed.stats()["aborted"] == 1 and bed.pins.at_rest()
    expected = errno.ECONNREFUSED if policy else 0
    assert bed.run_in(connect_marked, listener.getsockname()) == [expected]
    assert bed.stats()["strayed"] == 1
    if not policy:
        bed.accept(listener)
    other = bed.keep(bed.run_in(as_user, wire.connect, listener.getsockname()))
    assert bed.accept(listener)[1] != other.getsockname(), "not relayed"


def test_socket_that_was_stopped_connects_again(proxied):
    """The binding that stopped its SYN is removed. Fails if client_close() does not bind to device
    0."""
    listener = proxied.listen()
    route_marked_away(proxied)
    with proxied.client_net.inside(), wire.listener(("127.0.0.1", 0)) as local:
        codes = proxied.run_in(connect_marked, listener.getsockname(), local.getsockname())
    assert codes == [errno.EHOSTUNREACH, 0, 0]


def connect_twice_as_user(address):
    os.setresuid(USER, USER, USER)
    sock = socket.socket()
    sock.settimeout(wire.TIMEOUT)
    return sock, [sock.connect_ex(address) for _ in range(2)], wire.connect(address)


def connect_again(sock, address):
    return sock.connect_ex(address), sock.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX)


def route_user_away(bed):
    bed.client_net.ip(f"route add default via {SERVER} table 100",
                      f"rule add pref 5 uidrange {USER}-{USER} lookup 100",
                      "rule add pref 10 lookup local",
                      "rule del pref 0")


def test_socket_of_a_user_that_was_stopped(proxied):
    """Without CAP_NET_RAW the kernel does not let the binding to the device be removed. That socket
    then fails at once, and a new one gets the policy's answer. With the capability the next
    connect() removes the binding. Fails if connect_run() does not call unbind()."""
    listener = proxied.listen()
    address = listener.getsockname()
    route_user_away(proxied)
    sock, codes, other = proxied.run_in(connect_twice_as_user, address)
    proxied.keep(sock)
    proxied.keep(other)
    assert codes == [errno.EHOSTUNREACH, errno.ENODEV]
    assert proxied.accept(listener)[1] == other.getsockname(), "the policy's answer is direct"
    proxied.client_net.ip("rule del pref 5")
    assert proxied.run_in(connect_again, sock, address) == (0, 0)
    assert proxied.accept(listener)[1] != sock.getsockname(), "not relayed"
    assert proxied.stats()["aborted"] == 1


def offered(bed):
    """The address at which the relay says that it listens."""
    return bed.tproxy_load.status()["relays"][0].get("listen")


@POLICIES
def test_address_moves_to_another_host(bed, policy):
    """Fails if local_is_reached() returns true."""
    bed.client_net.ip(f"addr add {VIP}/32 dev lo", f"route add default via {SERVER}")
    bed.load(*policy)
    bed.start_relay("--listen", f"{VIP}:3128", "--workers", 1, "--listeners", 1)
    listener = bed.listen()
    assert bed.visit(listener).relayed
    bed.client_net.ip(f"addr del {VIP}/32 dev lo")
    bed.server_net.ip(f"addr add {VIP}/32 dev lo")
    thief = bed.listen(VIP, 3128)
    host.wait_until(lambda: not offered(bed), "the relay sees it")
    assert_answer_of_the_policy(bed, listener, policy)
    assert not select.select([thief], [], [], 0)[0]
    bed.server_net.ip(f"addr del {VIP}/32 dev lo")
    bed.client_net.ip(f"addr add {VIP}/32 dev lo")
    host.wait_until(lambda: offered(bed), "it is back")
    assert bed.visit(listener).relayed


def outcomes(address, count):
    """The errno of each of @count attempts, 0 for a success."""
    codes = []
    for _ in range(count):
        with socket.socket() as sock:
            sock.settimeout(wire.TIMEOUT)
            codes.append(sock.connect_ex(address))
    return codes


@pytest.mark.needs("haproxy")
@POLICIES
def test_address_of_a_registered_proxy_moves(bed, haproxy, register, policy):
    """HAProxy does not see it and stays registered: the first SYN is stopped, and the user gets the
    policy's answer after that. To see it fail: let strays() return false (the other host gets the
    clients)."""
    bed.client_net.ip(f"addr add {VIP}/32 dev lo", f"route add default via {SERVER}")
    bed.load(*policy)
    register("--pid", haproxy(address=VIP).pid).succeeded()
    listener = bed.listen()
    assert bed.visit(listener).relayed
    bed.client_net.ip(f"addr del {VIP}/32 dev lo")
    bed.server_net.ip(f"addr add {VIP}/32 dev lo")
    thief = bed.listen(VIP, 3128)
    codes = bed.run_in(outcomes, listener.getsockname(), 2)
    assert codes == [errno.EHOSTUNREACH, errno.ECONNREFUSED if policy else 0]
    stats = bed.stats()
    assert stats["aborted"] == 1 and stats["strayed"] == 1
    assert not select.select([thief], [], [], 0)[0]


@POLICIES
def test_lo_is_down(bed, policy):
    """To see it fail: let local_is_reached() ignore lo."""
    bed.load(*policy)
    bed.start_relay()
    listener = bed.listen()
    bed.client_net.ip("link set lo down")
    host.wait_until(lambda: not offered(bed), "the relay sees it")
    assert_answer_of_the_policy(bed, listener, policy)
    bed.client_net.ip("link set lo up")
    host.wait_until(lambda: offered(bed), "it is back")
    assert bed.visit(listener).relayed


@POLICIES
def test_lo_is_down_before_the_relay_sees_it(bed, policy):
    """The relay's address belongs to another device, so the route to it, by lo, stays. Fails if
    strays() does not test for IFF_UP: connect() hangs."""
    bed.load(*policy)
    relay = bed.start_relay("--listen", f"{CLIENT}:3128", "--workers", 1, "--listeners", 1)
    listener = bed.listen()
    with relay.stopped():
        maps.Entry(bed).change(alive_ns=bytes(8))  # as without a heartbeat
        bed.client_net.ip("link set lo down")
        assert bed.run_in(connect_marked, listener.getsockname()) == [errno.EHOSTUNREACH]
        assert bed.stats()["aborted"] == 1 and bed.pins.at_rest()


# --- a stranger at the port of a relay that has died


def as_user(function, *args):
    os.setuid(USER)
    return function(*args)


def bind_all(ports):
    socks = []
    for port in ports:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host.wait_until(partial(can_bind, sock, port), "the port is free")
        sock.listen()
        socks.append(sock)
    return socks


def can_bind(sock, port):
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def ports_of(bed):
    (relay,) = bed.tproxy_load.status()["relays"]
    return [int(address.rpartition(":")[2]) for address in relay["listen"]]


def test_stranger_gets_no_deferred_syn(loaded):
    """To see it fail: let listener_is_gone() return false."""
    loaded.start_relay("--workers", 1)
    ports = ports_of(loaded)
    client = loaded.keep(loaded.run_in(wire.connect_deferred, loaded.listen().getsockname()))
    loaded.relay.kill()
    strangers = loaded.run_in(as_user, bind_all, ports, place=loaded.bystander)
    with pytest.raises(OSError):
        client.sendall(b"with the SYN")
    assert not select.select(strangers, [], [], 0.2)[0]
    assert loaded.stats()["aborted"] == 1 and loaded.pins.at_rest()


def fill(ports):
    """Connects to the relay's own ports until each leaves a SYN unanswered."""
    held = []
    for port in ports:
        missed = 0
        while missed < 3:
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            missed = 0 if select.select([], [sock], [], 0.05)[1] else missed + 1
            held.append(sock)
    signal.pause()


@pytest.mark.deadline(60)
def test_stranger_gets_no_repeated_syn(loaded):
    """A SYN was not answered, the relay dies, another process binds its port, and the SYN is
    retransmitted. To see it fail: do not call client_retransmits(), or set no TCP_USER_TIMEOUT
    there (then connect() does not end)."""
    loaded.accept_strangers()
    loaded.start_relay("--workers", 1, "--listeners", 1, "--backlog", 2)
    listener = loaded.listen()
    ports = ports_of(loaded)
    loaded.relay.stop()
    filler = loaded.task(fill, ports, place=loaded.bystander)
    syn_sent = partial(loaded.run, "ss", "-tnH", "state", "syn-sent", place=loaded.bystander)
    host.wait_until(lambda: len(syn_sent().out.splitlines()) >= 3, "the backlog is full")
    victim = loaded.task(partial(wire.connect, listener.getsockname(), timeout=60))
    host.wait_until(lambda: loaded.pins.count("map_ports") == 1, "its SYN is sent")
    filler.stop()
    loaded.relay.kill()
    strangers = loaded.run_in(as_user, bind_all, ports, place=loaded.bystander)
    with pytest.raises(OSError) as error:
        victim.result(60)
    assert error.value.errno, "it did not end by itself"
    assert not select.select(strangers, [], [], 0)[0]
    assert loaded.stats()["aborted"] == 1
    host.wait_until(loaded.pins.at_rest, "nothing is left")


def slow_lo(bed):
    """Delays the next packets on lo by half a second."""
    subprocess.run(["nsenter", f"--net={bed.client_net.path}", "tc", "qdisc", "replace", "dev",
                    "lo", "root", "tbf", "rate", "8kbit", "burst", "1600", "latency", "20s"],
                   check=True)
    with bed.client_net.inside(), socket.socket(type=socket.SOCK_DGRAM) as sock:
        for _ in range(2):  # each with the answer by ICMP
            sock.sendto(bytes(480), ("127.0.0.1", 9))


def speak(address):
    """A client that sends data. Returns the outcome."""
    with wire.connect(address, timeout=60) as sock:
        sock.sendall(b"for the server only")
        return sock.recv(100)


def syn_is_unanswered(bed):
    with bed.client_net.inside():
        _, *sockets = Path("/proc/thread-self/net/tcp").read_text().splitlines()
    return any(line.split()[3] == "02" for line in sockets)


def kill_with_a_syn_in_flight(bed):
    """A client whose SYN is still under way when the relay is dead, and a process that binds its
    port then. On a busy machine the relay may have answered by then: such a try does not count."""
    listener = bed.listen()
    for _ in range(5):
        relay = bed.start_relay("--workers", 1, "--listeners", 1)
        strangers = bed.task(as_user, bind_all, ports_of(bed), place=bed.bystander)
        slow_lo(bed)
        victim = bed.task(speak, listener.getsockname())
        host.wait_until(lambda: bed.pins.count("map_ports") == 1, "its SYN is sent")
        relay.kill()
        if syn_is_unanswered(bed):
            return victim, strangers.result()
        victim.stop()
        for stranger in strangers.result():
            stranger.close()
        host.wait_until(bed.pins.at_rest, "nothing is left")
    pytest.fail("the relay always answered first")


@pytest.mark.deadline(60)
def test_stranger_gets_no_syn_in_flight(loaded):
    """The relay dies and another process binds its port while a SYN is under way. That process gets
    the SYN, and nothing else. To see it fail: do not look for the listener in client_established(),
    or set no TCP_USER_TIMEOUT there (then the client waits forever)."""
    victim, strangers = kill_with_a_syn_in_flight(loaded)
    with pytest.raises(OSError) as error:
        victim.result(60)
    assert error.value.errno == errno.ETIMEDOUT, "it did not end by itself"
    assert not select.select(strangers, [], [], 0)[0]
    assert loaded.stats()["aborted"] == 1
    host.wait_until(loaded.pins.at_rest, "nothing is left")


# --- other people's programs that choose another address after ours


@pytest.mark.parametrize("policy", [[], ["--fail-closed"]], ids=["open", "closed"])
def test_address_that_others_choose_after_us(bed, policy):
    """Another program chooses another address after tproxy's. The connection is that program's,
    unless the policy is fail-closed. Fails if goes_to_relay() returns true: the connection is
    stopped, and the next ones of that user are direct."""
    bed.load(*policy)
    bed.start_relay()
    asked, chosen = bed.listen(), bed.listen(SERVER2)
    pin = bed.directory / "bpf" / "foreign"
    maps.load_connect4_to(pin, *chosen.getsockname())
    maps.bpftool("cgroup", "attach", bed.scope, "cgroup_inet4_connect", "pinned", pin, "multi")
    try:
        if policy:
            with pytest.raises(OSError):
                bed.connect(asked)
            assert bed.stats()["aborted"] == 1
        else:
            client = bed.connect(asked)
            server, _ = bed.accept(chosen)
            wire.exchange(client, server)
            assert bed.stats()["aborted"] == 0
    finally:
        maps.bpftool("cgroup", "detach", bed.scope, "cgroup_inet4_connect", "pinned", pin)
    assert bed.visit(asked).relayed


# --- I9: a source port that is used again


def test_connect_called_off_gets_another_port(proxied):
    """AF_UNSPEC, and then another server from the same port: the rest of the first handshake must
    not meet the second one. Fails if try_next() ignores last_port."""
    first, second = proxied.listen(SERVER), proxied.listen(SERVER2)

    def connect_twice():
        with socket.socket() as sock:
            sock.bind(("", 23457))  # port 0 would be released
            for listener in (first, second):
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
                select.select([], [sock], [], wire.TIMEOUT)
                (entry,) = proxied.pins.dump("map_socks")
                yield entry["value"]["relay"]["port"]
                wire.disconnect(sock)

    ports = proxied.run_in(lambda: list(connect_twice()))
    assert ports[0] != ports[1]



def slow_down_lo(bed):
    subprocess.run(["nsenter", f"--net={bed.client_net.path}", "tc", "qdisc", "add", "dev", "lo",
                    "root", "tbf", "rate", "32kbit", "burst", "100", "latency", "20s"], check=True)


def family_of(address):
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def use_port_twice(first, second, port):
    """Sends data to the first address, resets, and connects to the second from the same source
    port."""
    socks = []
    for address in (first, second):
        sock = socket.socket(family_of(address))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(20)
        sock.bind(("", port))
        sock.setblocking(not socks)
        sock.connect_ex(address)
        if not socks:
            sock.sendall(b"for the first")
            wire.reset(sock)
        socks.append(sock)
    return socks[1]


@pytest.mark.deadline(60)
@pytest.mark.parametrize("family", [4, 6])
def test_segments_of_a_connection_before(loaded, family):
    """The last segments of the previous connection come when another connection has its source
    port. To see it fail: set isn to 0 in tuple_of(), accepted_record() and pick_read()."""
    host6.give_addresses(loaded)
    loaded.start_relay("--workers", 1, "--listeners", 1)
    if family == 4:
        first, second = loaded.listen(SERVER), loaded.listen(SERVER2)
    else:
        first, second = host6.listen(loaded, SERVER6), host6.listen(loaded, SERVER6_2)
    slow_down_lo(loaded)
    loaded.keep(loaded.run_in(use_port_twice, first.getsockname(), second.getsockname(), 23456))
    while select.select([second], [], [], 3)[0]:
        sock, _ = loaded.accept(second)
        sock.settimeout(1)
        try:
            data = sock.recv(100)
        except (TimeoutError, ConnectionResetError):
            data = b""
        assert data == b""


# --- I3: only our own answer is a destination


@pytest.mark.needs("iptables-legacy")
@pytest.mark.parametrize("family", [4, 6])
def test_conntrack_is_not_asked(bed, family):
    """For a connection made to the relay itself, conntrack answers SO_ORIGINAL_DST with the relay's
    own address. To see it fail: use SO_ORIGINAL_DST in origdst_get(), and leave getsockopt_deny()
    out."""
    host6.give_addresses(bed)
    bed.load()
    bed.accept_strangers()
    bed.start_relay()
    for tool, address in (("iptables-legacy", "192.0.2.77"), ("ip6tables-legacy", "2001:db8::77")):
        subprocess.run(["nsenter", f"--net={bed.client_net.path}", tool, "-t", "nat", "-A",
                        "OUTPUT", "-p", "tcp", "-d", address, "--dport", "1", "-j", "REDIRECT",
                        "--to-ports", "2"], check=True)
    (relay,) = bed.tproxy_load.status()["relays"]
    name, _, port = relay["listen" if family == 4 else "listen6"][0].rpartition(":")
    name = name.strip("[]")
    before = bed.relay.descriptors()
    for place in (bed.client, bed.bystander):
        assert bed.run_in(end_of_direct, (name, int(port)), place=place) == b""
    assert bed.relay.descriptors() <= before + 2
    assert bed.visit(bed.listen()).relayed


def end_of_direct(address):
    try:
        with socket.create_connection(address, timeout=wire.TIMEOUT) as sock:
            return sock.recv(1)
    except ConnectionResetError:
        return b""


@pytest.mark.needs("iptables-legacy")
def test_others_do_not_get_conntracks_answer(loaded):
    """Proxies that tproxyctl registered use SO_ORIGINAL_DST. To see it fail: leave
    getsockopt_deny() out."""
    import test_abi
    subprocess.run(["nsenter", f"--net={loaded.client_net.path}", "iptables-legacy", "-t", "nat",
                    "-A", "OUTPUT", "-p", "tcp", "-d", VIP, "-j", "REDIRECT"], check=True)
    relay = loaded.keep(loaded.run_in(test_abi.become_relay, loaded.pins, place=loaded.relay_place))
    loaded.connect(relay, place=loaded.bystander)
    with pytest.raises(FileNotFoundError):
        loaded.accept(relay)[0].getsockopt(socket.SOL_IP, test_abi.SO_ORIGINAL_DST, 16)


@pytest.mark.needs("iptables-legacy")
def test_conntrack_is_not_asked_without_our_hook(loaded):
    """The program that answers for tproxy is detached, and the host redirects a connection to the
    relay's port: conntrack would return its destination. Fails if origdst_get() uses
    SO_ORIGINAL_DST."""
    loaded.accept_strangers()
    relay = loaded.start_relay("--workers", 1, "--listeners", 1)
    (port,), listener = ports_of(loaded), loaded.listen()
    subprocess.run(["nsenter", f"--net={loaded.client_net.path}", "iptables-legacy", "-t", "nat",
                    "-A", "OUTPUT", "-p", "tcp", "-d", SERVER, "-m", "mark", "--mark", str(MARK),
                    "-j", "REDIRECT", "--to-ports", str(port)], check=True)
    with relay.stopped():  # it would check its hooks soon
        for cgroup in (loaded.scope, loaded.relay_cgroup):
            link = loaded.pins.path / f"link_sockopt_{cgroup.path.stat().st_ino:x}"
            if link.exists():
                maps.bpftool("link", "detach", "pinned", link)
        client = loaded.keep(loaded.run_in(connected_marked, listener.getsockname(),
                                           place=loaded.bystander))
    assert wire.ended_by(client) == wire.RESET
    assert not select.select([listener], [], [], 0)[0]


def hold_segments_back(bed):
    """Some 75 us for each segment on lo."""
    subprocess.run(["nsenter", f"--net={bed.client_net.path}", "tc", "qdisc", "add", "dev", "lo",
                    "root", "tbf", "rate", "8mbit", "burst", "100", "latency", "1s"], check=True)


def spread_lo(bed):
    """RPS: the first CPU receives what is sent on lo, so the sender on another one does not wait
    for its segments."""
    point = bed.directory / "sys"
    point.mkdir()
    subprocess.run(["nsenter", f"--net={bed.client_net.path}", "unshare", "-m", "sh", "-ec",
                    f"mount -t sysfs sysfs {point}; "
                    f"echo 1 > {point}/class/net/lo/queues/rx-0/rps_cpus"], check=True)


def race(addresses, port, count, until):
    """From one source port, sends a letter to each address in turn and resets the connection. The
    next socket is ready by then."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    following = socket_that_resets(port)
    for number in range(count):
        if time.monotonic() > until:
            break
        turn = number % len(addresses)
        with following as sock, contextlib.suppress(OSError):
            following = socket_that_resets(port)
            sock.connect(addresses[turn])
            sock.send(LETTERS[turn])
    following.close()


def socket_that_resets(port):
    sock = socket.socket()
    sock.settimeout(wire.TIMEOUT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
    sock.bind(("", port))
    return sock


def collect(listeners):
    """Until a connection says "end". Returns the number of connections, and what came to a listener
    but its own letter."""
    letters, served, wrong = dict(zip(listeners, LETTERS)), 0, []
    with selectors.DefaultSelector() as selector:
        for sock in listeners:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                sock, data = key.fileobj, b""
                with contextlib.suppress(OSError):
                    if sock in letters:
                        conn, _ = sock.accept()
                        served += 1
                        selector.register(conn, selectors.EVENT_READ, letters[sock])
                        continue
                    data = sock.recv(100)
                if data == b"end":
                    return served, wrong
                if data.strip(key.data):
                    wrong.append((key.data, data))
                if not data and sock not in letters:
                    selector.unregister(sock)
                    sock.close()


@pytest.mark.deadline(60)
@pytest.mark.parametrize("rps", [False, True], ids=["one CPU", "rps"])
def test_source_ports_that_are_used_at_once_again(loaded, rps):
    """10,000 connections, or as many as there are in 4 seconds. The segments of one are still under
    way when the next one begins. To see it fail: set tuple.isn to 0 on both sides."""
    loaded.start_relay("--workers", 1, "--listeners", 1)
    hold_segments_back(loaded)
    if rps:
        spread_lo(loaded)
    listeners = [loaded.listen(SERVER), loaded.listen(SERVER2)]
    addresses = [listener.getsockname() for listener in listeners]
    collector = loaded.task(collect, listeners, place=loaded.server)
    until = time.monotonic() + 4
    for client in [loaded.task(race, addresses, 23456 + i, 3400, until) for i in range(3)]:
        client.result(30)
    host.wait_until(loaded.pins.at_rest, "nothing is left")
    loaded.connect(addresses[0], place=loaded.bystander).sendall(b"end")
    served, wrong = collector.result(30)
    assert served > 1 and not wrong


# --- the relay's ports, in turn


@pytest.mark.parametrize("short", [False, True], ids=["long", "short between"])
def test_long_connections_are_spread(loaded, short):
    """Also if each begins while a short one exists. To see it fail: let port_compare() keep the
    first."""
    loaded.start_relay("--workers", 4, "--listeners", 1)
    listener = loaded.listen()
    for _ in range(8):
        if short:
            visit = loaded.visit(listener)
        loaded.visit(listener)
        if short:
            visit.client.close()
            visit.server.close()
    used = [entry["key"]["dst"]["port"] for entry in loaded.pins.dump("map_ports")]
    assert sorted(Counter(used).values()) == [2] * 4


def one_after_the_other(addresses, source):
    codes = []
    for address in addresses:
        with socket.socket(family_of(source)) as sock:
            sock.settimeout(wire.TIMEOUT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(source)
            codes.append(sock.connect_ex(address))
            sock.sendall(b"data")
    return codes


@pytest.mark.parametrize("source", ["", CLIENT, "::", CLIENT6],
                         ids=["any", "inet", "any6", "inet6"])
def test_one_source_port_for_one_server_after_the_other(loaded, source):
    """The servers have not closed yet. To see it fail: leave avoid_taken() out, or let is_taken()
    look for another address than the one that the socket is bound to."""
    host6.give_addresses(loaded)
    loaded.start_relay()
    listen = partial(host6.listen, loaded) if ":" in source else loaded.listen
    addresses = [listen().getsockname() for _ in range(4)]
    assert loaded.run_in(one_after_the_other, addresses, (source, 23456)) == [0] * 4
    assert loaded.stats()["redirected"] == 4
