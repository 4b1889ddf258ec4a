# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of vnc_power: what it sends, what it looks for, and that it tells no more than it knows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _qmp, _rfb, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError, QmpLost
from ansible_collections.kvmops.console.plugins.module_utils._run import vnc_power

HELLO = _vnc.Hello("3.8", (1,), 1, "QEMU (web-1)", 1024, 768)
SENT = _vnc.Pressed(HELLO, True, _vnc.SENT)


def params(**given: Any) -> dict[str, Any]:
    """Return the options as AnsibleModule hands them over."""
    names = vnc_power.vnc_power_options()["argument_spec"]
    defaults = {name: option.get("default") for name, option in names.items()}
    return {**defaults, "address": "kvm-1", "action": "shutdown", **given}


class Fake:
    """Takes the place of the server and of QEMU's monitor; remembers what was done, in order."""

    def __init__(self) -> None:
        self.pressed = SENT
        self.gone = True
        self.event: _qmp.Event | None = None
        self.lost = False
        self.done: list[tuple[Any, ...]] = []

    def press(
        self, way: _vnc.Way, deadline: _vnc.Deadline, code: int | None, *, password: str | None, watch: float
    ) -> _vnc.Pressed:
        self.done.append(("press", way.name, code, password, watch))
        return self.pressed._replace(outcome=_vnc.NOT_SENT) if code is None else self.pressed

    def is_gone(self, way: _vnc.Way, deadline: _vnc.Deadline) -> bool:
        self.done.append(("is_gone", way.name))
        return self.gone

    @contextlib.contextmanager
    def connect(self, path: str, timeout: float) -> Iterator[Fake]:
        self.done.append(("connect", path))
        yield self

    def wait_event(self, names: set[str], timeout: float) -> _qmp.Event | None:
        self.done.append(("wait_event", sorted(names), timeout))
        if self.lost:
            raise QmpLost("gone.")
        return self.event


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(_vnc, "press", fake.press)
    monkeypatch.setattr(_vnc, "is_gone", fake.is_gone)
    monkeypatch.setattr(_qmp, "connect", fake.connect)
    return fake


def event(name: str) -> _qmp.Event:
    return _qmp.Event(name, {"guest": True}, 0.0)


def test_result_claims_no_more_than_that_it_was_sent(fake: Fake) -> None:
    assert vnc_power.power(params(password="geheim"), check=False) == {
        "changed": True,
        "target": "kvm-1::5900",
        "action": "shutdown",
        "offered": True,
        "sent": True,
        "outcome": "sent",
        "proof": None,
        "evidence": "the message was sent and not refused; VNC tells no more, so whether the guest does a shutdown is"
        " not known",
        "desktop": "QEMU (web-1)",
    }
    assert fake.done == [("press", "kvm-1::5900", _rfb.XVP_SHUTDOWN, "geheim", 0.0)]


@pytest.mark.parametrize(("action", "code"), [("shutdown", 2), ("reset", 4), ("reboot", 3)])
def test_each_action_has_its_message(fake: Fake, action: str, code: int) -> None:
    vnc_power.power(params(action=action), check=False)
    assert fake.done == [("press", "kvm-1::5900", code, None, 0.0)]


@pytest.mark.parametrize("qmp_socket", [None, "/run/q"])
@pytest.mark.parametrize("action", ["shutdown", "reset"])
def test_check_mode_sends_nothing(fake: Fake, action: str, qmp_socket: str | None) -> None:
    wait = 9.0 if qmp_socket or action == "shutdown" else None
    result = vnc_power.power(params(action=action, wait=wait, qmp_socket=qmp_socket), check=True)
    assert [what[2] for what in fake.done] == [None]
    assert (result["changed"], result["sent"], result["outcome"]) == (True, False, "not_sent")
    assert "error" not in result


@pytest.mark.parametrize("check", [True, False])
def test_reboot_is_told_as_qemus(fake: Fake, check: bool) -> None:
    fake.pressed = SENT._replace(outcome=_vnc.REFUSED)
    result = vnc_power.power(params(action="reboot"), check=check)
    assert (result["changed"], result["sent"]) == (False, not check)
    words = "would refuse" if check else "refused"
    assert result["error"] == (f"kvm-1::5900 {words} to reboot, as every QEMU does (XVP FAIL): use shutdown or reset.")


def test_reboot_of_another_server(fake: Fake) -> None:
    fake.pressed = SENT._replace(qemu=False)
    assert vnc_power.power(params(action="reboot"), check=True)["changed"]
    assert vnc_power.power(params(action="reboot"), check=False)["outcome"] == "sent"
    fake.pressed = fake.pressed._replace(outcome=_vnc.REFUSED)
    assert vnc_power.power(params(action="reboot"), check=False)["error"] == (
        "kvm-1::5900 refused the reboot (XVP FAIL): see in its log why, or use another way than VNC."
    )


