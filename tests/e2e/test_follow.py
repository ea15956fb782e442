# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What tproxy-load --follow does besides interfaces (test_xdp.py): the end of entries of the block
list, and a list that nobody confirms. With the capabilities of its unit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import host
import programs
from tproxyctl import binary, ctl  # fixtures
from test_xdp import follow, load, place  # fixtures


@pytest.fixture
def entries(ctl):
    """The prefixes of the list in force."""
    def read():
        answer = json.loads(ctl("block", "--list", "--json").succeeded().out)
        return sorted(entry["cidr"] for entry in answer["entries"])
    return read


def packet_hooks(bed):
    return [name for name in bed.pins.names() if name.startswith("link_block_")]


def test_entries_end(bed, ctl, load, follow, entries):
    """The hooks for packets are detached with the last entry. To see it fail: leave out
    block_store_purge()."""
    load().succeeded()
    program = follow()
    ctl("block", "203.0.113.0/24", "--for", "5s").succeeded()
    ctl("block", "203.0.112.0/24", "--for", "4s").succeeded()
    assert packet_hooks(bed)
    host.wait_until(lambda: not packet_hooks(bed), "the hooks are detached", 20)
    assert entries() == []
    assert program.text().count("of the block list") >= 1 and program.running()


HOLD = """
import fcntl, os, signal, struct, sys
kept = []
for name in sys.argv[1:]:
    try:
        kept.append(os.open(name, os.O_RDONLY))
        lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(kept[-1], fcntl.F_OFD_SETLK, lock)
    except OSError:
        pass
print(len(kept), flush=True)
signal.pause()
"""


@pytest.fixture
def member(bed):
    """Starts a member of the relay's group that locks all pins that it can open."""
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, *(bed.pins.path / name for name in bed.pins.names())],
            stdout=subprocess.PIPE, text=True, user=1234, group=programs.RELAY_GID,
            extra_groups=[])
        started.append(process)
        assert int(process.stdout.readline()) > 0

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("locked", [False, True], ids=["quiet", "locked"])
def test_list_that_nobody_confirms(bed, ctl, binary, load, follow, member, entries, tmp_path,
                                   locked):
    """Both processes that would have taken it back are killed. A member of the relay's group cannot
    prevent it, nor --follow. To see it fail: leave out block_store_restore(); or let
    WAIT_LOCK_BLOCK be "map_block", or follow_lock.c use PINNED_TARGETS."""
    load().succeeded()
    if locked:
        member()
    ctl("block", "203.0.113.0/24").succeeded()
    file = tmp_path / "list"
    file.write_text("203.0.112.0/24\n")
    process = subprocess.Popen([str(binary), "block", "--pin-dir", str(bed.pins.path), "--apply",
                                str(file), "--confirm", "60s"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    both = ["203.0.112.0/24", "203.0.113.0/24"]
    host.wait_until(lambda: entries() == both, "it is in force")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    (guard,) = host.wait_until(lambda: children.read_text().split(), "the guard runs")
    program = follow()
    host.stays_true(lambda: entries() == both, "a process waits", 1.5)
    for pid in (int(guard), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    host.wait_until(lambda: entries() == ["203.0.113.0/24"], "it is taken back", 10)
    assert "block list in force was not confirmed" in program.text()
    assert ctl("block", "--keep").status == 1
