# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work that keeps a processor busy, dealt out to processes: Python's threads share one processor.

Private to this collection.
"""

from __future__ import annotations

import json
import os
import traceback
import typing as t

Json = dict[str, t.Any]
T = t.TypeVar("T")
Work = t.Callable[[t.Sequence[T]], t.Iterable[Json]]
"""Gives the results of items, in their order: one after the other, or all at the end."""
Lost = t.Callable[[T, bool], Json]
"""What stands for the result of an item whose process was killed; whether that may have been at the item by then."""

MOST = 4
"""Processes. The machine's processors are for its guests."""


def how_many(items: int, a_process: int, a_processor: int = 1) -> int:
    """Of how many processes so many items are worth, when one with less than `a_process` of them is not.

    `a_processor`: how many find room on one: more than one where each mostly waits for another program.
    """
    return max(1, min(MOST, items // a_process, a_processor * len(os.sched_getaffinity(0))))


def deal_out(
    items: t.Sequence[T],
    processes: int,
    here: Work[T],
    there: Work[T],
    lost: Lost[T] | None = None,
) -> list[Json]:
    """The results for all items, in their order: `here` has its share done by this process, `there` by a new one.

    Call it while there is one thread. A new process may use nothing that this one has open, and ends with its share, or
    behind the item that it is at when this process ends.

    What goes wrong in one is raised here, as RuntimeError; that it was killed, only where nobody says what is `lost`.
    """
    shares = [items[number::processes] for number in range(processes)]
    children: list[_Child[T]] = []
    try:
        children.extend(_Child(share, there) for share in shares[1:])
        results = [list(here(shares[0]))]
    finally:
        # In any case: nobody else would see to it that they end.
        told = [child.told() for child in children]
    results += [_results(share, lines, lost) for share, lines in zip(shares[1:], told)]
    return [results[number % processes][number // processes] for number in range(len(items))]


class _Child(t.Generic[T]):
    """A process that does a share, and tells each result at once, in a file in memory: a pipe would soon be full."""

    def __init__(self, share: t.Sequence[T], work: Work[T]) -> None:
        self._file = os.memfd_create("results")
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid:
            return
        try:
            _work(share, work, self._file, parent)
        finally:
            # Nothing that the other process has open is to be closed in good order here, nor its output written twice.
            os._exit(0)

    def told(self) -> list[Json]:
        """What it told until its end, which is waited for; without what it was in the midst of telling."""
        os.waitpid(self._pid, 0)
        with os.fdopen(self._file, "rb") as stream:
            stream.seek(0)
            return [json.loads(line) for line in stream if line.endswith(b"\n")]


def _work(share: t.Sequence[T], work: Work[T], file: int, parent: int) -> None:
    try:
        for result in work(share):
            _tell(file, {"result": result})
            if os.getppid() != parent:
                return
    except BaseException:  # pylint: disable=broad-exception-caught
        _tell(file, {"trace": traceback.format_exc()})


def _tell(file: int, told: Json) -> None:
    line = json.dumps(told).encode() + b"\n"
    while line:
        line = line[os.write(file, line) :]


def _results(share: t.Sequence[T], told: list[Json], lost: Lost[T] | None) -> list[Json]:
    if told and "trace" in told[-1]:
        raise RuntimeError(f"A process that was given a share of the work failed.\n{told[-1]['trace']}")
    results: list[Json] = [one["result"] for one in told]
    missing = share[len(results) :]
    if missing and lost is None:
        raise RuntimeError("A process that was given a share of the work ended before its time: it was killed.")
    return results + [lost(item, number == 0) for number, item in enumerate(missing) if lost]
