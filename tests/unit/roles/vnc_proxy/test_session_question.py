# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that was not asked before is asked while the client waits: elsewhere, or within the session."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Optional

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._question import QUESTION
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._session import Limits
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import Behaviour, Policy

from .ends import AFFECTED, FIXED, GREETING, HEIGHT, INIT, WIDTH, Running, run, running, shake_hands

NAME = b"QEMU (web1)"
QEMU_INIT = struct.pack("!HH", WIDTH, HEIGHT) + _rfb.TRUE_COLOUR + struct.pack("!I", len(NAME)) + NAME
UNASKED = bytes.fromhex("00000001 00000000 00400030 fffffeff")
ACKNOWLEDGED = bytes.fromhex("00000001 00000000 00400030 fffffefe")
BELL = b"\x02"
LISTED = _rfb.set_encodings(_rfb.RAW, _rfb.DESKTOP_SIZE, _rfb.XVP)
STRIPPED = _rfb.set_encodings(_rfb.RAW, _rfb.DESKTOP_SIZE)
KINDS = pytest.mark.parametrize("kind", ["ws", "wss", "tcp", "tls"])


@KINDS
def test_affected_server_is_healed(kind: str) -> None:
    async def main() -> None:
        async with running(kind, behaviour=None) as r:
            await shake_hands(r, QEMU_INIT)
            assert await r.server.hear(len(QUESTION)) == QUESTION
            await r.client.say(LISTED)  # Too early: it has to wait
            for byte in INIT + UNASKED + ACKNOWLEDGED:
                await r.server.say(bytes((byte,)))
            assert await r.server.hear(len(STRIPPED)) == STRIPPED
            await r.server.say(BELL)
            assert await r.client.hear(5) == INIT + BELL
            assert r.observer.seen == [("handshake", "done"), ("offer", "made")]

    run(main())


@KINDS
def test_fixed_server_hears_the_client_as_it_is(kind: str) -> None:
    async def main() -> None:
        async with running(kind, behaviour=None) as r:
            await shake_hands(r, QEMU_INIT)
            await r.client.say(LISTED)
            await r.server.say(INIT + ACKNOWLEDGED + BELL)
            assert await r.server.hear(len(QUESTION + LISTED)) == QUESTION + LISTED
            await r.server.say(INIT)
            assert await r.client.hear(5) == BELL + INIT

    run(main())


def test_policy_holds_for_what_was_found_out() -> None:
    async def main() -> None:
        async with running(behaviour=None, policy=Policy(power="deny")) as r:
            await shake_hands(r, QEMU_INIT)
            await r.server.say(INIT + ACKNOWLEDGED)
            await r.client.say(LISTED + _rfb.xvp(_rfb.XVP_RESET) + LISTED)
            assert await r.server.hear(len(QUESTION + STRIPPED * 2)) == QUESTION + STRIPPED * 2
            assert r.observer.seen == [("handshake", "done"), ("power", _rfb.XVP_RESET, False)]

    run(main())


def test_another_kind_of_server_is_not_asked() -> None:
    async def main() -> None:
        async with running(behaviour=None) as r:
            await shake_hands(r)
            await r.client.say(LISTED)
            assert await r.server.hear(len(LISTED)) == LISTED

    run(main())


def test_server_that_never_answers_ends_the_session() -> None:
    async def main() -> None:
        async with running(behaviour=None, limits=Limits(ping_seconds=None, handshake_seconds=0.5)) as r:
            await shake_hands(r, QEMU_INIT)
            assert await r.server.hear_all() == QUESTION
            await r.client.hear_all()
            assert (await r.task).reason == "too_long"

    run(main())


def test_answer_that_is_none_ends_the_session() -> None:
    async def main() -> None:
        async with running(behaviour=None) as r:
            await shake_hands(r, QEMU_INIT)
            await r.server.say(b"\x99")
            await r.client.hear_all()
            ending = await r.task
            assert ending.reason == "server_violation"
            assert "unknown type 153" in ending.detail

    run(main())


# --- Elsewhere --------------------------------------------------------------------------------------------------------


class Elsewhere:
    """Another connection to the server, whose answer the test gives."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer: asyncio.Future[Optional[Behaviour]] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> Optional[Behaviour]:
        self.asked.set()
        return await self.answer


async def choose(r: Running, types: bytes = b"\x01\x01", choice: bytes = b"\x01\x01") -> None:
    """Get as far as the client's choice of a security type, and of what it says too early behind it."""
    await r.server.say(GREETING)
    assert await r.client.hear(12) == GREETING
    await r.client.say(GREETING)
    assert await r.server.hear(12) == GREETING
    await r.server.say(types)
    assert await r.client.hear(len(types)) == types
    await r.client.say(choice)


