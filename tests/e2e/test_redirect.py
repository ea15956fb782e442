# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel half: which connections go to the relay, which do not, and what the client sees."""

import errno
import os
import select
import socket
import struct

import pytest

import host
import wire
from harness import CLIENT, SERVER, SERVER2

LOOPBACK = "127.0.0.1"
SO_ORIGINAL_DST = 80
# Of enum tproxy_mark_flags: those that sockets have which are no relay's listeners.
OTHER_MARKS = {"upstream": 1 << 1, "via": 1 << 6}

FAIL_OPEN = pytest.param([], id="fail-open")
FAIL_CLOSED = pytest.param(["--fail-closed"], id="fail-closed")


def assert_unredirected(bed, policy, reason):
    """A connection is direct or refused, as the policy says, and is counted."""
    listener = bed.listen()
    before = bed.stats()
    if policy:
        with pytest.raises(ConnectionRefusedError):
            bed.connect(listener)
    else:
        assert not bed.visit(listener).relayed
    after = bed.stats()
    assert after[reason] == before[reason] + 1
    assert after["refused"] == before["refused"] + bool(policy)
    assert after["redirected"] == before["redirected"]


def assert_at_rest(bed):
    """Nothing is left, and the hooks have deleted it: the sweep would hide that they do not."""
    host.wait_until(bed.pins.at_rest, "the maps are empty")
    assert bed.stats()["stale"] == 0, "the sweep had to find it"


# --- what is redirected


def test_redirected(proxied):
    listener = proxied.listen()
    visit = proxied.visit(listener)
    assert visit.relayed
    assert proxied.stats()["redirected"] == 1
    assert visit.client.getpeername() == listener.getsockname()


def test_maps_during_a_connection(proxied):
    """The output of bpftool map dump, field by field, and nothing is left at the end (I4).

    To see it fail: delete nothing in tproxy_release and client_close.
    """
    listener = proxied.listen()
    client = proxied.visit(listener).client

    def endpoint(value):
        return ".".join(map(str, value["addr"][12:])), value["port"]

    (sock,) = (entry["value"] for entry in proxied.pins.dump("map_socks"))
    assert endpoint(sock["dst"]) == listener.getsockname()
    assert endpoint(sock["src"]) == client.getsockname()
    assert sock["uid"] == 0 and sock["pid"] > 0
    assert sock["cgroup_id"] == proxied.scope.path.stat().st_ino
    assert sock["comm"].startswith("python3" if isinstance(sock["comm"], str) else ["p"])
    (port,) = (entry["key"] for entry in proxied.pins.dump("map_ports"))
    assert endpoint(port["src"]) == client.getsockname()
    address, port_taken = endpoint(port["dst"])
    assert address == proxied.relay.address[0]
    (config,) = (entry["value"] for entry in proxied.pins.dump("map_config"))
    assert config["pid"] == proxied.relay.pid
    listen = config["listen"][0]
    assert endpoint({**listen, "port": listen["ports"][0]}) == proxied.relay.address
    assert port_taken in listen["ports"][:listen["n_ports"]]
    client.close()
    assert_at_rest(proxied)


def test_destinations_are_not_mixed_up(proxied):
    """Many connections at once to two addresses and several ports: each gets its own
    destination."""
    listeners = [proxied.listen(address) for address in (SERVER, SERVER2) for _ in range(4)]

    def connect_all():
        return [wire.connect(listener.getsockname()) for _ in range(8) for listener in listeners]

    clients = [proxied.keep(client) for client in proxied.run_in(connect_all)]
    for number, client in enumerate(clients):
        client.sendall(struct.pack("=I", number))
        assert client.getpeername() == listeners[number % len(listeners)].getsockname()
    for index, listener in enumerate(listeners):
        numbers = []
        for _ in range(8):
            server, _ = proxied.accept(listener)
            numbers += struct.unpack("=I", wire.read_exactly(server, 4))
        assert sorted(numbers) == list(range(index, len(clients), len(listeners)))


def test_out_of_scope_is_direct(proxied):
    before = proxied.stats()
    assert not proxied.visit(proxied.listen(), place=proxied.bystander).relayed
    assert proxied.stats() == before


