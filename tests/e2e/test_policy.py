# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rules of the host by user, mark and cgroup apply to a client's packets, which go to the relay,
and not to the relay's packets to the server. doctor finds and reports this."""

import errno
import os
import socket
import subprocess
import time

import pytest

import host
import maps
import programs
from harness import BLACKHOLE
from maps import bpftool
from test_mark import CAPABLE
from tproxyctl import binary, ctl, doctor, foreign  # fixtures

UID = 12345
LO = 1


@pytest.fixture
def confine(bed):
    """confine(cgroup, load, *arguments) attaches a foreign packet filter for each direction to a
    cgroup, and returns their ids."""
    attached = []

    def attach(cgroup, load, *arguments, directions=("egress", "ingress")):
        ids = []
        for direction in directions:
            pin = bed.directory / "bpf" / f"filter{len(attached)}"
            load(pin, direction, *arguments)
            bpftool("cgroup", "attach", cgroup, direction, "pinned", pin, "multi")
            attached.append((cgroup, direction, pin))
            ids.append(bpftool("prog", "show", "pinned", pin)["id"])
        return ids

    yield attach
    for cgroup, direction, pin in attached:
        bpftool("cgroup", "detach", cgroup, direction, "pinned", pin)


@pytest.fixture
def service(bed):
    """A cgroup below the scope with the name of a unit."""
    return bed.scope.child("app.service")


def forbid_loopback(net, rule, hook="output"):
    table = "inet tproxy_e2e"
    commands = [f"add table {table}",
                f"add chain {table} c {{ type filter hook {hook} priority 0; }}",
                f"add rule {table} c {rule}"]
    subprocess.run(["nsenter", f"--net={net.path}", "nft", "; ".join(commands)], check=True)


# --- programs on packets


@pytest.mark.parametrize("where", ["service", "scope", "top"])
def test_localhost_only(proxied, doctor, confine, service, where):
    """Through the relay the service reaches everything. It does not if the relay is confined
    too, at the top of both.

    To see it fail: leave out the samples in filters_try().
    """
    cgroup = service if where == "service" else getattr(proxied, where)
    ids = confine(cgroup, maps.load_loopback_filter, True)
    if where == "top":
        assert "change nothing" in doctor().fine().about("policy", "info")[0]["what"]
        return
    unit = "app.service" if where == "service" else str(cgroup)
    assert unit in doctor().only("warning", "policy", f"'{cgroup}'", f"program {ids[0]}, 'foreign',"
                                 " on egress", f"program {ids[1]}", "does not hold")


@pytest.mark.parametrize("direction", ["egress", "ingress"])
@pytest.mark.parametrize("where", ["service", "scope", "top"])
def test_no_localhost(proxied, doctor, confine, service, where, direction):
    """connect() hangs. To see it fail: leave out the first part of filters_try()."""
    cgroup = service if where == "service" else getattr(proxied, where)
    (number,) = confine(cgroup, maps.load_loopback_filter, False, directions=[direction])
    fix = doctor().only("error", "policy", f"'{cgroup}'", f"program {number}, 'foreign', on "
                           f"{direction}", "%s:%d" % proxied.relay.address, "hang")
    assert "out of the scope" in fix


def test_relay_that_may_not_reach_localhost(proxied, doctor, confine):
    """The relay is beside the scope. To see it fail: check the scopes only."""
    confine(proxied.relay_cgroup, maps.load_loopback_filter, False)
    doctor().only("error", "policy", proxied.relay_cgroup, "redirected connections hang")


def test_relay_that_is_confined_itself(proxied, doctor, confine):
    """The relay's own limits hold."""
    confine(proxied.relay_cgroup, maps.load_loopback_filter, True)
    assert doctor().fine().about("policy", "info")


def test_interfaces(proxied, doctor, confine, service):
    """As with RestrictNetworkInterfaces=. To see it fail: run the programs without an interface."""
    confine(service, maps.load_interface_filter, LO)
    doctor().only("warning", "policy", "does not hold")


