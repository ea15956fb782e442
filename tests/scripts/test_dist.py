#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What "meson dist" archives and which version a tree has, in a repository made of this tree.

To see it fail: let scripts/dist.sh end before touch or chmod; let version.sh leave out one of its
conditions; give bpf/meson.build -Werror always.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import time

import common
from common import TREE

ENVIRONMENT = {**{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
               "PATH": common.PATH, **common.IDENTITY}


def run(*command, cwd=None, umask=0o022, **environment):
    result = subprocess.run(command, cwd=cwd, umask=umask, env={**ENVIRONMENT, **environment},
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            check=False)
    if result.returncode != 0:
        raise AssertionError(f"{command}: status {result.returncode}\n{result.stdout}")
    return result.stdout.strip()


def copy_tree(to):
    """The files of the project as they are now, without builds and history."""
    def ignored(folder, names):
        return [name for name in names if name in (".git", "__pycache__") or
                folder == TREE and name.startswith("build")]
    shutil.copytree(TREE, to, ignore=ignored)


@common.needs("git", "meson", "clang", "bpftool")
class DistTest(common.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory(prefix="tproxy-dist-")
        cls.top = cls.holder.name
        cls.tree = os.path.join(cls.top, "tree")
        copy_tree(cls.tree)
        cls.git("init", "-q")
        cls.commit()
        cls.build = os.path.join(cls.top, "build")
        run("meson", "setup", cls.build, cls.tree, "-Dtests=disabled", "-Dman-pages=disabled")

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    @classmethod
    def git(cls, *args):
        return run("git", *args, cwd=cls.tree)

    @classmethod
    def commit(cls):
        cls.git("add", "-A")
        cls.git("commit", "-q", "--no-verify", "--allow-empty", "-m", "tree: commit it")

    def dist(self, **how):
        """(path, SHA-256) of the archive."""
        run("meson", "dist", "-C", self.build, "--no-tests", **how)
        folder = os.path.join(self.build, "meson-dist")
        path, = (os.path.join(folder, name) for name in os.listdir(folder)
                 if name.endswith(".tar.xz"))
        with open(path, "rb") as file:
            return path, hashlib.sha256(file.read()).hexdigest()

    def version(self, tree=None):
        return run(os.path.join(tree or self.tree, "scripts/version.sh"), "1.2.3")

    def hash(self):
        return self.git("rev-parse", "--short=12", "HEAD")

    def test_one_commit_is_one_archive(self):
        first = self.dist()
        time.sleep(1.1)  # the resolution of times in an archive
        second = self.dist(umask=0o077, TZ="Asia/Kathmandu", LC_ALL="C")
        self.assertEqual(first, second)

    def test_an_archive_has_the_plain_version_wherever_it_is_unpacked(self):
        path, _ = self.dist()
        inside = os.path.join(self.tree, "build-inside")  # of a repository, as packagers have it
        for where in (os.path.join(self.top, "unpacked"), inside):
            with tarfile.open(path) as archive:
                archive.extractall(where)
            name, = os.listdir(where)
            self.assertEqual(self.version(os.path.join(where, name)), "1.2.3")
        shutil.rmtree(inside)

    def test_commits_have_versions_of_their_own(self):
        first = self.version()
        self.assertEqual(first, f"1.2.3+g{self.hash()}")
        time.sleep(1.1)  # else the next commit, of the same tree, has the same hash
        self.commit()
        self.assertEqual(self.version(), f"1.2.3+g{self.hash()}")
        self.assertNotEqual(self.version(), first)

    def test_changed_files_are_told(self):
        path = os.path.join(self.tree, "README.md")
        with open(path, "a", encoding="utf-8") as file:
            file.write("changed\n")
        self.assertEqual(self.version(), f"1.2.3+g{self.hash()}.dirty")
        self.git("checkout", "-q", "README.md")
        self.assertEqual(self.version(), f"1.2.3+g{self.hash()}")

    def test_a_release_has_the_plain_version(self):
        self.git("tag", "v1.2.3")
        self.addCleanup(self.git, "tag", "-d", "v1.2.3")
        self.assertEqual(self.version(), "1.2.3")
        self.git("tag", "v1.2")
        self.addCleanup(self.git, "tag", "-d", "v1.2")
        self.assertEqual(run(os.path.join(self.tree, "scripts/version.sh"), "1.2.4"),
                         f"1.2.4+g{self.hash()}")

    def test_warnings_are_errors_only_on_demand(self):
        for werror in ("false", "true"):
            run("meson", "configure", self.build, f"-Dwerror={werror}")
            run("ninja", "-C", self.build, "build.ninja")
            with open(os.path.join(self.build, "build.ninja"), encoding="utf-8") as file:
                bpf = [line for line in file if "-target" in line and "bpf" in line]
            self.assertTrue(bpf)
            self.assertEqual(any("-Werror" in line for line in bpf), werror == "true")


if __name__ == "__main__":
    common.main()
