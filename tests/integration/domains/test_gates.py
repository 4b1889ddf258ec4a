# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health gates of rolling restarts, each on a guest that passes it and on one that does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lxml import etree

from ansible_collections.kvmops.console.tests.integration.power import agent

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_tasks: one.yml
      loop: "{{ cases }}"
      loop_control: {loop_var: case}
    - ansible.builtin.copy:
        content: "{{ outcomes | to_json }}"
        dest: "{{ playbook_dir }}/outcomes.json"
      delegate_to: localhost
"""

ONE = """
- block:
    - ansible.builtin.include_role: {name: kvmops.console.fleet, tasks_from: gate}
      vars: {fleet_gated: "{{ case }}", ansible_port: "{{ case.2 | default(22) }}"}
    - ansible.builtin.set_fact: {outcomes: "{{ outcomes | default([]) + ['passed'] }}"}
  rescue:
    - ansible.builtin.set_fact: {outcomes: "{{ outcomes | default([]) + [ansible_failed_result.msg] }}"}
"""


Case = tuple[Any, ...]
"""A domain, a gate, and the port of its host's SSH where it is not the usual one."""


def outcomes(host: Any, folder: Path, cases: list[Case]) -> list[str]:
    """By case: `passed`, or what was said."""
    (folder / "play.yml").write_text(PLAY)
    (folder / "one.yml").write_text(ONE)
    (folder / "lab.yml").write_text(host.inventory())
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [str(program), "-i", "lab.yml", "play.yml", "-e", json.dumps({"cases": cases})],
        cwd=folder,
        env={**os.environ, "ANSIBLE_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return list(json.loads((folder / "outcomes.json").read_text()))


def test_gates(hypervisor: Any, tmp_path: Path) -> None:
    well = agent.define(hypervisor, "well", listen="0.0.0.0")
    well.create()
    ill = hypervisor.put("ill", running=True)
    port = int(etree.fromstring(well.XMLDesc()).xpath("number(devices/graphics/@port)"))
    one, other = ({"name": domain.name(), "uuid": domain.UUIDString()} for domain in (well, ill))
    tcp = {"check": "tcp", "host": hypervisor.host.address}
    there = tmp_path / "there"
    # The first two are reached while it boots.
    cases: list[Case] = [
        (one, {"check": "agent", "timeout": 120}),
        (one, {"check": "text", "text": "/ #", "timeout": 120}),
        (one, {**tcp, "port": port, "timeout": 60}),
        (one, {"check": "command", "command": ["test", "!", "-e", str(there)], "timeout": 60}),
        (other, {"check": "agent", "timeout": 1}),
        (other, {"check": "text", "text": "/ #", "timeout": 1}),
        (other, {**tcp, "port": 1, "timeout": 1}),
        (other, {"check": "command", "command": ["test", "-e", str(there)], "timeout": 1}),
        (other, {"check": "command", "command": ["sleep", "1000"], "timeout": 1}),
        (one, {"check": "agent", "timeout": 120}, 1),
        (one, {"check": "text", "text": "/ #", "timeout": 120}, 1),
    ]
    told = outcomes(hypervisor.host, tmp_path, cases)
    assert told[:4] == ["passed"] * 4
    assert "passed" not in told[4:], "the others are not well"
    assert "Timeout when waiting for" in told[6]
    assert "timed" in told[8].lower()
    assert told[9:] == ["The host could not be reached while its domains were looked at."] * 2
