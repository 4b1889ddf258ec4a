# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands around the proxies of the bench: VNC servers, clients, and the proxies' processes with what they cost."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Union

from ansible_collections.kvmops.console.plugins.module_utils import _rfb

PACKAGE = "ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy"
HERE = Path(__file__).resolve().parent
GREETING = b"RFB 003.008\n"
INIT = bytes.fromhex("fa000101")
TICK = os.sysconf("SC_CLK_TCK")
Sock = Union[socket.socket, ssl.SSLSocket]


def pinned(cpu: int) -> set[int]:
    """The CPUs for the ends (0) or the proxies (1): one for each, where there are two."""
    cpus = sorted(os.sched_getaffinity(os.getpid()))
    return {cpus[cpu]} if len(cpus) > 1 else set(cpus)


class VncServer:
    """A QEMU, as far as the proxy asks: affected or fixed, on TCP and on a unix socket.

    A session that has come past its handshake waits in `sessions`.
    """

    def __init__(self, folder: Path, *, affected: bool) -> None:
        self.affected = affected
        self.path = str(folder / f"vnc-{affected}")
        self.sessions: queue.Queue[socket.socket] = queue.Queue()
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(self.path)
        unix.listen(256)
        tcp = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = tcp.getsockname()[1]
        self._listeners = [unix, tcp]
        self._greeters = ThreadPoolExecutor(16)
        for listener in self._listeners:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._greeters.shutdown(wait=False)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock = listener.accept()[0]
                with contextlib.suppress(OSError):
                    sock.sendall(GREETING)
                self._greeters.submit(self._greet, sock)

    def _greet(self, sock: socket.socket) -> None:
        try:
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            take(sock, 12)
            sock.sendall(b"\x01\x01")
            take(sock, 1)
            sock.sendall(bytes(4))
            take(sock, 1)
            sock.sendall(struct.pack("!HH", 1024, 768) + _rfb.TRUE_COLOUR + struct.pack("!I", 4) + b"QEMU")
            while not self._is_session(sock):
                pass
        except (OSError, EOFError):
            sock.close()
            return
        self.sessions.put(sock)

    def _is_session(self, sock: socket.socket) -> bool:
        """Answer one message; a list with -223 in it is of a session of ours, every other of a question."""
        head = take(sock, 4)
        if head[0] != 2:
            take(sock, 6)  # FramebufferUpdateRequest
            return False
        (count,) = struct.unpack("!H", head[2:])
        listed = struct.unpack(f"!{count}i", take(sock, 4 * count))
        if _rfb.XVP in listed:
            sock.sendall(INIT)
            if self.affected:
                sock.sendall(_rectangle(_rfb.POINTER_CHANGE))
        if _rfb.EXTENDED_KEY in listed:
            sock.sendall(_rectangle(_rfb.EXTENDED_KEY))
        return _rfb.DESKTOP_SIZE in listed


def _rectangle(encoding: int) -> bytes:
    return struct.pack("!BxHHHHHi", 0, 1, 0, 0, 1024, 768, encoding)


def take(sock: Sock, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


class Proxy:
    """A proxy's process. `ports` has the listening port for each name of a target."""

    def __init__(self, name: str, words: list[str], ports: dict[str, tuple[int, str]]) -> None:
        self.name = name
        self.ports = ports
        environment = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, pinned(1)),
        )
        for port, _path in ports.values():
            self._wait(port)

    def _wait(self, port: int) -> None:
        while self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} ended with {self._process.returncode} instead of listening")

    def close(self) -> None:
        for process in [*self.tree()[1:], self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, 9)
        self._process.wait()

    def tree(self) -> list[int]:
        """This process and all that came from it."""
        found = [self._process.pid]
        for process in found:
            with contextlib.suppress(OSError):
                for children in Path(f"/proc/{process}/task").glob("*/children"):
                    found += map(int, children.read_text().split())
        return found

    def cpu(self) -> float:
        """Seconds of CPU so far, of all that still live, and of those that the first process has waited for."""
        seconds = 0.0
        for process in self.tree():
            with contextlib.suppress(OSError):
                seconds += time.clock_gettime((~process << 3) | 2)  # CPUCLOCK_SCHED of another process
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return seconds + (int(fields[13]) + int(fields[14])) / TICK

    def memory(self) -> int:
        """Bytes, what is shared counted fairly (PSS)."""
        total = 0
        for process in self.tree():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start_ours(folder: Path, certificate: Path, servers: dict[str, VncServer]) -> Proxy:
    """The proxy, with a target for each server and each way to it."""
    plain, secure = free_port(), free_port()
    targets: dict[str, object] = {}
    ports = {}
    for name, server in servers.items():
        targets[f"{name}-tcp"] = {"host": "127.0.0.1", "port": server.port}
        targets[f"{name}-unix"] = {"unix": server.path}
        for way in ("tcp", "unix"):
            ports[f"{name}-{way}"] = (plain, f"/target/{name}-{way}")
            ports[f"{name}-{way}-tls"] = (secure, f"/target/{name}-{way}")
    tls = {"certificate": str(certificate), "key": str(certificate)}
    settings = {
        "listeners": [
            {"kind": "web", "address": "127.0.0.1", "port": plain},
            {"kind": "web", "address": "127.0.0.1", "port": secure, "tls": tls},
        ],
        "users": {"by": ["none"]},
        "targets": targets,
        "limits": {"sessions_per_source": 5000, "sessions": 5000, "ping_seconds": None},
    }
    path = folder / "proxy.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return Proxy("ours", [sys.executable, "-m", PACKAGE, "serve", "--config", str(path)], ports)


