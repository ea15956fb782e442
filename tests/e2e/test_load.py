# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxy-load: what it pins and attaches, what it leaves alone, and how it fails (I4, I5, I7)."""

import json
import re
import struct
import subprocess
import time

import pytest

import host
import programs
from maps import attached, bpftool, load_connect4

MAPS = ["map_allow_0", "map_allow_1", "map_block", "map_block_0", "map_block_1", "map_block_stats",
        "map_block_texts", "map_block_tries", "map_capture", "map_cgroup_bits", "map_clients",
        "map_config", "map_events", "map_failed", "map_flows", "map_interest", "map_listeners",
        "map_loads", "map_marks", "map_newest", "map_observed", "map_observed_slots", "map_pairs",
        "map_pending", "map_policy", "map_ports", "map_ring_owners", "map_rings", "map_rule_stats",
        "map_rule_texts", "map_rules", "map_rules_active", "map_set_texts", "map_sets",
        "map_sets_active", "map_shares", "map_socks", "map_stats", "map_strayed", "map_sweep",
        "map_targets", "map_traffic", "map_traffic_sums", "map_udp", "map_verdicts",
        "map_watch_rings"]
RINGS = [f"ring_{number}" for number in range(32)]  # TPROXY_RINGS_MAX
SCOPE_HOOKS = ["connect4", "connect6", "getpeer4", "getpeer6", "release", "sockops"]
RELAY_HOOKS = ["sockops", "sockopt", "sweep"]
UDP_HOOKS = ["egress", "sendmsg4", "sendmsg6"]  # attached only while a rule is about UDP
BLOCK_HOOKS = ["block_in", "block_out"]  # only while the block list has entries
PINNED_ONLY = ["pick", "sweep_now", "xdp", *UDP_HOOKS, *BLOCK_HOOKS]
HOOKS = sorted({*SCOPE_HOOKS, *RELAY_HOOKS})


def links(pins, cgroup):
    """The hooks that have a pinned link for this cgroup."""
    suffix = f"_{cgroup.path.stat().st_ino:x}"
    return [name.removeprefix("link_").removesuffix(suffix) for name in pins.names()
            if name.startswith("link_") and name.endswith(suffix)]


@pytest.fixture
def foreign(bed):
    """foreign(cgroup, verdict) attaches a foreign program to cgroup/connect4 of a cgroup."""
    pins = []

    def attach(cgroup, verdict=1, *flags):
        pin = bed.directory / "bpf" / f"foreign{len(pins)}"
        load_connect4(pin, verdict)
        pins.append((cgroup, pin))
        bpftool("cgroup", "attach", cgroup, "cgroup_inet4_connect", "pinned", pin, *flags)
        return bpftool("prog", "show", "pinned", pin)["id"]

    yield attach
    for cgroup, pin in pins:
        bpftool("cgroup", "detach", cgroup, "cgroup_inet4_connect", "pinned", pin)


# --- what is there after a load


def test_pins_and_links(bed):
    bed.load()
    names = bed.pins.names()
    assert [name for name in names if name.startswith("map_")] == MAPS
    assert [name for name in names if name.startswith("prog_")] == [
        f"prog_{hook}" for hook in sorted([*HOOKS, *PINNED_ONLY])]
    assert sorted(RINGS) == [name for name in names if name.startswith("ring_")]
    assert links(bed.pins, bed.scope) == SCOPE_HOOKS
    assert links(bed.pins, bed.relay_cgroup) == RELAY_HOOKS
    assert len(attached(bed.scope)) == len(SCOPE_HOOKS)
    assert len(attached(bed.relay_cgroup)) == len(RELAY_HOOKS)
    assert bed.pins.at_rest()


def test_without_relay_cgroup_relays_are_served_in_the_scope(bed):
    bed.load(relay_cgroup=False)
    assert links(bed.pins, bed.scope) == HOOKS


