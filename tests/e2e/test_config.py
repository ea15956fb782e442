# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxy-load's configuration file: what it sets, what takes precedence, and its errors."""

import os
import signal
import socket
import subprocess

import pytest

import host
import programs
from maps import attached
from programs import RELAY_GID, RELAY_UID

# Lines of a section [load], and what the message about the last line must contain.
WRONG_LINES = [
    (["cgroup ="], "cgroup", "empty"),
    (["pin-dir ="], "pin-dir", "empty"),
    (["relay-cgroup ="], "relay-cgroup", "empty"),
    (["fail-closed = maybe"], "fail-closed", "maybe"),
    (["fail-closed = 2"], "fail-closed", "2"),
    (["fail-closed = # yes"], "fail-closed"),
    (["fail-closed = yes", "fail-closed = yes"], "given twice, first at", ":5"),
    (["relay-cgroup = /x"], "relay-cgroup: given twice, first at", ":3"),
    (["all = yes"], "mutually exclusive"),
    (["include-loopback ="], "include-loopback"),
    (["relay-group = no-such-group"], "relay-group", "no-such-group"),
    (["relay-group = -1"], "relay-group", "-1"),
    (["verbose = yes"], "verbose", "unknown key"),
    (["config = /etc/other"], "config", "unknown key"),
    (["Cgroup = /x"], "Cgroup", "unknown key"),
    (["nonsense"], "neither"),
    (["[load"], "neither"),
    (["[relay]x"], "text after '[section]'"),
    (["[relay] workers = 1"], "text after '[section]'"),
    (["# comment", "; another", "", "fail-closed = no", "bogus = 1"], "bogus"),
    (["[laod]"], "no section '[laod]'"),
    (["[]"], "no section '[]'"),
    (["= yes"], "no key before the value"),
    (["k" * 300 + " = yes"], "the key is too long"),
    (["pin-dir = /" + "y" * 4352], "longer than 4352 characters"),
]


@pytest.fixture
def config(bed):
    """config(text) writes a file and returns its path."""
    def write(text, name="tproxy.conf"):
        path = bed.directory / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def section(bed, *lines):
    return "\n".join(["[load]", f"cgroup = {bed.scope}", f"relay-cgroup = {bed.relay_cgroup}",
                      f"relay-group = {RELAY_GID}", *lines, ""])


def assert_nothing_applied(bed):
    assert not bed.pins.path.exists()
    assert attached(bed.scope) == attached(bed.outside) == attached(bed.relay_cgroup) == []


def test_values(bed, config):
    """Every key; comments, blanks and the other notation. Sections of the relay are ignored.

    To see it fail: forget one key in set_option().
    """
    others = "# of tproxy\n; a comment\n\n[relay]\nworkers = 4\nno-key-of-ours = 1\n"
    path = config(others + section(
        bed, f"cgroup: {bed.outside}", "fail-closed   =  yes  ", "include-loopback=yes",
        f"pin-dir = {bed.pins.path} ; where"))
    bed.tproxy_load("--config", path, pin_dir=bed.pins.path).succeeded()
    status = bed.tproxy_load.status()
    assert status["policy"] == "fail-closed" and status["include_loopback"] is True
    assert status["relay_cgroup"] == str(bed.relay_cgroup)
    assert {link["cgroup"] for link in status["links"] if link["program"] == "connect4"} == {
        str(bed.scope), str(bed.outside)}
    assert (bed.pins.path / "map_config").stat().st_gid == RELAY_GID
    bed.start_relay()
    assert bed.visit(bed.listen()).relayed


