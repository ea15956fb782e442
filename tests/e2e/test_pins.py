# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The pin directory: which ones tproxy-load accepts, what it removes there, and what it does to the
BPF file system around it (I7)."""

import os
import signal
import subprocess
from functools import partial

import pytest

import maps
import programs
from registering import binary, ctl  # fixtures
from test_hostile import as_user, open_pin


def mode(path):
    return path.stat().st_mode & 0o7777


def options(bed):
    return ["--cgroup", bed.scope, "--relay-cgroup", bed.relay_cgroup, "--relay-group",
            programs.RELAY_GID]


def make_map(path):
    """A foreign map."""
    subprocess.run([maps.BPFTOOL, "map", "create", path, "type", "hash", "key", "4", "value", "4",
                    "entries", "4", "name", "other"], check=True)


# --- what is in it


@pytest.mark.parametrize("name", ["map_policy", "map_socks", "prog_connect4", "prog_sweep_now",
                                  "link_connect4_1", "ring_0"])
@pytest.mark.parametrize("make", [make_map, lambda path: maps.load_connect4(path, 1)],
                         ids=["map", "program"])
def test_names_of_ours_on_what_is_not(bed, ctl, name, make):
    """A foreign map or program with a name of tproxy's is neither used nor removed, and no
    command proposes that.

    Fails if owned_by_tproxy() checks names only.
    """
    bed.pins.path.mkdir()
    make(bed.pins.path / name)
    for check in (("--check",), ()):
        said = bed.tproxy_load(*options(bed), *check).refused(name, "did not create",
                                                              "--pin-dir").err
    bed.tproxy_load("--unload").refused(name, "not created by tproxy-load")
    assert "--unload" not in said and "--unload" not in ctl("doctor").out
    assert bed.pins.names() == [name]
    (bed.pins.path / name).unlink()
    bed.pins.path.rmdir()


def test_all_that_is_pinned_is_ours(bed):
    """Each kind, with the program whose name the kernel truncates: another load accepts all, and
    --unload removes them. Fails if the kernel's name is compared as a whole."""
    for _ in range(2):
        bed.tproxy_load(*options(bed)).succeeded()
    assert "prog_sweep_now" in bed.pins.names()
    bed.tproxy_load("--unload").succeeded()
    assert not bed.pins.path.exists()


def test_unload_removes_only_our_names(bed):
    """Names that resemble tproxy's stay, and nothing else is left.

    To see it fail: remove all that begins with map_, prog_ or link_.
    """
    theirs = ["link_connect4_", "link_connect4_01", "link_connect4_0x1", "link_connect4_1_new",
              "link_other_1", "map_of_another", "map_policy2", "prog_connect", "prog_connect4_old",
              "ring_", "ring_01", "ring_32"]
    bed.load()
    for name in theirs:
        make_map(bed.pins.path / name)
    bed.tproxy_load("--unload").refused(bed.pins.path, "by hand")
    assert bed.pins.names() == theirs
    bed.tproxy_load(*options(bed)).refused("choose another --pin-dir")
    assert bed.pins.names() == theirs
    for name in theirs:
        (bed.pins.path / name).unlink()


@pytest.mark.parametrize("limit", range(4, 10))
def test_few_descriptors(bed, limit):
    """A pin that cannot be opened is not taken for a foreign one. To see it fail: drop EMFILE in
    is_shortage()."""
    bed.load()
    for arguments in (options(bed), ["--unload"]):
        result = bed.run("prlimit", f"--nofile={limit}", bed.tproxy_load.binary, "--pin-dir",
                         bed.pins.path, *arguments, place=bed.bystander)
        assert result.status == 0 or "Too many open files" in result.err, result
        assert "create" not in result.err, result
    bed.unload()


def test_program_that_a_killed_load_has_staged_is_removed(bed):
    """A staged pin is tproxy's too."""
    bed.load()
    maps.load_connect4(bed.pins.path / "prog_connect4_new", 1, name=b"tproxy_connect4")
    bed.unload()


@pytest.mark.parametrize("again", [False, True], ids=["empty", "loaded"])
def test_root_of_the_bpffs(bed, again):
    """The root is shared: its mode and its pins stay with every option.

    To see it fail: accept any directory of a BPF file system.
    """
    root = bed.pins.path.parent
    make_map(root / "map_of_another_tool")
    make_map(root / "map_config")
    if again:
        bed.load()
    before = mode(root), sorted(os.listdir(root))
    for arguments in (options(bed), ["--unload"]):
        bed.tproxy_load(*arguments, pin_dir=root).refused(root, "below it")
        assert (mode(root), sorted(os.listdir(root))) == before
    if again:
        bed.unload()


# --- how it is named


