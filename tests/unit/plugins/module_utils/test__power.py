# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of power actions, on machines that behave in one way, under a clock that jumps."""

from __future__ import annotations

import functools
import typing as t

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _power as pw
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.module_utils._power import Done, Look, Method, Observation, Power, Wait

AGENT = Method("agent", 20.0)
ACPI = Method("acpi", 60.0, 15.0)


class Machine:
    """A simulated one: `reacts` says what a request does, as (seconds later, what happens)."""

    def __init__(self, power: str = pw.ON, **reacts: t.Any) -> None:
        self.state = Observation(power, None if power == pw.OFF else "1")
        self.reacts = reacts
        self.requests: list[tuple[float, str]] = []
        self.agenda: list[tuple[float, t.Callable[[Power], None]]] = []
        self.now = 0.0
        self.processes = 1

    def become(self, power: str, **more: t.Any) -> t.Callable[[Power], None]:
        """Change, and send an event."""

        def happen(machine: Power) -> None:
            if self.state.power == pw.OFF and power != pw.OFF:
                self.processes += 1
            process = None if power == pw.OFF else str(self.processes)
            self.state = Observation(power, process, **more)
            machine.event(self.now, pw.CHANGED)

        return happen

    def replaced(self, machine: Power) -> None:
        """Go off and be started by somebody else, too quickly to be seen."""
        self.state = Observation(pw.ON, "7")
        machine.event(self.now, pw.CHANGED)

    def at(self, when: float, what: t.Callable[[Power], None]) -> Machine:
        self.agenda.append((when, what))
        return self

    def request(self, machine: Power, request: pw.Request) -> None:
        self.requests.append((self.now, request.method))
        for delay, what in self.reacts.get(request.method, []):
            self.agenda.append((self.now + delay, functools.partial(self.react, what, request)))

    def react(self, what: t.Any, request: pw.Request, machine: Power) -> None:
        what(self, machine, request)

    def run(self, machine: Power) -> Done:
        while True:
            action = machine.next(self.now)
            if isinstance(action, Done):
                return action
            if isinstance(action, Look):
                machine.observed(self.now, self.state)
            elif isinstance(action, Wait):
                self.wait(machine, action.until)
            else:
                self.request(machine, action)

    def wait(self, machine: Power, until: float) -> None:
        self.agenda.sort(key=lambda entry: entry[0])
        if self.agenda and self.agenda[0][0] <= until:
            self.now, what = self.agenda.pop(0)
            what(machine)
        else:
            self.now = until


def heard(machine: Machine, power: Power, request: pw.Request) -> None:
    power.answered(machine.now, request)


def refused(machine: Machine, power: Power, request: pw.Request) -> None:
    power.answered(machine.now, request, "the agent is dead")


def turns(to: str, **more: t.Any) -> t.Callable[[Machine, Power, pw.Request], None]:
    return lambda machine, power, request: machine.become(to, **more)(power)


def reboots(machine: Machine, power: Power, request: pw.Request) -> None:
    power.event(machine.now, pw.REBOOTED)


def methods_of(machine: Machine) -> list[str]:
    return [method for _when, method in machine.requests]


def outcomes(power: Power) -> list[tuple[str, str]]:
    return [(step["method"], step["outcome"]) for step in power.steps]


OBEYS = [(0.0, heard), (5.0, turns(pw.OFF))]
DIES = [(0.0, turns(pw.OFF)), (0.0, heard)]
BOOTS = [(0.0, turns(pw.ON)), (0.0, heard)]


def test_what_is_there_already_is_a_success() -> None:
    for state, power in (
        (pw.STOPPED, pw.OFF),
        (pw.STARTED, pw.ON),
        (pw.PAUSED_STATE, pw.PAUSED),
        (pw.RESUMED, pw.ON),
    ):
        machine = Machine(power)
        assert machine.run(Power(state, [ACPI], pw.AT_ONCE)) == Done(True, False, False, None, None)
        assert not machine.requests


def test_guest_that_obeys_is_waited_for() -> None:
    machine = Machine(acpi=OBEYS)
    power = Power(pw.STOPPED, [ACPI], pw.AFTER_METHODS)
    assert machine.run(power) == Done(True, True, False, "acpi", None)
    assert power.steps == [{"method": "acpi", "seconds": 5.0, "outcome": "done"}]
    assert (power.first, power.last) == (Observation(pw.ON, "1"), Observation(pw.OFF))


