# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What SECURITY.md says about each place, as far as test_hostile.py and test_confined.py do not
test it: what an attacker gains there, so that the page does not promise too much, and what not."""

import ctypes
import errno
import os
import signal
import socket
import struct
import time
from functools import partial
from pathlib import Path

import maps
import wire
from harness import CLIENT
from maps import pack_address, pack_listen
from programs import RELAY_GID, RELAY_UID
from test_abi import mark
from test_confined import named, new_map, new_program, outcome
from test_hostile import (FAILED, FAILED_KEY, RELAY, SO_NETNS_COOKIE, as_user, ask_for_ids, bpf,
                          netns_cookie, try_all_pins, write_as_member)

MARK_UPSTREAM = 2
CLONE_NEWUSER = 0x10000000
PTRACE_ATTACH = 16
PR_SET_DUMPABLE = 4
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438
PROG_DETACH, LINK_GET_FD_BY_ID = 9, 30
INET4_CONNECT = 10

libc = ctypes.CDLL(None, use_errno=True)


def call(function, *args):
    result = function(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


# --- a member of the relay's group


def become_relay(pins):
    """Binds, marks, listens and registers."""
    sock = socket.socket()
    sock.settimeout(wire.TIMEOUT)
    sock.bind(("127.0.0.1", 0))
    mark(pins, sock)
    sock.listen()
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    with pins.open("map_config") as config:
        config.update(sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), RELAY.pack(
            now, now, 0, 1, 0, pack_listen(*sock.getsockname()), pack_listen("::")))
    return sock


def serve_one(listener):
    """As a relay that got a connection: returns what it reads."""
    with listener.accept()[0] as sock:
        return wire.read_exactly(sock, 6)


def test_member_gets_the_connections(proxied):
    """The member registers a relay of its own, as any program with access to the maps can. So no
    other process may be in that group."""
    listener = proxied.keep(proxied.run_in(
        partial(as_user, become_relay, proxied.pins, gid=RELAY_GID), place=proxied.relay_place))
    client = proxied.connect(proxied.listen())
    client.sendall(b"secret")
    assert serve_one(listener) == b"secret"


def connect_marked(pins, address):
    sock = socket.socket()
    sock.settimeout(wire.TIMEOUT)
    with pins.open("map_marks") as marks:
        marks.update(struct.pack("=i", sock.fileno()),
                     struct.pack("=I", MARK_UPSTREAM).ljust(marks.value_size, b"\0"))
    sock.connect(address)
    return sock


def test_member_exempts_its_sockets(proxied):
    """It marks its sockets, and they are direct. It cannot mark sockets of others."""
    listener = proxied.listen()
    proxied.keep(proxied.run_in(partial(as_user, connect_marked, proxied.pins,
                                        listener.getsockname(), gid=RELAY_GID)))
    assert proxied.accept(listener)[1][0] == CLIENT
    assert proxied.stats()["bypass_relay"] == 1
    assert proxied.visit(listener).relayed


def test_member_makes_connections_fail(proxied):
    """To any destination, in any network namespace whose cookie it knows."""
    listener = proxied.listen()
    address = listener.getsockname()
    key = FAILED_KEY.pack(netns_cookie(proxied), pack_address(address[0]), address[1], 0, 0)
    write_as_member(proxied, "map_failed", key, FAILED.pack(2**64 - 1, errno.ECONNREFUSED, 0))
    assert proxied.run_in(outcome, wire.connect, address) == "ECONNREFUSED"


# --- another user


def grasp(pid):
    """What one process can do to another."""
    pidfd = call(libc.syscall, SYS_PIDFD_OPEN, pid, 0)
    return {
        "trace": outcome(call, libc.ptrace, PTRACE_ATTACH, pid, 0, 0),
        "sockets": outcome(call, libc.syscall, SYS_PIDFD_GETFD, pidfd, 0, 0),
        "signal": outcome(os.kill, pid, signal.SIGTERM),
        "descriptors": outcome(os.listdir, f"/proc/{pid}/fd"),
        "memory": outcome(open, f"/proc/{pid}/mem", "rb"),
    }


def test_user_cannot_touch_the_relays_process(proxied):
    """A member of the relay's group cannot either. To see it fail: use uid=RELAY_UID."""
    for gid in (1234, RELAY_GID):
        assert proxied.run_in(partial(as_user, grasp, proxied.relay.pid, gid=gid)) == {
            "trace": "EPERM", "sockets": "EPERM", "signal": "EPERM", "descriptors": "EACCES",
            "memory": "EACCES"}


