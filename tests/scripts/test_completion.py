#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Completion in bash, zsh and fish: words are typed at a shell of each on a terminal of its own.

fish is asked by "complete -C". To see it fail: in scripts/completion/completion.py, take the lines
about "=" out of bash(), or the "=" behind an option out of zsh_option().
Usage: test_completion.py DIRECTORY, where completion.py wrote its files
"""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import common

DIRECTORY = sys.argv.pop(1)
PROGRAMS = ("tproxy-load", "tproxyctl", "tproxy-relay")
DEADLINE = 30

# What is typed, and what it is completed to. {dir} has the folder "unique", and in it "file.conf".
WORDS = (
    ("tproxy-load --fail-c", "tproxy-load --fail-closed"),
    ("tproxy-load --cgroup {dir}/uni", "tproxy-load --cgroup {dir}/unique/"),
    ("tproxy-load --cgroup={dir}/uni", "tproxy-load --cgroup={dir}/unique/"),
    ("tproxy-load -c {dir}/uni", "tproxy-load -c {dir}/unique/"),
    ("tproxy-load --relay-group=roo", "tproxy-load --relay-group=root"),
    ("tproxy-load --config={dir}/unique/fi", "tproxy-load --config={dir}/unique/file.conf"),
    ("tproxy-relay --connection-log js", "tproxy-relay --connection-log json"),
    ("tproxy-relay --connection-log=js", "tproxy-relay --connection-log=json"),
    ("tproxy-relay --drain-in", "tproxy-relay --drain-in-background"),
    ("tproxy-relay --pin-dir={dir}/uni", "tproxy-relay --pin-dir={dir}/unique/"),
    ("tproxyctl conn", "tproxyctl connections"),
    ("tproxyctl doctor --str", "tproxyctl doctor --strict"),
    ("tproxyctl doctor --cgroup={dir}/uni", "tproxyctl doctor --cgroup={dir}/unique/"),
    ("tproxyctl exp", "tproxyctl explain"),
    ("tproxyctl help doc", "tproxyctl help doctor"),
    ("tproxyctl explain --comm", "tproxyctl explain --command"),
    ("tproxyctl register --rem", "tproxyctl register --remove"),
    ("tproxyctl rul", "tproxyctl rules"),
    ("tproxyctl rules che", "tproxyctl rules check"),
    ("tproxyctl rules check --no-re", "tproxyctl rules check --no-resolve"),
    ("tproxyctl rules load {dir}/unique/fi", "tproxyctl rules load {dir}/unique/file.conf"),
    ("tproxyctl status --pin-dir={dir}/uni", "tproxyctl status --pin-dir={dir}/unique/"),
)


class Shell:
    """An interactive shell on a terminal."""

    def __init__(self, *command):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="dumb", PS1="", LC_ALL="C", HOME="/nonexistent")
            os.execvp(command[0], command)
        self.seen = ""

    def type(self, text):
        os.write(self.terminal, text.encode())

    def wait_for(self, text):
        """Waits until the shell has printed it, and forgets all before that."""
        end = time.monotonic() + DEADLINE
        while text not in self.seen:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.terminal], [], [], left)[0]:
                raise AssertionError(f"no {text!r} in {self.seen!r}")
            self.seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\x07\r]", "",
                                os.read(self.terminal, 4096).decode(errors="replace"))
        self.seen = self.seen.partition(text)[2]

    def run(self, line):
        self.type(line + "; echo do''ne\n")
        self.wait_for("done\n")

    def complete(self, typed, expected):
        """The shell itself prints the completed line, as the words of a command."""
        self.type("echo : " + "\x15" + typed + "\t")  # ^U: an empty line
        # ^A and a word in front of it: the shell prints what the line has come to.
        self.type("\x01printf '<%s>' \x05; echo do''ne\n")
        self.wait_for("".join(f"<{word}>" for word in expected.split()) + "done")

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


class CompletionTest(common.TestCase):
    def setUp(self):
        self.top = self.temporary()
        os.mkdir(os.path.join(self.top, "unique"))
        with open(os.path.join(self.top, "unique/file.conf"), "w", encoding="utf-8"):
            pass

    def words(self):
        return [(typed.format(dir=self.top), expected.format(dir=self.top))
                for typed, expected in WORDS]

    def shell(self, *command):
        shell = Shell(*command)
        self.addCleanup(shell.close)
        return shell

    @common.needs("bash")
    def test_bash(self):
        shell = self.shell("bash", "--norc", "--noprofile", "-i")
        shell.run("bind 'set enable-bracketed-paste off'; bind 'set bell-style none'")
        for name in PROGRAMS:
            shell.run(f"source {DIRECTORY}/{name}")
        for typed, expected in self.words():
            with self.subTest(typed):
                shell.complete(typed, expected)

    @common.needs("zsh")
    def test_zsh(self):
        functions = os.path.join(self.top, "functions")
        os.mkdir(functions)
        for name in PROGRAMS:
            shutil.copy(f"{DIRECTORY}/_{name}", functions)
        shell = self.shell("zsh", "-f", "-i")
        shell.run("PS1=; PROMPT_SP=; unsetopt zle_bracketed_paste beep prompt_sp " +
                  "auto_remove_slash; bindkey -e")
        shell.run(f"fpath=({functions} $fpath); autoload -U compinit; compinit -u -D")
        for typed, expected in self.words():
            with self.subTest(typed):
                shell.complete(typed, expected)

    @common.needs("fish")
    def test_fish(self):
        sources = "; ".join(f"source {DIRECTORY}/{name}.fish" for name in PROGRAMS)
        for typed, expected in self.words():
            with self.subTest(typed):
                said = subprocess.run(
                    ["fish", "--no-config", "-c", f"{sources}; complete -C '{typed}'"], text=True,
                    capture_output=True, check=False, env={**os.environ, "HOME": self.top})
                self.assertEqual(said.stderr, "")
                words = [line.partition("\t")[0] for line in said.stdout.splitlines()]
                self.assertEqual(words, [expected.split()[-1]])


if __name__ == "__main__":
    common.main()
