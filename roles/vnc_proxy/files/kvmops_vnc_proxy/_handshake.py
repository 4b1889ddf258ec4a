# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Relays a handshake between a client and a server: RFB 3.3, 3.7 and 3.8 (RFC 6143, 7.1 to 7.3).

Private to this collection.

Bytes in, bytes out, no I/O. What a side says goes on unchanged, as soon as it is whole, but for two things that a
policy may want: security types behind which nothing could be enforced are not offered, and a mere viewer's ClientInit
always asks to share, since it could put all others out otherwise. Passwords stay between client and server: the
challenge of VNC authentication and its response pass, and are not kept.

    server's version -> client's -> security types -> client's choice -> [challenge -> response] -> [result] ->
    ClientInit -> ServerInit
"""

from __future__ import annotations

import struct
from typing import Callable

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncProtocolError

from ._client_stream import ClientViolation
from ._treatment import Policy

RUNNING, DONE, OPAQUE, REFUSED = "running", "done", "opaque", "refused"

CLEAR = (_rfb.SECURITY_NONE, _rfb.SECURITY_VNC)
"""Security types after which the conversation goes on in the clear, so that we understand it."""

MOST_EARLY = 1 << 16
"""Bytes that the client may say before its turn, as one does that does not wait for ServerInit."""
_MOST_OF_SERVER = _rfb.MOST_NAME + 24
"""Bytes of the longest thing that a server says in a handshake, which is ServerInit."""

_SHARED = b"\x01"
_REPEATER = (0, 0)
"""The version by which UltraVNC's repeater asks for the name of a server; RFB comes after that."""


