# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook, by ansible-playbook over real SSH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def play(guests: Any, folder: Path, *words: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    (folder / "lab.yml").write_text(guests.host.inventory())
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "-i", "lab.yml", "kvmops.console.power", "-e", json.dumps(variables), *words]
    environment = {**os.environ, "ANSIBLE_HOME": str(folder / "home")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_playbook_switches_what_is_named_and_nothing_else(guests: Any, tmp_path: Path) -> None:
    for name in ("web-1", "web-2", "db"):
        guests.deaf(name)
    unsaid = play(guests, tmp_path, power_state="stopped")
    assert unsaid.returncode != 0
    assert "Say what is wanted" in unsaid.stdout
    wanted = {"power_state": "stopped", "power_domains": ["web-*"], "power_force": "at_once"}
    foreseen = play(guests, tmp_path, "--check", **wanted)
    assert foreseen.returncode == 0, foreseen.stdout
    assert "changed=1" in foreseen.stdout
    assert [guests.state(name) for name in ("web-1", "web-2", "db")] == ["running"] * 3
    done = play(guests, tmp_path, **wanted)
    assert done.returncode == 0, done.stdout
    assert [guests.state(name) for name in ("web-1", "web-2", "db")] == ["shut off", "shut off", "running"]
    again = play(guests, tmp_path, **wanted)
    assert "changed=0" in again.stdout
