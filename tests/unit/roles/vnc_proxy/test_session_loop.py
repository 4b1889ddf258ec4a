# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The loop that serves sockets while it waits: nothing else that happens in it may wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _loop, _sockets

SECONDS = 60.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, theirs


def busy_wire(pair: tuple[socket.socket, socket.socket]) -> tuple[_sockets.Wire, list[int]]:
    """A wire that always has something to read: it never reads. The list counts its calls."""
    wire, calls = _sockets.wire(pair[0]), [0]

    def readable() -> None:
        calls[0] += 1

    wire.attach(asyncio.get_running_loop(), readable, readable)
    pair[1].send(b"x")
    wire.resume()
    return wire, calls


def test_wire_is_served_by_the_selector(pair: tuple[socket.socket, socket.socket]) -> None:
    async def main() -> None:
        wire, calls = busy_wire(pair)
        await asyncio.sleep(0.01)
        assert calls[0] > 0
        assert wire.number in _loop.direct_of(asyncio.get_running_loop()).readers  # type: ignore[union-attr]
        wire.pause()
        before = calls[0]
        await asyncio.sleep(0.01)
        assert calls[0] == before
        wire.close()
        assert not _loop.direct_of(asyncio.get_running_loop()).readers  # type: ignore[union-attr]

    _loop.run(asyncio.wait_for(main(), SECONDS))


def test_busy_socket_stops_neither_timers_nor_tasks_nor_threads(pair: tuple[socket.socket, socket.socket]) -> None:
    async def main() -> None:
        wire, calls = busy_wire(pair)
        loop = asyncio.get_running_loop()
        for _turn in range(3):
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            assert await loop.run_in_executor(None, lambda: 7) == 7
        came = asyncio.Event()
        threading.Thread(target=lambda: loop.call_soon_threadsafe(came.set)).start()
        await came.wait()
        reader, writer = socket.socketpair()
        with reader, writer:
            reader.setblocking(False)
            writer.send(b"other")
            assert await loop.sock_recv(reader, 10) == b"other"
        loop.add_signal_handler(signal.SIGUSR1, came.clear)
        os.kill(os.getpid(), signal.SIGUSR1)
        while came.is_set():
            await asyncio.sleep(0.001)
        loop.remove_signal_handler(signal.SIGUSR1)
        assert calls[0] > 0
        wire.close()

    _loop.run(asyncio.wait_for(main(), SECONDS))


@pytest.mark.parametrize("how", ["future", "soon", "later"])
def test_what_a_call_asks_for_is_done(pair: tuple[socket.socket, socket.socket], how: str) -> None:
    """Nothing but the call itself wakes the loop up: there is no timer, and the socket says nothing more."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        wire = _sockets.wire(pair[0])

        def readable() -> None:
            assert wire.read(10) == 1
            if how == "future":
                done.set_result(None)
            elif how == "soon":
                loop.call_soon(done.set_result, None)
            else:
                loop.call_later(0.001, done.set_result, None)

        wire.attach(loop, readable, readable)
        wire.resume()
        loop.call_soon(pair[1].send, b"x")
        await done
        wire.close()

    watchdog = threading.Timer(SECONDS, os._exit, (70,))
    watchdog.start()
    _loop.run(main())
    watchdog.cancel()


def test_socket_that_another_closes_in_the_same_round_is_not_called() -> None:
    async def main() -> None:
        pairs = [socket.socketpair() for _number in range(2)]
        wires = [_sockets.wire(ours) for ours, _theirs in pairs]
        called: list[int] = []

        def readable(number: int) -> None:
            called.append(number)
            for wire in wires:
                wire.close()

        for number, wire in enumerate(wires):
            wire.attach(asyncio.get_running_loop(), lambda number=number: readable(number), lambda: None)  # type: ignore[misc]
            pairs[number][1].send(b"x")
            wire.resume()
        await asyncio.sleep(0.01)
        assert len(called) == 1
        for _ours, theirs in pairs:
            theirs.close()

    _loop.run(asyncio.wait_for(main(), SECONDS))


def test_end_of_a_stream_goes_through_the_loop(pair: tuple[socket.socket, socket.socket]) -> None:
    async def main() -> None:
        came = asyncio.Event()
        wire = _sockets.wire(pair[0])
        wire.attach(asyncio.get_running_loop(), came.set, came.set)
        wire.resume()
        pair[1].close()
        await came.wait()
        assert wire.read(10) == 0
        wire.close()

    _loop.run(asyncio.wait_for(main(), SECONDS))


def test_selector_keeps_what_selectors_promise(pair: tuple[socket.socket, socket.socket]) -> None:
    with contextlib.closing(_loop.DirectSelector()) as selector:
        key = selector.register(pair[0], selectors.EVENT_READ, "data")
        assert key == selector.get_key(pair[0]) == selector.get_map()[pair[0].fileno()]
        with pytest.raises(KeyError):
            selector.register(pair[0].fileno(), selectors.EVENT_READ)
        assert selector.select(0) == []
        pair[1].send(b"x")
        assert selector.select(None) == [(key, selectors.EVENT_READ)]
        key = selector.modify(pair[0], selectors.EVENT_READ | selectors.EVENT_WRITE, "more")
        assert selector.select(1) == [(key, selectors.EVENT_READ | selectors.EVENT_WRITE)]
        key = selector.modify(pair[0], selectors.EVENT_WRITE)
        pair[1].close()
        assert selector.select(1) == [(key, selectors.EVENT_WRITE)]
        assert selector.unregister(pair[0]) == key
        assert selector.select(0.001) == []
        with pytest.raises(KeyError):
            selector.get_key(pair[0])


def test_run_leaves_nothing_running() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("task")

    async def main() -> str:
        task = asyncio.ensure_future(forever())
        await asyncio.sleep(0)
        return task.get_name()

    assert _loop.run(main())
    assert ended == ["task"]
    with pytest.raises(ZeroDivisionError):
        _loop.run(_fail())


async def _fail() -> None:
    raise ZeroDivisionError


def test_other_loops_have_no_short_way() -> None:
    async def main() -> None:
        assert _loop.direct_of(asyncio.get_running_loop()) is None

    asyncio.run(main())
