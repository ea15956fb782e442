#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Debian's changelog, the RPM spec and the PKGBUILD agree with what meson.build says and installs.

Debian's package itself is built, with lintian, by scripts/packaging/build-deb.sh. To see it
fail: take a line out of %files; change a version; break the syntax of either.
Usage: test_packaging.py VERSION BUILD_DIR
"""

import json
import os
import re
import shutil
import subprocess
import sys

import common

VERSION, BUILD = sys.argv[1:3]
del sys.argv[1:3]
PACKAGING = os.path.join(common.TREE, "scripts/packaging")
SPEC = os.path.join(PACKAGING, "rpm/tproxy.spec")
PKGBUILD = os.path.join(PACKAGING, "arch/PKGBUILD")


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def run(*command, **how):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, **how)


def installed():
    """The files that this build installs, with the spec's macros for directories."""
    def info(name):
        return json.loads(text_of(os.path.join(BUILD, "meson-info", f"intro-{name}.json")))
    options = {option["name"]: option["value"] for option in info("buildoptions")}
    prefix = options["prefix"]
    macros = {"%{_unitdir}": f"{prefix}/lib/systemd/system",
              "%{_sysusersdir}": f"{prefix}/lib/sysusers.d",
              **{"%{_" + name + "}": os.path.join(prefix, options[name])
                 for name in ("mandir", "sbindir", "sysconfdir", "datadir")}}
    result = set()
    for path in info("installed").values():
        # The longest directory first: %{_mandir} is below %{_datadir}.
        for macro, folder in sorted(macros.items(), key=lambda item: -len(item[1])):
            if path.startswith(folder + "/"):
                path = macro + path[len(folder):]
                break
        result.add(path)
    return result


class PackagingTest(common.TestCase):
    def test_the_version_is_the_same_everywhere(self):
        for name, pattern in (("rpm/tproxy.spec", r"^Version: +(\S+)$"),
                              ("rpm/tproxy.spec", r"%changelog\n\*.* - (\S+)-\d+$"),
                              ("arch/PKGBUILD", r"^pkgver=(\S+)$"),
                              ("debian/changelog", r"^tproxy \((\S+)-\d+\)")):
            with self.subTest(name):
                self.assertEqual(
                    re.search(pattern, text_of(os.path.join(PACKAGING, name)), re.M)[1], VERSION)

    def test_the_spec_lists_what_is_installed(self):
        listed = re.search(r"^%files\n(.*?)\n\n", text_of(SPEC), re.M | re.S)[1].splitlines()
        paths = {re.sub(r"^%config\(noreplace\) |\*$", "", line) for line in listed
                 if not re.match(r"%(license|doc|dir) ", line)}
        have = installed()
        self.assertLessEqual(have, paths)
        if any("/man8/" in path for path in have) and any("unitdir" in path for path in have) \
                and any("/zsh/" in path for path in have):
            self.assertEqual(have, paths)

    def test_what_is_in_etc_is_kept(self):
        etc = {path for path in installed() if path.startswith("%{_sysconfdir}/")}
        self.assertEqual(etc, set(re.findall(r"^%config\(noreplace\) (.*)$", text_of(SPEC), re.M)))
        self.assertEqual({path.replace("%{_sysconfdir}", "etc") for path in etc},
                         set(re.search(r"^backup=\('(.*)'\)$", text_of(PKGBUILD), re.M)[1]
                             .split("' '")))

    @common.needs("rpmspec")
    def test_rpm_reads_the_spec(self):
        result = run("rpmspec", "-P", SPEC)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn(f"Source0:        tproxy-{VERSION}.tar.xz", result.stdout)

    @common.needs("rpmlint")
    def test_rpmlint_finds_no_error(self):
        result = run("rpmlint", SPEC)
        self.assertEqual(result.returncode, 0, result.stdout)
        # There is no address to download from, and BuildRoot is of rpm before 4.6.
        self.assertLessEqual(set(re.findall(r": W: (\S+)", result.stdout)),
                             {"no-buildroot-tag", "invalid-url"}, result.stdout)

    @common.needs("makepkg")
    def test_makepkg_reads_the_pkgbuild(self):
        top = self.temporary()
        shutil.copy(PKGBUILD, top)
        how = {}
        if os.geteuid() == 0:  # makepkg refuses to be run by root
            os.chown(top, 65534, 65534)
            os.chmod(top, 0o755)
            os.chmod(os.path.join(top, "PKGBUILD"), 0o644)
            how = {"user": 65534, "group": 65534, "extra_groups": []}
        # It looks for pacman, which it does not need for this.
        result = run("makepkg", "--printsrcinfo", cwd=top,
                     env={**os.environ, "HOME": top, "PACMAN": "true"}, **how)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn(f"\tpkgver = {VERSION}\n", result.stdout)
        self.assertIn("\tbackup = etc/tproxy/tproxy.conf\n", result.stdout)


if __name__ == "__main__":
    common.main()
