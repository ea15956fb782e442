# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`tproxyctl rules check`: what it prints for files without and with errors, and that the ready
rule files have none. Nothing is loaded and nothing has to be.

Fails if token.c counts columns in bytes, or if rulefile.c does not look names up.
"""

import json
import re
from pathlib import Path

import pytest

import programs
import tproxyctl

READY = Path(__file__).parents[2] / "loader" / "rules.d"

GOOD = """\
set corp = 10.0.0.0/8, 192.168.0.0/16
refuse EACCES to 169.254.169.254 unless uid root
direct to @corp port 5432,6379 name databases   # direct
default observe
"""


@pytest.fixture
def check(tmp_path):
    """Checks a text, or a file."""
    def call(text, *options):
        path = text
        if not isinstance(text, Path):
            path = tmp_path / "f.rules"
            path.write_text(text, encoding="utf-8")
        result = programs.call(tproxyctl.CTL, "rules", "check", path, *options)
        assert "Sanitizer" not in result.err, result
        return result
    return call


@pytest.mark.parametrize("name", sorted(path.name for path in READY.glob("*.rules")))
def test_ready_files_have_no_error(check, name):
    """On a host without name service too: host names are not looked up."""
    result = check(READY / name, "--no-resolve")
    assert result.status == 0, result
    assert re.fullmatch(r".*/[a-z-]+\.rules: \d+ rules, \d+ rows of 256, \d+ sets, \d+ prefixes\n",
                        result.out), result
    assert "error" not in result.err, result


def test_ready_files_are_the_ones_that_the_man_page_names():
    page = (READY.parent / "tproxy-rules.5.scd").read_text(encoding="utf-8")
    assert set(re.findall(r"^_([a-z-]+\.rules)_$", page, re.MULTILINE)) == \
        {path.name for path in READY.glob("*.rules")}


def test_what_a_file_has(check, tmp_path):
    result = check(GOOD)
    assert (result.status, result.err) == (0, ""), result
    assert result.out == f"{tmp_path}/f.rules: 2 rules, 4 rows of 256, 2 sets, 3 prefixes\n"
    result = check(GOOD, "--verbose")
    assert "    3     2  direct to @corp port 5432, 6379 name databases\n" in result.out, result
    assert "             default observe\n" in result.out, result
    assert "    1        2  corp\n" in result.out, result


def test_json_of_a_good_file(check):
    answer = json.loads(check(GOOD, "--json").out)
    assert answer["version"] == 1 and answer["valid"] and answer["messages"] == []
    assert [rule["line"] for rule in answer["rules"]] == [2, 3]
    assert answer["rules"][1] == {"name": "databases", "line": 3, "number": 2, "rows": 2,
                                  "text": "direct to @corp port 5432, 6379 name databases"}
    assert answer["default"] == {"line": 4, "text": "default observe"}
    assert {found["name"]: found["prefixes"] for found in answer["sets"]} == \
        {"corp": 2, "line 2": 1}
    assert (answer["rows"], answer["rows_max"], answer["prefixes"]) == (4, 256, 3)


def test_all_errors_have_their_place(check, tmp_path):
    text = "direct command \u00fcber port 0\n\nrefuse udp tcp\n# fine\ndirect\n"
    result = check(text)
    assert (result.status, result.out) == (1, ""), result
    assert result.err.splitlines() == [
        f"{tmp_path}/f.rules:1:26: expected a port from 1 to 65535, or a range such as "
        "8000-8100, found \"0\"",
        "  direct command \\xc3\\xbcber port 0",
        "  " + 32 * " " + "^",
        f"{tmp_path}/f.rules:3:12: expected one protocol, before \"unless\": it is that of the "
        "whole rule",
        "  refuse udp tcp",
        "             ^^^",
    ]
    answer = json.loads(check(text, "--json").out)
    assert not answer["valid"] and "rules" not in answer
    assert [(m["level"], m["line"], m["column"]) for m in answer["messages"]] == \
        [("error", 1, 26), ("error", 3, 12)]


def test_names_are_looked_up(check):
    text = "direct uid no-such-user\ndirect cgroup /no-such.service\n" \
        "set a file none\ndirect to @a\n"
    result = check(text)
    assert result.status == 1, result
    assert ":1:12: user \"no-such-user\" does not exist" in result.err, result
    assert "use name:no-such.service for a unit that comes and goes" in result.err, result
    assert "/none\": No such file or directory" in result.err, result


def test_a_note_prevents_nothing(check):
    result = check("set a = ::1\ndirect\n")
    assert result.status == 0, result
    assert ":1:5: note: no rule has set a\n" in result.err, result


def test_a_file_that_cannot_be_read(check, tmp_path):
    result = check(tmp_path / "none")
    assert (result.status, result.out) == (1, ""), result
    assert result.err == f"{tmp_path}/none: No such file or directory\n"


def test_a_pipe_is_read():
    result = programs.call(tproxyctl.CTL, "rules", "check", "/dev/stdin", data=GOOD)
    assert result.status == 0 and result.out.startswith("/dev/stdin: 2 rules"), result


def test_a_million_prefixes(check, tmp_path):
    """FireHOL's lists have that order of magnitude. Fails if sets.c takes quadratic time."""
    with open(tmp_path / "list.netset", "w", encoding="utf-8") as out:
        for i in range(1000000):
            # Steps of a prime, so that the list is not sorted.
            address = (i * 7919 % 1000003 << 8) + (1 << 28)
            out.write(".".join(str(byte) for byte in address.to_bytes(4, "big")) + "/25\n")
    result = check("set a file list.netset\nrefuse to @a\n")
    assert result.status == 0, result
    assert result.out.endswith(": 1 rules, 1 rows of 256, 1 sets, 1000000 prefixes\n"), result


@pytest.mark.parametrize("arguments, needle", [
    (["rules"], "is missing"),
    (["rules", "check"], "FILE is missing"),
    (["rules", "check", "a", "b"], "unexpected argument 'b'"),
    (["rules", "chek", "a"], "'chek'"),
    (["rules", "show", "--verbose"], "--verbose goes with check only"),
])
def test_usage_errors(arguments, needle):
    result = programs.call(tproxyctl.CTL, *arguments)
    assert result.status == 2 and needle in result.err, result
