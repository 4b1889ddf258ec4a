# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vnc_power on real QEMUs, an affected one (7.2.0) and a fixed one (the distribution's): a guest is really switched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._errors import VncRefused
from ansible_collections.kvmops.console.plugins.module_utils._run import vnc_power
from ansible_collections.kvmops.console.tests.integration.qmp.machine import SECONDS, machine, programs

RUN_MODULE = Path(__file__).resolve().parents[1] / "run_module.py"
PASSWORD = "geheim12"
Result = dict[str, Any]


@pytest.fixture(scope="session", name="programs")
def _programs() -> dict[str, str]:
    return programs()


@pytest.fixture(params=["affected", "fixed"])
def program(request: pytest.FixtureRequest, programs: dict[str, str]) -> str:
    return programs[request.param]


def power(action: str, *, check: bool = False, **given: Any) -> Result:
    spec = vnc_power.vnc_power_options()["argument_spec"]
    params = {name: option.get("default") for name, option in spec.items()}
    return vnc_power.power({**params, "timeout": SECONDS, "action": action, **given}, check=check)


def run_module(check: bool = False, **arguments: Any) -> Result:
    """What the module itself returns."""
    done = subprocess.run(
        [sys.executable, "-B", os.fspath(RUN_MODULE), "vnc_power", str(int(check)), "0"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )
    assert not done.stderr
    return dict(json.loads(done.stdout))


def test_shutdown_shuts_the_guest_down(program: str) -> None:
    with machine(program, linux=True) as qemu:
        result = run_module(socket=qemu.vnc, action="shutdown", wait=SECONDS)
        assert "failed" not in result, result
        assert (result["changed"], result["outcome"], result["proof"]) == (True, "done", "connection")
        assert qemu.event("POWERDOWN") == {}
        assert qemu.event("SHUTDOWN")["guest"] is True
        assert qemu.ended() == 0


def test_reset_resets(program: str) -> None:
    with machine(program) as qemu:
        plain = power("reset", socket=qemu.vnc)
        assert (plain["changed"], plain["outcome"], plain["proof"]) == (True, "sent", None)
        assert "is not known" in plain["evidence"]
        assert qemu.event("RESET")["guest"] is False
        proven = power("reset", socket=qemu.vnc, qmp_socket=qemu.qmp, wait=SECONDS)
        assert (proven["outcome"], proven["proof"]) == ("done", "event")
        assert qemu.event("RESET")["guest"] is False


def test_reboot_is_refused(program: str) -> None:
    with machine(program) as qemu:
        foreseen = run_module(True, socket=qemu.vnc, action="reboot")
        result = run_module(socket=qemu.vnc, action="reboot")
        assert not qemu.events()
    assert foreseen["failed"]
    assert (
        foreseen["msg"] == f"{qemu.vnc} would refuse to reboot, as every QEMU does (XVP FAIL): use shutdown or reset."
    )
    assert result["failed"]
    assert result["msg"] == f"{qemu.vnc} refused to reboot, as every QEMU does (XVP FAIL): use shutdown or reset."
    assert (result["changed"], result["sent"], result["outcome"]) == (False, True, "refused")


def test_check_mode_does_nothing(program: str) -> None:
    with machine(program) as qemu:
        for action in ("shutdown", "reset"):
            result = power(action, check=True, socket=qemu.vnc)
            assert (result["changed"], result["offered"], result["sent"]) == (True, True, False)
        assert not qemu.events()


@pytest.mark.parametrize("action", ["shutdown", "reset", "reboot"])
def test_server_that_does_not_offer_it_is_sent_nothing(program: str, action: str) -> None:
    """The affected one would obey."""
    with machine(program, vnc="power-control=off") as qemu:
        result = power(action, socket=qemu.vnc)
        assert not qemu.events()
    assert (result["changed"], result["sent"], result["outcome"]) == (False, False, "not_offered")
    assert "offers no power control (XVP)" in result["error"]


def test_guest_that_does_not_listen(program: str) -> None:
    with machine(program) as qemu:
        result = power("shutdown", socket=qemu.vnc, wait=0.3)
        assert "within 0.3 s nothing showed that the guest did it" in result["error"]
        by_event = power("shutdown", socket=qemu.vnc, qmp_socket=qemu.qmp, wait=0.3)
        assert "within 0.3 s nothing showed that the guest did it" in by_event["error"]
        assert qemu.events() == ["POWERDOWN", "POWERDOWN"]


def test_password(program: str) -> None:
    options = ("-object", f"secret,id=vnc,data={PASSWORD}")
    with machine(program, *options, vnc="power-control=on,password-secret=vnc") as qemu:
        with pytest.raises(VncRefused, match="lets nobody in without authentication"):
            power("reset", socket=qemu.vnc)
        assert not qemu.events()
        assert power("reset", socket=qemu.vnc, password=PASSWORD)["outcome"] == "sent"
        assert qemu.event("RESET")["guest"] is False


def test_qemu_that_ends_instead_of_a_reset(programs: dict[str, str]) -> None:
    with machine(programs["fixed"], "-no-reboot") as qemu:
        result = power("reset", socket=qemu.vnc, qmp_socket=qemu.qmp, wait=SECONDS)
        assert qemu.ended() == 0
    assert "QEMU ended instead: it was started with -no-reboot" in result["error"]
