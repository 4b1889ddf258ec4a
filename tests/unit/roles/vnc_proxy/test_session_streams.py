# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Long streams through a session, byte by byte, past ends that take their time.

Nobody sleeps: an end is slow because it reads only when the other one can't write any more.
"""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _sockets

from .ends import AFFECTED, INIT, RAW_UPDATE, Peer, noise, run, running, shake_hands

MEGABYTES = 30
PIECES = (1009, 65536, 300_000, 4096, 1 << 20, 20_000)
"""Bytes that a slow end reads at a time."""


async def push(source: Peer, sink: Peer, data: bytes) -> int:
    """Send `data`, and compare what arrives.

    The sink reads one piece each time that the source is stuck; return how often it was.
    """
    pieces = itertools.cycle(PIECES)
    view, arrived, stuck = memoryview(data), 0, 0
    while view:
        try:
            view = view[source.sock.send(view[:200_000]) :]
            await asyncio.sleep(0)
        except BlockingIOError:
            stuck += 1
            piece = await sink.some(next(pieces))
            assert piece == data[arrived : arrived + len(piece)]
            arrived += len(piece)
    while arrived < len(data):
        piece = await sink.some(1 << 20)
        assert piece
        assert piece == data[arrived : arrived + len(piece)]
        arrived += len(piece)
    return stuck


@pytest.mark.parametrize("loop", ["direct", "asyncio"])
@pytest.mark.parametrize("server", ["unix", "tcp"])
@pytest.mark.parametrize("kind", ["ws", "wss", "tcp", "tls"])
def test_slow_clients_get_every_byte(kind: str, server: str, loop: str) -> None:
    """Two sessions, since all share one buffer."""

    async def main() -> None:
        async with running(kind, server=server) as one, running(kind, server=server) as two:
            await asyncio.gather(shake_hands(one), shake_hands(two))
            data = noise(MEGABYTES << 20), noise((MEGABYTES << 20) - 77_777)
            stuck = await asyncio.gather(push(one.server, one.client, data[0]), push(two.server, two.client, data[1]))
            assert min(stuck) > 10
            assert one.session.bytes_to_client > len(data[0])

    run(main(), loop=loop)


def test_healed_session_loses_nothing() -> None:
    """The same where the stream is looked into first, and has INIT put in."""

    async def main() -> None:
        async with running(behaviour=AFFECTED) as r:
            await shake_hands(r)
            await r.client.say(_rfb.set_encodings(_rfb.RAW, _rfb.DESKTOP_SIZE, _rfb.XVP))
            assert await r.client.hear(4) == INIT
            assert await push(r.server, r.client, RAW_UPDATE * 800) > 10

    run(main())


@pytest.mark.parametrize("kind", ["ws", "wss", "tcp", "tls"])
def test_slow_server_gets_every_byte(kind: str) -> None:
    """A client's clipboards, each as long as a message may be, and pointer events between them."""
    messages = [_rfb.build(_rfb.CLIENT_MESSAGES, "client_cut_text", payload=noise(1 << 20)), _rfb.pointer_event(3, 4)]

    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            data = b"".join(messages * 8)

            async def speak() -> None:
                for message in messages * 8:
                    await r.client.say(message)

            speaking = asyncio.ensure_future(speak())
            pieces, arrived = itertools.cycle(PIECES), 0
            while arrived < len(data):
                piece = await r.server.some(next(pieces))
                assert piece == data[arrived : arrived + len(piece)]
                arrived += len(piece)
            await speaking
            assert r.session.bytes_to_server == len(data) + 14

    run(main())


@pytest.mark.parametrize("kind", ["ws", "wss", "tcp"])
def test_both_directions_at_once(kind: str) -> None:
    """Neither side waits for the other, although both share one buffer."""

    async def main() -> None:
        async with running(kind, skip_parse=True) as r:
            down, up = noise(8 << 20), noise(4 << 20)

            async def speak() -> None:
                for start in range(0, len(up), 300_000):
                    await r.client.say(up[start : start + 300_000])

            async def serve() -> None:
                await r.server.say(down)

            heard, said, *_nothing = await asyncio.gather(
                r.client.hear(len(down)), r.server.hear(len(up)), speak(), serve()
            )
            assert heard == down
            assert said == up

    run(main())


def test_client_that_reads_nothing_costs_one_read() -> None:
    """What a stalled client makes the proxy keep does not grow with what its server has to say."""

    async def main() -> None:
        async with running(server="tcp") as r:
            await shake_hands(r)
            block, refused = noise(1 << 20), 0  # Made before anything is counted
            tracemalloc.start()
            try:
                while refused < 1000:
                    try:
                        r.server.sock.send(block)
                        refused = 0
                    except BlockingIOError:
                        refused += 1
                    await asyncio.sleep(0)
                assert tracemalloc.get_traced_memory()[1] < 3 * _sockets.MOST_READ
            finally:
                tracemalloc.stop()
            assert not r.task.done()

    run(main())