def test_only_the_relays_group_may_write_and_only_what_it_needs(bed):
    bed.load()

    def access(name):
        info = (bed.pins.path / name).stat()
        return info.st_uid, info.st_gid, info.st_mode & 0o777

    writable = {name for name in bed.pins.names() if access(name)[2] & 0o020}
    # map_pending is frozen: nobody writes to it, but the kernel maps it for those only who might.
    assert writable == {"map_config", "map_events", "map_failed", "map_marks", "map_pairs",
                        "map_pending", "map_ring_owners", "map_verdicts", *RINGS}
    assert access("map_config") == access("ring_31") == (0, programs.RELAY_GID, 0o660)
    assert access("prog_pick") == (0, programs.RELAY_GID, 0o640)
    assert access("prog_sockops") == (0, 0, 0o600)
    assert all(access(name)[2] & 0o007 == 0 for name in bed.pins.names())


def test_several_cgroups(bed):
    scopes = [bed.scope, bed.outside]
    bed.load(scopes=scopes)
    assert all(links(bed.pins, scope) == SCOPE_HOOKS for scope in scopes)
    bed.start_relay()
    listener = bed.listen()
    assert bed.visit(listener, place=bed.client).relayed
    assert bed.visit(listener, place=bed.bystander).relayed


def test_cgroup_below_another_is_not_attached_twice(bed):
    below = bed.scope.child("below")
    bed.load(scopes=[bed.scope, below, bed.scope])
    assert links(bed.pins, below) == [] and attached(below) == []
    bed.start_relay()
    visit = bed.visit(bed.listen(), place=host.Place(below, bed.client_net))
    assert visit.relayed and bed.stats()["redirected"] == 1


# --- once more


def test_second_load_changes_nothing_but_the_programs(bed):
    bed.load()
    before = bed.pins.names()
    ids = {name: bpftool("map", "show", "pinned", bed.pins.path / name)["id"] for name in MAPS}
    bed.load()
    assert bed.pins.names() == before
    assert ids == {name: bpftool("map", "show", "pinned", bed.pins.path / name)["id"]
                   for name in MAPS}
    assert len(attached(bed.scope)) == len(SCOPE_HOOKS)


def test_second_load_adjusts_scopes_and_policy(bed):
    bed.load("--fail-closed")
    bed.load("--include-loopback", scopes=[bed.outside])
    assert links(bed.pins, bed.outside) == SCOPE_HOOKS
    assert links(bed.pins, bed.scope) == [] and attached(bed.scope) == []
    status = bed.tproxy_load.status()
    assert status["policy"] == "fail-open" and status["include_loopback"] is True


def test_second_load_repairs(bed):
    """I7: a missing link, a detached one, a program that was pinned and not yet renamed, a missing
    list, and a removed cgroup. To see it fail: leave prog_sockops_new in pin_program(); take a
    detached link for one that was updated in update_link()."""
    doomed = bed.top.child("doomed")
    bed.load(scopes=[bed.scope, doomed])
    bed.pins.remove_link("connect4", bed.scope)
    (bed.pins.path / "prog_sockops").rename(bed.pins.path / "prog_sockops_new")
    bpftool("link", "detach", "pinned",
            bed.pins.path / f"link_release_{bed.scope.path.stat().st_ino:x}")
    doomed.remove()
    (bed.pins.path / "connections").unlink()
    bed.load()
    assert links(bed.pins, bed.scope) == SCOPE_HOOKS
    assert len(attached(bed.scope)) == len(SCOPE_HOOKS)
    assert len(bed.pins.names()) == len([*MAPS, *HOOKS, *PINNED_ONLY, *SCOPE_HOOKS,
                                        *RELAY_HOOKS, *RINGS, "connections"])
    bed.start_relay()
    assert bed.visit(bed.listen()).relayed


def ring_ids(bed):
    """The ids of the maps that the pins of rings have, and those in the slots of map_rings."""
    with bed.pins.open("map_rings") as slots:
        return ([bpftool("map", "show", "pinned", bed.pins.path / name)["id"] for name in RINGS],
                [struct.unpack("=I", slots.lookup(struct.pack("=I", ring)) or bytes(4))[0]
                 for ring in range(len(RINGS))])


