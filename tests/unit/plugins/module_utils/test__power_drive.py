# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Driving one machine: a machine that is a script, on a clock that only its waits move."""

from __future__ import annotations

from typing import Optional, Union

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _power
from ansible_collections.kvmops.console.plugins.module_utils._errors import TookTooLong
from ansible_collections.kvmops.console.plugins.module_utils._power import Method, Observation, Power, Request
from ansible_collections.kvmops.console.plugins.module_utils._power_drive import Answer, drive

Happening = Union[str, TookTooLong, None]


class Script:
    """A machine that does what was written down; `now` is its clock."""

    def __init__(self, *waits: tuple[float, Happening, str]) -> None:
        self.now = 0.0
        self.power = _power.ON
        self.asked: list[str] = []
        self.error: Optional[str] = None
        self.late = False
        self._waits = list(waits)
        self._last: Optional[Request] = None

    def look(self) -> Observation:
        return Observation(self.power)

    def request(self, request: Request) -> Optional[Answer]:
        self.asked.append(request.method)
        self._last = request
        if self.error == "raise":
            raise TookTooLong("it hangs.")
        return None if self.late else Answer(request, self.error)

    def wait(self, seconds: float) -> str | Answer | None:
        after, happening, self.power = self._waits.pop(0) if self._waits else (seconds, None, self.power)
        self.now += min(after, seconds)
        if isinstance(happening, TookTooLong):
            raise TookTooLong(str(happening))
        if happening == "answer" and self._last is not None:
            return Answer(self._last, self.error)
        return happening


ASK = (Method("acpi", 60.0),)


def run(script: Script, state: str = _power.STOPPED, force: str = _power.NEVER) -> tuple[_power.Done, Power]:
    power = Power(state, ASK, force, timeout=10.0)
    return drive(power, script, lambda: script.now), power


def test_machine_that_goes_off() -> None:
    script = Script((5.0, _power.CHANGED, _power.ON), (2.0, _power.CHANGED, _power.OFF))
    done, power = run(script)
    assert done.ok
    assert done.changed
    assert script.asked == ["acpi"]
    assert power.steps == [{"method": "acpi", "seconds": 7.0, "outcome": "done"}]


def test_machine_that_goes_off_in_the_last_moment_is_not_forced() -> None:
    done, power = run(Script((60.0, None, _power.OFF)), force=_power.AFTER_METHODS)
    assert done.ok
    assert [step["method"] for step in power.steps] == ["acpi"]


def test_machine_that_does_not_listen() -> None:
    done, power = run(Script())
    assert not done.ok
    assert power.steps[0]["outcome"] == "timed_out"


def test_answer_that_comes_later() -> None:
    script = Script((3.0, "answer", _power.ON))
    script.late, script.error = True, "Incus failed."
    done, power = run(script)
    assert not done.ok
    assert power.steps == [{"method": "acpi", "seconds": 3.0, "outcome": "refused", "reason": "Incus failed."}]


def test_reboot_is_told_by_its_event() -> None:
    done, _rules = run(Script((4.0, _power.REBOOTED, _power.ON)), _power.REBOOTED_STATE)
    assert done.ok
    assert not run(Script((4.0, _power.CHANGED, _power.ON)), _power.REBOOTED_STATE)[0].ok


@pytest.mark.parametrize("happening", [TookTooLong("late."), None])
def test_wait_that_fails_is_followed_by_a_look(happening: Happening) -> None:
    script = Script((1.0, happening, _power.OFF))
    done, _rules = run(script)
    assert done.ok is True
    assert script.now == 1.0 or happening is None


def test_request_that_cannot_be_made_is_a_refusal() -> None:
    script = Script()
    script.error = "raise"
    done, power = run(script)
    assert not done.ok
    assert power.steps[0]["reason"] == "it hangs."


def test_look_that_fails_is_passed_on() -> None:
    class Blind(Script):
        def look(self) -> Observation:
            raise TookTooLong("hangs.")

    script = Blind()
    with pytest.raises(TookTooLong, match="hangs"):
        run(script)
