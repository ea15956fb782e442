# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""tproxyctl run: the command is in scope, and all else is as without tproxyctl."""

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import host
import programs
from harness import SERVER
from host import wait_until
from maps import attached
from tproxyctl import binary, ctl  # fixtures

NAME = re.compile(r"tproxy-run-\d+(-\d+)?\.scope")
USER = (programs.RELAY_UID + 1, programs.RELAY_UID + 1)

# Connects to argv[1]:argv[2], and prints its own address, its effective user and its cgroup.
CONNECT = """
import os, socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as sock:
    cgroup = next(line for line in open("/proc/self/cgroup") if line.startswith("0::"))
    print(*sock.getsockname(), os.geteuid(), cgroup.strip()[3:], flush=True)
"""

# Prints what a process inherits.
INHERITED = """
import json, os, re, resource, sys
status = dict(re.findall(r"^(\\w+):[ \\t]*(.*)$", open("/proc/self/status").read(), re.MULTILINE))
def kind(fd):
    with_name = os.readlink(f"/proc/self/fd/{fd}")
    return with_name if with_name.startswith("/") else with_name.partition(":")[0]
fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
print(json.dumps({
    "argv": sys.argv, "cwd": os.getcwd(), "environment": dict(os.environ),
    "descriptors": {fd: kind(fd) for fd in fds},
    "umask": os.umask(0), "group": os.getpgid(0), "session": os.getsid(0), "parent": os.getppid(),
    "nice": os.nice(0), "children": open("/proc/self/task/%d/children" % os.getpid()).read(),
    "limits": {n: resource.getrlimit(getattr(resource, n)) for n in dir(resource)
               if n.startswith("RLIMIT_")},
    "signals": {n: status[n] for n in ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")},
    "ids": {n: status[n] for n in ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd",
                                   "CapAmb", "NoNewPrivs", "Seccomp")},
}))
"""


def command(bed, binary, *words):
    return [binary, "run", "--pin-dir", bed.pins.path, "--", *words]


@pytest.fixture
def run(bed, binary):
    """Runs a command to its end by tproxyctl run, among the clients or at another place."""
    return lambda *words, **program: bed.run(*command(bed, binary, *words), **program)


def own_cgroups(bed):
    # Not rglob(): it fails if a cgroup is removed meanwhile.
    return [Path(path) for path, _, _ in os.walk(bed.top.path)
            if NAME.fullmatch(os.path.basename(path))]


def nothing_is_left(bed):
    """The background process removes the cgroup a moment after the command has ended."""
    wait_until(lambda: not own_cgroups(bed), "the command's cgroup is removed")


class Visitor:
    """The line that CONNECT has printed."""

    def __init__(self, line):
        address, port, self.euid, self.cgroup = line.split()
        self.address = (address, int(port))
        self.euid = int(self.euid)


def visit(run, listener, *before, **options):
    """Runs CONNECT, and returns what it printed and whether the connection was relayed."""
    result = run(*before, sys.executable, "-c", CONNECT, *listener.getsockname(), **options)
    visitor = Visitor(result.succeeded().out)
    sock, peer = listener.accept()
    sock.close()
    return visitor, peer != visitor.address


# --- the connections of the command


@pytest.mark.parametrize("where", ["client", "bystander"])
def test_is_redirected(proxied, run, where):
    """The connections of the command are redirected, in a cgroup in scope and in one out of scope.
    The new cgroup is a child of the caller's, and goes with the command and the attached programs.
    To see it fail: attach nothing."""
    place = getattr(proxied, where)
    visitor, relayed = visit(run, proxied.listen(), place=place)
    assert relayed
    path = host.cgroup2_root() / visitor.cgroup.lstrip("/")
    assert NAME.fullmatch(path.name) and path.parent == place.cgroup.path
    nothing_is_left(proxied)
    assert attached(proxied.outside) == []
    assert not proxied.visit(proxied.listen(), place=proxied.bystander).relayed