def test_symbolic_link(bed):
    """To see it fail: examine the parent of the path as it was given."""
    link = bed.directory / "link"
    bed.pins.path.mkdir()
    link.symlink_to(bed.pins.path)
    bed.tproxy_load(*options(bed), pin_dir=link).succeeded()
    assert mode(bed.pins.path.parent) == 0o1701
    assert bed.tproxy_load("--status", pin_dir=link).succeeded()
    bed.start_relay()
    assert bed.visit(bed.listen()).relayed
    bed.tproxy_load("--unload", pin_dir=link).succeeded()
    assert not bed.pins.path.exists() and link.is_symlink()
    assert mode(bed.pins.path.parent) == 0o1700
    bed.tproxy_load(*options(bed), pin_dir=link).refused(link, "dangling symbolic link")


def test_relative_path(bed):
    """Also with a slash at its end."""
    def in_bpffs(*arguments, pin_dir):
        os.chdir(bed.pins.path.parent)
        return bed.tproxy_load(*arguments, pin_dir=pin_dir)

    for pin_dir in ("tproxy", "./tproxy/"):
        bed.run_in(partial(in_bpffs, *options(bed), pin_dir=pin_dir), place=bed.bystander
                   ).succeeded()
        assert "map_config" in bed.pins.names() and mode(bed.pins.path.parent) == 0o1701
        bed.run_in(partial(in_bpffs, "--unload", pin_dir=pin_dir), place=bed.bystander).succeeded()
        assert not bed.pins.path.exists() and mode(bed.pins.path.parent) == 0o1700


def test_nothing_is_mounted_over_a_directory_that_has_files(bed):
    """No message proposes it. To see it fail: propose to mount a BPF file system at the parent."""
    for pin_dir in ("/tmp/tproxy-nope", "tproxy-nope"):
        result = bed.tproxy_load(*options(bed), pin_dir=pin_dir).refused("below /sys/fs/bpf")
        assert "mount" not in result.err


def test_read_only_bpffs(loaded):
    """One line, and nothing is changed."""
    root = loaded.pins.path.parent
    names = loaded.pins.names()
    subprocess.run(["mount", "-o", "remount,ro", root], check=True)
    try:
        for arguments in (options(loaded), ["--unload"], ["--status"]):
            loaded.tproxy_load(*arguments).refused("ead-only", "remount,rw")
        loaded.tproxy_load(*options(loaded), pin_dir=root / "new").refused("Read-only")
        assert loaded.pins.names() == names
    finally:
        subprocess.run(["mount", "-o", "remount,rw", root], check=True)


# --- the search bit of the file system


@pytest.mark.parametrize("first", [0, 1])
def test_two_pin_directories(bed, first):
    """Unloading one leaves relays the way to the other. Unloading the last one closes it.

    To see it fail: clear the search bit without checking for other pin directories.
    """
    directories = [bed.pins.path, bed.pins.path.parent / "second"]
    for directory, scope in zip(directories, (bed.scope, bed.outside), strict=True):
        bed.tproxy_load("--cgroup", scope, "--relay-cgroup", bed.relay_cgroup, "--relay-group",
                        programs.RELAY_GID, pin_dir=directory).succeeded()
    bed.tproxy_load("--unload", pin_dir=directories[first]).succeeded()
    assert mode(bed.pins.path.parent) == 0o1701
    opened = bed.run_in(partial(as_user, open_pin, directories[1 - first] / "map_config",
                                gid=programs.RELAY_GID))
    assert opened >= 0
    bed.tproxy_load("--unload", pin_dir=directories[1 - first]).succeeded()
    assert mode(bed.pins.path.parent) == 0o1700


@pytest.mark.needs("strace")
def test_first_load_that_died_is_undone(bed):
    """It died after it had opened the file system, and before it wrote its ABI version.

    To see it fail: require tproxy's ABI version before the bit is cleared.
    """
    result = bed.run("strace", "-qq", "-o", "/dev/null", "-e", "trace=chmod,fchown", "-e",
                     "inject=fchown:signal=KILL:when=1", bed.tproxy_load.binary, "--pin-dir",
                     bed.pins.path, *options(bed), place=bed.bystander,
                     env={"ASAN_OPTIONS": "detect_leaks=0"})
    assert result.status in (-signal.SIGKILL, 128 + signal.SIGKILL), result
    assert mode(bed.pins.path.parent) == 0o1701
    bed.unload()
    assert mode(bed.pins.path.parent) == 0o1700


# --- output that cannot be written


@pytest.mark.parametrize("arguments", [["--status"], ["--status", "--json"], ["--help"],
                                       ["--version"]], ids=" ".join)
def test_full_disk(loaded, arguments):
    """To see it fail: do not check whether stdout was flushed."""
    with open("/dev/full", "wb") as full:
        result = subprocess.run([loaded.tproxy_load.binary, "--pin-dir", loaded.pins.path,
                                 *arguments], stdout=full, stderr=subprocess.PIPE, text=True,
                                check=False)
    assert result.returncode == 1
    assert result.stderr == "tproxy-load: cannot write the answer: No space left on device\n"
