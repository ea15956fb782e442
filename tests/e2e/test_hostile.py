# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A hostile local user, and a member of the relay's group that writes nonsense.

SECURITY.md says what each of them can do and cannot do.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import time
from functools import partial

import pytest

import host
import host6
import maps
import wire
from harness import CLIENT, SERVER
from host6 import CLIENT6
from maps import pack_address, pack_listen
from programs import RELAY_GID
from test_load import RINGS

USER = 1234  # and its group; no other process has them
LOOPBACK = "127.0.0.1"

SO_NETNS_COOKIE = 71
SO_WHOAMI, SO_CONN, SO_ORIGINAL_DST = 0x74700001, 0x74700002, 80
RDONLY = 1 << 3  # BPF_F_RDONLY
MAP_UPDATE_ELEM, OBJ_GET = 2, 7
MAP_GET_NEXT_ID, MAP_GET_FD_BY_ID = 12, 14

RELAY = struct.Struct("=QQQ8xII148s148s")  # struct tproxy_relay
FAILED_KEY = struct.Struct("=8s16sHHI")
FAILED = struct.Struct("=QII")
FAR = 1 << 62


def as_user(function, *args, uid=USER, gid=USER):
    """For a task: drops all privileges before the function is called."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    return function(*args)


def bpf(command, form, *values):
    """bpf(2): returns its result or the negative errno."""
    attributes = ctypes.create_string_buffer(struct.pack("=" + form, *values), 128)
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(maps._NR_BPF, command, attributes, 128)
    return -ctypes.get_errno() if result < 0 else result


def open_pin(path, flags=0):
    name = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(OBJ_GET, "QII", ctypes.addressof(name), 0, flags)


@pytest.fixture
def bed(bed):
    host6.give_addresses(bed)
    return bed


# --- a user that is not in the relay's group


def try_all_pins(pins, names):
    """Returns the operations that succeed, of which there should be none."""
    worked = [name for name in names for flags in (0, RDONLY)
              if open_pin(pins / name, flags) != -errno.EACCES]
    worked += [name for name in names if os.access(pins / name, os.F_OK)]
    if os.access(pins, os.R_OK | os.X_OK):
        worked.append("the directory")
    return worked


def test_user_cannot_open_a_pin(proxied):
    """The user cannot list pins, register, list connections, mark, write errors or unload.

    To see it fail: give others a bit in the mode of the pin directory, in the loader.
    """
    names = proxied.pins.names()
    assert len(names) > 12
    for place in (proxied.client, proxied.bystander, proxied.relay_place):
        assert proxied.run_in(as_user, try_all_pins, proxied.pins.path, names, place=place) == []


def ask_for_ids(ids):
    next_id = bpf(MAP_GET_NEXT_ID, "III", 0, 0, 0)
    return [next_id, *(bpf(MAP_GET_FD_BY_ID, "III", number, 0, 0) for number in ids)]


def test_user_cannot_open_a_map_by_its_id(proxied):
    """The kernel requires CAP_SYS_ADMIN for this, of members too, so the modes of pins decide."""
    ids = [maps.bpftool("map", "show", "pinned", proxied.pins.path / name)["id"]
           for name in ("map_socks", "map_config", "map_marks")]
    for gid in (USER, RELAY_GID):
        assert proxied.run_in(partial(as_user, ask_for_ids, ids, gid=gid)) == [-errno.EPERM] * 4


def answers(address):
    """The answers of a socket of this process to the relay's private options."""
    told = []
    with wire.connect(address) as sock, socket.socket() as fresh:
        for asked in (sock, fresh):
            for name in (SO_WHOAMI, SO_CONN, SO_ORIGINAL_DST):
                code, data = wire.getsockopt(asked, socket.SOL_IP, name, bytes(128))
                told.append((code != 0, data))
    return told


