# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The password of an upstream is nowhere but in its own page of the relay's memory: not in the
command line, the environment, the log, a map, a page, the metrics or a core dump. Each search finds
something that is no secret, so that it is known to search."""

import base64
import contextlib
import errno
import os
import re
import resource
import selectors
import signal
import socket
import time
from pathlib import Path

import pytest

import maps
import programs
import wire
from harness import SERVER
from programs import RELAY_GID, RELAY_UID
from test_admin import Admin
from test_handover import LIFE_LEAST, start  # noqa: F401 (start is a fixture)
from test_log import path, reload  # noqa: F401 (path is a fixture)
from terminator import Authority

USER, PASSWORD = "known-user", "swordfish-5f1e77"
CREDENTIALS = base64.b64encode(f"{USER}:{PASSWORD}".encode())
# Also without its last group, whose form depends on what follows.
SECRETS = [PASSWORD.encode(), CREDENTIALS, CREDENTIALS[-16:-4]]
FORBIDDEN_PORT = 4712


def serve_connect(listener, authorization=b""):
    """An HTTP proxy that asks for this header, forbids FORBIDDEN_PORT, and echoes what comes
    through a tunnel."""
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    sock, _ = listener.accept()
                    answer_connect(sock, authorization)
                    selector.register(sock, selectors.EVENT_READ)
                    continue
                data = b""
                with contextlib.suppress(ConnectionResetError):
                    data = key.fileobj.recv(1 << 16)
                if data:
                    key.fileobj.sendall(data)
                else:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()


def answer_connect(sock, authorization):
    request = b""
    while b"\r\n\r\n" not in request:
        data = sock.recv(1)
        if not data:
            return
        request += data
    if b"CONNECT %s:%d " % (SERVER.encode(), FORBIDDEN_PORT) in request:
        status = b"403 Forbidden"
    elif authorization and authorization not in request:
        status = b"407 Proxy Authentication Required"
    else:
        status = b"200 OK"
    sock.sendall(b"HTTP/1.1 " + status + b"\r\n\r\n")


def is_refused():
    """Connects to a destination that the proxy forbids: a reset, or, for a second after one, an
    error of connect()."""
    with contextlib.suppress(PermissionError, ConnectionResetError):
        sock = wire.connect((SERVER, FORBIDDEN_PORT))
        assert not sock.recv(1), "the destination is not refused"


@pytest.fixture
def directory(path):  # noqa: F811
    """Where the relay's user may write: its core dump, and the socket of --admin."""
    os.chown(path.parent, RELAY_UID, RELAY_GID)
    return path.parent


def write_password(directory, text, name="password"):
    password = directory / name
    password.touch()
    os.chown(password, RELAY_UID, RELAY_GID)
    password.chmod(0o600)
    password.write_text(text)
    return password


