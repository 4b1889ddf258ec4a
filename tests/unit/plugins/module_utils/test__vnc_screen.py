# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pixels of a screen that a VNC server sends, in one rectangle or in many, become the picture that it shows."""

from __future__ import annotations

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