def test_pin_directory(bed, config):
    """--pin-dir on the command line takes precedence over that of the file."""
    path = config(section(bed, f"pin-dir = {bed.pins.path}"))
    other = bed.directory / "bpf" / "other"
    bed.tproxy_load("-f", path, pin_dir=other).succeeded()
    assert other.exists() and not bed.pins.path.exists()
    bed.tproxy_load("--unload", pin_dir=other).succeeded()
    bed.run(bed.tproxy_load.binary, "--config", path, place=bed.bystander).succeeded()
    assert bed.pins.names()
    result = bed.run(bed.tproxy_load.binary, "--config", path, "--status", place=bed.bystander)
    assert str(bed.pins.path) in result.succeeded().out
    bed.run(bed.tproxy_load.binary, "--config", path, "--unload",
            place=bed.bystander).succeeded()
    assert not bed.pins.path.exists()


@pytest.mark.parametrize("order", ["before", "after"])
def test_command_line_goes_before(bed, config, order):
    """The command line takes precedence, wherever -f stands; --cgroup replaces all cgroups of the
    file. To see it fail: read the file where -f stands on the command line, or add to its
    cgroups."""
    path = config(section(bed, "fail-closed = no").replace(f"= {RELAY_GID}", "= 1"))
    flags = ["--cgroup", bed.outside, "--relay-group", RELAY_GID, "--fail-closed"]
    args = ["-f", path, *flags] if order == "after" else [*flags, "-f", path]
    bed.tproxy_load(*args).succeeded()
    status = bed.tproxy_load.status()
    assert status["policy"] == "fail-closed" and status["include_loopback"] is False
    assert {link["cgroup"] for link in status["links"] if link["program"] == "connect4"} == {
        str(bed.outside)}
    assert (bed.pins.path / "map_config").stat().st_gid == RELAY_GID
    assert attached(bed.scope) == []


@pytest.mark.parametrize("value, closed", [("true", True), ("ON", True), ("1 # one", True),
                                           ("false", False), ("off ; no", False), ("0", False)])
def test_words_for_yes_and_no(bed, config, value, closed):
    path = config(section(bed, f"fail-closed = {value}"))
    result = bed.tproxy_load("--check", "-f", path).succeeded()
    assert ("fail-closed" in result.out) is closed


def test_second_load_takes_what_the_file_says_now(bed, config):
    path = config(section(bed, "fail-closed = yes"))
    bed.tproxy_load("-f", path).succeeded()
    path.write_text(section(bed))
    bed.tproxy_load("-f", path).succeeded()
    assert bed.tproxy_load.status()["policy"] == "fail-open"


def test_check(bed, config):
    """Accepts a good file and does nothing, for any user. To see it fail: let --check load."""
    path = config(section(bed, "fail-closed = yes"))
    bed.directory.chmod(0o755)
    for user in (None, (RELAY_UID, RELAY_GID)):
        result = bed.tproxy_load("--check", "-f", path, user=user).succeeded()
        assert "good" in result.out and "fail-closed" in result.out and result.err == ""
        assert_nothing_applied(bed)


def test_check_of_a_running_installation_changes_nothing(proxied, config):
    before = proxied.pins.names(), attached(proxied.scope), proxied.pins.dump("map_policy")
    proxied.tproxy_load("--check", "-f", config(section(proxied, "fail-closed = yes"))).succeeded()
    assert before == (proxied.pins.names(), attached(proxied.scope),
                      proxied.pins.dump("map_policy"))


def test_check_finds_what_is_not_there(bed, config):
    """A cgroup that does not exist is no error of the file, because it may exist later."""
    missing = bed.scope.path / "missing"
    path = config(f"[load]\ncgroup = {missing}\n")
    bed.tproxy_load("--check", "-f", path).refused(f"{path}:2: cgroup '{missing}'", "No such file")
    path = config(f"[load]\ncgroup = {bed.scope}\n\nrelay-cgroup = {missing}\n")
    bed.tproxy_load("-f", path).refused(f"{path}:4: relay-cgroup '{missing}'", "No such file")
    bed.tproxy_load("--check", "-f", path, "-r", missing).refused("load: --relay-cgroup '/")
    assert_nothing_applied(bed)


