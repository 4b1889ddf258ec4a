# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers are asked how they behave: once for each process, for all who want to know."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb, _vnc
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _asking
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._asking import Asking
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import Behaviour
from ansible_collections.kvmops.console.tests.unit.roles.vnc_proxy.vnc_server import Nature, VncServer

SECONDS = 30.0

Told = list[Optional[Behaviour]]


def run(work: Callable[[Asking, Told], Awaitable[None]], *, seconds: float = SECONDS) -> None:
    """Run `work` with a new Asking and what it tells."""

    async def main() -> None:
        told: Told = []
        asking = Asking(seconds=seconds, told=told.append)
        try:
            await asyncio.wait_for(work(asking, told), 2 * SECONDS)
        finally:
            asking.close()

    asyncio.run(main())


def ask(server: VncServer, path: Path, power: str) -> Optional[Behaviour]:
    """What one question brings."""
    answers: Told = []

    async def work(asking: Asking, told: Told) -> None:
        answers.append(await asking.behaviour("it", lambda: _vnc.unix(str(path)), power))
        assert told == answers

    with server:
        run(work)
    assert set(server.shared) <= {1}, "a question drops no viewer"
    return answers[0]


@pytest.mark.parametrize("power", ["allow", "deny", "as_configured"])
@pytest.mark.parametrize(
    ("nature", "behaviour", "tried"),
    [
        (Nature(affected=True), Behaviour(True, True, True, None), None),
        (Nature(affected=False), Behaviour(True, False, True, None), None),
        (Nature(affected=True, power_control=False), Behaviour(False, False, True, None), False),
        (Nature(affected=False, power_control=False), Behaviour(False, False, True, None), True),
        (Nature(affected=False, power_control=False, name="x11"), Behaviour(False, False, False, None), None),
        (Nature(affected=False, power_control=False, acknowledges=False), Behaviour(False, False, False, None), None),
    ],
    ids=["affected", "fixed", "affected-off", "fixed-off", "other-name", "other-kind"],
)
def test_each_kind_of_server(
    tmp_path: Path, nature: Nature, behaviour: Behaviour, tried: Optional[bool], power: str
) -> None:
    """The gate is tried only where a power message would be offered, and nothing else can tell; with REBOOT alone."""
    server = VncServer.at_unix(str(tmp_path / "v"), nature)
    gate = power == "allow" and tried is not None
    assert ask(server, tmp_path / "v", power) == behaviour._replace(gated=tried if gate else None)
    assert server.connections == (2 if gate else 1)
    assert server.power == ([_rfb.XVP_REBOOT] if gate and not tried else [])


def test_server_that_wants_a_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is known that it can't be asked: told once, not asked again."""

    async def work(asking: Asking, told: Told) -> None:
        for _turn in range(3):
            assert await asking.behaviour("it", lambda: _vnc.unix(path), "allow") is None
        assert asking.knows("it", "allow")
        assert told == [None]

    path = str(tmp_path / "v")
    with caplog.at_level(logging.WARNING), VncServer.at_unix(path, Nature(password=True)) as server:
        run(work)
    assert server.connections == 1
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        f"{path} lets nobody in without authentication (2 (VNC authentication))"
    ]


def test_callers_at_the_same_time_share_one_question(tmp_path: Path) -> None:
    async def work(asking: Asking, told: Told) -> None:
        server.may_greet.clear()
        callers = [
            asyncio.ensure_future(asking.behaviour("it", lambda: _vnc.unix(path), "as_configured"))
            for _turn in range(9)
        ]
        await asyncio.get_running_loop().run_in_executor(None, server.connected.wait, SECONDS)
        late = asyncio.ensure_future(asking.behaviour("it", lambda: _vnc.unix(path), "deny"))
        await asyncio.sleep(0)
        server.may_greet.set()
        assert await asyncio.gather(*callers, late) == 10 * [Behaviour(True, True, True, None)]
        assert len(told) == 1

    path = str(tmp_path / "v")
    with VncServer.at_unix(path) as server:
        run(work)
    assert server.connections == 1


def test_caller_that_goes_away_takes_no_answer_from_the_others(tmp_path: Path) -> None:
    async def work(asking: Asking, _told: Told) -> None:
        server.may_greet.clear()
        first = asyncio.ensure_future(asking.behaviour("it", lambda: _vnc.unix(path), "deny"))
        second = asyncio.ensure_future(asking.behaviour("it", lambda: _vnc.unix(path), "deny"))
        await asyncio.get_running_loop().run_in_executor(None, server.connected.wait, SECONDS)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        server.may_greet.set()
        assert await second == Behaviour(True, True, True, None)

    path = str(tmp_path / "v")
    with VncServer.at_unix(path) as server:
        run(work)
    assert server.connections == 1


def test_answer_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    async def work(asking: Asking, _told: Told) -> None:
        for _turn in range(3):
            assert await asking.behaviour("it", lambda: _vnc.unix(path), "deny")
        assert server.connections == 1
        assert await asking.behaviour("another one", lambda: _vnc.unix(path), "deny")
        assert server.connections == 2
        asking.forget("it")
        assert not asking.knows("it", "deny")
        assert await asking.behaviour("it", lambda: _vnc.unix(path), "deny")
        assert server.connections == 3
        assert asking.knows("another one", "deny")

    path = str(tmp_path / "v")
    with VncServer.at_unix(path) as server:
        run(work)


