# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of one session besides its bytes: who, what, from where, since when; and what is told about it.

Private to this collection.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Callable

from ansible_collections.kvmops.console.plugins.module_utils import _rfb

from ._audit import AuditLog
from ._handshake import OPAQUE, Handshake
from ._metrics import Metrics
from ._session import Ending, Session
from ._targets import Target
from ._treatment import Behaviour

if TYPE_CHECKING:
    from collections.abc import Hashable

MOST_LINES = 100
"""Lines of the audit log about one session's power messages; what comes after is only counted."""

_POWER = {_rfb.XVP_SHUTDOWN: "shutdown", _rfb.XVP_REBOOT: "reboot", _rfb.XVP_RESET: "reset"}
_numbers = itertools.count(1)


def verdict_on(behaviour: Behaviour | None) -> str:
    """How a server behaves, in a word: affected, fixed, silent (power control is off), other or unknown."""
    if behaviour is None:
        return "unknown"
    if behaviour.pointer_change or behaviour.gated is False:
        return "affected"
    if not behaviour.qemu:
        return "other"
    return "fixed" if behaviour.power_control or behaviour.gated else "silent"


class Record:
    """One session's. It is the session's observer: what it is told goes to the audit log and the metrics."""

    __slots__ = (
        "_audit",
        "_dropped",
        "_lines",
        "_metrics",
        "_power",
        "_since",
        "forget",
        "key",
        "kind",
        "listener",
        "name",
        "number",
        "release",
        "session",
        "source",
        "subject",
        "user",
    )

    def __init__(
        self, audit: AuditLog, metrics: Metrics, *, target: Target, source: str, user: str | None, listener: str
    ) -> None:
        self._audit = audit
        self._metrics = metrics
        self._since = time.monotonic()
        self._dropped: dict[str, int] | None = None
        self._power: dict[str, int] | None = None
        self._lines = 0
        self.number = f"{os.getpid():x}-{next(_numbers):x}"
        """Tells sessions of one host apart, over restarts and hand-overs."""
        self.key: Hashable = target.key
        self.kind, self.name = target.kind, target.name
        self.source = source
        self.user = user
        self.subject = target.subject
        self.listener = listener
        self.session: Session | None = None
        self.forget: Callable[[], None] | None = None
        self.release: Callable[[], None] | None = None

    def _write(self, event: str, **fields: object) -> None:
        self._audit.write(
            event,
            session=self.number,
            user=self.user,
            token_for=self.subject,
            source=self.source,
            target=self.name,
            kind=self.kind,
            **fields,
        )

    # --- Beginning and end --------------------------------------------------------------------------------------------

    def start(self, session: Session, behaviour: Behaviour | None, target: Target) -> None:
        """The session begins."""
        self.session = session
        self._metrics.opened += 1
        policy = target.policy
        self._write(
            "session_start",
            listener=self.listener,
            server=verdict_on(behaviour) if behaviour else None,
            power=policy.power,
            view_only=policy.view_only or None,
        )

    def finish(self, ending: Ending) -> None:
        """The session has ended."""
        session = self.session
        if session is None:
            return
        metrics = self._metrics
        metrics.ended[ending.reason] += 1
        metrics.bytes_to_client += session.bytes_to_client
        metrics.bytes_to_server += session.bytes_to_server
        self._write(
            "session_end",
            reason=ending.reason,
            detail=ending.detail or None,
            seconds=round(time.monotonic() - self._since, 3),
            bytes_to_client=session.bytes_to_client,
            bytes_to_server=session.bytes_to_server,
            power_messages=self._power,
            dropped=self._dropped,
        )
        self.session = None

    # --- What a session tells -----------------------------------------------------------------------------------------

    def power_message(self, code: int, passed: bool) -> None:
        """A power message came."""
        outcome = "passed" if passed else "dropped"
        self._metrics.power[outcome] += 1
        if self._power is None:
            self._power = {}
        self._power[outcome] = self._power.get(outcome, 0) + 1
        self._lines += 1
        if self._lines <= MOST_LINES:
            self._write("power_message", action=_POWER.get(code, str(code)), passed=passed)

    def dropped(self, name: str, count: int) -> None:
        """Messages of a mere viewer were dropped: told at the first of its kind, and counted at the end."""
        self._metrics.dropped[name] += count
        if self._dropped is None:
            self._dropped = {}
        if name not in self._dropped:
            self._dropped[name] = 0
            self._write("dropped", message=name)
        self._dropped[name] += count

    def went_opaque(self, reason: str) -> None:
        """Nothing is parsed any more."""
        self._metrics.opaque += 1
        self._write("went_opaque", reason=reason)

    def asked(self, behaviour: Behaviour) -> None:
        """The server was asked after the session had begun."""
        self._write("server_asked", server=verdict_on(behaviour))

    def handshake_done(self, handshake: Handshake) -> None:
        """The desktop is there, or what follows is encrypted."""
        if handshake.state == OPAQUE:
            number, version = handshake.security_type, handshake.version or (0, 0)
            what = f"RFB {version[0]}.{version[1]}"  # Another protocol than ours, which comes before all types
            if number is not None:
                what = f"the security type {_rfb.security_name(number)}"
            self.went_opaque(f"{what} is relayed as it is")

    def offer(self, outcome: str) -> None:
        """Power control was offered in the server's place, or never will be."""
        self._metrics.offers[outcome] += 1