def test_processes_in_the_relays_cgroup_are_direct(bed):
    """I8: also if that cgroup is within the scope, and in a cgroup below it. To see it fail:
    compare the process's own cgroup in in_relay_cgroup()."""
    relays = bed.scope.child("relays")
    bed.tproxy_load("--cgroup", bed.scope, "--relay-cgroup", relays, "--relay-group",
                    47113).succeeded()
    place = host.Place(relays, bed.client_net)
    bed.start_relay(place=place)
    listener = bed.listen()
    below = host.Place(relays.child("below"), bed.client_net)
    for direct in (place, below):
        assert not bed.visit(listener, place=direct).relayed
    assert bed.visit(listener).relayed


def test_relay_in_the_scope_is_not_redirected_to_itself(bed):
    """I8. To see it fail: do not mark upstream sockets."""
    bed.load(relay_cgroup=False)
    bed.start_relay(place=bed.client)
    assert bed.visit(bed.listen()).relayed
    stats = bed.stats()
    assert stats["redirected"] == 1 and stats["bypass_relay"] == 1


def test_relay_of_another_namespace_is_not_used(proxied):
    """127.0.0.1 is per namespace: a client in another namespace connects directly (I2). To see it
    fail: let gather_relay() take any entry of map_config."""
    listener = proxied.listen(CLIENT, netns=proxied.client_net)
    elsewhere = host.Place(proxied.scope, proxied.server_net)
    assert not proxied.visit(listener, place=elsewhere).relayed
    assert proxied.stats()["no_relay"] == 1


def test_each_namespace_has_its_relay(proxied):
    proxied.start_relay(place=host.Place(proxied.relay_cgroup, proxied.server_net))
    assert proxied.visit(proxied.listen()).relayed
    listener = proxied.listen(CLIENT, netns=proxied.client_net)
    elsewhere = host.Place(proxied.scope, proxied.server_net)
    assert proxied.visit(listener, place=elsewhere).relayed
    assert len(proxied.pins.dump("map_config")) == 2


# --- I1: recorded or not redirected


@pytest.mark.parametrize("policy", [FAIL_OPEN, FAIL_CLOSED])
def test_full_map_is_not_redirected(bed, policy):
    """I1. To see it fail: let gather_room() set has_room always."""
    bed.load(*policy)
    bed.start_relay()
    with bed.pins.open("map_socks") as socks:
        socks.fill()
        assert_unredirected(bed, policy, "map_full")
        assert bed.relay.connections() == []
        socks.empty()
    assert bed.visit(bed.listen()).relayed


def test_full_port_map_fails(proxied):
    """I1: the relay could not learn the destination, so no SYN is sent. To see it fail: leave out
    the client_abort() after PUBLISH_FAILED is counted."""
    listener = proxied.listen()
    with proxied.pins.open("map_ports") as ports:
        ports.fill()
        with pytest.raises(OSError) as failure:
            proxied.connect(listener)
        assert failure.value.errno == errno.EHOSTUNREACH
        assert proxied.stats()["publish_failed"] == 1
        ports.empty()
    host.wait_until(proxied.pins.at_rest, "nothing is left of the connection")
    assert proxied.visit(listener).relayed


# --- I2: a living relay's own listener, or not redirected


@pytest.mark.parametrize("policy", [FAIL_OPEN, FAIL_CLOSED])
def test_no_relay(bed, policy):
    """I2. To see it fail: let try_redirect() take NO_RELAY for REDIRECTED. The verifier refuses a
    program that goes on without the entry of map_config."""
    bed.load(*policy)
    assert_unredirected(bed, policy, "no_relay")


@pytest.mark.parametrize("policy", [FAIL_OPEN, FAIL_CLOSED])
def test_relay_killed(bed, policy):
    """I2. The failure is counted in the relay's entry too, which makes an older relay take over. To
    see it fail: do not look up the listener in connect; do not count in gather_listener()."""
    bed.load(*policy)
    bed.start_relay().kill()
    assert_unredirected(bed, policy, "no_listener")
    (entry,) = bed.pins.dump("map_config")
    assert entry["value"]["unreachable"] == bed.stats()["no_listener"]


@pytest.mark.parametrize("policy", [FAIL_OPEN, FAIL_CLOSED])
@pytest.mark.parametrize("address", [LOOPBACK, "0.0.0.0"])
def test_port_taken_by_a_stranger(bed, policy, address):
    """I2. To see it fail: require a listener, but not tproxy's mark on it."""
    bed.load(*policy)
    bed.start_relay().kill()
    stranger = bed.listen(address, bed.relay.address[1], netns=bed.client_net)
    assert_unredirected(bed, policy, "no_listener")
    stranger.setblocking(False)
    with pytest.raises(BlockingIOError):
        stranger.accept()


