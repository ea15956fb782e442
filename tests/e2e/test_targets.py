# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The cgroups of a load: what tproxy-load prints about them, and what happens to relays that are in
none of them any more (I2, I7)."""

import signal

import pytest

import host
import programs
import wire
from maps import attached
from registering import binary, ctl, doctor, haproxy, register  # fixtures
from tproxyctl import foreign  # fixture

OPEN = pytest.param([], id="open")
CLOSED = pytest.param(["--fail-closed"], id="closed")


def load(bed, *options, scopes=None, relays=None):
    """Loads, and returns the output of tproxy-load."""
    args = [arg for scope in scopes or [bed.scope] for arg in ("--cgroup", scope)]
    args += ["--relay-cgroup", relays] if relays else []
    return bed.tproxy_load(*args, "--relay-group", programs.RELAY_GID, *options).succeeded().out


def talk(address):
    """What a client that sends data gets: an echo, or the name of its error."""
    try:
        with wire.connect(address) as sock:
            sock.sendall(b"hello")
            return wire.read_exactly(sock, 5).decode()
    except OSError as error:
        return type(error).__name__


# --- relays that may not open the pins any more


@pytest.mark.parametrize("policy", [OPEN, CLOSED])
def test_relay_group_that_changes(bed, doctor, policy):
    """The load reports the change and removes the registration of a relay that cannot renew it.
    The relay logs the true reason, and serves again when its group is named again.

    Fails if relays_can_open() returns true for all, or if the relay takes EACCES for missing
    pins.
    """
    load(bed, *policy, relays=bed.relay_cgroup)
    relay = bed.start_relay()
    (address,) = bed.echo_server()
    assert bed.run_in(talk, address) == "hello"
    said = load(bed, *policy, "--relay-group", "0", relays=bed.relay_cgroup)
    assert f"; relay group was {programs.RELAY_GID}, now root;" in said
    assert f"relay {relay.pid} can no longer renew its registration and gets no connections" in said
    assert bed.pins.count("map_config") == 0
    assert bed.run_in(talk, address) == ("ConnectionRefusedError" if policy else "hello")
    assert bed.tproxy_load.status()["relay_group"] == "root"
    assert "relay group    root\n" in bed.tproxy_load("--status").succeeded().out
    host.wait_until(lambda: "no permission to open the pins" in relay.text(), "the relay says so")
    assert "nothing is pinned" not in relay.text()
    (finding,) = [each for each in doctor().findings if each["check"] == "relay"]
    assert "group root" in finding["fix"]
    assert "cannot renew" not in load(bed, *policy, relays=bed.relay_cgroup)
    host.wait_until(lambda: bed.pins.count("map_config") == 1, "it registers again")
    assert bed.run_in(talk, address) == "hello"
    doctor().fine()


def test_relay_that_may_open_whatever_the_group(bed):
    """A relay of root. Fails if only the group counts."""
    load(bed, relays=bed.relay_cgroup)
    bed.start_relay(wrapper=[])
    said = load(bed, "--relay-group", "0", relays=bed.relay_cgroup)
    assert "now root" in said and "cannot renew" not in said
    assert bed.pins.count("map_config") == 1


# --- relays that are outside


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("policy", [OPEN, CLOSED])
@pytest.mark.parametrize("how", ["other", "none", "scope"])
def test_relay_that_is_outside_gets_nothing(bed, haproxy, register, policy, how):
    """Another --relay-cgroup, none, or another scope where relays were in it: a relay that gets
    no destinations would reset every connection. Clients get the policy's answer instead.

    To see it fail: keep the registration of a relay that the new cgroups do not cover.
    """
    with_group = how != "scope"
    load(bed, *policy, relays=bed.relay_cgroup if with_group else None,
         scopes=None if with_group else [bed.scope, bed.relay_cgroup])
    bed.start_relay()
    (address,) = bed.echo_server()
    assert bed.run_in(talk, address) == "hello"
    bed.relay.signal(signal.SIGTERM)
    bed.relay.wait()
    if with_group:  # a proxy that does not register again by itself
        relay = haproxy()
        register("--pid", relay.pid).succeeded()
    else:
        relay = bed.start_relay()
    said = load(bed, *policy, relays=bed.top.child("relays2") if how == "other" else None)
    assert bed.pins.count("map_config") == 0
    where = bed.top.path / "relays2" if how == "other" else bed.scope
    assert (f"relay {relay.pid} is outside of these cgroups and gets no connections; "
            f"start it in '{where}'\n") in said
    expected = "ConnectionRefusedError" if policy else "hello"
    assert f"no relay: their connections {'are refused' if policy else 'go out directly'}" in said
    assert bed.run_in(talk, address) == expected


@pytest.mark.needs("haproxy")
def test_relay_that_is_still_served_stays(loaded, haproxy, register):
    """Its cgroup, or one above it, is the relay cgroup before and after."""
    relay = haproxy()
    register("--pid", relay.pid).succeeded()
    before = loaded.pins.dump("map_config")
    for arguments in ({"scopes": [loaded.outside], "relays": loaded.relay_cgroup},
                      {"scopes": [loaded.outside, loaded.scope], "relays": loaded.relay_cgroup},
                      {"scopes": [loaded.top]}):
        assert "outside and gets" not in load(loaded, **arguments)
        assert loaded.pins.dump("map_config") == before


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("how", ["same", "other"])
def test_relay_whose_cgroup_cannot_be_seen(loaded, haproxy, register, how):
    """/proc hides the process. The registration stays if relays of the previous relay cgroup are
    still served, and is removed otherwise. To see it fail: remove it whenever scopes change, or
    never."""
    register("--pid", haproxy().pid).succeeded()
    relays = loaded.relay_cgroup if how == "same" else loaded.top.child("relays2")
    loaded.run("unshare", "-m", "sh", "-c",
               'mount -t proc -o hidepid=ptraceable proc /proc && exec "$@"', "sh", "setpriv",
               "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", loaded.tproxy_load.binary,
               "--pin-dir", loaded.pins.path, "--cgroup", loaded.scope, "--cgroup", loaded.servers,
               "--relay-cgroup", relays, "--relay-group", programs.RELAY_GID,
               place=loaded.bystander).succeeded()
    assert loaded.pins.count("map_config") == (1 if how == "same" else 0)


@pytest.mark.needs("haproxy")
def test_failed_load_puts_the_relay_back(loaded, haproxy, register, foreign):
    """A step after the registration was removed fails: registration and policy are as before.

    To see it fail: do not restore in undo().
    """
    register("--pid", haproxy().pid).succeeded()
    before = loaded.pins.dump("map_config"), loaded.pins.dump("map_policy")
    foreign(loaded.outside)
    loaded.tproxy_load("--cgroup", loaded.scope, "--cgroup", loaded.outside, "--fail-closed",
                       "--relay-cgroup", loaded.top.child("relays2"), "--relay-group",
                       programs.RELAY_GID).refused(loaded.outside)
    assert (loaded.pins.dump("map_config"), loaded.pins.dump("map_policy")) == before
    assert loaded.visit(loaded.listen()).relayed


def test_connections_on_their_way_to_a_relay_that_leaves(bed):
    """A connection that was accepted before is served to its end.

    To see it fail: detach everything at once.
    """
    bed.load()
    bed.start_relay()
    client, server = bed.pair()
    said = load(bed, relays=bed.top.child("relays2"))
    assert f"relay {bed.relay.pid} is outside" in said
    wire.exchange(client, server)


# --- what a load says


def test_first_load_says_what_holds(bed):
    """It reports that there is no relay yet, and the effect on connections."""
    said = load(bed, "--fail-closed", relays=bed.relay_cgroup)
    assert said == (f"loaded: '{bed.scope}', fail-closed; no relay yet: their connections are "
                    f"refused; pinned in '{bed.pins.path}'\n")
    bed.unload()
    said = load(bed, scopes=[bed.outside, bed.scope])
    assert said == (f"loaded: '{bed.outside}', '{bed.scope}', fail-open; no relay yet: their "
                    f"connections go out directly; pinned in '{bed.pins.path}'\n")


def test_whole_host_is_named(bed):
    """Without loading: these tests attach nothing to the root."""
    root = host.cgroup2_root()
    said = bed.tproxy_load("--check", "--all", "--fail-closed").succeeded().out
    assert f"ALL processes ('{root}'), fail-closed" in said
    assert attached(bed.scope) == []


def test_many_scopes_are_counted(bed):
    scopes = [bed.scope.child(f"s{number}") for number in range(9)]
    said = load(bed, scopes=scopes)
    assert f"'{scopes[3]}' and 5 more, fail-open" in said and f"'{scopes[4]}'" not in said


def test_second_load_says_what_was_and_what_is(bed):
    """Each change of scope, policy and relay cgroup, and nothing that stays the same.

    To see it fail: print what is loaded, as after a first load.
    """
    load(bed, "--fail-closed", relays=bed.relay_cgroup)
    same = load(bed, "--fail-closed", relays=bed.relay_cgroup)
    assert same.startswith(f"loaded again, live state kept: '{bed.scope}', fail-closed; no relay: ")
    assert "; was " not in same and "->" not in same
    said = load(bed, "--include-loopback", scopes=[bed.outside])
    for change in (f"was '{bed.scope}', now '{bed.outside}'", "fail-closed -> fail-open",
                   "loopback destinations bypassed -> included",
                   f"relay cgroup was '{bed.relay_cgroup}', now none"):
        assert f"; {change};" in said, said
    assert said.count("\n") == 1
    said = load(bed, scopes=[bed.outside, bed.scope], relays=bed.relay_cgroup)
    for change in (f"was '{bed.outside}', now '{bed.outside}', '{bed.scope}'",
                   f"relay cgroup was none, now '{bed.relay_cgroup}'"):
        assert f"; {change}" in said, said
    bed.start_relay()
    assert "no relay" not in load(bed, scopes=[bed.outside, bed.scope], relays=bed.relay_cgroup)
    # The order in which scopes are named is no change.
    assert "; was " not in load(bed, scopes=[bed.scope, bed.outside], relays=bed.relay_cgroup)


def test_cgroup_that_is_given_twice(bed):
    err = bed.tproxy_load("--cgroup", bed.scope, "--cgroup", bed.scope).succeeded().err
    assert f"--cgroup '{bed.scope}' is given twice\n" in err


def test_paths_of_a_hybrid_host(bed):
    """If cgroup2 is not at /sys/fs/cgroup, the message says where paths begin."""
    root = host.cgroup2_root()
    bed.tproxy_load("--cgroup", "system.slice").refused("No such file", f"begin at '{root}'")
    bed.tproxy_load("--cgroup", "/tmp").refused("not of the cgroup2", f"is at '{root}'")
