# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client's end of a session: a browser's WebSocket, or a native viewer's plain connection.

Private to this collection.

What the client says goes through `websockets`' sans-I/O protocol, which unmasks, bounds, answers pings and closes. What
the server says is framed here, in the room before the shared read buffer, and leaves in one call: a server's frames are
not masked, so there is nothing else to do about them (RFC 6455, 5.1 and 5.2).
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Union

try:
    from websockets.server import ServerProtocol
except ImportError:  # Before 11.0, as in Debian 12
    from websockets.server import ServerConnection as ServerProtocol

from ._sockets import HEAD_ROOM, MOST_READ, VIEW, Data, wire

MOST_MESSAGE = (1 << 20) + 65536
"""Bytes of one message of a client: a clipboard as long as we take, and what may stand around it."""
LEAST_READ = 16 * 1024
"""Bytes of one read, and so of a frame, for a client that is slow."""
MOST_ANSWERS = 64 * 1024
"""Bytes of pongs that may wait behind a frame; as long as more do, nothing is read from the client."""
CLIENT_READ = 64 * 1024
"""Bytes of one read from a client."""
SLOW = 0.005
"""Seconds that a client may take to make room before its frames get smaller."""

_TEXT, _CLOSE = 0x1, 0x8  # RFC 6455, 11.8
_DATA = (0x2, 0x0)  # Binary, and its continuation
_FINAL_BINARY = 0x82
_SHORT, _MEDIUM, _LONG = struct.Struct("!BB"), struct.Struct("!BBH"), struct.Struct("!BBQ")
_UNSUPPORTED = 1003
_OPEN = "OPEN"

# The protocol would log every header, tokens too, for whoever turns on debugging of everything.
_SILENT = logging.getLogger(__name__ + ".silent")
_SILENT.propagate = False
_SILENT.setLevel(logging.CRITICAL + 1)


class Gone(NamedTuple):
    """How a client ended. `reason` is "client_closed" or "client_violation"; `detail` says it in words."""

    reason: str
    detail: str


class ConsoleProtocol(ServerProtocol):
    """websockets' protocol with what consoles need: no compression, no log, the sub-protocol "binary" if asked for.

    noVNC before 1.3 and clients made for websockify ask for "binary"; others that ask for something else get nothing,
    which they may mind.
    """

    def __init__(self, most_message: int = MOST_MESSAGE, **others: Any) -> None:
        ours: Any = ["binary"]
        super().__init__(max_size=most_message, logger=_SILENT, subprotocols=ours, **others)

    def select_subprotocol(self, subprotocols: Sequence[str], *_ours: Sequence[str]) -> Any:
        """Choose "binary" or none; never an error."""
        return "binary" if "binary" in subprotocols else None


class ClientEnd:
    """What both kinds of clients have in common: here, one that speaks RFB without a WebSocket around it.

    `relay` and `send` return whether the client has taken everything; when it has not, nothing may be added but what it
    asks for itself, until `drained` was called. All of them raise WireLost.
    """

    __slots__ = ("blocked_at", "cap", "clock", "ended", "wire")

    def __init__(self, sock: Any) -> None:
        self.wire = wire(sock)
        self.cap = MOST_READ
        """Bytes to read from the server at once."""
        self.clock: Callable[[], float] = time.monotonic
        self.blocked_at = 0.0
        self.ended: Gone | None = None
        """Set once the client has said goodbye, or has done what can't be allowed."""

    def receive(self) -> bytes:
        """Return what the client said; b"" for nothing. Look at `ended` afterwards."""
        count = self.wire.read(CLIENT_READ)
        if count == 0:
            self.ended = Gone("client_closed", "the client closed the connection")
        return bytes(VIEW[HEAD_ROOM : HEAD_ROOM + count]) if count else b""

    def received_already(self) -> bytes:
        """Return what the client had said before the session began."""
        return b""

    def relay(self, count: int) -> bool:
        """Send `count` bytes that stand in the shared buffer, behind its head-room."""
        return self.wire.send(VIEW[HEAD_ROOM : HEAD_ROOM + count])

    def send(self, data: Data) -> bool:
        """Send bytes of the server's stream that stand elsewhere."""
        return self.wire.send(data)

    def drained(self) -> None:
        """Everything that waited is gone."""

    def ping(self) -> bool:
        """Ask for a sign of life; return whether an answer may be expected."""
        return False

    def say_goodbye(self, code: int, reason: str) -> None:
        """Begin to close, behind what waits."""

    @property
    def half_closes(self) -> bool:
        """Whether, once all is sent, the client is to be told by the end of the stream that nothing more comes."""
        return True

    def read_on(self) -> bool:
        """While closing: read, and keep nothing; return whether the client is still there."""
        return self.wire.read(MOST_READ) != 0


