# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxy-load in a container: other namespaces, other mounts of cgroup2 (I7). It works as outside,
or it says in one line why not and leaves the host as it was."""

import json

import pytest

import host
import programs
from maps import attached
from registering import binary, ctl, doctor, haproxy, register  # fixtures

# Run before tproxy-load in a mount namespace: mounts cgroup2 as a container runtime does.
REMOUNT = "umount --lazy {root} && mount -t cgroup2 none {root}"
BIND = "mount --bind {home} {root}"
UPON = "mkdir {home}/upon && mount --bind {home}/deep/below {home}/upon"


def options(bed, scope, relays):
    return ["--cgroup", scope, "--relay-cgroup", relays, "--relay-group", programs.RELAY_GID]


def load_in(bed, namespaces, scope, relays, before="true"):
    """Runs tproxy-load, after some commands, in new namespaces whose cgroup root is the bed's
    cgroup."""
    before = before.format(root=host.cgroup2_root(), home=bed.top)
    return bed.run("unshare", *namespaces, "sh", "-c", before + ' && exec "$@"', "sh",
                   bed.tproxy_load.binary, "--pin-dir", bed.pins.path,
                   *options(bed, scope, relays), place=host.Place(bed.top, bed.client_net))


def policy(bed):
    (entry,) = bed.pins.dump("map_policy")
    return entry["value"]


def refused(bed, result, *needles):
    """Asserts that it failed with one line and made nothing."""
    assert result.status == 1 and result.out == "" and result.err.count("\n") == 1, result
    assert result.err.startswith("tproxy-load: "), result
    assert all(needle in result.err for needle in needles), result
    assert not bed.pins.path.exists() and attached(bed.scope) == []


@pytest.mark.parametrize("before", [REMOUNT, BIND], ids=["remount", "bind"])
@pytest.mark.parametrize("namespaces", [["-C", "-m"], ["-m"]], ids=["cgroup", "mount"])
def test_part_of_cgroup2(bed, namespaces, before):
    """The mount is not the whole hierarchy, so the depth of a cgroup, which the policy needs,
    is unknown. A new mount shows a part only in a cgroup namespace.

    To see it fail: count the level from the mount point, whichever cgroup is there.
    """
    root = host.cgroup2_root()
    if before == REMOUNT and "-C" not in namespaces:
        load_in(bed, namespaces, bed.scope, bed.relay_cgroup, before)
        level = len(bed.relay_cgroup.path.relative_to(root).parts)
        assert policy(bed)["relay_cgroup_level"] == level
        return
    result = load_in(bed, namespaces, root / bed.scope.path.name,
                     root / bed.relay_cgroup.path.name, before)
    refused(bed, result, "--cgroup", "part of cgroup2", "outside of the container")


def test_cgroup_namespace_that_sees_all(bed):
    """The host's mount is still visible: levels are right, and relays are exempt."""
    relays = bed.scope.child("relays")
    load_in(bed, ["-C"], bed.scope, relays).succeeded()
    place = host.Place(relays, bed.client_net)
    bed.start_relay(place=place)
    listener = bed.listen()
    assert bed.visit(listener).relayed
    assert not bed.visit(listener, place=place).relayed


def test_cgroup_below_a_mount_upon_another_cgroup(bed):
    """By this path the cgroup seems to be at a higher level than it is.

    To see it fail: take any path below the mount point of cgroup2 for one of that mount.
    """
    deep = bed.top.child("deep")
    deep.child("below")
    result = load_in(bed, ["-m"], bed.scope, bed.top.path / "upon", UPON)
    refused(bed, result, "--relay-cgroup", "part of cgroup2")


def test_second_mount_of_cgroup2(bed):
    """Paths by two mounts name the same cgroups."""
    second = bed.directory / "cgroup2"
    relative = bed.scope.path.relative_to(host.cgroup2_root())
    below = bed.scope.child("below")
    with host.mounted("cgroup2", second, "rw"):
        result = bed.tproxy_load(
            "--cgroup", below, *options(bed, second / relative, bed.relay_cgroup)).succeeded()
    assert f"--cgroup '{below}' is covered by '{bed.scope}'" in result.err
    assert attached(below) == [] and attached(bed.scope)
    level = len(bed.relay_cgroup.path.relative_to(host.cgroup2_root()).parts)
    assert policy(bed)["relay_cgroup_level"] == level