@pytest.mark.parametrize(("behaviour", "heard"), [(AFFECTED, STRIPPED), (FIXED, LISTED)], ids=["affected", "fixed"])
@KINDS
def test_server_is_asked_elsewhere_once_the_client_is_as_good_as_in(
    kind: str, behaviour: Behaviour, heard: bytes
) -> None:
    """Until it has told, it hears no word of the client's choice; afterwards, all of what the client said, in order."""

    async def main() -> None:
        elsewhere = Elsewhere()
        async with running(kind, behaviour=None, ask=elsewhere) as r:
            await choose(r)
            await elsewhere.asked.wait()
            for _turn in range(5):
                await asyncio.sleep(0)
            with pytest.raises(BlockingIOError):
                r.server.sock.recv(1)
            elsewhere.answer.set_result(behaviour)
            assert await r.server.hear(1) == b"\x01"
            await r.server.say(bytes(4))
            assert await r.client.hear(4) == bytes(4)
            assert await r.server.hear(1) == b"\x01"
            await r.server.say(QEMU_INIT)
            assert await r.client.hear(len(QEMU_INIT)) == QEMU_INIT
            await r.client.say(LISTED)
            assert await r.server.hear(len(heard)) == heard
            assert r.observer.behaviours == [behaviour]

    run(main())


def test_server_that_does_not_tell_elsewhere_is_asked_within_the_session() -> None:
    async def main() -> None:
        elsewhere = Elsewhere()
        elsewhere.answer.set_result(None)
        async with running(behaviour=None, ask=elsewhere) as r:
            await shake_hands(r, QEMU_INIT)
            await r.client.say(LISTED)
            assert await r.server.hear(len(QUESTION)) == QUESTION
            await r.server.say(ACKNOWLEDGED)
            assert await r.server.hear(len(LISTED)) == LISTED
            assert r.observer.behaviours == [Behaviour(False, False, qemu=True, gated=None)]

    run(main())


def test_server_of_rfb_3_3_decides_by_itself() -> None:
    async def main() -> None:
        elsewhere = Elsewhere()
        async with running(behaviour=None, ask=elsewhere) as r:
            greeting = b"RFB 003.003\n"
            await r.server.say(greeting)
            assert await r.client.hear(12) == greeting
            await r.client.say(greeting)
            assert await r.server.hear(12) == greeting
            await r.server.say(b"\0\0\0\x01")
            assert await r.client.hear(4) == b"\0\0\0\x01"
            await r.client.say(b"\x01")
            await elsewhere.asked.wait()
            elsewhere.answer.set_result(AFFECTED)
            assert await r.server.hear(1) == b"\x01"
            await r.server.say(QEMU_INIT)
            await r.client.say(LISTED)
            assert await r.server.hear(len(STRIPPED)) == STRIPPED

    run(main())


@pytest.mark.parametrize(
    ("types", "choice", "then"),
    [(b"\x01\x02", b"\x02", b"\x02"), (b"\x01\x13", b"\x13", b"\x13")],
    ids=["password", "encrypted"],
)
def test_nobody_is_asked_where_that_would_not_lead_in(types: bytes, choice: bytes, then: bytes) -> None:
    async def main() -> None:
        elsewhere = Elsewhere()
        async with running(behaviour=None, ask=elsewhere) as r:
            await choose(r, types, choice)
            assert await r.server.hear(1) == then
            assert not elsewhere.asked.is_set()

    run(main())


def test_client_that_only_looks_whether_somebody_is_there_asks_nobody() -> None:
    async def main() -> None:
        elsewhere = Elsewhere()
        async with running("tcp", behaviour=None, ask=elsewhere) as r:
            await r.server.say(GREETING)
            assert await r.client.hear(12) == GREETING
            r.client.sock.close()
            assert (await r.task).reason == "client_closed"
            assert not elsewhere.asked.is_set()

    run(main())


def _server_goes(r: Running) -> None:
    r.server.sock.close()


def _drained(r: Running) -> None:
    r.session.end("drained")


def _cancelled(r: Running) -> None:
    r.task.cancel()


@pytest.mark.parametrize("ends", [_server_goes, _drained, _cancelled], ids=["server", "drained", "cancelled"])
def test_session_that_ends_while_its_server_is_asked(ends: Callable[[Running], None]) -> None:
    """Nobody waits for the answer any more, and one that comes all the same is of no use."""

    async def main() -> None:
        elsewhere = Elsewhere()
        async with running("tcp", behaviour=None, ask=elsewhere) as r:
            await choose(r)
            await elsewhere.asked.wait()
            ends(r)
            if ends is not _cancelled:
                r.client.sock.close()
            await asyncio.wait((r.task,))
            assert elsewhere.answer.cancelled()

    run(main())


def test_server_that_speaks_out_of_turn_is_not_gone_by_before_it_is_known() -> None:
    """It says all of its handshake at once; the client's first message waits for the answer."""

    async def main() -> None:
        elsewhere = Elsewhere()
        async with running(behaviour=None, ask=elsewhere) as r:
            await choose(r, choice=b"\x01\x01" + LISTED)
            await elsewhere.asked.wait()
            await r.server.say(bytes(4) + QEMU_INIT)
            assert await r.client.hear(4 + len(QEMU_INIT)) == bytes(4) + QEMU_INIT
            elsewhere.answer.set_result(AFFECTED)
            assert await r.server.hear(2 + len(STRIPPED)) == b"\x01\x01" + STRIPPED

    run(main())
