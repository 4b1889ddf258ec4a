# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of incus_power: which machines it switches, which it leaves alone, and what it tells."""

from __future__ import annotations

from typing import Any, Optional, cast

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _incus, _power
from ansible_collections.kvmops.console.plugins.module_utils._errors import IncusRefused, InputError
from ansible_collections.kvmops.console.plugins.module_utils._incus import Client, Instance
from ansible_collections.kvmops.console.plugins.module_utils._power import Observation
from ansible_collections.kvmops.console.plugins.module_utils._power_drive import Answer
from ansible_collections.kvmops.console.plugins.module_utils._run import incus_power
from ansible_collections.kvmops.console.plugins.module_utils._run._machine_power import wanted

UUID = "d65ab792-3a02-4077-a202-9c7edf3bcf61"


def vm(name: str, **more: Any) -> Instance:
    return Instance(name, "default", UUID, True, "Running")._replace(**more)


class Fake:
    """Machines by name: what they are, and what has been asked of them."""

    def __init__(self) -> None:
        self.powers: dict[str, str] = {}
        self.processes: dict[str, int] = {}
        self.asked: list[tuple[str, str]] = []
        self.budgets: list[dict[str, float]] = []
        self.deaf = self.saves = False
        self.saved: set[str] = set()
        self.broken: Optional[str] = None

    def machine(self, client: Client, instance: Instance, budgets: dict[str, float], saves: bool) -> Machine:
        if self.broken == instance.name:
            raise IncusRefused("Incus refused it.")
        self.budgets.append(budgets)
        self.saves = saves
        return Machine(self, instance.name)


class Machine:
    """One of them."""

    def __init__(self, fake: Fake, name: str) -> None:
        self._fake = fake
        self._name = name
        self.trouble: Optional[str] = None

    def look(self) -> Observation:
        power = self._fake.powers[self._name]
        saved = self._fake.saves and self._name in self._fake.saved
        process = None if power == _power.OFF else str(self._fake.processes.get(self._name, 1))
        return Observation(power, process, saved=saved)

    def request(self, request: _power.Request) -> Answer:
        self._fake.asked.append((self._name, request.method))
        if request.method == _power.START:
            self._fake.processes[self._name] = 2
        if request.method == _power.SAVE:
            self._fake.saved.add(self._name)
        if not (request.method == "acpi" and self._fake.deaf):
            self._fake.powers[self._name] = {
                "acpi": _power.OFF,
                _power.FORCE: _power.OFF,
                _power.SAVE: _power.OFF,
                _power.START: _power.ON,
                _power.PAUSE: _power.PAUSED,
                _power.RESUME: _power.ON,
            }[request.method]
        return Answer(request)

    def wait(self, seconds: float) -> Optional[str]:
        assert seconds <= 0.2 + incus_power.MARGIN
        return None


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(_incus, "Machine", fake.machine)
    monkeypatch.setattr(incus_power, "MARGIN", 0.1)
    return fake


def switch(fake: Fake, state: str, *instances: Instance, check: bool = False, **given: Any) -> list[dict[str, Any]]:
    spec = incus_power.incus_power_options()["argument_spec"]
    params = {**{name: option.get("default") for name, option in spec.items()}, "state": state, **given}
    chosen = instances or tuple(vm(name) for name in fake.powers)
    asked = wanted(params, incus_power.METHODS)
    return incus_power.switch(cast("Client", None), chosen, asked, params, check=check)


def tried(record: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["method"], step["outcome"]) for step in record["steps"]]


def test_record(fake: Fake) -> None:
    fake.powers = {"web": _power.ON}
    (record,) = switch(fake, "stopped")
    assert record["steps"][0].pop("seconds") < 60
    assert record == {
        "name": "web",
        "project": "default",
        "uuid": UUID,
        "type": "virtual-machine",
        "changed": True,
        "before": "on",
        "after": "off",
        "steps": [{"method": "acpi", "outcome": "done"}],
        "ended_by": "acpi",
    }
    assert fake.budgets == [{"acpi": 60.0}]


@pytest.mark.parametrize(
    ("state", "before", "after", "methods"),
    [
        ("started", "off", "on", ["start"]),
        ("started", "paused", "on", ["resume"]),
        ("stopped", "on", "off", ["acpi"]),
        ("power_cycled", "on", "on", ["acpi", "start"]),
        ("paused", "on", "paused", ["pause"]),
        ("resumed", "paused", "on", ["resume"]),
    ],
)
def test_states(fake: Fake, state: str, before: str, after: str, methods: list[str]) -> None:
    fake.powers = {"web": before}
    (foreseen,) = switch(fake, state, check=True)
    assert not fake.asked
    (record,) = switch(fake, state)
    for one in (foreseen, record):
        assert (one["changed"], one["before"], one["after"], one.get("error")) == (True, before, after, None)
    assert fake.asked == [("web", method) for method in methods]


