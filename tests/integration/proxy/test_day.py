# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A day of sessions, one every half minute, all that people do to a console, one after the other: nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.tests.browser.proxy.service import TARGET, Proxy

SESSIONS = 2880
WARM = 480
AT_ONCE = 16
MOST_GROWTH = 4 << 20
"""Bytes of memory: what an allocator may keep by chance, and a 100th of what one leaked read buffer a session costs."""

NAME = b"QEMU (day)"
SERVER_INIT = struct.pack("!HH", 64, 48) + _rfb.TRUE_COLOUR + struct.pack("!I", len(NAME)) + NAME
UPDATE = struct.pack("!BxHHHHHi", 0, 1, 0, 0, 64, 48, 0) + bytes(64 * 48 * 4)
OFFERED = _rfb.build(_rfb.SERVER_MESSAGES, "xvp", version=1, code=_rfb.XVP_INIT)
ACKNOWLEDGED = struct.pack("!BxHHHHHi", 0, 1, 0, 0, 64, 48, _rfb.EXTENDED_KEY)
UNASKED = struct.pack("!BxHHHHHi", 0, 1, 0, 0, 64, 48, _rfb.POINTER_CHANGE)
HELLO = b"RFB 003.008\n" + b"\1" + b"\1"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An affected QEMU, as far as anybody asks: it answers requests for pixels, and floods who asks for all of them."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        writer.write(b"RFB 003.008\n")
        await reader.readexactly(12)
        writer.write(b"\1\1")
        await reader.readexactly(1)
        writer.write(bytes(4))
        await reader.readexactly(1)
        writer.write(SERVER_INIT)
        while True:
            await _answer(reader, writer)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


SIZES = {3: 10, 4: 8, 5: 6, 250: 4}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    first = (await reader.readexactly(1))[0]
    if first == 2:
        (count,) = struct.unpack("!xH", await reader.readexactly(3))
        listed = struct.unpack(f"!{count}i", await reader.readexactly(4 * count))
        writer.write(OFFERED + UNASKED if _rfb.XVP in listed else b"")
        writer.write(ACKNOWLEDGED if _rfb.EXTENDED_KEY in listed else b"")
        return
    rest = await reader.readexactly(SIZES[first] - 1)
    if first == 3:
        for _update in range(1 if rest[0] else 200):
            writer.write(UPDATE)
            await writer.drain()