def test_rings(bed):
    """Each pin is of the ring in its slot, also after a pin or the slots were lost. Otherwise a
    ring stays. To see it fail: keep a pin that is there without looking whose it is, or make new
    rings at each load."""
    bed.load()
    pinned, used = first = ring_ids(bed)
    assert pinned == used and len(set(pinned)) == len(RINGS)
    (bed.pins.path / "ring_3").unlink()
    bed.load()
    assert ring_ids(bed) == first
    (bed.pins.path / "map_rings").unlink()
    bed.load()
    pinned, used = ring_ids(bed)
    assert pinned == used and not set(pinned) & set(first[0])


def test_unload_is_idempotent(bed):
    bed.load()
    bed.unload()
    bed.unload()


def test_unload_frees_maps_and_programs(bed):
    """I4. To see it fail: leave a pin behind, or a link attached."""
    bed.load()
    objects = [(kind, bpftool(kind, "show", "pinned", bed.pins.path / name)["id"])
               for kind, prefix in (("map", "map_"), ("map", "ring_"), ("prog", "prog_"))
               for name in bed.pins.names() if name.startswith(prefix)]
    bed.unload()

    def freed():
        alive = {(kind, entry["id"]) for kind in ("map", "prog") for entry in bpftool(kind, "show")}
        return not alive.intersection(objects)

    host.wait_until(freed, "maps and programs are freed after --unload")


def test_bpffs_is_opened_to_the_relays_group_and_closed_again(bed):
    """A bpffs with systemd's mode, 0700, has that mode again after the unload."""
    root = bed.directory / "bpf"
    root.chmod(0o1700)
    bed.load()
    assert root.stat().st_mode & 0o7777 == 0o1701
    bed.unload()
    assert root.stat().st_mode & 0o7777 == 0o1700


def test_unload_after_the_cgroup_is_gone(bed):
    doomed = bed.top.child("doomed")
    bed.load(scopes=[bed.scope, doomed])
    doomed.remove()
    bed.unload()


# --- status


def test_status(bed):
    bed.load("--fail-closed")
    text = bed.tproxy_load("--status").succeeded().out
    for expected in (bed.pins.path, "fail-closed", bed.scope, bed.relay_cgroup, "connect4",
                     "none registered"):
        assert str(expected) in text
    relay = bed.start_relay()
    text = bed.tproxy_load("--status").succeeded().out
    assert str(relay.pid) in text and "{}:{}".format(*relay.address) in text


def test_status_json(bed):
    bed.load()
    relay = bed.start_relay()
    bed.visit(bed.listen())
    status = bed.tproxy_load.status()
    assert status["loaded"] is True and status["abi_version"] == programs.ABI_VERSION
    assert status["pin_dir"] == str(bed.pins.path)
    assert status["policy"] == "fail-open" and status["include_loopback"] is False
    assert status["relay_cgroup"] == str(bed.relay_cgroup)
    assert ({(link["program"], link["cgroup"]) for link in status["links"]} ==
            {(hook, str(bed.scope)) for hook in SCOPE_HOOKS} |
            {(hook, str(bed.relay_cgroup)) for hook in RELAY_HOOKS})
    assert all(link["attached"] is True for link in status["links"])
    assert [(entry["pid"], entry["uid"], entry["listen"][0]) for entry in status["relays"]] == [
        (relay.pid, programs.RELAY_UID, "{}:{}".format(*relay.address))]
    assert [len(set(entry["listen"])) for entry in status["relays"]] == [4]
    assert status["counters"]["redirected"] == 1
    assert status["map_socks"] == status["map_ports"] == 1


def test_status_when_nothing_is_loaded(bed):
    result = bed.tproxy_load("--status")
    assert result.status == 1 and "not loaded" in result.out + result.err
    assert str(bed.pins.path) in result.out + result.err
    result = bed.tproxy_load("--status", "--json")
    assert result.status == 1 and json.loads(result.out)["loaded"] is False


