# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""--pass-mark: the upstream socket has the client's SO_MARK, so a rule by mark, such as one for a
route, applies to it too.

The main table sends from CLIENT, that of MARK from OTHER, so the server sees which one a
connection used.
"""

import signal
import socket
import subprocess

import pytest

import host
import host6
import programs
from harness import CLIENT, SERVER

MARK = 0x7470
TABLE = 74
OTHER = "198.51.100.9"
OTHER6 = "fd00:7470:0:1:a:b:c:9"
PREFIX = {socket.AF_INET: "198.51.100.0/24", socket.AF_INET6: host6.NET6}

CAPABLE = ["setpriv", f"--reuid={programs.RELAY_UID}", f"--regid={programs.RELAY_GID}",
           "--clear-groups", "--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw",
           "--ambient-caps=-all,+net_raw", "--no-new-privs", "--pdeathsig=KILL"]


def connect_marked(family, address, mark):
    sock = socket.socket(family)
    sock.settimeout(20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    sock.connect(address)
    return sock


@pytest.fixture
def routed(loaded):
    """Two routes to the servers, which differ in the source address."""
    host6.give_addresses(loaded)
    loaded.client_net.ip(
        f"addr add {OTHER}/32 dev tproxy0",
        f"addr add {OTHER6}/128 dev tproxy0 nodad preferred_lft 0",
        f"route add {PREFIX[socket.AF_INET]} dev tproxy0 src {OTHER} table {TABLE}",
        f"route add {PREFIX[socket.AF_INET6]} dev tproxy0 src {OTHER6} table {TABLE}",
        f"rule add fwmark {MARK} lookup {TABLE}")
    with loaded.client_net.inside():
        subprocess.run(["ip", "-6", "rule", "add", "fwmark", str(MARK), "lookup", str(TABLE)],
                       check=True)
    loaded.server_net.ip(f"route add {OTHER}/32 dev tproxy0")
    return loaded


def source(bed, family, mark, place=None):
    """The source address that the server sees of a client with that mark, and whether it was
    relayed."""
    with bed.server_net.inside():
        listener = bed.keep(socket.create_server(
            (SERVER if family == socket.AF_INET else host6.SERVER6, 0), family=family))
    listener.settimeout(20)
    client = bed.keep(bed.run_in(connect_marked, family, listener.getsockname()[:2], mark,
                                 place=place))
    _, peer = bed.accept(listener)
    return peer[0], peer[1] != client.getsockname()[1]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_mark_decides_the_route(routed, family):
    """As without a relay. Clients without a mark, or with another mark, use the other route. Fails
    if pass_mark() of session.c sets none; if it sets one for all."""
    plain, other = (CLIENT, OTHER) if family == socket.AF_INET else (host6.CLIENT6, OTHER6)
    assert source(routed, family, MARK, place=routed.bystander) == (other, False)
    relay = routed.start_relay("--pass-mark", wrapper=CAPABLE)
    for mark, expected in ((MARK, other), (0, plain), (MARK + 1, plain), (MARK, other)):
        assert source(routed, family, mark) == (expected, True), relay.text()


def test_mark_through_an_upstream(routed):
    """The sockets to upstreams have the mark too, also that of a second attempt, whose family may
    be another one. Fails if attempt_start() of attempt.c sets none, or dial() of opening.c."""
    with routed.server_net.inside():
        listener = routed.keep(socket.create_server((host6.SERVER6, 0), family=socket.AF_INET6))
    listener.settimeout(20)
    path = routed.directory / "relay.conf"
    path.write_text(f"[relay]\ndefault-upstream = g\n[upstream g]\ntype = group\n"
                    f"members = dead, b\n[upstream dead]\ntype = tcp\naddress = {SERVER}:9\n"
                    f"[upstream b]\ntype = tcp\n"
                    f"address = [{host6.SERVER6}]:{listener.getsockname()[1]}\n")
    relay = routed.start_relay("--pass-mark", "--config", path, wrapper=CAPABLE)
    for mark, expected in ((MARK, OTHER6), (0, host6.CLIENT6)):
        routed.keep(routed.run_in(connect_marked, socket.AF_INET, (SERVER, 7), mark))
        assert routed.accept(listener)[1][0] == expected, relay.text()


def test_not_without_the_option(routed):
    """Fails if session_env::pass_mark is ignored."""
    routed.start_relay(wrapper=CAPABLE)
    assert source(routed, socket.AF_INET, MARK) == (CLIENT, True)


def test_relay_that_may_not_mark(loaded):
    """It refuses to start. Otherwise marked clients would use another route. Fails without
    check_mark() in relay_init(), and for --check in check_options()."""
    for more in ([], ["--check"]):
        loaded.run_relay("--pass-mark", *more).refused("--pass-mark: ", "CAP_NET_RAW")


def test_error_of_one_mark_is_not_anothers(routed):
    """The negative cache does not know marks, so it is off. Fails if options_parse() ignores
    pass_mark."""
    routed.client_net.ip(f"route replace unreachable {PREFIX[socket.AF_INET]} table {TABLE}")
    relay = routed.start_relay("--pass-mark", "--error-memory", "1h", wrapper=CAPABLE)
    listener = routed.listen()
    with pytest.raises(ConnectionResetError):
        routed.keep(routed.run_in(connect_marked, socket.AF_INET, listener.getsockname(),
                                  MARK)).recv(1)
    assert routed.visit(listener).relayed
    assert routed.pins.count("map_failed") == 0, relay.text()


def test_option_cannot_change_at_hup(loaded):
    """The permission to mark is checked at the start only. Fails without OPTABLE_FIXED."""
    path = loaded.directory / "relay.conf"
    path.write_text("[relay]\npass-mark = no\n")
    relay = loaded.start_relay("--config", path)
    path.write_text("[relay]\npass-mark = yes\n")
    relay.signal(signal.SIGHUP)
    host.wait_until(lambda: "'pass-mark' cannot change" in relay.text(), "it is said")
    assert "read the configuration again" not in relay.text()
