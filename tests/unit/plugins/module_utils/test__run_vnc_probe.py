# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of vnc_probe: which way it takes, whether it sends a power message, and what it tells."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError, VncRefused
from ansible_collections.kvmops.console.plugins.module_utils._run import vnc_probe

HELLO = _vnc.Hello("3.8", (2,), 2, "QEMU (web-1)", 1024, 768)
XVP = _vnc.Answers(power_control=True, pointer_change=False, acknowledged=True)
NOTHING = _vnc.Answers(power_control=False, pointer_change=False, acknowledged=True)


def params(**given: Any) -> dict[str, Any]:
    """Return the options as AnsibleModule hands them over."""
    names = vnc_probe.vnc_probe_options()["argument_spec"]
    defaults = {name: option.get("default") for name, option in names.items()}
    return {**defaults, **({} if {"socket", "url"} & set(given) else {"address": "kvm-1"}), **given}


class FakeServer:
    """Takes the place of the questions; remembers what was asked."""

    def __init__(self) -> None:
        self.hello: _vnc.Hello = HELLO
        self.answers: _vnc.Answers | None = XVP
        self.gated = True
        self.asked: list[tuple[str, str, str | None]] = []

    def ask_server(
        self, way: _vnc.Way, deadline: _vnc.Deadline, *, password: str | None
    ) -> tuple[_vnc.Hello, _vnc.Answers | None]:
        self.asked.append(("server", way.name, password))
        return self.hello, self.answers

    def ask_gate(self, way: _vnc.Way, deadline: _vnc.Deadline, *, password: str | None) -> bool:
        self.asked.append(("gate", way.name, password))
        return self.gated


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    monkeypatch.setattr(_vnc, "ask_server", fake.ask_server)
    monkeypatch.setattr(_vnc, "ask_gate", fake.ask_gate)
    return fake


def test_result(fake: FakeServer) -> None:
    assert vnc_probe.probe(params(password="geheim")) == {
        "changed": False,
        "target": "kvm-1::5900",
        "rfb_version": "3.8",
        "security_types": [{"number": 2, "name": "VNC authentication"}],
        "security_type": 2,
        "authenticated": True,
        "desktop": {"name": "QEMU (web-1)", "width": 1024, "height": 768},
        "power_control": True,
        "pointer_change_unasked": False,
        "power_messages_gated": None,
        "gate_reason": "check_gate was not asked for",
        "verdict": "fixed",
        "basis": "probe",
        "evidence": "the VNC server offers power control and sends no -257",
    }
    assert fake.asked == [("server", "kvm-1::5900", "geheim")]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"address": "kvm-1:1"}, "kvm-1::5901"),
        ({"address": "kvm-1", "port": 7}, "kvm-1::7"),
        ({"address": "[::1]"}, "[::1]::5900"),
        ({"socket": "/run/v"}, "/run/v"),
        ({"url": "ws://kvm-1/x?token=geheim"}, "ws://kvm-1/x"),
    ],
)
def test_way(fake: FakeServer, given: dict[str, Any], name: str) -> None:
    assert vnc_probe.probe(params(**given))["target"] == name
    assert fake.asked == [("server", name, None)]


def test_gate_is_asked_of_qemu_on_demand(fake: FakeServer) -> None:
    fake.answers = NOTHING
    fake.gated = False
    result = vnc_probe.probe(params(check_gate=True, password="geheim"))
    assert fake.asked == [("server", "kvm-1::5900", "geheim"), ("gate", "kvm-1::5900", "geheim")]
    assert (result["verdict"], result["power_messages_gated"], result["gate_reason"]) == ("affected", False, None)


@pytest.mark.parametrize(
    ("hello", "answers", "verdict"),
    [
        (HELLO._replace(name="x11"), NOTHING, "incapable"),
        (HELLO, NOTHING._replace(acknowledged=False), "incapable"),
        (HELLO._replace(name="Xen"), XVP, "fixed"),
        (HELLO._replace(name="Xen"), XVP._replace(pointer_change=True), "affected"),
    ],
)
def test_gate_is_never_asked_of_anything_else(
    fake: FakeServer, hello: _vnc.Hello, answers: _vnc.Answers, verdict: str
) -> None:
    fake.hello, fake.answers = hello, answers
    result = vnc_probe.probe(params(check_gate=True))
    assert [question for question, _way, _password in fake.asked] == ["server"]
    assert result["verdict"] == verdict
    assert result["power_messages_gated"] is None
    assert result["gate_reason"].startswith("this is not QEMU")


@pytest.mark.parametrize(
    ("types", "password", "evidence"),
    [
        ((2,), None, "the VNC server wants a password, and none was given"),
        (
            *((19, 77), None),
            "the VNC server offers only security types that this module does not speak: 19 (VeNCrypt), 77",
        ),
        ((19,), "x", "the VNC server offers only security types that this module does not speak: 19 (VeNCrypt)"),
    ],
)
def test_server_that_does_not_let_us_in(
    fake: FakeServer, types: tuple[int, ...], password: str | None, evidence: str
) -> None:
    fake.hello, fake.answers = _vnc.Hello("3.8", types, None, None, None, None), None
    result = vnc_probe.probe(params(check_gate=True, password=password))
    assert (result["verdict"], result["evidence"]) == ("unknown", evidence)
    assert not result["authenticated"]
    assert [result[key] for key in ("desktop", "security_type", "power_control", "pointer_change_unasked")] == [
        None
    ] * 4
    assert result["gate_reason"] == "the server did not let us in"
    assert len(fake.asked) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"timeout": 0.0}, "timeout is 0; it has to be more than 0 and at most 600 seconds"),
        ({"timeout": -1.0}, "timeout is -1"),
        ({"timeout": 601.0}, "timeout is 601"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"address": "kvm 1"}, "'kvm 1' is no VNC address"),
        ({"url": "http://kvm-1"}, "has to look like ws://"),
        ({"socket": "/" + "x" * 107}, "socket has more than the 107 bytes"),
    ],
)
def test_bad_input_gets_one_sentence(fake: FakeServer, given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        vnc_probe.probe(params(**given))
    assert str(caught.value).endswith(".")
    assert not fake.asked


def test_failure_is_passed_on(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_way: object, **_password: object) -> None:
        raise VncRefused("kvm-1::5900: the server refuses the password: it gives no reason.")

    monkeypatch.setattr(_vnc, "ask_server", refuse)
    with pytest.raises(VncRefused, match="refuses the password"):
        vnc_probe.probe(params(password="geheim"))