@pytest.mark.parametrize("flags", OTHER_MARKS.values(), ids=OTHER_MARKS)
def test_stranger_with_another_mark(bed, flags):
    """I2. A client of `tproxyctl run` has the mark VIA, and its socket may listen later. To see it
    fail: let is_our_listener() take any mark."""
    bed.load()
    bed.start_relay().kill()
    stranger = bed.listen(LOOPBACK, bed.relay.address[1], netns=bed.client_net)
    with bed.pins.open("map_marks") as marks:
        marks.update(struct.pack("=i", stranger.fileno()),
                     struct.pack("=I", flags).ljust(marks.value_size, b"\0"))
    assert_unredirected(bed, [], "no_listener")


def test_stranger_in_the_relays_cgroup_gets_nothing_either(proxied):
    proxied.relay.kill()
    stranger = proxied.keep(proxied.run_in(wire.listener, proxied.relay.address,
                                           place=proxied.relay_place))
    assert not proxied.visit(proxied.listen()).relayed
    stranger.setblocking(False)
    with pytest.raises(BlockingIOError):
        stranger.accept()


def test_refused_is_the_errno_of_a_nonblocking_connect_too(bed):
    bed.load("--fail-closed")
    address = bed.listen().getsockname()

    def connect():
        with socket.socket() as sock:
            sock.setblocking(False)
            return sock.connect_ex(address)

    assert bed.run_in(connect) == errno.ECONNREFUSED


# --- I3: the relay's own port


@pytest.mark.parametrize("who", ["client", "bystander"])
@pytest.mark.parametrize("address", [LOOPBACK, "127.9.9.9", CLIENT])
@pytest.mark.parametrize("policy", [[], ["--include-loopback"]], ids=["", "include-loopback"])
def test_direct_connection_to_the_relay_is_reset(bed, who, address, policy):
    """I3. To see it fail: let the relay connect to the address at which it was reached."""
    bed.load(*policy)
    bed.accept_strangers()
    bed.start_relay("--listen", "0.0.0.0:0")
    target = address, bed.relay.address[1]
    assert bed.run_in(wire.fate, target, place=getattr(bed, who)) == wire.RESET
    assert bed.visit(bed.listen()).relayed, "the relay goes on"


def test_original_destination_is_the_relays_port(proxied):
    """The server's port has the same number as the relay's. It is not the relay, so the connection
    is relayed."""
    listener = proxied.listen(SERVER, proxied.relay.address[1])
    assert proxied.visit(listener).relayed


# --- loopback


def test_loopback_is_bypassed(proxied):
    listener = proxied.listen(LOOPBACK, netns=proxied.client_net)
    assert not proxied.visit(listener).relayed
    assert proxied.stats()["bypass_loopback"] == 1


@pytest.mark.parametrize("address", [LOOPBACK, "127.1.2.3"])
def test_loopback_is_included_on_request(bed, address):
    bed.load("--include-loopback")
    bed.start_relay()
    listener = bed.listen(address, netns=bed.client_net)
    visit = bed.visit(listener)
    assert visit.relayed and visit.client.getpeername() == listener.getsockname()


def test_address_of_this_host_is_redirected(proxied):
    assert proxied.visit(proxied.listen(CLIENT, netns=proxied.client_net)).relayed


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255"])
def test_special_destinations_keep_their_errno(proxied, address):
    def connect():
        with socket.socket() as sock:
            return sock.connect_ex((address, 9))

    assert proxied.run_in(connect) == proxied.run_in(connect, place=proxied.bystander) != 0


# --- what a client sees of its socket


def test_own_original_destination_is_as_before(proxied):
    """Only the relay's sockets have one."""
    address = proxied.listen().getsockname()

    def ask():
        with wire.connect(address) as sock:
            with pytest.raises(OSError) as error:
                sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
            return error.value.errno

    assert proxied.run_in(ask) == proxied.run_in(ask, place=proxied.bystander)


def nonblocking_connects(address):
    """The errno of each connect() on one socket, until well after it is connected."""
    with socket.socket() as sock:
        sock.setblocking(False)
        first = sock.connect_ex(address)
        select.select([], [sock], [], wire.TIMEOUT)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return [first, error, sock.connect_ex(address), sock.connect_ex(address),
                sock.getpeername()]


def test_nonblocking_connect(proxied):
    """connect() again while it is in progress, and afterwards: as without tproxy."""
    address = proxied.listen().getsockname()
    direct = proxied.run_in(nonblocking_connects, address, place=proxied.bystander)
    assert direct[0] == errno.EINPROGRESS
    assert proxied.run_in(nonblocking_connects, address) == direct
    assert proxied.stats()["redirected"] == 1
    host.wait_until(proxied.pins.at_rest, "nothing is left")


