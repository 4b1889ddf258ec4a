# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""qmp_power on real QEMUs without libvirt: the distribution's, and the affected 7.2.0."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.tests.integration.power import agent
from ansible_collections.kvmops.console.tests.integration.qmp.machine import SECONDS, machine, programs

RUN_MODULE = Path(__file__).resolve().parents[1] / "run_module.py"
Result = dict[str, Any]
BRIEFLY = [{"method": "acpi", "timeout": 0.5}]


@pytest.fixture(scope="session", name="programs")
def _programs() -> dict[str, str]:
    return programs()


@pytest.fixture(params=["affected", "fixed"])
def program(request: pytest.FixtureRequest, programs: dict[str, str]) -> str:
    return programs[request.param]


@pytest.fixture
def fixed(programs: dict[str, str]) -> str:
    return programs["fixed"]


def run(state: str, *sockets: Any, check: bool = False, diff: bool = False, **arguments: Any) -> Result:
    """What the module returns, run as Ansible's wrapper runs it."""
    done = subprocess.run(
        [sys.executable, "-B", os.fspath(RUN_MODULE), "qmp_power", str(int(check)), str(int(diff))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        input=json.dumps({"timeout": SECONDS, **arguments, "state": state, "sockets": sockets}),
        capture_output=True,
        text=True,
        timeout=3 * SECONDS,
        check=False,
    )
    assert not done.stderr
    return dict(json.loads(done.stdout))


def only(result: Result) -> Result:
    (record,) = result["machines"]
    assert result.get("failed", False) == ("error" in record), result
    return dict(record)


def tried(record: Result) -> list[tuple[str, str]]:
    return [(step["method"], step["outcome"]) for step in record["steps"]]


def test_guest_goes_off_when_asked(programs: dict[str, str]) -> None:
    with machine(programs["affected"], linux=True) as qemu:
        record = only(run("stopped", qemu.qmp, methods=[{"method": "acpi", "timeout": SECONDS}]))
        assert (record["before"], record["after"], tried(record)) == ("on", "off", [("acpi", "done")])
        assert (record["changed"], record["ended_by"]) == (True, "acpi")
        assert qemu.event("POWERDOWN") == {}
        assert qemu.event("SHUTDOWN")["guest"] is True
        assert qemu.ended() == 0
        again = only(run("stopped", qemu.qmp))
        assert (again["changed"], again["before"], again["steps"]) == (False, "off", [])


def test_guest_reboots_and_then_goes_off_in_a_qemu_that_stays(fixed: str) -> None:
    with machine(fixed, "-no-shutdown", linux=True) as qemu:
        record = only(run("rebooted", qemu.qmp))
        assert (record["changed"], record["after"], tried(record)) == (True, "on", [("ctrl_alt_del", "done")])
        assert qemu.event("RESET")["guest"] is True
        qemu.booted()
        record = only(run("stopped", qemu.qmp))
        assert (record["after"], tried(record)) == ("off", [("acpi", "done")])
        assert qemu.watch.execute("query-status")["status"] == "shutdown"
        assert only(run("stopped", qemu.qmp))["changed"] is False


def test_guest_agent_is_asked(fixed: str, tmp_path: Path) -> None:
    path = str(tmp_path / "qga")
    door = ["-device", "virtio-serial", "-device", "virtserialport,chardev=ga,name=org.qemu.guest_agent.0"]
    door += ["-chardev", f"socket,id=ga,path={path},server=on,wait=off"]
    with machine(fixed, *door) as deaf:
        record = only(run("stopped", {"path": deaf.qmp, "agent": path}, methods=[{"method": "agent"}]))
        assert tried(record) == [("agent", "refused")]
        assert "did not answer within 5 s" in record["error"]
        assert not deaf.events()
    with machine(fixed, "-initrd", str(agent.build()), *door, linux=True) as qemu:
        socket = {"path": qemu.qmp, "agent": path}
        record = only(run("rebooted", socket, methods=[{"method": "agent", "timeout": SECONDS}]))
        assert (record["after"], tried(record)) == ("on", [("agent", "done")])
        assert qemu.event("RESET")["guest"] is True
        qemu.booted()
        record = only(run("stopped", socket, methods=[{"method": "agent", "timeout": SECONDS}]))
        assert (record["after"], tried(record)) == ("off", [("agent", "done")])
        assert qemu.ended() == 0


def test_guest_that_does_not_listen_is_never_forced_when_that_is_forbidden(program: str) -> None:
    with machine(program) as qemu:
        record = only(run("stopped", qemu.qmp, methods=BRIEFLY))
        assert record["error"].startswith("it is on (acpi: it had no effect in time")
        assert tried(record) == [("acpi", "timed_out")]
        assert qemu.events() == ["POWERDOWN"]
        assert qemu.process.poll() is None
        record = only(run("stopped", qemu.qmp, methods=BRIEFLY, force="after_methods"))
        assert (tried(record), record["ended_by"]) == ([("acpi", "timed_out"), ("force", "done")], "force")
        assert qemu.ended() == 0


def test_states_that_need_no_guest(program: str) -> None:
    with machine(program) as qemu:
        # The firmware resets the machine once more by itself.
        for state, after, events in (
            ("reset", "on", {"RESET"}),
            ("paused", "paused", {"STOP"}),
            ("reset", "paused", {"RESET"}),
            ("resumed", "on", {"RESUME"}),
            ("nmi_sent", "on", set[str]()),
        ):
            foreseen = only(run(state, qemu.qmp, check=True))
            assert foreseen["changed"]
            seen = set(qemu.events()) - {"RESET"}
            assert not seen, f"{state} in check mode"
            record = only(run(state, qemu.qmp))
            assert (record["changed"], record["after"]) == (True, after), state
            seen = set(qemu.events())
            assert events <= seen <= events | {"RESET"}, state
        again = only(run("resumed", qemu.qmp))
        assert (again["changed"], again["steps"]) == (False, [])


def test_machine_that_waits_to_be_started(fixed: str) -> None:
    with machine(fixed, "-S") as qemu:
        deaf = only(run("stopped", qemu.qmp))
        assert deaf["error"].startswith("it is paused, so its guest hears nothing")
        result = run("started", qemu.qmp, diff=True)
        assert result["diff"] == [
            {"before_header": "web-1", "after_header": "web-1", "before": "paused\n", "after": "on\n"}
        ]
        record = only(result)
        assert (record["changed"], record["before"], record["after"]) == (True, "paused", "on")
        only(run("stopped", qemu.qmp, force="at_once"))
        assert qemu.ended() == 0
        gone = only(run("started", qemu.qmp))
        assert "only what started this QEMU can start it again" in gone["error"]


def test_machine_that_goes_off_instead_of_rebooting(fixed: str) -> None:
    with machine(fixed, "-no-reboot") as qemu:
        record = only(run("reset", qemu.qmp))
        assert "reset: it went off instead" in record["error"]
        assert record["after"] == "off"


def test_frozen_qemu_fails_alone(fixed: str) -> None:
    with machine(fixed) as frozen, machine(fixed) as good:
        frozen.send(signal.SIGSTOP)
        sockets = [{"name": "frozen", "path": frozen.qmp}, {"name": "good", "path": good.qmp}]
        result = run("stopped", *sockets, force="at_once", timeout=3.0)
        assert [("error" in one, one["after"]) for one in result["machines"]] == [(True, "unknown"), (False, "off")]
        assert "did not greet" in result["machines"][0]["error"]
        frozen.send(signal.SIGCONT)
        assert not frozen.events()


def test_qemu_that_is_killed_during_the_wait_is_off(fixed: str) -> None:
    with machine(fixed) as qemu:
        results: list[Result] = []
        task = threading.Thread(target=lambda: results.append(run("stopped", qemu.qmp)))
        task.start()
        qemu.event("POWERDOWN")
        qemu.send(signal.SIGKILL)
        task.join()
        record = only(results[0])
        assert (record["after"], tried(record)) == ("off", [("acpi", "done")])


def test_many_at_once(fixed: str) -> None:
    with contextlib.ExitStack() as stack:
        machines = [stack.enter_context(machine(fixed)) for _number in range(4)]
        sockets = [{"name": f"m{number}", "path": one.qmp} for number, one in enumerate(machines)]
        result = run("stopped", *sockets, methods=BRIEFLY, force="after_methods")
        assert result["summary"] == {"machines": 4, "changed": 4, "skipped": 0, "errors": 0}
        assert [one.ended() for one in machines] == [0] * 4
