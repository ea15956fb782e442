#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""scripts/subjects.sh accepts and refuses the subjects of commits, in repositories made up here.

To see it fail: remove one rule from the awk program. The subject that only this rule refuses
is accepted; or let the script end with status 0.
"""

import os
import subprocess

import common

GOOD = (
    "relay: bound accept_all() by number and time",
    "relay, bpf: pass the mark of the client on",
    "tests/e2e: wait for log lines that a thread writes",
    "tproxy-relay(8): describe SIGQUIT",
    ".ci: run the tests of the scripts too",
    "README: address the reader",
    "CONTRIBUTING.md: need a sign-off",
    "bench: feed the server, then ping it",
    "log: embed the errno",
    "loader: bypass dead links",
    "man: bring the example up to date",
    "bpf: re-read the entry",
    "scripts: apply the patch",
    "doctor: do not suggest to mount over /tmp",
    "relay: count \N{LATIN SMALL LETTER U WITH DIAERESIS}" + 56 * "x",  # 72 columns, 73 bytes
    "Revert \"relay: bound accept_all() by number and time\"",
)
BAD = {
    "relay: bounded accept_all()": "no imperative",
    "relay: bounds accept_all()": "no imperative",
    "relay: bounding accept_all()": "no imperative",
    "relay: really bound accept_all()": "no imperative",
    "relay: the bound of accept_all()": "begins with \"the\"",
    "relay: it bounds accept_all()": "begins with \"it\"",
    "relay: what accept_all() accepts": "begins with \"what\"",
    "relay: no endless accept_all()": "begins with \"no\"",
    "relay: is bounded in accept_all()": "begins with \"is\"",
    "relay: without a limit, stop": "begins with \"without\"",
    "relay: Bound accept_all()": "no verb in lower case",
    "relay: 512 KiB pipes": "no verb in lower case",
    "relay: --check of the configuration": "no verb in lower case",
    "relay: IPv6 destinations": "no verb in lower case",
    "relay: bound accept_all().": "ends with a period",
    "relay: bound " + 60 * "x": "more than 72 columns: 73",
    "Bound accept_all()": "does not have the form",
    "relay bound: accept_all()": "does not have the form",
    "relay:bound accept_all()": "does not have the form",
    "fixup! relay: bound accept_all()": "does not have the form",
}


class Repository:
    """A repository with one commit, and the calls of git that the tests need."""

    def __init__(self, path):
        self.path = path
        subprocess.run(["git", "init", "-q", path], check=True)
        self.first = self.commit("Anything at all.")

    def git(self, *args):
        return subprocess.run(["git", "-C", self.path, *args], check=True, text=True,
                              capture_output=True,
                              env={**os.environ, **common.IDENTITY}).stdout.strip()

    def commit(self, subject):
        self.git("commit", "-q", "--no-verify", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")


def check(path, base):
    """(status, lines) of the script."""
    result = common.script("subjects.sh", path, base)
    return result.returncode, (result.stdout + result.stderr).splitlines()


@common.needs("git")
class SubjectsTest(common.TestCase):
    def setUp(self):
        self.top = self.temporary()
        self.repository = Repository(os.path.join(self.top, "tree"))

    def test_good_subjects_are_accepted(self):
        for subject in GOOD:
            self.repository.commit(subject)
        self.assertEqual(check(self.repository.path, self.repository.first), (0, []))

    def test_each_bad_subject_is_refused_for_its_reason_alone(self):
        base = self.repository.first
        for subject, reason in BAD.items():
            with self.subTest(subject):
                commit = self.repository.commit(subject)
                status, lines = check(self.repository.path, base)
                self.assertEqual(status, 1)
                self.assertEqual(len(lines), 1, lines)
                self.assertIn(f'"{subject}": ', lines[0])
                self.assertIn(reason, lines[0].rpartition('": ')[2] if reason[-1] != '"'
                              else lines[0])
                base = commit

    def test_every_commit_after_the_base_is_looked_at(self):
        self.repository.commit("relay: bounded")
        self.repository.commit("relay: bound accept_all()")
        status, lines = check(self.repository.path, self.repository.first)
        self.assertEqual((status, len(lines)), (1, 1))

    def test_nothing_after_the_base_is_fine(self):
        self.assertEqual(check(self.repository.path, self.repository.first), (0, []))

    def test_merges_are_not_checked(self):
        self.repository.git("checkout", "-q", "-b", "side")
        self.repository.commit("relay: bound accept_all()")
        self.repository.git("checkout", "-q", "-")
        self.repository.git("merge", "-q", "--no-ff", "-m", "Merge branch 'side'", "side")
        self.assertEqual(check(self.repository.path, self.repository.first), (0, []))

    def not_checked(self, path, base):
        status, lines = check(path, base)
        self.assertEqual(status, 0)
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("the history was not checked", lines[0])

    def test_a_shallow_clone_without_the_base_is_no_failure(self):
        self.repository.commit("relay: bounded")
        clone = os.path.join(self.top, "clone")
        subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{self.repository.path}",
                        clone], check=True)
        self.not_checked(clone, self.repository.first)

    def test_an_archive_without_a_repository_is_no_failure(self):
        archive = os.path.join(self.top, "archive")
        os.mkdir(archive)
        self.not_checked(archive, self.repository.first)

    def test_an_archive_unpacked_in_another_repository_is_no_failure(self):
        self.not_checked(self.repository.path, "0" * 40)


if __name__ == "__main__":
    common.main()
