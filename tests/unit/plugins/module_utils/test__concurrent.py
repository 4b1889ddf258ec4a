# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bounded calls: order, errors, and what hangs."""

from __future__ import annotations

import threading

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._concurrent import bounded, bounded_map, left_behind
from ansible_collections.kvmops.console.plugins.module_utils._errors import TookTooLong


def test_results_come_in_the_items_order() -> None:
    later = threading.Event()

    def call(item: int) -> int:
        if item == 0:
            assert later.wait(20)
        else:
            later.set()
        return item * 10

    assert bounded_map(call, [0, 1, 2], concurrency=2, timeout=30, doing=str) == [0, 10, 20]


def test_an_error_stands_in_its_place_and_stops_nobody() -> None:
    def call(item: int) -> int:
        if item == 1:
            raise KeyError("one")
        return item

    first, second, third = bounded_map(call, [0, 1, 2], concurrency=1, timeout=30, doing=str)
    assert (first, third) == (0, 2)
    assert isinstance(second, KeyError)


def test_what_hangs_is_left_behind_and_its_place_given_to_the_next() -> None:
    release = threading.Event()

    def call(item: str) -> str:
        if item.startswith("hung"):
            release.wait(60)
        return item

    assert not left_behind()
    outcomes = bounded_map(
        call, ["hung-1", "a", "hung-2", "b"], concurrency=1, timeout=0.2, doing=lambda item: f"Asking {item}"
    )
    assert left_behind()
    release.set()
    assert outcomes[1::2] == ["a", "b"]
    assert [str(outcome) for outcome in outcomes[::2]] == [
        "Asking hung-1 took longer than 0.2 s.",
        "Asking hung-2 took longer than 0.2 s.",
    ]
    assert all(isinstance(outcome, TookTooLong) for outcome in outcomes[::2])


def test_no_more_than_concurrency_run_at_a_time() -> None:
    lock = threading.Lock()
    running = most = 0
    meeting = threading.Barrier(3)

    def call(_item: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        meeting.wait(20)
        with lock:
            running -= 1

    bounded_map(call, range(6), concurrency=3, timeout=30, doing=str)
    assert most == 3


def test_nothing_to_do() -> None:
    assert bounded_map(str, [], concurrency=4, timeout=1, doing=str) == []


def test_one_call() -> None:
    assert bounded(lambda: 7, 30, "Counting") == 7
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 // 0, 30, "Dividing")
    release = threading.Event()
    with pytest.raises(TookTooLong, match=r"^Waiting took longer than 0\.1 s\.$"):
        bounded(lambda: release.wait(60), 0.1, "Waiting")
    release.set()
