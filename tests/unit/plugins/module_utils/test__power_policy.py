# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy: rows with their exact outcome, every input against a second telling of the rules, and properties.

What is remembered and what is there is a small, finite space. So "after any sequence of runs" is no sample here: every
place that runs can lead to is visited.
"""

from __future__ import annotations

import functools
import itertools
import typing as t

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import Memory, Remembered, Setting
from ansible_collections.kvmops.console.plugins.module_utils._errors import EditConflict
from ansible_collections.kvmops.console.plugins.module_utils._power_policy import STATES, Decision, Policy, decide
from ansible_collections.kvmops.console.plugins.module_utils._verdict import (
    AFFECTED,
    FIXED,
    INCAPABLE,
    PROBE,
    UNKNOWN,
    Verdict,
)

SETTINGS: tuple[Setting, ...] = ("yes", "no", None)
VERDICTS = (AFFECTED, FIXED, INCAPABLE, UNKNOWN)
EXPLICIT: dict[str, Setting] = {"enabled": "yes", "disabled": "no", "absent": None}
POLICIES = [Policy(*parts) for parts in itertools.product(STATES, (False, True), (False, True))]
MEMORIES: list[Remembered | None] = [None, *itertools.starmap(Remembered, itertools.product(SETTINGS, repeat=3))]

Place = tuple[Setting, t.Optional[Remembered]]
"""What a definition with one VNC element says, and what it remembers."""


def told(verdict: str) -> t.Callable[[], Verdict]:
    return lambda: Verdict(verdict, PROBE, "asked")


def not_asked() -> Verdict:
    raise AssertionError("the QEMU was asked although the answer does not matter")


def one(policy: Policy, now: Setting, known: Remembered | None, qemu: t.Callable[[], Verdict]) -> Place:
    decision = decide(policy, [now], {} if known is None else {0: known}, qemu)
    assert set(decision.memory) <= {0}
    return decision.settings[0], decision.memory.get(0)


ON_AND_FIXED = "the owner wants it on, and the QEMU of the next start is fixed (asked)"
NOT_ASKED_FOR = "the owner does not ask for power control"
OFF = "the owner wants it off"
AS_IT_WAS = "it is as it was before this collection changed it"
NOTHING_TO_RESTORE = "there is nothing to restore"
OURS = Remembered("yes", "yes", "no")
"""What auto remembers where it turned off what the owner had on."""


@pytest.mark.parametrize(
    ("policy", "now", "known", "verdict", "after", "remembered", "reason"),
    [
        (Policy("auto"), "yes", None, FIXED, "yes", None, ON_AND_FIXED),
        (Policy("auto"), "yes", None, AFFECTED, "no", OURS, "the QEMU of the next start is affected (asked)"),
        (Policy("auto"), "yes", None, UNKNOWN, "no", OURS, "the QEMU of the next start is unknown (asked)"),
        (Policy("auto"), "yes", None, INCAPABLE, None, Remembered("yes", "yes", None),
         "the QEMU of the next start has no power control (asked)"),
        (Policy("auto", viewers_handle=True), "yes", None, AFFECTED, "yes", None,
         "the owner wants it on, and viewers handle what the affected QEMU sends"),
        (Policy("auto", viewers_handle=True), "yes", None, UNKNOWN, "yes", None,
         "the owner wants it on, and viewers handle what the unknown QEMU sends"),
        (Policy("auto", force=True), "yes", None, AFFECTED, "no", OURS,
         "the QEMU of the next start is affected (asked)"),
        (Policy("auto"), "no", None, AFFECTED, "no", None, OFF),
        (Policy("auto"), "no", None, FIXED, "no", None, OFF),
        (Policy("auto"), "no", None, INCAPABLE, None, Remembered("no", "no", None),
         "the QEMU of the next start has no power control (asked)"),
        (Policy("auto"), None, None, None, None, None, NOT_ASKED_FOR),
        # What auto took away comes back with a QEMU that behaves, and then nothing needs to be remembered.
        (Policy("auto"), "no", OURS, FIXED, "yes", None, ON_AND_FIXED),
        (Policy("auto"), "no", OURS, AFFECTED, "no", OURS, "the QEMU of the next start is affected (asked)"),
        (Policy("auto"), None, Remembered("yes", "yes", None), FIXED, "yes", None, ON_AND_FIXED),
        # Somebody edited it since: what is there now is what the owner wants.
        (Policy("auto"), None, OURS, None, None, None, NOT_ASKED_FOR),
        (Policy("auto"), "yes", OURS, AFFECTED, "no", OURS, "the QEMU of the next start is affected (asked)"),
        # The owner's last word counts, not what was there.
        (Policy("auto"), "no", Remembered("yes", "no", "no"), FIXED, "no", Remembered("yes", "no", "no"), OFF),
        (Policy("enabled"), "no", None, FIXED, "yes", Remembered("no", "yes", "yes"),
         "the play asks for it to be enabled"),
        (Policy("enabled"), "yes", None, FIXED, "yes", None, "the play asks for it to be enabled"),
        (Policy("enabled", force=True), None, None, AFFECTED, "yes", Remembered(None, "yes", "yes"),
         "the play asks for it to be enabled"),
        (Policy("enabled", viewers_handle=True), None, None, UNKNOWN, "yes", Remembered(None, "yes", "yes"),
         "the play asks for it to be enabled"),
        (Policy("disabled"), "yes", None, AFFECTED, "no", Remembered("yes", "no", "no"),
         "the play asks for it to be disabled"),
        (Policy("disabled"), "no", None, AFFECTED, "no", None, "the play asks for it to be disabled"),
        (Policy("absent"), "yes", None, None, None, Remembered("yes", None, None),
         "the play asks for it to be absent"),
        (Policy("absent"), None, None, None, None, None, "the play asks for it to be absent"),
        (Policy("restored"), "no", OURS, None, "yes", None, AS_IT_WAS),
        (Policy("restored"), "no", Remembered(None, "no", "no"), None, None, None, AS_IT_WAS),
        (Policy("restored"), "no", None, None, "no", None, NOTHING_TO_RESTORE),
        (Policy("restored"), "yes", OURS, None, "yes", None, NOTHING_TO_RESTORE),
    ],
)  # fmt: skip
def test_rows(
    policy: Policy,
    now: Setting,
    known: Remembered | None,
    verdict: str | None,
    after: Setting,
    remembered: Remembered | None,
    reason: str,
) -> None:
    qemu = not_asked if verdict is None else told(verdict)
    decision = decide(policy, [now], {} if known is None else {0: known}, qemu)
    assert decision == Decision((after,), {} if remembered is None else {0: remembered}, reason)


UNSAFE_REFUSED = (
    "The QEMU of the next start is {} (asked), so noVNC would lose its connection: upgrade QEMU, or set"
    " viewers_handle_pointer_change where noVNC is patched or proxied, or force."
)
INCAPABLE_REFUSED = (
    "The QEMU of the next start has no power control (asked), and libvirt then starts no domain that has the attribute:"
    " use state absent."
)


@pytest.mark.parametrize(
    ("policy", "verdict", "sentence"),
    [
        (Policy("enabled"), INCAPABLE, INCAPABLE_REFUSED),
        (Policy("enabled", viewers_handle=True, force=True), INCAPABLE, INCAPABLE_REFUSED),
        (Policy("disabled", force=True), INCAPABLE, INCAPABLE_REFUSED),
        *(
            (
                Policy("enabled"),
                verdict,
                UNSAFE_REFUSED.format(verdict),
            )
            for verdict in (AFFECTED, UNKNOWN)
        ),
    ],
)
def test_refusals(policy: Policy, verdict: str, sentence: str) -> None:
    with pytest.raises(EditConflict) as caught:
        decide(policy, [None], {}, told(verdict))
    assert str(caught.value) == sentence


def test_one_refused_element_refuses_the_domain() -> None:
    with pytest.raises(EditConflict):
        decide(Policy("enabled"), ["yes", "no"], {}, told(AFFECTED))


def expected(policy: Policy, now: Setting, known: Remembered | None, verdict: str) -> Place | None:
    """The rules told a second time, from the module's documentation. None: refused."""
    if known is not None and known.ours != now:
        known = None
    was = now if known is None else known.was
    if policy.state == "restored":
        return was, None
    if policy.state == "auto":
        wanted = now if known is None else known.wanted
        safe = verdict == FIXED or (verdict != INCAPABLE and policy.viewers_handle)
        ours = {"yes": "yes" if safe else None if verdict == INCAPABLE else "no",
                "no": None if verdict == INCAPABLE else "no"}.get(wanted or "absent")  # fmt: skip
    else:
        ours = wanted = EXPLICIT[policy.state]
        if wanted is not None and verdict == INCAPABLE:
            return None
        if wanted == "yes" and verdict in (AFFECTED, UNKNOWN) and not policy.viewers_handle | policy.force:
            return None
    return ours, None if was == wanted == ours else Remembered(was, wanted, ours)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: "-".join(map(str, policy)))
