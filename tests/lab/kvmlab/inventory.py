# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventories for Ansible: every host reached by ssh, its key known beforehand."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Sequence

from . import services, state
from .machine import PYTHON, environment

Variables = dict[str, str]


def variables(record: state.Record) -> Variables:
    """The host's variables."""
    folder = state.folder(record["name"])
    options = {
        "UserKnownHostsFile": str(folder / "known_hosts"),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
    }
    return {
        "ansible_host": record["address"],
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(services.KEY),
        # Neither the caller's configuration nor his agent: only what stands here.
        "ansible_ssh_common_args": " ".join(["-F /dev/null", *(f"-o {key}={value}" for key, value in options.items())]),
        # A folder for each host, so that `down` finds the connections that ssh keeps open.
        "ansible_control_path_dir": str(folder / "ssh"),
        "ansible_python_interpreter": PYTHON,
    }


def data(records: Sequence[state.Record]) -> dict[str, object]:
    """The inventory as data: the hosts in one group, `lab`."""
    return {"all": {"children": {"lab": {"hosts": {record["name"]: dict(variables(record)) for record in records}}}}}


def text(records: Sequence[state.Record]) -> str:
    """The inventory as YAML."""
    return to_yaml(data(records))


def to_yaml(value: dict[str, object]) -> str:
    """Nested dicts of strings as a file of YAML."""
    return "---\n" + _yaml(value, 0)


def _yaml(value: object, depth: int) -> str:
    """Nested dicts of strings as YAML; a JSON string is a YAML string."""
    if not isinstance(value, dict):
        return f" {json.dumps(value)}\n"
    if not value:
        return " {}\n"
    lines = "".join(f"{'  ' * depth}{key}:{_yaml(item, depth + 1)}" for key, item in value.items())
    return lines if depth == 0 else f"\n{lines}"


def close_connections(name: str) -> None:
    """End the connections that ssh still holds open to a host."""
    for control in (state.folder(name) / "ssh").glob("*"):
        with contextlib.suppress(subprocess.TimeoutExpired, FileNotFoundError):
            subprocess.run(
                ["ssh", "-F", "/dev/null", "-o", f"ControlPath={control}", "-O", "exit", name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment(),
                timeout=10,
                check=False,
            )
