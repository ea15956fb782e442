# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The relay confined as by its unit, and what a relay that is taken over can still do there."""

import ctypes
import errno
import os
import signal
import socket
import struct
import tempfile
from functools import partial
from pathlib import Path

import pytest

import host
import host6
import maps
import programs
import wire
from confine import confined, unit
from harness import NOBODY, SERVER
from test_admin import TCP, Admin
from test_handover import Service
from test_hostile import OBJ_GET, RDONLY, ask_for_ids, bpf, member_access
from test_load import RINGS
from test_secrets import serve_connect

MAP_CREATE, PROG_LOAD, OBJ_PIN = 0, 5, 6
HASH, SOCKET_FILTER = 1, 1
DIRECTORIES = ("/", "/etc", "/tmp", "/var/tmp", "/usr/bin", "/dev")


@pytest.fixture
def bed(bed):
    host6.give_addresses(bed)
    return bed


@pytest.fixture
def config():
    """A file that the relay's user can read."""
    with tempfile.TemporaryDirectory(prefix="tproxy-") as directory:
        os.chmod(directory, 0o755)
        path = Path(directory) / "tproxy.conf"
        path.write_text("[relay]\nerror-memory = 5s\n")
        yield path


# The leak sanitizer needs ptrace(2) at the end.
SANITIZER = {"ASAN_OPTIONS": programs.ENVIRONMENT["ASAN_OPTIONS"] + ":detect_leaks=0"}


def start(bed, *options, without=(), env=None):
    return bed.start_relay(*options, place=confined(bed, without), wrapper=[],
                           env={**SANITIZER, **(env or {})})


def assert_confined(pid):
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines()
                  if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert status[name] == "0" * 16
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split() == [str(programs.RELAY_UID)] * 4
    assert status["Gid"].split() == [str(programs.RELAY_GID)] * 4
    assert status["Groups"].strip() == ""
    for line in (proc / "mountinfo").read_text().splitlines():
        assert "ro" in line.split()[5].split(","), line
    for name in ("mnt", "user"):
        assert os.readlink(proc / "ns" / name) != os.readlink(f"/proc/self/ns/{name}")


def swap(bed, client, server):
    """Bulk in both directions."""
    up, down = wire.Stream("up", 20 << 20), wire.Stream("down", 20 << 20)
    task = bed.task(wire.swap_streams, server, down, place=bed.server)
    assert wire.swap_streams(client, up) == (down.size, down.sha256())
    assert task.result(30) == (up.size, up.sha256())


@host.needs_no_process
def errno_of(address):
    with socket.socket() as sock:
        sock.settimeout(wire.TIMEOUT)
        return sock.connect_ex(address)


