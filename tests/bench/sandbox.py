# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a benchmark run takes from the host, and how all of it is returned.

Network namespaces, cgroups, one bpffs mount and a directory below /run, all named
"tproxy-bench". Every process runs in one of the cgroups, so cgroup.kill ends exactly the
processes of this run, or of one that was killed before it.
"""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

NAME = "tproxy-bench"
SERVER_NETNS = f"{NAME}-server"
SERVER_PORT = 7777
HTTP_PORT = 7778
SMALL_PORT = 7779  # of a second server, whose listener has small buffers
SMALL_BYTES = 4096
# Of a server with one thread, for what is measured in pairs. Odd, because connect() takes even
# ports first, and decide listens on this one where the clients are.
SINGLE_PORT = 7781
COMMAND_SECONDS = 30

# Ports must not run out, and connect() must not search for a free one: see README.md.
SYSCTLS = ("net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1")

ALLOWED = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"


class Failure(Exception):
    """The reason for a missing number."""


def wait_until(condition, what, seconds=10):
    """Returns the first true result of condition(), or raises Failure with the condition's name."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"timed out after {seconds} s: {what}")
        time.sleep(0.01)
    return result


def need(*programs):
    """Raises Failure with the package to install. Nothing is installed here."""
    for program, package in programs:
        if not shutil.which(program):
            raise Failure(f"not installed: {program} (Debian package {package})")


def command(*argv, check=True):
    """Runs a short command on the host. Returns its output, or raises Failure with its last
    line."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(str(error)) from error
    if check and done.returncode != 0:
        raise Failure(f"{' '.join(argv)}: {last_line(done.stdout)}")
    return done.stdout


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


@contextlib.contextmanager
def allowed(congestion_control):
    """A namespace may use the host's own congestion control, or one that the host allows to all."""
    before = read(ALLOWED).split()
    if congestion_control in before:
        yield
        return
    try:
        write(ALLOWED, " ".join([*before, congestion_control]))
    except OSError as error:
        raise Failure(f"congestion control {congestion_control}: {error.strerror}") from error
    try:
        yield
    finally:
        write(ALLOWED, " ".join(before))


def last_line(text):
    return (text.strip().splitlines() or ["no output"])[-1]


def mounts():
    """(mount point, file system type) of each mount that this process sees."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, right = line.split(" - ")
            yield left.split()[4], right.split()[0]


def cgroup2_mount():
    for path, kind in mounts():
        if kind == "cgroup2":
            return path
    raise Failure("no cgroup2 is mounted")


def unprivileged(uid, gid):
    """The start of a command line that runs the rest as an unprivileged user."""
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--inh-caps=-all",
            "--bounding-set=-all", "--no-new-privs"]


class Process:
    """A process of this run, and the kernel's accounts of it."""

    def __init__(self, popen, log_path):
        self.popen = popen
        self.log_path = log_path
        self.directory = f"/proc/{popen.pid}"

    def log(self):
        return read(self.log_path)

    def running(self):
        return self.popen.poll() is None

    def check(self):
        if not self.running():
            raise Failure(f"exited with status {self.popen.returncode}: {last_line(self.log())}")

    def rss_bytes(self):
        return int(read(f"{self.directory}/statm").split()[1]) * resource.getpagesize()

    def tcp(self):
        """The fields of each socket of its namespace in /proc/net/tcp."""
        return [line.split() for line in read(f"{self.directory}/net/tcp").splitlines()[1:]]

    def listens_on(self, port):
        return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in self.tcp())

    def stop(self):
        """Sends SIGTERM. If that does not end it, sends SIGKILL and raises Failure."""
        if self.running():
            self.popen.terminate()
        try:
            self.popen.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.popen.kill()
            self.popen.wait()
            raise Failure(f"does not end on SIGTERM: {last_line(self.log())}") from error