@pytest.mark.parametrize("qmp_socket", [None, "/run/q"])
def test_refusal(fake: Fake, qmp_socket: str | None) -> None:
    fake.pressed = SENT._replace(outcome=_vnc.REFUSED)
    result = vnc_power.power(params(wait=9.0, qmp_socket=qmp_socket), check=False)
    assert (result["changed"], result["sent"], result["outcome"]) == (False, True, "refused")
    assert "refused the shutdown (XVP FAIL)" in result["error"]
    assert "wait_event" not in [what[0] for what in fake.done]


@pytest.mark.parametrize("wait", [None, 9.0])
def test_server_that_does_not_offer_it(fake: Fake, wait: float | None) -> None:
    fake.pressed = SENT._replace(outcome=_vnc.NOT_OFFERED)
    result = vnc_power.power(params(wait=wait), check=False)
    assert [result[key] for key in ("changed", "offered", "sent", "outcome")] == [False, False, False, "not_offered"]
    assert result["error"].startswith("kvm-1::5900 offers no power control (XVP): have its owner switch it on")


@pytest.mark.parametrize("outcome", [_vnc.CLOSED, _vnc.UNANSWERED])
def test_end_of_the_server_proves_a_shutdown(fake: Fake, outcome: str) -> None:
    fake.pressed = SENT._replace(outcome=outcome)
    result = vnc_power.power(params(wait=9.0), check=False)
    assert fake.done == [("press", "kvm-1::5900", 2, None, 9.0), ("is_gone", "kvm-1::5900")]
    assert (result["outcome"], result["proof"]) == ("done", "connection")
    assert "error" not in result


def test_viewer_that_was_thrown_out_proves_nothing(fake: Fake) -> None:
    fake.pressed = SENT._replace(outcome=_vnc.CLOSED)
    fake.gone = False
    result = vnc_power.power(params(wait=9.0), check=False)
    assert (result["outcome"], result["proof"], result["changed"]) == ("sent", None, True)
    assert "within 9 s nothing showed that the guest did it" in result["error"]


def test_guest_that_ignores_the_button(fake: Fake) -> None:
    result = vnc_power.power(params(wait=9.0), check=False)
    assert "within 9 s nothing showed that the guest did it" in result["error"]


@pytest.mark.parametrize("outcome", [_vnc.SENT, _vnc.UNANSWERED])
@pytest.mark.parametrize(("action", "name"), [("shutdown", "SHUTDOWN"), ("reset", "RESET")])
def test_event_proves_it(fake: Fake, action: str, name: str, outcome: str) -> None:
    fake.pressed = SENT._replace(outcome=outcome)
    fake.event = event(name)
    result = vnc_power.power(params(action=action, wait=9.0, qmp_socket="/run/q"), check=False)
    assert [what[0] for what in fake.done] == ["connect", "press", "wait_event"], "lest the event be missed"
    assert fake.done[1][4] == 0.0
    assert fake.done[2] == ("wait_event", sorted({"SHUTDOWN", name}), 9.0)
    assert (result["outcome"], result["proof"]) == ("done", "event")
    assert result["evidence"] == f"QEMU told of the event {name}"
    assert "error" not in result


@pytest.mark.parametrize("lost", [True, False])
def test_no_event_proves_nothing(fake: Fake, lost: bool) -> None:
    fake.lost = lost
    result = vnc_power.power(params(wait=9.0, qmp_socket="/run/q"), check=False)
    assert result["outcome"] == "sent"
    assert "nothing showed that the guest did it" in result["error"]


def test_qemu_that_ends_instead_of_a_reset(fake: Fake) -> None:
    fake.event = event("SHUTDOWN")
    result = vnc_power.power(params(action="reset", wait=9.0, qmp_socket="/run/q"), check=False)
    assert (result["outcome"], result["proof"]) == ("sent", None)
    assert "QEMU ended instead: it was started with -no-reboot" in result["error"]


def test_server_that_did_not_answer(fake: Fake) -> None:
    fake.pressed = SENT._replace(outcome=_vnc.UNANSWERED)
    result = vnc_power.power(params(), check=False)
    assert (result["changed"], result["outcome"]) == (True, "unanswered")
    assert (
        result["error"]
        == "kvm-1::5900 was sent the shutdown and did not answer any more: look whether the guest did it."
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"wait": 0.0}, "wait is 0; it has to be more than 0 and at most 600 seconds"),
        ({"timeout": 601.0}, "timeout is 601"),
        (
            {"action": "reset", "wait": 9.0},
            "Nothing can be seen of a reset over VNC: set qmp_socket, or leave wait out",
        ),
        ({"action": "reboot", "wait": 9.0}, "Nothing can be seen of a reboot"),
        ({"address": "kvm 1"}, "'kvm 1' is no VNC address"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_bad_input_gets_one_sentence(fake: Fake, given: dict[str, Any], words: str, check: bool) -> None:
    with pytest.raises(InputError, match=words):
        vnc_power.power(params(**given), check=check)
    assert not fake.done