@pytest.mark.parametrize(("state", "power"), [("started", "on"), ("stopped", "off"), ("paused", "paused")])
def test_already_there_is_success(fake: Fake, state: str, power: str) -> None:
    fake.powers = {"web": power}
    (record,) = switch(fake, state)
    assert (record["changed"], record["steps"], record.get("error")) == (False, [], None)


def test_machine_that_is_off_is_not_power_cycled(fake: Fake) -> None:
    fake.powers = {"web": _power.OFF}
    (record,) = switch(fake, "power_cycled")
    assert (record["changed"], record["skipped"]) == (False, "it is off, so it has no process to replace")


@pytest.mark.parametrize(
    ("force", "steps", "after"),
    [
        ("never", [("acpi", "timed_out")], "on"),
        ("after_methods", [("acpi", "timed_out"), ("force", "done")], "off"),
        ("at_once", [("force", "done")], "off"),
    ],
)
def test_force(fake: Fake, force: str, steps: list[tuple[str, str]], after: str) -> None:
    fake.powers, fake.deaf = {"web": _power.ON}, True
    (record,) = switch(fake, "stopped", force=force, methods=[{"method": "acpi", "timeout": 0.1}])
    assert (tried(record), record["after"], "error" in record) == (steps, after, after == "on")


@pytest.mark.parametrize(
    ("state", "vanish"), [("stopped", False), ("power_cycled", False), ("power_cycled", True), ("saved", True)]
)
@pytest.mark.parametrize("check", [True, False])
def test_ephemeral_machine_is_not_ended(fake: Fake, state: str, vanish: bool, check: bool) -> None:
    fake.powers = {"web": _power.ON}
    ephemeral = vm("web", ephemeral=True)
    (record,) = switch(fake, state, ephemeral, check=check, force="at_once", allow_vanish=vanish)
    assert record["error"].startswith("web is ephemeral, so Incus deletes it, disks and all, when it stops")
    assert not fake.asked
    assert "error" not in switch(fake, "paused", ephemeral)[0]


def test_ephemeral_machine_may_vanish(fake: Fake) -> None:
    fake.powers = {"web": _power.ON}
    (record,) = switch(fake, "stopped", vm("web", ephemeral=True), allow_vanish=True)
    assert (record["after"], record.get("error")) == ("off", None)


def test_memory_is_saved_once(fake: Fake) -> None:
    fake.powers = {"held": _power.PAUSED, "web": _power.ON}
    foreseen = switch(fake, "saved", check=True)
    assert [(one["changed"], one["after"]) for one in foreseen] == [(True, "off")] * 2
    assert not fake.asked
    for record in switch(fake, "saved"):
        assert (record["changed"], record["after"], tried(record)) == (True, "off", [("save", "done")])
    again = switch(fake, "saved")
    assert [(one["changed"], "skipped" in one, one["steps"]) for one in again] == [(False, False, [])] * 2
    fake.saved.clear()
    assert [one["skipped"] for one in switch(fake, "saved")] == ["it is off"] * 2


def test_container_is_passed_over(fake: Fake) -> None:
    (record,) = switch(fake, "stopped", vm("box", is_vm=False))
    assert (record["changed"], record["type"]) == (False, "container")
    assert record["skipped"] == "it is a container, and not a virtual machine"


def test_one_failure_never_stops_the_others(fake: Fake) -> None:
    fake.powers, fake.broken = {"bad": _power.ON, "good": _power.ON}, "bad"
    bad, good = switch(fake, "stopped")
    assert (bad["error"], bad["changed"], bad["before"]) == ("Incus refused it.", False, "unknown")
    assert (good["after"], good.get("error")) == ("off", None)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("rebooted", r"Incus has no way to ask it: .* which is power_cycled"),
        ("reset", r"Incus has no such button: .* power_cycled with force at_once"),
        ("nmi_sent", "Incus keeps that for itself"),
        ("pending_applied", "Incus does not tell"),
    ],
)
def test_what_incus_cannot_do_is_told(state: str, words: str) -> None:
    class Module:
        params = {"timeout": 30.0, "concurrency": 1, "state": state, "methods": None, "force": "never"}  # noqa: RUF012

    with pytest.raises(InputError, match=words):
        incus_power.run(cast("Any", Module()))


def test_words_are_those_of_domain_power() -> None:
    assert incus_power.incus_power_options()["argument_spec"]["state"]["choices"] == list(_power.STATES)