@pytest.mark.parametrize("where", ["client", "bystander", "relay_place"])
def test_user_learns_nothing_from_sockets(proxied, where):
    """Also in the relay cgroup, where the hook is. To see it fail: answer TPROXY_SO_WHOAMI without
    a mark in tproxy_sockopt()."""
    listener = proxied.listen()
    proxied.pair(listener)
    told = proxied.run_in(as_user, answers, listener.getsockname(), place=getattr(proxied, where))
    assert told == [(True, b"")] * 6


def member_access(pins, names):
    """The maps that a member of the group may open for writing, and those for reading only."""
    write = {name for name in names if open_pin(pins / name) >= 0}
    read = {name for name in names if open_pin(pins / name, RDONLY) >= 0} - write
    key, value = ctypes.create_string_buffer(8), ctypes.create_string_buffer(4096)
    codes = [bpf(MAP_UPDATE_ELEM, "IIQQQ", fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
             for fd in (open_pin(pins / "map_socks", RDONLY), open_pin(pins / "map_pending"))]
    return write, read, codes


def test_member_writes_what_a_relay_must_and_no_more(proxied):
    """A member may open map_pending for writing, because only such a descriptor can be mapped, but
    the map is frozen.

    To see it fail: give map_socks or the programs the mode of map_config; do not call
    freeze_pending().
    """
    write, read, codes = proxied.run_in(
        partial(as_user, member_access, proxied.pins.path, proxied.pins.names(), gid=RELAY_GID),
        place=proxied.bystander)
    assert write == {"map_config", "map_marks", "map_failed", "map_events", "map_pending",
                     "map_verdicts", "map_ring_owners", "map_pairs", *RINGS}
    assert read == {"map_policy", "map_socks", "map_ports", "map_stats", "map_targets",
                    "map_rules_active", "map_sets_active", "map_rule_stats", "map_rule_texts",
                    "map_set_texts", "map_observed", "map_observed_slots", "map_block",
                    "map_block_stats", "map_traffic", "map_traffic_sums", "map_listeners",
                    "prog_pick"}
    assert codes == [-errno.EPERM] * 2


def hold(directory):
    """Takes the lock of the pin directory as tproxy-load does. Returns the errno of a refusal."""
    try:
        fcntl.flock(os.open(directory, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno
    return 0


def test_member_cannot_hold_the_lock(proxied):
    """A member with the lock could block all loaders. To open a directory takes permission to
    read it.

    To see it fail: give the directory the mode 0750.
    """
    code = proxied.run_in(partial(as_user, hold, proxied.pins.path, gid=RELAY_GID),
                          place=proxied.bystander)
    assert code == errno.EACCES
    assert proxied.pins.path.stat().st_mode & 0o7777 == 0o710


# --- the relay's port


def bind(family, address):
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(address)
        sock.listen()
    except OSError as error:
        sock.close()
        return error.errno
    return sock


def addresses(relay):
    """Addresses at which a user may listen to catch connections for the relay."""
    port, port6 = relay.address[1], host6.relay_address(relay)[1]
    return [(socket.AF_INET, (LOOPBACK, port)), (socket.AF_INET, ("0.0.0.0", port)),
            (socket.AF_INET6, ("::1", port6)), (socket.AF_INET6, ("::", port6))]


@pytest.mark.parametrize("options", [[], ["--listen", "0.0.0.0:0", "--listen", "[::]:0"],
                                     ["--listen", "127.0.0.1:7654", "--listen", "[::1]:7654"]],
                         ids=["", "wildcard", "port"])
def test_user_cannot_share_the_relays_port(loaded, options):
    """Only a port set by --listen may be shared at all, by sockets of one user. To see it fail:
    bind the relay's listener without listening."""
    relay = loaded.start_relay(*options)
    for family, address in addresses(relay):
        assert loaded.run_in(as_user, bind, family, address) == errno.EADDRINUSE, address


def reuse_port(family, address, only=0):
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    sock.bind(address)
    return sock


def bind_in_two_steps(port, port6):
    """Binds the wildcard address of the other family, which conflicts with no listener on loopback,
    and then once more: the kernel compares the second socket with the first one only. Returns the
    steps that were successful."""
    done, kept = [], []
    for number, first, then in (
            (port, (socket.AF_INET6, ("::", port), 1), (socket.AF_INET6, ("::", port))),
            (port6, (socket.AF_INET, ("0.0.0.0", port6)), (socket.AF_INET6, ("::1", port6)))):
        for step in (first, then):
            with contextlib.suppress(OSError):
                kept.append(reuse_port(*step))
                done.append((number, step))
    return done


@pytest.mark.parametrize("options", [[], ["--listen", "127.0.0.1:7654", "--listen", "[::1]:7654"]],
                         ids=["", "port"])
@pytest.mark.parametrize("honest", [[], ["--honest-connect"]], ids=["eager", "honest"])
def test_user_cannot_share_the_relays_port_in_two_steps(loaded, options, honest):
    """To see it fail: let guard_open() return an error."""
    relay = loaded.start_relay(*options, *honest)
    ports = relay.address[1], host6.relay_address(relay)[1]
    assert loaded.run_in(as_user, bind_in_two_steps, *ports) == []


@pytest.mark.parametrize("policy", [[], ["--fail-closed"]], ids=["fail-open", "fail-closed"])
def test_user_that_takes_the_port_of_a_dead_relay(bed, policy):
    """The user gets no connection. To see it fail: let is_our_listener() require a listener, but no
    mark."""
    bed.load(*policy)
    relay = bed.start_relay()
    where = addresses(relay)
    relay.kill()
    taken = [bed.keep(bed.run_in(as_user, bind, family, address, place=bed.bystander))
             for family, address in (where[0], where[2])]
    for listener, visit, connect in ((bed.listen(), bed.visit, bed.connect),
                                     (host6.listen(bed), partial(host6.visit, bed), None)):
        if not policy:
            assert not visit(listener).relayed
        elif connect:
            with pytest.raises(ConnectionRefusedError):
                connect(listener)
    assert select.select(taken, [], [], 0.1)[0] == []


# --- the relay as a destination of the relay


def fates(targets):
    """How a connection to each of the addresses ends."""
    return [(host6.fate if ":" in address[0] else wire.fate)(address, b"loop?")
            for address in targets]


@pytest.mark.parametrize("policy", [[], ["--include-loopback"]], ids=["", "include-loopback"])
@pytest.mark.parametrize("listen", [[], ["--listen", "0.0.0.0:0", "--listen", "[::]:0"]],
                         ids=["loopback", "wildcard"])
def test_relay_does_not_connect_to_itself(bed, policy, listen):
    """The client uses each address that leads to the relay: it is refused, or reset if it was
    redirected to itself, and there is no loop.

    To see it fail: do not return PICK_RESET in pick_run(), and take getsockname() for the
    destination in origdst_get() when there is no record.
    """
    bed.load(*policy)
    relay = bed.start_relay(*listen)
    port, port6 = relay.address[1], host6.relay_address(relay)[1]
    targets = [(LOOPBACK, port), ("0.0.0.0", port), (f"::ffff:{LOOPBACK}", port), ("::1", port6),
               ("::", port6)]
    if listen:
        targets += [("127.9.9.9", port), (CLIENT, port), (f"::ffff:{CLIENT}", port),
                    (CLIENT6, port6)]
    for place in (bed.client, bed.bystander, bed.relay_place):
        seen = bed.run_in(as_user, fates, targets, place=place)
        expected = {wire.REFUSED, wire.RESET} if place == bed.client else {wire.REFUSED}
        assert set(seen) <= expected, place
    host.wait_until(bed.pins.at_rest, "nothing is left")
    assert len(relay.connections()) <= 3 * 2 * len(targets), "it went round"
    assert bed.visit(bed.listen()).relayed


def test_relays_do_not_connect_to_each_other(proxied):
    """A connection to the older relay's port, through the newer one. To see it fail: let a relay
    connect upstream without a record."""
    older = proxied.relay
    proxied.load("--include-loopback")
    newer = proxied.start_relay()
    targets = [older.address, host6.relay_address(older), newer.address]
    assert proxied.run_in(as_user, fates, targets) == [wire.RESET, wire.RESET, wire.REFUSED]
    assert len(older.connections() + newer.connections()) <= 2 * len(targets)
    assert proxied.visit(proxied.listen()).relayed


def test_direct_connections_in_masses(proxied):
    """Each is refused, and others are served afterwards. To see it fail: do not return PICK_RESET
    in pick_run()."""
    before = proxied.relay.descriptors_at_rest()
    assert set(proxied.run_in(as_user, fates, [proxied.relay.address] * 500)) == {wire.REFUSED}
    assert proxied.visit(proxied.listen()).relayed
    host.wait_until(lambda: proxied.relay.descriptors() <= before + 8, "descriptors come back")


# --- nonsense in map_config


def netns_cookie(bed):
    with bed.client_net.inside(), socket.socket() as sock:
        return sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)


def write_as_member(bed, name, key, value):
    """Writes to a map as a member of the group, which has the permission."""
    def write():
        with bed.pins.open(name) as pinned:
            pinned.update(key, value)

    bed.run_in(partial(as_user, write, gid=RELAY_GID), place=bed.bystander)


def outcome(bed, listener):
    """The outcome for a client: WELL, or the errno of its connect(). Never another destination."""
    try:
        client = bed.connect(listener, timeout=2)
    except OSError as error:
        return errno.errorcode.get(error.errno, repr(error))
    server, _ = bed.accept(listener)
    wire.exchange(client, server)
    return "WELL"


def nonsense(bed, stranger):
    """(name, fields): registered_ns, alive_ns, pid, uid, then the listeners of both families.
    Fields that are not garbled are the relay's own."""
    port, port6 = bed.relay.address[1], host6.relay_address(bed.relay)[1]
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    here, here6 = (LOOPBACK, port), ("::1", port6)
    return {
        "port-0": (now, now, 1, 0, (LOOPBACK, 0), ("::1", 0)),
        "no-ports": (now, now, 1, 0, (LOOPBACK,), ("::1",)),
        "too-many-ports": (now, now, 1, 0, pack_listen(LOOPBACK, port, n_ports=65535),
                           pack_listen("::1", port6, n_ports=65)),
        "zeroes": (0, 0, 0, 0, ("0.0.0.0", 0), ("::", 0)),
        "ones": (2**64 - 1, 2**64 - 1, 2**32 - 1, 2**32 - 1, ("255.255.255.255", 65535),
                 ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535)),
        "not-mapped": (now, now, 1, 0, ("::", port), ("::", port6)),
        "remote": (now, now, 1, 0, (SERVER, 80), ("2001:db8::1", 80)),
        "multicast": (now, now, 1, 0, ("224.0.0.1", port), ("ff02::1", port6)),
        "stranger": (now, now, 1, 0, stranger.getsockname(), ("::1", stranger.getsockname()[1])),
        "wrong-pid": (now, now, 1, 0, here, here6),
        "alive-in-the-future": (now, now + FAR, 1, 0, here, here6),
        "alive-at-the-end-of-time": (now, 2**64 - 1, 1, 0, here, here6),
        "alive-long-ago": (now, 1, 1, 0, here, here6),
        "never-alive": (now, 0, 1, 0, here, here6),
    }


@pytest.mark.parametrize("policy", [[], ["--fail-closed"]], ids=["fail-open", "fail-closed"])
def test_nonsense_in_the_registration(bed, policy):
    """Clients reach their destinations, or are refused where the policy says so. The other
    process gets no connection, and the relay continues.

    To see it fail: let gather_listener() set has_listener without is_our_listener().
    """
    bed.load(*policy)
    relay = bed.start_relay()
    key = netns_cookie(bed)
    stranger = bed.listen(LOOPBACK, netns=bed.client_net)
    listener, listener6 = bed.listen(), host6.listen(bed)
    garbled = nonsense(bed, stranger)
    wrong = {}
    for what, (registered, alive, pid, uid, four, six) in garbled.items():
        write_as_member(bed, "map_config", key, RELAY.pack(
            registered, alive, 0, pid, uid,
            *(listen if isinstance(listen, bytes) else pack_listen(*listen)
              for listen in (four, six))))
        seen = outcome(bed, listener)
        if seen != "WELL" and not (policy and seen == "ECONNREFUSED"):
            wrong[what] = seen
        if not policy:
            host6.visit(bed, listener6)
    assert wrong == {}
    assert select.select([stranger], [], [], 0)[0] == []
    assert relay.running()
    with bed.pins.open("map_config") as config:
        config.delete(key)
    host.wait_until(lambda: bed.pins.count("map_config"), "the relay registers again")
    assert bed.visit(listener).relayed


@pytest.mark.parametrize("family", ["inet", "inet6"])
def test_listener_of_the_other_family_in_the_registration(proxied, family):
    """The relay's own IPv6 listener in place of the IPv4 one, and vice versa: the mark is
    right, the address cannot be.

    Ensured by take_port(), which accepts no listener if the address is not of dst's family.
    """
    address, address6 = proxied.relay.address, host6.relay_address(proxied.relay)
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    write_as_member(proxied, "map_config", netns_cookie(proxied), RELAY.pack(
        now, now, 0, 1, 0, pack_listen(*address6), pack_listen(*address)))
    if family == "inet":
        assert outcome(proxied, proxied.listen()) == "WELL"
    else:
        listener = host6.listen(proxied)
        host6.visit(proxied, listener)


# --- nonsense in map_failed


def connect_outcomes(address):
    """The outcome of connect() of a blocking and of a non-blocking socket, and SO_ERROR after
    it."""
    with socket.socket() as blocking, socket.socket() as other:
        blocking.settimeout(None)
        first = blocking.connect_ex(address)
        other.setblocking(False)
        second = other.connect_ex(address)
        ready = bool(select.select([], [other], [], wire.TIMEOUT)[1])
        connected = True
        try:
            other.getpeername()
        except OSError:
            connected = False
        error = other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return first, second, ready and error == 0 and second == errno.EINPROGRESS, connected


HONEST = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT}


