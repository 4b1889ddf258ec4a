# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sessions are counted, those of the process before this one as well."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _seats
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._seats import END, Heir, Heritage, Seats

from .ends import run

DOMAIN = ("domain", "uuid")
PORT = ("tcp", "localhost", 5900)


def counted(seats: Seats) -> tuple[int, int, int, int]:
    return seats.all, seats.of_source("a"), seats.of_source("b"), seats.of_target(PORT)


class HandOver(NamedTuple):
    """Two processes: what the first counts, what the second does, and both ends of what is between them."""

    before: Seats
    heir: Heir
    after: Seats
    heritage: Heritage


@contextlib.asynccontextmanager
async def handed_over(before: Seats) -> AsyncIterator[HandOver]:
    ours, theirs = socket.socketpair()
    heir = Heir(ours)
    before.tell(heir.tell)
    heir.say(END)
    after = Seats()
    theirs.settimeout(60)
    said = await asyncio.get_running_loop().run_in_executor(None, _seats.read_until_end, theirs)
    heritage = Heritage(theirs, after, said)
    try:
        yield HandOver(before, heir, after, heritage)
    finally:
        heir.close()
        heritage.close()
        heritage.close()


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


def test_each_is_counted_in_every_way() -> None:
    seats = Seats()
    seats.take("a", PORT)
    seats.take("a", DOMAIN)
    seats.take("b", PORT)
    assert counted(seats) == (3, 2, 1, 2)
    seats.give_up("a", PORT)
    assert counted(seats) == (2, 1, 1, 1)
    seats.give_up("a", DOMAIN)
    seats.give_up("b", PORT)
    assert counted(seats) == (0, 0, 0, 0)
    assert not seats._taken, "no zeros are kept"


def test_the_next_process_counts_them_until_they_end() -> None:
    async def main() -> None:
        before = Seats()
        before.take("a", PORT)
        before.take("a", PORT)
        before.take("b", DOMAIN)
        async with handed_over(before) as h:
            assert counted(h.after) == (3, 2, 1, 2), "at once"
            h.after.take("b", PORT)
            before.take("b", PORT)  # A request that had come before
            before.give_up("a", PORT)
            await until(lambda: counted(h.after) == (4, 1, 3, 3))
            h.heir.close()
            await h.heritage.over.wait()
            assert counted(h.after) == (1, 0, 1, 1), "only its own are left"

    run(main())


def test_the_one_after_the_next_counts_them_too() -> None:
    async def main() -> None:
        first = Seats()
        first.take("a", PORT)
        async with handed_over(first) as h, handed_over(h.after) as later:
            assert counted(later.after) == (1, 1, 0, 1)
            first.give_up("a", PORT)
            await until(lambda: later.after.all == 0)

    run(main())


def test_more_than_a_socket_takes_at_once() -> None:
    async def main() -> None:
        before = Seats()
        for number in range(20000):
            before.take(f"192.0.2.{number}", PORT)
        async with handed_over(before) as h:
            assert h.after.all == 20000
            for number in range(20000):
                before.give_up(f"192.0.2.{number}", PORT)
            await until(lambda: h.after.all == 0)

    run(main())


def test_heir_that_has_gone_hears_nothing() -> None:
    async def main() -> None:
        before = Seats()
        async with handed_over(before) as h:
            h.heritage.close()
            before.take("a", PORT)
            before.take("a", PORT)
            assert h.heir._sock.fileno() == -1

    run(main())


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\n",
        b'[2, "a", []]\n',
        b'[1, "a"]\n',
        b'[1, "a", "tcp"]\n',
        b'[1, "a", [[]]]\n',
        b"{}\n",
        b"x" * 70000,
    ],
    ids=["no-json", "change", "short", "key", "nested", "object", "endless"],
)
def test_what_is_not_understood_counts_nothing(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours:
            seats = Seats()
            heritage = Heritage(theirs, seats, b'[1, "a", ["tcp"]]\n' + said)
            assert heritage.over.is_set()
            assert seats.all == 0

    run(main())
    assert "is not understood" in caplog.text


def test_process_that_says_nothing_of_its_sessions() -> None:
    """As one of a version before."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        assert _seats.read_until_end(theirs) == b""
