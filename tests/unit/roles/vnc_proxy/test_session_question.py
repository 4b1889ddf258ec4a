# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that nobody could ask before is asked within the session, over real sockets."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._question import QUESTION
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._session import Limits
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import Policy

from .ends import HEIGHT, INIT, WIDTH, run, running, shake_hands

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
