# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks a server how it behaves within a session: where the client has the password that a question of ours lacks.

Private to this collection.

Bytes in, bytes out, no I/O. Right after ServerInit, before a word of the client's goes on, the server is sent what
_vnc.ask_running says to it: SetEncodings with -309 alone, then with -258 alone, whose acknowledgement every QEMU sends
at once (QEMU: ui/vnc.c, set_encodings; since 0.10) and which ends the question. The client's own SetEncodings replaces
both (RFC 6143, 7.5.2). Of the answers it hears nothing, and of anything else that the server says meanwhile everything.
"""

from __future__ import annotations

from ansible_collections.kvmops.console.plugins.module_utils import _rfb, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncProtocolError

from ._treatment import Behaviour

QUESTION = _rfb.set_encodings(_rfb.XVP) + _rfb.set_encodings(_rfb.EXTENDED_KEY)

_ANOTHER_KIND = Behaviour(power_control=False, pointer_change=False, qemu=False, gated=None)
"""What a server that is not QEMU's is like: nothing is known to be wrong with it, and it might never answer."""


class Question:
    """One question. Write `to_server()`, then give `hear` what the server says, until `behaviour` is there."""

    __slots__ = ("_client", "_pointer_change", "_power_control", "behaviour")

    def __init__(self, desktop: _rfb.ServerInit) -> None:
        self.behaviour: Behaviour | None = None if _vnc.named_like_qemu(desktop.name) else _ANOTHER_KIND
        self._pointer_change = False
        self._power_control = False
        self._client = _rfb.Client.joined(desktop)

    def to_server(self) -> bytes:
        """Return what is to be written first; nothing where there is nothing to ask."""
        return b"" if self.behaviour else QUESTION

    def hear(self, data: bytes) -> bytes:
        """Take what the server said; return what of it is the client's. Raises VncProtocolError."""
        passed: list[bytes] = []
        for event in self._client.receive_data(data):
            if isinstance(event, _rfb.Rectangle):
                self._hear_rectangle(event.encoding)
            elif isinstance(event, _rfb.Message) and event.name != "xvp":
                passed.append(event.raw)
            elif isinstance(event, _rfb.Message) and not self.behaviour:
                self._power_control = True
        if self.behaviour:
            passed.append(self._client.rest())
        return b"".join(passed)

    def _hear_rectangle(self, encoding: int) -> None:
        if encoding == _rfb.POINTER_CHANGE:
            self._pointer_change = True
        elif encoding == _rfb.EXTENDED_KEY:
            self.behaviour = Behaviour(self._power_control, self._pointer_change, qemu=True, gated=None)
        else:
            name = _rfb.encoding_name(encoding)
            raise VncProtocolError(f"the server sends a rectangle of the encoding {name}, which was not asked for")
