# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The sections of upstreams and names in the configuration file: --check, and reload."""

import os
import signal
import time

import pytest

import programs
import wire
from harness import SERVER
from programs import RELAY_GID, RELAY_UID
from test_handover import LIFE_LEAST, start  # noqa: F401 (a fixture)
from test_secrets import FORBIDDEN_PORT, is_refused, serve_connect
from test_log import path, reload  # noqa: F401 (path is a fixture)

GOOD = """\
[relay]
default-upstream = corp
[upstream corp]
type = group
members = a, b
[upstream a]
type = http
address = proxy.example.com:3128
[upstream b]
type = socks5
address = 192.0.2.1:1080
[names]
*.example.org = via b
intranet.example.com = direct
"""

# Several mistakes, and where.
WRONG = """\
[relay]
default-upstream = nobody
sniff-ports = 80,0
[upstream a]
type = html
[upstream a b]
[upstream b]
type = tcp
address = 192.0.2.1
when-down = wait
key = value
[names]
a..b = direct
*.example.org = go
"""


@pytest.fixture
def relay_check(bed):
    """relay_check(path, ...) runs tproxy-relay --check, as the relay's user."""
    def check(path, *options, user=(RELAY_UID, RELAY_GID)):
        return programs.call(bed._binaries / "tproxy-relay", "--check", "-f", path, *options,
                             user=user, place=bed.relay_place)

    return check


def lines_of(result, path):
    """The numbers of the lines of @path that stderr names, in its order."""
    said = [line.split(": ", 2) for line in result.err.splitlines()]
    assert all(place.startswith(f"{path}:") for _, place, _ in said), result
    return [int(place.rpartition(":")[2]) for _, place, _ in said]


def test_check_names_each_wrong_line(bed, path, relay_check):  # noqa: F811
    """All mistakes in one run, each with its line; and those that concern two sections.

    To see it fail: return from upstream_reader_check() after the first upstream with an error; or
    set reader->skip in line_error() of configfile.c.
    """
    path.write_text(WRONG)
    result = relay_check(path)
    assert result.status == 2 and result.out == ""
    assert lines_of(result, path) == [3, 5, 6, 9, 10, 11, 13, 14]
    path.write_text(GOOD.replace("members = a, b", "members = a, c, corp")
                    .replace("via b", "via nobody").replace("= corp\n", "= nobody\n"))
    result = relay_check(path)
    assert result.status == 2 and result.out == ""
    assert lines_of(result, path) == [5, 5, 13, 2]
    assert "there is no [upstream c]" in result.err and "'corp' in line 3 is a group" in result.err


def test_check_accepts_a_good_file(bed, path, relay_check):  # noqa: F811
    """The loader skips the sections. To see it fail: leave "names" out of the sections in
    configfile.c."""
    path.write_text(GOOD)
    relay_check(path).succeeded()
    relay_check(path, "--default-upstream=b", "--sniff-ports=443").succeeded()
    relay_check(path, "--default-upstream=c").refused(
        "--default-upstream: there is no [upstream c]", status=2)
    path.write_text("[load]\n" + f"cgroup = {bed.scope}\n" + GOOD)
    said = bed.tproxy_load("--check", "-f", path).succeeded().out
    assert f"to check section [relay]: tproxy-relay --check --config '{path}'" in said


@pytest.mark.parametrize("mode, owner, why", [
    (0o600, RELAY_UID, None), (0o400, RELAY_UID, None), (0o640, RELAY_UID, "mode 0640"),
    (0o604, RELAY_UID, "mode 0604"), (0o600, 0, "Permission denied"),
    (0o600, RELAY_UID + 1, "Permission denied"), (None, 0, "No such file")],
    ids=["0600", "0400", "0640", "0604", "root", "stranger", "missing"])
def test_check_of_a_password_file(bed, path, relay_check, mode, owner, why):
    """To see it fail: let check_file() in secret.c ignore the mode."""
    password = path.parent / "password"
    if mode is not None:
        password.write_text("hunter2\n")
        os.chown(password, owner, RELAY_GID)
        password.chmod(mode)
    path.write_text("[upstream a]\ntype = socks5\naddress = 192.0.2.1:1080\nuser = u\n"
                    f"password-file = {password}\n")
    result = relay_check(path)
    if why is None:
        assert "hunter2" not in result.succeeded().out
    else:
        result.refused(f"{path}:5: password-file: ", str(password), why)
        assert "hunter2" not in result.err


def test_check_by_root(path, relay_check):  # noqa: F811
    """Root can read every password file, so the answer tells whose it is. To see it fail: do not
    call relay_upstreams_print_owners()."""
    password = path.parent / "password"
    password.write_text("hunter2\n")
    os.chown(password, RELAY_UID, RELAY_GID)
    password.chmod(0o400)
    path.write_text("[upstream a]\ntype = socks5\naddress = 192.0.2.1:1080\nuser = u\n"
                    f"password-file = {password}\n")
    said = relay_check(path, user=None).succeeded().out
    assert f"password file '{password}' is for uid {RELAY_UID}: " in said
    assert "password file" not in relay_check(path).succeeded().out


