# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rolling restarts of two hosts by the playbook remediate, over real SSH, on real QEMUs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmops.console.tests.integration.domains.controller import Controller
from ansible_collections.kvmops.console.tests.lab.kvmlab import Lab

ONE, TWO = "it-domains", "it-rolling"
NAMES = {ONE: ("cache", "db", "web"), TWO: ("db", "dns", "front")}
NAMESPACE = "https://kvmops.github.io/console/1"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ORDER = [
    {"domains": [f"{TWO}/db"], "priority": 10},
    {"domains": ["front"], "after": [f"{ONE}/web"]},
]
PLAN = [
    f"1. {ONE}/db, {TWO}/db",
    f"2. {TWO}/dns",
    f"3. {ONE}/cache",
    f"4. {ONE}/web",
    f"5. {TWO}/front",
]
Processes = dict[str, tuple[str, int]]


class Fleet:
    """Two hosts, whose domains wait for a power cycle once they are remediated. Their owners say that db goes first,
    dns before any cache, and web after cache; the play says the rest.
    """

    def __init__(self, hosts: dict[str, Any], inventory: str, folder: Path) -> None:
        self.hosts = hosts
        for host, names in NAMES.items():
            for name in names:
                hosts[host].put(name, power_control="yes", running=True)
        self._say(ONE, "db", "<console><order priority='10'/></console>")
        self._say(ONE, "web", "<console><order><after>cache</after></order></console>")
        self._say(TWO, "dns", "<console><order><before>cache</before></order></console>")
        self.controller = Controller(folder, inventory)

    def _say(self, host: str, name: str, element: str) -> None:
        domain = self.hosts[host].connection.lookupByName(name)
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG | libvirt.VIR_DOMAIN_AFFECT_LIVE
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, element, "kvmops", NAMESPACE, flags)

    def processes(self) -> Processes:
        """By host and name, the process and when it was started."""
        found = {}
        for host, names in NAMES.items():
            root = self.hosts[host].host.root
            for name in names:
                pid = (root / f"run/libvirt/qemu/{name}.pid").read_text().strip()
                words = (root / f"proc/{pid}/stat").read_text().rpartition(")")[2].split()
                found[f"{host}/{name}"] = (pid, int(words[19]))
        return found

    def remediate(self, *words: str, gate: list[str], **more: Any) -> Any:
        """Run the playbook, with restarts; the guests stand in their firmware and hear no button. `gate`: of dns."""
        variables = {
            "fleet_restart": True,
            "fleet_power_force": "at_once",
            "fleet_batch": 2,
            "fleet_order": ORDER,
            "fleet_gates": [{"domains": ["dns", "cache"], "check": "command", "command": gate, "timeout": 2}],
        }
        return self.controller.run("remediate", "-e", json.dumps({**variables, **more}), *words)


def plan(run: Any) -> list[str]:
    """What the run showed."""
    found = re.search(r"TASK \[[^\n]*: Show the plan\].*?\"msg\": (\[.*?\]|\"[^\n]*\")\n", run.stdout, re.DOTALL)
    assert found, run.stdout
    shown = json.loads(found[1])
    return shown if isinstance(shown, list) else [shown]


def renewed(before: Processes, after: Processes) -> list[str]:
    """Those with another process, in the order in which they got it."""
    return sorted((label for label in after if after[label] != before[label]), key=lambda label: after[label][1])


@pytest.fixture(scope="module")
def second() -> Iterator[Lab]:
    with Lab(TWO) as lab:
        yield lab


@pytest.fixture
def fleet(lab: Lab, hypervisor: Any, second: Lab, tmp_path: Path) -> Iterator[Fleet]:
    other = type(hypervisor)(second[TWO])
    yield Fleet({ONE: hypervisor, TWO: other}, lab.inventory(ONE, TWO), tmp_path)
    other.clear()


def test_plan_is_shown_and_window_is_looked_at_before_each_batch(fleet: Fleet, tmp_path: Path) -> None:
    begin = fleet.processes()
    shown = fleet.remediate("--check", gate=["false"])
    assert shown.returncode == 0, shown.stdout
    assert plan(shown) == PLAN
    assert fleet.processes() == begin
    # It closes once the gate of the second batch was passed.
    closed = tmp_path / "closed"
    yesterday, today = (DAYS[(datetime.now() + timedelta(days=days)).weekday()] for days in (-3, 0))
    tomorrow = DAYS[(datetime.now() + timedelta(days=1)).weekday()]
    days = f"{{{{ ['{yesterday}'] if '{closed}' is exists else ['{today}', '{tomorrow}'] }}}}"
    window = {"start": "00:00", "end": "24:00", "days": days}
    over = fleet.remediate(gate=["touch", str(closed)], fleet_window=window)
    assert over.returncode == 0, over.stdout
    assert plan(over) == PLAN, "as it was foreseen"
    assert sorted(renewed(begin, fleet.processes())) == [f"{ONE}/db", f"{TWO}/db", f"{TWO}/dns"]
    assert "The maintenance window is over. cache not power-cycled" in over.stdout


def test_a_batch_that_fails_ends_it_on_all_hosts_and_the_same_again_goes_on(fleet: Fleet, tmp_path: Path) -> None:
    begin = fleet.processes()
    well = tmp_path / "well"
    first = fleet.remediate(gate=["test", "-e", str(well)])
    stopped = fleet.processes()
    assert first.returncode != 0
    assert sorted(renewed(begin, stopped)) == [f"{ONE}/db", f"{TWO}/db", f"{TWO}/dns"], first.stdout
    resume = fleet.controller.report / "console-restart.json"
    assert json.loads(resume.read_text()) == [f"{TWO}/dns"]
    assert "A batch failed. cache not power-cycled" in first.stdout

    well.touch()
    second = fleet.remediate(gate=["test", "-e", str(well)])
    end = fleet.processes()
    assert second.returncode == 0, second.stdout
    assert plan(second) == [f"1. {TWO}/dns", f"2. {ONE}/cache", f"3. {ONE}/web", f"4. {TWO}/front"]
    assert renewed(stopped, end) == [f"{ONE}/cache", f"{ONE}/web", f"{TWO}/front"], "dns was power-cycled already"
    assert not resume.exists()
    assert '"kvmops_restart_pending": 0' in second.stdout

    third = fleet.remediate(gate=["false"])
    assert (third.returncode, fleet.processes()) == (0, end)
    assert plan(third) == ["No domain waits for a power cycle."]
