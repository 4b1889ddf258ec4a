# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks a VNC server how it behaves: over a connection of its own, once for each server process.

Private to this collection.

The questions are those of _vnc: `ask_server`, which sends no power message, joins as one more shared viewer and drops
nobody; and, only where a power message would be offered, `ask_gate`, whose XVP_REBOOT no QEMU ever obeys. Both are
ended by an answer, and bounded by a deadline. They block, so they run in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Callable, NamedTuple

from ansible_collections.kvmops.console.plugins.module_utils import _rfb, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError

from ._treatment import ALLOW, Behaviour

MOST_KNOWN = 4096
"""Server processes whose answers are kept; the one that was asked for the longest ago is forgotten first."""
_THREADS = 16
"""Questions at the same time. Each takes milliseconds, but for servers that don't answer."""

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    _Waiting = list[asyncio.Future[Behaviour | None]]


class _Question(NamedTuple):
    """What is asked: of which server process, and whether its gate is to be tried too."""

    identity: Hashable
    gate: bool


class Asking:
    """What is known of servers, and the questions that are on their way.

    `seconds` bounds each question. `told(behaviour)` is called once for each question that was asked, with None where
    the server did not tell; for counting. Every method belongs to the event loop's thread.
    """

    def __init__(self, *, seconds: float = 5.0, told: Callable[[Behaviour | None], None] | None = None) -> None:
        self._seconds = seconds
        self._told = told
        self._known: OrderedDict[Hashable, Behaviour | None] = OrderedDict()
        self._running: dict[_Question, _Waiting] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="asking")

    def knows(self, identity: Hashable, power: str) -> bool:
        """Whether `behaviour` would answer without a question."""
        return identity in self._known and not (power == ALLOW and _hides(self._known[identity]))

    async def behaviour(self, identity: Hashable, connect: Callable[[], _vnc.Way], power: str) -> Behaviour | None:
        """Return how the server process `identity` behaves; None when it does not tell.

        `connect` gives a way to it. `power` is the policy's. An answer is kept until `forget(identity)`, and so is that
        the server lets nobody in without authentication; that it could not be reached is not. Callers at the same time
        share one question. Raises nothing: trouble is logged, and is None.
        """
        if self.knows(identity, power):
            self._known.move_to_end(identity)
            return self._known[identity]
        question = _Question(identity, power == ALLOW)
        if question not in self._running:
            self._ask(question, connect)
        answer: asyncio.Future[Behaviour | None] = asyncio.get_running_loop().create_future()
        self._running[question].append(answer)
        return await answer

    def forget(self, identity: Hashable) -> None:
        """Ask anew next time: the server process is gone, or may be. Questions on their way are not waited for."""
        self._known.pop(identity, None)
        for gate in (False, True):
            self._running.pop(_Question(identity, gate), None)

    def close(self) -> None:
        """Ask nobody any more; questions on their way end within their own time."""
        self._threads.shutdown(wait=False)

    def _ask(self, question: _Question, connect: Callable[[], _vnc.Way]) -> None:
        """Have it asked. A task, and what run_in_executor and shield put around it, would cost more than the asking."""
        loop = asyncio.get_running_loop()
        waiting = self._running[question] = []
        known = self._known.get(question.identity)
        asked: Future[Behaviour | None]
        try:
            asked = self._threads.submit(_ask_server, connect, question.gate, self._seconds, known)
        except RuntimeError as error:  # After close(), or where the system has no thread left
            asked = Future()
            asked.set_exception(error)

        def answered(_asked: object) -> None:
            with contextlib.suppress(RuntimeError):  # The loop has ended, and whoever waited with it
                loop.call_soon_threadsafe(self._answered, question, waiting, asked)

        asked.add_done_callback(answered)

    def _answered(self, question: _Question, waiting: _Waiting, asked: Future[Behaviour | None]) -> None:
        behaviour: Behaviour | None = None
        answered = False
        try:
            behaviour = asked.result()
            answered = True
        except ConsoleError as error:
            _log.warning("A VNC server does not tell how it behaves, so it is asked within the session: %s", error)
        except Exception:  # A mistake of ours may not cost anybody the console  # pylint: disable=broad-exception-caught
            _log.exception("A VNC server could not be asked how it behaves, so it is asked within the session.")
        if self._running.get(question) is waiting:  # else it was forgotten meanwhile
            del self._running[question]
            if answered:
                self._keep(question.identity, behaviour)
        if self._told:
            self._told(behaviour)
        for one in waiting:
            if not one.done():  # Whoever waited for it has gone
                one.set_result(behaviour)

    def _keep(self, identity: Hashable, behaviour: Behaviour | None) -> None:
        self._known[identity] = behaviour
        self._known.move_to_end(identity)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)


def _hides(behaviour: Behaviour | None) -> bool:
    """Whether only trying the gate can tell what this server is: a QEMU with power control off shows neither sign."""
    if behaviour is None or behaviour.power_control or behaviour.pointer_change:
        return False
    return behaviour.qemu and behaviour.gated is None


def _ask_server(
    connect: Callable[[], _vnc.Way], gate: bool, seconds: float, known: Behaviour | None
) -> Behaviour | None:
    """Ask, in a thread; None when the server wants a password. Raises ConsoleError. `known`: what was asked already."""
    deadline = _vnc.Deadline(seconds)
    behaviour = known
    if behaviour is None:
        way = connect()
        hello, answers = _vnc.ask_server(way, deadline)
        if answers is None:
            types = ", ".join(_rfb.security_name(number) for number in hello.security_types)
            _log.warning(
                "%s lets nobody in without authentication (%s), so it can't be asked how it behaves, "
                "and is asked within each session.",
                way.name,
                types,
            )
            return None
        behaviour = Behaviour(answers.power_control, answers.pointer_change, _vnc.looks_like_qemu(hello, answers), None)
    if gate and _hides(behaviour):
        behaviour = behaviour._replace(gated=_vnc.ask_gate(connect(), deadline))
    return behaviour
