# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is told about upstreams: tproxyctl upstreams, metrics, the connection log."""

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest

import host
import proxies
import wire
from harness import SERVER, SERVER2
from proxies import PASSWORD, USER
from programs import RELAY_GID, RELAY_UID
from ruling import binary  # noqa: F401 - a fixture
from test_log import json_lines
from test_upstreams import bed, group, hosts, listen, section, through_proxy, use  # noqa: F401

NOBODY = "198.51.100.2:7"


@pytest.fixture
def ask(bed, binary):  # noqa: F811
    """The document of tproxyctl upstreams, by name. The relay must have @admin."""
    directory = bed.directory / "admin"
    directory.mkdir()
    os.chown(directory, RELAY_UID, RELAY_GID)
    path = directory / "admin.sock"

    def run(*options):
        return bed.run(binary, "upstreams", "--admin", path, *options)

    def document():
        root = json.loads(run("--json").succeeded().out)
        assert root["version"] == 1
        return {upstream["name"]: upstream for upstream in root["upstreams"]}

    document.run = run
    document.options = ("--admin", path, "--connection-log", "text")
    document.path = path
    return document


def metric(text, name, **labels):
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return float(re.search(rf"^{name}{{{inside}}} (\S+)$", text, re.MULTILINE)[1])


@pytest.fixture
def chained(bed, ask):  # noqa: F811
    """A relay whose default is a group: nobody listens at its first member."""
    proxy = proxies.microsocks(bed, login=True)
    use(bed, section(bed, "first", address=NOBODY, type="http"), section(bed, "second", proxy),
        group(bed, "both", "first", "second", order="failover"), default="both",
        options=ask.options)
    return bed


@pytest.mark.needs("microsocks")
def test_states(chained, ask):
    """Before a dial, while one member is down, and what was sent.

    To see it fail: write the state of the first upstream for all, or leave out figures.
    """
    before = ask()
    assert before["first"]["state"] == before["second"]["state"] == "unknown"
    assert before["both"]["state"] == "up" and before["both"]["default"]
    assert before["direct"]["type"] == "direct" and "state" not in before["direct"]
    for _ in range(3):
        through_proxy(chained, families=(socket.AF_INET,))
    after = ask()
    first, second, both = (after[name] for name in ("first", "second", "both"))
    assert first["state"] in ("down", "trying") and second["state"] == "up"
    assert first["error"] == "ECONNREFUSED" and first["why"]
    assert first["address"] == NOBODY and 0 <= first["since_ms"] < 60000
    assert first["failed"] == first["failures"]["connect"] >= 3
    assert (second["dials"], second["failed"]) == (3, 0)
    assert second["dial_us"] > 0 and second["total"] == 3
    assert both["state"] == "up" and both["order"] == "failover"
    assert [(m["name"], m["weight"], m["down"]) for m in both["members"]] == [
        ("first", 1, True), ("second", 1, False)]


@pytest.mark.needs("microsocks")
def test_text(chained, ask):
    """The table, why an upstream is down, and the connection log, without the password."""
    for _ in range(3):
        through_proxy(chained, families=(socket.AF_INET,))
    text = ask.run().succeeded().out
    assert re.match(r"NAME +TYPE +STATE +SINCE +DIALS +FAILED +DIAL TIME +NOW +UP +DOWN +ADDRESS\n",
                    text)
    assert re.search(rf"^first +http +(down|trying) +[\d.]+ s +\d+ +\d+ .* {NOBODY}\n"
                     r"  .*\(ECONNREFUSED\)", text, re.MULTILINE)
    assert re.search(r"^second +socks5 +up +[\d.]+ s +3 +0 +[\d.]+ ms ", text, re.MULTILINE)
    assert re.search(r"^both +group +up .*\(default\)\n  failover of first \(down\), second$", text,
                     re.MULTILINE)
    host.wait_until(lambda: chained.relay.text().count(", via second: up 6 B, down 6 B") == 3,
                    "three lines")
    for said in (text, ask.run("--json").succeeded().out, chained.relay.text()):
        assert PASSWORD not in said and USER not in said


def test_check_of_a_name(bed, ask):  # noqa: F811
    """An upstream is up if one of its addresses answers; there is none at the first one.

    To see it fail: let next_address() of checks.c return false after the first address.
    """
    port = bed.listen(SERVER).getsockname()[1]
    with hosts(bed, f"{SERVER2} two.example\n{SERVER} two.example\n"):
        use(bed, section(bed, "one", type="tcp", address=f"two.example:{port}",
                         check_interval="100ms"), options=ask.options)
        host.wait_until(lambda: ask()["one"]["dials"] > 3, "checks")
        one = ask()["one"]
    assert (one["state"], one["failed"]) == ("up", 0)