def test_user_namespace(bed):
    """Its root is not the host's."""
    bed.directory.chmod(0o755)
    refused(bed, load_in(bed, ["-U", "-r"], bed.scope, bed.relay_cgroup), "root of the host")


PID_NAMESPACES = [["-p", "-f"], ["-p", "-f", "--mount-proc"]]


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("namespaces", PID_NAMESPACES, ids=["pid", "proc"])
def test_registration_of_a_living_proxy_stays(loaded, haproxy, register, namespaces):
    """In another PID namespace there is no process with its number. A proxy that tproxyctl
    registered does not register again.

    To see it fail: call kill(2) in any PID namespace.
    """
    register("--pid", haproxy().pid).succeeded()
    load_in(loaded, namespaces, loaded.scope, loaded.relay_cgroup).succeeded()
    assert loaded.pins.count("map_config") == 1
    assert loaded.visit(loaded.listen()).relayed


@pytest.mark.parametrize("namespaces", PID_NAMESPACES, ids=["pid", "proc"])
def test_status_takes_no_other_process_for_the_relay(proxied, namespaces):
    """To see it fail: print GONE if no such PID exists here."""
    argv = ["unshare", *namespaces, proxied.tproxy_load.binary, "--pin-dir", proxied.pins.path,
            "--status"]
    text = proxied.run(*argv, place=proxied.bystander).succeeded().out
    assert "GONE" not in text and "unknown" in text
    assert "process_exists" not in proxied.run(*argv, "--json",
                                               place=proxied.bystander).succeeded().out


def test_cgroups_outside_of_the_mounted_part(proxied, binary):
    """A cgroup that this mount does not show is unknown, neither absent nor at another path. To see
    it fail: take ENOENT for absent, or the path that the kernel makes up for the cgroup's."""
    def run(*argv):
        mount = BIND.format(root=host.cgroup2_root(), home=proxied.servers)
        return proxied.run("unshare", "-m", "sh", "-c", mount + ' && exec "$@"', "sh", *argv,
                           "--pin-dir", proxied.pins.path)

    status = json.loads(run(proxied.tproxy_load.binary, "--status", "--json").succeeded().out)
    assert {cgroup["state"] for cgroup in status["cgroups"]} == {"unknown"}
    numbers = {str(cgroup.path.stat().st_ino) for cgroup in (proxied.scope, proxied.relay_cgroup)}
    assert {link["cgroup"] for link in status["links"]} == {
        f"(id {number}, not visible here)" for number in numbers}
    assert "UNKNOWN: not visible here" in run(binary, "status").succeeded().out
    findings = run(binary, "doctor").out
    assert "'/'" not in findings and f"'{proxied.scope}' is not visible here" in findings


def test_own_cgroup_without_cgroup2(proxied, binary):
    """To see it fail: return ENOENT where cgroup2 is not mounted."""
    result = proxied.run(
        "unshare", "-m", "sh", "-c", f'umount --lazy {host.cgroup2_root()} && exec "$@"', "sh",
        binary, "explain", "--pin-dir", proxied.pins.path, "192.0.2.1:80")
    result.argv[0] = "tproxyctl"
    result.refused("the cgroup of this process: no cgroup2 file system is mounted")


def test_doctor_takes_no_other_process_for_the_relay(proxied, binary):
    """It reports that it cannot see the process."""
    result = proxied.run("unshare", "-p", "-f", "--mount-proc", binary, "doctor", "--pin-dir",
                         proxied.pins.path, place=proxied.bystander)
    assert "does not exist" not in result.out, result
    assert "is not visible in this PID namespace" in result.out, result


def test_registration_of_a_dead_relay_goes(proxied):
    """In the initial PID namespace processes can be identified. The counterpart of the two tests
    above."""
    proxied.relay.kill()
    proxied.load()
    assert proxied.pins.count("map_config") == 0