def test_status_tells_a_detached_link(bed):
    bed.load()
    bpftool("link", "detach", "pinned",
            bed.pins.path / f"link_connect4_{bed.scope.path.stat().st_ino:x}")
    detached = [link["program"] for link in bed.tproxy_load.status()["links"]
                if not link["attached"]]
    assert detached == ["connect4"]


def test_status_tells_a_relay_that_is_gone(proxied):
    proxied.relay.kill()
    (relay,) = proxied.tproxy_load.status()["relays"]
    assert relay["process_exists"] is False


# --- refusals: one line, exit status 1, the host as it was


def load_refused(bed, *needles, scope=None, **call):
    bed.tproxy_load("--cgroup", scope or bed.scope, **call).refused(*needles)
    assert bed.pins.names() == [] and attached(bed.scope) == []


def test_not_root(bed):
    (bed.directory / "bpf").chmod(0o777)
    load_refused(bed, "root", user=(programs.RELAY_UID, programs.RELAY_GID))


def test_no_such_cgroup(bed):
    missing = bed.scope.path / "missing"
    load_refused(bed, missing, "No such file", scope=missing)


def test_no_cgroup2(bed):
    load_refused(bed, bed.directory, "cgroup2", scope=bed.directory)


def test_cgroup_is_a_file(bed):
    load_refused(bed, "cgroup.procs", scope=bed.scope.path / "cgroup.procs")


def test_no_such_relay_cgroup(bed):
    missing = bed.scope.path / "missing"
    bed.tproxy_load("--cgroup", bed.scope, "--relay-cgroup", missing).refused(missing)
    assert bed.pins.names() == [] and attached(bed.scope) == []


def test_scope_within_the_relays_cgroup(bed):
    bed.tproxy_load("--cgroup", bed.scope, "--relay-cgroup", bed.top).refused(bed.scope, bed.top)


def test_pin_directory_is_not_on_a_bpffs(bed):
    elsewhere = bed.directory / "pins"
    load_refused(bed, elsewhere, "choose a directory below /sys/fs/bpf", pin_dir=elsewhere)
    assert not elsewhere.exists()
    elsewhere.mkdir()
    load_refused(bed, elsewhere, pin_dir=elsewhere)


def test_pin_directory_with_a_dot(bed):
    """To see it fail: leave the message out of resolve() in pins.c."""
    dotted = bed.pins.path.parent / "a.b"
    load_refused(bed, "cannot have a '.'; choose another name", pin_dir=dotted)


def test_bpffs_that_every_host_has_is_mounted_if_missing(bed):
    """In a mount namespace that ends with the task, and the pins with it."""
    place = "/sys/fs/bpf"

    def load_status_unload():
        host.private_mounts()
        while host.mounted_at(place) == "bpf":
            subprocess.run(["umount", "--lazy", place], check=True)
        bed.tproxy_load.pin_dir = f"{place}/tproxy"
        results = [bed.tproxy_load(*options) for options in
                   (["--cgroup", bed.scope], ["--status"], ["--unload"])]
        return results, host.mounted_at(place)

    results, fstype = bed.run_in(load_status_unload, place=bed.server)
    for result in results:
        result.succeeded()
    assert "mounted" in results[0].err and fstype == "bpf"
    assert attached(bed.scope) == []


def test_no_cgroup2_is_mounted(bed):
    root = host.cgroup2_root()

    def load():
        host.private_mounts()
        subprocess.run(["umount", "--lazy", root], check=True)
        return bed.tproxy_load("--cgroup", bed.directory)

    bed.run_in(load, place=bed.server).refused("cgroup2", "mount")


def test_parent_of_the_pin_directory_is_missing(bed):
    elsewhere = bed.directory / "bpf" / "missing" / "pins"
    load_refused(bed, elsewhere, pin_dir=elsewhere)


