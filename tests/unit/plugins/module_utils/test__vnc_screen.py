# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pixels of a screen that a VNC server sends, in one rectangle or in many, become the picture that it shows."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _image, _rfb, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncProtocolError
from ansible_collections.kvmops.console.plugins.module_utils._image import Picture

pytest.importorskip("PIL", reason="pictures need Pillow")

WIDTH, HEIGHT = 5, 4
RGB = bytes(range(3 * WIDTH * HEIGHT))


def rectangle(x: int, y: int, width: int, height: int) -> _rfb.Rectangle:
    """What a server sends of RGB: blue, green, red, and a byte of no meaning."""
    payload = bytearray()
    for row in range(y, y + height):
        for column in range(x, x + width):
            red, green, blue = RGB[3 * (row * WIDTH + column) :][:3]
            payload += bytes((blue, green, red, 0x55))
    return _rfb.Rectangle(x, y, width, height, _rfb.RAW, payload=bytes(payload))


class Talk:
    def __init__(self, *events: Any) -> None:
        self._events: Iterator[Any] = iter(events)

    def hear(self) -> Any:
        return next(self._events)


def receive(*events: Any) -> Picture:
    return _image.from_bgrx(*_vnc._receive_screen(Talk(*events), WIDTH, HEIGHT))  # type: ignore[arg-type]


WHOLE = rectangle(0, 0, WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "events",
    [
        [WHOLE],
        [rectangle(0, 0, WIDTH, 1), rectangle(0, 1, WIDTH, 3)],
        [rectangle(0, 0, 2, HEIGHT), rectangle(2, 0, 3, HEIGHT)],
        [_rfb.Rectangle(0, 0, 0, 0, _rfb.EXTENDED_KEY), rectangle(4, 3, 1, 1), WHOLE],
    ],
    ids=["whole", "rows", "columns", "others"],
)
def test_rectangles_become_the_picture(events: list[Any]) -> None:
    assert receive(*events) == Picture(WIDTH, HEIGHT, RGB)


@pytest.mark.parametrize("moved", [{"x": 1}, {"y": 1}, {"width": WIDTH + 1}, {"height": HEIGHT + 1}])
def test_pixels_outside_are_refused(moved: dict[str, Any]) -> None:
    with pytest.raises(VncProtocolError, match="outside of its screen"):
        receive(WHOLE._replace(**moved))


def hello(width: int, height: int) -> bytes:
    """All that a server says until a screen is asked for: a version, no security, success, and the screen."""
    colours = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
    screen = struct.pack(">HH", width, height) + colours + struct.pack(">I", 4) + b"QEMU"
    return b"RFB 003.008\n\x01\x01\0\0\0\0" + screen


@pytest.mark.parametrize(
    ("size", "sentence"),
    [((30000, 30000), "its screen has 30000x30000 pixels, more than we read"), ((0, 480), "its screen has no size")],
)
def test_sizes_that_are_not_read(size: tuple[int, int], sentence: str) -> None:
    """Nothing is asked for, and no memory taken: the server would have to send 3.6 GB."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(hello(*size))
        with pytest.raises(VncProtocolError, match=sentence):
            _vnc.read_screen(ours, timeout=60)
        said = b""
        for part in iter(lambda: theirs.recv(4096), b""):
            said += part
    assert b"\x03" not in said