def test_every_input(policy: Policy) -> None:
    """5 states x viewers x force, over 3 settings x 28 memories (none, current, stale) x 4 verdicts."""
    for now, known, verdict in itertools.product(SETTINGS, MEMORIES, VERDICTS):
        place = expected(policy, now, known, verdict)
        if place is None:
            with pytest.raises(EditConflict):
                one(policy, now, known, told(verdict))
        else:
            assert one(policy, now, known, told(verdict)) == place, (policy, now, known, verdict)


# Properties, at every place that a sequence of runs can lead to


def runs(place: Place) -> t.Iterator[tuple[Policy, str, Place]]:
    """Every run that is possible at `place`, and where it leads; a refused one leads nowhere."""
    for policy, verdict in itertools.product(POLICIES, VERDICTS):
        try:
            yield policy, verdict, one(policy, *place, told(verdict))
        except EditConflict:
            yield policy, verdict, place


@functools.cache
def reachable(start: Setting) -> frozenset[Place]:
    """Where any sequence of runs can lead to, from a definition that says `start` and remembers nothing."""
    seen: set[Place] = {(start, None)}
    fresh = list(seen)
    while fresh:
        fresh = list({after for place in fresh for _policy, _verdict, after in runs(place)} - seen)
        seen.update(fresh)
    return frozenset(seen)