def test_children_are_redirected(proxied, run):
    """A process that the command leaves behind stays in scope and in its cgroup, is named in one
    line, and takes its cgroup with it at its end."""
    listener = proxied.listen()
    fifo = proxied.directory / "go"
    os.mkfifo(fifo)
    script = 'setsid sh -c \'read line < "$1"; shift; "$@"\' daemon "$@" > "$1.log" 2>&1 &'
    result = run("sh", "-c", script, "sh", fifo, sys.executable, "-c", CONNECT,
                 *listener.getsockname(), place=proxied.bystander)
    assert result.status == 0 and result.out == ""
    (cgroup,) = wait_until(lambda: own_cgroups(proxied), "it has a cgroup")
    assert len((cgroup / "cgroup.procs").read_text().split()) == 1
    fifo.write_text("\n")
    sock, peer = listener.accept()
    sock.close()
    log = Path(f"{fifo}.log")
    # Python writes the line in pieces.
    wait_until(lambda: log.read_text().endswith("\n"), "the daemon has connected")
    assert peer != Visitor(log.read_text()).address
    nothing_is_left(proxied)


def test_what_is_left_is_told(loaded, run):
    result = run("sh", "-c", "sleep 1000 > /dev/null 2>&1 &")
    (cgroup,) = own_cgroups(loaded)
    pid = (cgroup / "cgroup.procs").read_text().strip()
    assert result.err == (f"tproxyctl: run: the command has ended, 1 process of it continues in "
                          f"'{cgroup}': {pid} sleep\n")
    os.kill(int(pid), signal.SIGKILL)
    nothing_is_left(loaded)


def test_setuid_program(proxied, run):
    """The connections of a setuid program are redirected, although its user may not load or attach
    programs."""
    python = proxied.directory / "python"
    shutil.copy(os.path.realpath("/usr/bin/python3"), python)
    python.chmod(0o4755)
    listener = proxied.listen()
    result = run("setpriv", f"--reuid={USER[0]}", f"--regid={USER[1]}", "--clear-groups",
                 python, "-I", "-c", CONNECT, *listener.getsockname(), place=proxied.bystander)
    visitor = Visitor(result.succeeded().out)
    _, peer = proxied.accept(listener)
    assert visitor.euid == 0 and peer != visitor.address


@pytest.mark.needs("go")
@pytest.mark.deadline(120)
def test_static_go_program(proxied, run):
    source = proxied.directory / "visit.go"
    source.write_text("""package main
import ("fmt"; "net"; "os")
func main() {
    c, err := net.DialTimeout("tcp", os.Args[1], 0)
    if err != nil { panic(err) }
    fmt.Println(c.LocalAddr())
}
""")
    program = proxied.directory / "visit"
    environment = {"CGO_ENABLED": "0", "GOCACHE": str(proxied.directory / "cache"),
                   "GOFLAGS": "-mod=mod", "GO111MODULE": "off", "HOME": "/nonexistent"}
    programs.call(shutil.which("go"), "build", "-o", program, source, env=environment,
                  timeout=100).succeeded()
    listener = proxied.listen()
    result = run(program, "{}:{}".format(*listener.getsockname()), place=proxied.bystander,
                 env={"GODEBUG": "multipathtcp=0"})
    _, peer = proxied.accept(listener)
    assert "{}:{}".format(*peer) != result.succeeded().out.strip()


def test_in_another_run(proxied, binary, run):
    """In a run inside a run, the programs run once for each connection."""
    inner = command(proxied, binary)
    visitor, relayed = visit(run, proxied.listen(), *inner, place=proxied.bystander)
    assert relayed and len(NAME.findall(visitor.cgroup)) == 2
    nothing_is_left(proxied)
    assert proxied.stats()["redirected"] == 1