def test_methods_come_in_order_each_with_its_budget_then_force() -> None:
    machine = Machine(agent=[(0.0, heard)], acpi=[(0.0, heard)], force=DIES)
    power = Power(pw.STOPPED, [AGENT, ACPI], pw.AFTER_METHODS)
    assert machine.run(power).ended_by == "force"
    assert machine.requests == [
        (0.0, "agent"),
        (20.0, "acpi"),
        (35.0, "acpi"),
        (50.0, "acpi"),
        (65.0, "acpi"),
        (80.0, "force"),
    ]
    assert outcomes(power) == [("agent", "timed_out"), ("acpi", "timed_out"), ("force", "done")]


def test_without_force_a_deaf_guest_is_a_failure() -> None:
    machine = Machine(acpi=[(0.0, heard)])
    done = machine.run(Power(pw.STOPPED, [ACPI]))
    assert (done.ok, done.changed) == (False, False)
    assert done.reason == "it is on (acpi: it had no effect in time)"
    assert machine.now == 60.0


def test_guest_that_goes_off_in_the_last_moment_is_not_forced() -> None:
    """No event tells of it: the look that comes before every force does."""
    machine = Machine(acpi=[(0.0, heard)])
    power = Power(pw.STOPPED, [Method("acpi", 60.0)], pw.AFTER_METHODS)
    machine.at(59.999, lambda one: setattr(machine, "state", Observation(pw.OFF)))
    assert machine.run(power).ended_by == "acpi"
    assert "force" not in methods_of(machine)


def test_force_that_comes_too_late_is_a_success() -> None:
    """The guest goes off between the last look and the force, which libvirt then refuses."""
    late = [(0.0, turns(pw.OFF)), (0.0, refused)]
    machine = Machine(acpi=[(0.0, heard)], force=late)
    done = machine.run(Power(pw.STOPPED, [ACPI], pw.AFTER_METHODS))
    assert (done.ok, done.changed) == (True, True)


def test_force_at_once_asks_nobody() -> None:
    machine = Machine(force=DIES)
    machine.run(Power(pw.STOPPED, [AGENT, ACPI], pw.AT_ONCE))
    assert machine.requests == [(0.0, "force")]


def test_method_that_is_refused_makes_room_for_the_next_at_once() -> None:
    machine = Machine(agent=[(5.0, refused)], acpi=OBEYS)
    power = Power(pw.STOPPED, [AGENT, ACPI])
    assert machine.run(power).ok
    assert power.steps[0] == {"method": "agent", "seconds": 5.0, "outcome": "refused", "reason": "the agent is dead"}
    assert machine.now == 10.0


def test_request_is_awaited_until_it_is_answered_or_given_up() -> None:
    power = Power(pw.STOPPED, [AGENT, ACPI])
    power.next(0.0)
    power.observed(0.0, Observation(pw.ON))
    agent = power.next(0.0)
    assert isinstance(agent, pw.Request)
    assert power.awaits(agent)
    power.next(20.0)
    power.observed(20.0, Observation(pw.ON))
    acpi = power.next(20.0)
    assert isinstance(acpi, pw.Request)
    assert (power.awaits(agent), power.awaits(acpi)) == (False, True)
    power.answered(20.0, acpi)
    assert not power.awaits(acpi)


def test_request_that_never_returns_ends_with_its_budget() -> None:
    machine = Machine(acpi=OBEYS)
    power = Power(pw.STOPPED, [AGENT, ACPI])
    assert machine.run(power).ok
    assert power.steps[0]["reason"] == "the request did not return"


def test_late_refusal_does_not_count_for_the_next_method() -> None:
    machine = Machine(agent=[(25.0, refused)], acpi=[(10.0, heard), (20.0, turns(pw.OFF))])
    power = Power(pw.STOPPED, [AGENT, ACPI])
    assert machine.run(power).ok
    assert outcomes(power) == [("agent", "timed_out"), ("acpi", "done")]


def test_request_that_was_heard_once_may_be_refused_later() -> None:
    answers = [heard, refused]

    def next_answer(*asked: t.Any) -> t.Any:
        return answers.pop(0)(*asked)

    machine = Machine()
    machine.reacts["acpi"] = [(0.0, next_answer)]
    machine.at(25.0, machine.become(pw.OFF))
    power = Power(pw.STOPPED, [ACPI])
    assert machine.run(power).ok
    assert outcomes(power) == [("acpi", "done")]