@pytest.fixture(scope="module", params=SETTINGS, ids=str)
def start(request: pytest.FixtureRequest) -> Setting:
    setting: Setting = request.param
    return setting


def test_much_is_reachable(start: Setting) -> None:
    assert {setting for setting, _known in reachable(start)} == set(SETTINGS)
    assert len(reachable(start)) >= 5


def test_restored_gives_back_the_original_and_leaves_no_trace(start: Setting) -> None:
    for place in reachable(start):
        assert one(Policy("restored"), *place, not_asked) == (start, None), place


def test_what_is_remembered_is_always_true(start: Setting) -> None:
    """It names the original, it is what we wrote, and it is only kept where the definition does not say it itself."""
    for now, known in reachable(start):
        if known is None:
            assert now == start
        else:
            assert (known.was, known.ours) == (start, now)
            assert known.wanted != now or now != start


def test_twice_is_once(start: Setting) -> None:
    for place in reachable(start):
        for policy, verdict, after in runs(place):
            if after != place:
                assert one(policy, *after, told(verdict)) == after, (place, policy, verdict)


def test_auto_is_never_on_where_it_is_unsafe(start: Setting) -> None:
    for place in reachable(start):
        for policy, verdict, (after, _known) in runs(place):
            if policy.state == "auto" and verdict != FIXED and not policy.viewers_handle:
                assert after != "yes", (place, policy, verdict)


def test_auto_leaves_no_attribute_to_a_qemu_that_knows_none(start: Setting) -> None:
    for place in reachable(start):
        for policy in POLICIES:
            if policy.state == "auto":
                assert one(policy, *place, told(INCAPABLE))[0] is None


def test_auto_gives_the_owner_what_the_owner_wants_once_qemu_is_fixed(start: Setting) -> None:
    for now, known in reachable(start):
        wanted = now if known is None else known.wanted
        assert one(Policy("auto"), now, known, told(FIXED))[0] == wanted


def test_auto_never_turns_on_what_nobody_asked_for(start: Setting) -> None:
    for place in reachable(start):
        for policy, _verdict, (after, known) in runs(place):
            if policy.state == "auto" and after == "yes":
                assert (known.wanted if known else start) == "yes"


def test_the_owners_wish_outlives_auto(start: Setting) -> None:
    """However often auto runs, on whatever QEMUs, the last explicit word (or what was there) is still known."""
    for now, known in reachable(start):
        wanted = now if known is None else known.wanted
        for policy, _verdict, (after, kept) in runs((now, known)):
            if policy.state == "auto":
                assert (after if kept is None else kept.wanted) == wanted


@pytest.mark.parametrize(("state", "setting"), EXPLICIT.items())
def test_an_explicit_state_is_obeyed_or_refused(start: Setting, state: str, setting: Setting) -> None:
    for place in reachable(start):
        assert one(Policy(state, force=True), *place, told(FIXED))[0] == setting


def test_a_stale_memory_is_as_good_as_none() -> None:
    for now, known, policy, verdict in itertools.product(SETTINGS, MEMORIES, POLICIES, VERDICTS):
        if known is not None and known.ours != now:
            try:
                fresh = one(policy, now, None, told(verdict))
            except EditConflict:
                continue
            assert one(policy, now, known, told(verdict)) == fresh


# Several elements


def test_each_element_has_its_own_memory() -> None:
    memory: Memory = {1: Remembered("yes", "yes", "no"), 2: Remembered("yes", "yes", "no"), 7: OURS}
    decision = decide(Policy("auto"), ["yes", "no", None, None], memory, told(AFFECTED))
    assert decision == Decision(
        ("no", "no", None, None),
        {0: OURS, 1: OURS},
        "the QEMU of the next start is affected (asked); the owner does not ask for power control",
    )


def test_memory_of_elements_that_are_gone_is_forgotten() -> None:
    assert decide(Policy("restored"), ["no"], {0: OURS, 1: OURS}, not_asked).memory == {}
    assert decide(Policy("auto"), [], {0: OURS}, not_asked) == Decision((), {}, "")


def test_a_reason_is_said_once() -> None:
    assert decide(Policy("absent"), ["yes", "no"], {}, not_asked).reason == "the play asks for it to be absent"
