# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Honest connect, as real programs see it, unmodified: "connection refused" at the first try, a
timeout of their own, the next address, and no request after they have given up."""

import os
import re
import select

import pytest

import host6
import wire
from harness import BLACKHOLE, SERVER, SERVER2
from honest import CLOSED, HonestBed
from host6 import BLACKHOLE6, SERVER6
from test_programs import SSHD, separation_directory, start_server  # noqa: F401 (a fixture)

HELLO = b"hello\n"
PAGE = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\npage\n"


@pytest.fixture(scope="module")
def bed(run_directory, binaries):
    with HonestBed("programs", run_directory / "programs", binaries) as bed:
        bed.load()
        bed.start_honest()
        yield bed


@pytest.fixture(autouse=True)
def case(bed):
    before = bed.stats()
    with bed.case():
        yield
    assert bed.stats()["negative_cache"] == before["negative_cache"], "these are first tries"


def hello(sock):
    sock.sendall(HELLO)
    sock.recv(1)


def page(sock):
    sock.recv(1 << 16)
    sock.sendall(PAGE)


def serve(bed, answer, *listeners):
    for listener in listeners:
        listener.settimeout(None)
    bed.task(wire.serve_each, answer, *listeners, place=bed.server)


def greeter(bed):
    """The port of a server that says hello, in both families."""
    listener6 = host6.listen(bed)
    port = listener6.getsockname()[1]
    serve(bed, hello, bed.listen(SERVER, port), listener6)
    return port


# --- tools


def curl(bed, *args):
    return bed.run("curl", "-sS", "--noproxy", "*", "--max-time", 20, *args,
                   env={"HOME": os.fspath(bed.directory)})


@pytest.mark.needs("curl")
def test_curl_refused(bed):
    for name in (SERVER, f"[{SERVER6}]"):
        result = curl(bed, f"http://{name}:{CLOSED}/")
        assert result.status == 7 and "Failed to connect" in result.err, result
    listener = bed.listen()
    serve(bed, page, listener)
    url = "http://{}:{}/".format(*listener.getsockname())
    assert curl(bed, url).succeeded().out == "page\n"
    assert curl(bed, "--retry", 0, "-w", "%{num_connects}", url).out == "page\n1"


@pytest.mark.needs("curl")
@pytest.mark.parametrize("name", [BLACKHOLE[0], f"[{BLACKHOLE6[0]}]"], ids=["inet", "inet6"])
def test_curl_connect_timeout(bed, name):
    """28 is a timeout; a connection that was accepted first would be one without an answer."""
    result = curl(bed, "--connect-timeout", "0.5", "-w", "%{time_connect}", f"http://{name}/")
    assert result.status == 28 and float(result.out) == 0, result


@pytest.mark.needs("curl")
@pytest.mark.parametrize("first", ["refused", "black-hole"])
def test_curl_happy_eyeballs(bed, first):
    """IPv6 is refused, or does not answer: curl takes IPv4, at its first call."""
    listener = bed.listen(SERVER2)
    port = listener.getsockname()[1]
    serve(bed, page, listener)
    address6 = SERVER6 if first == "refused" else BLACKHOLE6[0]
    result = curl(bed, "-w", "%{remote_ip}", "--resolve",
                  f"service.test:{port}:[{address6}],{SERVER2}", f"http://service.test:{port}/")
    assert result.succeeded().out == f"page\n{SERVER2}"


@pytest.mark.needs("curl")
def test_request_of_a_client_that_gave_up(bed):
    """The server comes back after curl has ended: it gets no connection, so no order is paid twice.

    To see it fail: do not cancel the dial when the client has gone.
    """
    gate = bed.gate()
    listener, address = gate.listen()
    result = curl(bed, "-m", "0.5", "-d", "pay=100", "http://{}:{}/".format(*address))
    assert result.status == 28, result
    gate.open()
    probe, = bed.sockets(place=bed.bystander)
    probe.settimeout(wire.TIMEOUT)
    probe.connect(address)
    assert bed.accept(listener)[1] == probe.getsockname()
    assert not select.select([listener], [], [], 0)[0]


@pytest.mark.needs("nc")
def test_nc(bed):
    port = greeter(bed)
    for name in (SERVER, SERVER6):
        refused = bed.run("nc", "-zv", name, CLOSED)
        assert refused.status == 1 and "refused" in refused.err, refused
        assert "succeeded" in bed.run("nc", "-zv", name, port).succeeded().err


@pytest.mark.needs("nmap")
def test_nmap(bed):
    """A scan by connect() of 24 ports finds those that are open."""
    ports = range(4000, 4024)
    opened = [4003, 4004, 4011, 4023]
    for port in opened:
        bed.listen(SERVER, port)
    result = bed.run("nmap", "-n", "-Pn", "-sT", "-oG", "-", "-p", f"{ports[0]}-{ports[-1]}",
                     SERVER, env={"HOME": os.fspath(bed.directory)}).succeeded()
    assert [int(port) for port in re.findall(r"(\d+)/open/tcp", result.out)] == opened, result.out
    closed = len(re.findall(r"\d+/closed/tcp", result.out))
    ignored = re.search(r"Ignored State: closed \((\d+)\)", result.out)
    assert closed + (int(ignored[1]) if ignored else 0) == len(ports) - len(opened), result.out
    assert "filtered" not in result.out


@pytest.mark.needs("ssh", "sshd", "ssh-keygen")
def test_ssh(bed, separation_directory):  # noqa: F811
    options = ["-F", "none", "-i", bed.directory / "key", "-o", "BatchMode=yes",
               "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    refused = bed.run("ssh", *options, f"root@{SERVER}", "true")
    assert refused.status == 255 and "port 22: Connection refused" in refused.err, refused
    for name in ("host_key", "key"):
        bed.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                bed.directory / name).succeeded()
    config = bed.directory / "sshd_config"
    config.write_text(SSHD.format(directory=bed.directory, address=SERVER))
    start_server(bed, 22, "/usr/sbin/sshd", "-D", "-e", "-f", config)
    assert bed.run("ssh", *options, f"root@{SERVER}", "echo", "in").succeeded().out == "in\n"


def database(sock):
    """Refuses a PostgreSQL client by a message of the protocol."""
    sock.recv(1 << 10)
    text = b"SFATAL\0VFATAL\0C28000\0Mno entry for you\0\0"
    sock.sendall(b"E" + (len(text) + 4).to_bytes(4, "big") + text)
    sock.recv(1)


@pytest.mark.needs("psql")
def test_psql(bed):
    listener = bed.listen()
    serve(bed, database, listener)

    def psql(port):
        return bed.run("psql", "-X", "-c", "select 1",
                       f"host={SERVER} port={port} user=u dbname=d sslmode=disable "
                       "gssencmode=disable")

    refused, reached = psql(CLOSED), psql(listener.getsockname()[1])
    assert refused.status == 2 and "Connection refused" in refused.err, refused
    assert reached.status == 2 and "no entry for you" in reached.err, reached


# --- languages. Each program connects to the closed port, then to the open one, and prints what it
# gets, for each address.

ASYNCIO = """
import asyncio, sys