def test_explained(proxied, binary, ctl):
    """explain knows programs without a link too. To see it fail: let direct_level() return -1."""
    with programs.Program(*command(proxied, binary, "sleep", 1000), place=proxied.bystander,
                          log=proxied.directory / "log") as program:
        comm = Path(f"/proc/{program.pid}/comm")
        wait_until(lambda: comm.read_text() == "sleep\n", "it is the command")
        (answer,) = [json.loads(ctl("explain", "--json", "--pid", program.pid,
                                    f"{SERVER}:80").succeeded().out)]
        assert answer["verdict"] == "redirect"
        assert NAME.fullmatch(Path(answer["facts"]["scope"]).name)
    nothing_is_left(proxied)


def test_cgroup_whose_background_process_was_killed(loaded, run):
    """A command removes the old cgroup of one whose background process was killed. Fails if
    is_old() returns a constant."""
    gone, kept = (loaded.scope.child(f"tproxy-run-{pid}.scope") for pid in (4194304, os.getpid()))
    long_ago = time.time() - 3600
    os.utime(gone.path, (long_ago, long_ago))
    run("true").succeeded()
    # A new one may be that of a command of another PID namespace, which is about to enter it.
    assert not gone.path.exists() and kept.path.exists()
    kept.path.rmdir()


def test_unloaded_meanwhile(proxied, binary):
    """The programs of the command stay, and redirect nothing to a relay that cannot ask for the
    destination any more. Fails for 5 s if withdraw() leaves the registrations."""
    listener = proxied.listen()
    fifo, log = proxied.directory / "go", proxied.directory / "log"
    os.mkfifo(fifo)
    script = 'read line < "$0"; exec "$@"'
    argv = command(proxied, binary, "bash", "-c", script, fifo, sys.executable, "-c", CONNECT,
                   *listener.getsockname())
    with programs.Program(*argv, place=proxied.bystander, log=log) as program:
        wait_until(lambda: own_cgroups(proxied), "it is started")
        comm = Path(f"/proc/{program.pid}/comm")
        wait_until(lambda: comm.read_text() == "bash\n", "it is the command")
        proxied.tproxy_load.unload()
        fifo.write_text("\n")
        sock, peer = listener.accept()
        sock.close()
        assert program.wait() == 0
        assert peer == Visitor(program.text()).address, "direct"


def test_nothing_is_loaded(bed, run):
    result = run("touch", bed.directory / "mark")
    result.refused("nothing is loaded", bed.pins.path, status=125)
    assert not (bed.directory / "mark").exists()
    nothing_is_left(bed)


@pytest.mark.parametrize("before, needle", [
    ("echo 0 > $0/cgroup.max.descendants", "cgroup.max"),
    ("echo threaded > $0/cgroup.type", "threaded"),
    # A sanitizer reads its options and looks for leaks there.
    pytest.param("umount -l /proc", "/proc is not mounted", marks=pytest.mark.plain_build)],
    ids=["limit", "threaded", "no-proc"])
def test_where_no_cgroup_can_be_made(loaded, binary, before, needle):
    """One clear line, and the command is not run."""
    inner, mark = loaded.scope.child("inner"), loaded.directory / "mark"
    result = loaded.run("unshare", "--mount", "sh", "-c",
                        f'{before} && echo $$ > $0/cgroup.procs && exec "$@"', inner,
                        *command(loaded, binary, "touch", mark))
    nothing_is_left(loaded)

    def is_removed():
        with contextlib.suppress(OSError):  # the background process is in it for a moment
            inner.path.rmdir()
        return not inner.path.exists()

    # Before the bed's end, which cannot list the processes of a threaded one.
    wait_until(is_removed, "it is empty")
    assert result.status == 125 and needle in result.err and result.err.count("\n") == 1, result
    assert not mark.exists()


# --- as without tproxyctl