def take_a_socket(pid):
    pidfd = call(libc.syscall, SYS_PIDFD_OPEN, pid, 0)
    links = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    fd = next(int(fd) for fd, target in links.items() if target.startswith("socket:"))
    with socket.socket(fileno=call(libc.syscall, SYS_PIDFD_GETFD, pidfd, fd, 0)) as sock:
        return sock.family in (socket.AF_INET, socket.AF_INET6)


def test_relays_user_takes_its_sockets(proxied):
    """With the sockets it takes the connections, so no other process may run as that user. Yama
    may forbid this."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    forbidden = scope.exists() and scope.read_text().strip() != "0"
    took = proxied.run_in(partial(as_user, outcome, take_a_socket, proxied.relay.pid,
                                  uid=RELAY_UID, gid=RELAY_GID))
    assert took == ("EPERM" if forbidden else True)


def enter(cgroup):
    with open(cgroup.path / "cgroup.procs", "w", encoding="ascii") as file:
        file.write("0")


def test_user_cannot_enter_the_relays_cgroup(proxied):
    """Its connections would be direct there. It cannot leave its own cgroup either. The mode of
    cgroup.procs decides this."""
    for cgroup in (proxied.relay_cgroup, proxied.outside):
        assert proxied.run_in(as_user, outcome, enter, cgroup) == "EACCES"
        assert proxied.run_in(outcome, enter, cgroup) is None, "root can"


# --- root of a user namespace, as in a container


def as_root_of_its_own(function, *args):
    """For a task of a user: all capabilities, in a user namespace of its own."""
    uid, gid = os.getuid(), os.getgid()
    call(libc.prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)  # as after an exec: it owns /proc/self
    call(libc.unshare, CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    assert (os.getuid(), os.getgid()) == (0, 0)
    return function(*args)


def seize(pins, names, ids, cgroup, relay):
    fd = os.open(cgroup, os.O_RDONLY)
    return {
        "pins": try_all_pins(pins, names),
        "maps by id": {named(each) for each in ask_for_ids(ids)},
        "links by id": {named(bpf(LINK_GET_FD_BY_ID, "III", number, 0, 0)) for number in range(9)},
        "a map": new_map(),
        "a program": new_program(),
        # Only a process that holds a program or a link can name it.
        "detached": bpf(PROG_DETACH, "IIII", fd, 0, INET4_CONNECT, 0) >= 0,
        **grasp(relay),
    }


def test_root_of_a_user_namespace(proxied):
    """It has no power over what was made outside: the kernel requires capabilities in the initial
    user namespace, and it does not own the pins. Its connections are still redirected."""
    ids = [maps.bpftool("map", "show", "pinned", proxied.pins.path / "map_socks")["id"]]
    got = proxied.run_in(as_user, as_root_of_its_own, seize, proxied.pins.path,
                         proxied.pins.names(), ids, proxied.scope.path, proxied.relay.pid)
    assert got == {
        "pins": [], "maps by id": {"EPERM"}, "links by id": {"EPERM"}, "a map": "EPERM",
        "a program": "EPERM", "detached": False, "trace": "EPERM", "sockets": "EPERM",
        "signal": "EPERM", "descriptors": "EACCES", "memory": "EACCES"}
    listener = proxied.listen()
    proxied.keep(proxied.run_in(as_user, as_root_of_its_own, wire.connect, listener.getsockname()))
    proxied.accept(listener)
    assert len(proxied.pins.dump("map_socks")) == 1, "redirected"