def start_dumping(loaded, directory, *options):
    """Starts a relay whose core dump goes to the directory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    relay = loaded.start_relay(
        *options, wrapper=["env", "-C", directory, *programs.unprivileged(RELAY_UID, RELAY_GID)])
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    return relay


@pytest.fixture
def relay(loaded, directory, path):  # noqa: F811
    """A relay that has connected through the proxy, was refused a destination, and was reloaded
    with a wrong password file and a good one."""
    proxy = loaded.listen()
    proxy.settimeout(None)
    loaded.task(serve_connect, proxy, b"Basic " + CREDENTIALS + b"\r\n", place=loaded.server)
    address, port = proxy.getsockname()
    password = write_password(directory, PASSWORD + "\n")
    path.write_text(f"[relay]\ndefault-upstream = corp\n[upstream corp]\ntype = http\n"
                    f"address = {address}:{port}\nuser = {USER}\npassword-file = {password}\n")
    relay = start_dumping(loaded, directory, "--config", path, "--admin",
                          directory / "admin.sock", "--connection-log=json")
    client = loaded.connect((SERVER, 4711))
    client.sendall(b"through")
    assert wire.read_exactly(client, 7) == b"through"
    for _ in range(3):
        loaded.run_in(is_refused)
    write_password(directory, f"{PASSWORD}\n{PASSWORD}\n")
    reload(relay, "going on with the configuration before")
    write_password(directory, PASSWORD)
    reload(relay, "read the configuration again")
    other = loaded.connect((SERVER, 4711))
    other.sendall(b"again")
    assert wire.read_exactly(other, 5) == b"again"
    return relay


def search(where, data, known):
    """Asserts that the bytes have no form of the password, and what is @known."""
    assert known in data, f"the search of {where} has found nothing"
    for secret in SECRETS:
        assert secret not in data, f"the password is in {where}"


def can_be_listed(shown):
    """The kernel lists no keys of rings and socket storages. Long arrays belong to the loader, and
    the relay cannot write them."""
    size = shown["max_entries"] * (shown["bytes_key"] + shown["bytes_value"])
    return "hash" in shown["type"] or ("array" in shown["type"] and size < 1 << 17)


def map_bytes(pin):
    """All keys and values of a pinned map."""
    def to_bytes(value):
        if isinstance(value, list):
            return bytes(int(byte, 16) for byte in value if isinstance(byte, str))
        return str(value).encode()

    result = b""
    for entry in maps.bpftool("map", "dump", "pinned", pin) or []:
        for value in (entry.get("key"), entry.get("value"),
                      *(cpu["value"] for cpu in entry.get("values", []))):
            result += to_bytes(value)
    return result


def core_of(relay, directory):
    """The core dump that the kernel writes, or, if it would go elsewhere, the memory that would be
    in it: all mappings but those of MADV_DONTDUMP."""
    if re.match("[|/]", Path("/proc/sys/kernel/core_pattern").read_text()):
        return dumped_memory(relay.pid)
    relay.killed = True
    relay.signal(signal.SIGABRT)
    relay.wait()
    return b"".join(core.read_bytes() for core in directory.glob("core*"))


def dumped_memory(pid):
    result = b""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for mapping in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )",
                                Path(f"/proc/{pid}/smaps").read_text()):
            first, last = (int(word, 16) for word in mapping.split()[0].split("-"))
            if " dd" in mapping.rpartition("VmFlags:")[2]:
                continue
            with contextlib.suppress(OSError, ValueError, OverflowError):
                memory.seek(first)
                result += memory.read(last - first)
    return result


def test_outside_of_the_process(loaded, relay, directory):
    """To see it fail: log the password in read_secret(); or give it to the relay in its
    environment."""
    process = Path(f"/proc/{relay.pid}")
    search("the command line", (process / "cmdline").read_bytes(), b"--config")
    search("the environment", (process / "environ").read_bytes(), b"LC_ALL")
    for name, text in loaded.logs().items():
        search(name, text.encode(), b"")
    relay.says("HTTP 403")
    assert str(directory / "password") in relay.text()
    admin = Admin(loaded, directory / "admin.sock")
    for page, known in (("/", b"<html lang"), ("/state.json", b'"version"'),
                        ("/metrics", b"tproxy_relay_"), ("/upstreams.json", b'"corp"')):
        search(page, admin.get(page).encode(), known)
    searched = {}
    for pin in loaded.pins.path.glob("map_*"):
        if can_be_listed(maps.bpftool("map", "show", "pinned", pin)):
            searched[pin.name] = map_bytes(pin)
    assert searched.keys() >= {"map_config", "map_failed", "map_socks"}
    search("the maps", b"".join(searched.values()), socket.inet_aton(SERVER))


@pytest.mark.needs("openssl")
def test_next_child_that_cannot_read(loaded, start, directory, path):  # noqa: F811
    """The child that follows a killed one cannot read a password, or a certificate. It has what the
    supervisor has read, says so, and a reload replaces it.

    To see it fail: in read_options_again() do not call relay_upstreams_read(), or in run() do not
    call it before the fork: the supervisor ends with the child.
    """
    proxy = loaded.listen()
    proxy.settimeout(None)
    loaded.task(serve_connect, proxy, b"Basic " + CREDENTIALS + b"\r\n", place=loaded.server)
    address, port = proxy.getsockname()
    good = Authority(directory, "ca").certificate.read_text()
    ca = directory / "trust.pem"
    ca.write_text(good)
    password = write_password(directory, PASSWORD)
    path.write_text(f"[relay]\ndefault-upstream = corp\n[upstream corp]\ntype = http\n"
                    f"address = {address}:{port}\nuser = {USER}\npassword-file = {password}\n"
                    f"[upstream other]\ntype = http\naddress = {address}:{port}\ntls = yes\n"
                    f"tls-ca = {ca}\n")
    relay = start("--config", path)
    for times, spoil in ((2, lambda: password.chmod(0o444)), (3, lambda: ca.write_text("none"))):
        spoil()
        time.sleep(LIFE_LEAST)
        os.kill(relay.relay_pid, signal.SIGKILL)
        relay.wait_registered(times)
        relay.says("using the configuration of the supervisor's start", times - 1)
        with loaded.connect((SERVER, 4711)) as client:
            client.sendall(b"through")
            assert wire.read_exactly(client, 7) == b"through"
        password.chmod(0o600)
    ca.write_text(good)
    reload(relay, "read the configuration again")
    write_password(directory, "wrong")
    reload(relay, "read the configuration again")
    assert loaded.run_in(wire.fate, (SERVER, 4711)) == wire.RESET
    relay.says("HTTP 407")


def test_core_dump(relay, directory):
    """To see it fail: leave out madvise() in secret_memory_new()."""
    search("the core dump", core_of(relay, directory), USER.encode())


def begin_connect(address):
    sock = socket.socket()
    sock.setblocking(False)
    assert sock.connect_ex(address) == errno.EINPROGRESS
    return sock


@pytest.mark.parametrize("kind, exchanges", [("http", []), ("socks5", [(4, b"\5\2")])],
                         ids=["http", "socks5"])
def test_core_dump_while_dials_wait(loaded, directory, path, kind, exchanges):  # noqa: F811
    """The request is sent, and the proxy has not answered.

    To see it fail: in handshake_create(), make scratch with calloc(), and in handshake_run() leave
    out explicit_bzero().
    """
    proxy = loaded.listen()
    address, port = proxy.getsockname()
    password = write_password(directory, PASSWORD)
    path.write_text(f"[relay]\ndefault-upstream = corp\n[upstream corp]\ntype = {kind}\n"
                    f"address = {address}:{port}\nuser = {USER}\npassword-file = {password}\n")
    relay = start_dumping(loaded, directory, "--config", path)
    clients = [loaded.keep(loaded.run_in(begin_connect, (SERVER, 4711))) for _ in range(3)]
    for server in [loaded.accept(proxy)[0] for _ in clients]:
        for length, answer in exchanges:
            wire.read_exactly(server, length)
            server.sendall(answer)
        request = server.recv(1 << 16)
        assert any(secret in request for secret in SECRETS)
    search("the core dump", core_of(relay, directory), USER.encode())