async def attempt(name, port):
    try:
        reader, writer = await asyncio.open_connection(name, port)
        print((await reader.readline()).decode().strip())
        writer.close()
    except ConnectionRefusedError:
        print("refused")

async def main():
    for name in sys.argv[3:]:
        for port in sys.argv[1:3]:
            await attempt(name, int(port))

asyncio.run(main())
"""

NODE = """
const net = require("net");
const [closed, open, ...names] = process.argv.slice(2);
function attempt(host, port) {
    return new Promise(done => {
        const socket = net.connect({ host, port });
        socket.on("error", error => done(error.code == "ECONNREFUSED" ? "refused" : error.code));
        socket.on("data", data => { socket.destroy(); done(data.toString().trim()); });
    });
}
(async () => {
    for (const name of names)
        for (const port of [closed, open])
            console.log(await attempt(name, +port));
})();
"""

JAVA = """
import java.io.*;
import java.net.*;
import java.nio.*;
import java.nio.channels.*;

class Client {
    static String line(InputStream in) throws IOException {
        return new BufferedReader(new InputStreamReader(in)).readLine();
    }

    static String plain(InetSocketAddress to) throws IOException {
        try (Socket socket = new Socket()) {
            socket.connect(to);
            return line(socket.getInputStream());
        }
    }

    static String nio(InetSocketAddress to) throws IOException {
        try (SocketChannel channel = SocketChannel.open(); Selector selector = Selector.open()) {
            channel.configureBlocking(false);
            channel.connect(to);
            SelectionKey key = channel.register(selector, SelectionKey.OP_CONNECT);
            while (!channel.finishConnect())
                selector.select();
            key.cancel();
            selector.selectNow();
            channel.configureBlocking(true);
            return line(Channels.newInputStream(channel));
        }
    }

    public static void main(String[] args) throws IOException {
        for (int i = 2; i < args.length; i++)
            for (int port = 0; port < 2; port++) {
                InetSocketAddress to = new InetSocketAddress(args[i], Integer.parseInt(args[port]));
                String[] said = new String[2];
                for (int way = 0; way < 2; way++)
                    try {
                        said[way] = way == 0 ? plain(to) : nio(to);
                    } catch (ConnectException e) {
                        said[way] = e.getMessage().contains("refused") ? "refused" : e.toString();
                    }
                System.out.println(said[0].equals(said[1]) ? said[0] : said[0] + " " + said[1]);
            }
    }
}
"""

GO = """
package main

import (
    "bufio"
    "errors"
    "fmt"
    "net"
    "os"
    "strings"
    "syscall"
)

func main() {
    for _, name := range os.Args[3:] {
        for _, port := range os.Args[1:3] {
            conn, err := net.Dial("tcp", net.JoinHostPort(name, port))
            if errors.Is(err, syscall.ECONNREFUSED) {
                fmt.Println("refused")
                continue
            } else if err != nil {
                panic(err)
            }
            line, _ := bufio.NewReader(conn).ReadString('\\n')
            fmt.Println(strings.TrimSpace(line))
            conn.Close()
        }
    }
}
"""


def tell_apart(bed, *command, **options):
    result = bed.run(*command, CLOSED, greeter(bed), SERVER, SERVER6, **options).succeeded()
    assert result.out.split() == ["refused", "hello"] * 2, result


def written(bed, name, text):
    path = bed.directory / name
    path.write_text(text)
    return path


def test_asyncio(bed):
    tell_apart(bed, "/usr/bin/python3", "-SEc", ASYNCIO)


@pytest.mark.needs("node")
def test_node(bed):
    tell_apart(bed, "node", written(bed, "client.js", NODE))


@pytest.mark.needs("java", "javac")
def test_java(bed):
    tell_apart(bed, "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
               written(bed, "Client.java", JAVA))


@pytest.mark.needs("go")
@pytest.mark.deadline(90)
def test_go(bed):
    source = written(bed, "client.go", GO)
    binary = bed.directory / "client"
    bed.run("go", "build", "-o", binary, source, place=bed.bystander, timeout=80,
            env={"GOCACHE": str(bed.directory / "cache"), "GO111MODULE": "off", "GOFLAGS": "",
                 "HOME": os.environ.get("HOME", "/root")}).succeeded()
    tell_apart(bed, binary)
