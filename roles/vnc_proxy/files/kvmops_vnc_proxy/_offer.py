# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Puts XVP INIT into a server's stream, between two of its messages.

Private to this collection.

A server speaks out of its own accord only after it was asked for pixels, and clients list their encodings before that:
so the first boundary, right after ServerInit, is nearly always the one. Until then the server's messages are followed
as far as they can be without knowing every encoding of pixels.
"""

from __future__ import annotations

import struct

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncProtocolError

INIT = _rfb.build(_rfb.SERVER_MESSAGES, "xvp", version=1, code=_rfb.XVP_INIT)

WAITING, MADE, LOST = "waiting", "made", "lost"

_FRAMEBUFFER_UPDATE = 0
_UPDATE_HEAD = 4
_RECTANGLE = struct.Struct("!HHHHi")
_COPY_RECT = 1
_COPY_RECT_BYTES = 4  # 6143, 7.7.2: where from


class Offer:
    """The offer of power control in one session. Everything the server says after ServerInit goes through `relay`.

    `bits_per_pixel` is ServerInit's (6143, 7.4); with 0, no pixels can be followed. `outcome` is WAITING, MADE (INIT is
    in the stream) or LOST (the server said what can't be followed, so there is no boundary to be found any more);
    `settled` means that it is not WAITING, and that `relay` has nothing left to do.
    """

    __slots__ = ("_asked", "_bits_per_pixel", "_head", "_left", "_rectangles", "outcome", "settled")

    def __init__(self, bits_per_pixel: int = 0) -> None:
        self.outcome = WAITING
        self.settled = False
        self._asked = False
        self._bits_per_pixel = bits_per_pixel
        self._head = b""  # The beginning of a head; it has been relayed already
        self._left = 0  # Bytes that still belong to the last head
        self._rectangles = 0  # That still belong to the framebuffer update

    @property
    def kept(self) -> int:
        """How many bytes of the server's are kept."""
        return len(self._head)

    def ask(self) -> bytes:
        """The client has listed -309: return INIT if the stream is between two messages now.

        It has to be written after everything that `relay` has returned. Otherwise b"", and INIT comes out of `relay`.
        """
        self._asked = True
        if self.settled or not self._between():
            return b""
        self._settle(MADE)
        return INIT

    def change_pixel_format(self) -> None:
        """The client has sent SetPixelFormat: nobody knows at which update the server takes it up."""
        self._bits_per_pixel = 0

    def relay(self, data: bytes) -> bytes:
        """Return the server's bytes, with INIT among them when it is due."""
        if self.settled:
            return data
        at, end = 0, len(data)
        while not self.settled and at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
            else:
                at = self._read_head(data, at)
            if self._asked and not self.settled and self._between():
                self._settle(MADE)
                return data[:at] + INIT + data[at:]
        return data

    def _between(self) -> bool:
        return not self._head and not self._left and not self._rectangles

    def _settle(self, outcome: str) -> None:
        self.outcome = outcome
        self.settled = True
        self._head = b""

    def _read_head(self, data: bytes, at: int) -> int:
        """Read the head that starts at `at`, or goes on there; return where it ends."""
        had = len(self._head)
        head = self._head + data[at : at + _RECTANGLE.size + 4]
        size = self._read_rectangle(head) if self._rectangles else self._read_message(head)
        if size:
            self._head = b""
            return at + size - had
        self._head = head
        return len(data)

    def _read_message(self, head: bytes) -> int:
        """Return the size of the head of a message, 0 when more of it is needed."""
        if head[0] == _FRAMEBUFFER_UPDATE:
            if len(head) < _UPDATE_HEAD:
                return 0
            (self._rectangles,) = struct.unpack_from("!H", head, 2)
            return _UPDATE_HEAD
        try:
            found = _rfb.parse_head(_rfb.SERVER_MESSAGES, head)
        except VncProtocolError:
            self._settle(LOST)
            return len(head)
        if found is None:
            return 0
        self._left = found.rest
        return found.size

    def _read_rectangle(self, head: bytes) -> int:
        """Return the size of the head of a rectangle, 0 when more of it is needed."""
        if len(head) < _RECTANGLE.size:
            return 0
        _x, _y, width, height, encoding = _RECTANGLE.unpack_from(head)
        size = _RECTANGLE.size
        if encoding == _rfb.RAW and self._bits_per_pixel:
            self._left = width * height * self._bits_per_pixel // 8
        elif encoding == _COPY_RECT:
            self._left = _COPY_RECT_BYTES
        elif encoding in _rfb.BARE_RECTANGLES:
            fixed, each = _rfb.BARE_RECTANGLES[encoding]
            if each and len(head) == size:
                return 0
            self._left = fixed + (each * head[size] if each else 0)
        else:
            self._settle(LOST)
        # A server that announces 65535 may mean as many as come before a LastRect (rfbproto, LastRect).
        self._rectangles = 0 if encoding == _rfb.LAST_RECT else self._rectangles - 1
        return size