@pytest.mark.parametrize("before", [
    [], ["sh", "-c", 'exec "$@" <&-', "sh"], ["sh", "-c", 'exec "$@" 2>&-', "sh"],
    ["sh", "-c", 'exec "$@" 7</etc/passwd', "sh"], ["nohup"], ["env", "-i", "A=1"],
    ["env", "--block-signal=CHLD", "--ignore-signal=XFSZ"], ["nice", "-n", "3"],
    ["sh", "-c", 'umask 27; cd /usr; exec "$@"', "sh"]],
    ids=["plain", "no-stdin", "no-stderr", "descriptor", "nohup", "env", "signals", "nice", "cwd"])
def test_command_inherits_the_same(loaded, binary, before):
    """To see it fail: leave out sink_restore(), or start the background process with fork()."""
    script = [sys.executable, "-c", INHERITED, "", "-x", "--", "--help"]
    with_it, without = ([*before, *words] for words in (command(loaded, binary, *script), script))
    for place in (loaded.client, loaded.bystander):
        seen, expected = (json.loads(loaded.run(*argv, place=place).succeeded().out)
                          for argv in (with_it, without))
        assert seen == expected
    nothing_is_left(loaded)


@pytest.mark.parametrize("status", [0, 1, 7, 125, 255])
def test_exit_status(loaded, run, status):
    result = run("sh", "-c", f"exit {status}")
    assert (result.status, result.out, result.err) == (status, "", "")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL,
                                    signal.SIGUSR1])
def test_ended_by_a_signal(request, loaded, run, number):
    """The signal ends the process that the caller waits for."""
    if number == signal.SIGHUP:  # ignored under nohup, also by the processes of the tests
        request.addfinalizer(partial(signal.signal, number, signal.getsignal(number)))
        signal.signal(number, signal.SIG_DFL)
    assert run("sh", "-c", f"kill -{int(number)} $$").status == -number
    nothing_is_left(loaded)


@pytest.mark.parametrize("name, status, needle", [
    ("no-such-command", 127, "No such file"), ("/etc/passwd", 126, "Permission denied"),
    ("/", 126, "Permission denied")])
def test_cannot_be_executed(loaded, run, name, status, needle):
    run(name).refused(f"cannot run '{name}'", needle, status=status)
    nothing_is_left(loaded)


def test_signals_go_to_the_command(loaded, binary):
    """The caller's child is the command itself: no process between them could be killed alone."""
    with programs.Program(*command(loaded, binary, "sleep", 1000), place=loaded.client,
                          log=loaded.directory / "sleep.log") as program:
        wait_until(lambda: own_cgroups(loaded), "it is started")
        comm = Path(f"/proc/{program.pid}/comm")
        wait_until(lambda: comm.read_text() == "sleep\n", "it is the command")
        program.stop()
        program.signal(signal.SIGCONT)
        wait_until(lambda: "T" not in host.thread_states(program.pid), "it goes on")
        program.signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM
    nothing_is_left(loaded)


def test_output_ends_with_the_command(loaded, run):
    """The background process keeps no pipe of the command open."""
    begin = time.monotonic()
    run("sh", "-c", "sleep 1000 > /dev/null 2>&1 &", timeout=20)
    assert time.monotonic() - begin < 20
    loaded.scope.remove()
    loaded.scope.path.mkdir()


def test_removes_the_cgroups_of_the_command(loaded, run):
    script = "mkdir -p $0/a/b && echo 0 > $0/a/b/cgroup.procs"
    run("sh", "-c", f'c={host.cgroup2_root()}$(sed -n s/^0:://p /proc/self/cgroup); '
        f"sh -c '{script}' $c").succeeded()
    nothing_is_left(loaded)


# --- a shell with job control


