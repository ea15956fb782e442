# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel half as another relay sees it, which knows nothing but tproxy_abi.h."""

import os
import socket
import struct
from pathlib import Path

import pytest

import wire
from harness import SERVER
from maps import Layout, pack_listen
from programs import ABI_VERSION

LOOPBACK = "127.0.0.1"
SO_ORIGINAL_DST = 80
SO_NETNS_COOKIE = 71
SO_COOKIE = 57
TPROXY_SO_WHOAMI, TPROXY_SO_CONN = 0x74700001, 0x74700002
MARK_LISTENER, MARK_UPSTREAM, MARK_ATTACHED, MARK_HAS_CONN = 1, 2, 4, 8

ENDPOINT = struct.Struct("=10x2s4sHH")
WHOAMI = struct.Struct("=IIII")


def unpack_endpoint(data):
    mapped, address, port, _ = ENDPOINT.unpack(data)
    assert mapped == b"\xff\xff"
    return socket.inet_ntoa(address), port


def mark(pins, sock, flags=MARK_LISTENER):
    with pins.open("map_marks") as marks:
        value = struct.pack("=I", flags).ljust(marks.value_size, b"\0")
        marks.update(struct.pack("=i", sock.fileno()), value)


def register(pins, sock):
    cookie = sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
    value = Layout(pins.path / "map_config").pack(
        pid=struct.pack("=I", os.getpid()), listen=pack_listen(*sock.getsockname()))
    with pins.open("map_config") as config:
        config.update(cookie, value)


def become_relay(pins):
    """Binds, marks, listens and registers."""
    sock = socket.socket()
    sock.settimeout(wire.TIMEOUT)
    sock.bind((LOOPBACK, 0))
    mark(pins, sock)
    sock.listen()
    register(pins, sock)
    return sock


@pytest.fixture
def relay(loaded):
    """The listening socket of the test's own relay."""
    return loaded.keep(loaded.run_in(become_relay, loaded.pins, place=loaded.relay_place))


@pytest.fixture
def accepted(loaded, relay):
    """A connection of a client to (SERVER, 80) that the relay has accepted, and the client's
    end."""
    client = loaded.connect((SERVER, 80))
    return loaded.accept(relay)[0], client


def test_original_destination(accepted):
    sock, client = accepted
    answer = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    family, port, address = struct.unpack("=H2s4s8x", answer)
    assert family == socket.AF_INET and answer[8:] == bytes(8)
    assert (socket.inet_ntoa(address), int.from_bytes(port, "big")) == (SERVER, 80)
    assert client.getpeername() == (SERVER, 80)


def test_original_destination_is_there_when_the_client_is_gone(loaded, relay):
    """The client may close, and another client may get its port, before the relay asks."""
    loaded.connect((SERVER, 80)).close()
    loaded.connect((SERVER, 81)).close()
    for port in (80, 81):
        answer = loaded.accept(relay)[0].getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        assert int.from_bytes(answer[2:4], "big") == port


def test_connection(loaded, accepted):
    """TPROXY_SO_CONN returns the value of map_socks."""
    sock, client = accepted
    conn = Layout(loaded.pins.path / "map_socks")
    answer = sock.getsockopt(socket.SOL_IP, TPROXY_SO_CONN, conn.size)
    assert len(answer) == conn.size
    assert unpack_endpoint(*conn.unpack(answer, "src", "20s")) == client.getsockname()
    assert unpack_endpoint(*conn.unpack(answer, "dst", "20s")) == (SERVER, 80)
    assert conn.unpack(answer, "netns_cookie", "8s")[0] == sock.getsockopt(
        socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
    assert conn.unpack(answer, "cookie", "8s")[0] == client.getsockopt(
        socket.SOL_SOCKET, SO_COOKIE, 8)
    assert conn.unpack(answer, "cgroup_id", "=Q")[0] == loaded.scope.path.stat().st_ino
    assert conn.unpack(answer, "pid", "=I")[0] > 0
    assert conn.unpack(answer, "uid", "=I")[0] == 0
    comm = Path("/proc/self/comm").read_text().strip()
    assert conn.unpack(answer, "comm", "16s")[0].rstrip(b"\0").decode() == comm


OPTIONS = {"keep_alive": (1, "=B"), "keep_idle_s": (61, "=H"), "keep_intvl_s": (7, "=H"),
           "keep_probes": (4, "=B"), "user_timeout_ms": (4321, "=I"), "mark": (0x1234, "=I")}


def connect_with_options(address, given):
    sock = socket.socket()
    if given:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.SOL_TCP, socket.TCP_KEEPIDLE, 61)
        sock.setsockopt(socket.SOL_TCP, socket.TCP_KEEPINTVL, 7)
        sock.setsockopt(socket.SOL_TCP, socket.TCP_KEEPCNT, 4)
        sock.setsockopt(socket.SOL_TCP, socket.TCP_USER_TIMEOUT, 4321)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x1234)
    sock.connect(address)
    return sock


