#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The shipped tproxy.conf has every key that the programs take, at its default.

Each program prints its options with their defaults (--print-options). To see it fail: take a
line out of common/tproxy.conf.in, or change a number there.
Usage: test_conf.py TPROXY_CONF TPROXY_LOAD TPROXY_RELAY TPROXY_UPSTREAMS_PAGE
"""

import os
import re
import subprocess
import sys
import tempfile

import common

CONF, LOAD, RELAY, PAGE = sys.argv[1:5]
del sys.argv[1:5]
PROGRAMS = {"load": (LOAD, "--all"), "relay": (RELAY,)}
# Without a fixed default.
NO_DEFAULT = {"load": {"cgroup", "relay-cgroup", "rules", "xdp"},
              "relay": {"workers", "listeners", "admin"}}


def shipped():
    """{section: [(key, value)]} with the comment signs of "#key = value" taken away. Sections
    with a name are one."""
    sections, section = {}, None
    with open(CONF, encoding="utf-8") as file:
        for line in file:
            if match := re.fullmatch(r"#?\[([a-z]+)(?: [a-z]+)?\]\n", line):
                section = sections.setdefault(match[1], [])
            elif match := re.fullmatch(r"#([a-z-]+) = (.+)\n", line):
                section.append((match[1], match[2]))
    return sections


def check(section, text):
    """(status, stderr) of --check with a file of this text."""
    program, *options = PROGRAMS[section]
    if re.search(r"^(cgroup|all) =", text, re.M):
        options = []
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        result = subprocess.run([program, "--check", *options, "-f", file.name], text=True,
                                capture_output=True, check=False)
    return result.returncode, result.stderr


def options_of(section):
    """{long option: its default, or None}, from the table that the program prints."""
    said = subprocess.run([PROGRAMS[section][0], "--print-options"], text=True,
                          capture_output=True, check=True).stdout
    result = {}
    for row in said.splitlines():
        name, _, _, _, _, _, default, *_ = row.split("\t")
        values = re.match(r"([^\s;]+)(?: and (\S+))?", default)
        result[name] = values and [value for value in values.groups() if value]
    return result


class ConfTest(common.TestCase):
    def test_every_key_is_there(self):
        for section in PROGRAMS:
            keys = {key for key, _ in shipped()[section]}
            for option in options_of(section):
                with self.subTest(f"{section}: {option}"):
                    _, said = check(section, f"[{section}]\n{option} = no\n")
                    self.assertEqual(option in keys, "unknown key" not in said, said)
            self.assertLessEqual(keys, set(options_of(section)))

    def test_each_has_its_default(self):
        for section in PROGRAMS:
            defaults = options_of(section)
            values = {}
            for key, value in shipped()[section]:
                values.setdefault(key, []).append(value)
            for key, value in values.items():
                if key in NO_DEFAULT[section]:
                    continue
                with self.subTest(f"{section}: {key}"):
                    self.assertEqual(value, defaults[key] or ["no"])

    def test_each_line_is_good_when_it_is_no_comment(self):
        for section in PROGRAMS:
            for key, value in shipped()[section]:
                if (key, value) == ("all", "no"):
                    continue  # no scope is left
                with self.subTest(f"{section}: {key}"):
                    status, said = check(section, f"[{section}]\n{key} = {value}\n")
                    # The host may lack the group, cgroup2 or IPv6.
                    self.assertTrue(status != 2 or "there is no group" in said, said)

    def test_it_changes_nothing_as_it_is(self):
        with open(CONF, encoding="utf-8") as file:
            text = file.read()
        self.assertFalse([line for line in text.splitlines()
                          if line and not re.match(r"#|\[(load|relay)\]$", line)])
        self.assertEqual(sorted(shipped()), ["load", "names", "relay", "upstream"])
        for section in PROGRAMS:
            self.assertNotEqual(check(section, text)[0], 2)

    def test_the_upstreams_are_good(self):
        """But for the password file, which the host does not have."""
        with open(CONF, encoding="utf-8") as file:
            text = file.read()
        lines = text[text.index("#[upstream"):].splitlines()
        lines = [line[1:] for line in lines if re.match(r"#[^ ]", line)]
        status, said = check("relay", "[relay]\ndefault-upstream = both\n" + "\n".join(lines))
        self.assertEqual(status, 1, said)
        self.assertEqual(said.count("\n"), 1, said)
        self.assertIn("cannot read '/etc/tproxy/corp.password'", said)

    def test_the_examples_of_the_man_page_are_good(self):
        """But for the password files, as above."""
        with open(PAGE, encoding="utf-8") as file:
            text = file.read().partition("\n# EXAMPLES\n")[2]
        examples = [block for block in re.findall(r"^```\n(.*?)^```$", text, re.M | re.S)
                    if re.search(r"^\[upstream ", block, re.M)]
        self.assertGreaterEqual(len(examples), 5)
        for example in examples:
            with self.subTest(example.splitlines()[0]):
                status, said = check("relay", example)
                said = [line for line in said.splitlines() if "cannot read '/etc/" not in line]
                self.assertEqual((status == 2, said), (False, []))


if __name__ == "__main__":
    common.main()
