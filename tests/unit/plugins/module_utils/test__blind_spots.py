# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an audit had no right to see."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._blind_spots import find

SEEN = {"type": "vnc", "password": False, "tls": False}


@pytest.mark.parametrize(
    ("graphics", "verdict", "seen", "expected"),
    [
        pytest.param([SEEN], "fixed", {}, [], id="all seen"),
        pytest.param([], "unknown", {"process": False}, ["process"], id="no console"),
        pytest.param([{**SEEN, "type": "spice", "tls": None}], "fixed", {}, [], id="no VNC"),
        pytest.param([{**SEEN, "type": "spice", "password": None}], "fixed", {}, ["password"], id="SPICE's password"),
        pytest.param([SEEN, {**SEEN, "password": None}], "fixed", {}, ["password"], id="password"),
        pytest.param([{**SEEN, "tls": None}], "fixed", {}, ["vnc_settings"], id="qemu.conf"),
        pytest.param([SEEN], "fixed", {"process": False}, ["process"], id="asked instead"),
        pytest.param([SEEN], "unknown", {"process": False}, ["process", "running_qemu"], id="not asked either"),
        pytest.param([SEEN], "unknown", {}, [], id="seen, and not understood"),
        pytest.param([SEEN], None, {"saved_states": False}, ["saved_states"], id="off"),
    ],
)
def test_find(
    graphics: list[dict[str, t.Any]], verdict: str | None, seen: dict[str, bool], expected: list[str]
) -> None:
    running = None if verdict is None else {"verdict": verdict}
    record = {"graphics": graphics, "qemu": {"running": running}}
    assert find(record, **{"process": True, "saved_states": True, **seen}) == expected