class PlainEnd(ClientEnd):
    """A native viewer, on a plain or TLS socket."""

    __slots__ = ()


class WebSocketEnd(ClientEnd):
    """A browser. `protocol` has accepted the upgrade, and its response is sent; `already` came behind the request."""

    __slots__ = ("_already", "_protocol")

    def __init__(self, sock: Any, protocol: Any, already: bytes = b"") -> None:
        super().__init__(sock)
        self._protocol = protocol
        self._already = already

    def receive(self) -> bytes:
        """As for the plain end, out of the client's frames."""
        count = self.wire.read(CLIENT_READ)
        if count is None:
            return b""
        if count == 0:
            self.ended = Gone("client_closed", "the client closed the connection without saying goodbye")
            return b""
        return self._understand(VIEW[HEAD_ROOM : HEAD_ROOM + count])

    def received_already(self) -> bytes:
        """Return what the client had said before the session began, also what the protocol knows of it already."""
        already, self._already = self._already, b""
        return self._understand(already)

    def _understand(self, data: Data) -> bytes:
        """Return what the frames in these bytes bring; answer what the protocol answers by itself."""
        protocol = self._protocol
        if data:
            protocol.receive_data(bytes(data))
        payload: list[bytes] = []
        for frame in protocol.events_received():
            opcode = frame.opcode
            if opcode in _DATA:
                payload.append(frame.data)
            elif opcode == _TEXT:
                self.ended = Gone("client_violation", "the client sent text where RFB is binary")
                protocol.fail(_UNSUPPORTED, "text frames are not for RFB")
                break
            elif opcode == _CLOSE:
                self.ended = Gone("client_closed", "the client said goodbye")
        if protocol.parser_exc is not None and self.ended is None:
            self.ended = Gone("client_violation", f"the client breaks the WebSocket protocol: {protocol.parser_exc}")
        self._answer()
        return b"".join(payload)

    def _answer(self) -> None:
        """Send what the protocol wants sent, behind what waits."""
        for data in self._protocol.data_to_send():
            if data:
                self.wire.send(data)

    def relay(self, count: int) -> bool:
        """As for the plain end, as one binary frame; its header goes into the head-room, so one call sends both."""
        if count < 126:
            start = HEAD_ROOM - 2
            _SHORT.pack_into(VIEW, start, _FINAL_BINARY, count)
        elif count < 65536:
            start = HEAD_ROOM - 4
            _MEDIUM.pack_into(VIEW, start, _FINAL_BINARY, 126, count)
        else:
            start = HEAD_ROOM - 10
            _LONG.pack_into(VIEW, start, _FINAL_BINARY, 127, count)
        if self.wire.send(VIEW[start : HEAD_ROOM + count]):
            return True
        self.blocked_at = self.clock()
        return False

    def send(self, data: Data) -> bool:
        """As for the plain end: through the shared buffer, in frames no longer than a read."""
        sent_all = not self.wire.full
        for start in range(0, len(data), MOST_READ):
            part = data[start : start + MOST_READ]
            VIEW[HEAD_ROOM : HEAD_ROOM + len(part)] = part
            sent_all = self.relay(len(part))
        return sent_all

    def drained(self) -> None:
        """Make the frames smaller for a client that took its time, larger again for one that did not.

        A browser is shown nothing of a frame before the last byte of it has come.
        """
        if self.clock() - self.blocked_at > SLOW:
            self.cap = max(LEAST_READ, self.cap // 2)
        else:
            self.cap = min(MOST_READ, self.cap * 2)

    def ping(self) -> bool:
        """As for the plain end; browsers answer by themselves."""
        if self._protocol.state.name != _OPEN:
            return False
        self._protocol.send_ping(b"")
        self._answer()
        return True

    def say_goodbye(self, code: int, reason: str) -> None:
        """As for the plain end, with the WebSocket's close frame, unless one was sent already."""
        if self._protocol.state.name == _OPEN:
            self._protocol.send_close(code, reason)
            self._answer()

    @property
    def half_closes(self) -> bool:
        """As for the plain end: not as long as the client's own goodbye is waited for."""
        return bool(self._protocol.eof_sent)

    def read_on(self) -> bool:
        """As for the plain end; the client's own goodbye ends it too."""
        count = self.wire.read(CLIENT_READ)
        if count and not self._protocol.eof_sent:
            self._protocol.receive_data(bytes(VIEW[HEAD_ROOM : HEAD_ROOM + count]))
            self._protocol.events_received()
            self._answer()
        return count != 0 and self._protocol.close_rcvd is None


AnyClientEnd = Union[PlainEnd, WebSocketEnd]
