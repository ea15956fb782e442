# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""loader/WHO.md: its commands and their output are those of the programs.

The page has commands as an operator types them, each with its output. Here four services run
in a bed, and each command of the page is run there. To write the outputs of this run into the page:

    sudo TPROXY_WRITE_PAGE=1 /usr/bin/python3 -m pytest tests/e2e/test_who.py

The bed has other paths than a host, and another interface; these are replaced both ways. It has
neither systemd nor the journal: journalctl stands for grep in the log of the relay.
"""

import contextlib
import ctypes
import os
import re
import socket
import subprocess
import time

import host
import programs
import wire
from harness import SERVER, SERVER2
from ruling import write_rules
from tproxyctl import binary, ctl  # fixtures too

PAGE = programs.REPOSITORY / "loader" / "WHO.md"
PR_SET_NAME = 15
# A block is what is between these lines. Its lines that begin with "$ " are commands.
FENCE = "```\n"
WRITE = bool(os.environ.get("TPROXY_WRITE_PAGE"))

RULES = [
    "observe to 198.51.100.3 port 5432 name databases",
    "refuse EACCES to 203.0.113.0/24 name no-cloud",
]

# Replaces programs that the bed does not have.
PRELUDE = r"""
tproxyctl() { local command=$1; shift
    if [ "$command" = rules ]; then set -- "$1" -p "$PINS" "${@:2}"; else set -- -p "$PINS" "$@"; fi
    [ "$command" != top ] || set -- "$@" --delay "$DELAY"
    [ "$command" != watch ] || set -- "${@/#2s/$FOR}"
    "$CTL" "$command" "$@"; }
journalctl() { while [ $# -gt 1 ]; do [ "$1" != -g ] || grep -E -e "$2" "$LOG" |
    sed 's/^tproxy-relay: //'; shift; done; }
pgrep() { eval "echo \$pid_$1"; }
"""


def _behave(name, uid, act, *args):
    """A program of this name: does something again and again."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())
    os.setresuid(uid, uid, uid)
    act(*args)


def _upload(address):
    with wire.connect(address) as sock:
        while True:
            sock.sendall(bytes(50000))
            time.sleep(0.05)


def _query(*addresses):
    """Asks each server something, and waits for its answer."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(wire.connect(address)) for address in addresses]
        while True:
            for sock in socks:
                sock.sendall(bytes(200))
                wire.read_exactly(sock, 200)
            time.sleep(0.1)


def _retry(address):
    """Fails to connect, or loses the connection at once."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(address, 2) as sock:
            sock.recv(1)
        time.sleep(0.3)


def _drain(*listeners):
    wire.serve_each(lambda sock: wire.read_to_end(sock), *listeners)


class Services:
    """Services of a host: webapp, backup, mailer, updater."""

    def __init__(self, bed, ctl_binary):
        rules = write_rules(bed, *RULES, name="host.rules")
        bed.load("--rules", rules)
        # Where the relay's user may make its socket.
        run = bed.directory / "run"
        run.mkdir()
        os.chown(run, programs.RELAY_UID, programs.RELAY_GID)
        # The negative cache forgets before mailer tries again: each attempt takes the same way.
        bed.start_relay("--error-memory", "200ms", "--admin", run / "admin.sock")
        bed.task(_drain, bed.listen(SERVER, 873), place=bed.server)
        bed.task(wire.serve_echo, bed.listen(SERVER2, 5432), bed.listen(SERVER, 443),
                 place=bed.server)
        self._bed = bed
        self._pids = {}
        self._cgroups = contextlib.ExitStack()
        self._start("webapp", 33, _query, (SERVER2, 5432), (SERVER2, 5432), (SERVER, 443))
        self._start("backup", 34, _upload, (SERVER, 873))
        self._start("mailer", 8, _retry, (SERVER, 25))
        self._start("updater", 0, _retry, ("203.0.113.5", 443))
        # What the page calls it, and what it is here.
        self._names = {
            "/sys/fs/bpf/tproxy": str(bed.pins.path),
            "/run/tproxy": str(run),
            "eth0   ": "tproxy0",
            "/etc/tproxy": str(bed.directory),
            "/sys/fs/cgroup/system.slice": str(bed.scope.path),
            "/sys/fs/cgroup/tproxy.slice": str(bed.relay_cgroup.path),
        }
        self._environment = {**programs.ENVIRONMENT, "CTL": str(ctl_binary),
                             "PINS": str(bed.pins.path), "LOG": str(bed.relay.log),
                             # Rates for the page are those of a second.
                             "DELAY": "1" if WRITE else "0.2",
                             "FOR": "2s" if WRITE else "700ms",
                             **{f"pid_{name}": str(pid) for name, pid in self._pids.items()}}

    def _start(self, name, uid, act, *args):
        cgroup = self._bed.scope.child(f"{name}.service")
        cgroup.path.mkdir(exist_ok=True)
        task = self._bed.task(_behave, name, uid, act, *args,
                              place=host.Place(cgroup, self._bed.client_net))
        self._pids[name] = task.pid

    def settle(self):
        """Waits until each service has done what it does."""
        stats = self._bed.stats
        host.wait_until(lambda: stats()["rule_refused"] and stats()["rule_observe"] == 2 and
                        stats()["redirected"] >= 3, "the services have connected")
        self._bed.relay.says("destination failed")

    @staticmethod
    def _replace(text, names):
        """Replaces all at once, the longest one first: a name may begin another one, or be a part
        of what replaces it."""
        longest_first = sorted(names, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, longest_first)), lambda at: names[at[0]], text)

    def run(self, command):
        """Runs a command of the page. Returns its output as the page has it."""
        command = self._replace(command, self._names)
        result = subprocess.run(["bash", "-c", PRELUDE + command], text=True, check=False,
                                env=self._environment, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                preexec_fn=self._bed.bystander.enter,
                                timeout=30 * host.patience, cwd=self._bed.directory)
        output = self._replace(result.stdout, {here: name for name, here in
                                               self._names.items()})
        assert "Sanitizer" not in output and "invalid" not in output, output
        assert output, f"no output: {command}"
        return output


def blocks(page):
    """Splits a page: text, block, text, …"""
    return page.split(FENCE)


def commands(block):
    """Splits a block: [(command, output)]."""
    found = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append([line[2:].rstrip("\n"), ""])
        else:
            found[-1][1] += line
    return found


def words(output):
    """What does not change from run to run: words, options, names, and no numbers or units."""
    return set(re.findall(r"(?<![\w.-])[A-Za-z_-]{4,}(?![\w.])", output))


def test_page(bed, binary):
    """Each command runs, and each word of the page's output is in the output of now."""
    services = Services(bed, binary)
    services.settle()
    parts = blocks(PAGE.read_text())
    assert len(parts) > 18 and len(parts) % 2 == 1
    wrong = []
    for number in range(1, len(parts), 2):
        said = ""
        for command, output in commands(parts[number]):
            now, missing = services.run(command), set()
            # Services that have done nothing in the time of a command do so the next time.
            for _ in range(5 * host.patience):
                missing = words(output) - words(now)
                if not missing or WRITE:
                    break
                now = services.run(command)
            said += f"$ {command}\n{now}"
            if missing:
                wrong.append(f"{command}\nlacks {sorted(missing)}; it prints:\n{now}")
        parts[number] = said
    if WRITE:
        PAGE.write_text(FENCE.join(parts))
    else:
        assert not wrong, "\n".join(wrong)
