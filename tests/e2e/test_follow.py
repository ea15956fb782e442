# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What tproxy-load --follow does besides interfaces (test_xdp.py): the end of entries of the block
list, and a list that nobody confirms. With the capabilities of its unit."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import host
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
    ctl("block", "203.0.113.0/24", "--for", "2s").succeeded()
    ctl("block", "203.0.112.0/24", "--for", "1s").succeeded()
    assert packet_hooks(bed)
    host.wait_until(lambda: not packet_hooks(bed), "the hooks are detached", 10)
    assert entries() == []
    assert program.text().count("of the block list") >= 1 and program.running()


def test_list_that_nobody_confirms(bed, ctl, binary, load, follow, entries, tmp_path):
    """Both processes that would have taken it back are killed. To see it fail: leave out
    block_store_restore()."""
    load().succeeded()
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
