# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Command lines: output and refusals before the programs do anything.

Fails if optparse accepts abbreviated options, or if tproxy-load needs no scope.
"""

import re

import pytest

import programs
import tproxyctl

LOAD = "tproxy-load"
RELAY = "tproxy-relay"
CTL = "tproxyctl"

# Arguments, and what the one line of output must contain.
USAGE_ERRORS = [
    (LOAD, [], "--cgroup PATH"),
    (LOAD, ["--fail-closed"], "--all"),
    (LOAD, ["--all", "--cgroup", "/x"], "--all"),
    (LOAD, ["--all", "--fail"], "'--fail' is incomplete: --fail-closed"),
    (LOAD, ["--un"], "'--un' is incomplete: --unload"),
    (LOAD, ["--relay", "/x"], "'--relay' is incomplete: --relay-cgroup or --relay-group"),
    (LOAD, ["--cgroup", "--fail-closed"], "--fail-closed"),
    (LOAD, ["--all", "--fail-closed=no"], "--fail-closed=no"),
    (LOAD, ["--config", "/a", "--config", "/b"], "/a"),
    (LOAD, ["--bogus"], "--bogus"),
    (LOAD, ["-Z"], "-Z"),
    (LOAD, ["stray"], "stray"),
    (LOAD, ["--cgroup"], "--cgroup"),
    (LOAD, ["--cgroup", ""], "--cgroup"),
    (LOAD, ["--pin-dir", ""], "--pin-dir"),
    (LOAD, ["--relay-group", "no-such-group"], "no-such-group"),
    (LOAD, ["--relay-group", "-1"], "-1"),
    (LOAD, ["--relay-group", "4294967296"], "4294967296"),
    (LOAD, ["--json"], "--json"),
    (LOAD, ["--unload", "--status"], "--unload"),
    (LOAD, ["--unload", "--fail-closed"], "--unload"),
    (LOAD, ["--status", "--cgroup", "/x"], "--status"),
    (RELAY, ["--bogus"], "--bogus"),
    (RELAY, ["--verb"], "'--verb' is incomplete: --verbose"),
    (RELAY, ["--listen", "--verbose"], "--verbose"),
    (CTL, ["--json", "status"], "options come after the command: tproxyctl status --json"),
    (CTL, ["-p", "/x", "doctor", "--strict"], "tproxyctl doctor -p /x --strict"),
    (CTL, ["--json"], "'--json', and no command"),
    (CTL, ["help", "nothing"], "'nothing'"),
    (CTL, ["version", "x"], "'x'"),
    (CTL, ["status", "--js"], "'--js' is incomplete: --json"),
    (CTL, ["register", "--p", "1"], "'--p' is incomplete: --pid, --port or --pin-dir"),
    (RELAY, ["stray"], "stray"),
    (RELAY, ["--listen"], "--listen"),
    (RELAY, ["--listen", "127.0.0.1"], "127.0.0.1"),
    (RELAY, ["--listen", "127.0.0.1:65536"], "127.0.0.1:65536"),
    (RELAY, ["--listen", "127.0.0.1:-1"], "127.0.0.1:-1"),
    (RELAY, ["--listen", "127.0.0.256:80"], "127.0.0.256:80"),
    (RELAY, ["--listen", "127.0.0.1:80x"], "127.0.0.1:80x"),
    (RELAY, ["--listen", "localhost:80"], "ADDR must be numeric"),
    (RELAY, ["--workers", "0"], "'0'"),
    (RELAY, ["--workers", "two"], "two"),
    (RELAY, ["--workers", "1000000"], "1000000"),
    (RELAY, ["--workers", "64", "--listeners", "2"], "64 workers x 2 listeners = 128; at most 64"),
    (RELAY, ["--keepalive-time", "1500ms"], "1500ms"),
    (RELAY, ["--pipe-size", "63K"], "0 for none"),
    (RELAY, ["--connect-timeout", "10 s"], "10 s"),
    (RELAY, ["--idle-timeout", "-1s"], "-1s"),
    (RELAY, ["--idle-timeout", "5y"], "5y"),
    (RELAY, ["--half-closed-timeout", "s"], "'s'"),
    (RELAY, ["--drain-timeout", "99999999999999999999h"], "99999999999999999999h"),
    (RELAY, ["--listen", "127.0.0.1:1", "--listen", "127.0.0.2:2"], "already given: '127.0.0.1:1'"),
    (RELAY, ["--max-connections", "many"], "many"),
    (RELAY, ["--pin-dir", ""], "--pin-dir"),
]


def _name(value):
    return "_".join(value) if isinstance(value, list) else value


@pytest.mark.parametrize("program, args, named", USAGE_ERRORS, ids=_name)
def test_usage_error(binaries, program, args, named):
    binary = tproxyctl.CTL if program == CTL else binaries / program
    programs.call(binary, *args).refused(named, status=2)


@pytest.mark.parametrize("program", [LOAD, RELAY])
def test_help(binaries, program):
    result = programs.call(binaries / program, "--help").succeeded()
    assert result.out.startswith(f"Usage: {program}") and "--pin-dir" in result.out
    assert result.err == ""


@pytest.mark.parametrize("program", [LOAD, RELAY])
def test_version_tells_the_abi_version(binaries, program):
    result = programs.call(binaries / program, "--version").succeeded()
    assert re.fullmatch(rf"{program} \d+\.\d+\.\d+(\+g[0-9a-f]+(\.dirty)?)?, ABI version \d+\n",
                        result.out)


def test_help_and_version_as_commands():
    def said(*args):
        return programs.call(tproxyctl.CTL, *args).succeeded().out

    assert said("help") == said("--help") and said("version") == said("--version")
    assert said("help", "doctor") == said("doctor", "--help")
    assert "--strict" in said("help", "doctor")
    programs.call(tproxyctl.CTL, "help", "doctor", "x").refused("argument 'x'", status=2)
    programs.call(tproxyctl.CTL, "help", "bogus").refused("unknown command 'bogus'", status=2)