def test_log_of_a_failure(bed):  # noqa: F811
    """The line of a connection names the upstream that has failed, and why.

    To see it fail: leave out the upstream in connlog.c.
    """
    relay = use(bed, section(bed, "first", address=NOBODY, type="http"), default="first",
                options=("--connection-log", "json"))
    address = listen(bed).getsockname()
    assert bed.run_in(wire.fate, address) == wire.RESET
    host.wait_until(lambda: json_lines(relay), "a line of the connection")
    line, = json_lines(relay)
    assert (line["upstream"], line["error"]) == ("first", "ECONNREFUSED")
    assert line["upstream_error"] == "Connection refused"


@pytest.mark.needs("microsocks", "promtool")
def test_metrics(chained, ask):
    """promtool finds nothing to criticise, and the numbers are those of the connections."""
    for _ in range(3):
        through_proxy(chained, families=(socket.AF_INET,))

    def scrape():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(wire.TIMEOUT)
            sock.connect(str(ask.path))
            sock.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return wire.read_to_end(sock)[0].decode().partition("\r\n\r\n")[2]

    host.wait_until(lambda: metric(scrape(), "tproxy_upstream_connections", upstream="second") == 0,
                    "the ends of the connections")
    text = scrape()
    result = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                            capture_output=True, timeout=60, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
    assert metric(text, "tproxy_upstream_up", upstream="first") == 0
    assert metric(text, "tproxy_upstream_up", upstream="both") == 1
    assert metric(text, "tproxy_upstream_dials_failed_total", upstream="first",
                  reason="connect") >= 3
    assert metric(text, "tproxy_upstream_connections_total", upstream="second") == 3
    assert metric(text, "tproxy_upstream_dial_seconds_count", upstream="second") == 3
    assert metric(text, "tproxy_upstream_sent_bytes_total", upstream="second") > 0
    assert PASSWORD not in text and USER not in text


@pytest.mark.parametrize("address, says, status", [
    ("/nonexistent/admin.sock", "no relay answers at '/nonexistent/admin.sock': start", 1),
    ("127.0.0.1:9", "no relay answers at '127.0.0.1:9': start", 1),
    ("localhost", "--admin: 'localhost' is neither the path", 2),
])
def test_nobody_answers(bed, binary, address, says, status):  # noqa: F811
    """One line that says what to do."""
    bed.run(binary, "upstreams", "--admin", address).refused(says, status=status)


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
STRANGE = "what answers at"


def document(version=1, **members):
    upstream = {"name": "a", "type": "http", "state": "down", "why": "no answer", **members}
    return HEAD + json.dumps({"version": version, "upstreams": [upstream]}).encode()


@pytest.fixture
def answered(bed, binary):  # noqa: F811
    """Runs tproxyctl upstreams while a stranger answers at the admin address."""
    listener = bed.keep(socket.socket(socket.AF_UNIX))
    path = bed.directory / "stranger.sock"
    listener.bind(str(path))
    listener.listen()

    def run(answer, *options, pause=0.0):
        def serve():
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):
                sock.recv(4096)
                for piece in [answer] if not pause else map("%c".__mod__, answer.decode()):
                    sock.sendall(piece if not pause else piece.encode())
                    time.sleep(pause)

        thread = threading.Thread(target=serve)
        thread.start()
        result = bed.run(binary, "upstreams", "--admin", path, *options)
        thread.join()
        return result

    return run


def test_stranger_answers(answered):
    """Who listens at the admin address decides nothing about the terminal, and not the time.

    To see it fail: in upstreams_answer_parse(), set *ret_root to the parsed document; leave out
    check(); in read_answer(), do not wait for the deadline.
    """
    escapes = document(name="\x1b[31mred\u202e", why="\x1b[2J", address="\u009b31m", order="x",
                       members=[{"name": "\x07", "weight": 1, "down": False}])
    escapes = escapes.replace(b"http", b"\xff\xfe").replace(b"\\u001b[2J", b"\xfe\\u001b[2J")
    for options in ((), ("--json",)):
        out = answered(escapes, *options).succeeded().out
        assert out.isascii() and not re.search(r"[^ -~\n]", out)
        assert r"\x1b[31mred\xe2\x80\xae" in out.replace(r"\\x", r"\x"), out
        assert r"\xfe\x1b[2J" in out.replace(r"\\x", r"\x")
    assert json.loads(out)["upstreams"][0]["type"] == r"\xff\xfe"
    answered(document(version=99)).refused("another version of the document", status=1)
    for answer in (
            b"", b"junk\n", HEAD, HEAD + b"[]", HEAD + b"null", HEAD + b'{"version":1}',
            document(version="1"), document().replace(b"]", b",1]"), document()[:-1],
            document() + b"x", document().replace(b'"type"', b'"kind"'), document(name=None),
            document(state=5), document(dials="x"), document(members=7),
            document(members=[{"name": "x"}]), document(members=[None], order="x"),
            document(since_ms=[]), document().replace(b'"down"', b'"down", "x": NaN'),
            HEAD + b'{"version":1,"upstreams":' + b"[" * 1000):
        answered(answer).refused(STRANGE, status=1)
        answered(answer, "--json").refused(STRANGE, status=1)
    assert "down" in answered(document()).succeeded().out
    answered(document(), pause=0.1).refused("timed out", status=1)