def test_gate_is_tried_later_when_it_matters_later(tmp_path: Path) -> None:
    """What is known already is not asked a second time for it."""

    async def work(asking: Asking, _told: Told) -> None:
        off = Behaviour(False, False, True, None)
        assert await asking.behaviour("it", lambda: _vnc.unix(path), "as_configured") == off
        assert not server.power
        assert not asking.knows("it", "allow")
        assert await asking.behaviour("it", lambda: _vnc.unix(path), "allow") == off._replace(gated=False)
        assert server.connections == 2
        assert asking.knows("it", "allow")
        assert await asking.behaviour("it", lambda: _vnc.unix(path), "deny") == off._replace(gated=False)
        assert server.connections == 2

    path = str(tmp_path / "v")
    with VncServer.at_unix(path, Nature(power_control=False)) as server:
        run(work)


def test_answer_of_a_server_that_was_forgotten_meanwhile_is_not_kept(tmp_path: Path) -> None:
    async def work(asking: Asking, _told: Told) -> None:
        server.may_greet.clear()
        early = asyncio.ensure_future(asking.behaviour("it", lambda: _vnc.unix(path), "deny"))
        await asyncio.get_running_loop().run_in_executor(None, server.connected.wait, SECONDS)
        asking.forget("it")
        late = asyncio.ensure_future(asking.behaviour("it", lambda: _vnc.unix(path), "deny"))
        server.may_greet.set()
        await early
        await late
        assert server.connections == 2, "the late one asks anew"
        asking.forget("it")
        server.may_greet.clear()
        server.connected.clear()
        alone = asyncio.ensure_future(asking.behaviour("it", lambda: _vnc.unix(path), "deny"))
        await asyncio.get_running_loop().run_in_executor(None, server.connected.wait, SECONDS)
        asking.forget("it")
        server.may_greet.set()
        assert await alone, "whoever asked is told"
        assert not asking.knows("it", "deny")

    path = str(tmp_path / "v")
    with VncServer.at_unix(path) as server:
        run(work)


def test_server_that_never_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The question ends; since it may have been a moment's trouble, the next caller asks again."""

    async def work(asking: Asking, told: Told) -> None:
        for _turn in range(2):
            assert await asking.behaviour("it", lambda: _vnc.unix(path), "allow") is None
            assert not asking.knows("it", "allow")
        assert told == [None, None]

    path = str(tmp_path / "v")
    with caplog.at_level(logging.WARNING), VncServer.at_unix(path, Nature(silent=True)) as server:
        run(work, seconds=0.1)
    assert server.connections == 2
    assert "did not answer within 0.1 seconds" in caplog.text


@pytest.mark.parametrize("failure", [ConnectionRefusedError(), RuntimeError("a bug")], ids=["refused", "bug"])
def test_failure_is_an_answer(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A question never costs anybody the session."""

    def broken(_seconds: float) -> Any:
        raise failure

    async def work(asking: Asking, told: Told) -> None:
        assert await asking.behaviour("it", lambda: _vnc.Way("a server", broken), "allow") is None
        assert not asking.knows("it", "allow")
        assert told == [None]

    run(work)
    assert "asked within the session" in caplog.text


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_asking, "MOST_KNOWN", 2)

    async def work(asking: Asking, _told: Told) -> None:
        for identity in ("a", "b", "a", "c"):
            await asking.behaviour(identity, lambda: _vnc.unix(path), "deny")
        assert [asking.knows(identity, "deny") for identity in "abc"] == [True, False, True]

    path = str(tmp_path / "v")
    with VncServer.at_unix(path):
        run(work)


def test_nothing_is_left_open(tmp_path: Path) -> None:
    """Every end of a question closes its connection: the server sees it."""
    ended = threading.Event()
    ours, theirs = socket.socketpair()

    def watch() -> None:
        with theirs:
            theirs.settimeout(SECONDS)
            if theirs.recv(1) == b"":
                ended.set()

    async def work(asking: Asking, _told: Told) -> None:
        assert await asking.behaviour("it", lambda: _vnc.handed_out(ours), "deny") is None

    watcher = threading.Thread(target=watch)
    watcher.start()
    run(work, seconds=0.1)
    watcher.join(SECONDS)
    assert ended.is_set()


def test_nobody_is_asked_any_more_after_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def work(asking: Asking, told: Told) -> None:
        asking.close()
        for _turn in range(2):
            assert await asking.behaviour("it", lambda: _vnc.unix("/nowhere"), "deny") is None
        assert told == [None, None]

    run(work)
    assert "asked within the session" in caplog.text


def test_answer_that_comes_after_the_end_of_the_loop_is_for_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that ends, or hands over, waits for no server."""
    running: list[threading.Thread] = []

    async def work(asking: Asking, _told: Told) -> None:
        server.may_greet.clear()
        waiting = asyncio.ensure_future(asking.behaviour("it", lambda: _vnc.unix(path), "deny"))
        await asyncio.get_running_loop().run_in_executor(None, server.connected.wait, SECONDS)
        running.extend(asking._threads._threads)
        waiting.cancel()

    path = str(tmp_path / "v")
    with caplog.at_level(logging.WARNING), VncServer.at_unix(path) as server:
        run(work)
        server.may_greet.set()
        for thread in running:
            thread.join(SECONDS)
    assert running
    assert not caplog.records