def test_scopes_of_the_file_are_named_by_line(bed, config):
    """Every cgroup that does not exist, and one that is given twice.

    To see it fail: return from open_scopes() at the first error; or log "--cgroup" there.
    """
    missing = [bed.scope.path / name for name in ("missing", "absent")]
    path = config("[load]\n" + "".join(f"cgroup = {name}\n" for name in missing) +
                  f"relay-cgroup = {missing[0]}\n")
    result = bed.tproxy_load("--check", "-f", path)
    assert result.status == 1 and result.out == ""
    assert [line.split(": ")[1] for line in result.err.splitlines()] == [
        f"{path}:{number}" for number in (2, 3, 4)]
    path = config(f"[load]\ncgroup = {bed.scope}\ncgroup = {bed.scope}\n")
    result = bed.tproxy_load("--check", "-f", path)
    assert result.status == 0
    assert f"{path}:3: cgroup '{bed.scope}' is given twice\n" in result.err
    path = config(f"[load]\nrelay-cgroup = {bed.scope}\ncgroup = {bed.outside}\n"
                  f"cgroup = {bed.scope}\n")
    bed.tproxy_load("--check", "-f", path).refused(
        f"{path}:4: cgroup '{bed.scope}' is in the relay cgroup")
    assert_nothing_applied(bed)


def test_check_says_which_section(bed, config):
    """It must not approve a section that it has not read. Fails without config_has_others in both
    programs."""
    path = config(section(bed, "", "[relay]", "workers = two", "idle-timeout = x"))
    said = bed.tproxy_load("--check", "-f", path).succeeded().out
    assert f"to check section [relay]: tproxy-relay --check --config '{path}'" in said
    relay = bed._binaries / "tproxy-relay"
    result = programs.call(relay, "--check", "--config", path)
    assert result.status == 2 and result.out == ""
    assert [line.split(": ")[1] for line in result.err.splitlines()] == [
        f"{path}:{number}" for number in (7, 8)]
    path.write_text(section(bed, "", "[relay]", "workers = 3"))
    said = programs.call(relay, "--check", "-f", path).succeeded().out
    assert said.startswith("good: ") and "with 3 workers" in said
    assert f"to check section [load]: tproxy-load --check --config '{path}'" in said
    path.write_text("[relay]\nworkers = 3\n")
    assert programs.call(relay, "--check", "-f", path).succeeded().out.count("\n") == 1


