# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a client says after its handshake, message by message: what goes on to the server, and what does not.

Private to this collection.

Bytes in, bytes and events out, no I/O. Nothing is kept but the head of a message that has not come whole yet, and a
SetEncodings until it has: what follows other heads (a clipboard, say) goes on, or is passed over, as it comes. The
output does not depend on how the input is cut.
"""

from __future__ import annotations

import struct
import sys
from functools import cache
from typing import Callable, NamedTuple, Union

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncProtocolError

from ._treatment import END, NEGOTIATED, PASS, Treatment

# --- What there is to tell --------------------------------------------------------------------------------------------


class PowerMessage(NamedTuple):
    """Power messages of one code (rfbproto, xvp: 2 shutdown, 3 reboot, 4 reset; any other number may come too)."""

    code: int
    passed: bool
    times: int = 1


class Dropped(NamedTuple):
    """Messages that a viewer who may only look has sent all the same; `name` is theirs in the codec's table."""

    name: str
    times: int = 1


class ListedXvp(NamedTuple):
    """The client listed -309, for the first time: the moment for an offer. Only where one is to be made."""


class ChangedPixelFormat(NamedTuple):
    """The client sent SetPixelFormat, which is about to go on. Only where an offer is to be made."""


class WentOpaque(NamedTuple):
    """From here on all is relayed as it comes. `reason` is a sentence."""

    reason: str


ClientEvent = Union[PowerMessage, Dropped, ListedXvp, ChangedPixelFormat, WentOpaque]


class ClientViolation(VncProtocolError):
    """The client says what it must not, or what cannot be followed: the session has to end.

    `before` are the bytes that came before it and still may go on to the server.
    """

    before: bytes = b""


# --- How long messages are --------------------------------------------------------------------------------------------

_SET_PIXEL_FORMAT, _SET_ENCODINGS, _POINTER_EVENT, _XVP = 0, 2, 5, 250
_EXTENDED_MARK = 0x80
"""Of a PointerEvent's buttons: one more byte of buttons follows (rfbproto, ExtendedMouseButtons)."""
_LAST_AUDIO_OPERATION = 2

_HANDS = frozenset(
    ("key_event", "qemu_key_event", "pointer_event", "client_cut_text", "xvp", "set_desktop_size"),
)
"""Messages by which a client does something to the guest, or to what others see."""

_OBEYED = frozenset((_rfb.DESKTOP_SIZE, 5, _rfb.POINTER_CHANGE))
"""Encodings that an affected server mistakes for -309 when a power message comes (QEMU: VNC_FEATURE_XVP is 0b1101)."""


class _Fixed(NamedTuple):
    name: str
    size: int


_FIXED: dict[int, _Fixed] = {
    key[0]: _Fixed(layout.name, 1 + struct.calcsize("!" + layout.head))
    for key, layout in _rfb.CLIENT_MESSAGES.items()
    if len(key) == 1 and not layout.item
}
"""Messages that always have the same length, by their first byte."""
_POINTER_SIZE = _FIXED[_POINTER_EVENT].size


@cache
def _plain_sizes(*, hands: bool, pixel_format: bool, pointer: bool) -> bytes:
    """Return, for each first byte, the size of a message that passes without a second look; 0 for every other."""
    sizes = bytearray(256)
    for first, fixed in _FIXED.items():
        if hands or fixed.name not in _HANDS:
            sizes[first] = fixed.size
    sizes[_XVP] = 0
    if not pixel_format:
        sizes[_SET_PIXEL_FORMAT] = 0
    if not pointer:
        sizes[_POINTER_EVENT] = 0
    return bytes(sizes)


_Step = tuple[int, Union[bytes, None]]
"""Where the next message starts, 0 when this one's end has not come; what goes on in its place, None for itself."""
_WAIT: _Step = (0, None)


