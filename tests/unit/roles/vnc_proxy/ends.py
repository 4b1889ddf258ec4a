# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A session between two sockets, both of whose other ends the test holds: a browser's or a viewer's, and a server's."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import random
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

try:
    from websockets.client import ClientProtocol
    from websockets.protocol import State
except ImportError:  # Before 11.0
    from websockets.client import ClientConnection as ClientProtocol
    from websockets.connection import State  # type: ignore[attr-defined]

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _loop, _session, _sockets, _web
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._handshake import Handshake
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import Behaviour, Policy

OPEN = State.OPEN
SECONDS = 60.0
"""What no test here comes near."""

AFFECTED = Behaviour(power_control=True, pointer_change=True, qemu=True, gated=None)
FIXED = Behaviour(power_control=True, pointer_change=False, qemu=True, gated=None)
NO_LIMITS = _session.Limits(ping_seconds=None, handshake_seconds=SECONDS)

WIDTH, HEIGHT = 64, 48
SERVER_INIT = struct.pack("!HH", WIDTH, HEIGHT) + _rfb.TRUE_COLOUR + struct.pack("!I", 4) + b"web1"
GREETING = b"RFB 003.008\n"
RAW_UPDATE = struct.pack("!BxHHHHHi", 0, 1, 0, 0, WIDTH, HEIGHT, 0) + bytes(range(256)) * (WIDTH * HEIGHT * 4 // 256)
INIT = bytes.fromhex("fa000101")


def run(test: Coroutine[Any, Any, None], *, loop: str = "direct") -> None:
    """Run a test, for no longer than SECONDS, on the service's loop or on asyncio's own."""
    (_loop.run if loop == "direct" else asyncio.run)(_bounded(test))


async def _bounded(test: Coroutine[Any, Any, None]) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    await asyncio.wait_for(test, SECONDS)
    assert not failures


@functools.cache
def noise(size: int) -> bytes:
    """Bytes of which no part looks like another."""
    return random.Random(size).randbytes(size)


class Pair(NamedTuple):
    """Two connected sockets."""

    ours: socket.socket
    theirs: socket.socket


def pair(kind: str) -> Pair:
    """Connect two sockets, "tcp" or "unix"."""
    if kind == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours = listener.accept()[0]
    ours.setblocking(False)
    theirs.setblocking(False)
    return Pair(ours, theirs)


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's TLS context, with a certificate made for the occasion."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "console")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with tempfile.NamedTemporaryFile() as file:
        file.write(private + pem)
        file.flush()
        server.load_cert_chain(file.name)
        client.load_verify_locations(cadata=pem.decode())
    client.check_hostname = False
    return server, client


async def secured(sockets: Pair) -> Pair:
    """Put TLS around both ends."""
    server, client = contexts()
    theirs = client.wrap_socket(sockets.theirs, do_handshake_on_connect=False)
    ours, _done = await asyncio.gather(_sockets.secure(sockets.ours, server), _shake_hands(theirs))
    return Pair(ours, theirs)


async def _shake_hands(sock: ssl.SSLSocket) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            await _sockets.ready(sock, to_write=False)
        else:
            return


class Recorder:
    """An observer that keeps everything, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.behaviours: list[Behaviour] = []
        self.relaying = asyncio.Event()

    def power_message(self, code: int, passed: bool) -> None:
        self.seen.append(("power", code, passed))

    def dropped(self, name: str, count: int) -> None:
        self.seen.append(("dropped", name, count))

    def went_opaque(self, reason: str) -> None:
        self.seen.append(("opaque", reason))

    def asked(self, behaviour: Behaviour) -> None:
        self.behaviours.append(behaviour)

    def handshake_done(self, handshake: Handshake) -> None:
        self.seen.append(("handshake", handshake.state))
        self.relaying.set()

    def offer(self, outcome: str) -> None:
        self.seen.append(("offer", outcome))


class Peer:
    """The other end of a plain socket; a viewer's, or a server's."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._heard = bytearray()

    async def say(self, data: bytes) -> None:
        await _sockets.send_all(self.sock, data)

    async def hear(self, size: int) -> bytes:
        """Return exactly so many bytes of what comes."""
        while len(self._heard) < size:
            more = await self.some(65536)
            assert more, f"the stream ended after {bytes(self._heard)!r}"
            self._heard += more
        data = bytes(self._heard[:size])
        del self._heard[:size]
        return data

    async def some(self, most: int) -> bytes:
        """Return what one read brings; b"" at the end."""
        return await _sockets.receive(self.sock, most)

    async def hear_all(self) -> bytes:
        """Return everything that still comes, until the end."""
        while True:
            more = await self.some(1 << 20)
            if not more:
                data = bytes(self._heard)
                self._heard.clear()
                return data
            self._heard += more

    def vanish(self) -> None:
        """Reset the connection, as a host that lost its memory."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Browser(Peer):
    """The same inside of a WebSocket, by websockets' own client."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.protocol = ClientProtocol(_uri(), state=OPEN, max_size=None)
        self.frames: list[Any] = []
        """The control frames that came."""

    async def say(self, data: bytes) -> None:
        self.protocol.send_binary(data)
        await self._write()

    async def some(self, most: int) -> bytes:
        """Return what one read brings in binary frames; waits until there is something."""
        payload = b""
        while not payload:
            try:
                data = await super().some(most)
            except BrokenPipeError:
                if self.protocol.close_rcvd is None:
                    raise
                # It said that it closes, and did not wait for our answer: OpenSSL 3.5 tells of that on the next read.
                return b""
            if not data:
                return b""
            self.protocol.receive_data(data)
            events: list[Any] = self.protocol.events_received()
            for frame in events:
                if frame.opcode in (0, 2):
                    payload += frame.data
                else:
                    self.frames.append(frame)
            if self.protocol.parser_exc is not None:
                raise self.protocol.parser_exc
            await self._write()
        return payload

    async def raw(self, data: bytes) -> None:
        """Send bytes that websockets would not."""
        await super().say(data)

    async def ping(self, data: bytes) -> None:
        self.protocol.send_ping(data)
        await self._write()

    async def close(self) -> None:
        """Begin the closing handshake."""
        self.protocol.send_close(1000, "enough")
        await self._write()

    @property
    def close_code(self) -> int | None:
        """What the proxy said when it closed."""
        return None if self.protocol.close_rcvd is None else int(self.protocol.close_rcvd.code)

    async def _write(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                await _sockets.send_all(self.sock, data)


def _uri() -> Any:
    """websockets wants to know where it would have connected to."""
    from websockets.uri import parse_uri

    return parse_uri("ws://localhost/")


class Running(NamedTuple):
    """A session that runs, and who is at its ends."""

    session: _session.Session
    task: asyncio.Task[_session.Ending]
    client: Any
    server: Peer
    observer: Recorder


@contextlib.asynccontextmanager
async def running(
    kind: str = "ws",
    *,
    server: str = "unix",
    behaviour: Behaviour | None = FIXED,
    policy: Policy = Policy(),  # noqa: B008
    limits: _session.Limits = NO_LIMITS,
    skip_parse: bool = False,
    most_message: int = _web.MOST_MESSAGE,
    ask: Callable[[], Awaitable[Behaviour | None]] | None = None,
) -> AsyncIterator[Running]:
    """Run a session of a client of this kind: "ws", "wss", "tcp" or "tls"."""
    to_client, to_server = pair("tcp"), pair(server)
    if kind in ("wss", "tls"):
        to_client = await secured(to_client)
    web = kind in ("ws", "wss")
    end: _web.AnyClientEnd = _web.PlainEnd(to_client.ours)
    if web:
        end = _web.WebSocketEnd(to_client.ours, _web.ConsoleProtocol(most_message, state=OPEN))
    observer = Recorder()
    session = _session.Session(end, to_server.ours, behaviour, policy, limits, observer, skip_parse, ask)
    task = asyncio.get_running_loop().create_task(session.run())
    client = (Browser if web else Peer)(to_client.theirs)
    await asyncio.sleep(0)  # It has begun
    try:
        yield Running(session, task, client, Peer(to_server.theirs), observer)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        to_client.theirs.close()
        to_server.theirs.close()
        assert to_client.ours.fileno() == -1
        assert to_server.ours.fileno() == -1


async def shake_hands(run: Running, init: bytes = SERVER_INIT) -> None:
    """Get a session past its handshake, without a password."""
    client, server = run.client, run.server
    await server.say(GREETING)
    assert await client.hear(12) == GREETING
    await client.say(GREETING)
    assert await server.hear(12) == GREETING
    await server.say(b"\x01\x01")
    assert await client.hear(2) == b"\x01\x01"
    await client.say(b"\x01")
    assert await server.hear(1) == b"\x01"
    await server.say(bytes(4))
    assert await client.hear(4) == bytes(4)
    await client.say(b"\x01")
    assert await server.hear(1) == b"\x01"
    await server.say(init)
    assert await client.hear(len(init)) == init


async def fill(r: Running) -> bytes:
    """Let the server speak until neither the client's side nor the session takes any more; return what it said."""
    source, said, refused = memoryview(noise(64 << 20)), 0, 0
    while refused < 500:
        try:
            said += r.server.sock.send(source[said : said + (1 << 20)])
            refused = 0
        except BlockingIOError:
            refused += 1
        await asyncio.sleep(0)
    return bytes(source[:said])


def descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))