@pytest.mark.needs("systemd-analyze", "cc")
def test_all_that_a_relay_does(loaded, config):
    """Both families, bulk, honest connect, metrics, signals, new maps and the end work as without
    the confinement.

    To see it fail: start(…, without={"bpf"}), or without "splice", "epoll_wait" or "sendmsg".
    """
    notify = loaded.directory / "notify"
    sock = loaded.keep(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    sock.bind(str(notify))
    notify.chmod(0o777)
    sock.settimeout(wire.TIMEOUT)
    relay = start(loaded, "--config", config, "--connection-log", "json", "--workers", 2,
                  "--buffer-size", "8K", "--admin", TCP, "--honest-connect",
                  env={"NOTIFY_SOCKET": str(notify)})
    assert b"READY=1" in sock.recv(4096)
    assert_confined(relay.pid)

    listener, listener6 = loaded.listen(), host6.listen(loaded)
    assert loaded.visit(listener).relayed
    assert host6.visit(loaded, listener6).relayed
    found = Admin(loaded, TCP).metrics()
    assert found["tproxy_loaded"] == found["tproxy_relay_registered"] == 1
    swap(loaded, *loaded.pair(listener))
    assert loaded.run_in(errno_of, NOBODY) == errno.ECONNREFUSED
    assert loaded.run_in(wire.fate, relay.address) == wire.REFUSED
    assert loaded.stats()["honest_pending"] == loaded.stats()["redirected"] > 0

    config.write_text("[relay]\nidle-timeout = 30m\n")
    relay.signal(signal.SIGHUP)
    host.wait_until(lambda: "read the configuration again" in relay.text(), "SIGHUP")
    relay.signal(signal.SIGUSR1)
    counted = host.wait_until(lambda: [line for line in relay.text().splitlines()
                                       if "spliced" in line], "SIGUSR1")
    assert "spliced 0 B" not in counted[0]

    loaded.unload()
    loaded.load()
    host.wait_until(lambda: len(relay.registrations()) == 2, "registered in other maps")
    client, server = loaded.pair(listener)
    client6, server6 = host6.pair(loaded, listener6)
    relay.signal(signal.SIGTERM)
    host.wait_until(lambda: "draining" in relay.text(), "SIGTERM")
    wire.exchange(client, server)
    wire.exchange(client6, server6)
    for one in (client, client6):
        one.close()
    for one in (server, server6):
        assert wire.ended_by(one) == wire.EOF
        one.close()
    assert relay.wait() == 0
    assert "Operation not permitted" not in relay.text()


@pytest.mark.needs("systemd-analyze", "cc")
def test_upstreams(loaded, config):
    """A host name, a password, and a UNIX socket.

    To see it fail: start(…, without={"madvise"}), or without "sendto".
    """
    destination = (SERVER, 4711)  # the proxies answer for it
    password = config.with_name("password")
    password.write_text("hunter2\n")
    os.chown(password, programs.RELAY_UID, programs.RELAY_GID)
    password.chmod(0o400)
    with loaded.client_net.inside():
        proxy = loaded.keep(wire.listener(("127.0.0.1", 0)))
    local = loaded.keep(socket.socket(socket.AF_UNIX))
    local.bind(str(config.with_name("socket")))
    config.with_name("socket").chmod(0o777)
    local.listen()
    text = ("[relay]\ndefault-upstream = {}\n[upstream named]\ntype = http\n"
            f"address = localhost:{proxy.getsockname()[1]}\nuser = u\npassword-file = {password}\n"
            f"[upstream local]\ntype = http\naddress = {config.with_name('socket')}\n")
    config.write_text(text.format("named"))
    relay = start(loaded, "--config", config)
    assert_confined(relay.pid)
    for listener in (proxy, local):
        loaded.task(serve_connect, listener, place=loaded.bystander)
    assert loaded.run_in(ask, destination) == b"through"
    config.write_text(text.format("local"))
    relay.signal(signal.SIGHUP)
    relay.says("read the configuration again")
    assert loaded.run_in(ask, destination) == b"through"
    assert "not permitted" not in relay.text()


def ask(address):
    with wire.connect(address) as sock:
        sock.sendall(b"through")
        return wire.read_exactly(sock, 7)


@pytest.mark.needs("systemd-analyze", "cc")
def test_restart(loaded):
    """With the options of the unit's ExecStart=: the child serves its connections, the next relay
    new ones. To see it fail: start_service() without "socketpair", "signalfd4" or "poll"."""
    options = [word for word in unit()["ExecStart"][0].split() if word.startswith("--")]
    assert "--drain-in-background" in options

    def start_service():
        log = loaded.directory / f"relay{len(loaded.relays)}.log"
        loaded.relays.append(Service(
            loaded._binaries / programs.RELAY.name, loaded.pins.path, *options,
            "--drain-timeout", "5s", place=confined(loaded), wrapper=[], log=log, env=SANITIZER))
        return loaded.relays[-1].wait_registered()

    before = start_service()
    assert_confined(before.relay_pid)
    client, server = loaded.pair()
    before.signal(signal.SIGTERM)
    assert before.wait() == 0
    after = start_service()
    host.wait_until(lambda: loaded.pins.dump("map_config")[0]["value"]["pid"] == after.relay_pid,
                    "the next one has registered")
    wire.exchange(client, server)
    assert loaded.visit(loaded.listen()).relayed
    client.close()
    assert wire.ended_by(server) == wire.EOF
    server.close()
    host.wait_until(before.gone, "nothing is left for the child to do")
    after.signal(signal.SIGHUP)
    host.wait_until(lambda: "read the configuration again" in after.text(), "SIGHUP")


@pytest.mark.needs("systemd-analyze", "cc")
@pytest.mark.parametrize("call, said", [("bpf", "no permission to open"),
                                        ("socket", "Operation not permitted")])
def test_relay_without_a_call_that_it_needs(loaded, call, said):
    """The filter works: without these calls a relay does not start."""
    refused = loaded.run_relay(place=confined(loaded, without={call}), gid=None, env=SANITIZER)
    assert refused.status == 1, refused
    assert said in refused.err.splitlines()[-1], refused
    assert loaded.pins.dump("map_config") == []


# --- who has taken the relay over: its user, its group, its confinement, its descriptors


def outcome(function, *args):
    """The name of the errno, or the result."""
    try:
        return function(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


def create(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
    path.unlink()


def named(code):
    return errno.errorcode[-code] if code < 0 else code


def new_map():
    return named(bpf(MAP_CREATE, "IIII", HASH, 4, 4, 1))


def new_program():
    """Two instructions: r0 = 0, exit."""
    code = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
    text = ctypes.create_string_buffer(b"GPL")
    return named(bpf(PROG_LOAD, "IIQQ", SOCKET_FILTER, 2, ctypes.addressof(code),
                     ctypes.addressof(text)))


def pin_again(pins):
    name = ctypes.create_string_buffer(os.fsencode(pins / "map_socks"))
    fd = bpf(OBJ_GET, "QII", ctypes.addressof(name), 0, RDONLY)
    name = ctypes.create_string_buffer(os.fsencode(pins / "mine"))
    return named(bpf(OBJ_PIN, "QII", ctypes.addressof(name), fd, 0))


def attempts(pins, names, victim, ids):
    write, read, codes = member_access(pins, names)
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name, *args):
        if getattr(libc, name)(*args) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    return {
        "maps": (sorted(write), sorted(read), set(map(named, codes))),
        "files": {outcome(create, Path(directory, "tproxy-hostile"))
                  for directory in (*DIRECTORIES, pins)},
        "a pin removed": outcome(os.unlink, pins / "map_socks"),
        "a pin made": pin_again(pins),
        "maps by id": {named(each) for each in ask_for_ids(ids)},
        "a map": new_map(),
        "a program": new_program(),
        "root": outcome(os.setresuid, 0, 0, 0),
        "a signal": outcome(os.kill, victim, signal.SIGTERM),
        "a trace": outcome(call, "ptrace", 16, victim, 0, 0),
        "a namespace": outcome(call, "unshare", 0x10000000),
        "a mount": outcome(call, "mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "a packet socket": outcome(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
        "a raw socket": outcome(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1),
        "netlink": outcome(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW),
        "others in /proc": os.path.exists(f"/proc/{victim}"),
    }


@pytest.mark.needs("systemd-analyze", "cc")
def test_relay_taken_over(proxied):
    """Tries what the relay's process could do. It keeps what a relay needs: the maps of the group,
    and connections. To see it fail: leave out _read_only_mounts(), or the filter, in
    Confined.enter()."""
    ids = [maps.bpftool("map", "show", "pinned", proxied.pins.path / "map_socks")["id"]]
    victim = proxied.task(signal.pause, place=proxied.bystander).pid
    got = proxied.run_in(partial(attempts, proxied.pins.path, proxied.pins.names(), victim,
                                 ids),
                         place=confined(proxied))
    assert got == {
        "maps": (["map_config", "map_events", "map_failed", "map_marks", "map_pairs",
                  "map_pending", "map_ring_owners", "map_verdicts", *sorted(RINGS)],
                 ["map_block", "map_block_stats", "map_listeners", "map_observed",
                  "map_observed_slots", "map_policy", "map_ports", "map_rule_stats",
                  "map_rule_texts", "map_rules_active", "map_set_texts", "map_sets_active",
                  "map_socks", "map_stats", "map_targets", "map_traffic", "map_traffic_sums",
                  "prog_pick"], {"EPERM"}),
        "files": {"EROFS"},
        "a pin removed": "EROFS",
        "a pin made": "EROFS",
        "maps by id": {"EPERM"},
        "a map": "EPERM",
        "a program": "EPERM",
        "root": "EPERM",
        "a signal": "EPERM",
        "a trace": "EPERM",
        "a namespace": "EPERM",
        "a mount": "EPERM",
        "a packet socket": "EAFNOSUPPORT",
        "a raw socket": "EPERM",
        "netlink": "EAFNOSUPPORT",
        "others in /proc": False,
    }