def test_unusable_methods_are_told_and_not_tried() -> None:
    machine = Machine(acpi=OBEYS)
    power = Power(pw.STOPPED, [AGENT, ACPI], unusable={"agent": "there is no channel"})
    assert machine.run(power).ok
    assert power.steps[0] == {
        "method": "agent",
        "seconds": 0.0,
        "outcome": "unusable",
        "reason": "there is no channel",
    }
    machine = Machine()
    done = machine.run(Power(pw.STOPPED, [AGENT], unusable={"agent": "there is no channel"}))
    assert (done.ok, machine.now) == (False, 0.0)
    assert "there is no channel" in str(done.reason)


def test_machine_that_shuts_down_counts_as_on_and_is_not_asked_again() -> None:
    machine = Machine(acpi=[(0.0, heard), (2.0, turns(pw.STOPPING)), (50.0, turns(pw.OFF))])
    assert machine.run(Power(pw.STOPPED, [ACPI])).ok
    assert methods_of(machine) == ["acpi"]
    stuck = Machine(acpi=[(0.0, heard), (2.0, turns(pw.STOPPING))], force=DIES)
    assert stuck.run(Power(pw.STOPPED, [ACPI], pw.AFTER_METHODS)).ended_by == "force"


@pytest.mark.parametrize("state", [pw.PAUSED, pw.SUSPENDED, pw.CRASHED])
def test_guest_that_hears_nothing_is_not_waited_for(state: str) -> None:
    machine = Machine(state, force=DIES)
    done = machine.run(Power(pw.STOPPED, [ACPI]))
    assert (done.ok, machine.now, machine.requests) == (False, 0.0, [])
    assert "hears nothing" in str(done.reason)
    power = Power(pw.STOPPED, [ACPI], pw.AFTER_METHODS)
    assert machine.run(power).ok
    assert outcomes(power) == [("acpi", "unusable"), ("force", "done")]


def test_power_cycle_is_proved_by_the_new_process() -> None:
    machine = Machine(acpi=OBEYS, start=BOOTS)
    power = Power(pw.POWER_CYCLED, [ACPI])
    assert machine.run(power) == Done(True, True, False, "acpi", None)
    assert outcomes(power) == [("acpi", "done"), ("start", "done")]
    assert (power.first, power.last) == (Observation(pw.ON, "1"), Observation(pw.ON, "2"))


def test_start_of_a_power_cycle_has_its_whole_time() -> None:
    machine = Machine(acpi=[(0.0, heard), (59.0, turns(pw.OFF))], start=[(70.0, turns(pw.ON)), (70.0, heard)])
    power = Power(pw.POWER_CYCLED, [ACPI], start_timeout=80.0, grace=1.0)
    assert machine.run(power).ok
    assert machine.now == 129.0


def test_power_cycle_leaves_alone_what_is_off() -> None:
    for state in (pw.POWER_CYCLED, pw.PENDING_APPLIED, pw.REBOOTED_STATE, pw.SAVED, pw.PAUSED_STATE, pw.NMI_SENT):
        machine = Machine(pw.OFF)
        done = machine.run(Power(state, [ACPI], pw.AT_ONCE))
        assert (done.ok, done.changed, done.skipped) == (True, False, True)
        assert not machine.requests


def test_power_cycle_that_somebody_else_finished_is_one() -> None:
    machine = Machine(acpi=[(0.0, heard)])
    machine.at(5.0, machine.replaced)
    assert machine.run(Power(pw.POWER_CYCLED, [ACPI], pw.AFTER_METHODS)).ok
    assert methods_of(machine) == ["acpi"]


def test_power_cycle_says_when_it_leaves_the_machine_off() -> None:
    machine = Machine(acpi=OBEYS, start=[(0.0, refused)])
    done = machine.run(Power(pw.POWER_CYCLED, [ACPI]))
    assert (done.ok, done.changed) == (False, True)
    assert done.reason == "it is off (start: the agent is dead)"


def test_machine_started_again_by_somebody_else_is_not_forced() -> None:
    machine = Machine(acpi=[(0.0, heard)], force=DIES)
    machine.at(5.0, machine.replaced)
    done = machine.run(Power(pw.STOPPED, [ACPI], pw.AFTER_METHODS))
    assert not done.ok
    assert "somebody else started it again" in str(done.reason)
    assert methods_of(machine) == ["acpi"]