def test_connect_again_on_a_connected_socket(proxied):
    """EISCONN, and the first destination stays."""
    first, second = proxied.listen(), proxied.listen()

    def connect():
        sock = wire.connect(first.getsockname(), timeout=None)
        return sock, sock.connect_ex(second.getsockname())

    client, code = proxied.run_in(connect)
    proxied.keep(client)
    assert code == errno.EISCONN
    assert client.getpeername() == first.getsockname()
    wire.exchange(client, proxied.accept(first)[0])
    client.close()
    host.wait_until(proxied.pins.at_rest, "nothing is left")


def test_reconnect_after_unspec(proxied):
    """One socket, disconnected by AF_UNSPEC and connected to another server: it reaches the new
    destination."""
    first, second = proxied.listen(), proxied.listen(SERVER2)

    def connect():
        sock = wire.connect(first.getsockname())
        wire.disconnect(sock)
        sock.connect(second.getsockname())
        return sock

    client = proxied.keep(proxied.run_in(connect))
    assert client.getpeername() == second.getsockname()
    server, peer = proxied.accept(second)
    wire.exchange(client, server)
    assert peer != client.getsockname()
    client.close()
    host.wait_until(proxied.pins.at_rest, "nothing is left")


def test_bound_to_a_source_address(proxied):
    visit = proxied.visit(proxied.listen(), source=(CLIENT, 0))
    assert visit.relayed and visit.client.getsockname()[0] == CLIENT


def test_bound_to_a_source_port(proxied):
    visit = proxied.visit(proxied.listen(), source=("", 23456))
    assert visit.relayed and visit.client.getsockname()[1] == 23456


@pytest.mark.parametrize("policy", [FAIL_OPEN, FAIL_CLOSED])
def test_bound_to_a_device(bed, policy):
    """It could not reach the relay."""
    bed.load(*policy)
    bed.start_relay()
    address = bed.listen().getsockname()

    def connect():
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"tproxy0")
            return sock.connect_ex(address)

    assert bed.run_in(connect) == (errno.ECONNREFUSED if policy else 0)
    assert bed.stats()["bound_device"] == 1


def test_failed_connect_leaves_nothing(loaded):
    """Two sockets with one source and one destination: connect() of the second fails in the kernel,
    after its destination was recorded. To see it fail: let has_room() keep its entry."""
    loaded.start_relay("--workers", 1, "--listeners", 1)
    listener, proxied = loaded.listen(), loaded

    def connect():
        socks = [socket.socket() for _ in range(2)]
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((CLIENT, 23456))
        return socks[0], [sock.connect_ex(listener.getsockname()) for sock in socks]

    client, codes = proxied.run_in(connect)
    assert codes == [0, errno.EADDRNOTAVAIL]
    wire.exchange(proxied.keep(client), proxied.accept(listener)[0])
    assert proxied.pins.count("map_socks") == proxied.pins.count("map_ports") == 1


def test_entry_of_another_socket_is_left(proxied):
    """I4 must not break I1: a socket that ends deletes its own entries, and no entry of another
    socket with the same tuple. To see it fail: do not compare the owner in entries_delete()."""
    client, server = proxied.pair()
    with proxied.pins.open("map_ports") as ports:
        key = ports.first_key()
        mine = struct.unpack("=Q", ports.lookup(key))[0]
        proxied.pair()
        (other,) = {entry["key"] for entry in proxied.pins.dump("map_socks")} - {mine}
        another = struct.pack("=Q", other)
        ports.update(key, another)
        client.close()
        server.close()
        host.wait_until(lambda: proxied.pins.count("map_socks") == 1, "the client is forgotten")
        assert ports.lookup(key) == another
        ports.delete(key)


def test_closed_before_it_is_accepted(proxied):
    """Clients that have ended when the relay asks for their destination: nothing is left (I4). To
    see it fail: as for test_maps_during_a_connection."""
    address = proxied.listen().getsockname()

    def connect_and_leave():
        for number in range(50):
            sock = wire.connect(address)
            wire.reset(sock) if number % 2 else sock.close()

    proxied.run_in(connect_and_leave)
    assert_at_rest(proxied)
    assert proxied.visit(proxied.listen()).relayed


