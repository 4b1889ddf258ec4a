# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A place to run the collection's playbooks from, as an operator does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Controller:
    """A place to run playbooks from."""

    def __init__(self, folder: Path, inventory: str) -> None:
        self.folder = folder
        self.report = folder / "report"
        self.inventory = folder / "inventory"
        self.inventory.mkdir()
        (self.inventory / "lab.yml").write_text(inventory)

    def run(self, playbook: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of the collection's playbooks, with everything shown."""
        program = Path(sys.executable).with_name("ansible-playbook")
        command = [str(program), "-i", str(self.inventory), f"kvmops.console.{playbook}", "-vvv"]
        command += ["-e", f"fleet_report_dir={self.report}", *words]
        environment = {**os.environ, "ANSIBLE_SHOW_CUSTOM_STATS": "1", "ANSIBLE_HOME": str(self.folder / "home")}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    def read(self) -> dict[str, Any]:
        """The JSON report."""
        return dict(json.loads((self.report / "console-report.json").read_text()))