def test_start_of_what_was_saved_paused_is_followed_by_resume() -> None:
    machine = Machine(pw.OFF, start=[(0.0, turns(pw.PAUSED)), (0.0, heard)], resume=[(0.0, turns(pw.ON)), (0.0, heard)])
    power = Power(pw.STARTED)
    assert machine.run(power).ok
    assert methods_of(machine) == ["start", "resume"]


def test_start_that_ends_at_once_is_a_failure_without_a_wait() -> None:
    machine = Machine(pw.OFF, start=[(0.0, heard)])
    done = machine.run(Power(pw.STARTED))
    assert (done.ok, machine.now) == (False, 0.0)
    assert "right after its start" in str(done.reason)


def test_reboot_is_proved_by_the_guest() -> None:
    machine = Machine(acpi=[(0.0, heard), (9.0, reboots)])
    assert machine.run(Power(pw.REBOOTED_STATE, [ACPI])) == Done(True, True, False, "acpi", None)
    by_agent = Machine(agent=[(0.0, heard), (9.0, turns(pw.ON, boot="b"))])
    by_agent.state = Observation(pw.ON, "1", "a")
    assert by_agent.run(Power(pw.REBOOTED_STATE, [AGENT])).ok


def test_reboot_that_turns_into_an_end_is_a_failure() -> None:
    machine = Machine(acpi=[(0.0, heard), (9.0, turns(pw.OFF))])
    done = machine.run(Power(pw.REBOOTED_STATE, [ACPI], pw.AFTER_METHODS))
    assert (done.ok, done.changed) == (False, True)
    assert "went off instead" in str(done.reason)


def test_reboot_event_from_before_the_request_proves_nothing() -> None:
    machine = Machine(acpi=[(0.0, heard)])
    power = Power(pw.REBOOTED_STATE, [ACPI])
    power.next(0.0)
    power.event(0.0, pw.REBOOTED)
    assert not machine.run(power).ok


def test_guest_is_not_reset_when_its_reboot_may_have_been_missed() -> None:
    machine = Machine(acpi=[(0.0, heard)])
    machine.at(5.0, lambda power: power.event(5.0, pw.GAP))
    done = machine.run(Power(pw.REBOOTED_STATE, [ACPI], pw.AFTER_METHODS))
    assert not done.ok
    assert "missed" in str(done.reason)
    assert "force" not in methods_of(machine)


def test_machine_that_cannot_be_seen_is_left_alone() -> None:
    machine = Machine(acpi=[(0.0, heard)])
    power = Power(pw.STOPPED, [ACPI, AGENT], pw.AFTER_METHODS, timeout=30.0, grace=10.0)
    machine.at(5.0, machine.become(pw.UNKNOWN))
    done = machine.run(power)
    assert not done.ok
    assert machine.now == power.patience == 120.0
    assert methods_of(machine) == ["acpi"]


def test_machine_seen_again_late_goes_on_where_it_was() -> None:
    machine = Machine(acpi=[(0.0, heard)], force=DIES)
    machine.at(5.0, machine.become(pw.UNKNOWN)).at(62.0, lambda power: None)
    machine.at(65.0, machine.become(pw.ON))
    assert machine.run(Power(pw.STOPPED, [ACPI], pw.AFTER_METHODS)).ended_by == "force"
    assert machine.requests[-1] == (65.0, "force")


def test_save_needs_what_is_saved() -> None:
    machine = Machine(save=[(3.0, turns(pw.OFF, saved=True)), (3.0, heard)])
    assert machine.run(Power(pw.SAVED)) == Done(True, True, False, "save", None)
    again = machine.run(Power(pw.SAVED))
    assert (again.ok, again.changed, again.skipped) == (True, False, False)
    died = Machine(save=[(3.0, turns(pw.OFF)), (3.0, heard)])
    assert not died.run(Power(pw.SAVED)).ok


def test_nmi_is_done_when_it_is_taken() -> None:
    machine = Machine(nmi=[(0.0, heard)])
    assert machine.run(Power(pw.NMI_SENT)).ok
    assert not Machine(nmi=[(0.0, refused)]).run(Power(pw.NMI_SENT)).ok


def test_reset_reaches_a_guest_that_hears_nothing() -> None:
    machine = Machine(pw.CRASHED, reset=[(0.0, heard), (0.1, turns(pw.ON)), (0.1, reboots)])
    assert machine.run(Power(pw.RESET_STATE)).ok


