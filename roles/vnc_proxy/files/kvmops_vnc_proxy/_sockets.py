# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Non-blocking sockets, plain and TLS, on the event loop's readiness callbacks: no streams, no transports.

Private to this collection.

What is read lands in one buffer that the whole process shares, behind room for a header, and is sent on from there in
one call. Nothing may refer to that buffer once a callback has returned: what a socket did not take is copied out.
(asyncio's transports keep what they could not send as a view of the caller's buffer from Python 3.12 on.)

A `Wire` is one socket of a session. What it can't send at once waits in it, in order; whoever feeds it has to stop
while it is `full`, so that never more than one read's worth waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import ssl
from typing import Callable, Union

from ._loop import direct_of

HEAD_ROOM = 16
"""Bytes before what is read; a WebSocket header takes 10 of them."""
MOST_READ = 256 * 1024
"""Bytes of one read. Larger reads cost less a byte, but a browser shows nothing before the whole frame is there."""
NOT_SENT = 256 * 1024
"""Bytes that the kernel may keep unsent for a client (TCP_NOTSENT_LOWAT), beyond those on their way."""

_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h; named by the socket module only from Python 3.13 on

_BUFFER = bytearray(HEAD_ROOM + MOST_READ)
VIEW = memoryview(_BUFFER)
"""The process's one read buffer, room for a header included."""
_BODY = VIEW[HEAD_ROOM:]

Data = Union[bytes, memoryview]


class WireLost(Exception):
    """A socket failed: its peer is gone. `wire` says which; the text is the system's."""

    def __init__(self, lost: Wire, error: OSError) -> None:
        super().__init__(error.strerror or type(error).__name__)
        self.wire = lost


class Wire:
    """One socket of a session.

    `attach` names what is called when there is something to read, and when the socket takes bytes again (then `flush`
    is due). `close` leaves nothing behind in the loop.
    """

    __slots__ = (
        "_behind",
        "_loop",
        "_on_readable",
        "_on_writable",
        "_reading",
        "_unsent",
        "_watching",
        "number",
        "sent",
        "sock",
    )

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.number = sock.fileno()
        self.sent = 0
        """Bytes that the kernel took late, out of what waited here: a sign of life of a slow peer."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_readable: Callable[[], None] = _nothing
        self._on_writable: Callable[[], None] = _nothing
        self._reading = False
        self._watching = (False, False)
        self._unsent: memoryview | None = None
        self._behind: list[bytes] | None = None

    @property
    def full(self) -> bool:
        """Whether something still waits to be sent."""
        return self._unsent is not None

    @property
    def behind(self) -> int:
        """Bytes that wait behind what the socket took only a part of."""
        return sum(map(len, self._behind or ()))

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.number < 0

    def attach(
        self, loop: asyncio.AbstractEventLoop, readable: Callable[[], None], writable: Callable[[], None]
    ) -> None:
        """Say whom to call. Reading begins with `resume`."""
        self._loop, self._on_readable, self._on_writable = loop, readable, writable

    def resume(self) -> None:
        """Call `readable` whenever there is something to read."""
        if not self._reading:
            self._reading = True
            self._watch()

    def pause(self) -> None:
        """Stop calling `readable`: the kernel's buffer fills, and the peer has to wait."""
        if self._reading:
            self._reading = False
            self._watch()

    @property
    def reading(self) -> bool:
        """Whether `readable` is called."""
        return self._reading

    def read(self, most: int) -> int | None:
        """Read at most `most` bytes into VIEW[HEAD_ROOM:]; return how many: 0 at the end, None for nothing at present.

        Raises WireLost.
        """
        try:
            return self.sock.recv_into(_BODY, most)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise WireLost(self, error) from error

    def send(self, data: Data) -> bool:
        """Send, behind what waits already; return whether all of it is gone. Raises WireLost."""
        if self._unsent is not None:
            if self._behind is None:
                self._behind = []
            self._behind.append(bytes(data))
            return False
        taken = self._write(data)
        if taken == len(data):
            return True
        self._unsent = memoryview(bytes(data[taken:]))
        self._watch()
        return False

    def flush(self) -> bool:
        """Send what waits; return whether nothing waits any more. Raises WireLost."""
        while self._unsent is not None:
            taken = self._write(self._unsent)
            self.sent += taken
            if taken < len(self._unsent):
                self._unsent = self._unsent[taken:]
                self._watch()
                return False
            self._unsent = memoryview(b"".join(self._behind)) if self._behind else None
            self._behind = None
        self._watch()
        return True

    def half_close(self) -> None:
        """Tell the peer that nothing more comes; what it sends can still be read."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def gone(self) -> bool:
        """Whether the peer is known to have closed, although nobody reads from it at present."""
        poll = select.poll()
        poll.register(self.number, select.POLLRDHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Leave the loop and close the socket, at once. May be called twice."""
        if self.closed:
            return
        self._reading = False
        self._unsent = None
        self._behind = None
        self._watch()
        self._on_readable = self._on_writable = _nothing
        self._loop = None
        self.number = -1
        with contextlib.suppress(OSError):
            self.sock.close()

    def _write(self, data: Data) -> int:
        try:
            return self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise WireLost(self, error) from error

    def _wanted(self) -> tuple[bool, bool]:
        """What to wait for: something to read, room to write."""
        return self._reading, self._unsent is not None

    def _watch(self) -> None:
        """Make the loop watch what is wanted, and nothing else."""
        wanted = self._wanted()
        if wanted == self._watching or self._loop is None:
            return
        (read, write), (was_read, was_write) = wanted, self._watching
        self._watching = wanted
        direct = direct_of(self._loop)
        if read != was_read:
            if read:
                self._loop.add_reader(self.number, self._on_readable)
            else:
                self._loop.remove_reader(self.number)
            if direct is not None:
                _set(direct.readers, self.number, self._on_readable if read else None)
        if write != was_write:
            if write:
                self._loop.add_writer(self.number, self._on_writable)
            else:
                self._loop.remove_writer(self.number)
            if direct is not None:
                _set(direct.writers, self.number, self._on_writable if write else None)


