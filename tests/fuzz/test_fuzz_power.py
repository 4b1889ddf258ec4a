# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of power actions, under any machine, any answers, any events, at any time. The same ones in every run."""

from __future__ import annotations

import typing as t

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.console.plugins.module_utils import _power as pw
from ansible_collections.kvmops.console.plugins.module_utils._power import Done, Look, Method, Observation, Power, Wait

bounded = settings(
    derandomize=True, database=None, deadline=None, max_examples=600, suppress_health_check=[HealthCheck.too_slow]
)

SECONDS = st.sampled_from([1.0, 5.0, 20.0])
METHODS = st.lists(
    st.builds(Method, st.sampled_from(["agent", "acpi"]), SECONDS, st.sampled_from([None, 0.5, 3.0])), max_size=3
)
OBSERVATION = st.builds(
    Observation,
    st.sampled_from([pw.ON, pw.ON, pw.STOPPING, pw.PAUSED, pw.SUSPENDED, pw.CRASHED, pw.OFF, pw.UNKNOWN]),
    st.sampled_from([None, "1", "1", "1", "2"]),
    st.sampled_from([None, "a", "b"]),
    st.booleans(),
)
HAPPENING = st.sampled_from(["event", "reboot", "gap", "answer", "refusal", "time"])
TINY = 1e-6


class World:
    """Whatever Hypothesis makes of it; checks what it is asked for."""

    def __init__(self, draw: t.Any, force: str) -> None:
        self.draw = draw
        self.force = force
        self.now = 100.0
        self.sights: list[Observation] = []
        self.fresh = False
        self.pending: list[pw.Request] = []
        self.answered: set[int] = set()
        self.rebooted = False
        self.forces = 0

    def look(self, power: Power) -> None:
        sight = self.draw(OBSERVATION)
        power.observed(self.now, sight)
        self.sights.append(sight)
        self.fresh = True

    def request(self, request: pw.Request) -> None:
        assert self.fresh, "a request without a fresh look"
        assert self.sights[-1].power != pw.UNKNOWN
        self.fresh = False
        self.pending.append(request)
        if request.method == pw.FORCE:
            self.forces += 1
            assert self.force != pw.NEVER
            assert self.forces == 1
            assert self.sights[-1].power != pw.OFF
            known = [sight for sight in self.sights if sight.power != pw.UNKNOWN]
            assert known[-1].process in (None, known[0].process) or known[0].process is None

    def pass_time(self, power: Power, until: float, busy: bool) -> None:
        assert until >= self.now
        self.fresh = False
        happening = self.draw(HAPPENING) if busy else "end"
        if happening == "end":
            self.now = until
            return
        self.now = min(until, self.now + self.draw(st.sampled_from([0.0, 0.1, 1.0, 7.0])))
        if happening in ("answer", "refusal") and self.pending:
            request = self.pending.pop(0)
            power.answered(self.now, request, None if happening == "answer" else "no.")
            if happening == "answer":
                self.answered.add(request.number)
        if happening in ("event", "reboot", "gap"):
            power.event(self.now, {"event": pw.CHANGED, "reboot": pw.REBOOTED, "gap": pw.GAP}[happening])
            self.rebooted = self.rebooted or happening == "reboot"


def run(data: t.Any, power: Power, world: World) -> Done:
    begin = world.now
    happenings = data.draw(st.integers(0, 25))
    while True:
        action = power.next(world.now)
        assert world.now <= begin + power.patience + TINY, "it goes on for ever"
        if isinstance(action, Done):
            return action
        if isinstance(action, Look):
            world.look(power)
        elif isinstance(action, Wait):
            world.pass_time(power, action.until, happenings > 0)
            happenings -= 1
        else:
            world.request(action)


def reached(state: str, world: World) -> bool:
    last = next(sight for sight in reversed(world.sights) if sight.power != pw.UNKNOWN)
    first = next(sight for sight in world.sights if sight.power != pw.UNKNOWN)
    if state in (pw.POWER_CYCLED, pw.PENDING_APPLIED):
        other = None not in (first.process, last.process) and first.process != last.process
        off = any(sight.power == pw.OFF for sight in world.sights)
        same = last.process is not None and first.process == last.process
        return last.power == pw.ON and (other or off) and not same
    if state in (pw.REBOOTED_STATE, pw.RESET_STATE):
        return last.power != pw.OFF and (world.rebooted or last.boot != first.boot)
    return {
        pw.STARTED: last.power == pw.ON,
        pw.STOPPED: last.power == pw.OFF,
        pw.PAUSED_STATE: last.power == pw.PAUSED,
        pw.RESUMED: last.power == pw.ON,
        pw.SAVED: last.power == pw.OFF and last.saved,
        pw.NMI_SENT: bool(world.answered),
    }[state]


@bounded
@given(st.data(), st.sampled_from(pw.STATES), METHODS, st.sampled_from(pw.FORCES), st.booleans())
def test_rules_hold_in_any_world(data: t.Any, state: str, methods: list[Method], force: str, deaf: bool) -> None:
    unusable = {"agent": "there is no channel"} if deaf else {}
    power = Power(state, methods, force, unusable=unusable, timeout=10.0, start_timeout=8.0, grace=4.0)
    world = World(data.draw, force)
    done = run(data, power, world)
    assert power.next(world.now) is done, "what is over stays over"
    if done.ok and not done.skipped:
        assert reached(state, world), (done, world.sights)
    if done.skipped:
        assert not done.changed
        assert not world.pending
    if not done.ok:
        assert done.reason
    assert not any(step["method"] == "agent" and step["outcome"] != pw.UNUSABLE for step in power.steps if deaf)
    if not world.answered and not world.pending:
        assert not done.changed