class ClientStream:
    """The client's side of one session after ClientInit.

    `receive(bytes)` returns what goes on to the server; `take_events()` what happened. Set `offered` once INIT has been
    put into the server's stream. `opaque` says that nothing is parsed any more. Raises ClientViolation; after that the
    conversation is over.
    """

    __slots__ = (
        "_between",
        "_drops",
        "_extended",
        "_held",
        "_left",
        "_needed",
        "_news",
        "_obeyed",
        "_out",
        "_plain",
        "_powers",
        "_skipping",
        "_told",
        "_treatment",
        "offered",
        "opaque",
    )

    def __init__(self, treatment: Treatment) -> None:
        self.offered = False
        self.opaque = False
        self._treatment = treatment
        self._plain = _plain_sizes(hands=not treatment.view_only, pixel_format=not treatment.offer, pointer=True)
        self._out = frozenset(
            encoding
            for encoding, out in (
                (_rfb.XVP, treatment.strip_xvp),
                (_rfb.EXTENDED_MOUSE, treatment.strip_extended_mouse),
            )
            if out
        )
        self._between = True  # No message has begun without having ended
        self._held: bytearray | None = None  # The beginning of a message that can't be judged yet
        self._needed = 0
        self._left = 0  # Bytes that still belong to the last message
        self._skipping = False
        self._told = False
        self._extended = False  # -316 went on: a PointerEvent may be longer than it was
        self._obeyed = False  # The client lists -309, and an affected server takes its list for that
        self._news: list[ClientEvent] = []
        self._powers: dict[tuple[int, bool], int] = {}
        self._drops: dict[str, int] = {}

    @property
    def kept(self) -> int:
        """How many bytes of the client's are kept."""
        return len(self._held) if self._held else 0

    def take_events(self) -> list[ClientEvent]:
        """Return what happened since the last call, each thing once, with how often it happened."""
        if not (self._news or self._powers or self._drops):
            return []
        events = [
            *self._news,
            *(PowerMessage(code, passed, times) for (code, passed), times in self._powers.items()),
            *(Dropped(name, times) for name, times in self._drops.items()),
        ]
        self._news.clear()
        self._powers.clear()
        self._drops.clear()
        return events

    def receive(self, data: bytes) -> bytes:
        """Return what goes on to the server: often `data` itself."""
        if self._between and data and self._plain[data[0]] == len(data):
            return data
        if self.opaque or (self._extended and self._between and _is_short_pointer(data)):
            return data
        return self._receive(data)

    def _receive(self, data: bytes) -> bytes:
        if self._held is not None:
            self._held += data
            if len(self._held) < self._needed:
                return b""
            data = bytes(self._held)
            self._held = None
            self._needed = 0
        at = min(self._left, len(data))
        self._left -= at
        passed: list[bytes] = []
        try:
            return self._walk(data, at, at if self._skipping else 0, passed)
        except ClientViolation as violation:
            violation.before = b"".join(passed)
            self._left, self._skipping = sys.maxsize, True  # Whatever else comes stays here
            raise
        finally:
            self._between = self._held is None and not self._left

    def _walk(self, data: bytes, at: int, begin: int, passed: list[bytes]) -> bytes:
        """Go through the messages that start at `at`. What has not been put into `passed` begins at `begin`."""
        plain, end = self._plain, len(data)
        while at < end:
            size = plain[data[at]]
            if size and at + size <= end:
                at += size
                continue
            try:
                following, instead = _WAIT if size else self._judge(data, at)
            except ClientViolation:
                passed.append(data[begin:at])
                raise
            if not following:
                self._hold(data[at:])
                end = at
            elif instead is None:
                at = following
                plain = self._plain
            else:
                passed += (data[begin:at], instead)
                at = begin = following
        if not begin and end == len(data):
            return data
        passed.append(data[begin:end])
        return b"".join(passed)

    def _hold(self, beginning: bytes) -> None:
        self._held = bytearray(beginning)
        self._needed = max(self._needed, len(beginning) + 1)

    def _drop(self, name: str, following: int) -> _Step:
        self._drops[name] = self._drops.get(name, 0) + 1
        return following, b""

    # Each of these looks at the message that starts at `at`.

    def _judge(self, data: bytes, at: int) -> _Step:
        first = data[at]
        special = _SPECIAL.get(first)
        if special is not None:
            return special(self, data, at)
        fixed = _FIXED.get(first)
        if fixed is None:
            return self._judge_head(data, at)
        if at + fixed.size > len(data):
            return _WAIT
        return self._drop(fixed.name, at + fixed.size)

    def _judge_pixel_format(self, data: bytes, at: int) -> _Step:
        following = at + _FIXED[_SET_PIXEL_FORMAT].size
        if following > len(data):
            return _WAIT
        if ChangedPixelFormat not in map(type, self._news):
            self._news.append(ChangedPixelFormat())
        return following, None

    def _judge_pointer(self, data: bytes, at: int) -> _Step:
        """A PointerEvent that does not pass without a second look: of a mere viewer, or one that may be longer."""
        size = _POINTER_SIZE
        if at + 2 > len(data):
            return _WAIT
        if self._treatment.view_only:
            return self._drop("pointer_event", at + size) if at + size <= len(data) else _WAIT
        if data[at + 1] & _EXTENDED_MARK:
            size += 1
        return (at + size, None) if at + size <= len(data) else _WAIT

    def _judge_power(self, data: bytes, at: int) -> _Step:
        following = at + _FIXED[_XVP].size
        if following > len(data):
            return _WAIT
        power = self._treatment.power
        passed = power == PASS or (power == NEGOTIATED and self.offered and self._obeyed)
        key = (data[at + 3], passed)
        self._powers[key] = self._powers.get(key, 0) + 1
        return following, None if passed else b""

    def _judge_encodings(self, data: bytes, at: int) -> _Step:
        if at + 4 > len(data):
            return _WAIT
        (count,) = struct.unpack_from("!H", data, at + 2)
        if count > _rfb.MOST_ENCODINGS:
            raise ClientViolation(f"The client lists {count} encodings; {_rfb.MOST_ENCODINGS} is the most we take.")
        following = at + 4 + 4 * count
        if following > len(data):
            self._needed = following - at
            return _WAIT
        listed: tuple[int, ...] = struct.unpack_from(f"!{count}i", data, at + 4)
        self._look_at_encodings(frozenset(listed))
        if self._out.isdisjoint(listed):
            return following, None
        kept = [encoding for encoding in listed if encoding not in self._out]
        return following, data[at : at + 2] + struct.pack(f"!H{len(kept)}i", len(kept), *kept)

    def _look_at_encodings(self, listed: frozenset[int]) -> None:
        """Each SetEncodings replaces the one before (6143, 7.5.2), and what was negotiated with it (QEMU does so)."""
        wanted = _rfb.XVP in listed
        self._obeyed = wanted and not _OBEYED.isdisjoint(listed)
        if wanted and self._treatment.offer and not self._told:
            self._told = True
            self._news.append(ListedXvp())
        if _rfb.EXTENDED_MOUSE in listed.difference(self._out):
            self._extended = True
            self._plain = _plain_sizes(
                hands=not self._treatment.view_only, pixel_format=not self._treatment.offer, pointer=False
            )

    def _judge_head(self, data: bytes, at: int) -> _Step:
        """A message of which the head says how long it is."""
        try:
            head = _rfb.parse_head(_rfb.CLIENT_MESSAGES, data, at)
        except VncProtocolError as error:
            return self._lose(str(error), len(data))
        if head is None:
            return _WAIT
        name = head.layout.name
        if name == "qemu_audio" and head.values[0] > _LAST_AUDIO_OPERATION:
            return self._lose(f"a {name} message of the unknown operation {head.values[0]} came", len(data))
        most = self._treatment.most_cut_text if name == "client_cut_text" else head.layout.most
        if head.amount > most:
            raise ClientViolation(f"The client announces {head.amount} elements of {name}; {most} is the most we take.")
        here = min(head.rest, len(data) - at - head.size)
        following = at + head.size + here
        self._left = head.rest - here
        self._skipping = self._treatment.view_only and name in _HANDS
        return self._drop(name, following) if self._skipping else (following, None)

    def _lose(self, reason: str, end: int) -> _Step:
        """Go on without parsing, where nothing has to be enforced."""
        if self._treatment.must_parse or self._treatment.unknown_message == END:
            raise ClientViolation(f"From the client: {reason}.")
        self.opaque = True
        self._news.append(WentOpaque(f"From the client: {reason}."))
        return end, None


def _is_short_pointer(data: bytes) -> bool:
    """Whether this is one whole PointerEvent as it was before -316."""
    return len(data) == _POINTER_SIZE and data[0] == _POINTER_EVENT and data[1] < _EXTENDED_MARK


_SPECIAL: dict[int, Callable[[ClientStream, bytes, int], _Step]] = {
    _SET_PIXEL_FORMAT: ClientStream._judge_pixel_format,
    _SET_ENCODINGS: ClientStream._judge_encodings,
    _POINTER_EVENT: ClientStream._judge_pointer,
    _XVP: ClientStream._judge_power,
}
