# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rolling restarts by the playbook remediate, over real SSH, on real QEMUs."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmops.console.tests.integration.domains.controller import Controller

NAMES = ("cache", "db", "web")
NAMESPACE = "https://kvmops.github.io/console/1"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Fleet:
    """Three running domains that wait for a power cycle once they are remediated: db first, web after cache."""

    def __init__(self, hypervisor: Any, folder: Path) -> None:
        self.hypervisor = hypervisor
        for name in NAMES:
            hypervisor.put(name, power_control="yes", running=True)
        self._say("db", "<console><order priority='10'/></console>")
        self._say("web", "<console><order><after>cache</after></order></console>")
        self.well = folder / "db-is-well"
        self.controller = Controller(folder, hypervisor.host.inventory())

    def _say(self, name: str, element: str) -> None:
        domain = self.hypervisor.connection.lookupByName(name)
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG | libvirt.VIR_DOMAIN_AFFECT_LIVE
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, element, "kvmops", NAMESPACE, flags)

    def pids(self) -> dict[str, str]:
        """By name, the process."""
        root = self.hypervisor.host.root
        return {name: (root / f"run/libvirt/qemu/{name}.pid").read_text().strip() for name in NAMES}

    def remediate(self, *words: str, **more: Any) -> Any:
        """Run the playbook, with restarts; the guests stand in their firmware and hear no button."""
        gate = {"domains": ["db"], "check": "command", "command": ["test", "-e", str(self.well)], "timeout": 2}
        variables = {"fleet_restart": True, "fleet_power_force": "at_once", "fleet_gates": [gate], **more}
        return self.controller.run("remediate", "-e", json.dumps(variables), *words)


@pytest.fixture
def fleet(hypervisor: Any, tmp_path: Path) -> Fleet:
    return Fleet(hypervisor, tmp_path)


def test_a_batch_that_fails_ends_it_and_the_same_again_goes_on(fleet: Fleet) -> None:
    begin = fleet.pids()
    first = fleet.remediate()
    stopped = fleet.pids()
    assert first.returncode != 0
    assert [name for name in NAMES if stopped[name] != begin[name]] == ["db"], first.stdout
    resume = fleet.controller.report / "console-restart.json"
    assert json.loads(resume.read_text()) == ["it-domains/db"]
    assert "A batch failed. cache not power-cycled" in first.stdout

    fleet.well.touch()
    second = fleet.remediate()
    end = fleet.pids()
    assert second.returncode == 0, second.stdout
    assert [name for name in NAMES if end[name] != stopped[name]] == ["cache", "web"], "db was power-cycled already"
    assert '["1. it-domains/db", "2. it-domains/cache", "3. it-domains/web"]' in " ".join(
        second.stdout.split()
    ).replace("[ ", "[").replace(" ]", "]")
    assert not resume.exists()
    assert '"kvmops_restart_pending": 0' in second.stdout

    third = fleet.remediate()
    assert (third.returncode, fleet.pids()) == (0, end)
    assert "No domain waits for a power cycle." in third.stdout


def test_check_mode_shows_the_plan_and_a_closed_window_keeps_to_it(fleet: Fleet) -> None:
    begin = fleet.pids()
    shown = fleet.remediate("--check")
    assert shown.returncode == 0, shown.stdout
    assert '"2. it-domains/cache"' in shown.stdout
    day = DAYS[(datetime.now() + timedelta(days=3)).weekday()]
    closed = fleet.remediate(fleet_window={"start": "00:00", "end": "24:00", "days": [day]})
    assert closed.returncode == 0, closed.stdout
    assert "The maintenance window is over. db not power-cycled" in closed.stdout
    assert fleet.pids() == begin
