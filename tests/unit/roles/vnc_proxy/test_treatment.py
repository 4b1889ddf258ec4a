# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done to a session: one row for each kind of server and each policy."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import (
    Behaviour,
    Policy,
    decide,
)

AFFECTED_ON = Behaviour(power_control=True, pointer_change=True, qemu=True, gated=None)
AFFECTED_OFF = Behaviour(power_control=False, pointer_change=False, qemu=True, gated=False)
FIXED_ON = Behaviour(power_control=True, pointer_change=False, qemu=True, gated=None)
FIXED_OFF = Behaviour(power_control=False, pointer_change=False, qemu=True, gated=True)
OFF_NOT_ASKED = Behaviour(power_control=False, pointer_change=False, qemu=True, gated=None)
ANOTHER = Behaviour(power_control=False, pointer_change=False, qemu=False, gated=None)
ANOTHER_ON = Behaviour(power_control=True, pointer_change=False, qemu=False, gated=None)
ANOTHER_SENDS = Behaviour(power_control=True, pointer_change=True, qemu=False, gated=None)

# strip_xvp, offer, power
UNTOUCHED = (False, False, "pass")
HEALED = (True, True, "negotiated")
SILENCED = (True, False, "drop")
UNHEARD = (False, False, "drop")

ROWS = [
    (AFFECTED_ON, "allow", HEALED),
    (AFFECTED_ON, "as_configured", HEALED),
    (AFFECTED_ON, "deny", SILENCED),
    (AFFECTED_ON._replace(gated=False), "as_configured", HEALED),
    (AFFECTED_OFF, "allow", HEALED),
    (AFFECTED_OFF, "as_configured", SILENCED),
    (AFFECTED_OFF, "deny", SILENCED),
    (FIXED_ON, "allow", UNTOUCHED),
    (FIXED_ON, "as_configured", UNTOUCHED),
    (FIXED_ON, "deny", SILENCED),
    (FIXED_ON._replace(gated=True), "as_configured", UNTOUCHED),
    (OFF_NOT_ASKED, "allow", UNHEARD),
    (OFF_NOT_ASKED, "as_configured", UNHEARD),
    (OFF_NOT_ASKED, "deny", UNHEARD),
    (FIXED_OFF, "allow", UNTOUCHED),
    (FIXED_OFF, "as_configured", UNTOUCHED),
    (FIXED_OFF, "deny", UNHEARD),
    (ANOTHER, "allow", UNTOUCHED),
    (ANOTHER, "as_configured", UNTOUCHED),
    (ANOTHER, "deny", SILENCED),
    (ANOTHER_ON, "as_configured", UNTOUCHED),
    (ANOTHER_ON, "deny", SILENCED),
    (ANOTHER_SENDS, "as_configured", HEALED),
    (None, "allow", SILENCED),
    (None, "as_configured", SILENCED),
    (None, "deny", SILENCED),
]


@pytest.mark.parametrize(("behaviour", "power", "expected"), ROWS)
def test_every_kind_of_server(behaviour: Behaviour | None, power: str, expected: tuple[bool, bool, str]) -> None:
    treatment = decide(behaviour, Policy(power=power))
    assert (treatment.strip_xvp, treatment.offer, treatment.power) == expected
    assert not treatment.view_only
    assert treatment.must_parse == (expected[2] == "drop")
    assert treatment.strip_extended_mouse == (expected != UNTOUCHED)
    assert treatment.unknown_message == ("end" if treatment.must_parse else "relay")


@pytest.mark.parametrize("power", ["allow", "as_configured", "deny"])
@pytest.mark.parametrize(
    "behaviour", [AFFECTED_ON, AFFECTED_OFF, FIXED_ON, FIXED_OFF, OFF_NOT_ASKED, ANOTHER, ANOTHER_ON, None]
)
def test_a_viewer_who_may_only_look_gets_no_power(behaviour: Behaviour | None, power: str) -> None:
    treatment = decide(behaviour, Policy(power=power, view_only=True))
    denied = decide(behaviour, Policy(power="deny"))
    assert treatment == denied._replace(view_only=True)
    assert treatment.must_parse
    assert treatment._replace(power="pass").must_parse


@pytest.mark.parametrize("behaviour", [FIXED_ON, FIXED_OFF])
@pytest.mark.parametrize("power", ["allow", "as_configured"])
def test_nothing_of_a_fixed_server_is_touched(behaviour: Behaviour, power: str) -> None:
    treatment = decide(behaviour, Policy(power=power))
    assert treatment == (False, False, "pass", False, "relay", 1 << 20, False)
    assert treatment.must_parse is False


def test_the_rest_of_the_policy_goes_along() -> None:
    policy = Policy(unknown_message="end", most_cut_text=4096)
    assert decide(FIXED_ON, policy)[4:6] == ("end", 4096)
    assert decide(None, policy)[4:6] == ("end", 4096)
    assert Policy().most_cut_text == 1 << 20


@pytest.mark.parametrize(
    ("policy", "refuses"),
    [
        (Policy(), False),
        (Policy(power="allow"), False),
        (Policy(opaque_security="refuse"), True),
        (Policy(power="deny"), True),
        (Policy(view_only=True), True),
    ],
)
def test_what_cannot_be_seen_cannot_be_denied(policy: Policy, refuses: bool) -> None:
    assert policy.refuses_opaque is refuses