@pytest.mark.needs("iptables-legacy")
def test_closed_before_the_handshake_is_over(proxied):
    """The last segment of a client's handshake is lost, and the client closes before it is
    retransmitted: its data arrive. To see it fail: forget published sockets in tproxy_release()."""
    listener = proxied.listen()
    lost = ("INPUT", "-i", "lo", "-p", "tcp", "--tcp-flags", "SYN,ACK", "ACK", "-j", "DROP")

    def say_and_leave():
        with wire.connect(listener.getsockname()) as sock:
            sock.sendall(b"late")

    proxied.run("iptables-legacy", "-A", *lost, place=proxied.bystander).succeeded()
    proxied.run_in(say_and_leave)
    proxied.run("iptables-legacy", "-D", *lost, place=proxied.bystander).succeeded()
    assert wire.read_to_end(proxied.accept(listener)[0]) == (b"late", wire.EOF)
    assert_at_rest(proxied)


def test_fast_open(proxied):
    """Data with the SYN (or just after it): sendto(MSG_FASTOPEN) runs the hook too."""
    listener = proxied.listen()

    def send():
        sock = socket.socket()
        sock.sendto(b"early", socket.MSG_FASTOPEN, listener.getsockname())
        sock.settimeout(wire.TIMEOUT)
        return sock

    client = proxied.keep(proxied.run_in(send))
    server, peer = proxied.accept(listener)
    assert wire.read_exactly(server, 5) == b"early"
    wire.exchange(client, server)
    assert peer != client.getsockname()


def connect_mptcp(address):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)
    sock.settimeout(wire.TIMEOUT)
    sock.connect(address)
    return sock


def test_multipath_tcp(proxied):
    """Its subflow is a TCP socket, which connects like any other."""
    listener = proxied.listen()
    client = proxied.keep(proxied.run_in(connect_mptcp, listener.getsockname()))
    server, peer = proxied.accept(listener)
    wire.exchange(client, server)
    assert peer != client.getsockname()


@pytest.mark.xfail(strict=True, raises=AssertionError,
                   reason="getpeername sees the MPTCP socket, what is recorded belongs to its "
                          "subflow")
def test_multipath_tcp_peer_name(proxied):
    address = proxied.listen().getsockname()
    client = proxied.keep(proxied.run_in(connect_mptcp, address))
    peer = client.getpeername()
    assert peer == address


def test_udp_is_untouched(proxied):
    with proxied.server_net.inside():
        server = proxied.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind((SERVER, 0))
        server.settimeout(wire.TIMEOUT)
    before = proxied.stats()

    def ask():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(server.getsockname())
            sock.send(b"datagram")
            return sock.getsockname(), sock.getpeername()

    name, peer = proxied.run_in(ask)
    data, source = server.recvfrom(100)
    assert (data, source, peer) == (b"datagram", name, server.getsockname())
    assert proxied.stats() == before


def test_socket_made_outside_stays_outside(proxied):
    """The cgroup of a socket is that of its creator: a socket that was passed in is direct."""
    listener = proxied.listen()
    sock = proxied.keep(proxied.run_in(socket.socket, place=proxied.bystander))
    assert proxied.run_in(sock.connect_ex, listener.getsockname()) == 0
    assert proxied.accept(listener)[1] == sock.getsockname()


def test_connection_outlives_its_process(proxied):
    """The client's process has ended (its socket was passed on), the connection has not."""
    listener = proxied.listen()
    task = host.Task(proxied.client, wire.connect, listener.getsockname())
    client = proxied.keep(task.result())
    server, _ = proxied.accept(listener)
    (entry,) = proxied.pins.dump("map_socks")
    assert not os.path.exists(f"/proc/{entry['value']['pid']}")
    wire.exchange(client, server)


def connect_twice_from_one_port(addresses):
    """One source address and port to each address: returns the errno of each connect()."""
    results, socks = [], []
    for address in addresses:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((CLIENT, 23999))
        results.append(sock.connect_ex(address))
        socks.append(sock)
    return results


@pytest.mark.parametrize("listeners, codes", [(1, [0, errno.EADDRNOTAVAIL]), (2, [0, 0])])
def test_one_source_port_to_two_destinations_at_a_time(loaded, listeners, codes):
    """With one port of the relay both would be the same connection: the second one fails, and is
    not mixed up. With two ports each gets its own."""
    loaded.start_relay("--workers", 1, "--listeners", listeners)
    addresses = [loaded.listen().getsockname() for _ in range(2)]
    assert loaded.run_in(connect_twice_from_one_port, addresses) == codes
    host.wait_until(loaded.pins.at_rest, "nothing is left of either")
