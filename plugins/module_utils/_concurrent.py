# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls that may never return, bounded: what hangs is left behind and delays nobody.

Private to this collection.

A call into libvirt or QEMU cannot be interrupted. Each runs in a daemon thread, so that one that hangs neither holds up
the others nor the end of the process.
"""

from __future__ import annotations

import queue
import threading
import time
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._errors import TookTooLong

_ABANDONED: list[threading.Thread] = []


def left_behind() -> bool:
    """Whether a call that was given up hangs still: then nothing that it may hold can be closed in good order."""
    return any(thread.is_alive() for thread in _ABANDONED)


def leave_behind(thread: threading.Thread) -> None:
    """Give a call up that hangs in a thread of the caller's."""
    _ABANDONED.append(thread)


T = t.TypeVar("T")
R = t.TypeVar("R")


class _Outcome(t.NamedTuple):
    place: int
    result: t.Any
    error: BaseException | None


def bounded(call: t.Callable[[], R], timeout: float, doing: str) -> R:
    """What `call` returns or raises; TookTooLong ("<doing> took longer than ...") after `timeout` seconds."""
    (outcome,) = bounded_map(lambda _item: call(), [doing], concurrency=1, timeout=timeout, doing=str)
    if isinstance(outcome, BaseException):
        raise outcome  # pylint: disable=raising-bad-type
    return outcome


def bounded_map(
    call: t.Callable[[T], R],
    items: t.Sequence[T],
    *,
    concurrency: int,
    timeout: float,
    doing: t.Callable[[T], str],
) -> list[R | BaseException]:
    """`call` of every item, `concurrency` at a time, in the items' order; what it raised stands in its place.

    Each call has `timeout` seconds from its own start; one that takes longer counts as TookTooLong, is left behind, and
    its place is given to the next.
    """
    outcomes: queue.Queue[_Outcome] = queue.Queue()
    results: list[R | BaseException | None] = [None] * len(items)
    waiting = list(range(len(items)))[::-1]
    running: dict[int, float] = {}
    threads: dict[int, threading.Thread] = {}

    def work(index: int) -> None:
        try:
            outcomes.put(_Outcome(index, call(items[index]), None))
        except BaseException as e:  # pylint: disable=broad-exception-caught
            outcomes.put(_Outcome(index, None, e))

    while waiting or running:
        while waiting and len(running) < concurrency:
            index = waiting.pop()
            running[index] = time.monotonic() + timeout
            threads[index] = threading.Thread(target=work, args=(index,), daemon=True)
            threads[index].start()
        first = min(running, key=running.__getitem__)
        try:
            outcome = outcomes.get(timeout=max(0.0, running[first] - time.monotonic()))
        except queue.Empty:
            del running[first]
            _ABANDONED.append(threads[first])
            results[first] = TookTooLong(f"{doing(items[first])} took longer than {timeout:g} s.")
            continue
        if running.pop(outcome.place, None) is not None:  # else it was given up before
            results[outcome.place] = outcome.error or outcome.result
    return t.cast("list[R | BaseException]", results)
