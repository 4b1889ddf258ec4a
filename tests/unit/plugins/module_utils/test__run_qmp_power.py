# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of qmp_power: what is asked for, what is done to machines that are objects here, and what is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _guest_agent, _power, _qmp
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError, QmpUnreachable
from ansible_collections.kvmops.console.plugins.module_utils._power import Observation
from ansible_collections.kvmops.console.plugins.module_utils._power_drive import Answer
from ansible_collections.kvmops.console.plugins.module_utils._run import _machine_power, qmp_power


class Fake:
    """Machines by the names of their sockets: what they are, and what a request makes of them."""

    def __init__(self) -> None:
        self.powers: dict[str, str] = {}
        self.effects: dict[str, str] = {
            _qmp.AGENT: _power.OFF,
            _qmp.ACPI: _power.OFF,
            _power.FORCE: _power.OFF,
            _power.PAUSE: _power.PAUSED,
            _power.RESUME: _power.ON,
        }
        self.asked: list[tuple[str, str]] = []
        self.forces: set[str] = set()

    def machine(self, path: str, timeout: float, force: str, agent: Optional[Callable[[], None]] = None) -> Machine:
        self.forces.add(force)
        if agent is not None:
            agent()
        return Machine(self, Path(path).stem)


class Machine:
    """One of them."""

    def __init__(self, fake: Fake, name: str) -> None:
        self._fake = fake
        self._name = name
        self.trouble: Optional[str] = None
        self._rebooted = False

    def __enter__(self) -> Machine:
        if self._fake.powers[self._name] == "unreachable":
            raise QmpUnreachable("QEMU did not greet.")
        return self

    def __exit__(self, *_failure: object) -> None:
        pass

    def look(self) -> Observation:
        return Observation(self._fake.powers[self._name])

    def request(self, request: _power.Request) -> Answer:
        self._fake.asked.append((self._name, request.method))
        self._rebooted = request.method in (_qmp.AGENT, _qmp.CTRL_ALT_DEL, _power.RESET)
        if request.method in self._fake.effects:
            self._fake.powers[self._name] = self._fake.effects[request.method]
        return Answer(request)

    def wait(self, seconds: float) -> Optional[str]:
        if self._rebooted:
            return _power.REBOOTED
        raise AssertionError(f"it would wait for {seconds} s")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(_qmp, "Machine", fake.machine)
    return fake


def switch(folder: Path, fake: Fake, state: str, *, check: bool = False, **given: Any) -> dict[str, Any]:
    spec = qmp_power.qmp_power_options()["argument_spec"]
    params = {name: option.get("default") for name, option in spec.items()}
    sockets = [os.fspath(folder / f"{name}.qmp") for name in fake.powers]
    return qmp_power.switch({**params, "sockets": sockets, "state": state, **given}, check=check)


def test_many_machines(fake: Fake, tmp_path: Path) -> None:
    fake.powers = {"on": _power.ON, "off": _power.OFF, "hung": "unreachable", "deaf": _power.PAUSED}
    result = switch(tmp_path, fake, "stopped")
    records = {record["name"]: record for record in result["machines"]}
    assert list(records) == ["deaf", "hung", "off", "on"]
    assert records["on"]["steps"][0].pop("seconds") < 60
    assert records["on"] == {
        "name": "on",
        "socket": os.fspath(tmp_path / "on.qmp"),
        "changed": True,
        "before": "on",
        "after": "off",
        "steps": [{"method": "acpi", "outcome": "done"}],
        "ended_by": "acpi",
    }
    assert (records["off"]["changed"], records["off"]["steps"], records["off"].get("error")) == (False, [], None)
    assert (records["hung"]["before"], records["hung"]["error"]) == ("unknown", "QEMU did not greet.")
    assert records["deaf"]["error"].startswith("it is paused, so its guest hears nothing: resume it first")
    assert result["changed"]
    assert result["summary"] == {"machines": 4, "changed": 1, "skipped": 0, "errors": 2}
    assert fake.asked == [("on", "acpi")]


def test_check_mode_predicts_and_asks_nothing(fake: Fake, tmp_path: Path) -> None:
    fake.powers = {"on": _power.ON, "off": _power.OFF, "deaf": _power.PAUSED}
    result = switch(tmp_path, fake, "stopped", check=True)
    told = [(one["name"], one["changed"], one["before"], one["after"], "error" in one) for one in result["machines"]]
    assert told == [
        ("deaf", False, "paused", "paused", True),
        ("off", False, "off", "off", False),
        ("on", True, "on", "off", False),
    ]
    assert not fake.asked


def test_differences_are_those_of_what_changes(fake: Fake, tmp_path: Path) -> None:
    fake.powers = {"on": _power.ON, "off": _power.OFF}
    records = switch(tmp_path, fake, "stopped", check=True)["machines"]
    assert _machine_power.differences(records) == [
        {"before_header": "on", "after_header": "on", "before": "on\n", "after": "off\n"}
    ]


@pytest.mark.parametrize(
    ("state", "before", "after", "method"),
    [
        ("paused", "on", "paused", "pause"),
        ("resumed", "paused", "on", "resume"),
        ("started", "paused", "on", "resume"),
        ("reset", "on", "on", "reset"),
        ("reset", "paused", "paused", "reset"),
        ("rebooted", "on", "on", "ctrl_alt_del"),
        ("nmi_sent", "on", "on", "nmi"),
    ],
)
def test_states(fake: Fake, tmp_path: Path, state: str, before: str, after: str, method: str) -> None:
    fake.powers = {"web": before}
    (foreseen,) = switch(tmp_path, fake, state, check=True)["machines"]
    (record,) = switch(tmp_path, fake, state)["machines"]
    for one in (foreseen, record):
        assert (one["changed"], one["before"], one["after"], one.get("error")) == (True, before, after, None)
    assert fake.asked == [("web", method)]