class Sandbox:
    """Namespaces, cgroups, mount and processes of one run. A context manager."""

    def __init__(self, bench, congestion_control, pin):
        self.bench = bench
        self.congestion_control = congestion_control
        self.sysctls = (*SYSCTLS, f"net.ipv4.tcp_congestion_control={congestion_control}")
        cpus = sorted(os.sched_getaffinity(0))
        self.client_cpus = cpus[:1] if pin else cpus
        self.server_cpus = cpus[-1:] if pin else cpus
        self.cgroup = os.path.join(cgroup2_mount(), NAME)
        self.directory = None
        self.bpffs = None
        self.networks = 0
        # An abstract address is taken while the process lives, and leaves nothing to remove.
        self.lock = socket.socket(socket.AF_UNIX)

    def __enter__(self):
        try:
            self.lock.bind(f"\0{NAME}")
        except OSError as error:
            raise Failure("another run is under way") from error
        self.clean()
        try:
            self.set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self.clean()
        self.lock.close()

    def set_up(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.directory = tempfile.mkdtemp(prefix=f"{NAME}.", dir="/run")
        os.chmod(self.directory, 0o755)
        self.bpffs = os.path.join(self.directory, "bpffs")
        os.mkdir(self.bpffs)
        command("mount", "-t", "bpf", "-o", "mode=0755", NAME, self.bpffs)
        os.mkdir(self.cgroup)
        self.add_cgroup("outside")
        self.add_netns(SERVER_NETNS)
        self.start_server()

    def clean(self):
        """Removes everything of this run and of runs before it. Continues after failures."""
        try:
            self.kill_all()
        except (Failure, OSError) as failure:
            print(f"left: {failure}", file=sys.stderr)
        for path, _ in list(mounts()):
            if path.startswith(f"/run/{NAME}."):
                command("umount", path, check=False)
        for entry in os.listdir("/run"):
            if entry.startswith(f"{NAME}.") and os.path.isdir(f"/run/{entry}"):
                shutil.rmtree(f"/run/{entry}", ignore_errors=True)
        for line in command("ip", "netns", "list", check=False).splitlines():
            if line.startswith(f"{NAME}-"):
                command("ip", "netns", "delete", line.split()[0], check=False)

    def kill_all(self):
        if not os.path.isdir(self.cgroup):
            return
        write(os.path.join(self.cgroup, "cgroup.kill"), "1")
        for path, _, _ in os.walk(self.cgroup, topdown=False):
            wait_until(lambda p=path: remove_cgroup(p), f"cgroup {path} is empty")

    def cgroup_path(self, name):
        return os.path.join(self.cgroup, name)

    def add_cgroup(self, name):
        os.mkdir(self.cgroup_path(name))
        return name

    def empty_cgroup(self, name):
        """Kills all processes there, with children that outlive their parents."""
        write(os.path.join(self.cgroup_path(name), "cgroup.kill"), "1")
        wait_until(lambda: not self.pids(name), f"cgroup {name} is empty")

    def pids(self, cgroup):
        return read(os.path.join(self.cgroup_path(cgroup), "cgroup.procs")).split()

    def cpu_seconds(self, cgroup):
        """The CPU time of all processes that have run there."""
        text = read(os.path.join(self.cgroup_path(cgroup), "cpu.stat"))
        return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6

    def add_netns(self, name):
        command("ip", "netns", "add", name)
        command("ip", "-n", name, "link", "set", "lo", "up")
        with allowed(self.congestion_control):
            command("nsenter", f"--net=/run/netns/{name}", "sysctl", "-qw", *self.sysctls)

    def add_client_netns(self, name):
        """Adds a namespace with a veth pair of its own. Returns the two addresses of the pair, the
        server's first."""
        self.networks += 1
        network, device = f"10.77.{self.networks}", f"veth{self.networks}"
        self.add_netns(name)
        command("ip", "link", "add", device, "netns", name, "type", "veth",
                "peer", "name", device, "netns", SERVER_NETNS)
        for netns, host in ((SERVER_NETNS, 1), (name, 2)):
            command("ip", "-n", netns, "address", "add", f"{network}.{host}/24", "dev", device)
            command("ip", "-n", netns, "link", "set", device, "up")
        return f"{network}.1", f"{network}.2"

    def start(self, argv, netns, cgroup, label, cpus=None):
        """Starts argv in a namespace and a cgroup. Its output goes to a log named by @label."""
        log_path = os.path.join(self.directory, f"{label}.log")
        with open(log_path, "w", encoding="utf-8") as log:
            popen = subprocess.Popen(self.inside(argv, netns), stdin=subprocess.DEVNULL, stdout=log,
                                     stderr=log, preexec_fn=lambda: self.join(cgroup, cpus))
        return Process(popen, log_path)

    def start_server(self):
        for label, port, *options in (("server", SERVER_PORT),
                                      ("server-small", SMALL_PORT, "--buffers", str(SMALL_BYTES)),
                                      ("server-single", SINGLE_PORT, "--threads", "1")):
            server = self.start_in_server_netns(
                [self.bench, "server", f"0.0.0.0:{port}", *options], label)
            wait_until(lambda s=server: s.check() or "ready" in s.log(), f"{label} is ready")

    def start_in_server_netns(self, argv, label):
        return self.start(argv, SERVER_NETNS, "outside", label, self.server_cpus)

    def start_client(self, argv, netns, cgroup):
        """Starts a client, with pipes to its stdin and from its stdout."""
        return subprocess.Popen(self.inside(argv, netns), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                preexec_fn=lambda: self.join(cgroup, self.client_cpus))

    @staticmethod
    def inside(argv, netns):
        return ["nsenter", f"--net=/run/netns/{netns}", *argv]

    def join(self, cgroup, cpus):
        """Called in the child: enters namespace and cgroup."""
        write(os.path.join(self.cgroup_path(cgroup), "cgroup.procs"), "0")
        if cpus:
            os.sched_setaffinity(0, cpus)


def remove_cgroup(path):
    """Returns true if it is gone. Killed processes take a moment to leave it."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
