# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work that is dealt out to processes comes back whole and in order, and what goes wrong there is heard of here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._processes import deal_out, how_many

Json = dict[str, Any]


def work(items: Sequence[int]) -> list[Json]:
    return [{"item": item, "pid": os.getpid(), "text": "ä" * item} for item in items]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 4, 11])
def test_results_are_in_the_order_of_the_items(processes: int, count: int) -> None:
    before = descriptors()
    results = deal_out(range(count), processes, work, work)
    assert [result["item"] for result in results] == list(range(count))
    assert len({result["pid"] for result in results}) == min(processes, count)
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_results_larger_than_a_pipe_holds() -> None:
    results = deal_out(range(3), 3, work, lambda items: [{"text": "x" * 1000000} for _item in items])
    assert [len(result["text"]) for result in results] == [0, 1000000, 1000000]


def fail(_items: Sequence[int]) -> list[Json]:
    raise LookupError("lost")


def die(_items: Sequence[int]) -> list[Json]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def leave(_items: Sequence[int]) -> list[Json]:
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("there", "words"), [(fail, "LookupError: lost"), (die, "ended before its time"), (leave, "SystemExit")]
)
def test_what_goes_wrong_there_is_raised_here(there: Any, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        deal_out(range(4), 2, work, there)


def die_at_5(items: Sequence[int]) -> Iterator[Json]:
    for item in items:
        if item == 5:
            die(items)
        yield {"item": item}


def test_what_was_told_before_a_process_was_killed_is_kept() -> None:
    results = deal_out(range(10), 2, die_at_5, die_at_5, lambda item, begun: {"lost": item, "begun": begun})
    there = [{"item": 1}, {"item": 3}, *({"lost": item, "begun": item == 5} for item in (5, 7, 9))]
    assert results == [result for pair in zip(({"item": item} for item in range(0, 10, 2)), there) for result in pair]


def cut_off(items: Sequence[int]) -> Iterator[Json]:
    """Told of the first item; killed in the midst of telling of the second."""
    yield {"item": items[0]}
    write = os.write

    def half(file: int, line: bytes) -> int:
        write(file, line[: len(line) // 2])
        die(items)
        return 0

    os.write = half  # type: ignore[assignment]  # in its own process
    yield {"item": items[1]}


def test_what_was_being_told_when_a_process_was_killed_is_lost() -> None:
    results = deal_out(range(4), 2, work, cut_off, lambda item, begun: {"lost": item, "begun": begun})
    assert (results[1], results[3]) == ({"item": 1}, {"lost": 3, "begun": True})


def test_what_goes_wrong_otherwise_is_raised_even_where_losses_are_told() -> None:
    with pytest.raises(RuntimeError, match="LookupError: lost"):
        deal_out(range(4), 2, work, fail, lambda item, begun: {})


def test_no_process_goes_on_when_this_one_has_ended() -> None:
    """This one starts a second, that one a third, and is killed while the third is at its first item."""
    from_third, to_test = os.pipe()
    from_test, to_third = os.pipe()

    def third(items: Sequence[int]) -> Iterator[Json]:
        for item in items:
            os.write(to_test, bytes([item]))
            os.read(from_test, 1)
            yield {}

    def second(_items: Sequence[int]) -> list[Json]:
        return deal_out(range(8), 2, die, third)

    with pytest.raises(RuntimeError, match="ended before its time"):
        deal_out(range(2), 2, work, second)
    os.close(to_test)
    os.write(to_third, b"go on")
    with os.fdopen(from_third, "rb") as told:
        assert told.read() == bytes([1])  # until the third has ended, too
    os.close(from_test)
    os.close(to_third)


def test_what_goes_wrong_here_leaves_nobody_behind() -> None:
    with pytest.raises(LookupError):
        deal_out(range(4), 3, fail, work)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("items", "processors", "expected"), [(0, 8, 1), (7, 8, 1), (15, 8, 1), (16, 8, 2), (16, 1, 1), (1000, 64, 4)]
)
def test_how_many(items: int, processors: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(processors)))
    assert how_many(items, 8) == expected


def test_how_many_that_mostly_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert [how_many(100, 8, a_processor) for a_processor in (1, 2, 9)] == [1, 2, 4]
