# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A terminal that tests type into and read: a tmux server of its own, which ends with the test,
also if that is killed."""

import re
import subprocess
from pathlib import Path

import host
import programs
from host import wait_until

# The line of the shell that waits for a command.
PROMPT = "^ready>$"


class Terminal:
    """An interactive bash in a terminal of @columns x @lines. It ends with the block."""

    def __init__(self, directory, columns=100, lines=24):
        self._socket = Path(directory) / "tmux"
        self._size = ["-x", str(columns), "-y", str(lines)]
        self._argv = ["tmux", "-f", "/dev/null", "-S", str(self._socket)]
        self._environment = {**programs.ENVIRONMENT, "TERM": "screen"}

    def _tmux(self, *args):
        result = subprocess.run([*self._argv, *args], capture_output=True, text=True, check=False,
                                env=self._environment)
        assert result.returncode == 0, (args, result.stderr)
        return result.stdout

    def __enter__(self):
        # -D: not a daemon.
        self._server = subprocess.Popen([*self._argv, "-D"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        preexec_fn=host.die_with_parent, env=self._environment)
        wait_until(self._socket.exists, "tmux listens")
        self._tmux("new-session", "-d", *self._size,
                   "env PS1='ready> ' HISTFILE= bash --norc --noprofile -i")
        try:
            self.wait(PROMPT)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._server.terminate()
        self._server.wait(10 * host.patience)

    def screen(self):
        """The lines that are visible, without spaces at their ends."""
        return self._tmux("capture-pane", "-p").splitlines()

    def text(self):
        return "\n".join(self.screen())

    def type(self, text):
        """Types characters as they are."""
        self._tmux("send-keys", "-l", text)

    def keys(self, *names):
        """Types keys by the names of tmux: Enter, C-c, Up."""
        self._tmux("send-keys", *names)

    def command(self, *words):
        self.type(" ".join(str(word) for word in words))
        self.keys("Enter")

    def resize(self, columns, lines):
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def wait(self, pattern, timeout=10):
        """Waits until a regular expression is found on the screen, and returns the match."""
        return self.wait_for(lambda: re.search(pattern, self.text(), re.MULTILINE),
                             f"the screen has {pattern!r}", timeout)

    def wait_for(self, predicate, what, timeout=10):
        try:
            return wait_until(predicate, what, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen is:\n{self.text()}") from None

    def property(self, name):
        """What tmux(1), FORMATS, says of the terminal."""
        return self._tmux("display-message", "-p", f"#{{{name}}}").strip()

    def process(self, name):
        """The PID of the descendant of the shell whose command has this name."""
        def find():
            pids = [self.property("pane_pid")]
            for pid in pids:
                task = Path(f"/proc/{pid}/task/{pid}")
                if task.joinpath("comm").read_text().strip() == name:
                    return int(pid)
                pids += task.joinpath("children").read_text().split()
            return None

        return wait_until(find, f"{name} runs")
