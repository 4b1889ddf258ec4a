# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drives one machine to one state, in a thread of its own: where each machine is talked to by itself.

Private to this collection.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._power import (
    GAP,
    Done,
    Look,
    Observation,
    Power,
    Request,
    Wait,
)


class Answer(t.NamedTuple):
    """What became of a request: nothing wrong, or one sentence."""

    request: Request
    error: str | None = None


class Machine(t.Protocol):
    """What a machine has to be able to do. None of it may take for ever; each may raise ConsoleError."""

    def look(self) -> Observation:
        """Its state, as it is now; of power UNKNOWN when it cannot be read at the moment."""

    def request(self, request: Request) -> Answer | None:
        """Have something done. None: `wait` will tell what became of it."""

    def wait(self, seconds: float) -> str | Answer | None:
        """What happens next: an event of _power, or an answer; None when nothing does in so many seconds."""


def drive(power: Power, machine: Machine, clock: t.Callable[[], float] = time.monotonic) -> Done:
    """Bring `machine` to where `power` wants it. Raises nothing that `machine.look` does not raise."""
    while True:
        action = power.next(clock())
        if isinstance(action, Look):
            power.observed(clock(), machine.look())
        elif isinstance(action, Request):
            try:
                answer = machine.request(action)
            except ConsoleError as e:
                answer = Answer(action, str(e))
            _tell(power, clock(), answer)
        elif isinstance(action, Wait):
            try:
                _tell(power, clock(), machine.wait(max(0.0, action.until - clock())))
            except ConsoleError:
                # The next look tells what it was.
                power.event(clock(), GAP)
        else:
            return action


def _tell(power: Power, now: float, happened: str | Answer | None) -> None:
    if isinstance(happened, Answer):
        power.answered(now, happened.request, happened.error)
    elif happened is not None:
        power.event(now, happened)
