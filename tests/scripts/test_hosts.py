#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""scripts/check.sh finds the names of hosts that the tree must not have, in trees made up here.

The names are put together so that this file has none. To see it fail: leave out one of the two
patterns, or the reserved names.
"""

import os

import common

GOOD = (
    "curl http://example.org/ and https://www.example.com/path, ftp://mirror.example.net:21/",
    "http://service.test:80/ or <https://tproxy.invalid>",
    "curl http://10.213.7.2/ http://[fd00::1]:80/ http://localhost:3128/",
    "curl \"http://$server/big\" f\"http://{SERVER}:9/\" http://%s/",
    "xmlns=\"http://www.w3.org/2000/svg\"",
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
    "tproxy@example.org, import java.net.Socket, debian/changelog, mirror+file:/etc/mirrors",
    "case $mirror in https://*) ;; esac",
)
BAD = {
    "deb http://" + "deb.debian" + ".org/debian sid main": "deb.debian" + ".org",
    "mirror=" + "archive.ubuntu" + ".com": "archive.ubuntu" + ".com",
    "https://" + "packages.somewhere" + ".net/x": "packages.somewhere" + ".net",
    "https://user:secret@" + "mirror.somewhere" + ".net/x": "mirror.somewhere" + ".net",
    "http://" + "notexample" + ".org/": "notexample" + ".org",
    "http://" + "example.org.somewhere" + ".net/": "example.org.somewhere" + ".net",
    "https://" + "www.debian" + ".org/distrib": "www.debian" + ".org/distrib",
}


class HostsTest(common.TestCase):
    def check(self, line, name):
        top = self.temporary()
        for folder in ("bpf", "common", "loader", "proxy", "scripts", "tests", ".ci"):
            os.mkdir(os.path.join(top, folder))
        for path in ("meson.build", "meson_options.txt", "README.md", name):
            with open(os.path.join(top, path), "a", encoding="utf-8") as file:
                file.write("# nothing\n" + (line + "\n" if path == name else ""))
        result = common.script("check.sh", top, "build", "hosts")
        self.assertEqual(result.stderr, "")
        return result.returncode, result.stdout

    def test_reserved_names_addresses_and_standards_are_fine(self):
        for line in GOOD:
            with self.subTest(line):
                self.assertEqual(self.check(line, "scripts/some.sh"), (0, "check: clean\n"))

    def test_each_other_name_is_found(self):
        for line, host in BAD.items():
            with self.subTest(line):
                status, said = self.check(line, "scripts/some.sh")
                self.assertEqual(status, 1)
                self.assertIn("scripts/some.sh: names the host of ", said)
                self.assertIn(host, said)

    def test_every_kind_of_file_is_looked_at(self):
        line = next(iter(BAD))
        for name in ("README.md", "meson.build", ".ci/run", "tests/e2e.py", "loader/page.scd"):
            with self.subTest(name):
                self.assertIn(f"{name}: names the host", self.check(line, name)[1])


if __name__ == "__main__":
    common.main()
