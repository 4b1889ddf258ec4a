# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking within a session, byte for byte, as QEMUs answer (QEMU: ui/vnc.c, set_encodings)."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncProtocolError
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._question import Question
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import Behaviour

INIT = bytes.fromhex("fa000101")
UNASKED = bytes.fromhex("00000001 00000000 028001e0 fffffeff")
ACKNOWLEDGED = bytes.fromhex("00000001 00000000 028001e0 fffffefe")
BELL = b"\x02"
CUT_TEXT = bytes.fromhex("03000000 00000003") + b"abc"


def question(name: str = "QEMU (guest)") -> Question:
    return Question(_rfb.ServerInit(640, 480, _rfb.TRUE_COLOUR, name))


ANSWERS = pytest.mark.parametrize(
    ("answer", "behaviour"),
    [
        (INIT + UNASKED + ACKNOWLEDGED, Behaviour(True, True, True, None)),
        (INIT + ACKNOWLEDGED, Behaviour(True, False, True, None)),
        (ACKNOWLEDGED, Behaviour(False, False, True, None)),
    ],
    ids=["affected", "fixed", "off"],
)


@ANSWERS
def test_answer_is_understood_and_kept_from_the_client(answer: bytes, behaviour: Behaviour) -> None:
    asked = question()
    assert asked.to_server() == bytes.fromhex("02000001 fffffecb 02000001 fffffefe")
    assert asked.hear(answer) == b""
    assert asked.behaviour == behaviour


@ANSWERS
def test_wherever_it_is_cut(answer: bytes, behaviour: Behaviour) -> None:
    said = CUT_TEXT + answer + BELL
    for cut in range(len(said) + 1):
        asked = question()
        first = asked.hear(said[:cut])
        # Once the answer is there, what follows is nobody's but the client's.
        second = said[cut:] if asked.behaviour else asked.hear(said[cut:])
        assert first + second == CUT_TEXT + BELL, cut
        assert asked.behaviour == behaviour


def test_beginning_of_what_follows_is_not_lost() -> None:
    asked = question()
    assert asked.hear(ACKNOWLEDGED + CUT_TEXT[:5]) == CUT_TEXT[:5]


def test_another_kind_of_server_is_not_asked() -> None:
    asked = question("TigerVNC")
    assert asked.to_server() == b""
    assert asked.behaviour == Behaviour(False, False, False, None)


def test_pixels_that_nobody_asked_for() -> None:
    with pytest.raises(VncProtocolError, match=r"0 \(Raw\), which was not asked for"):
        question().hear(bytes.fromhex("00000001 00000000 00010001 00000000 01020304"))