@pytest.mark.parametrize("networks, level, needle", [
    (["0.0.0.0/0"], None, ""),
    (["127.0.0.0/8"], "warning", "does not hold"),
    (["127.0.0.0/8", "10.0.0.0/8"], "warning", "does not hold"),
    # A network without any usual address: it is found in the trie.
    (["198.51.100.64/26"], "error", "hang"),
    # Nothing passed before either: systemd has such a filter for units that need no network.
    ([], None, ""),
], ids=lambda value: "+".join(value) if isinstance(value, list) else None)
def test_networks_of_systemd(proxied, doctor, confine, service, networks, level, needle):
    """To see it fail: leave out verdict_add_of_program() or filters_are_systemds()."""
    confine(service, maps.load_allow_list, *networks)
    if level:
        doctor().only(level, "policy", service, "'sd_fw_egress'", needle)
    else:
        assert doctor().fine().about("policy", "info")


def test_programs_that_only_count(proxied, doctor, confine, service):
    confine(service, maps.load_pass_all)
    assert "at 1 cgroup" in doctor().fine().about("policy", "info")[0]["what"]


def test_more_scopes_than_one(bed, doctor, confine):
    """A program above both is reported once. To see it fail: leave note() out of check_cgroup()."""
    bed.load(scopes=[bed.scope.child("one"), bed.scope.child("two")])
    bed.start_relay()
    confine(bed.scope, maps.load_loopback_filter, True)
    doctor("--cgroup", bed.scope.path / "one").only("warning", "policy", f"'{bed.scope}'")


def test_before_it_is_loaded(bed, doctor, confine, service):
    """With --cgroup, as if that cgroup were loaded."""
    confine(service, maps.load_loopback_filter, False)
    assert doctor().about("policy", "error") == []
    (error,) = doctor("--cgroup", bed.scope).about("policy", "error")
    assert "127.0.0.1:" in error["what"] and str(service) in error["what"]


def test_many_of_them(proxied, doctor, confine, service):
    """The number of findings is limited, and the rest is counted."""
    for number in range(30):
        confine(service.child(f"{number}.scope"), maps.load_loopback_filter, True,
                directions=["egress"])
    told = doctor().about("policy", "warning")
    assert len(told) == 25 and told[-1]["what"] == "the same holds for 6 more cgroups"


# --- programs on connect and bind


def test_connect_programs(proxied, doctor, foreign, service):
    """Programs below run before tproxy's, programs above after them. To see it fail: let
    report_foreign() report all as above."""
    foreign(service, "multi")
    (info,) = doctor().fine().about("policy", "info")
    assert str(service) in info["what"] and "before tproxy's" in info["what"]
    foreign(proxied.scope, "multi")
    foreign(proxied.top, "multi")
    at_scope, above = doctor().about("foreign", "warning")
    assert "sees the relay's address" in above["what"]
    assert "sees the relay's address" not in at_scope["what"]


@pytest.mark.parametrize("ours", ["scope", "service"])
def test_what_these_programs_see(bed, foreign, service, ours):
    """Verifies this: a program below tproxy's can refuse a destination, one above cannot."""
    bed.load(scopes=[service if ours == "service" else bed.scope])
    bed.start_relay()
    listener = bed.listen()
    theirs = bed.scope if ours == "service" else service
    foreign(theirs, "multi", load=maps.load_connect4_but, arguments=listener.getsockname())
    place = host.Place(service, bed.client_net)
    if ours == "service":
        assert bed.visit(listener, place=place).relayed
        return
    with pytest.raises(PermissionError):
        bed.connect(listener, place=place)


# --- rules of the firewall, and of routing


def connect_as_user(address):
    """Begins to connect, and waits."""
    os.setresuid(UID, UID, UID)
    sock = socket.socket()
    sock.setblocking(False)
    assert sock.connect_ex(address) != 0
    return sock


@pytest.mark.parametrize("rule", [f"meta skuid {UID} oifname lo drop",
                                  "tcp flags & (syn|ack) == syn|ack oifname lo drop"],
                         ids=["by-user", "answers"])
def test_firewall_between_client_and_relay(proxied, doctor, service, rule):
    """A rule that drops loopback packets of a user: connect() hangs, and doctor names the user. To
    see it fail: leave doctor_waiting() out."""
    forbid_loopback(proxied.client_net, rule)
    assert not doctor().about("waiting", "error")
    place = host.Place(service, proxied.client_net)
    proxied.keep(proxied.run_in(connect_as_user, proxied.listen().getsockname(), place=place))
    (error,) = host.wait_until(lambda: doctor().about("waiting", "error"), "its SYN is sent again")
    for needle in ("1 connection of", f"uid {UID}", f"'{service}'", f"relay {proxied.relay.pid}"):
        assert needle in error["what"]