@pytest.mark.parametrize(("state", "power"), [("paused", "paused"), ("resumed", "on"), ("started", "on")])
def test_already_there_is_success(fake: Fake, tmp_path: Path, state: str, power: str) -> None:
    fake.powers = {"web": power}
    (record,) = switch(tmp_path, fake, state)["machines"]
    assert (record["changed"], record["steps"], record.get("error")) == (False, [], None)


@pytest.mark.parametrize("check", [True, False])
def test_nothing_starts_a_qemu(fake: Fake, tmp_path: Path, check: bool) -> None:
    fake.powers = {"web": _power.OFF}
    (record,) = switch(tmp_path, fake, "started", check=check)["machines"]
    assert record["error"].startswith("it is off (start: only what started this QEMU can start it again")
    assert not fake.asked


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("power_cycled", "power_cycled needs somebody who starts QEMU again"),
        ("pending_applied", "pending_applied needs a definition"),
        ("saved", "saved needs somebody who starts QEMU from what was saved"),
    ],
)
def test_what_qmp_cannot_do_is_told(fake: Fake, tmp_path: Path, state: str, words: str, check: bool) -> None:
    fake.powers = {"web": _power.ON}
    with pytest.raises(InputError, match=words):
        switch(tmp_path, fake, state, check=check, force="at_once")
    assert not fake.asked


def test_words_are_those_of_domain_power() -> None:
    assert qmp_power.qmp_power_options()["argument_spec"]["state"]["choices"] == list(_power.STATES)


@pytest.mark.parametrize(("state", "mode"), [("stopped", "powerdown"), ("rebooted", "reboot")])
def test_agent_is_asked_first_where_there_is_one(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, mode: str
) -> None:
    called: list[tuple[str, str]] = []
    monkeypatch.setattr(_guest_agent, "shut_down", lambda path, mode: called.append((path, mode)))
    fake.powers = {"with": _power.ON, "without": _power.ON}
    if state == "rebooted":
        del fake.effects[_qmp.AGENT]
    sockets = [{"path": f"{tmp_path}/with.qmp", "agent": "/run/with.qga"}, f"{tmp_path}/without.qmp"]
    switch(tmp_path, fake, state, sockets=sockets)
    other = _qmp.ACPI if state == "stopped" else _qmp.CTRL_ALT_DEL
    assert sorted(fake.asked) == [("with", _qmp.AGENT), ("without", other)]
    assert called == [("/run/with.qga", mode)]


def test_play_that_names_the_agent_is_told_where_there_is_none(fake: Fake, tmp_path: Path) -> None:
    fake.powers = {"web": _power.ON}
    methods = [{"method": "agent", "timeout": 9.0}]
    (record,) = switch(tmp_path, fake, "stopped", methods=methods)["machines"]
    assert record["error"] == "it is on (agent: sockets names no socket of a guest agent for it)."
    assert not fake.asked


def test_force(fake: Fake, tmp_path: Path) -> None:
    fake.powers = {"web": _power.PAUSED}
    (record,) = switch(tmp_path, fake, "stopped", force="after_methods")["machines"]
    assert fake.asked == [("web", "force")]
    assert fake.forces == {"quit"}
    assert [(step["method"], step["outcome"]) for step in record["steps"]] == [("acpi", "unusable"), ("force", "done")]


def test_force_of_a_reboot_is_a_reset(fake: Fake, tmp_path: Path) -> None:
    fake.powers = {"web": _power.ON}
    switch(tmp_path, fake, "rebooted", check=True, force="at_once")
    assert fake.forces == {"system_reset"}


@pytest.mark.parametrize(
    ("state", "given", "words"),
    [
        ("stopped", {"timeout": 0.0}, "timeout is 0; it has to be more than 0"),
        ("stopped", {"concurrency": 0}, "concurrency is 0"),
        ("stopped", {"methods": []}, "methods is empty and force is never"),
        (
            "rebooted",
            {"methods": [{"method": "acpi", "timeout": 9.0}]},
            "methods knows no 'acpi': take agent, ctrl_alt_del",
        ),
        ("stopped", {"methods": [{"method": "acpi", "timeout": 0.0}]}, "gives acpi 0 seconds"),
        ("stopped", {"sockets": [3]}, "sockets has paths and dictionaries"),
        ("stopped", {"sockets": [{"name": "x"}]}, "cannot be meant: missing required arguments: path"),
        ("stopped", {"sockets": ["/run/a.qmp", "/srv/a.qmp"]}, "are both called a: name each machine once"),
        ("stopped", {"sockets": [""]}, "is no path of a socket"),
    ],
)
def test_bad_input_gets_one_sentence(fake: Fake, tmp_path: Path, state: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        switch(tmp_path, fake, state, **given)
    assert not fake.asked


def test_folder_that_is_not_there_is_no_machine_that_is_off(fake: Fake, tmp_path: Path) -> None:
    fake.powers = {"web": _power.OFF}
    result = switch(tmp_path / "typo", fake, "stopped")
    assert result["machines"][0]["error"].startswith(f"There is no folder {tmp_path}/typo: correct the path")
