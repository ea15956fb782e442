#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""scripts/mirror.sh finds the mirror of a suite in apt's configuration, made up and real.

To see it fail: let first_of_list() print its argument; let configured() ignore the suite.
"""

import os
import re
import subprocess

import common

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


def first_of_list(uri):
    """The first mirror in a list of apt's method mirror+file; any other URI itself."""
    if not uri.startswith("mirror+file:"):
        return uri
    with open("/" + uri.partition(":")[2].lstrip("/"), encoding="utf-8") as file:
        lines = (line.split() for line in file)
        return next(words[0] for words in lines if words and words[0][0] != "#").removesuffix("/")


@common.needs("apt-get")
class MirrorTest(common.TestCase):
    def setUp(self):
        self.top = self.temporary()
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
        return common.script("mirror.sh", *args, env=env)

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

    def test_the_hosts_own_mirrors_are_those_that_apt_names(self):
        """Of each suite that apt would update. In a list of mirrors the first one counts."""
        uris = subprocess.run(["apt-get", "update", "--print-uris"], text=True,
                              capture_output=True, check=True).stdout
        configured = {}
        for uri, suite in re.findall(r"^'(\S+)/dists/(\S+)/InRelease'", uris, re.MULTILINE):
            configured.setdefault(suite, []).append(uri)
        if not configured:
            self.skipTest("this host's apt has no suites")
        for suite, mirrors in configured.items():
            with self.subTest(suite):
                result = self.mirror(suite, of_the_host=True)
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                self.assertIn(result.stdout.strip(), list(map(first_of_list, mirrors)))


if __name__ == "__main__":
    common.main()
