# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cgroups that are removed and made again, as a service manager does at a restart: what status and
doctor report, and tproxy-load --again (I2)."""

import pytest

import host
import programs
from maps import attached
from registering import binary, ctl, doctor  # fixtures
from test_load import SCOPE_HOOKS, links

OPEN = pytest.param([], id="open")
CLOSED = pytest.param(["--fail-closed"], id="closed")


def make_again(cgroup):
    """Removes the cgroup and makes another one at the same path, as a restart does."""
    before = cgroup.path.stat().st_ino
    cgroup.remove()
    cgroup.path.mkdir()
    assert cgroup.path.stat().st_ino != before


def load(bed, *options, scopes):
    """Loads as bed.load() does, and returns the output."""
    return bed.load(*options, scopes=scopes).out


def states(bed):
    return {entry["path"]: entry["state"] for entry in bed.tproxy_load.status()["cgroups"]
            if entry["role"] == "scope"}


def policy(bed):
    (entry,) = bed.pins.dump("map_policy")
    return {key: entry["value"][key] for key in
            ("flags", "relay_cgroup_id", "relay_cgroup_level")}


@pytest.fixture
def service(bed):
    return bed.top.child("app.service")


@pytest.mark.parametrize("options", [OPEN, CLOSED])
def test_scope_that_was_made_again(bed, service, doctor, options):
    """Nothing is attached to it. status and doctor report this, and the command that doctor names
    attaches again, with all options of the load.

    To see it fail: compare the links' cgroups by path.
    """
    load(bed, "--include-loopback", *options, scopes=[bed.scope, service])
    bed.start_relay()
    place = host.Place(service, bed.client_net)
    listener = bed.listen()
    assert bed.visit(listener, place=place).relayed
    doctor().fine()
    before = policy(bed)
    make_again(service)
    assert not bed.visit(listener, place=place).relayed
    assert states(bed) == {str(bed.scope): "present", str(service): "replaced"}
    text = bed.tproxy_load("--status").succeeded().out
    assert f"scope          {service}  REPLACED" in text
    assert f"run: tproxy-load --again --pin-dir '{bed.pins.path}'\n" in text
    fix = doctor().only("error", "scope", service, "not redirected")
    assert fix == f"tproxy-load --again --pin-dir '{bed.pins.path}'"
    said = bed.tproxy_load("--again").succeeded().out
    assert said.startswith(f"loaded again, live state kept: '{bed.scope}', '{service}', ")
    assert bed.visit(listener, place=place).relayed
    assert policy(bed) == before and set(states(bed).values()) == {"present"}
    assert (bed.pins.path / "map_config").stat().st_gid == programs.RELAY_GID
    doctor().fine()


def test_connections_elsewhere_do_not_keep_dead_links(bed, service):
    """A scope is made again several times while another scope has a connection.

    To see it fail: keep all links while there are connections.
    """
    load(bed, scopes=[bed.scope, service])
    bed.start_relay()
    bed.visit(bed.listen())
    count = len(bed.pins.names())
    for _ in range(3):
        before = service.path.stat().st_ino
        make_again(service)
        bed.pins.wait_dead_links(before)
        assert "running connections" not in bed.tproxy_load("--again").succeeded().out
        assert len(bed.pins.names()) == count


def test_scope_that_is_not_there(bed, service, doctor):
    """A stopped service: --again continues without it, and attaches to it when it exists again.

    To see it fail: forget the path of a cgroup that does not exist.
    """
    load(bed, scopes=[bed.scope, service])
    service.remove()
    assert states(bed)[str(service)] == "absent"
    assert "--again" in doctor().about("scope", "warning")[0]["fix"]
    for _ in range(2):
        said = bed.tproxy_load("--again").succeeded().out
        assert f"'{service}' does not exist; once it does" in said
        assert states(bed) == {str(bed.scope): "present", str(service): "absent"}
    service.path.mkdir()
    assert states(bed)[str(service)] == "replaced"
    bed.tproxy_load("--again").succeeded()
    assert links(bed.pins, service) == SCOPE_HOOKS


def test_only_scope_is_not_there(bed, service):
    """Nothing is attached to clients then, but everything is loaded."""
    load(bed, scopes=[service])
    service.remove()
    bed.tproxy_load("--again").succeeded()
    assert not [name for name in bed.pins.names() if name.startswith("link_connect")]
    service.path.mkdir()
    bed.tproxy_load("--again").succeeded()
    bed.start_relay()
    assert bed.visit(bed.listen(), place=host.Place(service, bed.client_net)).relayed


def test_cgroup_is_added(bed, service):
    """--again adds the cgroup, as in a drop-in of a unit. A second run changes nothing. To see it
    fail: let it replace the other cgroups."""
    load(bed, "--fail-closed", scopes=[bed.scope])
    said = bed.tproxy_load("--again", "--cgroup", service).succeeded().out
    assert f"was '{bed.scope}', now '{bed.scope}', '{service}'" in said
    make_again(service)
    said = bed.tproxy_load("--again", "--cgroup", service).succeeded()
    assert "; was " not in said.out and set(states(bed)) == {str(bed.scope), str(service)}
    assert links(bed.pins, service) == SCOPE_HOOKS and links(bed.pins, bed.scope) == SCOPE_HOOKS
    assert bed.tproxy_load.status()["policy"] == "fail-closed"


def test_relay_cgroup_that_was_made_again(bed, doctor):
    """Relays there are neither exempt nor get destinations. After --again they are and do."""
    bed.load()
    make_again(bed.relay_cgroup)
    assert "REPLACED" in bed.tproxy_load("--status").succeeded().out
    assert doctor().about("scope", "error")[0]["what"].startswith("the relay cgroup")
    bed.tproxy_load("--again").succeeded()
    bed.start_relay()
    assert bed.visit(bed.listen()).relayed
    doctor().fine()


def test_again_without_a_load(bed):
    bed.tproxy_load("--again").refused("nothing is loaded", bed.pins.path)
    assert not bed.pins.path.exists()


def test_again_as_a_second_load_repairs(bed):
    """--again makes a missing link."""
    bed.load()
    bed.pins.remove_link("connect4", bed.scope)
    bed.tproxy_load("--again").succeeded()
    assert links(bed.pins, bed.scope) == SCOPE_HOOKS
    assert len(attached(bed.scope)) == len(SCOPE_HOOKS)


@pytest.mark.parametrize("options", [["--all"], ["--fail-closed"], ["--relay-cgroup", "/r"],
                                     ["--include-loopback"], ["--relay-group", "0"],
                                     ["--config", "/dev/null"], ["--unload"], ["--status"],
                                     ["--check"]], ids=" ".join)
def test_again_takes_no_choice(bed, options):
    bed.tproxy_load("--again", *options).refused("try 'tproxy-load --help'", status=2)