def test_relay_check_of_addresses(bed):
    """An address of another host, a port below 1024, or an address that no client can connect to:
    one line, and nothing is loaded or listens.

    To see it fail: let local_is_broadcast() return false.
    """
    relay = bed._binaries / "tproxy-relay"
    programs.call(relay, "--check", "--listen", "192.0.2.77:0").refused(
        "192.0.2.77:0", "Cannot assign requested address")
    programs.call(relay, "--check", "--listen", "127.0.0.1:80", user=(RELAY_UID, RELAY_GID),
                  place=bed.relay_place).refused("127.0.0.1:80", "CAP_NET_BIND_SERVICE")
    programs.call(relay, "--check", "--listen", "127.255.255.255:0").refused(
        "127.255.255.255:0", "broadcast")
    for address in ("224.0.0.1:0", "255.255.255.255:0", "[::ffff:127.0.0.1]:0"):
        programs.call(relay, "--check", "--listen", address).refused(address, status=2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        assert address in programs.call(relay, "--check", "-l", address).succeeded().out


def test_relay_options_that_depend_on_each_other(bed, config):
    """They are named by their line in the file. To see it fail: let format_where() write ''."""
    relay = bed._binaries / "tproxy-relay"
    path = config("[relay]\nworkers = 64\nlisteners = 2\nverbose = yes\n")
    programs.call(relay, "--check", "-f", path).refused(f"{path}:3: 64 workers", status=2)
    programs.call(relay, "--check", "-f", path, "--listeners=3").refused(
        f"{path}:2: 64 workers x 3", status=2)
    programs.call(relay, "--check", "-f", path, "--listeners=3", "-w", "30").refused(
        "relay: 30 workers x 3", status=2)
    path = config("[relay]\nlisten = 127.0.0.1:65535\nworkers = 2\n")
    programs.call(relay, "--check", "-f", path).refused(f"{path}:2: listen: no 2 ports", status=2)


@pytest.mark.parametrize("options", [[], ["--check"]], ids=["load", "check"])
@pytest.mark.parametrize("lines, named", [(lines, named) for lines, *named in WRONG_LINES],
                         ids=[lines[-1][:20] or "-" for lines, *_ in WRONG_LINES])
def test_wrong_line(bed, config, lines, named, options):
    """One line that names file and line, exit status 2, and no effect.

    To see it fail: do not count blank lines or comments; or apply what precedes the error.
    """
    path = config(section(bed, *lines))
    number = 4 + len(lines)
    bed.tproxy_load(*options, "-f", path).refused(f"{path}:{number}: ", *named, status=2)
    assert_nothing_applied(bed)


def test_every_wrong_line_is_named(bed, config):
    path = config("[load]\nbogus = 1\nfail-closed = yes\nfail-closed = 2\n[other]\nkey = 3\n")
    result = bed.tproxy_load("--check", "-f", path)
    assert result.status == 2 and result.out == ""
    assert [line.split(": ")[1] for line in result.err.splitlines()] == [
        f"{path}:{number}" for number in (2, 4, 5)]


def test_key_before_the_first_section(bed, config):
    path = config(f"fail-closed = yes\n{section(bed)}")
    bed.tproxy_load("-f", path).refused(f"{path}:1: ", "fail-closed", status=2)
    assert_nothing_applied(bed)


@pytest.mark.parametrize("length, good", [(198, True), (199, True), (4352, True), (4353, False),
                                          (9000, False)])
def test_long_line(bed, config, length, good):
    """A line that is too long is refused and not cut: half a path would be another path. A comment
    may have any length."""
    line = "fail-closed =" + "yes".rjust(length - len("fail-closed ="))
    path = config(section(bed, line, "#" + "x" * length))
    result = bed.tproxy_load("--check", "-f", path)
    if good:
        assert "fail-closed" in result.succeeded().out
    else:
        result.refused(f"{path}:5: ", "longer than 4352 characters", status=2)
    assert_nothing_applied(bed)


@pytest.mark.parametrize("text", [b"", b"\n\n", b"[load]", b"[load]\r\nfail-closed = no\r\n",
                                  b"\xef\xbb\xbf[load]\nfail-closed = no\n",
                                  b"[load]\nfail-closed = no"],
                         ids=["empty", "blank", "section", "crlf", "bom", "no-newline"])
def test_forms_that_are_good(bed, config, text):
    bed.tproxy_load("--check", "-c", bed.scope, "-f", config(text)).succeeded()


def test_binary_file(bed, config):
    result = bed.tproxy_load("--check", "-c", bed.scope, "-f", config(bytes(range(256)) * 20))
    assert result.status == 2 and result.err
    assert_nothing_applied(bed)


def test_unreadable_file(bed, config):
    missing = bed.directory / "missing.conf"
    bed.tproxy_load("-c", bed.scope, "-f", missing).refused(missing, "No such file", status=2)
    path = config(section(bed))
    path.chmod(0o600)
    bed.tproxy_load("--check", "-f", path, user=(RELAY_UID, RELAY_GID)).refused(
        path, "Permission denied", status=2)
    assert_nothing_applied(bed)


@pytest.mark.parametrize("options", [[], ["--check"]], ids=["load", "check"])
def test_read_error(bed, options):
    """A directory gives EISDIR. If it counted as an empty file, the policy would be fail-open.

    To see it fail: do not call ferror() in configfile_read().
    """
    bed.tproxy_load(*options, "-c", bed.scope, "-f", bed.directory).refused(
        bed.directory, "directory", status=2)
    assert_nothing_applied(bed)


def test_file_that_is_wrong_keeps_what_is_loaded(proxied, config):
    before = proxied.pins.names(), proxied.pins.dump("map_policy")
    path = config(section(proxied, "fail-closed = yes", "bogus = 1"))
    proxied.tproxy_load("-f", path).refused(f"{path}:6: ", status=2)
    assert before == (proxied.pins.names(), proxied.pins.dump("map_policy"))
    assert proxied.visit(proxied.listen()).relayed


@pytest.mark.parametrize("args, named", [
    (["--check", "--unload"], "--check"), (["--check", "--status"], "--check"),
    (["--config"], "--config"), (["-f", ""], "path is empty")])
def test_usage_errors(bed, args, named):
    bed.tproxy_load("-c", bed.scope, *args).refused(named, status=2)


def fifo(path):
    os.mkfifo(path)
    return path


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    return path


@pytest.mark.parametrize("kind", [fifo, unix_socket, lambda path: "/dev/stdin"],
                         ids=["fifo", "socket", "stdin"])
def test_file_that_would_keep_us_waiting(bed, binaries, kind):
    """Both programs refuse at once a file that is not regular. /dev/null counts as an empty
    file.

    Fails if it is opened without O_NONBLOCK, or whatever its type is.
    """
    path = kind(bed.directory / "strange.conf")
    reader, writer = os.pipe()
    with open(reader, "rb") as reader, open(writer, "wb"):
        for program in (programs.LOAD, programs.RELAY):
            result = subprocess.run(
                [binaries / program.name, "--config", path, "--check"], stdin=reader,
                capture_output=True, text=True, timeout=5, check=False)
            assert result.returncode == 2 and "it is not a regular file" in result.stderr
            assert result.stderr.count("\n") == 1
    assert bed.run_relay("--config", "/dev/null", "--check").status == 0


def test_file_that_becomes_a_pipe(bed, config):
    """At SIGHUP the relay reports this and continues, and it can be stopped."""
    bed.load()
    path = config("[relay]\nworkers = 1\n")
    relay = bed.start_relay("--config", path)
    path.unlink()
    os.mkfifo(path)
    relay.signal(signal.SIGHUP)
    host.wait_until(lambda: "is not a regular file" in relay.text(), "the relay refuses it")
    assert bed.visit(bed.listen()).relayed


def test_section_with_a_comment(bed, config):
    """Nothing but a comment may follow a section's name."""
    for comment in (" ; a comment", " # a comment", "  "):
        path = config(section(bed).replace("[load]", "[load]" + comment))
        bed.tproxy_load("--check", "--config", path).succeeded()


def test_check_looks_at_the_pin_directory(bed, tmp_path):
    """It gives the errors of a load, and makes nothing. Fails if --check does not look at it."""
    there = tmp_path / "there"
    there.mkdir()
    for pin_dir in (tmp_path / "new", there, bed.pins.path.parent, tmp_path / "no" / "such"):
        args = ["--cgroup", bed.scope]
        said = bed.tproxy_load("--check", *args, pin_dir=pin_dir).refused(pin_dir).err
        assert bed.tproxy_load(*args, pin_dir=pin_dir).refused().err == said
    bed.tproxy_load("--check", "--cgroup", bed.scope).succeeded()
    assert not bed.pins.path.exists() and not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", [b"\xff\xfe", "a\u202eb\u2066".encode(), b"\x1b[2J\nx\xc2\x9b"])
def test_strange_bytes_are_escaped_on_stderr(bed, binaries, name):
    """They are escaped as on stdout. Fails if only control characters of ASCII are."""
    for program, option in ((programs.LOAD, "-c"), (programs.RELAY, "-f"), (programs.LOAD, "-p")):
        result = subprocess.run([binaries / program.name, "--check", option, b"/nowhere/" + name,
                                 *([] if option != "-p" else ["-c", str(bed.scope)])],
                                capture_output=True, timeout=5, check=False)
        assert result.returncode in (1, 2) and result.stderr.count(b"\n") == 1
        assert all(0x20 <= byte < 0x7f for byte in result.stderr[:-1]), result.stderr
        assert f"\\x{name[-1]:02x}'".encode() in result.stderr
