# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The browser's end: its frames, whatever they look like, and ours, by websockets' own client and by hand."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _sockets, _web
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._session import Ending

from .ends import OPEN, Browser, Running, fill, noise, pair, run, running, secured, shake_hands

POINTER = _rfb.pointer_event(3, 4)
BINARY, TEXT, CLOSE, PING, PONG, CONTINUATION = 0x82, 0x81, 0x88, 0x89, 0x8A, 0x80
NOT_FINAL = 0x7F


def frame(first: int, payload: bytes, *, size: int | None = None) -> bytes:
    """A client's frame as it is on the wire (RFC 6455, 5.2); `size` overrides what it announces."""
    mask = b"\x01\x02\x03\x04"
    size = len(payload) if size is None else size
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


async def violation(r: Running, code: int) -> str:
    """The client is told `code`, and the session ends with a violation; return how it is called."""
    assert await r.client.hear_all() == b""
    assert r.client.close_code == code
    r.client.sock.close()
    ending: Ending = await r.task
    assert ending.reason == "client_violation"
    return ending.detail


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536, 262144])
def test_every_length_has_its_header(size: int) -> None:
    async def main() -> None:
        async with running(skip_parse=True) as r:
            await r.server.say(noise(size))
            assert await r.client.hear(size) == noise(size)

    run(main())


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (1, "8201"),
        (125, "827d"),
        (126, "827e007e"),
        (65535, "827effff"),
        (65536, "827f0000000000010000"),
        (262144, "827f0000000000040000"),
    ],
)
def test_frames_are_as_short_as_they_may_be(size: int, header: str) -> None:
    async def main() -> None:
        sockets = pair("tcp")
        end = _web.WebSocketEnd(sockets.ours, _web.ConsoleProtocol(state=OPEN))
        sent_all = end.send(noise(size))
        expected = bytes.fromhex(header) + noise(size)
        got = b""
        while len(got) < len(expected):
            got += await _sockets.receive(sockets.theirs, 65536)
            sent_all = end.wire.flush()
        assert sent_all
        assert got == expected
        end.wire.close()
        sockets.theirs.close()

    run(main())


def test_long_data_is_cut_into_frames() -> None:
    async def main() -> None:
        sockets = pair("tcp")
        end = _web.WebSocketEnd(sockets.ours, _web.ConsoleProtocol(state=OPEN))
        browser = Browser(sockets.theirs)
        data = noise(3 * _sockets.MOST_READ + 5)
        end.send(data)
        heard = b""
        while len(heard) < len(data):
            heard += await browser.some(65536)
            end.wire.flush()
        assert heard == data
        end.wire.close()
        sockets.theirs.close()

    run(main())