class Terminal:
    """An interactive shell on a terminal of its own, in which commands are typed."""

    PROMPT = "ready> "

    def __init__(self, place):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                place.enter()
                os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"],
                          {**programs.ENVIRONMENT, "PS1": self.PROMPT, "HISTFILE": ""})
            finally:
                os._exit(127)
        self.seen = ""
        self.expect(self.PROMPT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)

    def expect(self, text, timeout=10):
        """Waits for a text, and returns what came before it."""
        end = time.monotonic() + timeout * host.patience
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], (
                f"no {text!r} in {self.seen!r}")
            self.seen += os.read(self.fd, 4096).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def run(self, line):
        """Types a command and returns its output, at the next prompt."""
        self.type(line + "\n")
        self.expect("\n")
        return self.expect(self.PROMPT).replace("\r", "")

    def foreground(self):
        """The process group that has the terminal."""
        return os.tcgetpgrp(self.fd)

    def wait_for(self, name):
        """Waits until a program has the terminal, and returns its PID. Until a shell's child has
        called execve(), it ignores the signals of the terminal as the shell does."""
        def comm():
            try:
                return Path(f"/proc/{self.foreground()}/comm").read_text().strip()
            except FileNotFoundError:
                return None
        wait_until(lambda: comm() == name, f"{name} has the terminal")
        return self.foreground()


@pytest.fixture
def terminal(loaded):
    with Terminal(loaded.client) as terminal:
        yield terminal


def line_of(bed, binary, *words):
    return " ".join(map(str, command(bed, binary, *words)))


def test_keys_of_the_terminal(loaded, binary, terminal):
    terminal.type(line_of(loaded, binary, "sleep", 1000) + "\n")
    pid = terminal.wait_for("sleep")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect(terminal.PROMPT)
    (cgroup,) = own_cgroups(loaded)
    assert (cgroup / "cgroup.procs").read_text() == f"{pid}\n"
    assert host.thread_states(pid) == {"T"}
    terminal.type("fg\n")
    wait_until(lambda: terminal.foreground() == pid, "it has the terminal again")
    wait_until(lambda: host.thread_states(pid) == {"S"}, "it goes on")
    terminal.type("\x03")
    terminal.expect(terminal.PROMPT)
    assert terminal.run("echo $?") == "130\n"
    nothing_is_left(loaded)


def test_shell_with_job_control(loaded, binary, terminal):
    """A shell in a shell: the inner one has jobs of its own, and gives the terminal back."""
    terminal.type(line_of(loaded, binary, "bash", "--norc", "--noprofile", "--noediting", "-i")
                  + "\n")
    terminal.expect(terminal.PROMPT)
    inner = terminal.foreground()
    assert inner != terminal.pid
    terminal.type("sleep 1000\n")
    job = terminal.wait_for("sleep")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect(terminal.PROMPT)
    assert "sleep" in terminal.run("jobs")
    terminal.type("fg\n")
    wait_until(lambda: terminal.foreground() == job, "the job has it again")
    terminal.type("\x03")
    terminal.expect(terminal.PROMPT)
    assert terminal.foreground() == inner
    assert terminal.run("echo $?") == "130\n"
    terminal.run("exit 3")
    assert terminal.foreground() == terminal.pid
    assert terminal.run("echo $?") == "3\n"
    nothing_is_left(loaded)


def test_in_the_background(loaded, binary, terminal):
    """A command in the background does not take the terminal, and stops when it reads from it.
    kill(1) then reaches nothing but the command. To see it fail: call setsid() in detach(), after a
    pause."""
    terminal.type(line_of(loaded, binary, "cat") + " &\n")
    wait_until(lambda: any(host.thread_states(pid) == {"T"} for cgroup in own_cgroups(loaded)
                           for pid in (cgroup / "cgroup.procs").read_text().split()),
               "it is stopped")
    assert terminal.foreground() == terminal.pid
    terminal.run("kill -9 %1")
    nothing_is_left(loaded)


# --- as an ordinary user


def delegate(cgroup):
    """Gives a cgroup to the user, as systemd does for Delegate=yes."""
    for path in (cgroup.path, cgroup.path / "cgroup.procs"):
        os.chown(path, *USER)


@pytest.fixture
def place(proxied):
    """In scope, in a cgroup that belongs to root, as a session's does."""
    return host.Place(proxied.scope.child("session"), proxied.client_net)


