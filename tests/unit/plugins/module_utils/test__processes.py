# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work that is dealt out to processes comes back whole and in order, and what goes wrong there is heard of here."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
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
    ("there", "words"), [(fail, "LookupError: lost"), (die, "ended without a word"), (leave, "SystemExit")]
)
def test_what_goes_wrong_there_is_raised_here(there: Any, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        deal_out(range(4), 2, work, there)


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
