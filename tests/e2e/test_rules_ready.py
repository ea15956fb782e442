# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The rule files of the package do what their comments say, with the names in them changed to those
of the bed."""

import errno
import socket
from functools import partial
from pathlib import Path

import pytest

import host
from harness import SERVER, SERVER2
from ruling import DIRECT, RELAYED, attempt, serve_peers
from tproxyctl import binary, ctl  # fixtures

READY = Path(__file__).parents[2] / "loader" / "rules.d"
USER = 47001


@pytest.fixture
def ready(loaded, ctl):
    """ready(name, old, new) puts a copy of a file in force, in which all of @old are replaced."""
    def load(name, old="", new=""):
        for path in READY.iterdir():
            text = path.read_text(encoding="utf-8")
            if path.name == name and old:
                assert old in text, f"no {old!r} in {name}"
                text = text.replace(old, new)
            (loaded.directory / path.name).write_text(text, encoding="utf-8")
        ctl("rules", "load", loaded.directory / name).succeeded()
    return load


@pytest.fixture
def connect(loaded):
    return lambda *address, place=None, **how: loaded.run_in(partial(attempt, address, **how),
                                                             place=place)


def serve(bed, *addresses):
    bed.task(serve_peers, *(bed.listen(*address) for address in addresses), place=bed.server)


def test_metadata(ready, connect):
    """There is no relay: only root gets as far as the route, which the bed does not have."""
    ready("metadata.rules")
    for address, family in (("169.254.169.254", socket.AF_INET),
                            ("::ffff:169.254.169.254", socket.AF_INET6),
                            ("fd00:ec2::254", socket.AF_INET6)):
        assert connect(address, 80, family=family, uid=USER) == "EACCES"
        assert connect(address, 80, family=family) == "ENETUNREACH"


def test_databases(proxied, ready, connect):
    serve(proxied, (SERVER, 5432), (SERVER, 6379), (SERVER, 5433), (SERVER2, 5432))
    ready("databases.rules", "10.0.0.0/8", f"{SERVER}/32")
    assert connect(SERVER, 5432) == connect(SERVER, 6379) == DIRECT
    assert connect(SERVER, 5433) == connect(SERVER2, 5432) == RELAYED


def test_one_service(proxied, ready, connect):
    """The unit's cgroup is made after the load."""
    serve(proxied, (SERVER, 80))
    ready("one-service.rules")
    for name, outcome in (("app.service", RELAYED), ("other.service", DIRECT)):
        place = host.Place(proxied.scope.child(name), proxied.client_net)
        assert connect(SERVER, 80, place=place) == outcome


def test_blocklist(proxied, ready, connect):
    """The list has the network of the bed's servers."""
    serve(proxied, (SERVER, 80))
    ready("blocklist.rules")
    assert connect(SERVER, 80) == "EACCES"
    ready("blocklist.rules", '"blocklist.netset"', "/dev/null")
    assert connect(SERVER, 80) == RELAYED


def send(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return sock.sendto(b"x", (address, port))


def test_agent_box(proxied, ready, connect):
    serve(proxied, (SERVER, 80), (SERVER, 8080), (SERVER, 53), (SERVER2, 80))
    ready("agent-box.rules", "example.org, example.com", SERVER)
    assert connect(SERVER, 80) == connect(SERVER, 53) == DIRECT
    proxied.relay.says(f"-> {SERVER}:80: ")
    proxied.relay.says(f"-> {SERVER}:53: ")
    assert connect(SERVER, 8080) == connect(SERVER2, 80) == "EACCES"
    assert proxied.run_in(send, SERVER, 53) == 1
    with pytest.raises(OSError) as refused:
        proxied.run_in(send, SERVER, 443)
    assert refused.value.errno == errno.EACCES