class Handshake:
    """One handshake.

    Give it what comes with `from_server` and `from_client`, write what `to_client` and `to_server` return, until
    `state` is no longer RUNNING:

    - DONE: both inits are on their way; what came after them is in `rest_of_client` and `rest_of_server`.
    - OPAQUE: a security type was agreed on that encrypts or that we don't know, or another version of the protocol: all
      that follows, the rests first, is to be relayed as it comes.
    - REFUSED: by the server, or by us; `reason` is a sentence. Write what is due, then close.

    `version` is what both sides agreed on, `offered` what the server offered (in 3.3 what it decided), `security_type`
    what was chosen, `desktop` what ServerInit said. Raises VncProtocolError for what is no RFB, ClientViolation when it
    is the client's; then it is over.
    """

    def __init__(self, policy: Policy) -> None:
        self.state = RUNNING
        self.version: tuple[int, int] | None = None
        self.offered: tuple[int, ...] = ()
        self.security_type: int | None = None
        self.desktop: _rfb.ServerInit | None = None
        self.reason = ""
        self._policy = policy
        self._choices: tuple[int, ...] = ()
        self._greeted = (0, 0)
        self._of_client = bytearray()
        self._of_server = bytearray()
        self._to_client = bytearray()
        self._to_server = bytearray()
        self._step: Callable[[], bool] = self._server_version

    # --- The outside ---

    def from_server(self, data: bytes) -> None:
        """Take what the server said."""
        self._of_server += data
        self._run()

    def from_client(self, data: bytes) -> None:
        """Take what the client said."""
        self._of_client += data
        self._run()

    def to_client(self) -> bytes:
        """Return what is to be written to the client, once."""
        return _taken(self._to_client)

    def to_server(self) -> bytes:
        """Return what is to be written to the server, once."""
        return _taken(self._to_server)

    def rest_of_client(self) -> bytes:
        """Return what the client said after the end of the handshake, once."""
        return _taken(self._of_client)

    def rest_of_server(self) -> bytes:
        """Return what the server said after the end of the handshake, once."""
        return _taken(self._of_server)

    # --- Steps: each returns whether it came to its end, and sets the one that follows ---

    def _run(self) -> None:
        while self.state == RUNNING and self._step():
            pass
        if self.state != RUNNING:
            return
        if len(self._of_client) > MOST_EARLY:
            raise ClientViolation(f"The client says more than {MOST_EARLY} bytes before its turn.")
        if len(self._of_server) > _MOST_OF_SERVER:
            raise VncProtocolError("The server says more than a handshake can be, before its turn.")

    def _next(self, step: Callable[[], bool]) -> bool:
        self._step = step
        return True

    def _server_version(self) -> bool:
        greeting = bytes(self._of_server[:12])
        version = _version(greeting)
        if version is None:
            raise VncProtocolError(f"No VNC server answers there: its first bytes are {greeting!r}.")
        if not self._relay_to_client(12):
            return False
        self._greeted = version
        return self._next(self._client_version)

    def _client_version(self) -> bool:
        wanted = _version(bytes(self._of_client[:12]))
        if wanted is None:
            raise ClientViolation("The client does not speak RFB.")
        if len(self._of_client) < 12:
            return False
        if wanted[0] != 3 or self._greeted == _REPEATER:
            return self._unknown_version(wanted)
        self.version = _rfb.agree_version(wanted)
        if self.version > _rfb.agree_version(self._greeted):
            raise ClientViolation(
                f"The client wants RFB {_dotted(wanted)} of a server that knows {_dotted(self._greeted)}."
            )
        self._relay_to_server(12)
        return self._next(self._security_type if self.version == (3, 3) else self._security_types)

    def _unknown_version(self, wanted: tuple[int, int]) -> bool:
        """Neither side speaks the RFB that we know; what they agree on can only be passed."""
        if self._policy.refuses_opaque:
            return self._refuse(f"RFB {_dotted(wanted)} cannot be looked into, as the policy wants it.", b"")
        self.version = wanted
        self._relay_to_server(12)
        return self._pass_on()

    def _security_type(self) -> bool:
        """In 3.3 the server decides, in four bytes."""
        if len(self._of_server) < 4:
            return False
        (number,) = struct.unpack_from("!I", self._of_server)
        if number == 0:
            return self._next(self._refusal_of_connection)
        self.offered = (number,)
        if number not in CLEAR and self._policy.refuses_opaque:
            return self._refuse_types(bytes(4))
        self.security_type = number
        self._relay_to_client(4)
        if number not in CLEAR:
            return self._pass_on()
        return self._next(self._challenge if number == _rfb.SECURITY_VNC else self._client_init)

    def _security_types(self) -> bool:
        if not self._of_server or len(self._of_server) < 1 + self._of_server[0]:
            return False
        count = self._of_server[0]
        if count == 0:
            return self._next(self._refusal_of_connection)
        self.offered = tuple(self._of_server[1 : 1 + count])
        self._choices = self.offered
        if self._policy.refuses_opaque:
            self._choices = tuple(number for number in self.offered if number in CLEAR)
        if not self._choices:
            return self._refuse_types(b"\0")
        self._to_client += bytes((len(self._choices), *self._choices))
        del self._of_server[: 1 + count]
        return self._next(self._choice)

    def _choice(self) -> bool:
        if not self._of_client:
            return False
        number = self._of_client[0]
        if number not in self._choices:
            raise ClientViolation(
                f"The client chooses the security type {_rfb.security_name(number)}, which it was not offered."
            )
        self.security_type = number
        self._relay_to_server(1)
        if number not in CLEAR:
            return self._pass_on()
        if number == _rfb.SECURITY_VNC:
            return self._next(self._challenge)
        return self._next(self._result if self.version == (3, 8) else self._client_init)  # 6143, 7.2.1

    def _challenge(self) -> bool:
        return self._relay_to_client(16) and self._next(self._response)

    def _response(self) -> bool:
        return self._relay_to_server(16) and self._next(self._result)

    def _result(self) -> bool:
        """SecurityResult (7.1.3): 0 is good. Only 3.8 gives a reason for the rest."""
        if len(self._of_server) < 4:
            return False
        if not any(self._of_server[:4]):
            self._relay_to_client(4)
            return self._next(self._client_init)
        if self.version == (3, 8):
            return self._next(self._refusal_of_authentication)
        self._relay_to_client(4)
        return self._end("The server refuses the authentication.")

    def _refusal_of_authentication(self) -> bool:
        return self._refusal(4, "The server refuses the authentication")

    def _refusal_of_connection(self) -> bool:
        return self._refusal(4 if self.version == (3, 3) else 1, "The server refuses the connection")

    def _refusal(self, offset: int, what: str) -> bool:
        """The reason, a string that a 32-bit length precedes, behind `offset` bytes of the same message."""
        text = self._text(offset, _rfb.MOST_REASON, "a reason")
        if text is None:
            return False
        self._relay_to_client(offset + 4 + len(text))
        printable = "".join(c if c.isprintable() else " " for c in text.decode("utf-8", "replace"))
        reason = " ".join(printable.split())
        return self._end(f"{what}: {reason}" if reason else f"{what}.")

    def _client_init(self) -> bool:
        if not self._of_client:
            return False
        if self._policy.view_only:
            self._of_client[:1] = _SHARED
        self._relay_to_server(1)
        return self._next(self._server_init)

    def _server_init(self) -> bool:
        name = self._text(20, _rfb.MOST_NAME, "a desktop's name")
        if name is None:
            return False
        width, height, pixel_format = struct.unpack_from("!HH16s", self._of_server)
        self.desktop = _rfb.ServerInit(width, height, pixel_format, name.decode("utf-8", "replace"))
        self._relay_to_client(24 + len(name))
        self.state = DONE
        return True

    # --- Small things ---

    def _relay_to_client(self, size: int) -> bool:
        return _move(self._of_server, self._to_client, size)

    def _relay_to_server(self, size: int) -> bool:
        return _move(self._of_client, self._to_server, size)

    def _text(self, offset: int, most: int, what: str) -> bytes | None:
        if len(self._of_server) < offset + 4:
            return None
        (length,) = struct.unpack_from("!I", self._of_server, offset)
        if length > most:
            raise VncProtocolError(f"The server announces {length} bytes of {what}; {most} is the most we take.")
        if len(self._of_server) < offset + 4 + length:
            return None
        return bytes(self._of_server[offset + 4 : offset + 4 + length])

    def _pass_on(self) -> bool:
        self.state = OPAQUE
        return True

    def _end(self, reason: str) -> bool:
        self.state = REFUSED
        self.reason = reason
        return True

    def _refuse_types(self, head: bytes) -> bool:
        """Say in the server's place that there is no way in (7.1.2)."""
        types = ", ".join(_rfb.security_name(number) for number in self.offered)
        return self._refuse(f"This console takes no security type that the server offers ({types}).", head)

    def _refuse(self, reason: str, head: bytes) -> bool:
        """Refuse by ourselves, in the form that the version has."""
        if head:
            text = reason.encode()
            self._to_client += head + struct.pack("!I", len(text)) + text
        return self._end(reason)


_NOT_YET = (0, 0)


def _version(greeting: bytes) -> tuple[int, int] | None:
    """Return (major, minor) of a ProtocolVersion, None for what can be none; _NOT_YET when it has not come whole."""
    if len(greeting) < 12:
        return _NOT_YET if b"RFB ".startswith(greeting[:4]) else None
    try:
        return _rfb.parse_version(greeting)
    except VncProtocolError:
        return None


def _move(source: bytearray, target: bytearray, size: int) -> bool:
    """Move so many bytes, or none when they have not all come."""
    if len(source) < size:
        return False
    target += source[:size]
    del source[:size]
    return True


def _taken(buffer: bytearray) -> bytes:
    data = bytes(buffer)
    buffer.clear()
    return data


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
