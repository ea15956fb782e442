# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The systemd units as systemd reads them. scripts/vm-matrix.sh runs them."""

import re
import subprocess

import pytest

import programs

UNITS = {"tproxy-load": programs.LOAD, "tproxy-follow": programs.LOAD,
         "tproxy-relay": programs.RELAY}


def built(name):
    unit = UNITS[name].parent / f"{name}.service"
    if not unit.exists():
        pytest.skip("built without libsystemd")
    return unit.read_text()


def settings(text, key):
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def analyze(*args):
    result = subprocess.run(["systemd-analyze", "--no-pager", *map(str, args)], text=True,
                            capture_output=True, check=False)
    return result.stdout + result.stderr


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_nothing_to_complain_of(tmp_path, name):
    """systemd finds no fault, and no program that some hosts lack is named. To see it fail: remove
    the quotes from a value with a blank in Environment=."""
    text = built(name)
    text = re.sub(rf"/\S*/{UNITS[name].name}(?= )", str(UNITS[name]), text)
    text = re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE)
    unit = tmp_path / f"{name}.service"
    unit.write_text(text)
    complaints = [line for line in analyze("verify", unit).splitlines() if name in line]
    assert complaints == []
    programs_used = {value.lstrip("+-!@:").split()[0] for key in
                     ("ExecStart", "ExecStop", "ExecReload") for value in settings(text, key)}
    assert programs_used <= {str(UNITS[name]), "/bin/sh"}


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_exposure_is_as_published(tmp_path, name):
    """In SECURITY.md, for systemd 252."""
    if not analyze("--version").startswith("systemd 252 "):
        pytest.skip("another systemd counts in another way")
    unit = tmp_path / f"{name}.service"
    unit.write_text(built(name))
    level = re.search(r"exposure level for \S+: ([0-9.]+)", analyze(
        "security", "--offline=true", unit))[1]
    section = (programs.REPOSITORY / "SECURITY.md").read_text().partition("## The units")[2]
    text = section.partition("## ")[0]
    relay, load, follow = re.findall(r"rate[sd] (?:it )?([0-9]\.[0-9])", text)
    assert level == {"tproxy-load": load, "tproxy-follow": follow, "tproxy-relay": relay}[name]


def test_options_of_the_loaders_unit(bed):
    """All of them reach the program and are valid. To see it fail: as above."""
    (value,) = settings(built("tproxy-load"), "Environment")
    value = value.strip('"').partition("TPROXY_LOAD_OPTIONS=")[2].split()
    assert "--all" in value
    assert [option.partition("=")[0] for option in value] == ["--all", "--relay-cgroup"]
    result = bed.tproxy_load("--check", "--all", "--relay-cgroup", bed.relay_cgroup)
    assert "ALL processes" in result.succeeded().out


def test_relay_is_not_started_without_end():
    """The number of tries is used up at the pace of RestartSec=. After that the loader's unit
    starts it."""
    text = built("tproxy-relay")
    (interval,), (burst,), (pause,) = (settings(text, key) for key in (
        "StartLimitIntervalSec", "StartLimitBurst", "RestartSec"))
    assert 0 < int(burst) * (int(pause) + 1) <= int(interval)
    assert "tproxy-load.service" in settings(text, "WantedBy")[0].split()
