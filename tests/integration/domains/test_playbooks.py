# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks, by ansible-playbook over real SSH."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.tests.integration.domains.controller import Controller
from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU

PASSWORD = "geheim-7"


@pytest.fixture
def controller(hypervisor: Any, tmp_path: Path) -> Controller:
    hypervisor.put("a-on", power_control="yes", password=PASSWORD, running=True)
    hypervisor.put("a-off", power_control="yes", password=PASSWORD)
    hypervisor.put("f-on", emulator=FIXED_QEMU, power_control="yes", password=PASSWORD, running=True)
    hypervisor.put("none", graphics=())
    folder = tmp_path / "controller"
    folder.mkdir()
    return Controller(folder, hypervisor.host.inventory())


def settings(hypervisor: Any) -> dict[str, tuple[str, str]]:
    found = {name: hypervisor.vnc(name) for name in ("a-on", "a-off", "f-on")}
    return {name: (vnc["powerControl"], vnc["passwd"]) for name, vnc in found.items()}


BEFORE = {"a-on": ("yes", PASSWORD), "a-off": ("yes", PASSWORD), "f-on": ("yes", PASSWORD)}
AFTER = {"a-on": ("no", PASSWORD), "a-off": ("no", PASSWORD), "f-on": ("yes", PASSWORD)}


def test_remediate_then_nothing_then_roll_back(hypervisor: Any, controller: Controller) -> None:
    first = controller.run("remediate", "--diff")
    assert first.returncode == 0, first.stdout
    assert settings(hypervisor) == AFTER
    assert '"kvmops_changed": 2' in first.stdout, "the counts are handed on"
    assert sorted(path.suffix for path in controller.report.iterdir()) == [".csv", ".html", ".json", ".prom"]
    report = controller.read()

    second = controller.run("remediate", "--diff")
    assert second.returncode == 0
    assert settings(hypervisor) == AFTER
    assert '"kvmops_changed": 0' in second.stdout
    assert "ours=" not in second.stdout.split("TASK [kvmops.console.fleet : Set powerControl]")[1].split("TASK [")[0]

    back = controller.run("rollback")
    assert back.returncode == 0
    assert settings(hypervisor) == BEFORE

    everything = [first.stdout, first.stderr, second.stdout, second.stderr, back.stdout, back.stderr]
    everything += [path.read_text() for path in controller.report.iterdir()]
    assert not [text for text in everything if PASSWORD in text], "no secret is shown, not even with -vvv"
    assert "a-on" in json.dumps(report)


def test_check_mode_changes_nothing_and_tells_what_would(hypervisor: Any, controller: Controller) -> None:
    done = controller.run("remediate", "--check", "--diff")
    assert done.returncode == 0, done.stdout
    assert settings(hypervisor) == BEFORE
    assert 'powerControl="no"' in done.stdout
    assert '"kvmops_changed": 2' in done.stdout
    assert not controller.report.exists(), "check mode writes no report"


def test_audit_changes_nothing(hypervisor: Any, controller: Controller) -> None:
    done = controller.run("audit")
    assert done.returncode == 0, done.stdout
    assert settings(hypervisor) == BEFORE
    assert '"kvmops_findings_critical": 1' in done.stdout
    assert controller.run("audit").stdout.count("changed=1") == 0, "the same audit makes the same report"


def test_hosts_that_cannot_be_reached_or_audited_are_told_and_fail(hypervisor: Any, controller: Controller) -> None:
    hosts = {
        "ghost": {"ansible_host": "192.0.2.1", "ansible_ssh_common_args": "-o ProxyCommand=false -o BatchMode=yes"},
        "broken": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
    }
    (controller.inventory / "others.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    done = controller.run(
        "remediate", "-e", json.dumps({"fleet_uri": "qemu:///system?socket=/run/nowhere"}), "-l", "ghost,broken"
    )
    assert done.returncode != 0
    report = json.dumps(controller.read())
    assert "unreachable" in report
    assert "Connecting to libvirt at qemu:///system?socket=/run/nowhere failed" in report

    done = controller.run("remediate", "-l", "ghost,it-domains")
    assert done.returncode != 0, "a host that could not be reached is a failure"
    assert settings(hypervisor) == AFTER, "and does not stop the others"
    assert "it-domains                 : ok=" in done.stdout
