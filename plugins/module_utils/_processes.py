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

MOST = 4
"""Processes. The machine's processors are for its guests."""


def how_many(items: int, a_process: int) -> int:
    """Of how many processes so many items are worth, when one with less than `a_process` of them is not."""
    return max(1, min(MOST, items // a_process, len(os.sched_getaffinity(0))))


def deal_out(
    items: t.Sequence[T],
    processes: int,
    here: t.Callable[[t.Sequence[T]], list[Json]],
    there: t.Callable[[t.Sequence[T]], list[Json]],
) -> list[Json]:
    """The results for all items, in their order: `here` has its share done by this process, `there` by a new one.

    Call it while there is one thread. A new process may use nothing that this one has open, and ends with its share.
    What goes wrong in one is raised here, as RuntimeError.
    """
    shares = [items[number::processes] for number in range(processes)]
    children = [_Child(share, there) for share in shares[1:]]
    try:
        results = [here(shares[0])]
    finally:
        # In any case: nobody else would see to it that they end.
        answers = [child.answer() for child in children]
    results += [_results(answer) for answer in answers]
    return [results[number % processes][number // processes] for number in range(len(items))]


class _Child:
    """A process that does a share and tells its results through a pipe."""

    def __init__(self, share: t.Sequence[T], work: t.Callable[[t.Sequence[T]], list[Json]]) -> None:
        reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(writer)
            self._reader = reader
            return
        try:
            os.close(reader)
            _tell(writer, _attempt(share, work))
        finally:
            # Nothing that the other process has open is to be closed in good order here, nor its output written twice.
            os._exit(0)

    def answer(self) -> bytes:
        """What it told, whole; waits for its end."""
        with os.fdopen(self._reader, "rb") as stream:
            answer = stream.read()
        os.waitpid(self._pid, 0)
        return answer


def _attempt(share: t.Sequence[T], work: t.Callable[[t.Sequence[T]], list[Json]]) -> Json:
    try:
        return {"results": work(share)}
    except BaseException:  # pylint: disable=broad-exception-caught
        return {"trace": traceback.format_exc()}


def _tell(writer: int, answer: Json) -> None:
    with os.fdopen(writer, "wb") as stream:
        stream.write(json.dumps(answer).encode())


def _results(answer: bytes) -> list[Json]:
    if not answer:
        raise RuntimeError("A process that was given a share of the work ended without a word: it was killed.")
    told = json.loads(answer)
    if "trace" in told:
        raise RuntimeError(f"A process that was given a share of the work failed.\n{told['trace']}")
    results: list[Json] = told["results"]
    return results
