# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Dials through upstreams: they end in time, are not redirected themselves, and what they fail with
is remembered for their upstream."""

import time

import pytest

import host
import host6
import pcapng
import wire
from harness import SERVER
from ruling import binary, ctl, load_rules  # noqa: F401 - fixtures
from terminator import relay_via  # noqa: F401 - a fixture
from test_capture import capture  # noqa: F401 - a fixture
from test_upstreams_conf import (FORBIDDEN_PORT, is_refused, path,  # noqa: F401 - a fixture
                                 serve_connect)


def in_scope(bed, *options):
    """Starts a relay whose sockets only their marks keep from being redirected."""
    return bed.start_relay(*options, place=host.Place(bed.scope, bed.client_net))


def through_second_member(bed, path):  # noqa: F811
    """Starts such a relay with a group whose first member refuses. Returns the second member's
    listener."""
    bed.load(relay_cgroup=False)
    listener = bed.listen()
    path.write_text("[relay]\ndefault-upstream = g\n[upstream g]\ntype = group\nmembers = a, b\n"
                    f"[upstream a]\ntype = tcp\naddress = {SERVER}:9\n"
                    "[upstream b]\ntype = tcp\naddress = {}:{}\n".format(*listener.getsockname()))
    in_scope(bed, "--config", path)
    return listener


def relayed_once(bed, target, listener):
    """Arrival alone proves nothing: the relay may have gone through itself on the way."""
    client = bed.connect(target)
    server, _ = bed.accept(listener)
    wire.exchange(client, server)
    assert bed.stats()["redirected"] == 1


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_hung_proxy(loaded, relay_via, kind):  # noqa: F811
    """A proxy that accepts and says nothing: the connect timeout ends the session.

    To see it fail: leave out the deadline in dial() of opening.c.
    """
    proxy = loaded.listen()
    relay_via(f"type = {kind}", "address = {}:{}".format(*proxy.getsockname()),
              options=["--connect-timeout", "400ms"])
    started = time.monotonic()
    assert loaded.run_in(wire.fate, (SERVER, 7)) == wire.RESET
    # The relay's clock has a resolution of some milliseconds.
    assert time.monotonic() - started >= 0.39


def test_hung_proxy_and_direct(loaded, relay_via):  # noqa: F811
    """Then the relay goes to the destination itself, as when-down says, with time of its own.

    To see it fail: leave wants_direct() out of dial_expire().
    """
    proxy, listener = loaded.listen(), loaded.listen()
    relay_via("type = http", "address = {}:{}".format(*proxy.getsockname()), "when-down = direct",
              options=["--connect-timeout", "400ms"])
    client = loaded.connect(listener.getsockname())
    server, _ = loaded.accept(listener)
    wire.exchange(client, server)
    assert loaded.run_in(wire.fate, (SERVER, 7)) == wire.RESET


def test_two_hung_members(bed, path):  # noqa: F811
    """Two HTTP proxies accept and are silent. The third member serves, and after three connections
    both are down.

    To see it fail: let WALK_ATTEMPTS of walk.h be 2, and drop_spent() of walk.c do nothing.
    """
    bed.load()
    hung = [bed.listen() for _ in range(2)]
    listener = bed.listen()
    sections = ["[relay]\ndefault-upstream = g\n[upstream g]\ntype = group\nmembers = a, b, c\n"]
    for name, type, sock in zip("abc", ("http", "http", "tcp"), (*hung, listener)):
        sections.append("[upstream {}]\ntype = {}\naddress = {}:{}\n".format(
            name, type, *sock.getsockname()))
    path.write_text("".join(sections))
    relay = bed.start_relay("--config", path)
    for _ in range(3):
        client = bed.connect((SERVER, 7))
        server, _ = bed.accept(listener)
        wire.exchange(client, server)
    for name in "ab":
        relay.says(f"upstream '{name}' is down")


def test_second_member_in_scope(bed, path):  # noqa: F811
    """The second attempt makes a socket of its own, which is marked too.

    To see it fail: do not mark in make_socket() of attempt.c.
    """
    listener = through_second_member(bed, path)
    relayed_once(bed, (SERVER, 7), listener)


def test_other_family_in_scope(bed, path):  # noqa: F811
    """So does an upstream of another family than the client."""
    host6.give_addresses(bed)
    bed.load(relay_cgroup=False)
    listener = host6.listen(bed, host6.SERVER6_2)
    address, port = listener.getsockname()[:2]
    path.write_text("[relay]\ndefault-upstream = b\n"
                    f"[upstream b]\ntype = tcp\naddress = [{address}]:{port}\n")
    in_scope(bed, "--config", path)
    relayed_once(bed, (SERVER, 7), listener)


def test_captured_in_scope(bed, capture, tmp_path):  # noqa: F811
    """The mark of a captured connection still exempts the relay's socket.

    To see it fail: leave UPSTREAM out of marks_set_upstream_of().
    """
    bed.load(relay_cgroup=False)
    in_scope(bed)
    listener = bed.listen()
    with capture("-w", tmp_path / "c.pcapng"):
        relayed_once(bed, listener, listener)


def test_captured_through_a_second_member(bed, path, capture, tmp_path):  # noqa: F811
    """The packets of the second attempt are in the capture, and its socket is not redirected.

    To see it fail: do not call marks_set_upstream_of() in attempt.c, or call marks_set_upstream()
    in its place.
    """
    listener = through_second_member(bed, path)
    with capture("-w", tmp_path / "c.pcapng"):
        relayed_once(bed, (SERVER, 7), listener)
    ports = {packet.dst[1] for packet in pcapng.read(tmp_path / "c.pcapng").packets
             if packet.field("leg") == "upstream" and packet.flags == pcapng.SYN}
    assert ports == {9, listener.getsockname()[1]}


def test_checks_are_not_captured(loaded, path, capture, tmp_path):  # noqa: F811
    """The relay's checks of an upstream serve no connection.

    To see it fail: do not look at HAS_CONN in flow_set().
    """
    checked, listener = loaded.listen(), loaded.listen()
    path.write_text("[relay]\ndefault-upstream = direct\n[upstream a]\ntype = tcp\n"
                    "check-interval = 100ms\naddress = {}:{}\n".format(*checked.getsockname()))
    loaded.start_relay("--config", path)
    with capture("-w", tmp_path / "c.pcapng"):
        for _ in range(3):
            loaded.accept(checked)
        visit = loaded.visit(listener)
    packets = pcapng.read(tmp_path / "c.pcapng").packets
    assert {packet.field("id") for packet in packets} == {wire.connection_id(visit.client)}


def test_noted_under_its_upstream(loaded, path, ctl):  # noqa: F811
    """The relay notes a refused destination for the upstream of the rule, where connect() looks.

    To see it fail: note() of marks.c with 0 for the upstream.
    """
    proxy = loaded.listen()
    loaded.task(serve_connect, proxy, place=loaded.server)
    path.write_text("[relay]\ndefault-upstream = direct\nerror-memory = 1h\n[upstream a]\n"
                    "type = http\naddress = {}:{}\n".format(*proxy.getsockname()))
    loaded.start_relay("--config", path)
    load_rules(loaded, ctl, "default redirect via a")
    loaded.run_in(is_refused)
    with pytest.raises(PermissionError):
        loaded.connect((SERVER, FORBIDDEN_PORT))