def test_stop_that_ends_in_a_reboot_says_so() -> None:
    machine = Machine(acpi=[(0.0, heard), (5.0, reboots)])
    done = machine.run(Power(pw.STOPPED, [Method("acpi", 60.0)]))
    assert "rebooted instead" in str(done.reason)


def test_check_mode_foresees() -> None:
    assert Power(pw.STOPPED, [ACPI]).foresee(Observation(pw.ON, "1")).changed
    assert not Power(pw.STOPPED, [ACPI]).foresee(Observation(pw.OFF)).changed
    assert Power(pw.REBOOTED_STATE, [ACPI]).foresee(Observation(pw.OFF)).skipped
    assert not Power(pw.STOPPED, [ACPI], unusable={"acpi": "no ACPI"}).foresee(Observation(pw.ON)).ok


@pytest.mark.parametrize(
    "given",
    [
        {"method": "knock", "timeout": 5},
        {"method": "acpi", "timeout": 0},
        {"method": "acpi", "timeout": float("inf")},
        {"method": "acpi", "timeout": float("nan")},
        {"method": "acpi", "timeout": 5, "resend_every": 0},
    ],
    ids=["unknown", "none", "endless", "nan", "storm"],
)
def test_methods_that_cannot_be_meant(given: dict[str, t.Any]) -> None:
    with pytest.raises(InputError, match="methods"):
        pw.read_methods([given], ("agent", "acpi"))


def test_methods_are_read() -> None:
    given = [{"method": "agent", "timeout": 20}, {"method": "acpi", "timeout": 60, "resend_every": 15}]
    assert pw.read_methods(given, ("agent", "acpi")) == (AGENT, ACPI)


def test_power_cycle_of_a_deaf_guest_is_not_forced_where_that_is_forbidden() -> None:
    machine = Machine(acpi=[(0.0, heard)], force=DIES, start=BOOTS)
    assert not machine.run(Power(pw.POWER_CYCLED, [ACPI])).ok
    assert set(methods_of(machine)) == {"acpi"}


def test_deaf_guest_is_reset_where_its_reboot_may_be_forced() -> None:
    machine = Machine(acpi=[(0.0, heard)], force=[(0.0, heard), (0.1, reboots)])
    assert machine.run(Power(pw.REBOOTED_STATE, [ACPI], pw.AFTER_METHODS)) == Done(True, True, False, "force", None)


def test_what_could_not_be_read_is_neither_the_first_nor_the_last_that_was_seen() -> None:
    machine = Machine(pw.UNKNOWN, acpi=[(0.0, heard)])
    machine.at(1.0, machine.become(pw.ON)).at(5.0, machine.become(pw.UNKNOWN))
    power = Power(pw.STOPPED, [ACPI], grace=1.0)
    assert not machine.run(power).ok
    assert (power.first, power.last) == (Observation(pw.ON, "1"), Observation(pw.ON, "1"))
    assert outcomes(power) == [("acpi", "timed_out")]


@pytest.mark.parametrize("happens", ["event", "answer"])
def test_nothing_is_decided_on_a_look_from_before_something_happened(happens: str) -> None:
    power = Power(pw.STOPPED, [AGENT, ACPI])
    power.next(0.0)
    power.observed(0.0, Observation(pw.ON, "1"))
    request = power.next(0.0)
    assert isinstance(request, pw.Request)
    assert power.next(0.0) == Look()
    power.observed(0.0, Observation(pw.ON, "1"))
    if happens == "event":
        power.event(1.0, pw.CHANGED)
    else:
        power.answered(1.0, request, "the agent is dead")
    assert power.next(1.0) == Look()


def test_the_end_stays_the_end() -> None:
    power = Power(pw.STOPPED)
    done = Machine(pw.OFF).run(power)
    assert power.next(1e6) == done == Done(True, False, False, None, None)


def test_what_went_off_after_nothing_but_refusals_was_not_our_doing() -> None:
    def off(machine: Machine, power: Power, request: pw.Request) -> None:
        machine.state = Observation(pw.OFF)
        power.answered(machine.now, request, "the agent is dead")

    machine = Machine(agent=[(5.0, off)])
    assert machine.run(Power(pw.STOPPED, [AGENT])) == Done(True, False, False, "agent", None)