def connect_and_wait(address):
    """As that user: returns the errno, and whether the socket's own timeout is unchanged."""
    os.setresuid(UID, UID, UID)
    with socket.socket() as sock:
        before = sock.getsockopt(socket.SOL_TCP, socket.TCP_USER_TIMEOUT)
        code = sock.connect_ex(address)
        return code, sock.getsockopt(socket.SOL_TCP, socket.TCP_USER_TIMEOUT) == before


@pytest.mark.deadline(60)
@pytest.mark.parametrize("hook, rule", [
    ("output", f"meta skuid {UID} oifname lo drop"),
    ("output", f"meta skuid {programs.RELAY_UID} oifname lo drop"),
    ("input", "iifname lo tcp flags & (syn | ack) == syn drop"),
], ids=["client", "relay", "input"])
@pytest.mark.parametrize("options", [[], ["--honest-connect"]], ids=["eager", "honest"])
def test_connect_does_not_hang(loaded, hook, rule, options):
    """The kernel alone would try for two minutes, and a connect() that waits for the relay too.

    To see it fail: leave is_cut_off() out of client_retransmits(), pending_is_unseen() or
    client::accepted out of waits_cut_off(), or what client_close() restores.
    """
    loaded.start_relay(*options)
    forbid_loopback(loaded.client_net, rule, hook)
    address = loaded.listen().getsockname()
    begun = time.monotonic()
    assert loaded.run_in(connect_and_wait, address, timeout=30) == (errno.ETIMEDOUT, True)
    assert 5 <= time.monotonic() - begun < 30
    stats = loaded.stats()
    assert stats["unanswered"] == 1 and stats["aborted"] == 0
    host.wait_until(loaded.pins.at_rest, "nothing is left")
    if str(UID) in rule:
        assert loaded.visit(loaded.listen()).relayed  # other users are served


def test_server_that_does_not_answer_is_no_finding(proxied, doctor):
    """A SYN that is retransmitted, but not to the relay. To see it fail: leave is_relays() out."""
    sock = proxied.keep(proxied.run_in(connect_as_user, BLACKHOLE, place=proxied.bystander))
    host.wait_until(lambda: sock.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 104)[2] > 0,
                    "a SYN is sent again")
    assert not doctor().about("waiting", "error")


def test_queue_of_the_relay_that_is_full(loaded, doctor):
    """Then no firewall is suspected. To see it fail: ignore listeners."""
    relay = loaded.start_relay("--backlog", "1", "--workers", "1", "--listeners", "1")
    with relay.stopped():
        for _ in range(6):
            loaded.keep(loaded.run_in(connect_as_user, loaded.listen().getsockname()))
        host.wait_until(lambda: any("is full" in error["what"]
                                    for error in doctor().about("waiting", "error")),
                        "its queue is full")
        assert len(doctor().about("waiting", "error")) == 1


def test_routing_by_user(proxied, doctor):
    """To see it fail: leave query_rules() out."""
    proxied.client_net.ip(f"rule add uidrange {UID}-{UID} lookup 88")
    fix = doctor().only("warning", "policy", f"uid {UID} to {UID}",
                           f"relay's uid {programs.RELAY_UID}")
    assert "ip rule" in fix


def test_routing_by_mark(loaded, doctor):
    """A rule with "not" is not reported: VPNs make it for the packets of the tunnel. No rule is
    reported if the relay may pass marks on. Fails if may_mark() returns true or false, or if
    count_mark() ignores FIB_RULE_INVERT."""
    loaded.client_net.ip("rule add not fwmark 0x51 lookup 88")
    relay = loaded.start_relay()
    doctor().fine()
    loaded.client_net.ip("rule add fwmark 0x7470 lookup 88")
    fix = doctor().only("warning", "policy", "1 routing rule by mark", "0x7470", relay.pid)
    assert "--pass-mark" in fix
    relay.kill()
    loaded.start_relay("--pass-mark", wrapper=CAPABLE)
    doctor().fine()