def wrong_outcomes(bed, errors):
    """The errors in map_failed that make connect() return what it must not."""
    listener = bed.listen()
    address = listener.getsockname()
    key = FAILED_KEY.pack(netns_cookie(bed), pack_address(address[0]), address[1], 0, 0)
    wrong = {}
    for error in errors:
        write_as_member(bed, "map_failed", key, FAILED.pack(2**64 - 1, error, 0))
        outcomes = bed.run_in(connect_outcomes, address)
        first, second, seems, connected = outcomes
        if (first not in HONEST | {0} or second not in HONEST | {errno.EINPROGRESS}
                or seems != connected):
            wrong[error] = outcomes
    return wrong


def test_nonsense_in_map_failed(proxied):
    """A client reaches its destination or gets one of the errors that a relay notes. It never
    gets a success without a connection.

    To see it fail: let cached_error() return any failed_error.
    """
    assert wrong_outcomes(proxied, [
        0, 4096, 65536, 1 << 31, 2**32 - 1, 2**32 - errno.ECONNREFUSED, *HONEST]) == {}


def test_other_errors_in_map_failed(proxied):
    """Errors of a connection that is being made or exists (EINPROGRESS, EISCONN, EALREADY),
    internal ones of the kernel (512 to 524), and an undefined one (4095). Ensured by
    cached_error(), which returns only errors that marks_note_error() notes."""
    assert wrong_outcomes(proxied, [
        errno.EINPROGRESS, errno.EISCONN, errno.EALREADY, errno.EAGAIN, errno.EPERM, 512, 524,
        4095]) == {}
