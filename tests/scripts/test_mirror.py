#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""scripts/mirror.sh finds the mirror of a suite in apt's configuration, made up and real.

To see it red: let first_of_list() print its argument; let configured() ignore the suite.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts/mirror.sh")
ONE_LINE = """\
# deb http://commented.example.org/debian sid main
deb [arch=amd64 signed-by=/nowhere] https://mirror.example.org/debian/ bookworm main contrib
deb mirror+file:{top}/mirrors bookworm-security main
deb-src http://sources.example.org/debian trixie main
"""
DEB822 = """\
Types: deb
URIs: http://deb822.example.org/some/where/
Suites: trixie trixie-updates
Components: main

Types: deb
URIs: http://disabled.example.org/debian
Suites: experimental
Components: main
Enabled: no
"""
MIRRORS = ("# the nearest\n\nhttp://first.example.org/security/\tpriority:1\n"
           "http://second.example.org/\n")


class MirrorTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="tproxy-mirror-")
        self.addCleanup(holder.cleanup)
        self.top = holder.name
        for name in ("etc/sources.list.d", "etc/apt.conf.d", "etc/preferences.d",
                     "etc/trusted.gpg.d", "state/lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(self.top, name))
        self.write("conf", f'Dir::Etc "{self.top}/etc";\nDir::State "{self.top}/state";\n'
                           f'Dir::Cache "{self.top}/cache";\n')
        self.write("etc/sources.list", ONE_LINE.format(top=self.top))
        self.write("etc/sources.list.d/other.sources", DEB822)
        self.write("mirrors", MIRRORS)

    def write(self, name, text):
        with open(os.path.join(self.top, name), "w", encoding="utf-8") as file:
            file.write(text)

    def mirror(self, *args, of_the_host=False):
        env = dict(os.environ)
        env.pop("APT_CONFIG", None)
        if not of_the_host:
            env["APT_CONFIG"] = os.path.join(self.top, "conf")
        return subprocess.run([SCRIPT, *args], env=env, text=True, capture_output=True,
                              check=False)

    def test_each_suite_has_its_mirror(self):
        for suite, expected in {"bookworm": "https://mirror.example.org/debian",
                                "bookworm-security": "http://first.example.org/security",
                                "trixie-updates": "http://deb822.example.org/some/where"}.items():
            with self.subTest(suite):
                result = self.mirror(suite)
                self.assertEqual((result.returncode, result.stdout, result.stderr),
                                 (0, expected + "\n", ""))

    def test_a_suite_that_apt_does_not_have_is_named(self):
        for suite in ("sid", "experimental", "worm", "bookworm/main"):
            with self.subTest(suite):
                result = self.mirror(suite)
                self.assertEqual((result.returncode, result.stdout), (1, ""))
                self.assertIn(f"no mirror of '{suite}'", result.stderr)

    def test_usage(self):
        for args in ((), ("",), ("bookworm", "sid")):
            self.assertEqual(self.mirror(*args).returncode, 2)

    def test_the_hosts_own_mirror_is_one_that_apt_names(self):
        with open("/etc/os-release", encoding="utf-8") as file:
            release = dict(line.strip().split("=", 1) for line in file if "=" in line)
        if "VERSION_CODENAME" not in release:
            self.skipTest("the host's distribution has no codename")
        suite = release["VERSION_CODENAME"].strip('"')
        uris = subprocess.run(["apt-get", "update", "--print-uris"], text=True,
                              capture_output=True, check=False).stdout
        if f"/dists/{suite}/InRelease" not in uris or "'mirror+file:" in uris:
            self.skipTest("the host's apt has no plain mirror of its suite")
        result = self.mirror(suite, of_the_host=True)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn(f"'{result.stdout.strip()}/dists/{suite}/InRelease'", uris)


if __name__ == "__main__":
    if not shutil.which("apt-get"):
        sys.exit(1 if os.environ.get("TPROXY_MUST_RUN") else 77)
    unittest.main()