def test_unload_and_status_refuse_a_directory_that_is_no_bpffs(bed):
    elsewhere = bed.directory / "pins"
    elsewhere.mkdir()
    (elsewhere / "map_policy").write_text("precious")
    for mode in ("--unload", "--status"):
        bed.tproxy_load(mode, pin_dir=elsewhere).refused(elsewhere)
    assert (elsewhere / "map_policy").read_text() == "precious"


def test_foreign_pin_is_refused_and_kept(bed):
    bed.pins.path.mkdir()
    foreign_pin = bed.pins.path / "foreign"
    load_connect4(foreign_pin, 1)
    for options in (["--cgroup", bed.scope], ["--unload"]):
        bed.tproxy_load(*options).refused(bed.pins.path, "foreign")
        assert bed.pins.names() == ["foreign"] and attached(bed.scope) == []
    foreign_pin.unlink()


def test_foreign_pin_with_a_name_of_ours_is_refused(bed):
    """A map of another layout in place of map_socks."""
    bed.pins.path.mkdir()
    bpftool("map", "create", bed.pins.path / "map_socks", "type", "hash", "key", 4, "value", 4,
            "entries", 1, "name", "map_socks")
    bed.tproxy_load("--cgroup", bed.scope).refused()
    assert bed.pins.names() == ["map_socks"] and attached(bed.scope) == []


def test_other_abi_version_is_refused(bed):
    bed.load()
    names = bed.pins.names()
    with bed.pins.open("map_policy") as policy:
        policy.update(bytes(4), bytes([99]).ljust(policy.value_size, b"\0"))
    for check in ((), ("--check",)):
        bed.tproxy_load("--cgroup", bed.scope, *check).refused(
            "99", f"version {programs.ABI_VERSION}", "--unload")
    assert bed.pins.names() == names


def test_failure_in_the_middle_is_undone(bed, foreign):
    """I7: the second scope refuses, because a program is attached there exclusively, and the
    first one is restored.

    To see it fail: do not undo in load().
    """
    theirs = foreign(bed.outside)
    bed.tproxy_load("--cgroup", bed.scope, "--cgroup", bed.outside, "--relay-cgroup",
                    bed.relay_cgroup, "--relay-group", programs.RELAY_GID).refused(bed.outside)
    assert not bed.pins.path.exists()
    assert attached(bed.scope) == attached(bed.relay_cgroup) == []
    assert attached(bed.outside) == [theirs]
    assert (bed.directory / "bpf").stat().st_mode & 0o7777 == 0o1700


def test_failure_of_a_second_load_keeps_what_was_loaded(bed, foreign):
    """I7: it was to fail closed, with another scope. To see it fail: leave policy_write() or
    restore_targets() out of undo()."""
    bed.load()
    bed.start_relay()
    names, maps = bed.pins.names(), ("map_policy", "map_targets")
    before = [bed.pins.dump(name) for name in maps]
    foreign(bed.outside)
    result = bed.tproxy_load("--cgroup", bed.scope, "--cgroup", bed.outside, "--relay-cgroup",
                             bed.relay_cgroup, "--relay-group", programs.RELAY_GID, "--fail-closed",
                             "--include-loopback")
    assert result.status == 1
    assert bed.pins.names() == names
    assert [bed.pins.dump(name) for name in maps] == before
    assert bed.visit(bed.listen()).relayed


def test_failure_of_a_second_load_gives_the_pins_back(bed, foreign):
    """I7: it was to open them to another group. To see it fail: leave set_access() out of
    undo()."""
    bed.load()

    def access():
        files = [bed.pins.path, *(bed.pins.path / name for name in bed.pins.names())]
        return {str(file): (file.stat().st_gid, file.stat().st_mode) for file in files}

    before = access()
    foreign(bed.outside)
    bed.tproxy_load("--cgroup", bed.scope, "--cgroup", bed.outside, "--relay-cgroup",
                    bed.relay_cgroup, "--relay-group", programs.RELAY_GID + 1).refused(bed.outside)
    assert access() == before