def test_frames_get_smaller_for_a_slow_client_and_larger_again() -> None:
    async def main() -> None:
        sockets = pair("tcp")
        end = _web.WebSocketEnd(sockets.ours, _web.ConsoleProtocol(state=OPEN))
        now = [0.0]
        end.clock = lambda: now[0]
        caps = []
        for seconds in [1.0] * 6 + [0.0] * 5:
            while end.relay(end.cap):
                pass
            now[0] += seconds
            while not end.wire.flush():
                await _sockets.receive(sockets.theirs, 1 << 20)
            end.drained()
            caps.append(end.cap // 1024)
        assert caps == [128, 64, 32, 16, 16, 16, 32, 64, 128, 256, 256]
        end.wire.close()
        sockets.theirs.close()

    run(main())


@pytest.mark.parametrize("cut", range(1, 12))
def test_frame_may_come_in_pieces(cut: int) -> None:
    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            data = frame(BINARY, POINTER)
            await r.client.raw(data[:cut])
            await asyncio.sleep(0)
            await r.client.raw(data[cut:] + data)
            assert await r.server.hear(12) == POINTER * 2

    run(main())


def test_message_may_come_in_fragments() -> None:
    """With a ping between them, as RFC 6455, 5.4, allows."""

    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            await r.client.raw(frame(BINARY & NOT_FINAL, POINTER[:2]))
            await r.client.raw(frame(PING, b"there?") + frame(CONTINUATION & NOT_FINAL, POINTER[2:3]))
            await r.client.raw(frame(CONTINUATION, POINTER[3:]) + frame(BINARY, b"") + frame(BINARY, POINTER))
            assert await r.server.hear(12) == POINTER * 2
            await r.server.say(b"\x02")
            assert await r.client.hear(1) == b"\x02"
            assert [bytes(one.data) for one in r.client.frames] == [b"there?"]

    run(main())


def test_many_messages_in_one_read_keep_their_order() -> None:
    async def main() -> None:
        async with running(skip_parse=True) as r:
            await r.client.raw(b"".join(frame(BINARY, bytes((number % 256,))) for number in range(2000)))
            assert await r.server.hear(2000) == bytes(number % 256 for number in range(2000))

    run(main())


def test_text_is_not_for_rfb() -> None:
    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            await r.client.raw(frame(BINARY, POINTER) + frame(TEXT, b"hello") + frame(BINARY, POINTER))
            assert "text" in await violation(r, 1003)
            assert await r.server.hear_all() in (POINTER, b"")

    run(main())


def test_message_that_is_too_long_is_refused_by_its_header() -> None:
    """Before any of it has come."""

    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            await r.client.raw(frame(BINARY, b"", size=15 << 20))
            await violation(r, 1009)
            assert await r.server.hear_all() == b""

    run(main())


def test_client_that_sends_on_after_a_refusal_is_heard_out() -> None:
    """Else the close frame would be lost in a reset. Nothing of it is kept."""

    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            await r.client.raw(frame(BINARY, b"", size=15 << 20))
            await r.client.raw(bytes(15 << 20))
            await violation(r, 1009)

    run(main())


def test_fragments_count_together() -> None:
    async def main() -> None:
        async with running(most_message=1000) as r:
            await shake_hands(r)
            await r.client.raw(frame(BINARY & NOT_FINAL, bytes(600)) + frame(CONTINUATION, bytes(600)))
            await violation(r, 1009)

    run(main())


@pytest.mark.parametrize(
    "bad",
    [
        struct.pack("!BB", BINARY, 2) + b"hi",  # Not masked
        frame(0x83, b"x"),  # An opcode that nobody has defined
        frame(0xC2, b"x"),  # An extension that was not agreed on
        frame(CONTINUATION, b"x"),  # Of nothing
        frame(PING & NOT_FINAL, b"x"),
        frame(PING, bytes(126)),
    ],
    ids=["unmasked", "opcode", "extension", "continuation", "fragmented-ping", "long-ping"],
)
def test_what_is_no_websocket_ends_the_session(bad: bytes) -> None:
    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            await r.client.raw(bad)
            await violation(r, 1002)

    run(main())


@pytest.mark.parametrize("kind", ["ws", "wss"])
def test_pong_waits_for_the_end_of_a_frame(kind: str) -> None:
    """The client reads nothing while it pings, so a frame of the server's is half sent."""

    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            said = await fill(r)
            for number in range(20):
                await r.client.ping(str(number).encode())
                await r.client.say(POINTER)
            assert await r.server.hear(120) == POINTER * 20
            assert await r.client.hear(len(said)) == said
            await r.server.say(b"\x02")
            assert await r.client.hear(1) == b"\x02"
            assert [bytes(one.data) for one in r.client.frames] == [str(number).encode() for number in range(20)]

    run(main())


def test_flood_of_pings_stops_at_what_may_wait() -> None:
    """A client that pings without reading has to wait itself."""

    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            flood, refused = frame(PING, bytes(125)) * 500, 0
            while refused < 500:
                try:
                    r.client.sock.send(flood)
                    refused = 0
                except BlockingIOError:
                    refused += 1
                await asyncio.sleep(0)
            wire = r.session._client.wire
            assert not wire.reading
            assert wire.behind < _web.MOST_ANSWERS + 2 * _web.CLIENT_READ

    run(main())


def test_bytes_that_came_with_the_request_count() -> None:
    async def main() -> None:
        sockets = pair("tcp")
        end = _web.WebSocketEnd(sockets.ours, _web.ConsoleProtocol(state=OPEN), frame(BINARY, POINTER))
        assert end.received_already() == POINTER
        assert end.received_already() == b""
        end.wire.close()
        sockets.theirs.close()

    run(main())


def accept(*subprotocols: str) -> Any:
    """What the protocol answers to a browser that asks for these."""
    protocol = _web.ConsoleProtocol()
    asked = "".join(f"Sec-WebSocket-Protocol: {one}\r\n" for one in subprotocols)
    protocol.receive_data(
        b"GET /secret-token HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n" + asked.encode() + b"\r\n"
    )
    request: Any = protocol.events_received()[0]
    return protocol.accept(request)


def test_subprotocol_binary_is_echoed_and_no_other() -> None:
    assert accept("binary").headers["Sec-WebSocket-Protocol"] == "binary"
    assert accept("base64, binary").headers["Sec-WebSocket-Protocol"] == "binary"
    for response in (accept(), accept("base64")):
        assert response.status_code == 101
        assert "Sec-WebSocket-Protocol" not in response.headers
        assert "Sec-WebSocket-Extensions" not in response.headers


def test_protocol_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It would log the request, with a token in it."""
    with caplog.at_level("DEBUG"):
        accept("binary")
    assert "secret-token" not in caplog.text


def test_tls_says_goodbye_before_it_closes() -> None:
    async def main() -> None:
        sockets = await secured(pair("tcp"))
        wire = _sockets.wire(sockets.ours)
        wire.send(b"last")
        wire.half_close()
        assert await _sockets.receive(sockets.theirs, 10) == b"last"
        sockets.theirs.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        assert await _sockets.receive(sockets.theirs, 10) == b""
        wire.close()
        sockets.theirs.close()

    run(main())