class SecureWire(Wire):
    """The same over TLS, by driving an SSLSocket whose handshake is done.

    OpenSSL may have to write in order to read, and the other way round (a new key in TLS 1.3); and it may hold bytes
    that the kernel's socket does not show any more.
    """

    __slots__ = ("_read_wants_write", "_then_readable", "_then_writable", "_write_wants_read")

    sock: ssl.SSLSocket

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        self._read_wants_write = False
        self._write_wants_read = False
        self._then_readable: Callable[[], None] = _nothing
        self._then_writable: Callable[[], None] = _nothing

    def attach(
        self, loop: asyncio.AbstractEventLoop, readable: Callable[[], None], writable: Callable[[], None]
    ) -> None:
        """As `Wire.attach`."""
        super().attach(loop, self._readable, self._writable)
        self._then_readable, self._then_writable = readable, writable

    def close(self) -> None:
        """As `Wire.close`."""
        super().close()
        self._then_readable = self._then_writable = _nothing

    def read(self, most: int) -> int | None:
        """As `Wire.read`; what OpenSSL holds already comes with it."""
        count = 0
        while True:
            got = self._read_once(count, most - count)
            if not got:
                return count or got
            count += got
            if count == most or not self.sock.pending():
                return count

    def _read_once(self, offset: int, most: int) -> int | None:
        try:
            return self.sock.recv_into(_BODY[offset:], most)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLWantWriteError:
            self._read_wants_write = True
            self._watch()
            return None
        except OSError as error:
            raise WireLost(self, error) from error

    def half_close(self) -> None:
        """Say goodbye in TLS, without waiting for the answer; then as `Wire.half_close`."""
        with contextlib.suppress(OSError, ValueError):
            self.sock.unwrap()
        super().half_close()

    def _write(self, data: Data) -> int:
        """OpenSSL may take one record, 16 KiB, at a time."""
        view, taken = memoryview(data), 0
        self._write_wants_read = False
        try:
            while taken < len(view):
                taken += self.sock.send(view[taken:])
        except ssl.SSLWantWriteError:
            pass
        except ssl.SSLWantReadError:
            self._write_wants_read = True
        except OSError as error:
            raise WireLost(self, error) from error
        return taken

    def _wanted(self) -> tuple[bool, bool]:
        unsent = self._unsent is not None
        return (
            (self._reading and not self._read_wants_write) or (unsent and self._write_wants_read),
            (unsent and not self._write_wants_read) or (self._reading and self._read_wants_write),
        )

    def _readable(self) -> None:
        if self._write_wants_read:
            self._write_wants_read = False
            self._watch()
            self._then_writable()
        if self._reading:
            self._then_readable()

    def _writable(self) -> None:
        if self._read_wants_write:
            self._read_wants_write = False
            self._watch()
            self._then_readable()
        if self._unsent is not None:
            self._then_writable()