def test_check_of_a_certificate(bed, path, relay_check):  # noqa: F811
    """To see it fail: leave check_tls() out of relay_upstreams_read()."""
    text = "[upstream a]\ntype = http\naddress = 192.0.2.1:1\ntls = yes\ntls-ca = "
    path.write_text(text + "/nonexistent.pem\n")
    relay_check(path).refused(f"{path}:5: tls-ca: cannot read '/nonexistent.pem': No such file")
    path.write_text(text + f"{path}\n")
    relay_check(path).refused(f"{path}:5: tls-ca: no certificates from '{path}'")


def tcp_upstream(path, listener, *others):
    """An upstream without a protocol: the bytes of all clients arrive at @listener."""
    address, port = listener.getsockname()
    path.write_text("\n".join(["[relay]", "default-upstream = a", "[upstream a]", "type = tcp",
                               f"address = {address}:{port}", *others, ""]))


def test_reload_replaces_upstreams(loaded, path):  # noqa: F811
    """New connections go to the new upstream, and a connection that exists goes on. A file with a
    mistake changes nothing, and a FIFO for certificates does not block the relay.

    To see it fail: in relay_upstreams_set() send the workers the first set only; or apply the
    options before it; or leave O_NONBLOCK out of trust.c.
    """
    bed, destination = loaded, (SERVER, 4711)  # nobody listens there
    one, other = bed.listen(), bed.listen()
    tcp_upstream(path, one)
    relay = bed.start_relay("--config", path)
    client = bed.connect(destination)
    server, _ = bed.accept(one)
    wire.exchange(client, server)
    tcp_upstream(path, other)
    reload(relay, "read the configuration again")
    new_client = bed.connect(destination)
    new_server, _ = bed.accept(other)
    wire.exchange(new_client, new_server)
    wire.exchange(client, server)
    tcp_upstream(path, one, "tls = perhaps")
    reload(relay, "the configuration is not valid, going on with the one before")
    assert f"{path}:6: tls: 'perhaps'" in relay.text()
    fifo = path.parent / "ca.pem"
    os.mkfifo(fifo, 0o644)
    tcp_upstream(path, one, "tls = yes", f"tls-ca = {fifo}")
    reload(relay, "going on with the configuration before")
    assert f"cannot read '{fifo}': it is not a regular file" in relay.text()
    new_client = bed.connect(destination)
    new_server, _ = bed.accept(other)
    wire.exchange(new_client, new_server)
    wire.exchange(client, server)


def test_forbidden_destination(loaded, path):  # noqa: F811
    """A destination that the proxy forbids: the client is reset, and the next connect() fails. To
    see it fail: take EACCES out of cached_error(), or out of marks_note_refused()."""
    proxy = loaded.listen()
    loaded.task(serve_connect, proxy, place=loaded.server)
    path.write_text("[relay]\ndefault-upstream = a\nerror-memory = 1h\n[upstream a]\ntype = http\n"
                    "address = {}:{}\n".format(*proxy.getsockname()))
    loaded.start_relay("--config", path)
    loaded.run_in(is_refused)
    with pytest.raises(PermissionError):
        loaded.connect((SERVER, FORBIDDEN_PORT))


def test_destination_forbidden_to_one_client(loaded, path):  # noqa: F811
    """A proxy that is told who the client is may serve the next one: nothing is remembered.

    To see it fail: do not set of_client in note_refusal().
    """
    proxy = loaded.listen()
    loaded.task(serve_connect, proxy, place=loaded.server)
    path.write_text("[relay]\ndefault-upstream = a\nerror-memory = 1h\n[upstream a]\ntype = http\n"
                    "proxy-protocol = v1\naddress = {}:{}\n".format(*proxy.getsockname()))
    loaded.start_relay("--config", path)
    for _ in range(2):
        assert loaded.run_in(wire.fate, (SERVER, FORBIDDEN_PORT)) == wire.RESET
    assert loaded.pins.dump("map_failed") == []


def test_next_child_reads_the_upstreams(loaded, start, path):  # noqa: F811
    """A child that the supervisor starts again has the upstreams of the file as it is now. To see
    it fail: do not call read_options_again()."""
    bed, destination = loaded, (SERVER, 4711)
    one, other = bed.listen(), bed.listen()
    tcp_upstream(path, one)
    relay = start("--config", path)
    wire.exchange(bed.connect(destination), bed.accept(one)[0])
    tcp_upstream(path, other)
    time.sleep(LIFE_LEAST)
    os.kill(relay.relay_pid, signal.SIGKILL)
    relay.wait_registered(2)
    wire.exchange(bed.connect(destination), bed.accept(other)[0])
