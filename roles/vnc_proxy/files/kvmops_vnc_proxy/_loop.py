# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An event loop that serves the sockets of sessions while it waits: half of what a small chunk costs is asyncio's.

Private to this collection.

asyncio turns each readiness into a key, a handle, a place in a queue, and a call in a context; then it looks at its
timers. A session's socket needs none of that. So the selector, which is where the loop waits, calls whoever is in
`readers` or `writers` by itself, and goes on waiting. It returns to the loop for every other descriptor, when the time
it was given is over, and when a call has given the loop something to do.

The sockets are registered with the loop as well (`add_reader`), so everything works, if slower, on any other loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import select
import selectors
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Callable, TypeVar

T = TypeVar("T")


class DirectSelector(selectors.BaseSelector):
    """epoll, as asyncio wants it, with a short way for some descriptors.

    `readers` and `writers` name whom to call, by descriptor, instead of telling the loop. Set `turn` when the loop has
    got something to do.
    """

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}
        self.writers: dict[int, Callable[[], None]] = {}
        self.turn = False
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As every selector."""
        number = _number(fileobj)
        if number in self._keys:
            raise KeyError(f"{fileobj!r} is registered already")
        self._epoll.register(number, _mask(events))
        key = self._keys[number] = selectors.SelectorKey(fileobj, number, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As every selector."""
        number = _number(fileobj)
        key = self._keys.pop(number)
        with contextlib.suppress(OSError):  # It may be closed already
            self._epoll.unregister(number)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As every selector."""
        number = _number(fileobj)
        before = self._keys[number]
        if events != before.events:
            self._epoll.modify(number, _mask(events))
        key = self._keys[number] = selectors.SelectorKey(before.fileobj, number, events, data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As every selector; what goes the short way is done before this returns, and not told."""
        end = None if timeout is None else time.monotonic() + timeout
        wait = -1 if timeout is None or timeout < 0 else timeout
        poll, readers, writers = self._epoll.poll, self.readers, self.writers
        self.turn = False
        told: list[tuple[selectors.SelectorKey, int]] = []
        while True:
            for number, event in poll(wait):
                call = (readers if event == select.EPOLLIN else writers).get(number) if event in _PLAIN else None
                if call is not None:
                    call()
                else:
                    self._tell(number, event, told)
            if told or self.turn:
                return told
            if end is not None:
                wait = end - time.monotonic()
                if wait <= 0:
                    return told

    def _tell(self, number: int, event: int, told: list[tuple[selectors.SelectorKey, int]]) -> None:
        key = self._keys.get(number)
        if key is None:  # Closed by a call before, in the same round
            return
        events = 0
        if event & ~select.EPOLLIN:
            events |= selectors.EVENT_WRITE
        if event & ~select.EPOLLOUT:
            events |= selectors.EVENT_READ
        if events & key.events:
            told.append((key, events & key.events))

    def close(self) -> None:
        """As every selector."""
        self._epoll.close()
        self._keys.clear()
        self.readers.clear()
        self.writers.clear()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """As every selector."""
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """As every selector."""
        return self._keys[_number(fileobj)]


_PLAIN = (select.EPOLLIN, select.EPOLLOUT)
"""Readiness and nothing else. Errors and ends go through the loop."""


def _number(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())


def _mask(events: int) -> int:
    read = select.EPOLLIN if events & selectors.EVENT_READ else 0
    return read | (select.EPOLLOUT if events & selectors.EVENT_WRITE else 0)


class DirectLoop(asyncio.SelectorEventLoop):
    """asyncio's loop on such a selector."""

    def __init__(self) -> None:
        self.direct = DirectSelector()
        super().__init__(self.direct)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As every loop; what is called while the selector waits ends its waiting."""
        self.direct.turn = True
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """As every loop; what is called while the selector waits may shorten its waiting."""
        self.direct.turn = True
        return super().call_at(when, callback, *args, context=context)


def direct_of(loop: asyncio.AbstractEventLoop) -> DirectSelector | None:
    """Return the short way of a loop, if it has one."""
    return loop.direct if isinstance(loop, DirectLoop) else None


def run(main: Coroutine[Any, Any, T]) -> T:
    """Do what asyncio.run does, on such a loop (which asyncio.run takes from Python 3.12 on only)."""
    loop = DirectLoop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    if not tasks:  # Of none, gather would look for a loop that runs (and say so, in Python 3.10)
        return
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