def start_websockify(certificate: Path, server: VncServer, way: str) -> Proxy:
    """websockify as its README says, to one server; it knows TLS from plain by the first byte."""
    port = free_port()
    target = [f"127.0.0.1:{server.port}"] if way == "tcp" else [f"--unix-target={server.path}"]
    words = [sys.executable, "-m", "websockify", f"--cert={certificate}", f"127.0.0.1:{port}", *target]
    ports = {f"fixed-{way}": (port, "/websockify"), f"fixed-{way}-tls": (port, "/websockify")}
    return Proxy("websockify", words, ports)


class Client:
    """A browser, its WebSocket done by hand."""

    def __init__(self, proxy: Proxy, target: str) -> None:
        port, path = proxy.ports[target]
        self.sock: Sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.endswith("-tls"):
            self.sock = _anything_goes().wrap_socket(self.sock)
        self.sock.settimeout(60)
        self._came = bytearray()
        request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Protocol: binary\r\n\r\n"
        )
        self.sock.sendall(request.encode())
        while b"\r\n\r\n" not in self._came:
            self._more()
        end = self._came.index(b"\r\n\r\n") + 4
        answer = self._take(end)
        if b" 101 " not in answer.partition(b"\r\n")[0]:
            raise RuntimeError(f"no WebSocket at {proxy.name}: {answer!r}")
        self._payload = b""

    @property
    def clean(self) -> bool:
        """Whether everything that came was asked for, so that somebody else can read on."""
        return not self._came and not self._payload

    def close(self) -> None:
        self.sock.close()

    def say(self, payload: bytes) -> None:
        """In one masked frame, its mask being 0."""
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x82, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x82, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x82, 0x80 | 127, size)
        self.sock.sendall(head + bytes(4) + payload)

    def frame(self) -> tuple[int, bytes]:
        """The opcode and payload of the next frame."""
        first, size = self._take(2)
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8))
        return first & 15, self._take(size)

    def hear(self, size: int) -> bytes:
        while len(self._payload) < size:
            self._payload += self.frame()[1]
        data, self._payload = self._payload[:size], self._payload[size:]
        return data

    def drop(self, total: int) -> None:
        """Read so many bytes of payload, and forget them; for TLS, which can't be dropped in the kernel."""
        buffer = memoryview(bytearray(1 << 18))
        while total > 0:
            size = take(self.sock, 2)[1]
            if size == 126:
                (size,) = struct.unpack("!H", take(self.sock, 2))
            elif size == 127:
                (size,) = struct.unpack("!Q", take(self.sock, 8))
            total -= size
            while size:
                size -= self.sock.recv_into(buffer, min(size, len(buffer)))

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._came += data

    def _take(self, size: int) -> bytes:
        while len(self._came) < size:
            self._more()
        data = bytes(self._came[:size])
        del self._came[:size]
        return data


@functools.cache
def _anything_goes() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Session(NamedTuple):
    """A session past its handshake, both ends in our hands."""

    client: Client
    server: socket.socket

    def close(self) -> None:
        self.client.close()
        self.server.close()


def open_session(proxy: Proxy, target: str, server: VncServer) -> Session:
    """Open a session and do what noVNC does before the first pixel; power control is offered by whom it may be."""
    client = Client(proxy, target)
    assert client.hear(12) == GREETING
    client.say(GREETING)
    assert client.hear(2) == b"\x01\x01"
    client.say(b"\x01")
    client.hear(4)
    client.say(b"\x01")
    client.hear(28)
    client.say(_rfb.set_encodings(_rfb.RAW, _rfb.DESKTOP_SIZE, _rfb.XVP))
    assert client.hear(4) == INIT
    assert client.clean
    return Session(client, server.sessions.get(timeout=30))


class Told(NamedTuple):
    """What proxy_ends.c prints."""

    seconds: float
    sent: int
    received: int
    behind: int
    trips: int
    median: float
    worst: float


class Ends:
    """The program that is both ends, compiled here and now."""

    def __init__(self, folder: Path) -> None:
        self._program = str(folder / "proxy_ends")
        subprocess.run(["cc", "-O2", "-o", self._program, str(HERE / "proxy_ends.c")], check=True)

    def start(
        self,
        sessions: list[Session],
        *,
        total: int = 0,
        chunk: int = 1 << 20,
        rate: int = 0,
        ping: int = 0,
        read_rate: int = 0,
        seconds: float = 60,
    ) -> subprocess.Popen[str]:
        """Start it on sessions; over TLS it only sends."""
        ends = []
        for client, server in sessions:
            secure = isinstance(client.sock, ssl.SSLSocket)
            ends.append((-1 if secure else client.sock.fileno(), server.fileno()))
        words = [str(number) for number in (total, chunk, rate, ping, read_rate, seconds)]
        return subprocess.Popen(
            [self._program, *words, *(f"{client}:{server}" for client, server in ends)],
            pass_fds=[number for pair in ends for number in pair if number >= 0],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, pinned(0)),
        )

    def run(self, sessions: list[Session], **how: Any) -> Told:
        """Run it to its end."""
        return told(self.start(sessions, **how))

    def open(self, proxy: Proxy, target: str, number: int) -> float:
        """Open so many sessions, one after the other, as far as the server's greeting; return the seconds."""
        port, path = proxy.ports[target]
        words = [self._program, "open", str(port), path, str(number)]
        return float(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)


def told(process: subprocess.Popen[str]) -> Told:
    output = process.communicate()[0].split()
    if process.returncode:
        raise RuntimeError(f"the ends failed with {process.returncode}")
    sent, received, behind, trips = map(int, output[1:5])
    return Told(float(output[0]), sent, received, behind, trips, float(output[5]), float(output[6]))
