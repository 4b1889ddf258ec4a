# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rolling restart that was stopped keeps in mind, on libvirt's test driver: nothing is ever restarted there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

UUIDS = {name: f"5d1f3f2e-3e9c-4c0b-9d68-6f7b1a3f2c1{number}" for number, name in enumerate("abc")}
DOMAIN = "<domain type='test'><name>{}</name><uuid>{}</uuid><memory>4096</memory><os><type>hvm</type></os></domain>"
PLAY = """
- hosts: {hosts}
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact: {{fleet_audit_after: "{{{{ found }}}}"}}
    - ansible.builtin.include_role: {{name: kvmops.console.fleet, tasks_from: restart}}
"""
NO_AUDIT = {"failed": True, "msg": "It could not be audited."}


class Runs:
    """Runs of the role, each with hosts of its own, by one call of ansible-playbook."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.groups: dict[str, Any] = {}
        node = "".join(DOMAIN.format(*one) for one in UUIDS.items())
        (folder / "node.xml").write_text(f"<node>{node}</node>")

    def add(
        self, name: str, audits: Sequence[Any], kept: list[str], *, well: str = "", batch: int = 1, **last: Any
    ) -> None:
        """A run with the hosts NAME-1, NAME-2, ..., of which the last is special, and what the run before it kept.

        `audits`: what each host's audit found. `well`: the letters of the domains whose gates are passed.
        """
        gates = [
            {"domains": [one], "check": "command", "command": ["true"], "timeout": 60}
            if one in well
            else {"domains": [one], "check": "command", "command": ["false"], "timeout": 1}
            for one in UUIDS
        ]
        hosts: dict[str, Any] = {f"{name}-{number}": {"found": found} for number, found in enumerate(audits, start=1)}
        hosts[f"{name}-{len(audits)}"].update(last)
        self.kept(name).write_text(json.dumps(kept))
        said = {"fleet_resume_file": str(self.kept(name)), "fleet_gates": gates, "fleet_batch": batch}
        self.groups[name] = {"hosts": hosts, "vars": said}

    def kept(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def run(self) -> str:
        """What all of them said."""
        (self.folder / "play.yml").write_text("".join(PLAY.format(hosts=name) for name in self.groups))
        variables = {
            "fleet_uri": f"test://{self.folder}/node.xml",
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        (self.folder / "hosts.json").write_text(json.dumps({"all": {"children": self.groups, "vars": variables}}))
        words = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.json", "play.yml"]
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**os.environ, "ANSIBLE_HOME": str(self.folder / "home")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def found(*names: str, pending: bool = False) -> dict[str, Any]:
    return {"domains": [{"name": name, "uuid": UUIDS[name], "restart_pending": pending} for name in names]}


def test_what_is_kept_for_the_next_run(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.add("again", [found("a"), found("b"), found("c", pending=True)], ["again-1/a", "again-2/b"])
    lost = {"ansible_connection": "ssh", "ansible_port": 1}
    audits = [found("a"), NO_AUDIT, found("c", pending=True)]
    runs.add("lost", audits, ["lost-1/a", "lost-2/b"], well="ac", batch=2, **lost)
    runs.add("gone", [found(), found("c")], ["gone-1/b", "gone-2/c"], well="c")
    said = runs.run()
    kept = {name: json.loads(runs.kept(name).read_text()) for name in ("again", "lost")}
    assert kept["again"] == ["again-1/a", "again-2/b"], "a failed again, so b was left alone and c has not begun"
    assert [f"A batch failed. {name} not power-cycled" in said for name in "abc"] == [False, True, True]
    assert kept["lost"] == ["lost-2/b", "lost-3/c"], (
        "b's host has no audit, and c's could not be reached, while a passed"
    )
    assert not runs.kept("gone").exists(), "b is there no more, and c passed"
