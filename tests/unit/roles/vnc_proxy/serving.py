# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proxy as a whole, in a thread here or as a process of its own, and clients that talk to it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import ipaddress
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _config, _listeners
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._asking import Asking
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._audit import AuditLog
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._connections import Connections
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._targets import Directory

SECONDS = 60.0
"""What no test here comes near."""
ROOT = Path(_config.__file__).parents[7]
"""Where ansible_collections is."""
FILES = Path(_config.__file__).parents[1]
MODULE = "kvmops_vnc_proxy"
WEB = {"kind": "web", "address": "127.0.0.1", "port": 0}
NOBODY_ASKED = {"by": ["none"]}


# --- The proxy --------------------------------------------------------------------------------------------------------


class Serving:
    """All but the service's life, in a thread: `with Serving(document, folder) as proxy`."""

    def __init__(self, document: dict[str, Any], folder: Path) -> None:
        self.settings = _config.parse({"listeners": [WEB], "users": NOBODY_ASKED, **document})
        self.audit_file = folder / "audit.jsonl"
        self.connections: Connections
        self.directory: Directory
        self.listeners: list[_listeners.Listener] = []
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    @property
    def port(self) -> int:
        return int(self.listeners[0].sockets[0].getsockname()[1])

    def __enter__(self) -> Serving:
        self._thread.start()
        assert self._ready.wait(SECONDS)
        if self._failure:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(self, *_failure: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._failure = error
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.listeners = _listeners.open_all(self.settings, {}, {})
        audit = AuditLog(str(self.audit_file))
        asking = Asking(seconds=SECONDS)
        self.directory = Directory(self.settings.targets, asking)
        self.connections = Connections(self.settings, self.directory, audit)
        self.connections.listen(self.listeners)
        self._ready.set()
        await self._stop.wait()
        for listener in self.connections.stop_listening():
            listener.close()
        await self.connections.drain(0)
        self.directory.close()
        asking.close()
        audit.close()

    def do(self, work: Callable[[], Any]) -> Any:
        """Do something in the proxy's thread."""

        async def there() -> Any:
            return work()

        return self.run(there())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something in the proxy's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def audit(self) -> list[dict[str, Any]]:
        """What the audit log has; a line that is written just now, across two pages of the file, may not be whole."""
        whole, _newline, _rest = self.audit_file.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def wait_for(self, event: str, count: int = 1) -> Any:
        """Wait until the audit log has so many of these; return the last."""
        return wait_for(lambda: [line for line in self.audit() if line["event"] == event], count)


def wait_for(look: Callable[[], list[Any]], count: int = 1) -> Any:
    """Wait until there is as much to see; return the last of it."""
    for _turn in range(int(SECONDS * 100)):
        found = look()
        if len(found) >= count:
            return found[-1]
        threading.Event().wait(0.01)
    raise AssertionError(f"there are only {found}")


class Proxy:
    """The proxy as a process. `log` is its standard error, `audit` its standard output, line by line."""

    def __init__(
        self,
        document: dict[str, Any],
        folder: Path,
        *,
        environment: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        command: list[str] | None = None,
    ) -> None:
        self.config = folder / "config.json"
        self.write(document)
        self.log: list[str] = []
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            command or [sys.executable, "-B", "-m", MODULE, "serve", "--config", str(self.config)],
            env={**environment_of_proxy(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.log)),
        ]
        for reader in self._readers:
            reader.start()

    def write(self, document: dict[str, Any]) -> None:
        self.config.write_text(json.dumps({"listeners": [WEB], "users": NOBODY_ASKED, **document}))

    def _read(self, stream: Any, lines: list[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
        for number in self.successors():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, 9)
        for reader in self._readers:
            reader.join(SECONDS)

    def successors(self) -> list[int]:
        """The processes that have taken over, as they say in their log."""
        return [int(found[1]) for line in self.log if (found := re.search(r"Process ([0-9]+) takes over", line))]

    def wait_for_log(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait for so many lines of the log; return the last one's match."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.log if (match := re.search(pattern, line))]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, SECONDS), self.log
            return found()[count - 1]

    def wait_for_event(self, event: str, count: int = 1) -> dict[str, Any]:
        """Wait for so many lines of the audit log."""

        def found() -> list[dict[str, Any]]:
            return [line for line in map(json.loads, list(self.lines)) if line["event"] == event]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, SECONDS), (self.lines, self.log)
            return found()[count - 1]

    @property
    def port(self) -> int:
        return int(self.wait_for_log(r"Listening at .*:([0-9]+)[, ]")[1])

    def end(self) -> int:
        """Wait for its end; return its exit status."""
        status = self.process.wait(SECONDS)
        for reader in self._readers:
            reader.join(SECONDS)
        return status


def environment_of_proxy() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR")}
    paths = [str(ROOT), str(FILES), *(path for path in sys.path if path.endswith("site-packages"))]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error::ResourceWarning"}


# --- Clients ----------------------------------------------------------------------------------------------------------


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def connect(place: int | str, tls: ssl.SSLContext | None = None) -> socket.socket:
    """Connect to a port of this machine, or to a unix socket."""
    if isinstance(place, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(SECONDS)
        sock.connect(place)
        return sock
    sock = socket.create_connection(("127.0.0.1", place), SECONDS)
    return tls.wrap_socket(sock, server_hostname="localhost") if tls else sock


def read_head(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read a response's head; return its status, its headers, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise EOFError(data)
        data += more
    head, _end, rest = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers, rest


def request(
    place: int | str, path: str, *, tls: ssl.SSLContext | None = None, method: str = "GET", **headers: str
) -> Response:
    """Make one request of HTTP; a header's name has underscores for hyphens."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return exchange(place, ("\r\n".join(lines) + "\r\n\r\n").encode(), tls=tls)


def exchange(place: int | str, data: bytes, *, tls: ssl.SSLContext | None = None) -> Response:
    """Send these bytes, read a response until its end."""
    with connect(place, tls) as sock:
        sock.sendall(data)
        status, headers, body = read_head(sock)
        with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
            while more := sock.recv(65536):
                body += more
        return Response(status, headers, body)


class Refused(Exception):
    """No WebSocket, but this."""

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.response = response


class Browser:
    """A WebSocket, opened at once; raises Refused."""

    def __init__(self, place: int | str, path: str, *, tls: ssl.SSLContext | None = None, **headers: str) -> None:
        self.sock = connect(place, tls)
        try:
            self.headers = self._shake_hands(path, headers)
        except BaseException:
            self.sock.close()
            raise
        self.closed_with: int | None = None

    def _shake_hands(self, path: str, headers: dict[str, str]) -> dict[str, str]:
        lines = [f"GET {path} HTTP/1.1"]
        sent = {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec_WebSocket_Key": base64.b64encode(bytes(16)).decode(),
            "Sec_WebSocket_Version": "13",
            **headers,
        }
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in sent.items()]
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        status, received, self._rest = read_head(self.sock)
        if status != 101:
            body = self._rest
            while more := self.sock.recv(65536):
                body += more
            raise Refused(Response(status, received, body))
        self._payload = b""
        return received

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.sock.close()

    def _take(self, size: int) -> bytes:
        while len(self._rest) < size:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError
            self._rest += more
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _read_frame(self) -> tuple[int, bytes]:
        opcode, length = self._take(2)
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        return opcode & 0xF, self._take(length)

    def hear(self, size: int) -> bytes:
        """Read so many bytes of RFB. Raises EOFError at the end, with the close frame's code in `closed_with`."""
        while len(self._payload) < size:
            opcode, data = self._read_frame()
            if opcode == 8:
                self.closed_with = struct.unpack("!H", data[:2])[0]
                raise EOFError
            self._payload += data if opcode == 2 else b""
        data, self._payload = self._payload[:size], self._payload[size:]
        return data

    def say(self, data: bytes, opcode: int = 2) -> None:
        """Send one frame, masked with zeros."""
        length = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + struct.pack("!H", len(data))
        self.sock.sendall(bytes((0x80 | opcode,)) + length + bytes(4) + data)

    def open_desktop(self) -> None:
        """Go through RFB's handshake with a server without a password."""
        open_desktop(self.hear, self.say)

    def close(self) -> None:
        """Say goodbye."""
        self.say(struct.pack("!H", 1000), 8)


def open_desktop(hear: Callable[[int], bytes], say: Callable[[bytes], None]) -> None:
    assert hear(12) == b"RFB 003.008\n"
    say(b"RFB 003.008\n")
    assert hear(2) == b"\x01\x01"
    say(b"\x01")
    assert hear(4) == bytes(4)
    say(b"\x01")
    (length,) = struct.unpack("!I", hear(24)[20:])
    assert hear(length).startswith(b"QEMU")


# --- Certificates -----------------------------------------------------------------------------------------------------


class Certificates:
    """An authority, a server's and a client's certificate, as files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._authority_key = ec.generate_private_key(ec.SECP256R1())
        self._authority = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")])
        self.authority = self._write("ca.pem", self._sign(self._authority_key, self._authority, ca=True))
        self.server, self.server_key = self.make("localhost", "server")
        self.client, self.client_key = self.make("alice", "client")

    @property
    def settings(self) -> dict[str, str]:
        return {"certificate": self.server, "key": self.server_key}

    def make(self, name: str, file: str) -> tuple[str, str]:
        """Write a certificate and its key; return their paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._write(f"{file}.pem", certificate), self._write(f"{file}.key", secret)

    def context(self, *, client: bool = False) -> ssl.SSLContext:
        """A client's context, with the client's certificate or without one."""
        context = ssl.create_default_context(cafile=self.authority)
        if client:
            context.load_cert_chain(self.client, self.client_key)
        return context

    def _write(self, name: str, data: bytes) -> str:
        path = self._folder / name
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.replace(path)
        return str(path)

    def _sign(self, key: ec.EllipticCurvePrivateKey, subject: x509.Name, *, ca: bool = False) -> bytes:
        now = dt.datetime.now(dt.timezone.utc)
        alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._authority_key.public_key()), critical=False
            )
            .add_extension(x509.KeyUsage(True, False, False, False, False, ca, ca, False, False), critical=True)
        )
        return builder.sign(self._authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@contextlib.contextmanager
def viewer(place: int | str, tls: ssl.SSLContext | None = None) -> Iterator[socket.socket]:
    """A native viewer's connection."""
    with connect(place, tls) as sock:
        yield sock


def take(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError(data)
        data += more
    return data