def test_user_in_a_cgroup_of_his_own(proxied, run, place):
    delegate(place.cgroup)
    visitor, relayed = visit(run, proxied.listen(), place=place, user=USER)
    assert relayed and visitor.euid == USER[0]
    path = host.cgroup2_root() / visitor.cgroup.lstrip("/")
    assert NAME.fullmatch(path.name) and path.parent == place.cgroup.path
    nothing_is_left(proxied)


def test_user_out_of_scope(proxied, run):
    """The command is not run. To see it fail: let probe_in_scope() return 1."""
    place = host.Place(proxied.outside.child("user"), proxied.client_net)
    delegate(place.cgroup)
    directory = proxied.directory / "user"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    mark = directory / "mark"
    run("touch", mark, place=place, user=USER).refused(
        "not in the scope", "not run", status=125)
    assert not mark.exists()
    nothing_is_left(proxied)


def test_user_without_a_cgroup(proxied, run, place):
    """A user without a cgroup and without a systemd gets an error, and the command is not run."""
    run("true", place=place, user=USER, env={"XDG_RUNTIME_DIR": str(proxied.directory)}).refused(
        "may not make a cgroup", "login session", status=125)
    nothing_is_left(proxied)


def _receive_message(sock):
    data = b""
    while len(data) < 16:
        data += sock.recv(16 - len(data))
    body, serial, fields = struct.unpack("<4xIII", data)
    left = (fields + 7) // 8 * 8 + body
    while left:
        chunk = sock.recv(left)
        data, left = data + chunk, left - len(chunk)
    return serial, data


def fake_systemd(listener, directory):
    """One StartTransientUnit, as the user's systemd answers it: D-Bus without a bus."""
    sock, _ = listener.accept()
    greeting = b""
    while b"BEGIN\r\n" not in greeting:
        greeting += sock.recv(4096)
    answer = b"DATA\r\n" if b"DATA\r\n" in greeting else b""
    answer += b"OK 0123456789abcdef0123456789abcdef\r\n"
    answer += b"AGREE_UNIX_FD\r\n" if b"NEGOTIATE_UNIX_FD" in greeting else b""
    sock.sendall(answer)
    serial, message = _receive_message(sock)
    assert b"StartTransientUnit" in message
    name = NAME.search(message.decode("latin1"))[0]
    body = struct.pack("<I3s", 2, b"/j\0")
    fields = struct.pack("<BB2sIBB2sB2s", 5, 1, b"u\0", serial, 8, 1, b"g\0", 1, b"o\0")
    sock.sendall(struct.pack("<cBBBIII", b"l", 2, 1, 1, len(body), 1, len(fields))
                 + fields + b"\0" + body)
    # The process is moved after the answer.
    time.sleep(0.1)
    pid, _, _ = struct.unpack("=3I", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    unit = Path(directory, name)
    unit.mkdir()
    (unit / "cgroup.procs").write_text(str(pid))
    return message


def test_user_with_a_systemd(proxied, run, place):
    """The user's systemd makes the scope. scripts/vm-matrix.sh tests a real systemd."""
    runtime = proxied.directory / "runtime"
    (runtime / "systemd").mkdir(parents=True)
    listener = proxied.keep(socket.socket(socket.AF_UNIX))
    path = runtime / "systemd" / "private"
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen()
    manager = proxied.scope.child("manager")
    root = host.Place(proxied.scope, proxied.client_net)
    task = proxied.task(fake_systemd, listener, manager.path, place=root)
    visitor, relayed = visit(run, proxied.listen(), place=place, user=USER,
                             env={"XDG_RUNTIME_DIR": str(runtime)})
    message = task.result()
    assert b"PIDs\0" in message and b"inactive-or-failed" in message
    assert relayed and visitor.euid == USER[0]
    path = host.cgroup2_root() / visitor.cgroup.lstrip("/")
    assert NAME.fullmatch(path.name) and path.parent == manager.path
    with contextlib.suppress(FileNotFoundError):
        path.rmdir()
