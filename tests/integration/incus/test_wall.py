# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall of a host that has Incus and no libvirt, by the playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ansible_collections

COLLECTIONS = Path(next(iter(ansible_collections.__path__))).parent


def test_playbook(site: Any, tmp_path: Path) -> None:
    variables = {
        "console_wall_dir": str(tmp_path / "wall"),
        "console_wall_libvirt": False,
        "console_wall_incus": True,
        "console_wall_incus_socket": site.incus.socket,
        "console_wall_incus_instances": ["web"],
        "console_wall_store": str(site.store),
        "ansible_python_interpreter": sys.executable,
    }
    words = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"]
    environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible")}
    done = subprocess.run(
        [*words, "-e", json.dumps(variables), "kvmops.console.screenshots"],
        env={**environment, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    wall = json.loads((tmp_path / "wall/wall.json").read_text(encoding="utf-8"))
    assert [host["status"] for host in wall["hosts"]] == ["ok"]
    assert {screen["name"]: screen["status"] for screen in wall["screens"]} == {"web": "seen", "blog_web": "seen"}
    assert {screen["capture"] for screen in wall["screens"]} == {"incus"}
    pictures = tmp_path / "wall/pictures/localhost"
    assert sorted(path.name for path in pictures.iterdir()) == ["blog_web~incus.png", "web~incus.png"]