class Visitor:
    """One client, by WebSocket or by TCP, past its handshake."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], receive: Callable[[], Awaitable[bytes]]) -> None:
        self.say, self._receive = send, receive
        self._heard = bytearray()

    async def hear(self, size: int) -> bytes:
        while len(self._heard) < size:
            data = await self._receive()
            if not data:
                raise ConnectionError("it ended")
            self._heard += data
        data = bytes(self._heard[:size])
        del self._heard[:size]
        return data

    async def enter(self) -> None:
        for answer, size in ((HELLO[:12], 12), (HELLO[12:13], 2), (HELLO[13:], 4)):
            await self.hear(size)
            await self.say(answer)
        await self.hear(len(SERVER_INIT))


async def look(visitor: Visitor) -> None:
    """Somebody looks, and moves the pointer."""
    await visitor.say(_rfb.set_encodings(_rfb.RAW, _rfb.DESKTOP_SIZE, _rfb.XVP))
    assert await visitor.hear(4) == OFFERED
    for step in range(4):
        await visitor.say(_rfb.pointer_event(step, step) + _rfb.update_request(0, 0, 64, 48, incremental=True))
        assert await visitor.hear(len(UPDATE)) == UPDATE


async def stall(visitor: Visitor) -> None:
    """Somebody asks for everything and takes no more than the beginning."""
    for _request in range(4):
        await visitor.say(_rfb.update_request(0, 0, 64, 48))
    await visitor.hear(1000)


async def break_rules(visitor: Visitor) -> None:
    """Somebody announces a clipboard of 2 GiB: the proxy ends it."""
    await visitor.say(b"\6\0\0\0\x7f\xff\xff\xff" + bytes(1000))
    with contextlib.suppress(ConnectionError, ConnectionClosed):
        while True:
            await visitor.hear(1)


async def paste(visitor: Visitor) -> None:
    """Somebody pushes the buttons without having been offered any."""
    await visitor.say(_rfb.xvp(_rfb.XVP_RESET) * 10 + _rfb.key_event(97, down=True))


DEEDS = (look, look, stall, break_rules, paste)


async def visit_by_web(proxy: Proxy, deed: Callable[[Visitor], Awaitable[None]], polite: bool) -> None:
    async with connect(f"ws://127.0.0.1:{proxy.port}/target/{TARGET}", compression=None, max_size=None) as web:
        visitor = Visitor(web.send, lambda: _bytes(web))
        await visitor.enter()
        await deed(visitor)
        if not polite:
            _vanish(web.transport.get_extra_info("socket"))
            web.transport.abort()


async def _bytes(web: ClientConnection) -> bytes:
    data = await web.recv()
    assert isinstance(data, bytes)
    return data


async def visit_by_tcp(proxy: Proxy, deed: Callable[[Visitor], Awaitable[None]], polite: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.viewer_port)

    async def say(data: bytes) -> None:
        writer.write(data)

    visitor = Visitor(say, lambda: reader.read(65536))
    try:
        await visitor.enter()
        await deed(visitor)
    finally:
        if not polite:
            _vanish(writer.get_extra_info("socket"))
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _vanish(sock: socket.socket) -> None:
    """Have the connection reset instead of ended, where the proxy has not ended it already."""
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def visits(proxy: Proxy, number: int, chance: random.Random) -> None:
    """So many visits, some at the same time; every one comes to what it came for."""
    free = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def one(visit: Callable[..., Awaitable[None]], deed: Callable[..., Awaitable[None]], polite: bool) -> None:
        async def count(visitor: Visitor) -> None:
            nonlocal done
            await deed(visitor)
            done += 1

        async with free:
            # What comes after the deed: goodbye to somebody who has gone.
            with contextlib.suppress(ConnectionClosed, ConnectionError):
                await visit(proxy, count, polite)

    choices = [
        (chance.choice((visit_by_web, visit_by_tcp)), chance.choice(DEEDS), chance.random() < 0.5)
        for _visit in range(number)
    ]
    await asyncio.gather(*(one(*choice) for choice in choices))
    assert done == number


def held(proxy: Proxy) -> tuple[int, int, int]:
    """Descriptors and threads of the proxy, and its memory in bytes, once all sessions have ended."""
    proxy.wait_quiet()
    place = Path(f"/proc/{proxy.pid}")
    fields = dict(line.split(":", 1) for line in (place / "status").read_text(encoding="utf-8").splitlines())
    return len(list((place / "fd").iterdir())), int(fields["Threads"]), int(fields["VmRSS"].split()[0]) * 1024


def test_day_leaves_nothing_behind(tmp_path: Path) -> None:
    chance = random.Random(24)

    async def main(path: str) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_unix_server(serve, path)
        async with server:
            await visits(proxy, WARM, chance)
            before = await loop.run_in_executor(None, held, proxy)
            await visits(proxy, SESSIONS, chance)
            after = await loop.run_in_executor(None, held, proxy)
        return before, after

    path = str(tmp_path / "vnc")
    proxy = Proxy(tmp_path / "proxy", {"unix": path})
    try:
        before, after = asyncio.run(asyncio.wait_for(main(path), 300))
        assert after[:2] == before[:2]
        assert after[2] - before[2] < MOST_GROWTH
        assert len(proxy.happened("session_start")) == len(proxy.happened("session_end")) == WARM + SESSIONS
    finally:
        proxy.end()
