# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rules in tests: loading them, and what becomes of a connection under them."""

import errno
import json
import os
import socket
from functools import partial

import host
import wire
from harness import SERVER, SERVER2
from tproxyctl import binary, ctl  # fixtures, for the tests too

DIRECT, RELAYED = "direct", "relayed"


def write_rules(bed, *lines, name="test.rules"):
    path = bed.directory / name
    path.write_text("".join(line + "\n" for line in lines))
    return path


def load_rules(bed, ctl, *lines, options=()):
    """Loads these lines as a rule file. Returns the Result."""
    return ctl("rules", "load", write_rules(bed, *lines), *options).succeeded()


def show(ctl, **program):
    return json.loads(ctl("rules", "show", "--json", **program).succeeded().out)


def hits(ctl):
    """The hits of each rule by its text, and of the default as None."""
    shown = show(ctl)
    counts = {rule["text"]: rule["hits"] for rule in shown["rules"]}
    return {**counts, None: shown["default"]["hits"]}


def serve_peers(*listeners):
    """Tells each client the address that it comes from, and closes."""
    wire.serve_each(lambda sock: sock.sendall("{} {}".format(*sock.getpeername()[:2]).encode()),
                    *listeners)


def attempt(address, uid=0, gid=0, command=None, family=socket.AF_INET):
    """Connects as this user, group and command. Returns DIRECT, RELAYED or the name of the
    errno."""
    if command:
        with open("/proc/self/comm", "w", encoding="ascii") as comm:
            comm.write(command)
    if uid or gid:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    return attempt_as_is(address, family)


@host.needs_no_process
def attempt_as_is(address, family=socket.AF_INET):
    """attempt() as the caller's user, group and command."""
    with socket.socket(family) as sock:
        sock.settimeout(wire.TIMEOUT)
        try:
            sock.connect(address)
        except OSError as error:
            return errno.errorcode[error.errno]
        told = b"".join(iter(lambda: sock.recv(100), b"")).decode().removeprefix("::ffff:")
        own = sock.getsockname()
        return DIRECT if told == f"{own[0].removeprefix('::ffff:')} {own[1]}" else RELAYED


class Servers:
    """Servers at two addresses with two ports each, and what clients get there."""

    def __init__(self, bed):
        self._bed = bed
        first = [bed.listen(SERVER), bed.listen(SERVER)]
        self.ports = sorted(sock.getsockname()[1] for sock in first)
        second = [bed.listen(SERVER2, port) for port in self.ports]
        bed.task(serve_peers, *first, *second, place=bed.server)

    def try_at(self, address=SERVER, port=None, place=None, **how):
        tried = partial(attempt, **how) if how else attempt_as_is
        return self._bed.run_in(tried, (address, port or self.ports[0]), place=place)

    def outcomes(self, **how):
        """By address and port: first the lower port of SERVER, then its higher one, then those of
        SERVER2."""
        return [self.try_at(address, port, **how) for address in (SERVER, SERVER2)
                for port in self.ports]