@pytest.mark.parametrize(("state", "method"), [(pw.RESET_STATE, "reset"), (pw.REBOOTED_STATE, "acpi")])
@pytest.mark.parametrize("power", [pw.ON, pw.PAUSED, pw.STOPPING])
def test_what_a_reboot_has_to_end_in(state: str, method: str, power: str) -> None:
    machine = Machine()
    machine.reacts = {method: [(0.0, heard), (1.0, turns(power)), (1.0, reboots)]}
    done = machine.run(Power(state, [ACPI]))
    assert done.ok is (power == pw.ON or (state == pw.RESET_STATE and power == pw.PAUSED))


@pytest.mark.parametrize(("first", "then"), [("a", "a"), ("a", None), (None, "b"), (None, None)])
def test_boot_that_is_not_known_to_be_another_proves_nothing(first: str | None, then: str | None) -> None:
    machine = Machine(agent=[(0.0, heard), (9.0, turns(pw.ON, boot=then))])
    machine.state = Observation(pw.ON, "1", first)
    assert not machine.run(Power(pw.REBOOTED_STATE, [AGENT])).ok


def test_process_that_could_not_be_told_at_first_is_no_new_one() -> None:
    machine = Machine(acpi=[(0.0, heard)], force=DIES)
    machine.state = Observation(pw.ON)
    machine.at(5.0, machine.become(pw.ON))
    assert machine.run(Power(pw.STOPPED, [ACPI], pw.AFTER_METHODS)).ended_by == "force"


def test_request_that_hangs_when_it_is_sent_again_was_heard_before() -> None:
    def once(machine: Machine, power: Power, request: pw.Request) -> None:
        if request.number == 1:
            power.answered(machine.now, request)

    power = Power(pw.STOPPED, [ACPI])
    Machine(acpi=[(0.0, once)]).run(power)
    assert power.steps[0]["reason"] == "it had no effect in time"


def test_start_into_a_pause_counts_as_a_start() -> None:
    machine = Machine(pw.OFF, start=[(0.0, turns(pw.PAUSED)), (0.0, heard)], resume=BOOTS)
    power = Power(pw.STARTED)
    assert machine.run(power).ended_by == "start"
    assert outcomes(power) == [("start", "done"), ("resume", "done")]


def test_patience_is_no_more_than_what_may_be_done() -> None:
    assert Power(pw.STOPPED, [AGENT, ACPI], timeout=7.0, grace=3.0).patience == 83.0
    assert Power(pw.STOPPED, [AGENT, ACPI], pw.AFTER_METHODS, timeout=7.0, grace=3.0).patience == 90.0


def test_budgets_may_be_short() -> None:
    given = [{"method": "acpi", "timeout": 0.5, "resend_every": 0.25}]
    assert pw.read_methods(given, ["acpi"]) == (Method("acpi", 0.5, 0.25),)


def test_check_mode_foresees_a_success() -> None:
    assert Power(pw.STOPPED, [ACPI]).foresee(Observation(pw.ON)) == Done(True, True, False, None, None)


def test_nothing_is_begun_at_the_end_of_all_patience() -> None:
    machine = Machine(acpi=[(0.0, heard)], agent=OBEYS, force=DIES)
    power = Power(pw.STOPPED, [ACPI, AGENT], pw.AFTER_METHODS, timeout=30.0, grace=10.0)
    machine.at(5.0, machine.become(pw.UNKNOWN)).at(power.patience, machine.become(pw.ON))
    assert not machine.run(power).ok
    assert (machine.now, methods_of(machine)) == (power.patience, ["acpi"])


def test_force_comes_once() -> None:
    machine = Machine(acpi=[(0.0, heard)], force=[(0.0, refused)])
    assert not machine.run(Power(pw.STOPPED, [Method("acpi", 5.0)], pw.AFTER_METHODS)).ok
    assert methods_of(machine) == ["acpi", "force"]


def test_method_that_begins_late_ends_with_all_patience() -> None:
    machine = Machine(acpi=[(0.0, heard)], agent=[(0.0, heard)], force=DIES)
    power = Power(pw.STOPPED, [ACPI, AGENT], pw.AFTER_METHODS, timeout=30.0, grace=10.0)
    machine.at(5.0, machine.become(pw.UNKNOWN)).at(power.patience - 1.0, machine.become(pw.ON))
    assert not machine.run(power).ok
    assert (machine.now, methods_of(machine)) == (power.patience, ["acpi", "agent"])