def test_failure_to_detach_uncovers_no_cgroup(bed):
    """I7: a link of the previous load cannot be removed, as its pin is a mount point. The new
    scope is covered, and the next run detaches the rest.

    To see it fail: undo in load_with() whatever failed.
    """
    bed.load(scopes=[bed.outside])
    pin = bed.pins.path / f"link_release_{bed.outside.path.stat().st_ino:x}"
    subprocess.run(["mount", "--bind", "/dev/null", pin], check=True)
    try:
        result = bed.tproxy_load("--cgroup", bed.scope, "--relay-cgroup", bed.relay_cgroup,
                                 "--relay-group", programs.RELAY_GID)
        assert result.status == 1 and "run the same command again" in result.err
        assert links(bed.pins, bed.scope) == SCOPE_HOOKS
        assert len(attached(bed.outside)) == 1
        bed.start_relay()
        visit = bed.visit(bed.listen())
        assert visit.relayed
        visit.client.close()  # a live connection would keep the link
        visit.server.close()
    finally:
        subprocess.run(["umount", pin], check=True)
    bed.load()
    assert attached(bed.outside) == []


def test_killed_at_any_moment_the_next_run_repairs(bed):
    """I7. The loader is killed at moments spread over the time that a load takes. To see it fail:
    refuse a map_policy of version 0 in check_pinned()."""
    started = time.monotonic()
    bed.load()
    duration = time.monotonic() - started
    steps = 8
    for step in range(steps):
        bed.unload()
        with bed.tproxy_load.start("--cgroup", bed.scope, "--relay-cgroup", bed.relay_cgroup,
                                   place=bed.bystander,
                                   log=bed.directory / f"killed{step}.log") as loader:
            time.sleep(duration * step / steps)  # the moment is under test
            loader.kill()
        bed.load()
        assert len(attached(bed.scope)) == len(SCOPE_HOOKS)
        assert all(link["attached"] for link in bed.tproxy_load.status()["links"])


def test_loaders_at_once(bed):
    """They wait for each other."""
    logs = [bed.directory / f"load{number}.log" for number in range(4)]
    loaders = [bed.tproxy_load.start("--cgroup", bed.scope, "--relay-cgroup", bed.relay_cgroup,
                                     place=bed.bystander, log=log) for log in logs]
    assert [loader.wait() for loader in loaders] == [0] * len(loaders)
    assert links(bed.pins, bed.scope) == SCOPE_HOOKS
    assert len(attached(bed.scope)) == len(SCOPE_HOOKS)


# --- other people's programs


@pytest.mark.parametrize("first", ["foreign", "tproxy"])
def test_foreign_programs_stay_attached(bed, foreign, first):
    """I5. To see it fail: attach without BPF_F_ALLOW_MULTI, or detach all programs of the
    cgroup."""
    if first == "foreign":
        theirs = foreign(bed.scope, 1, "multi")
        bed.load()
    else:
        bed.load()
        theirs = foreign(bed.scope, 1, "multi")
    assert theirs in attached(bed.scope) and len(attached(bed.scope)) == 1 + len(SCOPE_HOOKS)
    bed.start_relay()
    assert bed.visit(bed.listen()).relayed
    bed.tproxy_load.unload()
    assert attached(bed.scope) == [theirs]
    assert not bed.visit(bed.listen()).relayed


def test_foreign_programs_keep_their_say(bed, foreign):
    """I5: a program that runs before tproxy's denies connect(), and nothing is redirected. To see
    it fail: let connect_run() ignore bpf_get_retval()."""
    foreign(bed.scope, 0, "multi")
    bed.load()
    bed.start_relay()
    with pytest.raises(PermissionError):
        bed.connect(bed.listen())
    assert not any(bed.stats().values()), "it was not tproxy's to decide"
    host.wait_until(bed.pins.at_rest, "nothing is left of a connection that was denied")


def test_verbose_tells_the_steps(bed):
    result = bed.load("-v")
    assert re.search(r"attached connect4 to", result.err)
