# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Certificates, and a HAProxy that terminates TLS in front of a server of the test."""

import subprocess

import pytest

import host
import programs
import wire
from harness import SERVER

NAME = "proxy.example.test"

HAPROXY = """
global
    maxconn 500
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend tls
    bind {address}:{port} ssl crt {certificate}
    default_backend plain
backend plain
    server one {target}:{target_port}
"""


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


class Authority:
    """Makes certificates in a directory. Its own is in ca.pem."""

    def __init__(self, directory, name):
        self._directory = directory
        self.certificate = directory / f"{name}.pem"
        self._key = directory / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-keyout", self._key, "-out", self.certificate, "-days", 2,
                "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE")

    def issue(self, name=NAME, days=2):
        """Returns a file with a certificate and its key. With negative @days it has expired."""
        stem = self._directory / f"{name}{days}"
        request, extensions, key, both = (stem.with_name(stem.name + suffix)
                                          for suffix in (".csr", ".ext", ".key", ".both"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        extensions.write_text(f"subjectAltName=DNS:{name}\n")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
                "-CAcreateserial", "-days", days, "-extfile", extensions, "-out", both)
        both.write_text(both.read_text() + key.read_text())
        return both


@pytest.fixture(scope="session")
def authority(run_directory):
    directory = run_directory / "certificates"
    directory.mkdir(exist_ok=True)
    return Authority(directory, "ca")


@pytest.fixture(scope="session")
def certificate(authority):
    return authority.issue()


@pytest.fixture
def terminator(bed, certificate):
    """terminator(target, certificate) starts a HAProxy that passes plain bytes to the target, and
    returns it. Its address is in `address`."""
    def start(target, certificate=certificate, port=8443):
        path = bed.directory / f"terminator{port}.cfg"
        path.write_text(HAPROXY.format(
            address=SERVER, port=port, certificate=certificate,
            target=target[0], target_port=target[1]))
        program = programs.Program("/usr/sbin/haproxy", "-db", "-f", path, place=bed.server,
                                   log=bed.directory / f"terminator{port}.log")
        bed._started.enter_context(program)
        program.address = (SERVER, port)
        host.wait_until(lambda: accepts(bed, program.address) or not program.running(),
                        "HAProxy listens", 10)
        assert program.running(), program.text()
        return program

    return start


def accepts(bed, address):
    try:
        bed.run_in(wire.connect, address, place=bed.server).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def relay_via(bed):
    """relay_via(lines) starts a relay whose default upstream has these lines."""
    def start(*lines, options=(), **program):
        path = bed.directory / "upstreams.conf"
        path.write_text("\n".join(["[relay]", "default-upstream = one", "[upstream one]",
                                   *map(str, lines), ""]))
        return bed.start_relay("--config", path, *options, **program)

    return start