def wire(sock: socket.socket) -> Wire:
    """The wire for a socket, by its kind."""
    return SecureWire(sock) if isinstance(sock, ssl.SSLSocket) else Wire(sock)


def _set(calls: dict[int, Callable[[], None]], number: int, call: Callable[[], None] | None) -> None:
    if call is None:
        calls.pop(number, None)
    else:
        calls[number] = call


def _nothing() -> None:
    """Nobody is to be called any more."""


def tune(sock: socket.socket, *, client: bool) -> None:
    """Set what a session's TCP socket needs: nothing is held back; a client's backlog stays short.

    Dead peers behind plain TCP are found by the kernel's keep-alive probes. Other sockets are left alone.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # It may be lost already; reading from it will tell
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        if client:
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOT_SENT)


# --- Before a session: for whoever accepts and connects ---------------------------------------------------------------


async def ready(sock: socket.socket, *, to_write: bool) -> None:
    """Wait until a socket can be read from, or written to."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[None] = loop.create_future()
    number = sock.fileno()
    (loop.add_writer if to_write else loop.add_reader)(number, _came, came)
    try:
        await came
    finally:
        (loop.remove_writer if to_write else loop.remove_reader)(number)


def _came(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def connect_unix(path: str) -> socket.socket:
    """Connect to a unix socket. Raises OSError; the caller bounds the time."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # A full backlog answers "try again", and no readiness tells when.
        while (number := sock.connect_ex(path)) == errno.EAGAIN:
            await asyncio.sleep(0.05)
        if number:
            raise OSError(number, os.strerror(number))
    except BaseException:
        sock.close()
        raise
    return sock


async def connect_tcp(host: str, port: int) -> socket.socket:
    """Connect to host and port, one address after the other. Raises OSError; the caller bounds the time."""
    loop = asyncio.get_running_loop()
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _name, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def secure(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Do the server's side of a TLS handshake; takes the socket over, and closes it when the handshake fails.

    Raises OSError (ssl.SSLError is one); the caller bounds the time.
    """
    try:
        sock.setblocking(False)
        secured = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    try:
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                await ready(secured, to_write=False)
            except ssl.SSLWantWriteError:
                await ready(secured, to_write=True)
            else:
                return secured
    except BaseException:
        secured.close()
        raise


async def receive(sock: socket.socket, most: int) -> bytes:
    """Read what there is, at most `most` bytes, from a plain or TLS socket; b"" at the end. Raises OSError."""
    while True:
        try:
            return sock.recv(most)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            await ready(sock, to_write=False)
        except ssl.SSLWantWriteError:
            await ready(sock, to_write=True)


async def send_all(sock: socket.socket, data: bytes) -> None:
    """Write all of it to a plain or TLS socket. Raises OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError):
            await ready(sock, to_write=True)
        except ssl.SSLWantReadError:
            await ready(sock, to_write=False)