@pytest.mark.parametrize("given", [True, False], ids=["given", "none"])
def test_options_of_the_clients_socket(loaded, relay, given):
    """The relay gets the options that the client set before connect(). Fails if record() does not
    call note_options() (given), or if note_options() takes the keepalive times without
    SOCK_KEEPOPEN (none)."""
    loaded.keep(loaded.run_in(connect_with_options, (SERVER, 80), given))
    conn = Layout(loaded.pins.path / "map_socks")
    answer = loaded.accept(relay)[0].getsockopt(socket.SOL_IP, TPROXY_SO_CONN, conn.size)
    assert {name: conn.unpack(answer, name, form)[0] for name, (_, form) in OPTIONS.items()} == {
        name: value if given else 0 for name, (value, _) in OPTIONS.items()}


def test_who_am_i(relay, accepted):
    for sock, flags in ((relay, MARK_LISTENER | MARK_ATTACHED),
                        (accepted[0], MARK_LISTENER | MARK_ATTACHED | MARK_HAS_CONN)):
        answer = sock.getsockopt(socket.SOL_IP, TPROXY_SO_WHOAMI, WHOAMI.size)
        assert WHOAMI.unpack(answer) == (ABI_VERSION, os.getpid(), 0, flags)


def test_only_these_three_options_are_answered(loaded, accepted):
    """I5: compared with a connection that another listener in the same cgroup accepted. To see it
    fail: ignore the level in tproxy_sockopt."""
    other = loaded.keep(loaded.run_in(wire.listener, (LOOPBACK, 0), place=loaded.relay_place))
    loaded.connect(other)

    def answers(sock):
        return {(level, name, size): wire.getsockopt(sock, level, name, bytes(size))
                for level in (socket.SOL_SOCKET, socket.SOL_IP, socket.SOL_TCP, socket.IPPROTO_IPV6)
                for name in [*range(100), TPROXY_SO_WHOAMI, TPROXY_SO_CONN]
                for size in (4, 256, 8192)}

    ours, plain = answers(accepted[0]), answers(loaded.accept(other)[0])
    assert ({key for key in ours if ours[key][0] != plain[key][0]} ==
            {(socket.SOL_IP, name, size)
             for name in (SO_ORIGINAL_DST, TPROXY_SO_WHOAMI, TPROXY_SO_CONN)
             for size in (256, 8192)})


@pytest.mark.parametrize("name, size", [(SO_ORIGINAL_DST, 16), (TPROXY_SO_CONN, 88),
                                        (TPROXY_SO_WHOAMI, WHOAMI.size)])
def test_buffer_that_is_too_small_is_left_alone(accepted, name, size):
    error, answer = wire.getsockopt(accepted[0], socket.SOL_IP, name, bytes(size - 1))
    assert error and not answer


def test_direct_connection_has_no_original_destination(loaded, relay):
    """I3: also if it comes from the scope. Fails if getsockopt_conn() ignores HAS_CONN."""
    for place in (loaded.client, loaded.bystander):
        loaded.connect(relay, place=place)
        sock, _ = loaded.accept(relay)
        for name, size in ((SO_ORIGINAL_DST, 16), (TPROXY_SO_CONN, 1024)):
            with pytest.raises(OSError):
                sock.getsockopt(socket.SOL_IP, name, size)


def test_listener_that_sockops_did_not_see_gets_nothing(loaded):
    """A mark that is set after listen() is too late: the listener cannot learn destinations."""
    sock = loaded.keep(loaded.run_in(wire.listener, (LOOPBACK, 0), place=loaded.relay_place))
    mark(loaded.pins, sock)
    register(loaded.pins, sock)
    assert not loaded.visit(loaded.listen()).relayed
    assert loaded.stats()["no_listener"] == 1


def test_listener_outside_the_hooks_gets_nothing(loaded):
    loaded.keep(loaded.run_in(become_relay, loaded.pins, place=loaded.bystander))
    assert not loaded.visit(loaded.listen()).relayed


def test_mark_ends_with_the_socket(loaded, relay):
    """I2: another process listens at the same address at once."""
    address = relay.getsockname()
    relay.close()
    loaded.listen(*address, netns=loaded.client_net)
    assert not loaded.visit(loaded.listen()).relayed
    assert loaded.stats()["no_listener"] == 1


def test_registration_alone_is_not_believed(loaded):
    """An entry for an address without a marked listener is ignored. Otherwise any member of the
    group could redirect connections to others."""
    sock = loaded.listen(LOOPBACK, netns=loaded.client_net)
    register(loaded.pins, sock)
    assert not loaded.visit(loaded.listen()).relayed
